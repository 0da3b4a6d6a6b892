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
from mlutriton.simulator.interpreter.on_chip_memory import OnChipMemory
from mlutriton.simulator.interpreter.operations import HANDLERS
from mlutriton.simulator.interpreter.state import Core, Launch, Step
from mlutriton.simulator.memory import GlobalMemory
from mlutriton.simulator.prints import Print, show
from mlutriton.simulator.touched_memory import TouchedMemory
from mlutriton.simulator.turns import Pause, Turns, deadlock


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
    printing_threads: int = 1,
) -> InterpreterResult:
    """Run every program of a grid, x fastest; ``parameters`` are the zero-extended bits of each kernel parameter.

    ``printing_threads`` is how often values without indices are printed.

    Raises:
        ProgramError: the program is not legal on this machine.
        KernelFault: the fault of the first program that has one; memory keeps what was stored.
    """
    check(program, machine)
    work = np.zeros((len(InstructionWork), len(program.instructions)), np.int64)
    tasks = program.task_count(math.prod(grid), machine.cores)
    executions = [0] * len(program.instructions)
    issued = [issue_cycles(instruction, machine) for instruction in program.instructions]
    touched = TouchedMemory(memory)
    launch = Launch(program, grid, tuple(parameters), memory, machine, work, executions, issued, touched, tasks)
    runner = _Runner(launch, step_limit)
    try:
        runner.run()
    finally:
        prints = runner.prints()
        show(prints, printing_threads)
    work[InstructionWork.EXECUTIONS] = executions
    words: list[int] = []
    starts = [0]
    for cores in runner.tasks:
        for core in cores:
            words += core.trace.words
            starts.append(len(words))
    return InterpreterResult(
        np.array(words, np.int64), np.array(starts, np.int64), launch.instruction_work, prints, launch.touched
    )


class _Runner:
    """The tasks of a launch, one after another, but in turns where programs wait for one another.

    Attributes:
        tasks: the cores of each task that has begun.
        fault: of the first program that has one, and that program.
    """

    def __init__(self, launch: Launch, step_limit: int | None) -> None:
        self.launch = launch
        self.tasks: list[list[Core]] = []
        self.fault: tuple[int, KernelFault] | None = None
        self.step_limit = step_limit

    def run(self) -> None:
        """Run every task.

        Raises:
            KernelFault: the fault of the first program that has one, or programs wait for ever.
        """
        launch, turns = self.launch, Turns(self.launch.machine.cores)
        slots: dict[int, Generator[Pause | None]] = {}
        slot: int | None = 0
        while slot is not None:
            try:
                pause = next(slots.setdefault(slot, self._one_after_another()))
            except StopIteration:
                slot = turns.leave(slot)
                continue
            if pause is None:
                slot = turns.end(slot)
                continue
            slot = turns.pause(slot, pause, more=len(self.tasks) < launch.tasks)
            if slot is None:
                raise deadlock(launch.program, turns.waiting.values(), launch.grid, turns.most)
        if self.fault is not None:
            raise self.fault[1]

    def prints(self) -> tuple[Print, ...]:
        """What programs have printed, in their order; after a fault, up to the first program that has one."""
        said = [each for cores in self.tasks for core in cores for each in core.prints]
        said.sort(key=lambda each: each.program[::-1])
        if self.fault is None:
            return tuple(said)
        last = self.launch.program_id(self.fault[0])[::-1]
        return tuple(each for each in said if each.program[::-1] <= last)

    def _one_after_another(self) -> Generator[Pause | None]:
        """Tasks that no one has taken; yields where one pauses, and None where it ends."""
        launch, machine = self.launch, self.launch.machine
        # Of resident tasks a later one may serve an earlier program than the one that has faulted.
        while (task := len(self.tasks)) < (launch.tasks if self.fault is None else min(launch.tasks, self.fault[0])):
            sram = OnChipMemory.of(machine.sram_bytes)
            cores = [
                Core(
                    launch,
                    task,
                    member,
                    OnChipMemory.of(machine.nram_bytes),
                    OnChipMemory.of(machine.wram_bytes),
                    sram,
                )
                for member in range(launch.program.cores_per_program)
            ]
            self.tasks.append(cores)
            try:
                for position, (unchanged, attempt) in _run_together(cores, self.step_limit):
                    yield Pause(task, position - 1, unchanged, attempt)
            except KernelFault as error:
                if self.fault is None or cores[0].served < self.fault[0]:
                    self.fault = cores[0].served, error
                if not launch.program.is_resident:
                    raise
            for core in cores:
                core.forget()
            yield None


_Stop = tuple[int, tuple[bool, int]]


def _run_together(cores: list[Core], step_limit: int | None) -> Generator[_Stop]:
    """Run the cores of one program from barrier to barrier; yields what they pause for, and where."""
    running = [(core, _steps(core, step_limit)) for core in cores]
    while running:
        waiting: list[tuple[Core, Generator[int]]] = []
        for core, steps in running:
            for position in steps:
                if core.instruction.row.name == "barrier.cluster":
                    waiting.append((core, steps))
                    break
                yield position, core.pause
        if 0 < len(waiting) < len(cores):
            waiting[0][0].fail(
                "E0306", f"{len(waiting)} of {len(cores)} cores wait at a barrier, the others have ended"
            )
        running = waiting


def _steps(core: Core, step_limit: int | None) -> Generator[int]:
    """Run a core to its end; yields its position at each barrier and pause."""
    instructions = core.launch.program.instructions
    count = 0
    while True:
        core.instruction = instruction = instructions[core.position]
        core.trace.instruction = core.position
        core.position += 1
        _execute(core)
        if instruction.row.name in ("barrier.cluster", "pause"):
            yield core.position
        if instruction.row.name == "exit":
            return
        count += 1
        if count == step_limit:
            core.fail("E0310", f"the program has run {count} instructions and has not ended")


def _execute(core: Core) -> None:
    """Run the current instruction and account for its time."""
    step = Step(core, core.instruction)
    row, number = core.instruction.row, core.trace.instruction
    core.launch.executions[number] += 1
    core.trace.issue(core.launch.issue_cycles[number])
    if not step.is_idle:
        step.resolve()
        if step.touches and (clash := first_clash(step.touches, core.chain)):
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
