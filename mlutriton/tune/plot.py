"""A picture of a search: what it found as it went on, and what each value of each name is good for."""

from __future__ import annotations

import io
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Any

from mlutriton.files import write_whole
from mlutriton.tune.engines import missing_package
from mlutriton.tune.result import ShapeResult, Tuning
from mlutriton.tune.trial import Outcome, Status, Value, shown

# Colours that people who cannot tell red from green can tell apart: Okabe and Ito, 2008.
_TIMED, _SKIPPED, _BEST = "#0072B2", "#BBBBBB", "#D55E00"
_COLUMNS = 3
_WIDTH_INCHES, _ROW_INCHES = 11.0, 3.0
_MAXIMUM_NAMES = 9
_MAXIMUM_LABELS = 12
_DECADE = 10


def plot(tuning: Tuning, number: int, path: str | Path) -> Path:
    """Draw the search for one shape.

    Args:
        tuning: the result.
        number: of the shape.
        path: of the picture; its ending says in which format.

    Raises:
        ArgumentError: E0504, Matplotlib is not installed.
        OSError: the file cannot be written.
        ValueError: the ending is no format that Matplotlib writes.
    """
    try:
        import matplotlib.figure
    except ModuleNotFoundError as error:
        raise missing_package("matplotlib", "a plot", error) from error
    result = tuning.results[number]
    names = _varied(result)
    rows = ceil(len(names) / _COLUMNS)
    # Not through pyplot: that keeps figures, and chooses a window where there may be no screen.
    figure: Any = matplotlib.figure.Figure(figsize=(_WIDTH_INCHES, _ROW_INCHES * (rows + 1.3)), layout="constrained")
    grid = figure.add_gridspec(rows + 1, _COLUMNS, height_ratios=[1.3, *[1.0] * rows])
    _draw_course(figure.add_subplot(grid[0, :]), result)
    first: Any = None
    for place, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + place // _COLUMNS, place % _COLUMNS], sharey=first)
        first = first or axes
        _draw_values(axes, result, name)
        if place % _COLUMNS == 0:
            axes.set_ylabel("simulated cycles")
    shape = shown(result.shape)
    figure.suptitle(f"{tuning.kernel} on {tuning.machine.name}{': ' * bool(shape)}{shape}", fontsize=12)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format=Path(path).suffix.removeprefix(".") or "png")
    write_whole(Path(path), drawn.getvalue())
    return Path(path)


def _varied(result: ShapeResult) -> list[str]:
    """Names that have several values among what is drawn."""
    values: dict[str, set[str]] = {}
    for each in result.outcomes:
        for name, value in each.configuration.items():
            values.setdefault(name, set()).add(repr(value))
    return [name for name, different in values.items() if len(different) > 1][:_MAXIMUM_NAMES]


def _draw_course(axes: Any, result: ShapeResult) -> None:
    """Every trial in its order, and the best so far."""
    timed = [(place, each.cycles) for place, each in enumerate(result.outcomes) if each.cycles is not None]
    skipped = [
        (place, each.bound_cycles) for place, each in enumerate(result.outcomes) if each.status is Status.SKIPPED
    ]
    if skipped:
        label = f"{len(skipped):,} skipped: cycles are no fewer than shown"
        axes.plot(*zip(*skipped, strict=True), ".", color=_SKIPPED, markersize=3, label=label)
    if timed:
        axes.plot(*zip(*timed, strict=True), ".", color=_TIMED, markersize=5, label=f"{len(timed):,} timed")
        places, cycles = zip(*timed, strict=True)
        best = list(accumulate(cycles, min))
        axes.step([*places, len(result.outcomes)], [*best, best[-1]], where="post", color=_BEST, label="best so far")
        _scale_cycles(axes, [height for _, height in [*timed, *skipped] if height])
    failed = result.count(Status.FAILED)
    axes.set_xlabel("trial" + (f" ({failed:,} that failed are not shown)" if failed else ""))
    axes.set_ylabel("simulated cycles")
    axes.grid(visible=True, alpha=0.3)
    if timed or skipped:
        axes.legend(loc="upper right", fontsize=8)


def _draw_values(axes: Any, result: ShapeResult, name: str) -> None:
    """What was timed with each value of a name; the least of each is joined by a line."""
    timed = [each for each in result.outcomes if each.cycles is not None and name in each.configuration]
    values = _in_order({repr(each.configuration[name]): each.configuration[name] for each in timed})
    place = {repr(value): number for number, value in enumerate(values)}
    axes.plot([place[repr(each.configuration[name])] for each in timed], _cycles(timed), ".", color=_TIMED, alpha=0.4)
    least = [
        min(_cycles([each for each in timed if repr(each.configuration[name]) == repr(value)])) for value in values
    ]
    axes.plot(range(len(values)), least, "-o", color=_BEST, markersize=4)
    step = max(1, ceil(len(values) / _MAXIMUM_LABELS))
    axes.set_xticks(range(0, len(values), step), [str(value) for value in values[::step]], fontsize=8)
    axes.set_xlabel(name)
    if timed:
        _scale_cycles(axes, _cycles(timed))
    axes.grid(visible=True, alpha=0.3)


def _scale_cycles(axes: Any, shown_cycles: list[int]) -> None:
    """A logarithmic axis whose numbers are written out, and are several even where all lie in one decade."""
    from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter, StrMethodFormatter  # of an extra, see above

    axes.set_yscale("log")
    is_narrow = max(shown_cycles) < _DECADE * min(shown_cycles)
    axes.yaxis.set_major_locator(AutoLocator() if is_narrow else LogLocator(10, subs=(1, 2, 5), numticks=12))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _in_order(values: dict[str, Value]) -> list[Value]:
    """Numbers by size; other values as they came."""
    found = list(values.values())
    return sorted(found) if all(isinstance(value, int | float) for value in found) else found


def _cycles(outcomes: list[Outcome]) -> list[int]:
    return [each.cycles for each in outcomes if each.cycles is not None]
