"""How long a program of the tile IR takes about, from what it loads, moves and computes: to choose between forms of it.

Loops are taken to be pipelined, so that the longest of their queues counts. The pipeline hides latencies of transfers
from other queues, but not from each other: each step shows the set-up and the latency of its burst of loads, or several
steps those of one if they are taken together (:mod:`mlutriton.codegen.pipelining.deeper_steps`). All forms that are
compared have the same loops.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlutriton.codegen.pipelining.deeper_steps import DEPTHS, LATENCIES_ALONE, LEAST_SHARED_STEPS
from mlutriton.codegen.pipelining.deeper_steps.turns import TURNS
from mlutriton.codegen.pipelining.transfer_order import Transfer, burst_cycles, order_of
from mlutriton.codegen.selection.tensor_operands import tensor_type
from mlutriton.dtypes import F32, TF32
from mlutriton.ir.analysis.launch_facts import FEW_TURNS, MANY_TURNS, USUAL_TURNS, TurnCycles, counted_loops
from mlutriton.ir.analysis.layouts import WHOLE, NotSplitError, operand_layouts
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.member_ops import Assemble
from mlutriton.ir.ops import (
    Constant,
    Dot,
    Elementwise,
    For,
    GatherLoad,
    If,
    LookUp,
    Reduce,
    Scan,
    ScatterStore,
    TileLoad,
    TileStore,
    Transpose,
    While,
)
from mlutriton.ir.types import element_type, shape_of, storage_bytes, storage_dtype
from mlutriton.isa.cost import class_passes
from mlutriton.isa.machine import Machine

# What scalar arithmetic and waiting for queues and other cores take in a turn of a pipeline. It is a fact of what is
# generated here, not of a machine: 155 in a half-precision product of 2048 on mlu590-m9 (ADR 39), whose scalar unit
# works for 326 to 337 cycles of a turn, but mostly beside the queues.
_TURN_CYCLES = 150


@dataclass
class _Queues:
    """Cycles of the queues of a core.

    Attributes:
        transfers: that the IO queue works.
        moves: that the MOVE queue works.
        compute: that the COMPUTE queue works.
        moved: when the MOVE queue is done, which may wait for weights to be computed.
        computed: when the COMPUTE queue is done, which may wait for weights to be moved.
    """

    transfers: float = 0
    moves: float = 0
    compute: float = 0
    moved: float = 0
    computed: float = 0

    def longest(self) -> float:
        return max(self.transfers, self.moved, self.computed)

    def all(self) -> float:
        return self.transfers + self.moves + self.compute

    def add(self, other: _Queues) -> None:
        self.transfers += other.transfers
        self.moves += other.moves
        self.compute += other.compute
        self.moved += other.moved
        self.computed += other.computed

    def move(self, cycles: float) -> None:
        """Something goes from one on-chip memory to another one."""
        self.moves += cycles
        self.moved += cycles

    def work(self, cycles: float) -> None:
        """Something is computed of what is there."""
        self.compute += cycles
        self.computed += cycles

    def multiply(self, cycles: float, moving_cycles: float, *, is_computed: bool) -> None:
        """A product that waits for its weights, and these for what computes them if something does."""
        self.moved = max(self.moved, self.computed if is_computed else 0)
        self.move(moving_cycles)
        self.computed = max(self.computed, self.moved)
        self.work(cycles)


@dataclass(frozen=True)
class Estimate:
    """About how long a program, or a member of it, takes.

    Attributes:
        cycles: where each loop takes the usual number of turns.
        turns: for a turn of each of the :func:`mlutriton.ir.analysis.launch_facts.counted_loops`.
        ends: cycles that its neighbours on a core hide, but nothing those of the first and the last program.
    """

    cycles: float
    turns: tuple[TurnCycles, ...]
    ends: float


def estimated(function: Function, machine: Machine, *, is_resident: bool = True) -> Estimate:
    """About how long a program, or a member of it, takes.

    Args:
        function: of the program.
        machine: that runs it.
        is_resident: its ends go on while its neighbours on the same core compute.
    """
    loops = counted_loops(function)
    many, usual, few, least = (
        _Estimate(function, machine, dict.fromkeys(loops, turns), is_resident=is_resident)
        for turns in (MANY_TURNS, USUAL_TURNS, FEW_TURNS, TURNS)
    )
    queues, cycles = usual.block(function.body)
    turns = tuple(
        TurnCycles(
            round((usual.loop(each) - few.loop(each)) / (USUAL_TURNS - FEW_TURNS)),
            round((many.loop(each) - usual.loop(each)) / (MANY_TURNS - USUAL_TURNS)),
        )
        for each in loops
    )
    if not is_resident:
        return Estimate(queues.all() + cycles, turns, 0)
    # They count where loops are short.
    ends = queues.all() - queues.longest() + sum(map(least.ends, loops))
    return Estimate(queues.longest() + cycles, turns, ends)


def estimated_ends(function: Function, machine: Machine) -> float:
    """Cycles of a program that are hidden by those of its neighbours on a core, but not of the first and the last."""
    queues, _ = _Estimate(function, machine, {}, is_resident=True).block(function.body)
    return queues.all() - queues.longest()


class _Estimate:
    """Adds up what operations take.

    Beside products, arithmetic is taken to need one pass: all forms of them have the same arithmetic.
    """

    def __init__(
        self, function: Function, machine: Machine, turns: Mapping[Operation, int], *, is_resident: bool
    ) -> None:
        self.machine, self.is_resident = machine, is_resident
        self.turns = turns
        self.readers = Counter(operand for each in function.walk() for operand in each.operands)
        self.multiplies = any(isinstance(each, Dot) for each in function.walk())
        stores = (each.value for each in function.walk() if isinstance(each, TileStore))
        self.result_bytes = max((storage_bytes(each.type) for each in stores), default=0)

    def block(self, block: Block, *, is_loop: bool = False) -> tuple[_Queues, float]:
        """What the straight part of a block takes of each queue, and what its loops take.

        Args:
            block: of the function.
            is_loop: it is the body of a counted loop.
        """
        queues, loops = _Queues(), 0.0
        # What the cores of a cluster have in common is moved first.
        for operation in sorted(block.operations, key=lambda each: not isinstance(each, Assemble)):
            match operation:
                case For() | While():
                    loops += self.loop(operation)
                case If():
                    for region in operation.regions:
                        inner, nested = self.block(region)
                        queues.add(inner)
                        loops += nested
                case TileLoad() if self.multiplies and is_loop:
                    pass  # one of a burst
                case _:
                    self._add(operation, queues)
        return queues, loops

    def loop(self, operation: For | While) -> float:
        """What all turns of a loop take."""
        turns = self.turns.get(operation, USUAL_TURNS)
        inner, nested, steps = self._turn(operation, turns)
        nested += _TURN_CYCLES / steps if isinstance(operation, For) and self.multiplies else 0
        ends = 0 if self.is_resident else self.ends(operation)
        return ends + turns * (inner.longest() + nested)

    def ends(self, operation: For | While) -> float:
        """What a loop takes at its ends, where only some of its queues have work."""
        inner, _, steps = self._turn(operation, self.turns.get(operation, USUAL_TURNS))
        return steps * (inner.all() - inner.longest()) if self.multiplies else 0

    def _turn(self, operation: For | While, turns: int) -> tuple[_Queues, float, int]:
        """What a turn of a loop takes of each queue, what loops in it take, and how many turns are one."""
        inner, nested = self.block(operation.regions[-1], is_loop=isinstance(operation, For))
        if not isinstance(operation, For) or not self.multiplies:
            inner.transfers += min(_latency_cycles(self.machine), inner.transfers / LATENCIES_ALONE)
            return inner, nested, 1
        burst, steps = self._burst(operation, turns)
        inner.transfers += burst / steps
        if self.is_resident:
            inner.transfers += self.result_bytes / _transfer_rate(self.machine) / turns
        return inner, nested, steps

    def _burst(self, loop: For, turns: int) -> tuple[float, int]:
        """What the loads of several iterations take at once, and of how many if as many as can be go together."""
        loads = [each for each in loop.body.operations if isinstance(each, TileLoad)]
        shared = {each.operands[0].defining_op for each in loop.body.operations if isinstance(each, Assemble)}
        deep = _depths(loop) if loads else None
        steps = 1 if deep is None else self._steps(loop, loads, turns, bool(shared))
        weights = {each.operands[1].defining_op for each in loop.body.operations if isinstance(each, Dot)}
        transfers = {each: _transfer(each, deep[each] if deep is not None else WHOLE, steps) for each in loads}
        together = [transfer for each, transfer in transfers.items() if each in shared]
        own = [transfer for each, transfer in transfers.items() if each not in shared]
        rate = _transfer_rate(self.machine)
        # What goes to the weights itself is not halved.
        if together and len(own) == 1 and not weights & (transfers.keys() - shared):
            return order_of(own[0], together, self.machine, rate)[1], steps
        return burst_cycles([*together, *own], self.machine, rate), steps

    def _steps(self, loop: For, loads: Sequence[TileLoad], turns: int, is_shared: bool) -> int:
        """How many steps of a loop that adds up products are taken together at most."""
        machine = self.machine
        products = [each for each in loop.body.operations if isinstance(each, Dot)]
        loaded = sum(map(_tile_bytes, loads))
        totals = sum(storage_bytes(each.result.type) for each in products)
        kept = totals + (self.result_bytes if self.result_bytes < totals else 0)
        rows, weights = (2 * sum(storage_bytes(each.operands[place].type) for each in products) for place in range(2))
        most = min((machine.usable_nram_bytes - kept) // rows, machine.usable_wram_bytes // weights)
        for latencies in DEPTHS if is_shared else range(LATENCIES_ALONE, 0, -1):
            found = math.ceil(latencies * machine.core_dma_latency_bytes / max(1, loaded))
            if is_shared and found < LEAST_SHARED_STEPS:
                break
            if found <= most:
                return max(1, min(found, -(-turns // TURNS)))
        return 1

    def _add(self, operation: Operation, queues: _Queues) -> None:
        """Add what an operation takes of each queue."""
        machine = self.machine
        match operation:
            case TileLoad() | TileStore():
                flow = _tile_bytes(operation) / _transfer_rate(machine)
                setup = _segments(operation) * machine.dma_segment_cycles
                # Of two transfers in a row, the set-up of one shows, that of the other goes on while the first flows.
                queues.transfers += (setup + flow + max(setup, flow)) / 2
            case GatherLoad() | ScatterStore():
                moved = operation.result if isinstance(operation, GatherLoad) else operation.operands[2]
                setup = item_count(operation) * machine.gather_item_cycles
                queues.transfers += setup + storage_bytes(moved.type) / _transfer_rate(machine)
            case LookUp():
                items = math.prod(shape_of(operation.result.type))
                queues.work(items * machine.gather_local_item_cycles)
            case Assemble():
                shared = machine.sram_port_bytes_per_cycle / operation.integer("members")
                rate = min(shared, machine.move_bytes_per_cycle)
                queues.move(machine.move_setup_cycles + storage_bytes(operation.result.type) / rate)
            case Dot():
                cycles, weights = _product_cycles(operation, machine), operation.operands[1]
                if self._goes_to_wram(weights):
                    queues.work(cycles)
                else:
                    moving = machine.move_setup_cycles + storage_bytes(weights.type) / machine.move_bytes_per_cycle
                    queues.multiply(cycles, moving, is_computed=not _is_loaded(weights))
            case Elementwise() | Reduce() | Scan() if operation.operands and shape_of(operation.operands[0].type):
                most = max(storage_bytes(each.type) for each in (*operation.operands, *operation.results))
                one_pass = most / machine.vector_bytes_per_cycle
                queues.work(self._passes(operation) * one_pass + machine.vector_gap_cycles)
            case _:
                pass

    def _goes_to_wram(self, weights: Value) -> bool:
        """True if weights are loaded for one product alone, so that they need not come by way of NRAM."""
        made = weights.defining_op
        if self.readers[weights] > 1 or not _is_loaded(weights):
            return False
        return not isinstance(made, Transpose) or self._goes_to_wram(made.operands[0])

    def _passes(self, operation: Elementwise | Reduce | Scan) -> int:
        if self.multiplies or not isinstance(operation, Elementwise):
            return 1
        return class_passes(operation.arithmetic.cost_class, self.machine)


def item_count(access: GatherLoad | ScatterStore) -> int:
    """Items that are moved one by one."""
    return math.prod(shape_of(access.operands[1].type))


def all_items(function: Function) -> int:
    """Items that a function moves one by one, those of a loop once."""
    return sum(item_count(each) for each in function.walk() if isinstance(each, GatherLoad | ScatterStore))


def shortest_segment_bytes(function: Function) -> int:
    """Of tiles that are several runs of consecutive bytes each, the length of the shortest run; 0 if there are none."""
    tiles = [each for each in function.walk() if isinstance(each, TileLoad | TileStore)]
    parted = [(_tile_bytes(each), segments) for each in tiles if (segments := _segments(each)) > 1]
    return min((size // segments for size, segments in parted), default=0)


def _segments(tile: TileLoad | TileStore) -> int:
    """How many runs of consecutive elements a tile has, for all that is known."""
    geometry = tile.geometry
    run = 1
    extents = [(_constant(stride), extent) for stride, extent in zip(geometry.strides, geometry.shape, strict=True)]
    left = [each for each in extents if each[1] > 1]
    while (found := next((each for each in left if each[0] == run), None)) is not None:
        left.remove(found)
        run *= found[1]
    return math.prod(extent for _, extent in left)


def _depths(loop: For) -> dict[TileLoad, int] | None:
    """The axes of a loop's tiles along which it multiplies; None if its steps are not products that are added up."""
    carried = [value for value in loop.carried if shape_of(value.type)]
    found: dict[TileLoad, int] = {}
    pending: list[tuple[Value, int]] = []
    for each in loop.body.operations:
        if isinstance(each, Dot):
            if each.operands[2] not in carried or each.result not in loop.body.terminator.operands:
                return None
            carried.remove(each.operands[2])
            rank = len(shape_of(each.operands[0].type))
            pending += [(each.operands[0], rank - 1), (each.operands[1], rank - 2)]
    while pending:
        value, axis = pending.pop()
        made = value.defining_op
        if isinstance(made, TileLoad):
            found[made] = axis
        elif isinstance(made, Assemble):
            pending.append((made.operands[0], axis))
        elif made is not None and shape_of(value.type):
            try:
                layouts = operand_layouts(made, axis)
            except NotSplitError:
                return None
            pending += [pair for pair in zip(made.operands, layouts, strict=True) if pair[1] != WHOLE]
    loads = {each for each in loop.body.operations if isinstance(each, TileLoad)}
    return found if not carried and found.keys() == loads else None


def _transfer(load: TileLoad, deep: int, steps: int) -> Transfer:
    """A load of so many steps, which go on along an axis of its tile."""
    is_along = deep != WHOLE and _constant(load.geometry.strides[deep]) == 1
    segments = _segments(load) * (1 if is_along else steps)
    return Transfer(segments, _tile_bytes(load) * steps)


def _constant(value: Value) -> int | None:
    made = value.defining_op
    return made.value if isinstance(made, Constant) and isinstance(made.value, int) else None


def _tile_bytes(tile: TileLoad | TileStore) -> int:
    return storage_bytes((tile.result if isinstance(tile, TileLoad) else tile.value).type)


def _latency_cycles(machine: Machine) -> float:
    """Of a transfer, until its first byte."""
    return machine.core_dma_latency_bytes / machine.core_dma_bytes_per_cycle


def _transfer_rate(machine: Machine) -> float:
    """Bytes that a core transfers in a cycle if all do."""
    port = machine.cluster_dma_bytes_per_cycle / machine.cores_per_cluster
    return min(machine.core_dma_bytes_per_cycle, port, machine.l2_bytes_per_cycle / machine.cores)


def _product_cycles(operation: Dot, machine: Machine) -> float:
    """What a product takes in the type in which it is done, with the conversion of operands to it."""
    *rows, columns = shape_of(operation.operands[2].type)
    depth = shape_of(operation.operands[0].type)[-1]
    dtype = tensor_type(operation, machine)
    if dtype is None:
        return math.prod(rows) * columns * depth * F32.bytes / machine.vector_bytes_per_cycle
    columns = -(-columns // machine.tensor_column_granule) * machine.tensor_column_granule
    converted = 0.0
    for operand in operation.operands[:2]:
        given = storage_dtype(element_type(operand.type))
        if given != dtype and dtype != TF32:
            passes = machine.vector_f8_passes if given.is_float8 and not machine.has_fp8 else 1
            converted += passes * math.prod(shape_of(operand.type)) * max(given.bytes, dtype.bytes)
    product = math.prod(rows) * columns * depth / machine.mac_per_cycle(dtype)
    return product + converted / machine.vector_bytes_per_cycle


def _is_loaded(weights: Value) -> bool:
    """True if weights are multiplied as they are loaded, not what is computed of that."""
    made = weights.defining_op
    return isinstance(made, TileLoad | Assemble) or (isinstance(made, Transpose) and _is_loaded(made.operands[0]))
