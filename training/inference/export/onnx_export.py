"""Writes trained classifiers as one ONNX file; of several, the mean of their probabilities.

    report = export_onnx([read_checkpoint(path)], "model.onnx", mel=False)

Input `slices` float32 [B, M, T] in [0, 1], the scale of `to_unit(cells)`, or `waveform` float32
[B, samples]; outputs `probabilities` [B, C], `logits` [B, C] and `embedding` [B, E], where those of
several models stand side by side, and of models with a SED head `frame_logits` [B, F, C]. B is
free. The metadata says the rest, see `metadata`.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from storage.audio.filterbank import mel_filterbank
from storage.errors import ConfigError
from storage.recipe import Recipe
from training.experiments.settings import describe_commit
from training.inference.export.front_end import FrontEnd
from training.inference.export.metadata import (
    EMBEDDING,
    FRAMES,
    LOGITS,
    PROBABILITIES,
    SLICES,
    WAVEFORM,
    ExportMetadata,
)
from training.model.checkpoints import TrainedClassifier
from training.model.models import Classifier, mean_frame_logits, mean_logits, probabilities

OPSET = 17  # runtimes since 2022 read it
OUTPUTS = (PROBABILITIES, LOGITS, EMBEDDING)
TRACED_BATCH = 2  # one of 1 would be taken for a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Contents of a file besides the networks, and the version of ONNX's operators."""

    mel: bool = False
    post: Sequence[Any] = ()
    opset: int = OPSET


class ExportedNetwork(nn.Module):
    """The networks of all members, with one input."""

    def __init__(self, members: Sequence[TrainedClassifier], front_end: FrontEnd | None) -> None:
        super().__init__()
        self._models = nn.ModuleList([member.model for member in members])
        self._front_end = front_end
        self._output = members[0].model_config.output

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        has_frames = all(cast("Classifier", model).has_frames for model in self._models)
        return (*OUTPUTS, FRAMES) if has_frames else OUTPUTS

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Probabilities and logits [B, C], embeddings [B, E], and logits of frames [B, F, C]."""
        slices_BMT = inputs if self._front_end is None else self._front_end(inputs)
        predictions = [model(slices_BMT) for model in self._models]
        logits, embeddings = zip(*predictions, strict=True)
        found = torch.stack([probabilities(one, self._output) for one in logits]).mean(0)
        outputs = (found, mean_logits(logits, self._output), torch.cat(embeddings, dim=1))
        if FRAMES not in self.outputs:
            return outputs
        frames = [one.frame_logits for one in predictions]
        return (*outputs, mean_frame_logits(frames, self._output))


def export_onnx(
    members: Sequence[TrainedClassifier], path: str | Path, options: ExportOptions
) -> ExportMetadata:
    """Writes the file and returns its metadata; the same members give the same bytes.

    Raises ConfigError where the members differ in labels, recipe or output, where the package onnx
    is absent, and where an operator of the network has no counterpart in ONNX.
    """
    onnx = _import_onnx()
    check_members(members)
    recipe = members[0].recipe
    network = ExportedNetwork(members, front_end_of(recipe) if options.mel else None).eval()
    metadata = ExportMetadata(
        input=WAVEFORM if options.mel else SLICES,
        labels=members[0].labels,
        recipe=recipe,
        output=members[0].model_config.output,
        version=describe_commit(),
        models=[_describe(member) for member in members],
        names={label: of for member in reversed(members) for label, of in member.names.items()},
        post=list(options.post),
    )
    _trace(network, metadata.input, example(recipe, options.mel), path, options.opset)
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, metadata.to_entries())
    onnx.checker.check_model(model)
    Path(path).write_bytes(model.SerializeToString(deterministic=True))
    return metadata


def front_end_of(recipe: Recipe) -> FrontEnd:
    """The front end of a recipe."""
    return FrontEnd(recipe, mel_filterbank(recipe))


def example(recipe: Recipe, mel: bool) -> Tensor:
    """An input of two slices, zeros."""
    shape = (recipe.slice_samples,) if mel else recipe.slice_shape
    return torch.zeros(TRACED_BATCH, *shape)


def check_members(members: Sequence[TrainedClassifier]) -> None:
    """Raises ConfigError unless all members have the same labels, recipe and output."""
    if not members:
        raise ConfigError("there is no checkpoint to export: give export.from=exp_001/fold_0")
    first = members[0]
    for member in members:
        if member.chunks.count > 1:
            raise ConfigError(
                f"{member.path} has learned from chunks of {member.chunks.count} slices "
                "(chunk.length_s), which an exported file cannot join: predict with the checkpoint"
            )
    for other in members[1:]:
        other.check_recipe(first.recipe)
        if other.labels != first.labels:
            raise ConfigError(
                f"{first.path} and {other.path} have other labels: one file has one list of them, "
                "so export each by itself"
            )
        if other.model_config.output != first.model_config.output:
            raise ConfigError(
                f"{first.path} gives {first.model_config.output} and {other.path} "
                f"{other.model_config.output} probabilities: export each by itself"
            )


def _describe(member: TrainedClassifier) -> dict[str, Any]:
    path = Path(member.path)
    return {
        "name": f"{path.parent.name}/{path.stem}",
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "fold": member.fold,
        "epoch": member.epoch,
        "model": asdict(member.model_config),
    }


def _import_onnx() -> Any:
    try:
        return import_module("onnx")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "an export needs the package onnx: install the extra `onnx`, as with "
            "`uv sync --extra onnx`"
        ) from error


def _trace(
    network: ExportedNetwork, name: str, inputs: Tensor, path: str | Path, opset: int
) -> None:
    """Writes the network as ONNX, with a free batch size.

    torch's newer exporter takes 8 s instead of 0.5 s and needs another package; both give the same
    numbers.
    """
    with _silent_export():
        try:
            torch.onnx.export(
                network,
                (inputs,),
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=[name],
                output_names=list(network.outputs),
                dynamic_axes={one: {0: "batch"} for one in (name, *network.outputs)},
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise ConfigError(
                f"this backbone cannot be written as ONNX: {str(error).splitlines()[0]}"
            ) from error


@contextmanager
def _silent_export() -> Iterator[None]:
    """Keeps what tracing says about itself from the terminal: the result is compared anyway."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        yield
