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

What differs from step to step in another way, as scales of groups of rows, each step loads by itself, unless it is what
the step before has, and so each computes with it, or with what is the same in all of them. Between two such
computations, tiles of one step do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
from mlutriton.isa.table import SPECIAL_REGISTERS, TABLE, WRAM_PANEL_COLUMNS, Access, Queue

# The tiles of a turn flow for so many latencies: then the one that shows hardly counts. Fewer where memory is short.
DEPTHS = (8, 6, 5, 4, 3, 2)
# Of one core alone for no longer than that: its pipeline has fewer stages to fill.
LATENCIES_ALONE = 6

# Of what cores load together it is to be so many steps at least: their pipeline orders loads by what it knows of them,
# and that is less of those of several steps.
LEAST_SHARED_STEPS = 3

# Turns that are left for the pipeline: at both ends of a loop one stands alone.
TURNS = 3

# Some of whose instructions each step has for itself: these are written one by one.
_MOST_BY_THEMSELVES = 8

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
        single: identities of instructions that each step has for itself.
        passing: buffers that hold the tile of one step at a time.
        apart: buffers of what each step loads by itself and nobody needs together, of which each step has its own.
        recurring: of these the loads that only their place tells from that of the step before, by their buffer.
        behind: the move of weights and the product with them behind a run that makes them, by its last instruction.
        halved: buffers of such weights, which have halves.
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
        self.single: set[int] = set()
        self.passing: set[str] = set()
        self.apart: set[str] = set()
        self.recurring: dict[str, Instruction] = {}
        self.behind: dict[int, tuple[Instruction, Instruction]] = {}
        self.halved: set[str] = set()
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
        if not all(self._takes(step) for step in reversed(listed)) or self.layouts.keys() != self.filled:
            return False
        loaded = {_buffer(each.operand("dst")) for each in self.every if each.row.trace and id(each) in self.single}
        for step in listed:
            chain = [node for node in step if isinstance(node, Instruction)]
            if not loaded.isdisjoint(touch_counts(chain)) and id(chain[0]) not in self.single:
                # Of tiles of its own, each step may have the next one on its way.
                self._each_computes(chain)
        self.passing = {name for run in self.runs() for name in self._touched_here_alone(run, inside)}
        single = [node for node in self.loop.body if isinstance(node, Instruction) and id(node) in self.single]
        for run in self.runs():
            behind = self._multiplied_behind(run)
            if behind is not None:
                self.behind[id(run[-1])] = behind
                self.halved |= {_buffer(behind[0].operand(name)) for name in ("dst", "src")}
        self.apart = loaded & self._touched_here_alone(single, inside)
        self.recurring = {
            _buffer(each.operand("dst")): each for each in single if each.row.trace and self._recurs(each)
        }
        return True

    def _multiplied_behind(self, run: Sequence[Instruction]) -> tuple[Instruction, Instruction] | None:
        """The move of weights that a run makes, and the product with them, if there is nothing else behind it."""
        place = next(place for place, node in enumerate(self.loop.body) if node is run[-1])
        behind = [node for node in self.loop.body[place + 1 :] if not _is_scalar_or_load(node)]
        match behind:
            case [Instruction() as move, Instruction() as product] if move.row.name == "move.weight":
                weights = move.operand("dst")
                is_product = product.row.name == "mm" and product.operand("w") == weights
                made = _buffer(move.operand("src"))
                is_made_here = made in self._touched_here_alone([*run, move], touch_counts(self.loop.body))
                is_behind = self.layouts.get(made) is _Layout.BEHIND
                return (move, product) if is_product and is_made_here and is_behind else None
            case _:
                return None

    def _recurs(self, load: Instruction) -> bool:
        """Whether what a step loads by itself is a whole tile of which nothing but its place may change."""
        local, (place,) = load.operand("dst"), (each for each in load.operands if isinstance(each, GlobalAddress))
        others = {each for each in load.registers_read if each != place.register}
        is_whole = self._bytes(local, math.prod(extents_of(load)), load.dtypes[0].bytes)
        return _buffer(local) in self.apart and is_whole and not any(map(self.varies, others))

    def _touched_here_alone(self, nodes: Sequence[Node], inside: Mapping[str, int]) -> set[str]:
        """Tiles that nothing but these touches."""
        here = touch_counts(nodes)
        return {name for name in self.filled & here.keys() if here[name] == inside[name]}

    def runs(self) -> Iterator[list[Instruction]]:
        """What each step computes for itself, as far as nothing but loads of other tiles stands between."""
        run: list[Instruction] = []
        for node in self.loop.body:
            is_load = isinstance(node, Instruction) and node.row.trace == "LOAD"
            if isinstance(node, Instruction) and node.row.queue is Queue.SCALAR:
                continue
            if isinstance(node, Instruction) and id(node) in self.single and not is_load:
                run.append(node)
            elif run and not (is_load and touch_counts([node]).keys().isdisjoint(touch_counts(run))):
                yield run
                run = []
        if run:
            yield run

    def _takes(self, step: Sequence[Node]) -> bool:
        """Whether an instruction or chain can do its work for several steps; notes how it needs its tiles to lie."""
        chain = [node for node in step if isinstance(node, Instruction)]
        first = chain[0]
        if first.row.queue is Queue.SCALAR:
            return not first.row.trace and not any(first.accesses) and first.written_register is not None
        if first.row.trace == "LOAD":
            return self._load(first) or self._load_of_each(first)
        if first.row.trace == "GATHER":
            return self._gather(first)
        if any(self.varies(operand) for each in chain for operand in each.registers_read):
            return self._each_computes(chain)
        match first.row.name:
            case "mm":
                return self._product(first)
            case "move.weight":
                return self._weights(first)
            case "move":
                return self._move(first)
            case "v.transpose":
                return self._transpose(first)
            case _ if all(each.row.is_elementwise_or_mov for each in chain) and self._elementwise(chain):
                return True
            case _:
                return self._each_computes(chain)

    def _each_computes(self, chain: Sequence[Instruction]) -> bool:
        """Whether each step can compute something by itself, on tiles that lie one behind the other."""
        for each in chain:
            if each.row.queue is not Queue.COMPUTE or each.row.trace or each.written_register is not None:
                return False
            if not each.row.extents or each.row.name == "mm":
                return False
            for operand, access in each.accesses:
                if _buffer(operand) in self.filled:
                    fits = access is Access.READ or self.layouts.get(_buffer(operand)) is _Layout.BEHIND
                    if not fits or not self._is_behind(operand):
                        return False
                elif access is not Access.READ:
                    return False
        return self._of_each(chain)

    def _load_of_each(self, node: Instruction) -> bool:
        """Whether each step can load a tile, or its own part of one, by itself."""
        local = node.operand("dst")
        is_known = node.row.name in ("dma.load", "dma.load_pad") and len(node.known_counts) == len(node.row.count_slots)
        is_behind = self.layouts.get(_buffer(local)) is _Layout.BEHIND and self._is_behind(local)
        return is_known and is_behind and self._of_each([node])

    def _is_behind(self, operand: Operand) -> bool:
        """Let the tile of an operand lie behind that of the step before."""
        is_in_tile = isinstance(operand, Address) and operand.register is None
        return is_in_tile and self.layouts.setdefault(_buffer(operand), _Layout.BEHIND) is _Layout.BEHIND

    def _of_each(self, chain: Sequence[Instruction]) -> bool:
        """Let each step have something by itself, if what it depends on is plain arithmetic."""
        is_plain = (
            self.definitions.closure({register for each in chain for register in each.registers_read}) is not None
        )
        self.single |= {id(each) for each in chain if is_plain}
        return is_plain

    def varies(self, register: Register) -> bool:
        """Whether a register is not the same in each step."""
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
        if any(self.varies(each) for each in node.registers_read if each not in (place, limit)):
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
        if others & self.filled or any(self.varies(r) for r in node.registers_read if r not in (place.register, limit)):
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
    if analysis.single:
        found = min(found, _MOST_BY_THEMSELVES)
    if found < LEAST_SHARED_STEPS and shared:
        return 1
    limits = (
        ("nram", machine.usable_nram_bytes),
        ("wram", machine.usable_wram_bytes),
        ("sram", machine.usable_sram_bytes),
    )
    beside = surroundings.alive_beside(loop) - analysis.filled
    beside |= analysis.passing
    for space, limit in limits:
        wide = analysis.filled - analysis.passing
        sizes = {name: code.buffers[name].bytes * (2 if name in twice else 1) for name in wide}
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
        self.tile_bytes = {name: code.buffers[name].bytes for name in analysis.filled}
        self.in_steps: dict[tuple[Register, int], Register] = {}
        self.counted: dict[tuple[Operand, int], Register] = {}
        self.own: dict[tuple[str, int], str] = {}
        self.latest: dict[str, str] = {}
        self.in_half: dict[str, tuple[str, int]] = {}
        self.renewed: dict[tuple[Register, Register], Register] = {}
        self.members: ScalarOperand = Immediate(1)

    def nodes(self) -> list[Node]:
        """The loop, behind the number of steps of a turn."""
        loop = self.loop
        self.emitter.nodes = nodes = list[Node]()
        turn = self._steps_of_turn()
        wide = replace(loop, step=self._integer("mul", loop.step, turn), body=[])
        self.emitter.nodes = wide.body
        self.members = self._integer("smin", self._steps_from(loop.index), turn)
        last_of_run = {id(run[-1]): run for run in self.analysis.runs()}
        in_run = {id(each) for run in last_of_run.values() for each in run}
        for node in loop.body:
            if isinstance(node, Sharing):
                load, take = (
                    [part for each in nodes for part in self._several(each)] for nodes in (node.load, node.take)
                )
                wide.body.append(replace(node, load=load, take=take))
            elif id(node) in last_of_run:
                run, behind = last_of_run[id(node)], self.analysis.behind.get(id(node))
                if behind is None:
                    made = [each for step in range(self.most) for each in self._run_of_step(run, step)]
                    wide.body += made
                else:
                    wide.body += self._in_halves(run, *behind)
                    in_run |= {id(each) for each in behind}
            elif id(node) not in in_run:
                made = self._several(node)
                wide.body += made
        for name in self.analysis.filled - self.analysis.passing - self.analysis.apart - self.analysis.halved:
            self.code.buffers[name].bytes *= self.most
        return [*nodes, wide]

    def _of_step(self, node: Instruction, step: int) -> Instruction:
        """An instruction that each step has by itself, in one of them; it does nothing if there are not so many."""
        self.emitter.location = node.location
        name = node.row.extents[0]
        moved: list[Operand] = []
        for operand in node.operands:
            if isinstance(operand, Address) and operand.buffer in self.analysis.recurring and not node.row.trace:
                operand = operand.in_buffer(self.latest[operand.buffer])
            elif isinstance(operand, Address) and operand.buffer in self.analysis.apart:
                operand = operand.in_buffer(self._own_buffer(operand.buffer, step))
            elif isinstance(operand, Address) and operand.buffer in self.analysis.filled - self.analysis.passing:
                place, first = self.in_half.get(operand.buffer, (operand.buffer, 0))
                ahead = (step - first) * self.tile_bytes[operand.buffer]
                operand = replace(operand, buffer=place, offset_bytes=operand.offset_bytes + ahead)
            elif isinstance(operand, Register):
                operand = self._in_step(operand, step)
            elif isinstance(operand, Address | GlobalAddress) and operand.register is not None:
                operand = replace(operand, register=self._in_step(operand.register, step))
            moved.append(operand)
        instruction = node.taking(moved)
        if not step:
            return instruction
        count = self._if_there(instruction.operand(name), step)
        if node.row.trace and _buffer(node.operand("dst")) in self.analysis.recurring:
            count = self._if_new(node, count, step)
        return with_operands(instruction, {name: count})

    def _in_halves(self, run: Sequence[Instruction], move: Instruction, product: Instruction) -> list[Node]:
        """Weights that steps make by themselves: the first half is moved while the second is made.

        More than halves gain nothing: what all take for the next turn is in the same queue, and moved before.
        """
        steps = -(-self.most // 2)
        known, source, weights = move.known_counts, move.operand("src"), move.operand("dst")
        left = product.operand("a")
        assert isinstance(source, Address)
        assert isinstance(weights, Address)
        assert isinstance(left, Address)
        depth, lda = known["depth"], self._times(known["depth"])
        places: dict[str, list[str]] = {}
        for name in (weights.buffer, source.buffer):
            places[name] = [name, self._new_buffer(name)]
            for each in places[name]:
                self.code.buffers[each].bytes = steps * self.tile_bytes[name]
        found: list[Node] = []
        behind: list[Node] = []
        for half, first in enumerate(range(0, self.most, steps)):
            self.in_half[source.buffer] = made = places[source.buffer][half], first
            for step in range(first, min(first + steps, self.most)):
                found += self._run_of_step(run, step)
            found += behind
            self.emitter.location = product.location
            rest = self._integer("smax", self._integer("sub", self.members, Immediate(first)), Immediate(0))
            deep = self.emitter.integer("mul", self._integer("smin", rest, Immediate(steps)), Immediate(depth))
            if isinstance(deep, Register):
                self.code.greatest[deep] = steps * depth
            place = weights.in_buffer(places[weights.buffer][half])
            found.append(with_operands(move, {"dst": place, "src": source.in_buffer(made[0]), "depth": deep}))
            of_half = replace(left, offset_bytes=first * depth * product.dtypes[0].bytes)
            behind = [with_operands(product, {"a": of_half, "w": place, "depth": deep, "lda": lda})]
        return [*found, *behind]

    def _run_of_step(self, run: Sequence[Instruction], step: int) -> list[Instruction]:
        """What a step of a turn computes by itself, behind copies of what it has loaded that the one before had not."""
        copies: list[Instruction] = []
        touched = touch_counts(run).keys()
        for name, load in self.analysis.recurring.items():
            if name not in touched:
                continue
            self.emitter.location = load.location
            if name not in self.latest:
                self.latest[name] = self._new_buffer(name)
            elements = self.tile_bytes[name] // load.dtypes[0].bytes
            count: Operand = Immediate(elements)
            if step:
                count = self._if_new(load, self._if_there(count, step), step)
            operands = (Address(self.latest[name]), Address(self._own_buffer(name, step)), _ONE, count)
            copies.append(Instruction(TABLE["v.mov"], load.dtypes, operands, load.location))
        return [*copies, *(self._of_step(each, step) for each in run)]

    def _if_new(self, load: Instruction, count: Operand, step: int) -> Register:
        """A count in one of the steps of a turn, 0 if it loads what the one before has."""
        (place,) = (each.register for each in load.operands if isinstance(each, GlobalAddress))
        places = (self._in_step(place, step), self._in_step(place, step - 1))
        if places not in self.renewed:
            self.renewed[places] = self.emitter.scalar("ne", (I64,), *places)
        found = self.emitter.scalar("select", (I64,), self.renewed[places], count, Immediate(0))
        if isinstance(count, Register) and count in self.code.greatest:
            self.code.greatest[found] = self.code.greatest[count]
        return found

    def _new_buffer(self, name: str) -> str:
        """The name of a new buffer for a tile of a step."""
        made = self.code.buffer_name(name)
        self.code.buffers[made] = replace(self.code.buffers[name], name=made, bytes=self.tile_bytes[name])
        return made

    def _own_buffer(self, name: str, step: int) -> str:
        """The name of the buffer that a step of a turn has for a tile that each has by itself."""
        if (name, step) not in self.own:
            self.own[name, step] = self._new_buffer(name) if step else name
        return self.own[name, step]

    def _if_there(self, count: Operand, step: int) -> Operand:
        """A count in one of the steps of a turn, 0 if it has not so many."""
        if (count, step) not in self.counted:
            is_there = self.emitter.scalar("slt", (self.emitter.index_dtype,), Immediate(step), self.members)
            found = self.emitter.scalar("select", (I64,), is_there, count, Immediate(0))
            if isinstance(count, Immediate):
                self.code.greatest[found] = int(count.value)
            self.counted[count, step] = found
        return self.counted[count, step]

    def _in_step(self, register: Register, step: int) -> Register:
        """What a register is in one of the steps of a turn."""
        if not step or not self.analysis.varies(register):
            return register
        if (register, step) not in self.in_steps:
            if register == self.loop.index:
                ahead = self._integer("mul", self.loop.step, Immediate(step))
                found = self.emitter.index_scalar("add", register, ahead)
            else:
                definition = self.analysis.definitions.scalar[register]
                sources = [
                    self._in_step(each, step) if isinstance(each, Register) else each
                    for each in definition.operands[1:]
                ]
                found = self.code.register()
                self.emitter.nodes.append(definition.taking([found, *sources]))
            self.in_steps[register, step] = found
        return self.in_steps[register, step]

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
            case _ if id(node) in self.analysis.single:
                return [self._of_step(node, step) for step in range(self.most)]
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


def _is_scalar_or_load(node: Node) -> bool:
    return isinstance(node, Instruction) and (node.row.queue is Queue.SCALAR or node.row.trace == "LOAD")


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
