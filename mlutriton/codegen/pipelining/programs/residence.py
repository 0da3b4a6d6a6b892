"""Resident programs: a task serves program after program of the grid, so that its pipeline does not run dry in between.

A program of the grid that is one straight run of transfers and arithmetic

    load x; compute y; store y; exit

becomes the body of a loop over the programs that fall to the task

    for number = task; number < programs; number += tasks: load x; compute y; store y
    exit

which the software pipeline takes like any other, except that its iterations are programs of a grid: these may run in
any order, so none has to wait for what another one stores. What is the same for all programs moves in front.

Of programs that loop, those of equal length become one loop (:mod:`mlutriton.codegen.pipelining.programs.merged_loops`)
or go several at a time (:mod:`mlutriton.codegen.pipelining.programs.grouped_programs`). Others stay as they are, with a
pipeline of their own, and are dealt out as cores fall free, or there and back
(:func:`mlutriton.codegen.grids.resident`). Those with barriers stay, too, and with atomics whose results they use, by
which programs may wait for each other. Atomics without results are stores: a straight program waits for nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from mlutriton.codegen.pipelining.pipeline_plan import is_silent_atomic, is_transfer
from mlutriton.codegen.pipelining.programs.grouped_programs import MOST_PROGRAMS, group_programs
from mlutriton.codegen.pipelining.programs.merged_loops import looping_program, merged
from mlutriton.codegen.pipelining.programs.spread_stores import Spread
from mlutriton.codegen.renaming import Renamer, with_own_buffers
from mlutriton.codegen.tile_code import (
    READING,
    WRITING,
    Branch,
    Emitter,
    Loop,
    Node,
    Ordering,
    TileCode,
    buffers_of,
    instructions,
    registers_set,
    serve,
    steps,
)
from mlutriton.diagnostics import Location
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SPECIAL_REGISTERS, TABLE, Access, Queue

__all__ = ["MOST_PROGRAMS", "hoist", "short_fills", "special", "stay_resident", "with_program_ids"]

# Tiles that flow for less than such a part of a latency gain nothing if the loops of programs become one.
_SHORT_SHARE = 2

_PROGRAM_ID: list[Operand] = [Immediate(SPECIAL_REGISTERS.index(f"program_id.{axis}")) for axis in "xyz"]


def stay_resident(code: TileCode, machine: Machine, most_programs: int, *, spread: Spread) -> int:
    """Let a task serve several programs if that is worth while and nobody can tell.

    Args:
        code: is rewritten.
        machine: decides what is short.
        most_programs: of programs that loop, how many may go together at most; 0 if not even their loops may be one.
        spread: where their loops become one, how what a program stores is stored in the next one's.

    Returns:
        How many programs that loop go together, 1 if one behind the other; 0 if they stay as they are.
    """
    *body, end = code.nodes
    if _is_straight(body):
        if any(is_transfer(node) for node in body):
            _serve_in_turn(code, body, end, machine)
        return 0
    latency_bytes = machine.core_dma_latency_bytes if most_programs else None
    if latency_bytes and _serve_in_one_loop(code, body, end, machine, latency_bytes, spread=spread):
        return 1
    together = _serve_in_groups(code, body, end, machine, most_programs)
    # What flows for less than a latency is better loaded for several programs at a time, if that can be.
    if not together and latency_bytes:
        short_bytes = latency_bytes // _SHORT_SHARE
        return int(_serve_in_one_loop(code, body, end, machine, short_bytes, spread=spread, is_alone=True))
    return together


def _serve_in_groups(code: TileCode, body: Sequence[Node], end: Node, machine: Machine, most_programs: int) -> int:
    """Take several programs that loop at a time; returns how many, 0 if that cannot be, or is of no use."""
    if most_programs < 2 or not any(isinstance(node, Loop) for node in body):
        return 0
    if any(_axis(each) is not None for node in body if isinstance(node, Loop) for each in instructions([node])):
        return 0
    nodes = code.nodes
    emitter = Emitter(code, end.location)
    emitter.nodes = code.nodes = []
    loop, extents = _over_programs(emitter, end.location)
    loop.line = extents[0]
    loop.body = [each for node in body for each in with_program_ids(emitter, node, loop.index, extents)]
    apart = _one_by_one(code, loop)
    # What all programs store alike has to stand there once for each of a group.
    stores = [each for each in instructions(loop.body) if each.row.trace == "STORE"]
    code.nodes += hoist(loop, _reads_before_all_writes(loop), buffers_of(stores, *READING))
    groups = group_programs(code, loop, machine, most_programs)
    if groups is None:
        code.nodes = nodes
        return 0
    *before, together = groups.nodes
    apart = replace(apart, start=groups.begin, end=groups.end, step=Immediate(1))
    code.nodes += [*before, Branch(groups.pays, [together], [apart], location=end.location), end]
    return groups.capacity


def _one_by_one(code: TileCode, loop: Loop) -> Loop:
    """A copy of a loop over programs, with registers and buffers of its own."""
    served = serve(loop.index, loop.location)
    plain = replace(loop, body=[served, *loop.body], line=None, independent=False, stages=1)
    copied = Renamer(code, {}, {}).nodes([plain])
    (copied,) = with_own_buffers(code, copied, buffers_of(copied))
    assert isinstance(copied, Loop)
    return copied


def _over_programs(emitter: Emitter, location: Location) -> tuple[Loop, list[Register]]:
    """A loop without a body over all programs of a task, and the extents of the grid along its first axes."""
    index, task, tasks = emitter.code.register(), special(emitter, "task"), special(emitter, "tasks")
    programs = special(emitter, "programs")
    extents = [special(emitter, f"num_programs.{axis}") for axis in "xy"]
    return Loop(I64, index, task, programs, tasks, [], independent=True, stages=0, location=location), extents


def _serve_in_one_loop(
    code: TileCode,
    body: Sequence[Node],
    end: Node,
    machine: Machine,
    short_bytes: int,
    *,
    spread: Spread,
    is_alone: bool = False,
) -> bool:
    """Make one loop of those of a task's programs; False if they differ in length, or that is of no use."""
    program = looping_program(code, body, machine, short_bytes, is_alone=is_alone)
    if program is None:
        return False
    nodes = code.nodes
    emitter = Emitter(code, end.location)
    emitter.nodes = code.nodes = []
    each, extents = _over_programs(emitter, end.location)
    each.body = [one for node in program.before for one in with_program_ids(emitter, node, each.index, extents)]
    alike = hoist(each, lambda load: False, ())
    each.body.insert(0, serve(each.index, end.location))
    merged_loop = merged(code, program, each, spread=spread)
    if merged_loop is None:
        code.nodes = nodes
        return False
    code.nodes += [*alike, *merged_loop, end]
    return True


def _serve_in_turn(code: TileCode, body: Sequence[Node], end: Node, machine: Machine) -> None:
    """Make a program the body of a loop over those of a task."""
    emitter = Emitter(code, end.location)
    emitter.nodes = code.nodes = []
    loop, extents = _over_programs(emitter, end.location)
    index, programs = loop.index, loop.end
    # Kernels that ask for x alone are served line by line: then addresses grow evenly.
    in_lines = not any(_axis(node) for node in body)
    if in_lines:
        loop.end = extents[0]
    else:
        loop.line = extents[0]
    loop.body = [each for node in body for each in with_program_ids(emitter, node, index, extents, in_lines=in_lines)]
    fills = short_fills(code, loop, machine.core_dma_latency_bytes)
    alike = hoist(loop, _reads_before_all_writes(loop), fills)
    if in_lines:
        begin, number = code.register(), code.register()
        loop.body[:0] = [
            Instruction(TABLE["add"], (I64,), (number, begin, index), end.location),
            serve(number, end.location),
        ]
        # There is one line but for launches that do the same several times: what is alike stands right before the loop.
        lines = Loop(I64, begin, Immediate(0), programs, loop.end, [], [*alike, loop], location=end.location)
        code.nodes.append(lines)
    else:
        loop.body.insert(0, serve(index, end.location))
        code.nodes += [*alike, loop]
    code.nodes.append(end)


def _is_straight(body: Sequence[Node]) -> bool:
    """True if the nodes run once each, in order, and share nothing with other programs but plain memory."""
    for node in body:
        waits_at_most = isinstance(node, Ordering) and node.unless_disjoint
        if not isinstance(node, Instruction) and not is_transfer(node) and not waits_at_most:
            return False
    meeting = (each for each in instructions(body) if each.row.trace.startswith(("ATOMIC", "BARRIER")))
    return all(is_silent_atomic(each) for each in meeting)


def special(emitter: Emitter, name: str) -> Register:
    """A register with what a special register has."""
    return emitter.scalar("sreg", (), Immediate(SPECIAL_REGISTERS.index(name)))


def _axis(node: Node) -> int | None:
    """The axis of the grid along which a node asks for its program's place."""
    if isinstance(node, Instruction) and node.row.name == "sreg" and node.operands[1] in _PROGRAM_ID:
        return _PROGRAM_ID.index(node.operands[1])
    return None


def with_program_ids(
    emitter: Emitter, node: Node, index: Register, extents: Sequence[Register], *, in_lines: bool = False
) -> list[Node]:
    """The node; one that asks for a program id computes that of the program with this index."""
    axis = _axis(node)
    if axis is None or not isinstance(node, Instruction):
        return [node]
    result = node.operands[0]
    if in_lines:
        return [Instruction(TABLE["mov"], (I64,), (result, index), node.location)]
    x, y = extents
    rest = emitter.code.register()
    match axis:
        case 0:
            steps = [("urem", (result, index, x))]
        case 1:
            steps = [("udiv", (rest, index, x)), ("urem", (result, rest, y))]
        case _:
            steps = [("udiv", (rest, index, x)), ("udiv", (result, rest, y))]
    return [Instruction(TABLE[name], (I64,), operands, node.location) for name, operands in steps]


# ---- what is the same for all programs -----------------------------------------------------------------------------


def _writes_global(node: Node) -> bool:
    return any(
        isinstance(operand, GlobalAddress) and access is not Access.READ
        for each in instructions([node])
        for operand, access in each.accesses
    )


def _reads_before_all_writes(loop: Loop) -> Callable[[Instruction], bool]:
    """Tells of a load in a loop whether none of its programs has stored anything by then."""
    is_stored = False
    alike: set[int] = set()
    for node in loop.body:
        is_stored |= _writes_global(node)
        if not is_stored:
            alike.add(id(node))
    return lambda load: id(load) in alike


def short_fills(code: TileCode, loop: Loop, short_bytes: int) -> set[str]:
    """Buffers that all programs fill alike and store: if each fills its own, many can be stored at once.

    So it is with single items that all programs gather, or scatter, at offsets of the same place.
    """
    stored, loaded, offsets = set[str](), set[str](), set[str]()
    for each in instructions(loop.body):
        if each.row.trace == "STORE":
            stored |= buffers_of([each], *READING)
        elif each.row.trace:
            loaded |= buffers_of([each], *WRITING)
            offsets |= {name for name in buffers_of([each], *READING) if code.buffers[name].bytes <= I64.bytes}
    return {name for name in (stored | offsets) - loaded if code.buffers[name].bytes < short_bytes}


def hoist(loop: Loop, reads_the_same: Callable[[Instruction], bool], kept_buffers: Collection[str]) -> list[Node]:
    """Take out of a loop over programs what each would do alike.

    Args:
        loop: loses it.
        reads_the_same: whether a load from the same place reads the same in every program.
        kept_buffers: names of buffers that each program is to make itself.
    """
    writers = Counter(name for each in instructions(loop.body) for name in buffers_of([each], *WRITING))
    varying = {loop.index, *(register for register, _ in loop.carried)}
    fixed: set[str] = set()
    hoisted: list[Node] = []
    kept: list[Node] = []
    for step in steps(loop.body):
        chain = [node for node in step if isinstance(node, Instruction) and _is_repeatable(node, reads_the_same)]
        if len(chain) == len(step):
            targets, read = buffers_of(chain, *WRITING), {each for node in chain for each in node.registers_read}
            alike = not varying & read and buffers_of(chain, *READING) <= fixed
            if alike and targets.isdisjoint(kept_buffers) and all(writers[name] == 1 for name in targets):
                fixed |= targets
                hoisted += step
                continue
        varying |= registers_set(step)
        kept += step
    loop.body[:] = kept
    return hoisted


def _is_repeatable(instruction: Instruction, reads_the_same: Callable[[Instruction], bool]) -> bool:
    """True if an instruction does the same whenever it runs on the same operands."""
    row = instruction.row
    if row.trace:
        return row.trace == "LOAD" and reads_the_same(instruction)
    if row.queue is Queue.COMPUTE:
        return True
    return instruction.written_register is not None and not any(instruction.accesses)
