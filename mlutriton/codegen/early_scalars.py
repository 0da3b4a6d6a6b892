"""Scalar arithmetic that is done before a wait instead of behind it.

While the scalar unit waits for a queue it computes nothing, and what it computes behind the wait keeps queues empty:
addresses and extents of the next transfers, sizes of the next chunks. Tile code has each scalar where it is needed,

    sync; if there is a next block: r = block * bytes; load x(r)

so it becomes what it may be as well:

    r = block * bytes; sync; if there is a next block: load x(r)

Arithmetic has no effect but its result, also where it is done in vain: so it comes out of branches too, but only of
those without an alternative, which are mostly taken.

Invariant: what is read of a register that one instruction sets is what that instruction has set in the same turn of all
loops around it. What goes from turn to turn is carried by the loop, or set by several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    Node,
    TileCode,
    While,
    children,
    instructions,
    only_sets_register,
    registers_set,
)
from mlutriton.isa.operands import Register
from mlutriton.isa.program import Instruction


def compute_early(code: TileCode) -> None:
    """Move scalar arithmetic behind syncs in front of the last one before it."""
    setters = Counter([each.written_register for each in instructions(code.nodes)])
    once = {register for register, count in setters.items() if count == 1 and register is not None}
    _Mover(once).block(code.nodes)


class _Mover:
    """Moves arithmetic.

    Attributes:
        known: registers that one instruction sets.
    """

    def __init__(self, known: set[Register]) -> None:
        self.known = known

    def block(self, nodes: list[Node]) -> None:
        """Rewrite a list of nodes."""
        for node in nodes:
            for nested in children(node):
                self.block(nested)
        if not any(map(_is_sync, nodes)):
            return
        result: list[Node] = []
        for run in _runs(nodes):
            early = self._early(run, set()) if run and _is_sync(run[0]) else []
            ids = {id(each) for each in early}
            result += [*early, *(each for each in run if id(each) not in ids)]
        nodes[:] = result

    def _early(self, nodes: Sequence[Node], behind: set[Register]) -> list[Node]:
        """What of nodes may be computed earlier; it is taken out of branches.

        Args:
            nodes: are looked at up to the first that waits.
            behind: registers that are set too late.
        """
        early: list[Node] = []
        behind = {*behind}
        for node in nodes:
            if isinstance(node, Instruction):
                if self._is_movable(node, behind):
                    early.append(node)
                    continue
            elif isinstance(node, Branch) and not node.otherwise and not _waits(node):
                inner = self._early(node.then, behind)
                ids = {id(each) for each in inner}
                node.then[:] = [each for each in node.then if id(each) not in ids]
                early += inner
            behind |= registers_set([node])
        return early

    def _is_movable(self, node: Instruction, behind: set[Register]) -> bool:
        is_known = node.written_register in self.known
        return is_known and only_sets_register(node) and behind.isdisjoint(node.registers_read)


def _runs(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """Nodes in runs, of which each begins with a sync or behind a loop that waits; those before such a loop one by one.

    A sync before a loop that waits is one at its begin, where there is hardly anything to wait for. What follows it is
    not to wait for the arithmetic of what comes later.
    """
    run: list[Node] = []
    for node in nodes:
        if _is_sync(node):
            yield run
            run = []
        run.append(node)
        if isinstance(node, Loop | While) and _waits(node):
            yield from ([each] for each in run)
            run = []
    yield run


def _is_sync(node: Node) -> bool:
    return isinstance(node, Instruction) and node.row.name == "sync"


def _waits(node: Node) -> bool:
    """True if there is a sync in a node."""
    return any(_is_sync(each) for each in instructions([node]))
