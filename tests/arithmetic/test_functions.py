"""The transcendental functions: error bounds over the whole range, special values, and the polynomials' derivation."""

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mlutriton.arithmetic import FUNCTIONS, evaluate
from mlutriton.arithmetic.coefficients import COEFFICIENTS
from mlutriton.arithmetic.functions import _TWO_OVER_PI
from mlutriton.dtypes import BF16, F8E4M3, F8E5M2, F16, F32, F64, DType

INF, NAN = math.inf, math.nan

REFERENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "log2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
}
# In units in the last place. For f64 the reference's own error, up to one unit, is within the bound.
BOUNDS: dict[str, tuple[float, float]] = {
    "rsqrt": (1.5, 2.5),
    "exp": (1.05, 2.0),
    "exp2": (1.0, 2.0),
    "log": (0.9, 2.0),
    "log2": (1.0, 2.0),
    "sin": (1.3, 2.0),
    "cos": (1.3, 2.0),
    "tan": (1.3, 2.5),
    "tanh": (1.35, 2.5),
    "erf": (1.2, 2.5),
}


def largest_error(name: str, x: np.ndarray, dtype: DType) -> float:
    """Return the largest error in units in the last place; results that are not finite must be equal."""
    result = evaluate(name, x, dtype=dtype)
    with np.errstate(all="ignore"):
        exact = REFERENCES[name](x.astype(np.float64))
        expected = exact.astype(dtype.numpy)
        finite = np.isfinite(expected) & np.isfinite(result)
        np.testing.assert_array_equal(result[~finite], expected[~finite])
        unit = np.spacing(np.abs(expected[finite])).astype(np.float64)
        return float((np.abs(result[finite].astype(np.float64) - exact[finite]) / unit).max())


def test_every_function_has_a_reference() -> None:
    assert REFERENCES.keys() == FUNCTIONS.keys() == BOUNDS.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f32_over_all_exponents(name: str) -> None:
    count = 2**17 if name == "erf" else 2**20
    stride = 2**32 // count
    generator = np.random.default_rng(1)
    patterns = np.arange(count, dtype=np.uint64) * stride + generator.integers(0, stride, count, dtype=np.uint64)
    assert largest_error(name, patterns.astype(np.uint32).view(np.float32), F32) <= BOUNDS[name][0]


RANGES = {
    "rsqrt": (1.0, 4.0),
    "exp": (-104.5, 89.0),
    "exp2": (-151.0, 129.0),
    "log": (0.4, 2.5),
    "log2": (0.4, 2.5),
    "sin": (-20.0, 20.0),
    "cos": (-1.1e5, 1.1e5),
    "tan": (-1.1e5, 1.1e5),
    "tanh": (-10.0, 10.0),
    "erf": (-4.0, 4.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f32_where_the_function_varies(name: str) -> None:
    x = np.random.default_rng(2).uniform(*RANGES[name], 2**16 if name == "erf" else 2**18).astype(np.float32)
    assert largest_error(name, x, F32) <= BOUNDS[name][0]


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_f32_beside_every_multiple_of_half_pi_up_to_the_huge_arguments(name: str) -> None:
    multiples = (np.arange(1, 70_000) * (np.pi / 2)).astype(np.float32).view(np.int32)
    x = (multiples + np.arange(-2, 3, dtype=np.int32)[:, None]).view(np.float32).ravel()
    assert largest_error(name, x, F32) <= BOUNDS[name][0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f64(name: str) -> None:
    generator = np.random.default_rng(3)
    low, high = (-760.0, 720.0) if name == "exp" else RANGES[name]
    patterns = generator.integers(0, 2**64, 2**11, dtype=np.uint64).view(np.float64)
    x = np.concatenate([patterns, generator.uniform(low, high, 2**14)])
    assert largest_error(name, x, F64) <= BOUNDS[name][1]


def test_f64_sine_and_cosine_of_huge_arguments() -> None:
    # 6381956970095103 * 2**797 is the double closest to a multiple of pi/2; the values are its published ones.
    worst = math.ldexp(6381956970095103.0, 797)
    cosine = float(evaluate("cos", worst, dtype=F64))
    assert cosine == pytest.approx(-4.6871659242546277e-19, rel=1e-12)
    assert abs(float(evaluate("sin", worst, dtype=F64))) == 1.0


# fmt: off
SPECIAL_VALUES: dict[str, list[tuple[float, float]]] = {
    "rsqrt": [(0.0, INF), (-0.0, -INF), (INF, 0.0), (-1.0, NAN), (4.0, 0.5), (NAN, NAN)],
    "exp":   [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (-1e4, 0.0), (1e4, INF)],
    "exp2":  [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (-1e4, 0.0), (1e4, INF), (10.0, 1024.0),
              (-3.0, 0.125)],
    "log":   [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-INF, NAN), (-1.0, NAN), (NAN, NAN)],
    "log2":  [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-INF, NAN), (-1.0, NAN), (NAN, NAN),
              (1024.0, 10.0), (0.125, -3.0)],
    "sin":   [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "cos":   [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "tan":   [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "tanh":  [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (30.0, 1.0), (-30.0, -1.0)],
    "erf":   [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (30.0, 1.0), (-30.0, -1.0)],
}
# fmt: on


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name: str, dtype: DType) -> None:
    for x, expected in SPECIAL_VALUES[name]:
        result = float(evaluate(name, x, dtype=dtype))
        assert result == expected or (math.isnan(result) and math.isnan(expected)), x
        assert math.isnan(expected) or math.copysign(1, result) == math.copysign(1, expected), x


@pytest.mark.parametrize("payload", [0x7FC00001, 0x7F800001, 0xFFFFFFFF, 0x7FC000FF])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_nan_gives_nan(name: str, payload: int) -> None:
    assert np.isnan(evaluate(name, np.array([payload], np.uint32).view(np.float32), dtype=F32)).all()


@pytest.mark.parametrize("dtype", [F16, BF16, F8E5M2, F8E4M3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_narrow_formats_are_computed_in_f32_and_rounded(name: str, dtype: DType) -> None:
    x = np.arange(2**dtype.bits, dtype=f"u{dtype.bytes}").view(dtype.numpy)
    wide = evaluate(name, evaluate("fpcast", x, dtype=dtype, to=F32), dtype=F32)
    expected = evaluate("fpcast", wide, dtype=F32, to=dtype)
    np.testing.assert_array_equal(
        evaluate(name, x, dtype=dtype).astype(np.float32), expected.astype(np.float32), strict=True
    )


def test_results_do_not_depend_on_neighbouring_lanes() -> None:
    x = np.array([1.0, 3e5, -0.7, 1e30, INF, 1e-40], np.float32)
    for name in FUNCTIONS:
        together = evaluate(name, x, dtype=F32)
        alone = np.array([evaluate(name, lane, dtype=F32) for lane in x])
        np.testing.assert_array_equal(together, alone)


@pytest.fixture(scope="module")
def derivation() -> ModuleType:
    path = Path(__file__).with_name("derive_coefficients.py")
    specification = importlib.util.spec_from_file_location("derive_coefficients", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("name", list(vars(COEFFICIENTS[F32])))
def test_the_polynomials_are_those_of_the_derivation(derivation: ModuleType, name: str, dtype: DType) -> None:
    listed, derived = getattr(COEFFICIENTS[dtype], name), derivation.derive(name, dtype.name)
    assert len(listed) == len(derived)
    assert derivation.maximal_error(name, listed) <= 1.1 * derivation.maximal_error(name, derived)
    assert [float(dtype.numpy.type(c)) for c in listed] == list(listed)


def test_two_over_pi() -> None:
    def arctangent_of_inverse(n: int) -> int:
        term, total, k = (1 << 1400) // n, 0, 0
        while term:
            total += (-1) ** k * (term // (2 * k + 1))
            term //= n * n
            k += 1
        return total

    pi = 4 * (4 * arctangent_of_inverse(5) - arctangent_of_inverse(239))
    assert (2 << (1400 + 1196)) // pi == _TWO_OVER_PI
