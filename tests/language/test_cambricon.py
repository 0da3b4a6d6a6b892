"""What Cambricon's Triton has beyond Triton: tiles of any size, parts of tensors, and which kernels may use it."""

import numpy as np
import pytest
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.configuration import CAMBRICON_LANGUAGE_VARIABLE

pytestmark = pytest.mark.usefixtures("each_engine")

RNG = np.random.default_rng(11)


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


# ---- tiles of any size ----------------------------------------------------------------------------------------------


@mlu.jit
def softmax(out, x, count, BLOCK: tl.constexpr):
    row = tl.program_id(0) * count
    column = tl.arange(0, BLOCK)
    values = tl.load(x + row + column, mask=column < count, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row + column, powers / tl.sum(powers, axis=0), mask=column < count)


@pytest.mark.parametrize(
    ("machine", "count", "block"),
    [
        ("mlu590-m9", 7, 7),
        ("mlu590-m9", 781, 1000),
        ("mlu-tiny", 30_000, 30_000),  # in strips
        ("mlu-tiny", 10_007, 10_007),  # a prime number of elements
    ],
)
def test_rows_of_any_length(machine, count, block):
    before = mlu.current_machine()
    mlu.set_machine(machine)
    try:
        x = normal(5, count)
        out = np.empty_like(x)
        softmax[(5,)](out, x, count, BLOCK=block)
    finally:
        mlu.set_machine(before)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(out, powers / powers.sum(axis=1, keepdims=True), rtol=2e-5)


@mlu.jit
def matmul(c, a, b, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    row = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    column = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    sums = tl.zeros((BM, BN), tl.float32)
    for first in range(0, K, BK):
        depth = first + tl.arange(0, BK)
        left = tl.load(a + row * K + depth[None, :], mask=(row < M) & (depth[None, :] < K), other=0.0)
        right = tl.load(b + depth[:, None] * N + column, mask=(depth[:, None] < K) & (column < N), other=0.0)
        sums = tl.dot(left, right, sums)
    tl.store(c + row * N + column, sums, mask=(row < M) & (column < N))


@pytest.mark.parametrize("num_warps", [1, 4])
@pytest.mark.parametrize("blocks", [(48, 40, 24), (17, 5, 7), (24, 20, 33)])
def test_products_of_any_size(blocks, num_warps):
    rows, columns, depth = 50, 23, 41
    a, b = normal(rows, depth), normal(depth, columns)
    c = np.empty((rows, columns), dtype=np.float32)
    grid = (-(-rows // blocks[0]), -(-columns // blocks[1]))
    matmul[grid](c, a, b, rows, columns, depth, *blocks, num_warps=num_warps)
    np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-4)


@mlu.jit
def shapes(out, x, places, R: tl.constexpr, C: tl.constexpr):
    place = tl.arange(0, R)[:, None] * C + tl.arange(0, C)[None, :]
    values = tl.load(x + place)
    picked = tl.gather(values, tl.load(places + place), 1)
    even, odd = tl.split(tl.permute(tl.join(values, picked), (0, 1, 2)))
    tl.store(out + place, tl.cumsum(values, 1) + tl.argmax(values, 1)[:, None])
    tl.store(out + R * C + tl.reshape(place, (C, R)), tl.reshape(picked, (C, R)))
    tl.store(out + 2 * R * C + tl.arange(0, C)[:, None] * R + tl.arange(0, R)[None, :], tl.trans(even + odd))


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (1, 100), (33, 70)])
def test_shapes_of_any_size(rows, columns):
    x, places = normal(rows, columns), RNG.integers(0, columns, (rows, columns), dtype=np.int32)
    out = np.empty((3, rows, columns), dtype=np.float32)
    shapes[(1,)](out, x, places, rows, columns)
    picked = np.take_along_axis(x, places, axis=1)
    np.testing.assert_allclose(out[0], np.cumsum(x, axis=1) + x.argmax(axis=1)[:, None], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(out[1], picked)
    np.testing.assert_array_equal(out[2].reshape(columns, rows), (x + picked).T)


@triton.jit
def double(out, COUNT: tl.constexpr):
    tl.store(out + tl.arange(0, COUNT), tl.arange(0, COUNT) * 2)


def test_plain_kernels_may_where_it_is_asked_for(monkeypatch):
    out = np.zeros(6, dtype=np.int32)
    with pytest.raises(triton.CompilationError, match="power of 2"):
        double[(1,)](mlu.array(out), COUNT=6)
    double[(1,)](mlu.array(out), COUNT=6, cambricon_language=True)
    np.testing.assert_array_equal(out, np.arange(6) * 2)
    monkeypatch.setenv(CAMBRICON_LANGUAGE_VARIABLE, "1")
    out = np.zeros(10, dtype=np.int32)
    double[(1,)](mlu.array(out), COUNT=10)
    np.testing.assert_array_equal(out, np.arange(10) * 2)


@mlu.jit
def divides(x, COUNT: tl.constexpr):
    values = tl.load(x + tl.arange(0, COUNT))
    tl.store(x + tl.arange(0, COUNT), tl.sort(values))


def test_what_needs_a_power_of_two_says_so():
    with pytest.raises(triton.CompilationError):
        divides[(1,)](normal(6), COUNT=6)


@mlu.jit
def flips(out, x, R: tl.constexpr, C: tl.constexpr):
    place = tl.arange(0, R)[:, None] * C + tl.arange(0, C)[None, :]
    values = tl.load(x + place)
    tl.store(out + place, tl.flip(values, [0]))
    tl.store(out + R * C + place, values.flip(-1))
    tl.store(out + 2 * R * C + place, tl.flip(values, (1, 0)))
    tl.store(out + 3 * R * C + place, tl.flip(values))


@pytest.mark.parametrize(("rows", "columns"), [(8, 16), (7, 11), (1, 30)])
def test_dimensions_of_any_size_are_flipped(rows, columns):
    x = normal(rows, columns)
    out = np.empty((4, rows, columns), dtype=np.float32)
    flips[(1,)](out, x, rows, columns)
    np.testing.assert_array_equal(out, [x[::-1], x[:, ::-1], x[::-1, ::-1], x[:, ::-1]])


# ---- parts of tensors -----------------------------------------------------------------------------------------------


@mlu.jit
def parts(out, x, i, j, R: tl.constexpr, C: tl.constexpr):
    place = tl.arange(0, R)[:, None] * C + tl.arange(0, C)[None, :]
    x = tl.load(x + place)
    w = x
    w[i, :] = x[j, :] * 2
    w[:, 3] = 7.0
    w[1:4, -2] = x[0:3, 1]
    w[0:6:2, 0:5:3] = x[1:4, 2:4]
    for t in range(2):
        w[t, t] = x[t, j] + w[t + 1, t]
    w[2] += 1
    w[:, i : i + 3] = w[:, 2:5] + 1
    w[..., 0] = w[..., -1]
    w[5, 5], w[4, 4] = x[4, 4], x[5, 5]
    tl.store(out + place, w)
    place = out + R * C + tl.arange(0, 2)[:, None, None] * C + tl.arange(0, C)[None, None, :]
    tl.store(place, x[i : i + 2, None, ...])
    tl.store(out + (R + 2) * C, x[1][j] + x[2, 3])


@pytest.mark.parametrize(("rows", "columns"), [(8, 16), (7, 11)])
def test_parts_are_read_and_assigned(rows, columns):
    x, i, j = normal(rows, columns), 2, 4
    out = np.empty((rows + 2) * columns + 1, dtype=np.float32)
    parts[(1,)](out, x, i, j, rows, columns)
    w = x.copy()
    w[i, :] = x[j, :] * 2
    w[:, 3] = 7
    w[1:4, -2] = x[0:3, 1]
    w[0:6:2, 0:5:3] = x[1:4, 2:4]
    for t in range(2):
        w[t, t] = x[t, j] + w[t + 1, t]
    w[2] += 1
    w[:, i : i + 3] = w[:, 2:5] + 1
    w[..., 0] = w[..., -1]
    w[5, 5], w[4, 4] = x[4, 4], x[5, 5]
    np.testing.assert_array_equal(out[: rows * columns].reshape(rows, columns), w)
    np.testing.assert_array_equal(out[rows * columns : -1].reshape(2, columns), x[i : i + 2])
    assert out[-1] == x[1, j] + x[2, 3]


@mlu.jit
def assigns(out, i, COUNT: tl.constexpr):
    x = tl.zeros([8], tl.int32)
    x[i : i + COUNT] = 1
    tl.store(out + tl.arange(0, 8), x)


@pytest.mark.parametrize(("first", "count"), [(7, 1), (4, 4), (2, 3)])
def test_positions_known_at_run_time_are_inside(first, count):
    out = np.empty(8, dtype=np.int32)
    assigns[(1,)](out, first, COUNT=count)
    assert out.tolist() == [int(first <= place < first + count) for place in range(8)]


@pytest.mark.parametrize(("first", "count", "last"), [(8, 1, 7), (-1, 1, 7), (6, 3, 5)])
def test_an_assignment_out_of_range_is_a_fault(first, count, last):
    with pytest.raises(mlu.KernelFault, match=f"the index assigned to is outside 0 to {last}\n.*test_cambricon.py"):
        assigns[(1,)](np.empty(8, dtype=np.int32), first, COUNT=count)


@mlu.jit
def fills(out, x, COUNT: tl.constexpr):
    rows = tl.empty([4, COUNT], tl.float32)
    for row in range(4):
        rows[row, :] = tl.load(x + tl.arange(0, COUNT)) * row
    tl.store(out + tl.arange(0, 4)[:, None] * COUNT + tl.arange(0, COUNT)[None, :], rows)


def test_an_empty_tensor_is_filled_row_by_row():
    x = normal(24)
    out = np.empty((4, 24), dtype=np.float32)
    fills[(1,)](out, x, COUNT=24)
    np.testing.assert_array_equal(out, x * np.arange(4, dtype=np.float32)[:, None])


@mlu.jit
def selects(out, number, x, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    values = tl.load(x + place)
    selected, count = tl.masked_select(values, values > 0)
    tl.store(out + place, selected)
    tl.store(number, count)


def test_masked_select_packs_what_is_selected():
    x = normal(64)
    out, number = np.empty_like(x), np.empty(1, dtype=np.int32)
    selects[(1,)](out, number, x, COUNT=64)
    assert number[0] == (x > 0).sum()
    np.testing.assert_array_equal(out[: number[0]], x[x > 0])


@mlu.jit
def first_of(a, b):
    return a


@mlu.jit
def last_of(a, b):
    return b


@mlu.jit
def ends(out, x, COUNT: tl.constexpr):
    values = tl.load(x + tl.arange(0, COUNT))
    tl.store(out, tl.reduce(values, 0, first_of))
    tl.store(out + 1, tl.reduce(values, 0, last_of))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 11, 100, 101])
def test_reductions_that_pick_one_side_find_the_end(count):
    x, out = normal(count), np.empty(2, np.float32)
    ends[(1,)](out, x, COUNT=count)
    np.testing.assert_array_equal(out, x[[0, -1]])


@mlu.jit
def largest_part(out, x, COUNT: tl.constexpr):
    """Adds up halves until one element is left, of a tensor that does not fit a core."""
    values = tl.load(x + tl.arange(0, COUNT))
    for step in tl.static_range(1, 8):
        values[: COUNT // 2**step] = values[: COUNT // 2**step] + values[COUNT // 2**step : COUNT // 2 ** (step - 1)]
    tl.store(out + tl.arange(0, 128), values[:128])
    tl.store(out, values[0], mask=values[0] != 0)  # a scalar of what is in strips


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu-tiny"])
def test_halves_are_added_without_a_gather(machine, monkeypatch):
    monkeypatch.setattr("mlutriton.configuration._current", mlu.machine(machine))
    x = RNG.integers(-50, 50, 16_384).astype(np.float32)
    out = np.empty(128, dtype=np.float32)
    run = largest_part[(1,)](out, x, COUNT=16_384)
    np.testing.assert_array_equal(out, x.reshape(128, 128).sum(axis=0))
    assert not any("gather" in each.row.name for each in run.program.instructions)


def test_parts_of_what_is_computed_in_strips():
    before = mlu.current_machine()
    mlu.set_machine("mlu-tiny")
    try:
        x = RNG.integers(-50, 50, 16_384).astype(np.float32)
        out = np.empty(128, dtype=np.float32)
        largest_part[(1,)](out, x, COUNT=16_384)
    finally:
        mlu.set_machine(before)
    np.testing.assert_array_equal(out, x.reshape(128, 128).sum(axis=0))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("x[9]", "the index 9 is not inside 8 elements"),
        ("x[5:5]", "is empty"),
        ("x[:n]", "must be known when the kernel is compiled"),
        ("x[0, 0]", "too many indices"),
        ("x[1.5]", "unsupported tensor index"),
        ("tl.flip(x, [1])", "the dimension 1 is not one of a tensor of rank 1"),
    ],
)
def test_wrong_parts_are_refused(tmp_path, index, message):
    path = tmp_path / "wrong.py"
    path.write_text(
        "import mlutriton as mlu\nimport mlutriton.language as tl\n\n\n@mlu.jit\ndef wrong(out, n):\n"
        f"    x = tl.arange(0, 8)\n    tl.store(out + tl.arange(0, 8), {index})\n"
    )
    names = {}
    exec(compile(path.read_text(), path, "exec"), names)
    with pytest.raises(triton.CompilationError, match=message):
        names["wrong"][(1,)](np.empty(8, dtype=np.int32), 3)
