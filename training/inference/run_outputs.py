"""Raw results of a finished run -> all outputs that a config asks for.

    raw, by model --blend--> --calibration, post--> windows --> formats; rejects.csv

All of it is made from the raw results, so it can be made again with other settings in seconds.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from storage.errors import StoreError
from storage.objects.local import LocalObjects
from storage.objects.urls import is_remote, local_path
from storage.progress import Progress, silent
from storage.recipe import Recipe
from storage.source.files import RecordingFiles
from storage.source.recorder_facts import RecorderFacts
from storage.untrusted import parse_json
from training.inference.class_table import read_class_table
from training.inference.config import OutputSections
from training.inference.fingerprint import differences, shown
from training.inference.model_post import announce_post, with_post_of_models
from training.inference.outputs.output import PredictedRun
from training.inference.outputs.write import OutputSummary, check_outputs, write_outputs
from training.inference.post.processed_run import process_run
from training.inference.predictions import ClassTable, WindowPredictions
from training.inference.results import RawPredictions, Results, Run

REJECTS, SETTINGS = "rejects.csv", "outputs.json"
logger = logging.getLogger(__name__)
REJECT_SCHEMA = {
    "recording_id": pl.String,
    "path": pl.String,
    "reason": pl.String,
    "partial": pl.Boolean,
}


def check_run(
    run: Run,
    recording_ids: Sequence[str],
    config: OutputSections,
    taxonomy: str = "",
    presence: dict[str, float] | None = None,
) -> None:
    """Raises ConfigError where settings do not fit a run; before it begins.

    Says which steps of post-processing come from the models.
    """
    given, config = config, with_post_of_models(config, run.about)
    announce_post(given, run.about)
    classes = class_table(run.classes, taxonomy)
    RecorderFacts.open(config.recorder)
    process_run(lambda: (), run.branches, classes, config)
    windows = Recipe.from_dict(run.about["recipe"])
    check_outputs(config.output, config.detect, classes, recording_ids, windows, presence)


def class_table(known: ClassTable, taxonomy: str) -> ClassTable:
    """The classes of the models, with the names of a taxonomy before theirs."""
    given = read_class_table(taxonomy, known.labels, key="predict.taxonomy").names
    joined = {
        label: {**known.names.get(label, {}), **given.get(label, {})} for label in known.labels
    }
    names = {label: of for label, of in joined.items() if of}
    return ClassTable(labels=known.labels, names=names)


def write_run(
    results: Results,
    config: OutputSections,
    *,
    taxonomy: str = "",
    presence: dict[str, float] | None = None,
    audio: RecordingFiles | None = None,
    progress: Progress = silent,
) -> OutputSummary:
    """Writes the formats of `output.formats` and rejects.csv into the folder of a finished run.

    `taxonomy`: csv with names of the classes. Raises ConfigError where settings do not fit,
    StoreError where another run is at work on the folder.
    """
    settings = _settings(with_post_of_models(config, results.describe()["about"]), taxonomy)
    _say_what_changed(results, settings)
    run = open_run(results, config, taxonomy)
    total = results.num_recordings()
    with results.lock(), progress("writing outputs", total, "recording") as step:
        counted = replace(run, windows=_Counted(run.windows, step))
        summary = write_outputs(
            counted, config.output, config.detect, results.root, presence=presence, audio=audio
        )
        _write_rejects(results)
        data = json.dumps(settings, indent=1, ensure_ascii=False).encode()
        LocalObjects(str(results.root)).put(SETTINGS, data)
    return summary


def _settings(config: OutputSections, taxonomy: str) -> dict[str, Any]:
    """The settings that decide the outputs, apart from the raw results, as JSON has them."""
    sections = {entry.name: getattr(config, entry.name) for entry in fields(OutputSections)}
    plain = {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in sections.items()
    }
    return dict(parse_json(json.dumps({**plain, "predict": {"taxonomy": taxonomy}}).encode()))


def _say_what_changed(results: Results, settings: dict[str, Any]) -> None:
    """Says in a line which settings differ from those of the outputs that are there."""
    try:
        then = parse_json(LocalObjects(str(results.root)).get(SETTINGS))
    except (StoreError, ValueError):  # the first outputs here, or a file that is not ours
        return
    if isinstance(then, dict) and (found := differences(then, settings)):
        logger.info(f"the outputs are made again: {shown(found)}")


def open_run(results: Results, config: OutputSections, taxonomy: str = "") -> PredictedRun:
    """The predictions of a finished run, after blending and all steps."""
    document = results.describe()
    about = document["about"]
    config = with_post_of_models(config, about)
    recipe = Recipe.from_dict(about["recipe"])
    classes = class_table(results.classes(), taxonomy)
    facts = RecorderFacts.open(config.recorder)
    windows = process_run(
        lambda: (with_facts(raw, facts) for raw in results.iterate()),
        results.branches(),
        classes,
        config,
    )
    return PredictedRun(
        windows=windows,
        classes=classes,
        about={
            "fingerprint": document["fingerprint"],
            "versions": document["versions"],
            **document["decides"],
            "blend": asdict(config.blend),
            "calibration": config.calibration,
            "post": config.post,
            "detect": asdict(config.detect),
        },
        band_hz=(recipe.fmin_hz, recipe.fmax_hz),
        recipe=recipe,
        calibrated=bool(config.calibration),
    )


@dataclass(frozen=True, slots=True)
class _Counted(Iterable[WindowPredictions]):
    """A run that reports each recording."""

    run: Iterable[WindowPredictions]
    step: Any

    def __iter__(self) -> Iterator[WindowPredictions]:
        for windows in self.run:
            yield windows
            self.step(1)


def with_facts(raw: RawPredictions, facts: RecorderFacts) -> RawPredictions:
    """A recording with when and where it was made, as far as known."""
    path = raw.recording.path
    file = None if is_remote(path) else local_path(path)
    name = f"{raw.recording.recording_id}{Path(path).suffix}"
    found = facts.of(name, file if file is not None and file.is_file() else None)
    return replace(raw, recording=replace(raw.recording, **asdict(found)))


def _write_rejects(results: Results) -> None:
    """Writes rejects.csv: recordings without predictions, and those used in part, with reasons."""
    rows = [(one.recording_id, one.path, one.reason, False) for one in results.rejects()]
    rows += [
        (one.recording_id, one.path, one.problem, True)
        for one in results.recordings()
        if one.problem
    ]
    table = pl.DataFrame(rows, schema=REJECT_SCHEMA, orient="row").sort("recording_id")
    LocalObjects(str(results.root)).put(REJECTS, table.write_csv().encode())
