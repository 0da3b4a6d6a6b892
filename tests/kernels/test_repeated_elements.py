"""Loads at whole parts of quotients: neighbours that are one element are loaded once, with the values of all."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def rows(out, x, n0, n1, START: tl.constexpr, GROUP: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr):
    """Rows of x, each for GROUP rows of the result."""
    i = tl.program_id(0) * B0 + START + tl.arange(0, B0)[:, None]
    j = tl.program_id(1) * B1 + tl.arange(0, B1)[None, :]
    mask = (i < n0) & (j < n1)
    tl.store(out + i * n1 + j, tl.load(x + i // GROUP * n1 + j, mask, other=-3.0), mask)


@mlu.jit
def columns(out, x, n, pitch, GROUP: tl.constexpr, B: tl.constexpr):
    """Elements of a row of x, each GROUP times, in pieces of a row; behind the row's end stands what a mask leaves."""
    row = tl.program_id(0)
    for begin in range(0, n, B):
        i = begin + tl.arange(0, B)
        value = tl.load(x + row * pitch + i // GROUP, mask=i < n - 3, other=-3.0)
        tl.store(out + row * n + i, value, mask=i < n)


@mlu.jit
def squared(out, x, n, step, GROUP: tl.constexpr, B: tl.constexpr):
    j = tl.arange(0, B)
    for i in range(1, n, step):
        tl.store(out + i * B + j, tl.load(x + (i * i + j) // GROUP))


@mlu.jit
def advanced(out, x, n, GROUP: tl.constexpr, B: tl.constexpr):
    """As `columns`, by an index that a loop carries."""
    i = tl.arange(0, B)
    for _ in range(0, n, B):
        tl.store(out + i, tl.load(x + i // GROUP), mask=i < n)
        i += B


@mlu.jit
def shifted(out, x, n, by, GROUP: tl.constexpr, B: tl.constexpr):
    """What begins at any place, below 0 also, where quotients are rounded towards 0."""
    i = tl.arange(0, B)
    tl.store(out + i, tl.load(x + (i + by) // GROUP, mask=i + by > -GROUP, other=-3.0), mask=i < n)


@mlu.jit
def both(out, x, n, GROUP: tl.constexpr, B: tl.constexpr):
    """Quotient and remainder of one index."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + i // GROUP * 2 * GROUP + i % GROUP))


@pytest.mark.parametrize("group", [1, 2, 4, 8, 16, 32, 64, 3])
def test_rows_that_several_rows_share(group):
    n0, n1 = 77, 100
    x = np.random.default_rng(0).standard_normal((-(-n0 // group), n1), np.float32)
    out = np.full((n0, n1), -9, np.float32)
    run = on_both_engines(lambda: rows[3, 2](out, x, n0, n1, 0, GROUP=group, B0=32, B1=64), out)
    np.testing.assert_array_equal(out, x.repeat(group, 0)[:n0])
    if group == 8:
        # Stores of parts of a granule read the rest.
        assert run.dram_read_bytes + run.timing.l2_hit_bytes < out.nbytes


def test_groups_that_a_tile_cuts():
    x = np.arange(40 * 10, dtype=np.float32).reshape(40, 10)
    out = np.full((64, 10), -9, np.float32)
    on_both_engines(lambda: rows[2, 1](out, x, 64, 10, 5, GROUP=8, B0=32, B1=16), out)
    np.testing.assert_array_equal(out[5:], x.repeat(8, 0)[5:64])


@pytest.mark.parametrize("group", [2, 4, 16, 64, 256, 5])
def test_elements_of_rows_in_pieces(group):
    n = 300
    x = np.random.default_rng(0).standard_normal((7, 256), np.float32)
    out = np.empty((7, n), np.float32)
    on_both_engines(lambda: columns[7,](out, x, n, 256, GROUP=group, B=64), out)
    want = x.repeat(group, 1)[:, :n].copy()
    want[:, n - 3 :] = -3
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("group", [2, 32, 128])
def test_an_index_that_a_loop_advances(group):
    x = np.random.default_rng(0).standard_normal(256, np.float32)
    out = np.empty(256, np.float32)
    on_both_engines(lambda: advanced[1,](out, x, 256, GROUP=group, B=64), out)
    np.testing.assert_array_equal(out, x.repeat(group)[:256])


def test_a_product_of_what_is_no_multiple_is_none():
    x = np.arange(200, dtype=np.float32)
    out = np.zeros((8, 1024), np.float32)
    on_both_engines(lambda: squared[1,](out, x, 8, 3, GROUP=8, B=1024), out)
    for i in range(1, 8, 3):
        np.testing.assert_array_equal(out[i], x[(i * i + np.arange(1024)) // 8])


@pytest.mark.parametrize("by", [-64, -8, -5, 0, 3, 8])
def test_quotients_of_numbers_below_0(by):
    x = np.random.default_rng(0).standard_normal(64, np.float32)
    out = np.empty(32, np.float32)
    on_both_engines(lambda: shifted[1,](out, x, 32, by, GROUP=8, B=32), out)
    place = np.arange(32) + by
    want = np.where(place > -8, x[np.maximum(np.trunc(place / 8).astype(int), 0)], np.float32(-3))
    np.testing.assert_array_equal(out, want)


def test_quotient_and_remainder_together():
    x = np.random.default_rng(0).standard_normal((16, 2, 8), np.float32)
    out = np.empty((16, 8), np.float32)
    on_both_engines(lambda: both[2,](out, x, 128, GROUP=8, B=64), out)
    np.testing.assert_array_equal(out, x[:, 0])


@mlu.jit
def packed(out, words, groups, n, MASKED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Numbers of 4 bits, 8 in a word, of the group that each row has."""
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    mask = (row[:, None] >= 0) & (column[None, :] < n) if MASKED else (row[:, None] >= 0)
    group = tl.load(groups + row)
    word = tl.load(words + group[:, None] * (n // 8) + column[None, :] // 8, mask=mask, other=-1)
    tl.store(out + row[:, None] * COLUMNS + column[None, :], (word >> (column % 8 * 4)[None, :]) & 15)


@pytest.mark.parametrize(("masked", "n"), [(False, 64), (True, 64), (True, 40), (True, 16)])
def test_what_neighbours_share_of_a_row_that_is_looked_up(masked, n):
    rng = np.random.default_rng(0)
    words = rng.integers(-(2**31), 2**31, (10, n // 8)).astype(np.int32)
    groups = rng.integers(0, 10, 96).astype(np.int32)
    out = np.zeros((96, 64), np.int32)
    run = on_both_engines(lambda: packed[3,](out, words, groups, n, MASKED=masked, ROWS=32, COLUMNS=64), out)
    want = np.full((96, 64), 15)
    want[:, :n] = words[groups].repeat(8, 1) >> np.tile(np.arange(8) * 4, n // 8) & 15
    np.testing.assert_array_equal(out, want)
    # A transfer of 32 rows costs an item each, not one for each of 8 that share their words.
    assert run.cycles < 10_000


@mlu.jit
def fields(out, words, zeros, FIELDS: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr):
    """Fields of words, less those of a row for all of them; tensors beside themselves have each word repeated."""
    row, word = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WORDS)
    column = tl.arange(0, WORDS * FIELDS)
    w = tl.load(words + row[:, None] * WORDS + word[None, :])
    z = tl.load(zeros + word)[None, :]
    for _ in tl.static_range(0, FIELDS.bit_length() - 1):
        w = tl.interleave(w, w)
        z = tl.interleave(z, z)
    each = (tl.arange(0, FIELDS) * BITS).to(w.dtype)
    shifts = tl.reshape(tl.broadcast_to(each[None, :], (ROWS * WORDS, FIELDS)), (ROWS, WORDS * FIELDS))
    w = (w >> shifts) & ((1 << BITS) - 1)
    z = tl.broadcast_to(z, (ROWS, WORDS * FIELDS)) >> shifts
    tl.store(out + row[:, None] * (WORDS * FIELDS) + column[None, :], (w ^ 1) - z)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(np.int8, 2), (np.uint8, 1), (np.int16, 4), (np.int32, 4), (np.uint32, 8), (np.int32, 2), (np.int64, 16)],
)
def test_fields_of_words(dtype, bits):
    count, width = np.dtype(dtype).itemsize * 8 // bits, 16
    info, rng = np.iinfo(dtype), np.random.default_rng(0)
    words = rng.integers(info.min, info.max, (24, width), dtype, endpoint=True)
    zeros = rng.integers(info.min, info.max, width, dtype, endpoint=True)
    out = np.empty((24, width * count), dtype)
    on_both_engines(lambda: fields[3,](out, words, zeros, count, bits, ROWS=8, WORDS=width), out)
    shifts = (np.arange(count) * bits).astype(dtype)
    found = (words[..., None] >> shifts & dtype((1 << bits) - 1)) ^ dtype(1)
    np.testing.assert_array_equal(out, (found - (zeros[:, None] >> shifts)).reshape(24, -1))
