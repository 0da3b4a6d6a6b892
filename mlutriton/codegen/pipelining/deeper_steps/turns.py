"""The loop whose turns take several steps each."""

from __future__ import annotations

from mlutriton.codegen.pipelining.blocks.merged_transfers import with_operands
from mlutriton.codegen.pipelining.deeper_steps.analysis import (
    CORE_IN_CLUSTER,
    Analysis,
    Layout,
    buffer_of,
    deep_count,
    limit_name,
    loaded_bytes,
    outermost,
)
from mlutriton.codegen.pipelining.deeper_steps.single_steps import SingleSteps
from mlutriton.codegen.tile_code import (
    LoopEmitter,
    Node,
    ScalarOperand,
    Sharing,
)
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Queue

# Turns that are left for the pipeline: at both ends of a loop one stands alone.
TURNS = 3

# With fewer steps in a turn, one less makes transfers much shorter.
_LEAST_UNEVEN = 3

_ONE = Immediate(1)


class Deepening:
    """Writes the loop.

    Args:
        analysis: of the loop whose steps are taken together.
        most: steps of a turn at most.
        latency_bytes: what could be loaded in a latency.
    """

    def __init__(self, analysis: Analysis, most: int, latency_bytes: int) -> None:
        self.code, self.loop, self.analysis = analysis.code, analysis.loop, analysis
        self.most, self.latency_bytes = most, latency_bytes
        self.emitter = LoopEmitter(self.code, self.loop)
        self._integer, self._scalar = self.emitter.index_integer, self.emitter.index_scalar
        self.scaled: dict[int, ScalarOperand] = {}
        self.members: ScalarOperand = Immediate(1)

    def nodes(self) -> list[Node]:
        """The loop, behind the number of steps of a turn."""
        loop = self.loop
        self.emitter.nodes = nodes = list[Node]()
        turn = self._steps_of_turn()
        wide = replace(loop, step=self._integer("mul", loop.step, turn), body=[])
        self.emitter.nodes = wide.body
        self.members = self._integer("smin", self._steps_from(loop.index), turn)
        single = SingleSteps(self.emitter, self.analysis, self.most, self.members, self._times)
        runs: dict[int, tuple[list[Instruction], tuple[Instruction, Instruction] | None]] = {}
        in_run: set[int] = set()
        for run in self.analysis.runs():
            behind = self.analysis.behind.get(id(run[-1]))
            # What is multiplied in halves is made where its product stands, which may be behind other loads.
            runs[id(behind[-1] if behind else run[-1])] = run, behind
            in_run |= {id(each) for each in (*run, *(behind or ()))}
        for node in loop.body:
            if isinstance(node, Sharing):
                load, take = (
                    [part for each in nodes for part in self._several(each, single)] for nodes in (node.load, node.take)
                )
                wide.body.append(replace(node, load=load, take=take))
            elif id(node) in runs:
                run, behind = runs[id(node)]
                made = single.run(run) if behind is None else single.in_halves(run, *behind)
                wide.body += made
            elif id(node) not in in_run:
                made = self._several(node, single)
                wide.body += made
        for name in self.analysis.filled - self.analysis.passing - self.analysis.apart - self.analysis.halved:
            self.code.buffers[name].bytes *= self.most
        return [*nodes, wide]

    def _steps_of_turn(self) -> ScalarOperand:
        """So many that turns are alike: while a short one is multiplied, the loads of the next program show."""
        integer, steps = self._integer, self._steps_from(self.loop.start)
        most = integer("smax", integer("smin", self._shared_out(steps, Immediate(TURNS)), Immediate(self.most)), _ONE)
        turn, lost = self._even_turn(steps, most)
        if self.most < _LEAST_UNEVEN:
            return turn
        other, less = self._even_turn(steps, integer("smax", integer("sub", most, _ONE), _ONE))
        is_better = self._scalar("slt", less, lost)
        return self._scalar("select", is_better, other, turn)

    def _even_turn(self, steps: ScalarOperand, most: ScalarOperand) -> tuple[ScalarOperand, ScalarOperand]:
        """Steps of a turn if there are as few turns as can be of so many steps at most, and what is lost so.

        That is what the last turn lacks, two latencies of each, and the first, as bytes that could be loaded meanwhile.
        """
        integer = self._integer
        turns = integer("smax", self._shared_out(steps, most), _ONE)
        turn = self._shared_out(steps, turns)
        missing = integer("sub", integer("mul", turns, turn), steps)
        lacking = integer("mul", integer("add", missing, turn), Immediate(loaded_bytes(self.analysis)))
        return turn, integer("add", lacking, integer("mul", turns, Immediate(2 * self.latency_bytes)))

    def _shared_out(self, steps: ScalarOperand, among: ScalarOperand) -> ScalarOperand:
        """A quotient that is rounded up."""
        integer = self._integer
        return integer("sdiv", integer("sub", integer("add", steps, among), _ONE), among)

    def _steps_from(self, index: ScalarOperand) -> ScalarOperand:
        """How many steps are left."""
        integer, step = self._integer, self.loop.step
        return integer(
            "sdiv", integer("sub", integer("add", integer("sub", self.loop.end, index), step), Immediate(1)), step
        )

    def _times(self, extent: int) -> ScalarOperand:
        """So many elements of each step."""
        if extent not in self.scaled:
            self.scaled[extent] = scaled = self.emitter.integer("mul", self.members, Immediate(extent))
            if isinstance(scaled, Register):
                self.code.greatest[scaled] = extent * self.most
        return self.scaled[extent]

    def _several(self, node: Node, single: SingleSteps) -> list[Node]:
        """An instruction for several steps; the scalar arithmetic that it needs comes before the node it is part of."""
        assert isinstance(node, Instruction)
        self.emitter.location = node.location
        layouts, known = self.analysis.layouts, node.known_counts
        match node.row.name:
            case _ if node.row.queue is Queue.SCALAR:
                return [node]
            case _ if id(node) in self.analysis.single:
                return [single.of_step(node, step) for step in range(self.most)]
            case "mm":
                depth = self._times(known["depth"])
                return [with_operands(node, {"depth": depth, "lda": depth})]
            case "move.weight":
                depth = self._times(known["depth"])
                is_beside = layouts[buffer_of(node.operand("src"))] is Layout.BESIDE
                return [with_operands(node, {"depth": depth, **({"from_column": depth} if is_beside else {})})]
            case "move":
                count = "n0" if known["n1"] == 1 else "n1"
                return [with_operands(node, {count: self._times(known[count])})]
            case _ if node.row.trace == "LOAD":
                return [self._load(node)]
            case "gather":
                return [with_operands(node, self._lengths(node, "length", "valid", self._rest(node)))]
            case _:
                count = self.analysis.counts[id(node)]
                return [with_operands(node, {count: self._times(known[count])})]

    def _load(self, node: Instruction) -> Instruction:
        known, local = node.known_counts, node.operand("dst")
        assert isinstance(local, Address)
        layout = self.analysis.layouts[local.buffer]
        deep = deep_count(node, layout)
        extent = known[deep]
        rest = self._rest(node)
        changed: dict[str, Operand] = {}
        if node.row.name == "dma.load" and layout is Layout.BESIDE:
            changed |= {f"local{d}": self._times(known[f"local{d}"]) for d in range(1, outermost(node) + 1)}
        if local.register is not None:
            changed["dst"] = replace(
                local, register=self._register(self.emitter.integer("mul", local.register, self.members))
            )
            if layout is Layout.BEHIND:
                # A core's part of what all load begins behind those of other cores, which have as many steps.
                others = self.emitter.integer("sub", self.members, Immediate(1))
                ahead = self.emitter.integer("mul", others, self.emitter.scalar("sreg", (), CORE_IN_CLUSTER))
                ahead = self.emitter.integer("mul", ahead, Immediate(extent))
                changed["src"] = self._moved(node, deep, ahead)
                rest = None if rest is None else self.emitter.integer("sub", rest, ahead)
        return with_operands(node, {**changed, **self._lengths(node, deep, limit_name(node, deep), rest)})

    def _rest(self, node: Instruction) -> ScalarOperand | None:
        """What is left in depth for a transfer, if a mask limits that."""
        found = self.analysis.rests.get(id(node))
        return None if found is None else self.emitter.integer("sub", found.of_all, found.before)

    def _lengths(self, node: Instruction, deep: str, limit: str, rest: ScalarOperand | None) -> dict[str, Operand]:
        """How deep a transfer of several steps is, and how much of that is there."""
        extent = node.known_counts[deep]
        whole = valid = self._times(extent)
        if rest is not None:
            valid = self.emitter.integer("smax", self.emitter.integer("smin", rest, whole), Immediate(0))
        return {deep: whole, limit: valid}

    def _moved(self, node: Instruction, deep: str, ahead: ScalarOperand) -> GlobalAddress:
        """Where a load begins if it begins so many elements further in depth."""
        place, stride = node.operand("src"), node.operand(f"global{deep[1]}") if deep != "n0" else Immediate(1)
        assert isinstance(place, GlobalAddress)
        assert isinstance(stride, Register | Immediate)
        elements = self.emitter.integer("mul", ahead, stride)
        offset = self.emitter.integer("mul", elements, Immediate(node.dtypes[0].bytes))
        return replace(place, register=self._register(self.emitter.integer("add", place.register, offset)))

    def _register(self, operand: ScalarOperand) -> Register:
        if isinstance(operand, Register):
            return operand
        return self.emitter.scalar("mov", (I64,), operand)
