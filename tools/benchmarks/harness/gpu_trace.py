"""GPU utilisation while something runs, and a picture of it.

    with GpuTrace(torch.device("cuda")) as trace:
        ...
    write_trace(Path("trace.png"), trace, {"reading": [(began, ended)]})

Asks nvidia-smi twenty times a second; without a GPU or without nvidia-smi there are no samples.
"""

import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

EVERY_MS = 50
COLOURS = ("#9aa5b1", "#2a7f62")
Spans = Sequence[tuple[float, float]]


class GpuTrace:
    """Samples of (time.perf_counter, utilisation in percent) of the first GPU."""

    def __init__(self, device: torch.device) -> None:
        self._wanted = device.type == "cuda" and shutil.which("nvidia-smi") is not None
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self.samples: list[tuple[float, float]] = []

    def mean_text(self, spans: Spans) -> str:
        """The mean utilisation within spans of time, as `97%`, or `-` without samples."""
        inside = [
            busy for at, busy in self.samples if any(start <= at < end for start, end in spans)
        ]
        return f"{sum(inside) / len(inside):.0f}%" if inside else "-"

    def __enter__(self) -> "GpuTrace":
        if self._wanted:
            command = ["nvidia-smi", "-i", "0", "--query-gpu=utilization.gpu"]
            self._process = subprocess.Popen(
                [*command, "--format=csv,noheader,nounits", f"--loop-ms={EVERY_MS}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            self._thread = threading.Thread(target=self._listen, name="gpu-trace", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._thread is not None:
            self._process.terminate()
            self._thread.join()
            with self._process:  # waits for it and closes the pipe
                pass

    def _listen(self) -> None:
        lines = self._process.stdout if self._process is not None else None
        for line in lines or ():
            if line.strip().isdigit():
                self.samples.append((time.perf_counter(), float(line)))


def write_trace(file: Path, trace: GpuTrace, spans: Mapping[str, Spans]) -> None:
    """Draws the utilisation over time, s; what ran when is the background colour."""
    figure = Figure(figsize=(10, 2.6), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    start = min(began for many in spans.values() for began, _ in many)
    for colour, (name, many) in zip(COLOURS, spans.items(), strict=True):
        for number, (began, ended) in enumerate(many):
            label = name if number == 0 else None
            axes.axvspan(began - start, ended - start, color=colour, alpha=0.35, label=label, lw=0)
    axes.plot([at - start for at, _ in trace.samples], [busy for _, busy in trace.samples], lw=0.8)
    axes.set_xlim(0, max(ended for many in spans.values() for _, ended in many) - start)
    axes.set_ylim(0, 105)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("GPU busy (%)")
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
