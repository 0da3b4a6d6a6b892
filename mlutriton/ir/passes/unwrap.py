"""Tiles that wrap, as if none did, for launches of which that is right.

Kernels written for machines without masks on loads read ``(start + range) % size``: what stands behind the end is read
from the beginning. Without wraps a tile is one transfer, and can be shared and deepened like any. Where a mask drops
what comes of such elements, no tile wraps (:mod:`mlutriton.ir.passes.unread_positions`). Where all is stored, a tile
that begins at a multiple of its extent reaches the end only if ``size`` is no multiple of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.ir.analysis.launch_facts import Factors, Multiple, condition_function, is_of_the_launch
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import AddPtr, TileGeometry, TileLoad, TileStore


@dataclass(frozen=True)
class Unwrapped:
    """A function without wraps.

    Attributes:
        function: the function.
        condition: what has to hold of a launch for it to be right.
    """

    function: Function
    condition: Function


def run(function: Function) -> Unwrapped | None:
    """The function without wraps.

    Args:
        function: whose memory accesses are known.

    Returns:
        None if nothing wraps, or it depends on more than the arguments of the launch whether anything does.
    """
    if not any(_wraps(each) for each in function.walk()):
        return None
    made = copy_function(function)
    factors, facts = Factors(made), list[Multiple]()
    for access in made.walk():
        if isinstance(access, TileLoad | TileStore):
            for extent, wrap in zip(access.geometry.shape, access.geometry.wraps, strict=True):
                fact = None if wrap is None else _round_size(extent, wrap, factors, made)
                if wrap is not None and fact is None:
                    return None
                facts += [] if fact is None else [fact]
    condition = condition_function(made, facts)
    _straighten(made.body)
    return Unwrapped(made, condition)


def _wraps(operation: Operation) -> bool:
    return isinstance(operation, TileLoad | TileStore) and any(operation.geometry.flags())


def _round_size(extent: int, wrap: tuple[Value, Value], factors: Factors, function: Function) -> Multiple | None:
    """The fact of a launch by which a tile does not wrap along a dimension; None if none says that."""
    remainder = wrap[0].defining_op
    if remainder is None or remainder.name != "srem" or remainder.operands[1] is not wrap[1]:
        return None
    start, size = remainder.operands
    if factors.of(start) % extent or not is_of_the_launch(size, function):
        return None
    return Multiple(size, extent)


def _straighten(block: Block) -> None:
    rewritten: list[Operation] = []
    for operation in block.operations:
        for region in operation.regions:
            _straighten(region)
        if isinstance(operation, TileLoad | TileStore) and _wraps(operation):
            rewritten += _moved_to_start(operation)
        rewritten.append(operation)
    block.operations = rewritten


def _moved_to_start(operation: TileLoad | TileStore) -> list[Operation]:
    """Let a tile begin where its wraps do; returns the arithmetic for that."""
    scalars, geometry = Scalars(operation.location), operation.geometry
    base, none = operation.base, [None] * len(geometry.shape)
    for wrap, stride in zip(geometry.wraps, geometry.strides, strict=True):
        if wrap is not None:
            base = scalars.add(AddPtr([base, scalars.value(scalars.binary("mul", wrap[0], stride))]))
    straight = TileGeometry(geometry.shape, geometry.strides, geometry.firsts, geometry.limits, none)
    operation.operands = [base, operation.operands[1], *straight.operands()]
    operation.attributes = {**operation.attributes, "wraps": straight.flags()}
    return scalars.operations
