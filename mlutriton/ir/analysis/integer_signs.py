"""The least that integers are in every run: as positions, those of zero or more need no lower bound."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from mlutriton.ir.analysis.depth_first import Search, depth_first
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
    return known[value] if value in known else depth_first(lambda each: _search(each, known), value)


def _search(value: Value, known: dict[Value, int | None]) -> Search[Value, int | None]:
    if value not in known:
        known[value] = yield from _examine(value)
    return known[value]


def _examine(value: Value) -> Search[Value, int | None]:
    operation = value.defining_op
    match operation:
        case Constant():
            return int(operation.value)
        case ProgramId() | NumPrograms():
            return 0
        case Range():
            return operation.integer("start")
        case Splat() | Reshape() | Broadcast() | ExpandDims() | Transpose():
            return (yield operation.operands[0])
        case Elementwise():
            return (yield from _examine_arithmetic(operation))
        case _:
            return None


def _examine_arithmetic(operation: Elementwise) -> Search[Value, int | None]:
    operands = operation.operands
    match operation.name:
        case "add" | "mul" | "shl" if not is_index(operation.result.type):
            return None
        case "add" | "smin" | "select" | "mul":
            parts = operands[1:] if operation.name == "select" else operands
            found = yield from _known(parts)
            if len(found) < len(parts):
                return None
            if operation.name == "mul":
                return 0 if min(found) >= 0 else None
            return sum(found) if operation.name == "add" else min(found)
        case "smax":
            return max((yield from _known(operands)), default=None)
        case "and":
            return 0 if max((yield from _known(operands)), default=-1) >= 0 else None
        case "sext":
            return (yield operands[0])
        case "zext":
            return 0
        case "sdiv" if isinstance(divisor := operands[1].defining_op, Constant) and divisor.value < 0:
            return None
        case "sdiv" | "srem" | "udiv" | "urem" | "ashr" | "lshr" | "shl":
            least = yield operands[0]
            return 0 if least is not None and least >= 0 else None
        case _:
            return None


def _known(values: Sequence[Value]) -> Generator[Value, int | None, list[int]]:
    """The least that these are, of those of which it is known."""
    found: list[int] = []
    for each in values:
        least = yield each
        if least is not None:
            found.append(least)
    return found
