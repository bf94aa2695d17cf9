"""Measure how fast recordings become probabilities, against a plain librosa script.

    python -m tools.benchmark predict benchmark.source_root=data benchmark.limit=100
    python -m tools.benchmark predict benchmark.backbones=[efficientnet_b0] \\
        --markdown docs/benchmarks.md

For each backbone, with random weights and 206 classes, from the same recordings, each in a process
of its own and in turn: the whole way as tools.predict goes, decoding and mel alone, the model
alone, and a script that makes one spectrogram after the other with librosa; the whole and the model
by torch and by onnxruntime. The slower of the two stages alone, as a share of the whole, says how
well one is done while the other is.
"""

from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

from storage.options import check_at_least, check_positive, option
from storage.recipe import Recipe
from tools.benchmarks.harness.process import Result, check_measurable, run_measured
from tools.benchmarks.harness.recordings import (
    LABEL,
    find_recordings,
    join_recordings,
    link_recordings,
)
from tools.benchmarks.harness.runs import Medians, measure_in_turn, medians, work_folder
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table

NUM_CLASSES = 206
Turn = tuple[str, str, str]  # backbone, runtime, way
TORCH, ONNX = "torch", "onnxruntime"
SHARED = ("decode", "script")  # measured once for a backbone
WAYS = {TORCH: ("whole", "model", *SHARED), ONNX: ("whole", "model")}
EXPLANATION = (
    "Speeds are times real time, from the end of the imports to the end, on all cores; starting "
    "the workers is part of it. Decoding and the model alone are the stages of the whole; the "
    "share is that of the slower one. On few cores both stages want all of them, so that neither "
    "can be hidden whole."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictBenchmarkConfig:
    """Recordings and models to measure, and repetitions."""

    source_root: str = option("data", "folder of recordings, as source.root")
    limit: int | None = option(None, "only the first so many of them")
    join_s: float | None = option(
        60.0, "join them to at least so many s each, as 32-kHz ogg; null: as they are"
    )
    repeat: int = option(1, "how often each is taken, under another name")
    runs: int = option(3, "runs of each way, in turn; the table has medians")
    workers: int = option(1, "processes that decode")
    backbones: list[str] = field(
        default_factory=lambda: ["test_resnet", "efficientnet_b0"],
        metadata={"help": "models of timm; test_resnet, on means of 2 x 2 cells, is the demo's"},
    )
    work_dir: str = option("", "folder for recordings and results; empty: the temporary one")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "repeat", "runs", "workers", "limit")
        check_positive(self, "benchmark", "join_s")


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
        files, root = find_recordings(chosen.source_root, chosen.limit), folder / "source"
        if chosen.join_s is None:
            recordings = link_recordings(files, root, chosen.repeat)
        else:
            recordings = join_recordings(files, root, chosen.join_s, chosen.repeat)
        source = str(recordings.root / LABEL)
        files_of = {
            (name, runtime): file
            for name in chosen.backbones
            for runtime, file in write_models(folder, name).items()
        }

        def measure(turn: Turn) -> Result:
            name, runtime, way = turn
            words = [way, str(files_of[name, runtime]), source, str(chosen.workers)]
            return run_measured("tools.benchmarks.predicting.run_way", words, one_thread=False)

        turns = [(*pair, way) for pair in files_of for way in WAYS[pair[1]]]
        found = measure_in_turn(turns, chosen.runs, measure)
        results = {turn: medians(runs) for turn, runs in found.items()}
        parts = (recordings.summary() + ". " + EXPLANATION, speeds(results, recordings.audio_s))
    return Section(name="predict", title="Predicting recordings", parts=parts)


def speeds(results: dict[Turn, Medians], audio_s: float) -> Table:
    """Times real time of each way, by backbone and runtime; and the share of the slower stage."""
    rows = []
    for name, runtime in dict.fromkeys((name, runtime) for name, runtime, _ in results):
        work_s = {
            way: results[name, TORCH if way in SHARED else runtime, way]["work_s"]
            for way in WAYS[TORCH]
        }
        slower = max(work_s["decode"], work_s["model"])
        cells = [f"{audio_s / work_s[way]:,.0f}" for way in WAYS[TORCH]]
        faster = work_s["script"] / work_s["whole"]
        share = f"{slower / work_s['whole']:.0%}"
        rows.append((f"{name}, {runtime}", *cells, share, f"{faster:.1f}"))
    columns = ("backbone", "whole", "model", "decode + mel", "script", "share", "script / whole")
    return Table(columns=columns, rows=tuple(rows))


def write_models(folder: Path, backbone: str) -> dict[str, Path]:
    """Writes a checkpoint and, where the extra `onnx` is there, the same model for onnxruntime."""
    from training.inference.export.onnx_export import ExportOptions, export_onnx
    from training.model.checkpoints import read_checkpoint

    files = {TORCH: write_checkpoint(folder, backbone)}
    if find_spec("onnx") and find_spec("onnxruntime"):
        files[ONNX] = folder / f"{backbone}.onnx"
        export_onnx([read_checkpoint(files[TORCH])], files[ONNX], ExportOptions())
    return files


def write_checkpoint(folder: Path, backbone: str) -> Path:
    """Writes a checkpoint with random weights, of the default recipe."""
    import torch

    from datasets.labels import Labels
    from training.model.checkpoints import checkpoint_contents
    from training.model.config import ModelConfig
    from training.model.models import build_classifier

    views = [[2, 2]] if backbone == "test_resnet" else [[1, 1]]
    config, recipe = ModelConfig(backbone=backbone, views=views, output="sigmoid"), Recipe()
    model = build_classifier(config, num_classes=NUM_CLASSES, slice_shape=recipe.slice_shape)
    labels = Labels(tuple(f"class {number}" for number in range(NUM_CLASSES)))
    contents = checkpoint_contents(labels, recipe, {"model": asdict(config)}, fold=0)
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    path = folder / f"{backbone}.ckpt"
    torch.save({"state_dict": weights, "epoch": 0, "melbank": contents}, path)
    return path
