"""Runs a prediction with its outputs, for commands."""

from collections.abc import Sequence

from storage.source.files import RecordingFiles
from tools.cli.command import importing
from tools.cli.prediction_inputs import PredictSections
from tools.cli.progress_bars import bar
from training.experiments.places import local_entries
from training.inference.embeddings.birdnet import NAME, NOTICE, species_presence
from training.inference.embeddings.linear_probe import read_probe
from training.inference.model_files import PROBE, ModelFiles, find_models
from training.inference.outputs.config import DetectConfig
from training.inference.reading.inputs import list_inputs
from training.inference.reading.worker_count import prepare_reading


def run_prediction(config: PredictSections) -> bool:
    """Predicts, writes the outputs, prints a summary; False where nothing could be predicted."""
    config.predict.check_given()
    entries = local_entries(config.predict.from_, config.experiment, config.remote)
    models = find_models(entries, config.experiment.read_folder)
    print_notice(models)
    inputs = list_inputs(config.predict.input, config.remote, limit=config.predict.limit)
    prepare_reading(config.predict, inputs)
    with importing("prediction starts"):
        from training.inference.predictor import predict_recordings
        from training.inference.results import Results
        from training.inference.run_outputs import check_run, write_run
    taxonomy, presence = config.predict.taxonomy, _presence(config.detect)
    summary = predict_recordings(
        config.predict,
        models,
        inputs,
        check=lambda run, names: check_run(run, names, config, taxonomy, presence),
        embedder=config.embed,
        remote=config.remote,
        progress=bar,
    )
    results, audio = Results(summary.out), RecordingFiles(config.remote)
    outputs = write_run(
        results, config, taxonomy=taxonomy, presence=presence, audio=audio, progress=bar
    )
    formats = ", ".join(config.output.formats)
    for line in (*outputs.notes, f"{outputs.num_detections:,} detections; formats: {formats}"):
        print(line)
    print(summary)
    return summary.num_rejects < summary.num_recordings


def print_notice(models: Sequence[ModelFiles]) -> None:
    """Prints the licence of BirdNET where a probe is on its embeddings, before all else."""
    files = [file for model in models for file in model.files if file.suffix == PROBE]
    if any(read_probe(file)[1].model.name == NAME for file in files):
        print(NOTICE, flush=True)


def _presence(config: DetectConfig) -> dict[str, float] | None:
    """Probabilities of species at the place of the config, by BirdNET; None without a place."""
    if config.latitude is None or config.longitude is None:
        return None
    print(NOTICE)
    return species_presence(config.latitude, config.longitude, config.week)
