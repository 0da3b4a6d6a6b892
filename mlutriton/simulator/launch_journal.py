"""Journals of launches: what child processes launch, in a directory that the process which waits for them reads.

Each process writes a file of its own, a line for each launch as it is made, so that a process may end in any way. The
slowest run of each kind, a program with a grid on a machine, is recorded beside it.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlutriton.simulator.recording import SUFFIX
from mlutriton.simulator.report import Run

_LINES_SUFFIX = ".jsonl"


class LaunchJournal:
    """Writes the launches of this process to a directory, and those of a process that is forked from it apart.

    Args:
        directory: which a process that follows its children reads; nothing is written once it is gone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        # Processes of one number may follow each other.
        self._name = f"{self._process}-{uuid.uuid4().hex}"
        self._lock = threading.Lock()
        self._kinds: dict[tuple[int, tuple[int, int, int], str], int] = {}
        # The identity of a program names it as long as it is held.
        self._programs: list[Any] = []
        self._most_cycles: dict[int, int] = {}
        self._is_failing = False

    def add(self, run: Run) -> None:
        """Write down a launch. Where that fails, a warning says so once: the process has more to do than be watched."""
        if self._process != os.getpid():
            self._begin()
        _ = run.cycles  # replayed before the lock is taken
        with self._lock:
            if self._is_failing:
                return
            try:
                self._write(run)
            except OSError as problem:
                self._is_failing = True
                if self._directory.is_dir():
                    warnings.warn(
                        f"further launches of process {self._process} will be missing in the profile: {problem}",
                        stacklevel=2,
                    )

    def _write(self, run: Run) -> None:
        key = id(run.program), run.grid, run.machine.content_hash
        kind = self._kinds.setdefault(key, len(self._kinds))
        if kind == len(self._programs):
            self._programs.append(run.program)
        if run.cycles > self._most_cycles.get(kind, -1):
            self._most_cycles[kind] = run.cycles
            run.save(self._directory / f"{self._name}-{kind}{SUFFIX}")
        with (self._directory / f"{self._name}{_LINES_SUFFIX}").open("a", encoding="utf-8") as lines:
            lines.write(f"{json.dumps({'kind': kind, 'cycles': run.cycles})}\n")


@dataclass
class JournaledLaunches:
    """Launches of one program with one grid on one machine, by one process.

    Attributes:
        process: names it.
        slowest: the run that took longest.
        cycles: of each launch.
    """

    process: str
    slowest: Run
    cycles: list[int] = field(default_factory=list[int])


def journaled(directory: Path) -> Iterator[JournaledLaunches]:
    """What processes have written to a directory; a line that one was writing when it was killed is left out."""
    for path in sorted(directory.glob(f"*{_LINES_SUFFIX}")):
        text = path.read_text(encoding="utf-8")
        cycles: dict[int, list[int]] = defaultdict(list)
        for line in text[: text.rfind("\n") + 1].splitlines():
            launch = json.loads(line)
            cycles[launch["kind"]].append(launch["cycles"])
        for kind, each in cycles.items():
            yield JournaledLaunches(path.stem, Run.load(directory / f"{path.stem}-{kind}{SUFFIX}"), each)
