"""Gathers through loaded offsets run ahead of what is done with their items: values stay, and latencies are hidden."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.codegen.pipelining import software_pipeline
from mlutriton.codegen.pipelining.pipeline_plan import plan_loop
from tests.covering import pairs_of


@mlu.jit
def sum_bags(out, weight, names, bags, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    column = tl.arange(0, WIDTH)
    for bag in tl.range(tl.program_id(0), bags, tl.num_programs(0)):
        rows = tl.load(names + bag * COUNT + tl.arange(0, COUNT))
        tile = tl.load(weight + rows[:, None] * WIDTH + column[None, :], mask=rows[:, None] >= 0, other=0.0)
        tl.store(out + bag * WIDTH + column, tl.sum(tile, axis=0))


@mlu.jit
def sum_weighted_bags(out, weight, names, factors, bags, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    """The names are needed with what was gathered, and so are loads that nothing is gathered through."""
    column = tl.arange(0, WIDTH)
    for bag in tl.range(tl.program_id(0), bags, tl.num_programs(0)):
        item = bag * COUNT + tl.arange(0, COUNT)
        rows = tl.load(names + item)
        tile = tl.load(weight + rows[:, None] * WIDTH + column[None, :], mask=rows[:, None] >= 0, other=0.0)
        tile *= (tl.load(factors + item) + rows)[:, None]
        tl.store(out + bag * WIDTH + column, tl.sum(tile, axis=0))


@mlu.jit
def look_up(out, table, names, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    name = tl.load(names + offsets, mask=mask, other=0)
    other = tl.load(table + 2 * name + 1, mask=mask)
    tl.store(out + offsets, tl.load(table + 2 * name, mask=mask) - other, mask=mask)


def bags_of(count, rng):
    weight = rng.integers(-8, 8, (50, 64)).astype(np.float32)
    names = rng.integers(-1, 50, (count, 8), np.int32)
    return weight, names, np.where(names[..., None] >= 0, weight[names], 0)


@pairs_of(("bags", [0, 1, 2, 3, 4, 5, 30]), ("weighted", [False, True]), ("engine", ["native", "interpreter"]))
def test_bags(bags, weighted, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(bags)
    weight, names, items = bags_of(bags, rng)
    out = np.full((bags + 3, 64), 7, np.float32)
    if weighted:
        factors = rng.integers(-8, 8, (bags, 8)).astype(np.float32)
        items = items * (factors + names)[..., None]
        sum_weighted_bags[(2,)](out, weight, names, factors, bags, COUNT=8, WIDTH=64)
    else:
        sum_bags[(2,)](out, weight, names, bags, COUNT=8, WIDTH=64)
    np.testing.assert_array_equal(out[:bags], items.sum(axis=1))
    assert (out[bags:] == 7).all()


def test_bags_of_arrays_that_overlap_are_summed_in_order():
    """Every bag names the sum of the one before."""
    memory = np.ones((9, 64), np.float32)
    names = np.repeat(np.arange(8, dtype=np.int32)[:, None], 2, axis=1)
    sum_bags[(1,)](memory[1:], memory, names, 8, COUNT=2, WIDTH=64)
    np.testing.assert_array_equal(memory[:, 0], 2.0 ** np.arange(9))


def test_the_items_of_a_bag_arrive_while_those_of_another_are_summed():
    weight, names = (np.zeros(shape, dtype) for shape, dtype in (((500, 512), np.float32), ((40, 32), np.int32)))
    out = np.empty((40, 512), np.float32)
    ahead = sum_bags[(1,)](out, weight, names, 40, COUNT=32, WIDTH=512, num_stages=2)
    plain = sum_bags[(1,)](out, weight, names, 40, COUNT=32, WIDTH=512, num_stages=1)
    assert ahead.cycles < 0.7 * plain.cycles


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_programs_that_gather_are_served_in_blocks(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(0)
    n = 64 * 200 + 5
    table, names = rng.integers(-8, 8, 1000).astype(np.float32), rng.integers(0, 500, n, np.int32)
    out = np.full(n + 64, 7, np.float32)
    look_up[(201,)](out, table, names, n, BLOCK=64)
    np.testing.assert_array_equal(out[:n], table[2 * names] - table[2 * names + 1])
    assert (out[n:] == 7).all()


@mlu.jit
def sum_chosen(out, x, chosen, count, width, ITEMS: tl.constexpr, PART: tl.constexpr):
    """The loop's own gathers go where what was computed right before it says."""
    item, part = tl.arange(0, ITEMS), tl.arange(0, PART)
    number = tl.load(chosen + item, mask=item < count, other=0).to(tl.int64)
    total = tl.zeros((ITEMS, PART), tl.float32)
    for start in range(0, width, PART):
        mask = (item < count)[:, None] & (start + part < width)[None, :]
        total += tl.load(x + number[:, None] * width + (start + part)[None, :], mask=mask, other=0)
    tl.store(out + item, tl.sum(total, axis=1), mask=item < count)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("width", [32, 100, 1000])
def test_the_first_gathers_wait_for_what_says_where(width, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(width)
    x, chosen, out = (
        rng.random((30, width), np.float32),
        rng.permutation(30)[:13].astype(np.int32),
        np.zeros(13, np.float32),
    )
    sum_chosen[(1,)](out, x, chosen, 13, width, ITEMS=16, PART=32)
    np.testing.assert_allclose(out, x[chosen].sum(axis=1), rtol=1e-5)


@mlu.jit
def permute_rows(out, x, names, shifts, SIZE: tl.constexpr, SCATTER: tl.constexpr):
    """Every program has a row, in which its offsets count."""
    program, element = tl.program_id(0), tl.arange(0, SIZE)
    row = program * SIZE
    name = tl.load(names + row + element)
    shift = tl.load(shifts + program)
    if SCATTER:
        tl.store(out + row + name, tl.load(x + row + element) + shift)
    else:
        tl.store(out + row + element, tl.load(x + row + name) + shift)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("scatter", [False, True])
def test_the_offsets_of_a_program_count_from_its_own_place(scatter, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(0)
    x = rng.integers(-99, 99, (201, 32)).astype(np.int32)
    names = rng.permuted(np.tile(np.arange(32, dtype=np.int32), (201, 1)), axis=1)
    shifts, out = rng.integers(-99, 99, 201).astype(np.int32), np.zeros_like(x)
    permute_rows[(201,)](out, x, names, shifts, SIZE=32, SCATTER=scatter)
    places = np.argsort(names, axis=1) if scatter else names
    np.testing.assert_array_equal(out, np.take_along_axis(x, places, 1) + shifts[:, None])


@mlu.jit
def enlarge(x, out, H, W, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Weights of neighbours, and where these are, come from the same positions; of blocks there is no room."""
    channel, i = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = i < SIZE * SIZE
    y, z = (i // SIZE + 0.5) * (H / SIZE) - 0.5, (i % SIZE + 0.5) * (W / SIZE) - 0.5
    y, z = tl.maximum(y, 0.0), tl.maximum(z, 0.0)
    top, left = y.to(tl.int32), z.to(tl.int32)
    low, right = tl.minimum(top + 1, H - 1), tl.minimum(left + 1, W - 1)
    start = x + channel * H * W
    a, b = tl.load(start + top * W + left, mask=mask), tl.load(start + top * W + right, mask=mask)
    c, d = tl.load(start + low * W + left, mask=mask), tl.load(start + low * W + right, mask=mask)
    y, z = y - top, z - left
    values = (a * (1 - z) + b * z) * (1 - y) + (c * (1 - z) + d * z) * y
    tl.store(out + channel * SIZE * SIZE + i, values, mask=mask)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_what_gathers_share_with_the_rest_stays_if_blocks_do_not_fit(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    x, out = np.random.default_rng(0).random((3, 8, 8), np.float32), np.empty((3, 32, 32), np.float32)
    enlarge[(3, 1)](x, out, 8, 8, SIZE=32, BLOCK=1024)
    place = np.maximum((np.arange(32) + 0.5) / 4 - 0.5, 0).astype(np.float32)
    first = place.astype(int)
    share, second = place - first, np.minimum(first + 1, 7)
    rows = x[:, first] * (1 - share)[:, None] + x[:, second] * share[:, None]
    expected = rows[:, :, first] * (1 - share) + rows[:, :, second] * share
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@mlu.jit
def sum_pairs(out, x, first, second, n, BLOCK: tl.constexpr):
    """What says where the first gather reads is needed with what the second one gathered."""
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for j in range(n):
        place = tl.load(first + j * BLOCK + i)
        item = tl.load(x + place)
        total += item + place.to(tl.float32) * tl.load(x + tl.load(second + j * BLOCK + i))
    tl.store(out + i, total)


def test_a_gather_runs_ahead_by_itself_where_another_may_not(monkeypatch):
    plans = []
    monkeypatch.setattr(
        software_pipeline, "plan_loop", lambda *args, **kw: plans.append(plan_loop(*args, **kw)) or plans[-1]
    )
    rng = np.random.default_rng(0)
    x = rng.integers(-8, 8, 100).astype(np.float32)
    first, second = rng.integers(0, 100, (2, 6, 128), np.int32)
    out = np.empty(128, np.float32)
    sum_pairs[(1,)](out, x, first, second, 6, BLOCK=128)
    np.testing.assert_array_equal(out, (x[first] + first * x[second]).sum(axis=0))
    assert any(len(each.gathers) == 1 for each in plans)
