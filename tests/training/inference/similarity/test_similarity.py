"""training.inference.similarity: nearest slices against plain loops, agreement, maps."""

import numpy as np
import pytest

from storage.errors import ConfigError
from storage.progress import silent
from training.inference.embeddings.spectral import group_sizes, spectral_embedding
from training.inference.similarity.agreement import label_agreement, nearest_neighbours
from training.inference.similarity.config import SimilarConfig
from training.inference.similarity.maps import map_points
from training.inference.similarity.search import ExactSearch, open_index
from training.inference.similarity.space import unit_vectors


def vectors(num, size=5, seed=0):
    return unit_vectors(np.random.default_rng(seed).normal(size=(num, size)).astype(np.float32))


def test_the_nearest_are_those_of_a_plain_loop(monkeypatch):
    monkeypatch.setattr("training.inference.similarity.search.BLOCK", 7)
    unit_NE, queries_QE = vectors(50), vectors(3, seed=1)
    allowed_N = np.arange(50) % 4 != 0
    found = ExactSearch(unit_NE).nearest(queries_QE, 6, allowed_N)
    best = [max((float(one @ query), no) for no, query in enumerate(queries_QE)) for one in unit_NE]
    wanted = sorted(np.flatnonzero(allowed_N), key=lambda place: -best[place][0])[:6]
    assert found.places.tolist() == wanted
    np.testing.assert_allclose(found.similarities, [best[place][0] for place in wanted], atol=1e-6)
    assert found.query_no.tolist() == [best[place][1] for place in wanted]


def test_fewer_are_found_where_fewer_are_allowed_and_ties_keep_their_order():
    unit_NE = np.repeat(vectors(1), 4, axis=0)
    found = ExactSearch(unit_NE).nearest(unit_NE[:1], 9, np.array([False, True, True, True]))
    assert found.places.tolist() == [1, 2, 3]


def test_an_index_finds_what_the_comparison_with_all_finds(tmp_path):
    pytest.importorskip("usearch", reason="the extra `similar` is not installed")
    unit_NE, allowed_N = vectors(500, size=8), np.arange(500) % 5 == 0
    wanted = ExactSearch(unit_NE).nearest(unit_NE[:2], 10, allowed_N).places
    for _ in range(2):  # made, then opened
        index = open_index(tmp_path / "a.usearch", unit_NE, silent)
        found = index.nearest(unit_NE[:2], 10, allowed_N)
        assert len(set(found.places) & set(wanted)) >= 9
        assert (np.diff(found.similarities) <= 1e-6).all()
    with pytest.raises(ConfigError, match="500 slices, not 499"):
        open_index(tmp_path / "a.usearch", unit_NE[1:], silent)


def test_neighbours_are_of_other_groups_and_the_most_similar(monkeypatch):
    monkeypatch.setattr("training.inference.similarity.agreement.BLOCK", 3)
    unit_NE, group_N = vectors(10, size=4, seed=3), np.arange(10) % 3
    for one, found in enumerate(nearest_neighbours(unit_NE, group_N)):
        others = np.flatnonzero(group_N != group_N[one])
        assert found == others[(unit_NE[others] @ unit_NE[one]).argmax()]
    assert (nearest_neighbours(unit_NE, np.zeros(10)) == -1).all()


def test_agreement_counts_labelled_lines_with_a_neighbour_of_another_group():
    unit_NE = unit_vectors(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 0]], np.float32))
    found = label_agreement(unit_NE, np.array([0, 1, 0, 1, 1]), np.array([5, 5, 6, 7, -1]))
    assert (found.same, found.compared, found.share) == (2, 4, 0.5)


@pytest.mark.parametrize("shape", [(128, 313), (20, 9), (8, 40)], ids=str)
def test_a_spectral_embedding_has_its_groups_and_is_finite_for_silence(shape):
    cells = np.random.default_rng(0).random((3, *shape), np.float32)
    cells[1] = 0
    found = spectral_embedding(cells)
    assert found.shape == (3, sum(group_sizes(shape)))
    assert np.isfinite(found).all()
    assert not found[1].any()


def test_a_call_at_another_time_has_nearly_the_same_spectral_embedding():
    generator = np.random.default_rng(1)
    noise = 0.1 * generator.random((3, 64, 128), np.float32)
    noise[0, 20:30, 30:50] = noise[1, 20:30, 70:90] = 1  # one call, at two times
    noise[2, 50:60, 30:50] = 1  # another pitch
    found = spectral_embedding(noise)
    same, other = (np.linalg.norm(found[0] - found[number]) for number in (1, 2))
    assert same < other / 3


def test_a_map_by_pca_has_the_largest_variances():
    points = np.random.default_rng(0).normal(size=(40, 3)) * [5, 2, 0.1]
    found = map_points(points.astype(np.float32), "pca", seed=0)
    values = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    np.testing.assert_allclose(np.var(found, axis=0, ddof=1), values[:2], rtol=1e-4)
    with pytest.raises(ConfigError, match="at least 3 slices"):
        map_points(found[:2], "pca", seed=0)


def test_two_questions_at_once_are_refused():
    with pytest.raises(ConfigError, match=r"similar\.row and similar\.file"):
        SimilarConfig(row=0, file="a.wav")


def test_the_agreements_of_all_values_add_up():
    rng = np.random.default_rng(4)
    unit_NE = vectors(60, size=5, seed=4)
    group_N, label_N = rng.integers(0, 4, 60), rng.integers(-1, 3, 60)
    whole = label_agreement(unit_NE, group_N, label_N)
    parts = [label_agreement(unit_NE, group_N, label_N, group_N == value) for value in range(4)]
    assert sum(part.same for part in parts) == whole.same
    assert sum(part.compared for part in parts) == whole.compared == (label_N >= 0).sum()
