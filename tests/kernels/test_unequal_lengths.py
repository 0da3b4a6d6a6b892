"""Programs whose numbers say how long they take: each is served once, and all cores have about as much to do."""

from dataclasses import replace

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from examples import flash_attention
from examples.flash_attention import flash_attention as attention
from tests.covering import pairs_of

BLOCK = 32


@mlu.jit
def triangle(c, a, b, served, n, BLOCK: tl.constexpr, COLUMNS: tl.constexpr):
    """A product with what is on or below the diagonal of a matrix."""
    number = tl.program_id(0) + tl.num_programs(0) * tl.program_id(1)
    rows, columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((BLOCK, COLUMNS), tl.float32)
    for start in range(0, (tl.program_id(0) + 1) * BLOCK, BLOCK):
        depth = start + tl.arange(0, BLOCK)
        left = tl.load(a + rows[:, None] * n + depth[None, :], mask=rows[:, None] >= depth[None, :], other=0)
        right = tl.load(b + depth[:, None] * COLUMNS * tl.num_programs(1) + columns[None, :])
        total = tl.dot(left, right, total)
    tl.store(c + rows[:, None] * COLUMNS * tl.num_programs(1) + columns[None, :], total)
    tl.store(served + number, tl.load(served + number) + 1)


@pairs_of(
    ("grid", [(1, 1), (3, 2), (7, 3), (5, 13)]),
    ("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"]),
    ("num_warps", [1, 4]),
    indirect=["machine"],
)
def test_each_program_is_served_once(machine, num_warps, grid):
    n, columns = grid[0] * BLOCK, grid[1] * 64
    rng = np.random.default_rng(n)
    a, b = (rng.integers(-4, 5, shape).astype(np.float16) for shape in ((n, n), (n, columns)))
    c, served = np.full((n, columns), np.nan, np.float32), np.zeros(grid[0] * grid[1], np.int32)
    triangle[grid](c, a, b, served, n, BLOCK=BLOCK, COLUMNS=64, num_warps=num_warps)
    np.testing.assert_array_equal(c, np.tril(a.astype(np.float32)) @ b.astype(np.float32))
    assert (served == 1).all()


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("num_warps", [1, 4])
def test_causal_attention_of_more_programs_than_cores(engine, num_warps, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    before = mlu.current_machine()
    mlu.set_machine(before.replace(clusters=3, max_union_clusters=1))
    try:
        case = flash_attention.case(1, 7, 256, 64, causal=True)
        constants = {**case.constants, "BLOCK_M": 64, "BLOCK_N": 64, "num_warps": num_warps}
        run = replace(case, constants=constants).check().run
    finally:
        mlu.set_machine(before)
    assert run.program.is_resident


def cycles(shape, *, causal, **constants):
    case = flash_attention.case(*shape, causal=causal)
    every = {**case.constants, **constants}
    return mlu.estimate(attention, case.grid(every), **case.arguments(), **every).cycles


@pytest.mark.parametrize("shape", [(1, 4, 4096, 64), (2, 24, 1024, 64)])
def test_warps_of_gpus_cost_nothing(shape):
    """Programs that a cluster takes longer for than its cores by themselves are left to these."""
    written = {"causal": True, "BLOCK_M": 128, "BLOCK_N": 64}
    assert cycles(shape, **written, num_warps=4) < 1.01 * cycles(shape, **written, num_warps=1)


@pytest.mark.parametrize("num_warps", [1, 4])
def test_the_longest_programs_are_not_left_to_the_end(num_warps):
    shape = (1, 12, 4096, 64)
    assert cycles(shape, causal=True, num_warps=num_warps) < 0.58 * cycles(shape, causal=False, num_warps=num_warps)
