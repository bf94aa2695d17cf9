"""Config of tools.explore: what is shown, and under which address."""

import re
from dataclasses import dataclass, field

from storage.errors import ConfigError
from storage.options import check_between, option
from training.inference.queries.config import QueryConfig

MIN_TOKEN = 16  # characters
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_HOST = re.compile(r"[A-Za-z0-9.:_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreConfig:
    """Results that are shown with the store, the folder of reviews, and the address."""

    experiment: str = option("", "its out-of-fold predictions are shown: exp_003")
    compare: str = option("", "a second experiment, to compare with the first")
    predictions: str = option("", "folder of tools.predict, whose detections can be reviewed")
    embeddings: str = option(
        "spectral", "of neighbours: spectral, a model, or a file of tools.embed; see similar.by"
    )
    embeddings_folder: str = option("embeddings", "for the embeddings that are computed here")
    map: str = option("", "file of tools.similar --map; empty: by principal components")
    reviews: str = option("reviews", "folder for the verdicts of people")
    host: str = option("127.0.0.1", "address to listen at; any other than this machine is unsafe")
    port: int = option(8765, "port to listen at; 0: any that is free")
    token: str = option("", "password of the page, at least 16 letters; empty: a random one")
    names: list[str] = field(
        default_factory=list,
        metadata={"help": "further names of this machine under which browsers ask for the page"},
    )

    def __post_init__(self) -> None:
        check_between(self, "explore", 0, 65_535, "port")
        for name in ("experiment", "compare"):
            value = getattr(self, name)
            if value and not re.fullmatch(r"exp_\d+", value):
                raise ConfigError(f"explore.{name}={value} is no name such as exp_003")
        if self.token and (len(self.token) < MIN_TOKEN or not _TOKEN.fullmatch(self.token)):
            raise ConfigError(
                f"explore.token needs at least {MIN_TOKEN} letters, digits, - or _: leave it out "
                "for a random one"
            )
        for host in (self.host, *self.names):
            if not _HOST.fullmatch(host):
                raise ConfigError(f"explore.host and explore.names: {host!r} is no name of a host")

    def query(self) -> QueryConfig:
        """The tables of the results."""
        return QueryConfig(experiment=self.experiment, predictions=self.predictions)
