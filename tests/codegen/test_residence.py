"""Programs of a grid that a task serves one after another: nobody can tell, except by the cycles."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def number_programs(out, SIZE: tl.constexpr):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    number = x + tl.num_programs(0) * (y + tl.num_programs(1) * z)
    value = x + 100 * y + 10_000 * z
    tl.store(out + number * SIZE + tl.arange(0, SIZE), tl.zeros((SIZE,), tl.int32) + value)


@pytest.mark.parametrize("grid", [(1,), (7,), (130,), (5, 9, 4), (1, 70), (3, 1, 40), (49, 2, 1)])
def test_every_program_runs_once_with_its_own_ids(grid):
    x, y, z = (*grid, 1, 1)[:3]
    out = np.full((z, y, x, 8), -1, np.int32)
    run = number_programs[grid](out, SIZE=8)
    ids = np.arange(x) + 100 * np.arange(y)[:, None] + 10_000 * np.arange(z)[:, None, None]
    np.testing.assert_array_equal(out, np.broadcast_to(ids[..., None], out.shape))
    assert run.programs == x * y * z
    assert run.trace.programs == min(run.programs, run.machine.cores)


@mlu.jit
def scale_rows(x, weight, columns, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    mask = column < columns
    factor = tl.load(weight + column, mask=mask)
    place = x + tl.program_id(0) * columns + column
    tl.store(place, tl.load(place, mask=mask) * factor, mask=mask)


@pytest.mark.parametrize("stages", [1, 2])
def test_rows_in_place_with_a_weight_that_is_loaded_once(stages):
    rng = np.random.default_rng(0)
    x, weight = rng.random((130, 200), np.float32), rng.random(200, np.float32)
    expected = x * weight
    run = scale_rows[(130,)](x, weight, 200, BLOCK=256, num_stages=stages)
    np.testing.assert_array_equal(x, expected)
    loads = 130 + (130 if stages == 1 else run.trace.programs)
    assert run.dram_read_bytes + run.l2_hit_bytes == pytest.approx(loads * 800, rel=0.1)


@mlu.jit
def store_in_a_loop_and_tell(out, last, SIZE: tl.constexpr):
    program, element = tl.program_id(0), tl.arange(0, SIZE)
    place = program
    for step in range(0, 6, 2):
        place = 10 * program + step
        tl.store(out + place * SIZE + element, element)
    tl.store(last + program * SIZE + element, place + element)


@mlu.jit
def load_one_of_two_and_tell(out, x, y, SIZE: tl.constexpr):
    program, element = tl.program_id(0), tl.arange(0, SIZE)
    if program % 3 == 1:
        values = tl.load(x + program * SIZE + element)
        factor = 2 * program
    else:
        values = tl.load(y + element)
        factor = program - 5
    tl.store(out + program * SIZE + element, values * factor)


def test_loops_and_branches_that_transfer_tell_the_rest_of_their_program():
    out, last = np.zeros((1100, 32), np.int32), np.zeros((110, 32), np.int32)
    store_in_a_loop_and_tell[(110,)](out, last, SIZE=32)
    program, element = np.arange(110)[:, None], np.arange(32)
    np.testing.assert_array_equal(last, 10 * program + 4 + element)
    stored = np.isin(np.arange(1100) % 10, (0, 2, 4))[:, None]
    np.testing.assert_array_equal(out, stored * element)
    x, y = np.random.default_rng(0).integers(-9, 9, (2, 110, 32)).astype(np.int32)
    load_one_of_two_and_tell[(110,)](last, x, y, SIZE=32)
    np.testing.assert_array_equal(last, np.where(program % 3 == 1, x * 2 * program, y[0] * (program - 5)))


@mlu.jit
def load_far_away(out, x, steps, SIZE: tl.constexpr, COUNTED: tl.constexpr):
    place = x + tl.arange(0, SIZE)
    if COUNTED:
        for _ in range(steps):
            place += 2
    else:
        while steps > 0:
            place += 2
            steps -= 1
    tl.store(out + tl.program_id(0) * SIZE + tl.arange(0, SIZE), tl.load(place) * 2)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("steps", [0, 2, 3])
def test_what_a_loop_leaves_behind_is_known_behind_it_alone(steps, counted):
    x, out = np.arange(64, dtype=np.float32), np.zeros((5, 4), np.float32)
    load_far_away[(5,)](out, x, steps, SIZE=4, COUNTED=counted)
    np.testing.assert_array_equal(out, np.broadcast_to(2 * x[2 * steps : 2 * steps + 4], out.shape))


@mlu.jit
def read_back(x, out, BLOCK: tl.constexpr):
    place = x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(place, tl.load(place) + 1)
    again = tl.load(place)
    tl.store(out + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), again * 2)


def test_a_program_reads_what_it_has_stored():
    x = np.arange(130 * 64, dtype=np.float32)
    expected, out = (x + 1) * 2, np.zeros_like(x)
    read_back[(130,)](x, out, BLOCK=64)
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def copy_block(out, x, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets) + 1)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("short", ["x", "out"])
def test_a_fault_names_the_program_of_the_grid(engine, short, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    arrays = {"x": np.zeros(60 * 64, np.float32), "out": np.zeros(60 * 64, np.float32)}
    arrays[short] = arrays[short][: 55 * 64]
    with pytest.raises(mlu.KernelFault, match=r"program \(55, 0, 0\)"):
        copy_block[(60,)](**arrays, BLOCK=64)


@mlu.jit
def backwards(out, x, programs, BLOCK: tl.constexpr):
    offsets = (programs - 1 - tl.program_id(0)) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets) + 1)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_first_fault_is_found_by_any_number_of_threads(threads, monkeypatch):
    monkeypatch.setenv("MLUTRITON_THREADS", str(threads))
    first_fault_is_found()


def test_the_first_fault_is_found_by_the_interpreter(monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    first_fault_is_found()


def first_fault_is_found():
    out, x = np.zeros((2, 150 * 64), np.float32)
    # Programs 0 to 99 fault, in every task.
    with pytest.raises(mlu.KernelFault, match=r"program \(0, 0, 0\)"):
        backwards[(150,)](out, x[: 50 * 64], 150, BLOCK=64)
    # Programs from 90 on: those of the tasks 0 to 5 are later ones than those of the tasks behind.
    with pytest.raises(mlu.KernelFault, match=r"program \(90, 0, 0\)"):
        copy_block[(150,)](out, x[: 90 * 64], BLOCK=64)


@mlu.jit
def scale_by_line(out, x, factors, shifts, columns, BLOCK: tl.constexpr):
    """Rows x of matrices y: one factor a row, and shifts that differ by matrix."""
    row, matrix = tl.program_id(0), tl.program_id(1) + tl.num_programs(1) * tl.program_id(2)
    column = tl.arange(0, BLOCK)
    mask = column < columns - matrix
    place = (matrix * tl.num_programs(0) + row) * columns + column
    factor = tl.load(factors + row * BLOCK + column)
    shift = tl.load(shifts + matrix * BLOCK + column)
    tl.store(out + place, tl.load(x + place, mask=mask) * factor + shift, mask=mask)


@pytest.mark.parametrize("grid", [(1, 130, 1), (300, 5, 1), (7, 50, 3), (50, 1, 6)])
@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_rows_that_lie_on_lines_of_the_grid(grid, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rows, matrices = grid[0], grid[1] * grid[2]
    rng, columns = np.random.default_rng(1), 20 + matrices
    x = rng.random((matrices, rows, columns), np.float32)
    factors, shifts = rng.random((rows, 256), np.float32), rng.random((matrices, 256), np.float32)
    out = np.zeros_like(x)
    scale_by_line[grid](out, x, factors, shifts, columns, BLOCK=256)
    inside = np.arange(columns) < columns - np.arange(matrices)[:, None, None]
    expected = np.where(inside, x * factors[:, :columns] + shifts[:, None, :columns], 0)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@mlu.jit
def rotate_halves(out, x, angles, HALF: tl.constexpr):
    position, head = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, HALF)
    row = (position * tl.num_programs(1) + head) * 2 * HALF + lane
    low, high, angle = tl.load(x + row), tl.load(x + row + HALF), tl.load(angles + position * HALF + lane)
    tl.store(out + row, low * angle - high)
    tl.store(out + row + HALF, high * angle + low)


def test_short_transfers_of_neighbours_on_a_line_go_together():
    rng = np.random.default_rng(2)
    x, angles = rng.random((512, 8, 128), np.float32), rng.random((512, 64), np.float32)
    out = np.empty_like(x)
    run = rotate_halves[512, 8](out, x, angles, HALF=64)
    low, high = x[..., :64], x[..., 64:]
    expected = np.concatenate([low * angles[:, None] - high, high * angles[:, None] + low], axis=-1)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    one_by_one = rotate_halves[512, 8](out, x, angles, HALF=64, num_stages=1)
    assert run.cycles < one_by_one.cycles / 10
