"""Config of reading batches: next to the reader, which needs torch."""

from dataclasses import dataclass

from datasets.loading.rank_share import CUT, WRAP
from storage.options import check_at_least, check_choice, option


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """Config of reading batches."""

    batch_size: int = option(16, "samples in one batch of one rank")
    prefetch_batches: int = option(4, "batches read ahead; 0 reads in the caller's thread")
    remainder: str = option("cut", "training: cut or wrap the incomplete last effective batch")
    check: bool = option(True, "verify the checksum of every slice")
    max_bad: int = option(0, "unreadable slices that a rank skips before it stops")

    def __post_init__(self) -> None:
        check_at_least(self, "", 1, "batch_size")
        check_at_least(self, "", 0, "prefetch_batches", "max_bad")
        check_choice(self, "", "remainder", (CUT, WRAP))


@dataclass(frozen=True, slots=True, kw_only=True)
class ValLoaderConfig(LoaderConfig):
    """Config of reading held-out slices."""

    max_slices_per_recording: int = option(
        0,
        "validation during training: most slices of a recording, evenly over it; 0: all; the final "
        "scores take all",
    )

    def __post_init__(self) -> None:
        super(ValLoaderConfig, self).__post_init__()  # slots make another class: super() fails
        check_at_least(self, "val_loader", 0, "max_slices_per_recording")
