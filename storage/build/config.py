"""Settings of a build."""

from dataclasses import dataclass

from storage.build.dask import LOCAL, check_executor
from storage.errors import ConfigError
from storage.format.chunk_codecs import CODECS
from storage.options import check_at_least, check_between, check_choice, option
from storage.share import Share, parse_share


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """Settings of a build; `codec` changes the bytes of a new store, none changes its values."""

    executor: str = option("local", "local, or dask://HOST:PORT: a Dask cluster that is running")
    workers: int | None = option(None, "local worker processes; null: one per core")
    codec: str | None = option(
        None, "lz4: read fastest; zstd: a fifth smaller; null: the store's own, lz4 for a new one"
    )
    part: str | None = option(
        None, "share of this process, such as 3/16 of sixteen that build together; null: all"
    )
    strict: bool = option(False, "exit 1 when any recording was rejected or stored in part")
    max_drop_share: float = option(0.5, "refuse to drop more than this share of the store, 0 to 1")

    def __post_init__(self) -> None:
        check_at_least(self, "build", 1, "workers")
        check_between(self, "build", 0, 1, "max_drop_share")
        check_executor(self.executor)
        if self.codec is not None:
            check_choice(self, "build", "codec", CODECS)
        if self.share and self.executor != LOCAL:
            raise ConfigError(
                f"build.part={self.part} shares the work without a cluster: leave out "
                f"build.executor={self.executor}, or build.part"
            )

    @property
    def share(self) -> Share | None:
        """Share of this process in the work; None for all of it."""
        return parse_share("build.part", self.part)
