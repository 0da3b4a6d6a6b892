"""Launches of one compiled kernel again, on arrays that lie elsewhere or hold other numbers."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np

from tests.language.generated import judge, texts
from tests.language.generated.launches import read_before_set, running_on
from tests.language.generated.texts import TextCase

Memory = dict[str, object]


def _arrays(memory: Memory) -> dict[str, np.ndarray]:
    return {name: value for name, value in memory.items() if isinstance(value, np.ndarray)}


def moved(memory: Memory, random: Random) -> Memory:
    """At other addresses, which few powers of two divide."""
    found = dict(memory)
    for name, array in _arrays(memory).items():
        begin = random.randint(0, 40)
        found[name] = np.zeros(array.size + 80, array.dtype)[begin : begin + array.size].reshape(array.shape)
        found[name][...] = array
    return found


def packed(memory: Memory, random: Random) -> Memory:
    """One right behind the other, in any order."""
    found, places, end = dict(memory), dict[str, int](), 0
    arrays = _arrays(memory)
    for name in random.sample(list(arrays), len(arrays)):
        array = arrays[name]
        places[name] = begin = -(-end // array.itemsize) * array.itemsize
        end = begin + array.nbytes
    whole = np.zeros(end + 64, np.uint8)
    for name, begin in places.items():
        array = arrays[name]
        found[name] = whole[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
        found[name][...] = array
    return found


def shuffled(memory: Memory, random: Random) -> Memory:
    """With floating-point numbers in another order; integers may be places."""
    generator = np.random.default_rng(random.randint(0, 99))
    changed = {
        name: generator.permutation(array.ravel()).reshape(array.shape)
        for name, array in _arrays(memory).items()
        if array.dtype.kind not in "iu"
    }
    return memory | changed


def aliased(memory: Memory, random: Random) -> Memory:
    """Those of one floating-point type over each other, be it a few elements apart; integers may be places."""
    found, by_type = dict(memory), dict[np.dtype, list[str]]()
    arrays = {name: array for name, array in _arrays(memory).items() if array.dtype.kind not in "iu"}
    for name, array in arrays.items():
        by_type.setdefault(array.dtype, []).append(name)
    for dtype, names in by_type.items():
        begins = {name: random.choice([0, 0, 1, 3, 16, 64, 100]) for name in names}
        whole = np.zeros(max(begins[name] + arrays[name].size for name in names), dtype)
        for name, begin in begins.items():
            found[name] = whole[begin : begin + arrays[name].size].reshape(arrays[name].shape)
            found[name][...] = arrays[name]
    return found


WAYS: list[Callable[[Memory, Random], Memory]] = [moved, packed, shuffled, aliased]


def launched_again(case: TextCase, seed: int) -> None:
    """Launch a case, and its kernel again in each of the ways in any order; compare memory with NumPy's each time."""
    random, kernel = Random(seed), texts.jitted(case.text)
    arrays = list(_arrays(case.memory()).values())
    shares = any(np.may_share_memory(one, other) for place, one in enumerate(arrays) for other in arrays[:place])
    ways = [] if shares or case.addresses else random.sample(WAYS, len(WAYS))
    for change in (None, *ways, None):
        # Programs that meet are told apart by nothing.
        grid = (1,) * len(case.grid) if change is aliased else case.grid
        start = random.randint(0, 1 << 30)
        expected, found = (
            case.memory() if change is None else change(case.memory(), Random(start)) for _ in range(2)
        )  # fmt: skip
        judge.run(case.text, grid, expected)
        with running_on("native", case.machine):
            run = kernel[grid](*found.values(), enable_fp_fusion=False, **case.options)
        assert not read_before_set(run.program)
        for name, array in _arrays(found).items():
            if name == case.addresses:  # of arrays of this launch
                continue
            x, y = (each.astype(np.float64) for each in (array, expected[name]))
            same = (x == y) | ((x != x) & (y != y))
            if case.tolerance:
                same |= np.abs(x - y) <= case.tolerance * (1 + np.abs(y))
            assert same.all(), (change and change.__name__, name, np.argwhere(~same)[:3], x[~same][:3], y[~same][:3])
