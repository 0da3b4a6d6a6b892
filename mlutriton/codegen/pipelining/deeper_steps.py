"""Loops that add up products of matrices, several of their steps at once: the depth of a step suits the transfers.

What suits other machines, steps of 32 or 64 in depth say, is little here: rows of 64 bytes show a set-up each, a tile
of a few KB shows its latency, and the tensor unit fills and drains for each product. A loop

    for k: total += load a(rows, k) * load b(k, columns)

adds one k after the other to the total, so that products of consecutive steps are one of the sum of their depths:

    for k, M steps at a time: total += load a(rows, k and on) * load b(k and on, columns)

M is a number of the launch: what memory allows, what lets a burst flow for some latencies, and no more than leaves a
few turns for the pipeline, which are about alike. The last turn has what is left. Tiles of a step lie behind each other
in their buffer, or, where the depth runs along their rows, side by side; panels of weights go on in depth. What is
computed on tiles on the way, conversions and scales, takes more elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mlutriton.codegen.pipelining.merged_transfers import Merging, limiting, with_operands
from mlutriton.codegen.pipelining.pipeline_plan import Definitions
from mlutriton.codegen.pipelining.surroundings import Surroundings
from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    LoopEmitter,
    Node,
    ScalarOperand,
    Sharing,
    TileCode,
    children,
    instructions,
    steps,
    touch_counts,
)
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.expression import round_up, value_of
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SPECIAL_REGISTERS, WRAM_PANEL_COLUMNS, Access, Queue

# The tiles of a turn flow for so many latencies: then the one that shows hardly counts. Fewer where memory is short.
DEPTHS = (8, 6, 5, 4, 3, 2)
# Of one core alone for no longer than that: its pipeline has fewer stages to fill.
LATENCIES_ALONE = 6

# Of what cores load together it is to be so many steps at least: their pipeline orders loads by what it knows of them,
# and that is less of those of several steps.
LEAST_SHARED_STEPS = 3

# Turns that are left for the pipeline: at both ends of a loop one stands alone.
TURNS = 3

# With fewer steps in a turn, one less makes transfers much shorter.
_LEAST_UNEVEN = 3

_ONE = Immediate(1)
_CORE = Immediate(SPECIAL_REGISTERS.index("core_in_cluster"))


def deepen_loops(code: TileCode, machine: Machine, latencies: int) -> list[int]:
    """Let loops that add up products take several steps at once where that is of use; how many each that does takes.

    Args:
        code: is rewritten.
        machine: decides what is of use, and what there is room for.
        latencies: of a transfer, for which the tiles of a turn are to flow.
    """
    return _visit(code, code.nodes, machine, latencies, Surroundings(code.nodes))


def _visit(
    code: TileCode, nodes: list[Node], machine: Machine, latencies: int, surroundings: Surroundings
) -> list[int]:
    found, result = list[int](), list[Node]()
    for node in nodes:
        with surroundings.visiting(node):
            for nested in children(node):
                found += _visit(code, nested, machine, latencies, surroundings)
            deepened = _deepened(code, node, machine, latencies, surroundings) if isinstance(node, Loop) else None
            if deepened is not None:
                found.append(deepened[1])
                surroundings.replaced(node, deepened[0])
        made = [node] if deepened is None else deepened[0]
        if not isinstance(node, Branch):
            surroundings.passed(made)
        result += made
    nodes[:] = result
    return found


def _deepened(
    code: TileCode, loop: Loop, machine: Machine, latencies: int, surroundings: Surroundings
) -> tuple[list[Node], int] | None:
    """The loop with deeper steps and what is computed before it, and their depth; None if it has none."""
    if loop.carried or loop.stages == 1 or not all(isinstance(node, Instruction | Sharing) for node in loop.body):
        return None
    analysis = _Analysis(code, loop, surroundings)
    if not analysis.succeeds():
        return None
    most = _most_steps(code, loop, analysis, machine, latencies, surroundings)
    return (_Deepening(code, loop, analysis, most, machine.core_dma_latency_bytes).nodes(), most) if most > 1 else None


class _Layout(Enum):
    """How the tiles of consecutive steps lie in a buffer."""

    BEHIND = auto()  # one behind the other
    BESIDE = auto()  # side by side: each row is that of all steps
    PANELS = auto()  # in panels of weights, which go on in depth


@dataclass(frozen=True)
class _Rest:
    """What is left of a loop's depth for a load: of all at the begin of a step, less what comes before its own part."""

    of_all: Register
    before: ScalarOperand


class _Analysis:
    """Whether the steps of a loop can be taken together.

    Attributes:
        layouts: of the buffers that each step fills.
        counts: by the identity of an element-wise instruction or transpose, the name of the count that goes with the
            depth.
        rests: by the identity of a transfer whose depth a mask limits, what is left of it at the begin of a step.
    """

    def __init__(self, code: TileCode, loop: Loop, surroundings: Surroundings) -> None:
        self.code, self.loop, self.everywhere = code, loop, surroundings.touches
        self.every = list(instructions(loop.body))
        flat = replace(loop, body=[*self.every])
        self.definitions = Definitions(flat)
        self.merging = Merging(code, flat, self.definitions, (), surroundings.linear)
        self.layouts: dict[str, _Layout] = {}
        self.counts: dict[int, str] = {}
        self.rests: dict[int, _Rest] = {}
        products = [each for each in self.every if each.row.name == "mm"]
        touched = [_buffer(operand) for each in self.every for operand, _ in each.accesses]
        self.totals = {_buffer(each.operand("c")) for each in products}
        self.is_sum = bool(products) and all(touched.count(total) == 1 for total in self.totals)
        self.filled = {_buffer(o) for each in self.every for o, a in each.accesses if a is not Access.READ}
        self.filled -= {*self.totals, ""}

    def succeeds(self) -> bool:
        """Find out how tiles lie, from the products backwards; False if the loop does anything else."""
        inside = touch_counts(self.loop.body)
        if not self.is_sum or any(self.everywhere[name] != inside[name] for name in self.filled):
            return False
        listed = [step for nodes in _lists(self.loop.body) for step in steps(nodes) if isinstance(step[0], Instruction)]
        return all(self._takes(step) for step in reversed(listed)) and self.layouts.keys() == self.filled

    def _takes(self, step: Sequence[Node]) -> bool:
        """Whether an instruction or chain can do its work for several steps; notes how it needs its tiles to lie."""
        chain = [node for node in step if isinstance(node, Instruction)]
        first = chain[0]
        if first.row.queue is Queue.SCALAR:
            return not first.row.trace and not any(first.accesses) and first.written_register is not None
        if first.row.trace == "LOAD":
            return self._load(first)
        if first.row.trace == "GATHER":
            return self._gather(first)
        if any(self._varies(operand) for each in chain for operand in each.registers_read):
            return False
        match first.row.name:
            case "mm":
                return self._product(first)
            case "move.weight":
                return self._weights(first)
            case "move":
                return self._move(first)
            case "v.transpose":
                return self._transpose(first)
            case _:
                return all(each.row.is_elementwise_or_mov for each in chain) and self._elementwise(chain)

    def _varies(self, register: Register) -> bool:
        return self.merging.step(register) != {}

    def _layout(self, operand: Operand) -> _Layout | None:
        """How a whole tile is to lie."""
        is_whole = isinstance(operand, Address) and operand.is_at_begin
        return self.layouts.get(_buffer(operand)) if is_whole else None

    def _same(self, operand: Operand, layout: _Layout | None, *, in_part: bool = False) -> bool:
        """Let the whole tile of an operand lie in a way; False if it does not change, or has to lie in another.

        Args:
            operand: names the tile, or ``in_part`` some columns of all its rows.
            layout: that way, if there is one.
            in_part: of rows that lie one behind the other, any part will do.
        """
        is_whole = isinstance(operand, Address) and (operand.is_at_begin or (in_part and layout is _Layout.BEHIND))
        name = _buffer(operand)
        if layout is None or not is_whole or name not in self.filled:
            return False
        return self.layouts.setdefault(name, layout) is layout

    def _bytes(self, operand: Operand, elements: int, dtype_bytes: int) -> bool:
        """Whether a tile of so many elements fills the buffer of an operand."""
        return self.code.buffers[_buffer(operand)].bytes == elements * dtype_bytes

    def _product(self, node: Instruction) -> bool:
        known = node.known_counts
        if not {"rows", "columns", "depth", "lda"} <= known.keys() or known["lda"] != known["depth"]:
            return False
        a, w, size = node.operand("a"), node.operand("w"), node.dtypes[0].bytes
        fills = self._bytes(a, known["rows"] * known["depth"], size)
        fills &= self._bytes(w, round_up(known["columns"], WRAM_PANEL_COLUMNS) * known["depth"], size)
        adds = node.operand("accumulate") == Immediate(1)
        return fills and adds and self._same(a, _Layout.BESIDE) and self._same(w, _Layout.PANELS)

    def _weights(self, node: Instruction) -> bool:
        known = node.known_counts
        names = ("depth", "columns", "from_depth", "from_column")
        if self._layout(node.operand("dst")) is not _Layout.PANELS or not known.keys() >= {*names}:
            return False
        depth, columns, *strides = (known[name] for name in names)
        row = strides[0] if strides[0] > columns else columns
        if not self._bytes(node.operand("src"), depth * row, node.dtypes[0].bytes):
            return False
        layout = {(row, 1): _Layout.BEHIND, (1, depth): _Layout.BESIDE}.get((strides[0], strides[1]))
        return self._same(node.operand("src"), layout, in_part=row > columns)

    def _move(self, node: Instruction) -> bool:
        known, layout = node.known_counts, self._layout(node.operand("dst"))
        if not known.keys() >= {"n0", "n1", "to1", "from1"}:
            return False
        if known["n1"] == 1:
            return self._same(node.operand("src"), layout)
        is_dense = known["to1"] == known["n0"] and layout is _Layout.BEHIND
        fills = self._bytes(node.operand("dst"), known["n1"] * known["n0"], node.dtypes[0].bytes)
        fills &= self._bytes(node.operand("src"), known["n1"] * known["from1"], node.dtypes[0].bytes)
        return is_dense and fills and self._same(node.operand("src"), layout, in_part=True)

    def _transpose(self, node: Instruction) -> bool:
        known, target = node.known_counts, node.operand("dst")
        if {known.get("batch"), known.get("inner")} != {1} or not {"rows", "columns"} <= known.keys():
            return False
        if not self._bytes(target, known["rows"] * known["columns"], node.dtypes[0].bytes):
            return False
        turned = {_Layout.BESIDE: (_Layout.BEHIND, "rows"), _Layout.BEHIND: (_Layout.BESIDE, "columns")}
        layout = self._layout(target)
        if layout not in turned:
            return False
        source, self.counts[id(node)] = turned[layout]
        return self._same(node.operand("a"), source)

    def _elementwise(self, chain: Sequence[Instruction]) -> bool:
        known, target = chain[0].known_counts, chain[-1].operands[0]
        layout = self._layout(target)
        if layout not in (_Layout.BEHIND, _Layout.BESIDE) or not {"rows", "columns"} <= known.keys():
            return False
        rows = known["rows"]
        if not self._bytes(target, rows * known["columns"], chain[-1].dtypes[-1].bytes):
            return False
        # The mode of what has an element for each place in depth, and of what has one for each other place.
        along, across = (Mode.ROW, Mode.COLUMN) if layout is _Layout.BEHIND else (Mode.COLUMN, Mode.ROW)
        for operand in (operand for each in chain for operand in each.operands if isinstance(operand, Address)):
            if operand == target:
                continue
            if operand.buffer not in self.filled:
                goes_along = operand.mode is (Mode.ROW if rows == 1 else across)
            elif operand.mode is Mode.FULL:
                goes_along = self._same(operand, layout)
            else:
                goes_along = rows > 1 and operand.mode is along and self._same(operand, _Layout.BEHIND)
            if not goes_along:
                return False
        count = "rows" if rows > 1 and layout is _Layout.BEHIND else "columns"
        self.counts |= {id(each): count for each in chain}
        return True

    # ---- loads ------------------------------------------------------------------------------------------------------

    def _load(self, node: Instruction) -> bool:
        local = node.operand("dst")
        assert isinstance(local, Address)
        layout = self.layouts.get(local.buffer)
        if layout is None or node.row.name not in ("dma.weight", "dma.load", "dma.load_pad"):
            return False
        if (layout is _Layout.PANELS) != (node.row.name == "dma.weight"):
            return False
        deep = deep_count(node, layout)
        if layout is _Layout.PANELS:
            stride, is_dense = node.operand("global_depth"), self._layout(local) is layout
        else:
            dimension = int(deep[1])
            stride = node.operand(f"global{dimension}") if dimension else Immediate(1)
            is_dense = self._is_dense(node, local, dimension)
        known = node.known_counts
        if not is_dense or deep not in known:
            return False
        # What all cores load together has one part of its depth, or all of it, from each.
        extent = known[deep]
        if local.register is not None and layout is _Layout.BEHIND:
            extent *= self.code.buffers[local.buffer].bytes // (math.prod(extents_of(node)) * node.dtypes[0].bytes)
        (place,) = (operand.register for operand, _ in node.accesses if isinstance(operand, GlobalAddress))
        if self.merging.step(place) != self.merging.scaled(stride, extent * node.dtypes[0].bytes):
            return False
        limit = node.operand(limit_name(node, deep))
        if any(self._varies(each) for each in node.registers_read if each not in (place, limit)):
            return False
        if limit == Immediate(known[deep]):
            return True
        rest = self._rest(limit, known[deep], extent)
        if rest is not None:
            self.rests[id(node)] = rest
        return rest is not None

    def _gather(self, node: Instruction) -> bool:
        """Whether a gather fills a whole tile with items that go on in the next step."""
        known, local, place = node.known_counts, node.operand("dst"), node.operand("src")
        assert isinstance(place, GlobalAddress)
        if not {"n", "length"} <= known.keys() or self._layout(local) is not _Layout.BESIDE:
            return False
        length, limit = known["length"], node.operand("valid")
        if not self._bytes(local, known["n"] * length, node.dtypes[0].bytes):
            return False
        others = {_buffer(operand) for operand, access in node.accesses if access is Access.READ} - {""}
        if others & self.filled or any(
            self._varies(r) for r in node.registers_read if r not in (place.register, limit)
        ):
            return False
        if self.merging.step(place.register) != self.merging.scaled(Immediate(1), length * node.dtypes[0].bytes):
            return False
        if limit == Immediate(length):
            return True
        rest = self._rest(limit, length, length)
        if rest is not None:
            self.rests[id(node)] = rest
        return rest is not None

    def _is_dense(self, node: Instruction, local: Address, deep: int) -> bool:
        """Whether a load fills a whole tile, or a core's part of one that all load, from its begin on."""
        known = node.known_counts
        extents = extents_of(node)
        elements = math.prod(extents)
        if node.row.name == "dma.load":
            dense = extents[0]
            for dimension in range(1, outermost(node) + 1):
                if known.get(f"local{dimension}") != dense:
                    return False
                dense *= extents[dimension]
        elif known.get(f"before{deep}") != 0:
            return False
        size, tile_bytes = node.dtypes[0].bytes, self.code.buffers[local.buffer].bytes
        if local.register is None:
            return not local.offset_bytes and elements * size == tile_bytes
        part = self.definitions.scalar.get(local.register)
        if part is None or part.row.name != "mul" or part.operands[2] != Immediate(elements * size):
            return False
        core = self.definitions.scalar.get(part.operands[1]) if isinstance(part.operands[1], Register) else None
        return core is not None and core.row.name == "sreg" and core.operands[1] == _CORE and not local.offset_bytes

    def _rest(self, limit: Operand, extent: int, step: int) -> _Rest | None:
        """What is left in depth at the begin of a step, if a limit is the least of that and of a load's own depth.

        Where a load brings a core's part of what all load, that is what is left of all less what is not its own.
        """
        limit = self._unclamped(limit, extent)
        definition = self.definitions.scalar.get(limit) if isinstance(limit, Register) else None
        before: Operand = Immediate(0)
        if definition is not None and definition.row.name == "sub" and self.merging.step(limit) is None:
            limit, before = self._unclamped(definition.operands[1], step), definition.operands[2]
        if not isinstance(limit, Register) or not isinstance(before, Register | Immediate):
            return None
        if self.merging.step(limit) != {(): -step} or self.merging.step(before) != {}:
            return None
        return _Rest(limit, before)

    def _unclamped(self, limit: Operand, extent: int) -> Operand:
        """What a number is that is at most an extent, and not negative; nothing if it is bounded by anything else."""
        bounds, is_limited = {"smax": Immediate(0), "smin": Immediate(extent)}, False
        while isinstance(limit, Register):
            definition = self.definitions.scalar.get(limit)
            if definition is None or definition.row.name not in bounds:
                break
            if definition.operands[2] != bounds[definition.row.name]:
                return Immediate(0)
            is_limited |= definition.row.name == "smin"
            limit = definition.operands[1]
        return limit if is_limited else Immediate(0)


def _most_steps(
    code: TileCode, loop: Loop, analysis: _Analysis, machine: Machine, latencies: int, surroundings: Surroundings
) -> int:
    """How many steps are to be taken at once at most."""
    loaded = _loaded_bytes(code, analysis)
    twice = {
        _buffer(operand)
        for each in analysis.every
        for operand, access in each.accesses
        if each.row.trace and access is Access.WRITE
    }
    shared = any(isinstance(node, Sharing) for node in loop.body)
    if not shared:
        latencies = min(latencies, LATENCIES_ALONE)
    found = math.ceil(latencies * machine.core_dma_latency_bytes / max(1, loaded))
    if found < LEAST_SHARED_STEPS and shared:
        return 1
    limits = (
        ("nram", machine.usable_nram_bytes),
        ("wram", machine.usable_wram_bytes),
        ("sram", machine.usable_sram_bytes),
    )
    beside = surroundings.alive_beside(loop) - analysis.filled
    for space, limit in limits:
        sizes = {name: code.buffers[name].bytes * (2 if name in twice else 1) for name in analysis.filled}
        step_bytes = sum(size for name, size in sizes.items() if code.buffers[name].space == space)
        others = sum(code.buffers[name].bytes for name in beside if code.buffers[name].space == space)
        if step_bytes:
            found = min(found, (limit - others) // step_bytes)
    return found


def _loaded_bytes(code: TileCode, analysis: _Analysis) -> int:
    """What a step loads."""
    loaded = 0
    for each in analysis.every:
        if each.row.trace == "GATHER":
            loaded += code.buffers[_buffer(each.operand("dst"))].bytes
        if each.row.trace == "LOAD":
            (span,) = (
                value_of(slot.span, each.known_counts) * each.dtype_of(slot).bytes
                for slot, operand in zip(each.row.slots, each.operands, strict=True)
                if isinstance(operand, Address)
            )
            loaded += span
    return loaded


class _Deepening:
    """Writes the loop."""

    def __init__(self, code: TileCode, loop: Loop, analysis: _Analysis, most: int, latency_bytes: int) -> None:
        self.code, self.loop, self.analysis, self.most = code, loop, analysis, most
        self.latency_bytes = latency_bytes
        self.emitter = LoopEmitter(code, loop)
        self._integer, self._scalar = self.emitter.index_integer, self.emitter.index_scalar
        self.scaled: dict[int, ScalarOperand] = {}
        self.members: ScalarOperand = Immediate(1)

    def nodes(self) -> list[Node]:
        """The loop, behind the number of steps of a turn."""
        loop = self.loop
        self.emitter.nodes = nodes = list[Node]()
        turn = self._steps_of_turn()
        wide = replace(loop, step=self._integer("mul", loop.step, turn), body=[])
        self.emitter.nodes = wide.body
        self.members = self._integer("smin", self._steps_from(loop.index), turn)
        for node in loop.body:
            if isinstance(node, Sharing):
                load, take = (
                    [part for each in nodes for part in self._several(each)] for nodes in (node.load, node.take)
                )
                wide.body.append(replace(node, load=load, take=take))
            else:
                made = self._several(node)
                wide.body += made
        for name in self.analysis.filled:
            self.code.buffers[name].bytes *= self.most
        return [*nodes, wide]

    def _steps_of_turn(self) -> ScalarOperand:
        """So many that turns are alike: while a short one is multiplied, the loads of the next program show."""
        integer, steps = self._integer, self._steps_from(self.loop.start)
        most = integer("smax", integer("smin", self._shared_out(steps, Immediate(TURNS)), Immediate(self.most)), _ONE)
        turn, lost = self._even_turn(steps, most)
        if self.most < _LEAST_UNEVEN:
            return turn
        other, less = self._even_turn(steps, integer("smax", integer("sub", most, _ONE), _ONE))
        is_better = self._scalar("slt", less, lost)
        return self._scalar("select", is_better, other, turn)

    def _even_turn(self, steps: ScalarOperand, most: ScalarOperand) -> tuple[ScalarOperand, ScalarOperand]:
        """Steps of a turn if there are as few turns as can be of so many steps at most, and what is lost so.

        That is what the last turn lacks, two latencies of each, and the first, as bytes that could be loaded meanwhile.
        """
        integer = self._integer
        turns = integer("smax", self._shared_out(steps, most), _ONE)
        turn = self._shared_out(steps, turns)
        missing = integer("sub", integer("mul", turns, turn), steps)
        lacking = integer("mul", integer("add", missing, turn), Immediate(_loaded_bytes(self.code, self.analysis)))
        return turn, integer("add", lacking, integer("mul", turns, Immediate(2 * self.latency_bytes)))

    def _shared_out(self, steps: ScalarOperand, among: ScalarOperand) -> ScalarOperand:
        """A quotient that is rounded up."""
        integer = self._integer
        return integer("sdiv", integer("sub", integer("add", steps, among), _ONE), among)

    def _steps_from(self, index: ScalarOperand) -> ScalarOperand:
        """How many steps are left."""
        integer, step = self._integer, self.loop.step
        return integer(
            "sdiv", integer("sub", integer("add", integer("sub", self.loop.end, index), step), Immediate(1)), step
        )

    def _times(self, extent: int) -> ScalarOperand:
        """So many elements of each step."""
        if extent not in self.scaled:
            self.scaled[extent] = scaled = self.emitter.integer("mul", self.members, Immediate(extent))
            if isinstance(scaled, Register):
                self.code.greatest[scaled] = extent * self.most
        return self.scaled[extent]

    def _several(self, node: Node) -> list[Node]:
        """An instruction for several steps; the scalar arithmetic that it needs comes before the node it is part of."""
        assert isinstance(node, Instruction)
        self.emitter.location = node.location
        layouts, known = self.analysis.layouts, node.known_counts
        match node.row.name:
            case _ if node.row.queue is Queue.SCALAR:
                return [node]
            case "mm":
                depth = self._times(known["depth"])
                return [with_operands(node, {"depth": depth, "lda": depth})]
            case "move.weight":
                depth = self._times(known["depth"])
                is_beside = layouts[_buffer(node.operand("src"))] is _Layout.BESIDE
                return [with_operands(node, {"depth": depth, **({"from_column": depth} if is_beside else {})})]
            case "move":
                count = "n0" if known["n1"] == 1 else "n1"
                return [with_operands(node, {count: self._times(known[count])})]
            case _ if node.row.trace == "LOAD":
                return [self._load(node)]
            case "gather":
                return [with_operands(node, self._lengths(node, "length", "valid", self._rest(node)))]
            case _:
                count = self.analysis.counts[id(node)]
                return [with_operands(node, {count: self._times(known[count])})]

    def _load(self, node: Instruction) -> Instruction:
        known, local = node.known_counts, node.operand("dst")
        assert isinstance(local, Address)
        layout = self.analysis.layouts[local.buffer]
        deep = deep_count(node, layout)
        extent = known[deep]
        rest = self._rest(node)
        changed: dict[str, Operand] = {}
        if node.row.name == "dma.load" and layout is _Layout.BESIDE:
            changed |= {f"local{d}": self._times(known[f"local{d}"]) for d in range(1, outermost(node) + 1)}
        if local.register is not None:
            changed["dst"] = replace(
                local, register=self._register(self.emitter.integer("mul", local.register, self.members))
            )
            if layout is _Layout.BEHIND:
                # A core's part of what all load begins behind those of other cores, which have as many steps.
                others = self.emitter.integer("sub", self.members, Immediate(1))
                ahead = self.emitter.integer("mul", others, self.emitter.scalar("sreg", (), _CORE))
                ahead = self.emitter.integer("mul", ahead, Immediate(extent))
                changed["src"] = self._moved(node, deep, ahead)
                rest = None if rest is None else self.emitter.integer("sub", rest, ahead)
        return with_operands(node, {**changed, **self._lengths(node, deep, limit_name(node, deep), rest)})

    def _rest(self, node: Instruction) -> ScalarOperand | None:
        """What is left in depth for a transfer, if a mask limits that."""
        found = self.analysis.rests.get(id(node))
        return None if found is None else self.emitter.integer("sub", found.of_all, found.before)

    def _lengths(self, node: Instruction, deep: str, limit: str, rest: ScalarOperand | None) -> dict[str, Operand]:
        """How deep a transfer of several steps is, and how much of that is there."""
        extent = node.known_counts[deep]
        whole = valid = self._times(extent)
        if rest is not None:
            valid = self.emitter.integer("smax", self.emitter.integer("smin", rest, whole), Immediate(0))
        return {deep: whole, limit: valid}

    def _moved(self, node: Instruction, deep: str, ahead: ScalarOperand) -> GlobalAddress:
        """Where a load begins if it begins so many elements further in depth."""
        place, stride = node.operand("src"), node.operand(f"global{deep[1]}") if deep != "n0" else Immediate(1)
        assert isinstance(place, GlobalAddress)
        assert isinstance(stride, Register | Immediate)
        elements = self.emitter.integer("mul", ahead, stride)
        offset = self.emitter.integer("mul", elements, Immediate(node.dtypes[0].bytes))
        return replace(place, register=self._register(self.emitter.integer("add", place.register, offset)))

    def _register(self, operand: ScalarOperand) -> Register:
        if isinstance(operand, Register):
            return operand
        return self.emitter.scalar("mov", (I64,), operand)


# ---- small parts ----------------------------------------------------------------------------------------------------


def deep_count(load: Instruction, layout: _Layout) -> str:
    """The name of the count of a load that goes along in depth."""
    if layout is _Layout.PANELS:
        return "depth"
    return f"n{0 if layout is _Layout.BESIDE else outermost(load)}"


def limit_name(load: Instruction, deep: str) -> str:
    """The name of the operand that says how much of that is there."""
    return "valid_depth" if deep == "depth" else limiting(load, int(deep[1]))


def extents_of(load: Instruction) -> list[int]:
    """How many elements a transfer has along its dimensions, 0 where that is not known."""
    known = load.known_counts
    return [known.get(f"n{dimension}", 0) for dimension in range(3)]


def outermost(load: Instruction) -> int:
    """The last dimension of a transfer that it has a use for."""
    return max((d for d in range(3) if load.operand(f"n{d}") != Immediate(1)), default=0)


def _buffer(operand: Operand) -> str:
    """The name of the buffer of an on-chip operand; of others nothing."""
    return operand.buffer if isinstance(operand, Address) else ""


def _lists(nodes: Sequence[Node]) -> Iterator[Sequence[Node]]:
    """The lists of instructions of a loop body, those of tiles that all load in between, in order."""
    plain: list[Node] = []
    for node in nodes:
        if isinstance(node, Sharing):
            yield plain
            yield node.load
            yield node.take
            plain = []
        else:
            plain.append(node)
    yield plain
