"""How many iterations a block of a pipelined loop should have.

A loop over N iterations, of which each loads for l cycles, computes for c and stores for s, takes in blocks of b
iterations about

    latency + l b  +  N / b turns of max(c b, (l + s) b + latency) + turn  +  s b + latency

less what the first and the last turn do not have to transfer. Long blocks show fewer latencies, short ones leave less
to do at both ends, where nothing goes on beside it. In between there is a least:

    transfers bind, c < l + s:    b = sqrt(N (latency + turn) / max(2 c - l - s, little))
    arithmetic binds:             b = sqrt(N turn / (l + s)), but long enough that it hides a latency
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlutriton.codegen.interleave import interleaved
from mlutriton.codegen.tile_code import Loop, Node, accesses, children, instructions, known_extents, steps
from mlutriton.isa.cost import occupancy_cycles
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Access, Queue, SlotKind

# Scalar work of a turn of the loop over blocks: addresses of the transfers, places in the buffers, a sync.
_TURN_CYCLES = 100

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
class IterationCycles:
    """What an iteration takes, all cores at work.

    Attributes:
        load: cycles of its loads without their latency.
        store: cycles of its stores without their latency.
        arithmetic: cycles of the COMPUTE queue.
        latency: cycles of a transfer until its bytes flow.
    """

    load: float
    store: float
    arithmetic: float
    latency: float

    @property
    def transfers(self) -> float:
        """Cycles of all transfers without their latency."""
        return self.load + self.store

    def of_loop(self, iterations: int, size: float) -> float:
        """Cycles of a loop in blocks of a size."""
        load, store, arithmetic = self.load * size, self.store * size, self.arithmetic * size
        turns = iterations / size
        within = [max(arithmetic, moved + self.latency) for moved in (load, load + store, store)]
        middle = max(arithmetic, within[0] + (turns - 2) * within[1] + within[2])
        return self.latency + load + middle + turns * _TURN_CYCLES + store + self.latency

    def block_size(self) -> BlockSize:
        """The length of blocks for which the loop takes least."""
        turn, transfers = _TURN_CYCLES, max(self.transfers, 1)
        excess = self.arithmetic - transfers
        if excess <= 0:
            at_ends = max(2 * self.arithmetic - transfers, transfers * _LITTLE)
            low = high = math.sqrt((self.latency + turn) / at_ends)
            return BlockSize(1, low, high)
        low, high = math.sqrt(turn / transfers), math.sqrt((self.latency + turn) / transfers)
        return BlockSize(min(self.latency / excess, self.latency), low, high)


def transfer_rate(machine: Machine) -> float:
    """Bytes per cycle that a core transfers while all others do so too."""
    return min(machine.core_dma_bytes_per_cycle, machine.dram_bytes_per_cycle / machine.cores)


def transfer_latency(machine: Machine) -> int:
    """Cycles until the first byte of a transfer flows."""
    return machine.dma_setup_cycles + machine.cycles_from_ns(machine.dram_bulk_latency_ns)


def gather_cycles(gathers: Sequence[Node], machine: Machine) -> int:
    """Cycles that gathers take however short their items are."""
    items = sum(known_extents(each).get("n", 0) for each in instructions(gathers))
    return items * machine.gather_item_cycles


def arithmetic_cycles(loop: Loop, machine: Machine) -> int:
    """Cycles of the COMPUTE queue in an iteration, those of instructions whose extents are not known now left out."""
    return _Arithmetic(machine).of(loop.body)


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

    def _occupancy(self, instruction: Instruction) -> int:
        counts = known_extents(instruction)
        is_known = len(counts) == sum(slot.kind is SlotKind.COUNT for slot in instruction.row.slots)
        return occupancy_cycles(instruction, counts, self.machine) if is_known else 0

    def _wait(self, chain: Sequence[Instruction]) -> int:
        touched = [
            (operand.buffer, access)
            for each in chain
            for operand, access in accesses(each)
            if isinstance(operand, Address)
        ]
        is_held = any(name in self.written for name, access in touched if access is not Access.WRITE)
        self.written = {name for name, access in touched if access is not Access.READ}
        return self.machine.vector_latency_cycles if is_held else self.machine.vector_gap_cycles
