"""Which loops may be worked through in blocks of iterations, and whose transfers a block may make as one.

A loop may be blocked if all its accesses to global memory can move: all loads before the block, all stores behind it.
What the pipeline asks for moving them by an iteration is asked here for moving them by a block. Stores of different
instructions change their order, so they must be known to be apart, unless the iterations are programs of the grid.

Short transfers of a block are made as one where that can be
(:mod:`mlutriton.codegen.pipelining.blocks.merged_transfers`). Those whose places are looked up in memory follow each
other, so that all of a block show one latency.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlutriton.codegen.pipelining.blocks.merged_transfers import Merge, Merging, MoreItems
from mlutriton.codegen.pipelining.blocks.row_chunks import RowChunks, plan_chunks, plan_offsets
from mlutriton.codegen.pipelining.blocks.size import (
    BlockSize,
    EndBlocks,
    FewBlocks,
    IterationCycles,
    arithmetic_cycles,
    flow_cycles,
    gather_cycles,
    is_quicker_alone,
    issue_cycles_of,
    transfer_latency,
)
from mlutriton.codegen.pipelining.pipeline_plan import Definitions, Plan, buffer_bytes, free_registers, ordinary_bytes
from mlutriton.codegen.pipelining.surroundings import Surroundings
from mlutriton.codegen.tile_code import Loop, Node, RowExtent, TileCode, buffers_of, instructions, registers_set
from mlutriton.immutables import replace
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import GlobalAddress, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Queue

# The bytes of the longest blocks flow for so many latencies: the one that shows then hardly counts.
_LATENCIES = 16

# Transfers that take such a part of a latency hide nothing.
_MUCH_SHORTER = 4

# Short results of so many blocks at most are stored together, if they take no more than such a part of the memory.
_MOST_COLLECTED = 8
_COLLECTED_SHARE = 8

# Of so many short transfers, not all can be the last of a burst.
_LEAST_SHORT = 2

# Scalar work of a turn of the loop over chunks.
_CHUNK_CYCLES = 20

# What halves of chunks have to save, which make code longer, and short chunks, which the scalar unit hands over more
# often.
_CYCLES_FOR_HALVES = 0.01
_CYCLES_FOR_SHORT_CHUNKS = 0.008

# For how many iterations of a task blocks are laid out; how many there are is known at the launch alone.
_ORDINARY_ITERATIONS = 16
_MANY_ITERATIONS = 64


@dataclass(frozen=True)
class BlockShape:
    """What a block consists of.

    Attributes:
        capacity: the most iterations.
        size: how many iterations it is to have.
        chunks: how the arithmetic is done in chunks; None if it is done iteration by iteration.
        chunk_units: the most units of a chunk.
        in_halves: the halves of a chunk are computed by turns.
        arithmetic_first: it is handed over before the transfers, as it takes longer.
        transfers_bind: they take longer than the arithmetic.
        ends: how long the first and the last block may be, if that matters where arithmetic binds.
        few: the blocks, if that matters where transfers bind; they do not have the ordinary size.
        in_one: a loop of no more iterations is a single block.
    """

    capacity: int
    size: BlockSize
    chunks: RowChunks | None = None
    chunk_units: int = 0
    in_halves: bool = False
    arithmetic_first: bool = False
    transfers_bind: bool = False
    ends: EndBlocks | None = None
    few: FewBlocks | None = None
    in_one: int = 1


@dataclass(frozen=True)
class BlockPlan:
    """How a loop is worked through in blocks.

    Attributes:
        scalars: scalar instructions that addresses and extents of the transfers need, without those that look up.
        merged: by the identity of a transfer that a block makes as one, how that is done.
        shape: of the blocks.
        beside: names of the buffers that are alive beside the blocks.
        spare_bytes: of NRAM that the largest blocks leave.
        collected: names of the buffers of results that are stored when several blocks have made theirs.
        collected_blocks: how many.
        offsets: how those of gathers are made for all of a block at once; None if that is done iteration by iteration.
    """

    scalars: list[Instruction]
    merged: dict[int, Merge]
    shape: BlockShape
    beside: set[str]
    spare_bytes: int
    collected: frozenset[str] = frozenset()
    collected_blocks: int = 1
    offsets: RowChunks | None = None


def plan_blocks(
    code: TileCode, loop: Loop, plan: Plan, machine: Machine, surroundings: Surroundings
) -> BlockPlan | None:
    """A plan for blocks of a loop, if it can be blocked and gains by it."""
    moved = plan.transfers
    if loop.carried or not moved or not _all_move(loop, plan.moved):
        return None
    if len(plan.stores) > 1 and not (loop.independent or plan.commutes):
        return None
    looked_up = plan.looking_up
    definitions = Definitions(loop, looked_up)
    needed = definitions.closure(free_registers([*plan.serves, *plan.moved]))
    if needed is None:
        return None
    # What is looked up may be anything in the next iteration.
    merging = Merging(code, loop, Definitions(loop), plan.buffers, surroundings.linear)
    latency_bytes = machine.core_dma_latency_bytes
    merged: dict[int, Merge] = {}
    gains = bool(plan.gathers or looked_up)
    for node in moved:
        is_short = buffer_bytes(code, [node]) < latency_bytes
        merge = merging.merge(node, in_places=True) if is_short and not plan.looks_up(node) else None
        if merge is not None:
            merged[id(node)] = merge
        gains |= merge is not None or not is_short
    if not gains:
        return None
    memory = _Memory(code, loop, plan, machine, surroundings)
    placing = [each for each in definitions.instructions(needed) if id(each) not in looked_up]
    placing_cycles = issue_cycles_of(placing, machine)
    shape = _shape(code, loop, plan, merged, machine, merging, memory, placing_cycles)
    collected, blocks = _collected(code, plan, merged, machine, shape)
    if collected:
        memory.times = dict.fromkeys(collected, blocks)
        shape = _shape(code, loop, plan, merged, machine, merging, memory, placing_cycles)
    if shape.capacity < 2:
        return None
    numbers = {number.register for number in shape.chunks.numbers} if shape.chunks is not None else set[Register]()
    needed |= definitions.closure(numbers) or set()
    scalars = [each for each in definitions.instructions(needed) if id(each) not in looked_up]
    temporaries: dict[str, int] = {}
    if shape.chunks is not None and not shape.chunks.is_within:
        temporaries = {name: shape.chunks.unit_bytes[name] * shape.chunk_units for name in shape.chunks.temporaries}
    spare_bytes = memory.spare_bytes("nram", temporaries, shape.capacity)
    beside = {each.name for each in memory.others}
    offsets = plan_offsets(code, loop, plan, merging)
    return BlockPlan(scalars, merged, shape, beside, spare_bytes, collected, blocks, offsets)


def _collected(
    code: TileCode, plan: Plan, merged: Mapping[int, Merge], machine: Machine, shape: BlockShape
) -> tuple[frozenset[str], int]:
    """Names of buffers of short results that are better stored for several blocks at a time, and for how many.

    Behind a long transfer one short one is free. Each further one shows a latency in every turn, if transfers bind.
    They come behind what is stored in the meantime, so all stores have to be of different memory.
    """
    if len(plan.stores) > 1 and not plan.commutes:
        return frozenset(), 1
    size = min(_ordinary_size(shape.size, shape.capacity, shape.few), shape.capacity)
    short = [
        each
        for each in plan.transfers
        if id(each) in merged and buffer_bytes(code, [each]) * size * _MUCH_SHORTER < machine.core_dma_latency_bytes
    ]
    touched = Counter(name for each in plan.transfers for name in buffers_of([each]))
    stores = [
        each
        for each in short
        if any(each is store for store in plan.stores)
        and not isinstance(merged[id(each)], MoreItems)
        and all(touched[name] == 1 for name in buffers_of([each]))
    ]
    names = buffers_of(stores)
    rest_bytes = sum(code.buffers[name].bytes for name in plan.buffers - names)
    own_bytes = sum(code.buffers[name].bytes for name in names)
    blocks = _MOST_COLLECTED
    while blocks > 1 and own_bytes * blocks * _COLLECTED_SHARE > rest_bytes:
        blocks //= 2
    if not shape.transfers_bind or len(short) < _LEAST_SHORT or blocks == 1:
        return frozenset(), 1
    return frozenset(names), blocks


def _shape(
    code: TileCode,
    loop: Loop,
    plan: Plan,
    merged: Mapping[int, Merge],
    machine: Machine,
    merging: Merging,
    memory: _Memory,
    placing_cycles: int,
) -> BlockShape:
    """The block for which the loop is shortest."""
    latency, varying = transfer_latency(machine), registers_set(loop.body)

    def flow(transfer: Node) -> float:
        return flow_cycles(transfer, ordinary_bytes(code, [transfer]), varying, machine)

    def cycles_of(transfers: Sequence[Node]) -> float:
        # Those that follow each other hide no more latency than they flow.
        return sum(max(flow(each), 0 if id(each) in merged else latency) for each in transfers)

    load, store = cycles_of([*plan.early, *plan.arriving]), cycles_of(plan.stores)
    load = max(load, gather_cycles(plan.gathers, machine))
    most = math.ceil(_LATENCIES * latency / (load + store))
    joined = [
        flow(each) for each in plan.transfers if id(each) in merged and not buffers_of([each]) & memory.times.keys()
    ]
    apart = sum(id(each) not in merged for each in plan.transfers)
    alone = is_quicker_alone(machine)
    is_narrow = any(code.buffers[name].extent for name in plan.buffers)
    longest = 1 / RowExtent.ORDINARY_SHARE if is_narrow else 1
    without = IterationCycles(load, store, 0, latency, 0, placing_cycles * apart, tuple(joined), alone, longest)
    chunks = plan_chunks(code, loop, plan, merging)
    if chunks is None or chunks.is_within:
        cycles = _iteration_as_a_whole(loop, chunks, without, machine)
        capacity, size = min(memory.iterations({}), most), cycles.block_size()
        ends, few = cycles.end_blocks(), cycles.few_blocks(capacity)
        ordinary = _ordinary_size(size, capacity, few)
        first, bind = cycles.is_arithmetic_first(ordinary), cycles.do_transfers_bind(ordinary)
        units = 0 if chunks is None else chunks.units
        at_once = cycles.most_in_one(capacity)
        return BlockShape(capacity, size, chunks, units, chunks is not None, first, bind, ends, few, at_once)
    best: _Iteration | None = None
    best_cycles, issue_cycles = math.inf, issue_cycles_of(_handed_over(chunks), machine)
    chunk_units = 1
    while True:
        temporaries = {name: chunks.unit_bytes[name] * chunk_units for name in chunks.temporaries}
        capacity = min(memory.iterations(temporaries), most)
        if capacity < 1:
            break
        for in_halves in (False, True)[: min(2, chunk_units)]:
            found = _iteration(chunks, chunk_units, without, capacity, machine, issue_cycles, in_halves=in_halves)
            whole = _cycles_each(found.cycles, capacity, found.few)
            if in_halves:
                whole, limit = whole * (1 + _CYCLES_FOR_HALVES), best_cycles
            else:
                limit = best_cycles * (1 + _CYCLES_FOR_SHORT_CHUNKS)
            best_cycles = min(best_cycles, whole)
            if whole <= limit:
                best = found
        if chunk_units >= capacity * chunks.units:
            break
        chunk_units *= 2
    return BlockShape(0, BlockSize(1, 1, 1)) if best is None else best.shape(chunks)


@dataclass(frozen=True)
class _Iteration:
    """An iteration of a loop in blocks whose arithmetic is done in chunks.

    Attributes:
        capacity: iterations of a block at most.
        chunk_units: units of a chunk.
        in_halves: a chunk is computed in two parts.
        cycles: what it takes.
        size: of the blocks of an ordinary loop, in iterations.
        few: blocks of loops that are better divided into few.
    """

    capacity: int
    chunk_units: int
    in_halves: bool
    cycles: IterationCycles
    size: float
    few: FewBlocks | None

    def shape(self, chunks: RowChunks) -> BlockShape:
        """The blocks."""
        cycles, size = self.cycles, self.size
        first, bind = cycles.is_arithmetic_first(size), cycles.do_transfers_bind(size)
        ends, at_once = cycles.end_blocks(), cycles.most_in_one(self.capacity)
        return BlockShape(
            self.capacity, cycles.block_size(), chunks, self.chunk_units, self.in_halves, first, bind, ends, self.few,
            at_once,
        )  # fmt: skip


def _iteration_as_a_whole(
    loop: Loop, chunks: RowChunks | None, without: IterationCycles, machine: Machine
) -> IterationCycles:
    """What an iteration takes that is not divided, but may be computed in halves, beside what its transfers do."""
    if chunks is not None:
        arithmetic = _chunk_cycles(chunks, chunks.units, machine, in_halves=True)
        issue = 2 * issue_cycles_of(_handed_over(chunks), machine) + _CHUNK_CYCLES
        return replace(without, arithmetic=arithmetic, issue=issue)
    handed_over = [each for each in instructions(loop.body) if each.row.queue is Queue.COMPUTE]
    issue = issue_cycles_of(handed_over, machine) + _CHUNK_CYCLES
    return replace(without, arithmetic=arithmetic_cycles(loop.body, machine), issue=issue)


def _iteration(
    chunks: RowChunks,
    chunk_units: int,
    without: IterationCycles,
    capacity: int,
    machine: Machine,
    issue_cycles: int,
    *,
    in_halves: bool,
) -> _Iteration:
    """What an iteration of an ordinary loop takes, and its blocks, which may be less than a chunk.

    Args:
        chunks: how its arithmetic is done.
        chunk_units: units of a chunk.
        without: what it takes without its arithmetic.
        capacity: iterations of a block at most.
        machine: on which it runs.
        issue_cycles: of the scalar unit to hand the instructions of a chunk over.
        in_halves: a chunk is computed in two parts.
    """
    units, size, cycles, few = chunk_units, float(capacity), without, None
    start = len(chunks.groups) * machine.vector_latency_cycles
    for _ in range(2):
        arithmetic = _chunk_cycles(chunks, units, machine, in_halves=in_halves) * chunks.units / units
        issue = (issue_cycles * (1 + in_halves) + _CHUNK_CYCLES) * chunks.units / units
        # The COMPUTE queue waits for what is not handed over yet.
        cycles = replace(without, arithmetic=max(arithmetic, issue), issue=issue, start=start)
        few = cycles.few_blocks(capacity)
        size = _ordinary_size(cycles.block_size(), capacity, few)
        before, units = units, max(2, min(chunk_units, int(size * chunks.units)))
        if units == before:
            break
    return _Iteration(capacity, chunk_units, in_halves, cycles, size, few)


def _cycles_each(cycles: IterationCycles, capacity: int, few: FewBlocks | None) -> float:
    """Cycles of an iteration of a loop, in the mean of an ordinary one and one of many iterations."""
    loops = (_ORDINARY_ITERATIONS, _MANY_ITERATIONS)
    if few is not None:
        return sum(cycles.of_blocks(few.lengths(count)) / count for count in loops) / len(loops)
    size = cycles.block_size()
    return sum(cycles.of_loop(count, _size_of_blocks(size, capacity, count)) / count for count in loops) / len(loops)


def _ordinary_size(size: BlockSize, capacity: int, few: FewBlocks | None) -> float:
    """Iterations of a block of an ordinary loop."""
    if few is not None:
        return few.between(_ORDINARY_ITERATIONS)[1]
    return _size_of_blocks(size, capacity, _ORDINARY_ITERATIONS)


def _size_of_blocks(size: BlockSize, capacity: int, iterations: int) -> float:
    return min(size.of(iterations), capacity, iterations / 2)


def _chunk_cycles(chunks: RowChunks, units: int, machine: Machine, *, in_halves: bool) -> int:
    """Cycles of the COMPUTE queue for a chunk."""
    if in_halves:
        return 2 * (chunks.cycles(-(-units // 2), machine) + len(chunks.groups) * machine.vector_gap_cycles)
    return chunks.cycles(units, machine) + len(chunks.groups) * machine.vector_latency_cycles


def _handed_over(chunks: RowChunks) -> list[Instruction]:
    """The instructions of a chunk."""
    return [each for group in chunks.groups for each in group.instructions]


def _all_move(loop: Loop, moved: Sequence[Node]) -> bool:
    """True if the rest of the loop neither touches global memory nor meets other cores."""
    ids = {id(node) for node in moved}
    rest = instructions([node for node in loop.body if id(node) not in ids])
    return not any(
        each.row.trace or each.row.queue is Queue.IO or any(isinstance(o, GlobalAddress) for o, _ in each.accesses)
        for each in rest
    )


class _Memory:
    """How many iterations of a block fit beside everything else, their tiles in both phases.

    Attributes:
        times: by the name of a buffer, how many blocks a phase of it has room for.
    """

    def __init__(self, code: TileCode, loop: Loop, plan: Plan, machine: Machine, surroundings: Surroundings) -> None:
        self.limits = {"nram": machine.usable_nram_bytes, "wram": machine.usable_wram_bytes}
        self.times: Mapping[str, int] = {}
        beside = surroundings.alive_beside(loop) - plan.buffers
        self.mine = [code.buffers[name] for name in plan.buffers]
        self.others = [code.buffers[name] for name in beside]

    def iterations(self, sizes_bytes: Mapping[str, int]) -> int:
        """The most iterations that fit if some of the other buffers have these sizes, the rest as they are."""
        found = [
            self.spare_bytes(space, sizes_bytes, 0) // each
            for space in self.limits
            if (each := self._iteration_bytes(space))
        ]
        return max(0, min(found, default=0))

    def spare_bytes(self, space: str, sizes_bytes: Mapping[str, int], iterations: int) -> int:
        """What is left of a memory beside so many iterations."""
        others = [each for each in self.others if each.space == space]
        rest = sum(-(-sizes_bytes.get(each.name, each.bytes) * each.phases // 64) * 64 for each in others)
        # Each buffer is rounded up once.
        return self.limits[space] - rest - 64 * len(self.mine) - iterations * self._iteration_bytes(space)

    def _iteration_bytes(self, space: str) -> int:
        """Both phases of what moves."""
        return 2 * sum(each.bytes * self.times.get(each.name, 1) for each in self.mine if each.space == space)
