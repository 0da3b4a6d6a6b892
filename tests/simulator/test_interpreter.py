"""The reference interpreter: hand-written programs against NumPy."""

from __future__ import annotations

import math
import zlib

import ml_dtypes
import numpy as np
import pytest

from mlutriton.diagnostics import KernelFault
from mlutriton.dtypes import I1
from mlutriton.isa.program import slot_dtype
from mlutriton.isa.table import TABLE, SlotKind, admitted
from mlutriton.isa.trace_format import FLAG_SRAM, Extent, Kind
from tests.simulator.interpreted import VECTOR_ADD, WEIGHTS, execute, launch, records

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


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


@pytest.mark.parametrize("reverse", [0, 1])
def test_half_precision_scans_round_each_result_once(reverse):
    x = np.array([2048, 1, 1, 1][:: 1 - 2 * reverse], np.float16)
    out = execute(f"scan.fadd.f16 [o], [x], 1, 4, 1, {reverse}", ["f16"] * 2, x, out=np.zeros(4, np.float16))
    np.testing.assert_array_equal(out[:: 1 - 2 * reverse], [2048, 2048, 2050, 2052])


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


def test_what_is_collected_stands_in_front_of_zeros():
    x, mask = np.array([5, 6, 7, 8, 9], np.float32), np.array([0, 1, 0, 2, 1], np.int8)
    out = execute("v.collect.f32 [o], [x], [y], 5", ["f32", "i8", "f32"], x, mask, out=floats(5))
    np.testing.assert_array_equal(out, [6, 8, 9, 0, 0])


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
    gatom.fadd.f32.i32 [old], g[r0], [i], 4, 10, [m], 4, 1, 1
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
    random_bytes = np.random.default_rng(zlib.crc32(row.name.encode())).bytes  # whatever tests have run before
    for dtypes in type_lists(row):
        suffix = "".join(f".{dtype}" for dtype in dtypes)
        slots = [
            (slot, slot_dtype(slot, dtypes)) for slot in row.slots if slot.kind in (SlotKind.TARGET, SlotKind.VECTOR)
        ]
        count, buffers, lines = 6, [], []
        data = [
            np.frombuffer(random_bytes(8 * count), np.uint8) & (1 if dtype is I1 else 255) for _, dtype in slots[1:]
        ]
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
