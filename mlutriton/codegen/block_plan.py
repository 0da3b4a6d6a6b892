"""Which loops may be worked through in blocks of iterations, and whose transfers a block may make as one.

A loop may be blocked if all its accesses to global memory can move: all loads before the block, all stores behind it.
What the pipeline asks for moving them by an iteration is asked here for moving them by a block. Stores of different
instructions change their order, so they must be known to be apart, unless the iterations are programs of the grid.

A transfer whose address grows by the same step from iteration to iteration, and whose extents stay, becomes one of a
dimension more: one descriptor for the block. Index arithmetic is taken not to overflow, as where tiles are found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlutriton.codegen.pipeline_plan import Definitions, Plan, buffer_bytes, buffers_of, free_registers
from mlutriton.codegen.tile_code import Loop, Node, TileCode, accesses, instructions, registers_read
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Queue

# A block's bytes flow for so many latencies: then the one that shows costs a fifth.
_LATENCIES = 4


@dataclass
class BlockPlan:
    """How a loop is worked through in blocks.

    Attributes:
        capacity: the most iterations of a block.
        scalars: scalar instructions that addresses and extents of the transfers need.
        merged: by the identity of a transfer that a block makes as one, the number of its free dimension, 1 or 2.
    """

    capacity: int
    scalars: list[Instruction]
    merged: dict[int, int] = field(default_factory=dict[int, int])


def plan_blocks(code: TileCode, loop: Loop, plan: Plan, machine: Machine) -> BlockPlan | None:
    """A plan for blocks of a loop, if it can be blocked and gains by it."""
    moved = [*plan.loads, *plan.stores]
    if loop.carried or not moved or not _all_move(loop, moved):
        return None
    if len(plan.stores) > 1 and not (loop.independent or plan.commutes):
        return None
    definitions = Definitions(loop)
    needed = definitions.closure(free_registers([*plan.serves, *moved]))
    if needed is None:
        return None
    steps = _Steps(loop, definitions)
    latency_bytes = machine.core_dma_latency_bytes
    merged: dict[int, int] = {}
    gains = False
    for node in moved:
        is_short = buffer_bytes(code, [node]) < latency_bytes
        dimension = steps.free_dimension(code, node) if is_short else None
        if dimension is not None:
            merged[id(node)] = dimension
        gains |= dimension is not None or not is_short
    capacity = min(_room(code, plan, machine), -(-_LATENCIES * latency_bytes // max(1, buffer_bytes(code, moved))))
    if not gains or capacity < 2:
        return None
    return BlockPlan(capacity, definitions.instructions(needed), merged)


def _all_move(loop: Loop, moved: Sequence[Node]) -> bool:
    """True if the rest of the loop neither touches global memory nor meets other cores."""
    ids = {id(node) for node in moved}
    rest = instructions([node for node in loop.body if id(node) not in ids])
    return not any(
        each.row.trace or each.row.queue is Queue.IO or any(isinstance(o, GlobalAddress) for o, _ in accesses(each))
        for each in rest
    )


def _room(code: TileCode, plan: Plan, machine: Machine) -> int:
    """Iterations whose tiles fit, in both phases, beside everything else."""
    limits = {"nram": machine.usable_nram_bytes, "wram": machine.usable_wram_bytes}
    found: list[int] = []
    used = buffers_of(code.nodes)
    for space, limit in limits.items():
        mine = sum(each.bytes for each in code.buffers.values() if each.space == space and each.name in plan.buffers)
        others = [code.buffers[name] for name in used - plan.buffers if code.buffers[name].space == space]
        rest = sum(-(-each.bytes * each.phases // 64) * 64 for each in others)
        if mine:
            # Each buffer is rounded up once.
            found.append((limit - rest - 64 * len(plan.buffers)) // (2 * mine))
    return min(found, default=0)


class _Steps:
    """By what addresses grow from one iteration of a loop to the next."""

    def __init__(self, loop: Loop, definitions: Definitions) -> None:
        self.loop = loop
        self.definitions = definitions
        self.varying: dict[Register, bool] = {}

    def free_dimension(self, code: TileCode, node: Node) -> int | None:
        """The dimension of a transfer that may count iterations, if it is a dense tile at evenly spaced addresses."""
        if not isinstance(node, Instruction) or node.row.name not in ("dma.load", "dma.load_pad", "dma.store"):
            return None
        is_store = node.row.name == "dma.store"
        local, place = node.operand("src" if is_store else "dst"), node.operand("dst" if is_store else "src")
        assert isinstance(local, Address)
        assert isinstance(place, GlobalAddress)
        if local.register is not None or local.offset_bytes:
            return None
        dimension = next((d for d in (1, 2) if all(node.operand(f"n{k}") == Immediate(1) for k in range(d, 3))), None)
        size = node.dtypes[0].bytes
        if dimension is None or not self._is_dense(code.buffers[local.buffer].bytes // size, node, dimension):
            return None
        others = [operand for operand in node.operands if isinstance(operand, Register)]
        if any(self._varies(register) for register in others):
            return None
        multiple = self._multiple(place.register)
        return dimension if multiple is not None and multiple % size == 0 else None

    def _is_dense(self, elements: int, node: Instruction, dimension: int) -> bool:
        """True if consecutive tiles of a padded load are consecutive members of its buffer."""
        if node.row.name != "dma.load_pad":
            return True
        extents = [node.operand(f"n{k}") for k in range(dimension)]
        known = [int(each.value) for each in extents if isinstance(each, Immediate)]
        return len(known) == dimension and math.prod(known) == elements

    def _varies(self, register: Register) -> bool:
        if register == self.loop.index:
            return True
        if register not in self.varying:
            definition = self.definitions.scalar.get(register)
            self.varying[register] = definition is not None and any(map(self._varies, registers_read(definition)))
        return self.varying[register]

    def _multiple(self, operand: Operand) -> int | None:
        """A number that divides the step of an operand, 0 if it does not change; None if the steps are not even."""
        if operand == self.loop.index:
            return 1
        if not isinstance(operand, Register) or not self._varies(operand):
            return 0
        definition = self.definitions.scalar[operand]
        steps = [self._multiple(each) for each in definition.operands[1:]]
        match definition.row.name, steps:
            case "add" | "sub", [int(a), int(b)]:
                return math.gcd(a, b)
            case "mov" | "sext", [step]:
                return step
            case "mul", [int(a), 0]:
                return a * _factor(definition.operands[2])
            case "mul", [0, int(b)]:
                return b * _factor(definition.operands[1])
            case _:
                return None


def _factor(operand: Operand) -> int:
    return int(operand.value) if isinstance(operand, Immediate) else 1
