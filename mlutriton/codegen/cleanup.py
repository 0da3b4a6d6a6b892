"""Removal of dead tile code, and fusion of neighbouring element-wise instructions into chains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import cast

from mlutriton.codegen.tile_code import (
    READING,
    WRITING,
    Branch,
    Loop,
    Node,
    ScalarOperand,
    TileCode,
    While,
    buffers_of,
    children,
    instructions,
    touch_counts,
)
from mlutriton.isa.operands import FORWARD, Address, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Instruction, slot_dtype
from mlutriton.isa.table import MAXIMUM_CHAIN_STEPS, SPECIAL_REGISTERS, Access, Queue

_PROGRAM_NUMBERS = [Immediate(SPECIAL_REGISTERS.index(f"program_id.{axis}")) for axis in "xyz"]


def remove_dead_code(code: TileCode) -> None:
    """Drop instructions whose registers or on-chip results nothing reads; then unused buffers."""
    while _sweep(code.nodes, _dead(code.nodes)):
        pass
    used = buffers_of(code.nodes)
    code.buffers = {name: buffer for name, buffer in code.buffers.items() if name in used}


def _dead(nodes: Sequence[Node]) -> set[int]:
    """The identities of instructions that nothing needs."""
    every = instructions(nodes)
    made, read = [*map(_made, every)], [*map(_read, every)]
    readers: Counter[str | Register] = Counter(_control_registers(nodes))
    readers.update(chain.from_iterable(read))
    pending = [number for number, names in enumerate(made) if names and not any(map(readers.get, names))]
    makers: dict[str | Register, list[int]] = {}
    for number, names in enumerate(made if pending else ()):
        for each in names:
            makers.setdefault(each, []).append(number)
    dead: set[int] = set()
    while pending:
        number = pending.pop()
        if id(every[number]) in dead or any(map(readers.get, made[number])):
            continue
        dead.add(id(every[number]))
        for each in read[number]:
            readers[each] -= 1
            if not readers[each]:
                pending += makers.get(each, [])
    return dead


def _control_registers(nodes: Sequence[Node]) -> list[Register]:
    """Registers that loops and branches read."""
    found: list[Register] = []
    for node in nodes:
        if isinstance(node, Instruction):
            continue
        operands: list[ScalarOperand] = []
        match node:
            case Loop():
                operands = [node.start, node.end, node.step, *node.yielded, *(initial for _, initial in node.carried)]
            case While():
                operands = [node.condition, *node.yielded, *(initial for _, initial in node.carried)]
            case Branch():
                operands = [node.condition]
            case _:
                pass
        found += [operand for operand in operands if isinstance(operand, Register)]
        for nested in children(node):
            found += _control_registers(nested)
    return found


def _read(instruction: Instruction) -> Sequence[str | Register]:
    """Registers, and names of buffers, that an instruction reads and does not also write."""
    registers = instruction.registers_read
    if not instruction.buffers:
        return registers
    return [*registers, *[name for name, access in instruction.buffers if access is Access.READ]]


def _made(instruction: Instruction) -> Sequence[str | Register]:
    """What an instruction is there for: a register, or names of buffers; nothing if it is there for more than that."""
    written = instruction.written_register
    if written is not None:
        return () if instruction.row.trace else (written,)
    if instruction.row.queue not in (Queue.COMPUTE, Queue.MOVE):
        return ()
    return [name for name, access in instruction.buffers if access is not Access.READ]


def _sweep(nodes: list[Node], dead: set[int]) -> bool:
    """Drop dead instructions and branches without any; true if a branch is gone, whose condition may be dead now."""
    kept: list[Node] = []
    is_branch_gone = False
    for node in nodes:
        if isinstance(node, Instruction):
            if id(node) not in dead:
                kept.append(node)
            continue
        for nested in children(node):
            is_branch_gone |= _sweep(nested, dead)
        if isinstance(node, Branch) and not node.then and not node.otherwise:
            is_branch_gone = True
        else:
            kept.append(node)
    nodes[:] = kept
    return is_branch_gone


# ---- chains --------------------------------------------------------------------------------------------------------


def fuse_chains(code: TileCode) -> None:
    """Hand results straight to the step that reads them, where nothing else does.

    Up to ``MAXIMUM_CHAIN_STEPS`` steps then take one pass over the data, as the machine's fused instructions do. What
    stands between a step and its reader comes first then. Of several steps that one reads, the one is joined that each
    program has to do for itself; what all programs do alike is done once for many of them.
    """
    own = set[str | Register]()
    _find_own(code.nodes, own)
    _fuse(code.nodes, touch_counts(code.nodes), own)


def _find_own(nodes: Sequence[Node], own: set[str | Register]) -> None:
    """Add registers, and names of buffers, that depend on the number of a program."""
    for node in nodes:
        if isinstance(node, Instruction):
            is_number = node.row.name == "sreg" and node.operands[1] in _PROGRAM_NUMBERS
            touched = [*node.registers_read, *(name for name, access in node.buffers if access in READING)]
            if is_number or not own.isdisjoint(touched):
                written = node.written_register
                own.update([] if written is None else [written])
                own.update(name for name, access in node.buffers if access in WRITING)
        elif isinstance(node, Loop | While):
            own.update(register for register, initial in node.carried if initial in own)
        for nested in children(node):
            _find_own(nested, own)


def _fuse(nodes: list[Node], counts: Counter[str], own: Collection[str | Register]) -> None:
    units: list[list[Node]] = []
    makers: dict[str, int] = {}  # the unit whose last step made a buffer
    written: dict[str, int] = {}  # the last unit that wrote to one
    for node in nodes:
        for nested in children(node):
            _fuse(nested, counts, own)
        unit: list[Node] = [node]
        if not isinstance(node, Instruction):
            makers.clear()
        elif is_step(node):
            sources = {name for name, access in node.buffers if access is Access.READ and name in makers}
            for _, place in sorted(((name in own, makers[name]) for name in sources), reverse=True):
                chain = cast("list[Instruction]", units[place])
                is_changed = any(written.get(name, -1) > place for name in buffers_of(units[place], Access.READ))
                if len(chain) == MAXIMUM_CHAIN_STEPS or is_changed:
                    continue
                joined = _join(chain, node, counts)
                if joined is not None:
                    unit, units[place] = [*joined], []
                    break
            makers.update((name, len(units)) for name in buffers_of([node], Access.WRITE))
        written.update((name, len(units)) for name in buffers_of([node], *WRITING))
        units.append(unit)
    nodes[:] = [node for unit in units for node in unit]


def is_step(instruction: Instruction) -> bool:
    """True for an instruction that can be part of a chain."""
    row = instruction.row
    if row.name == "v.mov":
        return True
    return row.is_elementwise and row.operation is not None and row.operation.cost_class in ("simple", "fma")


def _join(chain: Sequence[Instruction], consumer: Instruction, counts: Counter[str]) -> list[Instruction] | None:
    """A chain that goes on with a step, which reads its result; None if it may not."""
    target = chain[-1].operand("dst")
    if not isinstance(target, Address):
        return None
    if not all(isinstance(extent, Immediate) for step in (chain[-1], consumer) for extent in shape_of_step(step)):
        return None
    if shape_of_step(chain[-1]) != shape_of_step(consumer):
        if goes_in_order(consumer):
            consumer = reshaped(consumer, chain[-1])
        elif all(map(goes_in_order, chain)):
            chain = [reshaped(step, consumer) for step in chain]
    if shape_of_step(chain[-1]) != shape_of_step(consumer):
        return None
    readers = [place for place, operand in enumerate(consumer.operands) if operand == target]
    plain = target.mode is Mode.FULL and target.is_at_begin
    if not readers or readers[0] == 0 or not plain or counts[target.buffer] != 1 + len(readers):
        return None
    if reads_other_bits(chain[-1], consumer, readers):
        return None
    return [*chain[:-1], *linked(chain[-1], consumer)]


def reads_other_bits(producer: Instruction, consumer: Instruction, readers: Iterable[int]) -> bool:
    """True if a step reads in one of these places another type than was written.

    A bit cast is no instruction: its reader just reads the bytes as another type.
    """
    written = slot_dtype(producer.row.slots[0], producer.dtypes)
    return any(slot_dtype(consumer.row.slots[place], consumer.dtypes) is not written for place in readers)


def linked(producer: Instruction, consumer: Instruction) -> tuple[Instruction, Instruction]:
    """Two steps of which the first hands its result to the second, which reads it."""
    target = producer.operand("dst")
    operands = (FORWARD if operand == target else operand for operand in consumer.operands)
    return producer.taking((FORWARD, *producer.operands[1:])), consumer.taking(operands)


def shape_of_step(step: Instruction) -> tuple[Operand, Operand]:
    """Rows and columns of a step."""
    return step.operand("rows"), step.operand("columns")


def goes_in_order(step: Instruction) -> bool:
    """True for a step that goes through all its operands from first to last, whatever its rows are."""
    return not any(isinstance(operand, Address) and operand.mode is not Mode.FULL for operand in step.operands)


def reshaped(step: Instruction, other: Instruction) -> Instruction:
    """The step with the rows of another one, if it has as many elements."""
    counts = [math.prod(int(str(extent)) for extent in shape_of_step(each)) for each in (step, other)]
    if counts[0] != counts[1]:
        return step
    operands = list(step.operands)
    for name in ("rows", "columns"):
        operands[step.row.slot_index[name]] = other.operand(name)
    return step.taking(operands)
