"""64-bit arithmetic on scalars, of which some are known when a kernel is compiled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from mlutriton.diagnostics import Location
from mlutriton.dtypes import I64, DType
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import Constant, Elementwise

Scalar = int | Value


class Scalars:
    """Builds 64-bit scalar arithmetic, folding constants; the operations made are collected for insertion."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self.operations: list[Operation] = []

    def add(self, operation: Operation) -> Value:
        """Collect an operation; returns its result."""
        operation.location = self.location
        self.operations.append(operation)
        return operation.result

    def value(self, scalar: Scalar, dtype: DType = I64) -> Value:
        """The scalar as an SSA value of type ``dtype``; constants are materialized, narrower integers sign-extended."""
        if isinstance(scalar, int):
            return self.add(Constant.of(scalar, dtype))
        if isinstance(scalar.type, DType) and scalar.type != dtype:
            return self.add(Elementwise.of("sext", scalar, to=dtype))
        return scalar

    def binary(self, operation: str, a: Scalar, b: Scalar) -> Scalar:
        """An arithmetic operation in 64 bits."""
        match operation, a, b:
            case ("add", int(), int()):
                return a + b
            case ("sub", int(), int()):
                return a - b
            case ("mul", int(), int()):
                return a * b
            case ("add", 0, _) | ("mul", 1, _):
                return b
            case ("add" | "sub", _, 0) | ("mul", _, 1):
                return a
            case ("mul", _, 0) | ("mul", 0, _):
                return 0
            case _:
                return self.add(Elementwise.of(operation, self.value(a), self.value(b)))

    def sum(self, addends: Sequence[Scalar]) -> Scalar:
        """The sum of all addends."""
        total: Scalar = 0
        # Pointers that each step of an unrolled loop moves on are sums of the same number many times.
        for addend, count in Counter(addends).items():
            total = self.binary("add", total, self.binary("mul", addend, count))
        return total

    def minimum(self, scalars: Sequence[Scalar]) -> Scalar:
        """The least of at least one scalar, signed."""
        return self._extreme("smin", min, scalars)

    def maximum(self, scalars: Sequence[Scalar]) -> Scalar:
        """The greatest of at least one scalar, signed."""
        return self._extreme("smax", max, scalars)

    def _extreme(self, operation: str, of_constants: Callable[[list[int]], int], scalars: Sequence[Scalar]) -> Scalar:
        constants = [s for s in scalars if isinstance(s, int)]
        values = list(dict.fromkeys(s for s in scalars if not isinstance(s, int)))
        result: Scalar | None = of_constants(constants) if constants else None
        for value in values:
            result = value if result is None else self.binary(operation, result, value)
        assert result is not None
        return result

    def quotient(self, dividend: Scalar, divisor: int) -> Scalar:
        """The quotient by a positive constant, rounded toward zero."""
        if divisor == 1:
            return dividend
        if isinstance(dividend, int):
            return self._int_quotient(dividend, divisor)
        return self.binary("sdiv", dividend, divisor)

    def remainder(self, dividend: Scalar, divisor: int) -> Scalar:
        """The remainder of the division by a positive constant, of the dividend's sign."""
        if isinstance(dividend, int):
            return dividend - self._int_quotient(dividend, divisor) * divisor
        return self.binary("srem", dividend, divisor)

    @staticmethod
    def _int_quotient(dividend: int, divisor: int) -> int:
        return abs(dividend) // divisor * (1 if dividend > 0 else -1)

    def select(self, condition: Value, a: Scalar, b: Scalar) -> Scalar:
        """``a`` where the condition holds, else ``b``."""
        return self.add(Elementwise.of("select", condition, self.value(a), self.value(b)))


def comes_from(scalar: Scalar, *sources: type[Operation]) -> bool:
    """True if a scalar is computed, by arithmetic on scalars, from what operations of such a kind give."""
    pending, seen = [scalar], set[Scalar]()
    while pending:
        operation = None if isinstance(value := pending.pop(), int) else value.defining_op
        if value in seen or operation is None:
            continue
        seen.add(value)
        if isinstance(operation, sources):
            return True
        if isinstance(operation, Elementwise):
            pending += operation.operands
    return False
