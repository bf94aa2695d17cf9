"""Config of injection: a share of the samples gets a partner from a pool source.

The epoch plan draws the partners (`datasets.sampling`), the reader reads them, and
`datasets.augment` mixes them into the samples, on their device.
"""

from dataclasses import dataclass

from storage.errors import ConfigError
from storage.options import check_between, check_choice, option

WEIGHT, UNION = "weight", "union"
TARGETS = (WEIGHT, UNION)


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectSpec:
    """Partners from one pool. A sample gets at most one partner, from one pool of the list."""

    source: str = option("", "name of the source that partners are drawn from")
    p: float = option(0.5, "share of the samples that get a partner from it")
    ratio: float = option(0.5, "share of the partner in the mixture")
    targets: str = option(UNION, "of the mixture: union (maximum of both), or weight (by ratio)")
    cap_sum: float = option(0.0, "largest sum of the partner's targets, scaled down to; 0: any")

    def __post_init__(self) -> None:
        check_between(self, "sampling.inject", 0, 1, "p", "ratio")
        check_choice(self, "sampling.inject", "targets", TARGETS)
        if not self.source:
            raise ConfigError("each entry of sampling.inject needs source=, the name of a source")
        if not 0 <= self.cap_sum < float("inf"):
            raise ConfigError(f"sampling.inject.cap_sum={self.cap_sum} must be at least 0")
