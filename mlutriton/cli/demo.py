"""``mlutriton demo``: run every example, check it against NumPy and show its simulated speed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import mlutriton as mlu
from mlutriton.cli.console import console, progress_bar
from mlutriton.cli.shipped import shipped
from mlutriton.diagnostics import MluError
from mlutriton.profile.lossless_table import LosslessTable
from mlutriton.testing import Case, CaseResult, load_examples
from mlutriton.waiting import shown_otherwise

EXAMPLES = shipped("examples", in_checkout="examples")

# Of the picture, in columns.
PICTURE_WIDTH = 148


@dataclass(frozen=True)
class Outcome:
    """A case with its result, or with the reason why it has none."""

    case: Case
    result: CaseResult | None
    failure: str


def demo(
    examples: Annotated[
        Path, typer.Argument(help="An example file, or a directory of them.", show_default="the project's own")
    ] = EXAMPLES,
    machine: Annotated[str, typer.Option(help="Machine to simulate: a name or a TOML file.")] = "mlu590-m9",
    filter: Annotated[str, typer.Option(help="Run only cases whose name or shape contains this text.")] = "",
    output: Annotated[Path, typer.Option(help="Directory for the timeline.")] = Path(),
    svg: Annotated[Path | None, typer.Option(help="Also draw the table as this SVG file.")] = None,
) -> None:
    """Run the examples on the simulated machine and compare every value with NumPy."""
    out = console(width=PICTURE_WIDTH if svg else None, record=True)
    mlu.set_machine(machine)
    try:
        cases = [case for example in load_examples(examples) for case in example.cases if filter in case.label]
    except (AttributeError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error
    if not cases:
        raise typer.BadParameter(f"no case in {examples} contains {filter!r}")

    outcomes = run_cases(cases)
    out.print(results_table(outcomes, machine))
    out.print("Cycles, times and rates are simulated; only the last column is measured on this host.", style="dim")
    if svg:
        # Without an id of its own, the file would change with every run.
        out.save_svg(str(svg), title="mlutriton demo", unique_id="demo")
    if timeline := write_timeline(outcomes, output):
        out.print(f"Timeline: {timeline} (open it at https://ui.perfetto.dev)", soft_wrap=True)
    failed = [outcome for outcome in outcomes if outcome.failure]
    for outcome in failed:
        out.print(f"FAILED {outcome.case.label}\n{outcome.failure}", style="red", markup=False)
    if failed:
        raise typer.Exit(1)


def run_cases(cases: list[Case]) -> list[Outcome]:
    """Run cases in turn behind a progress bar, and go on after one that fails."""
    outcomes: list[Outcome] = []
    columns = (SpinnerColumn(), TextColumn("{task.completed}/{task.total} {task.description}"), TimeElapsedColumn())
    with progress_bar(*columns) as progress, shown_otherwise():
        task = progress.add_task("", total=len(cases))
        for case in cases:
            progress.update(task, description=case.label)
            try:
                result = case.run()
                outcomes.append(Outcome(case, result, "\n".join(result.mismatches)))
            except MluError as error:
                outcomes.append(Outcome(case, None, str(error)))
            progress.advance(task)
    return outcomes


def results_table(outcomes: list[Outcome], machine: str) -> Table:
    """Lay the outcomes out, one row a case."""
    table = LosslessTable(title=f"Simulated on {machine}")
    table.add_column("kernel", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    for heading in ("max error", "cycles", "time us", "work bound", "ratio", "GB/s", "TFLOP/s", "host s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in outcomes:
        case, result = outcome.case, outcome.result
        if result is None:
            table.add_row(case.name, case.shape, "failed", style="red")
            continue
        run = result.run
        table.add_row(
            case.name,
            case.shape,
            f"{result.max_error:.2g}",
            f"{run.cycles:,}",
            f"{run.time_us:,.1f}",
            f"{run.work_bound_cycles:,}",
            f"{run.cycles / run.work_bound_cycles:.2f}",
            f"{run.gb_per_s:,.0f}",
            f"{run.tflop_per_s:.2f}" if case.flops else "-",
            f"{result.host_seconds:.3f}",
            style="red" if outcome.failure else None,
        )
    return table


def write_timeline(outcomes: list[Outcome], directory: Path) -> Path | None:
    """Write the timeline of the case that is furthest from its work bound: there is the most to see in it."""
    finished = [(outcome.case, outcome.result.run) for outcome in outcomes if outcome.result]
    if not finished:
        return None
    case, run = max(finished, key=lambda pair: pair[1].cycles / pair[1].work_bound_cycles)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{case.label.replace(' ', '-').replace('/', '-')}.json"
    run.timeline(str(path))
    return path
