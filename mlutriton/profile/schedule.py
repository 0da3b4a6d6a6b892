"""The schedule of one core as a picture: what its queues did in a stretch of the launch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlutriton.isa.table import Queue
from mlutriton.simulator.report import Run
from mlutriton.simulator.timeline import Slice, Source, program_slices

MOST_SLICES = 400
_WAIT = "wait for"
_PLACE = re.compile(r":(\d+)(?:-\d+)?$")


@dataclass(frozen=True)
class Box:
    """Something that a queue did.

    Units: shares of the stretch.
    """

    queue: Queue
    start: float
    width: float
    kind: str
    title: str
    line: int | None


@dataclass(frozen=True)
class Schedule:
    """A stretch of one core's time.

    Attributes:
        core: its number.
        start: first cycle of the stretch.
        end: first cycle behind it.
        boxes: what the queues did, in the order in which they are drawn.
    """

    core: int
    start: int
    end: int
    boxes: tuple[Box, ...]


def schedule(run: Run) -> Schedule | None:
    """The schedule of the core with the longest program, from its first one on as far as it can be drawn.

    None if no core has anything to show.
    """
    programs = run.timing_with_events.programs
    if not len(programs):
        return None
    chosen = int(programs[(programs[:, 2] - programs[:, 1]).argmax(), 0])
    slices: list[Slice] = []
    for number in (programs[:, 0] == chosen).nonzero()[0].tolist():
        slices += (each for each in _slices(run, number) if each.core == chosen)
        if len(slices) > MOST_SLICES:
            break
    if not slices:
        return None
    slices = sorted(slices, key=lambda each: (each.start, -each.end))[:MOST_SLICES]
    start, end = slices[0].start, max(each.end for each in slices[1:] or slices)
    boxes = (_box(each, start, end) for each in slices if each.end > each.start)
    return Schedule(chosen, start, end, tuple(boxes))


def _slices(run: Run, number: int) -> Iterator[Slice]:
    return program_slices(number, Source(run.program), run.grid, run.trace, run.timing_with_events, run.machine)


def _box(each: Slice, start: int, end: int) -> Box:
    span = max(end - start, 1)
    place = _PLACE.search(each.name)
    last = min(each.end, end)
    kind = "wait" if each.name.startswith(_WAIT) else each.name.partition(" ")[0]
    return Box(
        each.queue,
        (each.start - start) / span,
        (last - each.start) / span,
        kind,
        f"{each.name}: cycles {each.start:,} to {each.end:,} ({each.end - each.start:,})",
        int(place[1]) if place else None,
    )
