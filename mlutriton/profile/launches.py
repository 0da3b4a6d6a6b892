"""Every launch of a process, gathered by what was launched."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from dataclasses import dataclass, field

from mlutriton.isa.program import Program
from mlutriton.launch import observed
from mlutriton.simulator.report import Run

# Traces are large; of groups beyond these, the ones that took least time keep their figures alone.
MOST_RUNS_KEPT = 64


@dataclass
class LaunchGroup:
    """Launches of one program with one grid on one machine.

    Attributes:
        kernel: name of the kernel.
        variant: constants and options that tell the program from others of the kernel; empty if not known.
        grid: extents of the launches.
        machine: name of the machine.
        launches: how many there were.
        cycles: of all of them together.
        least_cycles: of the fastest one.
        most_cycles: of the slowest one.
        time_us: simulated, of all of them together.
        slowest: the run that took longest; None where too many others took longer to keep it.
    """

    kernel: str
    variant: str
    grid: tuple[int, int, int]
    machine: str
    launches: int = 0
    cycles: int = 0
    least_cycles: int = 0
    most_cycles: int = 0
    time_us: float = 0.0
    slowest: Run | None = None

    def add(self, run: Run) -> None:
        """Count a launch."""
        self.launches += 1
        self.cycles += run.cycles
        self.time_us += run.time_us
        self.least_cycles = min(self.least_cycles or run.cycles, run.cycles)
        if run.cycles > self.most_cycles:
            self.most_cycles, self.slowest = run.cycles, run


@dataclass
class Launches:
    """What has been launched so far; threads may launch at once."""

    most_runs_kept: int = MOST_RUNS_KEPT
    _groups: dict[tuple[int, tuple[int, int, int], str], LaunchGroup] = field(
        default_factory=dict[tuple[int, tuple[int, int, int], str], LaunchGroup]
    )
    # The identity of a program names it as long as it is held.
    _programs: dict[int, Program] = field(default_factory=dict[int, Program])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, run: Run) -> None:
        """Count a launch."""
        _ = run.cycles  # replayed before the lock is taken
        with self._lock:
            self._programs[id(run.program)] = run.program
            key = id(run.program), run.grid, run.machine.content_hash
            group = self._groups.setdefault(key, LaunchGroup(run.kernel, run.variant, run.grid, run.machine.name))
            group.add(run)
            kept = [each for each in self._groups.values() if each.slowest is not None]
            if len(kept) > self.most_runs_kept:
                min(kept, key=lambda each: each.time_us).slowest = None

    def groups(self) -> list[LaunchGroup]:
        """The groups, those that took most time first."""
        with self._lock:
            return sorted(self._groups.values(), key=lambda each: -each.time_us)


@contextlib.contextmanager
def record() -> Generator[Launches]:
    """Gather every launch of the process while this lasts, also of plain ``triton.jit`` kernels."""
    launches = Launches()
    with observed(launches.add):
        yield launches
