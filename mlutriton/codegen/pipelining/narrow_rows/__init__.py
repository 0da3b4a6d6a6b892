"""Rows of tiles that are only as long as the mask that all transfers of a kernel share.

Rows of 781 elements are loaded as tiles of 1024, a power of two, of which the mask leaves 781. Computing on the rest is
in vain. Where

* every load and store of a group of buffers has the same limit along the rows, which is the same all the time,
* all else that touches them works row by row, or element for element, and
* what reduces a row would find the same if there were less padding,

the buffers hold rows of ``width`` elements instead, one right behind the other: the limit, rounded up to whole beats of
the vector unit. Buffers keep the size, and instructions the counts, that they have for full rows, by which everything
is planned; :func:`apply_widths` changes the counts when all is done. Whoever computes offsets meanwhile uses
:meth:`~mlutriton.codegen.tile_code.Part.operand`.

Values are the same to the bit. Reductions have their elements in the same accumulators; and where a row had padding and
is reduced it keeps at least one element of it, for whose sake a sum of -0.0 is 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlutriton.codegen.pipelining.narrow_rows.invariants import Expression, Invariants
from mlutriton.codegen.pipelining.narrow_rows.padding import Padding
from mlutriton.codegen.tile_code import (
    Emitter,
    Node,
    RowExtent,
    ScalarOperand,
    TileCode,
    all_steps,
    buffers_of,
    children,
    instructions,
    steps,
)
from mlutriton.dtypes import I64
from mlutriton.isa.operands import Address, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Instruction, slot_dtype
from mlutriton.isa.reduction import REDUCTION_GROUP_BYTES

# Full rows fill so many beats at least, whatever their type: shorter ones are not worth it, others would not be whole.
_LEAST_ELEMENTS = 128


def narrow_rows(code: TileCode) -> None:
    """Mark the buffers whose rows can be shorter than they are, and compute how long."""
    loads = [each for each in instructions(code.nodes) if each.row.name == "dma.load_pad"]
    lengths = {extent for each in loads if (extent := each.known_counts.get("n0", 0)) >= _LEAST_ELEMENTS}
    lengths = {length for length in lengths if length % _LEAST_ELEMENTS == 0}
    if not lengths:
        return
    invariants = Invariants(code)
    for length in sorted(lengths):
        _narrow(code, invariants, length)


def apply_widths(code: TileCode) -> None:
    """Give the counts of instructions on narrow rows their widths."""
    if any(buffer.extent for buffer in code.buffers.values()):
        _Widths(code).block(code.nodes)


# ---- which ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Use:
    """How an instruction or chain treats the buffers that it touches.

    Attributes:
        rows: names of those in which it sees rows of the length, and treats them alike.
        others: names of all others.
        limit: how much of the rows is valid, for transfers; None for what has no limit.
        is_reduction: it needs to know what stands behind the valid part.
    """

    rows: set[str]
    others: set[str]
    limit: Expression | None = None
    is_reduction: bool = False


def _narrow(code: TileCode, invariants: Invariants, length: int) -> None:
    """Mark the buffers with rows of a length, group by group of those that have to be alike."""
    uses = [(step, _use(code, invariants, step, length)) for step in all_steps(code.nodes)]
    groups = _Groups()
    for _, use in uses:
        groups.join(use.rows)
    refused = {groups.of(name) for _, use in uses for name in use.others}
    limits: dict[str, set[Expression]] = {}
    reduced: set[str] = set()
    loaded: set[str] = set()
    for step, use in uses:
        for group in {groups.of(name) for name in use.rows}:
            if use.limit is not None:
                limits.setdefault(group, set()).add(use.limit)
                loaded |= {group} if step[0].row.name == "dma.load_pad" else set()
            reduced |= {group} if use.is_reduction else set()
    chosen = {group for group in loaded - refused if len(limits[group]) == 1}
    if chosen & reduced:
        padded = {name: next(iter(limits[groups.of(name)])) for name in groups.names() if groups.of(name) in chosen}
        chosen -= {groups.of(name) for name in Padding(code, padded, length, invariants).harmed}
    for group in sorted(chosen):
        names = {name for name in groups.names() if groups.of(name) == group}
        (limit,) = limits[group]
        extent = RowExtent(length, _width(code, limit, names, length, is_reduced=group in reduced))
        for name in names:
            code.buffers[name].extent = extent
    if chosen:
        _in_rows(code, code.nodes)


def _use(code: TileCode, invariants: Invariants, step: Sequence[Instruction], length: int) -> _Use:
    touched = buffers_of(step)
    refusal = _Use(set(), touched)
    if not touched or not all(_is_plain(code, each) for each in step):
        return refusal
    first = step[0]
    match first.row.name.partition(".")[0], first.row.name:
        case _, "dma.load_pad" | "dma.store":
            return _transfer(invariants, first, length, touched) or refusal
        case "red" | "scan", _:
            return _along_axis(first, length) or refusal
        case _, "v.iota":
            return _Use(touched, set()) if first.known_counts.get("n") == length else refusal
        case _ if all(each.row.is_elementwise_or_mov for each in step):
            return _elementwise(step, length) or refusal
        case _:
            return refusal


def _is_plain(code: TileCode, instruction: Instruction) -> bool:
    """True if all on-chip operands are buffers of the NRAM from their begin on."""
    return all(
        operand.is_at_begin and code.buffers[operand.buffer].space == "nram"
        for operand, _ in instruction.accesses
        if isinstance(operand, Address)
    )


def _transfer(invariants: Invariants, node: Instruction, length: int, touched: set[str]) -> _Use | None:
    is_store = node.row.name == "dma.store"
    valid = node.operand("n0" if is_store else "valid0")
    limit = invariants.expression(valid) if isinstance(valid, Register) else None
    if limit is None:
        return None
    extents = node.known_counts
    if is_store:
        # A dimension of one segment has no stride.
        strides = [extents.get(f"local{d}", 0) for d in (1, 2) if extents.get(f"n{d}") != 1]
        fits = all(stride and stride % length == 0 for stride in strides)
    else:
        fits = extents.get("n0") == length and extents.get("before0") == 0
        fits = fits and all(name in extents for name in ("n1", "n2", "before1", "before2"))
    return _Use(touched, set(), limit) if fits else None


def _along_axis(node: Instruction, length: int) -> _Use | None:
    extents = node.known_counts
    target, source = node.operand("dst"), node.operand("a")
    if not {"outer", "n", "inner"} <= extents.keys() or not isinstance(target, Address) or "arg" in node.row.name:
        return None
    assert isinstance(source, Address)
    is_reduction = node.row.name.startswith("red.")
    if extents["inner"] % length == 0:
        return _Use({source.buffer, target.buffer}, set())
    if extents["inner"] != 1 or extents["n"] != length:
        return None
    if is_reduction:
        return _Use({source.buffer}, {target.buffer}, is_reduction=True)
    return _Use({source.buffer, target.buffer}, set()) if node.operand("reverse") == Immediate(0) else None


def _elementwise(step: Sequence[Instruction], length: int) -> _Use | None:
    rows: set[str] = set()
    others: set[str] = set()
    for each in step:
        extents = each.known_counts
        if not {"rows", "columns"} <= extents.keys() or extents["columns"] % length:
            return None
        for operand, _ in each.accesses:
            assert isinstance(operand, Address)
            if operand.mode is Mode.FULL or (operand.mode is Mode.COLUMN and extents["columns"] == length):
                rows.add(operand.buffer)
            elif operand.mode is Mode.ROW and extents["columns"] == length:
                others.add(operand.buffer)
            else:
                return None
    return _Use(rows, others)


class _Groups:
    """Buffers that are joined to groups, each of which is known by one of its names."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def names(self) -> list[str]:
        """All buffers, in order."""
        return sorted(self.parent)

    def of(self, name: str) -> str:
        """The name of a buffer's group."""
        while (parent := self.parent.setdefault(name, name)) != name:
            name = parent
        return name

    def join(self, names: set[str]) -> None:
        """Make one group of these."""
        ordered = sorted(names)
        for name in ordered:
            self.of(name)
        for one, other in pairwise(ordered):
            self.parent[self.of(one)] = self.of(other)


# ---- how long -------------------------------------------------------------------------------------------------------


def _width(code: TileCode, limit: Expression, names: set[str], length: int, *, is_reduced: bool) -> Register:
    """A register with the width of rows of a limit, computed at the begin of the code."""
    widest = max(
        slot_dtype(slot, each.dtypes).bytes
        for each in instructions(code.nodes)
        for slot, operand in zip(each.row.slots, each.operands, strict=True)
        if isinstance(operand, Address) and operand.buffer in names
    )
    beat = REDUCTION_GROUP_BYTES // widest
    emitter = Emitter(code)
    emitter.nodes = before = list[Node]()
    valid = limit.emit(emitter)
    upper = emitter.scalar("add", (I64,), valid, Immediate(beat if is_reduced else beat - 1))
    width = emitter.scalar("smin", (I64,), emitter.scalar("and", (I64,), upper, Immediate(-beat)), Immediate(length))
    code.nodes[:0] = before
    return width


# ---- counts ---------------------------------------------------------------------------------------------------------


def _in_rows(code: TileCode, nodes: list[Node]) -> None:
    """Let element-wise instructions on narrow rows count rows and columns as these are."""
    for step in list(steps(nodes)):
        for node in step:
            for nested in children(node):
                _in_rows(code, nested)
        extent = _extent(code, step)
        if extent is None or not all(isinstance(n, Instruction) and n.row.is_elementwise_or_mov for n in step):
            continue
        for node in step:
            assert isinstance(node, Instruction)
            extents = node.known_counts
            rows = extents["rows"] * extents["columns"] // extent.most
            operands = list(node.operands)
            operands[node.row.slot_index["rows"]] = Immediate(rows)
            operands[node.row.slot_index["columns"]] = Immediate(extent.most)
            place = next(place for place, other in enumerate(nodes) if other is node)
            nodes[place] = node.taking(operands)


def _extent(code: TileCode, step: Sequence[Node]) -> RowExtent | None:
    """The extent of the narrow rows that a step touches."""
    return next(
        (
            extent
            for node in step
            if isinstance(node, Instruction)
            for operand, _ in node.accesses
            if isinstance(operand, Address) and (extent := code.buffers[operand.buffer].extent)
        ),
        None,
    )


class _Widths:
    """Counts of full rows become counts of narrow ones."""

    def __init__(self, code: TileCode) -> None:
        self.code = code
        self.emitter = Emitter(code)

    def block(self, nodes: list[Node]) -> None:
        """Change the counts of all nodes."""
        self.emitter.nodes = changed = list[Node]()
        for step in steps(nodes):
            extent = _extent(self.code, step)
            made: list[Node] = []
            for node in step:
                for nested in children(node):
                    self.block(nested)
                self.emitter.nodes = changed
                made.append(self._changed(node, extent) if extent and isinstance(node, Instruction) else node)
            changed += made
        nodes[:] = changed

    def _changed(self, node: Instruction, extent: RowExtent) -> Instruction:
        self.emitter.location = node.location
        operands = list(node.operands)
        for name in _counts_along_rows(node):
            place = node.row.slot_index[name]
            operands[place] = self._scaled(operands[place], extent)
        return node.taking(operands)

    def _scaled(self, count: Operand, extent: RowExtent) -> Operand:
        """A count of elements of full rows as one of narrow ones; counts of other things are small."""
        if not isinstance(count, Immediate) or not count.value or int(count.value) % extent.most:
            return count
        rows: ScalarOperand = Immediate(int(count.value) // extent.most)
        return self.emitter.integer("mul", extent.register, rows)


def _counts_along_rows(node: Instruction) -> tuple[str, ...]:
    """The names of the counts that say how long rows are, or are strides over whole rows."""
    match node.row.name:
        case "dma.load_pad":
            return ("n0",)
        case "dma.store":
            return ("local1", "local2")
        case "v.iota":
            return ("n",)
        case _ if node.row.is_elementwise_or_mov:
            return ("columns",)
        case _:
            return ("n",) if node.operand("inner") == Immediate(1) else ("inner",)
