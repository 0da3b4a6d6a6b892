"""Whether a program's time depends on the data that it loads, so that timing alone cannot know it."""

from __future__ import annotations

from collections.abc import Collection

from mlutriton.codegen.llvm.control_flow import basic_blocks
from mlutriton.diagnostics import Location
from mlutriton.isa.operands import Address, GlobalAddress, Operand, Register
from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import SlotKind

_LOADS = ("lds", "ldg")
# Slots whose value decides what is done, how much, or where; all others only make values.
_DECISIVE = (SlotKind.COUNT, SlotKind.INDEX)


def depends_on_data(
    program: Program, *, disjoint: bool | None = None, untaken: Collection[int] = ()
) -> Location | None:
    """The place of the first instruction whose path, address or count depends on loaded data; None if there is none.

    Registers that hold loaded data are followed through the control-flow graph. An ``assert`` of loaded data does not
    count: it is left out when only time is computed.

    Args:
        program: the program.
        disjoint: whether the arrays of the launches in question are disjoint; None if they may be either.
        untaken: first instructions of versions that none of these launches takes.
    """
    instructions, blocks = program.instructions, basic_blocks(program, disjoint=disjoint, untaken=untaken)
    tainted_in: dict[int, set[int]] = {block.start: set() for block in blocks}
    pending = [block.start for block in blocks]
    by_start = {block.start: block for block in blocks}
    while pending:
        block = by_start[pending.pop()]
        tainted = set(tainted_in[block.start])
        for instruction in instructions[block.start : block.end]:
            _step(instruction, tainted)
        for successor in block.successors:
            if not tainted <= tainted_in[successor]:
                tainted_in[successor] |= tainted
                pending.append(successor)
    for block in blocks:
        tainted = set(tainted_in[block.start])
        for instruction in instructions[block.start : block.end]:
            if tainted & _decisive_registers(instruction):
                return instruction.location
            _step(instruction, tainted)
    return None


def _step(instruction: Instruction, tainted: set[int]) -> None:
    row = instruction.row
    if not row.has_result:
        return
    result = instruction.operands[0]
    assert isinstance(result, Register)
    loads = row.name in _LOADS or row.name.startswith("atom.")
    sources = {index for operand in instruction.operands[1:] for index in _registers(operand)}
    if loads or sources & tainted:
        tainted.add(result.index)
    else:
        tainted.discard(result.index)


def _decisive_registers(instruction: Instruction) -> set[int]:
    """Registers that decide where control goes, which bytes are touched or how many."""
    row = instruction.row
    found: set[int] = set()
    for slot, operand in zip(row.slots, instruction.operands, strict=True):
        is_stride = slot.kind is SlotKind.SCALAR and slot.name.startswith("global")
        decides = slot.kind in _DECISIVE or is_stride or (row.name == "cbr" and slot.name == "condition")
        if decides or isinstance(operand, (Address, GlobalAddress)):
            found.update(_registers(operand))
    return found


def _registers(operand: Operand) -> list[int]:
    match operand:
        case Register(index):
            return [index]
        case Address(register=Register(index)) | GlobalAddress(register=Register(index)):
            return [index]
        case _:
            return []
