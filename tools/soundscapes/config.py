"""Config of a test bed of mixed soundscapes."""

from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import ConfigError
from storage.options import check_at_least, check_order, check_positive, option

FOCAL, POOL, LABELLED, TEST = ROLES = ("focal", "pool", "labelled", "test")
MIXED = ROLES[1:]  # of which soundscapes are made


@dataclass(frozen=True, slots=True, kw_only=True)
class MixConfig:
    """Settings of the soundscapes: their sources, their number, and how hard they are."""

    recordings: str = option("", "folder of labelled recordings: train.csv, or a folder per label")
    backgrounds: list[str] = field(
        default_factory=list, metadata={"help": "folders of backgrounds, with train.csv or flat"}
    )
    background_labels: list[str] = field(
        default_factory=list,
        metadata={"help": "of folders with train.csv only these, as [rain,sea_waves]; []: all"},
    )
    out: str = option("data/test_bed", "folder to write")
    pool: int = option(120, "number of unlabelled soundscapes")
    labelled: int = option(40, "number of soundscapes with given labels")
    test: int = option(120, "number of soundscapes of the hidden test")
    focal_share: float = option(0.5, "wanted share of the recordings to learn from")
    pool_share: float = option(0.2, "wanted share of the recordings that the pool is mixed from")
    labelled_share: float = option(0.1, "the same for the labelled soundscapes")
    test_share: float = option(0.2, "the same for the hidden test")
    min_recordings: int = option(6, "classes with fewer recordings are left out")
    group_by: str = option(
        "auto", "column whose values stay in one role; auto: same url, same author and label"
    )
    duration_s: float = option(60.0, "length of a soundscape, s")
    window_s: float = option(5.0, "length of the windows that get labels, s")
    min_snr_db: float = option(-20.0, "least level of a call over the background, dB")
    max_snr_db: float = option(0.0, "greatest level of a call over the background, dB")
    min_calls: float = option(2.0, "fewest calls in a minute")
    max_calls: float = option(16.0, "most calls in a minute")
    max_species: int = option(4, "most species in one soundscape")
    min_call_s: float = option(1.0, "least length of a call before its silent ends are cut, s")
    max_call_s: float = option(4.0, "greatest length of a call, s")
    max_echo_s: float = option(0.6, "longest time in which an echo falls by 60 dB, s; 0: no echo")
    min_noise_dbfs: float = option(-45.0, "least level of the background, dB below full scale")
    max_noise_dbfs: float = option(-25.0, "greatest level of the background")
    sites: int = option(4, "number of sites in each role, each with backgrounds of its own")
    links: bool = option(False, "link the focal recordings instead of copying them")
    workers: int = option(1, "number of processes; the files do not depend on it")
    seed: int = option(0, "random seed of the test bed")

    def __post_init__(self) -> None:
        check_at_least(self, "mix", 0, "pool", "labelled", "seed", "min_calls", "max_echo_s")
        check_at_least(self, "mix", 1, "test", "min_recordings", "max_species", "sites", "workers")
        check_positive(self, "mix", "duration_s", "window_s", "min_call_s")
        check_positive(self, "mix", "focal_share", "test_share")
        check_at_least(self, "mix", 0, "pool_share", "labelled_share")
        for name in ("snr_db", "calls", "call_s", "noise_dbfs"):
            check_order(self, "mix", f"min_{name}", f"max_{name}")
        check_order(self, "mix", "max_call_s", "duration_s")

    def check_given(self) -> None:
        """Raises ConfigError where no recordings or backgrounds are named."""
        for name in ("recordings", "backgrounds"):
            if not getattr(self, name):
                raise ConfigError(f"mix.{name} is not given: name folders, as in mix.{name}=data")

    def shares(self) -> dict[str, float]:
        """The wanted share of the recordings of each role that has soundscapes, and of focal."""
        shares = {role: float(getattr(self, f"{role}_share")) for role in ROLES}
        return {role: share if self.has(role) else 0.0 for role, share in shares.items()}

    def has(self, role: str) -> bool:
        """True for a role that gets anything at all."""
        return role == FOCAL or self.num_soundscapes(role) > 0

    def num_soundscapes(self, role: str) -> int:
        """The number of soundscapes of a role."""
        return {POOL: self.pool, LABELLED: self.labelled, TEST: self.test}[role]

    @property
    def root(self) -> Path:
        """The folder to write."""
        return Path(self.out)
