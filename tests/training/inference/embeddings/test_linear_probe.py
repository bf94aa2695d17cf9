"""training.inference.embeddings.linear_probe: fit, file, and nearest neighbours."""

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datasets.labels import Labels
from storage.errors import ConfigError, StoreError
from training.inference.embeddings.config import ProbeConfig
from training.inference.embeddings.linear_probe import (
    KEY,
    ProbeOrigin,
    fit_probe,
    read_probe,
    write_probe,
)
from training.inference.embeddings.record import ModelRecord

LABELS = Labels(("owl", "robin", "toad", "wren"))
MODEL = ModelRecord(name="m", sha256="0", licence="free", takes="slices", output="embedding")


def clusters(classes, seed=0, width=6):
    """Embeddings around one centre per class, with one column that never changes."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(4, width))
    found = centres[classes] + 0.4 * generator.normal(size=(len(classes), width))
    return np.c_[found, np.full(len(classes), 7)].astype(np.float32)


@pytest.mark.parametrize("kinds", [[0, 1, 2, 3], [0, 2, 3], [1, 3]], ids=["all", "three", "two"])
def test_probabilities_are_those_of_scikit_learn(kinds):
    classes = np.array(kinds * 20)
    embeddings, others = clusters(classes), clusters(classes, seed=1)
    probe = fit_probe(embeddings, classes, LABELS, ProbeConfig())
    found = probe.probabilities(others)
    twin = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    wanted = np.zeros((len(classes), 4))
    wanted[:, kinds] = twin.fit(embeddings, classes).predict_proba(others)
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    assert found.dtype == np.float32


def test_one_class_alone_is_refused():
    with pytest.raises(ConfigError, match="needs two classes to learn from, and there is 1"):
        fit_probe(clusters(np.zeros(5, int)), np.zeros(5, int), LABELS, ProbeConfig())


def test_a_file_gives_the_same_probe_again(tmp_path):
    classes = np.array([0, 1, 2, 3] * 10)
    probe = fit_probe(clusters(classes), classes, LABELS, ProbeConfig())
    origin, path = ProbeOrigin(fold=2, model=MODEL), tmp_path / "fold_2.safetensors"
    write_probe(probe, origin, path)
    again, origin_again = read_probe(path)
    assert origin_again == origin
    assert again.labels == LABELS
    np.testing.assert_array_equal(again.weights_CE, probe.weights_CE)
    with pytest.raises(ConfigError, match="takes embeddings of 7 numbers, and these have 3"):
        again.probabilities(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    ("metadata", "weights", "reason"),
    [
        (None, np.zeros((2, 3)), "is no probe: python -m tools.probe"),
        ({KEY: "{}"}, np.zeros((2, 3)), "its format"),
        ({KEY: '{"format": 1, "labels": ["a"]}'}, np.zeros((2, 3)), r"weights \(2, 3\)"),
        ({KEY: '{"format": 1, "labels": ["a", 1]}'}, np.zeros((2, 3)), "no list of names"),
        ({KEY: '{"format": 1, "labels": ["a", "b"]}'}, np.full((2, 3), np.nan), "not finite"),
        ({KEY: '{"format": 1, "labels": ["a", "b"]}'}, np.zeros((2, 3)), "its model is"),
    ],
)
def test_forged_probes_end_in_a_sentence(tmp_path, metadata, weights, reason):
    path = tmp_path / "probe.safetensors"
    tensors = {"weights_CE": weights.astype(np.float32), "bias_C": np.zeros(2, np.float32)}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises((ConfigError, StoreError), match=reason):
        read_probe(path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"{}"])
def test_a_file_of_another_kind_is_no_probe(tmp_path, content):
    path = tmp_path / "probe.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no probe"):
        read_probe(path)
