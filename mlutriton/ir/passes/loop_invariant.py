"""Loop-invariant code: pure operations whose operands come from outside a loop move in front of it.

Loads stay, gathers too as they may fault, and so does what stands inside an ``if``: it may never run.
"""

from __future__ import annotations

from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import For, Gather, While


def run(function: Function) -> None:
    """Move invariant operations out of loops, innermost first."""
    _hoist(function.body)


def _hoist(block: Block) -> None:
    code: list[Operation] = []
    for operation in block.operations:
        if not operation.PURE:
            for region in operation.regions:
                _hoist(region)
        if isinstance(operation, For | While):
            for region in operation.regions:
                code += _extract_invariant(region)
        code.append(operation)
    block.operations = code


def _extract_invariant(block: Block) -> list[Operation]:
    """Take out what depends on nothing in the block."""
    varying: set[Value] = set(block.arguments)
    invariant: list[Operation] = []
    kept: list[Operation] = []
    for operation in block.operations:
        if operation.PURE and not isinstance(operation, Gather) and varying.isdisjoint(operation.operands):
            invariant.append(operation)
        else:
            kept.append(operation)
            varying.update(operation.results)
    block.operations = kept
    return invariant
