"""Insertion of ``sync`` instructions: queues run on their own, so every dependence between two queues needs one.

Forward data flow over the structured code. The state is what each asynchronous queue may still be reading or writing;
an instruction that would conflict with another queue's outstanding access gets a ``sync`` of that queue in front of it.
Accesses within one queue are in order and never conflict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlutriton.codegen.tile_code import Branch, Loop, Node, Ordering, Sharing, TileCode, While, accesses
from mlutriton.isa.operands import FORWARD, Address, Immediate
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

    def overlaps(self, other: _Place) -> bool:
        if self.space != other.space or self.begin >= other.end or other.begin >= self.end:
            return False
        if self.buffer and self.buffer == other.buffer and self.phase >= 0 and other.phase >= 0:
            return self.phase == other.phase
        return True


_GLOBAL = _Place("gdram", 0, 1)


@dataclass
class _State:
    reads: dict[Queue, set[_Place]] = field(default_factory=lambda: {queue: set[_Place]() for queue in _MASKS})
    writes: dict[Queue, set[_Place]] = field(default_factory=lambda: {queue: set[_Place]() for queue in _MASKS})

    def copy(self) -> _State:
        return _State({q: set(p) for q, p in self.reads.items()}, {q: set(p) for q, p in self.writes.items()})

    def merge(self, other: _State) -> bool:
        """Take in what may be outstanding on another path; True if that was news."""
        grown = False
        for mine, theirs in ((self.reads, other.reads), (self.writes, other.writes)):
            for queue, places in theirs.items():
                grown |= not places <= mine[queue]
                mine[queue] |= places
        return grown

    def drain(self, mask: int) -> None:
        for queue, bit in _MASKS.items():
            if mask & bit:
                self.reads[queue].clear()
                self.writes[queue].clear()


def synchronize(code: TileCode, buffers: Mapping[str, Buffer]) -> None:
    """Insert the syncs that the program needs, as late as possible."""
    code.nodes = _Inserter(code, buffers).block(code.nodes, _State())


class _Inserter:
    def __init__(self, code: TileCode, buffers: Mapping[str, Buffer]) -> None:
        self.code = code
        self.buffers = buffers
        # By the identity of instructions, which the code keeps: bodies of loops are looked at again and again.
        self._touched: dict[int, list[tuple[_Place, Access]]] = {}

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
        touched = self._touched.get(id(instruction))
        if touched is None:
            touched = [(self._place(operand), access) for operand, access in accesses(instruction)]
            self._touched[id(instruction)] = touched
        mask = 0
        for queue, bit in _MASKS.items():
            if queue is not row.queue and any(_conflicts(place, access, queue, state) for place, access in touched):
                mask |= bit
        state.drain(mask)
        if row.queue in _MASKS:
            for place, access in touched:
                if access is not Access.WRITE:
                    state.reads[row.queue].add(place)
                if access is not Access.READ:
                    state.writes[row.queue].add(place)
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
    return isinstance(node, Instruction) and bool(node.operands) and node.operands[0] == FORWARD


def _conflicts(place: _Place, access: Access, queue: Queue, state: _State) -> bool:
    if any(place.overlaps(other) for other in state.writes[queue]):
        return True
    return access is not Access.READ and any(place.overlaps(other) for other in state.reads[queue])


def _sync(mask: int, before: Instruction) -> Instruction:
    return Instruction(TABLE["sync"], (), (Immediate(mask),), before.location)
