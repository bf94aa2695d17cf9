"""Image transforms of albumentations on the host, before the augmentations of the device.

    specs = [{"name": "RandomGamma", "p": 0.3}]
    transforms = ImageTransforms(specs, seed=0, slice_shape=(128, 313))
    transforms(slices, epoch=3, position=position)  # in place

Each transform of a slice has a generator seeded by (seed, epoch, position of the sample in the
epoch, index in the list): the result does not depend on workers, ranks or resuming, and an entry
added at the end does not change the others.

Costs a core 0.06 ms per slice for a flip, 0.1 to 0.2 ms for most others, 6 ms for an elastic one,
in the thread that reads. The package is an extra; 2.0.8 was its last release under the MIT licence.

Shapes: B samples, M mel bands, T frames.
"""

import difflib
import importlib
import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from datasets.randomness import random_bits
from storage.encoding import quantise, to_unit
from storage.errors import ConfigError

Spec = Mapping[str, Any]
TRIALS = 16  # some transforms swap the axes only now and then


class ImageTransforms:
    """Applies the transforms of a list in order, each with its probability.

    An entry is the name of a transform and its arguments, `p` among them (0.5 unless given). A
    transform must keep a one-channel float32 image in [0, 1] and its shape; raises ConfigError on
    any other, and where the package is missing.
    """

    def __init__(self, specs: Sequence[Spec], *, seed: int, slice_shape: tuple[int, int]) -> None:
        self._again = partial(ImageTransforms, list(specs), seed=seed, slice_shape=slice_shape)
        self._seed = seed
        self._transforms: list[tuple[str, Any]] = []
        library = _load_library()
        for number, spec in enumerate(specs):
            name = spec["name"]
            _check_trials(_build(library, {**spec, "p": 1.0}), name, slice_shape)
            self._transforms.append((f"images/{number}/{name}", _build(library, spec)))

    def __call__(self, slices_BMT: np.ndarray, *, epoch: int, position: np.ndarray) -> None:
        """Transforms slices as stored, uint8 or float, in place; `position` int64 [B].

        Transforms see uint8 as float32 in [0, 1]; the result is rounded.
        """
        keys = position.astype(np.uint64)
        bits = [
            random_bits(keys, seed=self._seed, epoch=epoch, purpose=purpose) >> np.uint64(32)
            for purpose, _ in self._transforms
        ]
        for number, slice_MT in enumerate(slices_BMT):
            image = to_unit(slice_MT[:, :, None])
            for (_, transform), bits_B in zip(self._transforms, bits, strict=True):
                image = _apply(transform, image, int(bits_B[number]))
            slice_MT[:] = quantise(image[:, :, 0].clip(0, 1), slice_MT.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, ()  # another process loads the library by itself


def check_specs(specs: Sequence[Spec]) -> None:
    """Raises ConfigError on entries that name no transform; needs no albumentations."""
    for number, spec in enumerate(specs):
        name = spec.get("name")
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(
                f"augment.images[{number}]: name={name} must be the plain name of a transform of "
                "albumentations, as in {name: RandomGamma, p: 0.3}"
            )


def _load_library() -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else it looks for updates in the network
    try:
        library = importlib.import_module("albumentations")
    except ImportError as error:
        raise ConfigError(
            "augment.images needs albumentations: `uv sync --extra albumentations`, "
            f"`pip install 'albumentations<=2.0.8'`, or leave it empty ({error})"
        ) from error
    # Its own threads would hang in forked processes, and take the cores from the trainer's.
    importlib.import_module("cv2").setNumThreads(0)
    return library


def _build(library: Any, spec: Spec) -> Any:
    """Builds the transform of an entry; raises ConfigError on unknown names and bad arguments."""
    name = spec["name"]
    base = library.BasicTransform
    known = dict(inspect.getmembers(library, lambda f: inspect.isclass(f) and issubclass(f, base)))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"augment.images: {name} is not a transform of albumentations{hint}")
    arguments = {key: value for key, value in spec.items() if key != "name"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it only warns of unknown arguments
            return known[name](**arguments)
    # what albumentations raises on arguments that it does not take
    except (ValueError, TypeError, NotImplementedError, Warning) as error:
        raise ConfigError(f"augment.images: {name}: {_one_line(error)}") from error


def _check_trials(transform: Any, name: str, slice_shape: tuple[int, int]) -> None:
    """Raises ConfigError unless a transform keeps shape, type and range of noise and silence."""
    noise = np.random.default_rng(0).random((*slice_shape, 1), dtype=np.float32)
    for image in (noise, np.zeros_like(noise)):
        for seed in range(TRIALS):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    found = _apply(transform, image.copy(), seed)
            except Exception as error:  # any error means that it cannot be used
                raise ConfigError(
                    f"augment.images: {name} does not take one-channel images: {_one_line(error)}"
                ) from error
            low, high = float(found.min()), float(found.max())
            if found.dtype != np.float32 or not -1e-3 <= low <= high <= 1 + 1e-3:
                raise ConfigError(
                    f"augment.images: {name} leaves {found.dtype} values from {low:.3g} to "
                    f"{high:.3g}, where float32 from 0 to 1 must stay"
                )


def _apply(transform: Any, image: np.ndarray, seed: int) -> np.ndarray:
    transform.set_random_seed(seed)
    found: np.ndarray = transform(image=image)["image"]
    if tuple(found.shape) != image.shape:
        raise ConfigError(
            f"augment.images: {type(transform).__name__} makes {tuple(found.shape)} of a slice of "
            f"{image.shape}: only transforms that keep the shape can be used"
        )
    return found


def _one_line(error: Exception) -> str:
    """Shortens a message of the library to its first lines, without links."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("For further information")]
    return " ".join(lines[:3]) or repr(error)
