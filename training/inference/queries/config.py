"""Config of the tables of a query."""

import re
from dataclasses import dataclass

from storage.errors import ConfigError
from storage.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryConfig:
    """Results that a query can join with the slices; each gives tables."""

    experiment: str = option(
        "", "tables oof and oof_recordings: out-of-fold predictions of exp_003"
    )
    predictions: str = option("", "table detections: folder of tools.predict")
    embeddings: str = option("", "table embeddings: file of tools.embed")
    map: str = option("", "table map: file of tools.similar --map")
    reviews: str = option("", "table reviews: folder of reviews, or a file of them")

    def __post_init__(self) -> None:
        if self.experiment and not re.fullmatch(r"exp_\d+", self.experiment):
            raise ConfigError(f"query.experiment={self.experiment} is no name such as exp_003")
