"""Opens ONNX files in onnxruntime, which is an extra.

    session = open_session("model.onnx", threads=1)
    values = session.run(["embedding"], {"slices": slices})

A file may be anybody's. It runs no code but ONNX operators, and can read no other file: it is
loaded from memory, so weights in further files are refused.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import ConfigError, StoreError

MAX_BYTES = 2**31 - 1  # of a protobuf
FLOAT = "tensor(float)"
FATAL = 4  # onnxruntime's log level: what it cannot do is raised anyway

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output: name, element type and shape; None where a size is free."""

    name: str
    kind: str  # such as tensor(float)
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open file. `entries` is its metadata."""

    path: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    entries: Mapping[str, str]
    handle: Any = field(repr=False)
    errors: tuple[type[Exception], ...] = field(repr=False)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The named outputs; raises StoreError where the file cannot take these inputs."""
        try:
            found: list[np.ndarray] = self.handle.run(list(outputs), dict(inputs))
        except self.errors as error:
            raise StoreError(f"{self.path} cannot be run: {_plain(error)}") from error
        return found

    def output(self, name: str) -> Port:
        """The output of a name; raises ConfigError, naming those there are, where it has none."""
        return _find(self.path, "output", self.outputs, name)

    def input(self, name: str) -> Port:
        """The input of a name; raises ConfigError, naming those there are, where it has none."""
        return _find(self.path, "input", self.inputs, name)


def open_session(path: str | Path, threads: int = 1) -> Session:
    """Opens a file for the CPU; StoreError where it is missing, damaged or no ONNX."""
    runtime = import_runtime()
    data = _read(Path(path))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    errors = _errors()
    try:
        handle = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except errors as error:
        raise StoreError(f"{path} is no ONNX file that can be run: {_plain(error)}") from error
    return Session(
        path=str(path),
        inputs=tuple(map(_port, handle.get_inputs())),
        outputs=tuple(map(_port, handle.get_outputs())),
        entries=dict(handle.get_modelmeta().custom_metadata_map),
        handle=handle,
        errors=errors,
    )


def import_runtime() -> Any:
    """The module onnxruntime; ConfigError, naming the extra, where it is absent."""
    try:
        runtime = import_module("onnxruntime")
    except ImportError as error:
        raise ConfigError(
            "an .onnx file is run by onnxruntime, which is not installed: install the extra "
            "`onnx`, as with `uv sync --extra onnx`"
        ) from error
    runtime.set_default_logger_severity(FATAL)
    return runtime


def _errors() -> tuple[type[Exception], ...]:
    """Every error of onnxruntime: they have no common base but Exception."""
    bindings = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [
        value
        for value in vars(bindings).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    return (*own, RuntimeError, ValueError, UnicodeDecodeError)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise StoreError(f"{path} has {size:,} bytes; an ONNX file has at most {MAX_BYTES:,}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{path} does not exist") from error


def _port(argument: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return Port(name=argument.name, kind=argument.type, shape=shape)


def _find(path: str, what: str, ports: Sequence[Port], name: str) -> Port:
    for port in ports:
        if port.name == name:
            return port
    there = ", ".join(port.name for port in ports[:10])
    raise ConfigError(f"{path} has no {what} {name:.80}; there are {there}")


def _plain(error: Exception) -> str:
    """The first line of an error's message, without onnxruntime's prefix of codes."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first.rpartition(" : ")[2][:300]
