"""Loops that are unrolled make chains of operations that are longer than Python's stack."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

ROWS, COLUMNS = 4, 32


@mlu.jit
def of_numbers(out, x, first, STEPS: tl.constexpr, COLUMNS: tl.constexpr):
    """Where each row begins is a number that steps make, each of the one before, which it reads twice."""
    column = tl.arange(0, COLUMNS)
    begin = tl.program_id(0) + first
    for step in tl.static_range(STEPS):
        begin = (begin + begin % 77 + step) % 1000
    tl.store(out + tl.program_id(0) * COLUMNS + column, tl.load(x + begin + column))


@mlu.jit
def of_limits(out, x, first, STEPS: tl.constexpr, COLUMNS: tl.constexpr):
    """How much of each row is valid is the least of two numbers that steps make of one."""
    column = tl.arange(0, COLUMNS)
    end = tl.program_id(0) * 5 - first
    for step in tl.static_range(STEPS):
        end = tl.minimum(end + step, end * end)
    place = tl.program_id(0) * COLUMNS + column
    tl.store(out + place, tl.load(x + place, mask=column < end, other=-1.0))


@mlu.jit
def of_positions(out, x, first, STEPS: tl.constexpr, COLUMNS: tl.constexpr):
    """Where each element is found is what steps make, each a digit of a sum."""
    row, column = tl.program_id(0) * 2 + tl.arange(0, 2)[:, None], tl.arange(0, COLUMNS)[None, :]
    place = row * COLUMNS + column + first
    for step in tl.static_range(STEPS):
        place = (place * 5 + step) % 1021
    tl.store(out + row * COLUMNS + column, tl.load(x + place))


@mlu.jit
def of_totals(out, x, columns, STEPS: tl.constexpr, COLUMNS: tl.constexpr):
    """What is stored is what steps of a loop add up."""
    row, column = tl.program_id(0) * 2 + tl.arange(0, 2)[:, None], tl.arange(0, COLUMNS)[None, :]
    total = tl.zeros((2, COLUMNS), tl.float32)
    for begin in range(0, columns, COLUMNS):
        tile = tl.load(x + row * columns + begin + column, mask=begin + column < columns, other=0.0)
        for step in tl.static_range(STEPS):
            total = total * 0.5 + tile * step
    tl.store(out + row * COLUMNS + column, total)


@mlu.jit
def of_masks(out, x, least, STEPS: tl.constexpr, COLUMNS: tl.constexpr):
    """Whether an element is stored is told by what steps make of it."""
    row, column = tl.program_id(0) * 2 + tl.arange(0, 2)[:, None], tl.arange(0, COLUMNS)[None, :]
    value = tl.load(x + row * COLUMNS + column)
    for step in tl.static_range(STEPS):
        value = value * 0.5 + step
    tl.store(out + row * COLUMNS + column, value, mask=value > least)


def _totals(x, columns, steps):
    total = np.zeros((ROWS, COLUMNS), np.float32)
    tiles = np.zeros((ROWS, 2 * COLUMNS), np.float32)
    tiles[:, :columns] = x[: ROWS * columns].reshape(ROWS, columns)
    for tile in np.hsplit(tiles, 2):
        for step in range(steps):
            total = total * np.float32(0.5) + tile * np.float32(step)
    return total


def _masked(x, least, steps):
    value = x[: ROWS * COLUMNS].reshape(ROWS, COLUMNS)
    for step in range(steps):
        value = value * np.float32(0.5) + np.float32(step)
    return np.where(value > least, value, 0)


def _of_rows(x, first, steps):
    begin = np.arange(ROWS) + first
    for step in range(steps):
        begin = (begin + begin % 77 + step) % 1000
    return x[begin[:, None] + np.arange(COLUMNS)]


def _of_parts(x, first, steps):
    end = np.arange(ROWS) * 5 - first
    for step in range(steps):
        end = np.minimum(end + step, end * end)
    return np.where(np.arange(COLUMNS) < end[:, None], x[: ROWS * COLUMNS].reshape(ROWS, COLUMNS), -1)


def _of_elements(x, first, steps):
    place = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + first
    for step in range(steps):
        place = (place * 5 + step) % 1021
    return x[place]


@pytest.mark.parametrize(
    ("kernel", "steps", "expected"),
    [
        (of_numbers, 170, _of_rows),
        (of_limits, 30, _of_parts),
        (of_positions, 100, _of_elements),
        (of_totals, 110, _totals),
        (of_masks, 170, _masked),
    ],
)
def test_chains_may_be_longer_than_the_stack(kernel, steps, expected):
    x, out = np.arange(2048, dtype=np.float32), np.zeros((ROWS, COLUMNS), np.float32)
    kernel[(ROWS if kernel in (of_numbers, of_limits) else ROWS // 2,)](out, x, 37, STEPS=steps, COLUMNS=COLUMNS)
    np.testing.assert_allclose(out, expected(x, 37, steps), rtol=1e-5)
