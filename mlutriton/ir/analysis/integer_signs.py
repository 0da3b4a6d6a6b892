"""The least that integers are in every run: as positions, those of zero or more need no lower bound."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.ir.core import Value
from mlutriton.ir.ops import (
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    NumPrograms,
    ProgramId,
    Range,
    Reshape,
    Splat,
    Transpose,
)
from mlutriton.ir.types import is_index


def is_never_negative(value: Value, known: dict[Value, int | None]) -> bool:
    """Whether a signed integer is zero or more in every run; see :func:`least_of`."""
    least = least_of(value, known)
    return least is not None and least >= 0


def least_of(value: Value, known: dict[Value, int | None]) -> int | None:
    """A number that a signed integer is no less than in every run; None if that is not known.

    Index arithmetic is taken not to overflow, as Triton's own address analysis does, and to divide by nothing negative.

    Args:
        value: a scalar or tensor.
        known: what was found before, and what is known of block arguments; answers are added.
    """
    if value not in known:
        known[value] = _examine(value, known)
    return known[value]


def _examine(value: Value, known: dict[Value, int | None]) -> int | None:
    operation = value.defining_op
    match operation:
        case Constant():
            return int(operation.value)
        case ProgramId() | NumPrograms():
            return 0
        case Range():
            return operation.integer("start")
        case Splat() | Reshape() | Broadcast() | ExpandDims() | Transpose():
            return least_of(operation.operands[0], known)
        case Elementwise():
            return _examine_arithmetic(operation, known)
        case _:
            return None


def _examine_arithmetic(operation: Elementwise, known: dict[Value, int | None]) -> int | None:
    operands = operation.operands
    match operation.name:
        case "add" | "mul" | "shl" if not is_index(operation.result.type):
            return None
        case "add" | "smin" | "select":
            summands = operands[1:] if operation.name == "select" else operands
            found = _known(summands, known)
            if len(found) < len(summands):
                return None
            return sum(found) if operation.name == "add" else min(found)
        case "smax":
            return max(_known(operands, known), default=None)
        case "sext":
            return least_of(operands[0], known)
        case "zext":
            return 0
        case "and":
            return 0 if any(is_never_negative(each, known) for each in operands) else None
        case "mul":
            return 0 if all(is_never_negative(each, known) for each in operands) else None
        case "sdiv" if not (isinstance(divisor := operands[1].defining_op, Constant) and divisor.value < 0):
            return 0 if is_never_negative(operands[0], known) else None
        case "srem" | "udiv" | "urem" | "ashr" | "lshr" | "shl":
            return 0 if is_never_negative(operands[0], known) else None
        case _:
            return None


def _known(values: Sequence[Value], known: dict[Value, int | None]) -> list[int]:
    """The least that these are, of those of which it is known."""
    return [least for each in values if (least := least_of(each, known)) is not None]
