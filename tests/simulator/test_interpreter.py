"""The reference interpreter: hand-written programs against NumPy, every fault, and the trace."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutriton.diagnostics import KernelFault, Location, ProgramError
from mlutriton.dtypes import I1
from mlutriton.isa.assembly import assemble
from mlutriton.isa.machine import machine
from mlutriton.isa.program import slot_dtype
from mlutriton.isa.table import TABLE, SlotKind, admitted
from mlutriton.isa.trace_format import FLAG_SRAM, NO_COMPUTE, Extent, Kind, Record, unpack
from mlutriton.simulator.interpreter import run
from mlutriton.simulator.memory import DEVICE_START, Allocation, GlobalMemory

M9 = machine("mlu590-m9")
GAP, LATENCY, ISSUE = M9.vector_gap_cycles, M9.vector_latency_cycles, M9.issue_cycles


def launch(text, *arrays, grid=(1, 1, 1), scalars=(), **options):
    """Run a program whose first parameters are arrays."""
    names = [chr(ord("x") + index) for index in range(len(arrays))]
    memory = GlobalMemory([Allocation.of_array(name, array) for name, array in zip(names, arrays, strict=True)])
    parameters = [array.ctypes.data for array in arrays] + list(scalars)
    declared = "\n".join(f".param p{index} i64" for index in range(len(parameters)))
    program = assemble(f".program test\n.isa 592\n{declared}\n{text}", "test.mlu")
    return run(program, grid, parameters, memory, M9, **options)


def execute(body, dtype, *arrays, out, buffers=""):
    """Load arrays into buffers x, y, z, run the body, store buffer o into ``out``."""
    lines, offset = [".buffer o nram 0 65536", buffers], 65536
    for index, array in enumerate((*arrays, out)):
        lines.append(f"param r{index}, {index}")
        if index < len(arrays):
            lines.append(f".buffer {'xyz'[index]} nram {offset} 65536")
            lines.append(f"dma.load.{dtype[index]} [{'xyz'[index]}], g[r{index}], {array.size}, 1, 1, 0, 0, 0, 0")
            offset += 65536
    store = f"dma.store.{dtype[len(arrays)]} g[r{len(arrays)}], [o], {out.size}, 1, 1, 0, 0, 0, 0"
    launch("\n".join([*lines, "sync 1", body, "sync 7", store, "exit"]), *arrays, out)
    return out


def records(result, program=0):
    start, end = result.trace_starts[program : program + 2]
    return list(unpack(result.trace_words[start:end].tolist()))


RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# ---- values ---------------------------------------------------------------------------------------------------------

VECTOR_ADD = """
.buffer a nram 0 1024
.buffer b nram 1024 1024
    param r0, 0
    param r1, 1
    param r2, 2
    sreg  r3, 0
    mul.i64 r3, r3, 1024
    add.i64 r0, r0, r3
    add.i64 r1, r1, r3
    add.i64 r2, r2, r3
    dma.load.f32 [a], g[r0], 256, 1, 1, 0, 0, 0, 0
    dma.load.f32 [b], g[r1], 256, 1, 1, 0, 0, 0, 0
    sync 1
    v.fadd.f32 [a], [a], [b], 1, 256
    sync 4
    dma.store.f32 g[r2], [a], 256, 1, 1, 0, 0, 0, 0
    exit
"""


def test_vector_add():
    x, y, out = floats(1024), floats(1024), np.zeros(1024, np.float32)
    launch(VECTOR_ADD, x, y, out, grid=(4, 1, 1))
    np.testing.assert_array_equal(out, x + y)


def test_operands_by_rows_columns_and_scalars():
    x, y, out = floats(5, 7), floats(12), np.zeros((5, 7), np.float32)
    execute("v.fma.f32 [o], [x], row[y], col[y + 20], 5, 7", ["f32"] * 3, x, y, out=out)
    exact = x.astype(np.float64) * y[:5, None].astype(np.float64) + y[5:].astype(np.float64)
    np.testing.assert_allclose(out, exact, rtol=1e-6)


def test_a_chain_gives_what_its_steps_give():
    x, y = floats(3, 50), floats(3, 50)
    chain = "v.fmul.f32 ~, [x], [y], 3, 50\n v.fadd.f32 ~, ~, 1.5, 3, 50\n v.fneg.f32 [o], ~, 3, 50"
    out = execute(chain, ["f32"] * 3, x, y, out=np.zeros((3, 50), np.float32))
    np.testing.assert_array_equal(out, -(x * y + np.float32(1.5)))


def tree_sum(values):
    lanes = np.full(32, -0.0, np.float32)
    for k, value in enumerate(values):
        lanes[k % 32] += value
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return lanes[0]


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 100])
def test_row_reduction_has_the_architectural_order(n):
    x = floats(3, n)
    out = execute(f"red.fadd.f32 [o], [x], 3, {n}, 1", ["f32"] * 2, x, out=np.zeros(3, np.float32))
    np.testing.assert_array_equal(out, [tree_sum(row) for row in x])


def test_column_reduction_goes_from_first_to_last():
    x = floats(2, 9, 5)
    out = execute("red.fadd.f32 [o], [x], 2, 9, 5", ["f32"] * 2, x, out=np.zeros((2, 5), np.float32))
    expected = x[:, 0].copy()
    for k in range(1, 9):
        expected += x[:, k]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("operation", "values", "result"), [("fadd", [2048, 1, 1, 1], 2052), ("fmul", [2048, 64, 2**-9, 1], 256)]
)
@pytest.mark.parametrize("inner", [1, 2])
def test_half_precision_sums_and_products_round_once(operation, values, result, inner):
    x = np.array(values, np.float16).reshape(4, 1) * np.ones((1, inner), np.float16)
    out = execute(f"red.{operation}.f16 [o], [x], 1, 4, {inner}", ["f16"] * 2, x, out=np.zeros(inner, np.float16))
    np.testing.assert_array_equal(out, np.full(inner, result))


@pytest.mark.parametrize(
    ("name", "dtype", "reference"),
    [
        ("fmax", "f32", np.fmax), ("fmin", "f32", np.fmin), ("fmaximum", "f32", np.maximum),
        ("fminimum", "f32", np.minimum), ("fmul", "f32", np.multiply), ("add", "i32", np.add),
        ("mul", "i32", np.multiply),
        ("smax", "i32", np.maximum), ("smin", "i32", np.minimum), ("and", "i32", np.bitwise_and),
        ("or", "i32", np.bitwise_or), ("xor", "i32", np.bitwise_xor),
    ],
)  # fmt: skip
def test_reductions(name, dtype, reference):
    x = floats(4, 70) if dtype == "f32" else RNG.integers(-(2**31), 2**31, (4, 70)).astype(np.int32)
    if dtype == "f32":
        x[1, 5] = math.nan
    out = execute(f"red.{name}.{dtype} [o], [x], 4, 70, 1", [dtype] * 2, x, out=np.zeros(4, x.dtype))
    expected = reference.reduce(x, axis=1, dtype=x.dtype)
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_unsigned_reductions_of_an_empty_lane():
    x = np.array([[-5, 3, 7]], np.int32)
    out = execute("red.umin.i32 [o], [x], 1, 3, 1", ["i32"] * 2, x, out=np.zeros(1, np.int32))
    assert out[0] == 3
    out = execute("red.umax.i32 [o], [x], 1, 3, 1", ["i32"] * 2, x, out=np.zeros(1, np.int32))
    assert out[0] == -5


def test_argmax_takes_the_first_place_and_nan():
    x = np.array([[1, 3, 3, 2], [1, math.nan, 5, math.nan]], np.float32)
    body = "red.argmax.f32 [v], [o], [x], 2, 4, 1"
    out = execute(body, ["f32", "i32"], x, out=np.zeros(2, np.int32), buffers=".buffer v nram 300000 64")
    np.testing.assert_array_equal(out, [1, 1])
    body = "red.argmin.bf16 [v], [o], [x], 1, 4, 2"
    y = np.array([[4, 1], [2, 9], [2, 1], [3, 0]], ml_dtypes.bfloat16)
    out = execute(body, ["bf16", "i32"], y, out=np.zeros(2, np.int32), buffers=".buffer v nram 300000 64")
    np.testing.assert_array_equal(out, [1, 3])


@pytest.mark.parametrize("reverse", [0, 1])
def test_scan(reverse):
    x = RNG.integers(-100, 100, (3, 11, 2)).astype(np.int32)
    out = execute(f"scan.add.i32 [o], [x], 3, 11, 2, {reverse}", ["i32"] * 2, x, out=np.zeros_like(x))
    expected = x[:, ::-1].cumsum(axis=1)[:, ::-1] if reverse else x.cumsum(axis=1)
    np.testing.assert_array_equal(out, expected)


def test_rearrangements():
    x = floats(2, 3, 4, 5)
    out = execute("v.transpose.f32 [o], [x], 2, 3, 4, 5", ["f32"] * 2, x, out=np.zeros(120, np.float32))
    np.testing.assert_array_equal(out, x.transpose(0, 2, 1, 3).ravel())
    out = execute("v.repeat.f32 [o], [x], 2, 3, 60", ["f32"] * 2, x, out=np.zeros((2, 3, 60), np.float32))
    np.testing.assert_array_equal(out, np.repeat(x.reshape(2, 1, 60), 3, axis=1))
    index = RNG.integers(0, 12, (2, 6, 5))
    out = execute("v.gather.f32.i64 [o], [x], [y], 2, 6, 5, 12", ["f32", "i64", "f32"], x, index, out=floats(2, 6, 5))
    np.testing.assert_array_equal(out, np.take_along_axis(x.reshape(2, 12, 5), index, axis=1))
    out = execute("v.iota.i16 [o], -3, 7, 10", ["i16"], out=np.zeros(10, np.int16))
    np.testing.assert_array_equal(out, -3 + 7 * np.arange(10))


def test_histogram_leaves_out_what_no_bin_holds():
    x = np.array([0, 1, 1, -1, 3, 4, 1], np.int32)
    mask = np.array([1, 1, 0, 1, 1, 1, 1], np.int8)
    out = execute("v.histogram.i32 [o], [x], [y], 7, 4", ["i32", "i8", "i32"], x, mask, out=np.zeros(4, np.int32))
    np.testing.assert_array_equal(out, [1, 2, 0, 1])


WEIGHTS = ".buffer w wram 0 65536\n"


def matrix_program(dtype, accumulated, rows, columns, depth, strides):
    return f"""
    .buffer a nram 0 65536
    .buffer c nram 65536 65536
    {WEIGHTS}
    param r0, 0
    param r1, 1
    param r2, 2
    dma.load.{dtype} [a], g[r0], {depth}, {rows}, 1, {depth + 3}, 0, {depth}, 0
    dma.weight.{dtype} [w], g[r1], {depth}, {columns}, {depth}, {columns}, 0, {strides}, 0
    dma.load.{accumulated} [c], g[r2], {rows * columns}, 1, 1, 0, 0, 0, 0
    sync 1
    mm.{dtype}.{accumulated} [c], [a], [w], {rows}, {columns}, {depth}, {depth + 3}, 1
    sync 4
    dma.store.{accumulated} g[r2], [c], {rows * columns}, 1, 1, 0, 0, 0, 0
    exit
    """


@pytest.mark.parametrize("transposed", [False, True])
def test_matrix_product(transposed):
    rows, columns, depth = 5, 70, 33
    a, b, c = floats(rows, depth), floats(depth, columns), floats(rows, columns)
    weight = np.ascontiguousarray(b.T) if transposed else b
    expected = c.astype(np.float64) + a.astype(np.float64) @ b.astype(np.float64)
    strides = f"1, {depth}" if transposed else f"{columns}, 1"
    launch(matrix_program("f32", "f32", rows, columns, depth, strides), a, weight, c)
    np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-5)


def test_integer_matrix_product_wraps():
    a, b = (RNG.integers(-128, 128, shape).astype(np.int8) for shape in ((3, 40), (40, 65)))
    c = np.full((3, 65), 2**31 - 1, np.int32)
    expected = (c.astype(np.int64) + a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    launch(matrix_program("i8", "i32", 3, 65, 40, "65, 1"), a, b, c)
    np.testing.assert_array_equal(c, expected)


def test_matrix_product_is_one_chain_of_fused_operations():
    a, b = np.array([[1 + 2**-12, -1]], np.float32), np.array([[1 + 2**-12], [1 + 2**-11]], np.float32)
    c = np.zeros((1, 1), np.float32)
    launch(matrix_program("f32", "f32", 1, 1, 2, "1, 1"), a, b, c)
    rounded = np.float32((1 + 2**-12) ** 2)
    assert c[0, 0] == rounded - np.float32(1 + 2**-11)


def test_weights_come_in_parts_and_moves():
    b = floats(4, 100)
    out = np.zeros((4, 100), np.float32)
    text = f"""
    .buffer t nram 0 4096
    .buffer e nram 4096 4096
    .buffer o nram 8192 4096
    {WEIGHTS}
    param r0, 0
    param r1, 1
    dma.weight.f32 [w], g[r0], 4, 64, 4, 64, 0, 100, 1, 0
    dma.weight.f32 [w], g[r0 + 256], 4, 36, 3, 30, 64, 100, 1, 2.0
    v.mov.f32 [e], 0, 1, 16
    v.mov.f32 [e], 1, 1, 1
    v.mov.f32 [e + 20], 1, 1, 1
    v.mov.f32 [e + 40], 1, 1, 1
    v.mov.f32 [e + 60], 1, 1, 1
    sync 1
    mm.f32.f32 [o], [e], [w], 4, 100, 4, 4, 0
    sync 4
    dma.store.f32 g[r1], [o], 400, 1, 1, 0, 0, 0, 0
    exit
    """
    launch(text, b, out)
    expected = b.copy()
    expected[3, 64:] = expected[:, 94:] = 2
    np.testing.assert_array_equal(out, expected)


def test_strided_and_padded_transfers():
    x, out = np.arange(24, dtype=np.int32).reshape(4, 6), np.zeros((2, 3, 4), np.int32)
    text = """
    .buffer a nram 0 1024
    .buffer b sram 0 1024
    param r0, 0
    param r1, 1
    dma.load_pad.i32 [b], g[r0 + 72], 4, 3, 2, 0, 0, 0, 2, 9, 1, -6, 0, -1
    sync 1
    move.i32 [a], [b], 4, 6, 4, 4
    sync 2
    dma.store.i32 g[r1], [a], 4, 3, 2, 4, 12, 4, 12
    exit
    """
    result = launch(text, x, out)
    expected = np.full((2, 3, 4), -1)
    expected[0, :, :2] = x[[3, 2, 1], :2]
    np.testing.assert_array_equal(out, expected)
    load, *_ = records(result)
    assert (load.kind, load.amount, load.flags) == (Kind.LOAD, 24, FLAG_SRAM)
    assert load.extent == Extent(8, 3, -24)


def test_gather_scatter_and_atomics():
    x, offsets = floats(50), np.array([3, 49, 3, 7], np.int32)
    out = np.zeros(8, np.float32)
    text = """
    .buffer i nram 0 64
    .buffer v nram 64 64
    .buffer old nram 128 64
    .buffer m nram 192 64
    param r0, 0
    param r1, 1
    param r2, 2
    dma.load.i32 [i], g[r1], 4, 1, 1, 0, 0, 0, 0
    v.mov.i1 [m], 1, 1, 4
    v.mov.i1 [m + 3], 0, 1, 1
    v.mov.f32 [old], -1, 1, 4
    sync 5
    gather.f32.i32 [v], g[r0], [i], 4, [m], 9, 4, 1, 1
    dma.store.f32 g[r2], [v], 4, 1, 1, 0, 0, 0, 0
    gatom.fadd.f32.i32 [old], g[r0], [i], 4, 10, [m], 4
    dma.store.f32 g[r2 + 16], [old], 4, 1, 1, 0, 0, 0, 0
    v.mov.i1 [m], 0, 1, 2
    exit
    """
    before = x.copy()
    with pytest.raises(KernelFault, match="E0303"):
        launch(text, x, offsets, out)
    x[:] = before
    result = launch(text.replace("v.mov.i1 [m], 0, 1, 2", ""), x, offsets, out)
    ten = np.float32(10)
    np.testing.assert_array_equal(out, [*before[[3, 49, 3]], 9, before[3], before[49], before[3] + ten, -1])
    assert x[3] == before[3] + ten + ten
    assert x[7] == before[7]
    kinds = [(record.kind, record.amount, record.address) for record in records(result)]
    assert (Kind.GATHER, 4, 4) in kinds
    assert (Kind.ATOMIC_VECTOR, 4, 4) in kinds


def test_scatter_keeps_the_last():
    out = np.zeros(4, np.int32)
    text = """
    .buffer i nram 0 64
    .buffer v nram 64 64
    param r0, 0
    v.iota.i64 [i], 0, 0, 3
    v.iota.i32 [v], 5, 1, 3
    sync 4
    scatter.i32.i64 g[r0 + 4], [v], [i], 4, 1, 3, 1, 1
    exit
    """
    launch(text, out)
    np.testing.assert_array_equal(out, [0, 7, 0, 0])


@pytest.mark.parametrize(("valid", "loaded"), [(0, 0), (2, 2), (3, 3), (5, 3)])
def test_gather_and_scatter_of_rows(valid: int, loaded: int):
    x, offsets = np.arange(40, dtype=np.int16).reshape(8, 5), np.array([6, 1, 6, 0], np.int32)
    gathered, scattered = np.zeros((4, 3), np.int16), np.zeros((8, 5), np.int16)
    text = f"""
    .buffer i nram 0 64
    .buffer v nram 64 64
    .buffer m nram 128 64
    .buffer f nram 192 64
    param r0, 0
    param r1, 1
    param r2, 2
    param r3, 3
    dma.load.i32 [i], g[r1], 4, 1, 1, 0, 0, 0, 0
    v.mov.i1 [m], 1, 1, 4
    v.mov.i1 [m + 1], 0, 1, 1
    v.iota.i16 [f], -4, 1, 4
    sync 5
    gather.i16.i32 [v], g[r0], [i], 10, [m], [f], 4, 3, {valid}
    dma.store.i16 g[r2], [v], 12, 1, 1, 0, 0, 0, 0
    scatter.i16.i32 g[r3 + 2], [v], [i], 10, [m], 4, 3, {valid}
    exit
    """
    result = launch(text, x, offsets, gathered, scattered)
    expected = np.repeat(np.arange(-4, 0), 3).reshape(4, 3)
    expected[[0, 2, 3], :loaded] = x[[6, 6, 0], :loaded]
    np.testing.assert_array_equal(gathered, expected)
    expected = np.zeros((8, 5))
    expected[[6, 0], 1 : 1 + loaded] = x[[6, 0], :loaded]
    np.testing.assert_array_equal(scattered, expected)
    items = [(record.kind, record.amount, record.address) for record in records(result) if record.amount == 4]
    assert items == [(Kind.GATHER, 4, 2 * loaded), (Kind.SCATTER, 4, 2 * loaded)]


def test_scalar_code_loops_and_prints():
    x = np.array([5, 6, 7], np.int32)
    text = """
    .string 0 "sum"
    .string 1 "3x1"
    .buffer a nram 0 64
    param r0, 0
    param r3, 1
    mov.i64 r1, 0
    mov.i32 r2, 0
    loop:
    ldg.i32 r4, g[r0]
    add.i32 r2, r2, r4
    add.i64 r0, r0, 4
    add.i64 r1, r1, 1
    slt.i64 r5, r1, r3
    cbr r5, loop
    print.scalar.i32 0, 0, r2
    sts.f16 [a], 2.5
    sts.f16 [a + 2], -0.0
    lds.f16 r6, [a]
    fmul.f16 r6, r6, 2
    sts.f16 [a + 4], r6
    print.vector.f16 0, 0, 1, [a], 3
    atom.smax.i32 r7, g[r0 + -4], 100
    atom.cas.i32 r8, g[r0 + -8], 6, -6
    print.scalar.i32 0, 0, r7
    exit
    """
    result = launch(text, x, scalars=(3,), grid=(1, 1, 1))
    np.testing.assert_array_equal(x, [5, -6, 100])
    assert [(each.program, each.message, each.values.tolist()) for each in result.prints] == [
        ((0, 0, 0), "sum", 18),
        ((0, 0, 0), "sum", [[2.5], [-0.0], [5.0]]),
        ((0, 0, 0), "sum", 7),
    ]


def test_special_registers_number_programs_x_first():
    out, next_row = np.zeros((24, 6), np.int64), np.zeros(1, np.int64)
    stores = "\n".join(f"sreg r{k + 2}, {k}\n stg.i64 g[r1 + {8 * k}], r{k + 2}" for k in range(6))
    text = f"""
    param r0, 1
    param r1, 0
    atom.add.i64 r0, g[r0], 48
    add.i64 r1, r1, r0
    {stores}
    exit
    """
    launch(text, out, next_row, grid=(4, 3, 2))
    programs = [(x, y, z, 4, 3, 2) for z in range(2) for y in range(3) for x in range(4)]
    np.testing.assert_array_equal(out, programs)


def test_nothing_happens_where_an_extent_is_zero():
    out = np.full(8, 7, np.int32)
    text = """
    .buffer a nram 0 64
    param r0, 0
    mov.i64 r1, -3
    v.mov.i32 [a], [a], r1, 8
    red.add.i32 [a], [a], 0, 8, 1
    dma.store.i32 g[r0], [a], 0, 1, 1, 0, 0, 0, 0
    exit
    """
    result = launch(text, out)
    assert out.tolist() == [7] * 8
    assert [record.kind for record in records(result)] == [Kind.END]


def type_lists(row):
    lists = [()]
    for kinds in row.types:
        lists = [(*dtypes, dtype) for dtypes in lists for dtype in admitted(kinds)]
    return [
        dtypes for dtypes in lists if row.admits(dtypes) and not any(dtype.name.startswith("f8") for dtype in dtypes)
    ]


VECTOR_ROWS = [row for row in TABLE.values() if row.is_elementwise]


@pytest.mark.parametrize("row", VECTOR_ROWS, ids=lambda row: row.name)
def test_scalar_and_vector_instructions_agree(row):
    for dtypes in type_lists(row):
        suffix = "".join(f".{dtype}" for dtype in dtypes)
        slots = [
            (slot, slot_dtype(slot, dtypes)) for slot in row.slots if slot.kind in (SlotKind.TARGET, SlotKind.VECTOR)
        ]
        count, buffers, lines = 6, [], []
        data = [np.frombuffer(RNG.bytes(8 * count), np.uint8) & (1 if dtype is I1 else 255) for _, dtype in slots[1:]]
        for index, (slot, dtype) in enumerate(slots):
            buffers.append(f".buffer {slot.name} nram {64 * index} 64")
            if index:
                lines += [f"param r0, {index - 1}", f"dma.load.{dtype} [{slot.name}], g[r0], {count}, 1, 1, 0, 0, 0, 0"]
        names = ", ".join(f"[{slot.name}]" for slot, _ in slots)
        lines += ["sync 1", f"{row.name}{suffix} {names}, 1, {count}", "sync 4"]
        target = slots[0][1]
        out = np.zeros((2, 8 * count), np.uint8)
        lines += [f"param r0, {len(data)}", f"dma.store.{target} g[r0], [dst], {count}, 1, 1, 0, 0, 0, 0"]
        for k in range(count):
            registers = [f"r{index}" for index in range(1, len(slots))]
            lines += [
                f"lds.{dtype} {register}, [{slot.name} + {k * dtype.bytes}]"
                for register, (slot, dtype) in zip(registers, slots[1:], strict=True)
            ]
            lines += [
                f"{row.name.removeprefix('v.')}{suffix} r9, {', '.join(registers)}",
                f"stg.{target} g[r0 + {out.shape[1] + k * target.bytes}], r9",
            ]
        launch("\n".join([*buffers, *lines, "exit"]), *data, out)
        by_vector, by_scalar = out[:, : count * target.bytes].copy().view(target.numpy)
        if target.is_float:  # NumPy does not know that a bfloat16 can be NaN, and warns of signalling ones
            with np.errstate(invalid="ignore"):
                by_vector, by_scalar = by_vector.astype(np.float64), by_scalar.astype(np.float64)
        np.testing.assert_array_equal(by_vector, by_scalar, err_msg=suffix)


# ---- faults ---------------------------------------------------------------------------------------------------------

FAULTS = {
    "E0301 load": ("dma.load.f32 [a], g[r0 + 64], 256, 1, 1, 0, 0, 0, 0", "1024 bytes .* misses every"),
    "E0301 box": ("dma.load.f32 [a], g[r0], 2, 2, 1, 2, 0, -2, 0", "misses every registered array"),
    "E0301 scalar": ("ldg.f32 r1, g[r0 + 1024]", "load of 4 bytes"),
    "E0301 nowhere": ("stg.f32 g[r9], 1", "store of 4 bytes at 0x0"),
    "E0301 gather": ("gather.f32.i32 [a], g[r0], [i], 512, 1, 0, 4, 1, 1", "misses"),
    "E0301 row": ("gather.f32.i32 [a], g[r0], [i], 3, 1, 0, 1, 65, 65", "load of 260 bytes"),
    "E0302 vector": ("v.fadd.f32 [a], [a], 1, 1, 8", "a reads byte 0 of NRAM, which nothing has written"),
    "E0302 part": ("v.mov.f32 [a], 0, 1, 8\n v.fneg.f32 [b], [a], 1, 9", "byte 32 of NRAM"),
    "E0302 weights": ("mm.f32.f32 [a], [i], [w], 1, 1, 1, 1, 0", "w reads byte 0 of WRAM"),
    "E0303 load": ("dma.load.f32 [a], g[r0], 8, 1, 1, 0, 0, 0, 0\n v.fneg.f32 [b], [a], 1, 8", "IO queue (.|\n)*sync"),
    "E0303 store": ("v.mov.f32 [a], 0, 1, 8\n dma.store.f32 g[r0], [a], 8, 1, 1, 0, 0, 0, 0", "COMPUTE queue"),
    "E0303 overwrite": ("dma.store.f32 g[r0], [i], 4, 1, 1, 0, 0, 0, 0\n v.mov.f32 [i], 0, 1, 4", "IO queue"),
    "E0303 scalar": ("v.mov.f32 [a], 0, 1, 8\n lds.f32 r1, [a]", "COMPUTE queue"),
    "E0303 scalar store": ("v.fneg.f32 [a], [i], 1, 4\n sts.f32 [i], 0", "COMPUTE queue"),
    "E0303 other sync": ("v.mov.f32 [a], 0, 1, 8\n sync 3\n lds.f32 r1, [a]", "COMPUTE queue"),
    "E0303 move": ("move.f32 [s], [i], 4, 1, 0, 0\n v.mov.f32 [i], 0, 1, 4", "MOVE queue"),
    "E0304 register": ("mov.i64 r1, 4092\n v.mov.f32 [a + r1], 0, 1, 2", "bytes 4092 to 4100 of buffer a, which"),
    "E0304 negative": ("mov.i64 r1, -4\n v.mov.f32 [a + r1], 0, 1, 2", "bytes -4 to 4 of buffer a"),
    "E0304 count": ("mov.i64 r1, 1025\n v.mov.f32 [a], 0, 1, r1", "bytes 0 to 4100"),
    "E0304 index": ("v.gather.i32.i32 [a], [i], [i], 1, 4, 1, 1", "index 256 is outside 0 to 0"),
    "E0305 assert": ("assert 0, 0", "assertion failed: n is positive"),
    "E0307 read-only": ("stg.f32 g[r2], 1", "read-only(.|\n)*pass a writable array for y"),
    "E0309 overlap": ("mov.i64 r1, 4\n v.fneg.f32 [i], [i + r1], 1, 2", "dst .* overlaps a"),
    "E0310 limit": ("loop: cbr 1, loop", "has not ended"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_say_what_and_where(body, message, request):
    code = request.node.callspec.id.split()[0]
    x, constant = np.zeros(256, np.float32), np.zeros(4, np.float32)
    constant.flags.writeable = False
    text = f"""
    .buffer a nram 0 4096
    .buffer b nram 4096 4096
    .buffer i nram 8192 4096 "kernel.py":3
    .buffer s sram 0 4096
    .buffer w wram 0 4096
    .string 0 "n is positive"
    .registers 10
    param r0, 0
    param r2, 1
    v.iota.i32 [i], 256, 0, 512
    sync 4
    .loc "kernel.py" 12 7
    {body}
    exit
    """
    with pytest.raises(KernelFault, match=message) as caught:
        launch(text, x, constant, grid=(1, 2, 1), step_limit=1000)
    fault = caught.value
    assert fault.code == code
    assert fault.location == Location("kernel.py", 12, 7)
    assert fault.context == "test, program (0, 0, 0)"
    assert "instruction" in fault.note


def test_reads_of_two_queues_are_no_race():
    x = np.zeros(4, np.float32)
    body = """
    .buffer a nram 0 64
    .buffer b nram 64 64
    param r0, 0
    v.mov.f32 [a], 1, 1, 4
    sync 4
    dma.store.f32 g[r0], [a], 4, 1, 1, 0, 0, 0, 0
    v.fneg.f32 [b], [a], 1, 4
    exit
    """
    launch(body, x)
    assert x.tolist() == [1] * 4


def test_illegal_programs_do_not_run():
    with pytest.raises(ProgramError, match="E0402"):
        launch(".buffer a nram 0 4\n v.mov.f32 [a], 0, 1, 2\n exit")


# ---- clusters -------------------------------------------------------------------------------------------------------

CLUSTER = """
.cores 4
.buffer s sram 0 64
.buffer a nram 0 64
    param r0, 0
    sreg  r1, 6
    mul.i64 r2, r1, 8
    sts.i64 [a], r1
    move.i64 [s + r2], [a], 1, 1, 0, 0
    barrier.cluster
    sub.i64 r3, 24, r2
    dma.store.i64 g[r0 + 0], [s + r3], 1, 1, 1, 0, 0, 0, 0
    exit
"""


def test_cores_of_a_cluster_share_sram():
    out = np.zeros(4, np.int64)
    result = launch(CLUSTER.replace("dma.store", "add.i64 r0, r0, r2\n    dma.store"), out)
    assert out.tolist() == [3, 2, 1, 0]
    assert len(result.trace_starts) == 5
    assert [record.kind for record in records(result, 3)] == [Kind.MOVE, Kind.BARRIER_CLUSTER, Kind.STORE, Kind.END]


def test_a_barrier_that_not_all_reach_is_a_fault():
    text = CLUSTER.replace("barrier.cluster", "eq.i64 r5, r1, 0\n cbr r5, end\n barrier.cluster").replace(
        "exit", "end: exit"
    )
    with pytest.raises(KernelFault, match="E0306"):
        launch(text, np.zeros(4, np.int64))


# ---- trace ----------------------------------------------------------------------------------------------------------


def test_trace_of_vector_add():
    arrays = [np.zeros(256, np.float32) for _ in range(3)]
    result = launch(VECTOR_ADD, *arrays)
    integer = M9.scalar_integer_cycles
    assert records(result) == [
        Record(Kind.LOAD, 1024, DEVICE_START, scalar_cycles=8 * integer + ISSUE, instruction=8),
        Record(Kind.LOAD, 1024, DEVICE_START + (1 << 14), scalar_cycles=ISSUE, instruction=9),
        Record(Kind.SYNC, 1, scalar_cycles=ISSUE, instruction=10),
        Record(
            Kind.SYNC, 4, scalar_cycles=2 * ISSUE, compute_cycles=8 + GAP, compute_head=ISSUE + 8 + GAP, instruction=12
        ),
        Record(Kind.STORE, 1024, DEVICE_START + (2 << 14), scalar_cycles=ISSUE, instruction=13),
        Record(Kind.END, scalar_cycles=ISSUE, instruction=14),
    ]


FILL = "v.mov.f32 [a], 0, 1, 1024\n"


@pytest.mark.parametrize(
    ("body", "occupancies", "waits"),
    [
        ("", 0, 0),
        ("v.mov.f32 [b], 0, 1, 1024", 32, GAP),
        ("v.fneg.f32 [b], [a], 1, 32", 1, LATENCY),
        ("v.fneg.f32 [b], [a + 128], 1, 32\n v.fneg.f32 [c], [a], 1, 32", 2, LATENCY + GAP),
        ("v.mov.f32 [b], 0, 1, 32\n v.fneg.f32 [a], [b + 64], 1, 16", 2, GAP + LATENCY),
        ("sync 4\n v.fneg.f32 [b], [a], 1, 32", 1, LATENCY),
        (
            "v.fmul.f32 ~, [a], 2, 1, 1024\n v.fadd.f32 ~, ~, [a], 1, 1024\n v.fpcast.f32.f16 [b], ~, 1, 1024",
            32,
            LATENCY,
        ),
    ],
)
def test_the_interlock(body, occupancies, waits):
    text = f".buffer a nram 0 4096\n.buffer b nram 4096 4096\n.buffer c nram 8192 4096\n{FILL}{body}\nexit"
    found = records(launch(text, np.zeros(1, np.float32)))
    assert sum(record.compute_cycles for record in found) == 32 + GAP + occupancies + waits


def test_accumulators_are_chained():
    x = np.zeros(64, np.float32)
    text = f"""
    .buffer a nram 0 4096
    .buffer c nram 4096 4096
    {WEIGHTS}
    param r0, 0
    dma.weight.f32 [w], g[r0], 1, 64, 1, 64, 0, 64, 1, 0
    sync 1
    v.mov.f32 [a], 1, 1, 1
    mm.f32.f32 [c], [a], [w], 1, 64, 1, 1, 0
    mm.f32.f32 [c], [a], [w], 1, 64, 1, 1, 1
    mm.f32.f32 [c + 1024], [c], [w], 1, 64, 1, 1, 0
    exit
    """
    result = launch(text, x)
    product = M9.tensor_fill_cycles + 64 * 16 // M9.mac_per_cycle_f32
    assert records(result)[-1].compute_cycles == 1 + 3 * product + GAP + LATENCY + GAP + LATENCY


def test_the_head_of_a_fold_is_the_latest_issue():
    result = launch(".buffer a nram 0 4096\n" + "v.mov.f32 [a], 0, 1, 32\n mov.i32 r0, 1\n" * 3 + "exit")
    (record,) = records(result)
    integer, one = M9.scalar_integer_cycles, 1 + GAP
    assert record.scalar_cycles == 4 * ISSUE + 3 * integer
    assert record.compute_cycles == 3 * one
    assert record.compute_head == max(k * (ISSUE + integer) + ISSUE + (3 - k) * one for k in range(3))
    assert records(launch("exit"))[0].compute_head == NO_COMPUTE


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_views_of_one_array_form_one_region():
    base = np.zeros(100, np.float64)
    frozen = base[40:60]
    frozen.flags.writeable = False
    memory = GlobalMemory([Allocation.of_array("y", np.zeros(3)), Allocation.of_array("a", frozen),
                           Allocation.of_array("b", base[50:][::-1])])  # fmt: skip
    start = base.ctypes.data
    regions = {tuple(row) for row in memory.table.tolist()}
    assert (start + 320, start + 800, 1, DEVICE_START + (1 << 14)) in regions
    assert memory.view(start + 470, 20, write=True) is not None
    assert memory.view(start + 312, 8, write=False) is None
    assert memory.view(start + 796, 8, write=False) is None
    assert memory.device_address(start + 328) == DEVICE_START + (1 << 14) + 8
    assert memory.nearest(start + 312).name == "a"
    assert memory.nearest(start + 10**6).name in ("b", "y")


def test_memory_without_arrays():
    memory = GlobalMemory([Allocation.of_array("empty", np.zeros((0, 4)))])
    assert memory.table.shape == (0, 4)
    assert memory.view(0, 1, write=False) is None
    assert "every array that was passed is empty" in str(memory.fault(0, 1, "load"))
    assert "no array was passed" in str(GlobalMemory().fault(0, 1, "load"))


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 200), st.booleans()), max_size=8), st.integers(0, 1200))
@settings(max_examples=200)
def test_regions_cover_exactly_the_allocations(pieces, address):
    allocations = [Allocation(f"a{k}", start, size, write) for k, (start, size, write) in enumerate(pieces)]
    table = GlobalMemory(allocations).table
    covered = any(each.address <= address < each.end for each in allocations)
    assert covered == any(start <= address < end for start, end, _, _ in table)
    assert (table[:-1, 1] <= table[1:, 0]).all()
    devices = sorted((device, device + end - start) for start, end, _, device in table)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(devices))
