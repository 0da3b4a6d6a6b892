"""Float operations against exact rational arithmetic, rounded by a reference written here for any format."""

import math
from collections.abc import Callable
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlutriton.arithmetic import OPERATIONS, evaluate
from mlutriton.dtypes import ALL, BF16, F16, F32, F64, I1, I8, I16, I32, I64, DType, Specials

FLOATS = [dtype for dtype in ALL if dtype.is_float]
NARROW = [F16, BF16, *(dtype for dtype in ALL if dtype.is_float8)]


def working_type(dtype: DType) -> DType:
    return F64 if dtype is F64 else F32


def nearest(exact: Fraction, dtype: DType, toward_zero: bool = False) -> float:
    """Round a rational to a format, ties to even or toward zero; a zero result is given without its sign."""
    if exact == 0:
        return 0.0
    limits = ml_dtypes.finfo(dtype.numpy)
    smallest_normal, largest = Fraction(float(limits.smallest_normal)), Fraction(float(limits.max))
    unit = smallest_normal / 2**dtype.mantissa_bits
    # At most one step below the exponent of the number itself.
    exponent = abs(exact.numerator).bit_length() - exact.denominator.bit_length() - 1
    unit = max(unit, Fraction(2) ** (exponent - dtype.mantissa_bits))
    if abs(exact) >= unit * 2 ** (dtype.mantissa_bits + 1):
        unit *= 2
    steps = abs(exact) / unit
    rounded = (math.floor(steps) if toward_zero else round(steps)) * unit
    if rounded > largest:
        overflow = float(largest) if dtype.is_float8 else math.inf
        return math.copysign(float(largest) if toward_zero else overflow, 1 if exact > 0 else -1)
    return float(rounded) if exact > 0 else -float(rounded)


def values(dtype: DType) -> st.SearchStrategy[float]:
    """All finite bit patterns alike, and numbers of similar size, whose sums are interesting."""

    def decode(pattern: int) -> float:
        return float(np.array(pattern, f"u{dtype.bytes}").view(dtype.numpy))

    drawn = st.integers(0, (1 << dtype.bits) - 1).map(decode).filter(math.isfinite)
    near = st.integers(-40, 40).map(lambda k: float(np.array(1 + k / 32).astype(dtype.numpy)))
    return st.one_of(drawn, near)


def same(result: np.ndarray, expected: float) -> bool:
    return float(result) == expected or (math.isnan(result) and math.isnan(expected))


EXACT: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "fadd": lambda a, b: a + b,
    "fsub": lambda a, b: a - b,
    "fmul": lambda a, b: a * b,
    "fdiv": lambda a, b: a / b,
}


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
def test_arithmetic_rounds_once(dtype: DType, data: st.DataObject) -> None:
    a, b = data.draw(values(dtype)), data.draw(values(dtype))
    for name, operation in EXACT.items():
        if name == "fdiv" and b == 0:
            continue
        # Through f32 or not: for one such operation on a format so much narrower both give the same.
        expected = nearest(operation(Fraction(a), Fraction(b)), dtype)
        assert same(evaluate(name, a, b, dtype=dtype), expected), name


def fma_expected(a: float, b: float, c: float, dtype: DType) -> float:
    working = working_type(dtype)
    wide = nearest(Fraction(a) * Fraction(b) + Fraction(c), working)
    return wide if dtype is working or math.isinf(wide) else nearest(Fraction(wide), dtype)


@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16])
@settings(max_examples=400)
@given(data=st.data())
def test_fma_rounds_the_exact_sum(dtype: DType, data: st.DataObject) -> None:
    a, b, c = (data.draw(values(dtype)) for _ in range(3))
    # Addends that nearly cancel the product, or lie at its last bit, are what a sloppy emulation gets wrong.
    product = float(evaluate("fmul", a, b, dtype=dtype))
    scale = 2.0 ** -data.draw(st.integers(20, 110))
    nearby = float(evaluate("fmul", product, scale, dtype=dtype))
    for addend in (c, -product, nearby, -nearby):
        if math.isfinite(addend):
            assert same(evaluate("fma", a, b, addend, dtype=dtype), fma_expected(a, b, addend, dtype)), (a, b, addend)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_fma_beside_ties(dtype: DType) -> None:
    generator = np.random.default_rng(7)
    bits, count = dtype.mantissa_bits, 2000
    # The product is 1 - x*x or (1 + x)**2: with an addend whose last bit is worth 2, the sum lies at the middle between
    # two numbers or so little beside it that no wider format which is rounded in between shows it.
    x = 2.0 ** -generator.integers(bits // 2 + 1, bits + 1, count)
    a, b = (1 + x).astype(dtype.numpy), (1 + x * generator.choice([1, -1, 0], count)).astype(dtype.numpy)
    c = (2.0 ** (bits + 1) + 2 * generator.integers(0, 8, count)).astype(dtype.numpy)
    for scale in (1.0, -1.0, 2.0**-30):
        operands = a, b * dtype.numpy.type(scale), c * dtype.numpy.type(abs(scale))
        result = evaluate("fma", *operands, dtype=dtype)
        expected = [fma_expected(*map(float, lanes), dtype) for lanes in zip(*operands, strict=True)]
        np.testing.assert_array_equal(result, np.array(expected, dtype.numpy))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_fma_beside_ties_of_subnormal_numbers(dtype: DType) -> None:
    generator = np.random.default_rng(8)
    bits, count = dtype.mantissa_bits, 2000
    smallest = np.finfo(dtype.numpy).smallest_subnormal
    # Half the smallest number, or so little beside it, as a product, added to a multiple of it.
    exponent = math.frexp(float(smallest))[1] - 2
    x = 2.0 ** -generator.integers(bits // 2 + 1, bits + 1, count)
    a = ((1 + x) * 2.0 ** (exponent // 2)).astype(dtype.numpy)
    b = ((1 + x * generator.choice([1, -1, 0], count)) * 2.0 ** (exponent - exponent // 2)).astype(dtype.numpy)
    c = generator.integers(0, 2**bits, count).astype(dtype.numpy) * smallest
    result = evaluate("fma", a, b, c, dtype=dtype)
    expected = [fma_expected(*map(float, lanes), dtype) for lanes in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(result, np.array(expected, dtype.numpy))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_fma_special_values(dtype: DType) -> None:
    def fma(a: float, b: float, c: float) -> float:
        return float(evaluate("fma", a, b, c, dtype=dtype))

    assert math.isnan(fma(math.inf, 0.0, 1.0))
    assert math.isnan(fma(math.inf, 1.0, -math.inf))
    assert fma(1e30, 1e30, -math.inf) == -math.inf
    assert math.copysign(1, fma(-1.0, 0.0, -0.0)) == -1
    assert math.copysign(1, fma(1.0, 0.0, -0.0)) == 1
    assert math.copysign(1, fma(2.0, 3.0, -6.0)) == 1
    largest, smallest = (float(getattr(np.finfo(dtype.numpy), name)) for name in ("max", "smallest_subnormal"))
    assert fma(largest, 2.0, -largest) == largest
    assert fma(largest, largest, 1.0) == math.inf
    assert fma(largest, -largest, 1.0) == -math.inf
    assert math.copysign(1, fma(-smallest, smallest, 0.0)) == -1


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
def test_square_root_and_remainder(dtype: DType, data: st.DataObject) -> None:
    a, b = data.draw(values(dtype)), data.draw(values(dtype))
    if a >= 0:
        root = math.isqrt(int(Fraction(a) * 4**1200))
        assert same(evaluate("sqrt", a, dtype=dtype), nearest(Fraction(root, 2**1200), dtype))
    if b != 0:
        assert same(evaluate("frem", a, b, dtype=dtype), math.fmod(a, b))


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
def test_rounding_to_integers(dtype: DType, data: st.DataObject) -> None:
    x = data.draw(values(dtype))
    for name, reference in {"floor": math.floor, "ceil": math.ceil, "trunc": math.trunc, "round_even": round}.items():
        assert same(evaluate(name, x, dtype=dtype), nearest(Fraction(reference(Fraction(x))), dtype)), name


@pytest.mark.parametrize("dtype", FLOATS)
def test_sign_operations_change_the_sign_bit_alone_of_nan_too(dtype: DType) -> None:
    integer = {8: I8, 16: I16, 32: I32, 64: I64}[dtype.bits]
    sign = 1 << (dtype.bits - 1)
    patterns = np.random.default_rng(3).integers(0, 2**16, 4000).astype(np.uint64) << np.uint64(max(dtype.bits - 16, 0))
    bits = patterns.astype(f"u{dtype.bytes}")
    x, y = bits.view(dtype.numpy), bits[::-1].copy().view(dtype.numpy)
    sign = bits.dtype.type(sign)

    def as_bits(floats: np.ndarray) -> np.ndarray:
        return evaluate("bitcast", floats, dtype=dtype, to=integer).view(bits.dtype)

    np.testing.assert_array_equal(as_bits(evaluate("fneg", x, dtype=dtype)), bits ^ sign)
    np.testing.assert_array_equal(as_bits(evaluate("fabs", x, dtype=dtype)), bits & ~sign)
    np.testing.assert_array_equal(
        as_bits(evaluate("copysign", x, y, dtype=dtype)), (bits & ~sign) | (bits[::-1] & sign)
    )
    mask = bits % 2 == 1
    np.testing.assert_array_equal(
        as_bits(evaluate("select", mask, x, y, dtype=dtype)), np.where(mask, bits, bits[::-1])
    )


SPECIAL = [-math.inf, -1.5, -0.0, 0.0, 1.5, math.inf, math.nan]


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64])
def test_comparisons(dtype: DType) -> None:
    relations: dict[str, Callable[[float, float], bool]] = {
        "eq": lambda a, b: a == b,
        "ne": lambda a, b: a < b or a > b,
        "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b,
        "rd": lambda a, b: True,
        "no": lambda a, b: False,
    }
    names = {"fo" + k for k in relations if k != "no"} | {"fu" + k for k in relations if k != "rd"}
    assert names == {n for n, o in OPERATIONS.items() if o.domain == "float" and o.result == "bool"}
    for a in SPECIAL:
        for b in SPECIAL:
            unordered = math.isnan(a) or math.isnan(b)
            for name in names:
                expected = name[1] == "u" if unordered else relations[name[2:]](a, b)
                assert evaluate(name, a, b, dtype=dtype) == expected, (name, a, b)


@pytest.mark.parametrize("dtype", FLOATS)
def test_minimum_and_maximum(dtype: DType) -> None:
    numbers = [-1.5, 0.0, 1.5, math.nan] if dtype.is_float8 else SPECIAL

    def order(x: float) -> tuple[float, float]:
        return x, math.copysign(1, x)

    for a in numbers:
        for b in numbers:
            known = [x for x in (a, b) if not math.isnan(x)]
            for name, pick in {"min": min, "max": max}.items():
                ignoring = evaluate(f"f{name}", a, b, dtype=dtype)
                propagating = evaluate(f"f{name}imum", a, b, dtype=dtype)
                assert math.isnan(propagating) == (len(known) < 2)
                assert math.isnan(ignoring) == (not known)
                if known:
                    assert order(float(ignoring)) == order(pick(known, key=order))
                if len(known) == 2:
                    assert order(float(propagating)) == order(pick(known, key=order))


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("to", FLOATS)
@settings(max_examples=40)
@given(data=st.data())
def test_float_casts_round_once(source: DType, to: DType, data: st.DataObject) -> None:
    x = data.draw(values(source))
    assert same(evaluate("fpcast", x, dtype=source, to=to), nearest(Fraction(x), to))
    assert same(evaluate("fpcast_rtz", x, dtype=source, to=to), nearest(Fraction(x), to, toward_zero=True))


@pytest.mark.parametrize("to", [*NARROW, F32])
def test_casts_from_f64_at_and_beside_every_kind_of_tie(to: DType) -> None:
    limits = ml_dtypes.finfo(to.numpy)
    for base in (1.0, 3.0, float(limits.smallest_normal), float(limits.max), float(limits.smallest_subnormal)):
        number = float(np.array(base).astype(to.numpy))
        step = max(math.ldexp(1.0, math.frexp(number)[1] - 1 - to.mantissa_bits), float(limits.smallest_subnormal))
        for tie in (number + step / 2, number - step / 2):
            for x in (tie, math.nextafter(tie, math.inf), math.nextafter(tie, 0.0)):
                for signed in (x, -x):
                    result = evaluate("fpcast", signed, dtype=F64, to=to)
                    assert same(result, nearest(Fraction(signed), to)), (signed, to)


@pytest.mark.parametrize("to", FLOATS)
def test_float_casts_of_special_values(to: DType) -> None:
    for name in ("fpcast", "fpcast_rtz"):
        for source in (F16, F32, F64):
            assert math.isnan(evaluate(name, math.nan, dtype=source, to=to))
            for infinity in (math.inf, -math.inf):
                expected = math.copysign(to.greatest, infinity) if to.is_float8 else infinity
                assert same(evaluate(name, infinity, dtype=source, to=to), expected)
            has_one_zero = to.specials is Specials.UNSIGNED_ZERO
            assert math.copysign(1, evaluate(name, -0.0, dtype=source, to=to)) == (1 if has_one_zero else -1)


@pytest.mark.parametrize("source", [I8, I16, I32, I64])
@pytest.mark.parametrize("to", FLOATS)
@settings(max_examples=40)
@given(data=st.data())
def test_integers_to_floats(source: DType, to: DType, data: st.DataObject) -> None:
    least = -(1 << (source.bits - 1))
    x = data.draw(
        st.one_of(st.integers(least, -least - 1), st.integers(0, source.bits - 2).map(lambda k: (1 << k) + 1))
    )
    for name, value in (("sitofp", x), ("uitofp", x % (1 << source.bits))):
        wide = nearest(Fraction(value), working_type(to))
        assert same(evaluate(name, x, dtype=source, to=to), nearest(Fraction(wide), to)), name


def test_i1_to_floats() -> None:
    assert evaluate("sitofp", True, dtype=I1, to=F32) == -1
    assert evaluate("uitofp", True, dtype=I1, to=F16) == 1


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("to", [I8, I16, I32, I64])
@settings(max_examples=40)
@given(data=st.data())
@example(data=None)
def test_floats_to_integers_saturate(source: DType, to: DType, data: st.DataObject | None) -> None:
    edges = [2.0**k * s for k in (7, 8, 15, 16, 31, 32, 63, 64) for s in (1, -1)]
    edges += [math.inf, -math.inf, math.nan, -0.9]
    for x in edges if data is None else [data.draw(values(source))]:
        for name, low, high in (
            ("fptosi", -(1 << (to.bits - 1)), (1 << (to.bits - 1)) - 1),
            ("fptoui", 0, (1 << to.bits) - 1),
        ):
            x = nearest(Fraction(x), source) if math.isfinite(x) else x
            x = math.nan if math.isinf(x) and source.specials is not Specials.IEEE else x
            whole = 0 if math.isnan(x) else min(max(Fraction(x).__trunc__() if math.isfinite(x) else x, low), high)
            result = int(evaluate(name, x, dtype=source, to=to)) % (1 << to.bits)
            assert result == int(whole) % (1 << to.bits), (name, x)
