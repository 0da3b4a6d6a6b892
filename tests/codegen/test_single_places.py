"""Rows and tiles for which there is no second place: loads come as soon as the first is free."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def tiny():
    before = mlu.current_machine()
    mlu.set_machine("mlu-tiny")
    yield
    mlu.set_machine(before)


@mlu.jit
def softmax(out, x, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    values = tl.load(x + row + column, mask=column < columns, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row + column, powers / tl.sum(powers, axis=0), mask=column < columns)


def stores(run):
    return [each for each in run.program.instructions if each.row.name == "dma.store"]


@pytest.mark.parametrize("columns", [8192, 8191, 5000, 300, 1])
@pytest.mark.parametrize("programs", [1, 4, 13])
def test_rows_that_nearly_fill_the_memory_are_stored_in_parts(columns, programs):
    x = RNG.standard_normal((programs, columns), np.float32)
    out = np.zeros_like(x)
    run = softmax[(programs,)](out, x, columns, BLOCK=8192)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(out, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)
    assert len(stores(run)) > 1


def test_parts_hide_transfers():
    x = RNG.standard_normal((24, 8192), np.float32)
    runs = [softmax[(24,)](np.zeros_like(x), x, 8192, BLOCK=8192, num_stages=stages) for stages in (1, 2)]
    assert runs[1].cycles < 0.9 * runs[0].cycles


def test_a_row_may_be_stored_where_it_was_loaded():
    x = RNG.standard_normal((9, 7000), np.float32)
    expected = np.exp(x - x.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    softmax[(9,)](x, x, 7000, BLOCK=8192)
    np.testing.assert_allclose(x, expected, rtol=1e-5)


@mlu.jit
def shifted(out, x, rows, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    for row in range(rows):
        values = tl.load(x + row * BLOCK + i)
        tl.store(out + row * BLOCK + i, values + tl.max(values, axis=0))


def test_a_loop_that_reads_what_it_stored_reads_it():
    rows, size = 5, 8192
    x = RNG.integers(-3, 4, (rows + 1, size)).astype(np.float32)
    expected = x.copy()
    for row in range(rows):
        expected[row + 1] = expected[row] + expected[row].max()
    # Each row is stored where the next one is loaded.
    shifted[(1,)](mlu.array(x[1:]), mlu.array(x[:-1]), rows, BLOCK=size)
    np.testing.assert_array_equal(x, expected)


@mlu.jit
def weighted(out, x, weights, steps, M: tl.constexpr, K: tl.constexpr, N: tl.constexpr):
    m, k, n = tl.arange(0, M), tl.arange(0, K), tl.arange(0, N)
    total = tl.zeros((M, N), tl.float32)
    for step in range(steps):
        left = tl.load(x + m[:, None] * (steps * K) + step * K + k[None, :])
        right = tl.load(weights + (step * K + k)[:, None] * N + n[None, :])
        total = tl.dot(left, right, total)
        total = tl.where(total > 0, total * 0.5, total)
    tl.store(out + m[:, None] * N + n[None, :], total)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_a_tile_is_loaded_again_once_it_was_multiplied(steps):
    m, k, n = 64, 128, 64
    x = RNG.integers(-4, 5, (m, max(steps, 1) * k)).astype(np.float32)
    weights = RNG.integers(-4, 5, (max(steps, 1) * k, n)).astype(np.float32)
    expected = np.zeros((m, n), np.float32)
    for step in range(steps):
        expected += x[:, step * k : (step + 1) * k] @ weights[step * k : (step + 1) * k]
        expected = np.where(expected > 0, expected * 0.5, expected)
    out = np.full((m, n), np.nan, np.float32)
    weighted[(1,)](out, x, weights, steps, M=m, K=k, N=n)
    np.testing.assert_array_equal(out, expected)
