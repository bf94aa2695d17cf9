"""A view: which slices of a store are shown, and in which order. Plain values, comparable.

view = View(where="max_db > -40", equal=(("site", "north"),), sort="loss", falling=True)
"""

from dataclasses import dataclass

from storage.errors import ConfigError
from storage.options import check_at_least

MAX_SQL = 8_000  # characters: it is part of an address
MAX_FILTERS = 200
MIN_CORNERS, MAX_CORNERS = 3, 200  # of a polygon
REVIEW = "review"  # not a column: the state of a slice's verdicts
ROW, RANDOM, SIMILARITY, QUERY = "row", "random", "similarity", "query"
CLASS, TARGET, WRONG, MISLABELLED = "class", "target", "wrong", "mislabelled"
ONE_WAY = (SIMILARITY, CLASS, TARGET, WRONG, MISLABELLED, RANDOM, QUERY)
LIKE_KINDS = ("row", "recording", "upload")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Filters, all of which hold, and an order.

    `where`: a condition, or a SELECT with `row`. `equal`: column and value; one of those of a
    column. `ranges`: column, least and most, inclusive. `polygon`: x, y, x, y, ... on the map.
    `like`: `row:7`, `recording:XC1` or `upload:ID`: neighbours. `label` and `target` are of the
    orders by the score of a class.
    """

    where: str = ""
    equal: tuple[tuple[str, str], ...] = ()
    ranges: tuple[tuple[str, float | None, float | None], ...] = ()
    polygon: tuple[float, ...] = ()
    like: str = ""
    leave_out: str = "recording"
    sort: str = ""
    falling: bool = False
    seed: int = 0
    label: str = ""
    target: float | None = None

    def __post_init__(self) -> None:
        check_at_least(self, "", 0, "seed")
        if len(self.where) > MAX_SQL:
            raise ConfigError(f"where has {len(self.where):,} characters; at most {MAX_SQL:,}")
        if len(self.equal) + len(self.ranges) > MAX_FILTERS:
            raise ConfigError(f"there are more than {MAX_FILTERS} filters")
        corners = len(self.polygon) / 2
        if self.polygon and not (corners.is_integer() and MIN_CORNERS <= corners <= MAX_CORNERS):
            raise ConfigError(
                f"polygon takes x,y of {MIN_CORNERS} to {MAX_CORNERS} corners, as in 0,0,1,0,1,1"
            )
        if self.like and self.like.partition(":")[0] not in LIKE_KINDS:
            raise ConfigError(f"like={self.like} is none of row:ROW, recording:ID and upload:ID")
        if self.falling and self.order in ONE_WAY:
            raise ConfigError(f"the order {self.order} cannot be turned around")
        self._check_order()

    def _check_order(self) -> None:
        if self.order in (CLASS, TARGET) and not self.label:
            raise ConfigError(f"sort={self.order} needs class=, a label with scores")
        if self.order == TARGET and self.target is None:
            raise ConfigError("sort=target needs target=, a score such as 0.7")
        if self.order == SIMILARITY and not self.like:
            raise ConfigError("sort=similarity needs like=, as in row:7")

    @property
    def order(self) -> str:
        """The order, with its default."""
        return self.sort or (SIMILARITY if self.like else ROW)

    @property
    def is_select(self) -> bool:
        """True where `where` is a whole SELECT."""
        return self.where.lstrip(" \t\r\n(")[:6].upper().startswith(("SELECT", "WITH"))
