"""python -m tools.export: checkpoints of an experiment become a file, or one sentence."""

from pathlib import Path

import numpy as np
import pytest

from storage.recipe import Recipe
from tests.untrained import write_experiment
from tools.cli.command import run
from tools.export import COMMAND, main
from training.inference.export.onnx_model import OnnxClassifier, OnnxModel

RECIPE = Recipe(
    sample_rate_hz=8000, n_fft=256, hop=125, n_mels=32, fmax_hz=4000, slice_s=1.0, slice_step_s=0.5
)


def test_an_experiment_becomes_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_experiment(tmp_path, 2, RECIPE)
    words = [f"experiment.root={tmp_path}", f"export.out={tmp_path / 'made' / 'model.onnx'}"]
    assert run(COMMAND, main, ["export.from=exp_001", *words]) == 0
    said = capsys.readouterr().out
    assert "mean of 2 models, 3 classes, slices of 32 x 65, softmax" in said
    assert "probabilities differ by" in said
    both = OnnxClassifier(tmp_path / "made" / "model.onnx")
    assert both.labels == ("owl", "toad", "wren")
    cells = np.random.default_rng(0).integers(0, 256, (2, 32, 65)).astype(np.uint8)
    singles = []
    for fold in range(2):
        assert run(COMMAND, main, [f"export.from=exp_001/fold_{fold}", *words]) == 0
        singles.append(OnnxClassifier(tmp_path / "made" / "model.onnx").probabilities(cells))
    np.testing.assert_allclose(both.probabilities(cells), np.mean(singles, axis=0), atol=1e-6)
    words.append("post=[{smooth: {kernel: [1, 2, 1]}}]")
    assert run(COMMAND, main, ["export.from=exp_001/fold_1", "export.mel=true", *words]) == 0
    assert "waveform of 8,000" in capsys.readouterr().out
    model = OnnxModel(tmp_path / "made" / "model.onnx")
    assert model.run("probabilities", np.zeros((1, 8000), np.float32)).shape == (1, 3)
    assert model.metadata.post == [{"smooth": {"kernel": [1, 2, 1]}}]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "export.from names no checkpoint"),
        (["export.from=exp_002"], "export.from=exp_002: there is no such experiment"),
        (["export.from=exp_001/fold_7"], "fold_0; give one of those"),
        (["export.from=exp_001", "export.out=model.pt"], "must end in .onnx or .xml"),
        (["export.from=pyproject.onnx"], "export.from=pyproject.onnx: there is no such"),
        (["export.from=PROBE"], "fold_0.safetensors is no checkpoint, and only those are exported"),
        (["export.from=exp_001", "post=[smoth]"], "Did you mean smooth?"),
    ],
)
def test_wrong_calls_end_in_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_experiment(tmp_path, 1, RECIPE)
    probe = tmp_path / "fold_0.safetensors"
    probe.write_bytes(b"weights")
    words = [word.replace("PROBE", str(probe)) for word in words]
    out = [] if any("export.out" in word for word in words) else [f"export.out={tmp_path}/m.onnx"]
    assert run(COMMAND, main, [f"experiment.root={tmp_path}", *out, *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
