"""Predict new recordings: files, folders, tables, buckets or a store -> probabilities of windows.

    python -m tools.predict predict.from=exp_003 predict.input=soundscapes predict.out=preds/new
    python -m tools.predict predict.from=[exp_003,exp_007/fold_1] predict.input=soundscapes \\
        predict.step_s=2.5
    python -m tools.predict predict.from=weights/exp_003/fold_0.ckpt predict.input=data/store

An experiment stands for the mean of its folds. Each recording is committed as it is done: run again
after a stop, the command goes on; another run in the same folder is refused with the difference.
What cannot be read becomes a line in rejects.csv, never the end of a run.

Makes predict.json, raw/ (the windows of each recording, by each model) and predictions.parquet: one
row per window, recording_id, start_s, end_s, silent and p_<label>. Exit code 3: nothing could be
predicted.
"""

import sys
from pathlib import Path

from storage.processes import prepare_workers
from tools.cli.command import NOTHING_STORED, Arguments, Command, importing, run
from tools.cli.prediction_inputs import PredictSections
from tools.cli.progress_bars import bar
from training.inference.inputs import list_inputs
from training.inference.loading import WORKER_MODULE
from training.inference.model_files import find_models

COMMAND = Command(doc=__doc__, sections=PredictSections)


def main(config: PredictSections, _: Arguments) -> int:
    """Predicts, writes the tables, prints a summary."""
    config.predict.check_given()
    models = find_models(config.predict.from_, Path(config.experiment.root))
    inputs = list_inputs(config.predict.input, config.remote, limit=config.predict.limit)
    if not inputs.store and config.predict.workers != 0:
        prepare_workers(WORKER_MODULE)  # which import what they need meanwhile
    with importing("prediction starts"):
        from training.inference.predictor import predict_recordings
        from training.inference.results import Results
        from training.inference.tables import write_predictions, write_rejects
    summary = predict_recordings(config.predict, models, inputs, remote=config.remote, progress=bar)
    results = Results(summary.out)
    written = [write_predictions(results), write_rejects(results)]
    print(f"written: {', '.join(str(path) for path in written if path)}")
    print(summary)
    if summary.num_rejects == summary.num_recordings:
        print("error: not one recording could be predicted: see rejects.csv", file=sys.stderr)
        return NOTHING_STORED
    return 0


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
