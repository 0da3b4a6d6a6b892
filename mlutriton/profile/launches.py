"""Every launch of a process and of those that it starts, gathered by what was launched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlutriton.configuration import LAUNCHES_VARIABLE
from mlutriton.isa.encoding import encode
from mlutriton.isa.program import Program
from mlutriton.launch import observed
from mlutriton.simulator.launch_journal import LaunchJournal, journaled
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

    def add(self, run: Run, cycles: Sequence[int]) -> None:
        """Count launches: the cycles of each, and the run of the slowest."""
        self.launches += len(cycles)
        self.cycles += sum(cycles)
        self.time_us += sum(map(run.machine.time_us, cycles))
        self.least_cycles = min(self.least_cycles or cycles[0], *cycles)
        if run.cycles > self.most_cycles:
            self.most_cycles, self.slowest = run.cycles, run


# Program, variant, grid and machine.
_Key = tuple[bytes, str, tuple[int, int, int], str]


@dataclass
class Launches:
    """What has been launched so far; threads may launch at once.

    Attributes:
        most_runs_kept: groups whose slowest run is kept.
        child_launches: how many of the launches were made by processes that this one has started.
        child_processes: how many processes these were.
    """

    most_runs_kept: int = MOST_RUNS_KEPT
    child_launches: int = 0
    child_processes: int = 0
    _groups: dict[_Key, LaunchGroup] = field(default_factory=dict[_Key, LaunchGroup])
    # The identity of a program names it as long as it is held; its digest names it in other processes too.
    _programs: dict[int, tuple[Program, bytes]] = field(default_factory=dict[int, tuple[Program, bytes]])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, run: Run) -> None:
        """Count a launch."""
        self._add(run, [run.cycles])

    def add_children(self, directory: Path) -> None:
        """Count what child processes have written to a directory.

        Raises:
            OSError: it cannot be read.
        """
        processes: set[str] = set()
        for each in journaled(directory):
            processes.add(each.process)
            self.child_launches += len(each.cycles)
            self._add(each.slowest, each.cycles)
        self.child_processes += len(processes)

    def _add(self, run: Run, cycles: Sequence[int]) -> None:
        _ = run.cycles  # replayed before the lock is taken
        with self._lock:
            if id(run.program) not in self._programs:
                self._programs[id(run.program)] = run.program, hashlib.sha256(encode(run.program)).digest()
            _, digest = self._programs[id(run.program)]
            key = digest, run.variant, run.grid, run.machine.content_hash
            group = self._groups.setdefault(key, LaunchGroup(run.kernel, run.variant, run.grid, run.machine.name))
            group.add(run, cycles)
            kept = [each for each in self._groups.values() if each.slowest is not None]
            if len(kept) > self.most_runs_kept:
                min(kept, key=lambda each: each.time_us).slowest = None

    def groups(self) -> list[LaunchGroup]:
        """The groups, those that took most time first."""
        with self._lock:
            return sorted(self._groups.values(), key=lambda each: -each.time_us)


@contextlib.contextmanager
def record() -> Generator[Launches]:
    """Gather every launch of the process while this lasts, also of plain ``triton.jit`` kernels.

    What processes launch that are started or forked meanwhile is there when this is over, as far as they have come.
    """
    launches = Launches()
    owner = os.getpid()
    directory = Path(tempfile.mkdtemp(prefix="mlutriton-launches-"))
    journal = LaunchJournal(directory)

    def observe(run: Run) -> None:
        (launches if os.getpid() == owner else journal).add(run)

    before = os.environ.get(LAUNCHES_VARIABLE)
    os.environ[LAUNCHES_VARIABLE] = os.pathsep.join([*([before] if before else []), str(directory)])
    try:
        with observed(observe):
            yield launches
    finally:
        if before is None:
            os.environ.pop(LAUNCHES_VARIABLE, None)
        else:
            os.environ[LAUNCHES_VARIABLE] = before
        if os.getpid() == owner:
            try:
                launches.add_children(directory)
            finally:
                shutil.rmtree(directory, ignore_errors=True)
