"""Measures the figures, prints them as a table and keeps them: ``python -m benchmarks``."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import mlutriton as mlu
from benchmarks import (
    HOST_THREADS,
    against_handwritten,
    against_interpreter,
    against_numpy,
    compilation,
    cycles,
    default_schedules,
    launching,
    small_kernels,
    tracing,
)
from benchmarks.figure import Figure, Measured, NotMeasurableError, Verdict
from mlutriton.diagnostics import MluError

GROUPS: dict[str, tuple[Figure, ...]] = {
    "Host speed": against_numpy.FIGURES + against_interpreter.FIGURES,
    "Compile time": compilation.FIGURES + small_kernels.FIGURES,
    "Timing": tracing.FIGURES,
    "Launches": launching.FIGURES,
    "Simulated cycles": cycles.FIGURES,
    "Kernels for GPUs as they are": default_schedules.FIGURES,
    "Simulated cycles against assembly by hand": against_handwritten.FIGURES,
}
HEADINGS = ("figure", "goal", "first aim", "measured", "from", "verdict")
_STYLES = {Verdict.GOAL: "green", Verdict.AIM: "yellow", Verdict.BELOW: "red", Verdict.UNMEASURED: "dim"}
# Rich cuts rows off to fit 80 columns, and takes a log for that narrow; a row that wraps can still be read.
_TABLE_WIDTH = 140


@dataclass(frozen=True)
class Row:
    """A figure with what was measured, or with the reason why nothing was."""

    group: str
    figure: Figure
    measured: Measured | None
    problem: str = ""
    failed: bool = False

    @property
    def verdict(self) -> Verdict:
        """How the figure stands."""
        return self.figure.verdict(self.measured.value) if self.measured else Verdict.UNMEASURED

    def cells(self) -> tuple[str, ...]:
        """The text of the row, one for each of ``HEADINGS``."""
        figure, measured = self.figure, self.measured
        return (
            figure.name,
            figure.limit_text(figure.goal),
            figure.limit_text(figure.aim),
            figure.unit.text(measured.value) if measured else "",
            measured.text if measured else self.problem.partition("\n")[0],
            "failed" if self.failed else self.verdict.value,
        )

    def to_json(self) -> dict[str, object]:
        """The row as a JSON object."""
        return {
            "group": self.group,
            "figure": self.figure.name,
            "unit": self.figure.unit.name.lower(),
            "goal": self.figure.goal,
            "aim": self.figure.aim,
            "less_is_better": self.figure.less_is_better,
            "value": self.measured and self.measured.value,
            "numbers": self.measured and self.measured.numbers,
            "verdict": self.verdict.name.lower(),
            "problem": self.problem,
        }


def main(
    quick: Annotated[bool, typer.Option(help="Repeat less: rough numbers in a few minutes.")] = False,
    only: Annotated[str, typer.Option(help="Measure only figures whose name or group contains this text.")] = "",
    output: Annotated[Path, typer.Option(help="File for the numbers, as JSON.")] = Path("build/bench.json"),
    page: Annotated[Path | None, typer.Option(help="Also write the table as a page of Markdown.")] = None,
) -> None:
    """Measure what the project promises, with both sides of each comparison in the same run."""
    chosen = [
        (group, figure)
        for group, figures in GROUPS.items()
        for figure in figures
        if only.lower() in f"{group} {figure.name}".lower()
    ]
    if not chosen:
        raise typer.BadParameter(f"no figure contains {only!r}")
    # Before the measurements load the host themselves.
    described = conditions()
    rows = measure_all(chosen, quick=quick)
    console = Console(width=max(Console().width, _TABLE_WIDTH), highlight=False)
    console.print(table_of(rows))
    console.print(described, style="dim")
    output.parent.mkdir(parents=True, exist_ok=True)
    numbers = {"conditions": described, "quick": quick, "figures": [row.to_json() for row in rows]}
    output.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    console.print(f"Numbers: {output}", style="dim")
    if page is not None:
        page.write_text(markdown_of(rows, described), encoding="utf-8")
    failed = [row for row in rows if row.failed]
    for row in failed:
        console.print(f"FAILED {row.figure.name}\n{row.problem}", style="red", markup=False)
    if failed:
        raise typer.Exit(1)


def measure_all(chosen: list[tuple[str, Figure]], *, quick: bool) -> list[Row]:
    """Measure figures in turn behind a progress bar, and go on after one that fails."""
    rows: list[Row] = []
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(chosen))
        for group, figure in chosen:
            progress.update(task, description=figure.name)
            try:
                rows.append(Row(group, figure, figure.measure(quick)))
            except NotMeasurableError as reason:
                rows.append(Row(group, figure, None, str(reason)))
            except Exception as error:  # what is wrong with one figure must not lose the others
                problem = str(error) if isinstance(error, MluError) else f"{type(error).__name__}: {error}"
                rows.append(Row(group, figure, None, problem, failed=True))
            progress.advance(task)
    return rows


def table_of(rows: list[Row]) -> Table:
    """The rows as a table for the terminal, in sections by group."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in HEADINGS[1:4] else "left", overflow="fold")
    for index, row in enumerate(rows):
        *cells, verdict = row.cells()
        style = "red" if row.failed else _STYLES.get(row.verdict, "")
        ends_group = index + 1 < len(rows) and rows[index + 1].group != row.group
        table.add_row(*cells, f"[{style}]{verdict}[/]" if style else verdict, end_section=ends_group)
    return table


def markdown_of(rows: list[Row], described: str) -> str:
    """The rows as a page."""
    lines = ["# Benchmarks", "", "Written by `make bench`. " + described, ""]
    for group in dict.fromkeys(row.group for row in rows):
        lines += [f"## {group}", "", "| " + " | ".join(HEADINGS) + " |", "|---|--:|--:|--:|---|---|"]
        lines += ["| " + " | ".join(row.cells()) + " |" for row in rows if row.group == group]
        lines.append("")
    return "\n".join(lines)


def conditions() -> str:
    """What the numbers rest on."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("triton", "llvmlite", "numpy"))
    return (
        f"Simulated machine {mlu.current_machine().name}; {HOST_THREADS} host threads on each side,"
        f" {platform.machine()}, Python {platform.python_version()}, {versions}."
        " Host times are medians of turns taken by both sides in one run;"
        " a ratio says how many times faster mlutriton is."
        f" Load of the host when this began: {os.getloadavg()[0]:.1f}; above 0.5, host times are doubtful."
    )


if __name__ == "__main__":
    typer.run(main)
