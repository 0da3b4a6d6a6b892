"""``tl.dot``: every type and shape, and how near each precision of float32 comes."""

import ml_dtypes
import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

FLOAT8 = ("float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz")
OUTPUTS = {"float16": tl.float16, "float32": tl.float32, "float64": tl.float64, "int32": tl.int32}


@mlu.jit
def product(
    out, a, b, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, OUT: tl.constexpr, PRECISION: tl.constexpr,
    TRANSPOSED: tl.constexpr = False,
):  # fmt: skip
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left = tl.load(a + m[:, None] * K + k[None, :])
    if TRANSPOSED:
        right = tl.trans(tl.load(b + n[:, None] * K + k[None, :]))
    else:
        right = tl.load(b + k[:, None] * N + n[None, :])
    result = tl.dot(left, right, input_precision=PRECISION, out_dtype=OUT, max_num_imprecise_acc=0)
    tl.store(out + m[:, None] * N + n[None, :], result)


@mlu.jit
def batched(out, a, b, B: tl.constexpr, N: tl.constexpr, TYPE: tl.constexpr):
    place = tl.arange(0, B)[:, None, None] * N * N + tl.arange(0, N)[None, :, None] * N + tl.arange(0, N)[None, None, :]
    total = tl.load(out + place)
    tl.store(out + place, tl.dot(tl.load(a + place), tl.load(b + place), total, out_dtype=TYPE))


@mlu.jit
def accumulated(out, a, b, depth, N: tl.constexpr, TYPE: tl.constexpr):
    row, column = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    total = tl.zeros([N, N], TYPE)
    for start in range(0, depth, N):
        left = tl.load(a + row * depth + start + column)
        total = tl.dot(left, tl.load(b + (start + row) * N + column), total, out_dtype=TYPE)
    tl.store(out + row * N + column, total)


def numpy_type(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def small_integers(shape, name, seed):
    """Numbers of every type whose products sum up exactly in every accumulator."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(numpy_type(name))


def multiplied(a, b, out_type="float32", precision="ieee", transposed=False):
    (rows, depth), columns = a.shape, b.shape[0 if transposed else 1]
    out = np.zeros((rows, columns), out_type)
    run = product[(1,)](out, a, b, rows, columns, depth, OUTPUTS[out_type], precision, transposed)
    return out, run


@pytest.mark.parametrize(
    ("shape", "transposed"), [((1, 1, 1), False), ((1, 16, 2), True), ((16, 16, 16), True), ((32, 128, 64), False)]
)
@pytest.mark.parametrize(
    ("left", "right", "out"),
    [
        ("int8", "int8", "int32"),
        *((name, name, out) for name in (*FLOAT8, "float16") for out in ("float16", "float32")),
        ("float8_e5m2", "float8_e4m3fn", "float32"),
        ("bfloat16", "bfloat16", "float32"),
        ("float32", "float32", "float32"),
        ("float64", "float64", "float64"),
    ],
)
def test_every_type_and_shape(left, right, out, shape, transposed):
    rows, columns, depth = shape
    a, b = small_integers((rows, depth), left, 1), small_integers((depth, columns), right, 2)
    given = np.ascontiguousarray(b.T) if transposed else b
    result, _ = multiplied(a, given, out, transposed=transposed)
    np.testing.assert_array_equal(result, (a.astype(np.float64) @ b.astype(np.float64)).astype(out))


@pytest.mark.parametrize(("name", "out"), [("int8", "int32"), ("float8_e4m3fn", "float32"), ("float64", "float64")])
def test_batches_and_accumulators(name, out):
    a, b = small_integers((4, 8, 8), name, 3), small_integers((4, 8, 8), name, 4)
    total = small_integers((4, 8, 8), out, 5)
    expected = total + (a.astype(np.float64) @ b.astype(np.float64)).astype(out)
    batched[(1,)](total, a, b, 4, 8, OUTPUTS[out])
    np.testing.assert_array_equal(total, expected)


@pytest.mark.parametrize(("name", "out"), [("int8", "int32"), ("float8_e5m2", "float32"), ("float64", "float64")])
def test_accumulation_in_a_loop(name, out):
    a, b = small_integers((16, 64), name, 6), small_integers((64, 16), name, 7)
    result = np.zeros((16, 16), out)
    accumulated[(1,)](result, a, b, 64, 16, OUTPUTS[out])
    np.testing.assert_array_equal(result, (a.astype(np.float64) @ b.astype(np.float64)).astype(out))


def tf32(x):
    """Float32 numbers rounded to 10 bits of mantissa by way of a sum whose last bit is worth as much."""
    exponent = np.frexp(x)[1].astype(np.float64)
    unit = 2.0 ** (exponent - 11)
    return (np.rint(x.astype(np.float64) / unit) * unit).astype(np.float32)


def test_tf32_rounds_its_operands_to_nearest():
    generator = np.random.default_rng(8)
    a, b = (generator.standard_normal((32, 32), dtype=np.float32) for _ in range(2))
    rounded, run = multiplied(a, b, precision="tf32")
    np.testing.assert_array_equal(rounded, multiplied(tf32(a), tf32(b))[0])
    assert not np.array_equal(rounded, multiplied(a, b)[0])
    assert run.cycles < multiplied(a, b)[1].cycles


# Bits of mantissa that the operands have in effect.
@pytest.mark.parametrize(
    ("precision", "bits"), [("tf32", 11), ("tf32x3", 20), ("bf16x3", 16), ("bf16x6", 23), ("ieee", 22)]
)
def test_precisions_of_float32(precision, bits):
    generator = np.random.default_rng(9)
    a, b = (generator.standard_normal((64, 64), dtype=np.float32) for _ in range(2))
    result, _ = multiplied(a, b, precision=precision)
    size = np.abs(a).astype(np.float64) @ np.abs(b)
    error = np.max(np.abs(result - a.astype(np.float64) @ b) / size)
    assert error < 2.0 ** (1 - bits)
    assert error > 2.0 ** (-4 - bits) or bits > 20


@pytest.mark.parametrize("precision", ["ieee", "tf32", "tf32x3", "bf16x3", "bf16x6"])
def test_infinities_and_nans_of_every_precision(precision):
    a, b = np.ones((16, 16), np.float32), np.ones((16, 16), np.float32)
    a[1, 2], a[3, 4] = np.inf, np.nan
    result, _ = multiplied(a, b, precision=precision)
    assert np.isposinf(result[1]).all()
    assert np.isnan(result[3]).all()
    assert (np.delete(result, [1, 3], axis=0) == 16).all()


def test_a_dot_in_float64_keeps_its_digits_and_says_what_they_cost():
    generator = np.random.default_rng(10)
    a, b = generator.standard_normal((16, 32)), generator.standard_normal((32, 16))
    result, run = multiplied(a, b, "float64")
    np.testing.assert_allclose(result, a @ b, rtol=1e-13)
    _, narrow = multiplied(a.astype(np.float32), b.astype(np.float32))
    assert run.cycles > narrow.cycles + 32 * 16 * 32


@pytest.mark.parametrize(
    ("machine", "name", "out"),
    [
        (mlu.machine("mlu270"), "float16", "float32"),
        (mlu.machine("mlu590-m9").replace(mac_per_cycle_i8=0), "int8", "int32"),
    ],
    ids=["float16", "int8"],
)
def test_a_type_that_no_tensor_unit_of_the_machine_takes_is_multiplied_by_the_vector_unit(machine, name, out):
    a, b = small_integers((4, 16, 16), name, 11), small_integers((4, 16, 16), name, 12)
    total = small_integers((4, 16, 16), out, 13)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    expected = total + exact.astype(out)
    before = mlu.current_machine()
    mlu.set_machine(machine)
    try:
        result, _ = multiplied(a[0], b[0], out)
        batched[(1,)](total, a, b, 4, 16, OUTPUTS[out])
    finally:
        mlu.set_machine(before)
    np.testing.assert_array_equal(result, exact[0])
    np.testing.assert_array_equal(total, expected)


def test_floats_are_not_added_up_in_integers():
    a = np.ones((16, 16), np.float16)
    with pytest.raises(mlu.CompileError, match=r"E0201(.|\n)*tl.dot of .*f16.* to .*i32(.|\n)*out_dtype"):
        accumulated[(1,)](np.zeros((16, 16), np.int32), a, a, 16, 16, tl.int32)
