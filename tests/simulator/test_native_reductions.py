"""The lesser and the greater of rows and columns: natively they are those of integers, and nobody can tell."""

from __future__ import annotations

import numpy as np
import pytest

from mlutriton.dtypes import BY_NAME
from mlutriton.isa.assembly import assemble
from mlutriton.isa.legality import check
from mlutriton.simulator import interpreter
from mlutriton.simulator.execution import execute
from mlutriton.simulator.memory import Allocation, GlobalMemory
from tests.simulator.programs_by_hand import MACHINE, load
from tests.simulator.random_programs import equal

ELEMENTS = 2400
REDUCE = """
.program reduce
.isa {isa}
.cores 1
.param out ptr {dtype}
.param x ptr {dtype}
.buffer a nram 0 {size}
.buffer b nram {size} {size}
    param r0, 0
    param r1, 1
    dma.load.{dtype} [a], g[r1], {elements}, 1, 1, 0, 0, 0, 0
    sync 1
    red.{operation}.{dtype} [b], [a], {outer}, {n}, {inner}
    sync 4
    dma.store.{dtype} g[r0], [b], {results}, 1, 1, 0, 0, 0, 0
    exit
"""
# Rows of one sign, of both zeros, of NaN of both signs alone and beside numbers, of the ends of the range.
KINDS = (
    [0.0, -0.0],
    [-0.0, -0.0],
    [np.nan, -np.nan],
    [np.nan, -np.nan, -3.0, -5.0],
    [np.nan, 2.0, -1.0, 0.0],
    [np.inf, -np.inf, 1.0],
    [-np.inf, np.nan],
    [np.inf, -np.nan],
    [1e-7, -1e-7, 0.0, -0.0],
    [-np.inf, -np.inf],
)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
@pytest.mark.parametrize("operation", ["fmin", "fmax", "fminimum", "fmaximum"])
@pytest.mark.parametrize(
    ("outer", "n", "inner"),
    [(40, 60, 1), (3, 800, 1), (1200, 2, 1), (300, 8, 1), (150, 4, 4), (2, 60, 20), (1, 2400, 1)],
)
def test_rows_of_special_values(dtype, operation, outer, n, inner, runtime):
    numpy = BY_NAME[dtype].numpy
    words = {"dtype": dtype, "operation": operation, "outer": outer, "n": n, "inner": inner, "isa": MACHINE.isa}
    size = -(-ELEMENTS * np.dtype(numpy).itemsize // 64) * 64
    program = assemble(REDUCE.format(**words, size=size, elements=ELEMENTS, results=outer * inner))
    check(program, MACHINE)
    generator = np.random.default_rng(n)
    rows = [generator.choice(KINDS[number % len(KINDS)], n) for number in range(outer * inner)]
    x = np.array(rows).reshape(outer, inner, n).swapaxes(1, 2).ravel().astype(numpy)
    expected, out = np.zeros(outer * inner, numpy), np.zeros(outer * inner, numpy)
    for result in (expected, out):
        memory = GlobalMemory([Allocation.of_array("out", result), Allocation.of_array("x", x)])
        parameters = [result.ctypes.data, x.ctypes.data]
        if result is expected:
            interpreter.run(program, (1, 1, 1), parameters, memory, MACHINE)
        else:
            execute(load(program, runtime), (1, 1, 1), parameters, memory, MACHINE, 1)
    assert equal(expected, out).all()
    assert outer * inner < 2 or (len(set(map(str, expected))) > 1)
