"""What each of the steps of a turn does by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlutriton.codegen.pipelining.blocks.merged_transfers import with_operands
from mlutriton.codegen.pipelining.deeper_steps.analysis import Analysis, buffer_of
from mlutriton.codegen.tile_code import LoopEmitter, Node, ScalarOperand, touch_counts
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE

_ONE = Immediate(1)


class SingleSteps:
    """Writes what steps do by themselves.

    Args:
        emitter: gets the arithmetic.
        analysis: says what that is.
        most: steps of a turn at most.
        members: steps of this turn.
        times: so many elements of each step, of all steps of the turn.
    """

    def __init__(
        self,
        emitter: LoopEmitter,
        analysis: Analysis,
        most: int,
        members: ScalarOperand,
        times: Callable[[int], ScalarOperand],
    ) -> None:
        self.code, self.loop = analysis.code, analysis.loop
        self.emitter, self.analysis, self.most, self.members = emitter, analysis, most, members
        self._integer, self._times = emitter.index_integer, times
        self.tile_bytes = {name: self.code.buffers[name].bytes for name in analysis.filled}
        self.in_steps: dict[tuple[Register, int], Register] = {}
        self.counted: dict[tuple[Operand, int], Register] = {}
        self.own: dict[tuple[str, int], str] = {}
        self.latest: dict[str, str] = {}
        self.in_half: dict[str, tuple[str, int]] = {}
        self.renewed: dict[tuple[Register, Register], Register] = {}

    def run(self, run: Sequence[Instruction]) -> list[Node]:
        """What all steps compute of a run of instructions, one step after the other."""
        return [each for step in range(self.most) for each in self._run_of_step(run, step)]

    def of_step(self, node: Instruction, step: int) -> Instruction:
        """An instruction that each step has by itself, in one of them; it does nothing if there are not so many."""
        self.emitter.location = node.location
        name = node.row.extents[0]
        moved: list[Operand] = []
        for operand in node.operands:
            if isinstance(operand, Address) and operand.buffer in self.analysis.recurring and not node.row.trace:
                operand = operand.in_buffer(self.latest[operand.buffer])
            elif isinstance(operand, Address) and operand.buffer in self.analysis.apart:
                operand = operand.in_buffer(self._own_buffer(operand.buffer, step))
            elif isinstance(operand, Address) and operand.buffer in self.analysis.filled - self.analysis.passing:
                place, first = self.in_half.get(operand.buffer, (operand.buffer, 0))
                ahead = (step - first) * self.tile_bytes[operand.buffer]
                operand = replace(operand, buffer=place, offset_bytes=operand.offset_bytes + ahead)
            elif isinstance(operand, Register):
                operand = self._in_step(operand, step)
            elif isinstance(operand, Address | GlobalAddress) and operand.register is not None:
                operand = replace(operand, register=self._in_step(operand.register, step))
            moved.append(operand)
        instruction = node.taking(moved)
        if not step:
            return instruction
        count = self._if_there(instruction.operand(name), step)
        if node.row.trace and buffer_of(node.operand("dst")) in self.analysis.recurring:
            count = self._if_new(node, count, step)
        return with_operands(instruction, {name: count})

    def in_halves(self, run: Sequence[Instruction], move: Instruction, product: Instruction) -> list[Node]:
        """Weights that steps make by themselves: the first half is moved while the second is made.

        More than halves gain nothing: what all take for the next turn is in the same queue, and moved before.
        """
        steps = -(-self.most // 2)
        known, source, weights = move.known_counts, move.operand("src"), move.operand("dst")
        left = product.operand("a")
        assert isinstance(source, Address)
        assert isinstance(weights, Address)
        assert isinstance(left, Address)
        depth, lda = known["depth"], self._times(known["depth"])
        places: dict[str, list[str]] = {}
        for name in (weights.buffer, source.buffer):
            places[name] = [name, self._new_buffer(name)]
            for each in places[name]:
                self.code.buffers[each].bytes = steps * self.tile_bytes[name]
        found: list[Node] = []
        behind: list[Node] = []
        for half, first in enumerate(range(0, self.most, steps)):
            self.in_half[source.buffer] = made = places[source.buffer][half], first
            for step in range(first, min(first + steps, self.most)):
                found += self._run_of_step(run, step)
            found += behind
            self.emitter.location = product.location
            rest = self._integer("smax", self._integer("sub", self.members, Immediate(first)), Immediate(0))
            deep = self.emitter.integer("mul", self._integer("smin", rest, Immediate(steps)), Immediate(depth))
            if isinstance(deep, Register):
                self.code.greatest[deep] = steps * depth
            place = weights.in_buffer(places[weights.buffer][half])
            found.append(with_operands(move, {"dst": place, "src": source.in_buffer(made[0]), "depth": deep}))
            of_half = replace(left, offset_bytes=first * depth * product.dtypes[0].bytes)
            behind = [with_operands(product, {"a": of_half, "w": place, "depth": deep, "lda": lda})]
        return [*found, *behind]

    def _run_of_step(self, run: Sequence[Instruction], step: int) -> list[Instruction]:
        """What a step of a turn computes by itself, behind copies of what it has loaded that the one before had not."""
        copies: list[Instruction] = []
        touched = touch_counts(run).keys()
        for name, load in self.analysis.recurring.items():
            if name not in touched:
                continue
            self.emitter.location = load.location
            if name not in self.latest:
                self.latest[name] = self._new_buffer(name)
            elements = self.tile_bytes[name] // load.dtypes[0].bytes
            count: Operand = Immediate(elements)
            if step:
                count = self._if_new(load, self._if_there(count, step), step)
            operands = (Address(self.latest[name]), Address(self._own_buffer(name, step)), _ONE, count)
            copies.append(Instruction(TABLE["v.mov"], load.dtypes, operands, load.location))
        return [*copies, *(self.of_step(each, step) for each in run)]

    def _if_new(self, load: Instruction, count: Operand, step: int) -> Register:
        """A count in one of the steps of a turn, 0 if it loads what the one before has."""
        (place,) = (each.register for each in load.operands if isinstance(each, GlobalAddress))
        places = (self._in_step(place, step), self._in_step(place, step - 1))
        if places not in self.renewed:
            self.renewed[places] = self.emitter.scalar("ne", (I64,), *places)
        found = self.emitter.scalar("select", (I64,), self.renewed[places], count, Immediate(0))
        if isinstance(count, Register) and count in self.code.greatest:
            self.code.greatest[found] = self.code.greatest[count]
        return found

    def _new_buffer(self, name: str) -> str:
        """The name of a new buffer for a tile of a step."""
        made = self.code.buffer_name(name)
        self.code.buffers[made] = replace(self.code.buffers[name], name=made, bytes=self.tile_bytes[name])
        return made

    def _own_buffer(self, name: str, step: int) -> str:
        """The name of the buffer that a step of a turn has for a tile that each has by itself."""
        if (name, step) not in self.own:
            self.own[name, step] = self._new_buffer(name) if step else name
        return self.own[name, step]

    def _if_there(self, count: Operand, step: int) -> Operand:
        """A count in one of the steps of a turn, 0 if it has not so many."""
        if (count, step) not in self.counted:
            is_there = self.emitter.scalar("slt", (self.emitter.index_dtype,), Immediate(step), self.members)
            found = self.emitter.scalar("select", (I64,), is_there, count, Immediate(0))
            if isinstance(count, Immediate):
                self.code.greatest[found] = int(count.value)
            self.counted[count, step] = found
        return self.counted[count, step]

    def _in_step(self, register: Register, step: int) -> Register:
        """What a register is in one of the steps of a turn."""
        return depth_first(lambda each: self._search_in_step(each, step), register)

    def _search_in_step(self, register: Register, step: int) -> Search[Register, Register]:
        if not step or not self.analysis.varies(register):
            return register
        if (register, step) not in self.in_steps:
            if register == self.loop.index:
                ahead = self._integer("mul", self.loop.step, Immediate(step))
                found = self.emitter.index_scalar("add", register, ahead)
            else:
                definition = self.analysis.definitions.scalar[register]
                sources = list[Operand]()
                for each in definition.operands[1:]:
                    source = (yield each) if isinstance(each, Register) else each
                    sources.append(source)
                found = self.code.register()
                self.emitter.nodes.append(definition.taking([found, *sources]))
            self.in_steps[register, step] = found
        return self.in_steps[register, step]
