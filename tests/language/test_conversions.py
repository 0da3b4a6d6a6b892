"""``tensor.to``: every code of the small formats in every rounding, against a search among a format's numbers."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import triton

import mlutriton as mlu
import mlutriton.language as tl

FLOAT8 = {
    "float8_e5m2": tl.float8e5,
    "float8_e4m3fn": tl.float8e4nv,
    "float8_e5m2fnuz": tl.float8e5b16,
    "float8_e4m3fnuz": tl.float8e4b8,
}
FLOATS = FLOAT8 | {
    "float16": tl.float16,
    "bfloat16": tl.bfloat16,
    "float32": tl.float32,
    "float64": tl.float64,
}
INTEGERS = {
    **{f"int{bits}": getattr(tl, f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": getattr(tl, f"uint{bits}") for bits in (8, 16, 32, 64)},
}
BLOCK = 1024


@mlu.jit
def convert(out, x, count, TYPE: tl.constexpr, ROUNDING: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + place, mask=place < count)
    tl.store(out + place, value.to(TYPE, fp_downcast_rounding=ROUNDING), mask=place < count)


@mlu.jit
def reinterpret(out, x, TYPE: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(x + place).to(TYPE, bitcast=True))


def numpy_type(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def converted(x, name, rounding=None):
    out = np.zeros(x.shape, numpy_type(name))
    convert[(-(-x.size // BLOCK),)](out, x, x.size, (FLOATS | INTEGERS)[name], rounding, BLOCK)
    return out


def codes(name):
    """Every number, infinity and NaN of a format of 8 or 16 bits; of wider ones those at and beside their ties."""
    dtype = numpy_type(name)
    if dtype.itemsize <= 2:
        return np.arange(1 << 8 * dtype.itemsize).astype(f"u{dtype.itemsize}").view(dtype)
    # Numbers of the narrow formats, their middles, and the neighbours of both.
    edges = [exact(narrow) for narrow in map(codes, (*FLOAT8, "float16", "bfloat16"))]
    generator = np.random.default_rng(5)
    numbers = np.concatenate([generator.choice(np.unique(edge[np.isfinite(edge)]), 200) for edge in edges])
    every = np.concatenate([np.unique(edge[np.isfinite(edge)]) for edge in edges[:4]])
    every.sort()
    middles = (every[1:] + every[:-1]) / 2
    values = np.concatenate([numbers, every, middles, [np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-45]])
    with np.errstate(all="ignore"):
        values = values.astype(dtype)
    above, below = (np.nextafter(values, dtype.type(limit)) for limit in (np.inf, -np.inf))
    return np.concatenate([values, above, below])


def ordered_numbers(name):
    """The finite numbers of a narrow format in order, as float64."""
    numbers = exact(codes(name))
    return np.unique(numbers[np.isfinite(numbers)])


def reference(x, name, toward_zero):
    """Conversion by search among the numbers of the format, which are all that is known of it here."""
    numbers, wanted = ordered_numbers(name), exact(x)
    greatest = numbers[-1]
    unit = greatest - numbers[-2]
    sought = np.where(np.isnan(wanted), 0, np.clip(wanted, -greatest, greatest))
    above = np.minimum(np.searchsorted(numbers, sought), len(numbers) - 1)
    below = np.where(numbers[above] == sought, above, np.maximum(above - 1, 0))
    if toward_zero:
        chosen = np.where(sought > 0, below, above)
    else:
        # Neighbours alternate between even and odd last bits, and zero is even.
        zero = int(np.searchsorted(numbers, 0))
        down, up = sought - numbers[below], numbers[above] - sought
        chosen = np.where(down < up, below, np.where(up < down, above, np.where((above - zero) % 2 == 0, above, below)))
    result = numbers[chosen]
    if name not in FLOAT8:
        overflow = np.isinf(wanted) if toward_zero else np.abs(wanted) >= greatest + unit / 2
        result = np.where(overflow, np.copysign(np.inf, wanted), result)
    return np.where(np.isnan(wanted), np.nan, result)


def pairs(sources, targets):
    return list(itertools.product(sources, targets))


def exact(x):
    with np.errstate(invalid="ignore"):  # NaNs that signal
        return x.astype(np.float64)


def check(result, expected):
    same = (exact(result) == expected) | (np.isnan(exact(result)) & np.isnan(expected))
    assert same.all(), (np.flatnonzero(~same)[:5], result[~same][:5], expected[~same][:5])


@pytest.mark.parametrize(("source", "target"), pairs(FLOATS, [*FLOAT8, "float16", "bfloat16"]))
def test_to_a_narrow_float(source, target):
    x = codes(source)
    check(converted(x, target), reference(x, target, toward_zero=False) if source != target else exact(x))


@pytest.mark.parametrize(
    ("source", "target"), pairs(["float16", "bfloat16", "float32", "float64"], [*FLOAT8, "float16", "bfloat16"])
)
def test_to_a_narrow_float_toward_zero(source, target):
    if numpy_type(target).itemsize < numpy_type(source).itemsize:
        x = codes(source)
        check(converted(x, target, "rtz"), reference(x, target, toward_zero=True))


@pytest.mark.parametrize(("source", "target"), pairs([*FLOAT8, "float16", "bfloat16"], ["float32", "float64"]))
def test_to_a_wide_float_is_exact(source, target):
    x = codes(source)
    check(converted(x, target), exact(x))


def test_zeros_keep_their_sign_where_the_format_has_two():
    x = np.array([0.0, -0.0] * 8, np.float32)
    for name in FLOAT8:
        signs = np.signbit(converted(x, name).astype(np.float32))
        assert signs.tolist() == ([False, True] if not name.endswith("fnuz") else [False, False]) * 8


@pytest.mark.parametrize("source", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("target", INTEGERS)
def test_floats_to_integers_drop_the_fraction(source, target):
    limits = np.iinfo(target)
    x = np.array([0.0, 0.5, -0.5, 1.75, -1.75, 100.25, -100.25, 200.0, 3e4], numpy_type(source))
    x = x[(x.astype(np.float64) > max(limits.min, -1e9) - 1) & (x.astype(np.float64) < limits.max)]
    np.testing.assert_array_equal(converted(x, target), np.trunc(x.astype(np.float64)).astype(target))


@pytest.mark.parametrize(("source", "target"), pairs(["float16", "bfloat16"], INTEGERS))
def test_every_code_that_an_integer_can_hold_drops_its_fraction(source, target):
    x, limits = codes(source), np.iinfo(target)
    whole = np.trunc(np.nan_to_num(exact(x), nan=np.inf))
    held = (whole >= limits.min) & (whole <= limits.max) & (abs(whole) < 2.0**53)
    np.testing.assert_array_equal(converted(x[held], target), whole[held].astype(target))


@pytest.mark.parametrize(
    ("source", "target"),
    pairs(["int8", "uint8", "int16", "uint16"], ["float16", "bfloat16", "float32", "float64"]),
)
def test_every_small_integer_becomes_the_nearest_float(source, target):
    limits = np.iinfo(source)
    x = np.arange(limits.min, limits.max + 1).astype(source)
    check(converted(x, target), exact(x) if target in ("float32", "float64") else reference(x, target, False))


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("target", ["float16", "bfloat16", "float32", "float64"])
def test_integers_to_floats_round_to_nearest(source, target):
    limits = np.iinfo(source)
    values = [0, 1, 2, 127, 255, 257, 2049, 2051, 40001, 65519, 2**24 + 1, 2**24 + 3, limits.max, limits.min, -3, -2051]
    x = np.array([value for value in values if limits.min <= value <= limits.max], source)
    with np.errstate(over="ignore"):
        expected = (x if target in ("float32", "float64") else x.astype(np.float32)).astype(numpy_type(target))
    np.testing.assert_array_equal(converted(x, target), expected)


@pytest.mark.parametrize(("source", "target"), pairs(INTEGERS, INTEGERS))
def test_integers_to_integers_wrap(source, target):
    limits = np.iinfo(source)
    x = np.array([0, 1, 100, limits.max, limits.min, limits.max // 3], source)
    np.testing.assert_array_equal(converted(x, target), x.astype(target))


@pytest.mark.parametrize("name", FLOAT8)
def test_bits_are_kept_by_a_bitcast(name):
    x = np.arange(256, dtype=np.uint8)
    out = np.zeros(256, numpy_type(name))
    reinterpret[(1,)](out, x, FLOAT8[name], 256)
    np.testing.assert_array_equal(out.view(np.uint8), x)


# ---- float8e4b15, of which neither NumPy nor torch has arrays -------------------------------------------------------


def e4b15(code):
    """The number of a code: a float16 whose exponent lacks its upper bit."""
    exponent, mantissa = code >> 3 & 15, code & 7
    size = (mantissa / 8 * 2.0**-14) if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 15)
    return -size if code & 0x80 else size


def test_every_code_of_e4b15_is_read():
    x, out = mlu.array(np.arange(256, dtype=np.uint8)), np.zeros(256, np.float32)
    convert[(1,)](out, triton.reinterpret(x, tl.float8e4b15), 256, tl.float32, None, BLOCK)
    assert out.tolist() == [e4b15(code) for code in range(256)]


def test_every_half_is_written_as_e4b15():
    """Through float16 toward zero, then to nearest, ties away from zero, no further than 1.75."""
    halves = codes("float16")
    halves = halves[~np.isnan(halves)]
    out = np.zeros(halves.size, np.uint8)
    programs = -(-halves.size // BLOCK)
    convert[(programs,)](
        triton.reinterpret(mlu.array(out), tl.float8e4b15), halves, halves.size, tl.float8e4b15, None, BLOCK
    )
    numbers = np.array([e4b15(code) for code in range(0x7F)])
    size = np.minimum(np.abs(halves.astype(np.float64)), 1.75)
    above = np.minimum(np.searchsorted(numbers, size), len(numbers) - 1)
    below = np.maximum(above - 1, 0)
    expected = np.where(size - numbers[below] < numbers[above] - size, below, above) | np.signbit(halves) * 0x80
    np.testing.assert_array_equal(out, expected)
