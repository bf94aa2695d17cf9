"""Class names and target vectors.

The classes of a model are the primary labels of its recordings, or those that `labels.classes`
lists, in that order: names, files, or `taxonomy`, which adds the classes of taxonomy.csv that have
no recording.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.options import check_choice, option
from storage.source.cells import tidy_label
from storage.source.csv_text import read_csv

TAXONOMY = "taxonomy"
FILES = (".csv", ".txt")
PRIMARY, ROW_ID = "primary_label", "row_id"
NAME_COLUMNS = ("common_name", "scientific_name", "class_name", "order", "family", "genus")
GROUP_COLUMNS = ("class_name", "order", "family", "genus")  # of those, with several classes each
MAX_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConfig:
    """Config of the classes of a model."""

    classes: list[str] = field(
        default_factory=list,
        metadata={
            "help": "names, files (.csv, .txt), or taxonomy: all of its classes; []: the recorded"
        },
    )
    no_call: str = option(
        "", "name of a class for silent slices and sources with no_call=true; empty: none"
    )
    groups: list[str] = field(
        default_factory=list,
        metadata={
            "help": "columns of taxonomy.csv whose groups get heads of their own, as in "
            "[genus,class_name]"
        },
    )

    def __post_init__(self) -> None:
        check_choice(self, "labels", "groups", GROUP_COLUMNS)
        if len(set(self.groups)) < len(self.groups):
            raise ConfigError(f"labels.groups={self.groups} names a column twice")


@dataclass(frozen=True, slots=True)
class Labels:
    """Class names in the order of the columns of a target; C = len(labels)."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names:
            raise ConfigError("there is no class: no recording has a primary_label")
        if len(set(self.names)) < len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ConfigError(f"class names must differ; given twice: {', '.join(twice)}")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, recordings: pl.DataFrame, extra: Iterable[str] = ()) -> Self:
        """Builds from the primary labels of recordings and extra names, sorted."""
        primary = recordings["primary_label"].drop_nulls().unique().to_list()
        return cls(tuple(sorted({*primary, *extra})))

    @classmethod
    def chosen(
        cls,
        config: LabelConfig,
        recordings: pl.DataFrame,
        *,
        taxonomy: Iterable[str] = (),
        extra: Iterable[str] = (),
    ) -> Self:
        """Builds by `config`; `extra` are names that soft targets have, `taxonomy` all classes.

        The class without a call is the last one.

        Raises ConfigError on a file without classes, or an unknown taxonomy.
        """
        no_call = config.no_call
        names = cls._chosen(config, recordings, taxonomy=taxonomy, extra=extra).names
        return cls((*(name for name in names if name != no_call), *([no_call] if no_call else [])))

    @classmethod
    def _chosen(
        cls,
        config: LabelConfig,
        recordings: pl.DataFrame,
        *,
        taxonomy: Iterable[str],
        extra: Iterable[str],
    ) -> Self:
        if not config.classes:
            return cls.of(recordings, extra)
        taxonomy = list(taxonomy)
        if config.classes == [TAXONOMY]:
            return cls.of(recordings, [*extra, *taxonomy])
        names: dict[str, None] = {}
        for entry in config.classes:
            is_file = Path(entry).suffix.lower() in FILES
            names |= dict.fromkeys(read_class_names(Path(entry)) if is_file else [entry])
        return cls(tuple(names))

    def note(self, taxonomy: Iterable[str]) -> str:
        """Returns a sentence on classes of the taxonomy that are none here; empty without any."""
        left = [name for name in taxonomy if name not in self.names]
        if not left:
            return ""
        more = f" and {len(left) - MAX_SHOWN} more" if len(left) > MAX_SHOWN else ""
        return (
            f"{len(left)} classes of taxonomy.csv have no recording and are not predicted: "
            f"{', '.join(left[:MAX_SHOWN])}{more}; labels.classes=taxonomy adds them"
        )

    def targets(self, recordings: pl.DataFrame, secondary_weight: float | None) -> np.ndarray:
        """Returns float32 [n, C]: 1 for the primary label, `secondary_weight` for secondary ones.

        With None, secondary labels become NaN (unknown), which the loss masks out. Secondary
        labels that are no class are ignored; a recording without a primary label has none. Raises
        ConfigError on a primary label that is no class.
        """
        if secondary_weight is None:
            secondary_weight = math.nan
        elif not 0 <= secondary_weight <= 1:
            raise ConfigError(f"secondary_weight={secondary_weight:g} must lie between 0 and 1")
        targets = np.zeros((len(recordings), len(self)), np.float32)
        second = (
            recordings.select(pl.int_range(pl.len()).alias("index"), "secondary_labels")
            .explode("secondary_labels")
            .with_columns(self._codes("secondary_labels"))
            .drop_nulls()
        )
        targets[second["index"], second["secondary_labels"]] = secondary_weight
        first = recordings.select(
            pl.int_range(pl.len()).alias("index"), self._codes("primary_label")
        ).drop_nulls()
        if len(first) < recordings["primary_label"].count():
            unknown = set(recordings["primary_label"].drop_nulls()) - set(self.names)
            raise ConfigError(
                f"{len(unknown)} primary labels are not among the {len(self)} classes, among them "
                f"{', '.join(sorted(unknown)[:5])}: leave those recordings out, or name them too"
            )
        targets[first["index"], first["primary_label"]] = 1
        return targets

    def _codes(self, column: str) -> pl.Expr:
        """Converts a column of names to class numbers, null where the name is no class."""
        numbers = {name: number for number, name in enumerate(self.names)}
        return pl.col(column).replace_strict(numbers, default=None, return_dtype=pl.Int64)


def taxonomy_names(recordings: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Returns, by primary label, what recordings say of it in the columns NAME_COLUMNS."""
    names: dict[str, dict[str, str]] = {}
    for column in NAME_COLUMNS:
        if column not in recordings.columns:
            continue
        named = recordings.select(PRIMARY, pl.col(column).cast(pl.String)).drop_nulls()
        for label, name in named.unique(PRIMARY, keep="first", maintain_order=True).iter_rows():
            names.setdefault(label, {})[column] = name
    return names


def read_class_names(path: Path) -> list[str]:
    """Reads classes: the column primary_label, the columns of a submission, or one name a line.

    Raises ConfigError where there are none.
    """
    try:
        table = read_csv(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"labels.classes: {path} cannot be read: {error.strerror}") from error
    columns = list(table.columns)
    if PRIMARY in columns:
        cells = table.columns[PRIMARY]
    elif ROW_ID in columns:
        cells = [name for name in columns if name != ROW_ID]
    elif len(columns) == 1:
        cells = [columns[0], *table.columns[columns[0]]]
    else:
        raise ConfigError(
            f"labels.classes: {path} has neither primary_label nor row_id among its columns "
            f"{', '.join(columns[:MAX_SHOWN])}, nor one name a line"
        )
    names = (tidy_label(cell) for cell in cells)
    return list(dict.fromkeys(name for name in names if name is not None))
