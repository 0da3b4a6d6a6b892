"""Tensor descriptors, made by the host and by the kernel."""

import ml_dtypes
import numpy as np
import pytest
from triton.tools.tensor_descriptor import TensorDescriptor

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.frontend.triton_versions import RELEASE

pytestmark = pytest.mark.usefixtures("each_engine")


def numbers(*shape, dtype=np.float32):
    return np.random.default_rng(7).integers(1, 100, shape).astype(dtype)


def descriptor(array, block, **options):
    return TensorDescriptor.from_tensor(mlu.array(array), block, **options)


def block_of(x, offsets, shape, padding=0):
    """What stands in a block of an array, with padding around it."""
    out = np.full(shape, padding, x.dtype)
    for place in np.ndindex(*shape):
        at = tuple(o + p for o, p in zip(offsets, place, strict=True))
        if all(0 <= a < n for a, n in zip(at, x.shape, strict=True)):
            out[place] = x[at]
    return out


@mlu.jit
def copy_block(target, source, row, column, to_row, to_column):
    target.store([to_row, to_column], source.load([row, column]) + 1)


@pytest.mark.parametrize("offsets", [(0, 0), (4, 8), (7, 13), (-2, -3), (100, 0)])
def test_host_descriptors(offsets):
    x, out = numbers(10, 20), np.zeros((10, 20), np.float32)
    copy_block[(1,)](descriptor(out, [4, 8]), descriptor(x, [4, 8]), *offsets, 2, 16)
    expected = np.zeros_like(out)
    expected[2:6, 16:] = (block_of(x, offsets, (4, 8)) + 1)[:, :4]
    np.testing.assert_array_equal(out, expected)


def test_blocks_of_host_descriptors_end_in_zeros():
    x, out = numbers(10, 20), np.zeros((4, 8), np.float32)
    source = TensorDescriptor.from_tensor(mlu.array(x), [4, 8])
    copy_block[(1,)](TensorDescriptor.from_tensor(mlu.array(out), [4, 8]), source, 8, 16, 0, 0)
    expected = block_of(x, (8, 16), (4, 8), 0) + 1
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_host_descriptors_of_8_bit_floats(name):
    x = numbers(10, 32, dtype=getattr(ml_dtypes, name))
    out = np.zeros_like(x)
    copy_block[(1,)](descriptor(out, [4, 16]), descriptor(x, [4, 16]), 3, 8, 2, 16)
    expected = np.zeros_like(x)
    expected[2:6, 16:] = (x[3:7, 8:24].astype(np.float32) + 1).astype(x.dtype)
    np.testing.assert_array_equal(out.view(np.uint8), expected.view(np.uint8))


@mlu.jit
def made_by_kernel(out, x, rows, columns, PADDING: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [rows, columns], [columns, 1], [ROWS, COLUMNS], padding_option=PADDING)
    target = tl.make_tensor_descriptor(out, [rows, columns], [columns, 1], [ROWS, COLUMNS])
    row, column = tl.program_id(0) * ROWS, tl.program_id(1) * COLUMNS
    target.store([row, column], source.load([row - 1, column + 1]))


@pytest.mark.parametrize("padding", ["zero", "nan"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.int8, np.uint8])
def test_descriptors_made_by_the_kernel(padding, dtype):
    if padding == "nan" and np.dtype(dtype).kind != "f":
        padding = "zero"
    x, out = numbers(13, 48, dtype=dtype), np.zeros((13, 48), dtype)
    made_by_kernel[(4, 3)](out, x, 13, 48, padding, 4, 16)
    np.testing.assert_array_equal(out, block_of(x, (-1, 1), x.shape, np.nan if padding == "nan" else 0))


@mlu.jit
def of_rank_1(out, x, n, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [n], [1], [BLOCK])
    target = tl.make_tensor_descriptor(out, [n], [1], [BLOCK])
    for k in range(0, n, BLOCK):
        target.store([k], source.load([k + 3]) * 2)


def test_rank_1():
    x, out = numbers(50), np.zeros(50, np.float32)
    of_rank_1[(1,)](out, x, 50, BLOCK=16)
    np.testing.assert_array_equal(out, 2 * np.append(x[3:], [0] * 3))


@mlu.jit
def of_rank_5(target, source, a, b, c, d, e):
    target.store([0, 0, 0, 0, 0], source.load([a, b, c, d, e]))


@pytest.mark.parametrize("offsets", [(0, 0, 0, 0, 0), (1, 2, 1, 3, 4), (0, -1, 2, 0, 12)])
def test_rank_5(offsets):
    x, out = numbers(3, 4, 3, 5, 16), np.zeros((2, 2, 2, 4, 8), np.float32)
    of_rank_5[(1,)](descriptor(out, out.shape), descriptor(x, out.shape), *offsets)
    np.testing.assert_array_equal(out, block_of(x, offsets, out.shape))


@mlu.jit
def of_ranks_3_and_4(t3, s3, t4, s4, k):
    t3.store([0, 0, 0], s3.load([k, k, k]))
    t4.store([k, 0, 0, k], s4.load([k, k, 0, 0]))


@pytest.mark.parametrize("k", [0, 1])
def test_ranks_3_and_4(k):
    x, y = numbers(3, 5, 8), numbers(3, 3, 5, 8)
    a, b = np.zeros((2, 4, 8), np.float32), np.zeros((2, 2, 4, 8), np.float32)
    tensors = descriptor(a, a.shape), descriptor(x, a.shape), descriptor(b, b.shape), descriptor(y, b.shape)
    of_ranks_3_and_4[(1,)](*tensors, k)
    np.testing.assert_array_equal(a, block_of(x, (k, k, k), a.shape))
    block, expected = block_of(y, (k, k, 0, 0), b.shape), np.zeros_like(b)
    expected[k:, :, :, k:] = block[: 2 - k, :, :, : 8 - k]
    np.testing.assert_array_equal(b, expected)


@mlu.jit
def picking(out, put, source, target, index, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r = tl.arange(0, ROWS)
    rows = tl.load(index + r)
    values = source.gather(rows, column)
    tl.store(out + r[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :], values)
    target.scatter(values + 1, rows, column)


@pytest.mark.parametrize("column", [0, 5, 20, -4])
@pytest.mark.parametrize("dtype", [np.int32, np.int16] if RELEASE >= (3, 8) else [np.int32])
def test_gather_and_scatter(column, dtype):
    x, put, out = numbers(20, 24), np.zeros((20, 24), np.float32), np.zeros((8, 8), np.float32)
    index = np.array([3, 19, 0, -1, 7, 20, 12, 5], dtype)
    picking[(1,)](out, put, descriptor(x, [1, 8]), descriptor(put, [1, 8]), index, column, 8, 8)
    expected = np.vstack([block_of(x, (row, column), (1, 8)) for row in index])
    np.testing.assert_array_equal(out, expected)
    written = np.zeros_like(put)
    for row, values in zip(index, expected, strict=True):
        for c, value in enumerate(values):
            if 0 <= row < 20 and 0 <= column + c < 24:
                written[row, column + c] = value + 1
    np.testing.assert_array_equal(put, written)


@mlu.jit
def reducing(target, x, row, column, KIND: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    values = tl.load(x + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :])
    if KIND == "add":
        target.atomic_add([row, column], values)
    elif KIND == "min":
        target.atomic_min([row, column], values)
    elif KIND == "max":
        target.atomic_max([row, column], values)
    elif KIND == "and":
        target.atomic_and([row, column], values)
    elif KIND == "or":
        target.atomic_or([row, column], values)
    else:
        target.atomic_xor([row, column], values)


REDUCTIONS = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
REDUCED = [(kind, dtype) for kind in REDUCTIONS for dtype in ("uint32", "int32", "uint64", "int64")]
REDUCED = [*(case for case in REDUCED if case != ("add", "int64")), ("add", "float32"), ("add", "float16")]


@pytest.mark.parametrize(("kind", "dtype"), REDUCED)
def test_atomic_reductions(kind, dtype):
    random = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        x, out = random.standard_normal((4, 8)).astype(dtype), random.standard_normal((10, 16)).astype(dtype)
    else:
        x, out = (random.integers(0, 2**63, shape).astype(np.uint64).astype(dtype) for shape in [(4, 8), (10, 16)])
    expected = out.copy()
    expected[8:, 11:] = REDUCTIONS[kind](expected[8:, 11:], x[:2, :5])
    reducing[(1,)](descriptor(out, [4, 8]), x, 8, 11, KIND=kind, ROWS=4, COLUMNS=8)
    np.testing.assert_array_equal(out, expected)


@mlu.jit(noinline=True)
def first_of(source, row):
    return tl.sum(source.load([row, 0]))


@mlu.jit
def pick(source, row):
    return source.load([row, 0])


@mlu.jit
def carried(target, sources, n, flag, ROWS: tl.constexpr):
    a, b = sources
    total = tl.zeros((ROWS, 8), tl.float32)
    for k in range(n):
        total += pick(a, k * ROWS)
        a, b = b, a
    if flag > 0:
        chosen = a
    else:
        chosen = b
    total += chosen.load([0, 0]) + first_of(chosen, ROWS)
    target.store([0, 0], total)


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("flag", [0, 1])
def test_descriptors_through_functions_loops_branches_and_tuples(n, flag):
    x, y, out = numbers(12, 8), numbers(12, 8) * 3, np.zeros((4, 8), np.float32)
    sources = descriptor(x, [4, 8]), descriptor(y, [4, 8])
    carried[(1,)](descriptor(out, [4, 8]), sources, n, flag, ROWS=4)
    a, b, expected = x, y, np.zeros((4, 8), np.float32)
    for k in range(n):
        expected += a[4 * k : 4 * k + 4]
        a, b = b, a
    chosen = a if flag else b
    np.testing.assert_array_equal(out, expected + chosen[:4] + chosen[4:8].sum())


@mlu.jit
def shapes_of_descriptors(out, source):
    tl.store(out, source.shape[0])
    tl.store(out + 1, source.strides[0])
    tl.store(out + 2, source.block_shape[1])


def test_shapes_of_descriptors():
    out = np.zeros(3, np.int64)
    shapes_of_descriptors[(1,)](out, descriptor(numbers(10, 24)[:, :20], [4, 8]))
    assert out.tolist() == [10, 24, 8]


@mlu.jit
def product(target, left, right, depth, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    row, column = tl.program_id(0) * M, tl.program_id(1) * N
    total = tl.zeros((M, N), tl.float32)
    for k in range(0, depth, K):
        total = tl.dot(left.load([row, k]), right.load([k, column]), total)
    target.store([row, column], total)


def test_matrix_product():
    a, b, out = numbers(20, 40), numbers(40, 28), np.zeros((20, 28), np.float32)
    product[(2, 2)](descriptor(out, [16, 16]), descriptor(a, [16, 16]), descriptor(b, [16, 16]), 40, 16, 16, 16)
    np.testing.assert_allclose(out, a @ b)
