"""Reductions along short rows: the tree over the lanes of all rows at a time.

A reduction along rows combines groups of lanes side by side, and then the lanes of each row in a tree, which takes as
long for one row as five groups of them. In rows of a few groups that is most of the work. So instead of

    red.fmax  m[rows], x[rows, groups * lanes]                   groups + 5 beats a row

lanes are combined for all rows at a time, where they stand below each other:

    red.fmax  t[rows, lanes], x[rows, groups, lanes]             groups beats a row
    v.transpose  u[lanes, rows], t                               2 beats a row
    red.fmax  m[rows], u[lanes, rows]                            1 beat a row

Sums go through the levels of the tree one by one, so that each is added up in the order in which one instruction does
it; of what comes out the same in any order, the lanes of a row are combined one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlutriton.codegen.tile_code import Emitter, Node, TileCode, children
from mlutriton.immutables import replace
from mlutriton.isa.cost import occupancy_cycles
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, Immediate
from mlutriton.isa.program import Instruction
from mlutriton.isa.reduction import accumulator_type, lanes

# What comes out the same in any order; the sign of a zero does, as -0 is less than +0.
_IN_ANY_ORDER = frozenset(
    {"add", "mul", "and", "or", "xor", "smin", "smax", "umin", "umax", "fmin", "fmax", "fminimum", "fmaximum"}
)

_ONE = Immediate(1)


@dataclass
class LaneTrees:
    """What has been written in another way, so that it can be undone.

    Attributes:
        before: lists of nodes with what they held.
        buffers: names of what was added.
    """

    code: TileCode
    before: list[tuple[list[Node], list[Node]]] = field(default_factory=list[tuple[list[Node], list[Node]]])
    buffers: list[str] = field(default_factory=list[str])

    def undo(self) -> None:
        """Put everything back."""
        for nodes, contents in self.before:
            nodes[:] = contents
        for name in self.buffers:
            del self.code.buffers[name]


def combine_lanes_of_all_rows(code: TileCode, machine: Machine) -> LaneTrees:
    """Reduce short rows with one tree for all of them where that takes less."""
    trees = LaneTrees(code)
    known = {*code.buffers}
    _visit(code, code.nodes, machine, trees)
    trees.buffers = [name for name in code.buffers if name not in known]
    return trees


def _visit(code: TileCode, nodes: list[Node], machine: Machine, trees: LaneTrees) -> None:
    result: list[Node] = []
    for node in nodes:
        for nested in children(node):
            _visit(code, nested, machine, trees)
        instead = _of_all_rows(code, node, machine) if isinstance(node, Instruction) else None
        result += [node] if instead is None else instead
    if len(result) != len(nodes):
        trees.before.append((nodes, [*nodes]))
        nodes[:] = result


def _of_all_rows(code: TileCode, node: Instruction, machine: Machine) -> list[Node] | None:
    """What does the work of a reduction in less time."""
    operation = node.row.combine
    if (
        operation is None
        or not node.row.name.startswith("red.")
        or len(node.known_counts) < len(("outer", "n", "inner"))
    ):
        return None
    rows, n, inner = (node.known_counts[name] for name in ("outer", "n", "inner"))
    (dtype,) = node.dtypes
    width = min(n, lanes(dtype.bytes))
    if inner != 1 or rows == 1 or n % width or width & (width - 1) or accumulator_type(operation.name, dtype) != dtype:
        return None
    target, source = node.operand("dst"), node.operand("a")
    assert isinstance(target, Address)
    assert isinstance(source, Address)
    before, is_alternative = {*code.buffers}, code.buffers[source.buffer].alternative
    emitter = Emitter(code, node.location)
    emitter.nodes = list[Node]()

    def counted(name: str, operands: Sequence[Address], *counts: int) -> None:
        emitter.emit(name, (dtype,), (*operands, *map(Immediate, counts)))

    def fresh() -> Address:
        made = emitter.buffer("lanes", dtype, rows * width)
        made.alternative = is_alternative
        return Address(made.name)

    if n > width:
        side_by_side = fresh()
        counted(node.row.name, (side_by_side, source), rows, n // width, width)
        source = side_by_side
    below = fresh()
    counted("v.transpose", (below, source), 1, rows, width, 1)
    if operation.name in _IN_ANY_ORDER:
        counted(node.row.name, (target, below), 1, width, rows)
    else:
        while width > 1:
            width //= 2
            upper = replace(below, offset_bytes=below.offset_bytes + width * rows * dtype.bytes)
            counted(f"v.{operation.name}", (target if width == 1 else below, below, upper), 1, width * rows)
    made = [each for each in emitter.nodes if isinstance(each, Instruction)]
    wait = machine.vector_latency_cycles
    cycles = sum(occupancy_cycles(each, each.known_counts, machine) + wait for each in made)
    if cycles < occupancy_cycles(node, node.known_counts, machine) + wait:
        return emitter.nodes
    for name in code.buffers.keys() - before:
        del code.buffers[name]
    return None
