"""``mlutriton profile``: run a script or a module and report every launch that it makes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlutriton.cli.console import check_output, check_writable, console, error_console, needs_profile_extra
from mlutriton.cli.scripts import Arguments, IsModule, Machine, Script, check_script, machine_everywhere, run, show_end
from mlutriton.files import write_whole
from mlutriton.profile.examination import Examination
from mlutriton.profile.figures import figures
from mlutriton.profile.launches import Launches, LaunchGroup, record
from mlutriton.profile.terminal import examined, from_here, summary
from mlutriton.simulator.recording import SUFFIX

UNWRITABLE = 2


def profile(
    context: typer.Context,
    script: Script,
    arguments: Arguments = None,
    is_module: IsModule = False,
    machine: Machine = None,
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
    check_script(script, is_module=is_module)
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
        outcome = run(context, script, arguments, is_module=is_module)
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
