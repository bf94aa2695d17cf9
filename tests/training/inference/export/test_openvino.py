"""training.inference.export: models of OpenVINO, where the extra `openvino` is installed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.errors import ConfigError, StoreError
from tests.predicting import RECIPE as TINY
from tests.predicting import write_checkpoint, write_recordings
from tools import export, predict
from tools.benchmarks.predicting import models
from tools.cli.command import run
from training.inference.embeddings.config import EmbedConfig
from training.inference.embeddings.embedders import open_embedder
from training.inference.export import openvino_session
from training.inference.export.onnx_export import ExportOptions
from training.inference.export.onnx_model import OnnxClassifier, OnnxModel
from training.inference.export.openvino_session import open_openvino
from training.inference.export.write import TOLERANCE_16_BITS, write_export
from training.inference.results import Results
from training.model.checkpoints import TrainedClassifier, read_checkpoint

pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
RECIPE = replace(TINY, n_mels=32)
POST = [{"smooth": {"kernel": [1, 2, 1]}}]
CELLS = np.random.default_rng(0).integers(0, 256, (7, *RECIPE.slice_shape)).astype(np.uint8)


def members_of(root: Path) -> list[TrainedClassifier]:
    return [read_checkpoint(file) for file in sorted(root.rglob("*.ckpt"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, and model.xml with model.bin of the mean of both."""
    root = tmp_path_factory.mktemp("openvino")
    folder = root / "weights" / "exp_001"
    for fold in range(2):
        write_checkpoint(folder / f"fold_{fold}.ckpt", recipe=RECIPE, seed=fold)
    write_export(members_of(root), root / "model.xml", ExportOptions(post=POST))
    return root


def test_probabilities_agree_and_metadata_travel_with_the_file(made: Path) -> None:
    write_export(members_of(made), made / "model.onnx", ExportOptions(post=POST))
    small, whole = OnnxClassifier(made / "model.xml"), OnnxClassifier(made / "model.onnx")
    assert small._model.metadata == whole._model.metadata
    assert (small.labels, small.recipe, small.post) == (whole.labels, whole.recipe, whole.post)
    assert small.post == POST
    for size in (1, 2, 7):
        found, wanted = small(CELLS[:size]), whole(CELLS[:size])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE_16_BITS)
    assert (made / "model.bin").stat().st_size < 0.6 * (made / "model.onnx").stat().st_size


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    members = [read_checkpoint(made / "weights" / "exp_001" / "fold_0.ckpt")]
    for name in ("a", "b"):
        write_export(members, tmp_path / name / "model.xml", ExportOptions())
    for ending in ("xml", "bin"):
        first, second = (tmp_path / name / f"model.{ending}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
        assert str(tmp_path).encode() not in first.read_bytes()
    assert len(list((tmp_path / "a").iterdir())) == 2


@pytest.mark.slow
def test_a_waveform_goes_in_where_the_mel_is_exported(made: Path, tmp_path: Path) -> None:
    members = [read_checkpoint(made / "weights" / "exp_001" / "fold_0.ckpt")]
    for ending in ("xml", "onnx"):
        write_export(members, tmp_path / f"model.{ending}", ExportOptions(mel=True))
    sound = np.random.default_rng(1).normal(0, 0.1, (3, RECIPE.slice_samples)).astype(np.float32)
    small, whole = (
        OnnxModel(tmp_path / f"model.{end}").run("probabilities", sound) for end in ("xml", "onnx")
    )
    np.testing.assert_allclose(small, whole, rtol=0, atol=TOLERANCE_16_BITS)


def test_the_commands_write_run_and_embed_by_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "weights" / "exp_001" / "fold_0.ckpt", recipe=RECIPE)
    sounds = write_recordings(tmp_path / "sounds", (2.5, 0.4, 7.3))
    common, model = f"experiment.root={tmp_path}", tmp_path / "new" / "model.xml"
    words = [common, "export.from=exp_001/fold_0", f"export.out={model}"]
    assert run(export.COMMAND, export.main, words) == 0
    assert "weights of 16 bits" in capsys.readouterr().out
    found = {}
    for name, given in (("ckpt", "exp_001/fold_0"), ("xml", str(model))):
        words = [common, f"predict.from=[{given}]", f"predict.input=[{sounds}]"]
        words += [f"predict.out={tmp_path / name}", "predict.workers=0", "predict.threads=1"]
        assert run(predict.COMMAND, predict.main, words) == 0
        found[name] = list(Results(tmp_path / name).iterate())
    assert [len(raw.start_s) for raw in found["xml"]] == [3, 1, 7]
    for one, other in zip(found["ckpt"], found["xml"], strict=True):
        difference = np.abs(one.probabilities - other.probabilities).max()
        assert difference <= TOLERANCE_16_BITS
    embeddings = [
        open_embedder(EmbedConfig(model=one), tmp_path, RECIPE).embed(CELLS)
        for one in ("exp_001/fold_0", str(model))
    ]
    np.testing.assert_allclose(*embeddings, rtol=0, atol=0.01)


def test_weights_of_another_export_and_missing_ones_are_noticed(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "model.xml", tmp_path / "model.xml")
    with pytest.raises(StoreError, match=r"model\.bin does not exist.*\.bin of the same name"):
        open_openvino(tmp_path / "model.xml")
    weights = bytearray((made / "model.bin").read_bytes())
    weights[100] ^= 1
    (tmp_path / "model.bin").write_bytes(weights)
    with pytest.raises(StoreError, match=r"are not the weights of .*export the model again"):
        OnnxClassifier(tmp_path / "model.xml")


@pytest.mark.parametrize("content", [b"", b"melbank", b"<net/>", b"<net name='a'"])
def test_a_file_of_another_kind_ends_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_bytes(content)
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(StoreError, match="no OpenVINO file that can be run"):
        open_openvino(tmp_path / "model.xml")


def test_a_model_of_another_program_is_refused_with_what_it_lacks(
    made: Path, tmp_path: Path
) -> None:
    text = (made / "model.xml").read_text(encoding="utf-8")
    text = text.replace("<melbank>", "<other>").replace("</melbank>", "</other>")
    (tmp_path / "model.xml").write_text(text, encoding="utf-8")
    shutil.copy(made / "model.bin", tmp_path / "model.bin")
    with pytest.raises(ConfigError, match="not exported by melbank"):
        OnnxClassifier(tmp_path / "model.xml")


def test_an_input_of_another_shape_ends_in_a_sentence(made: Path) -> None:
    session = open_openvino(made / "model.xml")
    with pytest.raises(StoreError, match=r"model\.xml cannot be run: slices is \(2, 3, 4\)"):
        session.run(["probabilities"], {"slices": np.zeros((2, 3, 4), np.float32)})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(openvino_session, "import_module", absent)
    with pytest.raises(ConfigError, match="install the extra `openvino`"):
        open_openvino(tmp_path / "model.xml")


def test_a_network_that_it_cannot_take_is_refused_with_the_operator(tmp_path: Path) -> None:
    # rows of one cell are pooled by two: onnxruntime takes that, OpenVINO does not
    members = [read_checkpoint(write_checkpoint(tmp_path / "fold_0.ckpt", recipe=TINY))]
    with pytest.raises(ConfigError, match=r"AveragePool.*export it as an \.onnx"):
        write_export(members, tmp_path / "model.xml", ExportOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["fold_0.ckpt"]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["efficientnet_b0", "resnet18", "convnext_atto"])
def test_backbones_of_practice_agree(backbone: str, tmp_path: Path) -> None:
    trained = read_checkpoint(models.write_checkpoint(tmp_path, backbone))
    for view in trained.model.views:  # other answers for other slices
        torch.nn.init.normal_(view.head.weight, std=0.1)
    written = write_export([trained], tmp_path / "model.xml", ExportOptions())
    print(backbone, written.comparison.summary())
    assert written.comparison.largest <= TOLERANCE_16_BITS
