"""Checks every launch of the process, before it is made, on a copy of what it may touch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from mlutriton.checking.findings import Findings, Grid
from mlutriton.checking.nonfinite import NonFinite
from mlutriton.checking.races import Region, WatchedMemory
from mlutriton.checking.turns import Turn, WaitingError, take_turns
from mlutriton.diagnostics import KernelFault
from mlutriton.faulting_program import argument_values
from mlutriton.frontend.importer import import_ttir
from mlutriton.frontend.ttir import parse_ttir
from mlutriton.ir.core import Array, Function, Operation
from mlutriton.ir.evaluator import evaluate, places_of
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.memory_ops import pointee
from mlutriton.ir.ops import AtomicCas, AtomicRmw, Load, Store, While
from mlutriton.launch import Launch, inspected

# A program that does more is not checked to its end.
MOST_OPERATIONS = 1_000_000

Progress = Callable[[str, int, int], None]
"""Is told a kernel, how many of its programs have been run, and how many there are."""


@dataclass
class Checks:
    """What has been checked, and found.

    Attributes:
        findings: in order.
        launches: how many launches were checked.
        passed_over: how many were not, by the reason.
    """

    findings: Findings = field(default_factory=Findings)
    launches: int = 0
    passed_over: dict[str, int] = field(default_factory=dict[str, int])

    def pass_over(self, reason: str) -> None:
        """Count a launch that is not checked."""
        self.passed_over[reason] = self.passed_over.get(reason, 0) + 1


class _Watch:
    """Shows the checks of a launch what its programs do."""

    def __init__(self, memory: WatchedMemory, numbers: NonFinite, kernel: str, programs: int, show: Progress) -> None:
        self._memory, self._numbers = memory, numbers
        self._kernel, self._programs, self._show = kernel, programs, show
        self._begun = self._operations = 0
        self._turn: Turn | None = None

    def take(self, turn: Turn) -> bool:
        """Let a program go on, and say whether it has ended."""
        self._turn = turn
        return turn.take()

    def begins(self, place: Grid) -> None:
        """A program begins."""
        self._show(self._kernel, self._begun, self._programs)
        self._begun += 1
        self._operations = 0
        self._memory.begins(place)
        self._numbers.begins(place)

    def performs(self, operation: Operation) -> None:
        """An operation is about to be performed."""
        self._operations += 1
        if self._operations > MOST_OPERATIONS or (self._turn is not None and self._turn.is_given_up):
            raise WaitingError
        self._memory.performs(operation)

    def performed(self, operation: Operation, operands: Sequence[Array], results: Sequence[Array]) -> None:
        """It has been."""
        self._numbers.performed(operation, operands, results)
        turn = self._turn
        if turn is not None and turn.waits(operation, results):
            operations, touched, numbers = self._operations, self._memory.progress, self._numbers.progress
            turn.pass_on()
            self._operations, self._memory.progress, self._numbers.progress = operations, touched, numbers


def _show_nothing(kernel: str, done: int, programs: int) -> None:
    pass


@contextlib.contextmanager
def checked(*, most_launches: int = 3, show: Progress = _show_nothing) -> Generator[Checks]:
    """Check the launches that are made while this lasts, also those of plain ``triton.jit`` kernels.

    Args:
        most_launches: how many of each kernel and grid are checked.
        show: is told how far a check has come.
    """
    checks = Checks()
    seen: dict[tuple[str, Grid], int] = {}

    def inspect(launch: Launch) -> None:
        key = launch.kernel.program.name, launch.grid
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > most_launches:
            checks.pass_over(f"launches of a kernel and grid beyond the first {most_launches}")
        else:
            _check(launch, checks, show)

    with inspected(inspect):
        yield checks


def _check(launch: Launch, checks: Checks, show: Progress) -> None:
    if not launch.with_values:
        checks.pass_over("launches for cycles alone")
        return
    text = launch.text()
    if text is None:
        checks.pass_over("launches of programs, which have no text of Triton")
        return
    function = import_ttir(parse_ttir(text))
    name, grid = launch.kernel.program.name, launch.grid
    memory, regions = _copied(launch)
    watched = WatchedMemory(memory, regions, _narrowest(function), grid, name, checks.findings)
    watch = _Watch(watched, NonFinite(name, checks.findings), name, grid[0] * grid[1] * grid[2], show)
    words = argument_values(function, launch.words)

    def run(places: Iterable[Grid] | None) -> None:
        evaluate(function, grid, words, watched, watch=watch, places=places)

    try:
        if any(isinstance(each, While) for each in function.walk()):
            take_turns((Turn(partial(run, [place])) for place in places_of(grid)), watch.take)
        else:
            run(None)
    except KernelFault:
        pass  # the launch will say so itself
    except WaitingError:
        checks.pass_over("launches whose programs wait for each other, or take long: checked up to there")
        return
    checks.launches += 1


def _copied(launch: Launch) -> tuple[ArrayMemory, list[Region]]:
    """The arrays of a launch at their addresses, but with bytes of their own."""
    copied, regions = ArrayMemory(), list[Region]()
    memory = launch.memory
    for start, end, writable, _ in memory.table.tolist():
        data = memory.view(start, end - start, write=False)
        allocation = memory.find(start, 1)
        assert data is not None
        name = allocation.name if allocation is not None else "an array"
        copied.register(name, data.copy(), writable=bool(writable), address=start)
        regions.append(Region(name, start, end - start))
    return copied, regions


def _narrowest(function: Function) -> int:
    """Bytes of the narrowest element that a kernel accesses."""
    accesses = (each for each in function.walk() if isinstance(each, Load | Store | AtomicRmw | AtomicCas))
    return min((pointee(each.operands[0]).bytes for each in accesses), default=1)
