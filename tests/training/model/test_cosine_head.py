"""training.model.cosine_head against a computation with scikit-learn, and what it is for."""

import math

import numpy as np
import pytest
import torch
from sklearn.covariance import shrunk_covariance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from training.model.config import RefitConfig
from training.model.cosine_head import ClassMoments, CosineHead

SIZE = 6


def config(**options):
    return RefitConfig(kind="cosine", **options)


def moments_of(embeddings, weights, parts=1, sizes=None):
    found = ClassMoments(num_classes=weights.shape[1], sizes=sizes or [embeddings.shape[1]])
    for one, of_it in zip(
        np.array_split(embeddings, parts), np.array_split(weights, parts), strict=True
    ):
        found.add(torch.from_numpy(one), torch.from_numpy(of_it))
    return found


def logits(head, embeddings):
    return head(torch.from_numpy(embeddings)).numpy()


def make_slices(counts, seed, *, spread=1.0, size=SIZE):
    """Embeddings of classes at random places, all with the same covariance, and class numbers."""
    generator = np.random.default_rng(seed)
    places = generator.normal(size=(len(counts), size)) + 2
    mixing = np.random.default_rng(99).normal(size=(size, size)) * spread
    classes = np.repeat(np.arange(len(counts)), counts)
    noise = generator.normal(size=(len(classes), size)) @ mixing
    return (places[classes] + noise).astype(np.float32), classes


def unit_parts(embeddings, sizes):
    """Each network's part of length 1, by scikit-learn."""
    parts = np.split(embeddings.astype(np.float64), np.cumsum(sizes)[:-1], axis=1)
    return np.concatenate([normalize(part) for part in parts], axis=1)


@pytest.mark.parametrize("sizes", [[SIZE], [2, SIZE - 2]])
@pytest.mark.parametrize("shrinkage", [0.05, 0.5, 1.0])
def test_logits_are_those_of_scikit_learns_parts(shrinkage, sizes):
    embeddings, classes = make_slices([5, 9, 4], seed=1)
    weights = np.eye(3, dtype=np.float32)[classes]
    unit = unit_parts(embeddings, sizes)
    means = np.stack([unit[classes == number].mean(0) for number in range(3)])
    within = (unit - means[classes]).T @ (unit - means[classes]) / len(unit)
    whitening = np.linalg.cholesky(np.linalg.inv(shrunk_covariance(within, shrinkage)))
    centre = means.mean(0)
    others = make_slices([3, 3, 3], seed=2)[0]
    wanted = 7 * cosine_similarity(
        (unit_parts(others, sizes) - centre) @ whitening, (means - centre) @ whitening
    )
    moments = moments_of(embeddings, weights, sizes=sizes)
    head = moments.head(config(shrinkage=shrinkage, scale=7.0))
    np.testing.assert_allclose(logits(head, others), wanted, rtol=1e-4, atol=1e-4)


def test_weights_count_as_repeated_slices_and_zeros_as_none():
    embeddings, classes = make_slices([4, 6], seed=3)
    times = np.arange(len(classes)) % 3
    weights = np.eye(2, dtype=np.float32)[classes]
    repeated = moments_of(np.repeat(embeddings, times, 0), np.repeat(weights, times, 0))
    weighted = moments_of(embeddings, weights * times[:, None].astype(np.float32))
    found, wanted = (one.head(config()) for one in (weighted, repeated))
    np.testing.assert_allclose(logits(found, embeddings), logits(wanted, embeddings), rtol=1e-5)


@pytest.mark.parametrize("parts", [2, 5])
def test_sums_of_parts_are_those_of_all(parts):
    embeddings, classes = make_slices([7, 5, 3], seed=4)
    weights = np.eye(3, dtype=np.float32)[classes]
    order = np.random.default_rng(0).permutation(len(classes))
    whole = moments_of(embeddings, weights)
    share = moments_of(embeddings[order], weights[order], parts)
    for name in ("mass_C", "sum_CE", "square_EE"):
        torch.testing.assert_close(getattr(share, name), getattr(whole, name))


def test_ranks_add_up():
    embeddings, classes = make_slices([7, 5], seed=5)
    weights = np.eye(2, dtype=np.float32)[classes]
    whole = moments_of(embeddings, weights)
    first, second = (moments_of(embeddings[k::2], weights[k::2]) for k in (0, 1))
    sums = iter([second.mass_C, second.sum_CE, second.square_EE])
    first.add_up(lambda own: own + next(sums))
    torch.testing.assert_close(
        first.head(config()).state_dict(), whole.head(config()).state_dict(), rtol=1e-5, atol=1e-6
    )


def test_a_class_without_slices_is_unrelated_to_all():
    embeddings, classes = make_slices([4, 4], seed=6)
    weights = np.eye(3, dtype=np.float32)[2 * classes]  # class 1 has none
    found = logits(moments_of(embeddings, weights).head(config()), embeddings)
    assert (found[:, 1] == 0).all()
    assert (found.argmax(1) == 2 * classes).mean() > 0.8


def test_a_class_of_few_slices_is_found_as_often_as_one_of_many():
    """A learned head seldom predicts the rare classes, which is why this one is computed."""
    counts = [2] * 5 + [200] * 5
    recalls = []
    for seed in range(5):
        embeddings, classes = make_slices(counts, seed, spread=0.5, size=12)
        places = make_slices([1] * 10, seed, spread=0.0, size=12)[0]  # the same places, no noise
        noise = make_slices([50] * 10, 100 + seed, spread=0.5, size=12)[0]
        noise -= np.repeat(make_slices([1] * 10, 100 + seed, spread=0.0, size=12)[0], 50, 0)
        others, truth = np.repeat(places, 50, 0) + noise, np.repeat(np.arange(10), 50)
        head = moments_of(embeddings, np.eye(10, dtype=np.float32)[classes]).head(config())
        learned = LogisticRegression(max_iter=2000).fit(embeddings, classes)
        guesses = (logits(head, others).argmax(1), learned.predict(others))
        recalls.append(
            [recall_score(truth, one, labels=range(5), average="macro") for one in guesses]
        )
    found, of_learned = np.mean(recalls, 0)
    assert found > of_learned + 0.1


@pytest.mark.parametrize("count", [1, 3])
def test_slices_without_any_difference_within_classes(count):
    """One slice of each class, or equal ones: there is no covariance to divide by."""
    embeddings = np.repeat(np.eye(3, SIZE, dtype=np.float32), count, 0)
    weights = np.repeat(np.eye(3, dtype=np.float32), count, 0)
    found = logits(moments_of(embeddings, weights).head(config()), embeddings)
    assert np.isfinite(found).all()
    assert (found.argmax(1) == np.repeat(np.arange(3), count)).all()


def test_no_slices_at_all_give_equal_logits():
    head = ClassMoments(num_classes=4, sizes=[SIZE]).head(config())
    assert (logits(head, np.ones((2, SIZE), np.float32)) == 0).all()


def test_mixed_precision_changes_nothing():
    embeddings, classes = make_slices([4, 6, 5], seed=8)
    head = moments_of(embeddings, np.eye(3, dtype=np.float32)[classes]).head(config())
    with torch.autocast("cpu", torch.bfloat16):
        found = head(torch.from_numpy(embeddings))
    assert found.dtype == torch.float32
    assert torch.equal(found, head(torch.from_numpy(embeddings)))


def test_the_length_of_the_embedding_of_a_network_does_not_matter():
    embeddings, classes = make_slices([4, 6, 5], seed=9)
    weights = np.eye(3, dtype=np.float32)[classes]
    head = moments_of(embeddings, weights, sizes=[4, SIZE - 4]).head(config())
    longer = np.concatenate([50 * embeddings[:, :4], 0.3 * embeddings[:, 4:]], axis=1)
    np.testing.assert_allclose(logits(head, longer), logits(head, embeddings), rtol=1e-4, atol=1e-4)
    zeros = logits(head, np.zeros((1, SIZE), np.float32))
    assert np.isfinite(zeros).all()
    assert (np.abs(zeros) <= config().scale * (1 + 1e-6)).all()


def test_weights_have_names_and_shapes_of_their_own():
    state = CosineHead([2, SIZE - 2], 3).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "centre_E": (SIZE,),
        "whitening_EE": (SIZE, SIZE),
        "classes_CE": (3, SIZE),
        "scale": (),
    }
    assert math.isclose(float(CosineHead([SIZE], 3)(torch.ones(1, SIZE)).abs().max()), 0)
