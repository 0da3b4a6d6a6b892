"""How commands speak: consoles, and what they say before they do anything."""

from __future__ import annotations

import os
from pathlib import Path

import typer
from rich.console import Console

# Rich cuts numbers off to fit a narrow console, and takes a pipe for one; a row that wraps can still be read.
LEAST_WIDTH = 100
PIPE_WIDTH = 160
_WRONG_COMMAND_LINE = 2


def console() -> Console:
    """The console for results: plain text where the output is no terminal or ``NO_COLOR`` is set."""
    made = Console(highlight=False)
    if "COLUMNS" in os.environ:
        return made
    return Console(highlight=False, width=max(made.width, LEAST_WIDTH if made.is_terminal else PIPE_WIDTH))


def error_console() -> Console:
    """The console for errors and progress."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def check_output(path: Path | None, *, force: bool) -> None:
    """Refuse to overwrite a file, before anything is done for it.

    Raises:
        BadParameter: it is there and ``force`` is not set, or its directory is not there.
    """
    if path is None:
        return
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a directory")
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} exists; choose another name, or overwrite it with --force")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"there is no directory {path.parent}")


def needs_profile_extra(what: str, error: ImportError) -> typer.Exit:
    """Say what to install for something that needs an optional package; to be raised."""
    error_console().print(
        f"error: {what} needs {error.name}\n  help: pip install 'mlutriton[profile]'", style="red", markup=False
    )
    return typer.Exit(_WRONG_COMMAND_LINE)
