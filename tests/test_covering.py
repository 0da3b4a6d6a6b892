"""Tests by pairs leave out no pair."""

from itertools import combinations, product

import pytest

from tests.covering import cases_where_all_pairs_meet, pairs_of


@pytest.mark.parametrize("lengths", [(2, 2, 2), (8, 3, 3, 2), (9, 3, 6), (4, 1, 5), (7, 4), (3,)])
def test_any_two_values_meet(lengths):
    cases = cases_where_all_pairs_meet(lengths)
    assert len(set(cases)) == len(cases)
    for (a, many), (b, others) in combinations(enumerate(lengths), 2):
        assert {(case[a], case[b]) for case in cases} == set(product(range(many), range(others)))
    if len(lengths) > 2 and min(lengths) > 1:
        assert len(cases) < 2 * lengths[0] * max(lengths[1:])


def test_names_have_their_values():
    names, rows = pairs_of(("a", [1, 2, 3]), (("b", "c"), [("x", 0), ("y", 5)]), ("d", [True, False])).args
    assert names == ["a", "b", "c", "d"]
    assert {(a, b, c) for a, b, c, _ in rows} == {(a, *each) for a in (1, 2, 3) for each in (("x", 0), ("y", 5))}
    assert {(b, d) for _, b, _, d in rows} == set(product("xy", (True, False)))
