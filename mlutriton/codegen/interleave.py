"""The order of instructions of the COMPUTE queue, so that few of them wait for the one right before.

An instruction that reads what the one before it wrote waits for its latency; behind any other it follows at once
(:mod:`mlutriton.isa.manual`). So, between two nodes that are more than arithmetic, an instruction that would wait lets
a later one go first that would not, if that has nothing to do with those that it passes. The order is otherwise that of
the code, and values stay the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mlutriton.codegen.tile_code import (
    Node,
    TileCode,
    children,
    steps,
)
from mlutriton.isa.operands import Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Access, Queue

# How many instructions one may pass: temporaries live no longer than that.
_MOST_PASSED = 8


@dataclass
class Reordering:
    """What has been reordered, so that it can be undone.

    Attributes:
        before: lists of nodes with what they held.
    """

    before: list[tuple[list[Node], list[Node]]] = field(default_factory=list[tuple[list[Node], list[Node]]])

    def undo(self) -> None:
        """Put everything back."""
        for nodes, contents in self.before:
            nodes[:] = contents


def interleave(code: TileCode) -> Reordering:
    """Reorder the arithmetic of the code where that saves waiting."""
    reordering = Reordering()
    _interleave(code.nodes, reordering)
    return reordering


def _interleave(nodes: list[Node], reordering: Reordering) -> None:
    result = interleaved(nodes)
    if any(one is not other for one, other in zip(nodes, result, strict=True)):
        reordering.before.append((nodes, [*nodes]))
        nodes[:] = result
    for node in nodes:
        for nested in children(node):
            _interleave(nested, reordering)


def interleaved(nodes: Sequence[Node]) -> list[Node]:
    """Nodes in the order that waits little."""
    if sum(isinstance(node, Instruction) and node.row.queue is Queue.COMPUTE for node in nodes) < 2:
        return [*nodes]
    result: list[Node] = []
    run: list[_Unit] = []
    for step in steps(nodes):
        unit = _unit(step)
        if unit is not None:
            run.append(unit)
            continue
        result += [*_ordered(run), *step]
        run = []
    return [*result, *_ordered(run)]


@dataclass(frozen=True)
class _Unit:
    """A scalar instruction, or one or a chain of the COMPUTE queue.

    Attributes:
        nodes: the instructions.
        is_scalar: it sets a register.
        reads: names of buffers, and registers.
        writes: names of buffers, and registers.
    """

    nodes: Sequence[Node]
    is_scalar: bool
    reads: frozenset[str | Register]
    writes: frozenset[str | Register]

    def meets(self, other: _Unit) -> bool:
        """True if the two have to stay in their order."""
        mine, theirs = self.writes, other.writes
        return not (mine.isdisjoint(other.reads) and mine.isdisjoint(theirs) and theirs.isdisjoint(self.reads))


def _unit(step: Sequence[Node]) -> _Unit | None:
    """A step as a unit, if it is arithmetic alone."""
    reads: set[str | Register] = set()
    writes: set[str | Register] = set()
    for node in step:
        if not isinstance(node, Instruction) or node.row.trace:
            return None
        written = node.written_register
        if node.row.queue is Queue.COMPUTE:
            for name, access in node.buffers:
                if access is not Access.WRITE:
                    reads.add(name)
                if access is not Access.READ:
                    writes.add(name)
        elif node.row.queue is not Queue.SCALAR or node.accesses or written is None:
            return None
        reads.update(node.registers_read)
        if written is not None:
            writes.add(written)
    is_scalar = isinstance(step[0], Instruction) and step[0].row.queue is Queue.SCALAR
    return _Unit(step, is_scalar, frozenset(reads), frozenset(writes))


def _ordered(run: Sequence[_Unit]) -> Iterator[Node]:
    """The nodes of a run in their new order."""
    pending = list(run)
    last: frozenset[str | Register] = frozenset()
    while pending:
        place = _next(pending, last)
        # Scalars that stand before it come first: what passes others may need them.
        ahead = [each for each in pending[:place] if each.is_scalar]
        unit = pending[place]
        pending[: place + 1] = [each for each in pending[:place] if not each.is_scalar]
        for each in (*ahead, unit):
            yield from each.nodes
        if not unit.is_scalar:
            last = unit.writes


def _next(pending: Sequence[_Unit], last: frozenset[str | Register]) -> int:
    """The place of the unit that is to follow what wrote ``last``: the first that neither waits nor has to."""
    passed: list[_Unit] = []
    for place, unit in enumerate(pending):
        if unit.is_scalar:
            if not passed:
                return place
            if any(map(unit.meets, passed)):
                break
            continue
        if unit.reads.isdisjoint(last) and not any(map(unit.meets, passed)):
            return place
        passed.append(unit)
        if len(passed) > _MOST_PASSED:
            break
    return 0
