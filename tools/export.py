"""Write trained classifiers as one ONNX file, or as a model of OpenVINO.

    python -m tools.export export.from=exp_003/fold_0 export.out=model.onnx
    python -m tools.export export.from=exp_003 export.out=mean_of_folds.onnx
    python -m tools.export export.from=[exp_003,exp_007/fold_1] export.out=mean.onnx
    python -m tools.export export.from=weights/exp_003/fold_0.ckpt export.mel=true
    python -m tools.export export.from=exp_003/fold_0 export.out=model.xml

Takes mel slices, or with export.mel=true waveforms at the recipe's rate: the mel spectrogram is
then part of the file. Outputs are `probabilities`, `logits` and `embedding`. Labels, recipe and the
checkpoints' sha256 are in the file's metadata, so `tools.predict` needs nothing else, and the steps
of post=, which it applies where it is given none. The file is run and compared with the checkpoints
before it is put in place. Needs the extra `onnx`. The last one writes a model of OpenVINO with
weights of 16 bits, model.xml and model.bin, and needs the extra `openvino`.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.errors import ConfigError
from tools.cli.command import Arguments, Command, importing, run
from tools.cli.config import RemoteSection
from tools.cli.output_files import check_output
from training.experiments.experiment import ExperimentConfig
from training.experiments.places import local_entries
from training.inference.export.config import ExportConfig
from training.inference.post.chain import parse_steps


@dataclass(frozen=True, kw_only=True)
class Sections(RemoteSection):
    """Config sections of this command."""

    export: ExportConfig = field(default_factory=ExportConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    post: list[Any] = field(
        default_factory=list,
        metadata={"help": "steps of post-processing to record in the file, for tools.predict"},
    )

    def __post_init__(self) -> None:
        parse_steps(self.post)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Exports, compares, prints what was written."""
    if not config.export.from_:
        raise ConfigError(
            "export.from names no checkpoint: give one, as in export.from=exp_003/fold_0, or "
            "several, whose mean is exported"
        )
    check_output("export.out=", config.export.out)
    with importing("export"):
        from training.inference.checkpoint_member import read_trained
        from training.inference.export.onnx_export import ExportOptions
        from training.inference.export.write import write_export
        from training.inference.model_files import CHECKPOINT, find_models
    entries = local_entries(config.export.from_, config.experiment, config.remote)
    models = find_models(entries, config.experiment.read_folder, key="export.from")
    files = [file for model in models for file in model.files]
    for file in files:
        if file.suffix != CHECKPOINT:
            raise ConfigError(
                f"export.from: {file} is no checkpoint, and only those are exported; tools.predict "
                "takes it as it is"
            )
    members = [read_trained(file, "export.from") for file in files]
    options = ExportOptions(mel=config.export.mel, post=config.post)
    print(write_export(members, Path(config.export.out), options).summary())


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
