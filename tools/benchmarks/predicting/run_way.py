"""One way of predicting a folder of recordings, or one stage of it alone.

python -m tools.benchmarks.predicting.run_way RESULT STARTED WAY MODEL SOURCE WORKERS

`whole`: as tools.predict does, up to the raw results. `decode`: decoding and mel in the workers,
without a model. `model`: the model on ready cells. `script`: librosa window by window and batches
of 32, as in a notebook. WORKERS as `predict.workers`.

Workers import this module as their parent's, and it is as small as that of tools.predict.
"""

import sys
import tempfile
from pathlib import Path

from tools.benchmarks.harness.process import Result, measure
from training.inference.config import PredictConfig
from training.inference.model_files import find_models
from training.inference.reading.inputs import list_inputs
from training.inference.reading.worker_count import prepare_reading

BATCH = 32


def whole(model: str, source: str, workers: int | None, arguments: list[str]) -> None:
    """Predicts into a temporary folder; its imports are in the order of tools.predict."""
    models, inputs = find_models([model], Path()), list_inputs([source])
    with tempfile.TemporaryDirectory() as out:
        config = PredictConfig(
            from_=[model], input=[source], out=f"{out}/new", batch_size=BATCH, workers=workers
        )
        prepare_reading(config, inputs)
        from training.inference.predictor import predict_recordings

        def work() -> Result:
            return {"num_windows": predict_recordings(config, models, inputs).num_windows}

        measure(arguments, work)


def stage(way: str, model: str, source: str, workers: int | None, arguments: list[str]) -> None:
    """Runs a stage alone, or the script."""
    from tools.benchmarks.predicting.stages import Stages

    measure(arguments, getattr(Stages(model, source, workers), way))


def main(arguments: list[str]) -> None:
    """Reads the arguments and runs the way that they name."""
    way, model, source, workers = arguments[2:]
    num_workers = int(workers) if workers else None
    if way == "whole":
        whole(model, source, num_workers, arguments)
    else:
        stage(way, model, source, num_workers, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
