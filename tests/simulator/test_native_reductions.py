"""The lesser and the greater of rows and columns, and their places: natively of integers, and nobody can tell."""

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
.param out ptr DTYPE
.param x ptr DTYPE
.buffer a nram 0 {size}
.buffer b nram {size} {size}
.buffer c nram 262144 16384
    param r0, 0
    param r1, 1
    dma.load.DTYPE [a], g[r1], {elements}, 1, 1, 0, 0, 0, 0
    sync 1
    red.REDUCE
    sync 4
    dma.store.DTYPE g[r0], [STORED], {results}, 1, 1, 0, 0, 0, 0
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


SHAPES = pytest.mark.parametrize(
    ("outer", "n", "inner"),
    [(40, 60, 1), (3, 800, 1), (1200, 2, 1), (300, 8, 1), (150, 4, 4), (2, 60, 20), (1, 2400, 1)],
)


def run_both(text, elements, results, runtime):
    """What the interpreter and native code store of a program over some elements."""
    dtype, stored = elements.dtype, []
    size = -(-ELEMENTS * dtype.itemsize // 64) * 64
    program = assemble(text.format(isa=MACHINE.isa, size=size, elements=ELEMENTS, results=results.size))
    check(program, MACHINE)
    for native in (False, True):
        result = results.copy()
        memory = GlobalMemory([Allocation.of_array("out", result), Allocation.of_array("x", elements)])
        parameters = [result.ctypes.data, elements.ctypes.data]
        if native:
            execute(load(program, runtime), (1, 1, 1), parameters, memory, MACHINE, 1)
        else:
            interpreter.run(program, (1, 1, 1), parameters, memory, MACHINE)
        stored.append(result)
    return stored


def special_values(dtype, outer, n, inner):
    generator = np.random.default_rng(n)
    if np.dtype(dtype).kind in "ib":
        return generator.choice([-3, -1, 0, 1, 1, 1, 2], outer * n * inner).astype(dtype)
    rows = [generator.choice(KINDS[number % len(KINDS)], n) for number in range(outer * inner)]
    return np.array(rows).reshape(outer, inner, n).swapaxes(1, 2).ravel().astype(dtype)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
@pytest.mark.parametrize("operation", ["fmin", "fmax", "fminimum", "fmaximum"])
@SHAPES
def test_rows_of_special_values(dtype, operation, outer, n, inner, runtime):
    numpy = BY_NAME[dtype].numpy
    text = REDUCE.replace("DTYPE", dtype).replace("REDUCE", f"{operation}.{dtype} [b], [a], {outer}, {n}, {inner}")
    x = special_values(numpy, outer, n, inner)
    expected, got = run_both(text.replace("STORED", "b"), x, np.zeros(outer * inner, numpy), runtime)
    assert equal(expected, got).all()
    assert outer * inner < 2 or (len(set(map(str, expected))) > 1)


@pytest.mark.parametrize("dtype", ["f32", "f16", "f64", "f8e5m2", "i1", "i8", "i64"])
@pytest.mark.parametrize("operation", ["argmin", "argmax"])
def test_the_first_of_special_values(dtype, operation, runtime):
    """NaNs are equal to each other, and so are zeros of either sign; extremes are in b, their places in c."""
    numpy, found = BY_NAME[dtype].numpy, set()
    for outer, n, inner in [(3, 800, 1), (240, 10, 1), (2, 60, 20)]:
        x = special_values(numpy, outer, n, inner)
        for stored, of in (("b", dtype), ("c", "i32")):
            text = REDUCE.replace("DTYPE g[r0]", f"{of} g[r0]").replace("DTYPE", dtype).replace("STORED", stored)
            text = text.replace("REDUCE", f"{operation}.{dtype} [b], [c], [a], {outer}, {n}, {inner}")
            expected, got = run_both(text, x, np.zeros(outer * inner, BY_NAME[of].numpy), runtime)
            assert equal(expected, got).all()
            found |= set(map(str, expected))
    assert len(found) > 3


@pytest.mark.parametrize("dtype", ["f32", "f16", "f64", "i8", "i64"])
@pytest.mark.parametrize("operation", ["add", "mul", "min", "max"])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_combinations_of_special_values(dtype, operation, reverse, runtime):
    numpy = BY_NAME[dtype].numpy
    kind = "f" if dtype.startswith("f") else "s" if operation.startswith("m") and operation != "mul" else ""
    for outer, n, inner in [(3, 800, 1), (160, 15, 1), (2, 60, 20), (80, 10, 3)]:
        x = special_values(numpy, outer, n, inner)
        text = REDUCE.replace("DTYPE", dtype).replace("STORED", "b")
        text = text.replace("red.REDUCE", f"scan.{kind}{operation}.{dtype} [b], [a], {outer}, {n}, {inner}, {reverse}")
        expected, got = run_both(text, x, np.zeros(x.size, numpy), runtime)
        assert equal(expected, got).all()
        assert len(set(map(str, expected))) > 2
