"""Programs whose rows begin at places that they load: items of gathers and scatters, many programs' at once."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines


@mlu.jit
def look_up(out, table, ids, columns, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    place = tl.load(ids + row)
    values = tl.load(table + place * columns + column, mask=column < columns, other=-1)
    tl.store(out + row * BLOCK + column, values)


@pairs_of(("dtype", [np.float32, np.float16, np.int8]), ("index", [np.int32, np.int64]), ("columns", [1, 100, 128]))
def test_rows_are_looked_up(dtype, index, columns):
    rng = np.random.default_rng(columns)
    table, ids = rng.integers(-99, 99, (50, columns)).astype(dtype), rng.integers(0, 50, 300).astype(index)
    out = np.zeros((300, 128), dtype)
    run = on_both_engines(lambda: look_up[(300,)](out, table, ids, columns, BLOCK=128), out)
    expected = np.full_like(out, -1)
    expected[:, :columns] = table[ids]
    np.testing.assert_array_equal(out, expected)
    one_by_one = look_up[(300,)](out, table, ids, columns, BLOCK=128, num_stages=1)
    assert run.cycles < one_by_one.cycles / 1.5


@mlu.jit
def write_to_pages(
    cache, x, slots, x_stride, page_stride, PAGE: tl.constexpr, HEADS: tl.constexpr, DEPTH: tl.constexpr
):
    """A key for each token and head, where the token's slot says: page and place on it."""
    token, head, depth = tl.program_id(0), tl.program_id(1), tl.arange(0, DEPTH)
    slot = tl.load(slots + token)
    page, place = slot // PAGE, slot % PAGE
    key = tl.load(x + token * x_stride + head * DEPTH + depth)
    tl.store(cache + page * page_stride + head * PAGE * DEPTH + place * DEPTH + depth, key)


@pytest.mark.parametrize("tokens", [1, 230])
def test_rows_are_written_where_slots_say(tokens):
    rng = np.random.default_rng(tokens)
    x = rng.random((tokens, 3, 32), np.float32)
    slots = rng.permutation(16 * 20)[:tokens]
    cache = np.zeros((20, 3, 16, 32), np.float32)
    on_both_engines(
        lambda: write_to_pages[tokens, 3](cache, x, slots, 96, 3 * 16 * 32, PAGE=16, HEADS=3, DEPTH=32), cache
    )
    expected = np.zeros_like(cache)
    expected[slots // 16, :, slots % 16] = x
    np.testing.assert_array_equal(cache, expected)


@mlu.jit
def add_to_chosen(out, x, ids, limits, columns, BLOCK: tl.constexpr):
    """In place, as far as each row's own limit; the later of two programs for one row must see the former's sum."""
    column = tl.arange(0, BLOCK)
    for step in range(tl.num_programs(0), 6):
        place, limit = tl.load(ids + step), tl.load(limits + step)
        row = out + place * columns + column
        mask = (column < columns) & (column < limit)
        tl.store(row, tl.load(row, mask=mask) + tl.load(x + step * columns + column, mask=mask), mask=mask)


def test_rows_that_a_loop_changes_in_turn():
    rng, columns = np.random.default_rng(3), 40
    x, out = rng.random((6, columns), np.float32), np.zeros((4, columns), np.float32)
    ids, limits = np.array([0, 2, 2, 1, 2, 1], np.int32), np.array([9, 40, 7, 0, 64, 12], np.int32)
    expected = out.copy()
    for step in range(1, 6):
        expected[ids[step], : limits[step]] += x[step, : limits[step]]
    on_both_engines(lambda: add_to_chosen[(1,)](out, x, ids, limits, columns, BLOCK=64), out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_a_place_outside_the_table_is_a_fault_at_its_line(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    table, out, ids = np.zeros((5, 8), np.float32), np.zeros((9, 8), np.float32), np.zeros(9, np.int32)
    ids[7] = 5
    with pytest.raises(mlu.KernelFault, match="table") as fault:
        look_up[(9,)](out, table, ids, 8, BLOCK=8)
    assert "test_rows_at_loaded_places.py" in str(fault.value)


@mlu.jit
def pick(out, counts, x, labels, columns, rows, BLOCK: tl.constexpr):
    """The share of one chosen element of each row, to a place of its own; and a count beside it."""
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    values = tl.load(x + row * columns + column, mask=column < columns, other=0)
    label = tl.load(labels + row)
    chosen = tl.load(x + row * columns + label, mask=row < rows, other=0.5)
    tl.store(out + label, chosen / tl.sum(values))
    tl.store(counts + label, tl.sum((values > 0.5).to(tl.int32)))


def test_elements_at_loaded_places():
    rng, columns = np.random.default_rng(11), 200
    x, labels = rng.random((150, columns), np.float32), rng.permutation(columns)[:150]
    out, counts = np.zeros(columns, np.float32), np.zeros(columns, np.int32)
    run = on_both_engines(lambda: pick[(150,)](out, counts, x, labels, columns, 140, BLOCK=256), out, counts)
    chosen = np.where(np.arange(150) < 140, x[np.arange(150), labels], 0.5)
    np.testing.assert_allclose(out[labels], chosen / x.sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(counts[labels], (x > 0.5).sum(axis=1))
    assert not any(each.row.name == "ldg" for each in run.program.instructions)


@mlu.jit
def scale_chosen(out, x, factors, ids, columns, BLOCK: tl.constexpr):
    """The same place is a row of one array and an element of another."""
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    place = tl.load(ids + row)
    factor = tl.load(factors + place)
    values = tl.load(x + place * columns + column, mask=column < columns, other=0)
    tl.store(out + row * columns + column, values * factor, mask=column < columns)


def test_a_place_is_a_row_here_and_an_element_there():
    rng = np.random.default_rng(12)
    x, factors, ids = rng.random((60, 100), np.float32), rng.random(60, np.float32), rng.permutation(60)
    out = np.zeros_like(x)
    on_both_engines(lambda: scale_chosen[(60,)](out, x, factors, ids, 100, BLOCK=128), out)
    np.testing.assert_array_equal(out, x[ids] * factors[ids][:, None])


@mlu.jit
def gather_pages(out, cache, table, pages, PAGE: tl.constexpr, DEPTH: tl.constexpr):
    place, row, column = tl.load(table + tl.program_id(0)), tl.arange(0, PAGE)[:, None], tl.arange(0, DEPTH)[None, :]
    values = tl.load(cache + (place * PAGE + row) * DEPTH + column, mask=row < pages, other=-1)
    tl.store(out + (tl.program_id(0) * PAGE + row) * DEPTH + column, values)


@pytest.mark.parametrize("rows", [16, 5, 0])
def test_a_tile_in_one_piece_is_a_row(rows):
    rng = np.random.default_rng(13)
    cache, table = rng.integers(-99, 99, (40, 16, 32)).astype(np.float16), rng.permutation(40)
    out = np.zeros_like(cache)
    run = on_both_engines(lambda: gather_pages[(40,)](out, cache, table, rows, PAGE=16, DEPTH=32), out)
    expected = np.full_like(cache, -1)
    expected[:, :rows] = cache[table, :rows]
    np.testing.assert_array_equal(out, expected)
    assert not any(each.row.name == "ldg" for each in run.program.instructions)


@mlu.jit
def copy_jagged(out, x, begins, LONGEST: tl.constexpr, DEPTH: tl.constexpr):
    begin, end = tl.load(begins + tl.program_id(0)), tl.load(begins + tl.program_id(0) + 1)
    row, column = tl.arange(0, LONGEST)[:, None], tl.arange(0, DEPTH)[None, :]
    values = tl.load(x + (begin + row) * DEPTH + column, mask=row < end - begin, other=0)
    tl.store(out + (tl.program_id(0) * LONGEST + row) * DEPTH + column, values)


def test_what_stands_in_a_register_anyway_is_no_item():
    rng = np.random.default_rng(14)
    lengths = rng.integers(0, 20, 60)
    begins = np.concatenate([[0], lengths.cumsum()])
    x, out = rng.random((begins[-1], 16), np.float32), np.ones((60, 16, 16), np.float32)
    run = on_both_engines(lambda: copy_jagged[(60,)](out, x, begins, LONGEST=16, DEPTH=16), out)
    for row, (begin, length) in enumerate(zip(begins, lengths, strict=False)):
        whole = np.zeros((16, 16), np.float32)
        whole[: min(length, 16)] = x[begin : begin + min(length, 16)]
        np.testing.assert_array_equal(out[row], whole)
    assert not any(each.row.name == "gather" for each in run.program.instructions)


@mlu.jit
def add_rows(out, x, ids, scale, columns, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    place = tl.load(ids + row)
    values = tl.load(x + row * columns + column, mask=column < columns, other=0)
    tl.atomic_add(out + place * columns + column, values * scale, mask=column < columns)


@pytest.mark.parametrize("columns", [1, 100, 128])
def test_rows_are_added_where_an_index_says(columns):
    rng = np.random.default_rng(15)
    x, ids = rng.integers(-99, 99, (300, columns)).astype(np.float32), rng.integers(0, 9, 300)
    out, expected = np.zeros((9, columns), np.float32), np.zeros((9, columns), np.float32)
    np.add.at(expected, ids, x * 2)
    run = on_both_engines(lambda: add_rows[(300,)](out, x, ids, 2.0, columns, BLOCK=128), out)
    np.testing.assert_array_equal(out, expected)
    one_by_one = add_rows[(300,)](out, x, ids, 2.0, columns, BLOCK=128, num_stages=1)
    assert run.cycles < one_by_one.cycles / 1.8


@mlu.jit
def store_and_count(out, counts, x, ids, n, BLOCK: tl.constexpr):
    """Stores and silent atomics of one program, of the same array."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + i, mask=i < n, other=0)
    tl.store(out + i, values, mask=i < n)
    tl.atomic_add(out + i, values, mask=i < n)
    tl.atomic_add(counts + tl.load(ids + i, mask=i < n, other=0), 1, mask=i < n)


@pytest.mark.parametrize("n", [1000, 4096])
def test_atomics_behind_stores_of_the_same_place(n):
    rng = np.random.default_rng(16)
    x, ids = rng.random(n, np.float32), rng.integers(0, 7, n)
    out, counts = np.zeros(n, np.float32), np.zeros(7, np.int32)
    on_both_engines(lambda: store_and_count[(-(-n // 32),)](out, counts, x, ids, n, BLOCK=32), out, counts)
    np.testing.assert_array_equal(out, 2 * x)
    np.testing.assert_array_equal(counts, np.bincount(ids, minlength=7))
