"""training.cross_validation: folds, what is written, what is learned."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from datasets.augment.pipeline import AugmentConfig
from datasets.folds import FoldConfig
from datasets.loading.config import ValLoaderConfig
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import SamplingConfig, plan_all
from storage.encoding import to_unit
from storage.errors import ConfigError, StoreError
from tests.fakes import SMALL
from tests.learnable import write_learnable_source
from tests.training.short_training import FOLDS, config_in, short_trainer
from training.cross_validation import train_folds
from training.model.checkpoints import read_checkpoint
from training.model.learning.averaging import AveragingConfig
from training.model.learning.losses import LossConfig
from training.model.models import ModelConfig
from training.model.predict import target_lists
from training.runtime.auto import MIN_BF16_FRAMES
from training.split import fold_data, split_recordings

CLASSES = ["p_a", "p_b", "p_c"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_learnable_source(tmp_path_factory.mktemp("source") / "cells.raw", 72)


@pytest.fixture(scope="module")
def report(source, tmp_path_factory):
    return train_folds(source, config_in(tmp_path_factory.mktemp("lab")))


@pytest.fixture(scope="module")
def oof(report):
    return pl.read_parquet(report.experiment.preds / "oof.parquet")


def test_it_learns(report):
    assert report.overall["roc_auc"] > 0.95
    assert report.overall["accuracy"] > 0.8
    assert report.overall["kl"] < 0.8


def test_oof_has_every_slice_of_the_held_out_recordings_once(source, oof):
    held_out = source.table.filter(pl.col("fold").is_in(FOLDS))
    expected = source.index.join(held_out, on="recording_id").select("row", "recording_id", "fold")
    found = oof.select("row", "recording_id", "fold").sort("row")
    assert found.equals(expected.sort("row").cast({"fold": pl.Int64}))


def test_oof_columns_are_the_contract(source, oof):
    assert oof.columns == ["recording_id", "row", "fold", "target", *CLASSES]
    assert oof.schema["target"] == pl.List(pl.String)
    assert oof.schema["p_a"] == pl.Float32
    np.testing.assert_allclose(oof.select(CLASSES).sum_horizontal().to_numpy(), 1, rtol=1e-5)
    primary = oof.join(source.table, on="recording_id", maintain_order="left")["primary_label"]
    assert oof["target"].list.first().to_list() == primary.to_list()


def test_targets_name_the_primary_label_first_and_none_twice():
    recordings = pl.DataFrame(
        {"primary_label": ["b", "a"], "secondary_labels": [["a", "b", "", "z"], None]},
        schema_overrides={"secondary_labels": pl.List(pl.String)},
    )
    assert recordings.select(target_lists()).to_series().to_list() == [["b", "a", "z"], ["a"]]


def test_scores_are_those_of_the_oof_table(report, oof):
    written = json.loads((report.experiment.preds / "scores.json").read_text())
    parts = [(line, oof.filter(fold=line["fold"])) for line in written["folds"]]
    assert [line["fold"] for line, _ in parts] == FOLDS
    for line, part in [*parts, ({"scores": written["overall"]}, oof)]:
        target = part["target"].list.first().to_numpy()
        found = part.select(CLASSES).to_numpy().astype(float)
        found /= found.sum(1, keepdims=True)
        one_hot = target[:, None] == np.array(["a", "b", "c"])
        scores = line["scores"]
        assert scores["kl"] == pytest.approx(log_loss(target, found), rel=1e-4)
        assert scores["roc_auc"] == pytest.approx(roc_auc_score(one_hot, found, average="macro"))
        predicted = np.array(["a", "b", "c"])[found.argmax(1)]
        assert scores["accuracy"] == pytest.approx(accuracy_score(target, predicted))
    assert written["experiment"] == report.experiment.name


def test_embeddings_stand_beside_the_rows(report, oof):
    table = pl.read_parquet(report.experiment.preds / "embeddings.parquet")
    assert table.columns == ["row", "recording_id", "fold", "embedding"]
    assert table.schema["embedding"] == pl.List(pl.Float32)
    assert table.drop("embedding").equals(oof.select("row", "recording_id", "fold"))
    assert table["embedding"].list.len().n_unique() == 1
    fold = FOLDS[0]
    trained = read_checkpoint(report.experiment.weights / f"fold_{fold}.ckpt")
    embeddings = torch.tensor(table.filter(fold=fold)["embedding"].to_list())
    logits = trained.model.views[0].head(embeddings).detach()
    expected = oof.filter(fold=fold).select(CLASSES).to_numpy()
    np.testing.assert_allclose(logits.softmax(1), expected, atol=1e-5)


def test_scores_of_each_class_are_written(report):
    folder = report.experiment.preds
    table = pl.read_csv(folder / "classes.csv")
    pooled = pl.read_parquet(folder / "oof_recordings.parquet")
    assert table["label"].to_list() == ["a", "b", "c"]
    assert table["n"].sum() == len(pooled)
    assert table["average_precision"].mean() == pytest.approx(report.pooled["cmap"])
    assert table["roc_auc"].mean() == pytest.approx(report.pooled["roc_auc"])


def held_out_reader(source, fold):
    held_out = source.table.filter(fold=fold)
    return BatchReader(
        source, lambda _: plan_all(held_out), LoaderConfig(), targets=None, train=False
    )


def test_two_views_are_one_checkpoint_that_predicts_as_both_do(source, tmp_path):
    """Averaged, too: what is kept is the mean of the weights of each."""
    model = ModelConfig(backbone="test_resnet", views=[[1, 1], [2, 1]])
    options = {"model": model, "averaging": AveragingConfig(kind="swa", start=0.5)}
    done = train_folds(source, config_in(tmp_path, **options, train_folds=[3]))
    trained = read_checkpoint(done.experiment.weights / "fold_3.ckpt")
    table = pl.read_parquet(done.experiment.preds / "oof.parquet")
    cells = torch.cat([to_unit(batch.slices) for batch in held_out_reader(source, 3)])
    with torch.inference_mode():
        alone = [view(cells).logits.softmax(1) for view in trained.model.views]
    assert len(alone) == 2
    assert not torch.allclose(*alone, atol=1e-3)
    expected = table.select(CLASSES).to_numpy()
    np.testing.assert_allclose(torch.stack(alone).mean(0), expected, atol=1e-5)
    assert done.overall["roc_auc"] > 0.9
    embeddings = pl.read_parquet(done.experiment.preds / "embeddings.parquet")["embedding"]
    assert embeddings.list.len().unique().to_list() == [trained.model.embedding_size]


@pytest.mark.parametrize("content", [None, b"no zip", b""], ids=["missing", "foreign", "empty"])
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    path = tmp_path / "fold_0.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"fold_0\.ckpt"):
        read_checkpoint(path)


def test_a_checkpoint_of_another_version_is_refused(report, tmp_path):
    checkpoint = torch.load(report.experiment.weights / "fold_1.ckpt", weights_only=True)
    checkpoint["melbank"]["config"]["model"]["colour"] = "blue"
    torch.save(checkpoint, tmp_path / "newer.ckpt")
    with pytest.raises(StoreError, match=r"newer\.ckpt describes a model of another .*colour"):
        read_checkpoint(tmp_path / "newer.ckpt")


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(StoreError, match=r"other\.ckpt is no checkpoint of melbank"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_recordings_have_the_means_of_their_slices_and_scores_of_their_own(report, oof):
    folder = report.experiment.preds
    pooled = pl.read_parquet(folder / "oof_recordings.parquet")
    means = oof.group_by("recording_id").agg(pl.col(CLASSES).cast(pl.Float64).mean())
    assert pooled.columns == ["recording_id", "fold", "target", *CLASSES]
    both = pooled.join(means, on="recording_id", suffix="_mean")
    assert len(both) == len(pooled) == len(means)
    for name in CLASSES:
        np.testing.assert_allclose(both[name], both[f"{name}_mean"], rtol=1e-5)
    predicted = np.array(["a", "b", "c"])[pooled.select(CLASSES).to_numpy().argmax(1)]
    expected = accuracy_score(pooled["target"].list.first().to_numpy(), predicted)
    written = json.loads((folder / "scores.json").read_text())["pooled"]
    assert written["accuracy"] == report.pooled["accuracy"] == pytest.approx(expected)
    embeddings = pl.read_parquet(folder / "embeddings_recordings.parquet")
    name = embeddings["recording_id"][0]
    slices = pl.read_parquet(folder / "embeddings.parquet").filter(recording_id=name)["embedding"]
    np.testing.assert_allclose(
        embeddings["embedding"][0].to_numpy(), np.mean(slices.to_list(), axis=0), rtol=1e-4
    )


def test_nothing_else_is_left_behind(report):
    experiment = report.experiment
    assert {path.name for path in experiment.weights.iterdir()} == {"fold_1.ckpt", "fold_3.ckpt"}
    tables = {
        f"{name}{kind}.parquet" for name in ("oof", "embeddings") for kind in ("", "_recordings")
    }
    others = {"classes.csv", "parts.csv", "scores.json", "log"}
    others |= {"classes.png", "confusion.png", "curves.png"}
    assert {path.name for path in experiment.preds.iterdir()} == tables | others
    assert not Path("lightning_logs").exists()


def test_every_step_is_logged(report):
    log = pl.read_csv(report.experiment.preds / "log" / "fold_1" / "metrics.csv")
    assert log["val_kl"].drop_nulls().len() == log["val_roc_auc"].drop_nulls().len() == 4
    batches = len(log["train_loss_step"].drop_nulls())
    held_in = 2 * 48  # two draws of each of the other folds' recordings
    assert batches == 4 * held_in // 8  # one line per optimizer step, that is two batches of four


def test_the_checkpoint_is_that_of_the_best_epoch(report):
    for result in report.folds:
        log = pl.read_csv(report.experiment.preds / "log" / f"fold_{result.fold}" / "metrics.csv")
        kl = log["val_kl"].drop_nulls()
        assert result.best_epoch == kl.arg_min() + 1
        assert result.scores["kl"] == pytest.approx(kl.min(), rel=1e-4)


def test_the_table_has_a_line_per_fold_and_one_for_all(report):
    lines = report.table().splitlines()
    assert " ".join(lines[0].split()) == (
        "fold rec. slices epoch KL ROC-AUC cmAP accuracy BalAcc min"
    )
    names = [line[:10].strip() for line in lines if not line.startswith("-")]
    assert names[1:] == ["1", "3", "all slices", "recordings", "epoch: kep"]
    assert f"{report.overall['kl']:.4f}" in lines[-3]
    assert f"{report.pooled['kl']:.4f}" in lines[-2]
    assert max(map(len, lines)) <= 80


def test_equal_seeds_train_equal_models_and_other_seeds_do_not(source, report, oof, tmp_path):
    again = train_folds(source, config_in(tmp_path, train_folds=[1]))
    same = pl.read_parquet(again.experiment.preds / "oof.parquet")
    assert same.equals(oof.filter(fold=1))
    assert again.folds[0].plan_digest == report.folds[0].plan_digest
    other = train_folds(source, config_in(tmp_path, train_folds=[1], seed=1))
    different = pl.read_parquet(other.experiment.preds / "oof.parquet")
    assert not different.equals(same)


def test_a_fold_learns_from_the_other_folds_only(source, tmp_path):
    config = config_in(tmp_path)
    split = split_recordings(source, config)
    data = fold_data(source, split, 3, config)
    assert data.held_out_recordings["fold"].unique().to_list() == [3]
    assert sorted(data.train_recordings["fold"].unique()) == [1, 2]
    rows = {row for batch in data.train_reader(accumulation=2) for row in batch.rows.tolist()}
    held_out = {row for batch in data.val_reader() for row in batch.rows.tolist()}
    assert rows
    assert held_out
    assert not rows & held_out


def test_validation_takes_a_sample_and_the_final_scores_all_slices(source, tmp_path):
    loader = ValLoaderConfig(max_slices_per_recording=1)
    config = config_in(
        tmp_path, train_folds=[1], val_loader=loader, trainer=short_trainer(epochs=1)
    )
    data = fold_data(source, split_recordings(source, config), 1, config)
    num_recordings = len(data.held_out_recordings)
    assert sum(len(batch.rows) for batch in data.val_reader(sampled=True)) == num_recordings
    report = train_folds(source, config)
    oof = pl.read_parquet(report.experiment.preds / "oof.parquet")
    assert sorted(oof["row"]) == plan_all(data.held_out_recordings).rows.tolist()
    (log,) = (report.experiment.preds / "log").glob("fold_1/metrics.csv")
    sampled = pl.read_csv(log)["val_kl"].drop_nulls().to_list()
    assert sampled != pytest.approx([report.folds[0].scores["kl"]])


def test_training_sees_other_slices_in_each_epoch_and_whole_steps(source, tmp_path):
    config = config_in(tmp_path)
    data = fold_data(source, split_recordings(source, config), 1, config)
    reader = data.train_reader(accumulation=2)
    assert len(reader) % 2 == 0
    seen = []
    for epoch in range(2):
        reader.set_epoch(epoch)
        seen.append([row for batch in reader for row in batch.rows.tolist()])
    assert seen[0] != seen[1]


def test_energy_slice_choice_finds_its_index(source, tmp_path):
    config = config_in(tmp_path, sampling=SamplingConfig(slice_choice="energy"))
    data = fold_data(source, split_recordings(source, config), 1, config)
    assert len(data.planner()(0)) == 48


def test_recordings_without_a_label_are_neither_trained_on_nor_scored(source, tmp_path):
    blank = source.table.with_columns(
        primary_label=pl.when(pl.int_range(pl.len()) >= 3).then("primary_label")
    )
    split = split_recordings(replace(source, table=blank), config_in(tmp_path))
    assert split.used_R.tolist() == [False] * 3 + [True] * 69
    assert split.labels.names == ("a", "b", "c")


def test_limit_takes_recordings_from_all_over(source, tmp_path):
    split = split_recordings(source, config_in(tmp_path, limit=30))
    used = np.flatnonzero(split.used_R)
    assert len(used) == 30
    assert used[0] == 0
    assert used[-1] == 71
    assert len(split.labels) == 3


def test_no_folds_named_means_all_of_them(source, tmp_path):
    assert split_recordings(source, config_in(tmp_path, train_folds=[])).train_folds == (1, 2, 3)
    stratified = config_in(tmp_path, train_folds=[], folds=FoldConfig(num_folds=4))
    assert split_recordings(source, stratified).train_folds == (0, 1, 2, 3)


def test_a_fold_that_is_not_there_is_refused_before_a_number_is_taken(source, tmp_path):
    with pytest.raises(ConfigError, match=r"there is no fold 0; folds.cv=column gives 1, 2, 3"):
        train_folds(source, config_in(tmp_path / "lab", train_folds=[0, 1]))
    assert not (tmp_path / "lab").exists()


def test_secondary_labels_are_learned_with_their_weight(source, tmp_path):
    second = source.table.with_columns(secondary_labels=pl.lit(["a"], dtype=pl.List(pl.String)))
    config = config_in(tmp_path, loss=LossConfig(secondary_weight=0.25))
    split = split_recordings(replace(source, table=second), config)
    assert split.targets.hard[1].tolist() == [0.25, 1, 0]


@pytest.mark.slow
def test_masked_secondary_labels_teach_nothing_and_are_scored_like_soft_ones(source, tmp_path):
    second = source.table.with_columns(secondary_labels=pl.lit(["a"], dtype=pl.List(pl.String)))
    masked = config_in(tmp_path, loss=LossConfig(secondary="mask"), train_folds=[1])
    split = split_recordings(replace(source, table=second), masked)
    np.testing.assert_array_equal(split.targets.hard[:2], [[1, 0, 0], [np.nan, 1, 0]])
    soft = replace(masked, loss=LossConfig(secondary="soft"))
    of_soft = split_recordings(replace(source, table=second), soft)
    np.testing.assert_array_equal(split.truth.targets_RC, of_soft.truth.targets_RC)
    results = [train_folds(replace(source, table=second), one) for one in (masked, soft)]
    frames = [pl.read_parquet(done.experiment.preds / "oof.parquet") for done in results]
    means = [frame.filter(pl.col("target").list.first() != "a")["p_a"].mean() for frame in frames]
    assert means[0] != pytest.approx(means[1], abs=0.02)
    assert np.isfinite(results[0].overall["kl"])


@pytest.mark.parametrize("clip", [0.0, 1.0], ids=["", "clipped"])
def test_bfloat16_trains_and_predicts_in_32_bit_tables(tmp_path, clip):
    recipe = replace(SMALL, slice_s=2.5)  # narrower images fail in bf16 on CPUs
    assert recipe.slice_shape[1] >= MIN_BF16_FRAMES
    source = write_learnable_source(tmp_path / "wide.raw", 24, recipe=recipe)
    trainer = short_trainer(
        epochs=2, effective_batch_size=4, precision="bf16-mixed", gradient_clip=clip
    )
    done = train_folds(source, config_in(tmp_path, trainer=trainer, train_folds=[1]))
    table = pl.read_parquet(done.experiment.preds / "oof.parquet")
    assert table.schema["p_a"] == pl.Float32
    np.testing.assert_allclose(table.select(CLASSES).sum_horizontal().to_numpy(), 1, rtol=1e-5)
    log = pl.read_csv(done.experiment.preds / "log" / "fold_1" / "metrics.csv")
    assert done.folds[0].scores["kl"] == pytest.approx(log["val_kl"].drop_nulls().min(), rel=0.01)


def test_the_bar_shows_epoch_loss_and_scores(source, tmp_path, capsys):
    trainer = short_trainer(epochs=2, progress=True)
    train_folds(source, config_in(tmp_path, trainer=trainer, train_folds=[1]))
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("fold 1 epoch 2/2 100%")
    assert all(name in last for name in ("loss ", "KL ", "AUC ", "acc "))


def test_an_epoch_is_whole_effective_batches(source, tmp_path):
    """48 draws in batches of 4 are two steps of 20, and the rest is left for another epoch."""
    trainer = short_trainer(epochs=1, effective_batch_size=20)
    config = config_in(tmp_path, train_folds=[1], sampling=SamplingConfig(), trainer=trainer)
    log = train_folds(source, config).experiment.preds / "log" / "fold_1" / "metrics.csv"
    assert len(pl.read_csv(log)["train_loss_step"].drop_nulls()) == 2


def test_gradients_are_accumulated_to_the_effective_batch(source, tmp_path):
    """Batches of 8 and pairs of batches of 4 take the same steps, up to rounding."""
    losses = []
    for batch_size in (8, 4):
        config = config_in(
            tmp_path,
            train_folds=[1],
            trainer=short_trainer(epochs=1),
            model=ModelConfig(backbone="test_vit", dropout=0.0),  # without batch norm
            train_loader=LoaderConfig(batch_size=batch_size),
            augment=AugmentConfig(),
        )
        losses.append(train_folds(source, config).folds[0].scores["kl"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
