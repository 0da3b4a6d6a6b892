"""Programs of several loops, or of loops that differ in length, one behind the other: none waits for its first tiles.

Loops of one length become one for all programs of a task (:mod:`mlutriton.codegen.pipelining.programs.merged_loops`).
Others cannot, but a task may still serve one program after the other, and what a program

    load q; load x(0) -> phase 0; for ...: sync; load x(i + 1); compute with q and x(i)
    y = what was computed; store y

loads before its first loop is loaded while the one before ends, and what it stores is stored in the first turn of the
next one that has any:

    load q, x(0) of the first program
    for all programs of the task:
        for ...: sync; load x(i + 1); if there was a program before and this is the first turn: store its y; compute
        load q -> other phase, x(0) of the next program -> the phase that comes next
        y = what was computed
    store the last y

A queue can only be waited for as a whole: so nothing is waited for but at the begin of a turn, when the turn before
hides all that was loaded and stored beside it. Phases of a loop go on from one program to the next, so that what is
loaded never takes the place of what the last turn still computes with.

Programs are dealt out there and back, from the longest on: the task that has the first of a round has the last one of
the next round. So where programs take the longer the higher their number is, or the lower, or some digit of it, all
tasks have about the same work, and what is left over for some of them are the shortest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mlutriton.codegen.pipelining.pipeline_plan import Definitions, Plan, free_registers, is_load
from mlutriton.codegen.pipelining.programs.merged_loops import filled
from mlutriton.codegen.pipelining.programs.residence import hoist, special, with_program_ids
from mlutriton.codegen.pipelining.rotation import Rotation
from mlutriton.codegen.renaming import Renamer
from mlutriton.codegen.synchronize import ALL_QUEUES
from mlutriton.codegen.tile_code import (
    WRITING,
    Branch,
    Emitter,
    Loop,
    Node,
    ScalarOperand,
    TileCode,
    buffers_of,
    instructions,
    only_sets_register,
    registers_set,
    serve,
    steps,
    sync,
)
from mlutriton.dtypes import I64
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SYNC_COMPUTE, SYNC_IO, SYNC_MOVE, TABLE, Access

# What instructions may have to do with other programs.
_ONLY = ("", "LOAD", "STORE", "GATHER", "MOVE", "SCALAR_LOAD", "SYNC")


@dataclass(frozen=True)
class _Phases:
    """Two phases that a loop swaps.

    Attributes:
        loop: it.
        places: of their registers among those that it carries.
        buffers: that have these phases.
    """

    loop: Loop
    places: tuple[int, int]
    buffers: set[str]


def load_across_programs(code: TileCode, *, from_last: bool) -> None:
    """Let a task serve its programs one behind the other, if their first tiles can be loaded ahead.

    Args:
        code: is rewritten; its loops have been pipelined.
        from_last: the last programs take longest, otherwise the first ones, or all are alike.
    """
    *body, end = code.nodes
    has_loops = any(isinstance(node, Loop) for node in body)
    if not has_loops or code.local_areas or code.strings or not all(map(_is_plain, body)):
        return
    nodes = code.nodes
    emitter = Emitter(code, end.location)
    emitter.nodes = code.nodes = []
    outer, extents = _there_and_back(emitter, from_last=from_last)
    outer.body += [each for node in body for each in with_program_ids(emitter, node, outer.carried[0][0], extents)]
    alike = hoist(outer, lambda load: False, ())
    outer.body.insert(0, serve(outer.carried[0][0], end.location))
    moving = Counter(at.buffer for at in _addresses(outer.body) if at.register is not None)
    phases = [each for node in outer.body if isinstance(node, Loop) for each in _phases(code, node, moving)]
    plan = _plan(code, outer, {name for each in phases for name in each.buffers})
    if not plan.loads:
        code.nodes = nodes
        return
    code.loads_across = True
    # What all programs store alike is there before the first one.
    sources = sorted(buffers_of(plan.stores, Access.READ) - buffers_of(alike, *WRITING))
    code.nodes += [*alike, *(filled(code, Address(name), end.location) for name in sources)]
    code.nodes += [*_rotated(code, outer, plan, phases), end]


def _is_plain(node: Node) -> bool:
    """True if all that a node has to do with other programs is to load and to store."""
    return isinstance(node, Instruction | Loop | Branch) and all(
        each.row.trace in _ONLY and each.row.name not in ("serve", "barrier.cluster") for each in instructions([node])
    )


def _there_and_back(emitter: Emitter, *, from_last: bool) -> tuple[Loop, list[Register]]:
    """A loop over the programs of a task, of which it carries the number first; and the grid's first two extents."""
    code = emitter.code
    task, tasks, programs = (special(emitter, name) for name in ("task", "tasks", "programs"))
    extents = [special(emitter, f"num_programs.{axis}") for axis in "xy"]
    # In each round a task has one, in the last one it may have none.
    rounds, rest = emitter.scalar("udiv", (I64,), programs, tasks), emitter.scalar("urem", (I64,), programs, tasks)
    after = emitter.integer("sub", tasks, emitter.integer("add", task, Immediate(1)))
    is_back = emitter.scalar("urem", (I64,), rounds, Immediate(2))
    place = emitter.scalar("select", (I64,), is_back, after, task)
    has_more = emitter.scalar("slt", (I64,), place, rest)
    turns = emitter.scalar("select", (I64,), has_more, emitter.integer("add", rounds, Immediate(1)), rounds)
    both = emitter.integer("add", tasks, tasks)
    # From the place of the task to the same place counted from behind, and on to that of the next round.
    step = emitter.integer("add", emitter.integer("add", after, after), Immediate(1))
    first = emitter.integer("sub", emitter.integer("sub", programs, task), Immediate(1)) if from_last else task
    number, back = code.register(), code.register()
    outer = Loop(
        I64,
        code.register(),
        Immediate(0),
        turns,
        Immediate(1),
        [(number, first), (back, step)],
        independent=True,
        location=emitter.location,
    )
    with emitter.into(outer.body):
        following = emitter.integer("sub" if from_last else "add", number, back)
        outer.yielded = [following, emitter.integer("sub", both, back)]
    return outer, extents


# ---- what moves ----------------------------------------------------------------------------------------------------


def _phases(code: TileCode, loop: Loop, moving: Mapping[str, int]) -> list[_Phases]:
    """The phases of a loop that may go on from one program to the next.

    Args:
        code: the kernel.
        loop: of a program.
        moving: by buffer, how many addresses of the program add a register to its place.
    """
    found: list[_Phases] = []
    carried = [register for register, _ in loop.carried]
    addresses = _addresses([loop])
    for place, (register, initial) in enumerate(loop.carried if _wait(loop) is not None else ()):
        other = loop.yielded[place]
        if register not in code.phases or initial != Immediate(0) or other not in carried:
            continue
        partner = carried.index(other)
        inside = [at for at in addresses if at.register and code.phases.get(at.register) in (register, other)]
        names = {at.buffer for at in inside}
        is_all = len(inside) == sum(at.buffer in names for at in addresses)
        is_alone = len(inside) == sum(moving[name] for name in names)
        if loop.yielded[partner] == register and is_all and is_alone:
            found.append(_Phases(loop, (place, partner), names))
    return found


def _addresses(nodes: Sequence[Node]) -> list[Address]:
    return [operand for each in instructions(nodes) for operand in each.operands if isinstance(operand, Address)]


def _wait(loop: Loop) -> int | None:
    """Where in a loop's body all queues are waited for; None if that is not what its turns begin with."""
    for place, node in enumerate(loop.body):
        if not isinstance(node, Instruction):
            return None
        if not only_sets_register(node):
            return place if node.row.name == "sync" and node.operands[0] == Immediate(ALL_QUEUES) else None
    return None


def _plan(code: TileCode, outer: Loop, phased: set[str]) -> Plan:
    """What is loaded for the next program, and what is stored for the one before.

    Args:
        code: the kernel.
        outer: the loop over programs.
        phased: buffers whose phases go on from one program to the next.
    """
    loops = [place for place, node in enumerate(outer.body) if isinstance(node, Loop)]
    plan = Plan(serves=[node for node in outer.body if isinstance(node, Instruction) and node.row.name == "serve"])
    definitions, touched, needed = Definitions(outer), set[str](), set[Register]()
    writers = [buffers_of([each], *WRITING) for each in outer.body]
    for place, node in enumerate(outer.body[: loops[0]]):
        if any(each.row.trace == "STORE" for each in instructions([node])):
            break  # what comes behind may be to read that
        names = buffers_of([node])
        if is_load(node) and not names & touched:
            others = set[str]().union(*writers[:place], *writers[place + 1 :])
            is_free = all(name in phased or (code.buffers[name].phases == 1 and name not in others) for name in names)
            closure = definitions.closure(free_registers([node]))
            if is_free and closure is not None:
                plan.loads.append(node)
                plan.buffers |= names - phased
                needed |= closure
        touched |= names
    needed |= definitions.closure(free_registers(plan.serves)) or set()
    plan.carried = [place for place, (register, _) in enumerate(outer.carried) if register in needed]
    plan.slice = definitions.instructions(needed)
    if any(isinstance(node, Loop) and _wait(node) is not None for node in outer.body):
        plan.stores = _stores_behind(outer.body, loops[-1])
        own = registers_set([outer])
        plan.remembered = sorted(free_registers([*plan.serves, *plan.stores]) & own, key=lambda each: each.index)
    return plan


def _stores_behind(body: Sequence[Node], last: int) -> list[Node]:
    """The stores behind a place in a program, if what they store is made there, and nothing else accesses memory."""
    behind = list(body[last + 1 :])
    stores = [node for node in behind if isinstance(node, Instruction) and node.row.trace == "STORE"]
    rest = [node for node in behind if not any(node is each for each in stores)]
    sources = buffers_of(stores)
    is_alone = not any(isinstance(at, GlobalAddress) for each in instructions(rest) for at in each.operands)
    is_only = not any(each.row.trace == "STORE" for each in instructions(body[: last + 1]))
    is_made = sources.isdisjoint(buffers_of(body[: last + 1]))
    first_store = min((place for place, node in enumerate(behind) if any(node is each for each in stores)), default=0)
    is_final = sources.isdisjoint(buffers_of(behind[first_store:], *WRITING))
    return [*stores] if is_alone and is_only and is_made and is_final else []


# ---- the loop over programs ----------------------------------------------------------------------------------------


def _rotated(code: TileCode, outer: Loop, plan: Plan, phases: Sequence[_Phases]) -> list[Node]:
    """The loop over programs, with what comes before and behind it."""
    number = outer.carried[0][0]
    ahead = _go_on(code, outer, plan, phases)
    for name in plan.buffers:
        code.buffers[name].phases = 2
    rotation = Rotation(code, outer, plan)
    before = rotation.load_first()

    def stored(condition: ScalarOperand | None) -> list[Node]:
        """The stores of the program before, where a condition holds."""
        if condition is None:
            return []
        nodes = Renamer(code, dict(rotation.remembered), {}).nodes([*plan.serves, *plan.stores])
        return [Branch(condition, [*nodes, serve(number, outer.location)], location=outer.location)]

    left = _store_in_first_turn(code, outer, stored, rotation.ran)
    computed = _awaiting(rotation.compute(), buffers_of(plan.loads))
    last = max(place for place, node in enumerate(computed) if isinstance(node, Loop)) + 1
    while last < len(computed) and _is_move(computed[last]):
        last += 1
    scalars, more, renamer = rotation.look_ahead()
    renamer.phases = {**renamer.phases, **ahead}
    loads = [*renamer.nodes([*plan.serves, *plan.loads]), serve(number, outer.location)]
    body = [
        *computed[:last],
        *stored(left),
        sync(SYNC_IO, outer.location),
        *scalars,
        Branch(more, loads, location=outer.location),
        *rotation.step_ahead(),
        *computed[last:],
    ]
    rotated = rotation.rotated(body)
    behind = (
        [sync(SYNC_COMPUTE | SYNC_MOVE, outer.location), *rotation.store_behind(plan.stores)] if plan.stores else []
    )
    return [*before, rotated, *behind]


def _is_move(node: Node) -> bool:
    return isinstance(node, Instruction) and node.row.name == "mov"


def _go_on(code: TileCode, outer: Loop, plan: Plan, phases: Sequence[_Phases]) -> dict[str, Register]:
    """Let phases go on from one program to the next; by name of a buffer, the phase that the next one begins in."""
    ahead: dict[str, Register] = {}
    moved = {id(node) for node in plan.loads}
    for each in phases:
        loop, behind = each.loop, list[Node]()
        begin = code.register(), code.register()
        following = code.register(), code.register()
        for place, first, then in zip(each.places, begin, following, strict=True):
            register, initial = loop.carried[place]
            outer.carried.append((first, initial))
            outer.yielded.append(then)
            loop.carried[place] = register, first
            # Under a name of its own: it is not what the last turn computes with, which had the same one before.
            behind.append(Instruction(TABLE["mov"], (I64,), (then, register), loop.location))
            code.phases |= {first: first, then: then}
        ahead |= dict.fromkeys(each.buffers, following[0])
        renamer = Renamer(code, {}, dict.fromkeys(each.buffers, begin[0]), keep=True)
        body: list[Node] = []
        for node in outer.body:
            is_outside = node is not loop and id(node) not in moved and buffers_of([node]) & each.buffers
            body += renamer.nodes([node]) if is_outside else [node]
            body += behind if node is loop else []
        outer.body = body
    return ahead


def _store_in_first_turn(
    code: TileCode, outer: Loop, stored: Callable[[ScalarOperand | None], list[Node]], ran: Register | None
) -> ScalarOperand | None:
    """Let the first turn of a program store what the one before has made; whether that is left to do behind all."""
    left: ScalarOperand | None = ran
    if left is None:
        return None
    for node in outer.body:
        place = _wait(node) if isinstance(node, Loop) else None
        if place is None or not isinstance(node, Loop):
            continue
        register = code.register()
        node.carried.append((register, left))
        node.yielded.append(Immediate(0))
        place += 1
        while place < len(node.body) and isinstance(node.body[place], Branch) and is_load(node.body[place]):
            place += 1
        node.body[place:place] = stored(register)
        left = register
    return left


def _awaiting(nodes: Sequence[Node], loaded: set[str]) -> list[Node]:
    """Nodes that wait for what has been loaded before they touch it."""
    result: list[Node] = []
    for step in steps(nodes):
        first = step[0]
        waits = isinstance(first, Loop) and _wait(first) is not None
        if not waits and buffers_of(step) & loaded:
            result.append(sync(SYNC_IO, first.location))
        result += step
    return result
