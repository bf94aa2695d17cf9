"""Files of the page of tools.explore: complete, without a build step, nothing from other hosts."""

import re

import pytest

from tests.paths import ROOT

PAGE = ROOT / "tools" / "exploring" / "page"
FILES = sorted(path for path in PAGE.rglob("*") if path.is_file())
MOST_COLUMNS = 100
INDEX = (PAGE / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_loads_nothing_from_other_hosts(path):
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"\b(?:https?:)?//(?!www\.w3\.org/2000/svg)[\w.-]+\.\w+", text) == []
    assert max(map(len, text.splitlines())) <= MOST_COLUMNS


def test_all_styles_and_scripts_are_reached():
    named = set(re.findall(r"page/((?:style|script)/[\w.]+)", INDEX))
    for script in PAGE.glob("script/*.js"):
        imports = re.findall(r'from "\./([\w.]+)"', script.read_text(encoding="utf-8"))
        named |= {f"script/{name}" for name in imports}
    there = {str(path.relative_to(PAGE)) for path in FILES if path.parent != PAGE}
    assert named == there


def test_the_page_obeys_a_strict_content_security_policy():
    assert re.findall(r"\sstyle=|\son\w+=|<style|<script(?! type=\"module\" src=)", INDEX) == []
    for script in PAGE.glob("script/*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"\beval\(|new Function|innerHTML|setAttribute\(\"style", text), script
