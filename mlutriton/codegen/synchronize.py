"""Insertion of ``sync`` instructions: queues run on their own, so every dependence between two queues needs one.

Forward data flow over the structured code. The state is what each asynchronous queue may still be reading or writing;
an instruction that would conflict with another queue's outstanding access gets a ``sync`` of that queue in front of it.
Accesses within one queue are in order and never conflict.

Sets of places are integers, a bit for each place: bodies of loops are looked at again and again, and of long code much
may be outstanding at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlutriton.codegen.intervals import overlaps
from mlutriton.codegen.tile_code import Branch, Loop, Node, Ordering, Sharing, TileCode, While, accesses, instructions
from mlutriton.isa.operands import Address, Immediate
from mlutriton.isa.program import Buffer, Instruction
from mlutriton.isa.table import SYNC_COMPUTE, SYNC_IO, SYNC_MOVE, TABLE, Access, Queue

_MASKS = {Queue.IO: SYNC_IO, Queue.MOVE: SYNC_MOVE, Queue.COMPUTE: SYNC_COMPUTE}
ALL_QUEUES = SYNC_IO | SYNC_MOVE | SYNC_COMPUTE


@dataclass(frozen=True, slots=True)
class _Place:
    """Bytes that an instruction may touch; phases of a ping-pong buffer are told apart by the registers of offsets."""

    space: str
    begin: int
    end: int
    buffer: str = ""
    phase: int = -1


_GLOBAL = _Place("gdram", 0, 1)

# More than any memory on a chip has.
_SPACE_BYTES = 1 << 40


def _overlaps(places: Sequence[_Place]) -> list[int]:
    """For each place the set of those with bytes in common; other phases of its buffer have none."""
    # Memories one behind the other: then places are intervals.
    spaces = {space: number * _SPACE_BYTES for number, space in enumerate({place.space for place in places})}
    found = overlaps([(spaces[place.space] + place.begin, spaces[place.space] + place.end) for place in places])
    phases: dict[str, dict[int, int]] = {}
    for at, place in enumerate(places):
        if place.phase >= 0:
            mine = phases.setdefault(place.buffer, {})
            mine[place.phase] = mine.get(place.phase, 0) | 1 << at
    for at, place in enumerate(places):
        if place.phase >= 0:
            for phase, others in phases[place.buffer].items():
                found[at] &= -1 if phase == place.phase else ~others
    return found


@dataclass
class _State:
    """The places that each queue may still be reading and writing."""

    reads: dict[Queue, int] = field(default_factory=lambda: dict.fromkeys(_MASKS, 0))
    writes: dict[Queue, int] = field(default_factory=lambda: dict.fromkeys(_MASKS, 0))

    def copy(self) -> _State:
        return _State(dict(self.reads), dict(self.writes))

    def merge(self, other: _State) -> bool:
        """Take in what may be outstanding on another path; True if that was news."""
        grown = False
        for mine, theirs in ((self.reads, other.reads), (self.writes, other.writes)):
            for queue, places in theirs.items():
                grown |= bool(places & ~mine[queue])
                mine[queue] |= places
        return grown

    def drain(self, mask: int) -> None:
        for queue, bit in _MASKS.items():
            if mask & bit:
                self.reads[queue] = self.writes[queue] = 0


@dataclass(frozen=True, slots=True)
class _Touched:
    """What an instruction touches.

    Attributes:
        reads: places it reads.
        writes: places it writes.
        others_reads: places that no other queue may still be reading when it begins.
        others_writes: places that no other queue may still be writing.
    """

    reads: int
    writes: int
    others_reads: int
    others_writes: int


def synchronize(code: TileCode, buffers: Mapping[str, Buffer]) -> None:
    """Insert the syncs that the program needs, as late as possible."""
    code.nodes = _Inserter(code, buffers).block(code.nodes, _State())


class _Inserter:
    def __init__(self, code: TileCode, buffers: Mapping[str, Buffer]) -> None:
        self.code = code
        self.buffers = buffers
        # By the identity of instructions, which the code keeps.
        self._touched = self._all_touched()

    def _all_touched(self) -> dict[int, _Touched]:
        places: dict[_Place, int] = {}
        touched = {
            id(each): [
                (places.setdefault(self._place(operand), len(places)), access) for operand, access in accesses(each)
            ]
            for each in instructions(self.code.nodes)
        }
        overlaps = _overlaps(list(places))
        return {instruction: _sets(pairs, overlaps) for instruction, pairs in touched.items()}

    def block(self, nodes: list[Node], state: _State) -> list[Node]:
        """The nodes with syncs; ``state`` becomes what is outstanding behind them."""
        result: list[Node] = []
        chain_start = 0
        for node in nodes:
            match node:
                case Instruction():
                    mask = self._visit(node, state)
                    if not (result and _hands_on(result[-1])):
                        chain_start = len(result)
                    if mask:
                        # Nothing may stand inside a fused chain: all its steps wait before the first.
                        result.insert(chain_start, _sync(mask, node))
                        chain_start += 1
                case Branch():
                    other = state.copy()
                    node.then = self.block(node.then, state)
                    node.otherwise = self.block(node.otherwise, other)
                    state.merge(other)
                case Loop():
                    self._loop([node.body], state)
                    node.body = self.block(node.body, state if _is_entered(node) else state.copy())
                case While():
                    self._loop([node.head, node.body], state)
                    node.head = self.block(node.head, state)
                    node.body = self.block(node.body, state.copy())
                case Sharing() | Ordering():
                    raise AssertionError(f"{type(node).__name__} has been made of barriers before")
            result.append(node)
        return result

    def _loop(self, bodies: list[list[Node]], state: _State) -> None:
        """Grow ``state`` until it holds at the loop's head whichever way the head is reached."""
        while True:
            after = state.copy()
            for body in bodies:
                self._simulate(body, after)
            if not state.merge(after):
                return

    def _simulate(self, nodes: list[Node], state: _State) -> None:
        for node in nodes:
            match node:
                case Instruction():
                    self._visit(node, state)
                case Branch():
                    other = state.copy()
                    self._simulate(node.then, state)
                    self._simulate(node.otherwise, other)
                    state.merge(other)
                case Loop():
                    self._loop([node.body], state)
                    self._simulate(node.body, state if _is_entered(node) else state.copy())
                case While():
                    self._loop([node.head, node.body], state)
                    self._simulate(node.head, state)
                case Sharing() | Ordering():
                    pass

    def _visit(self, instruction: Instruction, state: _State) -> int:
        """The queues to wait for before the instruction; records the instruction's own accesses."""
        row = instruction.row
        if row.name == "sync":
            mask = instruction.operands[0]
            assert isinstance(mask, Immediate)
            state.drain(int(mask.value))
            return 0
        if row.name == "barrier.cluster":
            state.drain(ALL_QUEUES)
            return 0
        touched = self._touched[id(instruction)]
        own, mask = row.queue, 0
        for queue, bit in _MASKS.items():
            if queue is not own and (
                state.writes[queue] & touched.others_writes or state.reads[queue] & touched.others_reads
            ):
                mask |= bit
        if mask:
            state.drain(mask)
        if own in _MASKS:
            state.reads[own] |= touched.reads
            state.writes[own] |= touched.writes
        return mask

    def _place(self, operand: object) -> _Place:
        if not isinstance(operand, Address):
            return _GLOBAL
        buffer = self.buffers[operand.buffer]
        phase = None if operand.register is None else self.code.phases.get(operand.register)
        end = buffer.offset_bytes + buffer.bytes
        return _Place(buffer.space, buffer.offset_bytes, end, buffer.name, -1 if phase is None else phase.index)


def _is_entered(loop: Loop) -> bool:
    """True if the body certainly runs, so that what is behind the loop is behind the body too."""
    match loop.start, loop.end:
        case Immediate(value=start), Immediate(value=end):
            return start < end
        case _:
            return False


def _hands_on(node: Node) -> bool:
    """True for a step of a fused chain that is not its last."""
    return isinstance(node, Instruction) and node.hands_on


def _sets(pairs: Sequence[tuple[int, Access]], overlaps: Sequence[int]) -> _Touched:
    """What an instruction touches, from the places of its operands."""
    reads = writes = others_reads = others_writes = 0
    for at, access in pairs:
        others_writes |= overlaps[at]
        if access is not Access.WRITE:
            reads |= 1 << at
        if access is not Access.READ:
            writes |= 1 << at
            others_reads |= overlaps[at]
    return _Touched(reads, writes, others_reads, others_writes)


def _sync(mask: int, before: Instruction) -> Instruction:
    return Instruction(TABLE["sync"], (), (Immediate(mask),), before.location)
