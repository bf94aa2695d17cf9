"""Copies of one recording under several labels keep all of them; what has no slices is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import tools.build_store
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.build.report import BuildReport
from storage.errors import DamageError
from storage.format.classes import read_classes
from storage.maintenance.repair import repair_store
from storage.maintenance.verify import verify_store
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.paths import ROOT
from tests.sounds import write_source
from tools.cli.command import NOTHING_STORED, run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four recordings, spec0 to spec2; one of spec0 is there as owl too."""
    root = write_source(tmp_path / "source", [0.6] * 4, np.random.default_rng(2), ending="wav")
    (root / "train_audio/owl").mkdir()
    shutil.copy(root / "train_audio/spec0/XC0000.wav", root / "train_audio/owl/XC9.wav")
    with (root / "train.csv").open("a") as file:
        file.write("owl,['spec2'],owl/XC9.wav,1.0,x\n")
    return root


def build(root: Path, store: Path, **config: object) -> BuildReport:
    source = SourceConfig(root=str(root), **config)
    return build_store(source, Recipe(), str(store), BuildConfig(workers=1))


def test_slices_are_stored_once_with_the_labels_of_all(source: Path, tmp_path: Path) -> None:
    report = build(source, tmp_path / "store")
    assert (report.num_stored, report.num_duplicates) == (4, 1)
    kept = open_store(str(tmp_path / "store")).recordings().filter(recording_id="owl/XC9")
    assert kept["secondary_labels"].to_list() == [["spec2", "spec0", "spec1"]]
    summary = report.summary()
    assert "labels joined: owl/XC9, spec0/XC0000 are the same bytes as owl and spec0" in summary
    again = build(source, tmp_path / "store")
    assert (again.new_slices, again.disputed) == (0, report.disputed)
    assert len(build(source, tmp_path / "twice", keep_duplicates=True).disputed) == 0


def test_a_class_without_slices_is_named(source: Path, tmp_path: Path) -> None:
    (source / "train_audio/spec1/XC0001.wav").write_bytes(b"no sound")
    note = build(source, tmp_path / "store").notes[-1]
    assert note == "no recording is stored of 1 of 4 classes: spec1"


def test_classes_of_a_taxonomy_without_recordings_are_kept(source: Path, tmp_path: Path) -> None:
    url, taxonomy = str(tmp_path / "store"), source / "taxonomy.csv"
    known = ("owl", "spec0", "spec1", "spec2")
    for classes in ((), (*known, "emu"), ("gnu", *known, "emu"), known, ()):
        taxonomy.write_text("\n".join(["primary_label", *classes]) + "\n")
        build(source, tmp_path / "store")
        without_recording = {*classes} - {*known}
        assert open_store(url).classes == (classes if without_recording else ())
        assert not verify_store(url).findings


def test_a_damaged_list_of_classes_is_found_and_repaired(source: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    (source / "taxonomy.csv").write_text("primary_label\nowl\nemu\n")
    build(source, tmp_path / "store")
    (tmp_path / "store/classes.json").write_text("{}")
    with pytest.raises(DamageError, match=r"classes.json is damaged"):
        read_classes(open_store(url).objects)
    report = verify_store(url)
    assert [finding.object for finding in report.damage] == ["classes.json"]
    repair_store(SourceConfig(root=str(source)), report)
    assert not verify_store(url).damage
    build(source, tmp_path / "store")
    assert open_store(url).classes == ("owl", "emu")


@pytest.mark.parametrize("strict", [False, True])
def test_exit_codes_of_a_build(
    strict: bool, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(ROOT / "configs/base.yaml"), f"source.root={source}"]
    words += [f"build.strict={strict}", "build.workers=1"]
    command = (tools.build_store.COMMAND, tools.build_store.main)
    assert run(*command, [*words, f"store={tmp_path / 'store'}"]) == int(strict)
    for path in (source / "train_audio").rglob("*.wav"):
        path.write_bytes(b"no sound")
    assert run(*command, [*words, f"store={tmp_path / 'none'}"]) == NOTHING_STORED
    assert "not one recording could be stored" in capsys.readouterr().err
