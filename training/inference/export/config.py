"""Config of the export; imports no torch."""

from dataclasses import dataclass, field

from storage.errors import ConfigError
from storage.options import option

ONNX, OPENVINO = ".onnx", ".xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """Checkpoints to export, and the file to write."""

    from_: list[str] = field(
        default_factory=list,
        metadata={
            "help": "checkpoints, as in exp_003/fold_0 or a .ckpt; of several, or of all folds of "
            "exp_003, the mean prediction"
        },
    )
    out: str = option(
        "model.onnx", "file to write: .onnx, or .xml for OpenVINO, whose weights go next to it"
    )
    mel: bool = option(False, "take waveforms at the recipe's rate instead of mel slices")

    def __post_init__(self) -> None:
        if not self.out.endswith((ONNX, OPENVINO)):
            raise ConfigError(f"export.out={self.out} must end in {ONNX} or {OPENVINO}")
