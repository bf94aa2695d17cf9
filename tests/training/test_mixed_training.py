"""Training from several sources: shares, what is held out, soft targets, backgrounds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.augment.level import BackgroundMixConfig
from datasets.augment.pipeline import AugmentConfig
from datasets.folds import FoldConfig
from datasets.sampling.epoch_plan import SamplingConfig, plan_all
from datasets.slice_source import SOURCE_ROWS
from datasets.sources.background import BackgroundConfig, BackgroundPlan
from datasets.sources.mix import MixedSource, SourceMix, SourceSpec
from storage.errors import ConfigError
from tests.fakes import write_fake_source
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training.cross_validation import train_folds
from training.split import fold_data, split_recordings


@pytest.fixture(scope="module")
def focal(tmp_path_factory):
    return write_learnable_source(tmp_path_factory.mktemp("focal") / "cells.raw", 48)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Recordings without labels; what they are is in their slices alone."""
    source = write_learnable_source(tmp_path_factory.mktemp("pool") / "cells.raw", 24, seed=9)
    ids = pl.format("pool/{}", "recording_id").alias("recording_id")
    labels = source.table["primary_label"]
    table = source.table.with_columns(ids, primary_label=pl.lit(None, pl.String)).drop("fold")
    hidden = table.select("recording_id", label=labels)
    return replace(source, table=table, index=source.index.with_columns(ids)), hidden


def write_soft(source, hidden, path):
    """For each slice 0.9 for what it is and 0.05 for the others; a file as oof.parquet is."""
    lines = source.index.join(hidden, on="recording_id").select("recording_id", "row", "label")
    probabilities = [
        pl.when(pl.col("label") == name).then(0.9).otherwise(0.05).alias(f"p_{name}")
        for name in "abc"
    ]
    lines.with_columns(probabilities).drop("label").write_parquet(path)
    return str(path)


def mix_of(**sources):
    return SourceMix([MixedSource(name=name, source=source) for name, source in sources.items()])


@pytest.fixture
def noise(tmp_path):
    return write_fake_source(tmp_path / "noise.raw", [4, 2, 7], seed=3)


@pytest.fixture
def mixed(focal, pool, tmp_path):
    """The mix of both, and a config with soft targets and weights."""
    soft = write_soft(*pool, tmp_path / "soft.parquet")
    specs = {
        "focal": SourceSpec(store="focal"),
        "pool": SourceSpec(store="pool", weight=0.5, train_only=True, targets=soft),
    }
    return mix_of(focal=focal, pool=pool[0]), config_in(tmp_path / "lab", sources=specs)


def test_the_pool_is_learned_from_with_its_share_and_never_held_out(mixed):
    mix, config = mixed
    split = split_recordings(mix, config)
    assert split.used_R.all()
    assert split.scored_R.tolist() == [True] * 48 + [False] * 24
    assert split.labels.names == ("a", "b", "c")
    for fold in (1, 3):
        data = fold_data(mix, split, fold, config)
        assert set(data.held_out_recordings["source"]) == {"focal"}
        learned = data.train_recordings["source"].to_list()
        assert learned.count("focal") == 48 - len(data.held_out_recordings)
        assert learned.count("pool") == 24
        plan = data.planner()(0)
        assert len(plan) == 2 * len(learned)
        from_pool = (plan.rows >= SOURCE_ROWS).sum()
        assert abs(from_pool - len(plan) / 3) < 1


def test_soft_targets_are_learned_and_labels_are_scored(mixed):
    mix, config = mixed
    data = fold_data(mix, split_recordings(mix, config), 1, config)
    for batch in data.train_reader(accumulation=1):
        soft = (batch.rows >= SOURCE_ROWS).numpy()
        targets = batch.targets.numpy()
        assert np.allclose(np.sort(targets[soft]), [0.05, 0.05, 0.9])
        assert np.allclose(np.sort(targets[~soft]), [0, 0, 1])
    for batch in data.val_reader():
        assert set(batch.targets.flatten().tolist()) == {0.0, 1.0}


def test_two_sources_train_and_the_tables_name_them(mixed, focal):
    mix, config = mixed
    report = train_folds(mix, config)
    assert report.overall["roc_auc"] > 0.9
    oof = pl.read_parquet(report.experiment.preds / "oof.parquet")
    assert oof.columns == ["recording_id", "row", "fold", "target", "p_a", "p_b", "p_c", "source"]
    assert set(oof["source"]) == {"focal"}
    held_out = focal.table.filter(pl.col("fold").is_in([1, 3]))
    assert sorted(oof["row"]) == plan_all(held_out).rows.tolist()
    settings = report.experiment.config_file.read_text()
    assert "weight: 0.5" in settings
    embeddings = pl.read_parquet(report.experiment.preds / "embeddings.parquet")
    assert embeddings.select("row", "source").equals(oof.select("row", "source"))


def test_predictions_of_a_mix_serve_as_soft_targets_of_its_second_source(focal, tmp_path):
    other = focal.table.with_columns(pl.format("other/{}", "recording_id").alias("recording_id"))
    second = replace(focal, table=other)
    mix = mix_of(one=focal, two=second)
    specs = {"one": SourceSpec(store="one"), "two": SourceSpec(store="two")}
    trainer = short_trainer(epochs=1)
    config = config_in(tmp_path, sources=specs, train_folds=[1], trainer=trainer)
    report = train_folds(mix, config)
    path = report.experiment.preds / "oof.parquet"
    oof = pl.read_parquet(path)
    assert sorted(set(oof["source"])) == ["one", "two"]
    again = {**specs, "two": SourceSpec(store="two", targets=str(path), missing_targets="drop")}
    config = replace(config, sources=again, train_folds=[2])
    split = split_recordings(mix, config)
    data = fold_data(mix, split, 2, config)
    plan = data.planner()(0)
    of_two = plan.rows[plan.rows >= SOURCE_ROWS] - SOURCE_ROWS
    assert set(of_two.tolist()) <= set(oof.filter(source="two")["row"].to_list())
    numbers = plan.recordings.select("recording_id")[plan.planned_no]["recording_id"]
    place = {name: number for number, name in enumerate(split.recordings["recording_id"])}
    found = split.targets.of(plan.rows, np.array([place[name] for name in numbers]))
    lines = oof.filter(source="two")
    soft = dict(zip(lines["row"], lines.select("p_a", "p_b", "p_c").to_numpy(), strict=True))
    two = plan.rows >= SOURCE_ROWS
    assert np.array_equal(found[two], np.stack([soft[row] for row in of_two.tolist()]))


def test_classes_of_the_soft_targets_are_classes(focal, pool, tmp_path):
    source, hidden = pool
    path = Path(write_soft(source, hidden, tmp_path / "soft.parquet"))
    pl.read_parquet(path).with_columns(p_owl=0.5).write_parquet(path)
    mix = mix_of(focal=focal, p=source)
    specs = {"focal": SourceSpec(store="x"), "p": SourceSpec(store="y", targets=str(path))}
    split = split_recordings(mix, config_in(tmp_path, sources=specs))
    assert split.labels.names == ("a", "b", "c", "owl")
    assert split.scored_R.sum() == 48  # without labels nothing of the pool can be scored


def named_by_folder(source):
    """The source with names of folders as its labels."""
    return replace(source, table=source.table.with_columns(primary_label=pl.lit("2024-06-01")))


@pytest.mark.parametrize("train_only", [True, False])
def test_names_of_folders_make_no_class_where_there_are_soft_targets(
    train_only, focal, pool, tmp_path
):
    source, hidden = pool
    soft = write_soft(source, hidden, tmp_path / "soft.parquet")
    specs = {
        "focal": SourceSpec(store="x"),
        "p": SourceSpec(store="y", targets=soft, train_only=train_only),
    }
    config = config_in(tmp_path, sources=specs, train_folds=[])
    unlabelled = split_recordings(mix_of(focal=focal, p=source), config)
    split = split_recordings(mix_of(focal=focal, p=named_by_folder(source)), config)
    assert split.labels.names == ("a", "b", "c")
    assert split.used_R.all()
    assert split.scored_R.tolist() == [True] * 48 + [False] * 24
    assert split.recordings.equals(unlabelled.recordings)
    assert np.array_equal(split.truth.targets_RC, unlabelled.truth.targets_RC)


def test_what_lacks_soft_targets_and_a_class_is_not_used(focal, pool, tmp_path):
    source, hidden = pool
    path = Path(write_soft(source, hidden, tmp_path / "soft.parquet"))
    kept = source.table["recording_id"][:10]
    pl.read_parquet(path).filter(pl.col("recording_id").is_in(kept.implode())).write_parquet(path)
    spec = SourceSpec(store="y", targets=str(path), missing_targets="drop")
    config = config_in(tmp_path, sources={"focal": SourceSpec(store="x"), "p": spec})
    split = split_recordings(mix_of(focal=focal, p=named_by_folder(source)), config)
    assert split.used_R.tolist() == [True] * 58 + [False] * 14
    assert split.labels.names == ("a", "b", "c")


def test_labels_that_are_classes_are_scored_with_soft_targets_too(focal, pool, tmp_path):
    source, hidden = pool
    soft = write_soft(source, hidden, tmp_path / "soft.parquet")
    labels = [*"abc" * 6, *(["folder"] * 6)]
    named = replace(source, table=source.table.with_columns(primary_label=pl.Series(labels)))
    folds = {"folds": FoldConfig(num_folds=3), "train_folds": []}
    specs = {"focal": SourceSpec(store="x"), "p": SourceSpec(store="y", targets=soft)}
    split = split_recordings(
        mix_of(focal=focal, p=named), config_in(tmp_path, sources=specs, **folds)
    )
    assert split.labels.names == ("a", "b", "c")
    assert split.scored_R.tolist() == [True] * 66 + [False] * 6


def test_recordings_without_label_and_soft_targets_are_not_used(focal, pool, tmp_path):
    specs = {"focal": SourceSpec(store="x"), "p": SourceSpec(store="y")}
    split = split_recordings(mix_of(focal=focal, p=pool[0]), config_in(tmp_path, sources=specs))
    assert split.used_R.tolist() == [True] * 48 + [False] * 24


def test_a_config_with_sources_needs_the_mix_of_them(focal, tmp_path):
    config = config_in(tmp_path, sources={"focal": SourceSpec(store="x")})
    with pytest.raises(ConfigError, match=r"open_sources\(config\.sources\)"):
        split_recordings(focal, config)


def test_training_only_sources_leave_somebody_to_score(focal, tmp_path):
    config = config_in(tmp_path, sources={"focal": SourceSpec(store="x", train_only=True)})
    with pytest.raises(ConfigError, match="no recording can be held out"):
        split_recordings(mix_of(focal=focal), config)


def test_labels_that_only_a_training_only_source_has_are_no_classes(focal, tmp_path, caplog):
    caplog.set_level("INFO", "training")
    names = ["a", "folder_7"] * len(focal.table)
    pool = replace(
        focal, table=focal.table.with_columns(primary_label=pl.Series(names[: len(focal.table)]))
    )
    specs = {
        "focal": SourceSpec(store="x"),
        "pool": SourceSpec(store="y", train_only=True),
    }
    parts = [MixedSource(name="focal", source=focal)]
    parts.append(MixedSource(name="pool", source=pool, shared_ids="rename"))
    split = split_recordings(SourceMix(parts), config_in(tmp_path, sources=specs))
    assert split.labels.names == ("a", "b", "c")
    assert split.used_R[48:].tolist() == [True, False] * 24
    assert "24 recordings of train_only sources are not learned from" in caplog.text


def test_a_condition_acts_on_training_and_not_on_what_is_held_out(focal, tmp_path):
    sampling = SamplingConfig(where="max_db > -45 AND rating > 1", slice_choice="all")
    config = config_in(tmp_path, sampling=sampling)
    data = fold_data(focal, split_recordings(focal, config), 1, config)
    learned = np.concatenate([batch.rows.numpy() for batch in data.train_reader(accumulation=1)])
    loud = focal.index.join(focal.table, on="recording_id").filter(
        pl.col("max_db") > -45, pl.col("rating") > 1, pl.col("fold") != 1
    )
    assert set(learned) <= set(loud["row"])
    assert len(learned) == len(loud) // 4 * 4
    held_out = np.concatenate([batch.rows.numpy() for batch in data.val_reader()])
    assert held_out.tolist() == plan_all(focal.table.filter(fold=1)).rows.tolist()


def test_what_cannot_be_drawn_is_said_before_a_number_is_taken(focal, tmp_path):
    config = config_in(tmp_path / "lab", sampling=SamplingConfig(where="max_db > 100"))
    with pytest.raises(ConfigError, match=r"sampling\.where"):
        train_folds(focal, config)
    assert not (tmp_path / "lab").exists()


@pytest.mark.slow
def test_backgrounds_are_mixed_in_with_their_probability(focal, noise, tmp_path):
    tables = []
    for p in (None, 0.0, 0.7):
        mixing = BackgroundMixConfig() if p is None else BackgroundMixConfig(p=p, min_snr_db=5)
        config = config_in(
            tmp_path,
            augment=AugmentConfig(background=mixing),
            background=BackgroundConfig(store="noise"),
            train_folds=[1],
            trainer=short_trainer(epochs=1),
        )
        behind = None if p is None else noise
        report = train_folds(focal, config, background=behind)
        tables.append(pl.read_parquet(report.experiment.preds / "oof.parquet"))
    assert tables[1].equals(tables[0])
    assert not tables[2].equals(tables[0])


def test_a_fold_reads_backgrounds_for_training_alone(focal, noise, tmp_path):
    config = config_in(tmp_path)
    plan = BackgroundPlan(noise, seed=0)
    data = fold_data(focal, split_recordings(focal, config), 1, config, plan)
    assert next(iter(data.train_reader(accumulation=1))).background.shape == (4, 8, 16)
    assert next(iter(data.val_reader())).background is None


def test_backgrounds_without_a_source_are_refused(focal, tmp_path):
    config = config_in(tmp_path, augment=AugmentConfig(background=BackgroundMixConfig(p=0.5)))
    with pytest.raises(ConfigError, match=r"background\.store="):
        train_folds(focal, config)
