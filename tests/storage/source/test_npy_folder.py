"""Slices go out to .npy files and come back, and nothing that is no slice comes in."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tools.export_npy
import tools.import_npy
from datasets.augment.pipeline import AugmentConfig
from datasets.folds import FoldConfig
from datasets.loading.reader import LoaderConfig
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.build.report import BuildReport
from storage.encoding import to_unit
from storage.errors import ConfigError
from storage.maintenance.npy_export import NpyExportConfig, export_npy
from storage.maintenance.repair import repair_store
from storage.maintenance.verify import verify_store
from storage.recipe import Recipe
from storage.source.npy_folder import foreign_recipe
from storage.source.table import SourceConfig
from storage.store import Store, open_store
from tests.fakes import SMALL, FakeSource, write_fake_source
from tests.learnable import write_learnable_source
from tests.paths import ROOT
from tests.sounds import write_source
from tests.storage.build.test_build import bytes_of, identities
from tools.cli.command import run
from training.config import TrainingConfig
from training.cross_validation import train_folds
from training.experiments.experiment import ExperimentConfig
from training.model.models import ModelConfig
from training.trainer import TrainerConfig

ONE = BuildConfig(workers=1)
MELS = "train_melspectrograms"


@pytest.fixture
def source(tmp_path: Path) -> FakeSource:
    return write_fake_source(tmp_path / "cells.raw", [3, 1, 5, 2], seed=4)


@pytest.fixture
def exported(source: FakeSource, tmp_path: Path) -> Path:
    root = tmp_path / "npy"
    export_npy(source, source.recordings(), NpyExportConfig(root=str(root)))
    return root


def import_store(root: Path, store: Path, recipe: Recipe = SMALL, **options: object) -> BuildReport:
    config = options.pop("config", ONE)
    source = SourceConfig(root=str(root), **options)
    return build_store(source, foreign_recipe(source, recipe), str(store), config)


def write_npy(path: Path, values: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, values, **options)


def slices_of(store: Store, recording_id: str) -> np.ndarray:
    return store.slices(store.query(pl.col("recording_id") == recording_id))


@pytest.mark.parametrize("encoding", ["uint8", "float16", "float32"])
def test_values_come_back_as_they_went(encoding: str, tmp_path: Path) -> None:
    recipe = replace(SMALL, encoding=encoding)
    source = write_fake_source(tmp_path / "cells.raw", [3, 1, 5], seed=5, recipe=recipe)
    report = export_npy(source, source.recordings(), NpyExportConfig(root=str(tmp_path / "npy")))
    assert (report.num_recordings, report.num_slices, report.new_slices) == (3, 9, 9)
    values = np.load(tmp_path / "npy" / MELS / "take 2" / "4.npy")
    assert values.dtype == np.float32
    assert np.array_equal(values, to_unit(source.cells)[8])
    import_store(tmp_path / "npy", tmp_path / "store", recipe)
    store = open_store(str(tmp_path / "store"))
    assert store.recipe.origin == "foreign"
    assert np.array_equal(store.slices(), source.cells)


def test_real_slices_come_back_within_one_step(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    esc10 = SourceConfig(root=str(real_data("esc10")))
    build_store(esc10, Recipe(), str(tmp_path / "store"), ONE, limit=6)
    with open_store(str(tmp_path / "store")) as store:
        export_npy(store, store.recordings(), NpyExportConfig(root=str(tmp_path / "npy")))
        import_store(tmp_path / "npy", tmp_path / "again", Recipe())
        again = open_store(str(tmp_path / "again"))
        assert np.array_equal(again.slices(), store.slices())
        ours, theirs = store.slice_index(), again.slice_index()
        for name in ("recording_id", "slice_no", "start_s", "silent", "crc32c"):
            assert theirs[name].equals(ours[name]), name
        assert theirs["max_db"].null_count() == theirs["mean_db"].null_count() == len(theirs)
        for name, step in (("active_share", 0.1), ("centroid_hz", 100), ("peak_hz", 500)):
            difference = (ours[name] - theirs[name]).abs()
            assert difference.median() < step, name


def test_metadata_come_from_the_csv(source: FakeSource, exported: Path, tmp_path: Path) -> None:
    import_store(exported, tmp_path / "store")
    ours = source.recordings().sort("filename")
    theirs = open_store(str(tmp_path / "store")).recordings()
    for name in ("filename", "primary_label", "secondary_labels", "num_slices", "rating"):
        assert theirs[name].to_list() == ours[name].to_list()
    spans = [0.5 + 2.5 * (count - 1) for count in ours["num_slices"]]
    assert theirs["duration_s"].to_list() == spans
    assert theirs["sample_rate_hz"].null_count() == len(theirs)


def test_importing_twice_or_with_two_workers_gives_equal_bytes(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.build.plan.MIN_PART_SLICES", 4)
    import_store(exported, tmp_path / "one")
    before = bytes_of(tmp_path / "one")
    assert len([name for name in before if name.startswith("index/")]) == 3
    assert import_store(exported, tmp_path / "one").new_slices == 0
    import_store(exported, tmp_path / "two", config=BuildConfig(workers=2))
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two") == before


def test_changed_slices_are_taken_anew(exported: Path, tmp_path: Path) -> None:
    import_store(exported, tmp_path / "store")
    folder = exported / MELS / "take 2"
    (folder / "3.npy").rename(folder / "6.npy")
    report = import_store(exported, tmp_path / "store")
    assert (report.num_stored, report.num_partial, report.new_slices) == (3, 1, 3)
    assert "3.npy is missing, 2 files are after it" in report.rejects["reason"][0]
    (folder / "6.npy").rename(folder / "3.npy")
    report = import_store(exported, tmp_path / "store")
    assert (report.num_stored, report.num_partial, report.new_slices) == (4, 0, 5)


def spoil_first(change: Callable[[np.ndarray], np.ndarray], **options: object) -> Callable:
    return lambda folder: write_npy(folder / "0.npy", change(np.load(folder / "0.npy")), **options)


def set_cell(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[1, 2] = value
        return values

    return change


def cut_short(folder: Path) -> None:
    os.truncate(folder / "0.npy", 300)


SPOILED = {
    "nan": (spoil_first(set_cell(np.nan)), "0.npy holds NaN"),
    "infinite": (spoil_first(set_cell(np.inf)), "0.npy holds NaN or infinite"),
    "too large": (spoil_first(set_cell(1.01)), r"values from .* to 1.01, outside \[0, 1\]"),
    "decibels": (spoil_first(lambda values: values * 80 - 80), "normalise them, dB as"),
    "another shape": (
        spoil_first(lambda values: values[:, :-1]),
        r"0.npy has the shape \[8, 15\], the recipe's slices \[8, 16\]",
    ),
    "one axis more": (spoil_first(lambda values: values[None]), r"the shape \[1, 8, 16\]"),
    "integers": (
        spoil_first(lambda values: (255 * values).astype(np.uint8)),
        "0.npy holds uint8, not float32",
    ),
    "objects": (
        spoil_first(lambda values: values.astype(object), allow_pickle=True),
        "0.npy holds Python objects, which are never loaded",
    ),
    "cut short": (cut_short, "0.npy is cut short or damaged"),
    "empty": (lambda folder: (folder / "0.npy").write_bytes(b""), "0.npy is no .npy file"),
    "text": (lambda folder: (folder / "0.npy").write_text("hi"), "0.npy is no .npy file"),
    "a folder": (
        lambda folder: [(folder / "0.npy").unlink(), (folder / "0.npy").mkdir()],
        "it cannot be read: Is a directory",
    ),
    "no number": (
        lambda folder: (folder / "0.npy").rename(folder / "first.npy"),
        "first.npy has no slice number",
    ),
    "a number twice": (
        lambda folder: shutil.copy(folder / "0.npy", folder / "00.npy"),
        "0.npy and 00.npy are the same slice",
    ),
    "counted from one": (
        lambda folder: (folder / "0.npy").rename(folder / "5.npy"),
        "0.npy is missing, the first is 1.npy: count from 0",
    ),
    "no slices": (
        lambda folder: [path.unlink() for path in folder.iterdir()],
        "the folder holds no .npy files",
    ),
    "no folder": (shutil.rmtree, "there is no folder of slices: take 2"),
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILED.values(), ids=SPOILED)
def test_what_is_no_slice_is_rejected_with_a_reason(
    spoil: Callable[[Path], object], reason: str, exported: Path, tmp_path: Path
) -> None:
    spoil(exported / MELS / "take 2")
    report = import_store(exported, tmp_path / "store")
    assert (report.num_found, report.num_stored, report.num_rejected) == (4, 3, 1)
    assert report.rejects["filename"].to_list() == ["c/take 2.ogg"]
    assert pl.Series([report.rejects["reason"][0]]).str.contains(reason).all(), report.rejects
    assert import_store(exported, tmp_path / "store").new_slices == 0


def test_what_lies_before_a_bad_slice_is_stored(
    source: FakeSource, exported: Path, tmp_path: Path
) -> None:
    path = exported / MELS / "take 2" / "2.npy"
    write_npy(path, np.load(path) - 1)
    report = import_store(exported, tmp_path / "store")
    assert (report.num_stored, report.num_partial) == (3, 1)
    assert "2.npy holds values from -" in report.rejects["reason"][0]
    assert "the 2 slices before it are stored" in report.rejects["reason"][0]
    store = open_store(str(tmp_path / "store"))
    assert np.array_equal(slices_of(store, "c/take 2"), source.cells[4:6])
    assert store.recordings().filter(recording_id="c/take 2")["duration_s"][0] == 3.0


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_of_any_width_and_order_are_taken(dtype: str, order: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(SMALL.slice_shape)
    values[0, :2] = -1e-7, 1 + 1e-7
    write_npy(tmp_path / MELS / "x" / "000.npy", np.asarray(values, dtype, order=order))
    (tmp_path / "train.csv").write_text("filename,primary_label\na/x.ogg,a\n")
    import_store(tmp_path, tmp_path / "store")
    wanted = np.round(np.asarray(values, dtype).astype(np.float64).clip(0, 1) * 255)
    stored = open_store(str(tmp_path / "store")).slices()[0]
    assert np.abs(stored - wanted).max() <= (dtype == "<f2")


def test_silence_is_known_by_its_zeros(tmp_path: Path) -> None:
    values = np.zeros((2, *SMALL.slice_shape), np.float32)
    values[1, 3, 4:6] = 1
    for slice_no, slice_values in enumerate(values):
        write_npy(tmp_path / MELS / "x" / f"{slice_no}.npy", slice_values)
    (tmp_path / "train.csv").write_text("filename,primary_label\na/x.ogg,a\n")
    import_store(tmp_path, tmp_path / "store")
    index = open_store(str(tmp_path / "store")).slice_index()
    assert index["silent"].to_list() == [True, False]
    assert index["active_share"].to_list() == [0, pytest.approx(2 / SMALL.num_frames)]
    assert index["peak_hz"][0] is None
    assert index["peak_hz"][1] == pytest.approx(index["centroid_hz"][1], rel=1e-3)


def test_the_number_of_bands_is_that_of_the_files(exported: Path) -> None:
    source = SourceConfig(root=str(exported))
    assert foreign_recipe(source, replace(SMALL, n_mels=13)).slice_shape == (8, 16)


def test_frames_that_the_recipe_does_not_give_are_refused_with_the_numbers(exported: Path) -> None:
    source = SourceConfig(root=str(exported))
    with pytest.raises(ConfigError, match=r"have 16 frames; .* hop=64 give 8: .*slice_s=0\.96"):
        foreign_recipe(source, replace(SMALL, hop=64))
    assert foreign_recipe(source, replace(SMALL, hop=64, slice_s=0.96)).num_frames == 16


def test_imported_slices_are_never_mixed_with_own_ones(exported: Path, tmp_path: Path) -> None:
    import_store(exported, tmp_path / "store")
    sound = write_source(tmp_path / "sound", [1.0], np.random.default_rng(0))
    with pytest.raises(ConfigError, match="origin: melbank here, foreign there"):
        build_store(SourceConfig(root=str(sound)), SMALL, str(tmp_path / "store"), ONE)


def test_folders_of_one_name_need_the_other_layout(
    source: FakeSource, exported: Path, tmp_path: Path
) -> None:
    filenames = pl.Series("filename", ["a/x.ogg", "b/x.ogg", "c/y.ogg", "d/z.ogg"])
    recordings = source.recordings().with_columns(filenames)
    config = NpyExportConfig(root=str(tmp_path / "by_id"))
    with pytest.raises(ConfigError, match=r"a/x.ogg and b/x.ogg would share .*layout=id"):
        export_npy(source, recordings, config)
    ids = recordings.with_columns(recording_id=pl.col("filename").str.strip_suffix(".ogg"))
    export_npy(source, ids, replace(config, layout="id"))
    import_store(tmp_path / "by_id", tmp_path / "store", npy_layout="id")
    assert np.array_equal(open_store(str(tmp_path / "store")).slices(), source.cells)

    csv = pl.read_csv(exported / "train.csv")
    twice = csv.with_columns(
        pl.Series("filename", ["a/take 0.ogg", "b/take 0.ogg", *csv["filename"][2:]])
    )
    twice.write_csv(exported / "train.csv")
    report = import_store(exported, tmp_path / "other")
    assert report.num_rejected == 2
    assert set(report.rejects["reason"]) == {
        "2 recordings share its folder: use source.npy_layout=id"
    }


def test_an_export_goes_on_where_it_was(source: FakeSource, exported: Path) -> None:
    whole, before = bytes_of(exported), identities(exported, MELS)
    folder = exported / MELS / "take 2"
    (folder / "1.npy").unlink()
    (folder / "2.npy").write_bytes(whole[f"{MELS}/take 2/2.npy"][:-1] + b"!")
    shutil.copy(folder / "0.npy", folder / "5.npy")
    report = export_npy(source, source.recordings(), NpyExportConfig(root=str(exported)))
    assert report.new_slices == 2
    assert bytes_of(exported) == whole
    after = identities(exported, MELS)
    changed = {Path(name).name for name in before if before[name] != after[name]}
    assert changed == {"1.npy", "2.npy", ".melbank-export.json"}


def test_an_export_leaves_what_others_made(source: FakeSource, tmp_path: Path) -> None:
    config = NpyExportConfig(root=str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("filename,primary_label\nmine,a\n")
    report = export_npy(source, source.recordings(), config)
    assert "left as it is" in report.summary()
    assert (tmp_path / "data" / "train.csv").read_text().endswith("mine,a\n")
    write_npy(tmp_path / "other" / MELS / "x" / "0.npy", np.zeros(3))
    with pytest.raises(ConfigError, match="not empty and not an export"):
        export_npy(source, source.recordings(), NpyExportConfig(root=str(tmp_path / "other")))
    with pytest.raises(ConfigError, match="from another store"):
        export_npy(replace(source, store_id="0000"), source.recordings(), config)


def test_the_csv_of_an_export_follows_it(source: FakeSource, exported: Path) -> None:
    config = NpyExportConfig(root=str(exported))
    few = source.recordings().head(2)
    export_npy(source, few, config)
    assert len(pl.read_csv(exported / "train.csv")) == 2
    assert "these recordings" in export_npy(source, source.recordings(), config).summary()
    assert len(pl.read_csv(exported / "train.csv")) == 4


def test_damage_is_found_and_mended_from_the_folder(exported: Path, tmp_path: Path) -> None:
    import_store(exported, tmp_path / "store")
    whole = bytes_of(tmp_path / "store")
    path = tmp_path / "store" / "slices.zarr" / "c" / "0" / "0" / "0"
    path.write_bytes(path.read_bytes()[:50] + b"?" + path.read_bytes()[51:])
    report = verify_store(str(tmp_path / "store"))
    assert len(report.damage) == 1
    repair_store(SourceConfig(root=str(exported)), report)
    assert not verify_store(str(tmp_path / "store")).damage
    assert bytes_of(tmp_path / "store") == whole


@pytest.mark.slow
def test_an_imported_store_trains_and_goes_into_shards(tmp_path: Path) -> None:
    source = write_learnable_source(tmp_path / "cells.raw", 36)
    export_npy(source, source.recordings(), NpyExportConfig(root=str(tmp_path / "npy")))
    import_store(tmp_path / "npy", tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    config = TrainingConfig(
        model=ModelConfig(backbone="test_resnet"),
        augment=AugmentConfig(),
        folds=FoldConfig(cv="column"),
        train_loader=LoaderConfig(batch_size=4),
        trainer=TrainerConfig(
            precision="32-true", epochs=2, effective_batch_size=8, progress=False
        ),
        experiment=ExperimentConfig(root=str(tmp_path / "lab")),
        train_folds=[1],
    )
    report = train_folds(store, config)
    assert report.overall["roc_auc"] > 0.5
    write_shards(store, str(tmp_path / "shards"), ShardConfig())
    shards = open_shards(str(tmp_path / "shards"))
    assert shards.recipe == store.recipe
    assert len(shards.slice_index()) == len(source.cells)


def test_the_commands_say_what_they_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_source(tmp_path / "sound", [6.0, 3.0, 8.0], np.random.default_rng(2))
    build_store(SourceConfig(root=str(source)), Recipe(), str(tmp_path / "store"), ONE)

    def call(module: object, *words: str) -> tuple[int, str, str]:
        config = ("--config", str(ROOT / "configs" / "base.yaml"))
        return run(module.COMMAND, module.main, [*config, *words]), *capsys.readouterr()

    npy = tmp_path / "npy"
    words = (f"store={tmp_path / 'store'}", f"export_npy.root={npy}")
    code, out, _ = call(tools.export_npy, *words, "export_npy.where=rating > 0", "limit=1")
    have = len(list((npy / MELS).glob("*/*.npy")))
    assert (code, len(list((npy / MELS).glob("*/0.npy")))) == (0, 1)
    code, out, _ = call(tools.export_npy, *words)
    assert (code, f"6 slices of 3 recordings, {6 - have} newly" in out) == (0, True)
    words = (f"source.root={npy}", f"store={tmp_path / 'again'}", "build.workers=1")
    code, out, _ = call(tools.import_npy, *words)
    assert (code, "3 recordings found = 3 stored" in out) == (0, True)
    again, store = open_store(str(tmp_path / "again")), open_store(str(tmp_path / "store"))
    assert np.array_equal(again.slices(), store.slices())
    assert call(tools.import_npy, *words, "source.npy_dir=nowhere")[0] == 2
    (npy / MELS / "XC0000" / "0.npy").unlink()
    code, out, err = call(tools.import_npy, *words, "build.strict=true")
    assert (code, "0.npy is missing" in out + err) == (1, True)
