"""Language of docstrings, comments, messages and docs: plain standard English."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("storage", "datasets", "training", "tools", "tests")
CODE = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")} - {Path(__file__)}
DOCS = {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")}
QUESTION = re.compile(r"(What|Which|Whether|How|Where)\b")
BANNED = re.compile(
    r"\b(a person|whoever|in vain|for want of|to be had|none of ours|anew|beside|behind|tells"
    r"|lies?(?! (between|within|in 0 to 1|in \[))|stands(?! for)|mend(s|ed|ing)?|seal(s|ed|ing)?"
    r"|unsound)\b",
    re.IGNORECASE,
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("path", sorted(CODE | DOCS), ids=lambda path: str(path.relative_to(ROOT)))
def test_text_is_plain_standard_english(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    prose = _prose(text) if path.suffix == ".py" else enumerate(text.splitlines(), 1)
    found = [f"{line}: {match[0]}" for line, part in prose for match in _banned(part)]
    if path.suffix == ".py":
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, DOCUMENTED)]
        docstrings = [ast.get_docstring(node) or "" for node in nodes]
        found += [docstring for docstring in docstrings if QUESTION.match(docstring)]
    assert not found


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Yields comments and the string literals with several words, with their line numbers."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def _banned(text: str) -> list[re.Match[str]]:
    """Finds banned words outside `code`."""
    return list(BANNED.finditer(re.sub(r"`[^`]*`", "", text)))
