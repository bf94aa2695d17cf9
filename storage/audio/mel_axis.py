"""Places of frequencies on the mel axis of a slice, for pictures."""

from storage.audio.filterbank import hz_to_mel
from storage.recipe import Recipe

TICKS_HZ = (64_000, 32_000, 16_000, 8000, 4000, 2000, 1000, 500, 250, 125)


def band_of_hz(frequency_hz: float, recipe: Recipe) -> float:
    """The place of a frequency among the mel bands: 0 is the centre of the lowest one."""
    lowest, highest, mel = (
        hz_to_mel(edge_hz, recipe.mel_scale)
        for edge_hz in (recipe.fmin_hz, recipe.fmax_hz, frequency_hz)
    )
    return float((mel - lowest) / (highest - lowest) * (recipe.n_mels + 1) - 1)


def frequency_ticks(recipe: Recipe) -> dict[int, float]:
    """Frequencies worth a tick and their places among the bands, the highest first."""
    ticks: dict[int, float] = {}
    free_below = recipe.n_mels + 0.0
    for frequency_hz in TICKS_HZ:
        band = band_of_hz(frequency_hz, recipe)
        if 0 <= band <= free_below:
            ticks[frequency_hz] = min(band, recipe.n_mels - 0.5)
            free_below = band - recipe.n_mels / 12
    return ticks
