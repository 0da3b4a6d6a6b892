"""Which integers are zero or more in every run: as positions they need no lower bound."""

from __future__ import annotations

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


def is_never_negative(value: Value, known: dict[Value, bool]) -> bool:
    """Whether a signed integer is zero or more in every run.

    Index arithmetic is taken not to overflow, as Triton's own address analysis does, and to divide by nothing negative.

    Args:
        value: a scalar or tensor.
        known: what was found before, and what is known of block arguments; answers are added.
    """
    answer = known.get(value)
    if answer is None:
        answer = known[value] = _examine(value, known)
    return answer


def _examine(value: Value, known: dict[Value, bool]) -> bool:
    operation = value.defining_op
    match operation:
        case Constant():
            return operation.value >= 0
        case ProgramId() | NumPrograms():
            return True
        case Range():
            return operation.integer("start") >= 0
        case Splat() | Reshape() | Broadcast() | ExpandDims() | Transpose():
            return is_never_negative(operation.operands[0], known)
        case Elementwise():
            return _examine_arithmetic(operation, known)
        case _:
            return False


def _examine_arithmetic(operation: Elementwise, known: dict[Value, bool]) -> bool:
    operands = operation.operands
    match operation.name:
        case "add" | "mul" | "shl" if not is_index(operation.result.type):
            return False
        case "sdiv" if not (isinstance(divisor := operands[1].defining_op, Constant) and divisor.value < 0):
            return is_never_negative(operands[0], known)
        case "add" | "mul" | "smin":
            return all(is_never_negative(operand, known) for operand in operands)
        case "smax" | "and":
            return any(is_never_negative(operand, known) for operand in operands)
        case "srem" | "udiv" | "urem" | "sext" | "ashr" | "lshr" | "shl":
            return is_never_negative(operands[0], known)
        case "select":
            return all(is_never_negative(operand, known) for operand in operands[1:])
        case "zext":
            return True
        case _:
            return False
