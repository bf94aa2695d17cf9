"""datasets.sampling.partners and pools: shares, who gets a partner, and what replaces what."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.injection import InjectSpec
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.candidates import Candidates
from datasets.sampling.config import SamplingConfig, SubstituteSpec
from datasets.sampling.epoch_plan import EpochPlanner
from datasets.sampling.partners import PoolSlices
from datasets.sampling.slice_choice import Activity
from datasets.slice_source import SOURCE_ROWS
from storage.errors import ConfigError
from tests.fakes import fake_recordings, write_fake_source
from tests.pools import facts_of, pool_table, rows_of

TABLE = pool_table(focal=[2] * 3000, labelled=[3, 1, 4, 2], pool=[5] * 30)
TWO = [InjectSpec(source="labelled", p=0.2), InjectSpec(source="pool", p=0.5)]
ONLY_FOCAL = {"focal": 1.0, "labelled": 0.0, "pool": 0.0}
ALL_DRAWN = {"focal": 1.0, "labelled": 0.5, "pool": 0.5}


def plan_of(config, *, weights=ONLY_FOCAL, seed=1, epoch=0, table=TABLE, **known):
    return EpochPlanner(table, config, seed=seed, source_weights=weights, **known)(epoch)


def source_of(rows):
    return rows // SOURCE_ROWS


def check_share(count, total, p):
    """Within 4.5 standard deviations of a binomial count: fails once in 150,000."""
    assert abs(count - total * p) <= 4.5 * np.sqrt(total * p * (1 - p)) + 1e-9


@pytest.mark.parametrize("weights", [ONLY_FOCAL, ALL_DRAWN, None], ids=["focal", "all", "none"])
def test_shares_are_those_of_the_config_and_pools_never_meet(weights):
    config = SamplingConfig(inject=TWO, slices_per_recording=4)
    plan = plan_of(config, weights=weights)
    focal = source_of(plan.rows) == 0
    assert (plan.partner_pool[~focal] == -1).all()
    for number, spec in enumerate(TWO):
        mine = plan.partner_pool == number
        check_share(mine.sum(), focal.sum(), spec.p)
        assert (source_of(plan.partner_rows[mine]) == number + 1).all()
        assert np.isin(plan.partner_rows[mine], rows_of(TABLE, spec.source)).all()
    none = plan.partner_pool == -1
    assert np.array_equal(plan.partner_rows[none], plan.rows[none])


def test_a_pool_of_weight_0_gives_no_samples_and_makes_no_epoch_longer():
    config = SamplingConfig(inject=TWO)
    plan = plan_of(config)
    assert len(plan) == 3000
    assert (source_of(plan.rows) == 0).all()
    unused = plan_of(SamplingConfig())  # a weight of 0 that no pool has stays what it was
    assert len(unused) == len(TABLE)


def test_all_samples_have_a_partner_where_shares_sum_to_one():
    specs = [InjectSpec(source="labelled", p=0.3), InjectSpec(source="pool", p=0.7)]
    assert (plan_of(SamplingConfig(inject=specs)).partner_pool >= 0).all()


def test_partners_are_spread_over_recordings_first_and_slices_second():
    specs = [InjectSpec(source="labelled", p=1.0)]
    plan = plan_of(SamplingConfig(inject=specs, slices_per_recording=10))
    table = TABLE.filter(source="labelled")
    number = np.searchsorted(table["first_row"].to_numpy(), plan.partner_rows, side="right") - 1
    for recording, slices in enumerate([3, 1, 4, 2]):
        rows, counts = np.unique(plan.partner_rows[number == recording], return_counts=True)
        assert len(rows) == slices
        for count in counts:
            check_share(count, len(plan), 1 / 4 / slices)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 100),
    order=st.sampled_from(["global", "block"]),
    p=st.floats(0, 1),
)
def test_partners_and_substitutes_depend_on_the_sample_alone(seed, epoch, order, p):
    """Neither other recordings, nor their order, nor the order of the epoch change them."""
    table = pool_table(focal=[2, 3, 1, 4, 2, 2, 5], pool=[2, 5, 1, 3])
    config = SamplingConfig(
        inject=[InjectSpec(source="pool", p=p)],
        substitute=SubstituteSpec(source="pool", p=0.3),
        order=order,
        block_rows=4,
        slices_per_recording=3,
    )

    def partners_of(lines, chosen=config):
        weights = {"focal": 1.0, "pool": 0.0}
        facts = facts_of(lines.sort("first_row"), chosen)
        return plan_of(chosen, weights=weights, seed=seed, epoch=epoch, table=lines, facts=facts)

    whole = partners_of(table)
    shuffled = partners_of(table.sample(fraction=1, shuffle=True, seed=seed % 100))
    assert np.array_equal(np.sort(whole.rows), np.sort(shuffled.rows))
    again = partners_of(table)
    assert whole.digest == again.digest
    pairs = set(zip(whole.rows.tolist(), whole.partner_rows.tolist(), strict=True))
    part = partners_of(table.filter(~pl.col("recording_id").str.starts_with("focal/take 3")))
    assert set(zip(part.rows.tolist(), part.partner_rows.tolist(), strict=True)) <= pairs


def test_the_digest_covers_the_partners_and_the_state_their_specs():
    plans = [
        plan_of(SamplingConfig(inject=[InjectSpec(source="pool", p=0.5, ratio=ratio)]), seed=seed)
        for ratio, seed in [(0.5, 1), (0.4, 1), (0.5, 2)]
    ]
    assert len({plan.digest for plan in plans}) == 3
    assert np.array_equal(plans[0].partner_rows, plans[1].partner_rows)
    assert "0.4" in plans[1].inputs["sampling.inject"]
    assert "sampling.inject" not in plan_of(SamplingConfig()).inputs


def test_pieces_change_nothing(monkeypatch):
    config = SamplingConfig(inject=TWO, substitute=SubstituteSpec(source="pool", p=0.3))
    facts = facts_of(TABLE, config, soft_values())
    whole = plan_of(config, facts=facts)
    monkeypatch.setattr("datasets.sampling.shuffle.PIECE", 7)
    assert plan_of(config, facts=facts).digest == whole.digest
    assert whole.num_substituted > 0


def test_eligible_rows_and_where_restrict_partners_too():
    config = SamplingConfig(inject=[InjectSpec(source="pool", p=1.0)])
    allowed = np.union1d(rows_of(TABLE, "focal"), rows_of(TABLE, "pool")[::7])
    plan = plan_of(config, eligible=allowed, table=TABLE.filter(pl.col("source") != "labelled"))
    assert np.isin(plan.partner_rows, rows_of(TABLE, "pool")[::7]).all()
    where = SamplingConfig(
        inject=[InjectSpec(source="pool", p=1.0)],
        where="source <> 'pool' OR primary_label = 'b'",
    )
    kept = TABLE.filter(source="pool", primary_label="b")
    assert np.isin(plan_of(where).partner_rows, rows_of(kept, "pool")).all()


def soft_values():
    """150 slices of the pool: the top class is a, b, c in turn, of every tenth there is none."""
    values = np.full((150, 3), 0.1)
    values[np.arange(150), np.arange(150) % 3] = 0.8
    values[::10] = 0
    return values


def test_substitutes_have_the_label_of_the_sample_as_their_top_class():
    config = SamplingConfig(substitute=SubstituteSpec(source="pool", p=0.4), slices_per_recording=4)
    values = soft_values()
    facts = facts_of(TABLE, config, values)
    plan = plan_of(config, facts=facts)
    replaced = source_of(plan.rows) == 2
    assert plan.num_substituted == replaced.sum()
    check_share(replaced.sum(), len(plan), 0.4)
    pool = rows_of(TABLE, "pool")
    line = np.searchsorted(pool, plan.rows[replaced])
    assert (values[line].max(axis=1) == 0.8).all()
    assert {len(plan_of(config, epoch=epoch, facts=facts)) for epoch in range(3)} == {12_016}
    by_class = [np.isin(np.flatnonzero(np.arange(150) % 3 == number), line) for number in range(3)]
    assert all(seen.sum() >= 45 for seen in by_class)


def test_each_class_keeps_its_samples_when_they_are_substituted():
    """A sample of label a is replaced by top class a only: counts of classes stay."""
    config = SamplingConfig(substitute=SubstituteSpec(source="pool", p=1.0))
    values = soft_values()
    values[:, 2] = 0  # nothing for c, so its samples stay
    table = TABLE.filter(pl.col("source") != "labelled")
    weights = {"focal": 1.0, "pool": 0.0}
    facts = facts_of(table, config, values)
    plan = plan_of(config, table=table, weights=weights, facts=facts)
    replaced = source_of(plan.rows) == 2
    top = values[np.searchsorted(rows_of(table, "pool"), plan.rows[replaced])].argmax(axis=1)
    assert np.bincount(top).tolist() == [1000, 1000]
    left = plan.recordings["primary_label"].to_numpy()[plan.planned_no[~replaced]]
    assert left.tolist() == ["c"] * 1000
    inside = plan.recordings["first_row"].to_numpy()[plan.planned_no] <= plan.rows
    assert inside.all()


def test_hard_labels_have_a_top_class_too_and_substitutes_get_no_partner():
    config = SamplingConfig(
        substitute=SubstituteSpec(source="labelled", p=0.5),
        inject=[InjectSpec(source="labelled", p=0.5), InjectSpec(source="pool", p=0.5)],
    )
    plan = plan_of(config, facts=facts_of(TABLE, config))
    replaced = source_of(plan.rows) == 1
    check_share(replaced.sum(), 3000, 0.5)
    assert ((plan.partner_pool == -1) == replaced).all()
    labels = plan.recordings["primary_label"].to_numpy()[plan.planned_no]
    assert np.unique(labels, return_counts=True)[1].tolist() == [1000] * 3


def test_chances_of_slices_are_weights_of_recordings_shared_out():
    table = fake_recordings([2, 3])
    slices = PoolSlices(
        candidates=Candidates.all_of(table),
        weight=np.array([3.0, 1.0]),
        activity=Activity.from_weights(np.array([1, 3, 1, 1, 2]), np.array([0, 2])),
    )
    rows, owner, chance = slices.chances(np.array([0, 1]))
    assert rows.tolist() == [7, 8, 16, 17, 18]
    assert owner.tolist() == [0, 0, 1, 1, 1]
    assert chance.tolist() == [0.75, 2.25, 0.25, 0.25, 0.5]
    bits = np.random.default_rng(1).integers(0, 2**64, (2, 40_000), np.uint64)
    drawn = slices.draw(np.array([0, 1]), *bits)
    for row, expected in zip(rows, chance / 4, strict=True):
        check_share((drawn == row).sum(), 40_000, expected)


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"inject": [InjectSpec(source="none", p=0.1)]}, "none, which .* no recording to draw"),
        ({"inject": [InjectSpec(source="focal", p=0.1)]}, "no other source gives samples"),
        ({"where": "source = 'focal'", "inject": TWO}, "labelled, which .* no recording"),
        ({"substitute": SubstituteSpec(source="pool")}, "needs the targets"),
    ],
)
def test_pools_with_nothing_to_draw_are_refused(sampling, words):
    with pytest.raises(ConfigError, match=words):
        plan_of(SamplingConfig(**sampling))


def test_shares_above_one_are_refused():
    with pytest.raises(ConfigError, match=r"sum to 1.2, but a sample gets one partner"):
        SamplingConfig(inject=[InjectSpec(source="a", p=0.7), InjectSpec(source="b", p=0.5)])
    with pytest.raises(ConfigError, match="names the source a; the sources are b, c"):
        SamplingConfig(inject=[InjectSpec(source="a")]).check_sources(["b", "c"])
    with pytest.raises(ConfigError, match="substitute names the source a; the sources are none"):
        SamplingConfig(substitute=SubstituteSpec(source="a")).check_sources([])


def test_a_source_of_its_own_has_no_pools():
    config = SamplingConfig(inject=[InjectSpec(source="pool")])
    with pytest.raises(ConfigError, match="pool, which"):
        EpochPlanner(fake_recordings([2, 2]), config, seed=1)


def test_resuming_with_another_pool_or_other_specs_is_refused(tmp_path):
    source = write_fake_source(tmp_path / "cells.raw", [2] * 12, seed=1)
    names = pl.Series("source", ["focal"] * 8 + ["pool"] * 4)
    table = source.table.with_columns(names)

    def reader(p=0.5, lines=table, rank=0, world_size=1):
        config = SamplingConfig(inject=[InjectSpec(source="pool", p=p)])
        weights = {"focal": 1.0, "pool": 0.0}
        planner = EpochPlanner(lines, config, seed=1, source_weights=weights)
        loader = LoaderConfig(batch_size=2)
        return BatchReader(
            source,
            planner,
            loader,
            targets=None,
            train=True,
            rank=rank,
            world_size=world_size,
            accumulation=2 // world_size,
        )

    state = reader().state_dict()
    reader().load_state_dict(state)
    for rank in range(2):
        other = reader(rank=rank, world_size=2)
        other.load_state_dict(state)
        assert other.state_dict()["digest"] == state["digest"]
    with pytest.raises(ConfigError, match=r"sampling\.inject: "):
        reader(p=0.4).load_state_dict(state)
    with pytest.raises(ConfigError, match="recordings: 12"):
        reader(lines=table.head(11)).load_state_dict(state)
