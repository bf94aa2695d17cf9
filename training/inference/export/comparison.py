"""Compares an exported file with the checkpoints that it was made of, by running both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from storage.errors import StoreError
from training.inference.export.metadata import PROBABILITIES, WAVEFORM
from training.inference.export.onnx_export import ExportedNetwork, front_end_of
from training.inference.export.onnx_model import OnnxModel
from training.model.checkpoints import TrainedClassifier

BATCH_SIZES = (1, 3)
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The largest difference in probability, over so many inputs."""

    largest: float
    num_inputs: int

    def summary(self) -> str:
        """One line for the user."""
        return (
            f"compared with the checkpoints on {self.num_inputs} inputs, one of them silence: "
            f"probabilities differ by {self.largest:.1g} at most"
        )


def compare(members: Sequence[TrainedClassifier], path: Path, tolerance: float) -> Comparison:
    """Runs the network and the file on noise and silence.

    Raises StoreError where their probabilities differ by more than `tolerance`.
    """
    exported = OnnxModel(path)
    recipe = members[0].recipe
    is_waveform = exported.metadata.input == WAVEFORM
    network = ExportedNetwork(members, front_end_of(recipe) if is_waveform else None).eval()
    shape = (recipe.slice_samples,) if is_waveform else recipe.slice_shape
    generator = np.random.default_rng(SEED)
    largest = 0.0
    for size in BATCH_SIZES:
        inputs = generator.random((size, *shape), np.float32)
        inputs[1:2] = 0
        with torch.inference_mode():
            wanted = network(torch.from_numpy(inputs))[0].numpy()
        largest = max(largest, float(np.abs(exported.run(PROBABILITIES, inputs) - wanted).max()))
    if not largest <= tolerance:
        raise StoreError(
            f"the exported file gives probabilities that differ by {largest:.2g} from those of the "
            f"checkpoints, more than {tolerance:g}: it is not kept"
        )
    return Comparison(largest=largest, num_inputs=sum(BATCH_SIZES))
