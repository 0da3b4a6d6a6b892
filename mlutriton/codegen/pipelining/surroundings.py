"""What stands around the loops of some code, kept up to date while they are rewritten one after another.

To walk through all code for each of its loops would take the square of its length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

from mlutriton.codegen.pipelining.blocks.merged_transfers import linear_definitions
from mlutriton.codegen.tile_code import Branch, Node, buffers_of, touch_counts
from mlutriton.isa.program import Instruction

# How many loops are around what stands in the body of an outermost one.
_IN_OUTERMOST = 1


class Surroundings:
    """The code around the node that is being visited, in the order in which it runs.

    Attributes:
        touches: how many operands of all code name each buffer.
        linear: by register, what sets it, if that is a multiple of another register or a copy.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.touches = touch_counts(nodes)
        self.linear = linear_definitions(nodes)
        # Touches by what comes before the node that is visited, and by the outermost loop around it: what that touches
        # anywhere may come round again.
        self._before: Counter[str] = Counter()
        # What comes before too and is not counted yet: few loops want to know.
        self._passed: list[Node] = []
        self._around: Counter[str] = Counter()
        # Touches by what comes before in the body of that loop.
        self._inside: Counter[str] = Counter()
        # Nodes that are being visited, one in the other, without branches.
        self._depth = 0
        # Buffers that are touched before and perhaps behind: a few, however many there are.
        self._open: set[str] = set()

    def learn(self, nodes: Sequence[Node]) -> None:
        """Take in what sets registers in nodes that are new."""
        self.linear |= linear_definitions(nodes)

    @contextmanager
    def visiting(self, node: Node) -> Generator[None]:
        """While this lasts, the node is visited; what it has become is then to be :meth:`passed`."""
        is_around = not isinstance(node, Instruction | Branch)
        if is_around and not self._depth:
            self._around = touch_counts([node])
        self._depth += is_around
        try:
            yield
        finally:
            self._depth -= is_around
            if not self._depth:
                self._around, self._inside = Counter(), Counter()

    def passed(self, nodes: Sequence[Node]) -> None:
        """What is visited next comes behind these nodes, of which the lists within have not been visited."""
        if not self._depth:
            self._passed += nodes
        elif self._depth == _IN_OUTERMOST:
            self._inside.update(touch_counts(nodes))

    def taken_back(self, nodes: Sequence[Node]) -> None:
        """Nodes that had been passed before the visited one are taken out of the code."""
        touched = touch_counts(nodes)
        if self._depth == _IN_OUTERMOST:
            self._count_passed()
            self._before.subtract(touched)
        else:
            self._around.subtract(touched)
            # What stands deeper was not counted.
            self._inside.subtract(touched if self._depth == _IN_OUTERMOST + 1 else Counter())
        self._change(self.touches, touched, Counter())

    def changed(self, before: Counter[str], nodes: Sequence[Node]) -> None:
        """Nodes have come in the place of others, within the visited loop, that touched so much."""
        after = touch_counts(nodes)
        self._change(self._around, before, after)
        self._change(self.touches, before, after)

    def replaced(self, loop: Node, nodes: Sequence[Node]) -> None:
        """Nodes come in the place of the visited loop: buffers that only they have hold nothing beside other loops."""
        before, after = touch_counts([loop]), touch_counts(nodes)
        self._change(self.touches, before, after)
        if self._depth > _IN_OUTERMOST:
            self._change(self._around, before, after)

    def alive_beside(self, loop: Node) -> set[str]:
        """Names of the buffers that hold something while the loop that is visited runs.

        What a loop around it is the first to touch, and is done with before, is made anew when it comes round again.
        """
        self._count_passed()
        touches, before, around, inside = self.touches, self._before, self._around, self._inside
        alive = {name for name in self._open if touches[name] > before[name] + around[name]}
        again = {name for name, count in around.items() if count > (0 if before[name] > 0 else inside[name])}
        return alive | again | buffers_of([loop])

    def _change(self, counts: Counter[str], before: Counter[str], after: Counter[str]) -> None:
        counts.subtract(before)
        counts.update(after)
        self._sort({**before, **after})

    def _count_passed(self) -> None:
        touched = touch_counts(self._passed)
        self._passed.clear()
        self._before.update(touched)
        self._sort(touched)

    def _sort(self, names: Iterable[str]) -> None:
        """Find out which of some buffers are open."""
        for name in names:
            if 0 < self._before[name] < self.touches[name]:
                self._open.add(name)
            else:
                self._open.discard(name)
