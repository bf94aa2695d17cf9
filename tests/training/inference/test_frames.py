"""predict.frames=overlap_mean: by hand, against a plain loop, and in whole runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.labels import Labels
from storage.encoding import to_unit
from storage.errors import ConfigError
from tests.predicting import LABELS, RECIPE, write_checkpoint, write_recordings
from training.inference.config import PredictConfig
from training.inference.export.onnx_export import ExportOptions, export_onnx
from training.inference.export.onnx_model import OnnxClassifier
from training.inference.frames import OverlapMean, stack_frames
from training.inference.model_files import find_models
from training.inference.predictor import predict_recordings
from training.inference.reading.inputs import list_inputs
from training.inference.results import Results
from training.model.checkpoints import checkpoint_contents, read_checkpoint
from training.model.config import ModelConfig
from training.model.models import build_classifier


def averaged(starts, frames, *, window_s, parts):
    """The windows' probabilities, given in parts of so many windows."""
    overlap, found, begin = OverlapMean(window_s), [], 0
    for size in parts:
        end = begin + size
        found.append(overlap.add(np.array(starts[begin:end]), frames[:, begin:end]))
        begin = end
    found.append(overlap.finish())
    return np.concatenate(found, axis=1), overlap


def test_two_windows_by_hand():
    """Of 4 s in 4 frames, the second 2 s later: two frames of each are covered twice."""
    first, second = [0.8, 0.2, 0.6, 0.1], [0.4, 0.3, 0.0, 0.2]
    frames = np.array([[first, second]])[..., None]  # one branch, one class
    found, _ = averaged([0.0, 2.0], frames, window_s=4.0, parts=[2])
    shared = [(0.6 + 0.4) / 2, (0.1 + 0.3) / 2]
    expected = [max(0.8, 0.2, *shared), max(*shared, 0.0, 0.2)]
    np.testing.assert_allclose(found[0, :, 0], expected)


def test_windows_that_do_not_overlap_have_their_own_maximum():
    frames = np.random.default_rng(0).random((2, 3, 5, 4))
    found, _ = averaged([0.0, 5.0, 10.0], frames, window_s=5.0, parts=[1, 1, 1])
    np.testing.assert_allclose(found, frames.max(2), rtol=1e-6)


def by_loop(starts, frames, window_s):
    """For each frame's centre all windows that cover it, one after the other."""
    num_branches, num_windows, num_frames, num_classes = frames.shape
    found = np.zeros((num_branches, num_windows, num_classes))
    for own in range(num_windows):
        means = []
        for frame in range(num_frames):
            centre = starts[own] + (frame + 0.5) * window_s / num_frames
            values = []
            for other in range(num_windows):
                place = (centre - starts[other]) / window_s * num_frames
                if -1e-6 <= place < num_frames - 1e-6:
                    values.append(frames[:, other, int(place + 1e-6)])
            means.append(np.mean(values, axis=0))
        found[:, own] = np.max(means, axis=0)
    return found


@pytest.mark.parametrize(("step_s", "num_frames"), [(1.25, 4), (0.7, 5), (2.5, 10), (4.9, 3)])
@pytest.mark.parametrize("parts", [[11], [1] * 11, [4, 0, 7]], ids=str)
def test_any_step_and_any_parts_agree_with_a_plain_loop(step_s, num_frames, parts):
    frames = np.random.default_rng(1).random((2, 11, num_frames, 3)).astype(np.float32)
    starts = [number * step_s for number in range(11)]
    found, overlap = averaged(starts, frames, window_s=5.0, parts=parts)
    np.testing.assert_allclose(found, by_loop(starts, frames, 5.0), rtol=1e-5)
    assert not overlap._frames


def test_memory_does_not_grow_with_the_recording():
    overlap = OverlapMean(5.0)
    for number in range(100):
        overlap.add(np.array([2.5 * number]), np.zeros((1, 1, 4, 2)))
        assert len(overlap._frames) <= 4


def test_classes_that_a_model_lacks_stay_unknown_and_fewer_frames_are_repeated():
    few = np.array([[[0.1, np.nan], [0.5, np.nan]]])
    many = np.array([[[0.3, 0.6], [0.3, 0.6], [0.3, 0.6], [0.9, 0.2]]])
    stacked = stack_frames([few, many])
    assert stacked.shape == (2, 1, 4, 2)
    assert stacked[0, 0, :, 0].tolist() == [0.1, 0.1, 0.5, 0.5]
    found, _ = averaged([0.0], stacked, window_s=4.0, parts=[1])
    np.testing.assert_allclose(found[:, 0], [[0.5, np.nan], [0.9, 0.6]], rtol=1e-6)


def write_sed(path: Path, seed: int, views=((1, 1),)) -> Path:
    """A checkpoint of a small model with frames, whose weights are random."""
    config = ModelConfig(
        backbone="test_resnet", output="sigmoid", head="sed", views=[list(view) for view in views]
    )
    torch.manual_seed(seed)
    model = build_classifier(config, num_classes=len(LABELS), slice_shape=RECIPE.slice_shape)
    for view in model.views:
        torch.nn.init.normal_(view.head.classes.weight, std=2.0)
    plain = {name: getattr(config, name) for name in config.__slots__}
    contents = checkpoint_contents(Labels(LABELS), RECIPE, {"model": plain}, fold=0)
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": weights, "epoch": 0, "melbank": contents}, path)
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lab")
    write_sed(root / "weights/exp_001/fold_0.ckpt", 0)
    write_sed(root / "weights/exp_001/fold_1.ckpt", 1, views=((1, 1), (1, 2)))
    write_checkpoint(root / "weights/exp_002/fold_0.ckpt")
    write_recordings(root / "sounds", (3.3, 0.4))
    return root


def run(lab: Path, out: Path, given: str, **options: object):
    config = PredictConfig(
        from_=given.split(","),
        input=[str(lab / "sounds")],
        out=str(out),
        workers=0,
        threads=1,
        accelerator="cpu",
        **{"batch_size": 4, **options},
    )
    predict_recordings(config, find_models(config.from_, lab), list_inputs(config.input))
    return list(Results(out).iterate())


def test_a_run_averages_frames_of_the_mean_of_its_models(lab, tmp_path):
    """The same whatever the batches; a folder of results belongs to one rule."""
    options = {"step_s": 0.25, "frames": "overlap_mean"}
    found = run(lab, tmp_path / "new", "exp_001", **options)
    other = run(lab, tmp_path / "other", "exp_001", **options, batch_size=3)
    for one, again in zip(found, other, strict=True):
        np.testing.assert_allclose(one.probabilities, again.probabilities, atol=1e-6)
        assert one.probabilities.shape == (1, len(one.start_s), 3)
    plain = run(lab, tmp_path / "plain", "exp_001", step_s=0.25)
    assert not np.allclose(plain[0].probabilities, found[0].probabilities)
    with pytest.raises(ConfigError, match="frames is gone"):
        run(lab, tmp_path / "new", "exp_001", step_s=0.25)


def test_a_file_of_onnx_has_the_frames_of_its_checkpoints(lab, tmp_path):
    folds = [lab / f"weights/exp_001/fold_{fold}.ckpt" for fold in (0, 1)]
    path = tmp_path / "model.onnx"
    export_onnx([read_checkpoint(fold) for fold in folds], path, ExportOptions())
    exported = OnnxClassifier(path)
    assert exported.has_frames
    generator = np.random.default_rng(2)
    cells = generator.integers(0, 256, (3, *RECIPE.slice_shape)).astype(np.uint8)
    unit = to_unit(torch.from_numpy(cells))
    with torch.inference_mode():
        frames = [read_checkpoint(fold).model(unit).frame_logits for fold in folds]
    wanted = np.mean([one.sigmoid().numpy() for one in frames], axis=0)
    np.testing.assert_allclose(exported.frames(cells), wanted, atol=1e-4)
    options = {"step_s": 0.5, "frames": "overlap_mean"}
    by_torch = run(lab, tmp_path / "torch", "exp_001", **options)
    by_onnx = run(lab, tmp_path / "onnx", str(path), **options)
    for one, other in zip(by_torch, by_onnx, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)


def test_models_without_frames_are_refused_before_anything_is_predicted(lab, tmp_path):
    with pytest.raises(ConfigError, match=r"needs frames, which .*exp_002.* has not: train with"):
        run(lab, tmp_path / "new", "exp_001,exp_002", frames="overlap_mean")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match=r"predict\.frames=mean is none of none, overlap_mean"):
        PredictConfig(frames="mean")
