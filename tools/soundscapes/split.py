"""Shares recordings and backgrounds out to the roles of a test bed; none is in two of them.

    recordings, source = split_recordings(config)  # a table with columns group and role
    backgrounds = split_backgrounds(config, recordings)

Rules:
* Recordings of one group (same url; same author and label; equal bytes) have one role.
* Groups with a recording of several labels are focal: the labels of a mixed call must be exact.
* Each other group, the largest first, goes where its classes lack most of their wanted share, of
  equal ones to focal, test, pool, labelled: so four groups of a class are in four roles.
* A class needs recordings in focal and test; those without are left out of everything.
"""

from pathlib import Path

import numpy as np
import polars as pl

from datasets.folds import COPIES, group_numbers
from storage.checksums import digest_file
from storage.errors import ConfigError
from storage.objects.urls import is_remote
from storage.source.table import Source, SourceConfig, read_source
from tools.soundscapes.config import FOCAL, LABELLED, POOL, TEST, MixConfig

ORDER = (FOCAL, TEST, POOL, LABELLED)  # of roles that lack equally much


def split_recordings(config: MixConfig) -> tuple[pl.DataFrame, Source]:
    """Returns the recordings of the classes that are used, with role and group, and their source.

    Columns: recording_id, primary_label, secondary_labels, filename, path, content_hash, group,
    role; sorted by recording_id. Raises ConfigError where no class has enough recordings.
    """
    source = _open(config.recordings, "recordings", csv="auto")
    usable = source.recordings.filter(pl.col("reason").is_null()).drop("reason")
    large = pl.len().over("primary_label") >= config.min_recordings
    usable = with_digests(usable.filter(pl.col("primary_label").is_not_null(), large))
    groups = find_groups(usable, source.metadata_of(usable), config.group_by)
    several = usable["secondary_labels"].list.len().to_numpy() > 0
    in_several = np.isin(groups, np.unique(groups[several]))
    _, classes = np.unique(usable["primary_label"].to_numpy(), return_inverse=True)
    shares = config.shares()
    roles = assign_roles(
        classes.astype(np.int64),
        groups,
        {role: shares[role] for role in ORDER if shares[role]},
        seed=config.seed,
        first=in_several,
    )
    split = usable.with_columns(pl.Series("group", groups), pl.Series("role", roles))
    both = [pl.col("role").eq(role).any().over("primary_label") for role in (FOCAL, TEST)]
    split = split.filter(*both)
    if split.is_empty():
        raise ConfigError(
            f"mix.recordings={config.recordings}: none of {usable['primary_label'].n_unique()} "
            f"classes with {config.min_recordings} recordings or more has groups for focal and "
            "test: lower mix.min_recordings, or set mix.group_by"
        )
    for role in config.shares():
        if config.has(role) and role not in split["role"]:
            raise ConfigError(
                f"mix.{role}={config.num_soundscapes(role)}: {split['group'].n_unique()} groups of "
                f"recordings leave none for it: set mix.{role}=0, or name more recordings"
            )
    return split, source


def split_backgrounds(config: MixConfig, recordings: pl.DataFrame) -> pl.DataFrame:
    """Returns the backgrounds: name, path, kind, group, role; `recordings` may not be among them.

    Those of a kind (a folder, or a label in it) are shared out by the number of soundscapes.
    """
    frames = [_list_backgrounds(folder, config.background_labels) for folder in config.backgrounds]
    listed = pl.concat(frames)
    shared = listed.filter(pl.col(COPIES).is_in(recordings[COPIES].implode()))
    if len(shared):
        raise ConfigError(
            f"{shared['path'][0]} is a background and, byte for byte, a recording of "
            f"{config.recordings}: take it out of one of the two"
        )
    counts = {role: config.num_soundscapes(role) for role in (TEST, POOL, LABELLED)}
    used = {role: float(count) for role, count in counts.items() if count}
    _, kinds = np.unique(listed["kind"].to_numpy(), return_inverse=True)
    groups = listed["group"].rank("dense").cast(pl.Int64).to_numpy() - 1
    roles = assign_roles(kinds.astype(np.int64), groups, used, seed=config.seed)
    found = listed.with_columns(pl.Series("group", groups), pl.Series("role", roles))
    for role in used:
        if role not in roles:
            raise ConfigError(
                f"mix.backgrounds: {len(np.unique(groups))} groups of backgrounds are too few for "
                f"{', '.join(used)}, which share none: name more folders"
            )
    return found


def assign_roles(
    classes: np.ndarray,
    groups: np.ndarray,
    shares: dict[str, float],
    *,
    seed: int,
    first: np.ndarray | None = None,
) -> list[str]:
    """Returns the role of each item, all items of a group alike; see the rules above.

    classes, groups int64 [n], counted from 0; `first` bool [n]: those of the first role.
    """
    wanted = np.outer(list(shares.values()), np.bincount(classes)) / sum(shares.values())
    held = np.zeros_like(wanted)
    counts = np.zeros((int(groups.max(initial=-1)) + 1, wanted.shape[1]))
    np.add.at(counts, (groups, classes), 1)
    drawn = np.random.default_rng([seed, 1]).permutation(len(counts))
    order = drawn[np.argsort(-counts[drawn].sum(axis=1), kind="stable")]
    fixed = np.zeros(len(counts), bool)
    if first is not None:
        fixed[groups[first]] = True
    role_of = np.zeros(len(counts), np.int64)
    for group in [*order[fixed[order]], *order[~fixed[order]]]:
        lacking = (wanted - held) / np.maximum(wanted, 1e-9)
        role_of[group] = 0 if fixed[group] else np.argmax(lacking @ counts[group])
        held[role_of[group]] += counts[group]
    names = list(shares)
    return [names[number] for number in role_of[groups].tolist()]


def find_groups(recordings: pl.DataFrame, metadata: pl.DataFrame, group_by: str) -> np.ndarray:
    """Returns the group of each recording, int64 [n]: of one column, or by the rules above."""
    columns = metadata.filter(metadata["recording_id"].is_first_distinct())
    named = recordings.select("recording_id", COPIES).join(
        columns, on="recording_id", how="left", maintain_order="left"
    )
    if group_by == "auto":  # an author's recordings of a species, wherever they were made
        place = pl.lit("0")
        named = named.with_columns(latitude=place, longitude=place)
    return group_numbers(named, group_by)


def with_digests(recordings: pl.DataFrame) -> pl.DataFrame:
    """Adds the digest of each file, of which equal ones are copies."""
    digests = [digest_file(Path(path)) for path in recordings["path"]]
    return recordings.with_columns(pl.Series(COPIES, digests, pl.String))


def _list_backgrounds(folder: str, labels: list[str]) -> pl.DataFrame:
    """Lists the backgrounds in a folder: name, path, kind, group (its text), content_hash."""
    has_table = (Path(folder) / "train.csv").is_file()
    source = _open(folder, "backgrounds", csv="auto" if has_table else "none")
    usable = source.recordings.filter(pl.col("reason").is_null())
    if has_table and labels:
        usable = usable.filter(pl.col("primary_label").is_in(labels))
    usable = with_digests(usable)
    if usable.is_empty():
        raise ConfigError(
            f"mix.backgrounds: {folder} has no recording"
            + (f" of mix.background_labels={labels}" if has_table and labels else "")
        )
    groups = find_groups(usable, source.metadata_of(usable), "auto")
    return usable.select(
        pl.col("filename").alias("name"),
        "path",
        pl.concat_str(pl.lit(f"{folder}:"), pl.col("primary_label").fill_null("")).alias("kind"),
        pl.Series("group", [f"{folder}:{group:06d}" for group in groups]),
        COPIES,
    )


def _open(folder: str, key: str, *, csv: str) -> Source:
    if is_remote(folder):
        raise ConfigError(f"mix.{key}={folder} must be a folder of this machine: fetch it first")
    return read_source(SourceConfig(root=folder, csv=csv))
