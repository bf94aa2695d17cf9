"""Queues of review: candidates in an order that a seed decides, capped per recording and group.

    places = choose(candidates, QueueOrder(order="bands", count=200, seed=0))

`candidates` has a line per thing to judge: key (uint64, decides ties), score, recording, group,
uncertainty (the smaller the less certain). A pure function: the same call gives the same queue.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.randomness import random_bits
from storage.errors import ConfigError
from storage.options import check_at_least, check_between, check_choice

HIGHEST, LOWEST, UNCERTAIN, BANDS = "highest", "lowest", "uncertain", "bands"
LABELS, SITES, RANDOM = "labels", "sites", "random"
ORDERS = (HIGHEST, LOWEST, UNCERTAIN, BANDS, LABELS, SITES, RANDOM)
MAX_ITEMS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOrder:
    """An order of review, and how many of what.

    `highest`, `lowest` score first; `uncertain`: the least certain first; `bands`: evenly over
    equal bands of the score; `labels`: `per_group` of each class; `sites`: of each site and day;
    `random`. `per_recording`: at most so many of one; 0 for any number.
    """

    order: str = HIGHEST
    count: int = 200
    per_recording: int = 0
    per_group: int = 5
    bands: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice(self, "", "order", ORDERS)
        check_between(self, "", 1, MAX_ITEMS, "count")
        check_between(self, "", 1, 100, "bands")
        check_at_least(self, "", 0, "per_recording", "seed")
        check_at_least(self, "", 1, "per_group")

    def __str__(self) -> str:
        """The order in words, to be kept with the verdicts."""
        words = [self.order, f"seed={self.seed}"]
        if self.order == BANDS:
            words.append(f"bands={self.bands}")
        if self.order in (LABELS, SITES):
            words.append(f"per_group={self.per_group}")
        if self.per_recording:
            words.append(f"per_recording={self.per_recording}")
        return " ".join(words)


def choose(candidates: pl.DataFrame, order: QueueOrder) -> np.ndarray:
    """Places of the chosen candidates in the order of review, int64."""
    chosen = _order_of(candidates, order)
    if order.per_recording:
        chosen = _capped(chosen, candidates["recording"], order.per_recording)
    if order.order in (LABELS, SITES):
        chosen = _capped(chosen, candidates["group"], order.per_group)
        chosen = _in_turn(chosen, candidates["group"])
    elif order.order == BANDS:
        chosen = _in_turn(chosen, _bands(candidates["score"], order.bands))
    return chosen[: order.count]


def _order_of(candidates: pl.DataFrame, order: QueueOrder) -> np.ndarray:
    keys = candidates["key"].cast(pl.UInt64).to_numpy()
    bits = random_bits(keys, seed=order.seed, epoch=0, purpose="review")
    if order.order in (HIGHEST, LOWEST):
        score = _numbers(candidates["score"])
        return np.asarray(np.lexsort((bits, score if order.order == LOWEST else -score)))
    if order.order == UNCERTAIN:
        return np.asarray(np.lexsort((bits, _numbers(candidates["uncertainty"]))))
    shuffled: np.ndarray = np.argsort(bits, kind="stable")
    if order.order == BANDS:
        shuffled = shuffled[np.isfinite(_numbers(candidates["score"])[shuffled])]
    return shuffled


def _numbers(values: pl.Series) -> np.ndarray:
    return np.asarray(values.cast(pl.Float64).fill_null(np.nan).to_numpy())


def _bands(scores: pl.Series, bands: int) -> pl.Series:
    """The band of each score from 0 to 1, the highest is 0."""
    place = (1 - _numbers(scores).clip(0, 1)) * bands
    return pl.Series(np.clip(np.nan_to_num(place), 0, bands - 1).astype(np.int64))


def _capped(chosen: np.ndarray, groups: pl.Series, most: int) -> np.ndarray:
    """The first `most` of each group, in their order."""
    return np.asarray(chosen[_turns(chosen, groups) < most])


def _in_turn(chosen: np.ndarray, groups: pl.Series) -> np.ndarray:
    """One of each group in turn, the groups by their value."""
    rank = groups.gather(chosen).rank("dense").fill_null(0).to_numpy()
    return np.asarray(chosen[np.lexsort((rank, _turns(chosen, groups)))])


def _turns(chosen: np.ndarray, groups: pl.Series) -> np.ndarray:
    """The number of earlier ones of the same group, int64."""
    table = pl.DataFrame({"group": groups.gather(chosen)})
    return table.select(pl.int_range(pl.len()).over("group"))["literal"].to_numpy()


def check_score(candidates: pl.DataFrame, order: QueueOrder, what: str) -> None:
    """Raises ConfigError where an order by scores is asked for, and there are none."""
    if order.order in (LABELS, SITES, RANDOM) or candidates["score"].is_not_null().any():
        return
    if len(candidates):
        raise ConfigError(f"{what} have no scores: take the order {LABELS}, {SITES} or {RANDOM}")
