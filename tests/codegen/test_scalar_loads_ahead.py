"""Tiles whose place is loaded arrive ahead of what is done with them, and nothing is read that is not there."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def sum_pages(out, pages, table, count, PAGE: tl.constexpr):
    item = tl.arange(0, PAGE)
    total = tl.zeros((PAGE,), tl.float32)
    for i in range(tl.program_id(0), count, tl.num_programs(0)):
        total += tl.load(pages + tl.load(table + i) * PAGE + item)
    tl.store(out + tl.program_id(0) * PAGE + item, total)


@mlu.jit
def weigh_pages(out, pages, table, count, PAGE: tl.constexpr):
    """The number of a page is needed with its items, too."""
    item = tl.arange(0, PAGE)
    total = tl.zeros((PAGE,), tl.float32)
    for i in range(tl.program_id(0), count, tl.num_programs(0)):
        number = tl.load(table + i)
        total += tl.load(pages + number * PAGE + item) * number
    tl.store(out + tl.program_id(0) * PAGE + item, total)


@mlu.jit
def follow(out, pages, table, steps, PAGE: tl.constexpr):
    """Each page's number says where the next one's stands."""
    item = tl.arange(0, PAGE)
    total = tl.zeros((PAGE,), tl.float32)
    number = 0
    for _ in range(steps):
        number = tl.load(table + number)
        total += tl.load(pages + number * PAGE + item)
    tl.store(out + item, total)


@mlu.jit
def copy_pages(out, pages, table, count, PAGE: tl.constexpr):
    item = tl.arange(0, PAGE)
    for i in range(count):
        tl.store(out + i * PAGE + item, tl.load(pages + tl.load(table + i) * PAGE + item))


@mlu.jit
def look_up_row(out, rows, table, WIDTH: tl.constexpr):
    number, column = tl.program_id(0), tl.arange(0, WIDTH)
    values = tl.load(rows + tl.load(table + number) * WIDTH + column)
    tl.store(out + number * WIDTH + column, values - tl.max(values, axis=0))


@pytest.fixture(params=["native", "interpreter"])
def engine(request, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", request.param)


def pages_of(page, count):
    rng = np.random.default_rng(count)
    return rng.integers(-9, 9, (20, page)).astype(np.float32), rng.integers(0, 20, count, np.int32)


@pytest.mark.parametrize("page", [64, 8192])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 30])
@pytest.mark.usefixtures("engine")
def test_pages(page, count):
    """The table ends where it ends: a number beyond it would be a fault."""
    pages, table = pages_of(page, count)
    for kernel, factors in ((sum_pages, np.ones(count)), (weigh_pages, table)):
        out = np.zeros((2, page), np.float32)
        kernel[(2,)](out, pages, table, count, PAGE=page)
        wanted = pages[table] * factors[:, None]
        np.testing.assert_array_equal(out, [wanted[part::2].sum(axis=0) for part in range(2)])


@pytest.mark.usefixtures("engine")
def test_chains_of_pages():
    pages, table = pages_of(64, 20)
    out, number, expected = np.zeros(64, np.float32), 0, np.zeros(64, np.float32)
    for _ in range(9):
        number = table[number]
        expected += pages[number]
    follow[(1,)](out, pages, table, 9, PAGE=64)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.usefixtures("engine")
def test_pages_that_the_loop_writes_itself():
    memory = np.zeros((9, 64), np.float32)
    memory[0] = 5
    copy_pages[(1,)](memory[1:], memory, np.arange(8, dtype=np.int32), 8, PAGE=64)
    assert (memory == 5).all()


@pytest.mark.usefixtures("engine")
def test_programs_that_look_up_their_row():
    rows, table = pages_of(256, 300)
    out = np.zeros((300, 256), np.float32)
    look_up_row[(300,)](out, rows, table, WIDTH=256)
    np.testing.assert_array_equal(out, rows[table] - rows[table].max(axis=1, keepdims=True))


def test_a_fault_of_a_lookup_names_a_program(monkeypatch):
    """That of the lookup, or the first one of its block."""
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    rows, table = pages_of(256, 100)
    out = np.zeros((101, 256), np.float32)
    with pytest.raises(mlu.KernelFault, match=r"program \((98|99|100), 0, 0\)"):
        look_up_row[(101,)](out, rows, table, WIDTH=256)


@mlu.jit
def gather_by_pointers(out, pointers, WIDTH: tl.constexpr):
    """What is loaded is the place itself."""
    number, column = tl.program_id(0), tl.arange(0, WIDTH)
    source = tl.load(pointers + number).to(tl.pointer_type(tl.float32))
    tl.store(out + number * WIDTH + column, tl.load(source + column) + 1)


@pytest.mark.usefixtures("engine")
def test_places_that_are_loaded_as_they_are():
    out = np.zeros((60, 64), np.float32)
    source = np.random.default_rng(0).random((70, 64), np.float32)
    # What a pointer leads to has to be an array of the launch.
    out = np.concatenate([out, source])
    pointers = out.ctypes.data + out.strides[0] * (60 + np.arange(60, dtype=np.int64)[::-1])
    gather_by_pointers[(60,)](out, pointers, WIDTH=64)
    np.testing.assert_array_equal(out[:60], source[:60][::-1] + 1)


def test_pages_arrive_while_others_are_summed():
    pages, table = pages_of(8192, 40)
    out = np.zeros((1, 8192), np.float32)
    ahead, plain = (sum_pages[(1,)](out, pages, table, 40, PAGE=8192, num_stages=stages) for stages in (2, 1))
    assert ahead.cycles < 0.85 * plain.cycles
