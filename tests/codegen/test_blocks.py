"""Loops of small tiles that are worked through in blocks of iterations: values stay, and latencies show less often."""

from dataclasses import replace

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from examples import layer_norm
from mlutriton.codegen.pipelining.blocks.size import IterationCycles

CORES = mlu.machine("mlu590-m9").cores


@mlu.jit
def centre_row(x, centred, mean, columns, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row * columns + column, mask=mask, other=0.0)
    average = tl.sum(values, axis=0) / columns
    tl.store(mean + row, average)
    tl.store(centred + row * columns + column, values - average, mask=mask)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("programs", [1, 8 * CORES + 1, 17 * CORES + 5])
def test_programs_of_a_row_are_served_in_blocks(programs, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    x = np.random.default_rng(0).integers(-8, 8, (programs, 12)).astype(np.float32)
    # Guard rows: a block that is not full stores nothing beyond its last member.
    centred, mean = np.full((programs + 9, 12), 7, np.float32), np.full(programs + 9, 7, np.float32)
    centre_row[(programs,)](x, centred, mean, 12, BLOCK=16)
    np.testing.assert_array_equal(mean[:programs], x.sum(axis=1) / np.float32(12))
    np.testing.assert_array_equal(centred[:programs], x - mean[:programs, None])
    assert (centred[programs:] == 7).all()
    assert (mean[programs:] == 7).all()


def test_short_rows_do_not_wait_a_latency_each():
    x = np.zeros((40 * CORES, 64), np.float32)
    centred, mean = np.zeros_like(x), np.zeros(len(x), np.float32)
    in_blocks = centre_row[(len(x),)](x, centred, mean, 64, BLOCK=64, num_stages=2)
    alone = centre_row[(len(x),)](x, centred, mean, 64, BLOCK=64, num_stages=1)
    assert in_blocks.cycles < alone.cycles / 4


@mlu.jit
def centre_rows(x, centred, mean, rows, stride, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        values = tl.load(x + row * stride + column)
        average = tl.sum(values, axis=0)
        tl.store(mean + row * 2, average)
        tl.store(centred + row * stride + column, values - average)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 100])
@pytest.mark.parametrize("programs", [1, 3])
def test_a_loop_over_rows_works_in_blocks(rows, programs):
    x = np.random.default_rng(0).integers(-8, 8, (rows + 1, 24)).astype(np.float32)
    centred, mean = np.full_like(x, 7), np.full((rows + 1, 2), 7, np.float32)
    centre_rows[(programs,)](x, centred, mean, rows, 24, BLOCK=16)
    np.testing.assert_array_equal(mean[:rows, 0], x[:rows, :16].sum(axis=1))
    np.testing.assert_array_equal(centred[:rows, :16], x[:rows, :16] - mean[:rows, :1])
    assert (mean[rows:] == 7).all()
    assert (mean[:, 1] == 7).all()
    assert (centred[:, 16:] == 7).all()


def test_results_that_overlap_keep_their_order():
    x = np.ones((40, 16), np.float32)
    expected, result = np.zeros((2, 41 * 16), np.float32)
    for row in range(40):
        expected[2 * row] = 16
        expected[16 * row : 16 * row + 16] = -15
    centre_rows[(1,)](x, result, result, 40, 16, BLOCK=16)
    np.testing.assert_array_equal(result, expected)


@mlu.jit
def running_sum(x, out, rows, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for row in range(rows):
        total += tl.load(x + row * BLOCK + column)
        tl.store(out + row * BLOCK + column, total * 2)


@pytest.mark.parametrize("rows", [0, 1, 30])
def test_blocks_hand_tensors_on_from_iteration_to_iteration(rows):
    x = np.random.default_rng(0).integers(-8, 8, (rows, 16)).astype(np.float32)
    out = np.zeros_like(x)
    running_sum[(1,)](x, out, rows, BLOCK=16)
    np.testing.assert_array_equal(out, 2 * x.cumsum(axis=0))


@mlu.jit
def count_lines(out, x, SIZE: tl.constexpr):
    place = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    tl.store(out + place, tl.load(x + place) + tl.num_programs(1))


def test_a_kernel_of_one_axis_runs_on_a_grid_of_two():
    out, x = np.zeros((2, 500 * 4), np.float32)
    count_lines[(500, 3)](out, x, SIZE=4)
    np.testing.assert_array_equal(out, 3)


@mlu.jit
def add_and_normalize(sums, out, x, residual, weight, columns, BLOCK: tl.constexpr):
    """The weight is loaded behind the first store, which it might therefore have to see."""
    row = tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    mask = column < columns
    total = tl.load(x + row + column, mask=mask, other=0) + tl.load(residual + row + column, mask=mask, other=0)
    tl.store(sums + row + column, total, mask=mask)
    scale = 1 / tl.sqrt(tl.sum(total * total) / columns + 1e-6)
    tl.store(out + row + column, total * scale * tl.load(weight + column, mask=mask), mask=mask)


def test_a_load_behind_a_store_is_taken_out_where_arrays_are_apart():
    rng = np.random.default_rng(3)
    x, residual = rng.random((500, 700), np.float32), rng.random((500, 700), np.float32)
    weight, sums, out = rng.random(700, np.float32), np.empty_like(x), np.empty_like(x)
    run = add_and_normalize[(500,)](sums, out, x, residual, weight, 700, BLOCK=1024)
    total = x + residual
    expected = total / np.sqrt((total**2).mean(axis=1, keepdims=True) + 1e-6) * weight
    np.testing.assert_array_equal(sums, total)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    assert run.dram_read_bytes + run.l2_hit_bytes == pytest.approx(x.nbytes * 2 + 2800 * run.trace.programs, rel=0.01)
    plain = add_and_normalize[(500,)](sums, out, x, residual, weight, 700, BLOCK=1024, num_stages=1)
    assert run.cycles < plain.cycles / 2


def test_a_load_behind_a_store_reads_what_was_stored_where_arrays_overlap():
    rng = np.random.default_rng(4)
    memory = rng.random((60, 64), np.float32)
    x, residual, sums, weight = memory[:20], memory[20:40], memory[40:], memory[40]
    out, total = np.empty_like(x), x + residual
    add_and_normalize[(1,)](sums, out, x, residual, weight, 64, BLOCK=64)
    expected = total[0] / np.sqrt((total[0] ** 2).mean() + 1e-6) * total[0]
    np.testing.assert_allclose(out[0], expected, rtol=1e-5)


@mlu.jit
def shift_and_scale(out, x, means, scales, numbers, columns, rows, BLOCK: tl.constexpr):
    """Scalars of each row, of which some are missing and one is an integer."""
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    mean = tl.load(means + row)
    scale = tl.load(scales + row, mask=row < rows - 3, other=2.0)
    number = tl.load(numbers + row)
    values = tl.load(x + row * columns + column, mask=mask)
    tl.store(out + row * columns + column, tl.where(number > 5, (values - mean) * (scale + 1), number), mask=mask)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_scalars_of_rows_come_in_blocks_like_the_rows(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(5)
    x, numbers = rng.random((400, 100), np.float32), rng.integers(0, 10, 400, np.int32)
    means, scales = (rng.random((400, 1), np.float32) for _ in range(2))
    out = np.empty_like(x)
    run = shift_and_scale[(400,)](out, x, means, scales, numbers, 100, 400, BLOCK=128)
    scales = np.where(np.arange(400)[:, None] < 397, scales, 2)
    expected = np.where(numbers[:, None] > 5, (x - means) * (scales + 1), numbers[:, None])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    one_by_one = shift_and_scale[(400,)](out, x, means, scales, numbers, 100, 400, BLOCK=128, num_stages=1)
    assert run.cycles < one_by_one.cycles / 2


@mlu.jit
def copy_tile(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


@mlu.jit
def fill_tile(out, value, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.full((BLOCK,), value, tl.float32), mask=offsets < n)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("n", [100_003, 64, 1])
def test_short_tiles_go_together_though_nobody_computes_with_them(engine, n, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    x, out, filled = (
        np.random.default_rng(n).random(n, np.float32),
        np.zeros(n + 9, np.float32),
        np.zeros(n, np.float32),
    )
    copied = copy_tile[(-(-n // 64),)](out[:n], x, n, BLOCK=64)
    fill = fill_tile[(-(-n // 64),)](filled, 2.5, n, BLOCK=64)
    np.testing.assert_array_equal(out[:n], x)
    np.testing.assert_array_equal(out[n:], 0)
    np.testing.assert_array_equal(filled, 2.5)
    if n > 10_000:
        assert copied.cycles < 2.5 * copied.work_bound_cycles
        assert fill.cycles < 2.5 * fill.work_bound_cycles


@mlu.jit
def decaying_sums(out, x, decays, weights, steps, width, LANES: tl.constexpr):
    """A recurrence over time: each step takes a scalar of two arrays, and leaves one."""
    channel, lane = tl.program_id(0), tl.arange(0, LANES)
    weight = tl.load(weights + channel * LANES + lane)
    state = tl.zeros((LANES,), tl.float32)
    for step in range(steps):
        value = tl.load(x + step * width + channel)
        decay = tl.load(decays + step * width + channel, mask=step > 0, other=0.0)
        state = state * decay + weight * value
        tl.store(out + step * width + channel, tl.sum(state))


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_scalars_of_the_steps_of_a_loop_come_in_blocks(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng, steps, width = np.random.default_rng(6), 60, 9
    x, decays = (rng.random((steps, width), np.float32) for _ in range(2))
    weights, out = rng.random((width, 16), np.float32), np.zeros((steps, width), np.float32)
    run = decaying_sums[(width,)](out, x, decays, weights, steps, width, LANES=16)
    state = np.zeros((width, 16))
    for step in range(steps):
        state = state * (decays[step][:, None] if step else 0) + weights * x[step][:, None]
        np.testing.assert_allclose(out[step], state.sum(axis=1), rtol=1e-4)
    one_by_one = decaying_sums[(width,)](out, x, decays, weights, steps, width, LANES=16, num_stages=1)
    assert run.cycles < one_by_one.cycles / 2


def test_what_is_made_before_a_loop_has_to_fit_beside_its_first_block():
    """With a long latency, blocks fill the memory; column numbers for a mask would be there with the first one."""
    before = mlu.current_machine()
    mlu.set_machine(before.replace(dram_bulk_latency_ns=2 * int(before.values["dram_bulk_latency_ns"])))
    try:
        case = layer_norm.case(1151, 8192)
        run = mlu.estimate(case.kernel, case.grid, **case.arguments(), **case.constants)
    finally:
        mlu.set_machine(before)
    assert run.cycles < 1.5 * run.work_bound_cycles


@mlu.jit
def rows_of_some_distance(out, x, distances, distance, which, turns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    program = tl.program_id(0)
    if which > 0:  # noqa: SIM108
        chosen = tl.load(distances)
    else:
        chosen = distance
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    for turn in range(turns):
        tile = tl.load(x + turn * ROWS * distance + row[:, None] * chosen + column[None, :])
        place = ((program * turns + turn) * ROWS + row)[:, None] * COLUMNS + column[None, :]
        tl.store(out + place, tile + 1)


@pytest.mark.parametrize("chosen", [80, 40, 7])
@pytest.mark.parametrize("which", [0, 2])
def test_a_distance_that_a_branch_chooses_may_be_either(chosen, which):
    x, out = np.arange(2000, dtype=np.float32), np.zeros((13, 5, 4, 16), np.float32)
    rows_of_some_distance[(13,)](out, x, np.array([chosen], np.int32), 40, which, 5, ROWS=4, COLUMNS=16)
    turn, row, column = np.arange(5)[:, None, None], np.arange(4)[:, None], np.arange(16)
    found = x[turn * 160 + row * (chosen if which else 40) + column] + 1
    np.testing.assert_array_equal(out, np.broadcast_to(found, out.shape))


@mlu.jit
def here_and_odd(out, x, BLOCK: tl.constexpr):
    column, line = tl.program_id(0), tl.program_id(1)
    i = tl.arange(0, BLOCK)
    here = tl.load(x + line * BLOCK + i, mask=line % 4 != 0, other=-1.0)
    odd = tl.load(x + i, mask=(i ^ 1) != 3, other=0.0)
    tl.store(out + (line * tl.num_programs(0) + column) * BLOCK + i, here + odd)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("grid", [(3, 4), (1, 9), (30, 1)])
def test_gathers_of_a_block_on_several_lines_wait_for_their_masks(grid, engine, monkeypatch):
    """Places in a block are counted from its line's, these from the phase's: all are of that phase."""
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    monkeypatch.setattr("mlutriton.configuration._current", mlu.machine("mlu-tiny"))
    x = np.arange(1, 64 * grid[1] + 1, dtype=np.float32)
    out = np.zeros((grid[1], grid[0], 64), np.float32)
    here_and_odd[grid](out, x, BLOCK=64)
    here = np.where(np.arange(grid[1])[:, None] % 4 != 0, x.reshape(-1, 64), -1)
    odd = np.where(np.arange(64) ^ 1 != 3, x[:64], 0)
    np.testing.assert_array_equal(out, np.broadcast_to((here + odd)[:, None], out.shape))


@mlu.jit
def normalize_rows(out, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < columns)
    tile = tl.load(x + row * columns + column, mask=mask, other=-float("inf"))
    powers = tl.exp(tile - tl.max(tile, axis=1, keep_dims=True))
    tl.store(out + row * columns + column, powers / tl.sum(powers, axis=1, keep_dims=True), mask=mask)


@pytest.mark.parametrize("rows", [1, 2, 47, 49, 95, 96, 97, 143, 192, 250, 337, 600, 1001, 1823])
def test_blocks_of_any_length_at_the_ends_make_the_whole(rows):
    x = np.random.default_rng(rows).standard_normal((rows, 300), dtype=np.float32)
    out = np.full_like(x, np.nan)
    normalize_rows[(-(-rows // 2),)](out, x, rows, 300, ROWS=2, BLOCK=512)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(out, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)


def test_blocks_at_the_ends_are_short_where_their_arithmetic_is_longer_than_their_transfers():
    cycles = IterationCycles(load=100, store=100, arithmetic=250, latency=700)
    ends = cycles.end_blocks()
    assert (ends.constant, ends.each) == (1500 / 250, 200 / 250)
    assert replace(cycles, arithmetic=150).end_blocks() is None
    assert replace(cycles, is_quicker_alone=True).end_blocks() is None


def test_blocks_are_few_where_transfers_bind_and_ends_matter():
    cycles = IterationCycles(load=100, store=100, arithmetic=150, latency=700)
    few = cycles.few_blocks(20)
    assert (few.first.of(12), few.last.of(12)) == pytest.approx(((700 + 100 * 12) / 150, (100 * 12 - 100) / 150))
    assert few.most == 20
    # The first, two or more of the same length, and the last.
    for iterations in (3, 24, 48, 60, 100, 1000):
        count, length = few.between(iterations)
        rest = iterations - count * length
        assert 1 <= length <= few.most
        assert 0 <= rest <= min(few.ends.of(length) + 1, 2 * length)
        assert count == 1 or (count - 1) * few.most + few.most_in_ends < iterations
    assert replace(cycles, arithmetic=100).few_blocks(20) is None
    assert replace(cycles, arithmetic=250).few_blocks(20) is None
    assert replace(cycles, is_quicker_alone=True).few_blocks(20) is None


def test_short_loops_are_one_block_or_two():
    cycles = IterationCycles(load=100, store=100, arithmetic=150, latency=700)
    # Two blocks of 3 hide the arithmetic of one and the stores of one, but show a latency and a turn.
    assert cycles.most_in_one(20) == 2 * 800 // (150 + 100)
    assert cycles.most_in_one(3) == 3
    assert replace(cycles, arithmetic=1000).most_in_one(20) == 1
    # Beside long stores they hide all arithmetic.
    assert replace(cycles, store=300).most_in_one(20) == 800 // 150
    # Two blocks of 15 wait 50 cycles for arithmetic when the second is loaded, and 750 when the first is stored.
    assert cycles.most_in_two(20) == 30
    assert cycles.most_in_two(10) == 20
    few = replace(cycles, start=500).few_blocks(20)
    assert few.in_two == 10
    assert few.lengths(10) == [5, 5]
    assert len(few.lengths(11)) == 3


def test_a_block_between_the_ends_is_no_longer_than_its_transfers_allow():
    cycles = IterationCycles(load=100, store=100, arithmetic=195, latency=700)
    assert 2 < cycles.few_blocks(1000).most < 30
    # Rows that may be longer than ordinary ones hide a latency behind fewer iterations.
    assert replace(cycles, longest=4 / 3).few_blocks(1000).most < cycles.few_blocks(1000).most


def test_what_a_few_blocks_save_counts_when_they_are_chosen():
    cycles = IterationCycles(load=100, store=100, arithmetic=150, latency=700)
    three = cycles.of_blocks([12, 20, 10])
    assert three == 700 + 1200 + 100 + 2700 + 100 + 3000 + 100 + 700 + 2000 + 1000
    assert three < cycles.of_blocks([9, 12, 12, 9]) < cycles.of_blocks([10.5] * 4) + 1


@mlu.jit
def to_unit_mean_square(out, x, rows, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        values = tl.load(x + row * BLOCK + column).to(tl.float32)
        mean_square = tl.sum(values * values, axis=0) / BLOCK
        tl.store(out + row * BLOCK + column, (values * tl.rsqrt(mean_square)).to(tl.float16))


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 42, 43, 44])
def test_few_blocks_do_every_row_once(rows):
    x = np.random.default_rng(0).integers(1, 9, (rows * CORES, 4096)).astype(np.float16)
    out = np.full((rows * CORES + 1, 4096), 7, np.float16)
    to_unit_mean_square[(CORES,)](out, x, len(x), BLOCK=4096)
    wide = x.astype(np.float32)
    wanted = wide / np.sqrt((wide * wide).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(out[:-1], wanted, rtol=2e-3)
    assert (out[-1] == 7).all()


@mlu.jit
def add(out, x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n), mask=i < n)


@pytest.mark.parametrize("programs", [1, CORES, 2 * CORES + 1, 9 * CORES, 30 * CORES])
def test_one_block_does_every_program_once(programs):
    n = programs * 512 - 3
    x, y = (np.random.default_rng(seed).random(n, np.float32) for seed in range(2))
    out = np.full(n + 9, 7, np.float32)
    add[(programs,)](out, x, y, n, BLOCK=512)
    np.testing.assert_array_equal(out[:n], x + y)
    assert (out[n:] == 7).all()


def test_what_fits_in_a_block_shows_three_latencies():
    n = 4 * CORES * 512
    x, y, out = (mlu.spec((n,), "float32") for _ in range(3))
    run = mlu.estimate(add, (4 * CORES,), out, x, y, n, BLOCK=512)
    assert run.cycles < 3720 + 3 * 700 + 1000


def test_three_blocks_do_what_fits_in_three():
    x, out = (mlu.spec((43 * CORES, 4096), "float16") for _ in range(2))
    run = mlu.estimate(to_unit_mean_square, (CORES,), out, x, 43 * CORES, BLOCK=4096)
    assert run.cycles < 1.16 * run.work_bound_cycles
