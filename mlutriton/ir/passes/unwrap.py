"""Tiles that wrap, as if none did: right where the number of places is a multiple of what a tile takes of them.

Kernels written for machines without masks on loads read ``(start + range) % size``: what stands behind the end is read
from the beginning, and never used. A tile of so many places that begins at a multiple of them reaches the end only
where ``size`` is no multiple of them. Without wraps a tile is one transfer, and can be shared and deepened like any.
"""

from __future__ import annotations

from mlutriton.ir.analysis.access import Scalars
from mlutriton.ir.analysis.launch_facts import Factors, Multiple, launch_arithmetic
from mlutriton.ir.copying import copy_block
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import AddPtr, TileGeometry, TileLoad, TileStore


def run(function: Function) -> tuple[Function, list[Multiple]] | None:
    """The function without wraps, and the facts that it rests on.

    Returns:
        None if nothing wraps, or it depends on more than the arguments of the launch whether anything does.
    """
    facts: list[Multiple] = []
    factors = Factors(function)
    for operation in function.walk():
        if isinstance(operation, TileLoad | TileStore):
            found = _facts(operation, function, factors)
            if found is None:
                return None
            facts += found
    if not facts:
        return None
    values: dict[Value, Value] = {}
    body = copy_block(function.body, values)
    _straighten(body)
    made = Function(function.name, body, function.argument_attributes, function.location)
    return made, [Multiple(values.get(each.value, each.value), each.of) for each in facts]


def _facts(operation: TileLoad | TileStore, function: Function, factors: Factors) -> list[Multiple] | None:
    """What has to hold for a tile not to wrap; None if no facts of the launch say that."""
    facts: list[Multiple] = []
    geometry = operation.geometry
    for extent, wrap in zip(geometry.shape, geometry.wraps, strict=True):
        if wrap is None:
            continue
        start, modulus = wrap
        if not _begins_at_multiple(start, modulus, extent, factors) or launch_arithmetic([modulus], function) is None:
            return None
        facts.append(Multiple(modulus, extent))
    return facts


def _begins_at_multiple(start: Value, modulus: Value, extent: int, factors: Factors) -> bool:
    """True if a tile begins at a multiple of its extent, provided that the modulus is one."""
    operation = start.defining_op
    if operation is None or operation.name != "srem" or operation.operands[1] is not modulus:
        return False
    return factors.of(operation.operands[0]) % extent == 0


def _straighten(block: Block) -> None:
    rewritten: list[Operation] = []
    for operation in block.operations:
        for region in operation.regions:
            _straighten(region)
        if isinstance(operation, TileLoad | TileStore) and any(operation.geometry.flags()):
            rewritten += _moved_to_start(operation)
        rewritten.append(operation)
    block.operations = rewritten


def _moved_to_start(operation: TileLoad | TileStore) -> list[Operation]:
    """Let a tile begin where its wraps do; returns the arithmetic for that."""
    scalars, geometry = Scalars(operation.location), operation.geometry
    base = operation.base
    for stride, wrap in zip(geometry.strides, geometry.wraps, strict=True):
        if wrap is not None:
            base = scalars.add(AddPtr([base, scalars.value(scalars.binary("mul", wrap[0], stride))]))
    straight = TileGeometry(
        geometry.shape, geometry.strides, geometry.firsts, geometry.limits, [None] * len(geometry.shape)
    )
    operation.operands = [base, operation.operands[1], *straight.operands()]
    operation.attributes = {**operation.attributes, "wraps": straight.flags()}
    return scalars.operations
