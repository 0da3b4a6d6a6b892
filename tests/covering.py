"""Parameters of tests along several axes, of which each value meets each value of every other axis.

Most faults need one value, or two that meet: where all axes are multiplied, the same two meet again and again, and each
time a kernel is compiled and interpreted. Three axes of six values are some 40 tests instead of 216.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import pytest

Names = str | tuple[str, ...]


def cases_where_all_pairs_meet(lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """Positions along axes of these lengths: few of them, of which any two positions of two axes are in one.

    Each is the one with most pairs that have not met.
    """
    pairs = {case: set(combinations(enumerate(case), 2)) for case in product(*map(range, lengths))}
    missing, chosen = set[Any]().union(*pairs.values()), list[tuple[int, ...]]()
    while missing:
        chosen.append(max(pairs, key=lambda case: len(pairs[case] & missing)))
        missing -= pairs[chosen[-1]]
    return sorted(chosen)


def pairs_of(*axes: tuple[Names, Sequence[Any]], indirect: Sequence[str] = ()) -> pytest.MarkDecorator:
    """Parametrize a test by axes, each a name and its values, or several names and tuples of values."""
    names, rows = list[str](), list[list[Any]]()
    for name, _ in axes:
        names += [name] if isinstance(name, str) else name
    for case in cases_where_all_pairs_meet([len(values) for _, values in axes]):
        row = list[Any]()
        for place, (name, values) in zip(case, axes, strict=True):
            row += [values[place]] if isinstance(name, str) else values[place]
        rows.append(row)
    return pytest.mark.parametrize(names, rows, indirect=indirect)
