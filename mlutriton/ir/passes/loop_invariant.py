"""Loop-invariant code: pure operations whose operands come from outside a loop move in front of it.

Loads stay, gathers too as they may fault, and so does what stands inside an ``if``: it may never run.
"""

from __future__ import annotations

from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import For, Gather, While
from mlutriton.ir.types import shape_of


def run(function: Function) -> None:
    """Move invariant operations out of loops, innermost first."""
    _hoist(function.body, tensors=True)


def run_on_scalars(function: Function) -> None:
    """Move those alone that give scalars: where memory is scarce, tensors shall not live through a loop."""
    _hoist(function.body, tensors=False)


def _hoist(block: Block, *, tensors: bool) -> None:
    code: list[Operation] = []
    for operation in block.operations:
        if not operation.PURE:
            for region in operation.regions:
                _hoist(region, tensors=tensors)
        if isinstance(operation, For | While):
            for region in operation.regions:
                code += _extract_invariant(region, tensors=tensors)
        code.append(operation)
    block.operations = code


def _extract_invariant(block: Block, *, tensors: bool) -> list[Operation]:
    """Take out what depends on nothing in the block."""
    varying: set[Value] = set(block.arguments)
    invariant: list[Operation] = []
    kept: list[Operation] = []
    for operation in block.operations:
        can_move = operation.PURE and not isinstance(operation, Gather) and varying.isdisjoint(operation.operands)
        if can_move and (tensors or not any(shape_of(result.type) for result in operation.results)):
            invariant.append(operation)
        else:
            kept.append(operation)
            varying.update(operation.results)
    block.operations = kept
    return invariant
