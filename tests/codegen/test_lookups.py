"""Loads whose addresses are looked up in memory run ahead like others, but never look behind the end of a table."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def sum_of_pages(out, pages, table, count, scratch, PAGE: tl.constexpr, WRITES: tl.constexpr):
    total = tl.zeros((2, PAGE // 2), dtype=tl.float32)
    for place in range(count):
        number = tl.load(table + place)
        # Two rows with a gap: what is in one piece is an item of a gather.
        row, column = tl.arange(0, 2)[:, None], tl.arange(0, PAGE // 2)[None, :]
        total += tl.load(pages + number * PAGE * 2 + row * PAGE + column)
        if WRITES:
            tl.store(scratch + place, number)
    tl.store(out + tl.arange(0, PAGE), total.reshape((PAGE,)))


def launched(count, *, writes=False):
    rng = np.random.default_rng(count)
    pages = rng.standard_normal((40, 2, 256), np.float32)
    table = rng.permutation(40)[:count].astype(np.int32)
    out, scratch = np.empty(256, np.float32), np.zeros(40, np.int32)
    run = sum_of_pages[(1,)](out, pages, table, count, scratch, PAGE=256, WRITES=writes)
    np.testing.assert_allclose(out, pages[table, :, :128].sum(axis=0).reshape(-1), rtol=1e-5, atol=1e-5)
    return run


def pages_on_chip(run):
    """How many pages the largest buffer has room for."""
    return max(buffer.bytes for buffer in run.program.buffers.values()) // (256 * 4)


def lookups(run):
    """How many instructions have the scalar unit wait for global memory."""
    return sum(each.row.name == "ldg" for each in run.program.instructions)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_values_are_those_of_the_kernel(engine, count, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    assert pages_on_chip(launched(count)) >= 2


def test_nothing_is_looked_up_without_iterations(monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    launched(0)


def test_a_loop_that_writes_looks_up_when_it_is_there():
    assert pages_on_chip(launched(7, writes=True)) == 1


def test_the_numbers_of_many_pages_come_at_once():
    assert lookups(launched(7)) == 0
    assert lookups(launched(7, writes=True)) == 1


def test_the_next_page_is_on_its_way_meanwhile():
    ahead, behind = (
        (launched(32, writes=writes).cycles - launched(2, writes=writes).cycles) for writes in (False, True)
    )
    assert ahead < 0.8 * behind
