"""Products that send rows and columns behind the end to the first one, or to the beginning."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines

MOVED = ["first", "first if beyond", "last", "around"]


@mlu.jit
def product(
    c, sums, a, b, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, MOVED: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """A product of int8; MOVED tells where rows and columns behind the end go, KIND what else becomes of them."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    if MOVED == "around":
        rows, columns = row % m, column % n
    elif MOVED == "last":
        rows, columns = tl.minimum(row, m - 1), tl.minimum(n - 1, column)
    elif MOVED == "first if beyond":
        rows, columns = tl.where(row >= m, 0, row), tl.where(column >= n, 0, column)
    else:
        rows, columns = tl.where(row < m, row, 0), tl.where(column < n, column, 0)
    depth = tl.arange(0, BLOCK_K)
    left = a + rows[:, None] * k + depth[None, :]
    right = b + depth[:, None] * n + columns[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    for begin in range(0, k, BLOCK_K):
        x = tl.load(left, mask=depth[None, :] < k - begin, other=0)
        y = tl.load(right, mask=depth[:, None] < k - begin, other=0)
        total = tl.dot(x, y, total, out_dtype=tl.int32)
        left += BLOCK_K
        right += BLOCK_K * n
    mask = (row[:, None] < m) & (column[None, :] < n)
    if KIND == "all rows":
        mask = column[None, :] < n
    if KIND == "summed":
        total += tl.sum(total, axis=0)[None, :]
    if KIND == "atomic":
        tl.atomic_add(sums + rows, tl.sum(total, axis=1))
    if KIND == "positions":
        total += rows[:, None]
    tl.store(c + row[:, None] * n + column[None, :], total, mask=mask)


def launch(m, n, k, moved, kind):
    rng = np.random.default_rng(m + n + k)
    a, b = rng.integers(-4, 5, (m, k), np.int8), rng.integers(-4, 5, (k, n), np.int8)
    block_m, block_n = 32, 64
    c = np.full((-(-m // block_m) * block_m, n), 77, np.int32)
    sums = np.zeros(m, np.int32)

    def run():
        grid = -(-m // block_m), -(-n // block_n)
        return product[grid](
            c, sums, a, b, m, n, k, BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=32, MOVED=moved, KIND=kind
        )

    on_both_engines(run, c, sums)
    return a, b, c, sums, block_m, block_n


def chosen(count, block, moved):
    positions = np.arange(-(-count // block) * block)
    if moved == "last":
        return np.minimum(positions, count - 1)
    return positions % count if moved == "around" else np.where(positions < count, positions, 0)


@pairs_of(
    ("moved", MOVED),
    ("kind", ["plain", "all rows", "summed", "atomic", "positions"]),
    (("m", "n", "k"), [(64, 128, 64), (70, 130, 50), (33, 65, 1), (5, 7, 96)]),
)
def test_products_are_of_the_rows_and_columns_that_are_chosen(m, n, k, kind, moved):
    a, b, c, sums, block_m, block_n = launch(m, n, k, moved, kind)
    rows, columns = chosen(m, block_m, moved), chosen(n, block_n, moved)
    whole = a[rows].astype(np.int32) @ b[:, columns].astype(np.int32)
    result = whole.copy()
    if kind == "summed":
        result += np.repeat(whole.reshape(-1, block_m, len(columns)).sum(1), block_m, axis=0)
    if kind == "positions":
        result += rows[:, None].astype(np.int32)
    stored = len(rows) if kind == "all rows" else m
    expected = np.full_like(c, 77)
    expected[:stored] = result[:stored, :n]
    np.testing.assert_array_equal(c, expected)
    if kind == "atomic":
        expected_sums = np.zeros(m, np.int32)
        np.add.at(expected_sums, rows, whole.sum(1))
        np.testing.assert_array_equal(sums, expected_sums)


def test_rows_that_are_sent_to_another_one_are_a_tile():
    matrix, result = mlu.spec((1000, 1000), np.int8), mlu.spec((1024, 1000), np.int32)
    arguments = result, mlu.spec((1000,), np.int32), matrix, matrix, 1000, 1000, 1000
    constants = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "KIND": "plain"}
    *moved, wrapping = (mlu.estimate(product, (32, 16), *arguments, MOVED=each, **constants) for each in MOVED)
    assert max(each.cycles for each in moved) < 1.01 * wrapping.cycles


@mlu.jit
def one_iteration_later(out, x, m, count, N: tl.constexpr):
    """Rows are stored under the condition of the next iteration, which leaves out fewer of them."""
    i, j = tl.arange(0, N), tl.arange(0, 16)[None, :]
    rows = tl.zeros((N, 16), tl.float32)
    for k in range(count):
        row = (count - 1 - k) * N + i
        tl.store(out + (k * N + i)[:, None] * 16 + j, rows, mask=(row < m)[:, None])
        rows = tl.load(x + tl.where(row < m, row, 0)[:, None] * 16 + j)


@mlu.jit
def from_one_iteration_earlier(out, x, m, count, N: tl.constexpr):
    """Rows are loaded where the iteration before has chosen."""
    i, j = tl.arange(0, N), tl.arange(0, 16)[None, :]
    chosen = i * 0
    for k in range(count):
        row = (count - 1 - k) * N + i
        rows = tl.load(x + chosen[:, None] * 16 + j)
        tl.store(out + (k * N + i)[:, None] * 16 + j, rows, mask=(row < m)[:, None])
        chosen = tl.where(row < m, row, 0)


@pytest.mark.parametrize("kernel", [one_iteration_later, from_one_iteration_earlier])
def test_positions_of_another_iteration_are_read(kernel):
    m, count, block = 53, 5, 16
    x = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
    out, wanted = np.zeros((count * block, 16), np.float32), np.zeros((count * block, 16), np.float32)
    on_both_engines(lambda: kernel[(1,)](out, x, m, count, N=block), out)
    rows = np.zeros((block, 16), np.float32) if kernel is one_iteration_later else np.tile(x[0], (block, 1))
    for k in range(count):
        row = (count - 1 - k) * block + np.arange(block)
        wanted[k * block : (k + 1) * block][row < m] = rows[row < m]
        rows = x[np.where(row < m, row, 0)]
    np.testing.assert_array_equal(out, wanted)


@mlu.jit
def product_one_iteration_later(out, x, weight, m, count, N: tl.constexpr):
    """Products of rows that come round again are stored where the next iteration ends."""
    i, j = tl.arange(0, N), tl.arange(0, 16)[None, :]
    right = tl.load(weight + i[:, None] * 16 + j)
    rows = tl.zeros((N, 16), tl.float32)
    for k in range(count):
        row = tl.maximum(count - 1 - k, 0) * N + i
        tl.store(out + (k * N + i)[:, None] * 16 + j, rows, mask=(row < m)[:, None])
        rows = tl.dot(tl.load(x + (row % m)[:, None] * 16 + j), right, input_precision="ieee")


def test_rows_that_come_round_again_are_read_in_another_iteration():
    m, count, block = 53, 5, 16
    rng = np.random.default_rng(0)
    x, weight = (rng.integers(-4, 5, (rows, 16)).astype(np.float32) for rows in (m, 16))
    out, wanted = np.zeros((count * block, 16), np.float32), np.zeros((count * block, 16), np.float32)
    on_both_engines(lambda: product_one_iteration_later[(1,)](out, x, weight, m, count, N=block), out)
    rows = np.zeros((block, 16), np.float32)
    for k in range(count):
        row = (count - 1 - k) * block + np.arange(block)
        wanted[k * block : (k + 1) * block][row < m] = rows[row < m]
        rows = x[row % m] @ weight
    np.testing.assert_array_equal(out, wanted)


@mlu.jit
def looked_up(out, x, ids, n, FIRST: tl.constexpr, HOW: tl.constexpr, N: tl.constexpr):
    """Elements at places that other loads find; none of them is as early as 0 would be."""
    place = tl.program_id(0) * N + tl.arange(0, N)
    chosen = place % n if HOW == "wraps" else tl.where(place < n, place, 0)
    if HOW == "last":
        chosen = tl.minimum(place, n - 1)
    found = tl.load(ids + chosen)
    if HOW == "remainder":
        total = tl.load(x + (place * 7919) % found)
    elif HOW == "mask":
        total = tl.load(x + found - FIRST, mask=found != FIRST, other=-1.0)
    elif HOW == "two steps":
        total = tl.load(x + tl.load(ids + found - FIRST) - FIRST)
    elif HOW == "loop":
        total = tl.zeros((N,), tl.float32)
        for _ in range(3):
            total += tl.load(x + found - FIRST)
            found = tl.load(ids + found - FIRST)
    elif HOW == "behind a branch":
        if n > 3:
            found = FIRST + (found * 3) % n
        total = tl.load(x + found - FIRST)
    else:
        total = tl.load(x + found - FIRST)
    tl.store(out + place, total, mask=place < n)


@mlu.jit
def products_of_rows_looked_up(out, x, ids, n, FIRST: tl.constexpr, N: tl.constexpr):
    """Products of rows that are found, and of those that are found at their places."""
    place = tl.program_id(0) * N + tl.arange(0, N)
    k = tl.arange(0, 16)
    found = tl.load(ids + place % n)
    right = tl.load(x + k[:, None] * 16 + k[None, :])
    total = tl.zeros((N, 16), tl.float32)
    for _ in range(2):
        left = tl.load(x + (found - FIRST)[:, None] + k[None, :])
        total = tl.dot(left, right, total, input_precision="ieee")
        found = tl.load(ids + found - FIRST)
    tl.store(out + place[:, None] * 16 + k[None, :], total, mask=(place < n)[:, None])


def test_no_row_is_looked_up_where_nothing_was_found():
    n, block, first = 100, 64, 1000
    rng = np.random.default_rng(0)
    x, ids = rng.integers(-4, 5, 400).astype(np.float32), rng.integers(0, n, n).astype(np.int32) + first
    out = np.zeros((2 * block, 16), np.float32)
    on_both_engines(lambda: products_of_rows_looked_up[(2,)](out, x, ids, n, FIRST=first, N=block), out)
    places = (ids - first, ids[ids - first] - first)
    wanted = sum(x[each[:, None] + np.arange(16)] @ x[:256].reshape(16, 16) for each in places)
    np.testing.assert_array_equal(out[:n], wanted)


@pytest.mark.parametrize("how", ["moved", "last", "wraps", "remainder", "mask", "two steps", "loop", "behind a branch"])
def test_nothing_is_looked_up_where_nothing_was_found(how):
    n, block, first = 100, 64, 1000
    rng = np.random.default_rng(0)
    x = rng.standard_normal(n).astype(np.float32)
    ids = rng.integers(0, n, n).astype(np.int32) + (0 if how == "remainder" else first)
    if how == "remainder":
        ids += 1 - (ids >= n - 1)
        wanted = x[np.arange(n) * 7919 % ids]
    else:
        found = ids - first
        wanted = x[found]
        if how == "mask":
            wanted = np.where(found == 0, np.float32(-1), wanted)
        if how == "two steps":
            wanted = x[found[found]]
        if how == "loop":
            wanted = (x[found] + x[found[found]]) + x[found[found[found]]]
        if how == "behind a branch":
            wanted = x[ids * 3 % n]
    out = np.zeros(2 * block, np.float32)
    on_both_engines(lambda: looked_up[(2,)](out, x, ids, n, FIRST=first, HOW=how, N=block), out)
    np.testing.assert_array_equal(out[:n], wanted)
    assert not out[n:].any()
