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

from tools.cli.command import NOTHING_STORED, Arguments, Command, importing, run
from tools.cli.prediction_inputs import PredictSections
from tools.cli.progress_bars import bar

COMMAND = Command(doc=__doc__, sections=PredictSections)


def main(config: PredictSections, _: Arguments) -> int:
    """Predicts, writes the tables, prints a summary."""
    config.predict.check_given()
    with importing("prediction starts"):
        from training.inference.predictor import predict_recordings
        from training.inference.tables import write_tables
    summary = predict_recordings(
        config.predict,
        root=Path(config.experiment.root),
        remote=config.remote,
        progress=bar,
    )
    for path in write_tables(summary.out):
        print(f"written: {path}")
    print(summary)
    if summary.num_rejects == summary.num_recordings:
        print("error: not one recording could be predicted: see rejects.csv", file=sys.stderr)
        return NOTHING_STORED
    return 0


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
