"""The functions of NVIDIA's device library, by the symbol that kernels name them by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from mlutriton.arithmetic.formats import Format, Primitives
from mlutriton.arithmetic.library import elementary, integers, numbers, rounding, special, trigonometric
from mlutriton.arithmetic.library.integers import Integers
from mlutriton.arithmetic.library.rounding import Mode
from mlutriton.dtypes import F32, F64, I32, I64, DType

LibraryFunction = Callable[..., Any]
"""Takes the primitives and the operands, returns the result: ``(Primitives[V], V, ...) -> V``."""

_MODES: tuple[Mode, ...] = ("rn", "rz", "rd", "ru")
# The letters that stand for the formats: those of arithmetic and of tests, and the names in conversions.
_LETTERS = {F32: "f", F64: "d"}
_FLOATS = {F32: "float", F64: "double"}


def _on_floats(function: Callable[..., Any], dtype: DType, *fixed: object, **named: object) -> LibraryFunction:
    def apply(primitives: Primitives[Any], *operands: Any) -> Any:
        return function(Format(primitives, dtype), *operands, *fixed, **named)

    return apply


def _on_integers(function: Callable[..., Any], dtype: DType) -> LibraryFunction:
    def apply(primitives: Primitives[Any], *operands: Any) -> Any:
        return function(Integers(primitives, dtype), *operands)

    return apply


def _in_f64(function: Callable[..., Any]) -> LibraryFunction:
    """The f32 version of a function of f64, whose last operand is the float."""

    def apply(primitives: Primitives[Any], *operands: Any) -> Any:
        *orders, x = operands
        wide = primitives.apply("fpcast", x, dtype=F32, to=F64)
        return primitives.apply("fpcast", function(Format(primitives, F64), *orders, wide), dtype=F64, to=F32)

    return apply


def _operation(name: str, dtype: DType) -> LibraryFunction:
    def apply(primitives: Primitives[Any], *operands: Any) -> Any:
        return primitives.apply(name, *operands, dtype=dtype)

    return apply


def _cast(name: str, dtype: DType, to: DType) -> LibraryFunction:
    def apply(primitives: Primitives[Any], operand: Any) -> Any:
        return primitives.apply(name, operand, dtype=dtype, to=to)

    return apply


# ---- functions with an f32 version whose name ends in f -------------------------------------------------------------

# One operation of the arithmetic table.
_OPERATIONS: dict[str, str] = {
    **{name: name for name in ("exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tan", "tanh", "erf")},
    **{name: name for name in ("floor", "ceil", "trunc", "fabs", "fma", "copysign", "fmin", "fmax")},
    "rint": "round_even",
    "nearbyint": "round_even",
    "fmod": "frem",
}

_IN_BOTH_FORMATS: dict[str, Callable[..., Any]] = {
    "exp10": elementary.exp10,
    "expm1": elementary.expm1,
    "log10": elementary.log10,
    "log1p": elementary.log1p,
    "pow": elementary.power,
    "powi": elementary.power_of_integer,
    "sinh": elementary.sinh,
    "cosh": elementary.cosh,
    "asinh": elementary.asinh,
    "acosh": elementary.acosh,
    "atanh": elementary.atanh,
    "cbrt": elementary.cbrt,
    "rcbrt": elementary.reciprocal_cbrt,
    "hypot": elementary.norm,
    "norm3d": elementary.norm,
    "norm4d": elementary.norm,
    "rhypot": elementary.reciprocal_norm,
    "rnorm3d": elementary.reciprocal_norm,
    "rnorm4d": elementary.reciprocal_norm,
    "sinpi": trigonometric.sinpi,
    "cospi": trigonometric.cospi,
    "asin": trigonometric.asin,
    "acos": trigonometric.acos,
    "atan": trigonometric.atan,
    "atan2": trigonometric.atan2,
    "ldexp": numbers.scaled,
    "scalbn": numbers.scaled,
    "ilogb": numbers.exponent,
    "logb": numbers.exponent_as_float,
    "nextafter": numbers.next_after,
    "fdim": numbers.positive_difference,
    "remainder": numbers.remainder,
    "round": numbers.rounded_away,
    "llround": numbers.integer_rounded_away,
    "llrint": numbers.integer_rounded_to_even,
}

_IN_F64: dict[str, Callable[..., Any]] = {
    "erfc": special.erfc,
    "erfcx": special.erfcx,
    "erfinv": special.erfinv,
    "erfcinv": special.erfcinv,
    "normcdf": special.normcdf,
    "normcdfinv": special.normcdfinv,
    "tgamma": special.tgamma,
    "lgamma": special.lgamma,
    "j0": special.j0,
    "j1": special.j1,
    "jn": special.jn,
    "y0": special.y0,
    "y1": special.y1,
    "yn": special.yn,
    "cyl_bessel_i0": special.i0,
    "cyl_bessel_i1": special.i1,
}


def _named_by_suffix() -> Iterator[tuple[str, LibraryFunction]]:
    for dtype, suffix in ((F32, "f"), (F64, "")):
        for name, operation in _OPERATIONS.items():
            yield name + suffix, _operation(operation, dtype)
        for name, function in _IN_BOTH_FORMATS.items():
            yield name + suffix, _on_floats(function, dtype)
        for name, function in _IN_F64.items():
            yield name + suffix, _on_floats(function, F64) if dtype is F64 else _in_f64(function)


# ---- rounding modes -------------------------------------------------------------------------------------------------

_ROUNDED: dict[str, Callable[..., Any]] = {
    "add": rounding.add,
    "sub": rounding.subtract,
    "mul": rounding.multiply,
    "div": rounding.divide,
    "rcp": rounding.reciprocal,
    "sqrt": rounding.square_root,
}


def _rounded() -> Iterator[tuple[str, LibraryFunction]]:
    for mode in _MODES:
        for dtype, letter in _LETTERS.items():
            for name, function in _ROUNDED.items():
                yield f"{letter}{name}_{mode}", _on_floats(function, dtype, mode)
            yield f"fma{'f' * (dtype is F32)}_{mode}", _on_floats(rounding.fused_multiply_add, dtype, mode)
        yield f"double2float_{mode}", _on_floats(rounding.narrowed, F32, mode)
        yield from _rounded_conversions(mode)
    yield "frsqrt_rn", _in_f64(elementary.reciprocal_root)


def _rounded_conversions(mode: Mode) -> Iterator[tuple[str, LibraryFunction]]:
    for dtype, name in _FLOATS.items():
        for integer, integer_name in ((I32, "int"), (I64, "ll")):
            for signed, prefix in ((True, ""), (False, "u")):
                to = partial(rounding.to_integer, mode=mode, to=integer, signed=signed)
                yield f"{name}2{prefix}{integer_name}_{mode}", _on_floats(to, dtype)
                source = partial(rounding.from_integer, mode=mode, source=integer, signed=signed)
                yield f"{prefix}{integer_name}2{name}_{mode}", _on_floats(source, dtype)


# ---- the rest -------------------------------------------------------------------------------------------------------


def _tests() -> Iterator[tuple[str, LibraryFunction]]:
    for dtype, letter in _LETTERS.items():
        yield f"isnan{letter}", _on_floats(numbers.is_nan, dtype)
        yield f"isinf{letter}", _on_floats(numbers.is_infinite, dtype)
        yield f"signbit{letter}", _on_floats(numbers.sign_bit, dtype)
    yield "finitef", _on_floats(numbers.is_finite, F32)
    yield "isfinited", _on_floats(numbers.is_finite, F64)


def _quick() -> Iterator[tuple[str, LibraryFunction]]:
    """Functions that may be less exact: here they are as exact as the others."""
    for name in ("sin", "cos", "tan", "exp", "log", "log2"):
        yield f"fast_{name}f", _operation(name, F32)
    yield "fast_exp10f", _on_floats(elementary.exp10, F32)
    yield "fast_log10f", _on_floats(elementary.log10, F32)
    yield "fast_powf", _on_floats(elementary.power, F32)
    yield "fast_fdividef", _operation("fdiv", F32)


def _bits() -> Iterator[tuple[str, LibraryFunction]]:
    yield "double2hiint", _on_floats(numbers.upper_half, F64)
    yield "double2loint", _on_floats(numbers.lower_half, F64)
    yield "hiloint2double", _on_floats(numbers.from_halves, F64)
    yield "rcp64h", _on_floats(numbers.reciprocal_upper_half, F64)
    yield "saturatef", _on_floats(numbers.saturated, F32)
    for name in ("int", "uint"):
        yield f"float_as_{name}", _cast("bitcast", F32, I32)
        yield f"{name}_as_float", _cast("bitcast", I32, F32)
    yield "double_as_longlong", _cast("bitcast", F64, I64)
    yield "longlong_as_double", _cast("bitcast", I64, F64)


def _integers() -> Iterator[tuple[str, LibraryFunction]]:
    for dtype, suffix in ((I32, ""), (I64, "ll")):
        yield f"clz{suffix}", _on_integers(integers.leading_zeros, dtype)
        yield f"popc{suffix}", _on_integers(integers.popcount, dtype)
        yield f"brev{suffix}", _on_integers(integers.reversed_bits, dtype)
        yield f"ffs{suffix}", _on_integers(integers.first_set, dtype)
    yield "abs", _operation("iabs", I32)
    yield "llabs", _operation("iabs", I64)
    yield "mulhi", _operation("mulhs", I32)
    yield "umulhi", _operation("mulhu", I32)
    yield "mul64hi", _operation("mulhs", I64)
    yield "umul64hi", _operation("mulhu", I64)
    for name, function in {
        "byte_perm": integers.byte_permutation,
        "mul24": integers.product_of_24_bits,
        "umul24": integers.unsigned_product_of_24_bits,
        "sad": integers.distance_plus,
        "usad": integers.unsigned_distance_plus,
        "hadd": integers.mean_down,
        "uhadd": integers.unsigned_mean_down,
        "rhadd": integers.mean_up,
        "urhadd": integers.unsigned_mean_up,
    }.items():
        yield name, _on_integers(function, I32)


LIBRARY: dict[str, LibraryFunction] = {
    f"__nv_{name}": function
    for group in (_named_by_suffix, _rounded, _tests, _quick, _bits, _integers)
    for name, function in group()
}
"""The functions by symbol."""
