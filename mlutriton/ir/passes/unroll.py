"""Short windows: loops of few turns over short tiles that are put together, in each other or a loop, are written out.

    for dy in range(3):
        for dx in range(3):
            best = maximum(best, load(x + (row + dy) * width + column + dx, ...))

A program with such loops waits for each of its loads. Without, it is straight, or has one loop less: what several turns
ask for is loaded together, and programs are served several at a time. A single loop can be one for all programs of a
task, and is left; so is one of many turns within another, of which several can be one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mlutriton.ir.copying import copy_operation
from mlutriton.ir.core import Function, Operation, Value
from mlutriton.ir.ops import Constant, Dot, For, If, Load, While, pointee
from mlutriton.ir.passes import simplify
from mlutriton.ir.types import shape_of

# Turns of all loops around an operation together, and of a loop without others in it.
_MOST_TURNS, _MOST_ALONE = 32, 8
# Of all tiles that a window loads: longer ones hide what is waited for, and are taken in strips where memory is short.
_MOST_BYTES = 1 << 18


def run(function: Function) -> None:
    """Write out all loops of a function, if all of them are over short windows, or else the windows in its loops."""
    changed = False
    pending = [(function.body, 2)]
    while pending:
        block, depth = pending.pop()
        loops = [each for each in block.operations if each.regions and isinstance(each, For | If | While)]
        if loops and all(isinstance(each, For) and _is_window(each, depth) for each in loops):
            replaced: dict[Value, Value] = {}
            block.operations = [made for each in block.operations for made in _written_out(each, replaced)]
            changed = True
        else:
            pending += [(each.body, 1) for each in loops if isinstance(each, For)]
    if changed:
        simplify.run(function)


def _turns(loop: For) -> int:
    """How many turns a loop has, if that is known and it goes on; else none."""
    start, end, step = (each.defining_op for each in loop.operands[:3])
    if isinstance(start, Constant) and isinstance(end, Constant) and isinstance(step, Constant) and step.value > 0:
        return len(range(int(start.value), int(end.value), int(step.value)))
    return 0


def _is_window(loop: For, depth: int) -> bool:
    """True if a loop puts short tiles together, and does nothing else.

    Args:
        loop: which may have others within it.
        depth: how many loops have to be within each other, this one too.
    """
    size = 0
    deepest = 0
    pending: list[tuple[Operation, int, int]] = [(loop, 1, 0)]
    while pending:
        operation, times, around = pending.pop()
        match operation:
            case For():
                times *= _turns(operation)
                if not times or times > _MOST_TURNS:
                    return False
                deepest = max(deepest, around + 1)
                pending += [(each, times, around + 1) for each in operation.body.operations]
            case Load() if not operation.is_volatile:
                size += times * math.prod(shape_of(operation.result.type)) * pointee(operation.operands[0]).bytes
            case _ if operation.TERMINATOR or (operation.PURE and not isinstance(operation, Dot)):
                pass
            case _:
                return False
    is_short = deepest > 1 or _turns(loop) <= _MOST_ALONE
    return deepest >= depth and is_short and 0 < size <= _MOST_BYTES


def _written_out(operation: Operation, values: dict[Value, Value]) -> Iterator[Operation]:
    """An operation on what values are now, of a loop all of its turns; ``values`` takes what its results are."""
    if not isinstance(operation, For):
        yield copy_operation(operation, values)
        return
    start, end, step = (each.defining_op for each in operation.operands[:3])
    assert isinstance(start, Constant)
    assert isinstance(end, Constant)
    assert isinstance(step, Constant)
    carried = [values.get(each, each) for each in operation.initial]
    for number in range(int(start.value), int(end.value), int(step.value)):
        index = Constant.of(number, operation.index.type, operation.location)
        yield index
        values |= zip(operation.body.arguments, [index.result, *carried], strict=True)
        for each in operation.body.operations[:-1]:
            yield from _written_out(each, values)
        carried = [values.get(each, each) for each in operation.body.terminator.operands]
    values |= zip(operation.results, carried, strict=True)
