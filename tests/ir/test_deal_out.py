"""Which programs that go over tiles in a loop become programs of one tile each."""

import pytest

from mlutriton.ir.memory_ops import ArraysDisjoint
from mlutriton.ir.ops import Elementwise
from mlutriton.ir.parser import parse_function
from mlutriton.ir.passes.programs import deal_out

# The store of a tile of 16 rows, `rows` apart, from the tile's first row on; `moved` is where that begins.
KERNEL = """
func @k(%out: ptr<f32>, %other: ptr<f32>, %x: ptr<f32>, %tiles: i32, %pitch: i32, %shift: i32) {{
  %zero = constant {{value = 0}} : i32
  %one = constant {{value = 1}} : i32
  %four = constant {{value = 4}} : i32
  %height = constant {{value = {height}}} : i32
  %all = constant {{value = true}} : tensor<16x16xi1>
  %number = range {{start = 0, end = 16}} : tensor<16xi32>
  %row = expand_dims %number {{axis = 1}} : tensor<16x1xi32>
  %column = expand_dims %number {{axis = 0}} : tensor<1x16xi32>
  %columns = broadcast %column : tensor<16x16xi32>
  %filled = constant {{value = 1.0}} : tensor<16x16xf32>
  %first = program_id {{axis = 0}} : i32
  %pitches = splat %pitch : tensor<16x1xi32>
  for %first, %tiles, %one {{stages = 0}} ({{
    ^(%tile: i32):
      %up = mul %tile, %height : i32
      %ups = splat %up : tensor<16x1xi32>
      %rows = add %ups, %row : tensor<16x1xi32>
      %away = mul %rows, %pitches : tensor<16x1xi32>
      %far = mul %up, %pitch : i32
      %is_first = slt %tile, %one : i1
{moved}
      %begins = splat %begin : tensor<16x1xptr<f32>>
      %lines = addptr %begins, %away : tensor<16x1xptr<f32>>
      %places = broadcast %lines : tensor<16x16xptr<f32>>
      %to = addptr %places, %columns : tensor<16x16xptr<f32>>
      store %to, %filled, %all
      yield
  }})
  return
}}
"""
PLAIN = "      %begin = addptr %out, %zero : ptr<f32>"
SHIFTED = "      %begin = addptr %out, %shift : ptr<f32>"
STORED_AGAIN = """
      %begin = addptr %out, %zero : ptr<f32>
      %eight = constant {value = 8} : i32
      %down = mul %eight, %pitch : i32
      %lower = addptr %out, %down : ptr<f32>
      %lowers = splat %lower : tensor<16x1xptr<f32>>
      %lower_lines = addptr %lowers, %away : tensor<16x1xptr<f32>>
      %lower_places = broadcast %lower_lines : tensor<16x16xptr<f32>>
      %again = addptr %lower_places, %columns : tensor<16x16xptr<f32>>
      store %again, %filled, %all"""
TURNED_BACK = """
      %back = sub %zero, %far : i32
      %begin = addptr %out, %back : ptr<f32>"""
BY_A_LOOP = """
      %total = for %zero, %four, %one, %zero {stages = 0} : i32 ({
        ^(%turn: i32, %before: i32):
          %more = sub %before, %far : i32
          %rest = srem %more, %height : i32
          yield %rest
      })
      %begin = addptr %out, %total : ptr<f32>"""
BY_A_CHOICE = """
      %one_or_other = select %is_first, %out, %other : ptr<f32>
      %begin = addptr %one_or_other, %zero : ptr<f32>"""


@pytest.mark.parametrize(
    ("height", "moved"),
    [(16, PLAIN), (16, SHIFTED), (24, STORED_AGAIN)],
    ids=["plain", "shifted", "half a tile lower, too"],
)
def test_tiles_that_lie_apart_are_programs(height, moved):
    assert deal_out.run(parse_function(KERNEL.format(height=height, moved=moved))) is not None


@pytest.mark.parametrize(
    ("height", "moved"),
    [(15, PLAIN), (23, STORED_AGAIN), (16, TURNED_BACK), (16, BY_A_LOOP), (16, BY_A_CHOICE)],
    ids=["lower than its tile", "the next one, too", "back to the first", "moved by a loop", "moved by a choice"],
)
def test_tiles_that_may_meet_are_gone_over_in_a_loop(height, moved):
    assert deal_out.run(parse_function(KERNEL.format(height=height, moved=moved))) is None


GROUPED = """
func @k(%out: ptr<f32>, %lines: i32, %columns: i32, %tiles: i32, %pitch: i32) {
  %one = constant {value = 1} : i32
  %eight = constant {value = 8} : i32
  %sixteen = constant {value = 16} : i32
  %all = constant {value = true} : tensor<16x16xi1>
  %number = range {start = 0, end = 16} : tensor<16xi32>
  %row = expand_dims %number {axis = 1} : tensor<16x1xi32>
  %column = expand_dims %number {axis = 0} : tensor<1x16xi32>
  %filled = constant {value = 1.0} : tensor<16x16xf32>
  %pitches = splat %pitch : tensor<16x1xi32>
  %outs = splat %out : tensor<16x1xptr<f32>>
  %inside = mul %columns, %eight : i32
  %first = program_id {axis = 0} : i32
  for %first, %tiles, %one {stages = 0} ({
    ^(%tile: i32):
      %group = sdiv %tile, %inside : i32
      %begin = mul %group, %eight : i32
      %left = sub %lines, %begin : i32
      %height = smin %left, %eight : i32
      %within = srem %tile, %inside : i32
      %down = srem %within, %height : i32
      %line = add %begin, %down : i32
      %across = sdiv %within, %height : i32
      %up = mul %line, %sixteen : i32
      %ups = splat %up : tensor<16x1xi32>
      %rows = add %ups, %row : tensor<16x1xi32>
      %away = mul %rows, %pitches : tensor<16x1xi32>
      %lines_of = addptr %outs, %away : tensor<16x1xptr<f32>>
      %right = mul %across, %sixteen : i32
      %rights = splat %right : tensor<1x16xi32>
      %beside = add %rights, %column : tensor<1x16xi32>
      %places = broadcast %lines_of : tensor<16x16xptr<f32>>
      %behind = broadcast %beside : tensor<16x16xi32>
      %to = addptr %places, %behind : tensor<16x16xptr<f32>>
      store %to, %filled, %all
      yield
  })
  return
}
"""


def test_groups_have_to_be_whole_for_their_tiles_to_be_known_to_lie_apart():
    # A lower group has more columns than there are: its tiles are stored over each other, in turn.
    found = deal_out.run(parse_function(GROUPED))
    assert found is not None
    always, where_whole = found.conditions
    named = {each.name for each in where_whole.walk() if isinstance(each, Elementwise)}
    assert "sge" in named
    assert any(isinstance(each, ArraysDisjoint) for each in always.walk())
