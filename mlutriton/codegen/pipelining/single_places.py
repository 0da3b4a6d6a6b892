"""Loops whose tiles have room for one place each: the next iteration's loads run as soon as their places are free.

Where ping-pong buffers do not fit, the tile of the next iteration may come when this one has read its own for the last
time. What is computed from then on runs beside the transfer.

A row that nearly fills the memory is mostly read, and written again, by the arithmetic right before it is stored. That
is element by element, and may as well go in parts: while one part is computed, the part before is stored, and that of
the next row loaded to the same place:

    load x(0)
    for i: compute y(i) from x(i) up to its last element-wise instructions
           for each part: compute the part of y(i); store it; load that part of x(i + 1), if there is a next iteration

The parts of a buffer are told apart like the phases of a ping-pong buffer, by the registers of their offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlutriton.codegen.pipelining.blocks.merged_transfers import with_operands
from mlutriton.codegen.pipelining.pipeline_plan import Plan
from mlutriton.codegen.pipelining.rotation import Rotation
from mlutriton.codegen.tile_code import (
    WRITING,
    Branch,
    Emitter,
    Loop,
    Node,
    RowExtent,
    ScalarOperand,
    TileCode,
    buffers_of,
    steps,
)
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.expression import round_up
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Instruction

# A part flows as long as it takes a transfer to begin, and there are at most so many.
_MOST_PARTS = 8
# Parts begin at whole beats of the vector unit, whatever their elements.
_PART_ELEMENTS = 128


def rotate_in_place(code: TileCode, loop: Loop, plan: Plan, machine: Machine) -> list[Node]:
    """The loop with loads that run ahead into the places that they always had, and what comes before it.

    Args:
        code: the kernel.
        loop: is taken apart.
        plan: of the loop, with loads.
        machine: decides how long parts are.
    """
    plan = replace(plan, buffers=set[str](), stores=[], remembered=[])
    rotation = Rotation(code, loop, plan)
    before = rotation.load_first()
    body, more, renamer = rotation.look_ahead()
    moved = {id(node) for node in plan.loads}
    rest = [node for node in loop.body if id(node) not in moved]
    tail = _tail_of(code, rest, plan, machine)
    loads = [load for load in plan.loads if tail is not None and tail.accepts(load)]
    tail = tail if loads else None
    in_parts = set(map(id, loads))
    behind: dict[int, list[Node]] = {}
    touched = {name: place for place, node in enumerate(rest) for name in buffers_of([node])}
    for load in plan.loads:
        if id(load) not in in_parts:
            last = max((touched.get(name, 0) for name in buffers_of([load], *WRITING)), default=0)
            behind.setdefault(_end_of_use(rest, last, tail), []).append(load)

    def ahead(nodes: Sequence[Node]) -> list[Node]:
        # What comes after them is again for the program that is served in this iteration.
        return [Branch(more, [*renamer.nodes(plan.serves), *nodes], location=loop.location), *plan.serves]

    for place, node in enumerate(rest):
        if tail is None or not tail.first <= place < tail.end:
            body.append(node)
        elif place == tail.first:
            parts = _Parts(code, tail, before)
            body += filter(_is_scalar, rest[tail.first : tail.end])
            computed = [each for each in rest[tail.first : tail.end] if not _is_scalar(each)]
            for number in range(tail.parts):
                body += parts.of(number, computed)
                body += ahead(parts.of(number, renamer.nodes(loads)))
        if place in behind:
            body += ahead(renamer.nodes(behind[place]))
    return [*before, rotation.rotated([*body, *rotation.step_ahead()])]


def _end_of_use(rest: Sequence[Node], place: int, tail: _Tail | None) -> int:
    """The place of the last node that touches what a load brings, or of the end of its chain, or of the tail."""
    while isinstance(node := rest[place], Instruction) and node.hands_on:
        place += 1
    return tail.end - 1 if tail is not None and tail.first <= place < tail.end else place


def _is_scalar(node: Node) -> bool:
    """True for plain arithmetic of the scalar unit."""
    return (
        isinstance(node, Instruction)
        and node.written_register is not None
        and not node.row.trace
        and not any(node.accesses)
    )


# ---- the tail -------------------------------------------------------------------------------------------------------


def _tail_of(code: TileCode, rest: Sequence[Node], plan: Plan, machine: Machine) -> _Tail | None:
    """The last nodes of a body that may go in parts, from arithmetic to the store of a row; None if there are none."""
    left = list(steps(rest))
    while left and all(map(_is_scalar, left[-1])):
        left.pop()
    end = sum(map(len, left))
    tail = _Tail(code, machine, end, end)
    while left and tail.takes(left[-1]):
        tail.first -= len(left.pop())
    return tail if tail.computes and tail.parts > 1 and (len(tail.stores) == 1 or plan.commutes) else None


@dataclass
class _Tail:
    """Nodes at the end of a loop's body that see rows of one length, element by element.

    Attributes:
        code: the kernel.
        machine: it is for.
        first: the place of its first node.
        end: the place behind its last one.
        widths: bytes of an element, by the names of buffers that hold such rows.
        singles: buffers of which it reads one element for all of a row.
        stores: of rows.
        computes: there is arithmetic before them.
    """

    code: TileCode
    machine: Machine
    first: int
    end: int
    widths: dict[str, int] = field(default_factory=dict[str, int])
    singles: set[str] = field(default_factory=set[str])
    stores: list[Instruction] = field(default_factory=list[Instruction])
    computes: bool = False

    @property
    def elements(self) -> int:
        """Elements of a row that is as long as can be."""
        name, width = next(iter(self.widths.items()))
        return self.code.buffers[name].bytes // width

    @property
    def extent(self) -> RowExtent | None:
        """How long rows really are."""
        return self.code.buffers[next(iter(self.widths))].extent

    @property
    def part(self) -> int:
        """Elements of a part, but for the last one."""
        row_bytes = self.elements * max(self.widths.values())
        parts = min(_MOST_PARTS, max(1, row_bytes // self.machine.core_dma_latency_bytes))
        return round_up(-(-self.elements // parts), _PART_ELEMENTS)

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-self.elements // self.part)

    def takes(self, step: Sequence[Node]) -> bool:
        """Add the instruction or chain that comes right before, if it may go in parts with the rest."""
        chain = [node for node in step if isinstance(node, Instruction)]
        if len(chain) < len(step):
            return False
        if all(map(_is_scalar, chain)):
            return True
        (first, *_) = chain
        if first.row.name == "dma.store":
            is_taken = _is_one_row(first, "src") and self._agrees({_local(first, "src").buffer: _width(first)}, set())
            self.stores += [first] if is_taken else []
            return is_taken
        is_taken = bool(self.stores) and all(map(self._takes, chain))
        self.computes |= is_taken
        return is_taken

    def _takes(self, instruction: Instruction) -> bool:
        """Add an element-wise instruction; if one of a chain is refused, what the others added does no harm."""
        extents = instruction.known_counts
        rows, columns = extents.get("rows", 0), extents.get("columns", 0)
        if not instruction.row.is_elementwise_or_mov or rows * columns != self.elements:
            return False
        widths, singles = dict[str, int](), set[str]()
        for slot, operand in zip(instruction.row.slots, instruction.operands, strict=True):
            if not isinstance(operand, Address):
                continue
            if operand.mode is not Mode.FULL and rows != 1:
                return False
            width = instruction.dtype_of(slot).bytes
            if operand.mode is Mode.ROW:
                singles.add(operand.buffer)
            elif not operand.is_at_begin or widths.setdefault(operand.buffer, width) != width:
                return False
        return self._agrees(widths, singles)

    def _agrees(self, widths: dict[str, int], singles: set[str]) -> bool:
        """Add buffers with rows, and those of single elements, if all they see is of one kind."""
        widths, singles = self.widths | widths, self.singles | singles
        if not singles.isdisjoint(widths) or any(widths[name] != width for name, width in self.widths.items()):
            return False
        buffers = [(self.code.buffers[name], width) for name, width in widths.items()]
        if len({(each.bytes // width, each.bytes % width, each.extent) for each, width in buffers}) != 1:
            return False
        if any(each.phases != 1 or each.space != "nram" for each, _ in buffers):
            return False
        self.widths, self.singles = widths, singles
        return True

    def accepts(self, load: Node) -> bool:
        """Whether a load of the next iteration may go in parts behind those of the tail."""
        if not isinstance(load, Instruction) or load.row.name not in ("dma.load", "dma.load_pad"):
            return False
        if not _is_one_row(load, "dst") or self.widths.get(_local(load, "dst").buffer) != _width(load):
            return False
        return load.row.name == "dma.load" or load.operand("n0") == Immediate(self.elements)


def _is_one_row(transfer: Instruction, local: str) -> bool:
    """Whether a transfer is of consecutive elements, to or from the begin of a buffer."""
    names = ("n1", "n2") if transfer.row.name != "dma.load_pad" else ("n1", "n2", "valid1", "valid2")
    before = () if transfer.row.name != "dma.load_pad" else ("before0", "before1", "before2")
    return (
        all(transfer.operand(name) == Immediate(1) for name in names)
        and all(transfer.operand(name) == Immediate(0) for name in before)
        and _local(transfer, local).is_at_begin
    )


def _local(transfer: Instruction, slot: str) -> Address:
    address = transfer.operand(slot)
    assert isinstance(address, Address)
    return address


def _width(transfer: Instruction) -> int:
    return transfer.dtypes[0].bytes


# ---- its parts ------------------------------------------------------------------------------------------------------


class _Parts:
    """Makes of nodes on rows those on parts of them."""

    def __init__(self, code: TileCode, tail: _Tail, before: list[Node]) -> None:
        """Compute offsets and lengths.

        Args:
            code: the kernel.
            tail: of rows.
            before: nodes in front of the loop, which are added to.
        """
        self.tail = tail
        self.emitter = Emitter(code, tail.stores[0].location)
        self.emitter.nodes = before
        widths = sorted(set(tail.widths.values()))
        self.starts = [number * tail.part for number in range(tail.parts)]
        self.offsets = [
            {width: self.emitter.scalar("mov", (I64,), Immediate(start * width)) for width in widths}
            for start in self.starts
        ]
        for registers in self.offsets:
            code.phases |= dict.fromkeys(registers.values(), registers[widths[0]])
        whole = tail.extent.register if tail.extent else Immediate(tail.elements)
        self.lengths = [self._left(whole, start) for start in self.starts]

    def _left(self, whole: Operand, start: int) -> ScalarOperand:
        """Of so many elements from the begin of a row on, those in a part."""
        assert isinstance(whole, Register | Immediate)
        rest = self.emitter.integer("sub", whole, Immediate(start))
        return self.emitter.integer("smax", self.emitter.integer("smin", rest, Immediate(self.tail.part)), Immediate(0))

    def of(self, number: int, nodes: Sequence[Node]) -> list[Node]:
        """The part of instructions on rows, with the arithmetic that those of transfers need."""
        self.emitter.nodes = made = list[Node]()
        for node in nodes:
            assert isinstance(node, Instruction)
            self.emitter.location = node.location
            made.append(node if _is_scalar(node) else self._part(number, node))
        return made

    def _part(self, number: int, node: Instruction) -> Instruction:
        length, start = self.lengths[number], self.starts[number]
        counts: dict[str, Operand] = {}
        match node.row.name:
            case "dma.load_pad":
                counts = {"n0": length, "valid0": self._left(node.operand("valid0"), start)}
            case "dma.load" | "dma.store":
                counts = {"n0": self._left(node.operand("n0"), start)}
            case _:
                counts = {"rows": Immediate(1), "columns": length}
        operands: list[Operand] = []
        for operand in node.operands:
            if isinstance(operand, GlobalAddress):
                operand = replace(operand, offset_bytes=operand.offset_bytes + start * _width(node))
            elif isinstance(operand, Address) and operand.buffer in self.tail.widths:
                width = self.tail.widths[operand.buffer]
                operand = replace(operand, register=self.offsets[number][width])
            operands.append(operand)
        return with_operands(node.taking(operands), counts)
