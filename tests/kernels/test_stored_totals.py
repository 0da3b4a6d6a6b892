"""Loops that store each turn what they carry: a running total is not held up by the store of the one before."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.configuration import current_machine
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines


@mlu.jit
def running(out, x, steps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    place = tl.arange(0, ROWS)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    for step in range(steps):
        at = (step * tl.num_programs(0) + tl.program_id(0)) * ROWS * WIDTH + place
        total = total * 0.5 + tl.load(x + at)
        tl.store(out + at, total)


@mlu.jit
def running_products(out, x, y, steps, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    total = tl.zeros((SIZE, SIZE), tl.float32)
    for step in range(steps):
        at = (step * tl.num_programs(0) + tl.program_id(0)) * SIZE * SIZE + place
        total = tl.dot(tl.load(x + at), tl.load(y + at), total)
        tl.store(out + at, total)


def integers(*shape, dtype=np.float32):
    return np.random.default_rng(6).integers(-4, 5, shape).astype(dtype)


@pairs_of(
    (("steps", "rows", "width"), [(0, 1, 32), (9, 1, 32), (4, 32, 64), (3, 128, 128)]),
    ("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"]),
    ("warps", [1, 4]),
)
def test_elementwise(machine, steps, rows, width, warps):
    mlu.set_machine(machine)
    x = integers(steps, 3, rows, width)
    out, total = np.zeros_like(x), np.zeros((3, rows, width), np.float32)
    constants = {"ROWS": rows, "WIDTH": width, "num_warps": warps}
    on_both_engines(lambda: running[(3,)](out, x, steps, **constants), out)
    for step in range(steps):
        total = total * np.float32(0.5) + x[step]
        np.testing.assert_array_equal(out[step], total)


@pytest.mark.parametrize("warps", [1, 4])
def test_products(warps):
    x, y = integers(5, 2, 64, 64, dtype=np.float16), integers(5, 2, 64, 64, dtype=np.float16)
    out = np.zeros((5, 2, 64, 64), np.float32)
    on_both_engines(lambda: running_products[(2,)](out, x, y, 5, SIZE=64, num_warps=warps), out)
    np.testing.assert_array_equal(out, np.cumsum(x.astype(np.float32) @ y.astype(np.float32), axis=0))


def test_a_turn_takes_no_latency_of_its_own():
    x = integers(201, 32, 32)
    out = np.empty_like(x)
    few, many = (running[(32,)](out, x, steps, ROWS=1, WIDTH=32).cycles for steps in (101, 201))
    machine = current_machine()
    assert (many - few) / 100 < machine.cycles_from_ns(machine.dram_bulk_latency_ns) / 2
