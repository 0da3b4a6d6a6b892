"""Plots as SVG text that stands in a page."""

# Matplotlib leaves the types of its keyword arguments open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mlutriton.dtypes import F16, I8
from mlutriton.isa.machine import PARAMETERS, Machine
from mlutriton.isa.machine_file import Value
from mlutriton.profile.examination import LANE_BYTES, Examination
from mlutriton.profile.sensitivity import Gain, is_cost
from mlutriton.profile.sweep import Point
from mlutriton.simulator.report import Run

COLOURS = ("#2563a8", "#d97706", "#2f855a", "#9b2c5c", "#6b46c1", "#4a5568")
_WIDTH_INCHES = 7.2
# Names that matplotlib gives to parts of every figure, and that nothing refers to.
_PLAIN_NAMES = re.compile(r' id="[A-Za-z.0-9]+_\d+"')
_MOST_BARS = 12
LEAST_SAVED = 0.005
_STYLE: dict[Any, Any] = {
    # Text stays text: it can be searched, and takes little room.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.edgecolor": "#9ca3af",
    "axes.axisbelow": True,
}


def roofline(found: Examination) -> str:
    """Operations a second over operations a byte: the roofs of the machine, and the launch beneath them."""
    run = found.run
    figure, axes = blank(3.6)
    operations = found.operations
    traffic = max(run.dram_read_bytes + run.dram_write_bytes, 1)
    distinct = max(run.work_bound.loaded_bytes + run.work_bound.stored_bytes, 1)
    least, most = 1 / 64, 4096.0
    if operations:
        least, most = min(least, operations / traffic / 4), max(most, 4 * operations / distinct)
    for number, (name, peak) in enumerate(_peaks(run)):
        _roof(axes, run.machine, name, peak, (least, most), COLOURS[number])
    heights = [peak for _, peak in _peaks(run)]
    if operations:
        achieved = operations / (run.time_us * 1e6)
        axes.plot([operations / traffic], [achieved], "o", color="#b91c1c", markersize=9, label="this launch")
        if distinct < traffic:
            axes.plot(
                [operations / distinct], [achieved], "o", color="#b91c1c", fillstyle="none", markersize=9,
                label="if each byte went through DRAM once",
            )  # fmt: skip
        heights.append(achieved)
    _logarithmic(axes)
    axes.set_xlim(least, most)
    axes.set_ylim(min(heights) / 10, max(heights) * 2)
    axes.set_xlabel("operations a byte of DRAM")
    axes.set_ylabel("10¹² operations a second")
    axes.legend(loc="lower right", frameon=True, fontsize=8)
    return svg(figure, f"roofline {run.kernel}")


def _peaks(run: Run) -> list[tuple[str, float]]:
    """The peaks that the program could reach, in 10^12 operations a second."""
    machine = run.machine
    per_cycle = machine.cores * machine.clock_mhz / 1e6
    lanes = machine.vector_bytes_per_cycle // LANE_BYTES
    found = [(f"vector units, {lanes} lanes of 32 bits a core", lanes * per_cycle)]
    types = {each.dtypes[0] for each in run.program.instructions if each.row.name == "mm"}
    rates = ((dtype, machine.mac_per_cycle(dtype)) for dtype in sorted(types, key=str))
    return found + [(f"tensor units, {dtype}", 2 * rate * per_cycle) for dtype, rate in rates if rate]


def _roof(
    axes: Axes, machine: Machine, name: str, peak: float, span: tuple[float, float], colour: str, style: str = "-"
) -> None:
    bandwidth = machine.dram_gb_per_s / 1e3
    ridge = peak / bandwidth
    points = [span[0], *([ridge] if span[0] < ridge < span[1] else []), span[1]]
    heights = [min(peak, bandwidth * point) for point in points]
    axes.plot(points, heights, style, color=colour, label=f"{name}: {peak:,.3g}", linewidth=1.6)


def gains(found: Sequence[Gain], title: str) -> str:
    """What the launch would save with each parameter made better, as bars."""
    chosen = [gain for gain in found if gain.saved >= LEAST_SAVED][:_MOST_BARS]
    figure, axes = blank(0.7 + 0.24 * max(len(chosen), 1))
    labels = [f"{gain.parameter}  {_short(gain.value)} → {_short(gain.better)}" for gain in chosen]
    _bars(axes, labels, [100 * gain.saved for gain in chosen], "% of the time saved")
    return svg(figure, title)


def points(run: Run, found: Sequence[Point]) -> str:
    """Time over a swept parameter, a line for each combination of the others; bars if nothing is swept."""
    names = list(dict.fromkeys(name for point in found for name in point.changes))
    if not names:
        labels = [f"{run.machine.name}, recorded", *(point.machine.name for point in found)]
        figure, axes = blank(0.7 + 0.3 * len(labels))
        _bars(axes, labels, [run.time_us, *(point.time_us for point in found)], "µs, simulated")
        return svg(figure, f"machines {run.kernel}")
    figure, axes = blank(3.4)
    lines: dict[str, list[tuple[float, float]]] = {}
    for point in found:
        others = [f"{name} = {_short(point.changes[name])}" for name in names[1:]]
        label = ", ".join([point.machine.name, *others])
        lines.setdefault(label, []).append((float(point.changes[names[0]]), point.time_us))
    for number, (label, line) in enumerate(lines.items()):
        xs, ys = zip(*sorted(line), strict=True)
        axes.plot(xs, ys, "o-", label=label, color=COLOURS[number % len(COLOURS)], markersize=4)
    recorded = float(run.machine.values[names[0]])
    axes.plot([recorded], [run.time_us], "D", color="#b91c1c", label="as recorded", markersize=6)
    unit = PARAMETERS[names[0]].unit
    axes.set_xlabel(names[0] + (f" ({unit})" if unit else ""))
    axes.set_ylabel("µs, simulated")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    return svg(figure, f"sweep {run.kernel}")


def machine_rooflines(machines: Sequence[Machine]) -> str:
    """The roofs of several machines: tensor units at their fastest float, or integers where there is none."""
    figure, axes = blank(3.6)
    for number, machine in enumerate(machines):
        dtype = next((each for each in (F16, I8) if machine.mac_per_cycle(each)), I8)
        peak = 2 * machine.peak_mac_per_cycle(dtype) * machine.clock_mhz / 1e6
        vector = machine.cores * machine.vector_bytes_per_cycle // LANE_BYTES * machine.clock_mhz / 1e6
        colour = COLOURS[number % len(COLOURS)]
        _roof(axes, machine, f"{machine.name} tensor {dtype}", peak, (1 / 16, 8192), colour)
        _roof(axes, machine, f"{machine.name} vector", vector, (1 / 16, 8192), colour, "--")
    _logarithmic(axes)
    axes.set_xlabel("operations a byte of DRAM")
    axes.set_ylabel("10¹² operations a second")
    axes.legend(fontsize=7, loc="lower right")
    return svg(figure, "rooflines " + " ".join(machine.name for machine in machines))


def machine_ratios(first: Machine, second: Machine) -> str:
    """By what factor a parameter of the second machine is better or worse than that of the first, as bars."""
    ratios: list[tuple[str, float]] = []
    for name, parameter in PARAMETERS.items():
        one, other = float(first.values[name]), float(second.values[name])
        if parameter.kind is bool or name == "isa" or one == other or not one or not other:
            continue
        ratios.append((name, one / other if is_cost(name) else other / one))
    ratios.sort(key=lambda pair: pair[1])
    figure, axes = blank(0.8 + 0.2 * max(len(ratios), 1))
    colours = [COLOURS[2] if ratio > 1 else COLOURS[3] for _, ratio in ratios]
    axes.barh(
        [name for name, _ in ratios],
        [ratio - 1 for _, ratio in ratios],
        left=1,
        color=colours,
        height=0.7,
    )
    if ratios:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(_factor))
    axes.axvline(1, color="#6b7280", linewidth=1)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel(f"times as good on {second.name} as on {first.name}")
    return svg(figure, f"ratios {first.name} {second.name}")


def _factor(value: float, _position: int) -> str:
    return f"{value:g}x"


def blank(height_inches: float) -> tuple[Figure, Axes]:
    """An empty figure as wide as a page, in the style of all plots, and its axes."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
        return figure, figure.add_subplot()


def _bars(axes: Axes, labels: Sequence[str], values: Sequence[float], unit: str) -> None:
    places = list(range(len(labels)))
    axes.barh(places, values, color=COLOURS[0], height=0.7)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    for place, value in zip(places, values, strict=True):
        axes.annotate(f" {value:,.3g}", (value, place), va="center", fontsize=8)
    axes.margins(x=0.12)
    axes.set_xlabel(unit)
    axes.grid(visible=False, axis="y")


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=10)
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    # Less than two decades would have a single number with those of the decades alone.
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _number(value: float, _position: int) -> str:
    return f"1/{round(1 / value)}" if 0 < value < 1 and value == 1 / round(1 / value) else f"{value:g}"


def _plain(value: float, _position: int) -> str:
    return f"{value:g}"


def _short(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def svg(figure: Figure, title: str) -> str:
    """The figure as an ``svg`` element; equal figures are equal text, and names in it are of this figure alone."""
    buffer = io.StringIO()
    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": title}
    with mpl.rc_context(style):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = buffer.getvalue()
    # What is left of the file around the element has no place in a page.
    text = text[text.index("<svg") :]
    return _PLAIN_NAMES.sub("", text)
