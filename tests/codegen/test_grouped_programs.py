"""Programs with loops of one length are taken several at a time: the same values, in far fewer cycles."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.codegen.llvm.control_flow import basic_blocks, register_life
from tests.covering import pairs_of


@mlu.jit
def layer_norm(x, out, weight, means, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    x += row * columns
    out += row * columns
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)
        total += tl.load(x + column, mask=column < columns, other=0.0)
    mean = tl.sum(total, axis=0) / columns
    squares = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)
        centred = tl.where(column < columns, tl.load(x + column, mask=column < columns, other=0.0) - mean, 0.0)
        squares += centred * centred
    scale = 1 / tl.sqrt(tl.sum(squares, axis=0) / columns + 1e-5)
    tl.store(means + row, mean)
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)
        mask = column < columns
        values = (tl.load(x + column, mask=mask, other=0.0) - mean) * scale
        tl.store(out + column, values * tl.load(weight + column, mask=mask), mask=mask)


def normed(x, weight):
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * weight


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize(("rows", "columns", "block"), [(1, 5, 8), (47, 33, 16), (101, 200, 64), (300, 64, 64)])
def test_any_number_of_rows_of_any_length(engine, rows, columns, block, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(rows)
    x, weight = rng.random((rows, columns), np.float32), rng.random(columns, np.float32)
    out, means = np.zeros_like(x), np.zeros(rows, np.float32)
    layer_norm[(rows,)](x, out, weight, means, columns, BLOCK=block)
    np.testing.assert_allclose(out, normed(x, weight), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(means, x.mean(1), rtol=1e-5)


@pytest.mark.parametrize("block", [256, 1024, 4096])
def test_many_rows_show_few_latencies(block):
    rng = np.random.default_rng(0)
    x, weight = rng.random((1152, 1000), np.float32), rng.random(1000, np.float32)
    grouped, single = np.zeros_like(x), np.zeros_like(x)
    means = np.zeros(1152, np.float32)
    run = layer_norm[(1152,)](x, grouped, weight, means, 1000, BLOCK=block)
    plain = layer_norm[(1152,)](x, single, weight, means, 1000, BLOCK=block, num_stages=1)
    np.testing.assert_array_equal(grouped, single)
    assert run.cycles < 0.5 * plain.cycles


@mlu.jit
def scan_states(u, steps, decay, b, c, out, length, channels, STATES: tl.constexpr):
    channel, state = tl.program_id(0), tl.arange(0, STATES)
    rates = tl.load(decay + channel * STATES + state)
    h = tl.zeros((STATES,), tl.float32)
    for time in range(length):
        place = time * channels + channel
        step = tl.load(steps + place)
        h = tl.exp(step * rates) * h + step * tl.load(b + time * STATES + state) * tl.load(u + place)
        tl.store(out + place, tl.sum(h * tl.load(c + time * STATES + state), axis=0))


def test_neighbours_in_a_line_of_elements_are_one_transfer():
    rng = np.random.default_rng(1)
    length, channels, states = 20, 200, 16
    u, b, c = (rng.random(shape, np.float32) for shape in ((length, channels), (length, states), (length, states)))
    steps, decay = rng.random((length, channels), np.float32) * 0.1, -rng.random((channels, states), np.float32)
    out = np.zeros_like(u)
    run = scan_states[(channels,)](u, steps, decay, b, c, out, length, channels, STATES=states)
    h = np.zeros((channels, states))
    for time in range(length):
        h = np.exp(steps[time, :, None] * decay) * h + steps[time, :, None] * b[time] * u[time, :, None]
        np.testing.assert_allclose(out[time], h @ c[time], rtol=1e-4)
    single = scan_states[(channels,)](u, steps, decay, b, c, out, length, channels, STATES=states, num_stages=1)
    assert run.cycles < 0.4 * single.cycles


@mlu.jit
def sum_lines(x, out, columns, STRIDE: tl.constexpr, BLOCK: tl.constexpr):
    line, row = tl.program_id(1), tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)
        total += tl.load(x + line * STRIDE + row * columns + column, mask=column < columns, other=0.0)
    tl.store(out + line * tl.num_programs(0) + row, tl.sum(total, axis=0))


@pytest.mark.parametrize("grid", [(1, 1), (3, 50), (70, 2), (1, 130)])
def test_groups_end_with_a_line_of_the_grid(grid):
    rows, lines = grid
    x = np.random.default_rng(2).random((lines, rows + 1, 40), np.float32)
    out = np.zeros((lines, rows), np.float32)
    sum_lines[grid](x, out, 40, STRIDE=(rows + 1) * 40, BLOCK=16)
    np.testing.assert_allclose(out, x[:, :rows].sum(2), rtol=1e-5)


@mlu.jit
def sum_triangle(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, row + 1, BLOCK):
        column = first + tl.arange(0, BLOCK)
        total += tl.load(x + row * columns + column, mask=column <= row, other=0.0)
    tl.store(out + row, tl.sum(total, axis=0))


def test_programs_with_loops_of_different_length_stay_apart():
    x, out = np.random.default_rng(3).random((100, 100), np.float32), np.zeros(100, np.float32)
    sum_triangle[(100,)](x, out, 100, BLOCK=16)
    np.testing.assert_allclose(out, np.tril(x).sum(1), rtol=1e-5)


@mlu.jit
def add_number(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)
        place = row * columns + column
        tl.store(out + place, tl.load(x + place, mask=column < columns) + row, mask=column < columns)


def test_what_computes_with_its_program_stays_apart():
    x = np.random.default_rng(4).random((100, 100), np.float32)
    out = np.zeros_like(x)
    add_number[(100,)](x, out, 100, BLOCK=64)
    np.testing.assert_allclose(out, x + np.arange(100, dtype=np.float32)[:, None])


@mlu.jit
def fill_and_reread(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)
        tl.store(x + row + column, tl.zeros((BLOCK,), tl.float32) + 2, mask=column < columns)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)
        total += tl.load(x + row + column, mask=column < columns, other=1.0)
    tl.store(out + tl.program_id(0), tl.sum(total, axis=0))


def test_a_program_reads_what_it_has_stored_alike():
    x, out = np.zeros((100, 50), np.float32), np.zeros(100, np.float32)
    fill_and_reread[(100,)](x, out, 50, BLOCK=16)
    assert (x == 2).all()
    np.testing.assert_array_equal(out, np.full(100, 2 * 50 + 14, np.float32))


@pytest.mark.parametrize("machine", ["mlu-tiny", "mlu370-x4"])
def test_groups_are_as_large_as_memory_allows(machine):
    rng = np.random.default_rng(5)
    x, weight = rng.random((64, 3000), np.float32), rng.random(3000, np.float32)
    out, means = np.zeros_like(x), np.zeros(64, np.float32)
    before = mlu.current_machine()
    mlu.set_machine(machine)
    try:
        layer_norm[(64,)](x, out, weight, means, 3000, BLOCK=1024)
    finally:
        mlu.set_machine(before)
    np.testing.assert_allclose(out, normed(x, weight), rtol=1e-4, atol=1e-4)


@mlu.jit
def count_and_mark(counts, marks, copies, x, first, n, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    count = tl.zeros((BLOCK,), tl.int32)
    for k in range(n):
        count += (tl.load(x + row * n * BLOCK + k * BLOCK + column) < 0).to(tl.int32)
    tl.store(counts + row * BLOCK + column, count)
    tl.store(marks + 2 * row + tl.arange(0, 2), tl.full((2,), 0.1, tl.float32))
    tl.store(copies + row * 4 + tl.arange(0, 4), tl.load(first + tl.arange(0, 4)))


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_what_all_programs_store_alike_is_there_for_each(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rows, n, block = 300, 5, 64
    x = np.random.default_rng(0).standard_normal((rows, n, block), np.float32)
    first = np.arange(4, dtype=np.float32)
    counts, marks = np.zeros((rows, block), np.int32), np.zeros((rows, 2), np.float32)
    copies = np.zeros((rows, 4), np.float32)
    count_and_mark[(rows,)](counts, marks, copies, x, first, n, BLOCK=block)
    np.testing.assert_array_equal(counts, (x < 0).sum(1))
    assert (marks == np.float32(0.1)).all()
    assert (copies == first).all()


@mlu.jit
def sums_of_rows_at(out, x, turns, columns, BLOCK: tl.constexpr):
    row, distance = tl.program_id(0), 1
    for _ in range(turns):
        distance += 1
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)
        total += tl.load(x + row * distance + column, mask=column < columns, other=0.0)
    tl.store(out + row * distance * BLOCK + tl.arange(0, BLOCK), total)


@mlu.jit
def sums_of_ever_wider_rows(out, x, turns, BLOCK: tl.constexpr):
    row, total = tl.program_id(0), tl.zeros((BLOCK,), tl.float32)
    for distance in range(turns):
        total += tl.load(x + row * distance + tl.arange(0, BLOCK))
    tl.store(out + row * BLOCK + tl.arange(0, BLOCK), total)


@pytest.mark.parametrize("turns", [0, 2, 5])
def test_rows_whose_distance_a_loop_finds_out(turns, monkeypatch):
    monkeypatch.setattr("mlutriton.configuration._current", mlu.machine("mlu-tiny"))
    x, rows, block = np.arange(400, dtype=np.float32), 13, 16
    place = np.arange(rows)[:, None]

    out = np.zeros((rows, turns + 1, block), np.float32)
    sums_of_rows_at[(rows,)](out, x, turns, 40, BLOCK=block)
    column = np.arange(48)
    found = np.where(column < 40, x[place * (turns + 1) + column], 0)
    np.testing.assert_array_equal(out.reshape(-1, block)[:: turns + 1], found.reshape(rows, 3, block).sum(axis=1))

    wide = np.zeros((rows, block), np.float32)
    sums_of_ever_wider_rows[(rows,)](wide, x, turns, BLOCK=block)
    expected = sum((x[place * distance + np.arange(block)] for distance in range(turns)), np.zeros((rows, block)))
    np.testing.assert_array_equal(wide, expected)


@mlu.jit
def running_sums_of_rows(out, most, x, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    greatest = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, columns, BLOCK):
        place = first + tl.arange(0, BLOCK)
        sums = tl.cumsum(tl.load(x + row * columns + place, mask=place < columns, other=0.0), 0)
        tl.store(out + row * columns + place, sums, mask=place < columns)
        greatest = tl.maximum(greatest, sums)
    tl.store(most + row * BLOCK + tl.arange(0, BLOCK), greatest)


@pytest.mark.parametrize("rows", [1, 3, 13])
def test_what_is_copied_of_few_programs_is_what_there_is(rows, monkeypatch):
    monkeypatch.setattr("mlutriton.configuration._current", mlu.machine("mlu-tiny"))
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")  # which faults where nothing has been written
    x = np.random.default_rng(0).integers(-9, 9, (rows, 46)).astype(np.float32)
    out, most = np.zeros_like(x), np.zeros((rows, 16), np.float32)
    running_sums_of_rows[(rows,)](out, most, x, 46, BLOCK=16)
    sums = np.pad(x, ((0, 0), (0, 2))).reshape(rows, 3, 16).cumsum(axis=2)
    np.testing.assert_array_equal(out, sums.reshape(rows, 48)[:, :46])
    np.testing.assert_array_equal(most, np.maximum(sums.max(axis=1), 0))


@mlu.jit
def running_sums(x, out, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    before = tl.zeros((ROWS, 1), tl.float32)
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)[None, :]
        mask = (row < rows) & (column < columns)
        tile = tl.load(x + row * columns + column, mask=mask, other=0.0)
        tl.store(out + row * columns + column, tl.cumsum(tile, axis=1) + before, mask=mask)
        before += tl.sum(tile, axis=1, keep_dims=True)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize(("rows", "height", "programs"), [(203, 2, 102), (203, 2, 110), (100, 1, 100), (3, 4, 5)])
def test_masks_that_cut_the_last_programs_cut_them_out_of_groups(engine, rows, height, programs, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    x = np.random.default_rng(4).random((rows + 8, 150), np.float32)
    out = np.zeros_like(x)
    running_sums[(programs,)](x, out, rows, 150, ROWS=height, BLOCK=64)
    np.testing.assert_allclose(out[:rows], x[:rows].cumsum(1, dtype=np.float64), rtol=1e-5)
    assert not out[rows:].any()


@pytest.mark.parametrize("rows", [768, 767])
def test_programs_go_together_where_masks_leave_them_whole(rows):
    x = np.random.default_rng(5).random((rows, 4096), np.float32)
    out, single = np.zeros_like(x), np.zeros_like(x)
    run = running_sums[(768,)](x, out, rows, 4096, ROWS=1, BLOCK=1024)
    alone = running_sums[(768,)](x, single, rows, 4096, ROWS=1, BLOCK=1024, num_stages=1)
    np.testing.assert_array_equal(out, single)
    assert run.cycles < 0.5 * alone.cycles


@mlu.jit
def sum_columns(x, out, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float32)
    for first in range(0, rows, ROWS):
        row = first + tl.arange(0, ROWS)[:, None]
        total += tl.sum(tl.load(x + row * columns + column[None, :], mask=(row < rows) & (column < columns)), axis=0)
    tl.store(out + column, total, mask=column < columns)


@pytest.mark.parametrize("columns", [64, 4096, 5000])
def test_few_programs_with_long_loops_go_one_by_one(columns):
    x = np.random.default_rng(6).standard_normal((2048, columns), np.float32)
    out, single = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    grid = (-(-columns // 64),)
    run = sum_columns[grid](x, out, 2048, columns, ROWS=64, COLUMNS=64)
    sum_columns[grid](x, single, 2048, columns, ROWS=64, COLUMNS=64, num_stages=1)
    np.testing.assert_array_equal(out, single)
    np.testing.assert_allclose(out, x.sum(0), atol=1e-2)
    if columns == 4096:
        assert run.cycles < 3.4 * run.work_bound_cycles


@mlu.jit
def sum_counted(x, out, count, last, columns, BLOCK: tl.constexpr):
    counted = 0
    for _ in range(count):
        counted += 1
    limit = tl.minimum(counted, 5)
    place = tl.arange(0, 8)
    row = tl.program_id(0) * 8 + place
    mask = (row < last) & (place < limit)
    total = tl.zeros((8,), tl.float32)
    for first in range(0, columns, BLOCK):
        column = first + tl.arange(0, BLOCK)
        total += tl.sum(tl.load(x + row[:, None] * columns + column, mask[:, None] & (column < columns), other=0.0), 1)
    tl.store(out + row, total, mask=mask)


@pytest.mark.parametrize("count", [4, 7])
def test_masks_that_are_made_of_what_a_loop_counts(count):
    programs, columns = 333, 40
    last = programs * 8 - 6
    x = np.random.default_rng(3).integers(0, 9, (last, columns)).astype(np.float32)
    out = np.full(programs * 8, -1, np.float32)
    run = sum_counted[(programs,)](x, out, count, last, columns, BLOCK=16)
    expected = np.full_like(out, -1)
    row = np.arange(last)
    expected[:last] = np.where(row % 8 < min(count, 5), x.sum(1), -1)
    np.testing.assert_array_equal(out, expected)
    blocks = basic_blocks(run.program)
    assert not register_life(run.program, blocks).live[0][0], "a register is read before it is set"


@mlu.jit
def causal_filter(
    out, x, weight, bias, columns, period, ahead, TAPS: tl.constexpr, BLOCK: tl.constexpr, WHOLE: tl.constexpr
):
    """The columns before each, weighted with what rows at the same place of a period share, or those of one period."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    channel = (row + ahead) // period if WHOLE else (row + ahead) % period
    total = tl.zeros((BLOCK,), tl.float32) + tl.load(bias + channel)
    for tap in range(TAPS):
        place = column + tap - (TAPS - 1)
        values = tl.load(x + row * columns + place, mask=(place >= 0) & (place < columns), other=0.0)
        total += values * tl.load(weight + channel * TAPS + tap)
    tl.store(out + row * columns + column, total, mask=column < columns)


def filtered(rows, columns, period, ahead, whole, **options):
    rng = np.random.default_rng(period)
    x = rng.integers(-3, 4, (rows, columns)).astype(np.float32)
    weight, bias = (rng.integers(-3, 4, (rows + ahead, count)).astype(np.float32) for count in (4, 1))
    out = np.zeros_like(x)
    grid = rows, -(-columns // 64)
    run = causal_filter[grid](out, x, weight, bias, columns, period, ahead, TAPS=4, BLOCK=64, WHOLE=whole, **options)
    channel = (np.arange(rows) + ahead) // period if whole else (np.arange(rows) + ahead) % period
    padded = np.pad(x, ((0, 0), (3, 0)))
    taps = sum(padded[:, tap : tap + columns] * weight[channel, tap][:, None] for tap in range(4))
    np.testing.assert_array_equal(out, taps + bias[channel])
    return run


@pairs_of(
    (("period", "ahead"), [(1, 0), (2, 1), (7, 3), (100, 5), (1000, 0)]),
    ("whole", [False, True]),
    ("machine", ["mlu590-m9", "mlu-tiny"]),
    ("engine", ["native", "interpreter"]),
    indirect=["machine"],
)
def test_rows_of_a_period_go_together(engine, whole, machine, period, ahead, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    filtered(150, 100, period, ahead, whole)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("period", "share"), [(8, 0.25), (100, 0.1), (1000, 0.1)])
def test_groups_end_where_a_period_does(period, share, whole):
    run, alone = (filtered(600, 250, period, 3, whole, num_stages=stages) for stages in (2, 1))
    assert run.cycles < share * alone.cycles


@mlu.jit
def filter_steps(out, x, weight, bias, steps, columns, blocks, BLOCK: tl.constexpr):
    """Each step and the two before it, of a block of columns."""
    program = tl.program_id(0)
    column = program % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    start = tl.load(bias + column, mask=inside, other=0.0)
    first = tl.load(weight + column, mask=inside, other=0.0)
    second = tl.load(weight + columns + column, mask=inside, other=0.0)
    third = tl.load(weight + 2 * columns + column, mask=inside, other=0.0)
    before, long_before = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for step in range(steps):
        place = (program // blocks * steps + step) * columns + column
        values = tl.load(x + place, mask=inside, other=0.0)
        tl.store(out + place, values * first + before * second + long_before * third + start, mask=inside)
        long_before, before = before, values


def test_programs_go_one_by_one_where_few_share_a_quotient():
    """A group waits in every step of the loop: that pays for many programs, for three it took 3.5 times as long."""
    rng = np.random.default_rng(6)
    steps, columns, cycles = 20, 192, list[int]()
    for batches in (32, 64):
        x = rng.integers(-3, 4, (batches, steps, columns)).astype(np.float32)
        weight, bias = (rng.integers(-3, 4, (count, columns)).astype(np.float32) for count in (3, 1))
        out = np.zeros_like(x)
        run = filter_steps[(batches * 3,)](out, x, weight, bias, steps, columns, 3, BLOCK=64)
        expected = x * weight[0] + bias
        expected[:, 1:] += x[:, :-1] * weight[1]
        expected[:, 2:] += x[:, :-2] * weight[2]
        np.testing.assert_array_equal(out, expected)
        cycles.append(run.cycles)
    assert cycles[1] < 2 * cycles[0]


@pytest.mark.parametrize("blocks", [4, 6, 8])
def test_programs_go_one_by_one_where_groups_wait_twice_a_turn(blocks):
    """A turn of a group waits for its load and for the store before; most tasks have parts of two groups."""
    steps, columns = 100, blocks * 64
    arrays = [mlu.spec((count, columns), "fp32") for count in (64 * steps, 64 * steps, 3, 1)]
    chosen, blocking = (
        mlu.estimate(filter_steps, (64 * blocks,), *arrays, steps, columns, blocks, BLOCK=64, num_stages=stages)
        for stages in (2, 1)
    )
    assert chosen.cycles < 0.1 * blocking.cycles
