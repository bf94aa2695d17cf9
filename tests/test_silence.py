"""Silent ends are filled, and nothing else, wherever a model meets slices; and shifts averaged."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.augment import AugmentConfig
from datasets.augment_place import TimeShiftConfig
from tests.test_module import SHAPE, batch_of
from tests.test_module import module as module  # a fixture
from training.models import ModelConfig, build_classifier
from training.module import ModuleConfig, SliceModule
from training.predict import predict
from training.silence import repeat_sound


@given(st.integers(1, 9), st.integers(0, 20), st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_silent_ends_are_filled_as_by_wrapping_and_the_sound_stays_in_place(
    length, before, behind, seed
):
    rng = np.random.default_rng(seed)
    sound_MT = rng.uniform(0, 1, (3, length)).astype(np.float32)
    sound_MT[:, 1:-1][:, rng.random(max(0, length - 2)) < 0.5] = 0  # silence within it stays
    sound_MT[1, [0, -1]] = 1
    ends = ((0, 0), (before, behind))
    given_MT, expected_MT = np.pad(sound_MT, ends), np.pad(sound_MT, ends, mode="wrap")
    filled_BMT = repeat_sound(torch.from_numpy(given_MT[None]))
    np.testing.assert_array_equal(filled_BMT[0].numpy(), expected_MT)


def test_silence_alone_stays():
    assert not repeat_sound(torch.zeros(2, 3, 5)).any()


@pytest.fixture
def pair(module):
    """The same weights in a module that repeats sounds and in one that takes slices as they are."""
    modules = []
    for repeat in (True, False):
        model = build_classifier(
            ModelConfig(backbone="test_resnet", dropout=0.0, repeat_sound=repeat),
            num_classes=2,
            slice_shape=SHAPE,
        )
        model.load_state_dict(module.model.state_dict())
        shift = AugmentConfig(time_shift=TimeShiftConfig(p=1.0))
        modules.append(SliceModule(model, ModuleConfig(augment=shift), module._truth))
    return modules


def test_training_scores_and_predictions_all_see_the_filled_slices(pair):
    sound = torch.randint(1, 256, (4, SHAPE[0], 7), dtype=torch.uint8)
    clipped = batch_of(torch.nn.functional.pad(sound, (0, SHAPE[1] - 7)))
    filled = batch_of(repeat_sound(clipped.slices))
    repeating, plain = pair
    losses = [
        repeating.eval().training_losses(clipped),
        plain.eval().training_losses(filled),
        plain.training_losses(clipped),
    ]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[1], losses[2])
    for one, batch in ((repeating, clipped), (plain, filled)):
        one.validation_step(batch, 0)
    assert torch.equal(repeating._held_out[0].probabilities_BC, plain._held_out[0].probabilities_BC)
    told = [
        predict(one.model, [batch], output="softmax").probabilities
        for one, batch in ((repeating, clipped), (plain, filled))
    ]
    np.testing.assert_array_equal(*told)


def test_predictions_are_means_over_circular_shifts(module):
    shifting = build_classifier(
        ModelConfig(backbone="test_resnet", shifts=3), num_classes=2, slice_shape=SHAPE
    )
    shifting.load_state_dict(module.model.state_dict())
    batch = batch_of(torch.rand(4, *SHAPE))
    turned = [batch._replace(slices=batch.slices.roll(-frames, 2)) for frames in (0, 8, 16)]
    alone = [predict(module.model, [one], output="softmax") for one in turned]
    together = predict(shifting, [batch], output="softmax")
    for name in ("probabilities", "embeddings"):
        expected = np.mean([getattr(one, name) for one in alone], axis=0)
        np.testing.assert_allclose(getattr(together, name), expected, atol=1e-6)
    assert not np.allclose(together.probabilities, alone[0].probabilities, atol=1e-4)
