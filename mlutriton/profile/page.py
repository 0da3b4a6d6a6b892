"""Reports as pages of HTML, each one file that needs no network. Needs jinja2 and matplotlib."""

from __future__ import annotations

import base64
import gzip
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mlutriton import __version__
from mlutriton.isa.machine import PARAMETERS, Machine
from mlutriton.isa.machine_file import Value
from mlutriton.isa.table import Queue
from mlutriton.profile import plots
from mlutriton.profile.breakdown import CATEGORIES
from mlutriton.profile.examination import Examination
from mlutriton.profile.launches import Launches
from mlutriton.profile.schedule import Schedule, schedule
from mlutriton.profile.sensitivity import Gain
from mlutriton.profile.source import SourcePart
from mlutriton.profile.sweep import Point, sizes_kept
from mlutriton.profile.terminal import LEAST_SHARE, from_here, shown
from mlutriton.simulator.report import Run

# A timeline inside a page is to be looked at, not to be complete: one of more slices makes pages of megabytes.
_TIMELINE_SLICES = 20_000
_LANES = {queue.value: number for number, queue in enumerate((Queue.SCALAR, Queue.COMPUTE, Queue.IO, Queue.MOVE))}


@dataclass(frozen=True)
class LaunchView:
    """What the page shows of one group of launches.

    Attributes:
        number: of the group, from 1.
        found: what there is to say of its slowest launch.
    """

    number: int
    found: Examination

    @property
    def source(self) -> list[SourcePart]:
        """The parts of the source that matter: not the few instructions that stem from no line of it."""
        return [part for part in self.found.source if part.share > LEAST_SHARE]

    @cached_property
    def _files(self) -> dict[str, str]:
        files = dict.fromkeys(part.file for part in self.source)
        return {file: f"f{number}" for number, file in enumerate(files)}

    def file(self, name: str) -> str:
        """The part of an anchor that names a file; f0 is that with the greatest costs."""
        return self._files.get(name, "f0")

    @cached_property
    def anchors(self) -> frozenset[tuple[str, int]]:
        """The lines that are shown."""
        return frozenset((part.file, line.number) for part in self.source for line in part.lines)

    @property
    def spent(self) -> list[tuple[str, float]]:
        """The categories that matter with their shares, the largest first."""
        total = max(sum(self.found.core_cycles.values()), 1)
        shares = ((name, cycles / total) for name, cycles in self.found.core_cycles.items())
        return sorted((each for each in shares if each[1] >= LEAST_SHARE), key=lambda each: -each[1])

    @cached_property
    def schedule(self) -> Schedule | None:
        """A stretch of one core's schedule; without links to lines that are not shown."""
        return schedule(self.found.run)

    @property
    def roofline(self) -> str:
        """The roofline as SVG."""
        return plots.roofline(self.found)

    @property
    def gains(self) -> str:
        """The gains from machine parameters as SVG."""
        return plots.gains(self.found.gains, f"gains {self.number}")

    @property
    def timeline(self) -> str:
        """The timeline as compressed JSON, in base 64."""
        with tempfile.TemporaryDirectory() as directory:
            path = self.found.run.timeline(Path(directory) / "timeline.json", maximum_slices=_TIMELINE_SLICES)
            return base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)).decode()


def render_profile(script: str, launches: Launches) -> str:
    """The report of a script's launches."""
    groups = launches.groups()
    views = [
        (group, LaunchView(number, Examination(group.slowest)) if group.slowest else None)
        for number, group in enumerate(groups, 1)
    ]
    return _rendered(
        "profile",
        script=script,
        groups=views,
        launches=sum(group.launches for group in groups),
        child_launches=launches.child_launches,
        child_processes=launches.child_processes,
        total_us=max(sum(group.time_us for group in groups), 1e-9),
        categories=CATEGORIES,
        lanes=_LANES,
    )


def render_what_if(run: Run, found: Sequence[Point], gains: Sequence[Gain]) -> str:
    """A recorded launch on other machines, or what it would gain from each parameter."""
    return _rendered(
        "what_if",
        run=run,
        points=found,
        names=list(dict.fromkeys(name for point in found for name in point.changes)),
        gains=gains,
        sizes_kept=sizes_kept(run, found),
        plot=plots.points(run, found) if found else plots.gains(gains, "gains"),
    )


@dataclass(frozen=True)
class _Cell:
    value: Value
    confidence: str
    source: str


@dataclass(frozen=True)
class _Row:
    name: str
    unit: str
    doc: str
    cells: tuple[_Cell, ...]

    @property
    def differs(self) -> bool:
        return len({repr(cell.value) for cell in self.cells}) > 1


def render_machines(machines: Sequence[Machine]) -> str:
    """A comparison of machines, parameter by parameter; the first is what the others are compared with."""
    sections = [
        (
            section,
            [
                _Row(each.name, each.unit, each.doc, tuple(_cell(machine, each.name) for machine in machines))
                for each in parameters
            ],
        )
        for section, parameters in groupby(PARAMETERS.values(), lambda each: each.section)
    ]
    return _rendered(
        "machines",
        machines=machines,
        sections=sections,
        roofs=plots.machine_rooflines(machines),
        ratios=[plots.machine_ratios(machines[0], other) for other in machines[1:]],
    )


def _cell(machine: Machine, parameter: str) -> _Cell:
    origin = machine.provenance(parameter)
    return _Cell(machine.values[parameter], origin.confidence, origin.source)


def _rendered(template: str, **values: object) -> str:
    return _environment().get_template(f"{template}.html.j2").render(version=__version__, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["basename"] = _basename
    environment.filters["from_here"] = from_here
    environment.filters["shown"] = shown
    return environment


def _basename(path: str) -> str:
    return Path(path).name
