"""Experiments in a bucket: numbers, states, kills between two requests, two processes at once."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from storage.errors import ConfigError, DamageError, StoreError
from storage.objects.open import open_objects
from tests.s3_server import S3
from training.experiments import bucket as module
from training.experiments import experiment as experiments
from training.experiments.bucket import ExperimentBucket
from training.experiments.bucket_copy import BucketCopy
from training.experiments.experiment import (
    Experiment,
    ExperimentConfig,
    find_experiment,
    guard_experiment,
    share_experiment,
    take_experiment,
)
from training.experiments.jobs import begun_by, note_job
from training.experiments.listing import list_experiments
from training.experiments.places import is_weight, local_entries, local_experiments, local_listing
from training.experiments.settings import write_settings

NAME = "exp_001"
CHECKPOINT = "weights/exp_001/.fold_0/resume_step.ckpt"


@pytest.fixture
def bucket(tmp_path: Path) -> ExperimentBucket:
    """A folder, which has the same interface as a bucket, and in which a number is taken."""
    bucket = ExperimentBucket(str(tmp_path / "bucket"))
    assert bucket.create(NAME)
    return bucket


Node = Callable[[str], BucketCopy]


@pytest.fixture
def node(bucket: ExperimentBucket, tmp_path: Path) -> Node:
    """Starts to work on the experiment, on a node of that name."""

    def start(name: str) -> BucketCopy:
        copy = BucketCopy(ExperimentBucket(bucket.url), NAME, tmp_path / name)
        copy.restore()
        return copy

    return start


def write(copy: BucketCopy, **files: bytes) -> None:
    """Writes files below the experiment's weights; `fold_0` is its checkpoint."""
    for name, data in files.items():
        path = copy.folder / f"weights/exp_001/.{name}/resume_step.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def objects_of(bucket: ExperimentBucket) -> list[str]:
    return [*bucket.objects.walk()]


def test_what_one_node_publishes_another_one_has(bucket: ExperimentBucket, node: Node) -> None:
    first = node("a")
    write(first, fold_0=b"one", fold_1=b"two")
    first.publish()
    write(first, fold_0=b"three")
    (first.folder / "weights/exp_001/.fold_1/resume_step.ckpt").unlink()
    first.publish()
    second = node("b")
    assert (second.folder / CHECKPOINT).read_bytes() == b"three"
    assert not (second.folder / "weights/exp_001/.fold_1/resume_step.ckpt").exists()
    kept = [name for name in objects_of(bucket) if name.startswith("weights/")]
    assert len(kept) == 1  # what no state needs is deleted
    assert kept[0].startswith("weights/exp_001/fold_0/resume_step.ckpt.")


def test_files_that_have_not_changed_are_not_put_again(
    bucket: ExperimentBucket, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = node("a")
    write(copy, fold_0=b"one", fold_1=b"two")
    copy.publish()
    put: list[str] = []
    usual = ExperimentBucket.put

    def put_noted(self, path, *rest):
        put.append(path)
        return usual(self, path, *rest)

    monkeypatch.setattr(ExperimentBucket, "put", put_noted)
    write(copy, fold_1=b"other")
    copy.publish()
    assert put == ["weights/exp_001/.fold_1/resume_step.ckpt"]


def test_large_files_are_put_in_pieces(
    bucket: ExperimentBucket, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CREATED_BYTES", 3)
    copy = node("a")
    write(copy, fold_0=b"large")
    copy.publish()
    assert (node("b").folder / CHECKPOINT).read_bytes() == b"large"
    (place,) = [name for name in objects_of(bucket) if name.startswith("weights/")]
    assert place.startswith("weights/exp_001/fold_0/resume_step.ckpt.")


class Killed(BaseException):
    """Stands for the end of a process."""


@pytest.mark.parametrize("last", range(6))
def test_a_kill_before_any_request_leaves_the_last_complete_state(
    bucket: ExperimentBucket, node: Node, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    copy = node("a")
    write(copy, fold_0=b"one", fold_1=b"one")
    copy.publish()
    write(copy, fold_0=b"two", fold_1=b"two")
    requests = 0

    def counted(usual):
        def request(*arguments):
            nonlocal requests
            requests += 1
            if requests > last:
                raise Killed
            return usual(*arguments)

        return request

    objects = copy.bucket.objects
    for name in ("put_new", "delete"):
        monkeypatch.setattr(objects, name, counted(getattr(objects, name)))
    with suppress(Killed):
        copy.publish()
    again = node("b")
    files = sorted(again.folder.rglob("*.ckpt"))
    contents = {path.read_bytes() for path in files}
    assert len(files) == 2
    assert contents == ({b"one"} if last < 3 else {b"two"})
    write(again, fold_0=b"three", fold_1=b"three")
    again.publish()
    assert {path.read_bytes() for path in node("c").folder.rglob("*.ckpt")} == {b"three"}
    again.publish()
    weights = [name for name in objects_of(bucket) if name.startswith("weights/")]
    assert len(weights) == 2  # nothing is left of the killed process
    assert len([name for name in objects_of(bucket) if name.startswith("states/")]) == 2


def test_of_two_processes_at_work_the_later_one_goes_on(
    bucket: ExperimentBucket, node: Node
) -> None:
    first = node("a")
    write(first, fold_0=b"one")
    first.publish()
    second = node("b")
    second.publish()
    write(first, fold_0=b"of the first")
    with pytest.raises(ConfigError, match=r"exp_001 in .* is trained by another process"):
        first.publish()
    second.publish()
    assert (node("c").folder / CHECKPOINT).read_bytes() == b"one"


def test_a_process_that_is_suspended_after_its_state_deletes_nothing_of_the_next_one(
    bucket: ExperimentBucket, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, sweep = node("a"), ExperimentBucket.sweep
    write(first, fold_0=b"one")

    def late(bucket: ExperimentBucket, *arguments: Any) -> None:
        monkeypatch.undo()
        second = node("b")
        write(second, fold_0=b"two")
        second.publish()
        sweep(bucket, *arguments)

    monkeypatch.setattr(ExperimentBucket, "sweep", late)
    first.publish()
    assert (node("c").folder / CHECKPOINT).read_bytes() == b"two"


def test_of_two_at_the_same_instant_one_gets_the_state(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [node("a"), node("b")]
    monkeypatch.setattr(ExperimentBucket, "_numbers", lambda *_: [0])  # neither sees the other

    def publish(copy: BucketCopy) -> bool:
        try:
            copy.publish()
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(publish, both)) == [False, True]


def test_damaged_files_are_named(bucket: ExperimentBucket, node: Node) -> None:
    copy = node("a")
    write(copy, fold_0=b"one")
    copy.publish()
    (place,) = [name for name in objects_of(bucket) if name.startswith("weights/")]
    bucket.objects.put(place, b"eno")
    with pytest.raises(DamageError, match=r"resume_step\.ckpt differs from its sha256"):
        node("b")
    bucket.objects.delete(place)
    with pytest.raises(StoreError, match="resume_step"):
        node("b")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("weights/exp_001/../../../key", "no plain name"),
        ("weights/exp_002/fold_0.ckpt", "is no file of exp_001"),
        ("configs/exp_002.yaml", "is no file of exp_001"),
    ],
)
def test_a_forged_state_writes_nothing_elsewhere(
    bucket: ExperimentBucket, node: Node, path: str, problem: str
) -> None:
    entry = {"object": "x", "size_bytes": 1, "sha256": "0" * 64}
    document = json.dumps({"files": {path: entry}}).encode()
    bucket.objects.put("states/exp_001/000001.json", document)
    with pytest.raises(DamageError, match=problem):
        node("a")


@pytest.fixture
def config(s3: S3, tmp_path: Path) -> ExperimentConfig:
    return ExperimentConfig(root=s3.url("experiments"), cache=str(tmp_path / "node-1"))


def elsewhere(config: ExperimentConfig, tmp_path: Path) -> ExperimentConfig:
    """The same bucket on another machine."""
    return ExperimentConfig(root=config.root, cache=str(tmp_path / "node-2"))


def write_and_end(experiment: Experiment, error: BaseException, file: str = "fold_0.ckpt") -> None:
    """Does what a training does before it ends by an error."""
    write_settings(experiment, {"seed": 3})
    if file:
        (experiment.weights / file).write_bytes(b"weights")
    experiment.share()
    raise error


def test_starts_at_the_same_moment_get_different_numbers(config: ExperimentConfig) -> None:
    with ThreadPoolExecutor(6) as threads:
        taken = sorted(threads.map(lambda _: take_experiment(config).name, range(6)))
    assert taken == [f"exp_{number:03d}" for number in range(1, 7)]


def test_what_was_copied_into_a_bucket_by_hand_takes_its_number(config: ExperimentConfig) -> None:
    open_objects(config.root).put("preds/exp_041/oof.parquet", b"predictions")
    assert take_experiment(config).name == "exp_042"


def test_an_experiment_is_found_listed_and_read_on_another_machine(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    experiment = take_experiment(config)
    note_job(config, "slurm-4711-0", NAME)
    with pytest.raises(KeyboardInterrupt), guard_experiment(experiment):
        write_and_end(experiment, KeyboardInterrupt())
    there = elsewhere(config, tmp_path)
    assert begun_by(there, "slurm-4711-0", {"seed": 3}) == NAME
    assert begun_by(there, "slurm-4711-0", {"seed": 4}) == ""
    (record,) = list_experiments(local_listing(there))
    assert (record.name, record.status, record.config) == (NAME, "unfinished", {"seed": 3})
    folder = local_experiments(there, names=[NAME], wanted=is_weight)
    assert (folder / "weights/exp_001/fold_0.ckpt").read_bytes() == b"weights"
    other = ExperimentConfig(cache=there.cache)  # whose root is a folder
    path = f"{config.root}/weights/exp_001/fold_0.ckpt"
    entries = [f"{config.root}/exp_001/fold_0", f"{config.root}/exp_001", path, "model.onnx"]
    fold, all_folds, same, file = local_entries(entries, other)
    assert same == fold
    assert Path(fold).read_bytes() == b"weights"
    assert [path.name for path in Path(all_folds).iterdir()] == ["fold_0.ckpt"]
    assert file == "model.onnx"
    for entry, problem in {
        f"{config.root}/exp_002": "there is no experiment exp_002",
        f"{config.root}/exp_001/fold_7": "exp_001/fold_7 is not there; there are fold_0",
        f"{config.root}/preds/exp_001/oof.parquet": "oof.parquet is not there",
        f"{config.root}/weights": "is no experiment in a bucket",
    }.items():
        with pytest.raises(ConfigError, match=problem):
            local_entries([entry], other)


def test_a_failure_is_known_elsewhere_and_gone_on_with(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    experiment = take_experiment(config)
    with pytest.raises(ValueError, match="rough"), guard_experiment(experiment):
        write_and_end(experiment, ValueError("the sea is rough"))
    there = elsewhere(config, tmp_path)
    (record,) = list_experiments(local_listing(there))
    assert (record.status, record.reason[:32]) == ("failed", "ValueError: the sea is rough; af")
    again = find_experiment(there, NAME)
    with guard_experiment(again, resumed=True):
        assert (again.weights / "fold_0.ckpt").read_bytes() == b"weights"
        again.share()
    assert list_experiments(local_listing(config))[0].status == "unfinished"


def test_what_has_no_weights_leaves_its_number(config: ExperimentConfig, tmp_path: Path) -> None:
    experiment = take_experiment(config)
    with pytest.raises(ValueError, match="rough"), guard_experiment(experiment):
        write_and_end(experiment, ValueError("the sea is rough"), file="")
    with pytest.raises(ConfigError, match=r"failed: ValueError: the sea is rough; nothing of it"):
        find_experiment(elsewhere(config, tmp_path), NAME)
    with pytest.raises(ConfigError, match="there is no such experiment in s3://"):
        find_experiment(config, "exp_002")
    assert take_experiment(config).name == "exp_002"


def test_nothing_of_an_earlier_bucket_is_left_in_the_working_folder(
    config: ExperimentConfig, s3: S3
) -> None:
    for _ in range(2):
        experiment = take_experiment(config)
        with guard_experiment(experiment):
            assert not list(experiment.weights.glob("*"))
            (experiment.weights / "fold_0.ckpt").write_bytes(b"weights")
            experiment.publish()
        bucket = open_objects(config.root)
        for name in bucket.walk():
            bucket.delete(name)


def test_a_node_that_cannot_reach_the_bucket_ends_all(
    config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(experiments.SHARED_NAME, "")
    experiment = share_experiment(config)
    monkeypatch.setattr(experiments, "is_joined", lambda: True)
    said = iter([[""], ["", "node-2 has no credentials"]])
    monkeypatch.setattr(experiments, "gather_lists", lambda _: next(said))
    with pytest.raises(StoreError, match="node-2 has no credentials"):
        experiment.share()


def test_two_readers_of_one_machine_fetch_once(
    bucket: ExperimentBucket, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = node("a")
    write(copy, fold_0=b"one")
    copy.publish()
    monkeypatch.setattr(module, "LOCK_PATIENCE_S", 10.0)
    with ThreadPoolExecutor(2) as threads:
        reads = [
            threads.submit(bucket.fetch, NAME, tmp_path / "read", lambda _: True) for _ in range(2)
        ]
        states = [read.result() for read in reads]
    assert states[0] == states[1]
    assert (tmp_path / "read" / CHECKPOINT).read_bytes() == b"one"
