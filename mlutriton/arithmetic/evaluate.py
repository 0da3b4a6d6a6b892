"""NumPy evaluation of the element-wise operations, exact to the bit: ``OPERATIONS`` in executable form."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlutriton.arithmetic.functions import FUNCTIONS, apply_function
from mlutriton.arithmetic.fused_multiply_add import fused_multiply_add, narrow_to_odd
from mlutriton.arithmetic.operations import OPERATIONS
from mlutriton.dtypes import F32, F64, I1, TF32, DType

Array = NDArray[Any]


def evaluate(name: str, *operands: ArrayLike, dtype: DType, to: DType | None = None) -> Array:
    """Return an operation of ``OPERATIONS`` on arrays of type ``dtype`` or on Python numbers; ``to`` is a cast's type.

    Shapes: the operands are broadcast against each other; scalars give an array without dimensions.

    Raises:
        KeyError: no operation has that name.
        TypeError: the operation is not defined on these types, or an array is of another type.
    """
    operation = OPERATIONS[name]
    if not operation.accepts(dtype, to) or len(operands) != operation.arity:
        raise TypeError(f"{name} is not defined on {len(operands)} operands of {dtype}" + (f" to {to}" if to else ""))
    types = (I1, dtype, dtype) if name == "select" else (dtype,) * operation.arity
    with np.errstate(all="ignore"):
        return _apply(name, *map(_as_array, operands, types), dtype=dtype, to=to)


def _as_array(value: ArrayLike, dtype: DType) -> Array:
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(cast(Array, value))
        if array.dtype != dtype.numpy:
            raise TypeError(f"an operand of type {dtype} is an array of {array.dtype}")
        return array
    if isinstance(value, int) and dtype.is_int:
        # Python's integers have no width: 0xFFFFFFFF and -1 are the same i32.
        half = 1 << (dtype.bits - 1)
        value = (value + half) % (2 * half) - half
    return np.asarray(value, dtype.numpy)


def _apply(name: str, *operands: Array, dtype: DType, to: DType | None = None) -> Array:
    if to is not None:
        return np.asarray(_CASTS[name](operands[0], dtype, to))
    if name in FUNCTIONS:
        return apply_function(_NUMPY, name, operands[0], dtype)
    implementation = _IMPLEMENTATIONS[name]
    if not dtype.is_float or name in _ON_BITS:
        return np.asarray(implementation(*operands))
    working = F64 if dtype is F64 else F32
    result = np.asarray(implementation(*(x.astype(working.numpy, copy=False) for x in operands)))
    return result if result.dtype == np.bool_ else rounded(result, dtype)


@lru_cache(maxsize=1024)
def _constant(value: float, dtype: DType) -> Array:
    if dtype.is_int:
        return _as_array(value, dtype)
    return np.asarray(value, dtype.numpy)


class _NumpyPrimitives:
    """The primitives of the transcendental functions on NumPy arrays."""

    @staticmethod
    def constant(value: float, dtype: DType) -> Array:
        # Zero and negative zero are equal as keys of a cache.
        return _constant(value, dtype) if value else np.asarray(value, dtype.numpy)

    @staticmethod
    def apply(name: str, *operands: Array, dtype: DType, to: DType | None = None) -> Array:
        return _apply(name, *operands, dtype=dtype, to=to)

    @staticmethod
    def scaled(a: Array, exponent: Callable[[], Array], dtype: DType) -> None:
        """Leave it to two products."""

    @staticmethod
    def when_any(mask: Array, rare: Callable[[], tuple[Array, ...]], usual: tuple[Array, ...]) -> tuple[Array, ...]:
        if not mask.any():
            return usual
        return tuple(np.where(mask, lanes, others) for lanes, others in zip(rare(), usual, strict=True))


_NUMPY = _NumpyPrimitives()


# Integers


def _unsigned(x: Array) -> Array:
    return x.view(f"u{x.dtype.itemsize}")


def _on_unsigned(operation: Callable[..., Array]) -> Callable[..., Array]:
    """Return ``operation`` on the operands read as unsigned, its result read as signed again, unless it is a mask."""

    def evaluate_unsigned(a: Array, b: Array) -> Array:
        result = np.asarray(operation(_unsigned(a), _unsigned(b)))
        return result if result.dtype == np.bool_ else result.view(a.dtype)

    return evaluate_unsigned


def _divide_signed(a: Array, b: Array) -> Array:
    # Magnitudes are unsigned, where that of the least integer exists; negating its quotient by -1 twice wraps around.
    quotient = _unsigned(np.asarray(np.abs(a))) // _unsigned(np.asarray(np.abs(b)))
    quotient = np.asarray(quotient).view(a.dtype)
    return np.where(b == 0, a.dtype.type(-1), np.where((a < 0) != (b < 0), -quotient, quotient))


def _divide_unsigned(a: Array, b: Array) -> Array:
    return np.where(b == 0, ~np.zeros_like(a), a // b)


def _remainder(a: Array, b: Array) -> Array:
    return np.where(b == 0, a, np.fmod(a, b))


def _shift_right_arithmetic(a: Array, count: Array) -> Array:
    return a >> np.minimum(_unsigned(count), 8 * a.dtype.itemsize - 1).astype(a.dtype)


def _multiply_high_unsigned(a: Array, b: Array) -> Array:
    a, b = _unsigned(a), _unsigned(b)
    half_bits = a.dtype.type(4 * a.dtype.itemsize)
    mask = (a.dtype.type(1) << half_bits) - a.dtype.type(1)
    a_high, a_low, b_high, b_low = a >> half_bits, a & mask, b >> half_bits, b & mask
    middle = a_high * b_low + (a_low * b_low >> half_bits)
    carry = (middle & mask) + a_low * b_high
    result = a_high * b_high + (middle >> half_bits) + (carry >> half_bits)
    return np.asarray(result).view(f"i{result.dtype.itemsize}")


def _multiply_high_signed(a: Array, b: Array) -> Array:
    zero = a.dtype.type(0)
    return _multiply_high_unsigned(a, b) - np.where(a < 0, b, zero) - np.where(b < 0, a, zero)


# Floats


def _is_less(a: Array, b: Array) -> Array:
    return (a < b) | ((a == b) & np.signbit(a))


def _minimum_propagating(a: Array, b: Array) -> Array:
    return np.where(np.isnan(a) | np.isnan(b), a + b, np.where(_is_less(a, b), a, b))


def _maximum_propagating(a: Array, b: Array) -> Array:
    return np.where(np.isnan(a) | np.isnan(b), a + b, np.where(_is_less(a, b), b, a))


def _ignoring_nan(operation: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def evaluate_ignoring(a: Array, b: Array) -> Array:
        return np.where(np.isnan(a), b, np.where(np.isnan(b), a, operation(a, b)))

    return evaluate_ignoring


def _integer_view(x: Array) -> tuple[Array, Any]:
    """Return the bits of floats as integers, and the mask of their sign."""
    bits = x.view(f"i{x.dtype.itemsize}")
    return bits, np.iinfo(bits.dtype).min


def _negate(x: Array) -> Array:
    bits, sign = _integer_view(x)
    return np.asarray(bits ^ sign).view(x.dtype)


def _absolute(x: Array) -> Array:
    bits, sign = _integer_view(x)
    return np.asarray(bits & ~sign).view(x.dtype)


def _copy_sign(a: Array, b: Array) -> Array:
    (a_bits, sign), (b_bits, _) = _integer_view(a), _integer_view(b)
    return np.asarray((a_bits & ~sign) | (b_bits & sign)).view(a.dtype)


def rounded(values: Array, dtype: DType) -> Array:
    """Return float32 or float64 values rounded once, to nearest even, to a float type or to ``tf32``."""
    if dtype is TF32:
        return _drop_bits(values, F32.mantissa_bits - TF32.mantissa_bits)
    if values.dtype == np.float64 and dtype not in (F32, F64):
        values = narrow_to_odd(values)
    if dtype.is_float8:
        values = np.clip(values, -dtype.greatest, dtype.greatest)
    return np.asarray(values.astype(dtype.numpy, copy=False))


def _drop_bits(values: Array, count: int) -> Array:
    """Return float32 values rounded to nearest even, their last ``count`` bits being 0."""
    bits = values.view(np.uint32)
    odd = bits >> np.uint32(count) & np.uint32(1)
    nearest = bits + odd + np.uint32((1 << count - 1) - 1) & ~np.uint32((1 << count) - 1)
    return np.where(np.isnan(values), values, nearest.view(np.float32))


def _ordered(a: Array, b: Array) -> Array:
    return ~(np.isnan(a) | np.isnan(b))


def _inverted(comparison: Callable[..., Array]) -> Callable[..., Array]:
    def evaluate_inverted(a: Array, b: Array) -> Array:
        return ~comparison(a, b)

    return evaluate_inverted


def _less_or_greater(a: Array, b: Array) -> Array:
    return (a < b) | (a > b)


# Casts


def _signed_value(x: Array) -> Array:
    return -x.astype(np.int8) if x.dtype == np.bool_ else x


def _unsigned_value(x: Array) -> Array:
    return _unsigned(x)


def _truncate_integer(x: Array, dtype: DType, to: DType) -> Array:
    return (x & 1) != 0 if to is I1 else x.astype(to.numpy)


def _integer_to_float(values: Array, to: DType) -> Array:
    return rounded(np.asarray(values.astype(np.float64 if to is F64 else np.float32)), to)


def _float_to_integer(x: Array, to: DType, low: int, high: int) -> Array:
    """Return the integer part within ``low`` and ``high``, in a NumPy type that holds both."""
    whole = np.trunc(x.astype(np.float64))
    integer = np.int64 if low < 0 else np.uint64
    # high + 1 is a power of two, hence exact; high itself may not be.
    inside = (whole >= low) & (whole < float(high + 1))
    limited = np.where(whole < low, integer(low), np.where(whole > low, integer(high), integer(0)))
    result = np.where(inside, np.where(inside, whole, 0).astype(integer), limited)
    return result.astype(f"{'i' if low < 0 else 'u'}{to.bytes}").view(to.numpy)


def _float_to_signed(x: Array, dtype: DType, to: DType) -> Array:
    return _float_to_integer(x, to, -(1 << (to.bits - 1)), (1 << (to.bits - 1)) - 1)


def _float_to_unsigned(x: Array, dtype: DType, to: DType) -> Array:
    return _float_to_integer(x, to, 0, (1 << to.bits) - 1)


def _float_to_float(x: Array, dtype: DType, to: DType) -> Array:
    return rounded(x if dtype in (F32, F64) else np.asarray(x.astype(np.float32)), to)


def _float_to_float_toward_zero(x: Array, dtype: DType, to: DType) -> Array:
    nearest = _float_to_float(x, dtype, to)
    exact, reached = np.abs(x.astype(np.float64)), np.abs(nearest.astype(np.float64))
    too_far = np.isfinite(exact) & (reached > exact)
    bits = nearest.view(f"u{to.bytes}")
    nearer = np.asarray(bits - too_far.astype(bits.dtype)).view(to.numpy)
    # Below the least negative number lies the code of -0, which is NaN in some formats.
    return np.where(np.isnan(nearer) & too_far, to.numpy.type(0), nearer)


_CASTS: dict[str, Callable[[Array, DType, DType], Array]] = {
    "sext": lambda x, dtype, to: _signed_value(x).astype(to.numpy),
    "zext": lambda x, dtype, to: _unsigned_value(x).astype(to.numpy),
    "trunc_int": _truncate_integer,
    "sitofp": lambda x, dtype, to: _integer_to_float(_signed_value(x), to),
    "uitofp": lambda x, dtype, to: _integer_to_float(_unsigned_value(x), to),
    "fptosi": _float_to_signed,
    "fptoui": _float_to_unsigned,
    "fpcast": _float_to_float,
    "fpcast_rtz": _float_to_float_toward_zero,
    "bitcast": lambda x, dtype, to: x.view(to.numpy),
}

# Operations that take a float's bits as they are, without widening.
_ON_BITS = {"fneg", "fabs", "copysign", "select"}

_IMPLEMENTATIONS: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "mulhs": _multiply_high_signed,
    "mulhu": _multiply_high_unsigned,
    "sdiv": _divide_signed,
    "udiv": _on_unsigned(_divide_unsigned),
    "srem": _remainder,
    "urem": _on_unsigned(_remainder),
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    # NumPy shifts unsigned integers by any count as if they had room for it.
    "shl": _on_unsigned(np.left_shift),
    "lshr": _on_unsigned(np.right_shift),
    "ashr": _shift_right_arithmetic,
    "smin": np.minimum,
    "smax": np.maximum,
    "umin": _on_unsigned(np.minimum),
    "umax": _on_unsigned(np.maximum),
    "iabs": np.abs,
    "fadd": np.add,
    "fsub": np.subtract,
    "fmul": np.multiply,
    "fma": fused_multiply_add,
    "fdiv": np.divide,
    "frem": np.fmod,
    "fmin": _ignoring_nan(_minimum_propagating),
    "fmax": _ignoring_nan(_maximum_propagating),
    "fminimum": _minimum_propagating,
    "fmaximum": _maximum_propagating,
    "fneg": _negate,
    "fabs": _absolute,
    "copysign": _copy_sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round_even": np.rint,
    "sqrt": np.sqrt,
    "eq": np.equal,
    "ne": np.not_equal,
    "slt": np.less,
    "sle": np.less_equal,
    "sgt": np.greater,
    "sge": np.greater_equal,
    "ult": _on_unsigned(np.less),
    "ule": _on_unsigned(np.less_equal),
    "ugt": _on_unsigned(np.greater),
    "uge": _on_unsigned(np.greater_equal),
    "foeq": np.equal,
    "fone": _less_or_greater,
    "folt": np.less,
    "fole": np.less_equal,
    "fogt": np.greater,
    "foge": np.greater_equal,
    "ford": _ordered,
    "fueq": _inverted(_less_or_greater),
    "fune": np.not_equal,
    "fult": _inverted(np.greater_equal),
    "fule": _inverted(np.greater),
    "fugt": _inverted(np.less_equal),
    "fuge": _inverted(np.less),
    "funo": _inverted(_ordered),
    "select": np.where,
}

assert _IMPLEMENTATIONS.keys() | _CASTS.keys() | FUNCTIONS.keys() == OPERATIONS.keys(), "each operation is implemented"
