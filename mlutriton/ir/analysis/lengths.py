"""How long programs take in comparison: what the numbers of turns of their loops depend on."""

from __future__ import annotations

from enum import IntEnum

from mlutriton.ir.core import Function, Value
from mlutriton.ir.ops import (
    AtomicCas,
    AtomicRmw,
    Constant,
    Elementwise,
    For,
    GatherAtomic,
    NumPrograms,
    ProgramId,
    While,
)

# Operations that let an integer go evenly with what they take.
_LINEAR = ("add", "mul", "sext", "shl", "sub", "trunc_int", "zext")


class Lengths(IntEnum):
    """What is known of the lengths of a function's programs."""

    ALIKE = 0
    """All programs take the same number of turns, or the more of one loop the fewer of another one."""
    GROWING = 1
    """The higher the number of a program, or some digit of it, the more of them it takes."""
    SHRINKING = 2
    """The fewer."""
    SIMILAR = 3
    """What loops go over moves with the number, and they may take fewer at the ends."""
    UNKNOWN = 4
    """None of these; or programs have atomics, and may not go in another order."""


def lengths_of(function: Function) -> Lengths:
    """What is known of lengths, of loops in loops and of branches included, if factors are taken to be positive."""
    found: set[Lengths] = set()
    for each in function.walk():
        if isinstance(each, While | AtomicRmw | AtomicCas | GatherAtomic):
            return Lengths.UNKNOWN
        if isinstance(each, For):
            start, end, step = (_trends(bound, function) for bound in each.operands[:3])
            if start is None or end is None or step is None or step:
                return Lengths.UNKNOWN
            if start == end:
                is_even = not start or all(map(_is_linear, each.operands[:2]))
                found |= set() if is_even else {Lengths.SIMILAR}
                continue
            directions = {-trend for trend in start} | end
            if len(directions) > 1 or (start and end):
                return Lengths.UNKNOWN
            found.add(Lengths.GROWING if directions == {1} else Lengths.SHRINKING)
    trends = found - {Lengths.SIMILAR}
    if len(trends) == 1:
        return trends.pop()
    return Lengths.ALIKE if trends or not found else Lengths.SIMILAR


def _is_linear(value: Value) -> bool:
    """True if an integer goes evenly with the number of a program, or does not go with it."""
    pending = [value]
    while pending:
        made = pending.pop().defining_op
        if isinstance(made, Elementwise):
            if made.name not in _LINEAR:
                return False
            pending += made.operands
    return True


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
