"""From nothing to species with times: synthesise birdsong, then run the five commands on it.

    python -m tools.demo
    python -m tools.demo demo.root=/tmp/demo demo.seed=7

    birdsong -> source/ -> build_store -> store/
    store/ -> write_shards -> shards/ -> train -> preds/
    store/ -> query -> sheet.png
    soundscapes/ -> predict -> predictions/

Each command is printed before it runs and can be typed as it is. Run it again at any moment:
what is there is kept. About two minutes on 2 cores, 150 MB.
"""

import json
import os
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from storage.options import option
from tools.birdsong.recordings import BirdsongConfig, synthesise_birdsong
from tools.birdsong.soundscape import synthesise_soundscape
from tools.cli.command import Arguments, Command, run
from tools.cli.stopping import Children
from training.experiments.report import format_table
from training.model.metrics import TITLES, score_cells

SQL = (
    "SELECT DISTINCT ON (primary_label) primary_label, row, common_name, start_s, rating "
    "FROM slices WHERE slice_no = 1 AND ARRAY_LENGTH(secondary_labels) = 0 "
    "ORDER BY primary_label, rating DESC"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig(BirdsongConfig):
    """Settings of the demo: what it synthesises, and its folder."""

    root: str = option("data/demo", "folder of the demo: source, store, shards and results")


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    demo: DemoConfig = field(default_factory=DemoConfig)


COMMAND = Command(doc=__doc__, sections=Sections, config="configs/demo.yaml")


def main(config: Sections, arguments: Arguments) -> int:
    """Runs all stages; returns the exit code of the first command that fails."""
    root = Path(config.demo.root)
    print(f"birdsong for {root / 'source'}", flush=True)
    started = time.perf_counter()
    num_recordings = synthesise_birdsong(root / "source", config.demo)
    synthesise_soundscape(root / "soundscapes", config.demo)
    print(
        f"{num_recordings} recordings of {config.demo.num_species} species, and a soundscape",
        flush=True,
    )
    seconds = {"birdsong": time.perf_counter() - started}
    for plan in STAGES:
        words = plan(root, arguments.config)
        if words[0] == "tools.train" and (done := finished_training(root, arguments.config)):
            print(f"\n{words[0]}: {done} is there; remove it to train again", flush=True)
            continue
        print(f"\n$ {shlex.join(['python', '-m', *words])}", flush=True)
        started = time.perf_counter()
        with Children() as children:
            code = children.run(words, _environment())
        if code:
            print(f"\n{words[0]} ended with exit code {code}; see above", file=sys.stderr)
            return code
        seconds[words[0]] = time.perf_counter() - started
    print("\n" + summary(root, arguments.config, seconds))
    return 0


def _build(root: Path, config: str) -> list[str]:
    source = f"source.root={root / 'source'}"
    return ["tools.build_store", "--config", config, source, f"store={root / 'store'}"]


def _shards(root: Path, config: str) -> list[str]:
    data = [f"store={root / 'store'}", f"shards={root / 'shards'}"]
    return ["tools.write_shards", "--config", config, *data]


def _train(root: Path, config: str) -> list[str]:
    return ["tools.train", *_shards(root, config)[1:], f"experiment.root={root}"]


def _query(root: Path, config: str) -> list[str]:
    sheet = ["--limit", "12", "--png", str(root / "sheet.png")]
    return ["tools.query", "--config", config, f"store={root / 'store'}", "--sql", SQL, *sheet]


def _predict(root: Path, config: str) -> list[str]:
    """Predicts with the last experiment, which is there by then."""
    experiment = finished_training(root, config)
    name = experiment.name if experiment else "exp_001"
    keys = [f"predict.from={name}", f"experiment.root={root}"]
    keys += [f"predict.input={root / 'soundscapes'}", f"predict.out={predictions(root, name)}"]
    return ["tools.predict", "--config", config, *keys]


# The commands of the demo in order: (folder, config file) -> the words after `python -m`.
STAGES = (_build, _shards, _train, _query, _predict)


def predictions(root: Path, experiment: str) -> Path:
    """Folder of the predictions of an experiment."""
    return root / "predictions" / experiment


def _environment() -> dict[str, str]:
    """Ours, with threads that sleep while they wait for each other.

    Spinning, torch's threads made training ten times slower on two cores that others used, too.
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}


def finished_training(root: Path, config_file: str) -> Path | None:
    """The last experiment, if it is whole and younger than the config and every shard."""

    def written_ns(path: Path) -> int:
        return path.stat().st_mtime_ns

    scores = max((root / "preds").glob("exp_*/scores.json"), key=written_ns, default=None)
    inputs = [Path(config_file), *(root / "shards").glob("*.tar")]
    if scores is None or max(map(written_ns, inputs)) > written_ns(scores):
        return None
    return scores.parent


def summary(root: Path, config_file: str, seconds: dict[str, float]) -> str:
    """The folds of the last experiment, the time of each stage, and where everything is."""
    lines = [f"{'stage':<20} {'seconds':>8}"]
    lines += [f"{name:<20} {value:>8.1f}" for name, value in seconds.items()]
    lines += [f"{'all':<20} {sum(seconds.values()):>8.1f}", ""]
    places = {}
    if experiment := finished_training(root, config_file):
        scores = json.loads((experiment / "scores.json").read_text(encoding="utf-8"))
        folds = [(str(fold["fold"]), *score_cells(fold["scores"])) for fold in scores["folds"]]
        total = ("all", *score_cells(scores["overall"]))
        lines += [format_table(("fold", *TITLES), [*folds, total], num_totals=1), ""]
        places = {"weights": root / "weights" / experiment.name, "experiment": experiment}
        found = predictions(root, experiment.name)
        places |= {"label track": found / "audacity", "detections": found / "detections.csv"}
        places["picture"] = found / "pictures"
    places |= {name: root / name for name in ("source", "store", "shards")}
    places["sheet"] = root / "sheet.png"
    shown = [f"{name:<12} {path}" for name, path in places.items()]
    return "\n".join([*lines, *shown, "", "look at it in the browser:", explore_command(root)])


def explore_command(root: Path) -> str:
    """The command that opens the page on the results of the demo."""
    keys = [f"store={root / 'store'}", f"source.root={root / 'source'}"]
    if experiments := sorted((root / "preds").glob("exp_*/scores.json")):
        name = experiments[-1].parent.name
        keys += [f"experiment.root={root}", f"explore.experiment={name}"]
        if (predictions(root, name) / "detections.parquet").is_file():
            keys.append(f"explore.predictions={predictions(root, name)}")
    keys.append(f"explore.reviews={root / 'reviews'}")
    keys.append(f"explore.embeddings_folder={root / 'embeddings'}")
    return shlex.join(["python", "-m", "tools.explore", *keys])


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
