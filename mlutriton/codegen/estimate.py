"""How long a program of the tile IR takes about, from what it loads, moves and computes: to choose between forms of it.

Loops are taken to be pipelined, so that the longest of their queues counts. The pipeline hides latencies of transfers
from other queues, but not from each other: each step shows one of them, or several steps one if they are taken together
(:mod:`mlutriton.codegen.pipelining.deeper_steps`). All forms that are compared have the same loops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlutriton.codegen.pipelining.deeper_steps import LATENCIES_ALONE
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.member_ops import Assemble
from mlutriton.ir.ops import Dot, Elementwise, For, If, Reduce, Scan, TileLoad, TileStore, While
from mlutriton.ir.types import element_type, shape_of, storage_dtype
from mlutriton.isa.machine import Machine

# Of a loop whose length is not known.
_TRIPS = 32


@dataclass
class _Queues:
    """Cycles of the queues of a core."""

    transfers: float = 0
    moves: float = 0
    compute: float = 0

    def longest(self) -> float:
        return max(self.transfers, self.moves, self.compute)

    def add(self, other: _Queues) -> None:
        self.transfers += other.transfers
        self.moves += other.moves
        self.compute += other.compute


def estimated_cycles(function: Function, machine: Machine) -> float:
    """Cycles of a program, or of a member of it."""
    queues, loops = _block(function.body, machine)
    return queues.longest() + loops


def _block(block: Block, machine: Machine) -> tuple[_Queues, float]:
    """What the straight part of a block takes of each queue, and what its loops take."""
    queues, loops = _Queues(), 0.0
    for operation in block.operations:
        match operation:
            case For() | While():
                inner, nested = _block(operation.regions[-1], machine)
                inner.transfers += min(_latency_cycles(machine), inner.transfers / LATENCIES_ALONE)
                loops += _TRIPS * (inner.longest() + nested)
            case If():
                for region in operation.regions:
                    inner, nested = _block(region, machine)
                    queues.add(inner)
                    loops += nested
            case _:
                queues.add(_operation(operation, machine))
    return queues, loops


def _operation(operation: Operation, machine: Machine) -> _Queues:
    match operation:
        case TileLoad():
            return _Queues(transfers=_bytes(operation.result) / _transfer_rate(machine))
        case TileStore():
            return _Queues(transfers=_bytes(operation.operands[1]) / _transfer_rate(machine))
        case Assemble():
            shared = machine.sram_port_bytes_per_cycle / operation.integer("members")
            rate = min(shared, machine.move_bytes_per_cycle)
            return _Queues(moves=_bytes(operation.result) / rate)
        case Dot():
            return _Queues(compute=_product_cycles(operation, machine))
        case Elementwise() | Reduce() | Scan() if operation.operands and shape_of(operation.operands[0].type):
            passes = _bytes(operation.operands[0]) / machine.vector_bytes_per_cycle
            return _Queues(compute=passes + machine.vector_gap_cycles)
        case _:
            return _Queues()


def _latency_cycles(machine: Machine) -> float:
    """Of a transfer, until its first byte."""
    return machine.core_dma_latency_bytes / machine.core_dma_bytes_per_cycle


def _transfer_rate(machine: Machine) -> float:
    """Bytes that a core transfers in a cycle if all do."""
    port = machine.cluster_dma_bytes_per_cycle / machine.cores_per_cluster
    return min(machine.core_dma_bytes_per_cycle, port, machine.l2_bytes_per_cycle / machine.cores)


def _product_cycles(operation: Dot, machine: Machine) -> float:
    left, total = operation.operands[0], operation.operands[2]
    *rows, columns = shape_of(total.type)
    depth = shape_of(left.type)[-1]
    dtype = storage_dtype(element_type(left.type))
    columns = -(-columns // machine.tensor_column_granule) * machine.tensor_column_granule
    rate = machine.mac_per_cycle(dtype) or machine.mac_per_cycle_f32 or 1
    return math.prod(rows) * columns * depth / rate


def _bytes(value: Value) -> int:
    return math.prod(shape_of(value.type)) * storage_dtype(element_type(value.type)).bytes
