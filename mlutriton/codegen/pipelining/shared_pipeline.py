"""Software pipelining of loops whose tiles the cores of a cluster load together, in three stages.

A loop

    for i: share s(i) (load a part into SRAM; all: take the whole); load x(i); compute from s(i) and x(i)

becomes

    load s(0); barrier; load s(1), x(0); take s(0); barrier
    for i: take s(i + 1) -> other phase; load s(i + 2) -> this phase in SRAM; load x(i + 1) -> other phase
           compute this phase; barrier; swap phases

with ping-pong buffers for what stands in SRAM, for what is taken from there and for what a core loads for itself. The
queues IO, MOVE and COMPUTE work side by side, and an iteration takes the longest of them. One barrier an iteration is
enough: behind it all cores have their parts of s(i + 2) in SRAM and have taken s(i + 1), so that its place may be
overwritten in the iteration after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlutriton.codegen.meeting import barrier
from mlutriton.codegen.pipelining.pipeline_plan import Definitions, Plan, free_registers, is_transfer, plan_loop
from mlutriton.codegen.pipelining.pointer_roots import PointerRoots
from mlutriton.codegen.pipelining.rotation import Carried, PhasedLoop
from mlutriton.codegen.pipelining.transfer_order import halves, order_of, transfer_of
from mlutriton.codegen.renaming import Renamer
from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    Node,
    Ordering,
    ScalarOperand,
    Sharing,
    TileCode,
    buffers_of,
    instructions,
    registers_set,
)
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE, Queue


@dataclass(frozen=True)
class SharedPlan:
    """What of a loop moves.

    Attributes:
        plan: as for a loop of one core, of which the shared loads are a part.
        sharings: the nodes that are taken apart.
    """

    plan: Plan
    sharings: list[Sharing]

    @property
    def takes(self) -> list[Node]:
        """What brings shared tiles from SRAM to a core."""
        return [node for sharing in self.sharings for node in sharing.take]

    @property
    def shared_loads(self) -> list[Node]:
        """What brings a core's parts to SRAM."""
        return [node for sharing in self.sharings for node in sharing.load]

    @property
    def buffers(self) -> set[str]:
        """What has two phases."""
        return self.plan.buffers | buffers_of(self.takes)

    @property
    def own_loads(self) -> list[Node]:
        """What a core loads for itself."""
        shared = {id(node) for node in self.shared_loads}
        return [node for node in self.plan.loads if id(node) not in shared]


def plan_shared(code: TileCode, loop: Loop, roots: PointerRoots, touches: Counter[str]) -> SharedPlan | None:
    """A plan for a loop that shares tiles and can be pipelined."""
    sharings = [node for node in loop.body if isinstance(node, Sharing)]
    if not sharings or any(isinstance(node, Ordering) for node in loop.body):
        return None
    body = [part for node in loop.body for part in ((*node.load, *node.take) if isinstance(node, Sharing) else (node,))]
    found = SharedPlan(plan_loop(code, replace(loop, body=body), roots, touches), sharings)
    moved = {id(node) for node in found.plan.loads}
    is_known = Definitions(loop).closure(free_registers(found.takes)) is not None
    return found if is_known and all(id(node) in moved for node in found.shared_loads) else None


def rotate_shared(code: TileCode, loop: Loop, shared: SharedPlan, machine: Machine) -> list[Node]:
    """The loop in three stages."""
    for name in shared.buffers:
        code.buffers[name].phases = 2
    rotation = _Rotation(code, loop, shared, machine)
    before = rotation.enter()
    take, loads, compute = rotation.take_ahead(), rotation.load_ahead(), rotation.compute(shared.sharings)
    parts = [node for node in compute if _is_made_before(code, node, compute)]
    compute = [node for node in compute if not any(node is part for part in parts)]
    transfers = [*loads, *parts, *rotation.store_behind(shared.plan.stores), *rotation.prepare_loads()]
    # What only hands work to the COMPUTE queue need not let it wait for the scalar work of transfers.
    # In the beginning, so that what carries registers on is done while queues are busy.
    opening, issued, closing = _in_parts(compute)
    handed_on, rest = _apart(issued)
    body = [barrier(loop.location), *opening, *handed_on, *take, *transfers, *rest, *closing]
    return [*before, rotation.rotated(body), barrier(loop.location), *rotation.store_behind(shared.plan.stores)]


def _in_parts(compute: Sequence[Node]) -> tuple[list[Node], list[Node], list[Node]]:
    """What begins a program, work for the COMPUTE queue that is only issued, and all from the first wait on."""
    begin = end_of_beginning(compute)
    end = next((place for place in range(begin, len(compute)) if not is_only_issued([compute[place]])), len(compute))
    return list(compute[:begin]), list(compute[begin:end]), list(compute[end:])


def end_of_beginning(compute: Sequence[Node]) -> int:
    """How many nodes of an iteration there are up to the end of what begins a program.

    That is the last branch in front of all work for the COMPUTE queue.
    """
    end = 0
    for place, node in enumerate(compute, 1):
        if isinstance(node, Branch):
            end = place
        if any(each.row.queue is Queue.COMPUTE for each in instructions([node])):
            break
    return end


def _is_made_before(code: TileCode, node: Node, nodes: Sequence[Node]) -> bool:
    """True for a store of what has been made before an iteration, in another phase than that in which it computes."""
    if not isinstance(node, Branch) or not is_transfer(node):
        return False
    rest = [each for each in nodes if each is not node]
    return not free_registers([node]) & registers_set(rest) and not _places(code, [node]) & _places(code, rest)


def _places(code: TileCode, nodes: Sequence[Node]) -> set[tuple[str, Register | None]]:
    """The buffers that nodes touch, with the register of the phase."""
    return {
        (operand.buffer, code.phases.get(operand.register) if operand.register else None)
        for each in instructions(nodes)
        for operand, _ in each.accesses
        if isinstance(operand, Address)
    }


def is_only_issued(nodes: Sequence[Node]) -> bool:
    """True if the scalar unit waits for no queue while it runs the nodes."""
    for node in nodes:
        if not isinstance(node, Instruction):
            return False
        is_plain_scalar = node.row.queue is Queue.SCALAR and not node.row.trace and not any(node.accesses)
        if node.row.queue is not Queue.COMPUTE and not is_plain_scalar:
            return False
    return True


def _apart(nodes: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """What is handed to the COMPUTE queue, with the scalar arithmetic that it needs, and the rest."""
    needed: set[Register] = set()
    handed_on: list[Node] = []
    rest: list[Node] = []
    for node in reversed(nodes):
        assert isinstance(node, Instruction), "the scalar unit waits for nothing"
        if node.row.queue is Queue.COMPUTE or node.written_register in needed:
            needed.update(node.registers_read)
            handed_on.insert(0, node)
        else:
            rest.insert(0, node)
    return handed_on, rest


@dataclass
class _Lead:
    """Loads that run some iterations ahead, with the scalar arithmetic of the iteration that they are for.

    Attributes:
        loads: nodes of the loop.
        takes: what brings shared tiles from SRAM so many iterations ahead.
        slice: scalar instructions that they or the advance of carried registers need.
        places: those of the carried registers that they depend on.
        known: what stands for the loop's index and carried registers in the iteration that is loaded next.
        ready: what stands there for the registers that the loads read, and for whether there is such an iteration.
    """

    loads: list[Node]
    takes: list[Node]
    slice: list[Instruction]
    places: list[int]
    known: dict[Register, ScalarOperand]
    ready: dict[Register, ScalarOperand] = field(default_factory=dict[Register, ScalarOperand])
    carried: dict[Register, Carried] = field(default_factory=dict[Register, Carried])
    prepared: dict[Register, Carried] = field(default_factory=dict[Register, Carried])


class _Rotation(PhasedLoop):
    """The parts of a rotated loop."""

    def __init__(self, code: TileCode, loop: Loop, shared: SharedPlan, machine: Machine) -> None:
        super().__init__(code, loop, shared.plan, shared.buffers)
        self.machine = machine
        # Stands for whether there is an iteration to load for.
        self.more = code.register()
        self.leads = [self._lead(shared.shared_loads, []), self._lead(shared.own_loads, shared.takes)]

    def _lead(self, loads: list[Node], takes: list[Node]) -> _Lead:
        loop = self.loop
        definitions = Definitions(loop)
        needed = definitions.closure(free_registers([*self.plan.serves, *loads, *takes]))
        assert needed is not None, "the plan has looked at that"
        places = [place for place, (register, _) in enumerate(loop.carried) if register in needed]
        known = {loop.index: loop.start} | {loop.carried[place][0]: loop.carried[place][1] for place in places}
        return _Lead(loads, takes, definitions.instructions(needed), places, known)

    # ---- before the loop -------------------------------------------------------------------------------------------

    def enter(self) -> list[Node]:
        """What is loaded and taken before the first iteration."""
        loop = self.loop
        shared, own = self.leads
        entered = self._prepare(own)
        # Registers tell the phases apart, so that what is taken from one need not wait for what comes to the other.
        first = {size: self._phase(entered, 0) for size in self.now}
        second = {size: self._phase(entered, size) for size in self.now}
        nodes = [
            *entered,
            *self._load(shared, first),
            barrier(loop.location),
            *self._take(own, first),
            *self._in_order(self._load(shared, second), first),
        ]
        for lead in self.leads:
            nodes += self._prepare(lead)
            lead.carried = {register: self._carry(operand) for register, operand in lead.known.items()}
            lead.prepared = {register: self._carry(operand) for register, operand in lead.ready.items()}
            lead.known = {register: carried.register for register, carried in lead.carried.items()}
            lead.ready = {register: carried.register for register, carried in lead.prepared.items()}
        return nodes

    def _phase(self, nodes: list[Node], offset_bytes: int) -> Register:
        """A register with the offset of a phase."""
        register = self.code.register()
        nodes.append(Instruction(TABLE["mov"], (I64,), (register, Immediate(offset_bytes)), self.loop.location))
        self.code.phases[register] = register
        return register

    # ---- in the loop -----------------------------------------------------------------------------------------------

    def take_ahead(self) -> list[Node]:
        """What is taken from SRAM for the next iteration, if there is one; what that needs has been prepared before."""
        return self._take(self.leads[1], self.other)

    def load_ahead(self) -> list[Node]:
        """The loads of the iteration after the next and of the next; what they need has been prepared before."""
        return self._in_order(self._issue(self.leads[0], self.now), self.other)

    def _in_order(self, together: list[Node], phases: dict[int, Register]) -> list[Node]:
        """What all load together, and what a core loads for itself to some phases, in the order that takes less."""
        shared, own = self.leads
        first, last = self._around(shared, own) or ([], own.loads)
        return [*self._issue(own, phases, first), *together, *self._issue(own, phases, last)]

    def _around(self, shared: _Lead, own: _Lead) -> tuple[list[Node], list[Node]] | None:
        """The halves of a core's own load before and behind what all load together, if it takes less time so."""
        if len(own.loads) != 1:
            return None
        [load] = own.loads
        whole, others = transfer_of(self.code, load), [transfer_of(self.code, node) for node in shared.loads]
        if not isinstance(load, Instruction) or whole is None or None in others:
            return None
        before, _ = order_of(whole, [each for each in others if each is not None], self.machine)
        parts = halves(self.code, load) if before is not None else None
        return parts if parts is None or before else ([], [*parts[0], *parts[1]])

    def prepare_loads(self) -> list[Node]:
        """The scalar arithmetic of the loads that the next iteration issues, while those of this one are under way."""
        nodes: list[Node] = []
        for lead in self.leads:
            nodes += self._prepare(lead)
            for registers, operands in ((lead.carried, lead.known), (lead.prepared, lead.ready)):
                for register, carried in registers.items():
                    carried.yielded = operands[register]
        return nodes

    def _load(self, lead: _Lead, phases: dict[int, Register]) -> list[Node]:
        """The loads of the iteration that a lead has come to, if there is one."""
        return [*self._prepare(lead), *self._issue(lead, phases)]

    def _prepare(self, lead: _Lead) -> list[Node]:
        """What the loads of the iteration that a lead has come to need; then it goes on to the next."""
        loop = self.loop
        if not lead.loads and not lead.takes:
            return []
        renamer = Renamer(self.code, lead.known, {})
        nodes: list[Node] = renamer.nodes(lead.slice)
        index = lead.known[loop.index]
        read = free_registers([*self.plan.serves, *lead.loads, *lead.takes])
        lead.ready = {register: found for register in read if (found := renamer.operand(register)) != register}
        lead.ready[self.more] = self._scalar(nodes, "slt", index, loop.end)
        lead.known = {loop.index: self._scalar(nodes, "add", index, loop.step)} | {
            loop.carried[place][0]: renamer.operand(loop.yielded[place]) for place in lead.places
        }
        return nodes

    def _issue(self, lead: _Lead, phases: dict[int, Register], loads: Sequence[Node] | None = None) -> list[Node]:
        """The loads for which all is ready, if there is such an iteration; or these, which do the same."""
        if not lead.loads:
            return []
        chosen = lead.loads if loads is None else loads
        if not chosen:
            return []
        loads = Renamer(self.code, lead.ready, self._phases(phases)).nodes([*self.plan.serves, *chosen])
        return [Branch(lead.ready[self.more], loads, location=self.loop.location)]

    def _take(self, lead: _Lead, phases: dict[int, Register]) -> list[Node]:
        """What is taken from SRAM for the iteration for which all is ready, if there is one."""
        takes = Renamer(self.code, lead.ready, self._phases(phases)).nodes(lead.takes)
        return [Branch(lead.ready[self.more], takes, location=self.loop.location)]
