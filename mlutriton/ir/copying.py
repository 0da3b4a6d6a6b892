"""Copies of operations, whose operands are other values."""

from __future__ import annotations

from mlutriton.ir.core import Block, Function, Operation, Value


def copy_function(function: Function) -> Function:
    """A copy of a function."""
    return Function(function.name, copy_block(function.body, {}), function.argument_attributes, function.location)


def copy_block(block: Block, values: dict[Value, Value]) -> Block:
    """A copy of a block whose operands are looked up in ``values`` first."""
    copied = Block([argument.type for argument in block.arguments], [argument.name for argument in block.arguments])
    values |= zip(block.arguments, copied.arguments, strict=True)
    for operation in block.operations:
        copied.operations.append(copy_operation(operation, values))
    return copied


def copy_operation(operation: Operation, values: dict[Value, Value]) -> Operation:
    """A copy of an operation; its results are entered in ``values``."""
    made = operation.__class__(
        [values.get(operand, operand) for operand in operation.operands],
        operation.attributes,
        result_types=[result.type for result in operation.results],
        regions=[copy_block(region, values) for region in operation.regions],
        location=operation.location,
    )
    for old, new in zip(operation.results, made.results, strict=True):
        new.name = old.name
        values[old] = new
    return made
