"""Names of the classes of predictions, and the labels that annotations mean by other names."""

from collections.abc import Iterable
from pathlib import Path

from storage.errors import ConfigError
from storage.source.cells import is_missing, tidy, tidy_label
from storage.source.csv_text import read_csv
from training.inference.predictions import ClassTable

PRIMARY = "primary_label"


def read_class_table(
    path: str, labels: Iterable[str], *, key: str = "evaluate.taxonomy"
) -> ClassTable:
    """Reads the rows of a taxonomy csv that are of these labels; without a path there are no names.

    Raises ConfigError, naming the config key, where it lacks the column primary_label.
    """
    labels = tuple(labels)
    if not path:
        return ClassTable(labels=labels, names={})
    try:
        table = read_csv(Path(path).read_bytes(), path)
    except OSError as error:
        raise ConfigError(
            f"{key}={path} cannot be read: {error.strerror}: give a csv with primary_label and "
            "names, or leave it out"
        ) from error
    if PRIMARY not in table.columns:
        raise ConfigError(
            f"{key}={path} lacks the column {PRIMARY}: there are {', '.join(table.columns)}"
        )
    others = [name for name in table.columns if name != PRIMARY]
    names: dict[str, dict[str, str]] = {}
    for row, cell in enumerate(table.columns[PRIMARY]):
        label = tidy_label(cell)
        if label in labels:
            cells = {name: tidy(table.columns[name][row]) for name in others}
            names[label] = {name: text for name, text in cells.items() if not is_missing(text)}
    return ClassTable(labels=labels, names=names)


def labels_by_name(classes: ClassTable) -> dict[str, str]:
    """Finds the label of each name of a class, lower case; names that two classes share are none.

    Labels as they are go before all other names.
    """
    found: dict[str, set[str]] = {}
    for label in classes.labels:
        for name in (label, *classes.names.get(label, {}).values()):
            found.setdefault(name.casefold(), set()).add(label)
    unique = {name: labels.pop() for name, labels in found.items() if len(labels) == 1}
    return {**unique, **{label.casefold(): label for label in reversed(classes.labels)}}
