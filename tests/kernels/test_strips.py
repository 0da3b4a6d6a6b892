"""Kernels whose tensors do not fit on chip: strip by strip they give what they would give as a whole."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton import placement
from mlutriton.testing import load_examples
from tests.kernels.engines import on_both_engines

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.delenv("MLUTRITON_MACHINE", raising=False)
    yield
    mlu.set_machine("mlu590-m9")


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


@mlu.jit
def add(out, x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    tl.store(out + i, tl.load(x + i, mask=mask) + tl.load(y + i, mask=mask), mask=mask)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_a_million_elements_are_added(dtype):
    x, y = ((100 * normal(1_048_499)).astype(dtype) for _ in range(2))
    out = np.zeros_like(x)
    run = add[(1,)](out, x, y, x.size, BLOCK=1 << 20)
    np.testing.assert_array_equal(out, x + y)
    # Every element comes in and goes out once.
    assert run.dram_read_bytes + run.dram_write_bytes < 3.1 * x.nbytes


@pytest.mark.parametrize("size", [100_003, 131_071, 30_011])
def test_a_prime_number_of_elements_goes_in_strips_as_long_as_others(size):
    x, y = normal(size), normal(size)
    out = np.zeros_like(x)
    run = add[(1,)](out, x, y, size, BLOCK=size)
    np.testing.assert_array_equal(out, x + y)
    even = 1 << (size - 1).bit_length()
    padded = add[(1,)](*(np.zeros(even, np.float32) for _ in range(3)), even, BLOCK=even)
    assert run.cycles < padded.cycles * max(0.6, 1.1 * size / even)


@mlu.jit
def centre_both_ways(out, x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    place = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    values = tl.load(x + place)
    values += tl.trans(tl.reshape(values, (COLUMNS, ROWS)))
    tl.store(out + place, values - tl.max(values, 0)[None, :] + tl.sum(values, 1)[:, None])


@pytest.mark.parametrize("shape", [(97, 1009), (331, 331), (3, 40_009), (1009, 97)])
def test_rows_and_columns_of_which_none_divides_into_strips(shape):
    x = RNG.integers(-9, 9, shape).astype(np.float32)
    out = np.zeros_like(x)
    centre_both_ways[(1,)](out, x, *shape)
    values = x + x.reshape(shape[::-1]).T
    np.testing.assert_array_equal(out, values - values.max(0) + values.sum(1, keepdims=True))


@mlu.jit
def running_sums(ahead, behind, x, COUNT: tl.constexpr):
    i = tl.arange(0, COUNT)
    values = tl.load(x + i)
    tl.store(ahead + i, tl.cumsum(values, 0))
    tl.store(behind + i, tl.cumsum(values, 0, reverse=True))


def test_sums_go_on_into_a_shorter_strip():
    x = RNG.integers(-9, 9, 100_003).astype(np.float32)
    ahead, behind = np.zeros_like(x), np.zeros_like(x)
    running_sums[(1,)](ahead, behind, x, COUNT=x.size)
    np.testing.assert_array_equal(ahead, x.cumsum())
    np.testing.assert_array_equal(behind, x[::-1].cumsum()[::-1])


@mlu.jit
def deep_product(out, a, b, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    left = tl.load(a + row * DEPTH + tl.arange(0, DEPTH)[None, :])
    right = tl.load(b + tl.arange(0, DEPTH)[:, None] * COLUMNS + column)
    tl.store(out + row * COLUMNS + column, tl.dot(left, right))


@pytest.mark.parametrize("sizes", [(331, 337, 311), (33, 47, 10_007)])
def test_products_of_prime_depth(sizes):
    rows, columns, depth = sizes
    a, b = (RNG.integers(-4, 5, shape).astype(np.float32) for shape in ((rows, depth), (depth, columns)))
    out = np.zeros((rows, columns), np.float32)
    deep_product[(1,)](out, a, b, *sizes)
    np.testing.assert_array_equal(out, a @ b)


def test_cycles_alone_are_known_too():
    run = add[(1,)](*(normal(1 << 18) for _ in range(3)), 1 << 18, BLOCK=1 << 18)
    described = [mlu.spec((1 << 18,), np.float32)] * 3
    estimated = mlu.estimate(add, (1,), *(mlu.spec((1 << 18,), np.float32) for _ in described), 1 << 18, BLOCK=1 << 18)
    assert estimated.cycles == run.cycles


@mlu.jit
def softmax(out, x, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row + column, mask=mask, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row + column, powers / tl.sum(powers, axis=0), mask=mask)


def softmaxed(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(("columns", "in_place"), [(65_536, False), (65_533, True), (131_001, False), (131_072, True)])
def test_softmax_of_long_rows(columns, in_place):
    x = normal(3, columns)
    expected = softmaxed(x)
    out = x if in_place else np.zeros_like(x)
    softmax[(3,)](out, x, columns, BLOCK=1 << (columns - 1).bit_length())
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-9)


@mlu.jit
def scale_by_maximum(x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    values = tl.load(x + i)
    tl.store(x + i, values / tl.max(values, axis=0))
    tl.store(x + BLOCK - 1 - i, tl.load(x + i) + 1)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_a_kernel_may_write_what_it_has_read(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    mlu.set_machine("mlu-tiny")
    x = np.abs(normal(1 << 14)) + 1
    expected = (x / x.max())[::-1] + 1
    scale_by_maximum[(1,)](x, BLOCK=1 << 14)
    np.testing.assert_allclose(x, expected, rtol=1e-6)


@mlu.jit
def layer_norm(out, x, weight, bias, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row + column, mask=mask, other=0.0)
    mean = tl.sum(values, axis=0) / columns
    centred = tl.where(mask, values - mean, 0.0)
    r = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + 1e-5)
    scaled = centred * r * tl.load(weight + column, mask=mask)
    tl.store(out + row + column, scaled + tl.load(bias + column, mask=mask), mask=mask)


def test_layer_norm_of_long_rows():
    columns = 131_001
    x, weight, bias = normal(2, columns), normal(columns), normal(columns)
    out = np.zeros_like(x)
    layer_norm[(2,)](out, x, weight, bias, columns, BLOCK=1 << 17)
    expected = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * weight + bias
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4)


@mlu.jit
def combine(total, place, running, backward, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    values = tl.load(x + i)
    tl.store(total, tl.sum(values, axis=0))
    tl.store(place, tl.argmax(values, axis=0))
    tl.store(running + i, tl.cumsum(values, axis=0))
    tl.store(backward + i, tl.cumsum(values, axis=0, reverse=True))


def test_reductions_and_scans_go_on_from_strip_to_strip():
    x = RNG.integers(-1000, 1000, 1 << 18).astype(np.int32)
    x[[70_000, 200_000]] = 5000
    total, place, running, backward = np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros_like(x), np.zeros_like(x)
    combine[(1,)](total, place, running, backward, x, BLOCK=x.size)
    assert (total[0], place[0]) == (x.sum(), 70_000)
    np.testing.assert_array_equal(running, np.cumsum(x))
    np.testing.assert_array_equal(backward, np.cumsum(x[::-1])[::-1])


@mlu.jit
def centre(out, sums, maxima, x, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    values = tl.load(x + m[:, None] * N + n[None, :])
    row_sums = tl.sum(values, axis=1)
    tl.store(sums + m, row_sums)
    tl.store(maxima + n, tl.max(values, axis=0))
    tl.store(out + n[:, None] * M + m[None, :], tl.trans(values - (row_sums / N)[:, None]))


def test_tiles_of_two_dimensions():
    x = normal(512, 1024)
    out, sums, maxima = np.zeros((1024, 512), np.float32), np.zeros(512, np.float32), np.zeros(1024, np.float32)
    centre[(1,)](out, sums, maxima, x, M=512, N=1024)
    np.testing.assert_allclose(sums, x.sum(axis=1), atol=1e-3)
    np.testing.assert_array_equal(maxima, x.max(axis=0))
    np.testing.assert_allclose(out, (x - x.mean(axis=1, keepdims=True)).T, atol=1e-5)


@mlu.jit
def product(out, a, b, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    values = tl.dot(tl.load(a + m[:, None] * K + k[None, :]), tl.load(b + k[:, None] * N + n[None, :]))
    tl.store(out + m[:, None] * N + n[None, :], values)


@mlu.jit
def blocked_product(out, a, b, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = (tl.program_id(0) * BM + tl.arange(0, BM)) % M
    n = (tl.program_id(1) * BN + tl.arange(0, BN)) % N
    k = tl.arange(0, BK)
    a_tile, b_tile = a + m[:, None] * K + k[None, :], b + k[:, None] * N + n[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for done in range(0, K, BK):
        left = tl.load(a_tile, mask=k[None, :] < K - done, other=0.0)
        total = tl.dot(left, tl.load(b_tile, mask=k[:, None] < K - done, other=0.0), total)
        a_tile += BK
        b_tile += BK * N
    row, column = tl.program_id(0) * BM + tl.arange(0, BM)[:, None], tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    tl.store(out + row * N + column, total, mask=(row < M) & (column < N))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_products_in_one_tile(dtype):
    a, b = normal(512, 512).astype(dtype), normal(512, 512).astype(dtype)
    out = np.zeros((512, 512), np.float32)
    product[(1,)](out, a, b, M=512, N=512, K=512)
    np.testing.assert_allclose(out, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-3, atol=1e-2)


def test_a_loop_over_products_runs_box_by_box():
    a, b = normal(600, 300).astype(np.float16), normal(300, 512).astype(np.float16)
    out = np.zeros((600, 512), np.float32)
    run = blocked_product[(2, 1)](out, a, b, 600, 512, 300, BM=512, BN=512, BK=64)
    np.testing.assert_allclose(out, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-3, atol=1e-2)
    # Accumulators do not go through local memory.
    assert run.dram_write_bytes < 1.2 * out.nbytes


@mlu.jit
def powers(out, x, count, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    values = tl.load(x + i)
    total = tl.zeros((BLOCK,), tl.float32)
    for power in range(count):
        total += values / (tl.max(values, axis=0) + power)
        values = tl.where(tl.sum(total, axis=0) > 0, values * 2, tl.cumsum(values, axis=0))
    if count > 2:
        total = -total
    tl.store(out + i, total)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("count", [2, 3])
def test_control_flow_carries_what_does_not_fit(count, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    mlu.set_machine("mlu-tiny")
    x = normal(1 << 14)
    out = np.zeros_like(x)
    powers[(1,)](out, x, count, BLOCK=x.size)
    values, total = x.astype(np.float64), np.zeros(x.size)
    for power in range(count):
        total += values / (values.max() + power)
        values = values * 2 if total.sum() > 0 else np.cumsum(values)
    np.testing.assert_allclose(out, -total if count > 2 else total, rtol=1e-3, atol=1e-3)


@mlu.jit
def pick(out, counts, x, index, N: tl.constexpr):
    i = tl.arange(0, N)
    places = tl.load(index + i)
    tl.store(out + i, tl.gather(tl.load(x + i) * 2, places, axis=0))
    tl.store(counts + tl.arange(0, 256), tl.histogram(places % 256, 256))


def test_gathers_and_histograms():
    n = 1 << 15
    x, index = normal(n), RNG.integers(0, n, n).astype(np.int32)
    mlu.set_machine("mlu-tiny")
    out, counts = np.zeros_like(x), np.zeros(256, np.int32)
    pick[(1,)](out, counts, x, index, N=n)
    np.testing.assert_array_equal(out, 2 * x[index])
    np.testing.assert_array_equal(counts, np.bincount(index % 256, minlength=256))
    index[5] = n
    with pytest.raises(mlu.KernelFault, match="gather index"):
        pick[(1,)](out, counts, x, index, N=n)


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "matmul", "cumsum"])
def test_examples_run_on_the_smallest_machine(name, repository):
    mlu.set_machine("mlu-tiny")
    [example] = load_examples(repository / "examples" / f"{name}.py")
    min(example.cases, key=lambda case: len(case.arguments()["x" if "x" in case.arguments() else "a"])).check()


@mlu.jit
def flip(out, x, ROWS: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, ROWS)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + i, tl.flip(tl.load(x + i), 1))


@pytest.mark.parametrize(("rows", "columns"), [(1024, 16), (4, 4096), (1, 16384)])
def test_tensors_of_any_shape_are_flipped(rows, columns):
    mlu.set_machine("mlu-tiny")
    x = normal(rows, columns)
    out = np.zeros_like(x)
    flip[(1,)](out, x, ROWS=rows, N=columns)
    np.testing.assert_array_equal(out, x[:, ::-1])


@mlu.jit
def change_halves(out, x, y, count, N: tl.constexpr):
    i = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    values = tl.load(x + i)
    for k in range(count):
        left, right = tl.split(tl.permute(tl.reshape(values, [N, 2, N // 2]), (0, 2, 1)))
        values = tl.reshape(tl.permute(tl.join(left * 2, right + k), (0, 2, 1)), [N, N])
        values = tl.dot(tl.load(y + i), values)
    tl.store(out + i, values)


@pytest.mark.parametrize("n", [128, 256])
def test_strips_of_one_half_of_what_is_joined(n):
    mlu.set_machine("mlu-tiny")
    x, y = np.round(8 * normal(n, n)), np.eye(n, dtype=np.float32)[::-1].copy()
    out = np.zeros_like(x)
    change_halves[(1,)](out, x, y, 3, N=n)
    expected = x
    for k in range(3):
        expected = np.concatenate([expected[:, : n // 2] * 2, expected[:, n // 2 :] + k], axis=1)[::-1]
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def greater(a, mark_of_a, b, mark_of_b):
    return tl.maximum(a, b), tl.where(b > a, mark_of_b, mark_of_a)


@mlu.jit
def mark_greatest(out, marks, x, N: tl.constexpr):
    i = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    values = tl.load(x + i)
    turned = tl.reshape(tl.trans(tl.reshape(values, [N // 4, 4 * N])), [N, N])
    greatest, mark = tl.associative_scan((turned, values), 0, greater)
    tl.store(out + i, greatest)
    tl.store(marks + i, mark)


def test_a_scan_goes_over_values_and_what_is_seen_of_them_in_another_order():
    mlu.set_machine("mlu-tiny")
    n = 128
    x = RNG.permutation(n * n).reshape(n, n).astype(np.int32)
    out, marks = np.zeros_like(x), np.zeros_like(x)
    mark_greatest[(1,)](out, marks, x, N=n)
    turned = x.reshape(n // 4, 4 * n).T.reshape(n, n)
    expected = np.maximum.accumulate(turned, axis=0)
    np.testing.assert_array_equal(out, expected)
    places = {value: place for place, value in np.ndenumerate(turned)}
    np.testing.assert_array_equal(marks, np.vectorize(lambda value: x[places[value]])(expected))


def test_long_code_is_refused(monkeypatch):
    mlu.set_machine("mlu-tiny")
    x = normal(512, 32)
    monkeypatch.setattr(placement, "MAXIMUM_STRIP_OPERATIONS", 50)
    with pytest.raises(mlu.OnChipMemoryError):
        flip[(1,)](np.zeros_like(x), x, ROWS=512, N=32)


@mlu.jit
def weigh_and_lower(out, x, weights, ROWS: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, ROWS)[:, None] * N + tl.arange(0, N)[None, :]
    values = tl.load(x + i)
    weight = tl.load(weights + tl.arange(0, ROWS))
    tl.store(out + i, values * weight[:, None] - tl.max(values, axis=1)[:, None])


def test_what_was_only_tried_stands_nowhere():
    # The store is tried in the nest of the maxima: strips of the weights are found before the maxima are missed.
    mlu.set_machine("mlu-tiny")
    x, weights = np.round(8 * normal(128, 128)), np.round(8 * normal(128))
    out = np.zeros_like(x)
    weigh_and_lower[(1,)](out, x, weights, ROWS=128, N=128)
    np.testing.assert_array_equal(out, x * weights[:, None] - x.max(axis=1, keepdims=True))


@mlu.jit
def turn(out, x, count, N: tl.constexpr):
    i = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    a = tl.load(x + i)
    b = a
    for _ in range(count):
        a = a + 2 * b
        b = tl.trans(a)
    tl.store(out + i, a + b)


def test_a_loop_hands_on_a_tile_and_what_is_made_of_its_other_strips():
    mlu.set_machine("mlu-tiny")
    x = np.round(8 * normal(128, 128))
    out = np.zeros_like(x)
    turn[(1,)](out, x, 3, N=128)
    a = b = x
    for _ in range(3):
        a = a + 2 * b
        b = a.T
    np.testing.assert_array_equal(out, a + b)


@mlu.jit
def print_and_store(out, x, flag, N: tl.constexpr):
    i = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    doubled = tl.max(tl.load(x + i), axis=1) * 2
    if tl.load(flag) > 0:
        tl.device_print("doubled", doubled)
    tl.store(out + tl.arange(0, N), doubled + 1)


def test_what_a_branch_prints_may_be_wanted_after_it(capfd):
    mlu.set_machine("mlu-tiny")
    x, out = normal(128, 128), np.zeros(128, np.float32)
    for flag in (0, 1):
        print_and_store[(1,)](out, x, np.full(1, flag, np.int32), N=128)
        np.testing.assert_array_equal(out, x.max(axis=1) * 2 + 1)
        assert ("doubled" in capfd.readouterr().out) == bool(flag)


@mlu.jit
def decay(out, x, weights, count, ROWS: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, ROWS)[:, None] * N + tl.arange(0, N)[None, :]
    total = tl.zeros((ROWS, N), tl.float32)
    weight = tl.load(weights + tl.arange(0, ROWS))
    for _ in range(count):
        total = total * weight[:, None] + tl.cumsum(tl.load(x + i), axis=1)
        weight = weight * 0.5
    tl.store(out + i, total)


def test_strips_do_without_double_buffering_where_inner_loops_take_all_memory():
    mlu.set_machine("mlu-tiny")
    x, weights = np.round(8 * normal(128, 128)), np.round(4 * normal(128))
    out = np.zeros_like(x)
    decay[(1,)](out, x, weights, 3, ROWS=128, N=128)
    expected = np.zeros_like(x)
    for k in range(3):
        expected = expected * (weights / 2**k)[:, None] + x.cumsum(axis=1)
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def follow(out, x, places, count, N: tl.constexpr):
    i = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    values = tl.load(x + i) + 1
    found = tl.load(places + i)
    for _ in range(count):
        found = tl.gather(values, found, 0)
    tl.store(out + i, found)


def test_a_loop_picks_from_what_does_not_fit():
    mlu.set_machine("mlu-tiny")
    x, places = (RNG.integers(0, 127, (128, 128), dtype=np.int32) for _ in range(2))
    out = np.zeros_like(x)
    follow[(1,)](out, x, places, 3, N=128)
    expected = places
    for _ in range(3):
        expected = np.take_along_axis(x + 1, expected, 0)
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def sort(out, x, N: tl.constexpr, DESCENDING: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.sort(tl.load(x + i), descending=DESCENDING))


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int64])
def test_sorts_exchange_within_strips_and_between_them(dtype):
    mlu.set_machine("mlu-tiny")
    x = (1000 * normal(4096)).astype(dtype)
    out = np.zeros_like(x)
    run = sort[(1,)](out, x, N=4096, DESCENDING=True)
    np.testing.assert_array_equal(out, np.sort(x)[::-1])
    # What is exchanged within strips never leaves the chip, and of the areas of what does few are alive at once.
    assert run.program.local_bytes <= 4 * x.nbytes


def test_a_row_of_65536_is_sorted():
    x = normal(65536)
    out = np.zeros_like(x)
    sort[(1,)](out, x, N=65536, DESCENDING=False)
    np.testing.assert_array_equal(out, np.sort(x))


@mlu.jit
def best(out, x, ROWS: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    i = tl.arange(0, ROWS)[:, None] * N + tl.arange(0, N)[None, :]
    o = tl.arange(0, ROWS)[:, None] * K + tl.arange(0, K)[None, :]
    tl.store(out + o, tl.topk(tl.load(x + i), K))


def test_the_greatest_of_each_row_are_found():
    mlu.set_machine("mlu-tiny")
    x, out = normal(8, 2048), np.zeros((8, 16), np.float32)
    best[(1,)](out, x, ROWS=8, N=2048, K=16)
    np.testing.assert_array_equal(out, -np.sort(-x, axis=1)[:, :16])


@mlu.jit
def gather_or_other(out, filled, places, others, table, n, value, ROWS: tl.constexpr, N: tl.constexpr):
    i, j = tl.arange(0, ROWS)[:, None], tl.arange(0, N)[None, :]
    index = tl.load(places + i * (N + 3) + j) * 3
    other = tl.load(others + i * N - j + N)
    tl.store(out + i * N + j, tl.load(table + index, mask=i < n, other=other))
    tl.store(filled + i * N + j, tl.zeros((ROWS, N), tl.int16) + value)


def test_what_is_gathered_is_copied_only_when_it_is_there():
    mlu.set_machine("mlu-tiny")
    rows, columns, n = 64, 128, 24
    places = RNG.integers(0, 20, (rows, columns + 3)).astype(np.int32)
    others, table = normal(rows * columns + 1), normal(60)
    out, filled = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.int16)
    arguments = out, filled, places, others, table, n, 7
    on_both_engines(lambda: gather_or_other[(1,)](*arguments, ROWS=rows, N=columns), out, filled)
    expected = np.stack([others[i * columns + columns - np.arange(columns)] for i in range(rows)])
    expected[:n] = table[3 * places[:n, :columns]]
    np.testing.assert_array_equal(out, expected)
    assert (filled == 7).all()


@mlu.jit
def count_all(counts, x, N: tl.constexpr):
    tl.store(counts + tl.arange(0, N), tl.histogram(tl.load(x + tl.arange(0, 256)), N))


def test_what_cannot_be_split_is_refused_with_the_bill():
    counts, x = np.zeros(1 << 20, np.int32), np.zeros(256, np.int32)
    with pytest.raises(mlu.OnChipMemoryError, match=r"4,194,304 B .*test_strips.py"):
        count_all[(1,)](counts, x, N=1 << 20)
