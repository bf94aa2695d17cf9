"""Groups of classes, such as genera: further label spaces for heads that learn with the first.

    groups = build_groups(("genus", "class_name"), labels.names, taxonomy_names(recordings))
    targets_BG = groups[0].targets(targets_BC)

The target of a group is the maximum of the targets of its classes. Shapes: B samples, C classes,
G groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from storage.errors import ConfigError

NO_GROUP = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Groups by one column of the taxonomy; `of_class` is the group of each class, or NO_GROUP."""

    column: str
    names: tuple[str, ...]
    of_class: tuple[int, ...]

    def targets(self, targets_BC: Tensor) -> Tensor:
        """Maximum over the classes of each group, [B, G].

        Unknown, NaN, where a class is unknown and no known one has 1. A class without a group
        takes no part.
        """
        count = len(self.names)
        places = [count if group == NO_GROUP else group for group in self.of_class]
        index_BC = torch.tensor(places, device=targets_BC.device).expand(len(targets_BC), -1)

        def largest(values_BC: Tensor) -> Tensor:
            zeros = values_BC.new_zeros(len(values_BC), count + 1)
            return zeros.scatter_reduce(1, index_BC, values_BC, "amax")[:, :count]

        found_BG = largest(targets_BC.nan_to_num(0.0))
        unknown_BG = largest(targets_BC.isnan().to(targets_BC.dtype)) > 0
        return found_BG.masked_fill(unknown_BG & (found_BG < 1), torch.nan)


def build_groups(
    columns: Sequence[str], labels: Sequence[str], names: Mapping[str, Mapping[str, str]]
) -> tuple[Groups, ...]:
    """Groups of the classes by each column; `names` as of `taxonomy_names`.

    A class of which the column is not known is in none. Raises ConfigError where a column has
    fewer than two groups.
    """
    found = []
    for column in columns:
        given = [names.get(label, {}).get(column) for label in labels]
        groups = tuple(sorted({name for name in given if name}))
        if len(groups) < 2:
            raise ConfigError(
                f"labels.groups names {column}, of which the {len(labels)} classes have "
                f"{', '.join(groups) or 'none'}: a head for it needs two groups; leave it out, or "
                "build the store with a taxonomy.csv that has the column"
            )
        place = {name: number for number, name in enumerate(groups)}
        of_class = tuple(place[name] if name else NO_GROUP for name in given)
        found.append(Groups(column=column, names=groups, of_class=of_class))
    return tuple(found)


def groups_to_plain(groups: Sequence[Groups]) -> list[dict[str, Any]]:
    """Groups as plain values, for a checkpoint."""
    return [
        {"column": one.column, "names": list(one.names), "of_class": list(one.of_class)}
        for one in groups
    ]


def parse_groups(values: Any, num_classes: int) -> tuple[Groups, ...]:
    """Groups from a checkpoint; none in those without. Raises TypeError and ValueError."""
    found = []
    for value in values or ():
        names, of_class = tuple(value["names"]), tuple(value["of_class"])
        texts = (value["column"], *names)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("the names of groups are no texts")
        fits = all(isinstance(one, int) and -1 <= one < len(names) for one in of_class)
        if len(of_class) != num_classes or not fits:
            raise ValueError("the groups are not those of the classes")
        found.append(Groups(column=value["column"], names=names, of_class=of_class))
    return tuple(found)


def num_groups(groups: Sequence[Groups]) -> int:
    """Number of the groups of all columns."""
    return sum(len(one.names) for one in groups)
