"""What the schedule of a program must and must not do: prefetch, overlap, and stay right when arrays overlap."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.isa.trace_format import WAIT_IO, Kind, unpack


@mlu.jit
def shift(source, target, blocks, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    for block in range(blocks):
        tile = tl.load(source + block * BLOCK + offsets)
        tl.store(target + block * BLOCK + offsets, tile + 1)


def shifted(data: np.ndarray, blocks: int, block: int) -> np.ndarray:
    """Block by block in order: each reads what the one before wrote, as target begins a block later."""
    result = data.copy()
    for index in range(blocks):
        begin = index * block
        result[begin + block : begin + 2 * block] = result[begin : begin + block] + 1
    return result


@pytest.mark.parametrize("stages", [1, 2])
def test_a_loop_over_one_array_reads_what_it_has_written(stages):
    data = np.arange(9 * 64, dtype=np.float32)
    expected = shifted(data, 8, 64)
    shift[(1,)](data, data[64:], 8, BLOCK=64, num_stages=stages)
    np.testing.assert_array_equal(data, expected)


def test_prefetch_makes_a_loop_over_two_arrays_quicker():
    source, target = np.random.default_rng(0).random((2, 16 * 4096), np.float32)
    plain = shift[(1,)](source, target, 16, BLOCK=4096, num_stages=1)
    np.testing.assert_array_equal(target, source + 1)
    target[:] = 0
    pipelined = shift[(1,)](source, target, 16, BLOCK=4096, num_stages=2)
    np.testing.assert_array_equal(target, source + 1)
    assert pipelined.cycles < plain.cycles


@mlu.jit
def hand_pipelined(source, target, blocks, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tile = tl.load(source + offsets)
    total = tl.zeros((BLOCK,), tl.float32)
    for block in range(blocks):
        total += tile * 2
        tile = tl.load(source + (block + 1) * BLOCK + offsets)
    tl.store(target + offsets, total + tile)


@pytest.mark.parametrize("blocks", [0, 1, 5])
def test_a_load_that_the_kernel_itself_issues_ahead(blocks):
    source = np.random.default_rng(0).random((blocks + 1, 64), np.float32)
    target = np.zeros(64, np.float32)
    hand_pipelined[(1,)](source, target, blocks, BLOCK=64)
    np.testing.assert_allclose(target, 2 * source[:-1].sum(axis=0) + source[-1], rtol=1e-6)


@mlu.jit
def two_results(source, doubled, squared, blocks, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    for block in range(blocks):
        tile = tl.load(source + block * BLOCK + offsets)
        tl.store(doubled + block * BLOCK + offsets, tile * 2)
        tl.store(squared + block * BLOCK + offsets, tile * tile)


@pytest.mark.parametrize("blocks", [0, 1, 2, 5])
def test_stores_behind_reach_memory_and_in_order(blocks):
    source = np.random.default_rng(0).random((blocks, 256), np.float32)
    doubled, squared = np.zeros((2, blocks + 1, 256), np.float32)
    two_results[(1,)](source, doubled[:-1], squared[:-1], blocks, BLOCK=256)
    np.testing.assert_array_equal(doubled[:-1], source * 2)
    np.testing.assert_array_equal(squared[:-1], source * source)
    assert not doubled[-1].any()
    assert not squared[-1].any()
    # Both stores go to one place: the second one's values stay.
    two_results[(1,)](source, doubled[:-1], doubled[:-1], blocks, BLOCK=256)
    np.testing.assert_array_equal(doubled[:-1], source * source)


def test_transfers_run_while_the_loop_computes():
    blocks, block = 32, 16_384
    source, target = np.zeros((2, blocks * block), np.float32)
    run = shift[(1,)](source, target, blocks, BLOCK=block, num_stages=2)
    machine = run.machine
    flow = 2 * blocks * block * 4 // machine.core_dma_bytes_per_cycle
    latency = machine.cycles_from_ns(machine.dram_bulk_latency_ns) + machine.dma_setup_cycles
    # One latency an iteration, at the ends one more each, and little else.
    assert run.cycles - machine.cycles_from_ns(machine.launch_device_ns) < flow + (blocks + 3) * (latency + 60)


@mlu.jit
def running_sum(source, target, blocks, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for block in range(blocks):
        total += tl.load(source + block * BLOCK + offsets)
        tl.store(target + block * BLOCK + offsets, total)


@pytest.mark.parametrize("kernel", [shift, running_sum], ids=["in blocks", "one by one"])
def test_the_last_stores_do_not_wait_for_those_before(kernel):
    blocks, block = 32, 16_384
    source = np.random.default_rng(0).integers(-4, 5, (blocks, block)).astype(np.float32)
    target = np.zeros_like(source)
    run = kernel[(1,)](source, target, blocks, BLOCK=block, num_stages=2)
    np.testing.assert_array_equal(target, source + 1 if kernel is shift else source.cumsum(axis=0))
    records = list(unpack(run.trace.words.tolist()))
    last = max(place for place, each in enumerate(records) if each.kind is Kind.STORE)
    *_, (waited, sync) = ((at, each) for at, each in enumerate(records[:last]) if each.kind is Kind.SYNC)
    assert not sync.amount & WAIT_IO
    assert any(each.kind is Kind.STORE for each in records[:waited])


@mlu.jit
def product(a, b, c, M, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    # The tutorial's form: rows and columns beyond the matrix wrap around, so that no mask is needed for them.
    rows = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    columns = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    depth = tl.arange(0, BLOCK_K)
    a_tile = a + rows[:, None] * K + depth[None, :]
    b_tile = b + depth[:, None] * N + columns[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(tl.cdiv(K, BLOCK_K)):
        left = tl.load(a_tile, mask=depth[None, :] < K - k * BLOCK_K, other=0.0)
        right = tl.load(b_tile, mask=depth[:, None] < K - k * BLOCK_K, other=0.0)
        total = tl.dot(left, right, total)
        a_tile += BLOCK_K
        b_tile += BLOCK_K * N
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    tl.store(c + row * N + column, total, mask=(row < M) & (column < N))


@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 64), (70, 50, 33), (9, 130, 100), (33, 17, 5)])
def test_wrapped_tiles_are_loaded_by_dma(m, n, k):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    c = np.zeros((m, n), np.float32)
    run = product[(-(-m // 32), -(-n // 64))](a, b, c, m, n, k, BLOCK_M=32, BLOCK_N=64, BLOCK_K=32)
    np.testing.assert_allclose(c, a @ b, rtol=1e-5, atol=1e-5)
    assert not any(row.name == "gather" for row in {each.row for each in run.program.instructions})


def test_a_single_wrapped_row():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 32), np.float32), rng.standard_normal((32, 64), np.float32)
    c = np.zeros((5, 64), np.float32)
    product[(5, 1)](a, b, c, 5, 64, 32, BLOCK_M=1, BLOCK_N=64, BLOCK_K=32)
    np.testing.assert_allclose(c, a @ b, rtol=1e-5, atol=1e-5)


@mlu.jit
def transposed_product(a, b, c, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tile = place[:, None] * BLOCK + place[None, :]
    product = tl.dot(tl.trans(tl.load(a + tile)), tl.trans(tl.load(b + tile)))
    tl.store(c + tile, tl.trans(product))


def test_transposes_around_a_dot():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 32, 32)).astype(np.float32)
    c = np.zeros((32, 32), np.float32)
    transposed_product[(1,)](a, b, c, BLOCK=32)
    np.testing.assert_allclose(c, (a.T @ b.T).T, rtol=1e-4, atol=1e-4)


@mlu.jit
def strided(source, target, rows, columns, row_stride, column_stride, BLOCK: tl.constexpr):
    row = tl.arange(0, BLOCK)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < columns)
    tile = tl.load(source + row * row_stride + column * column_stride, mask=mask, other=-1.0)
    tl.store(target + row * BLOCK + column, tile)


@pytest.mark.parametrize(
    "view", [lambda x: x, lambda x: x.T, lambda x: x[::2, ::3], lambda x: x[::-1, 3:], lambda x: x[:, ::-2]]
)
def test_views_of_any_strides(view):
    base = np.arange(24 * 30, dtype=np.float32).reshape(24, 30)
    array = view(base)
    expected = np.full((32, 32), -1, np.float32)
    expected[: array.shape[0], : array.shape[1]] = array
    result = np.zeros((32, 32), np.float32)
    strides = [stride // 4 for stride in array.strides]
    strided[(1,)](array, result, *array.shape, *strides, BLOCK=32)
    np.testing.assert_array_equal(result, expected)


@mlu.jit
def moments(x, out, BLOCK: tl.constexpr):
    value = tl.load(x + tl.arange(0, BLOCK))
    tl.store(out, tl.sum(value, 0))
    tl.store(out + 1, tl.max(value, 0))
    tl.store(out + 2, tl.sum(value * value, 0))


def test_a_sum_is_of_what_stood_there_before_it_was_squared():
    # The square takes over the buffer of the value, in the loop that also sums the value.
    x = np.arange(64, dtype=np.float32)
    out = np.zeros(3, np.float32)
    moments[(1,)](x, out, BLOCK=64)
    np.testing.assert_array_equal(out, [x.sum(), 63, (x * x).sum()])


@mlu.jit
def outer_sum_beside_tiles(x, rows, columns, out, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row, column = tl.arange(0, HEIGHT), tl.arange(0, WIDTH)
    places = row[:, None] * WIDTH + column
    first = tl.load(x + places)
    tl.store(out + places, first + 1)
    second = tl.load(x + HEIGHT * WIDTH + places)
    factor = tl.load(columns + column)
    total = (tl.load(rows + row)[:, None] + factor * 2) * factor
    tl.store(out + HEIGHT * WIDTH + places, total)
    tl.store(out + 2 * HEIGHT * WIDTH + places, second + 1)


def test_what_a_chain_reads_first_outlives_its_last_step():
    # Three tiles of 128 KB in 384 KB: the vectors that the chain begins with die in it, where its target is born.
    x = np.arange(2 * 128 * 256, dtype=np.float32).reshape(2, 128, 256)
    rows, columns = np.arange(128, dtype=np.float32), np.arange(256, dtype=np.float32)
    out = np.zeros((3, 128, 256), np.float32)
    outer_sum_beside_tiles[(1,)](x, rows, columns, out, HEIGHT=128, WIDTH=256)
    np.testing.assert_array_equal(out[0], x[0] + 1)
    np.testing.assert_array_equal(out[1], (rows[:, None] + columns * 2) * columns)
    np.testing.assert_array_equal(out[2], x[1] + 1)
