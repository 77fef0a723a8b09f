"""Results computed ahead by threads, in their order, and the newest of a stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from spatialavatar.threads import in_order, newest, one_ahead


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order(workers: int):
    def task(index: int) -> int:
        time.sleep(0.002 * (index % 3))
        return index * index

    assert list(in_order(task, 20, workers)) == [index * index for index in range(20)]


def test_no_more_results_are_computed_than_may_wait():
    started: list[int] = []
    results = in_order(lambda index: started.append(index) or index, 1000, 2)
    next(results)
    time.sleep(0.05)
    assert len(started) <= 4
    results.close()
    assert len(started) <= 4


def test_an_error_is_raised_in_its_place_and_ends_the_threads():
    def task(index: int) -> int:
        if index == 3:
            raise ValueError("three")
        return index

    results, seen = in_order(task, 10, 2), []
    with pytest.raises(ValueError, match="three"):
        seen.extend(results)
    assert seen == [0, 1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_one_ahead_computes_the_next_while_the_caller_has_the_one_before():
    reached = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for index, event in enumerate(reached):
            event.set()
            yield index

    seen = []
    for item in one_ahead(items()):
        seen.append(item)
        assert reached[min(item + 1, 2)].wait(5)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("ahead", [one_ahead, newest])
def test_an_error_of_a_stream_reaches_the_caller_after_the_items_before_it(ahead):
    read = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        read.wait(5)
        raise ValueError("the camera broke")

    stream = ahead(items())
    assert next(stream) == 0
    read.set()
    with pytest.raises(ValueError, match="the camera broke"):
        next(stream)
    assert not threads_named("one-ahead") + threads_named("newest")


@pytest.mark.parametrize("ahead", [one_ahead, newest])
def test_a_closed_stream_closes_its_source_and_leaves_no_thread(ahead):
    closed = []

    def items() -> Iterator[int]:
        try:
            while True:
                time.sleep(0.001)
                yield 0
        finally:
            closed.append(True)

    stream = ahead(items())
    next(stream)
    stream.close()
    assert closed == [True]
    assert not threads_named("one-ahead") + threads_named("newest")


def test_a_slow_reader_gets_the_newest_items_and_the_last():
    fill = [threading.Event(), threading.Event()]

    def items() -> Iterator[int]:
        yield 0
        fill[0].wait(5)
        yield from (1, 2, 3)
        fill[1].set()

    stream = newest(items())
    first = next(stream)
    fill[0].set()
    assert fill[1].wait(5)
    assert [first, *stream] == [0, 3]
