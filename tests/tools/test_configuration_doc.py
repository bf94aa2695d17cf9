"""docs/configuration.md: generated from the config classes, complete and up to date."""

from tests.paths import ROOT
from tools.cli.config import DEFAULT_CONFIG
from tools.write_docs import DOCUMENT, commands_of_keys, render


def test_document_is_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert DOCUMENT.read_text(encoding="utf-8") == render(DEFAULT_CONFIG), "run `make docs`"


def test_every_config_key_has_a_meaning_in_one_line():
    for key in commands_of_keys():
        assert key.meaning, key.name
        assert "\n" not in key.meaning, key.name


def test_every_key_of_every_command_is_in_the_document():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [key.name for key in commands_of_keys() if f"| `{key.name}` |" not in text] == []
