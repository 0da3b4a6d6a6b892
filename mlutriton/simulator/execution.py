"""Runs native programs: host threads, memory images of cores, traces, faults."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.diagnostics import ArgumentError, KernelFault, ProgramError
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import (
    ALLOCATION_WORDS,
    CONCATENATE,
    CONTEXT_WORDS,
    ENTRY,
    FULL,
    PRINT_WORDS,
    RUNTIME_FUNCTIONS,
    SCRATCH_EXPANSION,
    SLACK_BYTES,
    STOP,
    WRAM_EXPANSION,
    Context,
    Counter,
    Fault,
)
from mlutriton.isa.operands import Address
from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.trace_format import RECORD_WORDS
from mlutriton.simulator.interpreter_state import FAULT_HELP, Print, from_bytes, global_action
from mlutriton.simulator.memory import GlobalMemory
from mlutriton.simulator.native import NativeModule
from mlutriton.simulator.replay import Trace

Words = NDArray[np.int64]

THREADS_VARIABLE = "MLUTRITON_THREADS"
# Programs that a thread takes at a time: few enough to keep all threads busy to the end, many enough not to meet.
_CHUNKS_PER_THREAD = 16
_MAXIMUM_CHUNK = 64
# Programs without loops that the calling thread runs itself: over before anyone could want to interrupt them.
_SHORT_PROGRAMS = 1024
_INTERRUPT_SECONDS = 0.1
_LIMIT_WORD = 16
_FIRST_BUFFER_BYTES = 1 << 16
_ALIGNMENT = 64
_IMAGES = (Context.NRAM, Context.WRAM, Context.SRAM, Context.SCRATCH)


class NativeProgram:
    """A translated program and the runtime that it calls, loaded."""

    def __init__(self, module: NativeModule, runtime: NativeModule) -> None:
        self._runtime = runtime
        self._module = module
        self.run = module.function(ENTRY, [ctypes.c_void_p])

    @cached_property
    def runtime_table(self) -> Words:
        """Addresses of the runtime functions."""
        return np.array([self._runtime.address(name) for name in RUNTIME_FUNCTIONS], np.uint64).view(np.int64)

    @cached_property
    def concatenate(self) -> Any:
        """The runtime function that joins the traces of threads."""
        return self._runtime.function(CONCATENATE, [ctypes.c_void_p] * 5 + [ctypes.c_int64])


@dataclass(frozen=True)
class Execution:
    """What a launch leaves behind apart from the bytes in memory; the same for any number of threads.

    Attributes:
        trace: the records of all programs, in their order.
        counters: work done, by ``Counter``.
        prints: in program order.
    """

    trace: Trace
    counters: tuple[int, ...]
    prints: tuple[Print, ...]


def thread_count() -> int:
    """Host threads of a launch: ``MLUTRITON_THREADS``, else one for each core.

    Raises:
        ArgumentError: E0107 if the variable is not a positive integer.
    """
    chosen = os.environ.get(THREADS_VARIABLE)
    if not chosen:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not chosen.isdigit() or not int(chosen):
        raise ArgumentError("E0107", f"{THREADS_VARIABLE} is {chosen!r}; expected a positive integer")
    return int(chosen)


def execute(
    native: NativeProgram,
    program: Program,
    grid: tuple[int, int, int],
    parameters: Sequence[int],
    memory: GlobalMemory,
    machine: Machine,
    threads: int | None = None,
) -> Execution:
    """Run every program of a grid.

    Args:
        native: the translation of ``program``.
        program: what runs, for messages.
        grid: extents, x first.
        parameters: the zero-extended bits of each kernel parameter.
        memory: the arrays that may be touched.
        machine: sizes of the memories.
        threads: host threads; None means ``thread_count()``. Programs with atomics run in order on one.

    Raises:
        KernelFault: the fault of the first program that has one.
        ProgramError: E0402 for a program that runs on a whole cluster.
    """
    if program.cores_per_program != 1:
        raise ProgramError("E0402", f"program {program.name} runs on {program.cores_per_program} cores at once")
    count = grid[0] * grid[1] * grid[2]
    wanted = 1 if has_atomics(program) else threads or thread_count()
    launch = _Launch(native, grid, parameters, memory, machine, max(1, min(wanted, count)))
    try:
        launch.run(is_short=not program.labels and count <= _SHORT_PROGRAMS)
        launch.raise_fault(program)
        return launch.result(program)
    finally:
        launch.release()


def has_atomics(program: Program) -> bool:
    """True if results may depend on the order of programs."""
    return any(instruction.row.trace.startswith("ATOMIC") for instruction in program.instructions)


@cache
def recorded_bytes_limit() -> int:
    """Bytes that the traces of a launch may take: a quarter of the host's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "mlutriton")


# Memory images, kept for the next launch by a machine of the same sizes.
_idle_images: dict[tuple[int, ...], list[list[NDArray[np.uint8]]]] = {}
_idle_lock = threading.Lock()


def _take_images(sizes: tuple[int, ...]) -> list[NDArray[np.uint8]]:
    with _idle_lock:
        idle = _idle_images.setdefault(sizes, [])
        if idle:
            return idle.pop()
    return [np.zeros(size + SLACK_BYTES, np.uint8) for size in sizes]


_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]


class _Launch:
    """The contexts of one launch, a row a thread."""

    def __init__(
        self,
        native: NativeProgram,
        grid: tuple[int, int, int],
        parameters: Sequence[int],
        memory: GlobalMemory,
        machine: Machine,
        threads: int,
    ) -> None:
        self.native, self.grid, self.memory = native, grid, memory
        self.count = grid[0] * grid[1] * grid[2]
        # First program that is not taken, first that is not to run: on cache lines of their own.
        self._shared = np.zeros(32, np.int64)
        self._shared[_LIMIT_WORD] = self.count
        self._programs = np.zeros((3, max(1, self.count)), np.int64)
        self._parameters = np.array([value & (1 << 64) - 1 for value in (*parameters, 0)], np.uint64)
        self._allocations = memory.table if len(memory.table) else np.zeros((1, ALLOCATION_WORDS), np.int64)
        self._sizes = (
            machine.nram_bytes,
            machine.wram_bytes * WRAM_EXPANSION,
            machine.sram_bytes,
            machine.nram_bytes * SCRATCH_EXPANSION,
        )
        self._images = [_take_images(self._sizes) for _ in range(threads)]
        self.contexts = np.zeros((threads, CONTEXT_WORDS + 8), np.int64)
        chunk = max(1, min(_MAXIMUM_CHUNK, self.count // (threads * _CHUNKS_PER_THREAD)))
        common = {
            Context.PARAMETERS: self._parameters.ctypes.data,
            Context.GRID_X: grid[0],
            Context.GRID_Y: grid[1],
            Context.GRID_Z: grid[2],
            Context.NEXT: self._shared.ctypes.data,
            Context.LIMIT: self._shared.ctypes.data + _LIMIT_WORD * 8,
            Context.CHUNK: chunk,
            Context.OWNERS: self._programs[0].ctypes.data,
            Context.STARTS: self._programs[1].ctypes.data,
            Context.SIZES: self._programs[2].ctypes.data,
            Context.RUNTIME: native.runtime_table.ctypes.data,
            Context.ALLOCATIONS: self._allocations.ctypes.data,
            Context.ALLOCATION_COUNT: len(self._allocations),
            Context.RECORDED_BYTES: recorded_bytes_limit() // threads,
            Context.DISJOINT: int(memory.is_disjoint),
        }
        for word, value in common.items():
            self.contexts[:, word] = value
        for thread, images in enumerate(self._images):
            context = self.contexts[thread]
            context[Context.THREAD] = thread
            for word, image in zip(_IMAGES, images, strict=True):
                context[word] = image.ctypes.data
            for word in (Context.TRACE, Context.PRINTS):
                begin = _libc.malloc(_FIRST_BUFFER_BYTES)
                context[word : word + 3] = begin, begin, begin + _FIRST_BUFFER_BYTES // 24 * 24

    def run(self, *, is_short: bool) -> None:
        """Run all programs; those that take long run apart from this thread, so that it can be interrupted."""
        addresses = [row.ctypes.data for row in self.contexts]
        if is_short and len(addresses) == 1:
            self.native.run(addresses[0])
            return
        running = [_workers(len(addresses)).submit(self.native.run, address) for address in addresses]
        try:
            # An interrupt may arrive without a signal that would end a wait without limit.
            while wait(running, _INTERRUPT_SECONDS).not_done:
                pass
        except BaseException:
            self._shared[_LIMIT_WORD] = STOP
            wait(running)
            raise

    def raise_fault(self, program: Program) -> None:
        """Raise the fault of the first program that has one."""
        faulted = self.contexts[self.contexts[:, Context.FAULT] != Fault.NONE]
        if self._shared[_LIMIT_WORD] == FULL:
            raise _endless(program, faulted)
        if len(faulted):
            row = faulted[faulted[:, Context.FAULT_PROGRAM].argmin()]
            raise _fault(program, self.grid, self.memory, row)

    def result(self, program: Program) -> Execution:
        """Join what the threads have written."""
        owners, starts, sizes = self._programs[:, : self.count]
        words = np.empty(int(sizes.sum()) // 8, np.int64)
        traces = self.contexts[:, Context.TRACE].copy()
        self.native.concatenate(
            words.ctypes.data, traces.ctypes.data, owners.ctypes.data, starts.ctypes.data, sizes.ctypes.data, self.count
        )
        records = sizes // (8 * RECORD_WORDS)
        begin = Context.COUNTERS
        counters = self.contexts[:, begin : begin + len(Counter)].sum(axis=0)
        return Execution(
            Trace(words, np.cumsum(records) - records), tuple(int(value) for value in counters), self._prints(program)
        )

    def _prints(self, program: Program) -> tuple[Print, ...]:
        found: list[tuple[int, Print]] = []
        for context in self.contexts:
            begin, end = int(context[Context.PRINTS]), int(context[Context.PRINTS_NEXT])
            data = np.frombuffer(ctypes.string_at(begin, end - begin), np.uint8)
            place: int = 0
            while place < len(data):
                number, index, count = (int(word) for word in data[place : place + 8 * PRINT_WORDS].view(np.int64))
                instruction = program.instructions[index]
                dtype = instruction.dtypes[0]
                place += 8 * PRINT_WORDS
                values = from_bytes(data[place : place + count * dtype.bytes].copy(), dtype)
                place += -(-count * dtype.bytes // 8) * 8
                found.append((number, Print(_position(number, self.grid), _message(program, instruction), values)))
        return tuple(each for _, each in sorted(found, key=lambda pair: pair[0]))

    def release(self) -> None:
        """Give back what was taken."""
        for begin in (*self.contexts[:, Context.TRACE].tolist(), *self.contexts[:, Context.PRINTS].tolist()):
            _libc.free(begin)
        with _idle_lock:
            _idle_images[self._sizes].extend(self._images)


def _endless(program: Program, stopped: Words) -> KernelFault:
    """The error of a launch that has recorded more than there is room for; ``stopped`` are the threads in loops."""
    places = [program.instructions[int(row[Context.FAULT_INSTRUCTION])].location for row in stopped]
    return KernelFault(
        "E0310",
        f"the trace of {program.name} has grown beyond {recorded_bytes_limit():,} bytes",
        location=places[0] if places else None,
        note="a quarter of the host's memory is for traces; every transfer of every program takes 24 bytes or more",
        help="see that the loop here ends: that its step is not 0; else launch fewer programs at a time",
    )


def _position(number: int, grid: tuple[int, int, int]) -> tuple[int, int, int]:
    return number % grid[0], number // grid[0] % grid[1], number // (grid[0] * grid[1])


def _message(program: Program, instruction: Instruction) -> str:
    index = instruction.operand("message")
    return program.strings[int(str(index))]


def _fault(program: Program, grid: tuple[int, int, int], memory: GlobalMemory, context: Words) -> BaseException:
    """The error of a fault, in the words of the interpreter."""
    fault = Fault(int(context[Context.FAULT]))
    if fault is Fault.STOPPED:
        return KeyboardInterrupt()
    index = int(context[Context.FAULT_INSTRUCTION])
    instruction = program.instructions[index]
    address = int(context[Context.FAULT_ADDRESS]) & (1 << 64) - 1
    size = int(context[Context.FAULT_BYTES])
    where = f"{program.name}, program {_position(int(context[Context.FAULT_PROGRAM]), grid)}"
    note = f"instruction {index}: {instruction}"
    if fault in (Fault.OUTSIDE, Fault.READ_ONLY):
        action = global_action(instruction.row)
        return memory.fault(address, size, action, location=instruction.location, context=where, note=note)
    offset = int(context[Context.FAULT_ADDRESS])
    match fault:
        case Fault.ASSERTION:
            code, fact = "E0305", f"assertion failed: {program.strings[offset]}"
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
