"""Scalars of memory that only the vector unit needs.

A scalar that is loaded into a register holds up the one who loads it, and with that all iterations of a loop, or all
programs that the core serves. One that is only computed with, a row's mean say, may as well come into a tile of one
element: its transfer is pipelined like any other, goes together with those of neighbours, and its arithmetic is done
for many at a time. Addresses, limits and conditions need registers.
"""

from __future__ import annotations

from mlutriton.ir import ops
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.types import TensorType


def loads_for_vectors(function: Function) -> set[Value]:
    """The results of scalar loads, in straight programs and loop bodies, that may stand in tiles of one element."""
    bodies = [function.body, *(each.body for each in function.walk() if isinstance(each, ops.For))]
    return {value for body in bodies if _is_straight(body) for value in _loads(body)}


def _is_straight(block: Block) -> bool:
    branching = (ops.For, ops.While, ops.If, ops.AtomicRmw, ops.AtomicCas)
    return not any(isinstance(each, branching) for each in block.operations)


def _loads(block: Block) -> set[Value]:
    in_registers: set[Value] = set()
    found: set[Value] = set()
    for operation in reversed(block.operations):
        if isinstance(operation, ops.Load) and operation.result not in in_registers:
            found.add(operation.result)
        in_registers.update(_needed_in_registers(operation, in_registers))
    return found


def _needed_in_registers(operation: Operation, in_registers: set[Value]) -> list[Value]:
    """Scalar operands that an operation needs in registers, or whatever it hands them on to."""
    match operation:
        case ops.Splat():
            return []
        case ops.Store():
            pointer, _, mask = operation.operands
            return [pointer, mask]
        case ops.Elementwise() if operation.result not in in_registers:
            return []
        case _:
            nested = [operand for each in operation.walk() for operand in each.operands]
            return [value for value in nested if not isinstance(value.type, TensorType)]
