"""Entry point of the ``mlutriton`` command.

Exit codes: 0, done; 1, a kernel or a program failed, or its values are wrong; 2, the command line is wrong.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from mlutriton import ArgumentError, MluError, __version__
from mlutriton.cli import machines
from mlutriton.cli.check import check
from mlutriton.cli.demo import demo
from mlutriton.cli.explain import explain
from mlutriton.cli.profile import profile
from mlutriton.cli.programs import asm, compile, disasm
from mlutriton.cli.run import run
from mlutriton.cli.scripts import PASSED_ON
from mlutriton.cli.tune import CommandOfAssignments, tune
from mlutriton.cli.what_if import what_if

FAILED = 1
WRONG_COMMAND_LINE = 2


class Commands(TyperGroup):
    """Commands whose errors are shown as their text: a traceback would be of ours, and of no use to anyone."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        if sys.stdout is None or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed: >&-
            sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
        try:
            return super().invoke(ctx)
        except ArgumentError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(WRONG_COMMAND_LINE) from error
        except MluError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(FAILED) from error
        except BrokenPipeError:
            raise  # whoever read the output has seen enough; typer ends quietly
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            typer.echo(f"error: {place}{error.strerror or error}", err=True)
            raise typer.Exit(WRONG_COMMAND_LINE) from error


app = typer.Typer(
    name="mlutriton",
    cls=Commands,
    help="Write, debug, profile and tune Triton kernels for a simulated MLU.",
    epilog="Exit codes: 0 done, 1 a kernel or program failed or its values are wrong, 2 wrong command line.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
for command in (demo, compile, asm, disasm, run, explain):
    app.command()(command)
app.command(context_settings=PASSED_ON)(profile)
app.command(context_settings=PASSED_ON)(check)
app.command("what-if")(what_if)
app.add_typer(machines.app, name="machines")
app.command(cls=CommandOfAssignments)(tune)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlutriton {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Write, debug, profile and tune Triton kernels for a simulated MLU."""


if __name__ == "__main__":
    app()
