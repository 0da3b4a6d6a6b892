"""Placement of buffers in NRAM, WRAM and SRAM by liveness.

Positions number the instructions in program order; the steps of a chain are one, as they run as one. A buffer lives
from its first to its last access; one that is alive when a loop begins and is touched inside lives to the loop's end,
and one whose phases a loop swaps lives as long as the loop.
Where all buffers fit side by side no memory is reused, so that queues never wait for each other over an address; else
memory is reused as soon as a buffer dies. That of SRAM is not: while one core is done with a buffer, another is not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from mlutriton.codegen.intervals import members, overlaps
from mlutriton.codegen.tile_code import (
    Loop,
    Node,
    TileBuffer,
    TileCode,
    buffers_of,
    children,
)
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.isa.expression import round_up
from mlutriton.isa.operands import Address, Mode, Register
from mlutriton.isa.program import Buffer, Instruction, slot_dtype

ALIGNMENT_BYTES = 64


@dataclass(eq=False)
class _Life:
    buffer: TileBuffer
    first: int
    last: int
    bytes: int
    host: _Life | None = None
    offset_bytes: int = 0

    def __contains__(self, position: int) -> bool:
        return self.first <= position <= self.last

    def root(self) -> _Life:
        life = self
        while life.host is not None:
            life = life.host
        return life


def allocate(code: TileCode, limits_bytes: dict[str, int]) -> dict[str, Buffer]:
    """Offsets for all buffers.

    Raises:
        OnChipMemoryError: E0202 with the bill, if a memory is too small for what is alive at once.
    """
    try:
        return _allocated(code, limits_bytes, in_larger=False)
    except OnChipMemoryError:
        # A result that is narrower than what it is made from keeps more than it needs, but needs no second place.
        return _allocated(code, limits_bytes, in_larger=True)


def _allocated(code: TileCode, limits_bytes: dict[str, int], *, in_larger: bool) -> dict[str, Buffer]:
    lives, elementwise = _measure(code)
    _share_in_place(lives, elementwise, in_larger=in_larger)
    roots = [life for life in lives.values() if life.host is None]
    for space, limit in limits_bytes.items():
        for alternative in (False, True):
            # What is alternative runs in the place of the rest.
            mine = [each for each in roots if each.buffer.space == space and each.buffer.alternative == alternative]
            used = sum(life.bytes for life in mine)
            if space == "sram" or used <= limit:
                for life, end in zip(mine, accumulate(life.bytes for life in mine), strict=True):
                    life.offset_bytes = end - life.bytes
            else:
                crowded = _crowded(mine)
                used = sum(life.bytes for life in mine if crowded in life)
                # What does not fit however it is placed need not be.
                used = used if used > limit else _place(mine)
            if used > limit:
                raise _refusal(mine, space, used, limit)
    return {
        name: Buffer(name, life.buffer.space, life.root().offset_bytes, _size(life.buffer), life.buffer.location)
        for name, life in lives.items()
    }


def most_alive_bytes(nodes: Sequence[Node], bytes_of: Mapping[str, int]) -> int:
    """The most bytes that are alive at once while nodes run, of the buffers whose sizes are given."""
    lives: dict[str, tuple[int, int]] = {}
    position = 0

    def visit(nodes: Sequence[Node]) -> None:
        nonlocal position
        for node in nodes:
            begin = position = position + 1
            for nested in children(node):
                visit(nested)
            for name in buffers_of([node]):
                first, _ = lives.get(name, (position, position))
                lives[name] = (first if first < begin or isinstance(node, Instruction) else begin, position)

    visit(nodes)
    changes: Counter[int] = Counter()
    for name, (first, last) in lives.items():
        changes[first] += bytes_of.get(name, 0)
        changes[last + 1] -= bytes_of.get(name, 0)
    return max(accumulate(changes[each] for each in sorted(changes)), default=0)


def _size(buffer: TileBuffer) -> int:
    return buffer.bytes * buffer.phases


def _measure(code: TileCode) -> tuple[dict[str, _Life], list[tuple[int, Sequence[Instruction]]]]:
    """The buffers' lives, and where which element-wise instructions are, those of a chain together."""
    measuring = _Measuring(code)
    measuring.visit(code.nodes)
    return measuring.lives, measuring.elementwise


class _Measuring:
    """Finds the lives of buffers.

    Attributes:
        lives: by the names of buffers.
        elementwise: where which element-wise instructions are, those of a chain together.
    """

    def __init__(self, code: TileCode) -> None:
        self.lives: dict[str, _Life] = {}
        self.elementwise: list[tuple[int, Sequence[Instruction]]] = []
        self._code = code
        self._position = 0
        self._chain: list[Instruction] = []
        # By the register of a phase, the buffers that are touched there.
        self._phased: defaultdict[Register, set[str]] = defaultdict(set)

    def visit(self, nodes: Sequence[Node]) -> set[str]:
        """Follow nodes in the order in which they run; the names of the buffers that they touch."""
        touched: set[str] = set()
        for node in nodes:
            if isinstance(node, Instruction):
                self._instruction(node, touched)
                continue
            begin = self._position + 1
            inside: set[str] = set()
            for nested in children(node):
                inside |= self.visit(nested)
            # What the last instruction makes is not in the place of what the next iteration reads again.
            self._position += 1
            carried = {register for register, _ in node.carried} if isinstance(node, Loop) else set[Register]()
            swapped = {name for register in carried & self._phased.keys() for name in self._phased[register]}
            for name in inside:
                life = self.lives[name]
                if name in swapped or life.first < begin:
                    life.first, life.last = min(life.first, begin), self._position
            touched |= inside
        return touched

    def _instruction(self, node: Instruction, touched: set[str]) -> None:
        if not self._chain:
            self._position += 1
        position, phases = self._position, self._code.phases
        self._chain.append(node)
        if not node.hands_on:
            if node.row.is_elementwise_or_mov:
                self.elementwise.append((position, self._chain))
            self._chain = []
        for operand, _ in node.accesses:
            if isinstance(operand, Address):
                touched.add(operand.buffer)
                if operand.register in phases:
                    self._phased[phases[operand.register]].add(operand.buffer)
                life = self.lives.get(operand.buffer)
                if life is None:
                    buffer = self._code.buffers[operand.buffer]
                    size = round_up(_size(buffer), ALIGNMENT_BYTES)
                    life = self.lives[operand.buffer] = _Life(buffer, position, position, size)
                life.last = position


def _share_in_place(
    lives: dict[str, _Life], elementwise: list[tuple[int, Sequence[Instruction]]], *, in_larger: bool
) -> None:
    """An element-wise result takes over the buffer of an operand that dies there, if its elements are not wider.

    Args:
        lives: by the names of buffers.
        elementwise: where which instructions or chains are.
        in_larger: also a buffer that is larger than the result.
    """
    for position, chain in elementwise:
        target = chain[-1].operands[0]
        if not isinstance(target, Address) or lives[target.buffer].first != position:
            continue
        new = lives[target.buffer]
        if new.buffer.phases > 1 or not target.is_at_begin:
            continue
        width = slot_dtype(chain[-1].row.slots[0], chain[-1].dtypes).bytes
        sources = [source for instruction in chain for source in _sources(instruction)]
        for source, _ in sources:
            if not source.is_at_begin or source.mode is not Mode.FULL:
                continue
            old = lives[source.buffer].root()
            has_room = lives[source.buffer].buffer.bytes == new.buffer.bytes or (in_larger and old.bytes > new.bytes)
            reads = [(other, element) for other, element in sources if lives[other.buffer].root() is old]
            fits = all(other == source and element >= width for other, element in reads)
            if old.last == position and has_room and fits and old.buffer.phases == 1:
                new.host = old
                old.last = max(old.last, new.last)
                break


def _sources(instruction: Instruction) -> Iterator[tuple[Address, int]]:
    """What an element-wise instruction reads on chip, with the bytes of an element."""
    for slot, operand in zip(instruction.row.slots[1:], instruction.operands[1:], strict=True):
        if isinstance(operand, Address):
            yield operand, slot_dtype(slot, instruction.dtypes).bytes


def _place(roots: list[_Life]) -> int:
    """Larger buffers first, each at the lowest offset that is free during its life; returns where the last ends."""
    rivals_of = overlaps([(life.first, life.last + 1) for life in roots])
    placed = 0
    for place, life in sorted(enumerate(roots), key=lambda each: (-each[1].bytes, each[1].first)):
        rivals = sorted(
            (roots[other] for other in members(rivals_of[place] & placed)), key=lambda other: other.offset_bytes
        )
        offset = 0
        for rival in rivals:
            if rival.offset_bytes - offset >= life.bytes:
                break
            offset = max(offset, rival.offset_bytes + rival.bytes)
        life.offset_bytes = offset
        placed |= 1 << place
    return max(life.offset_bytes + life.bytes for life in roots)


def _crowded(roots: Sequence[_Life]) -> int:
    """The position at which most bytes are alive; where several are, the one where the first of the lives begins."""
    changes: Counter[int] = Counter()
    for life in roots:
        changes[life.first] += life.bytes
        changes[life.last + 1] -= life.bytes
    positions = sorted(changes)
    alive = dict(zip(positions, accumulate(changes[each] for each in positions), strict=True))
    return max((life.first for life in roots), key=alive.__getitem__)


def _refusal(roots: list[_Life], space: str, used: int, limit_bytes: int) -> OnChipMemoryError:
    """The error of what does not fit, with its bill."""
    crowded = _crowded(roots)
    alive = sorted((life for life in roots if crowded in life), key=lambda life: life.bytes, reverse=True)
    bill = [f"{life.bytes:>9,} B  {life.buffer.name:<16} {life.buffer.location}" for life in alive[:12]]
    if len(alive) > len(bill):
        rest = sum(life.bytes for life in alive[len(bill) :])
        bill.append(f"{rest:>9,} B  in {len(alive) - len(bill)} smaller buffers")
    total = sum(life.bytes for life in alive)
    bill.append(f"{total:>9,} B  alive at once; the limit is {limit_bytes:,} B")
    return OnChipMemoryError(
        f"the kernel's tiles need {used:,} bytes of {space.upper()}, the machine gives a program {limit_bytes:,}",
        used_bytes=used,
        limit_bytes=limit_bytes,
        memory=space.upper(),
        location=alive[0].buffer.location,
        note="\n".join(bill),
        help="use smaller BLOCK sizes, or num_stages=1 to give up double buffering",
    )
