"""Loops, branches, early returns, and what they carry."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

pytestmark = pytest.mark.usefixtures("each_engine")


@mlu.jit
def counted(out, start, stop, step):
    place = 0
    for k in range(start, stop, step):
        tl.store(out + place, k)
        place += 1
    tl.store(out + 63, place)


@mlu.jit
def counted_down(out, start, stop, STEP: tl.constexpr):
    place = 0
    for k in range(start, stop, STEP):
        tl.store(out + place, k)
        place += 1
    tl.store(out + 63, place)


RANGES = [(0, 10, 1), (3, 30, 4), (5, 5, 1), (7, 2, 3), (-20, 20, 7), (-5, 0, 2)]


@pytest.mark.parametrize("bounds", RANGES)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_loops_of_any_bounds(bounds, dtype):
    out = np.zeros(64, dtype)
    if dtype == np.int64:
        counted[(1,)](out, bounds[0] + 2**40, bounds[1] + 2**40, bounds[2])
        out[: out[63]] -= 2**40
    else:
        counted[(1,)](out, *bounds)
    assert out[: out[63]].tolist() == list(range(*bounds))


@mlu.jit
def summed_steps(out, x, columns, step, BLOCK: tl.constexpr):
    sums = tl.zeros((BLOCK, BLOCK), tl.float32)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    for first in range(0, columns, step):
        column = first + tl.arange(0, BLOCK)
        sums = tl.dot(tl.load(x + row[:, None] * columns + column), tl.load(x + column[:, None] * BLOCK + row), sums)
    tl.store(out + row[:, None] * BLOCK + tl.arange(0, BLOCK), sums)


@pytest.mark.parametrize("step", [0, -2])
def test_steps_that_get_nowhere_are_an_error_at_once(step):
    """Also in a kernel of several versions; a loop without iterations may have any step."""
    out = np.zeros(64, np.int32)
    with pytest.raises(mlu.KernelFault, match="step of this loop is not positive") as caught:
        counted[(1,)](out, 0, 10, step)
    assert caught.value.code == "E0305"
    assert caught.value.location.line == counted.fn.__code__.co_firstlineno + 3
    counted[(1,)](out, 10, 0, step)
    assert out[63] == 0
    x, sums = np.zeros((16, 64), np.float16), np.zeros((16, 16), np.float32)
    with pytest.raises(mlu.KernelFault, match="step of this loop is not positive"):
        summed_steps[(1,)](sums, x, 64, step, BLOCK=16)
    summed_steps[(1,)](sums, x, 64, 16, BLOCK=16)


@pytest.mark.parametrize("bounds", [(10, 0, -1), (30, 3, -4), (5, 5, -1), (2, 7, -3), (20, -20, -7)])
def test_loops_that_count_down(bounds):
    out = np.zeros(64, np.int32)
    counted_down[(1,)](out, *bounds)
    assert out[: out[63]].tolist() == list(range(*bounds))


@mlu.jit
def counted_unsigned(out, counts):
    place = 0
    for k in range(tl.load(counts), tl.load(counts + 1), tl.load(counts + 2)):
        tl.store(out + place, k)
        place += 1
    tl.store(out + 63, place)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16])
@pytest.mark.parametrize("bounds", [(3, 30, 4), (0, 10, 1), (100, 120, 3), (9, 4, 1)])
def test_loops_over_every_integer_type(dtype, bounds):
    out = np.zeros(64, dtype)
    counted_unsigned[(1,)](out, np.array(bounds, dtype))
    assert out[: out[63]].tolist() == list(range(*bounds))


@mlu.jit
def carried(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total, largest, rounds, pair = tl.zeros((BLOCK,), tl.float32), -1.0e9, 0, (0, i)
    for k in range(n):
        values = tl.load(x + k * BLOCK + i)
        total, largest = total + values, max(largest, tl.max(values, axis=0))
        pair = (pair[0] + k, pair[1] * 2)
        for j in range(k):
            rounds += j
            total += j
    tl.store(out + i, total + largest + rounds + pair[0] + pair[1])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_carried_tensors_scalars_and_tuples(n):
    x, out = np.random.default_rng(0).integers(0, 99, (5, 16)).astype(np.float32), np.zeros(16, np.float32)
    carried[(1,)](out, x, n, BLOCK=16)
    rounds = sum(j for k in range(n) for j in range(k))
    expected = x[:n].sum(0) + rounds + (x[:n].max() if n else -1.0e9) + rounds + sum(range(n)) + np.arange(16) * 2**n
    np.testing.assert_array_equal(out, expected.astype(np.float32))


@mlu.jit
def swapping(out, a, b, c, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x, y, z = tl.load(a + i), tl.load(b + i), tl.load(c + i)
    for _ in range(n):
        x, y, z = y, z, x + 1
    tl.store(out + i, x)
    tl.store(out + BLOCK + i, y)
    tl.store(out + 2 * BLOCK + i, z)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_carried_tensors_that_change_places(n):
    x, y, z = data = np.random.default_rng(0).integers(0, 99, (3, 16)).astype(np.float32)
    out = np.zeros_like(data)
    swapping[(1,)](out, *data, n, BLOCK=16)
    for _ in range(n):
        x, y, z = y, z, x + 1
    np.testing.assert_array_equal(out, [x, y, z])


@mlu.jit
def collatz(out, start, BLOCK: tl.constexpr):
    value = tl.load(start + tl.program_id(0))
    steps, trail = 0, tl.zeros((BLOCK,), tl.int32)
    while value != 1:
        if value % 2 == 0:
            value = value // 2
        else:
            value = 3 * value + 1
        steps += 1
        trail = tl.where(tl.arange(0, BLOCK) == steps % BLOCK, value, trail)
    tl.store(out + tl.program_id(0) * (BLOCK + 1), steps)
    tl.store(out + tl.program_id(0) * (BLOCK + 1) + 1 + tl.arange(0, BLOCK), trail)


def test_while_with_carried_tensors():
    start = np.array([1, 6, 7, 27], np.int32)
    out = np.zeros((4, 9), np.int32)
    collatz[(4,)](out, start, BLOCK=8)
    for row, value in zip(out, start.tolist(), strict=True):
        steps, trail = 0, [0] * 8
        while value != 1:
            value = value // 2 if value % 2 == 0 else 3 * value + 1
            steps += 1
            trail[steps % 8] = value
        assert row.tolist() == [steps, *trail]


@mlu.jit
def until_zero(out, x, BLOCK: tl.constexpr):
    k = 0
    while (tl.load(x + k) != 0) & (k < 50):
        k += 1
    i, all_small = tl.arange(0, BLOCK), tl.full((BLOCK,), 1, tl.int32)
    while tl.max(all_small, axis=0) < 100:
        all_small = all_small * 2 + i
    tl.store(out, k)
    tl.store(out + 1 + i, all_small)


def test_while_conditions_that_load_and_reduce():
    x, out = np.array([3, 1, 4, 1, 0, 9], np.int32), np.zeros(9, np.int32)
    until_zero[(1,)](out, x, BLOCK=8)
    values = np.ones(8, np.int32)
    while values.max() < 100:
        values = values * 2 + np.arange(8)
    assert out.tolist() == [4, *values]


@mlu.jit
def nested_while(out, n):
    total, a = 0, n
    while a > 0:
        b = a
        while b > 1:
            b = b // 2
            total += 1
            if total > 20:
                b = 0
        a -= 1
    tl.store(out, total)


@pytest.mark.parametrize("n", [0, 1, 7, 30])
def test_nested_while(n):
    out = np.zeros(1, np.int32)
    nested_while[(1,)](out, n)
    total, a = 0, n
    while a > 0:
        b = a
        while b > 1:
            b, total = b // 2, total + 1
            if total > 20:
                b = 0
        a -= 1
    assert out[0] == total


@mlu.jit
def branches(out, x, a, b, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    values, count, kind = tl.load(x + i), 1, 0.5
    if a > 0:
        values += 1
        if b > 0:
            values, count = values * 2, 7
        elif b == 0:
            kind = tl.sum(values, axis=0)
        else:
            values = values[::1] if False else values - 3
    elif b > 0:
        count = b
        values = tl.zeros_like(values)
    tl.store(out + i, values + count * 1000 + kind)


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [-1, 0, 1])
def test_branches_with_results(a, b):
    x, out = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    branches[(1,)](out, x, a, b, BLOCK=8)
    values, count, kind = x, 1, 0.5
    if a > 0:
        values = values + 1
        if b > 0:
            values, count = values * 2, 7
        elif b == 0:
            kind = values.sum()
        else:
            values = values - 3
    elif b > 0:
        count, values = b, 0 * x
    np.testing.assert_array_equal(out, values + count * 1000 + kind)


@mlu.jit
def early_returns(out, n, limit):
    k = tl.program_id(0)
    if k >= n:
        return
    tl.store(out + k, 1)
    if k % 2 == 0:
        if k > limit:
            return
        tl.store(out + k, 2)
        for j in range(k):
            tl.store(out + k, 3 + j)
    else:
        tl.store(out + k, -1)
        if k == 3:
            return
    tl.store(out + k, tl.load(out + k) * 10)


def test_early_returns():
    out = np.zeros(12, np.int32)
    early_returns[(12,)](out, 9, 5)
    expected = np.zeros(12, np.int32)
    for k in range(9):
        if k % 2 == 0:
            expected[k] = 1 if k > 5 else (10 * (2 if k == 0 else 2 + k))
        else:
            expected[k] = -1 if k == 3 else -10
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def options_of_range(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.range(0, n, 1, num_stages=4, loop_unroll_factor=2, disable_licm=True):
        total += tl.load(x + k * BLOCK + i)
    for k in tl.range(n, flatten=True, warp_specialize=False, disallow_acc_multi_buffer=True):
        for j in tl.range(k, num_stages=1):
            total += j
    for k in tl.static_range(1, 7, 2):
        total += k
    for k in tl.range(5, 0, -2):
        total += k
    tl.store(out + i, total)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_options_of_range(n):
    x, out = np.random.default_rng(0).integers(0, 99, (5, 16)).astype(np.float32), np.zeros(16, np.float32)
    options_of_range[(1,)](out, x, n, BLOCK=16)
    expected = x[:n].sum(0) + sum(j for k in range(n) for j in range(k)) + 9 + 9
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def loop_index_after(out, n):
    last = -1
    for k in range(n):
        last = k
        if k % 2 == 1:
            tl.store(out + k, k)
    tl.store(out + 9, last)


def test_values_of_the_last_iteration():
    out = np.zeros(10, np.int32)
    loop_index_after[(1,)](out, 6)
    assert out.tolist() == [0, 1, 0, 3, 0, 5, 0, 0, 0, 5]


@mlu.jit
def grid_position(out):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    nx, ny, nz = tl.num_programs(0), tl.num_programs(1), tl.num_programs(2)
    tl.store(out + (z * ny + y) * nx + x, x + 10 * y + 100 * z + 1000 * nx + 10000 * ny + 100000 * nz)


def test_grids_of_three_axes():
    out = np.zeros((4, 3, 2), np.int32)
    grid_position[(2, 3, 4)](out)
    z, y, x = np.indices(out.shape)
    np.testing.assert_array_equal(out, x + 10 * y + 100 * z + 432000)


@mlu.jit
def nothing():
    pass


@mlu.jit
def writes(out):
    tl.store(out, 1)


def test_kernels_without_arguments_and_grids_without_programs():
    assert nothing[(3,)]().cycles >= 0
    out = np.zeros(1, np.int32)
    for grid in [(0,), (2, 0), (0, 3, 2)]:
        writes[grid](out)
    assert out[0] == 0


@mlu.jit
def tensor_condition(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    values = tl.load(x + i)
    if tl.sum(values, axis=0) > 10:
        values = -values
    if tl.max(values, axis=0) > 3 and tl.min(values, axis=0) < 2:
        values += 100
    tl.store(out + i, values if BLOCK > 4 else 0)


@pytest.mark.parametrize("x", [[1, 2, 3, 4, 5, 6, 7, 8], [1] * 8, [4, 1, -9, 0, 0, 0, 0, 0]])
def test_conditions_on_reductions(x):
    values, out = np.array(x, np.float32), np.zeros(8, np.float32)
    tensor_condition[(1,)](out, values, BLOCK=8)
    expected = -values if values.sum() > 10 else values
    if expected.max() > 3 and expected.min() < 2:
        expected = expected + 100
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def loop_in_branch_in_loop(out, x, n, m, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in range(n):
        if k % 2 == 0:
            j = 0
            while j < m:
                total += tl.load(x + j * BLOCK + i)
                j += 1
        else:
            for j in range(m):
                total -= 1
    tl.store(out + i, total)


@pytest.mark.parametrize("bounds", [(0, 3), (5, 0), (5, 3)])
def test_loops_in_branches_in_loops(bounds):
    x, out = np.random.default_rng(0).integers(0, 99, (3, 16)).astype(np.float32), np.zeros(16, np.float32)
    loop_in_branch_in_loop[(1,)](out, x, *bounds, BLOCK=16)
    n, m = bounds
    np.testing.assert_array_equal(out, (n + 1) // 2 * x[:m].sum(0) - n // 2 * m)


@mlu.jit
def overwritten(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    rounds = tl.program_id(0)
    values = tl.load(x + tl.flip(i, 0), mask=i < rounds, other=i)
    for _ in range(rounds):
        values = tl.flip(tl.broadcast_to(tl.sum(values * 3, 0), (BLOCK,)), 0)
    left = rounds + 1
    while left > 0:
        values = tl.full((BLOCK,), 7, tl.int32)
        left = left - 1
    tl.store(out + rounds * BLOCK + i, values)


def test_what_was_loaded_is_waited_for_past_loops_that_do_not_run():
    out = np.zeros((3, 16), np.int32)
    overwritten[(3,)](out, np.arange(16, dtype=np.int32), BLOCK=16)
    assert (out == 7).all()


@mlu.jit
def best_of_blocks(out, x, blocks, columns, BLOCK: tl.constexpr, MOST: tl.constexpr):
    """A small tensor of scores, of which each branch sets one element."""
    row, column, place = tl.program_id(0), tl.arange(0, BLOCK), tl.arange(0, MOST)
    scores, best = tl.full((MOST,), float("-inf"), tl.float32), float("-inf")
    for block in tl.static_range(MOST):
        if block < blocks:
            values = tl.load(x + (block * 3 + row) * columns + column, mask=column < columns, other=0)
            score = tl.sum(values)
            scores = tl.where(place == block, score, scores)
            best = tl.maximum(best, score)
    tl.store(out + row * MOST + place, tl.where(place < blocks, scores - best, 0))


@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_branches_that_set_one_element_each(blocks):
    x, out = np.random.default_rng(blocks).integers(0, 9, (4, 3, 40)).astype(np.float32), np.ones((3, 4), np.float32)
    best_of_blocks[(3,)](out, x, blocks, 40, BLOCK=64, MOST=4)
    scores = x.sum(axis=2).T[:, :blocks]
    np.testing.assert_array_equal(out[:, :blocks], scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_array_equal(out[:, blocks:], 0)
