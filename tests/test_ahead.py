"""Results computed ahead by threads, in their order."""

from __future__ import annotations

import threading
import time

import pytest

from spatialavatar.threads import in_order


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
