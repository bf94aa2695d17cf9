"""Verdicts of people become targets of slices and labels of recordings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.folds import FoldConfig
from datasets.labels import LabelConfig
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.reviews import NO, OTHER, UNSURE, YES, ReviewLog, Verdict
from datasets.sampling.config import SamplingConfig
from datasets.sources.mix import RENAME, MixedSource, SourceMix, SourceSpec
from datasets.sources.reviewed import read_reviewed
from storage.errors import ConfigError
from tests.fakes import FakeSource, write_fake_source
from training.config import TrainingConfig
from training.data_module import FoldDataModule
from training.fold_data import FoldData
from training.model.learning.losses import LossConfig
from training.split import Split, fold_data, split_recordings

STEP_S = 0.5  # length of a slice, and from one to the next
ALL = SamplingConfig(slice_choice="all")


def touching(source: FakeSource) -> FakeSource:
    """A source whose slices follow each other without a gap."""
    table = source.table.with_columns(duration_s=pl.col("num_slices") * STEP_S)
    times = source.index["slice_no"].cast(pl.Float64) * STEP_S
    return replace(source, table=table, index=source.index.with_columns(start_s=times))


def without_labels(source: FakeSource) -> FakeSource:
    labels = {
        "primary_label": pl.lit(None, pl.String),
        "secondary_labels": pl.lit([], pl.List(pl.String)),
    }
    return replace(source, table=source.table.with_columns(**labels))


@pytest.fixture
def mix(tmp_path: Path) -> SourceMix:
    """12 labelled recordings of 3 slices, of which each has two labels or three, and 2 without."""
    focal = touching(write_fake_source(tmp_path / "focal.raw", [3] * 12, seed=1))
    wild = without_labels(touching(write_fake_source(tmp_path / "wild.raw", [4, 5], seed=2)))
    return SourceMix(
        [
            MixedSource(name="focal", source=focal),
            MixedSource(name="wild", source=wild, shared_ids=RENAME),
        ]
    )


def told(folder: Path, *verdicts: tuple[int, float, float, str, str], who: str = "ana") -> Path:
    """Writes verdicts on spans of `take N`: (N, first slice, last slice + 1, label, verdict)."""
    log = ReviewLog(folder)
    for number, first, stop, label, verdict in verdicts:
        verdict, _, other = verdict.partition(" ")
        log.append(
            Verdict(
                annotator=who,
                verdict=verdict,
                label=label,
                other_label=other,
                recording_id=f"take {number}.5%é",
                start_s=first * STEP_S,
                end_s=stop * STEP_S,
            )
        )
    return folder


def config(*, focal: Path | None = None, wild: Path | None = None, **options) -> TrainingConfig:
    specs = {
        name: SourceSpec(store=name, reviews=[str(folder)] if folder else [])
        for name, folder in (("focal", focal), ("wild", wild))
    }
    basic = TrainingConfig(sources=specs, folds=FoldConfig(num_folds=2), sampling=ALL)
    return replace(basic, **options)


def found(split: Split, mix: SourceMix, recording_id: str) -> list[str]:
    """Targets of the slices of a recording, `-` where a slice is not learned from."""
    index = mix.slice_index().filter(pl.col("recording_id") == recording_id)
    rows = index["row"].to_numpy()
    line = split.recordings["recording_id"].to_list().index(recording_id)
    values = split.targets.of(rows, np.full(len(rows), line))
    learned = np.isin(rows, rows if split.eligible is None else split.eligible)
    learned &= bool(split.used_R[line])
    named = [
        " ".join(
            f"{name}{value:g}" for name, value in zip(split.labels.names, row, strict=True) if value
        )
        for row in values
    ]
    return [text if one else "-" for text, one in zip(named, learned, strict=True)]


OWN = "a1 b0.5"  # take 0: label a, and b as a secondary one


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([(0, 1, 2, "a", YES)], [OWN, OWN, OWN]),
        ([(0, 1, 2, "b", YES)], [OWN, "a1 b1", OWN]),
        ([(0, 1, 2, "c", YES)], [OWN, "a1 b0.5 c1", OWN]),
        ([(0, 1, 2, "b", NO)], [OWN, "a1", OWN]),
        ([(0, 1, 2, "a", NO)], [OWN, "b0.5", OWN]),
        ([(0, 1, 2, "a", NO), (0, 1, 2, "b", NO)], [OWN, "-", OWN]),
        ([(0, 1, 2, "a", f"{OTHER} c")], [OWN, "b0.5 c1", OWN]),
        ([(0, 1, 2, "a", UNSURE)], [OWN, OWN, OWN]),
        ([(0, 1, 2, "unheard of", YES)], [OWN, OWN, OWN]),
        ([(0, 1.5, 2.5, "c", YES)], [OWN, "a1 b0.5 c1", "a1 b0.5 c1"]),
        ([(0, 1.6, 2.6, "b", NO)], [OWN, OWN, "a1"]),
        ([(0, 1.2, 1.4, "c", YES), (0, 1.2, 1.4, "b", NO)], [OWN, "a1 b0.5 c1", OWN]),
        ([(0, 0, 3, "a", f"{OTHER} c")], ["b0.5 c1"] * 3),
        ([(0, 0, 3, "a", NO)], ["-"] * 3),
        ([(0, 0, 3, "a", NO), (0, 2, 3, "c", YES)], ["b0.5 c1"] * 3),
        ([(0, 0, 3, "b", NO)], ["a1"] * 3),
    ],
)
def test_verdicts_set_targets(mix: SourceMix, tmp_path: Path, verdicts, expected) -> None:
    split = split_recordings(mix, config(focal=told(tmp_path / "reviews", *verdicts)))
    assert found(split, mix, "take 0.5%é") == expected
    assert split.labels.names == ("a", "b", "c")
    assert found(split, mix, "take 3.5%é") == [OWN] * 3


def test_a_new_label_is_that_of_the_recording_everywhere_and_folds_stay(
    mix: SourceMix, tmp_path: Path
) -> None:
    before = split_recordings(mix, config())
    folder = told(tmp_path / "reviews", (0, 0, 3, "a", f"{OTHER} c"), (1, 0, 3, "b", NO))
    after = split_recordings(mix, config(focal=folder))
    assert after.recordings["primary_label"][:3].to_list() == ["c", None, "c"]
    assert after.truth.primary_R[:3].tolist() == [2, -1, 2]
    assert np.array_equal(after.fold_R[after.scored_R], before.fold_R[after.scored_R])
    assert before.scored_R.sum() - after.scored_R.sum() == 1
    assert not after.used_R[1]


def test_contradictions_decide_nothing_and_the_last_verdict_of_a_person_counts(
    mix: SourceMix, tmp_path: Path
) -> None:
    folder = told(tmp_path / "reviews", (0, 1, 2, "c", YES), (0, 2, 3, "b", NO))
    told(folder, (0, 1, 2, "c", NO), (0, 2, 3, "b", YES), (0, 2, 3, "b", NO), who="ben")
    split = split_recordings(mix, config(focal=folder))
    assert found(split, mix, "take 0.5%é") == [OWN, OWN, "a1"]


def test_of_recordings_without_labels_the_slices_with_a_class_are_learned(
    mix: SourceMix, tmp_path: Path
) -> None:
    folder = told(tmp_path / "reviews", (0, 1, 2, "a", YES), (0, 2, 3, "b", NO), (1, 0, 1, "b", NO))
    split = split_recordings(mix, config(wild=folder))
    assert found(split, mix, "wild/take 0.5%é") == ["-", "a1", "-", "-"]
    assert found(split, mix, "wild/take 1.5%é") == ["-"] * 5
    assert found(split, mix, "take 0.5%é") == [OWN] * 3
    assert not split.scored_R[12:].any()


def test_soft_targets_are_corrected_too(mix: SourceMix, tmp_path: Path) -> None:
    index = mix.slice_index().filter(pl.col("recording_id").str.starts_with("wild/"))
    own = index.select(pl.col("recording_id").str.strip_prefix("wild/"), "slice_no")
    own.with_columns(p_a=0.25, p_b=0.0).write_parquet(tmp_path / "soft.parquet")
    folder = told(tmp_path / "reviews", (0, 1, 2, "b", YES), (0, 2, 3, "a", NO))
    chosen = config(wild=folder)
    chosen.sources["wild"] = replace(
        chosen.sources["wild"], targets=str(tmp_path / "soft.parquet"), train_only=True
    )
    split = split_recordings(mix, chosen)
    assert found(split, mix, "wild/take 0.5%é") == ["a0.25", "a0.25 b1", "-", "a0.25"]
    assert found(split, mix, "wild/take 1.5%é") == ["a0.25"] * 5


def test_a_class_that_is_there_takes_no_call_away(mix: SourceMix, tmp_path: Path) -> None:
    folder = told(tmp_path / "reviews", (1, 0, 1, "c", YES))
    chosen = config(wild=folder, labels=LabelConfig(no_call="none"))
    chosen.sources["wild"] = replace(chosen.sources["wild"], no_call=True, train_only=True)
    split = split_recordings(mix, chosen)
    assert found(split, mix, "wild/take 1.5%é") == ["c1", *["none1"] * 4]


def test_unknown_secondary_labels_become_known(mix: SourceMix, tmp_path: Path) -> None:
    folder = told(tmp_path / "reviews", (0, 0, 1, "b", YES), (0, 1, 2, "b", NO))
    split = split_recordings(mix, config(focal=folder, loss=LossConfig(secondary="mask")))
    assert found(split, mix, "take 0.5%é") == ["a1 b1", "a1", "a1 bnan"]


CHOICES = [
    (number, first, first + 1, label, verdict)
    for number in range(12)
    for first in range(3)
    for label in "abc"
    for verdict in (YES, NO, f"{OTHER} c")
]


@pytest.mark.parametrize("seed", range(4))
def test_targets_are_those_of_a_plain_loop(mix: SourceMix, tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    chosen = [CHOICES[number] for number in draw.choice(len(CHOICES), 40, replace=False)]
    split = split_recordings(mix, config(focal=told(tmp_path / "reviews", *chosen)))
    last: dict[tuple, str] = {}
    for number, first, _, label, verdict in chosen:
        if not verdict.startswith(OTHER) or label != "c":
            last[number, first, label] = verdict
        else:
            last[number, first, label] = f"{OTHER} c"
    for number in range(12):
        own = "abc"[number % 3]
        slices = []
        refused = set()
        for first in range(3):
            answers: dict[str, set[bool]] = {}
            for label in "abc":
                verdict = last.get((number, first, label))
                if verdict is None:
                    continue
                answers.setdefault(label, set()).add(verdict == YES)
                if verdict.startswith(OTHER):
                    answers.setdefault("c", set()).add(True)
            slices.append({label: one.pop() for label, one in answers.items() if len(one) == 1})
        refused = {first for first in range(3) if slices[first].get(own) is False}
        confirmed = any(one.get(own) for one in slices)
        label = own
        if len(refused) >= 2 and not confirmed:
            counts = {
                name: [first for first in range(3) if slices[first].get(name)] for name in "abc"
            }
            best = sorted((-len(at), at[0], name) for name, at in counts.items() if at)
            label = best[0][2] if best else None
        expected = []
        for first in range(3):
            target = {name: 0.5 for name in "ab" if name != own} | ({label: 1.0} if label else {})
            if label is None:
                target = {}
            target |= {name: float(there) for name, there in slices[first].items()}
            expected.append(
                " ".join(f"{name}{target[name]:g}" for name in sorted(target) if target[name])
            )
        assert found(split, mix, f"take {number}.5%é") == [text or "-" for text in expected]


def planned(mix: SourceMix, chosen: TrainingConfig) -> FoldData:
    return fold_data(mix, split_recordings(mix, chosen), 0, chosen)


def test_without_verdicts_plans_and_targets_are_as_they_were(
    mix: SourceMix, tmp_path: Path
) -> None:
    before = planned(mix, config())
    for folder in (tmp_path / "empty", told(tmp_path / "unsure", (0, 0, 1, "a", UNSURE))):
        folder.mkdir(exist_ok=True)
        after = planned(mix, config(focal=folder))
        assert after.planner()(3).digest == before.planner()(3).digest
        assert after.eligible is None
        assert np.array_equal(after.targets.hard, before.targets.hard)
    assert before.planner()(0).inputs.keys() & {"reviews"} == set()


def reader(data: FoldData, **place) -> BatchReader:
    data = replace(data, train_loader=LoaderConfig(batch_size=2))
    return data.train_reader(accumulation=1, **place)


def test_ranks_and_resumed_readers_see_the_same_targets(mix: SourceMix, tmp_path: Path) -> None:
    folder = told(tmp_path / "reviews", *CHOICES[:40:3])
    data = planned(mix, config(focal=folder))
    whole = {
        int(row): tuple(target)
        for batch in reader(data)
        for row, target in zip(batch.rows, batch.targets.tolist(), strict=True)
    }
    for number in range(2):
        for batch in reader(data, rank=number, world_size=2):
            for row, target in zip(batch.rows, batch.targets.tolist(), strict=True):
                assert whole[int(row)] == tuple(target)
    first = reader(data)
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    rest = [batch.rows.tolist() for batch in batches]
    again = reader(planned(mix, config(focal=folder)))
    again.load_state_dict(state)
    assert [batch.rows.tolist() for batch in again] == rest
    told(folder, (5, 0, 1, "a", YES))
    other = reader(planned(mix, config(focal=folder)))
    with pytest.raises(ConfigError, match=r"another training .*reviews: "):
        other.load_state_dict(state)


def test_ranks_that_have_read_other_verdicts_are_refused(
    mix: SourceMix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = planned(mix, config(focal=told(tmp_path / "reviews", (0, 1, 2, "b", YES))))
    module = FoldDataModule(data, accumulation=1)
    module._check_reviews()
    monkeypatch.setattr("training.data_module.gather_lists", lambda values: [*values, "others"])
    with pytest.raises(ConfigError, match="while the ranks started"):
        module._check_reviews()


def test_files_of_verdicts_count_as_folders_do(mix: SourceMix, tmp_path: Path) -> None:
    folder = told(tmp_path / "reviews", (0, 1, 2, "b", YES), (0, 2, 3, "b", NO))
    specs = config(focal=folder).sources
    whole = read_reviewed(mix.recordings(), specs, mix)
    files = [str(path) for path in sorted(folder.iterdir())]
    specs = {**specs, "focal": replace(specs["focal"], reviews=[*files, files[0]])}
    assert read_reviewed(mix.recordings(), specs, mix).digest == whole.digest != ""


def test_reviews_of_another_source_are_refused(mix: SourceMix, tmp_path: Path) -> None:
    folder = told(tmp_path / "reviews", (99, 0, 1, "a", YES))
    with pytest.raises(ConfigError, match=r"sources.focal.reviews=.*none of 1 .*take 99.5"):
        split_recordings(mix, config(focal=folder))
    with pytest.raises(ConfigError, match="there is no folder of reviews"):
        split_recordings(mix, config(focal=tmp_path / "nothing"))
