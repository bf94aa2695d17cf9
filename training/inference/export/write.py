"""Exports classifiers to a file of either kind, which is compared with them before it is put in
place.

    written = write_export(members, Path("model.onnx"), ExportOptions(mel=True))
    print(written.summary())
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from storage.output_files import output_file
from training.inference.export.comparison import Comparison, compare
from training.inference.export.metadata import ExportMetadata
from training.inference.export.onnx_export import ExportOptions, export_onnx
from training.inference.export.openvino_export import export_openvino
from training.inference.export.openvino_session import WEIGHTS
from training.inference.model_files import OPENVINO
from training.model.checkpoints import TrainedClassifier

TOLERANCE, TOLERANCE_16_BITS = 1e-4, 2e-3  # in probability


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenExport:
    """An exported file, with that of its weights where it has one."""

    path: Path
    num_bytes: int
    metadata: ExportMetadata
    comparison: Comparison

    def summary(self) -> str:
        """Two lines for the user."""
        bits = ", weights of 16 bits" if self.path.suffix == OPENVINO else ""
        size = f"{self.num_bytes / 2**20:.1f} MiB"
        return f"{self.path}: {self.metadata.summary()}{bits}, {size}\n{self.comparison.summary()}"


def write_export(
    members: Sequence[TrainedClassifier], target: Path, options: ExportOptions
) -> WrittenExport:
    """Writes an .onnx, or an .xml and its weights next to it.

    Raises StoreError where the file does not predict as the checkpoints do.
    """
    if target.suffix == OPENVINO:
        return _write_openvino(members, target, options)
    with output_file(target) as unfinished:
        metadata = export_onnx(members, unfinished, options)
        comparison = compare(members, unfinished, TOLERANCE)
        size = unfinished.stat().st_size
    return WrittenExport(path=target, num_bytes=size, metadata=metadata, comparison=comparison)


def _write_openvino(
    members: Sequence[TrainedClassifier], target: Path, options: ExportOptions
) -> WrittenExport:
    """The weights are put in place first: an .xml knows its own, and refuses others."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        metadata = export_openvino(members, made, options)
        comparison = compare(members, made, TOLERANCE_16_BITS)
        files = (made, made.with_suffix(WEIGHTS))
        size = sum(file.stat().st_size for file in files)
        with output_file(target) as network, output_file(target.with_suffix(WEIGHTS)) as weights:
            for file, unfinished in zip(files, (network, weights), strict=True):
                shutil.copyfile(file, unfinished)
    return WrittenExport(path=target, num_bytes=size, metadata=metadata, comparison=comparison)
