"""Accesses to neighbours, or neighbouring halves, the other way round."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines


@mlu.jit
def swapped(
    y, x, rows, columns, stride, WAY: tl.constexpr, MASK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """Rows with their elements in another order; WAY tells how it is written, MASK under which condition they are."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    i = tl.arange(0, BLOCK)
    j = i
    if WAY == "where":
        j = tl.where(i % 2 == 0, i + 1, i - 1)
    elif WAY == "arithmetic":
        j = i + (i + 1) % 2 * 2 - 1
    elif WAY == "xor 1":
        j = i ^ 1
    elif WAY == "xor 4":
        j = i ^ 4
    elif WAY == "halves":
        j = tl.where(i < BLOCK // 2, i + BLOCK // 2, i - BLOCK // 2)
    elif WAY == "both":  # two swaps at once are none of these
        j = i ^ 5
    elif WAY == "backwards":
        j = BLOCK - 1 - i
    elif WAY == "from a launch":
        j = i ^ (columns & 1)
    i, j = i[None, :], j[None, :]
    inside = row < rows
    if MASK == "where it lies":
        inside = inside & (j < columns)
    elif MASK == "where it goes":
        inside = inside & (i < columns)
    elif MASK == "all":
        inside = inside & (j < BLOCK)
    value = tl.load(x + row * stride + j, mask=inside, other=-1)
    twice = tl.load(x + row * stride + i, mask=(row < rows) & (i < columns), other=0)
    tl.store(y + row * stride + i, value * 1000 + twice, mask=row < rows)


def order_of(way, block, columns):
    i = np.arange(block)
    ways = {"xor 4": i ^ 4, "halves": i ^ (block // 2), "both": i ^ 5, "backwards": i[::-1]}
    return ways.get(way, i ^ (columns & 1) if way == "from a launch" else i ^ 1)


WAYS = ["where", "arithmetic", "xor 1", "xor 4", "halves", "both", "backwards", "from a launch"]


@pairs_of(
    ("way", WAYS),
    ("mask", ["where it lies", "where it goes", "all"]),
    ("columns", [32, 20, 13]),
    ("rows_of_tile", [1, 4]),
)
def test_each_element_comes_from_its_place(way, mask, columns, rows_of_tile):
    rows, stride, block = 70, 35, 32
    x = np.random.default_rng(columns).integers(0, 500, (rows, stride)).astype(np.int32)
    y = np.full_like(x, 7)
    i, j = np.arange(block), order_of(way, block, columns)
    inside = {"where it lies": j < columns, "where it goes": i < columns, "all": j < block}[mask]
    value, twice = np.where(inside, x[:, j], -1), np.where(i < columns, x[:, :block], 0)
    wanted = y.copy()
    wanted[:, :block] = value * 1000 + twice

    def launch():
        grid = (-(-rows // rows_of_tile),)
        return swapped[grid](y, x, rows, columns, stride, WAY=way, MASK=mask, ROWS=rows_of_tile, BLOCK=block)

    on_both_engines(launch, y)
    np.testing.assert_array_equal(y, wanted)


@mlu.jit
def scattered(y, x, columns, WAY: tl.constexpr, AXIS: tl.constexpr, BLOCK: tl.constexpr):
    """Tiles that are stored in another order along one of their axes."""
    i = tl.arange(0, BLOCK)
    j = i ^ WAY
    if AXIS == 0:
        place, position = i[:, None] * BLOCK + i[None, :], j[:, None] * BLOCK + i[None, :]
        mask = (j[:, None] < columns) & (i[None, :] < 9)
    else:
        place, position = i[:, None] * BLOCK + i[None, :], i[:, None] * BLOCK + j[None, :]
        mask = (j[None, :] < columns) & (i[:, None] < 9)
    begin = tl.program_id(0) * BLOCK * BLOCK
    tl.store(y + begin + position, tl.load(x + begin + place) + 1, mask=mask)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("way", [1, 2, 8])
@pytest.mark.parametrize("columns", [16, 11])
def test_each_element_goes_to_its_place(way, axis, columns):
    block, programs = 16, 60
    x = np.random.default_rng(way).integers(0, 500, (programs, block, block)).astype(np.int32)
    y = np.full_like(x, 7)
    wanted = y.copy()
    i = np.arange(block)
    moved = x[:, i ^ way] if axis == 0 else x[:, :, i ^ way]
    kept = [slice(None), slice(0, 9), slice(0, 9)]
    kept[1 + axis] = slice(0, columns)
    wanted[tuple(kept)] = moved[tuple(kept)] + 1

    def launch():
        return scattered[(programs,)](y, x, columns, WAY=way, AXIS=axis, BLOCK=block)

    on_both_engines(launch, y)
    np.testing.assert_array_equal(y, wanted)


@mlu.jit
def twice(y, x, n, BLOCK: tl.constexpr, ADDED: tl.constexpr):
    """What is loaded before a store and behind it."""
    i = tl.arange(0, BLOCK)
    before = tl.load(x + i, mask=i < n, other=0)
    if ADDED == "stored":
        tl.store(y + i, before + 1, mask=i < n)
    elif ADDED == "added":
        tl.atomic_add(y + i, before + 1, mask=i < n)
    behind = tl.load(x + i, mask=i < n, other=0)
    tl.store(y + BLOCK + i, before * 1000 + behind)


@pytest.mark.parametrize("added", ["stored", "added", "nothing"])
def test_what_is_loaded_behind_a_store_is_what_was_stored(added):
    n, block = 50, 64
    memory = np.random.default_rng(0).integers(0, 500, 2 * block).astype(np.int32)
    before = np.where(np.arange(block) < n, memory[:block], 0)
    behind = {"stored": before + 1, "added": 2 * before + 1, "nothing": before}[added]
    behind = np.where(np.arange(block) < n, behind, 0)

    on_both_engines(lambda: twice[(1,)](memory, memory, n, BLOCK=block, ADDED=added), memory)
    np.testing.assert_array_equal(memory[block:], before * 1000 + behind)


@mlu.jit
def rotary(y, x, cos, sin, heads, D: tl.constexpr):
    """Turns pairs, a head a program."""
    token, head = tl.program_id(0), tl.program_id(1)
    i = tl.arange(0, D)
    j = i + (i + 1) % 2 * 2 - 1
    row = (token * heads + head) * D
    c, s = tl.load(cos + token * (D // 2) + i // 2), tl.load(sin + token * (D // 2) + i // 2)
    value, other = tl.load(x + row + i) * c, tl.load(x + row + j) * s
    tl.store(y + row + i, tl.where(i % 2 == 0, value - other, value + other))


def test_pairs_are_turned_at_the_rate_of_the_memory():
    tokens, heads, d = 512, 32, 128
    x, y = (mlu.spec((tokens, heads, d), np.float32) for _ in range(2))
    cos, sin = (mlu.spec((tokens, d // 2), np.float32) for _ in range(2))
    run = mlu.estimate(rotary, (tokens, heads), y, x, cos, sin, heads, D=d)
    assert run.cycles < 3.5 * run.work_bound_cycles
