"""Parameters of a request's address, checked: texts, numbers, a view, an order of review."""

from dataclasses import dataclass

from starlette.datastructures import QueryParams

from storage.errors import ConfigError
from training.inference.exploring.conditions import number
from training.inference.exploring.reviewing.queues import QueueOrder
from training.inference.exploring.view import View

MAX_PAGE = 500
MAX_ROW = 2**53 - 1  # numbers of JavaScript


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters by name; ConfigError where a value is none of the kind asked for."""

    query: QueryParams

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        return self.query.get(name, default)

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        text = self.query.get(name) or str(default)
        if not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
            raise ConfigError(f"{name}={text[:40]} must be a whole number, {least:,} to {most:,}")
        return int(text)

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number from `least` to `most`."""
        text = self.query.get(name) or str(default)
        value = number(text, name)
        if not least <= value <= most:
            raise ConfigError(f"{name}={text[:40]} must lie between {least:g} and {most:g}")
        return value

    def wholes(self, name: str, most: int) -> list[int]:
        """Whole numbers with commas between them, at most so many."""
        words = self.query.get(name, "").split(",")
        if len(words) > most:
            raise ConfigError(f"{name} names {len(words):,}; at most {most:,} are taken")
        if not all(word.isdecimal() and len(word) <= 15 for word in words):
            raise ConfigError(f"{name} takes whole numbers, as in 7,8,9")
        return [int(word) for word in words]

    def has(self, name: str) -> bool:
        """True where a parameter has a value."""
        return bool(self.query.get(name))

    def many(self, name: str) -> list[str]:
        """All values of a parameter that can be repeated."""
        return self.query.getlist(name)

    def window(self) -> tuple[int, int]:
        """Start and number of the items of a page."""
        return self.whole("start", 0, 0, MAX_ROW), self.whole("count", 100, 1, MAX_PAGE)

    def view(self) -> View:
        """The filters and the order."""
        sort = self.text("sort")
        target = self.query.get("target")
        return View(
            where=self.text("where").strip(),
            equal=tuple(sorted({_pair(one) for one in self.many("is")})),
            ranges=tuple(sorted({_range(one) for one in self.many("range")}, key=str)),
            polygon=self._polygon(),
            like=self.text("like"),
            leave_out=self.text("leave_out") or "recording",
            sort=sort.removeprefix("-"),
            falling=sort.startswith("-"),
            seed=self.whole("seed", 0, 0, 2**32),
            label=self.text("class"),
            target=None if not target else number(target, "target"),
        )

    def order(self) -> QueueOrder:
        """The order of a queue of review."""
        return QueueOrder(
            order=self.text("order") or "highest",
            count=self.whole("count", 200, 1, 5000),
            per_recording=self.whole("per_recording", 0, 0, 10**6),
            per_group=self.whole("per_group", 5, 1, 10**6),
            bands=self.whole("bands", 10, 1, 100),
            seed=self.whole("seed", 0, 0, 2**32),
        )

    def _polygon(self) -> tuple[float, ...]:
        text = self.text("polygon")
        return tuple(number(word, "polygon") for word in text.split(",")) if text else ()


def _pair(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigError(f"is={text[:40]} is not COLUMN:VALUE, as in site:north")
    return name, value


def _range(text: str) -> tuple[str, float | None, float | None]:
    parts = text.split(":")
    if len(parts) != 3:
        raise ConfigError(f"range={text[:40]} is not COLUMN:LEAST:MOST, as in loss:1:2")
    low, high = (number(part, "range") if part else None for part in parts[1:])
    return parts[0], low, high
