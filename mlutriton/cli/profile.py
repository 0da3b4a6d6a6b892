"""``mlutriton profile``: run a script or a module and report every launch that it makes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import mlutriton as mlu
from mlutriton.cli.console import check_output, check_writable, console, error_console, needs_profile_extra
from mlutriton.configuration import MACHINE_VARIABLE
from mlutriton.files import write_whole
from mlutriton.profile.examination import Examination
from mlutriton.profile.figures import figures
from mlutriton.profile.launches import Launches, LaunchGroup, record
from mlutriton.profile.script import Outcome, module_exists, run_module, run_script
from mlutriton.profile.terminal import examined, from_here, summary
from mlutriton.simulator.recording import SUFFIX

UNWRITABLE = 2
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

    Exit status: the script's own, or 1 if it ended with an exception; 2 if profile was called wrongly, or a file could
    not be written.

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
    with machine_everywhere(machine), record() as launches:
        outcome = run_module(script, arguments or []) if is_module else run_script(Path(script), arguments or [])
    show_end(outcome)
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
    files = dict(_files_of_runs(kept, timelines, recordings))
    if json_file is not None:
        files[json_file] = lambda path: write_whole(
            path, (json.dumps(figures(script, launches), indent=1) + "\n").encode()
        )
    if html is not None and render is not None:
        files[html] = lambda path: write_whole(path, render(script, launches).encode())
    raise typer.Exit(outcome.status if _are_written(out, files) else UNWRITABLE)


@contextlib.contextmanager
def machine_everywhere(machine: str | None) -> Generator[None]:
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


def show_end(outcome: Outcome) -> None:
    """Show how a script has ended, behind what it printed."""
    print(end="", flush=True)
    if outcome.traceback:
        sys.stderr.write(outcome.traceback)
        sys.stderr.flush()


def _check_directory(directory: Path | None, *, force: bool) -> None:
    if directory is None:
        return
    if directory.exists() and not directory.is_dir():
        raise typer.BadParameter(f"{directory} is a file, not a directory")
    check_writable(directory)
    if not force and directory.is_dir() and any(directory.iterdir()):
        raise typer.BadParameter(f"{directory} is not empty; choose another, or write into it with --force")


def _page_renderer() -> Callable[[str, Launches], str]:
    try:
        from mlutriton.profile.page import render_profile  # needs what only the extra installs
    except ImportError as error:
        raise needs_profile_extra("an HTML report", error) from error
    return render_profile


def _files_of_runs(
    kept: Sequence[tuple[LaunchGroup, Examination]], timelines: Path | None, recordings: Path | None
) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    """The files of each group, and what writes them; names tell kernel and place in the summary."""
    for number, (group, found) in enumerate(kept, 1):
        name = f"{number:02}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', group.kernel)}"
        if timelines is not None:
            yield timelines / f"{name}.json", found.run.timeline
        if recordings is not None:
            yield recordings / f"{name}{SUFFIX}", found.run.save


def _are_written(out: Console, files: Mapping[Path, Callable[[Path], object]]) -> bool:
    """Write each file; of one that cannot be written it is said why, and the others are written all the same."""
    problems = 0
    for path, write in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
        except OSError as problem:
            problems += 1
            error_console().print(f"error: {from_here(path)}: {problem.strerror}", markup=False)
        else:
            out.print(f"wrote {from_here(path)}", soft_wrap=True)
    return not problems
