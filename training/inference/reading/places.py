"""Places of a model's slices in the windows of a run, which are those of the first model."""

from math import ceil

from storage.recipe import Recipe


def slice_places(window_start: int, windows: Recipe, rate_hz: int, size: int) -> list[int]:
    """Start positions of slices of `size` samples at `rate_hz` in a window of `windows`.

    A longer slice is centred on the window; of shorter ones there are as many as cover it, evenly
    spaced.
    """
    own_rate, window_size = windows.sample_rate_hz, windows.slice_samples
    covered = _rounded(window_size * rate_hz, own_rate)  # samples of the window at `rate_hz`
    count = ceil(covered / size)
    if count == 1:
        twice_centre = (2 * window_start + window_size) * rate_hz
        return [max(0, _rounded(twice_centre - size * own_rate, 2 * own_rate))]
    begin = _rounded(window_start * rate_hz, own_rate)
    return [begin + _rounded((covered - size) * number, count - 1) for number in range(count)]


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient as the nearest whole number, halves upwards."""
    return (2 * numerator + denominator) // (2 * denominator)
