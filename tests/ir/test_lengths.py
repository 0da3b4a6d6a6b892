"""What the lengths of programs depend on."""

import pytest

from mlutriton.ir.analysis.lengths import Lengths, lengths_of
from mlutriton.ir.parser import parse_function

LOOP = """
func @k(%out: ptr<i32>, %n: i32) {{
  %zero = constant {{value = 0}} : i32
  %step = constant {{value = 16}} : i32
  {end}
  %sum = for %zero, %end, %step, %zero {{stages = 0}} : i32 ({{
    ^(%i: i32, %before: i32):
      %after = add %before, %i : i32
      yield %after
  }})
  store %out, %sum
  return
}}
"""


@pytest.mark.parametrize(
    ("end", "lengths"),
    [
        ("%end = add %n, %step : i32", Lengths.ALIKE),
        ("%programs = num_programs {axis = 0} : i32\n  %end = smin %n, %programs : i32", Lengths.ALIKE),
        ("%number = program_id {axis = 1} : i32\n  %end = mul %number, %step : i32", Lengths.GROWING),
        ("%number = program_id {axis = 0} : i32\n  %end = sub %n, %number : i32", Lengths.SHRINKING),
        ("%end = load %out : i32", Lengths.UNKNOWN),
        (
            "%end = add %n, %step : i32\n  %on = constant {value = true} : i1\n"
            '  %old = atomic_rmw %out, %n, %on {kind = "add"} : i32',
            Lengths.UNKNOWN,
        ),
        ("%found = load %out : i32\n  %end = smin %found, %n : i32", Lengths.UNKNOWN),
    ],
)
def test_lengths_are_what_bounds_depend_on(end, lengths):
    assert lengths_of(parse_function(LOOP.format(end=end))) is lengths


NESTED = """
func @k(%out: ptr<i32>, %n: i32) {
  %zero = constant {value = 0} : i32
  %one = constant {value = 1} : i32
  %sum = for %zero, %n, %one, %zero {stages = 0} : i32 ({
    ^(%i: i32, %before: i32):
      %after = for %zero, %i, %one, %before {stages = 0} : i32 ({
        ^(%j: i32, %inner: i32):
          %added = add %inner, %j : i32
          yield %added
      })
      yield %after
  })
  store %out, %sum
  return
}
"""


def test_windows_that_move_are_of_one_length():
    begin, end = "%number = program_id {axis = 0} : i32", "%end = add %number, %step : i32"
    text = LOOP.format(end=f"{begin}\n  {end}").replace("for %zero,", "for %number,")
    assert lengths_of(parse_function(text)) is Lengths.ALIKE


def test_of_loops_that_depend_on_others_nothing_is_known():
    assert lengths_of(parse_function(NESTED)) is Lengths.UNKNOWN


def test_windows_that_end_at_ends_are_of_similar_length():
    begin = "%number = program_id {axis = 0} : i32\n  %last = smin %number, %n : i32"
    text = LOOP.format(end=f"{begin}\n  %end = add %last, %step : i32").replace("for %zero,", "for %number,")
    assert lengths_of(parse_function(text)) is Lengths.SIMILAR
