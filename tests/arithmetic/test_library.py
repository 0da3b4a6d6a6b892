"""The device library on NumPy arrays: error bounds against mpmath, exact rounding modes, integers, special values."""

import ast
import importlib.util
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
from triton.language.extra.cuda import libdevice

from mlutriton.arithmetic.evaluate import _NUMPY
from mlutriton.arithmetic.library import LIBRARY, coefficients

INF, NAN = math.inf, math.nan
NUMPY = {"int32": "i4", "uint32": "i4", "int64": "i8", "uint64": "i8", "fp32": "f4", "fp64": "f8"}


def apply(name, *operands):
    """A function of the library, by its symbol without the prefix."""
    with np.errstate(all="ignore"):
        return np.asarray(LIBRARY[f"__nv_{name}"](_NUMPY, *operands))


def signatures() -> Iterator[tuple[str, list[str], str]]:
    """Symbol, types of operands and type of result of every function that Triton knows."""
    for node in ast.walk(ast.parse(Path(libdevice.__file__).read_text())):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                symbol, result = value.elts
                yield symbol.value, [NUMPY[part.args[0].value] for part in key.elts], NUMPY[result.args[0].value]


def test_every_function_takes_and_gives_the_types_of_the_library():
    found = list(signatures())
    assert len({symbol for symbol, _, _ in found}) > 300
    for symbol, operands, result in found:
        # Triton gives some functions the signed type where the device library has the unsigned one.
        assert apply(symbol.removeprefix("__nv_"), *(np.ones(4, dtype) for dtype in operands)).dtype == result, symbol


# ---- accuracy -------------------------------------------------------------------------------------------------------

mpmath.mp.prec = 200


def spread(low, high, count=150):
    """Numbers of both signs with exponents from low to high."""
    generator = np.random.default_rng(0)
    return np.exp2(generator.uniform(low, high, count)) * generator.choice([-1, 1], count)


def uniform(low, high, count=250):
    return np.random.default_rng(1).uniform(low, high, count)


def norm(*values):
    return mpmath.sqrt(sum(value * value for value in values))


# Function, arguments for f32, arguments for f64.
ELEMENTARY = {
    "exp10": (lambda x: mpmath.mpf(10) ** x, [uniform(-37, 38)], [uniform(-300, 308)]),
    "expm1": (mpmath.expm1, [np.r_[uniform(-2, 2), spread(-30, 6)]], [np.r_[uniform(-2, 2), spread(-60, 9)]]),
    "log10": (mpmath.log10, [np.abs(spread(-126, 127))], [np.abs(spread(-1000, 1000))]),
    "log1p": (mpmath.log1p, [np.r_[uniform(-0.99, 2), np.abs(spread(-90, 99))]], [np.r_[uniform(-0.99, 2)]]),
    "pow": (lambda x, y: x**y, [uniform(0.01, 9), uniform(-30, 30)], [uniform(0.01, 9), uniform(-150, 150)]),
    "sinh": (mpmath.sinh, [np.r_[uniform(-3, 3), uniform(-89.4, 89.4)]], [uniform(-710, 710)]),
    "cosh": (mpmath.cosh, [np.r_[uniform(-3, 3), uniform(-89.4, 89.4)]], [uniform(-710, 710)]),
    "asinh": (mpmath.asinh, [np.r_[uniform(-3, 3), spread(-99, 99)]], [np.r_[uniform(-3, 3), spread(-900, 900)]]),
    "acosh": (
        mpmath.acosh,
        [np.r_[uniform(1, 3), 1 + np.abs(spread(-20, 99))]],
        [np.r_[uniform(1, 3), uniform(1, 1e9)]],
    ),
    "atanh": (mpmath.atanh, [np.r_[uniform(-0.999, 0.999), spread(-99, -1)]], [uniform(-0.999, 0.999)]),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), [spread(-145, 127)], [spread(-1070, 1000)]),
    "rcbrt": (lambda x: mpmath.sign(x) / mpmath.cbrt(abs(x)), [spread(-145, 127)], [spread(-1070, 1000)]),
    "hypot": (norm, [spread(-120, 126), spread(-120, 126)[::-1]], [spread(-1000, 1000), spread(-1000, 1000)[::-1]]),
    "norm3d": (norm, [uniform(-3, 3, 99), spread(-3, 3, 99), uniform(0, 9, 99)], [spread(-3, 3)] * 3),
    "rhypot": (lambda *x: 1 / norm(*x), [spread(-100, 120), spread(-9, 9)], [spread(-900, 900), spread(-9, 9)]),
    "sinpi": (mpmath.sinpi, [np.r_[uniform(-3, 3), spread(-20, 20)]], [np.r_[uniform(-3, 3), spread(-20, 40)]]),
    "cospi": (mpmath.cospi, [np.r_[uniform(-3, 3), spread(-20, 20)]], [np.r_[uniform(-3, 3), spread(-20, 40)]]),
    "asin": (mpmath.asin, [np.r_[uniform(-1, 1), spread(-99, 0)]], [np.r_[uniform(-1, 1), spread(-99, 0)]]),
    "acos": (mpmath.acos, [np.r_[uniform(-1, 1), spread(-99, 0)]], [np.r_[uniform(-1, 1), spread(-99, 0)]]),
    "atan": (mpmath.atan, [np.r_[uniform(-3, 3), spread(-120, 120)]], [np.r_[uniform(-3, 3), spread(-900, 900)]]),
    "atan2": (mpmath.atan2, [spread(-30, 30), spread(-30, 30)[::-1]], [spread(-300, 300), spread(-300, 300)[::-1]]),
}


def error_in_units(got, exact) -> float:
    unit = np.spacing(np.abs(got.dtype.type(float(exact))))
    return float(abs(mpmath.mpf(float(got)) - exact) / mpmath.mpf(float(unit)))


@pytest.mark.parametrize("suffix", ["f", ""], ids=["f32", "f64"])
@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_are_within_two_units(name, suffix):
    function, *arguments = ELEMENTARY[name]
    operands = [x.astype("f4" if suffix else "f8") for x in arguments[0 if suffix else 1]]
    result = apply(name + suffix, *operands)
    exact = [function(*map(mpmath.mpf, map(float, row))) for row in zip(*operands, strict=True)]
    assert max(error_in_units(got, want) for got, want in zip(result, exact, strict=True)) <= 2


def powers(limit):
    """Bases, exponents and powers of integers below a limit."""
    rows = [(base, n, base**n) for base in range(2, 300) for n in range(1, 60) if base**n <= limit]
    return [np.array(column, "f8") for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("suffix", ["f", ""], ids=["f32", "f64"])
def test_results_that_are_numbers_are_exact(suffix):
    dtype, digits = ("f4", 24) if suffix else ("f8", 53)
    base, n, power = powers(2**digits)
    tens = np.arange(11 if suffix else 23)
    exponents = np.arange(np.finfo(dtype).minexp, np.finfo(dtype).maxexp)
    halves = np.arange(-20, 21) / 2
    factorials = np.array([math.factorial(n) for n in range(13 if suffix else 22)], "f8")
    points = {
        "pow": [(base, n, power), (base**2, np.full_like(base, 0.5), base), (0 * n + 2, -n, np.exp2(-n))],
        "cbrt": [(base**3, base)],
        "exp2": [(exponents, np.exp2(exponents * 1.0))],
        "log2": [(np.exp2(exponents * 1.0), exponents)],
        "exp10": [(tens, 10.0**tens)],
        "log10": [(10.0**tens, tens)],
        "rsqrt": [(np.exp2(2.0 * np.arange(-30, 30)), np.exp2(-1.0 * np.arange(-30, 30)))],
        "rcbrt": [(np.exp2(3.0 * np.arange(-20, 20)), np.exp2(-1.0 * np.arange(-20, 20)))],
        "tgamma": [(np.arange(len(factorials)) + 1, factorials)],
        "lgamma": [([1, 2], [0, 0])],
        "sinpi": [(halves, np.rint(np.sin(np.pi * halves)))],
        "cospi": [(halves, np.rint(np.cos(np.pi * halves)))],
        "hypot": [([3, 5, 8, 7, 20, 9, 12, 28], [4, 12, 15, 24, 21, 40, 35, 45], [5, 13, 17, 25, 29, 41, 37, 53])],
    }
    for name, cases in points.items():
        for *operands, want in cases:
            got = apply(name + suffix, *(np.asarray(operand, dtype) for operand in operands))
            np.testing.assert_array_equal(got, np.asarray(want, dtype), name)


# Function, arguments, bound in units, bound relative to 1 + abs(value).
SPECIAL = {
    "erfc": (mpmath.erfc, np.r_[uniform(-6, 6), uniform(0, 26)], 8, 0),
    "erfcx": (lambda x: mpmath.exp(x * x) * mpmath.erfc(x), np.r_[uniform(-26, 6), np.abs(spread(-9, 99))], 8, 0),
    "normcdf": (mpmath.ncdf, np.r_[uniform(-6, 6), uniform(-37, 8)], 8, 0),
    "erfinv": (mpmath.erfinv, uniform(-1, 1, 60), 8, 0),
    "tgamma": (mpmath.gamma, np.r_[uniform(-20, 20), uniform(0, 171)], 24, 0),
    "lgamma": (lambda x: mpmath.log(abs(mpmath.gamma(x))), np.r_[uniform(-20, 20), uniform(0.9, 2.1)], 8, 1e-14),
    "cyl_bessel_i0": (lambda x: mpmath.besseli(0, x), np.r_[uniform(-20, 20), uniform(-700, 700)], 8, 0),
    "cyl_bessel_i1": (lambda x: mpmath.besseli(1, x), np.r_[uniform(-20, 20), uniform(-700, 700)], 8, 0),
    "j0": (lambda x: mpmath.besselj(0, x), np.r_[uniform(-20, 20, 125), uniform(0, 500, 125)], 0, 2e-15),
    "j1": (lambda x: mpmath.besselj(1, x), np.r_[uniform(-20, 20, 125), uniform(0, 500, 125)], 0, 2e-15),
    "y0": (lambda x: mpmath.bessely(0, x), np.r_[uniform(0, 20, 125), uniform(0, 500, 125)], 0, 2e-15),
    "y1": (lambda x: mpmath.bessely(1, x), np.r_[uniform(0, 20, 125), uniform(0, 500, 125)], 0, 2e-15),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions_are_within_their_bounds(name):
    function, x, units, absolute = SPECIAL[name]
    exact = [function(mpmath.mpf(float(value))) for value in x]
    for got, want in zip(apply(name, x), exact, strict=True):
        is_near = absolute and abs(mpmath.mpf(float(got)) - want) <= absolute * (1 + abs(want))
        assert is_near or error_in_units(got, want) <= units
    narrow = x.astype("f4")
    if not absolute:
        for value, got in zip(narrow, apply(name + "f", narrow), strict=True):
            want = function(mpmath.mpf(float(value)))
            assert np.isinf(got) or error_in_units(got, want) <= 0.51


@pytest.mark.parametrize("name", ["jn", "yn"])
def test_bessel_functions_of_any_order(name):
    function = mpmath.besselj if name == "jn" else mpmath.bessely
    orders = np.random.default_rng(2).integers(-32, 33, 100).astype("i4")
    x = uniform(0.5, 80, 100)
    for n, value, got in zip(orders, x, apply(name, orders, x), strict=True):
        want = function(int(n), mpmath.mpf(value))
        assert abs(mpmath.mpf(float(got)) - want) <= 1e-11 * (1 + abs(want))
    assert np.isnan(apply(name, np.array([33], "i4"), np.array([1.0])))[0]


@pytest.mark.parametrize(("inverse", "function"), [("erfcinv", mpmath.erfc), ("normcdfinv", mpmath.ncdf)])
def test_inverses_return_to_the_argument(inverse, function):
    p = np.r_[uniform(0.001, 0.999, 60), np.abs(spread(-900, -1, 60))]
    for argument, value in zip(p, apply(inverse, p), strict=True):
        # An error of one unit of the value, which the function's slope turns into one of the argument.
        slack = abs(mpmath.diff(function, value)) * 8 * abs(value) * mpmath.mpf(2) ** -52
        assert abs(function(mpmath.mpf(float(value))) - mpmath.mpf(float(argument))) <= slack


# fmt: off
SPECIAL_VALUES = {
    "pow":    [(0.0, 0.0, 1.0), (NAN, 0.0, 1.0), (1.0, NAN, 1.0), (-1.0, INF, 1.0), (-2.0, 3.0, -8.0), (-2.0, 2.0, 4.0),
               (-2.0, 0.5, NAN), (0.0, -1.0, INF), (-0.0, -1.0, -INF), (-0.0, 3.0, -0.0), (-INF, 3.0, -INF),
               (-INF, 0.5, INF), (2.0, INF, INF), (2.0, -INF, 0.0), (0.5, INF, 0.0), (INF, -1.0, 0.0),
               (2.0, 2000.0, INF), (2.0, -2000.0, 0.0), (-0.0, -INF, INF)],
    "atan2":  [(0.0, 1.0, 0.0), (-0.0, 1.0, -0.0), (0.0, -1.0, math.pi), (-0.0, -1.0, -math.pi), (0.0, 0.0, 0.0),
               (1.0, 0.0, math.pi / 2), (INF, INF, math.pi / 4), (-INF, -INF, -3 * math.pi / 4), (1.0, INF, 0.0),
               (INF, 1.0, math.pi / 2), (1.0, -INF, math.pi), (NAN, 1.0, NAN)],
    "hypot":  [(INF, NAN, INF), (3.0, 4.0, 5.0), (0.0, 0.0, 0.0), (NAN, 1.0, NAN)],
    "expm1":  [(-0.0, -0.0), (INF, INF), (-INF, -1.0), (NAN, NAN)],
    "log1p":  [(-0.0, -0.0), (-1.0, -INF), (-2.0, NAN), (INF, INF)],
    "log10":  [(1000.0, 3.0), (0.0, -INF), (-1.0, NAN), (INF, INF)],
    "exp10":  [(2.0, 100.0), (-INF, 0.0), (INF, INF), (1e9, INF), (-1e9, 0.0), (NAN, NAN)],
    "sinh":   [(-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN)],
    "cosh":   [(0.0, 1.0), (-INF, INF), (NAN, NAN)],
    "asinh":  [(-0.0, -0.0), (-INF, -INF), (NAN, NAN)],
    "acosh":  [(1.0, 0.0), (0.5, NAN), (INF, INF), (NAN, NAN)],
    "atanh":  [(-0.0, -0.0), (1.0, INF), (-1.0, -INF), (2.0, NAN)],
    "asin":   [(-0.0, -0.0), (1.0, math.pi / 2), (2.0, NAN), (NAN, NAN)],
    "acos":   [(1.0, 0.0), (-1.0, math.pi), (2.0, NAN)],
    "atan":   [(-0.0, -0.0), (INF, math.pi / 2), (-INF, -math.pi / 2), (NAN, NAN)],
    "cbrt":   [(-27.0, -3.0), (-0.0, -0.0), (INF, INF), (NAN, NAN)],
    "sinpi":  [(0.5, 1.0), (1.5, -1.0), (2.0, 0.0), (INF, NAN)],
    "cospi":  [(1.0, -1.0), (0.5, 0.0), (2.0, 1.0), (INF, NAN)],
    "erfc":   [(0.0, 1.0), (INF, 0.0), (-INF, 2.0), (NAN, NAN)],
    "erfcx":  [(0.0, 1.0), (INF, 0.0), (-INF, INF), (NAN, NAN)],
    "erfinv": [(0.0, 0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (NAN, NAN)],
    "erfcinv": [(1.0, 0.0), (0.0, INF), (2.0, -INF), (-1.0, NAN)],
    "normcdf": [(0.0, 0.5), (-INF, 0.0), (INF, 1.0), (NAN, NAN)],
    "normcdfinv": [(0.5, 0.0), (0.0, -INF), (1.0, INF), (2.0, NAN)],
    "tgamma": [(5.0, 24.0), (0.0, INF), (-0.0, -INF), (-1.0, NAN), (INF, INF), (200.0, INF), (NAN, NAN)],
    "lgamma": [(1.0, 0.0), (2.0, 0.0), (0.0, INF), (-1.0, INF), (INF, INF), (-INF, INF), (NAN, NAN)],
    "j0":     [(0.0, 1.0), (INF, 0.0), (NAN, NAN)],
    "y0":     [(0.0, -INF), (-1.0, NAN), (INF, 0.0), (NAN, NAN)],
    "cyl_bessel_i0": [(0.0, 1.0), (INF, INF), (NAN, NAN)],
    "fmod":   [(7.5, 2.0, 1.5), (-7.5, 2.0, -1.5), (1.0, 0.0, NAN), (1.0, INF, 1.0)],
    "remainder": [(5.0, 2.0, 1.0), (7.0, 2.0, -1.0), (3.0, 2.0, -1.0), (-5.0, 3.0, 1.0), (1.0, INF, 1.0),
                  (1.0, 0.0, NAN)],
    "nextafter": [(0.0, 0.0, 0.0), (INF, 0.0, 1.7976931348623157e308), (NAN, 1.0, NAN), (1.0, 1.0, 1.0)],
    "fdim":   [(3.0, 1.0, 2.0), (1.0, 3.0, 0.0), (NAN, 1.0, NAN)],
    "round":  [(0.5, 1.0), (-0.5, -1.0), (0.49999999999999994, 0.0), (2.5, 3.0), (-0.2, -0.0), (INF, INF)],
    "rint":   [(0.5, 0.0), (2.5, 2.0), (-1.5, -2.0)],
    "llround": [(0.5, 1.0), (-2.5, -3.0), (1e18, 1e18)],
    "llrint":  [(0.5, 0.0), (-2.5, -2.0), (3.5, 4.0)],
    "logb":   [(8.0, 3.0), (5e-324, -1074.0), (0.0, -INF), (-INF, INF), (NAN, NAN)],
    "ilogb":  [(0.3, -2.0), (5e-324, -1074.0), (0.0, -2.0**31), (INF, 2.0**31 - 1)],
    "isinfd": [(-INF, 1.0), (1.0, 0.0), (NAN, 0.0)],
    "isnand": [(NAN, 1.0), (INF, 0.0)],
    "isfinited": [(1.0, 1.0), (INF, 0.0), (NAN, 0.0)],
    "signbitd": [(-0.0, 1.0), (0.0, 0.0)],
}
# fmt: on


@pytest.mark.parametrize("name", SPECIAL_VALUES)
def test_special_values(name):
    for *operands, want in SPECIAL_VALUES[name]:
        (got,) = map(float, apply(name, *(np.array([operand]) for operand in operands)))
        assert got == pytest.approx(want, rel=4e-15, abs=0, nan_ok=True), operands
        assert math.isnan(want) or name[:2] in ("ll", "il") or math.copysign(1, got) == math.copysign(1, want), operands


@pytest.fixture(scope="module")
def derivation():
    path = Path(__file__).with_name("derive_library_coefficients.py")
    specification = importlib.util.spec_from_file_location("derive_library_coefficients", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_polynomials_are_those_of_the_derivation(derivation):
    for name in ("ERFCX", "J0_NEAR", "P1", "I0_FAR"):
        assert list(getattr(coefficients, name)) == derivation.derive(name)


# ---- rounding modes -------------------------------------------------------------------------------------------------


def rounded(exact: Fraction, dtype, mode: str):
    """The number of the format that a mode gives for an exact value other than zero."""
    information = np.finfo(dtype)
    magnitude, is_negative = abs(exact), exact < 0
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > magnitude
    unit = Fraction(2) ** (max(exponent, information.minexp) - information.nmant)
    count = magnitude // unit
    outward = (mode == "ru" and not is_negative) or (mode == "rd" and is_negative)
    count += outward and count * unit != magnitude
    if count * unit > Fraction(float(information.max)):
        return dtype((INF if outward else float(information.max)) * (-1 if is_negative else 1))
    return dtype(float(count * unit) * (-1 if is_negative else 1))


def hard_numbers(dtype, count):
    """Numbers of all exponents, near 1, subnormal and at the limits."""
    generator = np.random.default_rng(3)
    information = np.finfo(dtype)
    patterns = generator.integers(0, 2 ** (8 * dtype(0).itemsize), count, dtype=np.uint64)
    limits = np.array([1, -1, 3, information.max, -information.max, information.tiny], dtype)
    kinds = [
        patterns.astype(f"u{dtype(0).itemsize}").view(dtype),
        generator.standard_normal(count).astype(dtype),
        (generator.integers(1, 1000, count) * information.smallest_subnormal).astype(dtype),
        generator.choice(limits, count),
    ]
    numbers = np.choose(generator.integers(0, 4, count), kinds)
    return np.where(np.isfinite(numbers) & (numbers != 0), numbers, dtype(1.5)).astype(dtype)


EXACT = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "rcp": lambda a: 1 / a,
    "fma": lambda a, b, c: a * b + c,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["rz", "rd", "ru"])
@pytest.mark.parametrize("name", EXACT)
def test_directed_arithmetic_is_exact(name, mode, dtype):
    function = EXACT[name]
    arity = function.__code__.co_argcount
    operands = [np.random.default_rng(seed).permutation(hard_numbers(dtype, 600)) for seed in range(arity)]
    if name == "fma":
        with np.errstate(all="ignore"):
            product = operands[0] * operands[1]
        operands[2][:200] = np.where(np.isfinite(product) & (product != 0), -product, 1)[:200]
    letter = "f" if dtype is np.float32 else "d"
    symbol = f"fma{letter.replace('d', '')}_{mode}" if name == "fma" else f"{letter}{name}_{mode}"
    for row in zip(apply(symbol, *operands), *operands, strict=True):
        got, *values = row
        exact = function(*(Fraction(float(value)) for value in values))
        assert got == (rounded(exact, dtype, mode) if exact else 0), values


@pytest.mark.parametrize("letter", ["f", "d"])
def test_directed_sums_keep_the_sign_of_zero(letter):
    one, zero = np.ones(1, f"{'f4' if letter == 'f' else 'f8'}"), np.zeros(1, "f4" if letter == "f" else "f8")
    assert np.signbit(apply(f"{letter}add_rd", one, -one))[0]
    assert not np.signbit(apply(f"{letter}add_rd", zero, zero))[0]
    assert not np.signbit(apply(f"{letter}add_ru", one, -one))[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directed_square_roots_enclose_the_root(dtype):
    letter = "f" if dtype is np.float32 else "d"
    x = np.abs(hard_numbers(dtype, 600))
    low, high = (apply(f"{letter}sqrt_{mode}", x) for mode in ("rd", "ru"))
    for value, below, above in zip(x, low, high, strict=True):
        assert Fraction(float(below)) ** 2 <= Fraction(float(value)) <= Fraction(float(above)) ** 2
        assert above == below or above == np.nextafter(below, dtype(INF))


@pytest.mark.parametrize("mode", ["rz", "rd", "ru"])
def test_directed_conversions_are_exact(mode):
    wide = np.r_[hard_numbers(np.float64, 400), hard_numbers(np.float32, 400) * (1 + 2.0**-40)]
    for got, value in zip(apply(f"double2float_{mode}", wide), wide, strict=True):
        assert got == rounded(Fraction(float(value)), np.float32, mode)
    for name, bits, signed in (("int", 32, True), ("uint", 32, False), ("ll", 64, True), ("ull", 64, False)):
        integers = np.random.default_rng(4).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 300, dtype=f"i{bits // 8}")
        integers[:20] = np.iinfo(integers.dtype).max - np.arange(20)
        integers[integers == 0] = 1
        exact = [int(value) if signed else int(value) % 2**bits for value in integers]
        for target, dtype in (("float", np.float32), ("double", np.float64)):
            result = apply(f"{name}2{target}_{mode}", integers)
            assert result.tolist() == [float(rounded(Fraction(value), dtype, mode)) for value in exact]


def test_floats_to_integers_by_mode():
    x = np.array([1.5, 2.5, -1.5, -0.2, 3e9, -3e9], np.float32)
    assert apply("float2int_rn", x).tolist() == [2, 2, -2, 0, 2**31 - 1, -(2**31)]
    assert apply("float2int_rd", x).tolist() == [1, 2, -2, -1, 2**31 - 1, -(2**31)]
    assert apply("float2int_ru", x).tolist() == [2, 3, -1, 0, 2**31 - 1, -(2**31)]
    assert apply("float2uint_rz", x).view("u4").tolist() == [1, 2, 0, 0, 3_000_000_000, 0]
    assert apply("float2ll_rz", x).tolist() == [1, 2, -1, 0, 3_000_000_000, -3_000_000_000]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_scaling_by_powers_of_two_rounds_once(dtype):
    x = hard_numbers(np.dtype(dtype).type, 600)
    exponents = np.random.default_rng(5).integers(-2200, 2200, 600).astype("i4") // (1 if dtype == "f8" else 8)
    with np.errstate(all="ignore"):
        want = np.ldexp(x, exponents)
    np.testing.assert_array_equal(apply("ldexpf" if dtype == "f4" else "ldexp", x, exponents), want)


def test_powers_by_integers_take_all_digits_of_the_exponent():
    x, n = np.array([1 + 2.0**-23, -2.0, 2.0, -1.0], "f4"), np.array([100_000_001, 3, -149, -(2**31)], "i4")
    exact = float(mpmath.mpf(float(x[0])) ** 100_000_001)
    np.testing.assert_allclose(apply("powif", x, n), [exact, -8, 2.0**-149, 1], rtol=2e-7)


# ---- integers -------------------------------------------------------------------------------------------------------


def as_signed(value, bits):
    return (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


@pytest.mark.parametrize(("bits", "suffix"), [(32, ""), (64, "ll")])
def test_bit_counts_and_reversal(bits, suffix):
    x = np.random.default_rng(6).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 64, dtype=f"i{bits // 8}")
    x[:8] = [0, 1, -1, 2, 4, 1 << (bits - 2), -(1 << (bits - 1)), 7]
    unsigned = [int(value) % 2**bits for value in x]
    assert apply(f"clz{suffix}", x).tolist() == [bits - value.bit_length() for value in unsigned]
    assert apply(f"popc{suffix}", x).tolist() == [value.bit_count() for value in unsigned]
    assert apply(f"ffs{suffix}", x).tolist() == [(value & -value).bit_length() for value in unsigned]
    backward = [as_signed(int(f"{value:0{bits}b}"[::-1], 2), bits) for value in unsigned]
    assert apply(f"brev{suffix}", x).tolist() == backward


def test_integer_arithmetic():
    a, b, c = np.random.default_rng(7).integers(-(2**31), 2**31, (3, 64), dtype="i4")
    for name, function in {
        "mulhi": lambda x, y: (x * y) >> 32,
        "hadd": lambda x, y: (x + y) >> 1,
        "rhadd": lambda x, y: (x + y + 1) >> 1,
        "mul24": lambda x, y: as_signed(x, 24) * as_signed(y, 24),
    }.items():
        want = [as_signed(function(int(x), int(y)), 32) for x, y in zip(a, b, strict=True)]
        assert apply(name, a, b).tolist() == want, name
        if name != "mul24":
            unsigned = [function(int(x) % 2**32, int(y) % 2**32) for x, y in zip(a, b, strict=True)]
            prefixed = {"rhadd": "urhadd"}.get(name, "u" + name)
            assert apply(prefixed, a, b).tolist() == [as_signed(value, 32) for value in unsigned], prefixed
    want = [as_signed(abs(int(x) - int(y)) + int(z), 32) for x, y, z in zip(a, b, c, strict=True)]
    assert apply("sad", a, b, c).tolist() == want
    want = [as_signed(abs(int(x) % 2**32 - int(y) % 2**32) + int(z), 32) for x, y, z in zip(a, b, c, strict=True)]
    assert apply("usad", a, b, c).tolist() == want


def test_byte_permutation():
    low, high = np.array([0x33221100], "i4"), np.array([0x77665544], "i4")
    for selector, want in ((0x3210, 0x33221100), (0x7654, 0x77665544), (0x0246, 0x00224466), (0x8888, 0)):
        assert apply("byte_perm", low, high, np.array([selector], "i4"))[0] == want
    assert apply("byte_perm", np.array([-1], "i4"), high, np.array([0x4008], "i4"))[0] == as_signed(0x44FFFFFF, 32)


def test_halves_of_doubles():
    x = np.random.default_rng(8).standard_normal(16)
    high, low = apply("double2hiint", x), apply("double2loint", x)
    np.testing.assert_array_equal(apply("hiloint2double", high, low), x)
    np.testing.assert_array_equal(high, (x.view("i8") >> 32).astype("i4"))
