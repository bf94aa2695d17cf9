"""Reads files of `torch.save` without running code of their author, or trusting their numbers.

values = read_torch("weights/exp_001/fold_0.ckpt")  # plain values and tensors, on the CPU
"""

import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from storage.errors import StoreError

MAX_VALUES_BYTES = 64 << 20  # of the pickled values, without tensors; ours have some kB
MAX_COPIES = 4  # size of all tensors over that of the file, which keeps shared ones once
MAX_LISTED = 3  # names in a message
UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,  # torch's own, RecursionError, NotImplementedError
    TypeError,
    ValueError,
)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def read_torch(path: str | Path, *, legacy: bool = False) -> Any:
    """Plain values and tensors of a file, on the CPU; the file may be overwritten afterwards.

    `legacy` takes torch's format before 1.6 too. Raises StoreError, naming the cause, where the
    file is missing, empty, cut off, damaged, or holds more than plain values and tensors.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        zipped = zipfile.is_zipfile(path)
        if zipped:
            _check_parts(path, size)
        elif not (legacy and size):
            raise StoreError(f"{path} {_what_is_no_zip(path, size)}")
        # mapped, a tensor cannot reach beyond the end of the file, whatever size it declares
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        return _Copies(path, most_bytes=MAX_COPIES * size).of(values)
    except FileNotFoundError as error:
        raise StoreError(f"{path} does not exist") from error
    except StoreError:
        raise
    except UNREADABLE as error:
        raise StoreError(f"{path} {_cause(error)}") from error


def _what_is_no_zip(path: Path, size: int) -> str:
    if not size:
        return "is empty"
    with path.open("rb") as file:
        head = file.read(4)
    return f"is cut off after {size:,} bytes" if head == b"PK\x03\x04" else "is no file of torch"


def _check_parts(path: Path, size: int) -> None:
    """Raises StoreError on damage, and on parts that would be larger in memory than on disk."""
    with zipfile.ZipFile(path) as parts:
        entries = parts.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > size:
            raise StoreError(f"{path} declares parts of more than its own {size:,} bytes")
        values = [entry for entry in entries if entry.filename.endswith("data.pkl")]
        if sum(entry.file_size for entry in values) > MAX_VALUES_BYTES:
            raise StoreError(f"{path} has over {MAX_VALUES_BYTES >> 20} MiB without its tensors")
        damaged = parts.testzip()
    if damaged:
        raise StoreError(f"{path} is damaged: the checksum of its part {damaged!r} differs")


def _cause(error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return (
            "holds more than plain values and tensors, or is no file of torch; nothing of it was "
            "run"
        )
    return f"cannot be read: {first_line(error)}"


class _Copies:
    """Copies tensors, so that none depends on the file any more; containers keep their type."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._bytes_left = most_bytes
        self._seen: set[int] = set()

    def of(self, value: Any) -> Any:
        """The value with copies of all tensors; StoreError where they need too much memory."""
        if isinstance(value, Tensor):
            self._bytes_left -= value.numel() * value.element_size()
            if self._bytes_left < 0:
                raise StoreError(f"{self._path} declares tensors of far more bytes than it has")
            return value.clone()
        if isinstance(value, tuple) and type(value) is tuple:
            return tuple(map(self.of, value))
        if not isinstance(value, dict | list) or id(value) in self._seen:
            return value
        self._seen.add(id(value))
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            value[key] = self.of(value[key])
        return value


def tensors_of(value: Any, path: str | Path) -> dict[str, Tensor]:
    """A state dict's tensors by name; raises StoreError where it is none."""
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    ):
        raise StoreError(f"{path} has no weights: tensors by name are wanted")
    return dict(value)


def name_mismatch(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Names that are missing, of other shapes, or too many, in words; empty where all fit."""
    shapes = [
        f"{name} is {shape_of(given[name])}, not {shape_of(tensor)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    missing = [f"{name} is missing" for name in wanted if name not in given]
    strange = [f"{name} has no place" for name in given if name not in wanted]
    return "; ".join(_first(kind) for kind in (missing, shapes, strange) if kind)


def shape_of(tensor: Tensor) -> str:
    """`64 x 1 x 3 x 3`; `one value` for a scalar."""
    return " x ".join(map(str, tensor.shape)) or "one value"


def _first(sentences: list[str]) -> str:
    more = len(sentences) - MAX_LISTED
    return ", ".join(sentences[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
