"""A test bed on disk: equal bytes, exact truth, and the files that other commands read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

import tools.mix_soundscapes
from storage.errors import ConfigError
from storage.source.table import SourceConfig, read_source
from tests.tools.soundscapes.sources import write_backgrounds, write_recordings
from tools.cli.command import run
from tools.soundscapes.config import MixConfig
from tools.soundscapes.test_bed import make_test_bed
from training.inference.evaluation.annotations import read_annotations


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> MixConfig:
    root = tmp_path_factory.mktemp("bed")
    write_recordings(root / "birds", num_classes=3, num_recordings=8)
    write_backgrounds(root / "noise", number=4)
    return MixConfig(
        recordings=str(root / "birds"),
        backgrounds=[str(root / "noise")],
        out=str(root / "bed"),
        pool=2,
        labelled=1,
        test=3,
        duration_s=12.0,
        min_calls=20,
        max_calls=40,
        min_snr_db=10,
        max_snr_db=20,
        max_echo_s=0.1,
    )


@pytest.fixture(scope="module")
def bed(config: MixConfig) -> Path:
    make_test_bed(config)
    return config.root


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_equal_seeds_give_equal_bytes_also_after_a_stop(
    bed: Path, config: MixConfig, tmp_path: Path
) -> None:
    again = replace(config, out=str(tmp_path / "bed"))
    make_test_bed(again)
    assert contents(again.root) == contents(bed)
    (again.root / "hidden" / "truth.csv").unlink()
    next((again.root / "test").glob("*.ogg")).write_bytes(b"OggS")
    make_test_bed(again)
    assert contents(again.root) == contents(bed)
    assert "is complete" in make_test_bed(again)
    with pytest.raises(ConfigError, match="a test bed of another config or"):
        make_test_bed(replace(again, seed=1))
    table = Path(config.recordings) / "train.csv"
    text = table.read_text()
    table.write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(ConfigError, match="or other recordings"):
        make_test_bed(again)
    table.write_text(text)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(ConfigError, match="not empty and no test bed"):
        make_test_bed(replace(again, out=str(tmp_path / "mine")))


def test_pool_and_labelled_soundscapes_may_be_left_out(config: MixConfig, tmp_path: Path) -> None:
    few = replace(config, out=str(tmp_path / "bed"), pool=0, labelled=0, test=1, links=True)
    assert "test: 1 soundscapes" in make_test_bed(few)
    there = sorted(path.name for path in few.root.iterdir())
    assert there == ["focal", "hidden", "mix.json", "test"]
    roles = pl.read_csv(few.root / "hidden" / "recordings.csv")["role"]
    assert set(roles) == {"focal", "test"}
    focal = next((few.root / "focal" / "train_audio").rglob("*.ogg"))
    assert focal.is_symlink()
    assert focal.is_file()


@pytest.mark.slow  # starts processes
def test_the_number_of_workers_changes_no_byte(
    bed: Path, config: MixConfig, tmp_path: Path
) -> None:
    again = replace(config, out=str(tmp_path / "bed"), workers=2)
    make_test_bed(again)
    assert contents(again.root) == contents(bed)


def test_recordings_of_the_roles_are_disjoint(bed: Path) -> None:
    truth = pl.read_csv(bed / "hidden" / "truth.csv")
    recordings = pl.read_csv(bed / "hidden" / "recordings.csv")
    role = dict(recordings.select("filename", "role").iter_rows())
    assert all(role[name] == used for used, name in truth.select("role", "recording").iter_rows())
    assert set(truth["role"]) == {"pool", "labelled", "test"}
    focal = {name for name, used in role.items() if used == "focal"}
    assert set(pl.read_csv(bed / "focal" / "train.csv")["filename"]) == focal
    groups = recordings.group_by("group").agg(pl.col("role").n_unique())
    assert (groups["role"] == 1).all()


def test_calls_are_heard_where_the_truth_says(bed: Path) -> None:
    truth = pl.read_csv(bed / "hidden" / "truth.csv").filter(pl.col("role") == "test")
    files = sorted((bed / "test").glob("*.ogg"))
    assert sorted(set(truth["file"])) == [file.name for file in files]
    for file in files:
        sound, rate_hz = soundfile.read(file, dtype="float32")
        assert (rate_hz, len(sound)) == (32_000, 12 * 32_000)
        assert np.abs(sound).max() <= 1
        power = np.abs(np.fft.rfft(sound[: len(sound) // 1600 * 1600].reshape(-1, 1600))) ** 2
        for label, table in truth.filter(pl.col("file") == file.name).group_by("label"):
            pitch_hz = 1000 * (int(str(label[0])[-1]) + 1)
            tone = power[:, round(pitch_hz / 20)]
            inside = np.zeros(len(tone), bool)
            for start_s, end_s in table.select("start_s", "end_s").iter_rows():
                inside[int(20 * start_s) : int(20 * end_s) + 5] = True  # and its echo
            assert np.median(tone[inside]) > 20 * np.median(tone[~inside])


def test_other_commands_read_what_is_written(bed: Path) -> None:
    source = read_source(SourceConfig(root=str(bed / "focal")))
    assert source.recordings["reason"].null_count() == len(source.recordings)
    assert source.classes == ("bird0", "bird1", "bird2")
    assert source.num_unlisted == 0
    hidden = read_annotations([str(bed / "hidden" / "test_labels.csv")], source.classes)
    windows = pl.read_csv(bed / "hidden" / "test_labels.csv").fill_null("")
    labels = windows.with_columns(pl.col("labels").str.split(";")).explode("labels")
    assert len(hidden.table) == len(labels)
    segments = read_annotations([str(bed / "labelled_segments.csv")], source.classes)
    own = read_annotations([str(bed / "hidden" / "labelled_labels.csv")], source.classes)
    assert segments.table.equals(own.table)


def test_settings_that_cannot_be_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def message(*words: str) -> str:
        assert run(tools.mix_soundscapes.COMMAND, tools.mix_soundscapes.main, words) == 2
        return capsys.readouterr().err

    assert "mix.recordings is not given" in message()
    assert "mix.backgrounds is not given" in message("mix.recordings=x")
    assert "more than mix.max_snr_db" in message("mix.min_snr_db=5")
    assert "mix.test=0 must be at least 1" in message("mix.test=0")
    assert "more than mix.duration_s" in message("mix.max_call_s=70")
    assert "fetch it first" in message("mix.recordings=s3://bucket/x", "mix.backgrounds=[y]")
