"""Experiments as files of this machine, wherever they are.

    folder = local_experiments(config.experiment, config.remote, ["exp_003"])
    oof = pl.read_parquet(folder / "preds/exp_003/oof.parquet")
    entries = local_entries(["s3://birds/experiments/exp_003/fold_0"], config.experiment, remote)

Those of a bucket are brought into `experiment.cache`; what is there already is not read again.
"""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from storage.errors import ConfigError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.urls import is_remote
from training.experiments.bucket import CONFIGS, ExperimentBucket, Wanted
from training.experiments.experiment import ExperimentConfig, is_fact

ENTRY = re.compile(r"(?P<name>exp_\d+)(?:/(?P<file>fold_\d+))?")
IN_BUCKET = re.compile(rf"(?P<root>\w+://.+)/{ENTRY.pattern}")
FILE_IN_BUCKET = re.compile(r"(?P<root>\w+://.+)/(?P<path>(weights|preds)/(?P<name>exp_\d+)/[^/]+)")
FACTS_IN_FLIGHT = 8  # experiments


def is_prediction(path: str) -> bool:
    """True for what is listed, and the tables and pictures of predictions."""
    return is_fact(path) or path.startswith("preds/")


def is_weight(path: str) -> bool:
    """True for the weights of folds that are done."""
    return path.startswith("weights/") and path.count("/") == 2


def local_experiments(
    config: ExperimentConfig,
    remote: RemoteConfig = DEFAULT,
    names: Iterable[str] = (),
    wanted: Wanted = is_prediction,
) -> Path:
    """Folder with weights/, preds/ and configs/ of experiments: the root, or a copy.

    `wanted`: paths of the files that are needed. Raises ConfigError on an experiment that is not in
    the bucket.
    """
    folder = config.read_folder
    if config.is_remote:
        bucket = ExperimentBucket(config.root, remote)
        for name in dict.fromkeys(names):
            bucket.fetch(name, folder, wanted)
    return folder


def local_listing(config: ExperimentConfig, remote: RemoteConfig = DEFAULT) -> Path:
    """Folder with settings, mark and scores of all experiments: the root, or a copy."""
    folder = config.read_folder
    if not config.is_remote:
        return folder
    bucket = ExperimentBucket(config.root, remote)
    names = bucket.names()
    gone = {path.name.lstrip(".") for path in (folder / CONFIGS).glob(".exp_*")} - {*names}
    with ThreadPoolExecutor(FACTS_IN_FLIGHT) as threads:
        list(threads.map(lambda name: bucket.fetch(name, folder, is_fact), names))
    for name in names:
        (folder / CONFIGS / f".{name}").touch()  # one that has a number, and no files yet
    for name in gone:
        (folder / CONFIGS / f".{name}").unlink()
    return folder


def local_entries(
    entries: Sequence[str], config: ExperimentConfig, remote: RemoteConfig = DEFAULT
) -> list[str]:
    """The entries of a key such as predict.from, with files of this machine in place of URLs.

    An entry may be the URL of an experiment in any bucket, s3://birds/experiments/exp_003, of a
    fold, with /fold_0 after it, or of a file, as in s3://birds/experiments/preds/exp_003/oof.parquet.
    Names alone are of `experiment.root`. Raises ConfigError on what is not in a bucket.
    """
    return [_local_entry(entry, config, remote) for entry in entries]


def _local_entry(entry: str, config: ExperimentConfig, remote: RemoteConfig) -> str:
    if named := ENTRY.fullmatch(entry):
        local_experiments(config, remote, [named["name"]], is_weight)
        return entry
    if not is_remote(entry):
        return entry
    if file := FILE_IN_BUCKET.fullmatch(entry):
        place, name, path = replace(config, root=file["root"]), file["name"], file["path"]
        folder = local_experiments(place, remote, [name], lambda other: other == path)
        found = sorted(folder.glob(path))
        there: list[Path] = []
    elif weights := IN_BUCKET.fullmatch(entry):
        place, name = replace(config, root=weights["root"]), weights["name"]
        folder = local_experiments(place, remote, [name], is_weight) / "weights" / name
        there = sorted(folder.glob("*"))
        found = sorted(folder.glob(f"{weights['file']}.*")) if weights["file"] else [folder]
    else:
        raise ConfigError(
            f"{entry} is no experiment in a bucket, nor of one: give a URL such as "
            "s3://birds/experiments/exp_003 or .../exp_003/fold_0, or a file of this machine"
        )
    if not found or not found[0].exists():
        names = ", ".join(path.stem for path in there)
        raise ConfigError(f"{entry} is not there{f'; there are {names}' if names else ''}")
    return str(found[0])
