"""How great integers can be at most, by what they are made from."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.dtypes import DType
from mlutriton.ir.core import Value
from mlutriton.ir.ops import Broadcast, Constant, Elementwise, ExpandDims, Join, Reshape, Splat, Transpose
from mlutriton.ir.types import element_type

# Arithmetic nests no deeper in any kernel that is worth it.
_DEPTH = 64


def greatest(value: Value) -> int | None:
    """What an integer scalar, or any element of a tensor, is at most and never below 0; None if that is not known."""
    return _Greatest().of(value, 0)


class _Greatest:
    def __init__(self) -> None:
        self._found: dict[Value, int | None] = {}

    def of(self, value: Value, depth: int) -> int | None:
        if value not in self._found:
            self._found[value] = self._examine(value, depth) if depth < _DEPTH else None
        return self._found[value]

    def _examine(self, value: Value, depth: int) -> int | None:
        operation = value.defining_op
        match operation:
            case Constant():
                return operation.value if isinstance(operation.value, int) and operation.value >= 0 else None
            case Splat() | Reshape() | Broadcast() | ExpandDims() | Transpose():
                return self.of(operation.operands[0], depth + 1)
            case Join():
                return _all([self.of(each, depth + 1) for each in operation.operands])
            case Elementwise():
                return _of_arithmetic(operation, [self.of(each, depth + 1) for each in operation.operands])
            case _:
                return None


def _of_arithmetic(operation: Elementwise, known: Sequence[int | None]) -> int | None:
    """The greatest result, given that of each operand."""
    operands = operation.operands
    match operation.name:
        case "and":
            return min((each for each in known if each is not None), default=None)
        case "zext":
            return (1 << _bits(operands[0])) - 1 if known[0] is None else known[0]
        case "sext":
            return known[0] if known[0] is not None and known[0] < 1 << _bits(operands[0]) - 1 else None
        case "trunc_int":
            return known[0] if known[0] is not None and known[0] < 1 << _bits(operation.result) - 1 else None
        case "lshr":
            places = _constant(operands[1])
            most = (1 << _bits(operands[0])) - 1 if known[0] is None else known[0]
            # Of a shift by 0, the sign may remain; one by 128 or more, of bytes, reads as negative.
            return most >> places if places is not None and places > 0 else known[0]
        case "urem" if (divisor := _constant(operands[1])) is not None and divisor > 0:
            return divisor - 1
        case "srem" if known[0] is not None and (divisor := _constant(operands[1])) is not None and divisor > 0:
            return min(known[0], divisor - 1)
        case "select":
            return _all(known[1:])
        case _:
            return None


def _all(known: Sequence[int | None]) -> int | None:
    """The greatest of some, all of which have to be known."""
    certain = [each for each in known if each is not None]
    return max(certain) if len(certain) == len(known) else None


def _constant(value: Value) -> int | None:
    """The number that a value is, in all elements."""
    operation = value.defining_op
    while isinstance(operation, Splat | Broadcast | Reshape | ExpandDims):
        operation = operation.operands[0].defining_op
    return operation.value if isinstance(operation, Constant) and isinstance(operation.value, int) else None


def _bits(value: Value) -> int:
    dtype = element_type(value.type)
    assert isinstance(dtype, DType)
    return dtype.bits
