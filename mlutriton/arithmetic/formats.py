"""What functions are written over: primitive operations, and a float format with the integers of its width."""

# ruff: noqa: D102 - a method of Format without a description is the operation of its name.

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from mlutriton.arithmetic.coefficients import COEFFICIENTS
from mlutriton.dtypes import F32, F64, I1, I32, I64, DType

V = TypeVar("V")


class Primitives(Protocol[V]):
    """What an evaluator of the functions must offer, over its own type ``V`` of values (arrays, LLVM vectors)."""

    def constant(self, value: float, dtype: DType) -> V:
        """Return ``value``, which ``dtype`` represents up to rounding to nearest, in every lane."""
        ...

    def apply(self, name: str, *operands: V, dtype: DType, to: DType | None = None) -> V:
        """Return the operation ``name`` on operands of type ``dtype``; never one of ``FUNCTIONS``."""
        ...

    def scaled(self, a: V, exponent: Callable[[], V], dtype: DType) -> V | None:
        """Return ``a * 2**exponent()``, rounded once, if the evaluator has an operation for it; else None."""
        ...

    def when_any(self, mask: V, rare: Callable[[], tuple[V, ...]], usual: tuple[V, ...]) -> tuple[V, ...]:
        """Return the lanes of ``rare()`` where ``mask`` is true, of ``usual`` elsewhere.

        ``rare`` is costly and seldom needed: an evaluator should skip it when no lane of the mask is true.
        """
        ...


class Format(Generic[V]):
    """The primitives on one float format and on the integer of the same width; Python numbers stand for constants."""

    def __init__(self, primitives: Primitives[V], dtype: DType) -> None:
        self.primitives = primitives
        self.dtype = dtype
        self.integer = {F32: I32, F64: I64}[dtype]
        self.coefficients = COEFFICIENTS[dtype]
        self.sign_mask = -(1 << (dtype.bits - 1))
        self.exponent_bias = (1 << (dtype.bits - dtype.mantissa_bits - 2)) - 1
        # Added to a small number, it leaves the nearest integer in the lowest bits of the sum.
        self.integer_shift = 1.5 * 2.0**dtype.mantissa_bits
        self.integer_shift_bits = (self.exponent_bias + dtype.mantissa_bits) << dtype.mantissa_bits
        self.integer_shift_bits |= 1 << (dtype.mantissa_bits - 1)

    def __call__(self, name: str, *operands: V | float) -> V:
        """Return any operation on floats."""
        return self._float_operation(name, *operands)

    def on_integers(self, name: str, *operands: V | int) -> V:
        """Return any operation on integers of the format's width."""
        return self._integer_operation(name, *operands)

    def on_masks(self, name: str, a: V, b: V | bool) -> V:
        """Return any operation on truth values."""
        return self.primitives.apply(name, a, self._value(b, I1), dtype=I1)

    def both(self, a: V, b: V) -> V:
        return self.on_masks("and", a, b)

    def either(self, a: V, b: V) -> V:
        return self.on_masks("or", a, b)

    def invert(self, mask: V) -> V:
        return self.on_masks("xor", mask, True)

    def constant(self, value: float) -> V:
        return self._value(value, self.dtype)

    def cast(self, name: str, a: V, to: DType) -> V:
        """Return a cast from the format."""
        return self.primitives.apply(name, a, dtype=self.dtype, to=to)

    def _float_operation(self, name: str, *operands: V | float) -> V:
        return self.primitives.apply(name, *(self._value(x, self.dtype) for x in operands), dtype=self.dtype)

    def _integer_operation(self, name: str, *operands: V | int) -> V:
        return self.primitives.apply(name, *(self._value(x, self.integer) for x in operands), dtype=self.integer)

    def _value(self, operand: V | float, dtype: DType) -> V:
        return self.primitives.constant(operand, dtype) if isinstance(operand, (int, float)) else operand

    def add(self, a: V | float, b: V | float) -> V:
        return self._float_operation("fadd", a, b)

    def sub(self, a: V | float, b: V | float) -> V:
        return self._float_operation("fsub", a, b)

    def mul(self, a: V | float, b: V | float) -> V:
        return self._float_operation("fmul", a, b)

    def div(self, a: V | float, b: V | float) -> V:
        return self._float_operation("fdiv", a, b)

    def fma(self, a: V | float, b: V | float, c: V | float) -> V:
        return self._float_operation("fma", a, b, c)

    def sqrt(self, a: V) -> V:
        return self._float_operation("sqrt", a)

    def absolute(self, a: V) -> V:
        return self._float_operation("fabs", a)

    def round(self, a: V) -> V:
        return self._float_operation("round_even", a)

    def copysign(self, a: V, b: V) -> V:
        return self._float_operation("copysign", a, b)

    def negate(self, a: V) -> V:
        return self._float_operation("fneg", a)

    def is_finite(self, a: V) -> V:
        return self.compare("folt", self.absolute(a), float("inf"))

    def is_infinite(self, a: V) -> V:
        return self.compare("foeq", self.absolute(a), float("inf"))

    def compare(self, name: str, a: V, b: V | float) -> V:
        return self._float_operation(name, a, b)

    def select(self, mask: V, a: V | float, b: V | float) -> V:
        return self.primitives.apply(
            "select", mask, self._value(a, self.dtype), self._value(b, self.dtype), dtype=self.dtype
        )

    def select_integer(self, mask: V, a: V | int, b: V | int) -> V:
        return self.primitives.apply(
            "select", mask, self._value(a, self.integer), self._value(b, self.integer), dtype=self.integer
        )

    def polynomial(self, x: V, coefficients: tuple[float, ...]) -> V:
        """Return the polynomial by Horner's rule, one fused multiply-add a power."""
        *lower, highest = coefficients
        total: V | float = highest
        for coefficient in reversed(lower):
            total = self.fma(x, total, coefficient)
        return self._value(total, self.dtype)

    def bits(self, a: V) -> V:
        return self.primitives.apply("bitcast", a, dtype=self.dtype, to=self.integer)

    def from_bits(self, a: V) -> V:
        return self.primitives.apply("bitcast", a, dtype=self.integer, to=self.dtype)

    def from_integer(self, a: V) -> V:
        return self.primitives.apply("sitofp", a, dtype=self.integer, to=self.dtype)

    def integer_add(self, a: V, b: V | int) -> V:
        return self._integer_operation("add", a, b)

    def integer_sub(self, a: V, b: V | int) -> V:
        return self._integer_operation("sub", a, b)

    def integer_and(self, a: V, b: V | int) -> V:
        return self._integer_operation("and", a, b)

    def exclusive_or(self, a: V, b: V) -> V:
        return self._integer_operation("xor", a, b)

    def shift_left(self, a: V, count: int) -> V:
        return self._integer_operation("shl", a, count)

    def shift_right(self, a: V, count: int) -> V:
        return self._integer_operation("ashr", a, count)

    def is_odd(self, a: V) -> V:
        return self._integer_operation("ne", self.integer_and(a, 1), 0)
