"""The spectrograms of errors are those that the model has seen."""

from pathlib import Path

from storage.recipe import Recipe
from tests.predicting import RECIPE, write_checkpoint, write_recordings
from tools.cli.sheets.error_sheet import recipe_of
from training.inference.config import PredictConfig
from training.inference.model_files import find_models
from training.inference.predictor import predict_recordings
from training.inference.reading.inputs import list_inputs


def test_the_recipe_is_that_of_the_model(tmp_path: Path) -> None:
    model = str(write_checkpoint(tmp_path / "model.ckpt"))
    sounds, out = str(write_recordings(tmp_path / "sounds", [1.0])), str(tmp_path / "new")
    config = PredictConfig(from_=[model], input=[sounds], out=out)
    predict_recordings(config, find_models([model], tmp_path), list_inputs([sounds]))
    for given in (out, f"{out}/predictions.parquet"):
        found = recipe_of([given])
        assert (found.sample_rate_hz, found.n_mels) == (RECIPE.sample_rate_hz, RECIPE.n_mels)
    assert recipe_of([str(tmp_path / "oof.parquet")]) == Recipe()
