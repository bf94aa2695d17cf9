"""Opens files of OpenVINO, which is an extra: model.xml, and its weights in model.bin.

    session = open_openvino("model.xml", threads=1)
    values = session.run(["embedding"], {"slices": slices})

A file may be anybody's. It runs no code but OpenVINO's operators, and is loaded from memory, so it
can name no other file to be read. Ours have the sha256 of their weights, so that those of another
export are noticed.

It computes in 32 bits, whatever the processor offers, and widens weights of 16 bits once.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import ConfigError, StoreError
from training.inference.export.metadata import PREFIX
from training.inference.export.session import FLOAT, Port, Session

WEIGHTS = ".bin"
SECTION = PREFIX.rstrip(".")  # of a file's runtime information
WEIGHTS_SHA256 = "weights_sha256"
MAX_XML_BYTES, MAX_WEIGHTS_BYTES = 256 << 20, 2**31 - 1
ERRORS = (RuntimeError, TypeError, ValueError, MemoryError)
INSTALL = "install the extra `openvino`, as with `uv sync --extra openvino`"


def open_openvino(path: str | Path, threads: int = 1) -> Session:
    """Opens a file for the CPU; StoreError where it is missing, damaged or none of OpenVINO."""
    runtime = import_openvino()
    path = Path(path)
    network = _read(path, MAX_XML_BYTES)
    weights = _read(path.with_suffix(WEIGHTS), MAX_WEIGHTS_BYTES)
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    try:
        core = runtime.Core()
        model = core.read_model(model=network, weights=weights)
        section = _section(model)
        compiled = core.compile_model(model, "CPU", options)
        # compiling finds out what shapes the file leaves open
        inputs, outputs = (tuple(map(_port, of)) for of in (compiled.inputs, compiled.outputs))
    except ERRORS as error:
        reason = last_line(error)
        raise StoreError(f"{path} is no OpenVINO file that can be run: {reason}") from error
    if section.pop(WEIGHTS_SHA256, None) not in (None, sha256(weights).hexdigest()):
        raise StoreError(
            f"{path.with_suffix(WEIGHTS)} are not the weights of {path}: export the model again"
        )
    return Session(
        path=str(path),
        inputs=inputs,
        outputs=outputs,
        entries={f"{PREFIX}{name}": text for name, text in section.items()},
        handle=_Runner(compiled, inputs),
        errors=ERRORS,
    )


def import_openvino() -> Any:
    """The module openvino; ConfigError, naming the extra, where it is absent."""
    try:
        return import_module("openvino")
    except ImportError as error:
        raise ConfigError(
            f"an .xml file is run by OpenVINO, which is not installed: {INSTALL}"
        ) from error


class _Runner:
    """Runs a compiled model, called as onnxruntime's sessions are."""

    def __init__(self, compiled: Any, inputs: Sequence[Port]) -> None:
        self._compiled = compiled
        self._inputs = inputs
        self._request = compiled.create_infer_request()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Values of the named outputs, copied."""
        for port in self._inputs:  # it reads other shapes as if they were right
            shape = inputs[port.name].shape
            sizes = zip(port.shape, shape, strict=False)
            if len(shape) != len(port.shape) or any(one not in (None, two) for one, two in sizes):
                raise ValueError(f"{port.name} is {shape}, and {port.shape} is wanted")
        try:
            found = self._request.infer(dict(inputs))
            return [np.array(found[self._compiled.output(name)]) for name in outputs]
        except ERRORS as error:
            raise ValueError(last_line(error)) from error


def _read(path: Path, most: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > most:
            raise StoreError(f"{path} has {size:,} bytes; such a file has at most {most:,}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} does not exist: a model of OpenVINO is an .xml file with a {WEIGHTS} of the "
            "same name next to it"
        ) from error


def _section(model: Any) -> dict[str, str]:
    """Our entries in a file's runtime information; none where another program made it."""
    if not model.has_rt_info([SECTION]):
        return {}
    values = model.get_rt_info([SECTION]).value
    if not isinstance(values, Mapping):
        return {}
    return {name: text for name, text in values.items() if isinstance(text, str)}


def _port(node: Any) -> Port:
    kind = node.element_type.get_type_name()
    dimensions = node.partial_shape
    shape = tuple(None if size.is_dynamic else size.get_length() for size in dimensions)
    return Port(name=node.any_name, kind=FLOAT if kind == "f32" else kind, shape=shape)


def last_line(error: BaseException) -> str:
    """The last line of an error's message that says anything."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
