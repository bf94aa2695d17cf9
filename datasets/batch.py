"""The record that the reader hands to a training loop."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """B samples. Tensors only, so that Lightning moves it to the device as it is.

    slices        [B, n_mels, num_frames], as stored: uint8, float16 or float32; with
                  `chunk.length_s` K slices joined in time, K * num_frames
    targets       float32 [B, C]; None where there are no labels to learn
    rows          int64 [B], the row of each slice in its source
    recording_no  int64 [B], its recording's position in `source.recordings()`
    position      int64 [B], its index in the epoch, counted over all ranks
    epoch         int64 []
    background    like slices, to be mixed in; None without a background source
    levels        float32 [B, K], level of the loudest cell of each of the K stored slices that a
                  sample is joined from, dB re full scale (`max_db`), -inf where a recording has no
                  more slices; None where nothing needs it
    partner       like slices, to be injected; of samples without a partner, any values
    partner_levels, partner_targets   like levels and targets, of the partners
    partner_pool  int64 [B], position in `sampling.inject` of the pool; -1: no partner
    teacher       float32 [B, D], embeddings of a teacher; rows of NaN where there is none
    background_levels   like levels, of the backgrounds; with `chunk.length_s` alone

    B is the batch size; in evaluation it may be less, down to 0 where samples are very few.
    """

    slices: Tensor
    targets: Tensor | None
    rows: Tensor
    recording_no: Tensor
    position: Tensor
    epoch: Tensor
    background: Tensor | None = None
    levels: Tensor | None = None
    partner: Tensor | None = None
    partner_levels: Tensor | None = None
    partner_targets: Tensor | None = None
    partner_pool: Tensor | None = None
    teacher: Tensor | None = None
    background_levels: Tensor | None = None

    def __repr__(self) -> str:
        """Shapes and types; the numbers themselves would fill screens."""
        parts = [
            f"{name}={'x'.join(map(str, tensor.shape)) or int(tensor)} "
            f"{str(tensor.dtype).removeprefix('torch.')}"
            for name, tensor in self._asdict().items()
            if tensor is not None
        ]
        return f"Batch({', '.join(parts)})"
