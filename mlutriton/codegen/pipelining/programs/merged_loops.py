"""Resident programs that loop: the pipeline of a task's programs does not run dry between them.

A program

    total = 0; for k = start; k < end; k += step: total += load a(k) * load b(k)
    store convert(total)

whose loop is of one length for all programs becomes, for all the programs that fall to a task, a single loop

    for all programs, for all k:
        total = load a(k) * load b(k), added to the total unless k = start
        if this is the last k: store convert(total)

so that while one program ends, the tiles of the next are on their way: the software pipeline takes the loop like any
other, with loads ahead across programs. What a program loads in front of its loop, and from where else the loop goes
on, is done by a branch in its first iteration; what follows the loop, in the last one.

Where there is room for two results, what a program stores is spread over the iterations of the next one
(:mod:`mlutriton.codegen.pipelining.programs.spread_stores`). There is no branch for the last iteration then: the
arithmetic of its end has a count of 0 in all others, and an instruction with a count of 0 does nothing.

That is for programs of several cores, which load tiles together: their pipeline has three stages, and takes longest to
fill. Of those of one core it is for programs that load and store in their loop, in long transfers: they show two bursts
of them at their ends. So it is for those that multiply, and whose arithmetic hides all transfers, those in front of the
loop as well, which are done again in each iteration: that needs no branch, in which they would be waited for. Others
gain 2 % where a core has many of them, and lose as much where it has one, to the scalar arithmetic that each iteration
does again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlutriton.codegen.pipelining.blocks.size import arithmetic_cycles, transfer_latency, transfer_rate
from mlutriton.codegen.pipelining.pipeline_plan import buffer_bytes, is_transfer
from mlutriton.codegen.pipelining.programs.spread_stores import PartedStore, Spread, parted_store, spread_store
from mlutriton.codegen.renaming import Renamer, with_own_buffers
from mlutriton.codegen.tile_code import (
    Branch,
    Emitter,
    Loop,
    Node,
    Ordering,
    ScalarOperand,
    Sharing,
    TileCode,
    buffers_of,
    instructions,
    only_sets_register,
    registers_set,
    sync,
)
from mlutriton.diagnostics import Location
from mlutriton.dtypes import I1, I8, I64
from mlutriton.immutables import replace
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import NOT_EXTENTS, SYNC_IO, TABLE, Access, Queue, SlotKind


@dataclass(frozen=True)
class LoopingProgram:
    """The parts of a program that can be merged with those of others.

    Attributes:
        before: scalar arithmetic in front of the loop.
        totals: to which the loop only adds products.
        fills: what sets the totals to zero there, and what else the loop goes on from to where it begins.
        loads: what is loaded there, which the loop and what follows only read.
        loop: that walks along the depth.
        behind: arithmetic, and the stores.
        loads_again: what is loaded in front of the loop may as well be loaded in each iteration, ahead like the rest.
    """

    before: list[Node]
    totals: set[str]
    fills: list[Instruction]
    loads: list[Instruction]
    loop: Loop
    behind: list[Node]
    loads_again: bool

    @property
    def starts(self) -> list[Node]:
        """What each program has to do when its loop begins; totals begin by themselves."""
        fills = [node for node in self.fills if _written(node) - self.totals]
        if self.loads_again:
            return [*fills]
        wait = [sync(SYNC_IO, self.loads[0].location)] if self.loads else []
        return [*self.loads, *fills, *wait]


def looping_program(
    code: TileCode, body: Sequence[Node], machine: Machine, short_bytes: int, *, is_alone: bool
) -> LoopingProgram | None:
    """The parts of a program, if it is of that form, and one loop for several of them is of use.

    Args:
        code: has the buffers.
        body: of the program.
        machine: decides whether arithmetic binds.
        short_bytes: what is shorter is better loaded in blocks, if it is all that a loop does.
        is_alone: there is no other way to take several programs of one core.
    """
    loops = [node for node in body if isinstance(node, Loop)]
    if len(loops) != 1 or loops[0].stages == 1:
        return None
    loop = loops[0]
    place = body.index(loop)
    before, behind = body[:place], list(body[place + 1 :])
    written = {name for each in instructions([loop, *behind]) for name in _written(each)}
    filled = [node for node in before if isinstance(node, Instruction) and _is_fill(node) and _written(node) <= written]
    loads = [
        node for node in before if isinstance(node, Instruction) and _is_load(node) and not _written(node) & written
    ]
    totals = _totals(loop) & {name for node in filled if _is_zero(node) for name in _written(node)}
    rest = [node for node in before if not any(node is each for each in (*filled, *loads))]
    is_shared = any(isinstance(node, Sharing) for node in loop.body)
    hides_loads = is_alone and not is_shared and _hides(loop, loads, machine)
    program = LoopingProgram(rest, totals, filled, loads, loop, behind, hides_loads)
    is_known = filled and all(map(_is_scalar, rest)) and _totals(loop) <= totals
    adds_up = (is_shared or hides_loads) and _only_loads(loop) and _only_stores(behind)
    return program if is_known and (adds_up or (_copies(code, loop, short_bytes) and not behind)) else None


def _totals(loop: Loop) -> set[str]:
    """Buffers that the loop touches by nothing but one product each, which is added to what they hold."""
    touched: list[str] = []
    added: set[str] = set()
    for each in instructions(loop.body):
        touched += [name for name, _ in each.buffers]
        target = each.operands[0] if each.row.name == "mm" else None
        if isinstance(target, Address) and each.operands[-1] == Immediate(1):
            added.add(target.buffer)
    return {name for name in added if touched.count(name) == 1}


def _written(node: Instruction) -> set[str]:
    return {at.buffer for at, how in node.accesses if isinstance(at, Address) and how is not Access.READ}


def _is_fill(node: Instruction) -> bool:
    """True if an instruction sets a buffer to a known number."""
    return node.row.name == "v.mov" and isinstance(node.operands[0], Address) and not any(node.registers_read) \
        and isinstance(node.operands[1], Immediate)  # fmt: skip


def _is_zero(node: Instruction) -> bool:
    return node.operands[1] in (Immediate(0), Immediate(0.0))


def _is_load(node: Instruction) -> bool:
    return node.row.name in ("dma.load", "dma.load_pad")


def _is_scalar(node: Node) -> bool:
    return isinstance(node, Instruction) and only_sets_register(node)


def _only_loads(loop: Loop) -> bool:
    """True if all that the loop does besides arithmetic is to load tiles."""
    for node in loop.body:
        if not isinstance(node, Instruction | Sharing) and not is_transfer(node):
            return False
    for each in instructions(loop.body):
        is_load = each.row.trace == "LOAD"
        if each.row.trace not in ("", "LOAD", "MOVE"):
            return False
        if each.row.queue is Queue.SCALAR and not only_sets_register(each):
            return False
        writes = any(isinstance(at, GlobalAddress) and how is not Access.READ for at, how in each.accesses)
        if writes or (not is_load and any(isinstance(at, GlobalAddress) for at, _ in each.accesses)):
            return False
    return True


def _hides(loop: Loop, before: Sequence[Instruction], machine: Machine) -> bool:
    """True if a loop multiplies matrices, and its arithmetic hides its loads and those before it."""
    every = list(instructions(loop.body))
    loads = [*before, *(each for each in every if each.row.trace == "LOAD")]
    loaded = sum(math.prod(_extents(each)) * each.dtypes[0].bytes for each in loads)
    transfers = len(loads) * transfer_latency(machine) + loaded / transfer_rate(machine)
    return any(each.row.name == "mm" for each in every) and arithmetic_cycles(loop.body, machine) > transfers


def _extents(load: Instruction) -> list[int]:
    """How many elements a load has along its dimensions, for all that is known."""
    names = ("depth", "columns") if load.row.name == "dma.weight" else ("n0", "n1", "n2")
    return [load.known_counts.get(name, 1) for name in names]


def _copies(code: TileCode, loop: Loop, short_bytes: int) -> bool:
    """True if all that the loop does besides arithmetic is to load and to store tiles, none of which is short."""
    transfers = [node for node in loop.body if is_transfer(node)]
    rest = instructions([node for node in loop.body if not is_transfer(node)])
    is_plain = all(
        not each.row.trace and (each.row.queue is Queue.COMPUTE or only_sets_register(each)) for each in rest
    ) and all(isinstance(node, Instruction) for node in loop.body)
    traces = {each.row.trace for each in instructions(transfers)}
    is_long = all(buffer_bytes(code, [node]) >= short_bytes for node in transfers)
    return is_plain and is_long and traces == {"LOAD", "STORE"}


def _only_stores(nodes: Sequence[Node]) -> bool:
    """True if there is nothing but arithmetic and stores, each an instruction with counts."""
    stores = 0
    for node in nodes:
        if isinstance(node, Ordering):
            if not node.unless_disjoint:
                return False
        elif not isinstance(node, Instruction):
            return False
        elif node.row.trace == "STORE":
            stores += 1
        elif node.row.trace or (_extent(node) is None and not only_sets_register(node)):
            return False
    return stores > 0


def _extent(instruction: Instruction) -> int | None:
    """The place of an operand that makes the instruction do nothing if it is 0."""
    for place, slot in enumerate(instruction.row.slots):
        if slot.kind is SlotKind.COUNT and slot.name not in NOT_EXTENTS:
            return place
    return None


def merged(code: TileCode, program: LoopingProgram, programs: Loop, *, spread: Spread) -> list[Node] | None:
    """One loop for all programs of a task.

    Args:
        code: gets registers and buffers.
        program: what each of them does.
        programs: the loop over their numbers, with what is done first for each: ``program.before``, with the place of
            the program in the grid known.
        spread: how what a program stores is stored in the iterations of the next one, where that can be.

    Returns:
        None if the loops of programs are not of one length.
    """
    loop = program.loop
    varying = {programs.index} | registers_set(programs.body)
    if {each for each in (loop.start, loop.end, loop.step) if isinstance(each, Register)} & varying:
        return None
    emitter = Emitter(code, loop.location)
    emitter.nodes = nodes = list[Node](program.fills)
    steps = iterations(emitter, loop)
    turns = emitter.integer("sub", programs.end, programs.start)
    turns = emitter.integer("sub", emitter.integer("add", turns, programs.step), Immediate(1))
    count = emitter.integer("mul", emitter.integer("sdiv", turns, programs.step), steps)
    some = emitter.scalar("sgt", (I64,), steps, Immediate(0))
    apart = _without_steps(code, program, programs)
    totals = {name for each in instructions([*program.fills, loop]) for name in _written(each)}
    parted = None if spread is Spread.NONE else parted_store(code, program.behind, totals, spread)
    # What one iteration leaves for the next is there before, too: nothing else may have its place.
    kept = [] if program.loads_again else [node.operands[0] for node in program.loads]
    left = kept + ([parted.source] if parted else [])
    nodes += [filled(code, address, loop.location) for address in left if isinstance(address, Address)]
    height = parted.height(emitter, steps) if parted else Immediate(0)
    whole, after = _over_all(emitter, program, programs, count, parted, height)
    return [*nodes, Branch(some, [whole, *after], apart)]


def _over_all(
    emitter: Emitter,
    program: LoopingProgram,
    programs: Loop,
    count: ScalarOperand,
    parted: PartedStore | None,
    height: ScalarOperand,
) -> tuple[Loop, list[Node]]:
    """The loop over all iterations of all programs of a task, and what is stored behind it.

    Args:
        emitter: makes registers.
        program: what each of them does.
        programs: the loop over their numbers, with what is done first for each.
        count: how many iterations all of them have.
        parted: the store that is spread over the iterations of the next program, if any.
        height: rows of a part of it.
    """
    code, loop, number = emitter.code, program.loop, programs.index
    whole = Loop(
        I64, code.register(), Immediate(0), count, Immediate(1), [],
        independent=bool(program.behind), stages=loop.stages, location=loop.location,
    )  # fmt: skip
    whole.carried = [(number, programs.start), (loop.index, loop.start)]
    emitter.nodes = whole.body = list(programs.body)
    first = emitter.scalar("eq", (loop.dtype,), loop.index, loop.start)
    substitutes: dict[Register, ScalarOperand] = {}
    for register, initial in loop.carried:
        kept = code.register()
        whole.carried.append((kept, Immediate(0)))
        substitutes[register] = emitter.scalar("select", (I64,), first, initial, kept)
    again = emitter.scalar("xor", (I1,), first, Immediate(1))
    phases = parted.phases if parted else {}
    renamer = Renamer(code, substitutes, phases, keep=True)
    if program.starts:
        whole.body.append(Branch(first, renamer.nodes(program.starts), location=loop.location))
    again_loaded = program.loads if program.loads_again else []
    whole.body += [_added(node, program.totals, again) for node in renamer.nodes([*again_loaded, *loop.body])]
    following = emitter.scalar("add", (loop.dtype,), loop.index, loop.step)
    last = emitter.scalar("sge", (loop.dtype,), following, loop.end)
    yielded = [renamer.operand(operand) for operand in loop.yielded]
    results = dict(zip([register for register, _ in loop.carried], yielded, strict=True))
    behind = Renamer(code, results, phases, keep=True).nodes(program.behind)
    after: list[Node] = []
    if parted:
        more, after = _ended_later(emitter, whole, parted, behind, number, last, height)
        yielded += more
    elif behind:
        whole.body.append(Branch(last, behind, location=loop.location))
    whole.yielded = [
        emitter.scalar("select", (I64,), last, emitter.scalar("add", (I64,), number, programs.step), number),
        emitter.scalar("select", (I64,), last, loop.start, following),
        *yielded,
    ]
    return whole, after


def _ended_later(
    emitter: Emitter,
    whole: Loop,
    parted: PartedStore,
    behind: Sequence[Node],
    number: Register,
    last: Register,
    height: ScalarOperand,
) -> tuple[list[ScalarOperand], list[Node]]:
    """Do what follows the loop of a program, with its store spread over the iterations of the next one.

    Args and results are those of :func:`spread_store`, but for what follows the loop.
    """
    [store] = (node for node in behind if isinstance(node, Instruction) and node.row.trace == "STORE")
    # What is stored of the program before may have to give its place to what this one makes.
    emitter.nodes += [node for node in behind if _is_scalar(node)]
    more, after = spread_store(emitter, whole, parted, store, number, last, height)
    made = [node for node in behind if node is not store and not _is_scalar(node)]
    if parted.places is None:
        emitter.nodes.append(Branch(last, made, location=store.location))
    else:
        _emit_behind(emitter, made, last)
    return more, after


def iterations(emitter: Emitter, loop: Loop) -> ScalarOperand:
    """How many iterations a loop has."""
    if isinstance(loop.start, Immediate) and isinstance(loop.end, Immediate) and isinstance(loop.step, Immediate):
        start, end, step = (int(each.value) for each in (loop.start, loop.end, loop.step))
        return Immediate(max(0, -(-(end - start) // step)))
    start, end, step = (
        each if isinstance(each, Immediate) or loop.dtype is I64 else emitter.scalar("sext", (loop.dtype, I64), each)
        for each in (loop.start, loop.end, loop.step)
    )
    length = emitter.integer("add", emitter.integer("sub", end, start), emitter.integer("sub", step, Immediate(1)))
    return emitter.integer("smax", emitter.integer("sdiv", length, step), Immediate(0))


def _added(node: Node, totals: set[str], again: Register) -> Node:
    """A product that is added to a total from the second step on."""
    target = node.operands[0] if isinstance(node, Instruction) and node.row.name == "mm" else None
    if isinstance(node, Instruction) and isinstance(target, Address) and target.buffer in totals:
        return node.taking((*node.operands[:-1], again))
    return node


def filled(code: TileCode, address: Address, location: Location) -> Instruction:
    """An instruction that sets a buffer."""
    count = Immediate(code.buffers[address.buffer].bytes)
    return Instruction(TABLE["v.mov"], (I8,), (Address(address.buffer), Immediate(0), Immediate(1), count), location)


def _emit_behind(emitter: Emitter, nodes: Sequence[Node], last: Register) -> None:
    """What follows the loop of a program, in its last iteration alone."""
    counts: dict[Operand, ScalarOperand] = {}
    for node in nodes:
        place = _extent(node) if isinstance(node, Instruction) and node.row.queue is not Queue.SCALAR else None
        if place is None or not isinstance(node, Instruction):
            emitter.nodes.append(node)
            continue
        count = node.operands[place]
        assert isinstance(count, Register | Immediate)
        if count not in counts:
            # Not between the steps of a chain, which all have the same count.
            counts[count] = emitter.integer("mul", count, last)
        operands = (*node.operands[:place], counts[count], *node.operands[place + 1 :])
        emitter.nodes.append(node.taking(operands))


def _without_steps(code: TileCode, program: LoopingProgram, programs: Loop) -> list[Node]:
    """What programs do if their loops have no iteration."""
    body = [*programs.body, *program.loads, *program.fills, *program.behind]
    results = dict(program.loop.carried)
    body = Renamer(code, results, {}, keep=True).nodes(body)
    each = replace(programs, body=body, independent=False, stages=1, location=program.loop.location)
    fresh = Renamer(code, {}, {}).nodes([each])
    return with_own_buffers(code, fresh, buffers_of(fresh))
