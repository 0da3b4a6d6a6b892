"""The reference interpreter: programs one after another in NumPy, exactly by the manual, with every check.

It is slow and is the measure of the native code: both give the same bytes and the same trace. Beyond it, this one finds
reads of on-chip memory that nothing has written and races between queues of a core (of a cluster's cores, which share
SRAM, it runs one after another up to the barrier, and reports races between them only by chance).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlutriton.diagnostics import KernelFault
from mlutriton.isa.cost import issue_cycles, occupancy_cycles
from mlutriton.isa.legality import check, first_clash
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import InstructionWork
from mlutriton.isa.operands import FORWARD
from mlutriton.isa.program import Program
from mlutriton.isa.table import Queue
from mlutriton.simulator.interpreter_operations import HANDLERS
from mlutriton.simulator.interpreter_state import Core, Launch, Step
from mlutriton.simulator.memory import GlobalMemory
from mlutriton.simulator.on_chip_memory import OnChipMemory
from mlutriton.simulator.prints import Print, show
from mlutriton.simulator.touched_memory import TouchedMemory


@dataclass(frozen=True)
class InterpreterResult:
    """What programs leave behind apart from the bytes in memory.

    Attributes:
        trace_words: the records of all tasks, one after another; of a cluster program, core by core.
        trace_starts: offset of the first word of each task (and core), and the number of words at the end.
        instruction_work: work done, [len(InstructionWork), instructions].
        prints: in program order.
        touched: DRAM that items touched.
    """

    trace_words: NDArray[np.int64]
    trace_starts: NDArray[np.int64]
    instruction_work: NDArray[np.int64]
    prints: tuple[Print, ...]
    touched: TouchedMemory


def run(
    program: Program,
    grid: tuple[int, int, int],
    parameters: Sequence[int],
    memory: GlobalMemory,
    machine: Machine,
    *,
    step_limit: int | None = None,
) -> InterpreterResult:
    """Run every program of a grid, x fastest; ``parameters`` are the zero-extended bits of each kernel parameter.

    Raises:
        ProgramError: the program is not legal on this machine.
        KernelFault: the fault of the first program that has one; memory keeps what was stored.
    """
    check(program, machine)
    work = np.zeros((len(InstructionWork), len(program.instructions)), np.int64)
    tasks = program.task_count(math.prod(grid), machine.cores)
    launch = Launch(program, grid, tuple(parameters), memory, machine, work, TouchedMemory(memory), tasks)
    words: list[int] = []
    starts = [0]
    prints: list[Print] = []
    first: tuple[int, KernelFault] | None = None
    for task in range(tasks):
        if first is not None and task >= first[0]:
            break
        sram = OnChipMemory.of(machine.sram_bytes)
        cores = [
            Core(
                launch,
                task,
                number,
                OnChipMemory.of(machine.nram_bytes),
                OnChipMemory.of(machine.wram_bytes),
                sram,
            )
            for number in range(program.cores_per_program)
        ]
        try:
            _run_together(cores, step_limit)
        except KernelFault as error:
            # Of resident tasks a later one may serve an earlier program.
            if first is None or cores[0].served < first[0]:
                first = cores[0].served, error
        for core in cores:
            words += core.trace.words
            starts.append(len(words))
            prints += core.prints
    prints.sort(key=lambda each: each.program[::-1])
    if first is not None:
        last = launch.program_id(first[0])[::-1]
        show([each for each in prints if each.program[::-1] <= last])
        raise first[1]
    show(prints)
    return InterpreterResult(
        np.array(words, np.int64), np.array(starts, np.int64), launch.instruction_work, tuple(prints), launch.touched
    )


def _run_together(cores: list[Core], step_limit: int | None) -> None:
    """Run the cores of one program from barrier to barrier."""
    running = [(core, _steps(core, step_limit)) for core in cores]
    while running:
        waiting = [(core, steps) for core, steps in running if next(steps, None) is not None]
        if 0 < len(waiting) < len(cores):
            waiting[0][0].fail(
                "E0306", f"{len(waiting)} of {len(cores)} cores wait at a barrier, the others have ended"
            )
        running = waiting


def _steps(core: Core, step_limit: int | None) -> Generator[int | None]:
    """Run a core to its end; yields its position at each barrier."""
    instructions = core.launch.program.instructions
    count = 0
    while True:
        core.instruction = instruction = instructions[core.position]
        core.trace.instruction = core.position
        core.position += 1
        _execute(core)
        if instruction.row.name == "barrier.cluster":
            yield core.position
        if instruction.row.name == "exit":
            return
        count += 1
        if count == step_limit:
            core.fail("E0310", f"the program has run {count} instructions and has not ended")


def _execute(core: Core) -> None:
    """Run the current instruction and account for its time."""
    step = Step(core, core.instruction)
    row = core.instruction.row
    core.launch.instruction_work[InstructionWork.EXECUTIONS, core.trace.instruction] += 1
    core.trace.issue(issue_cycles(core.instruction, core.launch.machine))
    if not step.is_idle:
        step.resolve()
        if clash := first_clash(step.touches, core.chain):
            core.fail("E0309", "{} overlaps {}".format(*clash), help="give the result a buffer of its own")
        HANDLERS[row.name](core, step)
    if row.queue is Queue.COMPUTE:
        _account_compute(core, step)


def _account_compute(core: Core, step: Step) -> None:
    """Occupy the COMPUTE queue once a chain, or an instruction that is none, is complete."""
    machine = core.launch.machine
    core.chain_cycles = max(core.chain_cycles, occupancy_cycles(core.instruction, step.counts, machine))
    core.chain += step.touches
    if core.instruction.operands[0] == FORWARD:
        return
    is_product = core.instruction.row.name == "mm"
    held = any(
        touch.reads and touch.meets(written)
        for touch in core.chain
        for written in core.written
        if not (is_product and core.wrote_product and touch.slot.name == "c")
    )
    cycles = core.chain_cycles + (machine.vector_latency_cycles if held else machine.vector_gap_cycles)
    core.launch.instruction_work[InstructionWork.COMPUTE_CYCLES, core.trace.instruction] += cycles
    core.trace.compute(cycles)
    core.written = [touch for touch in core.chain if touch.writes]
    core.wrote_product = is_product
    core.chain_cycles, core.chain = 0, []
