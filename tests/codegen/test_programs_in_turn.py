"""Programs that follow each other on a core: the first tiles of one are loaded while the one before ends."""

from dataclasses import replace

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from examples import flash_attention
from tests.covering import pairs_of

ROWS = WIDTH = 32


@mlu.jit
def powers_of_sums(c, other, a, bias, blocks, ROWS: tl.constexpr, WIDTH: tl.constexpr, FORM: tl.constexpr):
    """For a block of rows, its product with each square of a column of them up to its own, or from it on."""
    number, line = tl.program_id(0), tl.program_id(1)
    c += line * blocks * ROWS * WIDTH
    other += line * blocks * ROWS * WIDTH
    a += line * blocks * ROWS * WIDTH
    place = tl.arange(0, ROWS)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    own = tl.load(a + number * ROWS * WIDTH + place)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    start, stop = 0, number
    if FORM == "shrinking":
        start, stop = number + 1, blocks
    if FORM == "alike":
        stop = blocks
    for block in range(start, stop):
        total = tl.dot(own, tl.load(a + block * ROWS * WIDTH + place), total)
    for block in range(number, number + 1):
        total = tl.dot(own, tl.load(a + block * ROWS * WIDTH + place), total)
    if FORM == "behind":
        total += tl.load(bias + number * ROWS * WIDTH + place)
    if FORM != "direct":
        total = total * 2 + 1
    if FORM == "two":
        tl.store(other + number * ROWS * WIDTH + place, total - 1)
    if FORM == "constant":
        tl.store(other + number * ROWS * WIDTH + place, tl.full((ROWS, WIDTH), 3, tl.float32))
    tl.store(c + number * ROWS * WIDTH + place, total)


def expected(a, form):
    lines, blocks = a.shape[:2]
    result = np.zeros(a.shape, np.float32)
    for line, number in np.ndindex(lines, blocks):
        first, last = {"shrinking": (number, blocks), "alike": (0, blocks)}.get(form, (0, number + 1))
        summed = a[line, first:last].astype(np.float32).sum(axis=0)
        if form == "alike":
            summed += a[line, number]
        result[line, number] = a[line, number].astype(np.float32) @ summed
    return result if form == "direct" else result * 2 + 1


def launched(grid, form, num_warps=1, in_place=False):
    a = np.random.default_rng(0).integers(-3, 4, (grid[1], grid[0], ROWS, WIDTH)).astype(np.float16)
    bias, c, other = np.zeros(a.shape, np.float32), np.full(a.shape, np.nan, np.float32), np.zeros(a.shape, np.float32)
    run = powers_of_sums[grid](c, other, a, bias, grid[0], ROWS=ROWS, WIDTH=WIDTH, FORM=form, num_warps=num_warps)
    np.testing.assert_array_equal(c, expected(a, form))
    if form == "two":
        np.testing.assert_array_equal(other, c - 1)
    if form == "constant":
        np.testing.assert_array_equal(other, 3)
    return run


@pytest.fixture
def few_cores():
    before = mlu.current_machine()
    mlu.set_machine(before.replace(clusters=1, max_union_clusters=1))
    yield
    mlu.set_machine(before)


@pairs_of(
    ("form", ["growing", "shrinking", "alike", "behind", "direct", "two", "constant"]),
    ("num_warps", [1, 4]),
    ("engine", ["native", "interpreter"]),
)
def test_each_program_has_its_own_tiles(few_cores, form, num_warps, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    for grid in ((1, 1), (2, 1), (3, 3), (5, 3)):
        assert launched(grid, form, num_warps).program.is_resident


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"], indirect=True)
@pytest.mark.parametrize("form", ["growing", "shrinking", "two", "constant"])
def test_on_every_machine(machine, form):
    launched((7, 29), form)


def waits_for_transfers(run):
    """The share of its cycles in which a core waits for what it loads or stores."""
    waited = sum(
        cycles for line in run.lines().values() for cause, cycles in line.stall_cycles.items() if "IO" in cause.name
    )
    return waited / run.machine.cores / run.cycles


@pytest.mark.parametrize("num_warps", [1, 4])
def test_only_the_first_program_of_a_core_waits(few_cores, num_warps):
    case = flash_attention.case(1, 12, 512, 64, causal=True)
    constants = {**case.constants, "BLOCK_M": 64, "BLOCK_N": 64, "num_warps": num_warps}
    run = mlu.estimate(case.kernel, case.grid(constants), **case.arguments(), **constants)
    # Without that, each of 24 programs showed its first loads and its store, 13 % of the time.
    assert waits_for_transfers(run) < 0.02


def test_any_number_of_threads_gives_the_same(few_cores, monkeypatch):
    found = set()
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("MLUTRITON_THREADS", threads)
        found.add(launched((5, 3), "growing").cycles)
    assert len(found) == 1


def test_results_may_take_the_place_of_what_programs_begin_with():
    case = flash_attention.case(1, 60, 256, 64, causal=True)
    arguments = case.arguments()
    expected = case.reference(**arguments)["output"].astype(np.float32)
    constants = {**case.constants, "BLOCK_M": 64, "BLOCK_N": 64}
    case.kernel[case.grid(constants)](**{**arguments, "output": arguments["q"]}, **constants)
    np.testing.assert_allclose(arguments["q"].astype(np.float32), expected, *case.tolerance)


def test_what_does_not_fit_twice_waits(few_cores):
    case = flash_attention.case(1, 3, 1024, 256, causal=True)
    constants = {**case.constants, "BLOCK_M": 256, "BLOCK_N": 64}
    replace(case, constants=constants).check()
