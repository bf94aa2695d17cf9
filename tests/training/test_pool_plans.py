"""training.fold_data: plans with partners and substitutes of a mix with soft targets."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from omegaconf import OmegaConf

from datasets.folds import FoldConfig
from datasets.injection import InjectSpec
from datasets.sampling.config import SamplingConfig, SubstituteSpec
from datasets.slice_source import SOURCE_ROWS, rows_in_source
from datasets.sources.mix import MixedSource, SourceMix, SourceSpec
from storage.errors import ConfigError
from tests.fakes import write_fake_source
from tools.cli.config import load_config
from tools.cli.training_inputs import TrainSections
from tools.show_plan import pool_lines
from training.config import TrainingConfig
from training.split import fold_data, split_recordings

SAMPLING = SamplingConfig(
    slices_per_recording=20,
    inject=[InjectSpec(source="pool", p=0.5)],
    substitute=SubstituteSpec(source="pool", p=0.25),
)


@pytest.fixture
def mix(tmp_path):
    focal = write_fake_source(tmp_path / "focal.raw", [2] * 60, seed=1)
    pool = write_fake_source(tmp_path / "pool.raw", [4] * 9, seed=2)
    ids = pl.format("pool/{}", "recording_id").alias("recording_id")
    pool = replace(
        pool,
        table=pool.table.with_columns(ids, primary_label=pl.lit(None, pl.String)),
        index=pool.index.with_columns(ids),
    )
    return SourceMix(
        [MixedSource(name="focal", source=focal), MixedSource(name="pool", source=pool)]
    )


@pytest.fixture
def values():
    """Targets of the 36 slices of the pool."""
    return np.random.default_rng(3).random((36, 3)).astype(np.float32)


@pytest.fixture
def soft(mix, values, tmp_path):
    """A file of them that lacks every sixth slice."""
    index = mix.slice_index().filter(pl.col("row") >= SOURCE_ROWS)
    frame = pl.DataFrame(
        {
            "recording_id": index["recording_id"],
            "row": rows_in_source(index["row"].to_numpy()),
            **{f"p_{name}": values[:, number] for number, name in enumerate("abc")},
        }
    )
    frame.filter(pl.int_range(pl.len()) % 6 > 0).write_parquet(tmp_path / "soft.parquet")
    return str(tmp_path / "soft.parquet")


def config_of(soft, sampling=SAMPLING, **pool):
    specs = {
        "focal": SourceSpec(store="focal"),
        "pool": SourceSpec(
            store="pool",
            train_only=True,
            weight=0.0,
            targets=soft,
            missing_targets="drop",
            **pool,
        ),
    }
    folds = FoldConfig(cv="kfold", num_folds=3)
    return TrainingConfig(sources=specs, sampling=sampling, folds=folds)


@pytest.mark.parametrize("draw", ["equal", "max_sum", "slice_max"])
def test_substitutes_have_soft_targets_whose_top_class_is_the_label(mix, soft, values, draw):
    config = config_of(soft, draw=draw)
    data = fold_data(mix, split_recordings(mix, config), 1, config)
    planner = data.planner()
    plan = planner(0)
    assert len(plan) == 20 * 40
    pool_rows = mix.slice_index().filter(pl.col("row") >= SOURCE_ROWS)["row"].to_numpy()
    known = pool_rows[np.arange(36) % 6 > 0]
    replaced = plan.rows >= SOURCE_ROWS
    assert plan.num_substituted == replaced.sum()
    assert abs(replaced.mean() - 0.25) < 0.07
    partners = plan.partner_rows[plan.partner_pool == 0]
    assert abs(len(partners) / (~replaced).sum() - 0.5) < 0.09
    assert np.isin(plan.rows[replaced], known).all()
    assert np.isin(partners, known).all()
    if draw == "equal":  # classes keep their numbers of samples, as samples and by top class
        top = values[np.searchsorted(pool_rows, plan.rows[replaced])].argmax(axis=1)
        labels = plan.recordings["primary_label"].to_numpy()[plan.planned_no[~replaced]]
        own = replace(SAMPLING, substitute=SubstituteSpec())
        plain = replace(data, config=replace(config, sampling=own)).planner()(0)
        usual = plain.recordings["primary_label"].to_numpy()[plain.planned_no]
        found = sorted([*labels, *np.array(list("abc"))[top]])
        assert found == sorted(usual)
    held_out = data.held_out_recordings["recording_id"]
    assert not plan.recordings["recording_id"].is_in(held_out.implode()).any()


def test_a_written_plan_names_partners_by_pool_and_row(mix, soft, tmp_path):
    config = config_of(soft)
    plan = fold_data(mix, split_recordings(mix, config), 1, config).planner()(0)
    plan.write_parquet(tmp_path / "plan.parquet")
    table = pl.read_parquet(tmp_path / "plan.parquet")
    with_partner = plan.partner_pool == 0
    assert table["partner_pool"].is_not_null().to_list() == with_partner.tolist()
    rows = table.filter(pl.Series(with_partner))["partner_row"].to_numpy()
    assert np.array_equal(rows + SOURCE_ROWS, plan.partner_rows[with_partner])
    assert table.filter(source="pool").height == plan.num_substituted


def test_the_shares_are_told(mix, soft):
    config = config_of(soft)
    plan = fold_data(mix, split_recordings(mix, config), 1, config).planner()(3)
    partners = int((plan.partner_pool == 0).sum())
    assert list(pool_lines(plan, SAMPLING)) == [
        f"partners from pool: {partners:,} samples, {partners / 800:.1%} (p=0.5)",
        f"substituted from pool: {plan.num_substituted:,} samples, "
        f"{plan.num_substituted / 800:.1%} (p=0.25)",
    ]
    plain = replace(config, sampling=SamplingConfig())
    plan = fold_data(mix, split_recordings(mix, plain), 1, plain).planner()(3)
    assert list(pool_lines(plan, plain.sampling)) == []


def test_a_pool_that_is_no_source_is_refused_when_the_config_is_read(soft):
    sampling = SamplingConfig(inject=[InjectSpec(source="pond")])
    with pytest.raises(ConfigError, match="inject names the source pond; the sources are focal"):
        config_of(soft, sampling)


def test_a_config_file_and_words_give_the_same_pools(tmp_path):
    words = [
        "sources.focal.store=a",
        "sources.pool.store=b",
        "sources.pool.draw=max_sum",
        "sampling.inject=[{source: pool, p: 0.3, cap_sum: 0.5}]",
        "sampling.substitute.source=pool",
    ]
    config = load_config(TrainSections, "configs/base.yaml", words)
    assert config.sampling.inject == [InjectSpec(source="pool", p=0.3, cap_sum=0.5)]
    assert config.sampling.substitute == SubstituteSpec(source="pool", p=0.5)
    file = tmp_path / "again.yaml"
    file.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    assert load_config(TrainSections, str(file)).sampling == config.sampling
    with pytest.raises(ConfigError, match="pp: no such key"):
        load_config(TrainSections, "configs/base.yaml", ["sampling.inject=[{pp: 1}]"])
