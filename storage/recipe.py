"""Recipe: the numbers by which audio becomes slices, on which every value of a store depends.

The recipe is written into `melbank.json`; its hash identifies it.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from storage.checksums import digest_json
from storage.encoding import ENCODINGS
from storage.errors import ConfigError, StoreError
from storage.options import check_between, check_choice, check_positive, option

PADDINGS = ("wrap", "zeros")
OWN, FOREIGN = "melbank", "foreign"
SLANEY, HTK = "slaney", "htk"
SLICE_MAX, LOG = "slice_max", "log"
POWERS = (1, 2)

MAX_SLICE_SAMPLES, MAX_SLICE_BYTES = 2**30, 2**28
MAX_FILTER_CELLS = 2**28  # mel bands times n_fft: the filterbank is one matrix
_MOST = (  # a file that is damaged or forged may give any number
    (10_000_000, "sample_rate_hz"),
    (2**24, "n_fft", "hop", "n_mels"),
    (86_400, "slice_s", "slice_step_s", "tail_min_s"),
    (10_000, "top_db"),
    (1, "amin"),
)
# Left out of documents where they have their default, so that stores, shards and checkpoints
# from before these keys existed have the digests of today.
_LATER = ("power", "mel_scale", "normaliser", "ceiling_db")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Log-mel slices as librosa makes them: `feature.melspectrogram` and `power_to_db`.

    Hann window, centred frames, zeros outside the slice, Slaney norm of the mel filters, which sum
    |X| ** `power`. With `power` 1 the levels are those of `amplitude_to_db`, 20 log10 of the mel
    magnitude, so the square of the mel magnitude is what `amin` and all levels speak of.

    With the normaliser slice_max a cell is dB relative to the slice's own maximum, with log it is
    dB of (power + amin) relative to `ceiling_db`; the `top_db` below are scaled to [0, 1].
    """

    sample_rate_hz: int = option(32_000, "rate all recordings are resampled to, Hz")
    n_fft: int = option(1024, "STFT window, samples")
    hop: int = option(512, "STFT step, samples")
    n_mels: int = option(128, "mel bands")
    fmin_hz: float = option(20.0, "lower edge of the lowest band, Hz")
    fmax_hz: float = option(16_000.0, "upper edge of the highest band, Hz")
    slice_s: float = option(5.0, "length of a slice, s")
    slice_step_s: float = option(2.5, "from the start of one slice to the next, s")
    tail_min_s: float = option(0.5, "a shorter rest after the last full slice is left out, s")
    padding: str = option("wrap", "fills a short slice: wrap (repeat its audio) or zeros")
    top_db: float = option(80.0, "range below the slice maximum, or ceiling_db, that is kept, dB")
    amin: float = option(1e-10, "power taken as silence")
    encoding: str = option("uint8", f"cell type on disk: {', '.join(ENCODINGS)}")
    origin: str = option(OWN, "who made the slices; `foreign` for imported ones")
    power: int = option(2, "exponent of the magnitudes that the mel filters sum: 2 or 1")
    mel_scale: str = option(SLANEY, "slaney, or htk: 2595 log10(1 + f / 700)")
    normaliser: str = option(
        SLICE_MAX, "slice_max: dB below the slice's own maximum; log: absolute, log(power + amin)"
    )
    ceiling_db: float = option(
        30.0, "normaliser log: level of the largest value, dB re full scale; a sine has about 32"
    )

    def __post_init__(self) -> None:
        positive = ("sample_rate_hz", "n_fft", "hop", "n_mels", "slice_s", "slice_step_s", "top_db")
        check_positive(self, "recipe", *positive)
        for most, *names in _MOST:
            check_between(self, "recipe", 0, most, *names)
        check_choice(self, "recipe", "encoding", ENCODINGS)
        check_choice(self, "recipe", "padding", PADDINGS)
        check_choice(self, "recipe", "origin", (OWN, FOREIGN))
        check_choice(self, "recipe", "mel_scale", (SLANEY, HTK))
        self._check_levels()
        if not 0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2:
            raise ConfigError(
                f"recipe.fmin_hz={self.fmin_hz:g} and recipe.fmax_hz={self.fmax_hz:g} must be in "
                f"order between 0 and half of recipe.sample_rate_hz, {self.sample_rate_hz / 2:g} Hz"
            )
        if self.slice_samples < self.n_fft:
            raise ConfigError(
                f"recipe.slice_s={self.slice_s} is shorter than recipe.n_fft={self.n_fft}"
            )

        if self.slice_samples > MAX_SLICE_SAMPLES or self.slice_bytes > MAX_SLICE_BYTES:
            raise ConfigError(
                f"recipe.slice_s={self.slice_s:g}, sample_rate_hz={self.sample_rate_hz}, hop="
                f"{self.hop} and n_mels={self.n_mels} make slices of {self.slice_bytes:,} bytes; "
                f"at most {MAX_SLICE_BYTES:,}, of {MAX_SLICE_SAMPLES:,} samples, are possible"
            )
        if self.n_mels * self.n_fft > MAX_FILTER_CELLS:
            raise ConfigError(
                f"recipe.n_mels={self.n_mels} bands of n_fft={self.n_fft} are too many: their "
                f"product is at most {MAX_FILTER_CELLS:,}"
            )

    def _check_levels(self) -> None:
        """Raises ConfigError on options of the level that contradict each other."""
        check_choice(self, "recipe", "normaliser", (SLICE_MAX, LOG))
        check_between(self, "recipe", -200, 200, "ceiling_db")
        if self.power not in POWERS:
            raise ConfigError(f"recipe.power={self.power} is none of 1, 2")
        if self.normaliser == LOG and not self.amin > 0:
            raise ConfigError(f"recipe.normaliser={LOG} needs recipe.amin above 0, as in 1e-6")
        ceiling_db = type(self).__dataclass_fields__["ceiling_db"].default
        if self.relative_to_slice and self.ceiling_db != ceiling_db:
            raise ConfigError(
                f"recipe.ceiling_db={self.ceiling_db:g} has no meaning with recipe.normaliser="
                f"{SLICE_MAX}, whose largest value is the slice's own maximum: leave it out, or "
                f"set recipe.normaliser={LOG}"
            )

    @property
    def relative_to_slice(self) -> bool:
        """True where cells are relative to the maximum of their slice, its `max_db`.

        Else all slices have one reference, `ceiling_db`: they are joined and added as they are.
        """
        return self.normaliser == SLICE_MAX

    @property
    def slice_samples(self) -> int:
        """Samples in one slice."""
        return round(self.slice_s * self.sample_rate_hz)

    @property
    def step_samples(self) -> int:
        """Samples from the start of one slice to the start of the next."""
        return max(1, round(self.slice_step_s * self.sample_rate_hz))

    @property
    def num_frames(self) -> int:
        """Mel frames in one slice, centred."""
        return 1 + self.slice_samples // self.hop

    @property
    def slice_shape(self) -> tuple[int, int]:
        """(mel bands, frames)."""
        return self.n_mels, self.num_frames

    @property
    def dtype(self) -> np.dtype[Any]:
        """Cell type on disk."""
        return np.dtype(self.encoding)

    @property
    def slice_bytes(self) -> int:
        """Bytes of one decoded slice."""
        return self.n_mels * self.num_frames * self.dtype.itemsize

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `melbank.json`; later keys are there where they are not default."""
        default = {entry.name: entry.default for entry in fields(self)}
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in _LATER or value != default[name]
        }

    @classmethod
    def parse(cls, values: Any) -> Self:
        """Parses what `to_dict` gave; raises ValueError or TypeError where it did not."""
        for name, kind in cls.__annotations__.items():
            if name in values and not _is_of(values[name], kind):
                raise TypeError(f"{name} is {str(values[name])[:40]}, no {kind.__name__}")
        return cls(**values)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The recipe of a `melbank.json`; raises StoreError on keys of another version."""
        try:
            return cls.parse(values)
        except (TypeError, ValueError) as error:
            raise StoreError(f"the recipe in melbank.json is not readable: {error}") from error

    def digest(self) -> str:
        """16 hex digits that differ wherever two recipes differ."""
        return digest_json(self.to_dict())[:16]

    def difference(self, other: "Recipe") -> str:
        """The fields in which two recipes differ, for an error message."""
        mine, theirs = asdict(self), asdict(other)
        return ", ".join(
            f"{name}: {mine[name]} here, {theirs[name]} there"
            for name in mine
            if mine[name] != theirs[name]
        )


def _is_of(value: Any, kind: type) -> bool:
    """True for a value of a field's type; a float may be written as a whole number."""
    kinds = (int, float) if kind is float else kind
    return isinstance(value, kinds) and not isinstance(value, bool)
