"""datasets.threads: results are in order, and an error of one piece is raised."""

import threading

import pytest

from datasets import threads
from datasets.threads import map_in_threads


@pytest.mark.parametrize("number", [0, 1, 2, 50])
def test_results_are_in_order(number, monkeypatch):
    monkeypatch.setattr(threads, "num_cores", lambda: 4)
    assert [*map_in_threads(lambda item: item * 2, iter(range(number)))] == [
        2 * item for item in range(number)
    ]


def test_few_items_are_worked_on_ahead_of_the_reader(monkeypatch):
    monkeypatch.setattr(threads, "num_cores", lambda: 2)
    begun = []
    results = map_in_threads(begun.append, range(20))
    for number in range(20):
        next(results)
        assert len(begun) <= number + 1 + 2


def test_an_error_is_raised_and_threads_end(monkeypatch):
    monkeypatch.setattr(threads, "num_cores", lambda: 3)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        [*map_in_threads(lambda item: 1 / item, [1, 2, 0, 4, 5])]
    assert threading.active_count() == before
