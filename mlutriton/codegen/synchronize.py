"""Insertion of ``sync`` instructions: queues run on their own, so every dependence between two queues needs one.

Forward data flow over the structured code. The state is what each asynchronous queue may still be reading or writing;
an instruction that would conflict with another queue's outstanding access gets a ``sync`` of that queue in front of it.
Accesses within one queue are in order and never conflict.

Sets of places are integers, a bit for each place: bodies of loops are looked at again and again, and of long code much
may be outstanding at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlutriton.codegen.intervals import overlaps
from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    Node,
    Ordering,
    Sharing,
    TileCode,
    While,
    instructions,
    sync,
)
from mlutriton.isa.operands import Address, Immediate
from mlutriton.isa.program import Buffer, Instruction
from mlutriton.isa.table import SYNC_COMPUTE, SYNC_IO, SYNC_MOVE, Access, Queue

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


@dataclass(frozen=True, slots=True)
class _Effect:
    """What an instruction has to do with what is outstanding; sets as the :class:`_Inserter` keeps them.

    Attributes:
        waits: what must not be outstanding when it begins.
        ends: what is not outstanding any more behind it.
        begins: what may be outstanding behind it.
    """

    waits: int
    ends: int
    begins: int


def synchronize(code: TileCode, buffers: Mapping[str, Buffer]) -> None:
    """Insert the syncs that the program needs, as late as possible."""
    code.nodes, _ = _Inserter(code, buffers).block(code.nodes, 0)


class _Inserter:
    """Inserts syncs.

    The state is one set: for each queue the places that it may still be reading, and those that it may be writing,
    one behind the other.
    """

    def __init__(self, code: TileCode, buffers: Mapping[str, Buffer]) -> None:
        self.code = code
        self.buffers = buffers
        # Of those instructions that have any, by their identity, which the code keeps.
        self._effects: dict[int, _Effect] = {}
        # Of node lists, by their identity: these, and of them the effects and what has lists of its own.
        self._acting: dict[int, tuple[list[Node], list[_Effect | Node]]] = {}
        # What a queue may read and write, with its bit in a mask.
        self._outstanding: list[tuple[int, int]] = []
        self._find_effects()

    def _find_effects(self) -> None:
        places: dict[_Place, int] = {}
        every = instructions(self.code.nodes)
        touched = [
            [(places.setdefault(self._place(operand), len(places)), access) for operand, access in each.accesses]
            for each in every
        ]
        overlaps, count = _overlaps(list(places)), len(places)
        whole = (1 << count) - 1
        reads = {queue: 2 * number * count for number, queue in enumerate(_MASKS)}
        self._outstanding = [((whole << count | whole) << reads[queue], bit) for queue, bit in _MASKS.items()]
        for instruction, pairs in zip(every, touched, strict=True):
            if instruction.row.name == "sync":
                mask = instruction.operands[0]
                assert isinstance(mask, Immediate)
                self._effects[id(instruction)] = _Effect(0, self._of_queues(int(mask.value)), 0)
            elif instruction.row.name == "barrier.cluster":
                self._effects[id(instruction)] = _Effect(0, self._of_queues(ALL_QUEUES), 0)
            elif pairs:
                own = instruction.row.queue
                # As sets of a queue: what others may write must not be touched, what they may read not be written.
                touches = writes = begins = 0
                for at, access in pairs:
                    touches |= overlaps[at]
                    if access is not Access.WRITE:
                        begins |= 1 << at
                    if access is not Access.READ:
                        begins |= 1 << count + at
                        writes |= overlaps[at]
                conflicts = touches << count | writes
                waits = sum(conflicts << at for queue, at in reads.items() if queue is not own)
                self._effects[id(instruction)] = _Effect(waits, 0, begins << reads[own] if own in reads else 0)

    def block(self, nodes: list[Node], state: int) -> tuple[list[Node], int]:
        """The nodes with syncs, and what is outstanding behind them."""
        result: list[Node] = []
        chain_start = 0
        for node in nodes:
            match node:
                case Instruction():
                    if not (result and _hands_on(result[-1])):
                        chain_start = len(result)
                    effect = self._effects.get(id(node))
                    if effect is not None:
                        if mask := self._queues_of(state & effect.waits):
                            # Nothing may stand inside a fused chain: all its steps wait before the first.
                            result.insert(chain_start, sync(mask, node.location))
                            chain_start += 1
                        state = self._behind(effect, state)
                case Branch():
                    node.then, one = self.block(node.then, state)
                    node.otherwise, other = self.block(node.otherwise, state)
                    state = one | other
                case Loop():
                    state = self._at_head([node.body], state)
                    node.body, behind = self.block(node.body, state)
                    state = behind if _is_entered(node) else state
                case While():
                    state = self._at_head([node.head, node.body], state)
                    node.head, state = self.block(node.head, state)
                    node.body, _ = self.block(node.body, state)
                case Sharing() | Ordering():
                    raise AssertionError(f"{type(node).__name__} has been made of barriers before")
            result.append(node)
        return result, state

    def _at_head(self, bodies: list[list[Node]], state: int) -> int:
        """What may be outstanding at a loop's head, whichever way it is reached."""
        while True:
            after = state
            for body in bodies:
                after = self._simulate(body, after)
            if not after & ~state:
                return state
            state |= after

    def _simulate(self, nodes: list[Node], state: int) -> int:
        """What is outstanding behind nodes once they have their syncs."""
        for node in self._acting_of(nodes):
            if isinstance(node, _Effect):
                state = self._behind(node, state)
            elif isinstance(node, Branch):
                state = self._simulate(node.then, state) | self._simulate(node.otherwise, state)
            elif isinstance(node, Loop):
                state = self._at_head([node.body], state)
                behind = self._simulate(node.body, state)
                state = behind if _is_entered(node) else state
            elif isinstance(node, While):
                state = self._simulate(node.head, self._at_head([node.head, node.body], state))
        return state

    def _acting_of(self, nodes: list[Node]) -> list[_Effect | Node]:
        """What of nodes has to do with what is outstanding: loops are gone through again and again."""
        known = self._acting.get(id(nodes))
        if known is None:
            effects = self._effects
            acting = [
                effects.get(id(node), node)
                for node in nodes
                if id(node) in effects or not isinstance(node, Instruction)
            ]
            known = self._acting[id(nodes)] = nodes, acting
        return known[1]

    def _behind(self, effect: _Effect, state: int) -> int:
        """What is outstanding behind an instruction that has waited for what it has to."""
        if hit := state & effect.waits:
            state &= ~self._of_queues(self._queues_of(hit))
        return state & ~effect.ends | effect.begins

    def _queues_of(self, state: int) -> int:
        """The queues that have something outstanding, as a mask."""
        return sum(bit for places, bit in self._outstanding if state & places) if state else 0

    def _of_queues(self, mask: int) -> int:
        """All that queues can have outstanding."""
        return sum(places for places, bit in self._outstanding if mask & bit)

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
