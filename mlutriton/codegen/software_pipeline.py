"""Software pipelining: loads of the next iteration run while this one computes, over ping-pong buffers.

A loop

    for i: load x(i); load w(i); compute(x, w)

becomes, with the loads' scalar work (addresses, limits) running one iteration ahead in registers of its own,

    load x(0) -> phase 0; sync
    for i: if there is a next iteration: load x(i + 1) -> next phase
           compute(this phase); sync; swap phases

The one ``sync`` at the end of an iteration is the machine's way: a queue can only be waited for as a whole.

A load moves ahead only if its address and geometry need nothing but scalar arithmetic, and if nothing else writes its
buffer. Where the loop also writes global memory, the next iteration's load could read what this one stores: then it
must come from another array than every store, and the plain loop is kept beside the pipelined one for launches whose
arrays overlap, which the special register ``arrays_disjoint`` tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from mlutriton.codegen.pointer_roots import PointerRoots
from mlutriton.codegen.synchronize import ALL_QUEUES
from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    Node,
    ScalarOperand,
    TileCode,
    While,
    accesses,
    children,
    instructions,
    registers_read,
    written_register,
)
from mlutriton.dtypes import I64
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SPECIAL_REGISTERS, TABLE, Access, Queue


def pipeline_loops(code: TileCode, default_stages: int) -> None:
    """Pipeline every loop that wants more than one stage and whose loads can run ahead."""
    _visit(code, code.nodes, default_stages, PointerRoots(code))


def _visit(code: TileCode, nodes: list[Node], default_stages: int, roots: PointerRoots) -> None:
    result: list[Node] = []
    for node in nodes:
        for nested in children(node):
            _visit(code, nested, default_stages, roots)
        if isinstance(node, Loop) and (node.stages or default_stages) > 1:
            plan = _plan(node, roots)
            if plan.loads:
                result += _guarded(code, node, plan) if plan.needs_disjoint_arrays else _rotate(code, node, plan)
                continue
        result.append(node)
    nodes[:] = result


@dataclass
class _Plan:
    """What runs one iteration ahead.

    Attributes:
        loads: top-level nodes that load, in order.
        slice: top-level scalar instructions that the loads or the advance of their carried registers need.
        carried: carried registers that the loads depend on, as places in ``Loop.carried``.
        buffers: names of the buffers that become ping-pong.
        needs_disjoint_arrays: correct only if the arrays of the launch share no bytes.
    """

    loads: list[Node] = field(default_factory=list[Node])
    slice: list[Instruction] = field(default_factory=list[Instruction])
    carried: list[int] = field(default_factory=list[int])
    buffers: set[str] = field(default_factory=set[str])
    needs_disjoint_arrays: bool = False


def _plan(loop: Loop, roots: PointerRoots) -> _Plan:
    stored = _stored(loop, roots)
    if stored is None:
        return _Plan()
    definitions = _Definitions(loop)
    plan = _Plan(needs_disjoint_arrays=bool(stored))
    needed: set[Register] = set()
    for node in loop.body:
        targets = _load_targets(node)
        if not targets or any(_other_writers(loop, node, target) for target in targets):
            continue
        if stored and not _is_apart(node, stored, roots):
            continue
        closure = definitions.closure(_free_registers([node]))
        if closure is not None:
            plan.loads.append(node)
            plan.buffers |= targets
            needed |= closure
    plan.carried = [place for place, (register, _) in enumerate(loop.carried) if register in needed]
    plan.slice = [
        node
        for node in loop.body
        if isinstance(node, Instruction) and written_register(node) in needed and node not in plan.loads
    ]
    return plan


def _stored(loop: Loop, roots: PointerRoots) -> frozenset[int] | None:
    """The pointer parameters through which the loop writes; None if one is not known."""
    found: set[int] = set()
    for instruction in instructions(loop.body):
        for operand, access in accesses(instruction):
            if isinstance(operand, GlobalAddress) and access is not Access.READ:
                parameters = roots.of(operand.register)
                if parameters is None:
                    return None
                found |= parameters
    return frozenset(found)


def _is_apart(load: Node, stored: frozenset[int], roots: PointerRoots) -> bool:
    """True if a load reads through other parameters than the loop writes."""
    for instruction in instructions([load]):
        for operand, _ in accesses(instruction):
            if isinstance(operand, GlobalAddress):
                parameters = roots.of(operand.register)
                if parameters is None or parameters & stored:
                    return False
    return True


def _guarded(code: TileCode, loop: Loop, plan: _Plan) -> list[Node]:
    """The pipelined loop where the arrays of the launch are disjoint, else the plain one."""
    disjoint = code.register()
    index = Immediate(SPECIAL_REGISTERS.index("arrays_disjoint"))
    plain = replace(loop, stages=1)
    return [
        Instruction(TABLE["sreg"], (), (disjoint, index), loop.location),
        Branch(disjoint, _rotate(code, loop, plan), [plain], location=loop.location),
    ]


def _load_targets(node: Node) -> set[str]:
    """Buffers that a node loads from global memory, if that and scalar arithmetic is all it does; else nothing."""
    targets: set[str] = set()
    for instruction in instructions([node]):
        if instruction.row.trace == "LOAD":
            targets |= {
                operand.buffer
                for operand, access in accesses(instruction)
                if isinstance(operand, Address) and access is Access.WRITE
            }
        elif instruction.row.queue is not Queue.SCALAR or instruction.row.trace or any(accesses(instruction)):
            return set()
    return targets


def _other_writers(loop: Loop, load: Node, target: str) -> bool:
    """True if anything in the loop but ``load`` writes the buffer."""
    return any(
        isinstance(operand, Address) and operand.buffer == target and access is not Access.READ
        for node in loop.body
        if node is not load
        for instruction in instructions([node])
        for operand, access in accesses(instruction)
    )


def _free_registers(nodes: Sequence[Node]) -> set[Register]:
    """Registers that nodes read but do not define themselves."""
    defined: set[Register] = set()
    read: set[Register] = set()
    for node in nodes:
        match node:
            case Instruction():
                read.update(registers_read(node))
                written = written_register(node)
                if written is not None:
                    defined.add(written)
            case While():
                defined.update(register for register, _ in node.carried)
                read.update(_registers([node.condition, *node.yielded, *(initial for _, initial in node.carried)]))
            case Loop():
                defined.update({node.index, *(register for register, _ in node.carried)})
                ends = [node.start, node.end, node.step, *node.yielded, *(initial for _, initial in node.carried)]
                read.update(_registers(ends))
            case Branch():
                read.update(_registers([node.condition]))
        for nested in children(node):
            inner_read, inner_defined = _reads_and_definitions(nested)
            read |= inner_read
            defined |= inner_defined
    return read - defined


def _reads_and_definitions(nodes: Sequence[Node]) -> tuple[set[Register], set[Register]]:
    defined = {w for instruction in instructions(nodes) if (w := written_register(instruction)) is not None}
    return _free_registers(nodes), defined


def _registers(operands: Sequence[Operand]) -> Iterator[Register]:
    return (operand for operand in operands if isinstance(operand, Register))


class _Definitions:
    """Where the registers of a loop body come from."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.scalar: dict[Register, Instruction] = {}
        self.opaque: set[Register] = set()
        for node in loop.body:
            if isinstance(node, Instruction):
                written = written_register(node)
                if written is not None:
                    pure = not node.row.trace and not any(accesses(node))
                    if pure and written not in self.scalar:
                        self.scalar[written] = node
                    else:
                        self.opaque.add(written)
            else:
                self.opaque |= _reads_and_definitions([node])[1]

    def closure(self, registers: set[Register]) -> set[Register] | None:
        """All registers of the loop that these depend on, carried ones too; None if one is not plain arithmetic."""
        carried = {register: place for place, (register, _) in enumerate(self.loop.carried)}
        found: set[Register] = set()
        pending = list(registers)
        while pending:
            register = pending.pop()
            if register in found:
                continue
            if register in self.opaque:
                return None
            if register in self.scalar:
                found.add(register)
                pending += registers_read(self.scalar[register])
            elif register in carried:
                found.add(register)
                pending += _registers([self.loop.yielded[carried[register]]])
            elif register == self.loop.index:
                found.add(register)
        return found


# ---- the rotated loop ----------------------------------------------------------------------------------------------


def _rotate(code: TileCode, loop: Loop, plan: _Plan) -> list[Node]:
    for name in plan.buffers:
        code.buffers[name].phases = 2
    location = loop.location

    def scalar(nodes: list[Node], name: str, *operands: Operand) -> Register:
        result = code.register()
        nodes.append(Instruction(TABLE[name], (loop.dtype,), (result, *operands), location))
        return result

    # One iteration of the load stage: scalars, loads, and the carried registers for the next one.
    ahead_index = code.register()
    ahead = {loop.carried[place][0]: code.register() for place in plan.carried}

    def stage(nodes: list[Node], values: dict[Register, ScalarOperand], phase: _Phase) -> None:
        chosen = {id(node) for node in (*plan.slice, *plan.loads)}
        nodes.extend(_Renamer(code, values, phase).nodes([node for node in loop.body if id(node) in chosen]))

    before: list[Node] = []
    initial: dict[Register, ScalarOperand] = {loop.carried[place][0]: loop.carried[place][1] for place in plan.carried}
    first: list[Node] = []
    stage(first, {loop.index: loop.start, **initial}, _Phase(plan.buffers, {}))
    first.append(Instruction(TABLE["sync"], (), (Immediate(ALL_QUEUES),), location))
    entered = scalar(before, "slt", loop.start, loop.end)
    before.append(Branch(entered, first, location=location))
    # The carried registers of iteration 1; harmless if there is none.
    renamer = _Renamer(code, {loop.index: loop.start, **initial}, _Phase(set(), {}))
    before += renamer.nodes(plan.slice)
    second = {register: renamer.operand(loop.yielded[place]) for place, register in _places(loop, plan)}
    second_index = scalar(before, "add", loop.start, loop.step)

    sizes = sorted({code.buffers[name].bytes for name in plan.buffers})
    now = {size: code.register() for size in sizes}
    then = {size: code.register() for size in sizes}

    body: list[Node] = []
    more = scalar(body, "slt", ahead_index, loop.end)
    prefetch: list[Node] = []
    next_phase = {name: then[code.buffers[name].bytes] for name in plan.buffers}
    stage(prefetch, {loop.index: ahead_index, **ahead}, _Phase(plan.buffers, next_phase))
    body.append(Branch(more, prefetch, location=location))
    renamer = _Renamer(code, {loop.index: ahead_index, **ahead}, _Phase(set(), {}))
    body += renamer.nodes(plan.slice)
    following = {register: renamer.operand(loop.yielded[place]) for place, register in _places(loop, plan)}
    following_index = scalar(body, "add", ahead_index, loop.step)
    this_phase = {name: now[code.buffers[name].bytes] for name in plan.buffers}
    loads = {id(node) for node in plan.loads}
    compute = _Renamer(code, {}, _Phase(plan.buffers, this_phase), keep=True)
    body += compute.nodes([node for node in loop.body if id(node) not in loads])
    body.append(Instruction(TABLE["sync"], (), (Immediate(ALL_QUEUES),), location))

    rotated = replace(loop, body=body, stages=1)
    rotated.carried = [
        *loop.carried,
        (ahead_index, second_index),
        *((ahead[register], second[register]) for register in ahead),
        *((now[size], Immediate(0)) for size in sizes),
        *((then[size], Immediate(size)) for size in sizes),
    ]
    rotated.yielded = [
        *loop.yielded,
        following_index,
        *(following[register] for register in ahead),
        *(then[size] for size in sizes),
        *(now[size] for size in sizes),
    ]
    return [*before, rotated]


def _places(loop: Loop, plan: _Plan) -> list[tuple[int, Register]]:
    return [(place, loop.carried[place][0]) for place in plan.carried]


@dataclass
class _Phase:
    """Ping-pong buffers and the register that holds each one's phase offset in bytes; without one, phase 0."""

    buffers: set[str]
    registers: dict[str, Register]


class _Renamer:
    """Copies nodes with fresh result registers, given substitutes, and phase offsets on ping-pong addresses."""

    def __init__(
        self, code: TileCode, substitutes: dict[Register, ScalarOperand], phase: _Phase, *, keep: bool = False
    ) -> None:
        self.code = code
        self.substitutes: dict[Register, ScalarOperand] = dict(substitutes)
        self.phase = phase
        self.keep = keep
        self.renamed: set[Register] = set()

    def operand(self, operand: ScalarOperand) -> ScalarOperand:
        """A scalar operand under the renaming."""
        return self.substitutes.get(operand, operand) if isinstance(operand, Register) else operand

    def nodes(self, nodes: Sequence[Node]) -> list[Node]:
        """Copies of nodes, in order."""
        result: list[Node] = []
        for node in nodes:
            match node:
                case Instruction():
                    result += self._instruction(node)
                case While():
                    carried = [(self._define(register), self.operand(initial)) for register, initial in node.carried]
                    head, body = self.nodes(node.head), self.nodes(node.body)
                    yielded = [self.operand(operand) for operand in node.yielded]
                    condition = self.operand(node.condition)
                    result.append(
                        replace(node, condition=condition, carried=carried, head=head, body=body, yielded=yielded)
                    )
                case Loop():
                    ends = [self.operand(operand) for operand in (node.start, node.end, node.step)]
                    carried = [(self._define(register), self.operand(initial)) for register, initial in node.carried]
                    index = self._define(node.index)
                    body = self.nodes(node.body)
                    yielded = [self.operand(operand) for operand in node.yielded]
                    start, end, step = ends
                    result.append(
                        replace(node, index=index, start=start, end=end, step=step, carried=carried, body=body,
                                yielded=yielded)
                    )  # fmt: skip
                case Branch():
                    condition = self.operand(node.condition)
                    then, otherwise = self.nodes(node.then), self.nodes(node.otherwise)
                    result.append(replace(node, condition=condition, then=then, otherwise=otherwise))
        return result

    def _define(self, register: Register) -> Register:
        if self.keep:
            return register
        # A register that several paths of a branch set keeps one new name.
        if register not in self.renamed:
            self.renamed.add(register)
            self.substitutes[register] = self.code.register()
        fresh = self.substitutes[register]
        assert isinstance(fresh, Register)
        return fresh

    def _instruction(self, instruction: Instruction) -> list[Node]:
        before: list[Node] = []
        written = written_register(instruction)
        operands: list[Operand] = []
        for place, operand in enumerate(instruction.operands):
            match operand:
                case Register() if place == 0 and written is not None:
                    operands.append(operand)  # renamed below, after its old value may have been read
                case Register():
                    operands.append(self.operand(operand))
                case GlobalAddress():
                    operands.append(replace(operand, register=self._address_register(operand.register, before)))
                case Address():
                    operands.append(self._phased(operand, before))
                case _:
                    operands.append(operand)
        if written is not None:
            operands[0] = self._define(written)
        return [*before, replace(instruction, operands=tuple(operands))]

    def _address_register(self, register: Register, before: list[Node]) -> Register:
        operand = self.operand(register)
        if isinstance(operand, Register):
            return operand
        made = self.code.register()
        before.append(Instruction(TABLE["mov"], (I64,), (made, operand)))
        return made

    def _phased(self, address: Address, before: list[Node]) -> Address:
        register = address.register and self._address_register(address.register, before)
        phase = self.phase.registers.get(address.buffer) if address.buffer in self.phase.buffers else None
        if phase is None:
            return replace(address, register=register)
        if register is None:
            return replace(address, register=phase)
        total = self.code.register()
        before.append(Instruction(TABLE["add"], (I64,), (total, register, phase)))
        return replace(address, register=total)
