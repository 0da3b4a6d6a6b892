"""``mlutriton check``: run a script or a module and check every launch that it makes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from mlutriton.checking.launches import Checks, checked
from mlutriton.cli.console import console, progress_bar
from mlutriton.cli.scripts import Arguments, IsModule, Machine, Script, check_script, machine_everywhere, run, show_end
from mlutriton.waiting import shown_otherwise

FOUND = 1


def check(
    context: typer.Context,
    script: Script,
    arguments: Arguments = None,
    is_module: IsModule = False,
    machine: Machine = None,
    launches: Annotated[
        int, typer.Option(min=1, help="Launches of each kernel and grid that are checked: the first ones.")
    ] = 3,
) -> None:
    """Run a Python script and check every launch: for races between programs, and where NaN and infinities come from.

    Whatever follows SCRIPT is passed on to it. Each launch is run once more for the checks, program after program in
    plain NumPy, on a copy of its arrays: that takes some thousand times as long. Launches of processes that the
    script starts are not checked.

    Exit status: the script's own if nothing was found; 1 if something was, or the script ended with an exception; 2 if
    check was called wrongly.

    For example:

      mlutriton check softmax.py

      mlutriton check --launches 100 train.py --steps 2
    """
    check_script(script, is_module=is_module)
    here = Path.cwd()  # the script may change it
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with (
        progress_bar(*columns) as progress,
        shown_otherwise(),
        machine_everywhere(machine),
    ):
        task = progress.add_task("")

        def show(kernel: str, done: int, programs: int) -> None:
            progress.update(task, description=f"checking {kernel}", completed=done, total=programs)

        with checked(most_launches=launches, show=show) as checks:
            outcome = run(context, script, arguments, is_module=is_module)
    show_end(outcome)
    _report(checks, here)
    raise typer.Exit(outcome.status or (FOUND if len(checks.findings) else 0))


def _report(checks: Checks, here: Path) -> None:
    out = console()
    for finding in checks.findings:
        out.print(f"{finding}\n".replace(f"{here}{os.sep}", ""), markup=False, soft_wrap=True)
    found = len(checks.findings)
    out.print(f"{_counted(checks.launches, 'launch', 'launches')} checked, {found or 'nothing'} found")
    for reason, count in checks.passed_over.items():
        out.print(f"not checked: {count:,} {reason}")


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
