"""Loops that may wait for another program: they look again and again at the same place of memory."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.dtypes import DType
from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.ops import AtomicCas, AtomicRmw, Constant, GatherAtomic, GatherLoad, Load, TileLoad, While
from mlutriton.ir.types import TensorType

_COUNTING = {"add", "fadd", "xor"}
_LOOKS = (Load, TileLoad, GatherLoad, AtomicRmw, AtomicCas, GatherAtomic)


def state_of_wait(loop: While) -> Sequence[int] | None:
    """What a loop that may wait carries from one attempt to the next: places of its carried integers and pointers.

    An attempt that leaves them as they were can only be followed by another like it, unless another program writes what
    it looks at. Carried values that nothing but the code behind the loop reads do not count.

    Returns:
        None if the loop looks at no place that is the same each time, or hands on floats or tensors that it reads.
    """
    if not _looks_at_one_place(loop):
        return None
    state = _live(loop)
    is_plain = all(_is_plain(loop.regions[0].arguments[place]) for place in state)
    return state if is_plain else None


def counts_of_wait(loop: While) -> Sequence[Value] | None:
    """Where a loop that may wait changes memory at each attempt: results of its atomics that add or flip.

    An attempt is in vain only if each finds what it found before: another of the loop may have taken it back.

    Returns:
        None if some are tensors, or done under a condition: no attempt is certain to be in vain.
    """
    counts = [
        (each, block)
        for block in loop.regions
        for outer in block.operations
        for each in outer.walk()
        if isinstance(each, AtomicRmw | GatherAtomic) and each.text("kind") in _COUNTING and not _adds_nothing(each)
    ]
    results = [each.results[0] for each, _ in counts]
    at_top = all(each in block.operations for each, block in counts)
    return results if at_top and all(not isinstance(value.type, TensorType) for value in results) else None


def _adds_nothing(atomic: Operation) -> bool:
    value = atomic.operands[-1 if isinstance(atomic, GatherAtomic) else 1].defining_op
    return isinstance(value, Constant) and value.attributes["value"] == 0


def _is_plain(value: Value) -> bool:
    return not isinstance(value.type, TensorType) and not (isinstance(value.type, DType) and value.type.is_float)


def _looks_at_one_place(loop: While) -> bool:
    varying: set[Value] = set()
    for region in loop.regions:
        _spread(region, varying)
    looks = (inner for region in loop.regions for each in region.operations for inner in each.walk())
    return any(
        isinstance(look, _LOOKS) and varying.isdisjoint(look.operands[:2] if _has_offsets(look) else look.operands[:1])
        for look in looks
    )


def _has_offsets(look: object) -> bool:
    return isinstance(look, GatherLoad | GatherAtomic)


def _spread(block: Block, varying: set[Value]) -> None:
    """Add the arguments of a block, and of those inside, and what is made of them or read from memory."""
    varying.update(block.arguments)
    for operation in block.operations:
        for region in operation.regions:
            _spread(region, varying)
        if operation.regions or not operation.PURE or not varying.isdisjoint(operation.operands):
            varying.update(operation.results)


def _live(loop: While) -> list[int]:
    """Places of the carried values that the loop itself reads."""
    head, body = loop.regions
    condition, *passed = head.terminator.operands
    yielded = body.terminator.operands
    ends = {head.terminator, body.terminator}
    inside = [inner for region in loop.regions for each in region.operations for inner in each.walk()]
    live = {condition, *(operand for each in inside if each not in ends for operand in each.operands)}
    while True:
        more = {value for value, argument in zip(passed, body.arguments, strict=True) if argument in live}
        more |= {value for value, argument in zip(yielded, head.arguments, strict=True) if argument in live}
        if more <= live:
            return [place for place, argument in enumerate(head.arguments) if argument in live]
        live |= more
