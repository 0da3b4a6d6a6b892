"""Removal of dead tile code, and fusion of neighbouring element-wise instructions into chains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    Node,
    TileCode,
    While,
    accesses,
    children,
    instructions,
    registers_read,
    written_register,
)
from mlutriton.isa.operands import FORWARD, Address, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Instruction, slot_dtype
from mlutriton.isa.table import MAXIMUM_CHAIN_STEPS, Access, Queue


def remove_dead_code(code: TileCode) -> None:
    """Drop instructions whose registers or on-chip results nothing reads, until none is left; then unused buffers."""
    while True:
        read_buffers, read_registers = _reads(code.nodes)
        before = sum(1 for _ in instructions(code.nodes))
        _sweep(code.nodes, read_buffers, read_registers)
        if sum(1 for _ in instructions(code.nodes)) == before:
            break
    used = {
        operand.buffer
        for instruction in instructions(code.nodes)
        for operand, _ in accesses(instruction)
        if isinstance(operand, Address)
    }
    code.buffers = {name: buffer for name, buffer in code.buffers.items() if name in used}


def _reads(nodes: Sequence[Node]) -> tuple[set[str], set[Register]]:
    buffers: set[str] = set()
    registers: set[Register] = set()
    for node in nodes:
        if isinstance(node, Instruction):
            registers.update(registers_read(node))
            buffers.update(
                operand.buffer
                for operand, access in accesses(node)
                if isinstance(operand, Address) and access is Access.READ
            )
            continue
        match node:
            case Loop():
                operands = [node.start, node.end, node.step, *node.yielded, *(initial for _, initial in node.carried)]
            case While():
                operands = [node.condition, *node.yielded, *(initial for _, initial in node.carried)]
            case Branch():
                operands = [node.condition]
            case _:
                operands = []
        registers.update(operand for operand in operands if isinstance(operand, Register))
        for nested in children(node):
            inner_buffers, inner_registers = _reads(nested)
            buffers |= inner_buffers
            registers |= inner_registers
    return buffers, registers


def _sweep(nodes: list[Node], buffers: set[str], registers: set[Register]) -> None:
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Instruction):
            if not _is_dead(node, buffers, registers):
                kept.append(node)
            continue
        for nested in children(node):
            _sweep(nested, buffers, registers)
        if not (isinstance(node, Branch) and not node.then and not node.otherwise):
            kept.append(node)
    nodes[:] = kept


def _is_dead(instruction: Instruction, buffers: set[str], registers: set[Register]) -> bool:
    row = instruction.row
    written = written_register(instruction)
    if written is not None:
        return written not in registers and not row.trace
    if row.queue not in (Queue.COMPUTE, Queue.MOVE):
        return False
    targets = [
        operand.buffer
        for operand, access in accesses(instruction)
        if isinstance(operand, Address) and access is not Access.READ
    ]
    return bool(targets) and not any(target in buffers for target in targets)


# ---- chains --------------------------------------------------------------------------------------------------------


def fuse_chains(code: TileCode) -> None:
    """Hand results straight to the next instruction where nothing else reads them.

    Up to ``MAXIMUM_CHAIN_STEPS`` steps then take one pass over the data, as the machine's fused instructions do.
    """
    counts: dict[str, int] = {}
    for instruction in instructions(code.nodes):
        for operand, _ in accesses(instruction):
            if isinstance(operand, Address):
                counts[operand.buffer] = counts.get(operand.buffer, 0) + 1
    _fuse(code.nodes, counts)


def _fuse(nodes: list[Node], counts: dict[str, int]) -> None:
    fused: list[Node] = []
    last: int | None = None  # place in `fused` of the last chainable instruction, with only scalar work behind it
    steps = 1
    for node in nodes:
        for nested in children(node):
            _fuse(nested, counts)
        if isinstance(node, Instruction) and _is_step(node):
            joined = False
            if last is not None and steps < MAXIMUM_CHAIN_STEPS:
                producer = fused[last]
                assert isinstance(producer, Instruction)
                pair = _join(producer, node, counts)
                if pair is not None:
                    # The scalar instructions between them move in front of the chain's last step.
                    start = last - (steps - 1)
                    between = fused[last + 1 :]
                    fused[start:] = [*between, *fused[start:last], *pair]
                    last, steps, joined = len(fused) - 1, steps + 1, True
            if not joined:
                fused.append(node)
                last, steps = len(fused) - 1, 1
            continue
        fused.append(node)
        if not (isinstance(node, Instruction) and _is_plain_scalar(node)):
            last = None
    nodes[:] = fused


def _is_plain_scalar(instruction: Instruction) -> bool:
    written = written_register(instruction)
    return instruction.row.queue is Queue.SCALAR and written is not None and not any(accesses(instruction))


def _is_step(instruction: Instruction) -> bool:
    row = instruction.row
    if row.name == "v.mov":
        return True
    return row.is_elementwise and row.operation is not None and row.operation.cost_class in ("simple", "fma")


def _join(
    producer: Instruction, consumer: Instruction, counts: dict[str, int]
) -> tuple[Instruction, Instruction] | None:
    target = producer.operand("dst")
    if not isinstance(target, Address) or counts[target.buffer] != 2:
        return None
    if not all(isinstance(extent, Immediate) for step in (producer, consumer) for extent in _shape(step)):
        return None
    if _shape(producer) != _shape(consumer):
        if _goes_in_order(consumer):
            consumer = _reshaped(consumer, producer)
        elif _goes_in_order(producer):
            producer = _reshaped(producer, consumer)
    if _shape(producer) != _shape(consumer):
        return None
    readers = [place for place, operand in enumerate(consumer.operands) if operand == target]
    plain = target.mode is Mode.FULL and target.register is None and target.offset_bytes == 0
    if len(readers) != 1 or readers[0] == 0 or not plain:
        return None
    # A bit cast is no instruction: the consumer just reads the bytes as another type.
    written, read = (
        slot_dtype(step.row.slots[place], step.dtypes) for step, place in ((producer, 0), (consumer, readers[0]))
    )
    if written is not read:
        return None
    operands = list(consumer.operands)
    operands[readers[0]] = FORWARD
    first = list(producer.operands)
    first[0] = FORWARD
    return replace(producer, operands=tuple(first)), replace(consumer, operands=tuple(operands))


def _shape(step: Instruction) -> tuple[Operand, Operand]:
    return step.operand("rows"), step.operand("columns")


def _goes_in_order(step: Instruction) -> bool:
    """True for a step that is alone and goes through all its operands from first to last, whatever its rows are."""
    return not any(
        operand == FORWARD or (isinstance(operand, Address) and operand.mode is not Mode.FULL)
        for operand in step.operands
    )


def _reshaped(step: Instruction, other: Instruction) -> Instruction:
    """The step with the rows of another one, if it has as many elements."""
    counts = [math.prod(int(str(extent)) for extent in _shape(each)) for each in (step, other)]
    if counts[0] != counts[1]:
        return step
    operands = list(step.operands)
    for name in ("rows", "columns"):
        operands[step.row.slot_index[name]] = other.operand(name)
    return replace(step, operands=tuple(operands))
