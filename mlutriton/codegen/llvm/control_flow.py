"""Basic blocks of a program, and which on-chip bytes are still read after an instruction."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mlutriton.isa.legality import static_span
from mlutriton.isa.operands import Address, Immediate, Label, Register
from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import SPECIAL_REGISTERS, Access

_ARRAYS_DISJOINT = Immediate(SPECIAL_REGISTERS.index("arrays_disjoint"))


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions ``start`` to ``end - 1``, entered only at the first and left only at the last.

    Attributes:
        start: first instruction.
        end: after the last instruction; ``start`` where control never comes, for all that is known of the launch.
        successors: first instructions of the blocks that may follow.
    """

    start: int
    end: int
    successors: tuple[int, ...]


def basic_blocks(program: Program, *, disjoint: bool | None = None, untaken: Collection[int] = ()) -> list[Block]:
    """The blocks that control can reach, in program order.

    Args:
        program: the program.
        disjoint: what the special register ``arrays_disjoint`` holds, if that is known.
        untaken: first instructions of blocks that are never run; what leads there leads to an empty block.
    """
    instructions, labels = program.instructions, program.labels
    known = disjoint_flags(program) if disjoint is not None else set[Register]()
    starts = sorted({*program.block_starts})
    blocks: dict[int, Block] = {}
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        if start in untaken:
            blocks[start] = Block(start, start, ())
            continue
        last, successors = instructions[end - 1], [end]
        if last.row.name in ("br", "cbr"):
            target = last.operand("target")
            assert isinstance(target, Label)
            successors = [labels[target.name]] if last.row.name == "br" else [labels[target.name], end]
            if last.row.name == "cbr" and last.operand("condition") in known:
                successors = [labels[target.name] if disjoint else end]
        elif last.row.name == "exit":
            successors = []
        blocks[start] = Block(start, end, tuple(successors))
    reached, pending = set[int](), [0]
    while pending:
        start = pending.pop()
        if start not in reached:
            reached.add(start)
            pending += blocks[start].successors
    return [block for start, block in blocks.items() if start in reached]


def disjoint_flags(program: Program) -> set[Register]:
    """The registers that hold the special register ``arrays_disjoint`` and never anything else."""
    held: set[Register] = set()
    others: set[Register] = set()
    for instruction in program.instructions:
        result = instruction.written_register
        if result is not None:
            is_flag = instruction.row.name == "sreg" and instruction.operand("index") == _ARRAYS_DISJOINT
            (held if is_flag else others).add(result)
    return held - others


@dataclass(frozen=True)
class RegisterLife:
    """Where the registers of a program hold what is still read. Sets of registers are integers: a bit for each.

    Attributes:
        live: by first instruction of a block, those that are read before written, from its begin and its end on.
        lasting: those that one instruction alone sets, on every way to all that read them, which stand behind it.
    """

    live: Mapping[int, tuple[int, int]]
    lasting: int


def register_life(program: Program, blocks: list[Block]) -> RegisterLife:
    """Where registers hold what is still read, in blocks in program order that begin with the program's."""
    used: dict[int, int] = {}
    written: dict[int, int] = {}
    set_once = set_again = read_before = 0
    for block in blocks:
        reads = results = 0
        for instruction in program.instructions[block.start : block.end]:
            for register in instruction.registers_read:
                reads |= 1 << register.index & ~results
            result = instruction.written_register
            if result is not None:
                bit = 1 << result.index
                set_again |= set_once & bit
                set_once |= bit
                results |= bit
        used[block.start], written[block.start] = reads, results
        read_before |= reads & ~(set_once & ~results)
    live = _live(blocks, used, written)
    # What some way reads without setting it is live where the program begins.
    return RegisterLife(live, set_once & ~(set_again | read_before | live[blocks[0].start][0]))


def _live(blocks: list[Block], used: dict[int, int], written: dict[int, int]) -> dict[int, tuple[int, int]]:
    """What is read before it is written, from the begin and from the end of each block on, by its first instruction.

    Args:
        blocks: in program order.
        used: what each block reads before it writes it.
        written: what each block writes.
    """
    live_in = {block.start: 0 for block in blocks}
    live_out = {block.start: 0 for block in blocks}
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            start, live = block.start, 0
            for successor in block.successors:
                live |= live_in[successor]
            live_out[start] = live
            live = used[start] | live & ~written[start]
            changed |= live != live_in[start]
            live_in[start] = live
    return {block.start: (live_in[block.start], live_out[block.start]) for block in blocks}


class Liveness:
    """Which bytes of NRAM hold values that some way through the program still reads.

    A value in bytes that are not live need not be stored. Sets of bytes are integers: a bit for each stretch of NRAM
    between two neighbouring bounds of accesses.
    """

    def __init__(self, program: Program, blocks: list[Block]) -> None:
        spans: dict[tuple[object, ...], int | None] = {}
        nothing: tuple[list[tuple[int, int]], list[tuple[int, int]]] = [], []
        accesses = [
            _accesses(program, each, spans) if each.row.memory_slots else nothing for each in program.instructions
        ]
        self._bounds = sorted({bound for reads, writes in accesses for place in (*reads, *writes) for bound in place})
        self._reads = [self._union(reads) if reads else 0 for reads, _ in accesses]
        self._writes = [self._union(writes) if writes else 0 for _, writes in accesses]
        used: dict[int, int] = {}
        written: dict[int, int] = {}
        for block in blocks:
            reads = writes = 0
            for index in range(block.end - 1, block.start - 1, -1):
                reads = reads & ~self._writes[index] | self._reads[index]
                writes |= self._writes[index]
            used[block.start], written[block.start] = reads, writes
        self._live_after = [0] * len(program.instructions)
        live = _live(blocks, used, written)
        for block in blocks:
            _, after = live[block.start]
            for index in range(block.end - 1, block.start - 1, -1):
                self._live_after[index] = after
                after = after & ~self._writes[index] | self._reads[index]

    def is_live(self, index: int, start: int, end: int) -> bool:
        """True if a byte of NRAM from ``start`` up to ``end`` may be read after an instruction."""
        return bool(self._live_after[index] & self._bits(start, end))

    def outlives(self, index: int, start: int, end: int) -> bool:
        """True if a byte from ``start`` up to ``end`` may be read after an instruction and is not written by it."""
        return bool(self._live_after[index] & ~self._writes[index] & self._bits(start, end))

    def defer_read(self, index: int, reader: int, start: int, end: int) -> None:
        """Note that what an instruction reads is read only where a later one of its block stands."""
        bits = self._bits(start, end)
        for number in range(index, reader):
            self._live_after[number] |= bits

    def _bits(self, start: int, end: int) -> int:
        first, last = bisect_right(self._bounds, start) - 1, bisect_left(self._bounds, end)
        return (1 << max(last, 0)) - (1 << max(first, 0)) if end > start else 0

    def _union(self, places: list[tuple[int, int]]) -> int:
        result = 0
        for place in places:
            result |= self._bits(*place)
        return result


def _accesses(
    program: Program, instruction: Instruction, spans: dict[tuple[object, ...], int | None]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Bytes of NRAM that an instruction may read, and bytes that it certainly writes; ``spans`` remembers spans."""
    reads: list[tuple[int, int]] = []
    writes: list[tuple[int, int]] = []
    for place, _ in instruction.row.memory_slots:
        slot, operand = instruction.row.slots[place], instruction.operands[place]
        if not isinstance(operand, Address) or program.buffers[operand.buffer].space != "nram":
            continue
        buffer = program.buffers[operand.buffer]
        elements = None
        if operand.register is None:
            counts = (str(instruction.operand(name)) for _, name in instruction.row.count_slots)
            key = (instruction.row.name, slot.name, operand.mode.value, *counts)
            if key not in spans:
                spans[key] = static_span(instruction, slot)
            elements = spans[key]
        start, end = buffer.offset_bytes, buffer.offset_bytes + buffer.bytes
        if elements is not None:
            start += operand.offset_bytes
            end = start + elements * instruction.dtype_of(slot).bytes
        overwrites = slot.access is Access.READ_WRITE and instruction.operand("accumulate") == Immediate(0)
        if slot.access in (Access.READ, Access.READ_WRITE) and not overwrites:
            reads.append((start, end))
        elif elements is not None and _writes_all(instruction, elements):
            writes.append((start, end))
    return reads, writes


def _writes_all(instruction: Instruction, elements: int) -> bool:
    """True if every element from first to last is written; ``elements`` is their number."""
    row = instruction.row
    if row.name.startswith("gatom"):
        return False
    if "n1" not in row.slot_index:
        return True
    written = 1
    for name in row.extents:
        count = instruction.operand(name)
        assert isinstance(count, Immediate)
        written *= int(count.value)
    return written == elements


def is_backward(block: Block) -> bool:
    """True if a loop may close at the end of the block."""
    return any(successor <= block.start for successor in block.successors)
