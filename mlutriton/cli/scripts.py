"""What commands share that run a script: how it is named, and how it is run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated

import typer

import mlutriton as mlu
from mlutriton.cli.console import error_console
from mlutriton.configuration import MACHINE_VARIABLE
from mlutriton.profile.script import Outcome, module_exists, run_module, run_script

PASSED_ON = {"allow_interspersed_args": False, "ignore_unknown_options": False}

Script = Annotated[
    str, typer.Argument(metavar="SCRIPT", help="The script, run as Python would run it.", show_default=False)
]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="ARGUMENT", help="What the script finds in sys.argv.", show_default=False),
]
IsModule = Annotated[
    bool, typer.Option("-m", help="SCRIPT is the name of a module, as in python -m.", show_default=False)
]
Machine = Annotated[str | None, typer.Option(help="Machine to simulate: a name or a TOML file.", show_default=False)]


def check_script(script: str, *, is_module: bool) -> None:
    """Refuse a script or module that is not there.

    Raises:
        BadParameter: there is none of that name.
    """
    if is_module and not module_exists(script):
        raise typer.BadParameter(f"there is no module {script}, neither here nor installed")
    if not is_module and not Path(script).is_file():
        raise typer.BadParameter(f"there is no script {script}")


def run(context: typer.Context, script: str, arguments: Sequence[str] | None, *, is_module: bool) -> Outcome:
    """Run a script or a module to its end; it is said if arguments of it look like options of the command."""
    command = context.command
    options = {name for each in command.params for name in each.opts if name.startswith("--")}
    for argument in arguments or ():
        if argument.partition("=")[0] in options:
            note = (
                f"note: {argument} is passed on to {script}; as an option of {command.name} it stands before {script}"
            )
            error_console().print(note, markup=False)
    return run_module(script, arguments or []) if is_module else run_script(Path(script), arguments or [])


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
