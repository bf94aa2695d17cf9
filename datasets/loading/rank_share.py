"""Positions of an epoch that belong to one rank, batch by batch.

In training the epoch is cut into effective batches of world_size x batch_size x accumulation
samples; their content depends on nothing else, so another number of ranks with the same effective
batch takes the same optimizer steps. In evaluation nothing is cut or repeated.
"""

from dataclasses import dataclass

from storage.errors import ConfigError

CUT, WRAP, KEEP = "cut", "wrap", "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankShare:
    """Batches of one rank out of `num_samples`.

    remainder: treatment of the samples after the last full effective batch. `cut` drops them,
    `wrap` fills up with the first ones again; both give every rank full batches. `keep`
    (evaluation) shares the rest evenly: every sample comes exactly once. All ranks have equally
    many batches, so that no collective operation blocks; with `keep`, where there are fewer
    samples than ranks or batches of one sample, a rank's last batch may be empty.
    """

    num_samples: int
    batch_size: int
    rank: int
    world_size: int
    accumulation: int
    remainder: str

    @property
    def global_batch(self) -> int:
        """Samples that all ranks take together in one step."""
        return self.world_size * self.batch_size

    @property
    def effective_batch(self) -> int:
        """Samples of one optimizer step."""
        return self.global_batch * self.accumulation

    @property
    def num_batches(self) -> int:
        """Batches of each rank; with `cut` or `wrap` a multiple of the accumulation."""
        if self.remainder == CUT:
            return self.num_samples // self.effective_batch * self.accumulation
        if self.remainder == WRAP:
            return -(-self.num_samples // self.effective_batch) * self.accumulation
        return -(-self.num_samples // self.global_batch)

    def bounds(self, batch_no: int) -> tuple[int, int]:
        """Returns the positions [start, stop) of a batch; `wrap` may pass `num_samples`."""
        if self.remainder != KEEP:
            start = batch_no * self.global_batch + self.rank * self.batch_size
            return start, start + self.batch_size
        start = self._keep_edge(batch_no)
        size = self._keep_edge(batch_no + 1) - start
        share = start + size * self.rank // self.world_size
        return share, start + size * (self.rank + 1) // self.world_size

    def check(self) -> None:
        """Raises ConfigError where the rank is invalid or the epoch has no batch."""
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(f"rank={self.rank} is not one of {self.world_size}")
        if self.num_batches == 0 and self.remainder == CUT:
            both = " and train_loader.batch_size" if self.num_samples < self.global_batch else ""
            raise ConfigError(
                f"{self.num_samples} samples are fewer than one effective batch of "
                f"{self.effective_batch} ({self.world_size} ranks x batch_size={self.batch_size} "
                f"x accumulation={self.accumulation}): lower "
                f"trainer.effective_batch_size{both}, or set train_loader.remainder=wrap"
            )

    def _keep_edge(self, batch_no: int) -> int:
        """Returns the start of a global batch; the last but one lends to one that is too small."""
        edge = min(batch_no * self.global_batch, self.num_samples)
        if batch_no == self.num_batches - 1 > 0 and self.batch_size > 1:
            return min(edge, self.num_samples - self.world_size)
        return edge
