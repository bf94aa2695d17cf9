"""Predict new recordings: files, folders, tables, buckets or a store -> species with times.

    python -m tools.predict predict.from=exp_003 predict.input=soundscapes predict.out=preds/new
    python -m tools.predict predict.from=[exp_003,exp_007/fold_1] predict.input=soundscapes \\
        predict.step_s=2.5 output.formats=[parquet,csv,raven,audacity] detect.threshold=0.7
    python -m tools.predict predict.from=exp_003 predict.input=test_soundscapes \\
        output.formats=[submission] output.sample_submission=sample_submission.csv
    python -m tools.predict predict.from=exp_003 predict.input=soundscapes \\
        "post=[{smooth: {kernel: [.1,.2,.4,.2,.1]}}, {file_top: {k: 2}}]"
    python -m tools.predict predict.from=weights/exp_003/fold_0.ckpt predict.input=data/store

An experiment stands for the mean of its folds. Each recording is committed as it is done: run again
after a stop, the command goes on; another run in the same folder is refused with the difference.
What cannot be read becomes a line in rejects.csv, never the end of a run.

Makes predict.json, raw/ (the windows of each recording, by each model), and from them the formats:
predictions.parquet, a row per window with p_<label>, detections.parquet and .csv, and so on. With
other steps, thresholds or formats, the same command makes those again from raw/, in seconds. Exit
code 3: nothing could be predicted.
"""

import sys
from pathlib import Path

from storage.processes import prepare_workers
from storage.source.files import RecordingFiles
from tools.cli.command import NOTHING_STORED, Arguments, Command, importing, run
from tools.cli.prediction_inputs import PredictSections
from tools.cli.progress_bars import bar
from training.inference.inputs import list_inputs
from training.inference.loading import WORKER_MODULE
from training.inference.model_files import find_models

COMMAND = Command(doc=__doc__, sections=PredictSections)


def main(config: PredictSections, _: Arguments) -> int:
    """Predicts, writes the outputs, prints a summary."""
    config.predict.check_given()
    models = find_models(config.predict.from_, Path(config.experiment.root))
    inputs = list_inputs(config.predict.input, config.remote, limit=config.predict.limit)
    if not inputs.store and config.predict.workers != 0:
        prepare_workers(WORKER_MODULE)  # which import what they need meanwhile
    with importing("prediction starts"):
        from training.inference.predictor import predict_recordings
        from training.inference.results import Results
        from training.inference.run_outputs import check_run, write_run
    taxonomy = config.predict.taxonomy
    summary = predict_recordings(
        config.predict,
        models,
        inputs,
        check=lambda run, names: check_run(run, names, config, taxonomy),
        remote=config.remote,
        progress=bar,
    )
    results, audio = Results(summary.out), RecordingFiles(config.remote)
    outputs = write_run(results, config, taxonomy=taxonomy, audio=audio, progress=bar)
    print("\n".join(outputs.notes))
    print(
        f"{outputs.num_detections:,} detections; {', '.join(config.output.formats)}: {summary.out}"
    )
    print(summary)
    if summary.num_rejects == summary.num_recordings:
        print("error: not one recording could be predicted: see rejects.csv", file=sys.stderr)
        return NOTHING_STORED
    return 0


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
