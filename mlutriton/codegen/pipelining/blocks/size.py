"""How many iterations a block of a pipelined loop should have.

A loop over N iterations, of which each loads for l cycles, computes for c and stores for s, takes in blocks of b
iterations about

    latency + l b  +  N / b turns of max(c b, (l + s) b + latency) + turn  +  s b + latency

less what the first and the last turn do not have to transfer. Long blocks show fewer latencies, short ones leave less
to do at both ends, where nothing goes on beside it. In between there is a least:

    transfers bind, c < l + s:    b = sqrt(N (latency + turn) / max(2 c - l - s, little))
    arithmetic binds:             b = sqrt(N turn / (l + s)), but long enough that it hides a latency

Blocks at the ends have nothing but loads, or stores, beside their arithmetic. Where that is longer, the first
and the last block are better short. Where arithmetic binds, what is left by blocks of the full length is shared by
both; it may be one block more (:class:`EndBlocks`), for which another latency shows. Where transfers bind, nothing but
latencies can be saved, so blocks are as few as can be (:class:`FewBlocks`): one if all arithmetic takes about a
latency, two as long as waiting for it costs no more than a third one.

Where arithmetic binds by enough, it is handed over first in each turn, so that the COMPUTE queue does not wait until
the scalar unit knows where transfers go. They begin later by what handing it over takes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mlutriton.codegen.interleave import interleaved
from mlutriton.codegen.tile_code import Node, all_steps, children, instructions, steps
from mlutriton.isa.cost import issue_cycles, occupancy_cycles
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Access, Queue, SlotKind

# Scalar work of a turn of the loop over blocks: addresses of the transfers, places in the buffers, a sync. It is a fact
# of what is generated here, not of a machine: 95 cycles of a vector add, 134 of a softmax.
_TURN_CYCLES = 100

# A core's share of the DRAM's rate hardly limits it if it is so much of its own.
_ALMOST_ALL = 0.9

# The least that a longer block costs at the ends of a loop, as a share of its transfers.
_LITTLE = 1 / 64


@dataclass(frozen=True)
class BlockSize:
    """The length of blocks of N iterations, ``min(max(least, low * sqrt(N)), high * sqrt(N))``."""

    least: float
    low: float
    high: float

    def of(self, iterations: int) -> float:
        """The length for so many iterations."""
        root = math.sqrt(iterations)
        return max(1.0, min(max(self.least, self.low * root), self.high * root))


@dataclass(frozen=True)
class EndBlocks:
    """How long the first and the last block may be together, in iterations: ``constant + each * block``.

    If they are longer, a third block of the full length is taken out of them.

    Attributes:
        constant: the part that does not depend on the length of blocks.
        each: for each iteration of a full block.
    """

    constant: float
    each: float


@dataclass(frozen=True)
class End:
    """How long the block at an end may be beside one of b iterations: ``constant + each * b``."""

    constant: float
    each: float

    def of(self, block: float) -> float:
        """The length beside a block of so many iterations."""
        return self.constant + self.each * block


@dataclass(frozen=True)
class FewBlocks:
    """As few blocks as can be: all of one length but the first and the last one, which are shorter.

    Attributes:
        first: how long the first one may be, so that its arithmetic takes no longer than the loads beside it.
        last: how long the last one may be, so that it can be stored right behind the block before.
        most: iterations of a block between them.
        in_two: so many iterations are done as two equal blocks, with none between.
    """

    first: End
    last: End
    most: int
    in_two: int = 1

    @property
    def ends(self) -> End:
        """How long the first and the last block may be together."""
        return End(self.first.constant + self.last.constant, self.first.each + self.last.each)

    @property
    def most_in_ends(self) -> int:
        """The most iterations that the first and the last block have together."""
        return min(math.floor(self.ends.of(self.most)), 2 * self.most)

    def between(self, iterations: int) -> tuple[int, int]:
        """How many blocks there are between the first and the last of so many iterations, and how long they are."""
        ends = self.ends
        count = max(math.ceil((iterations - self.most_in_ends) / self.most), 1)
        length = math.ceil((iterations - ends.constant) / (count + ends.each))
        # None at an end is longer than these.
        return count, min(max(length, math.ceil(iterations / (count + 2)), 1), self.most)

    def lengths(self, iterations: int) -> list[float]:
        """Of all blocks of so many iterations, about; tasks differ in their first and last one."""
        if iterations <= self.in_two:
            return [iterations / 2, iterations / 2]
        count, length = self.between(iterations)
        rest = max(iterations - count * length, 1)
        first = min(self.first.of(length), length, rest)
        return [first, *[float(length)] * count, rest - first]


@dataclass(frozen=True)
class IterationCycles:
    """What an iteration takes, all cores at work.

    Attributes:
        load: cycles of its loads without their latency.
        store: cycles of its stores without their latency.
        arithmetic: cycles of the COMPUTE queue.
        latency: cycles of a transfer until its bytes flow.
        issue: cycles of the scalar unit to hand the arithmetic over.
        placing: cycles of the scalar unit to know where transfers go that do not go together.
        joined: cycles that bytes flow of each of the transfers of a block that go together.
        is_quicker_alone: a core transfers more than its share of the DRAM's rate while others do not.
        longest: how many times as long all may take, if rows are as long as can be.
        start: cycles that the arithmetic of a block waits for itself, however many iterations it has.
    """

    load: float
    store: float
    arithmetic: float
    latency: float
    issue: float = 0
    placing: float = 0
    joined: tuple[float, ...] = ()
    is_quicker_alone: bool = False
    longest: float = 1
    start: float = 0

    @property
    def transfers(self) -> float:
        """Cycles of all transfers without their latency."""
        return self.load + self.store

    def is_arithmetic_first(self, size: float) -> bool:
        """True if turns of blocks of a size are shorter if the arithmetic is handed over before the transfers."""
        arithmetic, transfers = self.arithmetic * size, self._transfers_of_turn(size)
        return max(arithmetic, self.issue * size + transfers) < max(self._placing(size) + arithmetic, transfers)

    def do_transfers_bind(self, size: float) -> bool:
        """True if the transfers of a block take longer than its arithmetic."""
        return self._transfers_of_turn(size) > self.arithmetic * size

    def end_blocks(self) -> EndBlocks | None:
        """How long blocks at the ends may be where arithmetic binds; None if cores should differ more.

        Two blocks of r iterations together wait for arithmetic by ``2 (c r / 2 - latency - l b)``, if at all; one more
        block costs a turn, but hardly its latency, as other cores use the DRAM meanwhile.
        """
        if self.is_quicker_alone or self.arithmetic < max(self.transfers, 1):
            return None
        constant = (2 * self.latency + _TURN_CYCLES) / self.arithmetic
        return EndBlocks(constant, self.transfers / self.arithmetic)

    def few_blocks(self, capacity: int) -> FewBlocks | None:
        """The blocks where transfers bind; None if arithmetic does, or cores should differ more, or ends are no matter.

        Beside a first block of e iterations b of them are loaded: ``c e <= latency + l b``. Beside a last one b of them
        are stored, and it is to be handed over a latency before that is done: ``c e + turn <= s b``. Between two ends
        and no other, a block of b iterations waits for arithmetic by ``c b - latency - (l + s) e``, which is to be less
        than what one block more costs.
        """
        if self.is_quicker_alone or not max(self.load, self.store) < self.arithmetic < self.transfers:
            return None
        arithmetic = self.arithmetic * self.longest
        first = End(self.latency / arithmetic, self.load / self.arithmetic)
        last = End(-_TURN_CYCLES / arithmetic, self.store / self.arithmetic)
        each = self.transfers / self.arithmetic
        waits = arithmetic * (1 - each * each / 2)
        spared = self.latency * (2 + each / 2) + _TURN_CYCLES * (1 - each / 2)
        most = min(capacity, spared / waits) if waits > 0 else capacity
        return FewBlocks(first, last, max(int(most), 1), self.most_in_two(capacity))

    def most_in_one(self, capacity: int) -> int:
        """Iterations that are best done as one block.

        Two blocks show a latency more than one. Beside transfers they hide the arithmetic of the first and what the
        second has in common with it, or else the stores of the first.
        """

        def is_best(iterations: int) -> bool:
            half = iterations / 2
            arithmetic = self._arithmetic(half)
            waits = self.arithmetic * self.longest * half + min(arithmetic, self.store * half)
            return waits <= self.latency + _TURN_CYCLES

        return _most(is_best, capacity)

    def most_in_two(self, capacity: int) -> int:
        """Iterations that are best done as two blocks, where transfers bind: these wait for their arithmetic.

        With three there is a turn in which both loads and stores show their latencies.
        """

        def is_best(iterations: int) -> bool:
            half = iterations / 2
            arithmetic = self._arithmetic(half)
            first = max(arithmetic - self.load * half - self.latency, 0)
            waits = first + max(arithmetic - self.store * half, 0)
            return waits <= self._shown(half) + _TURN_CYCLES

        return _most(is_best, 2 * capacity)

    def _arithmetic(self, size: float) -> float:
        """That of a block."""
        return self.arithmetic * self.longest * size + self.start

    def _transfers_of_turn(self, size: float) -> float:
        return self._placing(size) + self.transfers * size + self._shown(size)

    def _shown(self, size: float) -> float:
        """Latencies that show: of transfers that go together, each shows what the one before does not hide."""
        return self.latency + sum(max(self.latency - cycles * size, 0) for cycles in sorted(self.joined)[:-1])

    def _placing(self, size: float) -> float:
        return _TURN_CYCLES + self.placing * size

    def of_loop(self, iterations: int, size: float) -> float:
        """Cycles of a loop in blocks of a size."""
        load, store, arithmetic = self.load * size, self.store * size, self.arithmetic * size
        turns = iterations / size
        within = [max(arithmetic, moved + self.latency) for moved in (load, load + store, store)]
        middle = max(arithmetic, within[0] + (turns - 2) * within[1] + within[2])
        return self.latency + load + middle + turns * _TURN_CYCLES + store + self.latency

    def of_blocks(self, lengths: Sequence[float]) -> float:
        """Cycles of a loop in blocks of these lengths, two at least."""
        cycles = self.latency + self.load * lengths[0]
        for before, length, behind in zip([0.0, *lengths], lengths, lengths[1:], strict=False):
            transfers = self.latency + self.load * behind + self.store * before
            cycles += _TURN_CYCLES + max(self.arithmetic * length, transfers)
        *_, before, last = lengths
        computed = self.arithmetic * last + _TURN_CYCLES
        return cycles + _TURN_CYCLES + self.latency + max(computed, self.store * before) + self.store * last

    def block_size(self) -> BlockSize:
        """The length of blocks for which the loop takes least."""
        turn, transfers = _TURN_CYCLES, max(self.transfers, 1)
        excess = self.arithmetic - transfers
        if excess <= 0:
            at_ends = max(2 * self.arithmetic - transfers, transfers * _LITTLE)
            low = high = math.sqrt((self.latency + turn) / at_ends)
            return BlockSize(1, low, high)
        low, high = math.sqrt(turn / transfers), math.sqrt((self.latency + turn) / transfers)
        return BlockSize(min(math.ceil(self.latency / excess), self.latency), low, high)


def _most(is_best: Callable[[int], bool], limit: int) -> int:
    """The most iterations up to a limit of which something holds that holds of all fewer ones; one at least."""
    return max(bisect_left(range(limit + 1), True, key=lambda iterations: not is_best(iterations)) - 1, 1)


def transfer_rate(machine: Machine) -> float:
    """Bytes per cycle that a core transfers while all others do so too."""
    return min(machine.core_dma_bytes_per_cycle, machine.dram_bytes_per_cycle / machine.cores)


def is_quicker_alone(machine: Machine) -> bool:
    """True if a core transfers clearly more while others do not."""
    return transfer_rate(machine) < _ALMOST_ALL * machine.core_dma_bytes_per_cycle


def flow_cycles(node: Node, size_bytes: float, varying: Collection[Register], machine: Machine) -> float:
    """Cycles that bytes flow while all cores transfer: the DRAM is slower where they are strided, and at atomics.

    Args:
        node: a transfer.
        size_bytes: what it moves.
        varying: registers that differ by iteration.
        machine: has the rates.
    """
    if isinstance(node, Instruction) and node.row.trace == "ATOMIC_VECTOR":
        counts, size = node.known_counts, node.dtypes[0].bytes
        granules = counts.get("n", 0) * -(-counts.get("length", 0) * size // machine.dram_granule_bytes)
        return granules * machine.atomic_interval_cycles
    share = 1.0
    if isinstance(node, Instruction) and _is_strided(node, varying):
        is_store = node.row.trace == "STORE"
        share = machine.strided_write_efficiency if is_store else machine.strided_read_efficiency
    at_dram = machine.dram_bytes_per_cycle / machine.cores * share
    return size_bytes / min(machine.core_dma_bytes_per_cycle, at_dram)


def _is_strided(transfer: Instruction, varying: Collection[Register]) -> bool:
    """True if a tile has parts of rows: how much of a row differs by where in it the tile begins."""
    slots = transfer.row.slot_index
    if "global1" not in slots:
        return False
    limit = "valid" if "valid1" in slots else "n"
    rows, row = (transfer.operands[slots[f"{limit}{axis}"]] for axis in (1, 0))
    return rows != Immediate(1) and row in varying


def issue_cycles_of(chain: Sequence[Instruction], machine: Machine) -> int:
    """Cycles of the scalar unit to hand instructions over."""
    return sum(issue_cycles(each, machine) for each in chain)


def transfer_latency(machine: Machine) -> int:
    """Cycles until the first byte of a transfer flows."""
    return machine.dma_setup_cycles + machine.cycles_from_ns(machine.dram_bulk_latency_ns)


def gather_cycles(gathers: Sequence[Node], machine: Machine) -> int:
    """Cycles that gathers take however short their items are."""
    items = sum(each.known_counts.get("n", 0) for each in instructions(gathers))
    return items * machine.gather_item_cycles


def arithmetic_cycles(nodes: Sequence[Node], machine: Machine) -> int:
    """Cycles of the COMPUTE queue for nodes, those of instructions whose extents are not known now left out."""
    return _Arithmetic(machine).of(nodes)


def working_cycles(nodes: Sequence[Node], machine: Machine) -> int:
    """Those in which it does not wait."""
    return _Arithmetic(machine).working(nodes)


class _Arithmetic:
    """Adds up the cycles of instructions in the order in which they will be.

    Attributes:
        written: buffers that the last instruction or chain writes.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.written: set[str] = set()

    def of(self, nodes: Sequence[Node]) -> int:
        """Cycles of the COMPUTE queue."""
        total = 0
        for step in steps(interleaved(nodes)):
            chain = [node for node in step if isinstance(node, Instruction) and node.row.queue is Queue.COMPUTE]
            if chain:
                total += max(map(self._occupancy, chain)) + self._wait(chain)
            total += sum(self.of(nested) for node in step for nested in children(node))
        return total

    def working(self, nodes: Sequence[Node]) -> int:
        """Cycles of the COMPUTE queue in which no instruction waits for another one."""
        return sum(max(map(self._occupancy, chain)) for chain in all_steps(nodes))

    def _occupancy(self, instruction: Instruction) -> int:
        counts = instruction.known_counts
        is_known = len(counts) == sum(slot.kind is SlotKind.COUNT for slot in instruction.row.slots)
        return occupancy_cycles(instruction, counts, self.machine) if is_known else 0

    def _wait(self, chain: Sequence[Instruction]) -> int:
        touched = [
            (operand.buffer, access)
            for each in chain
            for operand, access in each.accesses
            if isinstance(operand, Address)
        ]
        is_held = any(name in self.written for name, access in touched if access is not Access.WRITE)
        self.written = {name for name, access in touched if access is not Access.READ}
        return self.machine.vector_latency_cycles if is_held else self.machine.vector_gap_cycles
