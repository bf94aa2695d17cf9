"""Paths and names in configs are text as typed, whatever YAML would make of them."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tools.export_npy
from storage.errors import ConfigError
from tests.paths import ROOT
from tools.cli.building import BuildSections
from tools.cli.config import StoreSection, as_typed, load_config
from tools.cli.training_inputs import TrainSections

BASE = str(ROOT / "configs" / "base.yaml")
ODD = ["0106", "1e5", "no", "null", "~", "a=b", "[x", "a: b", "true", "1:30", "0x1F", "#x"]
LETTERS = st.characters(exclude_categories=["Cs", "Cc"])


@settings(max_examples=25)  # each composes a config, which takes a while
@given(name=st.one_of(st.sampled_from(ODD), st.text(LETTERS, min_size=1, max_size=8)))
def test_a_name_on_the_command_line_is_text_as_typed(name: str) -> None:
    assume(name[0] not in "\"'" and "${" not in name and "://" not in name)
    words = [f"store={name}", f"source.audio_dir={name}", "limit=7"]
    config = load_config(BuildSections, BASE, words)
    assert (config.store, config.source.audio_dir, config.limit) == (name, name, 7)


@pytest.mark.parametrize("name", ["0106", "1e5", "no", "1_000"])
def test_a_name_in_a_file_is_text_as_written(name: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"store: {name}\nsource:\n  root: {name}\n  keep_duplicates: yes\nlimit: 010\n")
    config = load_config(BuildSections, str(file))
    assert (config.store, config.source.root) == (name, name)
    assert (config.source.keep_duplicates, config.limit) == (True, 8)


def test_text_may_be_left_out_by_null_or_quoted() -> None:
    words = ["export_npy.where=null", "export_npy.root='a b'"]
    config = load_config(tools.export_npy.COMMAND.sections, BASE, words)
    assert (config.export_npy.where, config.export_npy.root) == (None, "a b")


def test_names_of_sources_and_classes_are_text() -> None:
    words = ["sources.0106.store=0107", "labels.classes=[0106,no]", "train_folds=[0,1]"]
    config = load_config(TrainSections, BASE, words)
    assert config.sources["0106"].store == "0107"
    assert config.labels.classes == ["0106", "no"]
    assert config.train_folds == [0, 1]
    assert load_config(TrainSections, BASE, ["labels.classes=0106"]).labels.classes == ["0106"]


@pytest.mark.parametrize("value", ["[robin", "[" * 3000])
def test_what_is_no_list_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="no list"):
        as_typed(value, list[str])


@pytest.mark.parametrize("value", ["'a\\''", '"\\z"'])
def test_quotes_that_do_not_match_are_part_of_a_name(value: str) -> None:
    assert as_typed(value) == value


def test_a_config_that_nests_too_deep_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text(f"store: {'[' * 3000}{']' * 3000}")
    with pytest.raises(ConfigError, match="nests too deep"):
        load_config(StoreSection, str(file), [])
