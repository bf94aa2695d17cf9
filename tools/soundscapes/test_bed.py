"""Writes a test bed: focal recordings, mixed soundscapes, their labels, and the hidden truth.

focal/                     train_audio/, train.csv, taxonomy.csv: to learn from
pool/                      soundscapes without labels
labelled/                  soundscapes of which labelled_segments.csv has the labels
test/                      soundscapes of the hidden test
labelled_segments.csv      filename, start, end, labels
hidden/test_labels.csv     file, start_s, end_s, labels of each window, for tools.evaluate;
                           pool_labels.csv and labelled_labels.csv too
hidden/truth.csv           a row per call: role, times, label, level, recording
hidden/recordings.csv      role and group of each recording; backgrounds.csv of each background
mix.json                   the config
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from datasets.folds import COPIES
from storage.checksums import digest_json
from storage.errors import ConfigError
from storage.output_files import output_file
from storage.processes import Work, map_jobs
from storage.progress import Progress, silent
from storage.source.table import Source
from tools.soundscapes.config import FOCAL, LABELLED, MixConfig
from tools.soundscapes.render import MODULE, HeardCall, RenderJob, render
from tools.soundscapes.schedule import PlannedSoundscape, plan_soundscapes
from tools.soundscapes.split import split_backgrounds, split_recordings
from tools.soundscapes.tables import (
    focal_table,
    segment_table,
    summarise,
    truth_table,
    window_labels,
)

SETTINGS, TRUTH = "mix.json", "hidden/truth.csv"
TAXONOMY = ("scientific_name", "common_name", "class_name")  # columns of a class


def make_test_bed(config: MixConfig, progress: Progress = silent) -> str:
    """Writes the test bed and returns its summary; a complete folder of this config is kept.

    Equal configs and sources give equal bytes. Raises ConfigError where the folder holds something
    else.
    """
    config.check_given()
    root = config.root
    recordings, source = split_recordings(config)
    backgrounds = split_backgrounds(config, recordings)
    planned = plan_soundscapes(config, recordings, backgrounds)
    summary = summarise(recordings, planned)
    if _is_complete(root, config, _digest(recordings, backgrounds)):
        return f"{root} is complete\n{summary}"
    _write_focal(root / FOCAL, recordings.filter(pl.col("role") == FOCAL), source, config)
    calls = _render(planned, config, progress)
    for role in dict.fromkeys(one.role for one in planned):
        own = [one for one in planned if one.role == role]
        windows = window_labels(own, calls, config.window_s)
        _write(windows, root / "hidden" / f"{role}_labels.csv")
        if role == LABELLED:
            _write(segment_table(windows), root / "labelled_segments.csv")
    columns = ("primary_label", "filename", "role", "group")
    _write(recordings.select(columns), root / "hidden" / "recordings.csv")
    _write(backgrounds.select("name", "kind", "role", "group"), root / "hidden" / "backgrounds.csv")
    _write(truth_table(calls), root / TRUTH)
    return f"{root} written\n{summary}"


def _digest(recordings: pl.DataFrame, backgrounds: pl.DataFrame) -> str:
    """Digest of the bytes, names and roles of what a test bed is made from."""
    rows = [
        *recordings.select("filename", COPIES, "role").rows(),
        *backgrounds.select("name", COPIES, "role").rows(),
    ]
    return digest_json(rows)


def _is_complete(root: Path, config: MixConfig, sources: str) -> bool:
    """Checks the folder and leaves the config in it; True where all of it is there."""
    kept = {"out", "workers", "links"}  # which change no file
    given = {name: value for name, value in dataclasses.asdict(config).items() if name not in kept}
    text = json.dumps({**given, "sources": sources}, indent=1, sort_keys=True) + "\n"
    settings = root / SETTINGS
    if settings.exists():
        if settings.read_text(encoding="utf-8") != text:
            raise ConfigError(
                f"mix.out={root} is a test bed of another config or other recordings, see "
                f"{settings}: choose another"
            )
        return (root / TRUTH).exists()
    if root.exists() and any(root.iterdir()):
        raise ConfigError(f"mix.out={root} is not empty and no test bed: choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    settings.write_text(text, encoding="utf-8")
    return False


def _write_focal(folder: Path, recordings: pl.DataFrame, source: Source, config: MixConfig) -> None:
    """Copies or links the focal recordings, and writes their tables."""
    for name, path in recordings.select("filename", "path").iter_rows():
        target = folder / "train_audio" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if config.links:
            target.symlink_to(Path(path).resolve())
        else:
            shutil.copyfile(path, target)
    _write(focal_table(recordings, source.metadata), folder / "train.csv")
    classes = recordings["primary_label"].unique().sort()
    taxonomy = pl.DataFrame({"primary_label": classes})
    names = [name for name in TAXONOMY if name in source.metadata.columns]
    known = source.metadata.select("primary_label", *names).unique(
        "primary_label", keep="first", maintain_order=True
    )
    taxonomy = taxonomy.join(known, on="primary_label", how="left", maintain_order="left")
    _write(taxonomy, folder / "taxonomy.csv")


def _render(
    planned: Sequence[PlannedSoundscape], config: MixConfig, progress: Progress
) -> list[HeardCall]:
    """Writes the soundscapes; returns their calls, in the order of the plan."""
    jobs = {
        one.number: lambda one=one: RenderJob(plan=one, path=config.root / one.role / one.name)
        for one in planned
    }
    work = Work(run=render, module=MODULE, option="mix.workers")
    with progress("mix", len(planned), "soundscapes") as step:
        found = dict(map_jobs(work, jobs, config.workers, step))
    return [call for number in sorted(found) for call in found[number]]


def _write(table: pl.DataFrame, path: Path) -> None:
    with output_file(path) as file:
        table.write_csv(file)
