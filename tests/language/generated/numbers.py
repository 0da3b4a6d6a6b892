"""What operations of the language do to numbers, said with NumPy alone: element types, promotion and conversion.

All of it is exact: integers wrap, and a float is rounded once an operation, so that no result depends on an order.
"""

from collections.abc import Callable

import ml_dtypes
import numpy as np

SIGNED = [np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)]
UNSIGNED = [np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)]
INTEGERS = [*SIGNED, *UNSIGNED]
FLOAT16, FLOAT32, FLOAT64 = (np.dtype(f"float{bits}") for bits in (16, 32, 64))
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [FLOAT16, BFLOAT16, FLOAT32, FLOAT64]
NUMBERS = [*INTEGERS, *FLOATS]
BOOL, INT8, INT32, INT64 = (np.dtype(each) for each in (np.bool_, np.int8, np.int32, np.int64))

Function = Callable[..., np.ndarray]


def is_float(dtype: np.dtype) -> bool:
    return dtype in FLOATS


def triton(dtype: np.dtype) -> str:
    """The name of an element type in a kernel."""
    return "tl.int1" if dtype == BOOL else f"tl.{dtype.name}"


def promoted(a: np.dtype, b: np.dtype, divides: bool = False) -> np.dtype:
    """The element type in which an operator computes with two others: C's rules, and float32 for quotients."""
    if not is_float(a) and not is_float(b):
        return max(a, b, key=lambda each: (each.itemsize, each in UNSIGNED))
    if FLOAT64 in (a, b):
        return FLOAT64
    if divides or FLOAT32 in (a, b):
        return FLOAT32
    if FLOAT16 in (a, b):
        return FLOAT16
    return BFLOAT16 if a == b else FLOAT32


def converted(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """What ``.to`` makes of numbers that the element type can hold: rounded to nearest, or without their fraction."""
    x = np.asarray(x)
    if dtype in (FLOAT16, BFLOAT16) and x.dtype in INTEGERS:
        x = x.astype(FLOAT32)
    if dtype == BFLOAT16 and x.dtype == FLOAT64:
        x = rounded_to_odd(x)
    if dtype in INTEGERS and x.dtype == BFLOAT16:
        x = x.astype(FLOAT32)
    return x.astype(dtype)


def rounded_to_odd(x: np.ndarray) -> np.ndarray:
    """A float32 that rounds to what the float64 itself rounds to, in any format with two bits less."""
    near = x.astype(FLOAT32)
    below = np.where(np.abs(near.astype(FLOAT64)) > np.abs(x), np.nextafter(near, FLOAT32.type(0)), near)
    odd = (below.view(np.uint32) | (below.astype(FLOAT64) != x).astype(np.uint32)).view(FLOAT32)
    return np.where(np.isfinite(x) & np.isfinite(below), odd, near).astype(FLOAT32)


def quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of integers of one type, rounded towards zero."""
    floor = a // b
    return (floor + ((floor < 0) & (floor * b != a))).astype(a.dtype)


# Operators of two operands of any types, which meet in the type that they are promoted to.
INTEGER_OPERATORS: dict[str, Function] = {
    "({} + {})": np.add,
    "({} - {})": np.subtract,
    "({} * {})": np.multiply,
    "({} & {})": np.bitwise_and,
    "({} | {})": np.bitwise_or,
    "({} ^ {})": np.bitwise_xor,
}
FLOAT_OPERATORS: dict[str, Function] = {
    "({} + {})": np.add,
    "({} - {})": np.subtract,
    "({} * {})": np.multiply,
    "({} / {})": np.divide,
}
COMPARISONS: dict[str, Function] = {
    "({} < {})": np.less,
    "({} <= {})": np.less_equal,
    "({} > {})": np.greater,
    "({} == {})": np.equal,
    "({} != {})": np.not_equal,
}
LOGIC: dict[str, Function] = {
    "({} & {})": np.logical_and,
    "({} | {})": np.logical_or,
    "({} ^ {})": np.logical_xor,
}
# Operations on operands of the type of the result.
INTEGER_OPERATIONS: dict[str, Function] = {
    "({} << ({} & 7))": lambda a, b: a << (b & 7),
    "({} >> ({} & 7))": lambda a, b: a >> (b & 7),
    "({} // (({} & 7) + 1))": lambda a, b: quotient(a, (b & 7) + 1),
    "({} % (({} & 7) + 1))": lambda a, b: a - quotient(a, (b & 7) + 1) * ((b & 7) + 1),
    "tl.maximum({}, {})": np.maximum,
    "tl.minimum({}, {})": np.minimum,
}
INTEGER_FUNCTIONS: dict[str, Function] = {
    "(-{})": np.negative,
    "(~{})": np.invert,
    "({} * 3 + 1)": lambda a: a * a.dtype.type(3) + a.dtype.type(1),
    "tl.abs({})": np.abs,
}
# Which zero is the greater one is open, so that zeros of both get the same sign.
FLOAT_EXTREMES: dict[str, Function] = {
    "(tl.maximum({}, {}) + 0.0)": lambda a, b: np.fmax(a, b) + a.dtype.type(0),
    "(tl.minimum({}, {}) + 0.0)": lambda a, b: np.fmin(a, b) + a.dtype.type(0),
}
FLOAT_FUNCTIONS: dict[str, Function] = {
    "(-{})": np.negative,
    "({} * 3 - 0.5)": lambda a: a * a.dtype.type(3) - a.dtype.type(0.5),
    "tl.abs({})": np.abs,
}
# Of float32 alone.
FLOAT32_FUNCTIONS: dict[str, Function] = {
    "tl.floor({})": np.floor,
    "tl.ceil({})": np.ceil,
    "tl.sqrt_rn({})": np.sqrt,
}

REDUCTIONS: dict[str, Function] = {
    "sum": np.sum,
    "max": np.max,
    "min": np.min,
    "xor_sum": np.bitwise_xor.reduce,
}
SCANS: dict[str, Function] = {
    "cumsum": np.cumsum,
    "cumprod": np.cumprod,
}
