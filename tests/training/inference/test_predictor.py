"""Predictions of whole runs: agreement with training's own, resuming, and what decides a result."""

import errno
import filecmp
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import plan_all
from storage.audio import decode
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import ConfigError, StoreError
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.predicting import LABELS, RECIPE, write_checkpoint, write_recordings
from training.inference import predictor
from training.inference.config import PredictConfig
from training.inference.model_files import find_models
from training.inference.predictor import PredictionSummary, predict_recordings
from training.inference.reading.inputs import list_inputs
from training.inference.results import Results
from training.model.checkpoints import read_checkpoint
from training.model.predict import predict

SECONDS = (2.5, 0.4, 7.3, 4.0)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of three folds, and recordings of which one is bad."""
    root = tmp_path_factory.mktemp("lab")
    for fold in (0, 2, 3):
        write_checkpoint(root / "weights" / "exp_001" / f"fold_{fold}.ckpt", seed=fold)
    write_recordings(root / "sounds", SECONDS)
    (root / "sounds" / "02b.wav").write_bytes(b"no sound")
    return root


def run(lab: Path, out: Path, given: str = "exp_001", **options: object) -> PredictionSummary:
    basic = {"input": [str(lab / "sounds")], "workers": 0, "threads": 1, "accelerator": "cpu"}
    basic["batch_size"] = 4
    config = PredictConfig(from_=given.split(","), out=str(out), **{**basic, **options})
    inputs = list_inputs(config.input, limit=config.limit)
    return predict_recordings(config, find_models(config.from_, lab), inputs)


def raw_files(out: Path) -> list[Path]:
    return sorted(path.relative_to(out) for path in (out / "raw").rglob("*.*"))


def assert_same(out: Path, other: Path) -> None:
    """Two folders have the same raw results, to the byte."""
    names = raw_files(out)
    assert names == raw_files(other)
    _, *different = filecmp.cmpfiles(out, other, names, shallow=False)
    assert different == [[], []]


@pytest.fixture(scope="module")
def done(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of an undisturbed run."""
    out = tmp_path_factory.mktemp("done") / "new"
    run(lab, out)
    return out


def test_every_recording_is_there_in_order_or_rejected(done: Path) -> None:
    results = Results(done)
    found = list(results.iterate())
    assert [raw.recording.recording_id for raw in found] == ["00", "01", "02", "03"]
    assert [len(raw.start_s) for raw in found] == [3, 1, 7, 4]
    assert [one.recording_id for one in results.rejects()] == ["02b"]
    assert results.classes().labels == LABELS
    for raw in found:
        assert raw.probabilities.shape == (1, len(raw.start_s), 3)
        assert raw.start_s.tolist() == list(range(len(raw.start_s)))
        assert np.array_equal(raw.end_s, raw.start_s + 1)


def test_an_experiment_is_the_mean_of_its_folds(lab: Path, done: Path, tmp_path: Path) -> None:
    run(lab, tmp_path / "new", "exp_001/fold_0,exp_001/fold_2,exp_001/fold_3")
    apart = Results(tmp_path / "new")
    assert apart.branches() == ("exp_001/fold_0", "exp_001/fold_2", "exp_001/fold_3")
    for raw, mean in zip(apart.iterate(), Results(done).iterate(), strict=True):
        assert raw.probabilities.shape[0] == 3
        np.testing.assert_allclose(raw.probabilities.mean(0), mean.probabilities[0], atol=1e-6)


@pytest.mark.parametrize("workers", [2])
def test_workers_do_not_change_a_byte(workers: int, lab: Path, done: Path, tmp_path: Path) -> None:
    run(lab, tmp_path / "new", workers=workers)
    assert_same(done, tmp_path / "new")


@pytest.mark.parametrize("batch_size", [1, 32])
def test_the_batch_size_is_free(batch_size: int, lab: Path, done: Path, tmp_path: Path) -> None:
    run(lab, tmp_path / "new", batch_size=batch_size)
    for raw, other in zip(
        Results(tmp_path / "new").iterate(), Results(done).iterate(), strict=True
    ):
        np.testing.assert_allclose(raw.probabilities, other.probabilities, rtol=0, atol=1e-6)


def test_five_models_of_one_recipe_cost_one_decoding(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    read = decode.Decoder._read
    monkeypatch.setattr(
        decode.Decoder, "_read", lambda self, *given: opened.append(1) or read(self, *given)
    )
    run(lab, tmp_path / "new", "exp_001,exp_001/fold_0,exp_001/fold_2")
    assert len(opened) == len(SECONDS)


class StoppedError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("num_commits", [0, 1, 3])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    num_commits: int, lab: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left, write = tmp_path / "new", [1] * num_commits, Results.write

    def write_some(self: Results, *given: object) -> None:
        if not left:
            raise StoppedError
        left.pop()
        write(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(predictor.Results, "write", write_some)
        with pytest.raises(StoppedError):
            run(lab, out)
    summary = run(lab, out)
    assert summary.num_recordings == 5
    assert_same(done, out)
    assert run(lab, out).num_done_before == 5


def test_windows_of_a_store_agree_with_the_predictions_of_training(
    lab: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, slice_step_s=0.5, tail_min_s=0.1)
    url = str(tmp_path / "store")
    config = SourceConfig(root=str(lab / "sounds"), csv="none")
    build_store(config, recipe, url, BuildConfig(workers=1))
    run(lab, tmp_path / "new", "exp_001/fold_0", input=[url], batch_size=7)
    trained = read_checkpoint(lab / "weights/exp_001/fold_0.ckpt")
    with open_store(url) as store:
        plan = plan_all(store.recordings())
        reader = BatchReader(
            store, lambda _: plan, LoaderConfig(batch_size=3), targets=None, train=False
        )
        expected = predict(trained.model, reader, output="sigmoid")
        ids = store.recordings()["recording_id"]
    assert set(ids) == {"00", "01", "02", "03"}
    for raw in Results(tmp_path / "new").iterate():
        own = expected.recording_no == ids.to_list().index(raw.recording.recording_id)
        np.testing.assert_allclose(
            raw.probabilities[0], expected.probabilities[own], rtol=0, atol=1e-4
        )
    run(lab, tmp_path / "audio", "exp_001/fold_0", step_s=0.5)
    for raw, other in zip(
        Results(tmp_path / "new").iterate(), Results(tmp_path / "audio").iterate(), strict=True
    ):
        shared = min(len(raw.start_s), len(other.start_s))  # another shortest tail
        assert np.array_equal(raw.start_s[:shared], other.start_s[:shared])
        np.testing.assert_allclose(
            raw.probabilities[:, :shared], other.probabilities[:, :shared], rtol=0, atol=1e-6
        )


def test_a_store_of_another_recipe_is_refused_with_the_keys(lab: Path, tmp_path: Path) -> None:
    config = SourceConfig(root=str(lab / "sounds"), csv="none")
    recipe = replace(RECIPE, n_mels=8)
    build_store(config, recipe, str(tmp_path / "store"), BuildConfig(workers=1))
    with pytest.raises(ConfigError, match=r"recipe\.n_mels is 16 there, 8 here"):
        run(lab, tmp_path / "new", input=[str(tmp_path / "store")])


def test_models_of_several_recipes_and_lengths_go_together(
    lab: Path, done: Path, tmp_path: Path
) -> None:
    other = replace(RECIPE, sample_rate_hz=2000, fmax_hz=1000, slice_s=2.0, n_mels=8)
    file = write_checkpoint(tmp_path / "long.ckpt", recipe=other)
    short = write_checkpoint(tmp_path / "short.ckpt", recipe=replace(RECIPE, slice_s=0.4))
    run(lab, tmp_path / "new", f"exp_001,{file},{short}")
    for raw, alone in zip(
        Results(tmp_path / "new").iterate(), Results(done).iterate(), strict=True
    ):
        assert np.array_equal(raw.probabilities[:1], alone.probabilities)
        assert np.isfinite(raw.probabilities).all()


def test_label_lists_are_refused_or_united(lab: Path, done: Path, tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "other.ckpt", labels=("c", "d"))
    with pytest.raises(ConfigError, match="only the first has a, b; only the second has d"):
        run(lab, tmp_path / "new", f"exp_001,{file}")
    run(lab, tmp_path / "new", f"exp_001,{file}", labels="union")
    results = Results(tmp_path / "new")
    assert results.classes().labels == ("a", "b", "c", "d")
    for raw, alone in zip(results.iterate(), Results(done).iterate(), strict=True):
        first, second = np.isnan(raw.probabilities).all(axis=1)
        assert (first.tolist(), second.tolist()) == ([0, 0, 0, 1], [1, 1, 0, 0])
        assert np.array_equal(raw.probabilities[0, :, :3], alone.probabilities[0])


CHANGES = [
    ({"step_s": 0.5}, "windows.step_s was 1.0, is 0.5"),
    ({"given": "exp_001/fold_0"}, "exp_001: fold_2.ckpt is gone"),
    ({"channel": "left"}, "channel was mean, is left"),
    ({"limit": 2}, "01 is gone"),
    ({"precision": "bf16-mixed"}, "precision was 32-true, is bf16-mixed"),
]


@pytest.mark.parametrize(("options", "message"), CHANGES, ids=lambda value: str(value)[:30])
def test_a_changed_run_is_refused_with_the_difference(
    options: dict, message: str, lab: Path, done: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(lab, done, **options)


def test_a_changed_model_or_file_is_noticed(lab: Path, tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "one.ckpt", seed=1)
    sounds = write_recordings(tmp_path / "sounds", [1.0])
    options = {"given": str(file), "input": [str(sounds)]}
    run(lab, tmp_path / "new", **options)
    write_checkpoint(file, seed=2)
    with pytest.raises(ConfigError, match=r"one\.ckpt: one\.ckpt was sha256"):
        run(lab, tmp_path / "new", **options)
    write_checkpoint(file, seed=1)
    write_recordings(sounds, [2.0])
    with pytest.raises(ConfigError, match=r"00 was .* bytes"):
        run(lab, tmp_path / "new", **options)


def test_two_runs_do_not_share_a_folder(lab: Path, done: Path) -> None:
    with Results(done).lock(), pytest.raises(StoreError, match="another prediction is at work"):
        run(lab, done)


def test_damaged_results_end_in_a_sentence(lab: Path, tmp_path: Path) -> None:
    run(lab, tmp_path / "new")
    file = tmp_path / "new/raw/000/000001.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(StoreError, match="is damaged: delete it"):
        list(Results(tmp_path / "new").iterate())
    file.unlink()
    with pytest.raises(StoreError, match=r"run tools\.predict again"):
        list(Results(tmp_path / "new").iterate())
    run(lab, tmp_path / "new")
    assert len(list(Results(tmp_path / "new").iterate())) == 4


def test_threads_of_torch_are_as_before(lab: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    run(lab, tmp_path / "new", threads=before + 1)
    assert torch.get_num_threads() == before
    assert pl.read_parquet(tmp_path / "new/raw/000/000000.parquet").columns[3:] == [
        "b0_a",
        "b0_b",
        "b0_c",
    ]


@pytest.mark.slow
def test_problem_files_become_rejects_and_all_others_are_predicted(
    lab: Path, tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    summary = run(lab, tmp_path / "new", input=[str(real_data("nasty"))], batch_size=32)
    assert (summary.num_recordings, summary.num_rejects) == (33, 8)  # one has 5 samples
    results = Results(tmp_path / "new")
    partial = [one.recording_id[:2] for one in results.recordings() if one.problem]
    assert partial == ["02", "04", "25", "27"]
    for raw in results.iterate():
        assert np.isfinite(raw.probabilities).all()
        assert len(raw.start_s) >= max(1, int(raw.recording.duration_s))
    silent = {raw.recording.recording_id[:2] for raw in results.iterate() if raw.silent.all()}
    assert {"13", "14"} <= silent


def test_what_the_machine_lacks_ends_the_run_and_rejects_no_file(
    lab: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(path: Path, **_: object) -> object:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(decode, "examine", examine)
        with pytest.raises(StoreError, match=r"Too many open files: no fault of the file"):
            run(lab, tmp_path / "out", workers=0)
    run(lab, tmp_path / "out", workers=0)
    assert_same(tmp_path / "out", done)
