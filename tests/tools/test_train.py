"""tools.train as users call it, on a store and on shards."""

import polars as pl
import pytest
import torch

from datasets.shards.writer import ShardConfig, write_shards
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.paths import ROOT
from tests.small_store import RECIPE, SHORT, build_small_store
from tools import show_plan
from tools.cli.command import run
from tools.cli.config import load_config
from tools.cli.training_inputs import TrainSections, open_training
from tools.train import COMMAND, main
from training.runtime.auto import choose_precision
from training.split import fold_data, split_recordings

STARTING = "training starts: importing torch takes some seconds\n"
CONFIGS = ROOT / "configs"
BASE = ["--config", str(CONFIGS / "base.yaml")]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with a store of 15 synthesised recordings, and its shards."""
    folder = tmp_path_factory.mktemp("train")
    build_small_store(folder)
    with open_store(str(folder / "store")) as store:
        write_shards(store, str(folder / "shards"), ShardConfig())
    return folder


def call(*words):
    return run(COMMAND, main, [*BASE, *words])


def predictions(folder, name="exp_001"):
    return pl.read_parquet(folder / "preds" / name / "oof.parquet")


@pytest.fixture(scope="module")
def trained(places, tmp_path_factory):
    """The root of an experiment on the store."""
    root = tmp_path_factory.mktemp("trained")
    assert call(f"store={places / 'store'}", f"experiment.root={root}", *SHORT, "seed=5") == 0
    return root


def test_store_and_shards_train_the_same_model(places, trained, tmp_path, capsys):
    words = [f"shards={places / 'shards'}", f"experiment.root={tmp_path}", "seed=5"]
    assert call(*words, *SHORT) == 0
    assert predictions(tmp_path).equals(predictions(trained))
    told = capsys.readouterr().out
    chosen = choose_precision("auto", "cpu", RECIPE.slice_shape[1] // 4)
    assert f"precision: {chosen.value} ({chosen.reason})" in told
    assert "ROC-AUC" in told
    assert f"weights: {tmp_path / 'weights' / 'exp_001'}" in told


def test_the_written_config_does_the_same_again(trained):
    again = ["--config", str(trained / "configs" / "exp_001.yaml")]
    assert run(COMMAND, main, again) == 0
    assert predictions(trained, "exp_002").equals(predictions(trained))


def test_the_checkpoint_is_what_averaging_made_of_the_epochs(places, tmp_path):
    """With a start at once, the second epoch's weights are not the live ones any more."""
    where = [f"store={places / 'store'}", f"experiment.root={tmp_path}", *SHORT, "train_folds=[0]"]
    assert call(*where, "averaging.kind=none") == 0
    assert call(*where, "averaging.kind=swa", "averaging.start=0") == 0
    assert call(*where, "averaging.kind=ema", "averaging.decay=0.5") == 0
    weights = [
        torch.load(tmp_path / "weights" / name / "fold_0.ckpt", weights_only=True)["state_dict"]
        for name in ("exp_001", "exp_002", "exp_003")
    ]
    log = tmp_path / "preds" / "exp_00{}" / "log" / "fold_0" / "metrics.csv"
    losses = [
        pl.read_csv(str(log).format(number))["train_loss_step"].drop_nulls() for number in (1, 2, 3)
    ]
    assert losses[0].equals(losses[1])  # training itself is the same
    assert losses[0].equals(losses[2])
    assert not torch.equal(
        weights[0]["model.views.0.head.weight"], weights[2]["model.views.0.head.weight"]
    )


@pytest.mark.slow
def test_a_list_of_image_transforms_trains_and_is_written_down(places, trained, tmp_path):
    where = [f"store={places / 'store'}", f"experiment.root={tmp_path}", *SHORT, "train_folds=[0]"]
    assert call(*where, "seed=5", "augment.images=[{name: VerticalFlip, p: 0.5}]") == 0
    assert run(COMMAND, main, ["--config", str(tmp_path / "configs" / "exp_001.yaml")]) == 0
    first, again = (predictions(tmp_path, f"exp_00{number}") for number in (1, 2))
    assert again.equals(first)
    plain = predictions(trained).filter(fold=0)
    assert plain["row"].equals(first["row"])
    assert not plain.equals(first)


def sources(places):
    return [
        f"sources.focal.store={places / 'store'}",
        f"sources.pool.shards={places / 'shards'}",
        "sources.pool.weight=0.5",
        "sources.pool.train_only=true",
        "sources.pool.shared_ids=rename",
        "sources.pool.where='rating > 1'",
    ]


def test_two_sources_train_and_the_written_config_does_the_same_again(places, tmp_path, capsys):
    words = [*sources(places), *SHORT, "train_folds=[0]", f"experiment.root={tmp_path}"]
    assert call(*words) == 0
    found = predictions(tmp_path)
    assert set(found["source"]) == {"focal"}
    assert f"focal={places / 'store'}, pool={places / 'shards'}" in capsys.readouterr().out
    assert run(COMMAND, main, ["--config", str(tmp_path / "configs" / "exp_001.yaml")]) == 0
    assert predictions(tmp_path, "exp_002").equals(found)


@pytest.mark.slow
def test_predictions_serve_as_targets_and_a_store_as_background(places, trained, tmp_path):
    where = f"experiment.root={tmp_path}"
    short = [*SHORT, "trainer.epochs=1"]
    assert call(f"store={places / 'store'}", where, *short, "train_folds=[]") == 0
    words = [
        f"sources.focal.store={places / 'store'}",
        f"sources.focal.targets={tmp_path / 'preds' / 'exp_001' / 'oof.parquet'}",
        f"background.shards={places / 'shards'}",
        "augment.background.p=0.5",
    ]
    assert call(*words, where, *SHORT, "seed=5") == 0
    own = predictions(tmp_path, "exp_002").drop("source")
    other = predictions(trained)
    assert own["row"].equals(other["row"])
    assert not own.equals(other)


def test_a_plan_is_shown_and_written_as_training_makes_it(places, tmp_path, capsys):
    words = [*sources(places), *SHORT, "sampling.balance=sqrt", "sampling.where='NOT silent'"]
    file = tmp_path / "new" / "plan.parquet"
    flags = ["--epoch", "3", "--fold", "1", "--parquet", str(file)]
    assert run(show_plan.COMMAND, show_plan.main, [*BASE, *words, *flags]) == 0
    told = capsys.readouterr().out
    config = load_config(TrainSections, BASE[1], words)
    mix = open_training(config)
    planner = fold_data(mix, split_recordings(mix, config), 1, config).planner()
    assert f"plan {planner(3).digest}" in told
    assert "focal" in told
    table = pl.read_parquet(file)
    assert len(table) == len(planner(3))
    share = table.filter(source="pool").height / len(table)
    assert abs(share - 1 / 3) < 1 / len(table)
    with open_store(str(places / "store")) as store:
        index = store.slice_index().rename({"recording_id": "id"})
    joined = table.join(index, on=["row", "slice_no"])
    assert len(joined) == len(table)
    assert joined.select(pl.col("recording_id").str.strip_prefix("pool/") == pl.col("id"))[
        "recording_id"
    ].all()


@pytest.mark.slow
def test_limit_trains_on_a_part(places, tmp_path):
    words = [f"store={places / 'store'}", f"experiment.root={tmp_path}", "limit=12"]
    assert call(*words, *SHORT, "train_folds=[]", "trainer.epochs=1") == 0
    assert predictions(tmp_path)["recording_id"].n_unique() == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.backbnoe=resnet18"], "model.backbnoe: no such key. Did you mean model.backbone?"),
        (["train_loader.batch_size=3"], "effective_batch_size=16 is no multiple of"),
        (["folds.cv=column"], "folds.cv=column needs the column 'fold'"),
        (["train_folds=[7]"], "there is no fold 7"),
        (["train_folds=[0,0]"], "names a fold twice"),
        (["trainer.precision=half"], "trainer.precision=half is none of"),
        (["limit=1"], "limit=1: training needs at least 2 recordings"),
        (["sampling.where=loudness > 3"], "there is no column loudness"),
        (["sampling.slice_choice=nothing:here"], "No module named 'nothing'"),
        (["sources.a.shard=x"], "sources.a.shard: no such key. Did you mean sources.a.shards?"),
        (["sources.a.weight=1"], "a source needs either store= or shards="),
        (["sources.a.store=x", "shards=y"], "shards=y together with sources"),
        (["augment.background.p=0.5"], "give background.store="),
        (["augment.images=[{name: Flop}]"], "augment.images: Flop is not a transform of"),
        (["augment.images=[{p: 0.5}]"], "augment.images[0]: name=None must be the plain name"),
        (["loss.secondary=mask", "loss.name=ce"], "loss.name=ce all classes share"),
    ],
    ids=[
        "key",
        "batch",
        "column",
        "fold",
        "twice",
        "precision",
        "limit",
        "where",
        "own choice",
        "source key",
        "source of nothing",
        "shards too",
        "background",
        "image transform",
        "image transform without a name",
        "mask",
    ],
)
def test_a_wrong_call_ends_with_one_line_and_code_2(places, tmp_path, capsys, words, message):
    where = [f"store={places / 'store'}", f"experiment.root={tmp_path / 'lab'}"]
    assert call(*where, *words) == 2
    error = capsys.readouterr().err.removeprefix(STARTING)
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("kind", ["store", "shards"])
def test_a_source_that_is_not_there_is_named(tmp_path, capsys, kind):
    assert call(f"{kind}={tmp_path / 'nowhere'}") != 0
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.slow
def test_the_config_for_a_gpu_trains_on_a_cpu_too(places, tmp_path):
    words = [
        f"store={places / 'store'}",
        f"experiment.root={tmp_path}",
        *SHORT[2:],
        "folds.cv=stratified",
        "limit=9",
        "train_folds=[0]",
        "trainer.epochs=1",
    ]
    assert run(COMMAND, main, ["--config", str(CONFIGS / "esc10_gpu.yaml"), *words]) == 0
    assert len(predictions(tmp_path)) > 0


def test_help_lists_keys_with_defaults_and_units(capsys):
    with pytest.raises(SystemExit):
        call("--help")
    told = capsys.readouterr().out
    assert "trainer.patience=4" in told
    assert "augment.gain.max_db=6.0" in told
    assert "dB" in told


@pytest.mark.slow
def test_esc10_trains_two_folds_for_three_epochs(real_data, tmp_path):
    store = tmp_path / "store"
    source = SourceConfig(root=str(real_data("esc10")))
    build_store(source, Recipe(), str(store), BuildConfig())
    words = [
        f"store={store}",
        f"experiment.root={tmp_path}",
        "train_folds=[1,4]",
        "trainer.epochs=3",
        "trainer.progress=false",
    ]
    config = ["--config", str(CONFIGS / "esc10.yaml")]
    assert run(COMMAND, main, [*config, *words]) == 0
    found = predictions(tmp_path)
    given = pl.read_csv(real_data("esc10") / "train.csv").select(
        pl.col("filename").str.strip_suffix(".ogg").alias("recording_id"),
        pl.col("fold").alias("given"),
    )
    joined = found.join(given, on="recording_id")
    assert len(joined) == len(found)
    assert joined["fold"].eq(joined["given"]).all()
    assert set(found["fold"]) == {1, 4}
