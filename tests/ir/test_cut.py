"""How often tiles that are to be cut anew are looked for: searches are most of what it takes to find that none are."""

import pytest

from mlutriton.ir.parser import parse_function
from mlutriton.ir.passes.programs import cut, numbering

# Stores 16 elements for each program along the first axis; those along the second one do the same.
ROWS = """
func @k(%out: ptr<f32>, %x: ptr<f32>) {
  %all = constant {value = true} : tensor<16xi1>
  %none = constant {value = 0.0} : tensor<16xf32>
  %length = constant {value = 16} : i32
  %number = range {start = 0, end = 16} : tensor<16xi32>
  %first = program_id {axis = 0} : i32
  %begin = mul %first, %length : i32
  %begins = splat %begin : tensor<16xi32>
  %places = add %begins, %number : tensor<16xi32>
  %sources = splat %x : tensor<16xptr<f32>>
  %from = addptr %sources, %places : tensor<16xptr<f32>>
  %values = load %from, %all, %none : tensor<16xf32>
  %targets = splat %out : tensor<16xptr<f32>>
  %to = addptr %targets, %places : tensor<16xptr<f32>>
  store %to, %values, %all
  return
}
"""


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The axes along which has been looked."""
    looked: list[int] = []
    searched = cut._searched
    monkeypatch.setattr(cut, "_searched", lambda function, axis: (looked.append(axis), searched(function, axis))[1])
    return looked


def test_digits_that_nothing_depends_on_are_not_asked_for() -> None:
    written = numbering.as_written(parse_function(ROWS))
    assert [each.axis for each in written.digits] == [0, 1, 2]
    assert [each.axis for each in written.asked_for()] == [0]


def test_all_lengths_share_a_search(axes: list[int]) -> None:
    found = cut.run(parse_function(ROWS), [cut.Shape({0: 64}), cut.Shape({0: 256})], at_once=12)
    assert len(found) == 2
    assert axes == [0]


def test_nothing_more_is_looked_for_where_there_is_none_of_one_length(axes: list[int]) -> None:
    assert cut.run(parse_function(ROWS), [cut.Shape({1: 64}), cut.Shape({0: 64})], at_once=12) == []
    assert axes == [0]


def test_programs_that_all_do_the_same_are_not_cut() -> None:
    alike = ROWS.replace("program_id {axis = 0}", "constant {value = 0}")
    assert cut.run(parse_function(alike), [cut.Shape({1: 64})], at_once=12) == []
