"""What the words of a context say about the fault that ended a native program, in the words of the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.diagnostics import KernelFault
from mlutriton.isa.native_interface import Context, Fault
from mlutriton.isa.operands import Address
from mlutriton.isa.program import Program
from mlutriton.simulator.host_core import Int64Array
from mlutriton.simulator.interpreter.state import FAULT_HELP, global_action
from mlutriton.simulator.memory import GlobalMemory


def endless(program: Program, stopped: Sequence[Int64Array], limit_bytes: int) -> KernelFault:
    """The error of a launch that has recorded more than there is room for; ``stopped`` are the threads in loops."""
    places = [program.instructions[int(row[Context.FAULT_INSTRUCTION])].location for row in stopped]
    return KernelFault(
        "E0310",
        f"the trace of {program.name} has grown beyond {limit_bytes:,} bytes",
        location=places[0] if places else None,
        note="a quarter of the memory of the host or container is for traces; a transfer takes 24 bytes or more",
        help="see that the loop here ends; else launch fewer programs at a time",
    )


def position(number: int, grid: tuple[int, int, int]) -> tuple[int, int, int]:
    """The place of a program in its grid."""
    return number % grid[0], number // grid[0] % grid[1], number // (grid[0] * grid[1])


def fault_of(program: Program, grid: tuple[int, int, int], memory: GlobalMemory, context: Int64Array) -> BaseException:
    """The error of a fault."""
    if context[Context.FAULT] == Fault.STOPPED:
        return KeyboardInterrupt()
    place = position(int(context[Context.FAULT_PROGRAM]), grid)
    found = _fault_in(place, program, memory, context)
    found.program = place
    return found


def _fault_in(place: tuple[int, int, int], program: Program, memory: GlobalMemory, context: Int64Array) -> KernelFault:
    """The error of a fault in a program that has a place in its grid."""
    fault = Fault(int(context[Context.FAULT]))
    assert fault is not Fault.UNTAKEN, "a launch takes the versions that it is known to take"
    index = int(context[Context.FAULT_INSTRUCTION])
    instruction = program.instructions[index]
    address = int(context[Context.FAULT_ADDRESS]) & (1 << 64) - 1
    size = int(context[Context.FAULT_BYTES])
    core = f", core {context[Context.MEMBER]} of its cluster" if program.cores_per_program > 1 else ""
    where = f"{program.name}, program {place}{core}"
    note = f"instruction {index}: {instruction}"
    if fault in (Fault.OUTSIDE, Fault.READ_ONLY):
        action = global_action(instruction.row)
        return memory.fault(address, size, action, location=instruction.location, context=where, note=note)
    offset = int(context[Context.FAULT_ADDRESS])
    match fault:
        case Fault.ASSERTION:
            code, fact = "E0305", f"device-side assertion failed: {program.strings[offset]}"
        case Fault.BARRIER:
            waiting = f"{offset} of {program.cores_per_program} cores"
            code, fact = "E0306", f"{waiting} wait at a barrier, the others have ended"
        case Fault.INDEX:
            code, fact = "E0304", f"index {offset} is outside 0 to {size - 1}"
        case _:
            slot = instruction.row.slots[int(context[Context.FAULT_SLOT])]
            operand = instruction.operand(slot.name)
            assert isinstance(operand, Address)
            buffer = program.buffers[operand.buffer]
            fact = f"{slot.name} is bytes {offset} to {offset + size} of buffer {buffer.name}, which has {buffer.bytes}"
            code = "E0304"
    return KernelFault(code, fact, location=instruction.location, context=where, note=note, help=FAULT_HELP[code])
