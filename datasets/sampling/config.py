"""Config of the samples of a training epoch and their order; imports no torch."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field

from datasets.injection import InjectSpec
from datasets.sampling.balance import check_rating_weights, find_balance
from datasets.sampling.slice_choice import WEIGHABLE, find_slice_choice
from storage.errors import ConfigError
from storage.options import check_at_least, check_between, check_choice, check_positive, option
from storage.untrusted import MAX_ROW

ORDERS = ("global", "block")
LEVELS = ("mean_db", "max_db", "active_share")
DROP, DOWN_WEIGHT = "drop", "down_weight"
VOICE_RULES = (DROP, DOWN_WEIGHT)
MAX_BEST_OF = 100
LATER = (  # fields that states of older trainings lack; named in a plan only where they are set
    "best_of",
    "best_of_by",
    "min_draws_per_class",
    "max_draws_per_class",
    "site_column",
    "inject",
    "substitute",
    "voice_file",
    "voice",
    "voice_threshold",
    "voice_weight",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubstituteSpec:
    """Substitutes: slices of one source that take the place of samples of other sources."""

    source: str = option("", "source whose slices take the place of others' samples; empty: none")
    p: float = option(0.5, "chance that a slice with the sample's label as top class replaces it")

    def __post_init__(self) -> None:
        check_between(self, "sampling.substitute", 0, 1, "p")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """Config of the samples of a training epoch and their order."""

    where: str | None = option(
        None, "SQL condition on recordings and slices, as in NOT silent; training only"
    )
    slice_choice: str = option(
        "random", "random, all, first, energy: prefer active slices, best_of; or module:function"
    )
    slices_per_recording: int = option(1, "draws per recording and epoch; not for slice_choice=all")
    energy_scale_db: float = option(10.0, "energy: fall in level that divides the chance by e, dB")
    best_of: int = option(3, "best_of: slices of which a draw takes the loudest")
    best_of_by: str = option(
        "mean_db", "best_of: mean_db (RMS), max_db (known of tar shards too) or active_share"
    )
    balance: str = option(
        "none", "of classes: none, sqrt, uniform, an exponent from 0 to 1, or module:function"
    )
    rating_weights: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "weight of recordings by rating, such as {'1': 0.5}; 1 where not named"},
    )
    site_column: str = option(
        "", "column of the csv by which a recording weighs 1/sqrt(recordings of its site)"
    )
    min_draws_per_class: int = option(0, "fewest draws of a class in an epoch, which gets longer")
    max_draws_per_class: int | None = option(
        None, "most draws of a class in an epoch, which gets shorter; null: any"
    )
    inject: list[InjectSpec] = field(
        default_factory=list,
        metadata={"help": "pools of partners, as in [{source: pool, p: 0.5}]; keys as below"},
    )
    substitute: SubstituteSpec = field(default_factory=SubstituteSpec)
    voice_file: str = option("", "Parquet of human voice by slice, which tools.voice writes")
    voice: str = option(DROP, "slices with more voice than the threshold: drop or down_weight")
    voice_threshold: float = option(0.5, "largest share of voice that counts as none")
    voice_weight: float = option(0.5, "down_weight: their chance, relative to the others'")
    order: str = option("global", "global shuffle, or block: nearby rows are read together")
    block_rows: int = option(4096, "order=block: rows in one block")
    blocks_together: int = option(16, "order=block: blocks that are shuffled into each other")

    def __post_init__(self) -> None:
        find_slice_choice(self.slice_choice)
        find_balance(self.balance)
        check_rating_weights(self.rating_weights)
        check_choice(self, "sampling", "order", ORDERS)
        check_choice(self, "sampling", "best_of_by", LEVELS)
        check_choice(self, "sampling", "voice", VOICE_RULES)
        check_positive(self, "sampling", "slices_per_recording", "energy_scale_db", "voice_weight")
        check_between(self, "sampling", 1, MAX_ROW, "block_rows", "blocks_together")
        check_between(self, "sampling", 1, MAX_BEST_OF, "best_of")
        check_between(self, "sampling", 0, 1, "voice_threshold", "voice_weight")
        if self.slice_choice == "all" and self.slices_per_recording != 1:
            raise ConfigError(
                "sampling.slice_choice=all takes every slice: leave slices_per_recording at 1"
            )
        self._check_limits()
        self._check_pools()
        if self.voice_file and self.voice == DOWN_WEIGHT:
            self.check_weighable("sampling.voice=down_weight")

    @property
    def pool_names(self) -> tuple[str, ...]:
        """Sources that partners or substitutes are drawn from, each once."""
        names = [spec.source for spec in self.inject]
        return tuple(dict.fromkeys([*names, *filter(None, [self.substitute.source])]))

    def check_weighable(self, key: str) -> None:
        """Raises ConfigError, naming the `key`, where the slice choice heeds no weights."""
        if self.slice_choice not in WEIGHABLE:
            raise ConfigError(
                f"{key} gives slices weights, which sampling.slice_choice={self.slice_choice} "
                f"does not heed: choose {', '.join(WEIGHABLE)}"
            )

    def check_sources(self, names: Collection[str]) -> None:
        """Raises ConfigError where a pool is none of a training's sources."""
        for name in self.pool_names:
            if name not in names:
                key = "inject" if name in [spec.source for spec in self.inject] else "substitute"
                there = ", ".join(names) or "none: give them as sources.NAME.store="
                raise ConfigError(
                    f"sampling.{key} names the source {name}; the sources are {there}"
                )

    def described(self) -> dict[str, str]:
        """Returns the fields as text, for a state: a later one only where it is set."""
        usual = asdict(SamplingConfig())
        return {
            f"sampling.{name}": str(value)
            for name, value in asdict(self).items()
            if name not in LATER or value != usual[name]
        }

    def _check_limits(self) -> None:
        check_at_least(self, "sampling", 0, "min_draws_per_class")
        check_at_least(self, "sampling", 1, "max_draws_per_class")
        most = self.max_draws_per_class
        if most is not None and self.min_draws_per_class > most:
            raise ConfigError(
                f"sampling.min_draws_per_class={self.min_draws_per_class} is more than "
                f"sampling.max_draws_per_class={most}"
            )

    def _check_pools(self) -> None:
        total = sum(spec.p for spec in self.inject)
        if total > 1 + 1e-9:
            raise ConfigError(
                f"the p of sampling.inject sum to {total:g}, but a sample gets one partner at "
                "most: give shares that sum to 1 or less"
            )
