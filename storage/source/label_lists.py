"""Reads lists of labels in the spellings that cells of tables have.

    ["a", "b"]   ('a', 'b')   {'a', 'b'}   ['a' 'b']   [np.str_('a'), 'b']   array(['a'], dtype=..)
    a; b    a, b    a | b    Parus major; Corvus corax    a b (where a and b are classes)

The grammar is this module's own and nothing is evaluated: opening brackets, with a word such as
`np.str_` before, and closing ones are skipped; quoted text is one label; bare text is cut at
separators. Blanks cut it only where each piece is a known class and the whole is none.
"""

import re
from collections.abc import Collection, Iterator

from storage.errors import ConfigError
from storage.source.cells import tidy, tidy_label

MAX_CELL = 20_000  # letters of a cell; 1,000 labels have less
MAX_WORDS = 6  # of a name that other names follow without a separator
SEPARATORS = (";", "|", ",")
_QUOTES = "\"'"
_OPENING = re.compile(r"[\w.]*[\[({]")
_CLOSING = "])}"
_DTYPE = re.compile(r"\s*,\s*dtype\s*=\s*[^\s,\])]+(?:\([^)]*\))?")
_PREFIXED = re.compile(r"[uUbBrR]{1,2}(?=[\"'])")
_ENDS_QUOTE = re.compile(r"\s*(?:[;|,:\])}]|$|(?:[\w.]*[\[({])*[uUbBrR]{0,2}[\"'])")
_VALUE = re.compile(r"\s*:[^;|,\])}]*")  # of a mapping, whose keys are the labels
_CURLY = re.compile("^[\u201c\u2018](.*)[\u201d\u2019]$")  # quotes of a word processor
_R_EMPTY = re.compile(r"(character|integer|numeric|logical|list)\(0?\)")
_BREAKS = re.compile(r"[\r\n\t]+")


def parse_labels(text: str | None, known: Collection[str] = ()) -> list[str]:
    """The labels in a cell, in order; `known` are the names of the classes.

    Raises ConfigError on a cell of more than 20,000 letters.
    """
    text = tidy(text or "")
    if len(text) > MAX_CELL:
        raise ConfigError(f"a list of labels has {len(text):,} letters, more than {MAX_CELL:,}")
    whole = tidy_label(text)
    if whole is None or _R_EMPTY.fullmatch(whole):
        return []
    pieces: list[str] = [whole] if whole in known else list(_pieces(text, known))
    labels = (tidy_label(_CURLY.sub(r"\1", piece)) for piece in pieces)
    return [label for label in labels if label is not None]


def _pieces(text: str, known: Collection[str]) -> Iterator[str]:
    """Quoted labels, and what bare text between brackets and quotes is cut into."""
    outer = _OPENING.match(text)
    brackets = outer is not None and (text[-1] in _CLOSING or text[outer.end() :][:1] in _QUOTES)
    if brackets:
        text = _DTYPE.sub("", text).replace(" ... ", " ")  # numpy leaves out the middle
    at = begin = 0
    while at < len(text):
        before = text[begin:at].rstrip()
        fresh = not before or before[-1] in SEPARATORS
        quoted = _quoted(text, at) if fresh else None
        opening = _OPENING.match(text, at) if fresh and brackets else None
        if quoted is not None:
            yield from _cut(before, known)
            label, at = quoted
            yield label
            value = _VALUE.match(text, at) if brackets else None
            begin = at = value.end() if value else at
        elif opening or (brackets and text[at] in _CLOSING):
            yield from _cut(before, known)
            begin = at = opening.end() if opening else at + 1
        else:
            at += 1
    yield from _cut(text[begin:], known)


def _quoted(text: str, at: int) -> tuple[str, int] | None:
    """The quoted label that begins at `at`, and its end; None where none does.

    The closing quote is one that a separator, a bracket, another label or the end follows, so that
    names with apostrophes are whole.
    """
    prefix = _PREFIXED.match(text, at)
    start = prefix.end() if prefix else at
    if text[start] not in _QUOTES:
        return None
    quote, letters, end = text[start], [], start + 1
    while end < len(text):
        letter = text[end]
        if letter == "\\" and text[end + 1 : end + 2] in ("\\", '"', "'"):
            letters.append(text[end + 1])
            end += 2
        elif letter == quote and text[end + 1 : end + 2] == quote and letters:
            letters.append(quote)
            end += 2
        elif letter == quote and _ENDS_QUOTE.match(text, end + 1):
            return "".join(letters), end + 1
        else:
            letters.append(letter)
            end += 1
    return None


def _cut(text: str, known: Collection[str], separators: tuple[str, ...] = SEPARATORS) -> list[str]:
    """Bare text, cut at `;`, then `|`, then `,`, unless a piece is a class as it is."""
    if not text or text.isspace():
        return []
    text = tidy(_BREAKS.sub(separators[0] if separators else " ", text))
    if tidy_label(text) in known:
        return [text]
    if separators:
        first, rest = separators[0], separators[1:]
        return [label for piece in text.split(first) for label in _cut(piece, known, rest)]
    return _classes_in_row(text.split(), known) or [text]


def _classes_in_row(words: list[str], known: Collection[str]) -> list[str]:
    """Words as classes that follow each other, long names first; empty where others remain."""
    found: list[str] = []
    at = 0
    while at < len(words):
        ends = range(min(len(words), at + MAX_WORDS), at, -1)
        names = ((end, tidy_label(" ".join(words[at:end]))) for end in ends)
        end, name = next(((end, name) for end, name in names if name in known), (0, None))
        if name is None:
            return []
        found.append(name)
        at = end
    return found
