"""How long programs take in comparison: what the numbers of turns of their loops depend on."""

from __future__ import annotations

from enum import IntEnum

from mlutriton.ir.core import Function, Value
from mlutriton.ir.ops import Constant, Elementwise, For, NumPrograms, ProgramId, While


class Lengths(IntEnum):
    """What is known of the lengths of a function's programs; of several loops, the greatest counts."""

    ALIKE = 0
    """All programs take the same number of turns."""
    GROWING = 1
    """The higher the number of a program, or some digit of it, the more of them it takes."""
    UNKNOWN = 2
    """None of these."""


def lengths_of(function: Function) -> Lengths:
    """What is known of lengths, of loops in loops and of branches included, if factors are taken to be positive."""
    found = Lengths.ALIKE
    for each in function.walk():
        if isinstance(each, While):
            return Lengths.UNKNOWN
        if isinstance(each, For):
            start, end, step = (_trends(bound, function) for bound in each.operands[:3])
            if start is None or end is None or step is None or step:
                return Lengths.UNKNOWN
            if start == end:
                continue  # a window that moves
            if start or end != {1}:
                return Lengths.UNKNOWN
            found = Lengths.GROWING
    return found


def _trends(value: Value, function: Function) -> set[int] | None:
    """The directions, 1 and -1, in which an integer goes with the number of a program; None if it is not known."""
    found: set[int] = set()
    seen, pending = {(value, 1)}, [(value, 1)]
    while pending:
        each, direction = pending.pop()
        made = each.defining_op
        if made is None:
            if each not in function.body.arguments:
                return None
            continue
        if not isinstance(made, Constant | Elementwise | NumPrograms | ProgramId):
            return None
        if isinstance(made, ProgramId):
            found.add(direction)
        for place, operand in enumerate(made.operands):
            one = operand, -direction if made.name == "sub" and place == 1 else direction
            if one not in seen:
                seen.add(one)
                pending.append(one)
    return found
