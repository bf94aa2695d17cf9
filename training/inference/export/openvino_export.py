"""Writes trained classifiers as a model of OpenVINO, with weights of 16 bits.

    metadata = export_openvino([read_checkpoint(path)], Path("model.xml"), ExportOptions())

By way of ONNX: inputs, outputs and metadata are those of `onnx_export`, the metadata in the section
`melbank` of the file's runtime information. The weights are in model.bin.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage.errors import ConfigError
from training.inference.export.metadata import PREFIX, ExportMetadata
from training.inference.export.onnx_export import ExportOptions, export_onnx
from training.inference.export.openvino_session import (
    SECTION,
    WEIGHTS,
    WEIGHTS_SHA256,
    import_openvino,
    last_line,
)
from training.model.checkpoints import TrainedClassifier

OPSET = 18  # of 17, OpenVINO 2026 reads ReduceLogSumExp as the sum over all axes


def export_openvino(
    members: Sequence[TrainedClassifier], path: Path, options: ExportOptions
) -> ExportMetadata:
    """Writes `path`, an .xml, and the weights next to it, and returns the metadata.

    The same members give the same bytes. Raises ConfigError as `export_onnx` does, where the
    package openvino is absent, and where it lacks an operator of the network.
    """
    runtime = import_openvino()
    with TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        metadata = export_onnx(members, onnx, replace(options, opset=OPSET))
        model = _convert(runtime, onnx)
    for place, node in enumerate(model.get_ordered_ops()):  # theirs count all that were ever made
        node.set_friendly_name(f"{node.get_type_name()}_{place}")
    runtime.save_model(model, str(path), compress_to_fp16=True)  # to know the weights' digest
    digest = sha256(path.with_suffix(WEIGHTS).read_bytes()).hexdigest()
    entries = {name.removeprefix(PREFIX): text for name, text in metadata.to_entries().items()}
    for name, text in {**entries, WEIGHTS_SHA256: digest}.items():
        model.set_rt_info(text, [SECTION, name])
    runtime.save_model(model, str(path), compress_to_fp16=True)
    return metadata


def _convert(runtime: Any, onnx: Path) -> Any:
    """The network in OpenVINO's operators."""
    names = vars(import_module("openvino.frontend"))
    # they have no common base but Exception
    failures = [one for name, one in names.items() if name.endswith("Failure")]
    try:
        return runtime.convert_model(str(onnx))
    except (RuntimeError, *failures) as error:
        raise ConfigError(
            f"OpenVINO cannot take this network ({last_line(error)}): export it as an .onnx"
        ) from error
