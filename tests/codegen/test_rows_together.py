"""Programs whose elements change places go several at a time, and compute what each of them does alone."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of


@mlu.jit
def sort_rows(out, x, n, N: tl.constexpr):
    program, column = tl.program_id(0), tl.arange(0, N)
    values = tl.sort(tl.load(x + program * n + column, mask=column < n, other=float("inf")))
    tl.store(out + program * n + column, values, mask=column < n)


@mlu.jit
def sort_in_planes(out, x, N: tl.constexpr):
    program, plane, programs = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    i = (plane * programs + program) * N + tl.arange(0, N)
    tl.store(out + i, tl.sort(tl.load(x + i)) + program + 100 * plane + 1000 * programs)


@mlu.jit
def sort_twice(a, b, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(a + i, tl.sort(tl.load(b + i)) + 1)
    tl.store(b + i, tl.sort(-tl.load(a + i)))


@pairs_of(("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"]), ("n", [64, 50]), ("warps", [1, 4]))
def test_any_number_of_rows(n, machine, warps):
    mlu.set_machine(machine)
    for rows in (1, 63, 64, 1000):
        x = np.random.default_rng(rows).standard_normal((rows, n)).astype(np.float32)
        out = np.full_like(x, np.nan)
        sort_rows[(rows,)](out, x, n, 64, num_warps=warps)
        np.testing.assert_array_equal(out, np.sort(x))


def test_rows_wait_together():
    """One by one each of the 21 exchanges waits for its elements, and these fill two vectors."""
    x = np.random.default_rng(0).standard_normal((16384, 64)).astype(np.float32)
    out = np.empty_like(x)
    run = sort_rows[(16384,)](out, x, 64, 64)
    np.testing.assert_array_equal(out, np.sort(x))
    exchanges, transpose_and_pass_cycles = 21, 6 * 2
    assert run.cycles < 2 * exchanges * transpose_and_pass_cycles * 16384 // 48


@pytest.mark.parametrize(("programs", "planes"), [(70, 3), (5, 40), (300, 1)])
def test_grids_of_planes(programs, planes):
    """Lines of a grid end with fewer rows than others have; kernels are told how many programs there are."""
    x = np.random.default_rng(1).integers(0, 99, (planes, programs, 128)).astype(np.int32)
    out = np.empty_like(x)
    sort_in_planes[(programs, planes)](out, x, 128)
    number, plane = np.arange(programs)[:, None], np.arange(planes)[:, None, None]
    np.testing.assert_array_equal(out, np.sort(x) + number + 100 * plane + 1000 * programs)


@pytest.mark.parametrize("is_one", [False, True])
def test_what_a_program_stores_it_may_load(is_one):
    b = np.random.default_rng(2).integers(0, 99, (200, 32)).astype(np.int32)
    want = -(np.sort(b) + 1)[:, ::-1]
    a = b if is_one else np.empty_like(b)
    sort_twice[(200,)](a, b, 32)
    np.testing.assert_array_equal(b, want)
    np.testing.assert_array_equal(a, want if is_one else -want[:, ::-1])


def test_tasks_without_programs_end(monkeypatch):
    """Of 48 tasks, most have no block of rows in any plane, and the first of them ends before it begins."""
    monkeypatch.setattr("mlutriton.specialization.rows_together._TILE_BYTES", 1 << 12)
    x = np.random.default_rng(1).integers(0, 99, (2, 70, 32)).astype(np.int32)
    out = np.empty_like(x)
    sort_in_planes[(70, 2)](out, x, 32)
    want = np.sort(x) + np.arange(70)[:, None] + 100 * np.arange(2)[:, None, None] + 70_000
    np.testing.assert_array_equal(out, want)
