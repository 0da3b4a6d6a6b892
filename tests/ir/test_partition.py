"""Programs split among members: the members together leave in memory what the program alone would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlutriton.diagnostics import Location
from mlutriton.dtypes import F32, I1, I32, I64
from mlutriton.ir.analysis.layouts import NotSplitError
from mlutriton.ir.core import Block, Builder, Function
from mlutriton.ir.evaluator import evaluate
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.ops import Assemble, Constant, GatherLoad, Order, Return, TileLoad, TileStore
from mlutriton.ir.parser import parse_function
from mlutriton.ir.passes.programs import partition
from mlutriton.ir.types import PointerType, TensorType, element_type, shape_of
from mlutriton.ir.verifier import verify
from tests.ir.test_generated import DTYPES, SHAPES, Generator, exact

SIZE = 64


def access(builder: Builder, shape: tuple[int, ...], offset_limit: int) -> list:
    """Strides, firsts and limits of a dense tile of which some rows may be missing."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    numbers = [*strides, *(0 for _ in shape), offset_limit, *shape[1:]]
    return [builder.add(Constant.of(number, I64)).result for number in numbers]


@st.composite
def functions(draw: st.DrawFn) -> Function:
    """Loads from one array, anything between, stores of what came of it to other arrays."""
    shapes = [shape for shape in SHAPES if len(shape) > 0]
    pointers = [PointerType(F32), PointerType(I32)]
    body = Block([*pointers, *(PointerType(dtype) for dtype in DTYPES), F32, I32, I1], ["x", "n"])
    builder, generator = Builder(body), Generator(draw)
    scope = list(body.arguments[-3:])
    for argument in body.arguments[:2]:
        for _ in range(draw(st.integers(1, 2))):
            shape = draw(st.sampled_from(shapes))
            element = argument.type.pointee
            fill = builder.add(Constant.of(0, element)).result
            geometry = access(builder, shape, draw(st.integers(0, shape[0] + 1)))
            type = TensorType(shape, element)
            flags = {"wraps": (0,) * len(shape)}
            load = TileLoad([argument, fill, *geometry], flags, result_types=[type])
            scope.append(builder.add(load).result)
    scope = generator.block(body, scope, 10)
    stored: set[object] = set()
    for value in reversed(scope):
        shape, element = shape_of(value.type), element_type(value.type)
        if shape and element in DTYPES and element not in stored and value.defining_op is not None:
            stored.add(element)
            target = body.arguments[2 + DTYPES.index(element)]
            geometry = access(builder, shape, draw(st.integers(0, shape[0] + 1)))
            builder.add(TileStore([target, value, *geometry], {"wraps": (0,) * len(shape)}))
    builder.add(Return())
    return Function("generated", body, [], Location("kernel.py", 3))


def stored_by(function: Function) -> list[tuple[object, ...]]:
    memory = ArrayMemory()
    inputs = [np.linspace(-3, 5, SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.int32) - 9]
    outputs = [np.zeros(256, dtype.numpy) for dtype in DTYPES]
    addresses = [memory.register(str(i), array) for i, array in enumerate([*inputs, *outputs])]
    evaluate(function, (1,), [*addresses, 0.5, 3, True], memory, arrays_disjoint=True)
    return [exact(array) for array in outputs]


@given(function=functions(), members=st.sampled_from([2, 4]), share=st.booleans())
@settings(max_examples=60, deadline=None)
def test_members_together_store_the_same(function: Function, members: int, share: bool) -> None:
    wanted = stored_by(function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "_LARGEST_SHARE", 1.0)
        patch.setattr(partition, "_LEAST_SHARED_BYTES", 1)
        try:
            parts = partition.partition(function, members, share=share, least_part_bytes=0)
        except NotSplitError:
            assume(False)
            return
    for part in parts:
        verify(part, "partition")
        assert stored_by(part) == wanted


PRODUCT = """
func @product(%a: ptr<f16>, %b: ptr<f16>, %c: ptr<f32>) {
  %zero = constant {value = 0} : i64
  %one = constant {value = 1} : i64
  %n = constant {value = 128} : i64
  %fill = constant {value = 0.0} : f16
  %sum = constant {value = 0.0} : tensor<128x128xf32>
  %start = constant {value = 0} : i32
  %end = constant {value = 4} : i32
  %step = constant {value = 1} : i32
  %total = for %start, %end, %step, %sum {stages = 0} : tensor<128x128xf32> ({
    ^(%i: i32, %before: tensor<128x128xf32>):
      %left = tile_load %a, %fill, %n, %one, %zero, %zero, %n, %n {wraps = [0, 0]} : tensor<128x128xf16>
      %right = tile_load %b, %fill, %n, %one, %zero, %zero, %n, %n {wraps = [0, 0]} : tensor<128x128xf16>
      %after = dot %left, %right, %before {precision = "ieee"} : tensor<128x128xf32>
      yield %after
  })
  tile_store %c, %total, %n, %one, %zero, %zero, %n, %n {wraps = [0, 0]}
  return
}
"""


def test_either_axis_of_a_product_may_be_split() -> None:
    parts = partition.partition(parse_function(PRODUCT), 4, share=True, least_part_bytes=0)
    stored = [[shape_of(each.value.type) for each in part.walk() if isinstance(each, TileStore)] for part in parts]
    assert stored == [[(32, 128)], [(128, 32)], [(128, 32)]]


def test_columns_may_be_kept_of_rows_that_are_loaded_whole() -> None:
    *_, part = partition.partition(parse_function(PRODUCT), 4, share=True, least_part_bytes=0)
    left, right = (each for each in part.walk() if isinstance(each, Assemble))
    assert shape_of(left.operands[0].type) == shape_of(right.operands[0].type) == (32, 128)
    assert shape_of(left.result.type) == (128, 128)
    assert shape_of(right.result.type) == (128, 32)


def test_members_multiply_as_one_does() -> None:
    a, b = (np.random.default_rng(0).integers(-9, 9, (128, 128)).astype(np.float16) for _ in range(2))
    parts = partition.partition(parse_function(PRODUCT), 4, share=True, least_part_bytes=0)
    for part in (parse_function(PRODUCT), *parts):
        memory, c = ArrayMemory(), np.zeros((128, 128), np.float32)
        addresses = [memory.register(name, array) for name, array in (("a", a), ("b", b), ("c", c))]
        evaluate(part, (1,), addresses, memory, arrays_disjoint=True)
        np.testing.assert_array_equal(c, 4 * a.astype(np.float32) @ b.astype(np.float32))


def test_what_all_need_is_loaded_by_all_together() -> None:
    part, *_ = partition.partition(parse_function(PRODUCT), 4, share=True, least_part_bytes=0)
    (whole,) = (each for each in part.walk() if isinstance(each, Assemble))
    assert shape_of(whole.operands[0].type) == (32, 128)
    assert shape_of(whole.result.type) == (128, 128)
    (stored,) = (each for each in part.walk() if isinstance(each, TileStore))
    assert shape_of(stored.value.type) == (32, 128)
    orders = [each for each in part.walk() if isinstance(each, Order)]
    assert [each.attributes["unless_disjoint"] for each in orders] == [True, True]
    alone, *_ = partition.partition(parse_function(PRODUCT), 4, share=False, least_part_bytes=0)
    assert not any(isinstance(each, Assemble) for each in alone.walk())


ROWS = """
func @rows(%x: ptr<f32>, %ids: ptr<i32>, %y: ptr<f32>) {
  %zero = constant {value = 0} : i64
  %one = constant {value = 1} : i64
  %n = constant {value = 4} : i64
  %fill = constant {value = 0.0} : f32
  %none = constant {value = 0} : i32
  %others = constant {value = 0.0} : tensor<4xf32>
  %all = constant {value = true} : tensor<4xi1>
  %id = tile_load %ids, %none, %one, %zero, %n {wraps = [0]} : tensor<4xi32>
  %found = gather_load %x, %id, %all, %others, %n {scale_bytes = 16, length = 4} : tensor<4x4xf32>
  %values = exp %found : tensor<4x4xf32>
  scatter_store %y, %id, %values, %all, %n {scale_bytes = 16, length = 4}
  return
}
"""


def test_members_may_have_one_element_of_each_row_that_is_looked_up() -> None:
    """Such items have no dimension for their elements."""

    def stored(function: Function) -> np.ndarray:
        memory, found = ArrayMemory(), np.zeros(16, np.float32)
        arrays = [np.linspace(-1, 1, 16, dtype=np.float32), np.array([2, 0, 3, 1], np.int32), found]
        addresses = [memory.register(str(place), array) for place, array in enumerate(arrays)]
        evaluate(function, (1,), addresses, memory, arrays_disjoint=True)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "_LARGEST_SHARE", 1.0)
        parts = partition.partition(parse_function(ROWS), 4, share=True, least_part_bytes=0)
    for part in parts:
        verify(part, "partition")
        np.testing.assert_array_equal(stored(part), stored(parse_function(ROWS)))
    lengths = [each.integer("length") for part in parts for each in part.walk() if isinstance(each, GatherLoad)]
    assert 1 in lengths


IN_PLACE = """
func @in_place(%x: ptr<f32>) {
  %zero = constant {value = 0} : i64
  %one = constant {value = 1} : i64
  %n = constant {value = 1024} : i64
  %fill = constant {value = 0.0} : f32
  %v = tile_load %x, %fill, %one, %zero, %n {wraps = [0]} : tensor<1024xf32>
  %w = exp %v : tensor<1024xf32>
  tile_store %x, %w, %one, %zero, %n {wraps = [0]}
  return
}
"""


def test_writes_that_meet_a_load_keep_their_order_whatever_the_arrays_are() -> None:
    part, *_ = partition.partition(parse_function(IN_PLACE), 4, share=True, least_part_bytes=0)
    orders = [each for each in part.walk() if isinstance(each, Order)]
    assert [each.attributes["unless_disjoint"] for each in orders] == [False, False]


def test_small_parts_are_not_worth_it() -> None:
    with pytest.raises(NotSplitError, match="tiles of 4,096 bytes are too small for 4 cores"):
        partition.partition(parse_function(IN_PLACE), 4, share=True, least_part_bytes=1025)


REFUSED = {
    "a sum along what is split": (
        """
func @f(%x: ptr<f32>, %y: ptr<f32>) {
  %zero = constant {value = 0} : i64
  %one = constant {value = 1} : i64
  %n = constant {value = 1024} : i64
  %fill = constant {value = 0.0} : f32
  %v = tile_load %x, %fill, %one, %zero, %n {wraps = [0]} : tensor<1024xf32>
  %w = exp %v : tensor<1024xf32>
  %s = reduce %w {axis = 0} : f32 ({
    ^(%a: f32, %b: f32):
      %c = fadd %a, %b : f32
      yield %c
  })
  %d = splat %s : tensor<1024xf32>
  %e = fdiv %w, %d : tensor<1024xf32>
  tile_store %y, %e, %one, %zero, %n {wraps = [0]}
  return
}
""",
        "every core would do all of",
    ),
    "an odd extent": (
        """
func @f(%x: ptr<f32>, %y: ptr<f32>) {
  %zero = constant {value = 0} : i64
  %one = constant {value = 1} : i64
  %n = constant {value = 2} : i64
  %fill = constant {value = 0.0} : f32
  %v = tile_load %x, %fill, %one, %zero, %n {wraps = [0]} : tensor<2xf32>
  tile_store %y, %v, %one, %zero, %n {wraps = [0]}
  return
}
""",
        "every core would do all of",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_says_why_a_program_is_not_split(name: str) -> None:
    text, reason = REFUSED[name]
    with pytest.raises(NotSplitError, match=reason):
        partition.partition(parse_function(text), 4, share=True, least_part_bytes=0)


def test_only_what_is_multiplied_is_kept_in_columns() -> None:
    """Steps of other loops are as they are written, each with a wait for the others."""
    of_sums = """
      %wide = fpcast %right {to = "f32"} : tensor<128x128xf32>
      %after = fadd %wide, %before : tensor<128x128xf32>
    """
    added = PRODUCT.replace('%after = dot %left, %right, %before {precision = "ieee"} : tensor<128x128xf32>', of_sums)
    for part in partition.partition(parse_function(added), 4, share=True, least_part_bytes=0):
        assert not any(isinstance(each, Assemble) for each in part.walk())
