"""Config of measuring human voice; imports no torch."""

from dataclasses import dataclass

from storage.errors import ConfigError
from storage.options import check_at_least, option

TABLE_ENDING = ".parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceConfig:
    """File of voice shares, and how they are computed."""

    out: str = option("voice.parquet", "file to write")
    batch_size: int = option(64, "slices that the model takes at once")
    threads: int = option(0, "of the model on the CPU; 0: as many as this process may use")

    def __post_init__(self) -> None:
        check_at_least(self, "voice", 1, "batch_size")
        check_at_least(self, "voice", 0, "threads")
        if not self.out.endswith(TABLE_ENDING):
            raise ConfigError(f"voice.out={self.out} must end in {TABLE_ENDING}")
