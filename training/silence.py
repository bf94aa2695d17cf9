"""Slices whose silent ends are filled: clips of one length are often short sounds behind which
somebody has put digital silence, and a network pools that with the sound.

Shapes: B slices, M mel bands, T frames.
"""

import torch
from torch import Tensor


def repeat_sound(slices_BMT: Tensor) -> Tensor:
    """The slices with what lies between their silent ends repeated over these, as with `np.pad`
    and `mode="wrap"`; the sound stays where it is.

    A frame is silent where all its cells are 0. Slices without silent ends, or of silence alone,
    stay as they are.
    """
    heard_BT = (slices_BMT > 0).any(dim=1).byte()
    num_frames = heard_BT.shape[1]
    first_B1 = heard_BT.argmax(dim=1, keepdim=True)
    end_B1 = num_frames - heard_BT.flip(1).argmax(dim=1, keepdim=True)
    place_T = torch.arange(num_frames, device=slices_BMT.device)
    source_BT = first_B1 + (place_T - first_B1) % (end_B1 - first_B1)
    return slices_BMT.gather(2, source_BT[:, None].expand_as(slices_BMT))
