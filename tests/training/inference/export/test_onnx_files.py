"""training.inference.export: what a file says of itself, and files that are damaged or forged."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest

from datasets.labels import Labels
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from training.inference.export import session as session_module
from training.inference.export.config import ExportConfig
from training.inference.export.metadata import ExportMetadata
from training.inference.export.onnx_model import OnnxClassifier, OnnxModel
from training.inference.export.session import open_session

RECIPE = Recipe(
    sample_rate_hz=8000, n_fft=256, hop=125, n_mels=4, fmax_hz=4000, slice_s=1.0, slice_step_s=0.5
)
LABELS = Labels(("robin", "wren"))
NAMES = {"robin": {"common_name": "European robin"}}


def metadata(**changes):
    basic = {"input": "slices", "labels": LABELS, "recipe": RECIPE, "output": "softmax"}
    return ExportMetadata(**{**basic, "version": "1", "names": NAMES, **changes})


def write(path, entries, shape=("batch", 4, 65), external=""):
    """A file whose three outputs are sums of its input times weights."""
    weights = onnx.helper.make_tensor("weights", 1, [4, 2], np.ones(8, np.float32))
    if external:
        weights.ClearField("float_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=external)
    nodes = [onnx.helper.make_node("ReduceSum", ["slices", "axis"], ["sums"], keepdims=0)]
    nodes += [
        onnx.helper.make_node("MatMul", ["sums", "weights"], [name])
        for name in ("probabilities", "logits", "embedding")
    ]
    axis = onnx.helper.make_tensor("axis", 7, [1], [2])
    value = onnx.helper.make_tensor_value_info
    outputs = [value(n, 1, ["batch", 2]) for n in ("probabilities", "logits", "embedding")]
    graph = onnx.helper.make_graph(
        nodes, "g", [value("slices", 1, shape)], outputs, [weights, axis]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.helper.set_model_props(model, entries)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_says_what_was_written(tmp_path):
    about = metadata(models=[{"name": "exp_001/fold_0"}], post=[{"smooth": {"kernel": [1]}}])
    model = OnnxModel(write(tmp_path / "model.onnx", about.to_entries()))
    assert model.metadata == about
    classifier = OnnxClassifier(tmp_path / "model.onnx")
    assert classifier.labels == ("robin", "wren")
    assert (classifier.recipe, classifier.output) == (RECIPE, "softmax")
    assert classifier.names == NAMES
    ones = np.full((3, 4, 65), 255, np.uint8)
    np.testing.assert_allclose(classifier(ones), np.full((3, 2), 4 * 65), rtol=1e-6)


def test_a_file_of_another_program_is_refused_with_what_it_lacks(tmp_path):
    path = write(tmp_path / "foreign.onnx", {"author": "somebody"})
    with pytest.raises(ConfigError, match=r"not exported by melbank.*no labels and no recipe"):
        OnnxClassifier(path)


@pytest.mark.parametrize(
    ("entry", "text", "reason"),
    [
        ("format", "2", "its format is 2"),
        ("labels", '["robin", 3]', "no list of names"),
        ("labels", '["robin", "robin"]', "must differ"),
        ("labels", '["robin"]', "its probabilities is"),
        ("labels", "[" * 100 + "]" * 100, "nests deeper"),
        ("recipe", "{}", "its slices is"),
        ("recipe", '{"hop": "x"}', "its recipe: hop is x"),
        ("recipe", '{"n_fft": 99999999999}', "its recipe"),
        ("output", '"tanh"', "its input slices or output tanh"),
        ("input", '"pictures"', "its input pictures"),
        ("input", '"waveform"', "no input waveform"),
        ("names", '{"robin": {"common_name": 7}}', "are no texts"),
        ("models", '["x"]', "a model is 'x'"),
        ("post", '"smooth"', "its post is no list"),
        ("version", "NaN", "not finite"),
        ("version", "{", "damaged"),
    ],
)
def test_forged_metadata_ends_in_a_sentence(tmp_path, entry, text, reason):
    entries = {**metadata().to_entries(), f"melbank.{entry}": text}
    with pytest.raises(StoreError, match=reason):
        OnnxClassifier(write(tmp_path / "model.onnx", entries))


def test_an_input_of_another_shape_than_the_recipe_makes_is_refused(tmp_path):
    path = write(tmp_path / "model.onnx", metadata().to_entries(), shape=("batch", 4, 64))
    with pytest.raises(StoreError, match=r"its slices is .*64.*and the recipe makes \(4, 65\)"):
        OnnxClassifier(path)


@pytest.mark.parametrize("place", ["weights.bin", "../weights.bin", "/etc/passwd", "ABSOLUTE"])
def test_weights_in_further_files_are_never_read(tmp_path, place):
    (tmp_path / "model").mkdir()
    for folder in (tmp_path, tmp_path / "model"):
        (folder / "weights.bin").write_bytes(np.ones(8, np.float32).tobytes())
    place = str(tmp_path / "weights.bin") if place == "ABSOLUTE" else place
    path = write(tmp_path / "model" / "model.onnx", metadata().to_entries(), external=place)
    with pytest.raises(StoreError, match="no ONNX file that can be run"):
        OnnxClassifier(path)


@pytest.mark.parametrize("content", [b"", b"melbank", b"\x08\x08" * 40, b"PK\x03\x04" + b"0" * 90])
def test_a_file_that_is_no_onnx_ends_in_a_sentence(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="no ONNX file that can be run"):
        open_session(path)


def test_flipped_bytes_end_in_a_sentence_or_change_nothing_else(tmp_path):
    whole = write(tmp_path / "model.onnx", metadata().to_entries()).read_bytes()
    generator = np.random.default_rng(5)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        path = tmp_path / "damaged.onnx"
        path.write_bytes(damaged)
        with suppress(StoreError, ConfigError):
            OnnxClassifier(path)(np.zeros((1, 4, 65), np.uint8))


def test_a_missing_file_and_a_missing_package_end_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(StoreError, match="does not exist"):
        open_session(tmp_path / "model.onnx")

    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(session_module, "import_module", absent)
    with pytest.raises(ConfigError, match="install the extra `onnx`"):
        open_session(Path("model.onnx"))


def test_the_config_wants_a_file_name_of_onnx():
    with pytest.raises(ConfigError, match=r"export\.out=model\.pt must end in \.onnx"):
        ExportConfig(out="model.pt")


def test_entries_are_json():
    entries = metadata().to_entries()
    assert json.loads(entries["melbank.labels"]) == ["robin", "wren"]
    assert all(name.startswith("melbank.") for name in entries)
