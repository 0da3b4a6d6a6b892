"""What a launch cost, by line of the kernel's source."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.cost import issue_cycles
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import InstructionWork
from mlutriton.isa.program import Program
from mlutriton.isa.trace_format import ITEM_KINDS, RECORD_WORDS, Kind
from mlutriton.simulator import trace_columns
from mlutriton.simulator.replay import Timing, Trace
from mlutriton.simulator.replay.timing import Cause

Numbers = NDArray[np.int64]


@dataclass
class LineCost:
    """What the instructions of one source line cost, all programs and cores together.

    A queue is busy with a line's instruction; a core stalls at a line that waits, whatever line it waits for.

    Attributes:
        instructions: executed.
        scalar_cycles: of the SCALAR queue, for scalar work and issue.
        compute_cycles: of the COMPUTE queue; those of a chain stand at its last instruction.
        io_cycles: of the IO queue, set-up and latency included.
        move_cycles: of the MOVE queue.
        bytes: moved by the IO and MOVE queues.
        stall_cycles: of cores, by cause.
    """

    instructions: int = 0
    scalar_cycles: int = 0
    compute_cycles: int = 0
    io_cycles: int = 0
    move_cycles: int = 0
    bytes: int = 0
    stall_cycles: dict[Cause, int] = field(default_factory=dict[Cause, int])

    @property
    def stalled_cycles(self) -> int:
        """Cycles that cores waited at the line, for whatever cause."""
        return sum(self.stall_cycles.values())


def line_costs(
    program: Program, machine: Machine, trace: Trace, timing: Timing, instruction_work: Numbers
) -> dict[tuple[str, int], LineCost]:
    """The costs of each (file, line) that has instructions, in the order of the source.

    Args:
        program: what ran.
        machine: where.
        trace: what its programs left behind.
        timing: its replay, with events.
        instruction_work: as ``Execution`` holds it.

    Raises:
        ValueError: the replay kept no events.
    """
    if timing.events is None or timing.stalls is None:
        raise ValueError("costs by line need a replay with events")
    instructions = program.instructions
    io_cycles, move_cycles, moved_bytes = _transfers(trace, timing.events, len(instructions), machine)
    executions = instruction_work[InstructionWork.EXECUTIONS].tolist()
    compute_cycles = instruction_work[InstructionWork.COMPUTE_CYCLES].tolist()
    lines: dict[tuple[str, int], LineCost] = {}
    for number, instruction in enumerate(instructions):
        location = instruction.location
        line = lines.setdefault((location.file, location.line), LineCost())
        line.instructions += executions[number]
        line.scalar_cycles += executions[number] * issue_cycles(instruction, machine)
        line.compute_cycles += compute_cycles[number]
        line.io_cycles += io_cycles[number]
        line.move_cycles += move_cycles[number]
        line.bytes += moved_bytes[number]
    for number, cause in np.argwhere(timing.stalls[: len(instructions)]).tolist():
        location = instructions[number].location
        stalls = lines[location.file, location.line].stall_cycles
        stalls[Cause(cause)] = stalls.get(Cause(cause), 0) + int(timing.stalls[number, cause])
    return dict(sorted(lines.items()))


def _transfers(trace: Trace, events: Numbers, count: int, machine: Machine) -> tuple[list[int], list[int], list[int]]:
    """Cycles on the IO queue, cycles on the MOVE queue and bytes of each instruction."""
    records = trace.words.reshape(-1, RECORD_WORDS)
    kinds = trace_columns.kinds(records)
    transfers = (kinds <= Kind.MOVE) & ~trace_columns.extent_records(records)
    records, kinds = records[transfers], kinds[transfers]
    instructions = trace_columns.instructions(records)
    durations = events[transfers, 1] - events[transfers, 0]
    item_bytes = np.where(np.isin(kinds, ITEM_KINDS), trace_columns.payloads(records), 1)
    sizes = trace_columns.amounts(records) * item_bytes
    is_move = (kinds == Kind.MOVE) & machine.has_move_queue

    def sums(values: Numbers) -> list[int]:
        totals = np.zeros(count, np.int64)
        np.add.at(totals, instructions, values)
        return totals.tolist()

    return sums(np.where(is_move, 0, durations)), sums(np.where(is_move, durations, 0)), sums(sizes)
