"""datasets.loading.prefetch: in order, bounded, and gone when its consumer is."""

import threading
import time

import pytest

from datasets.loading.prefetch import prefetch


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


class Numbers:
    """Counts up; records its progress and if it was closed."""

    def __init__(self, stop, error=None):
        self.made = 0
        self.closed = False
        self.thread = None
        self._stop = stop
        self._error = error

    def __iter__(self):
        return self

    def __next__(self):
        self.thread = threading.current_thread()
        if self.made == self._stop:
            raise self._error or StopIteration
        self.made += 1
        return self.made

    def close(self):
        self.closed = True


@pytest.mark.parametrize("depth", [0, 1, 3, 1000])
def test_items_come_in_order(depth):
    assert list(prefetch(iter(range(200)), depth)) == list(range(200))
    assert not threads()


def test_none_is_an_item_like_any_other():
    assert list(prefetch(iter([None, 1, None]), 2)) == [None, 1, None]


def test_nothing_runs_before_the_first_item_is_asked_for():
    items = prefetch(Numbers(5), 2)
    assert not threads()
    assert next(items) == 1
    assert len(threads()) == 1
    items.close()


def test_it_runs_ahead_by_no_more_than_its_depth():
    numbers = Numbers(1000)
    items = prefetch(numbers, 3)
    next(items)
    deadline = time.monotonic() + 5
    while numbers.made < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert numbers.made == 5  # one taken, three waiting, one in the thread's hand
    assert numbers.thread is not threading.current_thread()
    items.close()


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_in_its_place(depth):
    items = prefetch(Numbers(2, ZeroDivisionError("here")), depth)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ZeroDivisionError, match="here"):
        next(items)
    assert not threads()


def test_a_consumer_that_leaves_takes_the_thread_with_it():
    numbers = Numbers(10**9)
    for item in prefetch(numbers, 2):
        if item == 3:
            break
    assert not threads()
    assert numbers.closed


def test_a_consumer_that_fails_takes_the_thread_with_it():
    def consume():
        for item in prefetch(Numbers(10**9), 2):
            raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        consume()
    assert not threads()


def test_what_begins_to_wait_after_the_interrupt_is_interrupted_again():
    waiting, ends = threading.Event(), threading.Event()
    interrupts = []

    def items():
        yield 1
        ends.wait()  # only the second interrupt ends it
        yield 2

    def interrupt():
        interrupts.append(waiting.is_set())
        if len(interrupts) == 2:
            ends.set()

    numbers = prefetch(items(), 1, interrupt)
    assert next(numbers) == 1
    numbers.close()
    assert len(interrupts) >= 2
    assert not threads()
