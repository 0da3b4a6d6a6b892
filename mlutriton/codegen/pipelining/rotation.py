"""The parts of a loop that has been rotated: what runs an iteration ahead or behind, and what it hands on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mlutriton.codegen.pipelining.pipeline_plan import Plan
from mlutriton.codegen.renaming import Renamer
from mlutriton.codegen.tile_code import Branch, Loop, Node, ScalarOperand, TileCode
from mlutriton.immutables import replace
from mlutriton.isa.operands import Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE


@dataclass
class Carried:
    """A register that the rotated loop carries beside those of the loop."""

    register: Register
    initial: ScalarOperand
    yielded: ScalarOperand


class PhasedLoop:
    """What every rotated loop has: two phases of its buffers, the arithmetic of an iteration, stores of the one before.

    Attributes:
        carried: what the parts hand on from one iteration to the next.
    """

    def __init__(self, code: TileCode, loop: Loop, plan: Plan, buffers: Collection[str]) -> None:
        self.code, self.loop, self.plan, self.buffers = code, loop, plan, buffers
        self.carried: list[Carried] = []
        # Phase offsets differ by size only: one pair of registers for all buffers of a size.
        self.now: dict[int, Register] = {}
        self.other: dict[int, Register] = {}
        for size in sorted({code.buffers[name].bytes for name in buffers}):
            self.now[size] = self._carry(Immediate(0)).register
            self.other[size] = self._carry(Immediate(size), self.now[size]).register
            self.carried[-2].yielded = self.other[size]
            code.phases |= {phase: phase for phase in (self.now[size], self.other[size])}
        self.ran = self._carry(Immediate(0), Immediate(1)).register if plan.stores else None
        self.remembered = {register: self._carry(Immediate(0), register).register for register in plan.remembered}

    def compute(self, others: Collection[Node] = ()) -> list[Node]:
        """All that is not moved, but for others."""
        moved = {id(node) for node in (*self.plan.lookups, *self.plan.loads, *self.plan.stores, *others)}
        renamer = Renamer(self.code, {}, self._phases(self.now), keep=True)
        return renamer.nodes([node for node in self.loop.body if id(node) not in moved])

    def store_behind(self, stores: Sequence[Node]) -> list[Node]:
        """Stores of the iteration before, if there was one."""
        if self.ran is None or not stores:
            return []
        renamer = Renamer(self.code, dict(self.remembered), self._phases(self.other))
        nodes = renamer.nodes([*self.plan.serves, *stores])
        return [Branch(self.ran, nodes, location=self.loop.location)]

    def rotated(self, body: list[Node]) -> Loop:
        """The loop with a body of these parts, all of which have been asked for."""
        made = replace(self.loop, body=body, stages=1)
        made.carried = [*self.loop.carried, *((each.register, each.initial) for each in self.carried)]
        made.yielded = [*self._advance(), *(each.yielded for each in self.carried)]
        return made

    def _advance(self) -> list[ScalarOperand]:
        """What the loop's own carried registers take on."""
        return self.loop.yielded

    def _carry(self, initial: ScalarOperand, yielded: ScalarOperand | None = None) -> Carried:
        made = Carried(self.code.register(), initial, initial if yielded is None else yielded)
        self.carried.append(made)
        return made

    def _phases(self, registers: dict[int, Register]) -> dict[str, Register]:
        return {name: registers[self.code.buffers[name].bytes] for name in self.buffers}

    def _scalar(self, nodes: list[Node], name: str, *operands: Operand) -> Register:
        result = self.code.register()
        nodes.append(Instruction(TABLE[name], (self.loop.dtype,), (result, *operands), self.loop.location))
        return result


class Rotation(PhasedLoop):
    """The parts of a loop whose loads run one iteration ahead."""

    def __init__(self, code: TileCode, loop: Loop, plan: Plan) -> None:
        super().__init__(code, loop, plan, plan.buffers)
        self.index_ahead = Carried(loop.index, loop.start, loop.start)
        self.ahead: dict[Register, Carried] = {}

    def load_first(self) -> list[Node]:
        """The loads of the first iteration, and what the second one's need."""
        loop, plan = self.loop, self.plan
        if not plan.loads:
            return []
        nodes: list[Node] = []
        initial = {register: loop.carried[place][1] for place, register in self._ahead()}
        renamer = Renamer(self.code, {loop.index: loop.start, **initial}, {})
        nodes += renamer.nodes(plan.slice)
        loads = renamer.nodes([*plan.lookups, *plan.serves, *plan.loads])
        entered = self._scalar(nodes, "slt", loop.start, loop.end)
        nodes.append(Branch(entered, loads, location=loop.location))
        self.index_ahead = self._carry(self._scalar(nodes, "add", loop.start, loop.step))
        self.ahead = {register: self._carry(renamer.operand(loop.yielded[place])) for place, register in self._ahead()}
        return nodes

    def load_ahead(self) -> tuple[list[Node], list[Node]]:
        """The scalar arithmetic of the next iteration's loads, harmless if there is none, and the loads if there is."""
        if not self.plan.loads:
            return [], []
        nodes, more, renamer = self.look_ahead()
        loads = renamer.nodes([*self.plan.lookups, *self.plan.serves, *self.plan.loads])
        return [*nodes, *self.step_ahead()], [Branch(more, loads, location=self.loop.location)]

    def look_ahead(self) -> tuple[list[Node], Register, Renamer]:
        """The scalar arithmetic of the next iteration's loads, whether there is one, and what makes these loads."""
        loop, nodes, index = self.loop, list[Node](), self.index_ahead
        substitutes: dict[Register, ScalarOperand] = {old: new.register for old, new in self.ahead.items()}
        substitutes[loop.index] = index.register
        renamer = Renamer(self.code, substitutes, self._phases(self.other))
        nodes += renamer.nodes(self.plan.slice)
        more = self._scalar(nodes, "slt", index.register, loop.end)
        for place, register in self._ahead():
            self.ahead[register].yielded = renamer.operand(loop.yielded[place])
        return nodes, more, renamer

    def step_ahead(self) -> list[Node]:
        """From the next iteration's index to that of the one after it."""
        nodes: list[Node] = []
        self.index_ahead.yielded = self._scalar(nodes, "add", self.index_ahead.register, self.loop.step)
        return nodes

    def _advance(self) -> list[ScalarOperand]:
        """What the loop's own carried registers take on: where that is known ahead, it is not computed again."""
        pairs = zip(self.loop.carried, self.loop.yielded, strict=True)
        return [self.ahead[old].register if old in self.ahead else operand for (old, _), operand in pairs]

    def _ahead(self) -> list[tuple[int, Register]]:
        return [(place, self.loop.carried[place][0]) for place in self.plan.carried]
