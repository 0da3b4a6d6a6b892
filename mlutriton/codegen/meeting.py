"""Where the cores of a cluster meet: what they share and the order of their accesses, as barriers.

Whether arrays of a launch overlap is known when it is launched. So a program that has to keep the order of accesses
only then is there twice: once without a barrier for that, which is pipelined, and once as it is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlutriton.codegen.renaming import Renamer
from mlutriton.codegen.tile_code import Branch, Loop, Node, Ordering, Sharing, TileBuffer, TileCode, children
from mlutriton.diagnostics import Location
from mlutriton.immutables import replace
from mlutriton.isa.operands import Address, Immediate, Operand
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SPECIAL_REGISTERS, TABLE


def barrier(location: Location) -> Instruction:
    """The instruction at which the cores of a cluster wait for each other, and for their own queues."""
    return Instruction(TABLE["barrier.cluster"], (), (), location)


def set_order_aside(code: TileCode) -> list[Node]:
    """Leave out of the code the order of accesses that only overlapping arrays need.

    Returns:
        The code as it is written, in buffers of its own; empty if there is nothing to leave out.
    """
    if not any(isinstance(each, Ordering) and each.unless_disjoint for each in _all(code.nodes)):
        return []
    if code.arrays_apart:
        code.nodes = _without_order(code.nodes)
        return []
    names = {name: replace(buffer, name=f"{name}.ordered", alternative=True) for name, buffer in code.buffers.items()}
    ordered = Renamer(code, {}, {}).nodes(code.nodes[:-1])
    _keep_order(ordered, names)
    code.buffers |= {buffer.name: buffer for buffer in names.values()}
    code.nodes = _without_order(code.nodes)
    return ordered


def join_by_overlap(code: TileCode, ordered: list[Node]) -> None:
    """Choose between the code and what was set aside when the program is launched."""
    if not ordered:
        return
    *body, end = code.nodes
    assert isinstance(end, Instruction)
    disjoint, index = code.register(), Immediate(SPECIAL_REGISTERS.index("arrays_disjoint"))
    query = Instruction(TABLE["sreg"], (), (disjoint, index), end.location)
    code.nodes = [query, Branch(disjoint, body, ordered, location=end.location), end]


def place_barriers(code: TileCode) -> None:
    """Make barriers of all that is left of sharing and ordering; a tile in SRAM is overwritten once all have it."""
    _place_barriers(code.nodes)


def _all(nodes: Sequence[Node]) -> list[Node]:
    return [each for node in nodes for each in (node, *(e for nested in children(node) for e in _all(nested)))]


def _keep_order(nodes: list[Node], buffers: Mapping[str, TileBuffer]) -> None:
    """As it is written: in order, nothing ahead of its time; in other buffers."""
    for place, node in enumerate(nodes):
        for nested in children(node):
            _keep_order(nested, buffers)
        match node:
            case Instruction():
                nodes[place] = node.taking(_in_buffers(each, buffers) for each in node.operands)
            case Ordering():
                nodes[place] = replace(node, unless_disjoint=False)
            case Loop():
                node.stages = 1
            case _:
                pass


def _in_buffers(operand: Operand, buffers: Mapping[str, TileBuffer]) -> Operand:
    return operand.in_buffer(buffers[operand.buffer].name) if isinstance(operand, Address) else operand


def _without_order(nodes: list[Node]) -> list[Node]:
    """The nodes without orders that disjoint arrays do not need."""
    for node in nodes:
        for nested in children(node):
            nested[:] = _without_order(nested)
    return [node for node in nodes if not (isinstance(node, Ordering) and node.unless_disjoint)]


def _place_barriers(nodes: list[Node]) -> None:
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, Instruction):
            result.append(node)
            continue
        for nested in children(node):
            _place_barriers(nested)
        match node:
            case Sharing():
                result += [barrier(node.location), *node.load, barrier(node.location), *node.take]
            case Ordering():
                result.append(barrier(node.location))
            case _:
                result.append(node)
    nodes[:] = result
