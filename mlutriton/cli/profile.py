"""``mlutriton profile``: run a script or a module and report every launch that it makes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Annotated

import typer

import mlutriton as mlu
from mlutriton.cli.console import check_output, console, error_console, needs_profile_extra
from mlutriton.cli.files import write_whole
from mlutriton.configuration import MACHINE_VARIABLE
from mlutriton.profile.examination import Examination
from mlutriton.profile.figures import figures
from mlutriton.profile.launches import LaunchGroup, record
from mlutriton.profile.script import Outcome, module_exists, run_module, run_script
from mlutriton.profile.terminal import examined, from_here, summary
from mlutriton.simulator.recording import SUFFIX

PASSED_ON = {"allow_interspersed_args": False, "ignore_unknown_options": False}


def profile(
    script: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="The script, run as Python would run it.", show_default=False)
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENT", help="What the script finds in sys.argv.", show_default=False),
    ] = None,
    is_module: Annotated[
        bool, typer.Option("-m", help="SCRIPT is the name of a module, as in python -m.", show_default=False)
    ] = False,
    machine: Annotated[
        str | None, typer.Option(help="Machine to simulate: a name or a TOML file.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as one page, which needs no network.", show_default=False)
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures as a JSON file.", show_default=False)
    ] = None,
    timelines: Annotated[
        Path | None, typer.Option(help="Directory for a timeline of each kernel, for Perfetto.", show_default=False)
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Directory for a recording of each kernel, for what-if.", show_default=False)
    ] = None,
    details: Annotated[int, typer.Option(min=0, help="Kernels that are reported at length.")] = 3,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Run a Python script and report every launch that it makes: of mlu.jit and triton.jit kernels alike.

    Whatever follows SCRIPT is passed on to it. The report follows what the script prints. If the script ends with a
    traceback or by Ctrl-C, that is shown, then the report of what ran until then. Launches of processes that the
    script starts are among those reported.

    Exit status: the script's own, or 1 if it ended with an exception; 2 if profile was called wrongly.

    For example:

      mlutriton profile softmax.py

      mlutriton profile --html report.html train.py --steps 2

      mlutriton profile --machine mlu370-x4 --recordings runs softmax.py

      mlutriton profile -m package.train --steps 2
    """
    if is_module and not module_exists(script):
        raise typer.BadParameter(f"there is no module {script}, neither here nor installed")
    if not is_module and not Path(script).is_file():
        raise typer.BadParameter(f"there is no script {script}")
    for path in (html, json_file):
        check_output(path, force=force)
    for directory in (timelines, recordings):
        _check_directory(directory, force=force)
    render = _page_renderer() if html else None
    # The script may change directory.
    html, json_file, timelines, recordings = (
        path and path.absolute() for path in (html, json_file, timelines, recordings)
    )
    with _machine_everywhere(machine), record() as launches:
        outcome = run_module(script, arguments or []) if is_module else run_script(Path(script), arguments or [])
    _show_end(outcome)
    groups = launches.groups()
    out = console()
    if not groups:
        error_console().print(f"{script} has launched no kernel.")
        raise typer.Exit(outcome.status)
    out.rule("simulated launches")
    out.print(summary(groups))
    if launches.child_launches:
        out.print(
            f"{launches.child_launches:,} launches of {launches.child_processes:,} child processes are among them."
        )
    kept = [(group, Examination(group.slowest)) for group in groups if group.slowest is not None]
    for _, found in kept[:details]:
        out.rule()
        out.print(examined(found))
    for path in _written(kept, timelines, recordings):
        out.print(f"wrote {from_here(path)}", soft_wrap=True)
    if json_file is not None:
        write_whole(json_file, (json.dumps(figures(script, launches), indent=1) + "\n").encode())
        out.print(f"wrote {from_here(json_file)}", soft_wrap=True)
    if html is not None and render is not None:
        write_whole(html, render(script, groups).encode())
        out.print(f"wrote {from_here(html)}", soft_wrap=True)
    raise typer.Exit(outcome.status)


@contextlib.contextmanager
def _machine_everywhere(machine: str | None) -> Generator[None]:
    """While this lasts, processes that are started take the machine as well, whatever directory they run in."""
    before = os.environ.get(MACHINE_VARIABLE)
    if machine is not None:
        mlu.set_machine(machine)
        os.environ[MACHINE_VARIABLE] = machine if machine in mlu.machines() else str(Path(machine).absolute())
    try:
        yield
    finally:
        if machine is not None:
            os.environ.pop(MACHINE_VARIABLE)
        if before is not None:
            os.environ[MACHINE_VARIABLE] = before


def _show_end(outcome: Outcome) -> None:
    sys.stdout.flush()
    if outcome.traceback:
        sys.stderr.write(outcome.traceback)
        sys.stderr.flush()


def _check_directory(directory: Path | None, *, force: bool) -> None:
    if directory is None:
        return
    if directory.exists() and not directory.is_dir():
        raise typer.BadParameter(f"{directory} is a file, not a directory")
    if not force and directory.is_dir() and any(directory.iterdir()):
        raise typer.BadParameter(f"{directory} is not empty; choose another, or write into it with --force")


def _page_renderer() -> Callable[[str, Sequence[LaunchGroup]], str]:
    try:
        from mlutriton.profile.page import render_profile  # needs what only the extra installs
    except ImportError as error:
        raise needs_profile_extra("an HTML report", error) from error
    return render_profile


def _written(
    kept: Sequence[tuple[LaunchGroup, Examination]], timelines: Path | None, recordings: Path | None
) -> list[Path]:
    """The files that were written for each group; names tell kernel and place in the summary."""
    paths: list[Path] = []
    for number, (group, found) in enumerate(kept, 1):
        name = f"{number:02}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', group.kernel)}"
        if timelines is not None:
            timelines.mkdir(parents=True, exist_ok=True)
            paths.append(found.run.timeline(timelines / f"{name}.json"))
        if recordings is not None:
            recordings.mkdir(parents=True, exist_ok=True)
            paths.append(found.run.save(recordings / f"{name}{SUFFIX}"))
    return paths
