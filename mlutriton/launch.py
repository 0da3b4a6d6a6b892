"""A launch: a program, a grid and the values of its parameters in; a run out.

Nothing here knows Triton or the compiler of kernels: a program file runs without either.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import struct
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cache, cached_property, partial
from operator import index
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from mlutriton.codegen.llvm.control_flow import disjoint_flags
from mlutriton.codegen.llvm.dependence import depends_on_data
from mlutriton.codegen.llvm.untaken_versions import LaunchNumbers, Reach, asked_reaches, untaken_versions
from mlutriton.configuration import LAUNCHES_VARIABLE, Engine, engine, source_hash, threads
from mlutriton.diagnostics import ArgumentError, CompileError, KernelFault
from mlutriton.dtypes import F16, F32, F64, DType
from mlutriton.frontend.array_specs import Spec, described_together
from mlutriton.frontend.followed_addresses import followed_arrays
from mlutriton.isa.encoding import decode, encode, kept_program
from mlutriton.isa.legality import check
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import product_functions, special_functions
from mlutriton.isa.program import FOLLOWS_ADDRESSES, MULTIPLES, VERSIONS, WRITES, Parameter, Program
from mlutriton.isa.trace_format import RECORD_WORDS
from mlutriton.simulator import interpreter
from mlutriton.simulator.compiling import compiling, uncollected
from mlutriton.simulator.execution import NativeProgram, execute
from mlutriton.simulator.launch_journal import LaunchJournal
from mlutriton.simulator.memory import Allocation, GlobalMemory
from mlutriton.simulator.native import (
    CACHE_DIRECTORY_VARIABLE,
    LlvmText,
    NativeModule,
    begin_llvm,
    begin_part,
    cache_directory,
    compile_llvm,
)
from mlutriton.simulator.replay import Trace, schedule_bound
from mlutriton.simulator.report import Run as Run
from mlutriton.waiting import working

Grid = tuple[int, int, int]

_NONE = frozenset[int]()
_INTERPRETER = Engine.INTERPRETER
# Launches of a program with different numbers after which others get all of its versions: to find out what each of them
# takes would last longer than to compile the rest.
_MOST_NUMBERS = 16


class Pointer(Protocol):
    """A pointer argument: an address, and the bytes that may be reached through it.

    Attributes:
        owner: what keeps the memory alive; a ``Spec`` where there is no memory.
        address: what the kernel receives.
        first_address: of the lowest byte that may be touched.
        bytes: how many bytes from there on may be touched.
        writable: whether they may be written.
    """

    owner: object
    address: int
    first_address: int
    bytes: int
    writable: bool


def estimate(kernel: Any, grid: Any, *arguments: object, **keywords: object) -> Run:
    """Launch a kernel for its cycles alone: no value is computed, and arrays are neither read nor written.

    Args:
        kernel: what could be launched as ``kernel[grid](*arguments, **keywords)``.
        grid: as for a launch.
        arguments: as for a launch, with ``spec(shape, dtype)`` in the place of arrays; an array stands for its spec,
            and arrays that share memory are taken to do so here too.
        keywords: likewise.

    Raises:
        ArgumentError: E0112, there is no kernel.
        CompileError: E0108, what the kernel does depends on values that it loads.
    """
    if not hasattr(kernel, "__getitem__"):
        kind = type(kernel).__name__
        raise ArgumentError("E0112", f"a {kind} is no kernel", help="decorate the function with @mlu.jit")
    specs = described_together([*arguments, *keywords.values()])
    named = dict(zip(keywords, specs[len(arguments) :], strict=True))
    return kernel[grid](*specs[: len(arguments)], **named)


class LoadedKernel:
    """A program that is ready to run on a machine; native code is compiled when it is first needed.

    On disk it ``is_kept``, unless the program will not be run by another process.

    Attributes:
        program: the program.
        machine: the machine that it runs on.
    """

    def __init__(self, program: Program, machine: Machine, content: bytes, *, is_kept: bool = True) -> None:
        check(program, machine)
        self.program = program
        self.machine = machine
        self._key = f"{hashlib.sha256(content).hexdigest()} {machine.content_hash} {source_hash()}"
        self._is_kept = is_kept
        self._natives: dict[tuple[bool, bool, frozenset[int]], NativeProgram] = {}
        self._has_versions = VERSIONS in program.metadata
        self._untaken: dict[tuple[object, ...], frozenset[int]] = {}
        self._encoders = tuple(_encoder(parameter) for parameter in program.parameters)
        self._pointers = tuple(index for index, each in enumerate(program.parameters) if each.pointer)
        self._numbers = tuple(index for index, each in enumerate(program.parameters) if not each.pointer)
        self._multiples = cast("Sequence[tuple[int, int]]", program.metadata.get(MULTIPLES, ()))
        # Launches repeat the same arrays more often than not. It holds no array alive.
        self._known_memory: tuple[list[tuple[int, int, bool]], GlobalMemory] | None = None

    def native(self, grid: Grid, words: Sequence[int], memory: GlobalMemory, *, with_values: bool) -> NativeProgram:
        """Native code for launches of a kind; it is compiled when such a launch is the first.

        Of a program with several versions it has those that the launch takes.

        Args:
            grid: programs of the launch along x, y and z.
            words: the 64-bit word of each parameter; those of pointers decide nothing.
            memory: that it may touch. Many programs have another version for arrays that share bytes.
            with_values: it computes values and leaves a trace; else it leaves the same trace and touches no array.

        Raises:
            CompileError: E0108, values are not wanted, and the trace of such launches depends on values that they load.
        """
        disjoint = memory.is_disjoint
        untaken = self._untaken_versions(grid, words, memory, with_values) if self._has_versions else _NONE
        kind = with_values, disjoint or not self._asks_for_disjoint, untaken
        native = self._natives.get(kind)
        if native is None:
            native = self._natives[kind] = self._compiled(*kind)
        return native

    def _untaken_versions(
        self, grid: Grid, words: Sequence[int], memory: GlobalMemory, with_values: bool
    ) -> frozenset[int]:
        disjoint = memory.is_disjoint
        reaches = {each: memory.reach(words[each[0]] + each[1], stored=each[2]) for each in self._reaches}
        key = grid, disjoint, *reaches.values(), *[words[place] for place in self._numbers]
        untaken = self._untaken.get(key)
        if untaken is None:
            is_full = len(self._untaken) == _MOST_NUMBERS
            if is_full and (with_values or not self._may_depend_on_data):
                return _NONE
            tasks = self.program.task_count(math.prod(grid), self.machine.cores)
            untaken = untaken_versions(self.program, LaunchNumbers(grid, tasks, words, disjoint, reaches))
            if not is_full:
                self._untaken[key] = untaken
        return untaken

    @cached_property
    def _may_depend_on_data(self) -> bool:
        """Whether there is a version whose cycles are not known without values."""
        return depends_on_data(self.program) is not None

    @cached_property
    def _asks_for_disjoint(self) -> bool:
        return bool(disjoint_flags(self.program))

    @cached_property
    def _reaches(self) -> tuple[Reach, ...]:
        """What it asks of the ends of arrays."""
        return tuple(dict.fromkeys(asked_reaches(self.program).values()))

    def _compiled(self, with_values: bool, disjoint: bool, untaken: frozenset[int]) -> NativeProgram:
        dependent_place = partial(depends_on_data, self.program, disjoint=disjoint, untaken=untaken)
        location = None if with_values else dependent_place()
        if location is not None:
            raise CompileError(
                "E0108",
                f"{self.program.name} decides by values that it loads what it does next",
                location=location,
                note="without values its cycles are not known",
                help="launch it with arrays",
            )
        _check_cache_directory()
        if with_values:
            for function in special_functions(self.program):
                _begin_runtime(function)

        def text() -> LlvmText:
            # To load it takes a seventh of a process's first launch, and cached code needs none of it.
            from mlutriton.codegen.llvm.translate import translate

            return translate(
                self.program,
                self.machine,
                with_values=with_values,
                disjoint=disjoint,
                untaken=untaken,
                begin=begin_part,
            )

        with working(f"compiling {self.program.name}"), uncollected():
            module = compile_llvm(
                text,
                cache_key=f"{self._key} {with_values} {disjoint} {sorted(untaken)}" if self._is_kept else None,
            )
        return NativeProgram(
            module,
            runtime,
            self.program,
            with_values=with_values,
            depends_on_data=lambda: dependent_place() is not None,
        )

    def parameter_words(self, values: Sequence[Any]) -> list[int]:
        """The 64-bit word of each parameter.

        Raises:
            ArgumentError: E0101, a value has another type than its parameter; the program was compiled for multiples of
                a number, and it is none.
        """
        try:
            words = [encoder(value) for encoder, value in zip(self._encoders, values, strict=True)]
        except (AttributeError, TypeError, ValueError, OverflowError, struct.error):
            raise self._unencodable(values) from None
        for place, factor in self._multiples:
            if words[place] % factor:
                raise self._no_multiple(place, values[place], factor)
        return words

    def _no_multiple(self, place: int, value: object, factor: int) -> ArgumentError:
        name = self.program.parameters[place].name
        return ArgumentError(
            "E0101",
            f"the argument {name} is {value}, which is no multiple of {factor}",
            note="the program was compiled for an argument that is one, and may rest on it",
            help=f"compile it without the :{factor} in its signature, or for a value of {name} that is no multiple",
        )

    def _unencodable(self, values: Sequence[Any]) -> ArgumentError:
        for encoder, parameter, value in zip(self._encoders, self.program.parameters, values, strict=True):
            try:
                encoder(value)
            except (AttributeError, TypeError, ValueError, OverflowError, struct.error):
                expected = f"pointer to {parameter.dtype}" if parameter.pointer else str(parameter.dtype)
                return ArgumentError("E0101", f"the argument {parameter.name} is {value!r}; {expected} is expected")
        raise AssertionError("every value has a word")

    def memory(self, values: Sequence[Any]) -> GlobalMemory:
        """The host memory that the values point to; whoever calls keeps it alive."""
        key: list[tuple[int, int, bool]] = []
        for place in self._pointers:
            pointer = values[place]
            key.append((pointer.first_address, pointer.bytes, pointer.writable))
        known = self._known_memory
        if known is None or known[0] != key:
            written = cast("Sequence[int]", self.program.metadata.get(WRITES, self._pointers))
            allocations = (
                Allocation(each.name, *reach, dtype=each.dtype, written=index in written)
                for index, reach in zip(self._pointers, key, strict=True)
                for each in [self.program.parameters[index]]
            )
            known = self._known_memory = (key, GlobalMemory(allocations))
        return known[1]

    def only_cycles_wanted(self, values: Sequence[Any]) -> bool:
        """True if one of the arrays is not there."""
        for place in self._pointers:  # noqa: SIM110 - every launch asks
            if isinstance(values[place].owner, Spec):
                return True
        return False


def load(program_file: bytes, machine: Machine) -> LoadedKernel:
    """Load a program file.

    Raises:
        ProgramError: E0402, E0403 or E0404, it is corrupt, or not legal on the machine.
    """
    return LoadedKernel(kept_program(program_file) or decode(program_file), machine, program_file)


def load_program(program: Program, machine: Machine, *, is_kept: bool = True) -> LoadedKernel:
    """Load a program that is at hand; its native code is kept on disk, or not.

    Raises:
        ProgramError: E0402 or E0404, it is not legal on the machine.
    """
    return LoadedKernel(program, machine, encode(program), is_kept=is_kept)


# A process that follows its children tells them by the environment where to write what they launch.
_observers: list[Callable[[Run], None]] = [
    LaunchJournal(Path(directory)).add
    for directory in os.environ.get(LAUNCHES_VARIABLE, "").split(os.pathsep)
    if directory
]


@contextlib.contextmanager
def observed(observer: Callable[[Run], None]) -> Generator[None]:
    """While this lasts, show every run of this process to an observer, in the thread that launched it."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


_inspectors: list[Callable[[Launch], None]] = []


@contextlib.contextmanager
def inspected(inspector: Callable[[Launch], None]) -> Generator[None]:
    """While this lasts, show every launch of this process to an inspector before it is made, in its thread."""
    _inspectors.append(inspector)
    try:
        yield
    finally:
        _inspectors.remove(inspector)


def _no_text() -> str | None:
    return None


class Launch:
    """A kernel, a grid and the values of its parameters: what can be run, also several times.

    Arrays hold its values when ``run`` returns. It keeps none of them alive.

    Attributes:
        kernel: what is run.
        grid: programs along x, y and z.
        words: of each parameter.
        memory: that may be touched.
        with_values: false if only the cycles are wanted.
        text: what has Triton's text of the kernel, where there is one.
        can_be_repeated: whether to run it again is the same as another launch with equal numbers, and with arrays of
            the same bytes of the host. What is found by following addresses may lie elsewhere by then.
    """

    def __init__(
        self,
        kernel: LoadedKernel,
        grid: Grid,
        values: Sequence[Any],
        variant: str = "",
        printing_threads: int = 1,
        text: Callable[[], str | None] = _no_text,
    ) -> None:
        """Take over what is to be run.

        Args:
            kernel: what to run.
            grid: programs along x, y and z.
            values: one for each parameter of the program, in order: ``Pointer`` objects and numbers. If a pointer's
                owner is a ``Spec``, only the cycles are found.
            variant: what tells the program from others of its kernel, in words.
            printing_threads: how often a program prints what has no indices.
            text: what has Triton's text of the kernel.

        Raises:
            ArgumentError: E0101, a value does not fit its parameter.
        """
        self.kernel, self.grid, self._variant, self._printing_threads = kernel, grid, variant, printing_threads
        self.text = text
        self.words = kernel.parameter_words(values)
        self.memory = kernel.memory(values)
        self.with_values = not kernel.only_cycles_wanted(values)
        self.can_be_repeated = not (self.with_values and kernel.program.metadata.get(FOLLOWS_ADDRESSES))
        if not self.can_be_repeated:
            self.memory = _with_followed_arrays(self.memory, values)
        self._native: NativeProgram | None = None

    def run(self) -> Run:
        """Run it.

        Raises:
            ArgumentError: E0109, the environment is wrong.
            CompileError: E0108, only the cycles are wanted but depend on loaded values.
            KernelFault: the program did what the machine forbids.
        """
        for inspector in _inspectors:
            inspector(self)
        is_interpreted = self.with_values and engine() is _INTERPRETER
        try:
            run = self._interpreted() if is_interpreted else self._executed()
        except KernelFault as fault:
            self._blame(fault)
            raise
        except KeyboardInterrupt as stop:
            stop.add_note(f"  note: it ended the launch of {self.kernel.program.name} {self.grid} before its time")
            raise
        for observer in _observers:
            observer(run)
        return run

    def _blame(self, fault: KernelFault) -> None:
        """Let a fault name the program that has it, where others were served with it."""
        if not self.with_values or (text := self.text()) is None:
            return
        from mlutriton.faulting_program import faulting_program  # which has the compiler's front end, for faults alone

        place = faulting_program(fault, text, self.grid, self.words, self.memory)
        if place not in (None, fault.program):
            fault.program, fault.context = place, f"{self.kernel.program.name}, program {place}"

    def native(self) -> NativeProgram:
        """The code that it runs; it is compiled if no launch like it came before.

        Raises:
            CompileError: E0108, only the cycles are wanted but depend on loaded values.
        """
        native = self._native
        if native is None:
            with compiling:  # two threads may launch it for the first time
                native = self.kernel.native(self.grid, self.words, self.memory, with_values=self.with_values)
            self._native = native
        return native

    def _executed(self) -> Run:
        program, machine, native = self.kernel.program, self.kernel.machine, self.native()
        execution = execute(
            native, self.grid, self.words, self.memory, machine, threads(), printing_threads=self._printing_threads
        )
        return Run(
            program,
            machine,
            self.grid,
            execution.trace,
            execution.counters,
            execution.prints,
            self.with_values,
            execution.work.by_instruction,
            execution.touched,
            variant=self._variant,
        )

    def _interpreted(self) -> Run:
        program, machine = self.kernel.program, self.kernel.machine
        result = interpreter.run(
            program, self.grid, self.words, self.memory, machine, printing_threads=self._printing_threads
        )
        trace = Trace(result.trace_words, result.trace_starts[:-1] // RECORD_WORDS, program.cores_per_program)
        return Run(
            program,
            machine,
            self.grid,
            trace,
            None,
            result.prints,
            count_work=lambda: result.instruction_work,
            touched=result.touched,
            variant=self._variant,
        )


def launch(
    kernel: LoadedKernel, grid: Grid, values: Sequence[Any], variant: str = "", printing_threads: int = 1
) -> Run:
    """Run a kernel, as a ``Launch`` of these arguments does.

    Raises:
        ArgumentError: E0101, a value does not fit its parameter; E0109, the environment is wrong.
        CompileError: E0108, only the cycles are wanted but depend on loaded values.
        KernelFault: the program did what the machine forbids.
    """
    return Launch(kernel, grid, values, variant, printing_threads).run()


def _with_followed_arrays(memory: GlobalMemory, values: Sequence[object]) -> GlobalMemory:
    followed = [
        Allocation(f"array {number} behind an address", each.address, each.bytes, each.writable, each.owner)
        for number, each in enumerate(followed_arrays(values))
    ]
    return GlobalMemory([*memory.allocations, *followed])


def bound_of_first_tasks(kernel: LoadedKernel, grid: Grid, values: Sequence[Any], tasks: int) -> int:
    """Cycles that the launch does not fall below, known from a part of it: the schedule bound of its first tasks.

    Args:
        kernel: what to run, for its cycles alone.
        grid: programs along x, y and z.
        values: of its parameters, as for :func:`launch`.
        tasks: how many to run. A task is a program, or what serves several on one core.

    Raises:
        CompileError: E0108, the cycles depend on loaded values.
        KernelFault: one of the tasks did what the machine forbids.
    """
    words, memory = kernel.parameter_words(values), kernel.memory(values)
    with compiling:
        native = kernel.native(grid, words, memory, with_values=False)
    execution = execute(native, grid, words, memory, kernel.machine, threads(), first_tasks=tasks)
    return schedule_bound(execution.trace, kernel.machine)


def _check_cache_directory() -> None:
    """Refuse a cache directory that can never be one; one that merely cannot be written is only slow."""
    directory = cache_directory()
    if directory.exists() and not directory.is_dir():
        raise ArgumentError(
            "E0109",
            f"{CACHE_DIRECTORY_VARIABLE} is {str(directory)!r}, which is no directory",
            help="set it to a directory, which need not exist, or unset it",
        )


@cache
def warm_up() -> None:
    """Let another thread do, once a process, what a first launch waits for: compile the runtime, and wake LLVM up."""
    begin_llvm(partial(_runtime_module, None), cache_key=_runtime_key(None), wakes_up=True)


@cache
def _begin_runtime(function: str) -> None:
    """Let another thread compile a special function of the runtime, once a process, before it is asked for."""
    begin_llvm(partial(_runtime_module, function), cache_key=_runtime_key(function))


def begin_products(types: Iterable[DType]) -> None:
    """Let another thread compile what the runtime multiplies matrices with, for a program that is compiled meanwhile.

    Args:
        types: of the tensor unit, in which the program multiplies.
    """
    for name in [name for dtype in types for name in product_functions(dtype)]:
        _begin_runtime(name)


@cache
def runtime(function: str | None) -> NativeModule:
    """The runtime's module of a special function, or that of the basic ones."""
    return compile_llvm(partial(_runtime_module, function), cache_key=_runtime_key(function))


def _runtime_module(function: str | None) -> str:
    # As for what translates programs: cached code needs none of it.
    from mlutriton.codegen.llvm.runtime import basic_module, special_module

    return basic_module() if function is None else special_module(function)


def _runtime_key(function: str | None) -> str:
    return f"runtime {function} {source_hash()}"


def _encoder(parameter: Parameter) -> Callable[[Any], int]:
    if parameter.pointer:
        return _address
    dtype = parameter.dtype
    if dtype.is_bool:
        return lambda value: int(bool(value))
    if dtype.is_int:
        return _integer_encoder(dtype)
    return _float_encoder(dtype)


def _address(value: Pointer) -> int:
    return value.address


def _integer_encoder(dtype: DType) -> Callable[[Any], int]:
    mask = (1 << dtype.bits) - 1
    least = -(1 << dtype.bits - 1)

    def encode_integer(value: Any) -> int:
        number = index(value)
        if not least <= number <= mask:
            raise OverflowError
        return number & mask

    return encode_integer


_FLOAT_FORMATS = {F16: ("<e", "<H"), F32: ("<f", "<I"), F64: ("<d", "<Q")}


def _float_encoder(dtype: DType) -> Callable[[Any], int]:
    if dtype not in _FLOAT_FORMATS:
        # Types that struct does not know are rare as scalars.
        return lambda value: int.from_bytes(np.array(float(value)).astype(dtype.numpy).tobytes(), "little")
    pack, unpack = (struct.Struct(form) for form in _FLOAT_FORMATS[dtype])
    return lambda value: unpack.unpack(pack.pack(value))[0]
