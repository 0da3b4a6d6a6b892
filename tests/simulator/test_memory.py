"""Which arrays of a launch count as apart from each other."""

import pytest

from mlutriton.simulator.memory import Allocation, GlobalMemory


@pytest.mark.parametrize(
    ("arrays", "is_disjoint"),
    [
        # start, end, whether it is written
        ([(0, 8, True), (8, 16, True), (16, 16, True)], True),
        ([(0, 8, False), (0, 8, False), (8, 16, True)], True),
        ([(0, 8, False), (4, 12, True)], False),
        ([(0, 8, True), (4, 12, False)], False),
        ([(0, 8, True), (4, 12, True)], False),
        # A long array that is written has others in it that do not touch each other.
        ([(0, 100, True), (10, 12, False), (50, 60, False)], False),
        ([(0, 100, False), (10, 12, False), (50, 60, True)], False),
        ([(0, 100, False), (10, 12, False), (100, 120, True), (50, 60, False)], True),
    ],
)
def test_arrays_that_are_only_read_may_share_bytes(arrays, is_disjoint):
    memory = GlobalMemory(
        Allocation(f"p{place}", 4096 + start, end - start, written=written)
        for place, (start, end, written) in enumerate(arrays)
    )
    assert memory.is_disjoint is is_disjoint
