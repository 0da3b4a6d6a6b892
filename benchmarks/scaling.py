"""How cycles and the cost of simulating them grow: ``python -m benchmarks.scaling`` writes ``docs/scaling.md``.

Simulated cycles over cores, bandwidth and problem size, for kernels that memory, vector units and tensor units bind,
and the host's time over the programs of a grid. No values are computed, so that no array is allocated.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

import mlutriton as mlu
from benchmarks import HOST_THREADS, kernels
from benchmarks.stopwatch import duration
from examples import flash_attention, matmul, softmax, vector_add
from mlutriton.isa.machine import Machine
from mlutriton.profile.plots import COLOURS, blank, svg
from mlutriton.testing import Case

DOCUMENTS = Path(__file__).parents[1] / "docs"
CORES = (1, 2, 4, 8, 16, 32, 64)
BANDWIDTHS_GB_PER_S = tuple(round(2764.8 * 2.0**power, 1) for power in np.arange(-4, 2.5, 0.5))
PROGRAMS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
_BLOCK, _TURNS = 16, 3
# What the ends of an axis are apart by if it has few decades.
_FEW = 2e3

Points = Sequence[tuple[float, float]]


def _softmax_of(rows: int) -> Case:
    # Its programs walk over the rows: one for each core.
    return replace(softmax.case(rows, 781, 8), grid=(mlu.current_machine().cores,))


def _product_of(side: int) -> Case:
    return matmul.case(side, side, side, np.float16, "fp16")


def _attention_of(length: int) -> Case:
    return flash_attention.case(1, 12, length, 128, causal=False)


@dataclass(frozen=True)
class Family:
    """A kernel at every size.

    Attributes:
        name: of the kernel and its element type.
        case: makes the case of a size.
        extent: what a size counts.
        sizes: those that cycles are drawn over.
        usual: the size at which cores and bandwidth are varied.
    """

    name: str
    case: Callable[[int], Case]
    extent: str
    sizes: tuple[int, ...]
    usual: int

    @property
    def usually(self) -> str:
        """The kernel at its usual size, in words."""
        return f"{self.name}, {self.usual:,} {self.extent}"


FAMILIES = (
    Family(
        "vector add fp32", partial(vector_add.case, block=16_384), "elements", tuple(4**n for n in range(5, 13)), 4**11
    ),
    Family("softmax of 781 fp32", _softmax_of, "rows", tuple(4**n for n in range(2, 9)), 4096),
    Family("GEMM fp16", _product_of, "rows, columns and depth", tuple(2**n for n in range(8, 14)), 2048),
    Family("attention 12x128 fp16", _attention_of, "queries and keys", tuple(2**n for n in range(8, 14)), 2048),
)


# A kernel without a loop is served by one task a core; each program of one with a loop is a task of its own.
GRIDS: dict[str, Any] = {
    "programs served by one task a core": vector_add.vector_add,
    "a task for every program": kernels.add_in_loop,
}


def estimate(case: Case) -> Any:
    """The run of a case of which no array is allocated."""
    return mlu.estimate(case.kernel, case.grid, **case.arguments(), **case.constants)


@contextmanager
def machine_of(machine: Machine) -> Iterator[None]:
    """Compile and launch for a machine while this lasts."""
    before = mlu.current_machine()
    mlu.set_machine(machine)
    try:
        yield
    finally:
        mlu.set_machine(before)


def with_cores(cores: int) -> Machine:
    """The current machine with so many cores: part of a cluster, or whole ones."""
    current = mlu.current_machine()
    in_cluster = min(cores, current.cores_per_cluster)
    clusters = cores // in_cluster
    return current.replace(
        clusters=clusters, cores_per_cluster=in_cluster, max_union_clusters=min(current.max_union_clusters, clusters)
    )


def over_cores(family: Family) -> Points:
    """Cycles over the cores of the machine, compiled anew for each."""
    points: list[tuple[float, float]] = []
    for cores in CORES:
        with machine_of(with_cores(cores)):
            points.append((cores, estimate(family.case(family.usual)).cycles))
    return points


def over_bandwidth(family: Family) -> Points:
    """Cycles over the peak bandwidth of the DRAM in GB/s: one trace, replayed."""
    run = estimate(family.case(family.usual))
    return [(rate, run.what_if(run.machine.replace(dram_gb_per_s=rate)).cycles) for rate in BANDWIDTHS_GB_PER_S]


def over_size(family: Family) -> tuple[Points, Points]:
    """Cycles over the problem size, and the work bound."""
    runs = [(size, estimate(family.case(size))) for size in family.sizes]
    return [(size, run.cycles) for size, run in runs], [(size, run.work_bound_cycles) for size, run in runs]


def over_programs(kernel: Any, grids: Sequence[int] = PROGRAMS) -> Points:
    """CPU seconds of all threads over the programs of a grid that each add few numbers: the least of several turns."""
    points: list[tuple[float, float]] = []
    for programs in (grids[0], *grids):
        n = programs * _BLOCK
        vector = mlu.spec((n,), np.float32)
        seconds: list[float] = []
        for _ in range(_TURNS):
            started = time.process_time()
            _ = mlu.estimate(kernel, (programs,), vector, vector, vector, n, BLOCK=_BLOCK).cycles
            seconds.append(time.process_time() - started)
        points.append((programs, min(seconds)))
    return points[1:]  # the first one has compiled the kernel


def exponent(points: Points) -> float:
    """The power of x that y grows with, by least squares over the last two decades of x."""
    last = [point for point in points if point[0] >= points[-1][0] / 100]
    xs, ys = np.log(np.array(last, dtype=np.float64)).T
    return float(np.polyfit(xs, ys, 1)[0])


def curves(lines: Mapping[str, Points], title: str, x: str, y: str, dashed: Mapping[str, Points] | None = None) -> str:
    """Lines over logarithmic axes as SVG; a dashed one has the colour of the line of its name."""
    figure, axes = blank(3.8)
    for (name, points), colour in zip(lines.items(), COLOURS, strict=False):
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=name, markersize=3.5, linewidth=1.4)
        if dashed and name in dashed:
            axes.plot(*zip(*dashed[name], strict=True), "--", color=colour, linewidth=1)
    axes.set_xscale("log", base=10)
    axes.set_yscale("log", base=10)
    for axis in (axes.xaxis, axes.yaxis):
        # Few decades leave room for more labels than the powers of ten.
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < _FEW else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    figure.legend(loc="outside upper left", fontsize=8, ncols=2)
    return svg(figure, title)


def shown(value: float) -> str:
    """A number as a label: 10 k, 3 M, 0.1."""
    for factor, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.4g}{suffix}"
    return f"{value:.4g}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown: the first column is text, the others are numbers."""
    lines = [headings, ["---", *["--:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cores_section() -> tuple[str, dict[str, str]]:
    """How much more cores help."""
    lines = {family.usually: over_cores(family) for family in FAMILIES}
    ideal = {name: [(cores, points[0][1] / cores) for cores in CORES] for name, points in lines.items()}
    rows = [[name, *(f"{points[0][1] / cycles:.1f}x" for _, cycles in points)] for name, points in lines.items()]
    text = f"""## Cores

{CORES[0]} to {CORES[-1]} cores, otherwise of {mlu.current_machine().name}: up to four in one cluster, then whole
clusters. Each point is compiled for its machine. Dashed: as many times faster as there are cores.
Products gain more where the cores of a cluster share what they load.

![Simulated cycles over cores](images/scaling-cores.svg)

{table(["times faster than one core, with cores", *map(str, CORES)], rows)}
"""
    return text, {"scaling-cores": curves(lines, "cores", "cores", "cycles, simulated", ideal)}


def bandwidth_section() -> tuple[str, dict[str, str]]:
    """How much more bandwidth helps."""
    lines = {family.usually: over_bandwidth(family) for family in FAMILIES}
    shown_rates = BANDWIDTHS_GB_PER_S[::2]
    rows = [[name, *(f"{dict(points)[rate]:,}" for rate in shown_rates)] for name, points in lines.items()]
    text = f"""## Bandwidth

The same traces, replayed on machines with other DRAM ([what-if](how-to/what-if.md)); nothing is run again. A line
falls as long as the kernel waits for the DRAM, and is level where something else binds it.

![Simulated cycles over bandwidth](images/scaling-bandwidth.svg)

{table(["cycles at GB/s", *(f"{rate:,}" for rate in shown_rates)], rows)}
"""
    picture = curves(lines, "bandwidth", "peak bandwidth of the DRAM, GB/s", "cycles, simulated")
    return text, {"scaling-bandwidth": picture}


def size_section() -> tuple[str, dict[str, str]]:
    """How cycles grow with the work."""
    lines: dict[str, Points] = {}
    bounds: dict[str, Points] = {}
    rows: list[list[str]] = []
    for family in FAMILIES:
        name = f"{family.name}, {family.extent}"
        lines[name], bounds[name] = over_size(family)
        over = [cycles / bound for (_, cycles), (_, bound) in zip(lines[name], bounds[name], strict=True)]
        for label, place in (("smallest", 0), ("middle", len(over) // 2), ("largest", -1)):
            size, cycles = lines[name][place]
            rows.append([f"{name}, {label}", f"{size:,}", f"{cycles:,}", f"{over[place]:.2f}x"])
    text = f"""## Problem size

Dashed: the work bound, which no compiled form of the kernel can fall below. Small problems are bound by the launch and
latencies, which do not grow.

![Simulated cycles over problem size](images/scaling-size.svg)

{table(["kernel", "size", "cycles", "over the work bound"], rows)}
"""
    return text, {"scaling-size": curves(lines, "size", "problem size", "cycles, simulated", bounds)}


def host_section(grids: Sequence[int]) -> tuple[str, dict[str, str]]:
    """What it costs to find the cycles of a grid."""
    lines = {name: over_programs(kernel, grids) for name, kernel in GRIDS.items()}
    rows = [
        [
            name,
            *(duration(seconds) for _, seconds in points),
            f"{points[-1][1] / points[-1][0] * 1e9:,.4g} ns",
            f"{exponent(points):.2f}",
        ]
        for name, points in lines.items()
    ]
    headings = ["CPU time, with programs", *map(shown, grids), "a program", "grows with the power"]
    text = f"""## Cost of a simulation

CPU time for the cycles of a launch, all {HOST_THREADS} threads together, over the programs of its grid: the least of
{_TURNS} turns. Each program adds {_BLOCK} numbers. A kernel without a loop is served by one task a core; programs of
one with a loop are dispatched one by one. A power of 1.00 over the last two decades is exactly linear.

![CPU seconds over programs](images/scaling-host.svg)

{table(headings, rows)}
"""
    return text, {"scaling-host": curves(lines, "host", "programs of the grid", "CPU seconds of the host")}


def main(
    output: Annotated[Path, typer.Option(help="Directory for the page and its images/.")] = DOCUMENTS,
    most_programs: Annotated[int, typer.Option(help="Leave out larger grids.")] = PROGRAMS[-1],
) -> None:
    """Draw simulated cycles over cores, bandwidth and size, and the cost of simulating over the size of a grid."""
    host = partial(host_section, [programs for programs in PROGRAMS if programs <= most_programs])
    sections = [section() for section in (cores_section, bandwidth_section, size_section, host)]
    images = output / "images"
    images.mkdir(parents=True, exist_ok=True)
    for _, pictures in sections:
        for name, picture in pictures.items():
            (images / f"{name}.svg").write_text(picture + "\n", encoding="utf-8")
    begin = f"""# Scaling

Written by `make scaling`. Cycles are simulated, on {mlu.current_machine().name} unless it is said otherwise;
no value is computed. CPU times are of {platform.machine()}, Python {platform.python_version()}.
"""
    page = "\n".join([begin, *(text for text, _ in sections)])
    (output / "scaling.md").write_text(page, encoding="utf-8")
    print(output / "scaling.md")


if __name__ == "__main__":
    typer.run(main)
