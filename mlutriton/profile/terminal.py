"""The report of launches as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlutriton.profile.breakdown import CATEGORIES
from mlutriton.profile.examination import Examination, MemoryUse
from mlutriton.profile.launches import LaunchGroup
from mlutriton.profile.lossless_table import LosslessTable
from mlutriton.profile.source import SourceLine, SourcePart

# What is beneath this share is not worth a line.
LEAST_SHARE = 0.005
MOST_ADVICE = 5
MOST_GAINS = 5
_BAR_CELLS = 24


def bar(share: float, cells: int = _BAR_CELLS) -> str:
    """A bar of so many cells, filled to a share between 0 and 1, to the eighth of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * cells * 8)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def from_here(path: str | Path) -> str:
    """A path as it is named from the current directory, if it lies within."""
    absolute = Path(path).absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path)


def shown(value: float) -> str:
    """A machine parameter's value as text: yes or no, or a number of six digits at most if it is no integer."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{float(f'{value:.6g}'):,}"


def table(*columns: str, left: int = 1) -> Table:
    """A table without frame; the columns after the first ``left`` are numbers."""
    made = LosslessTable()
    for number, heading in enumerate(columns):
        justify = "left" if number < left else "right"
        made.add_column(heading, justify=justify, no_wrap=number >= left, overflow="fold")
    return made


def summary(groups: Sequence[LaunchGroup]) -> Table:
    """All launches, a line for those of one program, grid and machine."""
    made = table("kernel", "grid", "machine", "launches", "cycles each", "time us", "share", "bounded by", left=3)
    kernels = Counter(group.kernel for group in groups)
    total = sum(group.time_us for group in groups)
    for group in groups:
        cycles = f"{group.least_cycles:,}"
        if group.most_cycles != group.least_cycles:
            cycles += f" to {group.most_cycles:,}"
        bound = Examination(group.slowest).bounded_by.name if group.slowest else "-"
        # Constants are told where they tell programs apart.
        constants = f" {group.variant}" if kernels[group.kernel] > 1 else ""
        made.add_row(
            group.kernel + constants,
            " x ".join(map(str, group.grid)),
            group.machine,
            f"{group.launches:,}",
            cycles,
            f"{group.time_us:,.1f}",
            f"{group.time_us / max(total, 1e-9):.0%}",
            bound,
        )
    return made


def examined(found: Examination) -> RenderableType:
    """Everything about one launch."""
    run = found.run
    bound = found.bounded_by
    variant = f" ({run.variant})" if run.variant else ""
    head = Text(f"{run.kernel} {run.grid} on {run.machine.name}{variant}", style="bold")
    facts = Text(
        f"{run.cycles:,} cycles, {run.time_us:,.2f} us; bounded by {bound.name}: without that limit it would take "
        f"{bound.saved:.0%} fewer cycles.\n"
        f"schedule bound {run.schedule_bound_cycles:,}, work bound {run.work_bound_cycles:,} cycles "
        f"({run.cycles / max(run.work_bound_cycles, 1):.2f}x above); {run.gb_per_s:,.1f} GB/s of DRAM, "
        f"{run.tflop_per_s:.2f} TFLOP/s of tensor units; {run.assumed_share:.0%} of the cycles rest on assumed "
        "machine parameters."
    )
    parts: list[RenderableType] = [head, Padding(facts, (0, 0, 1, 2))]
    parts += [Padding(each, (0, 0, 1, 2)) for each in _parts(found)]
    return Group(*parts)


def _parts(found: Examination) -> Iterator[RenderableType]:
    yield _spent(found)
    yield _queues(found)
    yield _memories(found)
    yield from (_source(part) for part in found.source[:1])
    if elsewhere := found.source[1:]:
        names = ", ".join(f"{Path(part.file).name} {part.share:.0%}" for part in elsewhere if part.share > LEAST_SHARE)
        if names:
            yield Text(f"and in {names}")
    yield _gains(found)
    yield _advice(found)


def _spent(found: Examination) -> Table:
    total = max(sum(found.core_cycles.values()), 1)
    made = table("cores spend their cycles on", "share", "", left=1)
    made.columns[2].justify = "left"
    for name, cycles in sorted(found.core_cycles.items(), key=lambda pair: -pair[1]):
        if cycles / total >= LEAST_SHARE:
            made.add_row(f"{name}: {CATEGORIES[name]}", f"{cycles / total:.1%}", bar(cycles / total))
    return made


def _queues(found: Examination) -> Table:
    made = table("queue", "busy", "", "", left=1)
    made.columns[2].justify = made.columns[3].justify = "left"
    for use in found.queues:
        made.add_row(use.queue.value, f"{use.share:.1%}", bar(use.share), use.note)
    return made


def _memories(found: Examination) -> Table:
    made = table("memory", "bytes", "of", left=1)
    for use in found.on_chip:
        made.add_row(f"{use.name} high water", f"{use.used:,}", _limit(use, "usable"))
    for use in found.traffic:
        made.add_row(use.name, f"{use.used:,}", _limit(use, "distinct"))
    return made


def _limit(use: MemoryUse, what: str) -> str:
    return "" if use.limit is None else f"{use.limit:,} {what}"


def _source(part: SourcePart) -> Table:
    made = table("line", "share", "compute", "DMA", "stalled", from_here(part.file), left=0)
    made.columns[5].justify, made.columns[5].no_wrap = "left", False
    for line in part.lines:
        cost = line.cost
        if cost is None:
            made.add_row(str(line.number), "", "", "", "", Text(line.text))
            continue
        made.add_row(
            str(line.number),
            f"{line.share:.0%}" if line.share >= LEAST_SHARE else "",
            _count(cost.compute_cycles),
            _count(cost.io_cycles + cost.move_cycles),
            _count(cost.stalled_cycles),
            _with_stalls(line),
            style="bold" if line.share >= 0.1 else None,
        )
    return made


def _with_stalls(line: SourceLine) -> Text:
    text = Text(line.text)
    if line.stalls and line.share >= 10 * LEAST_SHARE:
        waits = " and ".join(f"{queue} of {_numbers(lines)}" for queue, lines in line.awaited)
        text.append(f"   # waits for {waits or line.stalls[0][0]}", style="dim")
    return text


def _numbers(lines: Sequence[int]) -> str:
    return f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}"


def _count(cycles: int) -> str:
    return f"{cycles:,}" if cycles else ""


def _gains(found: Examination) -> Table:
    made = table("machine parameter", "as it is", "if it were", "saves", left=1)
    for gain in found.gains[:MOST_GAINS]:
        made.add_row(gain.parameter, shown(gain.value), shown(gain.better), f"{gain.saved:.1%} of the time")
    return made


def _advice(found: Examination) -> RenderableType:
    if not found.advice:
        return Text("No change that was replayed would save more than 2 % of the cycles.")
    made = table("saves", "advice", left=2)
    for each in found.advice[:MOST_ADVICE]:
        made.add_row(f"{each.saved:.0%}", Text(str(each)))
    return made
