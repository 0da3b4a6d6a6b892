"""Scalars of memory that only the vector unit needs.

A scalar that is loaded into a register holds up the one who loads it, and with that all iterations of a loop, or all
programs that the core serves. One that is only computed with, a row's mean say, may as well come into a tile of one
element: its transfer is pipelined like any other, goes together with those of neighbours, and its arithmetic is done
for many at a time. Addresses, limits and conditions need registers; but a row of consecutive elements that begins at a
loaded place can be gathered or scattered as one item.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.ir import ops
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.types import TensorType


@dataclass(frozen=True)
class VectorScalars:
    """What need not stand in registers.

    Attributes:
        loads: results of scalar loads, in straight programs and loop bodies, that may stand in tiles of one element.
        places: pointers whose offset is made of such; nothing but accesses of a row or an element there needs them.
    """

    loads: set[Value]
    places: set[Value]


def vector_scalars(function: Function) -> VectorScalars:
    """The scalars of a function that only the vector unit needs."""
    found = VectorScalars(set(), set())
    for body in (function.body, *(each.body for each in function.walk() if isinstance(each, ops.For))):
        if _is_straight(body):
            _collect(body, found)
    return found


def _is_straight(block: Block) -> bool:
    branching = (ops.For, ops.While, ops.If, ops.AtomicRmw, ops.AtomicCas)
    return not any(isinstance(each, branching) for each in block.operations)


def _collect(block: Block, found: VectorScalars) -> None:
    in_registers: set[Value] = set()
    from_memory: set[Value] = set()
    for operation in block.operations:
        loads = isinstance(operation, ops.Load)
        if loads or (isinstance(operation, ops.Elementwise) and not from_memory.isdisjoint(operation.operands)):
            from_memory.update(operation.results)
    for operation in reversed(block.operations):
        match operation:
            case ops.Load() if operation.result not in in_registers:
                found.loads.add(operation.result)
            case ops.AddPtr() if operation.result not in in_registers and operation.operands[1] in from_memory:
                found.places.add(operation.result)
            case _:
                pass
        in_registers.update(_needed_in_registers(operation, in_registers, found.places))


def _needed_in_registers(operation: Operation, in_registers: set[Value], places: set[Value]) -> list[Value]:
    """Scalar operands that an operation needs in registers, or whatever it hands them on to."""
    match operation:
        case ops.Splat():
            return []
        case ops.Store():
            pointer, _, mask = operation.operands
            return [mask, *_unless_sum(pointer)]
        case ops.Load() if operation.result not in in_registers:
            pointer, *others = operation.operands
            return [*others, *_unless_sum(pointer)]
        case ops.Elementwise() if operation.result not in in_registers:
            return []
        case ops.AddPtr() if operation.result in places:
            return [operation.operands[0]]
        case ops.TileLoad() | ops.TileStore() if _is_row(operation.geometry):
            others = [value for value in operation.operands if value is not operation.base]
            return [*others, *_unless_sum(operation.base)]
        case _:
            nested = [operand for each in operation.walk() for operand in each.operands]
            return [value for value in nested if not isinstance(value.type, TensorType)]


def _unless_sum(pointer: Value) -> list[Value]:
    """A pointer, but for one to which an offset was added last: what needs that is found there."""
    return [] if isinstance(pointer.defining_op, ops.AddPtr) else [pointer]


def _is_row(geometry: ops.TileGeometry) -> bool:
    """True for consecutive elements of which those from some place on may be left out."""
    return (
        len(geometry.shape) == 1
        and geometry.wraps == (None,)
        and _constant(geometry.strides[0]) == 1
        and _constant(geometry.firsts[0]) == 0
    )


def _constant(value: Value) -> object:
    return value.defining_op.value if isinstance(value.defining_op, ops.Constant) else None
