"""Programs that go over tiles in a loop: as programs of one tile each where nobody can tell."""

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines

BLOCK = 16


@mlu.jit
def tile_of(tile, m, n, BLOCK: tl.constexpr, GROUP: tl.constexpr):
    group = tile // (GROUP * tl.cdiv(n, BLOCK))
    height = min(tl.cdiv(m, BLOCK) - group * GROUP, GROUP)
    return group * GROUP + tile % height, tile % (GROUP * tl.cdiv(n, BLOCK)) // height


@mlu.jit
def product(a, b, row, column, m, n, k, BLOCK: tl.constexpr):
    rows, columns = tl.where(row < m, row, 0), tl.where(column < n, column, 0)
    total = tl.zeros((BLOCK, BLOCK), tl.int32)
    for begin in range(0, k, BLOCK):
        depth = begin + tl.arange(0, BLOCK)
        x = tl.load(a + rows[:, None] * k + depth[None, :], mask=depth[None, :] < k, other=0)
        y = tl.load(b + depth[:, None] * n + columns[None, :], mask=depth[:, None] < k, other=0)
        total = tl.dot(x, y, total, out_dtype=tl.int32)
    return total


@mlu.jit
def over_tiles(
    c, a, b, m, n, k, PROGRAMS: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr
):  # fmt: skip
    """KIND tells what makes a difference to plain tiles."""
    start = tl.program_id(0)
    batch = tl.program_id(1)
    a += batch * m * k
    c += batch * m * n
    tiles = tl.cdiv(m, BLOCK) * tl.cdiv(n, BLOCK)
    behind = start - PROGRAMS
    for tile in tl.range(start, tiles, tl.num_programs(0) if KIND == "all programs" else PROGRAMS):
        behind += PROGRAMS
        if KIND == "carried":
            place_m, place_n = tile_of(behind, m, n, BLOCK, GROUP)
        elif KIND == "carried twice as fast":
            place_m, place_n = tile_of(2 * tile - behind, m, n, BLOCK, GROUP)
        else:
            place_m, place_n = tile_of(tile, m, n, BLOCK, GROUP)
        row, column = place_m * BLOCK + tl.arange(0, BLOCK), place_n * BLOCK + tl.arange(0, BLOCK)
        total = product(a, b, row, column, m, n, k, BLOCK)
        to = c + row[:, None] * n + column[None, :]
        mask = (row[:, None] < m) & (column[None, :] < n)
        if KIND == "added":
            total += tl.load(to, mask=mask)
        if KIND == "of the program":
            total += start
        if KIND == "last of its columns":
            to, mask = c + tl.arange(0, BLOCK)[:, None] * n + column[None, :], column[None, :] < n
        tl.store(to, total, mask=mask)


@mlu.jit
def halves(c, a, b, place_m, place_n, m, n, k, BLOCK: tl.constexpr):
    row, column = place_m * BLOCK + tl.arange(0, BLOCK), place_n * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for begin in range(0, k, 64):
        depth = begin + tl.arange(0, 64)
        x = tl.load(a + row[:, None] * k + depth[None, :])
        total = tl.dot(x, tl.load(b + depth[:, None] * n + column[None, :]), total)
    tl.store(c + row[:, None] * n + column[None, :], total.to(tl.float16))


@mlu.jit
def of_one_tile(c, a, b, m, n, k, BLOCK: tl.constexpr, GROUP: tl.constexpr):
    place_m, place_n = tile_of(tl.program_id(0), m, n, BLOCK, GROUP)
    halves(c, a, b, place_m, place_n, m, n, k, BLOCK)


@mlu.jit
def over_tiles_of_halves(c, a, b, m, n, k, PROGRAMS: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr):
    for tile in tl.range(tl.program_id(0), tl.cdiv(m, BLOCK) * tl.cdiv(n, BLOCK), PROGRAMS):
        place_m, place_n = tile_of(tile, m, n, BLOCK, GROUP)
        halves(c, a, b, place_m, place_n, m, n, k, BLOCK)


def expected(c, a, b, grid, programs, kind, m, n, group=2):
    whole = a.astype(np.int32) @ b.astype(np.int32)
    rows, columns = -(-m // BLOCK), -(-n // BLOCK)
    for start in range(grid):
        for tile in range(start, rows * columns, programs):
            first = tile // (group * columns) * group
            height = min(rows - first, group)
            row, column = (first + tile % height) * BLOCK, tile % (group * columns) // height * BLOCK
            place = np.s_[:, row : row + BLOCK, column : column + BLOCK]
            if kind == "last of its columns":
                target = c[:, :BLOCK, column : column + BLOCK]
                target[...] = 0
                part = whole[place]
                target[:, : part.shape[1]] = part
                if part.shape[1] < BLOCK:  # rows behind the end are those of the first one
                    target[:, part.shape[1] :] = whole[:, :1, column : column + BLOCK]
            elif kind == "added":
                c[place] += whole[place]
            elif kind == "of the program":
                c[place] = whole[place] + start
            else:
                c[place] = whole[place]
    return c


KINDS = ["plain", "all programs", "carried", "carried twice as fast", "added", "of the program", "last of its columns"]


@pairs_of(
    ("kind", KINDS),
    (("m", "n", "k"), [(64, 96, 32), (50, 70, 20), (16, 16, 16), (33, 16, 40)]),
    (("programs", "grid", "batches"), [(4, 4, 1), (3, 2, 2), (48, 48, 1), (1, 1, 2), (5, 7, 1)]),
)
def test_each_program_does_its_tiles_in_turn(m, n, k, programs, grid, batches, kind):
    if kind == "all programs":
        programs = grid
    if kind == "last of its columns":
        # Programs that write to one place are one.
        programs = grid = 1
    rng = np.random.default_rng(m * n + k)
    a = rng.integers(-4, 5, (batches, m, k), np.int8)
    b = rng.integers(-4, 5, (k, n), np.int8)
    c = rng.integers(-9, 9, (batches, m, n), np.int32)
    if kind in ("of the program", "added"):
        # A tile of several programs has the value of any of them.
        grid = min(grid, programs)
    wanted = expected(c.copy(), a, b, grid, programs, kind, m, n)

    def launch():
        return over_tiles[(grid, batches)](c, a, b, m, n, k, PROGRAMS=programs, KIND=kind, BLOCK=BLOCK, GROUP=2)

    on_both_engines(launch, c)
    np.testing.assert_array_equal(c, wanted)


def test_arrays_that_overlap_are_gone_over_in_order():
    m, n, k = 32, 48, 16
    a, memory = (np.random.default_rng(0).integers(-4, 5, size, np.int8) for size in ((m, k), m * n * 4))

    def arrays(memory):
        return memory.view(np.int32).reshape(m, n), memory[64 : 64 + k * n].reshape(k, n)

    wanted = memory.copy()
    c, b = arrays(wanted)
    for tile in range(6):
        place = tile % 2 * BLOCK, tile // 2 * BLOCK
        rows, columns = slice(place[0], place[0] + BLOCK), slice(place[1], place[1] + BLOCK)
        c[rows, columns] = a[rows].astype(np.int32) @ b[:, columns].astype(np.int32)

    def launch():
        c, b = arrays(memory)
        return over_tiles[(1, 1)](c, a, b, m, n, k, PROGRAMS=1, KIND="plain", BLOCK=BLOCK, GROUP=2)

    on_both_engines(launch, memory)
    np.testing.assert_array_equal(memory, wanted)


@mlu.jit
def over_pitched_tiles(
    c, a, b, m, n, k, pitch, KIND: tl.constexpr, BLOCK: tl.constexpr, BY_COLUMNS: tl.constexpr
):  # fmt: skip
    rows, columns = tl.cdiv(m, BLOCK), tl.cdiv(n, BLOCK)
    for tile in tl.range(tl.program_id(0), rows * columns, 1):
        place_m = tile % rows if BY_COLUMNS else tile // columns
        place_n = tile // rows if BY_COLUMNS else tile % columns
        row, column = place_m * BLOCK + tl.arange(0, BLOCK), place_n * BLOCK + tl.arange(0, BLOCK)
        total = product(a, b, row, column, m, n, k, BLOCK)
        to = c + row[:, None] * pitch + column[None, :]
        if KIND == "masked":
            tl.store(to, total, mask=(row[:, None] < m) & (column[None, :] < n))
        else:
            tl.store(to, total)
        if KIND == "the next tile, too":
            tl.store(to + BLOCK, -total)
        if KIND == "half a tile on, too":
            tl.store(to + 8 * pitch, -total)
        if KIND == "the first row, too":
            tl.store(c + tl.arange(0, BLOCK), tl.sum(total, 0))


@pairs_of(
    ("pitch", [16, 24, 64, 80, 96]),
    ("kind", ["all", "masked", "the next tile, too", "half a tile on, too", "the first row, too"]),
    ("by_columns", [False, True]),
)
def test_tiles_that_meet_are_stored_in_turn(pitch, kind, by_columns):
    m, n, k = 96, 64, 16
    rng = np.random.default_rng(pitch)
    a, b = rng.integers(-4, 5, (m, k), np.int8), rng.integers(-4, 5, (k, n), np.int8)
    c = rng.integers(-9, 9, (m + 16) * 96 + 64, np.int32)
    wanted, whole = c.copy(), a.astype(np.int32) @ b.astype(np.int32)
    rows, columns = m // BLOCK, n // BLOCK
    for tile in range(rows * columns):
        row, column = divmod(tile, columns) if not by_columns else divmod(tile, rows)[::-1]
        here = np.s_[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
        places = np.add.outer(np.arange(m) * pitch, np.arange(n))[here]
        wanted[places] = whole[here]
        if kind == "the next tile, too":
            wanted[places + BLOCK] = -whole[here]
        if kind == "half a tile on, too":
            wanted[places + 8 * pitch] = -whole[here]
        if kind == "the first row, too":
            wanted[:BLOCK] = whole[here].sum(0)

    def launch():
        return over_pitched_tiles[(1,)](c, a, b, m, n, k, pitch, KIND=kind, BLOCK=BLOCK, BY_COLUMNS=by_columns)

    on_both_engines(launch, c)
    np.testing.assert_array_equal(c, wanted)


def test_programs_over_tiles_take_no_longer_than_those_of_one_tile():
    def cycles(kernel, grid, **constants):
        matrices = (mlu.spec((1024, 1024), np.float16) for _ in range(3))
        return mlu.estimate(kernel, grid, *matrices, 1024, 1024, 1024, BLOCK=128, GROUP=4, **constants).cycles

    one = cycles(of_one_tile, (64,))
    assert cycles(over_tiles_of_halves, (48,), PROGRAMS=48) < 1.2 * one
