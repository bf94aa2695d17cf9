"""The record that the reader hands to a training loop."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """B samples. Tensors only, so that Lightning moves it to the device as it is.

    slices        [B, n_mels, num_frames], as stored: uint8, float16 or float32
    targets       float32 [B, C]; None where there are no labels to learn
    rows          int64 [B], the row of each slice in its source
    recording_no  int64 [B], its recording's position in `source.recordings()`
    position      int64 [B], its index in the epoch, counted over all ranks
    epoch         int64 []
    background    like slices, to be mixed in; None without a background source

    B is the batch size; in evaluation it may be less, down to 0 where samples are very few.
    """

    slices: Tensor
    targets: Tensor | None
    rows: Tensor
    recording_no: Tensor
    position: Tensor
    epoch: Tensor
    background: Tensor | None = None

    def __repr__(self) -> str:
        """Shapes and types; the numbers themselves would fill screens."""
        parts = [
            f"{name}={'x'.join(map(str, tensor.shape)) or int(tensor)} "
            f"{str(tensor.dtype).removeprefix('torch.')}"
            for name, tensor in self._asdict().items()
            if tensor is not None
        ]
        return f"Batch({', '.join(parts)})"
