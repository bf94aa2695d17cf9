"""training.model.metrics against scikit-learn, torchmetrics, and a plain loop."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    roc_auc_score,
)
from torchmetrics.functional import kl_divergence as torchmetrics_kl_divergence

from datasets.labels import Labels
from training.model.metrics import (
    METRICS,
    Truth,
    average_precisions,
    balanced_accuracy,
    f1_scores,
    kl_divergence,
    macro_average_precision,
    macro_roc_auc,
    roc_areas,
)


def test_balanced_accuracy_agrees_with_scikit_learn_and_counts_each_class_alike():
    primary = np.random.default_rng(3).choice(4, 200, p=[0.6, 0.2, 0.1, 0.1])
    probabilities = distributions(200, 4, seed=4)
    expected = balanced_accuracy_score(primary, probabilities.argmax(1))
    with_another = np.pad(probabilities, ((0, 0), (0, 1)))  # a class that is nobody's label
    assert balanced_accuracy(primary, with_another) == pytest.approx(expected)
    always_first = np.eye(2)[[0] * 10]
    assert balanced_accuracy(np.array([0] * 9 + [1]), always_first) == 0.5
    assert math.isnan(balanced_accuracy(np.empty(0, int), np.empty((0, 2))))


def distributions(num, classes, *, seed):
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), num)


def plain_kl(targets, predictions):
    """As the competition describes it: a row at a time, a cell at a time."""
    rows = []
    for target, prediction in zip(targets, predictions, strict=True):
        cells = [
            wanted * math.log(wanted / min(max(given, 1e-15), 1 - 1e-15))
            for wanted, given in zip(target.tolist(), prediction.tolist(), strict=True)
            if wanted > 0
        ]
        rows.append(sum(cells))
    return sum(rows) / len(rows)


def test_kl_divergence_agrees_with_a_plain_loop_and_with_torchmetrics():
    targets, predictions = distributions(50, 6, seed=1), distributions(50, 6, seed=2)
    targets[3] = [0, 0, 1, 0, 0, 0]
    targets[4] = [0, 0.5, 0.5, 0, 0, 0]
    found = kl_divergence(targets, predictions)
    assert found == pytest.approx(plain_kl(targets, predictions), rel=1e-12)
    others = np.r_[0:3, 5:50]  # torchmetrics takes no zeros
    reference = torchmetrics_kl_divergence(
        torch.from_numpy(targets[others]), torch.from_numpy(predictions[others])
    )
    assert kl_divergence(targets[others], predictions[others]) == pytest.approx(reference.item())


def test_kl_divergence_of_one_label_is_the_log_loss():
    predictions = distributions(40, 5, seed=3)
    primary = np.random.default_rng(4).integers(0, 5, 40)
    expected = log_loss(primary, predictions, labels=np.arange(5))
    assert kl_divergence(np.eye(5)[primary], predictions) == pytest.approx(expected)


def test_kl_divergence_is_zero_at_the_target_and_finite_where_the_prediction_is_zero():
    targets = distributions(9, 4, seed=5)
    assert kl_divergence(targets, targets) == pytest.approx(0, abs=1e-9)
    wrong = kl_divergence(np.eye(2)[[0]], np.eye(2)[[1]])
    assert wrong == pytest.approx(-math.log(1e-15))


@pytest.mark.parametrize("which", [0, 1], ids=["targets", "probabilities"])
def test_kl_divergence_refuses_what_is_no_distribution(which):
    arguments = [distributions(3, 4, seed=6), distributions(3, 4, seed=7)]
    arguments[which] = 2 * arguments[which]
    name = ("targets", "probabilities")[which]
    with pytest.raises(ValueError, match=f"needs {name} whose rows sum to one"):
        kl_divergence(*arguments)


def test_macro_roc_auc_agrees_with_scikit_learn_on_ties_too():
    generator = np.random.default_rng(8)
    positives = generator.random((300, 7)) < 0.2
    scores = np.round(generator.random((300, 7)) + 0.3 * positives, 1)
    expected = roc_auc_score(positives, scores, average="macro")
    assert macro_roc_auc(positives, scores) == pytest.approx(expected)


def test_macro_roc_auc_leaves_out_classes_without_positives_or_without_negatives():
    generator = np.random.default_rng(9)
    positives = generator.random((60, 4)) < 0.4
    positives[:, 1] = False
    positives[:, 3] = True
    scores = generator.random((60, 4))
    expected = roc_auc_score(positives[:, [0, 2]], scores[:, [0, 2]], average="macro")
    assert macro_roc_auc(positives, scores) == pytest.approx(expected)
    assert math.isnan(macro_roc_auc(positives[:, [1, 3]], scores[:, [1, 3]]))


def test_cmap_is_the_mean_over_classes_that_occur():
    generator = np.random.default_rng(14)
    positives = generator.random((90, 4)) < 0.3
    positives[:, 2] = False
    scores = generator.random((90, 4))
    expected = average_precision_score(positives[:, [0, 1, 3]], scores[:, [0, 1, 3]])
    assert macro_average_precision(positives, scores) == pytest.approx(expected)
    assert math.isnan(macro_average_precision(positives[:, [2]], scores[:, [2]]))


def test_each_class_has_the_scores_of_scikit_learn_or_none():
    generator = np.random.default_rng(15)
    positives = generator.random((70, 5)) < 0.3
    positives[:, 1], positives[:, 3] = False, True
    scores = generator.random((70, 5)).round(1)
    areas, precisions = roc_areas(positives, scores), average_precisions(positives, scores)
    for place in (0, 2, 4):
        assert areas[place] == pytest.approx(roc_auc_score(positives[:, place], scores[:, place]))
    for place in (0, 2, 3, 4):
        expected = average_precision_score(positives[:, place], scores[:, place])
        assert precisions[place] == pytest.approx(expected)
    assert np.isnan(areas).tolist() == [False, True, False, True, False]
    assert np.isnan(precisions).tolist() == [False, True, False, False, False]


def test_f1_is_that_of_scikit_learn_and_of_nobody_is_none():
    primary = np.random.default_rng(16).integers(0, 4, 50)
    predicted = distributions(50, 5, seed=17)
    expected = f1_score(primary, predicted.argmax(1), labels=range(5), average=None)
    found = f1_scores(primary, predicted)
    np.testing.assert_allclose(found[:4], expected[:4])
    assert np.isnan(found[4])


@pytest.fixture
def recordings():
    return pl.DataFrame(
        {
            "recording_id": ["one", "two", "three", "four"],
            "primary_label": ["a", "b", "c", None],
            "secondary_labels": [["b"], [], ["a", "elsewhere"], []],
        }
    )


def test_truth_weighs_secondary_labels_for_kl_only(recordings):
    truth = Truth.of(recordings, Labels(("a", "b", "c")), secondary_weight=0.5)
    np.testing.assert_allclose(
        truth.targets_RC[:3], [[2 / 3, 1 / 3, 0], [0, 1, 0], [1 / 3, 0, 2 / 3]], rtol=1e-6
    )
    assert truth.positives_RC[:3].tolist() == [
        [True, True, False],
        [False, True, False],
        [True, False, True],
    ]
    assert truth.primary_R.tolist() == [0, 1, 2, -1]


def test_scores_take_each_slice_with_the_labels_of_its_recording(recordings):
    truth = Truth.of(recordings, Labels(("a", "b", "c")), secondary_weight=0.0)
    recording_no = np.array([0, 0, 1, 2, 2])
    predicted = distributions(5, 3, seed=12)
    scores = truth.score(predicted, recording_no)
    assert scores["kl"] == pytest.approx(log_loss(recording_no, predicted, labels=[0, 1, 2]))
    assert scores["accuracy"] == pytest.approx(accuracy_score(recording_no, predicted.argmax(1)))
    positives = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 0, 1]])
    assert scores["roc_auc"] == pytest.approx(roc_auc_score(positives, predicted, average="macro"))


def test_sigmoid_probabilities_are_compared_as_shares_in_kl(recordings):
    truth = Truth.of(recordings, Labels(("a", "b", "c")), secondary_weight=0.5)
    predicted = distributions(3, 3, seed=13)
    recording_no = np.arange(3)
    half = truth.score(0.5 * predicted, recording_no)
    assert half["kl"] == pytest.approx(truth.score(predicted, recording_no)["kl"])


def test_without_slices_no_score_is_defined(recordings):
    truth = Truth.of(recordings, Labels(("a", "b", "c")), secondary_weight=0.5)
    scores = truth.score(np.zeros((0, 3)), np.zeros(0, np.int64))
    assert all(map(math.isnan, scores.values()))
    assert set(scores) == set(METRICS)
