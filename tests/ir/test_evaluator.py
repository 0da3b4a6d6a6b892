"""Small kernels against NumPy, and what the evaluator refuses."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from mlutriton.diagnostics import KernelFault
from mlutriton.dtypes import F32
from mlutriton.ir.evaluator import evaluate
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.parser import parse_function
from mlutriton.ir.verifier import verify


def run(text: str, grid: tuple[int, ...], *arguments: object, read_only: bool = False):
    function = parse_function(text, "test.ir")
    verify(function)
    memory = ArrayMemory()
    values = [
        memory.register(f"a{i}", argument, writable=not read_only) if isinstance(argument, np.ndarray) else argument
        for i, argument in enumerate(arguments)
    ]
    return evaluate(function, grid, values, memory)


ADD = """
func @add(%x: ptr<f32>, %y: ptr<f32>, %out: ptr<f32>, %n: i32) {
  %pid = program_id {axis = 0} : i32
  %block = constant {value = 8} : i32
  %start = mul %pid, %block : i32
  %range = range {start = 0, end = 8} : tensor<8xi32>
  %starts = splat %start : tensor<8xi32>
  %offsets = add %starts, %range : tensor<8xi32>
  %ns = splat %n : tensor<8xi32>
  %mask = slt %offsets, %ns : tensor<8xi1>
  %zero = constant {value = 0.0} : tensor<8xf32>
  %xs = splat %x : tensor<8xptr<f32>>
  %xp = addptr %xs, %offsets : tensor<8xptr<f32>>
  %xv = load %xp, %mask, %zero : tensor<8xf32>
  %ys = splat %y : tensor<8xptr<f32>>
  %yp = addptr %ys, %offsets : tensor<8xptr<f32>>
  %yv = load %yp, %mask, %zero : tensor<8xf32> loc("add.py":7:9)
  %sum = fadd %xv, %yv : tensor<8xf32>
  %os = splat %out : tensor<8xptr<f32>>
  %op = addptr %os, %offsets : tensor<8xptr<f32>>
  store %op, %sum, %mask loc("add.py":9:5)
  return
}
"""


def test_vector_add() -> None:
    x, y = np.arange(20, dtype=np.float32), np.full(20, 0.5, np.float32)
    out = np.zeros(20, np.float32)
    run(ADD, (3,), x, y, out, 20)
    np.testing.assert_array_equal(out, x + y)


def test_a_fault_names_place_and_program() -> None:
    x, out = np.zeros(20, np.float32), np.zeros(20, np.float32)
    with pytest.raises(KernelFault) as caught:
        run(ADD, (3, 1, 1), x, x[:12].copy(), out, 20)
    assert caught.value.code == "E0301"
    assert str(caught.value.location) == "add.py:7:9"
    assert caught.value.context == "program (1, 0, 0)"


@pytest.mark.parametrize("address", [-4, -(1 << 62), 0, (1 << 63) - 4])
def test_no_array_is_anywhere(address: int) -> None:
    memory = ArrayMemory()
    memory.register("x", np.zeros(4, np.float32))
    for access in (lambda at: memory.read(at, F32), lambda at: memory.write(at, np.zeros(1, np.float32))):
        with pytest.raises(KernelFault, match="E0301"):
            access(np.array([address]))


def test_nothing_is_written_by_a_faulting_store() -> None:
    x, out = np.ones(8, np.float32), np.zeros(4, np.float32)
    with pytest.raises(KernelFault, match="E0301"):
        run(ADD, (1,), x, x, out, 8)
    assert not out.any()


def test_read_only_arrays() -> None:
    x = np.ones(8, np.float32)
    with pytest.raises(KernelFault) as caught:
        run(ADD, (1,), x, x.copy(), x.copy(), 8, read_only=True)
    assert caught.value.code == "E0307"
    assert str(caught.value.location) == "add.py:9:5"


TILE = """
func @tile(%x: ptr<f32>, %out: ptr<f32>, %stride: i64, %top: i64, %left: i64, %rows: i64, %columns: i64) {
  %zero = constant {value = 0} : i64
  %one = constant {value = 1} : i64
  %other = constant {value = -1.0} : f32
  %four = constant {value = 4} : i64
  %eight = constant {value = 8} : i64
  %three = constant {value = 3} : i64
  %five = constant {value = 5} : i64
  %t = tile_load %x, %other, %stride, %one, %top, %left, %rows, %columns, %three, %five {wraps = [1, 0]}
    : tensor<4x8xf32>
  tile_store %out, %t, %eight, %one, %zero, %zero, %four, %eight {wraps = [0, 0]}
  return
}
"""


@pytest.mark.parametrize(("top", "left"), [(0, 0), (1, 2), (-3, -1), (3, 5), (4, 0), (9, 9)])
@pytest.mark.parametrize(("rows", "columns"), [(4, 8), (2, 3), (0, 8), (9, -1)])
def test_tiles(rows: int, columns: int, top: int, left: int) -> None:
    x = np.arange(60, dtype=np.float32).reshape(5, 12)
    out = np.zeros((4, 8), np.float32)
    run(TILE, (1,), x, out, 12, top, left, rows, columns)
    expected = np.full((4, 8), -1, np.float32)
    wrapped = x[[3, 4, 0, 1], :8]
    box = slice(max(top, 0), max(rows, 0)), slice(max(left, 0), max(columns, 0))
    expected[box] = wrapped[box]
    np.testing.assert_array_equal(out, expected)


SCATTER = """
func @scatter(%x: ptr<f16>, %out: ptr<f16>, %counts: ptr<i32>, %index: ptr<i32>) {
  %i = range {start = 0, end = 4} : tensor<4xi32>
  %t = constant {value = true} : tensor<4xi1>
  %z = constant {value = 0} : tensor<4xi32>
  %one = constant {value = 1} : tensor<4xi32>
  %h = constant {value = 0.0} : tensor<4xf16>
  %all = constant {value = 1} : i64
  %k = gather_load %index, %i, %t, %z, %all {length = 1, scale_bytes = 4} : tensor<4xi32>
  %v = gather_load %x, %k, %t, %h, %all {length = 1, scale_bytes = 2} : tensor<4xf16>
  scatter_store %out, %i, %v, %t, %all {length = 1, scale_bytes = 2}
  %old = gather_atomic %counts, %k, %t, %all, %one {kind = "add", length = 1, scale_bytes = 4} : tensor<4xi32>
  print %old {prefix = "old", style = "signed"}
  return
}
"""


def test_gather_scatter_and_atomics() -> None:
    x, out = np.array([10, 11, 12, 13], np.float16), np.zeros(4, np.float16)
    counts, index = np.zeros(4, np.int32), np.array([2, 0, 2, 3], np.int32)
    (record,) = run(SCATTER, (1,), x, out, counts, index)
    np.testing.assert_array_equal(out, x[index])
    np.testing.assert_array_equal(counts, [1, 0, 2, 1])
    np.testing.assert_array_equal(record.values[0], [0, 0, 1, 0])


ROWS = """
func @rows(%x: ptr<f32>, %out: ptr<f32>, %index: ptr<i32>, %limit: i64) {
  %i = range {start = 0, end = 4} : tensor<4xi32>
  %two = constant {value = 2} : tensor<4xi32>
  %t = constant {value = true} : tensor<4xi1>
  %z = constant {value = 0} : tensor<4xi32>
  %one = constant {value = 1} : i64
  %m = slt %i, %two : tensor<4xi1>
  %h = constant {value = 7.0} : tensor<4xf32>
  %k = gather_load %index, %i, %t, %z, %one {length = 1, scale_bytes = 4} : tensor<4xi32>
  %v = gather_load %x, %k, %m, %h, %limit {length = 3, scale_bytes = 20} : tensor<4x3xf32>
  scatter_store %out, %k, %v, %t, %limit {length = 3, scale_bytes = 12}
  return
}
"""


@pytest.mark.parametrize(("limit", "valid"), [(-1, 0), (0, 0), (2, 2), (3, 3), (9, 3)])
def test_gather_and_scatter_of_rows(limit: int, valid: int) -> None:
    x, out = np.arange(20, dtype=np.float32).reshape(4, 5), np.zeros((4, 3), np.float32)
    index = np.array([2, 0, 3, 1], np.int32)
    run(ROWS, (1,), x, out, index, limit)
    expected = np.zeros((4, 3), np.float32)
    expected[index[:2], :valid] = x[index[:2], :valid]
    expected[index[2:], :valid] = 7
    np.testing.assert_array_equal(out, expected)


ATOMIC = """
func @atomic(%p: ptr<T>, %v: T, %e: T, %on: i1) {
  %old = atomic_rmw %p, %v, %on {kind = "KIND"} : T
  %cas = atomic_cas %p, %e, %v : T
  print %old, %cas {prefix = "", style = "signed"}
  return
}
"""


@pytest.mark.parametrize(
    ("kind", "dtype", "start", "operand", "result"),
    [
        ("add", "i32", 2**31 - 1, 1, -(2**31)), ("fadd", "f32", 1.5, 2.0, 3.5), ("smax", "i32", -5, 3, 3),
        ("umax", "i32", -5, 3, -5), ("smin", "i64", -5, 3, -5), ("umin", "i64", -5, 3, 3), ("and", "i32", 6, 3, 2),
        ("or", "i32", 6, 3, 7), ("xor", "i32", 6, 3, 5), ("xchg", "f16", 1.0, 2.0, 2.0), ("fmax", "f32", 1.0, 2.0, 2.0),
        ("fmin", "bf16", 1.0, 2.0, 1.0),
    ],
)  # fmt: skip
def test_atomic_kinds(kind: str, dtype: str, start: float, operand: float, result: float) -> None:
    names = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i32": np.int32, "i64": np.int64}
    array = np.array([start], names[dtype])
    text = ATOMIC.replace("KIND", kind).replace("<T>", f"<{dtype}>").replace(": T", f": {dtype}")
    (record,) = run(text, (1,), array, operand, 99, True)
    assert [float(value) for value in record.values] == [start, result]
    assert array[0] == result
    run(text, (1,), array, operand, result, False)
    assert array[0] == np.asarray(operand, array.dtype), "the exchange finds what it expects"


DOT = """
func @dot(%a: tensor<4x8xA>, %b: tensor<8x2xA>, %c: tensor<4x2xC>) {
  %r = dot %a, %b, %c {precision = "ieee"} : tensor<4x2xC>
  print %r {prefix = "", style = "signed"}
  return
}
"""


@pytest.mark.parametrize(("a", "c"), [("f32", "f32"), ("f16", "f32"), ("f16", "f16"), ("bf16", "f32"), ("f64", "f64")])
def test_dot_of_floats(a: str, c: str) -> None:
    names = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f64": np.float64}
    random = np.random.default_rng(0)
    x, y, z = (random.normal(size=shape) for shape in ((4, 8), (8, 2), (4, 2)))
    x, y, z = x.astype(names[a]), y.astype(names[a]), z.astype(names[c])
    function = parse_function(DOT.replace("A>", f"{a}>").replace("C>", f"{c}>"))
    verify(function)
    (record,) = evaluate(function, (1,), [x, y, z], ArrayMemory())
    exact = z.astype(np.float64) + x.astype(np.float64) @ y.astype(np.float64)
    tolerance = 2e-3 if c == "f16" else 1e-6
    np.testing.assert_allclose(record.values[0].astype(np.float64), exact, rtol=tolerance, atol=tolerance)


def test_dot_of_integers_wraps() -> None:
    function = parse_function(DOT.replace("A>", "i8>").replace("C>", "i32>"))
    x, y = np.full((4, 8), -128, np.int8), np.full((8, 2), -128, np.int8)
    start = np.full((4, 2), 2**31 - 1, np.int32)
    (record,) = evaluate(function, (1,), [x, y, start], ArrayMemory())
    assert (record.values[0] == np.int32(-(2**31) + 8 * 128 * 128 - 1)).all()


SHAPES = """
func @shapes(%x: tensor<2x4xf32>, %k: tensor<2x3xi32>, %h: tensor<8xi32>, %m: tensor<8xi1>) {
  %sum = reduce %x {axis = 1} : tensor<2xf32> ({
    ^(%a: f32, %b: f32):
      %c = fadd %a, %b : f32
      yield %c
  })
  %scan = scan %x {axis = 1, reverse = true} : tensor<2x4xf32> ({
    ^(%a: f32, %b: f32):
      %c = fadd %a, %b : f32
      yield %c
  })
  %gather = gather %x, %k {axis = 1} : tensor<2x3xf32>
  %transpose = transpose %x {order = [1, 0]} : tensor<4x2xf32>
  %left, %right = split %transpose : tensor<4xf32>, tensor<4xf32>
  %join = join %right, %left : tensor<4x2xf32>
  %cat = concatenate %x, %x : tensor<4x4xf32>
  %counts = histogram %h, %m : tensor<4xi32>
  print %sum, %scan, %gather, %join, %cat, %counts {prefix = "", style = "signed"}
  return
}
"""


def test_shapes() -> None:
    function = parse_function(SHAPES)
    verify(function)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    k = np.array([[3, 0, 0], [1, 1, 2]], np.int32)
    h, m = np.array([0, 1, 1, 3, 9, -1, 2, 2], np.int32), np.array([1, 1, 1, 1, 1, 1, 0, 1], np.bool_)
    (record,) = evaluate(function, (1,), [x, k, h, m], ArrayMemory())
    expected = [
        x.sum(1), x[:, ::-1].cumsum(1)[:, ::-1], np.take_along_axis(x, k, 1), x.T[:, ::-1], np.concatenate([x, x]),
        [1, 2, 1, 1],
    ]  # fmt: skip
    for value, wanted in zip(record.values, expected, strict=True):
        np.testing.assert_array_equal(value, wanted)
    with pytest.raises(KernelFault, match="gather index 4 is outside 0 to 3"):
        evaluate(function, (1,), [x, k + 1, h, m], ArrayMemory())


COLLATZ = """
func @collatz(%n: i32) {
  %zero = constant {value = 0} : i32
  %one = constant {value = 1} : i32
  %three = constant {value = 3} : i32
  %last, %steps = while %n, %zero : i32, i32 ({
    ^(%x: i32, %s: i32):
      %more = ne %x, %one : i1
      condition %more, %x, %s
  }, {
    ^(%x: i32, %s: i32):
      %bit = and %x, %one : i32
      %odd = eq %bit, %one : i1
      %next = if %odd : i32 ({
        %m = mul %x, %three : i32
        %u = add %m, %one : i32
        yield %u
      }, {
        %d = lshr %x, %one : i32
        yield %d
      })
      %t = add %s, %one : i32
      yield %next, %t
  })
  %sum = for %zero, %steps, %three, %zero {stages = 0} : i32 ({
    ^(%i: i32, %c: i32):
      %e = add %c, %i : i32
      yield %e
  })
  %good = slt %steps, %n : i1
  assert %good {message = "too long"}
  print %steps, %sum {prefix = "n", style = "signed"}
  return
}
"""


def test_control_flow() -> None:
    (record,) = run(COLLATZ, (1,), 27 * 8)
    assert record.prefix == "n"
    assert [int(value) for value in record.values] == [114, sum(range(0, 114, 3))]


def test_assertions() -> None:
    with pytest.raises(KernelFault, match="assertion failed: too long") as caught:
        run(COLLATZ, (1,), 27)
    assert caught.value.code == "E0305"


def test_grid_order() -> None:
    text = """func @grid() {
      %x = program_id {axis = 0} : i32
      %z = program_id {axis = 2} : i32
      %n = num_programs {axis = 1} : i32
      print %x, %z, %n {prefix = "", style = "signed"}
      return
    }"""
    records = run(text, (2, 3, 2))
    assert [record.program for record in records][:3] == [(0, 0, 0), (1, 0, 0), (0, 1, 0)]
    assert [tuple(map(int, record.values)) for record in records] == [
        (x, z, 3) for z in (0, 1) for _ in range(3) for x in (0, 1)
    ]


LOOK_UP = """
func @look_up(%x: ptr<i32>, %out: ptr<i32>, %first: i32, %count: i64) {
  %table = range {start = 10, end = 18} : tensor<8xi32>
  %range = range {start = 0, end = 4} : tensor<4xi32>
  %firsts = splat %first : tensor<4xi32>
  %index = add %range, %firsts : tensor<4xi32>
  %two = constant {value = 2} : tensor<4xi32>
  %mask = sle %range, %two : tensor<4xi1>
  %other = constant {value = -1} : tensor<4xi32>
  %found = look_up %table, %x, %index, %mask, %other, %count : tensor<4xi32>
  %outs = splat %out : tensor<4xptr<i32>>
  %places = addptr %outs, %range : tensor<4xptr<i32>>
  %all = constant {value = true} : tensor<4xi1>
  store %places, %found, %all
  return
}
"""


def test_look_up() -> None:
    x, out = np.zeros(8, np.int32), np.zeros(4, np.int32)
    run(LOOK_UP, (1,), x, out, 5, 8)
    np.testing.assert_array_equal(out, [15, 16, 17, -1])
    # Behind the end, and ahead of the begin.
    for first in (6, -1):
        with pytest.raises(KernelFault, match=r"access of 4 bytes at .* misses its array"):
            run(LOOK_UP, (1,), x, out, first, 8)
    with pytest.raises(KernelFault, match="misses its array"):
        run(LOOK_UP, (1,), x, out, 5, 7)


COLLECT = """
func @collect(%out: ptr<i32>, %least: i32) {
  %range = range {start = 5, end = 13} : tensor<8xi32>
  %leasts = splat %least : tensor<8xi32>
  %mask = sge %range, %leasts : tensor<8xi1>
  %found = collect %range, %mask : tensor<8xi32>
  %outs = splat %out : tensor<8xptr<i32>>
  %offsets = range {start = 0, end = 8} : tensor<8xi32>
  %places = addptr %outs, %offsets : tensor<8xptr<i32>>
  %all = constant {value = true} : tensor<8xi1>
  store %places, %found, %all
  return
}
"""


@pytest.mark.parametrize("least", [5, 10, 13])
def test_collect(least: int) -> None:
    out = np.full(8, 77, np.int32)
    run(COLLECT, (1,), out, least)
    chosen = [*range(least, 13)]
    np.testing.assert_array_equal(out, chosen + [0] * (8 - len(chosen)))
