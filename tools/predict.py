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
other steps, thresholds or formats, the same command makes those again from raw/, in seconds, and
says which settings have changed. An .onnx brings its steps of post-processing along; post= gives
others. Exit code 3: nothing could be predicted.
"""

import sys

from tools.cli.command import NOTHING_STORED, Arguments, Command, run
from tools.cli.prediction import run_prediction
from tools.cli.prediction_inputs import PredictSections

COMMAND = Command(doc=__doc__, sections=PredictSections)


def main(config: PredictSections, _: Arguments) -> int:
    """Predicts, writes the outputs, prints a summary."""
    if run_prediction(config):
        return 0
    print("error: not one recording could be predicted: see rejects.csv", file=sys.stderr)
    return NOTHING_STORED


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
