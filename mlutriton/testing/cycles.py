"""A pytest fixture that guards simulated cycles: ``cycles``.

Name the plug-in in the configuration, ``addopts = ["-p", "mlutriton.testing.cycles"]``, and check launches::

    def test_softmax(cycles):
        run = softmax[(1823,)](out, x, 781, BLOCK=1024)
        cycles.check(run)

What a launch is expected to take stands in ``cycles.json`` beside the test's file, which is committed with it. Cycles
are deterministic, so a launch that takes more than the tolerance, and one that takes less, fails its test: the one has
become slower, and the other leaves a figure behind that would hide the next that does.

========================  ============================================================================================
``--bless-cycles``        write what launches take today into the files, instead of comparing
``--cycles-tolerance``    relative tolerance of checks that name none; also ``cycles_tolerance`` in the configuration
========================  ============================================================================================
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from mlutriton.files import write_whole

if TYPE_CHECKING:
    from mlutriton.simulator.report import Run

FILE_NAME = "cycles.json"
DEFAULT_TOLERANCE = 0.01
_BLESS = "--bless-cycles"
_TOLERANCE = "cycles_tolerance"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("mlutriton")
    group.addoption(_BLESS, action="store_true", help=f"write the cycles of launches into {FILE_NAME} files")
    group.addoption(
        "--cycles-tolerance", type=float, help=f"relative tolerance of cycles; {DEFAULT_TOLERANCE} if unset"
    )
    parser.addini(_TOLERANCE, f"relative tolerance of cycles; {DEFAULT_TOLERANCE} if unset")


@pytest.fixture
def cycles(request: pytest.FixtureRequest) -> Cycles:
    """Checks the simulated cycles of launches against a committed file."""
    config = request.config
    tolerance = config.getoption("--cycles-tolerance")
    if tolerance is None:
        tolerance = float(cast("str", config.getini(_TOLERANCE)) or DEFAULT_TOLERANCE)
    name = f"{request.path.name}::{request.node.nodeid.partition('::')[2]}"
    return Cycles(request.path.with_name(FILE_NAME), name, float(tolerance), bool(config.getoption(_BLESS)))


@dataclass
class Cycles:
    """What the launches of one test take.

    Attributes:
        file: where it stands.
        test: name of the test in the file.
        tolerance: relative, of checks that name none.
        bless: write instead of comparing.
    """

    file: Path
    test: str
    tolerance: float
    bless: bool
    _checked: set[str] = field(default_factory=set[str])

    def check(self, run: Run, name: str = "", tolerance: float | None = None) -> None:
        """Compare the cycles of a launch with what stands in the file.

        Args:
            run: the launch.
            name: tells launches of one test apart; by default kernel and grid.
            tolerance: relative; that of the session if not given.

        Raises:
            ValueError: the test has checked a launch of that name already.
            AssertionError: it takes more or fewer cycles, runs on another machine, or has no entry.
        """
        __tracebackhide__ = True
        name = name or f"{run.kernel} {run.grid}"
        if name in self._checked:
            raise ValueError(f"{self.test} has checked {name!r} already; give each launch a name of its own")
        self._checked.add(name)
        today = {"cycles": run.cycles, "machine": run.machine.name, "machine_hash": run.machine.content_hash}
        if self.bless:
            self._write(name, today)
            return
        problem = _difference(self._read().get(self.test, {}).get(name), today, run, _chosen(tolerance, self.tolerance))
        if problem:
            raise AssertionError(
                f"{name}: {problem}\n  if that is as it should be: pytest {_BLESS}, and commit {self.file.name}"
            )

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.file.exists():
            return {}
        try:
            found: dict[str, dict[str, Any]] = json.loads(self.file.read_text(encoding="utf-8"))
            if all(hasattr(entries, "get") for entries in found.values()):
                return found
            reason = "it holds no tests with their launches"
        except (ValueError, AttributeError) as error:
            reason = str(error)
        raise AssertionError(f"{self.file} cannot be read: {reason}\n  remove it, and run pytest {_BLESS}")

    def _write(self, name: str, today: dict[str, Any]) -> None:
        """Set one entry; workers of one session write to one file."""
        with _locked(self.file):
            known = self._read()
            known.setdefault(self.test, {})[name] = today
            text = json.dumps(known, indent=2, sort_keys=True) + "\n"
            write_whole(self.file, text.encode())


def _chosen(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


def _difference(expected: dict[str, Any] | None, today: dict[str, Any], run: Run, tolerance: float) -> str:
    """What is wrong, in words; nothing if all is as expected."""
    if expected is None:
        return f"nothing is known of it; it takes {run.cycles:,} cycles on {run.machine.name}"
    if expected.get("machine_hash") != today["machine_hash"]:
        return f"it was measured on {expected.get('machine')}, and the machine is {run.machine.name} or has changed"
    before = expected.get("cycles")
    if not isinstance(before, int) or before <= 0:
        return f"the file says {before!r} cycles"
    change = run.cycles / before - 1
    if abs(change) <= tolerance:
        return ""
    verb = "slower" if change > 0 else "faster"
    return f"{run.cycles:,} cycles, {abs(change):.1%} {verb} than {before:,}; the tolerance is {tolerance:.1%}"


@contextmanager
def _locked(file: Path) -> Generator[None]:
    """Keep other processes from writing the file: by its directory, as the file itself is replaced."""
    handle = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
