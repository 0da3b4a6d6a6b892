"""Putting operations into a block, behind whatever they need."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mlutriton.ir.core import Block, Operation


def put(block: Block, place: Operation, operations: Sequence[Operation], dropped: Collection[Operation]) -> None:
    """Put operations in the place of one, behind what they need of the same block, and drop others.

    What they need moves ahead if it comes later. Nothing may be dropped that is still used.
    """
    own = {value: each for each in (*block.operations, *operations) for value in each.results}
    code: dict[Operation, None] = {}

    def add(operation: Operation) -> None:
        if operation not in code:
            for operand in operation.operands:
                if operand in own:
                    add(own[operand])
            code[operation] = None

    for operation in block.operations:
        for each in operations if operation is place else ():
            add(each)
        if operation not in dropped:
            add(operation)
    block.operations = list(code)
