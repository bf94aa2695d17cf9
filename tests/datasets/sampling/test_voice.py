"""datasets.sampling.voice: slices with human voice are left out, or come less often."""

import numpy as np
import polars as pl
import pytest

from datasets.injection import InjectSpec
from datasets.sampling.candidates import Candidates
from datasets.sampling.config import SamplingConfig
from datasets.sampling.epoch_plan import EpochPlanner
from datasets.sampling.voice import read_voice
from datasets.slice_source import ID_IN_SOURCE, rows_in_source
from storage.errors import ConfigError
from tests.fakes import fake_recordings, fake_slice_index
from tests.pools import facts_of, pool_table, rows_of

TABLE = fake_recordings([4, 2, 6])
ROWS = Candidates.all_of(TABLE).sorted_rows()[0]
SHARES = np.array([0.0, 0.6, 0.5, 0.9, 1.0, 1.0, 0.0, 0.0, 0.2, 0.7, 0.0, 0.0])


def voice_table(table, shares):
    """Lines as tools.voice writes them, by rows and ids of the source itself."""
    rows = Candidates.all_of(table).sorted_rows()[0]
    ids = table["recording_id"].to_numpy().repeat(table["num_slices"].to_numpy())
    columns = {"row": rows_in_source(rows), "recording_id": ids, "voice_share": shares}
    return pl.DataFrame(columns, schema_overrides={"voice_share": pl.Float32})


def written(tmp_path, table, shares):
    path = tmp_path / "voice.parquet"
    voice_table(table, shares).write_parquet(path)
    return str(path)


def plans_of(config, table=TABLE, num_epochs=300, **known):
    planner = EpochPlanner(table, config, seed=1, facts=facts_of(table, config), **known)
    return [planner(epoch) for epoch in range(num_epochs)]


def test_slices_above_the_threshold_are_dropped(tmp_path):
    config = SamplingConfig(
        voice_file=written(tmp_path, TABLE, SHARES), slice_choice="all", voice_threshold=0.5
    )
    (plan,) = plans_of(config, num_epochs=1)
    assert np.sort(plan.rows).tolist() == ROWS[SHARES <= 0.5].tolist()
    assert plan.recordings["recording_id"].to_list() == TABLE["recording_id"][[0, 2]].to_list()
    eligible = ROWS[::2]
    (plan,) = plans_of(config, num_epochs=1, eligible=eligible)
    assert np.sort(plan.rows).tolist() == np.intersect1d(ROWS[SHARES <= 0.5], eligible).tolist()


@pytest.mark.parametrize("choice", ["random", "best_of"])
def test_slices_above_the_threshold_come_less_often(tmp_path, choice):
    config = SamplingConfig(
        voice_file=written(tmp_path, TABLE, SHARES),
        voice="down_weight",
        voice_weight=0.25,
        slice_choice=choice,
        slices_per_recording=10,
        best_of=1,
        best_of_by="max_db",
    )
    plans = plans_of(config, slice_index=fake_slice_index(TABLE))
    rows = np.concatenate([plan.rows for plan in plans])
    weights = np.where(SHARES > 0.5, 0.25, 1.0)
    sums = np.repeat(np.add.reduceat(weights, [0, 4, 6]), [4, 2, 6])
    found = np.array([(rows == row).mean() for row in ROWS])
    assert np.allclose(found, weights / sums / 3, atol=0.01)


def test_partners_are_chosen_by_voice_too(tmp_path):
    table = pool_table(focal=[1] * 4, pool=[3, 1])
    pool = table.filter(source="pool")
    path = written(tmp_path, pool, [0.9, 0.1, 0.0, 1.0])
    inject = [InjectSpec(source="pool", p=1.0)]
    weights = {"focal": 1.0, "pool": 0.0}
    config = SamplingConfig(inject=inject, voice_file=path, slices_per_recording=20)
    dropped = plans_of(config, table, num_epochs=20, source_weights=weights)
    assert set(np.concatenate([plan.partner_rows for plan in dropped])) == set(
        rows_of(table, "pool")[[1, 2]]
    )
    config = SamplingConfig(
        inject=inject, voice_file=path, voice="down_weight", slices_per_recording=20
    )
    plans = plans_of(config, table, num_epochs=100, source_weights=weights)
    rows = np.concatenate([plan.partner_rows for plan in plans])
    found = [(rows == row).mean() for row in rows_of(table, "pool")]
    assert np.allclose(found, [0.1, 0.2, 0.2, 0.5], atol=0.03)


def test_rows_are_those_of_the_source_and_renamed_ids_are_known(tmp_path):
    table = pool_table(focal=[2, 3], pool=[1, 2])
    own = pl.col("recording_id").str.strip_prefix("pool/")
    mine = table.with_columns(
        pl.when(pl.col("source") == "pool").then(own).alias(ID_IN_SOURCE),
    )
    shares = [0.1, 0.2, 0.3]
    path = written(tmp_path, table.filter(source="pool").with_columns(own), shares)
    voice = read_voice(path, mine)
    assert voice.rows.tolist() == rows_of(table, "pool").tolist()
    assert voice.share.tolist() == np.float32(shares).tolist()
    assert voice.louder_than(0.15).tolist() == rows_of(table, "pool")[1:].tolist()


def test_the_state_knows_another_voice_file(tmp_path):
    states = []
    for shares in (SHARES, SHARES * 0.9):
        config = SamplingConfig(
            voice_file=written(tmp_path, TABLE, shares), voice="down_weight", voice_threshold=0.1
        )
        states.append(plans_of(config, num_epochs=1)[0].inputs)
    differing = {name for name in states[0] if states[0][name] != states[1][name]}
    assert differing == {"voice"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.head(10), "lacks 2 of 12 slices: measure the store again"),
        (lambda table: table.with_columns(pl.col("row") + 1), "is no slice of .* another store"),
        (lambda table: table.with_columns(recording_id=pl.lit("x")), "none of its 12 lines"),
        (lambda table: table.drop("voice_share"), "it needs recording_id, row, voice_share"),
        (lambda table: table.with_columns(pl.col("voice_share") * 2), "between 0 and 1"),
        (lambda table: pl.concat([table, table]), "several lines for one slice"),
        (lambda table: table.with_columns(pl.col("row").cast(pl.String)), "whole numbers"),
    ],
    ids=["part", "shifted", "other", "column", "range", "twice", "type"],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, words):
    path = str(tmp_path / "voice.parquet")
    change(voice_table(TABLE, SHARES)).write_parquet(path)
    with pytest.raises(ConfigError, match=words):
        read_voice(path, TABLE)


def test_a_missing_file_voice_everywhere_and_deaf_choices_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="voice_file=nowhere"):
        read_voice("nowhere.parquet", TABLE)
    path = written(tmp_path, TABLE, np.ones(12))
    with pytest.raises(ConfigError, match="voice=drop leaves none of 12 slices"):
        plans_of(SamplingConfig(voice_file=path))
    with pytest.raises(ConfigError, match=r"sampling.slice_choice=all\s+does not heed"):
        SamplingConfig(voice_file=path, voice="down_weight", slice_choice="all")
    with pytest.raises(ConfigError, match="voice=mute is none of drop, down_weight"):
        SamplingConfig(voice="mute")
