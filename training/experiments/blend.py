"""The mean of what several experiments predict of recordings that they did not learn from.

    blend = blend_experiments(".", ["exp_001", "exp_002"])
    print(blend.table())
    blend.write(Path("preds/blend"))  # a folder that is there

Experiments with other seeds, backbones or augmentations err on other recordings, so their mean is
better than most of them (deep ensembles: Lakshminarayanan et al., NeurIPS 2017). They must have
held out the same recordings in the same folds: else the mean would mix held-out with learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from storage.errors import ConfigError
from storage.output_files import output_file
from training.experiments.listing import (
    FINISHED,
    ExperimentRecord,
    find_records,
    list_experiments,
)
from training.experiments.report import OOF, POOLED_OOF, format_table, score_frame
from training.model.agreement import rank_correlations
from training.model.metrics import METRICS, TITLES, Scores, score_cells

NAME_WIDTH = 24
GAIN_LEGEND = (
    "gain of each member: the score of the blend less that of the blend without it;\n"
    "agreement: mean rank correlation with the others, 1 where they order alike"
)
SECONDARY_WEIGHT = "loss.secondary_weight"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blend:
    """Mean predictions of slices and of recordings, as in the tables of an experiment.

    `members`: the scores of each experiment, over all slices. `without`: those of the blend without
    it, so that its marginal gain is the difference to the blend. `correlation_BB`: of the members,
    by the rank correlation of their predictions of slices, in that order.
    """

    slices: pl.DataFrame
    recordings: pl.DataFrame
    secondary_weight: float
    members: dict[str, Scores]
    without: dict[str, Scores]
    correlation_BB: np.ndarray

    def table(self) -> str:
        """The blend fold by fold, all together, per recording; and its members next to it."""
        lines = [
            (f"fold {fold}", str(len(part)), *score_cells(self._score(part)))
            for (fold,), part in self.slices.sort("fold").group_by("fold", maintain_order=True)
        ]
        totals = [
            ("all slices", str(len(self.slices)), *score_cells(self._score(self.slices))),
            ("recordings", str(len(self.recordings)), *score_cells(self._score(self.recordings))),
            *(
                (f"{name} alone", str(len(self.slices)), *score_cells(scores))
                for name, scores in self.members.items()
            ),
            *(
                (f"without {name}", str(len(self.slices)), *score_cells(scores))
                for name, scores in self.without.items()
            ),
        ]
        header = ("", "number", *TITLES)
        scores = format_table(header, [*lines, *totals], num_totals=len(totals))
        gains = describe_gains(self.slices_score(), self.without, self.correlation_BB)
        return f"{scores}\n\n{gains}"

    def write(self, folder: Path) -> None:
        """Writes both tables into a folder or, where the disk is full, none.

        Their names are those of an experiment's. Raises StoreError where the disk refuses.
        """
        with output_file(folder / OOF) as slices, output_file(folder / POOLED_OOF) as recordings:
            self.slices.write_parquet(slices)
            self.recordings.write_parquet(recordings)

    def slices_score(self) -> Scores:
        """Scores of the blend over all slices."""
        return self._score(self.slices)

    def _score(self, frame: pl.DataFrame) -> Scores:
        return score_frame(frame, self.secondary_weight)


def describe_gains(whole: Scores, without: Mapping[str, Scores], correlation_BB: np.ndarray) -> str:
    """Formats what each member adds to the others, and how much it agrees with them.

    `whole`: scores of the blend. `without`: those without each member, by name, in the order of
    `correlation_BB`.
    """
    lines = []
    for place, (name, rest) in enumerate(without.items()):
        agreement_B = np.delete(correlation_BB[place], place)
        gains = (f"{whole[key] - rest[key]:+.4f}" for key in METRICS)
        short = name if len(name) <= NAME_WIDTH else f"...{name[3 - NAME_WIDTH :]}"
        lines.append((short, *gains, f"{np.mean(agreement_B):.3f}"))
    table = format_table(("", *TITLES, "agreement"), lines, num_totals=0)
    return f"{GAIN_LEGEND}\n{table}"


def blend_experiments(
    root: str | Path, names: Sequence[str], weights: Sequence[float] = ()
) -> Blend:
    """The weighted mean of finished experiments under `root`; without weights all count alike.

    Raises ConfigError where there are fewer than two, or they cannot be averaged.
    """
    weights = list(weights) or [1.0] * len(names)
    _check(names, weights)
    chosen = _find_finished(root, names)
    slices, recordings = (
        [_read(Path(root) / "preds" / name / table) for name in names]
        for table in (OOF, POOLED_OOF)
    )
    secondary = [float(record.config.get(SECONDARY_WEIGHT, 0.0)) for record in chosen]
    if len(set(secondary)) > 1:
        raise ConfigError(f"{', '.join(names)} differ in {SECONDARY_WEIGHT}: KL is not comparable")
    aligned, rows_BNC = _align(slices, names)
    pooled, pooled_BNC = _align(recordings, names)

    def score(weights_B: Sequence[float]) -> Scores:
        return score_frame(_mean(aligned, rows_BNC, weights_B), secondary[0])

    one_hot, places = np.eye(len(names)), range(len(names))
    return Blend(
        slices=_mean(aligned, rows_BNC, weights),
        recordings=_mean(pooled, pooled_BNC, weights),
        secondary_weight=secondary[0],
        members={names[place]: score(one_hot[place].tolist()) for place in places},
        without={
            names[place]: score((np.array(weights) * (1 - one_hot[place])).tolist())
            for place in places
        },
        correlation_BB=rank_correlations(rows_BNC),
    )


def _find_finished(root: str | Path, names: Sequence[str]) -> list[ExperimentRecord]:
    """Finds experiments; raises ConfigError on one that is not finished, or not there."""
    chosen = find_records(list_experiments(root), names)
    for record in chosen:
        if record.status != FINISHED:
            raise ConfigError(
                f"{record.name} is {record.status}: only finished experiments have predictions of "
                "all folds"
            )
    return chosen


def _check(names: Sequence[str], weights: Sequence[float]) -> None:
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError("a blend is of two experiments or more, each named once")
    if len(weights) != len(names) or not all(weight > 0 for weight in weights):
        raise ConfigError(
            f"a blend of {len(names)} experiments takes {len(names)} weights above 0, "
            f"not {', '.join(f'{weight:g}' for weight in weights)}"
        )


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, PolarsError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _align(frames: Sequence[pl.DataFrame], names: Sequence[str]) -> tuple[pl.DataFrame, np.ndarray]:
    """The first table, and the probabilities of all in the order of its rows, [B, N, C]."""
    classes = _classes(frames[0])
    keys = [name for name in frames[0].columns if name not in (*classes, "target")]
    ordered = [frame.sort(keys) if set(keys) <= set(frame.columns) else frame for frame in frames]
    first = ordered[0]
    for name, frame in zip(names[1:], ordered[1:], strict=True):
        if frame.columns != first.columns:
            raise ConfigError(f"{names[0]} and {name} differ in classes or in kinds of sources")
        if not frame.select(*keys, "target").equals(first.select(*keys, "target")):
            raise ConfigError(
                f"{names[0]} and {name} held out different recordings, or in other folds: blend "
                "experiments with the same store, `folds` and `train_folds`"
            )
    return first, np.stack([frame.select(classes).to_numpy() for frame in ordered])


def _mean(first: pl.DataFrame, values_BNC: np.ndarray, weights: Sequence[float]) -> pl.DataFrame:
    """The first table with the mean probabilities of all."""
    mean_NC = np.average(values_BNC, axis=0, weights=weights).astype(np.float32)
    return first.with_columns(
        pl.Series(name, mean_NC[:, place]) for place, name in enumerate(_classes(first))
    )


def _classes(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name.startswith("p_")]
