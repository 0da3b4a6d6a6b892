"""Loads and stores of whole rows that begin where data says: one item of a gather or scatter for each row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.isa.operands import Immediate
from mlutriton.testing import load_examples
from tests.kernels.engines import on_both_engines

ROWS, BLOCK = 8, 32


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.delenv("MLUTRITON_MACHINE", raising=False)


def lengths(run, name):
    """Elements of an item, of the gathers or scatters of a program."""
    operands = [each.operand("length") for each in run.program.instructions if each.row.name == name]
    return {operand.value for operand in operands if isinstance(operand, Immediate)}


@mlu.jit
def gather(out, table, index, valid, n, width, BLOCK_N: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.arange(0, BLOCK)
    row = tl.load(index + i, mask=i < n, other=0)
    wanted = tl.load(valid + i, mask=i < n, other=0) != 0
    values = tl.load(table + row[:, None] * width + j[None, :], mask=wanted[:, None] & (j < width)[None, :], other=-7)
    tl.store(out + i[:, None] * BLOCK + j[None, :], values, mask=(i < n)[:, None])


@st.composite
def tables(draw):
    count, width = draw(st.integers(1, 20)), draw(st.integers(1, BLOCK))
    n = draw(st.integers(1, 2 * ROWS + 3))
    dtype = draw(st.sampled_from([np.float32, np.float16, np.int8, np.int64]))
    index = draw(st.lists(st.integers(0, count - 1), min_size=n, max_size=n))
    valid = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    table = np.arange(count * width).reshape(count, width).astype(dtype)
    integer = draw(st.sampled_from([np.int32, np.int64]))
    return table, np.array(index, integer), np.array(valid, np.int8)


@settings(max_examples=30)
@given(tables())
def test_gathered_rows_equal_numpy(drawn):
    table, index, valid = drawn
    (n,), width = index.shape, table.shape[1]
    out = np.zeros((n, BLOCK), table.dtype)
    grid = (-(-n // ROWS),)
    run = on_both_engines(lambda: gather[grid](out, table, index, valid, n, width, ROWS, BLOCK), out)
    expected = np.full((n, BLOCK), -7).astype(table.dtype)
    expected[valid != 0, :width] = table[index[valid != 0]]
    np.testing.assert_array_equal(out, expected)
    assert lengths(run, "gather") == {BLOCK}


def test_rows_before_the_pointer():
    table = np.arange(6 * BLOCK, dtype=np.float32).reshape(6, BLOCK)
    index = np.array([-1, -6, 0, 1, -1, 1, -3, -2], np.int32)
    out = np.zeros((ROWS, BLOCK), np.float32)
    whole = np.concatenate([table, table + 1000])

    @mlu.jit
    def kernel(out, table, index, before, BLOCK_N: tl.constexpr, BLOCK: tl.constexpr):
        i = tl.arange(0, BLOCK_N)
        j = tl.arange(0, BLOCK)
        row = tl.load(index + i)
        values = tl.load(table + before * BLOCK + (row[:, None] * BLOCK + j[None, :]))
        tl.store(out + i[:, None] * BLOCK + j[None, :], values)

    run = on_both_engines(lambda: kernel[(1,)](out, whole, index, 6, ROWS, BLOCK), out)
    np.testing.assert_array_equal(out, whole[6 + index])
    assert lengths(run, "gather") == {BLOCK}


@mlu.jit
def scatter(out, x, index, valid, n, width, BLOCK_N: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK_N)
    j = tl.arange(0, BLOCK)
    row = tl.load(index + i, mask=i < n, other=0)
    wanted = tl.load(valid + i, mask=i < n, other=0) != 0
    values = tl.load(x + i[:, None] * BLOCK + j[None, :], mask=(i < n)[:, None], other=0)
    tl.store(out + row[:, None] * width + j[None, :], values, mask=wanted[:, None] & (j[None, :] < width))


@settings(max_examples=30)
@given(tables())
def test_scattered_rows_equal_numpy(drawn):
    out, index, valid = drawn
    index, valid = index[:ROWS], valid[:ROWS]
    (n,), width = index.shape, out.shape[1]
    x = (np.arange(n * BLOCK).reshape(n, BLOCK) % 100).astype(out.dtype)
    expected = out.copy()
    for row, wanted, values in zip(index, valid, x, strict=True):  # the last row of an index stays
        if wanted:
            expected[row] = values[:width]
    run = on_both_engines(lambda: scatter[(1,)](out, x, index, valid, n, width, ROWS, BLOCK), out)
    np.testing.assert_array_equal(out, expected)
    assert lengths(run, "scatter") == {BLOCK}


@mlu.jit
def gather_pages(out, pages, table, heads, page, width, A: tl.constexpr, B: tl.constexpr, BLOCK: tl.constexpr):
    a = tl.arange(0, A)[:, None, None]
    b = tl.arange(0, B)[None, :, None]
    j = tl.arange(0, BLOCK)[None, None, :]
    number = tl.load(table + tl.arange(0, A))
    offsets = number[:, None, None] * page + b * width + j
    values = tl.load(pages + offsets, mask=(b < heads) & (j < width), other=0.0)
    tl.store(out + (a * B + b) * BLOCK + j, values)


@pytest.mark.parametrize(("heads", "width"), [(4, 16), (3, 16), (4, 11), (1, 1)])
def test_blocks_of_three_dimensions(heads, width):
    pages = np.arange(6 * heads * width, dtype=np.float32).reshape(6, heads, width) + 1
    table = np.array([5, 0, 5, 3], np.int32)
    out = np.full((4, 4, 16), np.nan, np.float32)
    run = on_both_engines(
        lambda: gather_pages[(1,)](out, pages, table, heads, heads * width, width, 4, 4, 16),
        out,
    )
    expected = np.zeros((4, 4, 16), np.float32)
    expected[:, :heads, :width] = pages[table]
    np.testing.assert_array_equal(out, expected)
    assert lengths(run, "gather") == {16}


@mlu.jit
def scores(out, q, cache, slots, stride, TOKENS: tl.constexpr, WIDTH: tl.constexpr):
    t = tl.arange(0, TOKENS)
    d = tl.arange(0, WIDTH)
    slot = tl.load(slots + t)
    keys = tl.load(cache + slot[None, :] * stride + d[:, None])  # [width, tokens], as a dot wants it
    query = tl.load(q + tl.arange(0, 16)[:, None] * WIDTH + d[None, :])
    tl.store(out + tl.arange(0, 16)[:, None] * TOKENS + t[None, :], tl.dot(query, keys))


def test_rows_that_stand_as_columns():
    rng = np.random.default_rng(0)
    q, cache = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((16, 64), (50, 64)))
    slots = rng.integers(0, 50, 32).astype(np.int64)
    out = np.zeros((16, 32), np.float32)
    run = on_both_engines(lambda: scores[(1,)](out, q, cache, slots, 64, 32, 64), out)
    np.testing.assert_array_equal(out, q @ cache[slots].T)
    assert lengths(run, "gather") == {64}


@mlu.jit
def sum_along(out, x, index, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    j = tl.arange(0, BLOCK)
    row = tl.load(index + tl.arange(0, ROWS))
    pointers = x + row[:, None] * width + j[None, :]
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(0, width, BLOCK):
        total += tl.load(pointers, mask=(row[:, None] >= 0) & (start + j[None, :] < width), other=0.0)
        pointers += BLOCK
    tl.store(out + tl.arange(0, ROWS), tl.sum(total, axis=1))


@pytest.mark.parametrize("width", [1, 32, 75, 160])
def test_row_pointers_that_a_loop_advances(width):
    x = np.random.default_rng(width).integers(-9, 9, (9, width)).astype(np.float32)
    index = np.array([3, 8, -1, 0, 3, -5, 7, 1], np.int32)
    out = np.zeros(ROWS, np.float32)
    run = on_both_engines(lambda: sum_along[(1,)](out, x, index, width, ROWS, BLOCK), out)
    np.testing.assert_array_equal(out, np.where(index < 0, 0, x[index].sum(axis=1)))
    assert lengths(run, "gather") == {BLOCK}


@mlu.jit
def gather_else(out, x, index, other, OTHER: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, ROWS)
    j = tl.arange(0, BLOCK)
    row = tl.load(index + i)
    if OTHER == "row":
        rest = tl.broadcast_to(tl.load(other + i)[:, None], (ROWS, BLOCK))
    else:
        rest = tl.load(other + i[:, None] * BLOCK + j[None, :])
    values = tl.load(x + row[:, None] * BLOCK + j[None, :], mask=(row >= 0)[:, None] & (j < 20)[None, :], other=rest)
    tl.store(out + i[:, None] * BLOCK + j[None, :], values)


@pytest.mark.parametrize("kind", ["row", "full"])
def test_what_stands_where_nothing_is_loaded(kind):
    x = np.arange(4 * BLOCK, dtype=np.float32).reshape(4, BLOCK)
    index = np.array([3, -1, 0, 0, -1, 2, 1, 3], np.int32)
    other = -np.arange(1, 1 + ROWS * (BLOCK if kind == "full" else 1), dtype=np.float32).reshape(ROWS, -1)
    out = np.zeros((ROWS, BLOCK), np.float32)
    run = on_both_engines(lambda: gather_else[(1,)](out, x, index, other, kind, ROWS, BLOCK), out)
    expected = np.broadcast_to(other, out.shape).copy()
    expected[index >= 0, :20] = x[index[index >= 0], :20]
    np.testing.assert_array_equal(out, expected)
    assert lengths(run, "gather") == {BLOCK}


@mlu.jit
def gather_ragged(out, x, start, size, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, ROWS)
    j = tl.arange(0, BLOCK)
    first, count = tl.load(start + i), tl.load(size + i)
    values = tl.load(x + first[:, None] + j[None, :], mask=j[None, :] < count[:, None], other=0)
    tl.store(out + i[:, None] * BLOCK + j[None, :], values)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_ragged_rows_go_element_by_element(dtype):
    x = np.arange(100, dtype=np.int32)
    start = np.array([0, 5, 99, 60, 5, 7, 31, 68], dtype)
    size = np.array([3, 32, 1, 0, 20, 1, 32, 32], np.int32)
    out = np.zeros((ROWS, BLOCK), np.int32)
    run = on_both_engines(lambda: gather_ragged[(1,)](out, x, start, size, ROWS, BLOCK), out)
    expected = [[x[a + j] if j < n else 0 for j in range(BLOCK)] for a, n in zip(start, size, strict=True)]
    np.testing.assert_array_equal(out, expected)
    assert lengths(run, "gather") == {1}


def test_a_row_outside_the_array_is_a_fault():
    table = np.zeros((4, BLOCK), np.float32)
    index, valid = np.array([0, 4], np.int32), np.ones(2, np.int8)
    out = np.zeros((2, BLOCK), np.float32)
    with pytest.raises(mlu.MluError, match="load of 128 bytes") as caught:
        gather[(1,)](out, table, index, valid, 2, BLOCK, ROWS, BLOCK)
    assert caught.value.code == "E0301"
    assert not out.any()


@pytest.mark.parametrize("width", [16, 32])
def test_a_row_costs_one_item(width):
    x, out = np.zeros((ROWS, width), np.float32), np.zeros((ROWS, BLOCK), np.float32)
    index, valid = np.arange(ROWS, dtype=np.int32), np.ones(ROWS, np.int8)
    run = gather[(1,)](out, x, index, valid, ROWS, width, ROWS, BLOCK)
    machine = run.machine
    # The index, the flags, the rows and the result are a transfer each; all of them but the rows are of one segment.
    setup = 4 * machine.dma_setup_cycles + ROWS * machine.gather_item_cycles
    # What passes while the core issues the next transfer is not waited for; single elements would cost far more.
    assert abs(setup - run.core_cycles.wait_io_setup) < 2 * machine.dma_setup_cycles
    assert run.dram_read_bytes == 2 * machine.dram_granule_bytes + out[:, :width].nbytes


def test_embedding_is_near_its_bound(repository):
    [example] = load_examples(repository / "examples" / "embedding.py")
    run = example.cases[0].run().run
    assert run.cycles < 4 * run.work_bound_cycles
