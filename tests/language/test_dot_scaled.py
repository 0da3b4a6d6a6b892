"""``tl.dot_scaled``: every pair of formats, with and without scales, packed along either axis."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

FORMATS = {
    "e2m1": None,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
}
M, N, K = 16, 32, 64


@mlu.jit
def scaled(
    out, a, a_scale, b, b_scale, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr,
    A: tl.constexpr, B: tl.constexpr, A_ROWS: tl.constexpr, A_COLUMNS: tl.constexpr, B_ROWS: tl.constexpr,
    B_COLUMNS: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    m, n, group = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K // GROUP)
    left = tl.load(a + tl.arange(0, A_ROWS)[:, None] * A_COLUMNS + tl.arange(0, A_COLUMNS)[None, :])
    right = tl.load(b + tl.arange(0, B_ROWS)[:, None] * B_COLUMNS + tl.arange(0, B_COLUMNS)[None, :])
    left_scale = None
    right_scale = None
    if a_scale is not None:
        left_scale = tl.load(a_scale + m[:, None] * (K // GROUP) + group[None, :])
    if b_scale is not None:
        right_scale = tl.load(b_scale + n[:, None] * (K // GROUP) + group[None, :])
    place = m[:, None] * N + n[None, :]
    result = tl.dot_scaled(
        left, left_scale, A, right, right_scale, B, acc=tl.load(out + place), fast_math=FAST,
        lhs_k_pack=A_ROWS == M, rhs_k_pack=B_COLUMNS == N,
    )  # fmt: skip
    tl.store(out + place, result)


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def operand(name, shape, packed_axis, generator):
    """An array as the kernel takes it, and its numbers."""
    if name != "e2m1":
        array = generator.integers(-6, 7, shape).astype(FORMATS[name])
        return array, array.astype(np.float64)
    codes = generator.integers(0, 16, shape)
    halves = np.moveaxis(codes, packed_axis, 0)
    packed = np.moveaxis(halves[0::2] | halves[1::2] << 4, 0, packed_axis)
    return np.ascontiguousarray(packed, np.uint8), E2M1[codes]


def multiplied(a, a_scale, a_format, b, b_scale, b_format, group=32, fast=False):
    out = np.ones((M, N), np.float32)
    scaled[(1,)](out, a, a_scale, b, b_scale, M, N, K, group, a_format, b_format, *a.shape, *b.shape, fast)
    return out


@pytest.mark.parametrize(("left", "right"), list(itertools.product(FORMATS, FORMATS)))
def test_every_pair_of_formats(left, right):
    generator = np.random.default_rng(1)
    scales = [generator.integers(124, 131, (extent, K // 32)).astype(np.uint8) for extent in (M, N)]
    factors = [np.repeat(2.0 ** (scale.astype(int) - 127), 32, axis=1) for scale in scales]
    # Without scales, both packed along K; with them, along the other axis; and with one of them each.
    for has_scales, axes in (((0, 0), (1, 0)), ((1, 1), (0, 1)), ((1, 0), (1, 1)), ((0, 1), (0, 0))):
        a, a_numbers = operand(left, (M, K), axes[0], generator)
        b, b_numbers = operand(right, (K, N), axes[1], generator)
        used = [scale if has else None for scale, has in zip(scales, has_scales, strict=True)]
        result = multiplied(a, used[0], left, b, used[1], right)
        a_numbers = a_numbers * factors[0] if has_scales[0] else a_numbers
        b_numbers = b_numbers * factors[1].T if has_scales[1] else b_numbers
        np.testing.assert_array_equal(result, 1 + a_numbers @ b_numbers)


def test_groups_of_sixteen_with_scales_of_e4m3():
    generator = np.random.default_rng(2)
    (a, a_numbers), (b, b_numbers) = operand("e2m1", (M, K), 1, generator), operand("e2m1", (K, N), 0, generator)
    scales = [generator.choice([0.5, 1, 1.5, 2], (extent, K // 16)).astype(FORMATS["e4m3"]) for extent in (M, N)]
    factors = [np.repeat(scale.astype(np.float64), 16, axis=1) for scale in scales]
    result = multiplied(a, scales[0], "e2m1", b, scales[1], "e2m1", group=16)
    np.testing.assert_array_equal(result, 1 + (a_numbers * factors[0]) @ (b_numbers * factors[1].T))


def test_the_last_scale_is_nan_and_the_first_the_least():
    a, b = np.ones((M, K), FORMATS["bf16"]), np.ones((K, N), FORMATS["e4m3"])
    scales = np.full((M, K // 32), 127, np.uint8)
    scales[0], scales[1] = 255, 0
    exact, fast = (multiplied(a, scales, "bf16", b, None, "e4m3", fast=fast) for fast in (False, True))
    assert np.isnan(exact[0]).all()
    assert np.isposinf(fast[0]).all()
    assert (exact[1] == 1).all()
    assert (exact[2:] == 1 + K).all()
    tiny = np.zeros((M, N), np.float32)
    scaled[(1,)](tiny, a, scales, b, None, M, N, K, 32, "bf16", "e4m3", M, K, K, N, False)
    assert (tiny[1] == K * 2.0**-127).all()
