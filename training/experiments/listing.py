"""Listing of experiments and their scores, from the files that they have written.

table = experiment_table(list_experiments("."))
compare_experiments(list_experiments("."), ["exp_003", "exp_007"])
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from storage.errors import ConfigError
from training.experiments.experiment import NAME, SCORES
from training.experiments.settings import read_settings
from training.model.metrics import METRICS, TITLES

FINISHED, FAILED, UNFINISHED = "finished", "failed", "unfinished"
_MISSING = "-"
DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRecord:
    """One experiment. `config` is flat, `a.b` -> value.

    `scores` are of the slices of all folds together, `pooled` of their recordings.
    """

    name: str
    status: str
    begun: str
    reason: str
    config: dict[str, Any]
    num_folds: int
    minutes: float | None
    scores: dict[str, float | None]
    pooled: dict[str, float | None]


class _Report(NamedTuple):
    """The part of `scores.json` that is listed."""

    num_folds: int
    minutes: float | None
    scores: dict[str, float | None]
    pooled: dict[str, float | None]


def list_experiments(root: str | Path) -> list[ExperimentRecord]:
    """All experiments under a root, oldest first, those that failed too."""
    configs = Path(root) / "configs"
    found = (NAME.match(mark.name) for mark in configs.glob(".exp_*"))
    numbers = sorted(int(match.group(1)) for match in found if match)
    return [_read(Path(root), f"exp_{number:03d}") for number in numbers]


def experiment_table(records: Sequence[ExperimentRecord], sort: str = "name") -> pl.DataFrame:
    """One line per experiment; sorted by name, or by a score with the best first.

    Raises ConfigError on a score that does not exist.
    """
    check_sort(sort)
    lines = [
        {
            "experiment": record.name,
            "begun": record.begun,
            "status": record.status,
            "backbone": record.config.get("model.backbone", _MISSING),
            "folds": record.num_folds,
            **{metric.title: record.scores.get(key) for key, metric in METRICS.items()},
            "minutes": record.minutes,
            "why": record.reason,
        }
        for record in records
    ]
    kinds = dict.fromkeys([*TITLES, "minutes"], pl.Float64)
    table = pl.DataFrame(lines, schema_overrides=kinds)
    if sort == "name" or table.is_empty():
        return table
    metric = METRICS[sort]
    return table.sort(metric.title, descending=metric.higher_is_better, nulls_last=True)


def check_sort(sort: str) -> None:
    """Raises ConfigError on an order that there is not."""
    if sort not in ("name", *METRICS):
        raise ConfigError(f"--sort {sort} is none of name, {', '.join(METRICS)}")


def find_records(
    records: Sequence[ExperimentRecord], names: Sequence[str]
) -> list[ExperimentRecord]:
    """The records of these names; raises ConfigError on a name that does not exist."""
    known = {record.name: record for record in records}
    strange = [name for name in names if name not in known]
    if strange:
        there = ", ".join(known) or "none"
        raise ConfigError(f"there is no experiment {strange[0]}; there are {there}")
    return [known[name] for name in names]


def compare_experiments(records: Sequence[ExperimentRecord], names: Sequence[str]) -> pl.DataFrame:
    """Scores, then the config keys that differ: one line each, one column per experiment.

    Raises ConfigError on a name that does not exist.
    """
    chosen = find_records(records, names)
    lines = [
        [metric.title, *(metric.text(record.scores.get(key)) for record in chosen)]
        for key, metric in METRICS.items()
    ]
    for key in sorted({key for record in chosen for key in record.config}):
        values = [_cell(record.config.get(key)) for record in chosen]
        if len(set(values)) > 1:
            lines.append([key, *values])
    columns = ["", *names]
    return pl.DataFrame(lines, schema=dict.fromkeys(columns, pl.String), orient="row")


def _read(root: Path, name: str) -> ExperimentRecord:
    config_file = root / "configs" / f"{name}.yaml"
    scores_file = root / "preds" / name / SCORES
    mark = (root / "configs" / f".{name}").read_text(encoding="utf-8", errors="replace").strip()
    failed, _, reason = mark.partition(": ")
    config: dict[str, Any] = {}
    begun, report = "", _Report(0, None, {}, {})
    try:
        if config_file.is_file():
            begun, config = read_settings(config_file)
    except ConfigError as error:
        reason = str(error)
    try:
        if scores_file.is_file():
            report = _read_report(scores_file)
    except DAMAGED:
        reason = f"{scores_file} is damaged"
    status = FINISHED if report.scores else FAILED if failed == FAILED else UNFINISHED
    if status == FAILED and config_file.is_file():
        reason += f"; after the repair, --resume {name} goes on"
    return ExperimentRecord(
        name=name,
        status=status,
        begun=begun,
        reason="" if status == FINISHED else reason.replace("\n", " "),
        config=_flat(config),
        num_folds=report.num_folds,
        minutes=report.minutes,
        scores=report.scores,
        pooled=report.pooled,
    )


def _read_report(path: Path) -> _Report:
    """Reads a `scores.json`; raises one of DAMAGED where it is not as we write it."""
    document = json.loads(path.read_text(encoding="utf-8"))
    durations_s = [float(fold["duration_s"]) for fold in document["folds"]]
    return _Report(
        num_folds=len(durations_s),
        minutes=sum(durations_s) / 60 if durations_s else None,
        scores=_scores(document["overall"]),
        pooled=_scores(document.get("pooled", {})),
    )


def _scores(values: Mapping[str, Any]) -> dict[str, float | None]:
    """The scores that there are by now; None for those that were not defined, or not known then."""
    known = {key: values.get(key) for key in METRICS}
    return {key: None if score is None else float(score) for key, score in known.items()}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _cell(value: Any) -> str:
    if value is None:
        return _MISSING
    return f"{value:.4f}" if isinstance(value, float) else str(value)
