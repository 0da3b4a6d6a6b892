"""Runs native programs on host threads, and joins what these leave: traces, counters, prints, faults."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlutriton.dtypes import I8, host_address
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import (
    BASIC_FUNCTIONS,
    BASIC_TABLE,
    CONCATENATE,
    FULL,
    HOST_FUNCTIONS,
    PREPARE_AGAIN,
    PRINT_WORDS,
    PROGRAM_TABLE,
    REPEATS,
    RUN,
    RUN_TOGETHER,
    RUNTIME_FUNCTIONS,
    STOP,
    SUM_UP,
    SUMMARY_WORDS,
    Context,
    Fault,
    Summary,
    special_functions,
)
from mlutriton.isa.program import Program
from mlutriton.simulator.counted_work import CountedWork, WorkTerms
from mlutriton.simulator.host_core import CACHE_LINE_WORDS, HostCore, core_sizes, int64_array, kept_bytes
from mlutriton.simulator.host_worker import give_back, take_worker
from mlutriton.simulator.interpreter.state import from_bytes
from mlutriton.simulator.memory import GlobalMemory
from mlutriton.simulator.native import NativeModule
from mlutriton.simulator.native_faults import endless, fault_of, position
from mlutriton.simulator.prints import Print, handed_over, show
from mlutriton.simulator.replay import Trace
from mlutriton.simulator.shared_trace import TraceSharer
from mlutriton.simulator.touched_memory import TouchedMemory, goes_by_item
from mlutriton.simulator.turns import TurnTaking, deadlock

# Programs that a thread takes at a time: few enough to keep all threads busy to the end, many enough not to meet.
_CHUNKS_PER_THREAD = 16
_MAXIMUM_CHUNK = 64
# Programs that the calling thread may run itself: over before anyone could want to interrupt them. They have no loops
# but that over the programs of a task.
_SHORT_PROGRAMS = 1024
# Work that is done before other threads would have begun to share it.
_HANDOVER_NS = 100_000
_INTERRUPT_NS = 100_000_000
# Work of all threads that nobody will want to interrupt.
_SOON_NS = 50_000_000
# Of a program, launches of different kinds of which it is known how long they took.
_MOST_LIKENESSES = 64
# Tasks that run before anyone looks how much they record, and how much is recorded before programs share it.
_FIRST_TASKS = 4096
_PART_BYTES = 1 << 22
_LIMIT_WORD = 16
_SHARED_WORDS = 32
_PROGRAM_OF_FAULT = Context.FAULT_PROGRAM - Context.FAULT


# The module of a special function, or that of the basic ones.
Runtime = Callable[[str | None], NativeModule]


class Likeness:
    """Launches of a program that take equally long, unless that depends on data.

    Attributes:
        busy_ns: time of the processor that the last one took which went to its end; None before the first.
    """

    __slots__ = ("busy_ns",)

    def __init__(self) -> None:
        self.busy_ns: int | None = None


class NativeProgram:
    """A translated program and the runtime that it calls, loaded.

    Attributes:
        program: what was translated.
        basic: the runtime's basic functions.
        run: runs programs of a launch; takes the address of a thread's context.
        run_address: of the runtime function behind it, which takes the address of what runs one task too.
        work_terms: how work by instruction follows from what it counts, and the address of what runs one task.
        concatenate: the runtime function that joins the traces of threads.
        repeats: the one that says whether they would be joined to the same.
        prepare_again: the one that prepares contexts for a launch like the one before.
        sum_up: the one that adds up what is in them.
        runtime_table: addresses of the runtime functions.
        has_atomics: true if results may depend on the order of programs.
        goes_by_item: true if it computes values of items of DRAM.
        has_waits: true if programs may wait for one another.
        has_prints: true if programs may print.
        program_ns: host time of one program in the last launch; None before the first.
    """

    def __init__(
        self,
        module: NativeModule,
        runtime: Runtime,
        program: Program,
        *,
        with_values: bool = True,
        depends_on_data: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take over what was compiled.

        Args:
            module: the code.
            runtime: gives what it calls.
            program: what was translated.
            with_values: whether it computes values.
            depends_on_data: whether how long a launch takes may depend on what it loads; asked once, if at all.
        """
        self.program = program
        basic = runtime(None)
        basic.find_all(BASIC_TABLE, (*BASIC_FUNCTIONS, *HOST_FUNCTIONS))
        name = RUN if program.cores_per_program == 1 else RUN_TOGETHER
        self.basic, self.run_address = basic, basic.address(name)
        self.work_terms = WorkTerms(program, module.address(PROGRAM_TABLE))
        run_tasks, task = basic.function(name, [ctypes.c_void_p] * 2), self.work_terms.task_address
        self.run: Callable[[int], None] = lambda context: run_tasks(context, task)
        called = {name: runtime(name) for name in special_functions(program) if with_values}
        self._modules = module, called  # the code lives as long as they do
        join = [ctypes.c_void_p] * 6 + [ctypes.c_int64]
        self.concatenate: Any = basic.function(CONCATENATE, join)
        self.repeats: Any = basic.function(REPEATS, join, ctypes.c_int64)
        again = [ctypes.c_void_p, *[ctypes.c_int64] * 6]
        self.prepare_again: Any = basic.function(PREPARE_AGAIN, again, ctypes.c_int64)
        self.sum_up: Any = basic.function(SUM_UP, [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p])
        addresses = {name: basic.address(name) for name in BASIC_FUNCTIONS}
        addresses |= {name: special.address(name) for name, special in called.items()}
        self.runtime_table = int64_array([addresses.get(name, 0) for name in RUNTIME_FUNCTIONS])
        self.goes_by_item = with_values and goes_by_item(program)
        self.has_atomics = any(each.row.trace.startswith("ATOMIC") for each in program.instructions)
        self.has_waits = any(each.row.name == "pause" for each in program.instructions)
        self.has_prints = any(each.row.name.startswith("print.") for each in program.instructions)
        self.program_ns: float | None = None
        self._numbers = [index for index, each in enumerate(program.parameters) if not each.pointer]
        self._kept: list[_Launch] = []
        self._depends_on_data = depends_on_data
        self._likenesses: dict[tuple[object, ...], Likeness] = {}
        self._last_likeness: tuple[object, object, Likeness] = None, None, Likeness()
        self._last_trace: _KeptTrace | None = None

    @cached_property
    def _repeats_itself(self) -> bool:
        return not self._depends_on_data()

    def is_done_before_shared(self, likeness: Likeness, programs: int) -> bool:
        """True if one thread is known to run a launch before another would have begun.

        A launch like it says more than what a program took in the last one: of a single program most of that is what
        any launch takes.
        """
        busy_ns = likeness.busy_ns
        if busy_ns is None:
            busy_ns = _HANDOVER_NS if self.program_ns is None else programs * self.program_ns
        return busy_ns < _HANDOVER_NS

    def is_over_soon(self, likeness: Likeness) -> bool:
        """True if a launch like this one was over before anyone could want to interrupt it."""
        return likeness.busy_ns is not None and likeness.busy_ns < _SOON_NS and self._repeats_itself

    def likeness(self, grid: tuple[int, int, int], parameters: Sequence[int]) -> Likeness:
        """What is known of launches like this one; the parameters do not change afterwards."""
        last_grid, last_parameters, likeness = self._last_likeness
        if grid is not last_grid or parameters is not last_parameters:
            key = grid, *[parameters[index] for index in self._numbers]
            if len(self._likenesses) == _MOST_LIKENESSES and key not in self._likenesses:
                self._likenesses.clear()
            likeness = self._likenesses.setdefault(key, Likeness())
            self._last_likeness = grid, parameters, likeness
        return likeness

    def launch(self, grid: tuple[int, int, int], run: int, machine: Machine, threads: int) -> _Launch:
        """A launch of so many tasks; the last one again, if it was like this one."""
        try:
            kept = self._kept.pop()
        except IndexError:
            return _Launch(self, grid, run, machine, threads)
        return kept if kept.fits(grid, run, machine, threads) else _Launch(self, grid, run, machine, threads)

    def keep(self, launch: _Launch) -> None:
        """Keep a launch that is over for the next one."""
        if launch.can_be_kept and not self._kept:
            self._kept.append(launch)

    def repeated_trace(self, recorded_bytes: int, *recorded: int) -> Trace | None:
        """The trace of the last launch, if this one has the same records, for it may have been replayed.

        Args:
            recorded_bytes: of all records.
            recorded: what ``repeats`` takes of them, the number of rows last.
        """
        last = self._last_trace
        if last is None or last.recorded_bytes != recorded_bytes or last.rows != recorded[-1]:
            return None
        return last.trace if self.repeats(last.words_address, last.starts_address, *recorded) else None

    def trace(self, words: NDArray[np.int64], starts: NDArray[np.int64]) -> Trace:
        """The trace of a launch that has other records than the last one.

        Args:
            words: of all records.
            starts: the first record of each core of each program; they lie behind the words.
        """
        trace, address = Trace(words, starts, self.program.cores_per_program), host_address(words)
        kept = _KeptTrace(trace, words.nbytes, len(starts), address, address + words.nbytes)
        self._last_trace = kept if words.nbytes <= _PART_BYTES else None
        return trace

    def note(self, likeness: Likeness, programs: int, busy_ns: int) -> None:
        """Remember how long a launch took that went to its end."""
        likeness.busy_ns = busy_ns
        if programs:
            self.program_ns = busy_ns / programs


class _KeptTrace(NamedTuple):
    """The trace of a launch, and what the next one is compared by: plain numbers, which every launch asks for."""

    trace: Trace
    recorded_bytes: int
    rows: int
    words_address: int
    starts_address: int


class Execution(NamedTuple):
    """What a launch leaves behind apart from the bytes in memory; the same for any number of threads.

    Attributes:
        trace: the records of all programs, in their order.
        counters: work done, by ``Counter``.
        work: done by each instruction.
        prints: in program order.
        touched: DRAM that items touched; None if the program has none, or without values.
    """

    trace: Trace
    counters: tuple[int, ...]
    work: CountedWork
    prints: tuple[Print, ...]
    touched: TouchedMemory | None


def execute(
    native: NativeProgram,
    grid: tuple[int, int, int],
    parameters: Sequence[int],
    memory: GlobalMemory,
    machine: Machine,
    threads: int,
    first_tasks: int | None = None,
    printing_threads: int = 1,
) -> Execution:
    """Run every program of a grid.

    Args:
        native: the translated program.
        grid: extents, x first.
        parameters: the zero-extended bits of each kernel parameter.
        memory: the arrays that may be touched.
        machine: sizes of the memories.
        threads: the most host threads to use. Programs with atomics run in order on one; those that may wait for one
            another one at a time, on as many as the machine has cores.
        first_tasks: run only so many tasks, unless programs may wait for one another.
        printing_threads: how often values without indices are printed.

    Raises:
        KernelFault: the fault of the first program that has one.
    """
    program = native.program
    programs = grid[0] * grid[1] * grid[2]
    likeness = native.likeness(grid, parameters)
    is_short = (not program.labels or program.is_resident) and programs <= _SHORT_PROGRAMS
    is_over_soon = is_short or native.is_over_soon(likeness)
    if native.has_waits:
        threads = machine.cores // program.cores_per_program
    elif native.has_atomics or (is_over_soon and native.is_done_before_shared(likeness, programs)):
        threads = 1
    tasks = program.task_count(programs, machine.cores)
    run = tasks if first_tasks is None or native.has_waits else min(tasks, first_tasks)
    launch = native.launch(grid, run, machine, max(1, min(threads, run)))
    try:
        launch.begin(parameters, memory)
        busy_ns = launch.run(is_over_soon=is_over_soon)
        if run == tasks:
            native.note(likeness, programs, busy_ns)
        prints = launch.prints()
        if prints:
            show(prints, printing_threads)
        launch.raise_fault()
        result = launch.result(prints)
    finally:
        launch.release()
    native.keep(launch)
    return result


# What a container may take, as Linux tells it in versions 2 and 1 of its control groups.
_CONTAINER_LIMITS = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]


@cache
def recorded_bytes_limit() -> int:
    """Bytes that the traces of a launch may take: a quarter of the memory of the host, or of the container it is in."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max", there is no limit
            limits.append(int(path.read_text()))
    return min(limits) // 4


# Cores that no launch uses, by their sizes. Lists are appended to and popped by one thread at a time.
_idle_cores: dict[tuple[int, ...], list[HostCore]] = {}

_numbers = count()
_NO_MEMORY = GlobalMemory()


class _Launch:
    """The cores of a launch: one a thread, or of cluster programs those of one task a thread, the first one first.

    It serves one launch after another, as long as these differ only in their arguments: most of what a small launch
    takes is to begin and to end.
    """

    def __init__(
        self, native: NativeProgram, grid: tuple[int, int, int], run: int, machine: Machine, threads: int
    ) -> None:
        program = native.program
        self.native, self.grid, self._machine, self._threads = native, grid, machine, threads
        self._number = next(_numbers)
        self.count = run
        self.members = program.cores_per_program
        self.programs = grid[0] * grid[1] * grid[2]
        # First task that is not taken, first that is not to run: on cache lines of their own.
        self._shared = (ctypes.c_int64 * _SHARED_WORDS)()
        self._parameters = int64_array([0] * len(program.parameters))
        # Of large grids programs share records, which are kept from time to time.
        self._sharer: TraceSharer | None = None
        self._kept_tasks = 0
        self.cores: list[HostCore] = []
        self._provide_rows(run if native.has_waits else min(_FIRST_TASKS, run))
        # Each thread counts on cache lines of its own.
        self._thread_work = native.work_terms.counters + CACHE_LINE_WORDS
        self._work_words = ctypes.c_int64 * (threads * self._thread_work)
        # A thread leaves the rest of its chunk where a task has faulted; of resident ones each has to run.
        largest = 1 if program.is_resident or native.has_waits else _MAXIMUM_CHUNK
        chunk = max(1, min(largest, run // (threads * _CHUNKS_PER_THREAD)))
        # Cores of programs that wait are made when they are needed: most such programs never do.
        self._in_turns: TurnTaking | None = None
        if native.has_waits:
            self._in_turns = TurnTaking(threads, self._run_in_turns, self._has_more, self._stop)
        turn = ctypes.cast(self._in_turns.callback, ctypes.c_void_p).value if self._in_turns else 0
        shared = ctypes.addressof(self._shared)
        before = ctypes.addressof(self._parameters), *grid, shared, shared + 8 * _LIMIT_WORD, chunk
        tasks = program.task_count(self.programs, machine.cores)
        self._words = before, ctypes.addressof(native.runtime_table), (tasks, 0, turn or 0)
        sizes = core_sizes(machine)
        self._idle, self._sizes = _idle_cores.setdefault(sizes, []), sizes
        self._memories: list[GlobalMemory] = []
        # The cores of the launch before, and the number of what it touched.
        self._left: list[HostCore] = []
        self._left_memory = -1
        self._recorded_bytes_limit = recorded_bytes_limit() // (threads * self.members)
        self._kept_bytes = kept_bytes(self._recorded_bytes_limit)
        # Of all cores, in the order of threads.
        self._contexts = (ctypes.c_int64 * (threads * self.members))()
        self._contexts_address = ctypes.addressof(self._contexts)
        self._summary = (ctypes.c_int64 * SUMMARY_WORDS)()
        self._summary_address = ctypes.addressof(self._summary)

    def fits(self, grid: tuple[int, int, int], run: int, machine: Machine, threads: int) -> bool:
        """Whether it is made for such a launch."""
        return grid == self.grid and run == self.count and machine is self._machine and threads == self._threads

    @property
    def can_be_kept(self) -> bool:
        """Whether it can serve another launch."""
        return self._in_turns is None and self.count <= _FIRST_TASKS

    def begin(self, parameters: Sequence[int], memory: GlobalMemory) -> None:
        """Take what it needs to run with these arguments: parameters, and the arrays that may be touched."""
        self._parameters[:] = parameters
        self._memory = memory
        self._shared[_LIMIT_WORD] = self.count
        self._counted = self._work_words()
        self._work_address = ctypes.addressof(self._counted)
        self._touched = TouchedMemory(memory) if self.native.goes_by_item else None
        cores = [self._take_core() for _ in range((1 if self._in_turns else self._threads) * self.members)]
        if cores == self._left and self._touched is None and self._prepared_again():
            self.cores, self._memories = cores, [memory] * len(cores)
        else:
            for core in cores:
                self._prepare(core)

    def _take_core(self) -> HostCore:
        try:
            return self._idle.pop()
        except IndexError:
            return HostCore(self._sizes)

    def _prepared_again(self) -> bool:
        """Prepare its cores, if they are as the launch before has left them, which touched the same memory."""
        if self._left_memory != self._memory.number:
            return False
        numbers = len(self._left), self._number, self._kept_bytes, self._work_address, 8 * self._thread_work
        return bool(self.native.prepare_again(self._contexts_address, *numbers, self.members))

    def _work_of(self, thread: int) -> int:
        """Address of the counters of work of a thread."""
        return self._work_address + thread * 8 * self._thread_work

    def _provide_rows(self, stop: int) -> None:
        """Have a row for each core of each task before this one that is not kept: owner, and start and size of records.

        Native code finds rows by the number of the task, so that columns begin where that of the first task would be.
        """
        first = self._kept_tasks * self.members
        self._rows = rows = stop * self.members - first
        self._row_words = (ctypes.c_int64 * (3 * rows or 1))()
        owners = ctypes.addressof(self._row_words) - 8 * first
        self._columns = owners, owners + 8 * rows, owners + 16 * rows
        for core in self.cores:
            core.context[Context.OWNERS : Context.SIZES + 1] = self._columns

    def _prepare(self, core: HostCore) -> None:
        """Let a core be the next one: of the same thread as the one before, if that has not all of its cores."""
        thread, member = divmod(len(self.cores), self.members)
        sram = self.cores[thread * self.members].sram_address if member else core.sram_address
        self._contexts[len(self.cores)] = core.address
        self.cores.append(core)
        memory = self._memory
        if local_bytes := self.native.program.local_bytes:
            memory = core.with_local(memory, local_bytes)
        self._memories.append(memory)
        before, table, last = self._words
        touched = self._touched.addresses() if self._touched else (0, 0)
        flags = int(memory.is_disjoint), self._recorded_bytes_limit
        contexts = self._contexts_address + 8 * thread * self.members
        last = (*flags, self._work_of(thread), *touched, *last, memory.local_address, member, contexts)
        core.prepare((*before, thread, *self._columns, table), memory, last, self._number, sram)

    def run(self, *, is_over_soon: bool) -> int:
        """Run all programs, if they are over soon in this thread too; else apart, so that it can be interrupted.

        Returns:
            Nanoseconds that threads were busy; 0 where programs take turns.
        """
        if self._in_turns is not None:
            self._in_turns.run()
            self._sum_up()
            return 0
        busy_ns, begin, stop = 0, 0, min(_FIRST_TASKS, self.count)
        while True:
            self._shared[0], self._shared[_LIMIT_WORD] = begin, stop
            is_alone = is_over_soon and self._threads == 1
            busy_ns += self._run_thread(0) if is_alone else self._run_threads(takes_part=is_over_soon)
            self._sum_up()
            if self._summary[Summary.FAULTS] and self.native.program.is_resident:
                self._find_first_faults()
            if stop == self.count or self._shared[_LIMIT_WORD] != stop:
                return busy_ns
            recorded_bytes = self._recorded_bytes
            begin, tasks = stop, stop - self._kept_tasks
            if recorded_bytes > _PART_BYTES:
                self._keep_trace(stop)
            stop = min(stop + max(tasks * _PART_BYTES // max(recorded_bytes, 1), 1), self.count)
            before = [self._column(number).copy() for number in range(3)] if self._kept_tasks < begin else []
            self._provide_rows(stop)
            for number, rows in enumerate(before):
                self._column(number)[: len(rows)] = rows

    def _sum_up(self) -> None:
        self.native.sum_up(self._contexts_address, len(self.cores), self._summary_address)

    @property
    def _recorded_bytes(self) -> int:
        """Bytes of the traces that were not kept before the last tasks ran."""
        return self._summary[Summary.RECORDED_BYTES]

    def _keep_trace(self, stop: int) -> None:
        """Let the tasks before this one share their records, and record the next ones in the place of theirs."""
        self._sharer = self._sharer or TraceSharer(self.members)
        self._sharer.add(*self._joined(self._kept_tasks, stop))
        self._kept_tasks = stop
        for core in self.cores:
            core.context[Context.TRACE_NEXT] = core.context[Context.TRACE]

    def _joined(self, begin: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What threads have recorded of some tasks, in their order: words, and the first record of each core."""
        *_, rows = recorded = self._recorded(begin, stop)
        words = self._recorded_bytes // 8
        joined = np.empty(words + rows, np.int64)
        target = host_address(joined)
        self.native.concatenate(target, target + 8 * words, *recorded)
        return joined[:words], joined[words:]

    def _recorded(self, begin: int, stop: int) -> tuple[int, ...]:
        """Where native code finds what threads have recorded of some tasks: addresses, and how many rows there are."""
        before = 8 * begin * self.members
        columns = [column + before for column in self._columns]
        return self._contexts_address, *columns, (stop - begin) * self.members

    def _stop(self) -> None:
        self._shared[_LIMIT_WORD] = STOP

    def _has_more(self) -> bool:
        return self._shared[0] < self.count

    def _run_in_turns(self, number: int) -> bool:
        """Run programs as the core of that number; False after a fault."""
        if number == len(self.cores) // self.members:
            for _ in range(self.members):
                self._prepare(self._take_core())
        self.native.run(self.cores[number * self.members].address)
        return self._faulted(number) is None

    def _faulted(self, thread: int) -> HostCore | None:
        """The core of a thread that has a fault."""
        cores = self.cores[thread * self.members : (thread + 1) * self.members]
        return next((core for core in cores if core.context[Context.FAULT] != Fault.NONE), None)

    def _run_thread(self, thread: int) -> int:
        # Time of the processor: what others take of it says nothing about the next launch.
        start = time.thread_time_ns()
        self.native.run(self.cores[thread * self.members].address)
        return time.thread_time_ns() - start

    def _find_first_faults(self) -> None:
        """Where tasks serve several programs, see that each thread has the fault of the first one that has any."""
        for thread in range(self._threads):
            if (core := self._faulted(thread)) is not None:
                self._find_first_fault(thread, core)

    def _find_first_fault(self, thread: int, core: HostCore) -> None:
        """Run the tasks that remain: though they begin with later programs, they may serve earlier ones."""
        first, words = core, core.context[Context.FAULT : Context.DISJOINT]
        faulted: HostCore | None = core
        while faulted is not None and faulted.context[Context.FAULT] != Fault.STOPPED:
            found = faulted.context[Context.FAULT : Context.DISJOINT]
            if found[_PROGRAM_OF_FAULT] < words[_PROGRAM_OF_FAULT]:
                first, words = faulted, found
            faulted.context[Context.FAULT] = Fault.NONE
            self.native.run(self.cores[thread * self.members].address)
            faulted = self._faulted(thread)
        if faulted is None:
            first.context[Context.FAULT : Context.DISJOINT] = words

    def _run_threads(self, *, takes_part: bool) -> int:
        """Nanoseconds that threads were busy, the calling one among them if it takes part."""
        native, helped = self.native, range(int(takes_part), self._threads)
        workers = [take_worker(native.basic) for _ in helped]
        try:
            for thread, worker in zip(helped, workers, strict=True):
                core = self.cores[thread * self.members]
                worker.begin(native.run_address, core.address, native.work_terms.task_address)
            busy_ns = self._run_thread(0) if takes_part else 0
            for worker in workers:
                # An interrupt may arrive without a signal that would end a wait without limit.
                while not worker.has_ended(_INTERRUPT_NS):
                    pass
        except BaseException:
            self._stop()
            for worker in workers:
                while not worker.has_ended(_INTERRUPT_NS):
                    pass
            raise
        finally:
            for worker in workers:
                give_back(worker)
        return busy_ns + sum(worker.busy_ns for worker in workers)

    def raise_fault(self) -> None:
        """Raise the fault of the first program that has one."""
        if self._shared[_LIMIT_WORD] == self.count and not self._summary[Summary.FAULTS]:
            return
        each = ((core.context, memory) for core, memory in zip(self.cores, self._memories, strict=True))
        faulted = [(context, memory) for context, memory in each if context[Context.FAULT] != Fault.NONE]
        if self._in_turns is not None and self._in_turns.deadlocked:
            raise deadlock(self.native.program, self._in_turns.deadlocked, self.grid, self._in_turns.turns.most)
        if self._shared[_LIMIT_WORD] == FULL:
            raise endless(self.native.program, [context for context, _ in faulted], recorded_bytes_limit())
        if self._in_turns is not None:  # programs that wait are stopped once another has a fault
            faulted = [pair for pair in faulted if pair[0][Context.FAULT] != Fault.STOPPED]
        if faulted:
            context, memory = min(faulted, key=lambda pair: pair[0][Context.FAULT_PROGRAM])
            raise fault_of(self.native.program, self.grid, memory, context)

    def result(self, prints: tuple[Print, ...]) -> Execution:
        """Join what the threads have written."""
        if self._sharer is None:
            trace = self.native.repeated_trace(self._recorded_bytes, *self._recorded(0, self.count))
            if trace is None:
                trace = self.native.trace(*self._joined(0, self.count))
        else:
            self._keep_trace(self.count)
            trace = self._sharer.trace()
        counters = tuple(self._summary[Summary.COUNTERS : SUMMARY_WORDS])
        return Execution(
            trace, counters, CountedWork(self.native.work_terms, self._counted, self._threads), prints, self._touched
        )

    def _column(self, number: int) -> NDArray[np.int64]:
        """A column of what was noted of each program that is not kept."""
        return np.frombuffer(memoryview(self._row_words), np.int64, self._rows, 8 * number * self._rows)

    def prints(self) -> tuple[Print, ...]:
        """What programs have printed, in their order; after a fault, up to the first program that has one."""
        if not self.native.has_prints:
            return ()
        printed = [core for core in self.cores if core.has_prints]
        if not printed:
            return ()
        faulted = [core.context[Context.FAULT_PROGRAM] for core in self.cores if core.context[Context.FAULT]]
        last = min(faulted, default=self.programs)
        found: list[tuple[int, Print]] = []
        program = self.native.program
        for core in printed:
            begin, end = core.context[Context.PRINTS], core.context[Context.PRINTS_NEXT]
            data = np.frombuffer(ctypes.string_at(begin, end - begin), np.uint8)
            place: int = 0
            while place < len(data):
                number, index, count = (int(word) for word in data[place : place + 8 * PRINT_WORDS].view(np.int64))
                instruction = program.instructions[index]
                dtype = instruction.dtypes[0] if count else I8
                place += 8 * PRINT_WORDS
                values = from_bytes(data[place : place + count * dtype.bytes].copy(), dtype)
                place += -(-count * dtype.bytes // 8) * 8
                found.append((number, handed_over(program, position(number, self.grid), instruction, values)))
        return tuple(each for number, each in sorted(found, key=lambda pair: pair[0]) if number <= last)

    def release(self) -> None:
        """Give back what was taken; the next launch takes the same core first, of which host caches may have a part."""
        self._idle.extend(reversed(self.cores))
        # Local memory is that of a core.
        self._left_memory = -1 if self.native.program.local_bytes else self._memory.number
        self._left, self.cores = self.cores, []
        self._memories, self._memory, self._touched = [], _NO_MEMORY, None
