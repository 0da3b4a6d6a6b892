"""Positions of which each is one of two, as borders that are repeated or mirrored, are tiles."""

from collections import Counter

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.diagnostics import KernelFault
from mlutriton.ir.parser import parse_function
from mlutriton.ir.passes import chosen_positions
from mlutriton.ir.verifier import verify
from tests.kernels.engines import on_both_engines


@mlu.jit
def moved(out, x, count, low, high, shift, FORM: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if WIDE:
        i = i.to(tl.int64)
    j = i + shift
    if FORM == "edge":
        j = tl.minimum(tl.maximum(j, low), high)
    elif FORM == "chosen edge":
        j = tl.where(j > high, high, tl.where(j < low, low, j))
    elif FORM == "mirror":
        j = tl.where(j < low, 2 * low - j, j)
        j = tl.where(j > high, 2 * high - j, j)
    elif FORM == "distance":
        j = tl.abs(j)
    else:
        j = tl.where((j >= low) & (j <= high), j, low)
    other = tl.where(i % 2 == 0, -5.0, -6.0)
    tl.store(out + i, tl.load(x + j, mask=i < count, other=other))


def positions(form, j, low, high):
    if form == "mirror":
        j = np.where(j < low, 2 * low - j, j)
        return np.where(j > high, 2 * high - j, j)
    if form == "distance":
        return abs(j)
    return np.where((j >= low) & (j <= high), j, low) if form == "within" else np.clip(j, low, high)


@pytest.mark.parametrize("form", ["edge", "chosen edge", "mirror", "distance", "within"])
@pytest.mark.parametrize(
    ("count", "low", "high", "shift", "block"),
    [(1, 3, 3, 1, 16), (2, 0, 1, -1, 16), (3, 0, 2, 1, 2), (100, 0, 99, 3, 32), (61, 5, 40, -7, 64), (0, 0, 3, 1, 8)],
)
def test_each_element_comes_from_one_of_two_places(form, count, low, high, shift, block):
    x = np.random.default_rng(0).standard_normal(256, np.float32)
    programs = max(1, -(-count // block))
    place = np.arange(programs * block)
    chosen = positions(form, place + shift, low, high)
    out = np.empty(programs * block, np.float32)
    grid = (programs,)
    on_both_engines(lambda: moved[grid](out, x, count, low, high, shift, form, block, count > 64), out)
    other = np.where(place % 2 == 0, np.float32(-5), np.float32(-6))
    np.testing.assert_array_equal(out, np.where(place < count, x[chosen % 256], other))


@mlu.jit
def positions_elsewhere(out, x, count, high, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    j = tl.minimum(i + 1, high)
    tl.store(out + i, tl.load(x + j, mask=i < count, other=j))


@pytest.mark.parametrize("high", [0, 4, 14, 40])
@pytest.mark.parametrize("count", [0, 3, 9, 16])
def test_what_stands_for_others_is_of_the_position_that_was_chosen(high, count):
    x, place, out = np.arange(100, 150, dtype=np.int32), np.arange(16), np.zeros(16, np.int32)
    on_both_engines(lambda: positions_elsewhere[(1,)](out, x, count, high, 16), out)
    chosen = np.minimum(place + 1, high)
    np.testing.assert_array_equal(out, np.where(place < count, x[chosen], chosen))


def test_what_is_not_asked_for_is_no_fault_and_what_is_asked_for_is_one():
    x, out = np.arange(64, dtype=np.float32), np.empty(64, np.float32)
    # Of 64 elements the last is at 64 + 5, kept to the last one of the array; without that it is none.
    moved[(1,)](out, x, 64, 0, 63, 5, "edge", 64, False)
    np.testing.assert_array_equal(out, np.minimum(np.arange(64) + 5, 63))
    for count in (60, 64):
        if count == 60:
            moved[(1,)](out, x, count, 0, 64, 4, "edge", 64, False)
        else:
            with pytest.raises(KernelFault, match="E0301"):
                moved[(1,)](out, x, count, 0, 64, 4, "edge", 64, False)


@mlu.jit
def stencil(out, x, rows, columns, FAR: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr):
    row = tl.program_id(0) * B0 + tl.arange(0, B0)[:, None]
    column = tl.program_id(1) * B1 + tl.arange(0, B1)[None, :]
    mask = (row < rows) & (column < columns)
    total = tl.zeros([B0, B1], tl.float32)
    for down in tl.static_range(-FAR, FAR + 1):
        for right in tl.static_range(-FAR, FAR + 1):
            there = tl.minimum(tl.maximum(row + down, 0), rows - 1)
            place = there * columns + tl.minimum(tl.maximum(column + right, 0), columns - 1)
            total += tl.load(x + place, mask=mask, other=0.0) * (3 * down + right)
    tl.store(out + row * columns + column, total, mask=mask)


@mlu.jit
def stencil_of_rows(out, x, rows, columns, FAR: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    total = tl.zeros([BLOCK], tl.float32)
    for down in tl.static_range(-FAR, FAR + 1):
        there = tl.minimum(tl.maximum(row + down, 0), rows - 1)
        for right in tl.static_range(-FAR, FAR + 1):
            place = there * columns + tl.minimum(tl.maximum(column + right, 0), columns - 1)
            total += tl.load(x + place, mask=mask, other=0.0) * (3 * down + right)
    tl.store(out + row * columns + column, total, mask=mask)


def expected(x, far):
    rows, columns = x.shape
    wide, shifts = np.pad(x, far, mode="edge"), range(-far, far + 1)
    return sum(
        wide[far + down : far + down + rows, far + right : far + right + columns] * np.float32(3 * down + right)
        for down in shifts
        for right in shifts
    )


@pytest.mark.parametrize(
    ("rows", "columns", "far", "machine", "warps"),
    [
        (1, 1, 1, "mlu590-m9", 1),
        (2, 3, 1, "mlu370-x4", 4),
        (3, 2, 2, "mlu590-m9", 1),
        (37, 75, 1, "mlu590-m9", 4),
        (19, 64, 1, "mlu-tiny", 1),
    ],
    indirect=["machine"],
)
def test_stencils_repeat_what_is_at_the_border(rows, columns, far, machine, warps):
    x = np.random.default_rng(0).integers(-9, 9, (rows, columns)).astype(np.float32)
    out = np.full_like(x, 77)
    grid = -(-rows // 8), -(-columns // 32)
    on_both_engines(lambda: stencil[grid](out, x, rows, columns, far, 8, 32, num_warps=warps), out)
    np.testing.assert_array_equal(out, expected(x, far))
    on_both_engines(lambda: stencil_of_rows[(rows,)](out, x, rows, columns, far, 128, num_warps=warps), out)
    np.testing.assert_array_equal(out, expected(x, far))


def test_borders_are_no_elements_one_by_one():
    x = np.zeros((64, 64), np.float32)
    run = stencil[(4, 1)](np.empty_like(x), x, 64, 64, 1, 16, 64)
    assert run.cycles < run.machine.gather_item_cycles * 16 * 64


def test_chains_of_pointers_may_be_of_any_length():
    steps = 2000
    moves = "\n".join(f"  %p{i + 1} = addptr %p{i}, %ns : tensor<8xptr<f32>>" for i in range(steps))
    load = "  %v{0} = load %p{0}, %mask, %other : tensor<8xf32>\n  store %to, %v{0}, %mask\n"
    loads = load.format(steps) + load.format(steps - 1)
    function = parse_function(
        f"""func @f(%x: ptr<f32>, %out: ptr<f32>, %n: i32) {{
  %places = range {{start = 0, end = 8}} : tensor<8xi32>
  %mask = constant {{value = true}} : tensor<8xi1>
  %other = constant {{value = 0.0}} : tensor<8xf32>
  %ns = splat %n : tensor<8xi32>
  %kept = smin %places, %ns : tensor<8xi32>
  %xs = splat %x : tensor<8xptr<f32>>
  %to = splat %out : tensor<8xptr<f32>>
  %p0 = addptr %xs, %kept : tensor<8xptr<f32>>
{moves}
{loads}
  return
}}"""
    )
    chosen_positions.run(function)
    verify(function, "chosen_positions")
    names = Counter(each.name for each in function.walk())
    assert names["load"] == 4
    # What both loads are made of is made once.
    assert names["addptr"] == 3 * (steps + 1)


@mlu.jit
def side_by_side(out, a, b, many, count, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = tl.where(i < many, a + i, b + i - many)
    tl.store(out + i, tl.load(place, mask=i < count), mask=i < count)


@pytest.mark.parametrize("many", [0, 1, 63, 64, 700, 1000])
def test_two_arrays_beside_each_other_are_tiles(many):
    x = np.random.default_rng(0).standard_normal(1000, np.float32)
    a, b, out = x[: max(many, 1)].copy(), x[many:].copy(), np.empty_like(x)
    run = on_both_engines(lambda: side_by_side[(16,)](out, a, b if b.size else a, many, 1000, 64), out)
    np.testing.assert_array_equal(out, x)
    assert run.cycles < 16 * run.machine.gather_item_cycles * 64


@mlu.jit
def product(out, a, b, rows, columns, depth, B0: tl.constexpr, B1: tl.constexpr, B2: tl.constexpr):
    row = tl.program_id(0) * B0 + tl.arange(0, B0)
    column = tl.program_id(1) * B1 + tl.arange(0, B1)
    there, beside = tl.minimum(row, rows - 1)[:, None], tl.minimum(column, columns - 1)[None, :]
    total = tl.zeros([B0, B1], tl.float32)
    for k in range(0, depth, B2):
        along = k + tl.arange(0, B2)
        left, right = tl.load(a + there * depth + along[None, :]), tl.load(b + along[:, None] * columns + beside)
        total = tl.dot(left, right, total)
    tl.store(out + row[:, None] * (tl.num_programs(1) * B1) + column[None, :], total)


@pytest.mark.parametrize(("rows", "columns", "warps"), [(64, 64, 1), (50, 41, 1), (1, 3, 4), (90, 70, 4)])
def test_products_of_which_all_is_stored_repeat_their_last_rows_and_columns(rows, columns, warps):
    random = np.random.default_rng(0)
    a = random.integers(-4, 5, (rows, 64)).astype(np.float16)
    b = random.integers(-4, 5, (64, columns)).astype(np.float16)
    out = np.empty((-(-rows // 32) * 32, -(-columns // 32) * 32), np.float32)
    grid = out.shape[0] // 32, out.shape[1] // 32
    run = on_both_engines(lambda: product[grid](out, a, b, rows, columns, 64, 32, 32, 32, num_warps=warps), out)
    whole = a.astype(np.float32) @ b.astype(np.float32)
    kept = [np.minimum(np.arange(many), last - 1) for many, last in zip(out.shape, whole.shape, strict=True)]
    np.testing.assert_array_equal(out, whole[np.ix_(*kept)])
    assert run.cycles < 32 * 64 * run.machine.gather_item_cycles
