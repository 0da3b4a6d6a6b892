"""Programs whose tiles are cut anew: parts of other lengths, the last of which reaches behind the end of all."""

import dataclasses

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from examples import matmul as examples_matmul
from examples.matmul import matmul
from mlutriton.isa.native_interface import Counter
from tests.covering import pairs_of

BLOCK = 64


@mlu.jit
def product(
    c, a, b, m, n, k, ORDER: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr
):  # fmt: skip
    """ORDER tells how tiles are numbered, KIND what makes a difference to plain tiles."""
    rows_of_tiles, columns_of_tiles = tl.cdiv(m, BLOCK), tl.cdiv(n, BLOCK)
    if ORDER == "groups":
        number = tl.program_id(0)
        span = GROUP * columns_of_tiles
        first = number // span * GROUP
        height = min(rows_of_tiles - first, GROUP)
        place_m, place_n = first + number % span % height, number % span // height
    elif ORDER == "rows":
        place_m, place_n = tl.program_id(0) // columns_of_tiles, tl.program_id(0) % columns_of_tiles
    else:
        place_m, place_n = tl.program_id(1), tl.program_id(0)
    row, column = place_m * BLOCK + tl.arange(0, BLOCK), place_n * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for begin in range(0, k, 32):
        depth = begin + tl.arange(0, 32)
        x = tl.load(a + row[:, None] * k + depth[None, :], mask=(row[:, None] < m) & (depth[None, :] < k), other=0)
        y = tl.load(
            b + depth[:, None] * n + column[None, :], mask=(depth[:, None] < k) & (column[None, :] < n), other=0
        )
        total = tl.dot(x, y, total)
    to = c + row[:, None] * n + column[None, :]
    mask = (row[:, None] < m) & (column[None, :] < n)
    if KIND == "added":
        total += tl.load(to, mask=mask)
    if KIND == "of the tile":
        total += place_m
    tl.store(to, total.to(c.dtype.element_ty), mask=mask)


def launched(m, n, k, order, kind, dtype=np.float32, rows=None, num_warps=4):
    rng = np.random.default_rng(m + n)
    a, b = (rng.integers(-4, 5, shape).astype(np.float16) for shape in ((m, k), (k, n)))
    c = rng.integers(-4, 5, (m, n)).astype(dtype)
    before = c.copy()
    tiles = rows or -(-m // BLOCK), -(-n // BLOCK)
    grid = tiles[::-1] if order == "columns and rows" else (tiles[0] * tiles[1],)
    product[grid](c, a, b, m, n, k, ORDER=order, KIND=kind, BLOCK=BLOCK, GROUP=4, num_stages=3,
        num_warps=num_warps,
    )  # fmt: skip
    wanted = (a.astype(np.float32) @ b.astype(np.float32)).astype(dtype)
    if kind == "added":
        wanted += before
    if kind == "of the tile":
        wanted += (np.arange(m) // BLOCK)[:, None].astype(dtype)
    return c, wanted, before


@pairs_of(
    ("size", [(832, 320, 96), (700, 330, 70), (684, 256, 32), (90, 320, 64)]),
    ("kind", ["plain", "added", "of the tile"]),
    ("order", ["groups", "rows", "columns and rows"]),
)
def test_parts_are_what_tiles_were(order, kind, size):
    c, wanted, _ = launched(*size, order, kind)
    assert np.array_equal(c, wanted)


@pairs_of(
    (
        "size",
        [
            (128, 500, 96), (129, 400, 70), (250, 700, 33), (333, 1000, 40), (130, 1600, 64), (64, 1600, 96),
            (3, 900, 40),
        ],
    ),
    ("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"]),
    ("num_warps", [1, 4]),
    indirect=["machine"],
)  # fmt: skip
def test_parts_of_few_rows_are_what_tiles_were(machine, size, num_warps):
    c, wanted, _ = launched(*size, "groups", "plain", np.float16, num_warps=num_warps)
    assert np.array_equal(c, wanted)


def test_rows_without_a_program_stay_as_they_are():
    # Twelve of thirteen rows of tiles: in rows, the last one has none.
    c, wanted, before = launched(832, 320, 64, "rows", "plain", rows=12)
    assert np.array_equal(c[:768], wanted[:768])
    assert np.array_equal(c[768:], before[768:])


def test_columns_without_a_program_stay_as_they_are():
    # Of eight columns of tiles the last one has no program, so that parts of 192 columns must not reach behind 448.
    m, n, k = 512, 512, 64
    a, b = (np.random.default_rng(seed).integers(-4, 5, (512, k)).astype(np.float16) for seed in (1, 2))
    b, c = np.ascontiguousarray(b.T), np.full((m, n), 7, np.float32)
    run = product[(7, 8)](c, a, b, m, n, k, ORDER="columns and rows", KIND="plain", BLOCK=BLOCK, GROUP=4, num_stages=3)
    wanted = a.astype(np.float32) @ b.astype(np.float32)
    assert np.array_equal(c[:, :448], wanted[:, :448])
    assert (c[:, 448:] == 7).all()
    assert run.counters[Counter.WRITTEN_BYTES] > 4 * m * 448, "the last part is one like the others"


def test_nothing_is_stored_twice_where_masks_leave_out_what_is_behind_the_end():
    m, n, k = 520, 500, 64
    a, b = np.ones((m, k), np.float16), np.ones((k, n), np.float16)
    c = np.zeros((m, n), np.float32)
    run = product[(8, 9)](c, a, b, m, n, k, ORDER="columns and rows", KIND="plain", BLOCK=BLOCK, GROUP=4, num_stages=3)
    assert (c == k).all()
    assert run.counters[Counter.WRITTEN_BYTES] == c.nbytes


def cycles(order, kind, size=(3000, 3000, 3000)):
    m, n, k = size
    described = [mlu.spec(shape, np.float16) for shape in ((m, n), (m, k), (k, n))]
    tiles = -(-m // BLOCK), -(-n // BLOCK)
    grid = tiles[::-1] if order == "columns and rows" else (tiles[0] * tiles[1],)
    run = mlu.estimate(product, grid, *described, *size, ORDER=order, KIND=kind, BLOCK=BLOCK, GROUP=8, num_stages=3)
    return run.cycles


@pytest.mark.parametrize("order", ["groups", "rows", "columns and rows"])
def test_an_odd_number_of_tiles_takes_no_longer(order):
    # Where positions are not all that is asked of a number, or what is read is written, tiles stay as they are.
    assert cycles(order, "plain") < 0.4 * cycles(order, "of the tile")
    assert cycles(order, "plain") < 0.4 * cycles(order, "added")


@pytest.mark.parametrize("size", [(128, 4096, 1024), (256, 2048, 1024), (512, 2048, 2048)])
def test_few_rows_take_less_in_parts_that_suit_them(size):
    # They are no more than a group of tiles. Where what is read is written, tiles stay as they are.
    assert cycles("groups", "plain", size) < 0.8 * cycles("groups", "added", size)


@pytest.mark.parametrize("rows", [16, 64])
def test_fewer_rows_than_a_part_has_take_no_more_than_a_part(rows):
    # Masks leave out the rest of it. Where what is read is written, tiles stay as they are.
    assert cycles("groups", "plain", (rows, 4096, 1024)) <= cycles("groups", "plain", (128, 4096, 1024))
    assert cycles("groups", "plain", (rows, 4096, 1024)) < 0.8 * cycles("groups", "added", (rows, 4096, 1024))


def test_a_few_vectors_take_less_than_a_part_for_more_rows():
    # Tiles of 64 rows are for any number of them.
    assert cycles("groups", "plain", (16, 4096, 4096)) < 0.8 * cycles("groups", "plain", (128, 4096, 4096))


def test_rows_that_cannot_be_cut_leave_columns_that_can():
    # Nothing but the number of its tile along the rows is asked of a program.
    assert cycles("groups", "of the tile", (128, 4096, 1024)) < 0.6 * cycles("groups", "added", (128, 4096, 1024))


def test_a_third_of_the_columns_shares_out_what_whole_parts_do_not():
    # Of 1024 by 1024, parts of 512x256 leave four of twelve clusters without any, those of 512x192 none.
    assert cycles("groups", "plain", (1024, 1024, 2048)) < 0.9 * cycles("groups", "plain", (1024, 1536, 2048))


def test_a_launch_has_no_more_tasks_than_programs():
    """Parts of 512x192 are twelve, which as many tasks do in one round, and eight in two."""
    m, n, k = 1024, 1024, 4096
    described = [mlu.spec(shape, np.float16) for shape in ((m, n), (m, k), (k, n))]
    took = []
    for rows, columns in ((128, 128), (512, 256)):
        grid = (m // rows * (n // columns),)
        run = mlu.estimate(
            matmul, grid, a=described[1], b=described[2], c=described[0], M=m, N=n, K=k,
            a_stride_m=k, a_stride_k=1, b_stride_k=n, b_stride_n=1, c_stride_m=n, c_stride_n=1,
            BLOCK_M=rows, BLOCK_N=columns, BLOCK_K=128, GROUP_M=4, SUM=tl.float32, ACTIVATION="none",
        )  # fmt: skip
        took.append(run.cycles)
    assert took[1] < 1.3 * took[0]


@mlu.jit
def complex_product(c, a, b, n: tl.constexpr, BLOCK: tl.constexpr):
    row, column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real, imaginary = tl.zeros((BLOCK, BLOCK), tl.float32), tl.zeros((BLOCK, BLOCK), tl.float32)
    for begin in range(0, n, BLOCK):
        depth = begin + tl.arange(0, BLOCK)
        x, y = a + 2 * (row[:, None] * n + depth), b + 2 * (depth[:, None] * n + column)
        x_real, x_imaginary, y_real, y_imaginary = tl.load(x), tl.load(x + 1), tl.load(y), tl.load(y + 1)
        real += tl.dot(x_real, y_real) - tl.dot(x_imaginary, y_imaginary)
        imaginary += tl.dot(x_real, y_imaginary) + tl.dot(x_imaginary, y_real)
    to = c + 2 * (row[:, None] * n + column)
    tl.store(to, real)
    tl.store(to + 1, imaginary)


def test_parts_are_compared_with_loads_as_they_are_made():
    """Real and imaginary parts of a small tile are one load; of a part they are as many loads as it has elements."""
    a, b = (np.random.default_rng(seed).integers(-3, 4, (512, 512, 2)).astype(np.float32) for seed in (1, 2))
    c = np.zeros_like(a)
    run = complex_product[(32, 32)](c, a, b, 512, 16)
    expected = (a[..., 0] + 1j * a[..., 1]) @ (b[..., 0] + 1j * b[..., 1])
    np.testing.assert_array_equal(c, np.stack([expected.real, expected.imag], 2))
    assert run.instruction_work[0].max() >= 32 * run.programs, "each program takes its turns"


@pairs_of(
    ("size", [(513, 385, 70), (600, 961, 64), (129, 1111, 33), (1, 257, 40)]),
    ("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"]),
    ("num_warps", [1, 4]),
    indirect=["machine"],
)
def test_parts_of_long_tiles_are_those_that_masks_leave(machine, size, num_warps):
    case = examples_matmul.case(*size, np.float16, "fp16", blocks=(128, 256, 64))
    dataclasses.replace(case, constants={**case.constants, "num_warps": num_warps}).check()


def test_behind_what_masks_leave_there_is_no_part():
    """1111 columns are five tiles of 256, which are seven parts of 192, of which the last one had nothing to do."""
    took = []
    for blocks in ((64, 64, 32), (128, 256, 64)):
        case = examples_matmul.case(1000, 1111, 777, np.float32, "fp32", blocks=blocks)
        took.append(mlu.estimate(case.kernel, case.grid, **case.arguments(), **case.constants).cycles)
    assert took[1] < 1.1 * took[0]


@mlu.jit
def masked_product(c, a, b, m, n, k, loads, stores, BLOCK: tl.constexpr):
    """Masks also ask for numbers of the launch, as those of loads do that Triton takes out of a loop."""
    row, column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for begin in range(0, k, 32):
        depth = begin + tl.arange(0, 32)
        rows, columns = (row[:, None] < m) & (loads > 0), column[None, :] < n
        x = tl.load(a + row[:, None] * k + depth[None, :], mask=rows & (depth[None, :] < k), other=0)
        y = tl.load(b + depth[:, None] * n + column[None, :], mask=(depth[:, None] < k) & columns, other=0)
        total = tl.dot(x, y, total)
    mask = (row[:, None] < m) & (column[None, :] < n) & (stores > 0)
    tl.store(c + row[:, None] * n + column[None, :], total, mask=mask)


@pairs_of(
    ("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"]),
    (("loads", "stores"), [(1, 1), (0, 1), (1, 0)]),
    (("m", "n", "k"), [(832, 320, 96), (700, 330, 70)]),
    indirect=["machine"],
)
def test_masks_may_keep_parts_or_none_by_a_number_of_the_launch(machine, m, n, k, loads, stores):
    rng = np.random.default_rng(m)
    a, b = (rng.integers(-4, 5, shape).astype(np.float16) for shape in ((m, k), (k, n)))
    c = np.full((m, n), 7, np.float32)
    masked_product[(-(-m // BLOCK), -(-n // BLOCK))](c, a, b, m, n, k, loads, stores, BLOCK=BLOCK, num_stages=3)
    wanted = a.astype(np.float32) @ b.astype(np.float32) * loads if stores else np.full_like(c, 7)
    assert np.array_equal(c, wanted)
