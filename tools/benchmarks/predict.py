"""Recordings into probabilities: whole, its stages alone, and others' ways on the same recordings.

    python -m tools.benchmark predict benchmark.source_root=data --markdown docs/benchmarks.md

Two inputs: an hour and more of recordings, and a few minutes, where the time that programs take to
start is most of it. Of both, from the start of the program to its end: what tools.predict does up
to the raw results, by torch, onnxruntime and OpenVINO; a script that makes one spectrogram after
the other with librosa; and opensoundscape, which is installed into an environment of its own on
first use. Of the long one, after the imports, also the stages alone: decoding and mel, and the
model. The slower of the two as a share of the whole says how well one is done while the other is.
"""

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import StoreError
from storage.options import check_at_least, check_positive, option
from tools.benchmarks.harness.process import Result, check_measurable, run_measured, run_session
from tools.benchmarks.harness.recordings import (
    LABEL,
    Recordings,
    find_recordings,
    join_recordings,
    link_recordings,
)
from tools.benchmarks.harness.runs import Medians, measure_in_turn, medians, work_folder
from tools.benchmarks.predicting.models import (
    NUM_CLASSES,
    ONNX,
    OPENVINO,
    TORCH,
    write_models,
)
from tools.benchmarks.reading.contenders import peer_python
from tools.cli.checkout import ROOT
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table

Turn = tuple[str, str, str, str]  # input, backbone, runtime, way
LONG, SHORT = "long", "short"
PEER = "opensoundscape"
REQUIREMENTS = ("opensoundscape>=0.13,<0.14",)
SCRIPT = Path(__file__).parent / "predicting" / "opensoundscape_cnn.py"
SHARED = ("decode", "script", PEER)  # measured once for a backbone
WAYS = {
    (LONG, TORCH): ("whole", "model", *SHARED),
    (LONG, ONNX): ("whole", "model"),
    (LONG, OPENVINO): ("whole", "model"),
    (SHORT, TORCH): ("whole", "script", PEER),
    (SHORT, ONNX): ("whole",),
    (SHORT, OPENVINO): ("whole",),
}
EXPLANATION = (
    "Speeds are times real time, on all cores, from the end of the imports to the end of the "
    "work; the share is that of the slower stage in the whole. On few cores both stages want all "
    "of them, so that neither can be hidden whole."
)
STARTS = (
    "From the start of the program to its end, imports and all, s. melbank's processes that "
    "decode, where there are any, import what they need while the models are loaded."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictBenchmarkConfig:
    """Recordings and models to measure, and repetitions."""

    source_root: str = option("data", "folder of recordings, as source.root")
    limit: int | None = option(None, "only the first so many of them")
    join_s: float | None = option(
        60.0, "join them to at least so many s each, as 32-kHz ogg; null: as they are"
    )
    least_h: float = option(
        1.0, "hours of the long input: no more recordings than that takes, or each several times"
    )
    short_min: float = option(3.0, "minutes of the short input")
    runs: int = option(3, "runs of each way, in turn; the tables have medians")
    workers: int | None = option(None, "processes that decode, as predict.workers")
    backbones: list[str] = field(
        default_factory=lambda: ["test_resnet", "resnet18", "efficientnet_b0"],
        metadata={"help": "models of timm; test_resnet, on means of 2 x 2 cells, is the demo's"},
    )
    peer: bool = option(True, "measure opensoundscape too, where it has the backbone")
    env_dir: str = option("", "folder of its environment; empty: in ~/.cache/melbank/peers")
    work_dir: str = option("", "folder for recordings and results; empty: the temporary one")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "runs", "limit")
        check_at_least(self, "benchmark", 0, "workers")
        check_positive(self, "benchmark", "join_s", "least_h", "short_min")


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    benchmark: PredictBenchmarkConfig = field(default_factory=PredictBenchmarkConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN,))


def run_benchmark(config: Sections, _: Arguments) -> Section:
    """Measures all ways with all backbones."""
    check_measurable()
    chosen = config.benchmark
    with work_folder(chosen.work_dir) as folder:
        inputs = make_inputs(chosen, folder)
        files = {
            (name, runtime): file
            for name in chosen.backbones
            for runtime, file in write_models(folder, name).items()
        }
        peer, reason = find_peer(chosen)

        def measure(turn: Turn) -> Result:
            length, name, runtime, way = turn
            source = str(inputs[length].root / LABEL)
            workers = "" if chosen.workers is None else str(chosen.workers)
            if way == PEER and peer is not None:
                return measure_peer(peer, [source, name, str(NUM_CLASSES), workers or "1"])
            words = [way, str(files[name, runtime]), source, workers]
            return run_measured("tools.benchmarks.predicting.run_way", words, one_thread=False)

        turns = [
            (length, *pair, way)
            for length in (LONG, SHORT)
            for pair in files
            for way in WAYS[length, pair[1]]
            if way != PEER or peer is not None
        ]
        found = measure_in_turn(turns, chosen.runs, measure)
    results = {turn: medians(runs) for turn, runs in found.items()}
    names = {LONG: f"{inputs[LONG].audio_s / 3600:.2f} h", SHORT: minutes(inputs[SHORT])}
    parts = (
        f"{inputs[LONG].summary()}. {EXPLANATION}{reason}",
        speeds(results, inputs[LONG].audio_s),
        STARTS,
        starts(results, names),
    )
    return Section(name="predict", title="Predicting recordings", parts=parts)


def make_inputs(config: PredictBenchmarkConfig, folder: Path) -> dict[str, Recordings]:
    """The folders of recordings of both inputs."""
    files = find_recordings(config.source_root, config.limit)
    joined = config.join_s is not None
    if config.join_s is not None:
        recordings = join_recordings(files, folder / "source", config.join_s, 1)
    else:
        recordings = link_recordings(files, folder / "source", 1)
    mean_s = recordings.audio_s / len(recordings.files)
    made = {}
    for name, audio_s in ((LONG, 3600 * config.least_h), (SHORT, 60 * config.short_min)):
        count = max(1, round(audio_s / mean_s))
        repeat = -(-count // len(recordings.files))
        some = recordings.files[: -(-count // repeat)]
        made[name] = link_recordings(some, folder / name, repeat, joined=joined)
    return made


def minutes(recordings: Recordings) -> str:
    """The length of an input."""
    return f"{recordings.audio_s / 60:.1f} min"


def find_peer(config: PredictBenchmarkConfig) -> tuple[Path | None, str]:
    """The interpreter of opensoundscape; or none, and a sentence on why."""
    if not config.peer:
        return None, ""
    try:
        return peer_python(PEER, REQUIREMENTS, config.env_dir), ""
    except StoreError as error:
        return None, f" {PEER} is not measured: {error}."


def measure_peer(python: Path, words: list[str]) -> Result:
    """Runs opensoundscape; an empty result where it lacks the backbone."""
    with tempfile.TemporaryDirectory() as folder:
        file, begun = Path(folder) / "result.json", time.monotonic()
        run_session([str(python), "-I", str(SCRIPT), str(file), *words], ROOT, {})
        result: Result = json.loads(file.read_text(encoding="utf-8"))
    return {**result, "whole_s": time.monotonic() - begun} if result else {}


def speeds(results: dict[Turn, Medians], audio_s: float) -> Table:
    """Times real time of each way, by backbone and runtime; and the share of the slower stage."""
    rows = []
    for name, runtime in _pairs(results):
        work_s = {
            way: results.get((LONG, name, _measured_by(way, runtime), way), {}).get("work_s")
            for way in WAYS[LONG, TORCH]
        }
        whole_s, slower_s = work_s["whole"], max(work_s["decode"] or 0, work_s["model"] or 0)
        cells = [f"{audio_s / seconds:,.0f}" if seconds else "-" for seconds in work_s.values()]
        share = f"{slower_s / whole_s:.0%}" if whole_s else "-"
        rows.append((f"{name}, {runtime}", *cells, share))
    columns = ("backbone", "whole", "model", "decode + mel", "script", PEER, "share")
    return Table(columns=columns, rows=tuple(rows))


def starts(results: dict[Turn, Medians], names: dict[str, str]) -> Table:
    """Times from start to end, s, of melbank and the others, by input, backbone and runtime."""
    rows = []
    for length, title in names.items():
        for name, runtime in _pairs(results):
            cells = [
                results.get((length, name, _measured_by(way, runtime), way), {}).get("whole_s")
                for way in ("whole", "script", PEER)
            ]
            texts = (f"{seconds:.1f}" if seconds else "-" for seconds in cells)
            rows.append((f"{title}, {name}, {runtime}", *texts))
    return Table(columns=("input", "melbank", "script", PEER), rows=tuple(rows))


def _measured_by(way: str, runtime: str) -> str:
    return TORCH if way in SHARED else runtime


def _pairs(results: dict[Turn, Medians]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((name, runtime) for _, name, runtime, _ in results))
