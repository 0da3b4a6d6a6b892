"""Why a program waits at each of its ``sync`` instructions: for values, or for a buffer to be used again.

A sync is needed by what comes behind it, up to the next sync of the same queue on every way through the program. If
that reads or loads over what the queue writes, it waits for values; if it merely writes to where the queue still reads
or writes, a further buffer would spare the wait. Buffers are told apart by their windows; offsets by registers are not
followed, so the halves of a ping-pong buffer count as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Label
from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import SYNC_COMPUTE, SYNC_IO, SYNC_MOVE, Access, Queue
from mlutriton.simulator.replay.timing import Cause

QUEUE_BITS = {Queue.IO: SYNC_IO, Queue.MOVE: SYNC_MOVE, Queue.COMPUTE: SYNC_COMPUTE}
# What a wait for a queue is put down to.
QUEUE_CAUSES = {
    Queue.IO: (Cause.WAIT_IO_SETUP, Cause.WAIT_IO_LATENCY, Cause.WAIT_IO_TRANSFER, Cause.WAIT_IO_CONTENTION),
    Queue.MOVE: (Cause.WAIT_MOVE,),
    Queue.COMPUTE: (Cause.WAIT_COMPUTE,),
}
_GLOBAL = ("gdram", 0, 1)
_Place = tuple[str, int, int]


class Reason(Enum):
    """What a program waits for a queue for."""

    VALUES = "values"
    REUSE = "buffer re-use"


@dataclass(frozen=True)
class Wait:
    """A wait for one queue.

    Attributes:
        reason: why it is needed.
        under_way: the instructions of that queue that may not be over yet.
    """

    reason: Reason
    under_way: tuple[int, ...]


@dataclass(frozen=True)
class _Touch:
    place: _Place
    reads: bool
    writes: bool


def waits(program: Program) -> dict[tuple[int, Queue], Wait]:
    """The waits of a program, by the number of the sync and the queue that it waits for."""
    successors = _successors(program)
    predecessors: dict[int, list[int]] = {}
    for number, following in enumerate(successors):
        for each in following:
            predecessors.setdefault(each, []).append(number)
    touches = [tuple(_touches(each, program)) for each in program.instructions]
    found: dict[tuple[int, Queue], Wait] = {}
    for number, instruction in enumerate(program.instructions):
        for queue in _awaited(instruction):
            stops = _stops(program, queue)
            behind = _reached(successors[number], lambda at: successors[at], stops)
            before = _reached(predecessors.get(number, []), lambda at: predecessors.get(at, []), stops)
            under_way = [at for at in before if program.instructions[at].row.queue is queue]
            wanting = [each for at in behind if program.instructions[at].row.queue is not queue for each in touches[at]]
            mine = [each for at in under_way for each in touches[at]]
            found[number, queue] = Wait(_reason(mine, wanting), tuple(under_way))
    return found


def _reason(under_way: list[_Touch], wanting: list[_Touch]) -> Reason:
    conflicts = {
        (mine.writes and other.reads)
        for mine in under_way
        for other in wanting
        if (mine.writes or other.writes) and _overlap(mine.place, other.place)
    }
    return Reason.REUSE if conflicts == {False} else Reason.VALUES


def _awaited(instruction: Instruction) -> list[Queue]:
    if instruction.row.name != "sync":
        return []
    mask = instruction.operands[0]
    assert isinstance(mask, Immediate)
    return [queue for queue, bit in QUEUE_BITS.items() if int(mask.value) & bit]


def _stops(program: Program, queue: Queue) -> frozenset[int]:
    return frozenset(number for number, each in enumerate(program.instructions) if queue in _awaited(each))


def _reached(first: Iterable[int], following: Callable[[int], Iterable[int]], stops: frozenset[int]) -> list[int]:
    """The instructions that are reached from some without passing a stop."""
    seen: set[int] = set()
    open_ends = list(first)
    while open_ends:
        at = open_ends.pop()
        if at not in seen and at not in stops:
            seen.add(at)
            open_ends.extend(following(at))
    return sorted(seen)


def _successors(program: Program) -> list[tuple[int, ...]]:
    """For each instruction, those that may come next."""
    count = len(program.instructions)
    found: list[tuple[int, ...]] = []
    for number, instruction in enumerate(program.instructions):
        targets = [program.labels[each.name] for each in instruction.operands if isinstance(each, Label)]
        falls_through = instruction.row.name not in ("br", "exit")
        following = [*targets, *([number + 1] if falls_through else [])]
        found.append(tuple(each for each in following if each < count))
    return found


def _touches(instruction: Instruction, program: Program) -> Iterable[_Touch]:
    for slot, operand in zip(instruction.row.slots, instruction.operands, strict=True):
        if slot.access is Access.NONE or not isinstance(operand, Address | GlobalAddress):
            continue
        place = _GLOBAL
        if isinstance(operand, Address):
            buffer = program.buffers[operand.buffer]
            place = (buffer.space, buffer.offset_bytes, buffer.offset_bytes + buffer.bytes)
        yield _Touch(place, slot.access is not Access.WRITE, slot.access is not Access.READ)


def _overlap(one: _Place, other: _Place) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]
