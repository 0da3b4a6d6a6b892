"""Scalars of memory that only the vector unit needs.

A scalar that is loaded into a register holds up the one who loads it, and with that all programs that the core serves.
One that is only computed with, a row's mean say, may as well come into a tile of one element: its transfer is
pipelined like any other, goes together with those of neighbouring programs, and its arithmetic is done for many rows at
a time. Addresses, limits and conditions need registers. So do programs that loop: they are not served in blocks.
"""

from __future__ import annotations

from mlutriton.ir import ops
from mlutriton.ir.core import Function, Operation, Value
from mlutriton.ir.types import TensorType


def loads_for_vectors(function: Function) -> set[Value]:
    """The results of scalar loads that may stand in tiles of one element."""
    operations = function.body.operations
    if any(isinstance(each, ops.For | ops.While | ops.If | ops.AtomicRmw | ops.AtomicCas) for each in operations):
        return set()
    in_registers: set[Value] = set()
    found: set[Value] = set()
    for operation in reversed(operations):
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
