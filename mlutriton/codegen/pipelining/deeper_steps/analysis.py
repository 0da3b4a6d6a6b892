"""Whether the steps of a loop can be taken together, and how their tiles lie then.

From the products backwards: how an instruction needs its operands to lie says how those that fill them have to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mlutriton.codegen.pipelining.blocks.merged_transfers import Merging, limiting
from mlutriton.codegen.pipelining.pipeline_plan import Definitions
from mlutriton.codegen.pipelining.surroundings import Surroundings
from mlutriton.codegen.tile_code import (
    Loop,
    Node,
    ScalarOperand,
    Sharing,
    TileCode,
    instructions,
    steps,
    touch_counts,
)
from mlutriton.immutables import replace
from mlutriton.isa.expression import round_up, value_of
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SPECIAL_REGISTERS, WRAM_PANEL_COLUMNS, Access, Queue

CORE_IN_CLUSTER = Immediate(SPECIAL_REGISTERS.index("core_in_cluster"))


class Layout(Enum):
    """How the tiles of consecutive steps lie in a buffer."""

    BEHIND = auto()  # one behind the other
    BESIDE = auto()  # side by side: each row is that of all steps
    PANELS = auto()  # in panels of weights, which go on in depth


@dataclass(frozen=True)
class Rest:
    """What is left of a loop's depth for a load: of all at the begin of a step, less what comes before its own part."""

    of_all: Register
    before: ScalarOperand


class Analysis:
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
        self.layouts: dict[str, Layout] = {}
        self.counts: dict[int, str] = {}
        self.rests: dict[int, Rest] = {}
        self.single: set[int] = set()
        self.passing: set[str] = set()
        self.apart: set[str] = set()
        self.recurring: dict[str, Instruction] = {}
        self.behind: dict[int, tuple[Instruction, Instruction]] = {}
        self.halved: set[str] = set()
        products = [each for each in self.every if each.row.name == "mm"]
        touched = [buffer_of(operand) for each in self.every for operand, _ in each.accesses]
        self.totals = {buffer_of(each.operand("c")) for each in products}
        self.is_sum = bool(products) and all(touched.count(total) == 1 for total in self.totals)
        self.filled = {buffer_of(o) for each in self.every for o, a in each.accesses if a is not Access.READ}
        self.filled -= {*self.totals, ""}

    def succeeds(self) -> bool:
        """Find out how tiles lie, from the products backwards; False if the loop does anything else."""
        inside = touch_counts(self.loop.body)
        if not self.is_sum or any(self.everywhere[name] != inside[name] for name in self.filled):
            return False
        listed = [step for nodes in _lists(self.loop.body) for step in steps(nodes) if isinstance(step[0], Instruction)]
        if not all(self._takes(step) for step in reversed(listed)) or self.layouts.keys() != self.filled:
            return False
        loaded = {buffer_of(each.operand("dst")) for each in self.every if each.row.trace and id(each) in self.single}
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
                self.halved |= {buffer_of(behind[0].operand(name)) for name in ("dst", "src")}
        self.apart = loaded & self._touched_here_alone(single, inside)
        self.recurring = {
            buffer_of(each.operand("dst")): each for each in single if each.row.trace and self._recurs(each)
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
                made = buffer_of(move.operand("src"))
                is_made_here = made in self._touched_here_alone([*run, move], touch_counts(self.loop.body))
                is_behind = self.layouts.get(made) is Layout.BEHIND
                return (move, product) if is_product and is_made_here and is_behind else None
            case _:
                return None

    def _recurs(self, load: Instruction) -> bool:
        """Whether what a step loads by itself is a whole tile of which nothing but its place may change."""
        local, (place,) = load.operand("dst"), (each for each in load.operands if isinstance(each, GlobalAddress))
        others = {each for each in load.registers_read if each != place.register}
        is_whole = self._bytes(local, math.prod(extents_of(load)), load.dtypes[0].bytes)
        return buffer_of(local) in self.apart and is_whole and not any(map(self.varies, others))

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
                return self._transpose(first) or self._each_computes(chain)
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
                if buffer_of(operand) in self.filled:
                    fits = access is Access.READ or self.layouts.get(buffer_of(operand)) is Layout.BEHIND
                    if not fits or not self._is_behind(operand):
                        return False
                elif access is not Access.READ:
                    return False
        return self._of_each(chain)

    def _load_of_each(self, node: Instruction) -> bool:
        """Whether each step can load a tile, or its own part of one, by itself."""
        local = node.operand("dst")
        is_known = node.row.name in ("dma.load", "dma.load_pad") and len(node.known_counts) == len(node.row.count_slots)
        is_behind = self.layouts.get(buffer_of(local)) is Layout.BEHIND and self._is_behind(local)
        return is_known and is_behind and self._of_each([node])

    def _is_behind(self, operand: Operand) -> bool:
        """Let the tile of an operand lie behind that of the step before."""
        is_in_tile = isinstance(operand, Address) and operand.register is None
        return is_in_tile and self.layouts.setdefault(buffer_of(operand), Layout.BEHIND) is Layout.BEHIND

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

    def _layout(self, operand: Operand) -> Layout | None:
        """How a whole tile is to lie."""
        is_whole = isinstance(operand, Address) and operand.is_at_begin
        return self.layouts.get(buffer_of(operand)) if is_whole else None

    def _same(self, operand: Operand, layout: Layout | None, *, in_part: bool = False) -> bool:
        """Let the whole tile of an operand lie in a way; False if it does not change, or has to lie in another.

        Args:
            operand: names the tile, or ``in_part`` some columns of all its rows.
            layout: that way, if there is one.
            in_part: of rows that lie one behind the other, any part will do.
        """
        is_whole = isinstance(operand, Address) and (operand.is_at_begin or (in_part and layout is Layout.BEHIND))
        name = buffer_of(operand)
        if layout is None or not is_whole or name not in self.filled:
            return False
        return self.layouts.setdefault(name, layout) is layout

    def _bytes(self, operand: Operand, elements: int, dtype_bytes: int) -> bool:
        """Whether a tile of so many elements fills the buffer of an operand."""
        return self.code.buffers[buffer_of(operand)].bytes == elements * dtype_bytes

    def _product(self, node: Instruction) -> bool:
        known = node.known_counts
        if not {"rows", "columns", "depth", "lda"} <= known.keys() or known["lda"] != known["depth"]:
            return False
        a, w, size = node.operand("a"), node.operand("w"), node.dtypes[0].bytes
        fills = self._bytes(a, known["rows"] * known["depth"], size)
        fills &= self._bytes(w, round_up(known["columns"], WRAM_PANEL_COLUMNS) * known["depth"], size)
        adds = node.operand("accumulate") == Immediate(1)
        return fills and adds and self._same(a, Layout.BESIDE) and self._same(w, Layout.PANELS)

    def _weights(self, node: Instruction) -> bool:
        known = node.known_counts
        names = ("depth", "columns", "from_depth", "from_column")
        if self._layout(node.operand("dst")) is not Layout.PANELS or not known.keys() >= {*names}:
            return False
        depth, columns, *strides = (known[name] for name in names)
        row = strides[0] if strides[0] > columns else columns
        if not self._bytes(node.operand("src"), depth * row, node.dtypes[0].bytes):
            return False
        layout = {(row, 1): Layout.BEHIND, (1, depth): Layout.BESIDE}.get((strides[0], strides[1]))
        return self._same(node.operand("src"), layout, in_part=row > columns)

    def _move(self, node: Instruction) -> bool:
        known, layout = node.known_counts, self._layout(node.operand("dst"))
        if not known.keys() >= {"n0", "n1", "to1", "from1"}:
            return False
        if known["n1"] == 1:
            return self._same(node.operand("src"), layout)
        is_dense = known["to1"] == known["n0"] and layout is Layout.BEHIND
        fills = self._bytes(node.operand("dst"), known["n1"] * known["n0"], node.dtypes[0].bytes)
        fills &= self._bytes(node.operand("src"), known["n1"] * known["from1"], node.dtypes[0].bytes)
        return is_dense and fills and self._same(node.operand("src"), layout, in_part=True)

    def _transpose(self, node: Instruction) -> bool:
        known, target = node.known_counts, node.operand("dst")
        if {known.get("batch"), known.get("inner")} != {1} or not {"rows", "columns"} <= known.keys():
            return False
        if not self._bytes(target, known["rows"] * known["columns"], node.dtypes[0].bytes):
            return False
        turned = {Layout.BESIDE: (Layout.BEHIND, "rows"), Layout.BEHIND: (Layout.BESIDE, "columns")}
        layout = self._layout(target)
        if layout not in turned:
            return False
        source, self.counts[id(node)] = turned[layout]
        return self._same(node.operand("a"), source)

    def _elementwise(self, chain: Sequence[Instruction]) -> bool:
        known, target = chain[0].known_counts, chain[-1].operands[0]
        layout = self._layout(target)
        if layout not in (Layout.BEHIND, Layout.BESIDE) or not {"rows", "columns"} <= known.keys():
            return False
        rows = known["rows"]
        if not self._bytes(target, rows * known["columns"], chain[-1].dtypes[-1].bytes):
            return False
        # The mode of what has an element for each place in depth, and of what has one for each other place.
        along, across = (Mode.ROW, Mode.COLUMN) if layout is Layout.BEHIND else (Mode.COLUMN, Mode.ROW)
        for operand in (operand for each in chain for operand in each.operands if isinstance(operand, Address)):
            if operand == target:
                continue
            if operand.buffer not in self.filled:
                goes_along = operand.mode is (Mode.ROW if rows == 1 else across)
            elif operand.mode is Mode.FULL:
                goes_along = self._same(operand, layout)
            else:
                goes_along = rows > 1 and operand.mode is along and self._same(operand, Layout.BEHIND)
            if not goes_along:
                return False
        count = "rows" if rows > 1 and layout is Layout.BEHIND else "columns"
        self.counts |= {id(each): count for each in chain}
        return True

    # ---- loads ------------------------------------------------------------------------------------------------------

    def _load(self, node: Instruction) -> bool:
        local = node.operand("dst")
        assert isinstance(local, Address)
        layout = self.layouts.get(local.buffer)
        if layout is None or node.row.name not in ("dma.weight", "dma.load", "dma.load_pad"):
            return False
        if (layout is Layout.PANELS) != (node.row.name == "dma.weight"):
            return False
        deep = deep_count(node, layout)
        if layout is Layout.PANELS:
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
        if local.register is not None and layout is Layout.BEHIND:
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
        if not {"n", "length"} <= known.keys() or self._layout(local) is not Layout.BESIDE:
            return False
        length, limit = known["length"], node.operand("valid")
        if not self._bytes(local, known["n"] * length, node.dtypes[0].bytes):
            return False
        others = {buffer_of(operand) for operand, access in node.accesses if access is Access.READ} - {""}
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
        return (
            core is not None
            and core.row.name == "sreg"
            and core.operands[1] == CORE_IN_CLUSTER
            and not local.offset_bytes
        )

    def _rest(self, limit: Operand, extent: int, step: int) -> Rest | None:
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
        return Rest(limit, before)

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


def loaded_bytes(analysis: Analysis) -> int:
    """What a step loads."""
    loaded = 0
    for each in analysis.every:
        if each.row.trace == "GATHER":
            loaded += analysis.code.buffers[buffer_of(each.operand("dst"))].bytes
        if each.row.trace == "LOAD":
            (span,) = (
                value_of(slot.span, each.known_counts) * each.dtype_of(slot).bytes
                for slot, operand in zip(each.row.slots, each.operands, strict=True)
                if isinstance(operand, Address)
            )
            loaded += span
    return loaded


# ---- small parts ----------------------------------------------------------------------------------------------------


def deep_count(load: Instruction, layout: Layout) -> str:
    """The name of the count of a load that goes along in depth."""
    if layout is Layout.PANELS:
        return "depth"
    return f"n{0 if layout is Layout.BESIDE else outermost(load)}"


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


def buffer_of(operand: Operand) -> str:
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
