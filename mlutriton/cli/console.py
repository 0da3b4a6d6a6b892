"""How commands speak: consoles, and what they say before they do anything."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import IO, Any, cast

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn

from mlutriton.files import is_stream
from mlutriton.waiting import is_wanted

# A pipe has no width: rows are as long as they like, text is broken where it can still be read.
PIPE_WIDTH = 160
_UNLIMITED = 1 << 16
_WRONG_COMMAND_LINE = 2


class ReportConsole(Console):
    """Prints tables that lose nothing: what a narrow terminal has no room for, it wraps.

    Rich itself cuts numbers and names off to fit.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Rich does, but in as many columns as words and numbers of tables need."""
        unlimited = self.options.update(max_width=_UNLIMITED)
        needed = [Measurement.get(self, unlimited, each).minimum for each in objects if not isinstance(each, str)]
        before, self.width = self.width, max(self.width, *needed, 0)
        try:
            super().print(*objects, **options)
        finally:
            self.width = before


class _WithoutTrailingBlanks:
    """Standard output, in whose lines nothing follows the text: a narrow terminal would wrap blanks as well."""

    def write(self, text: str) -> int:
        """Write text of whole lines."""
        sys.stdout.write(re.sub(r" +$", "", text, flags=re.MULTILINE))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


def console(*, width: int | None = None, record: bool = False) -> Console:
    """The console for results: plain text where the output is no terminal or ``NO_COLOR`` is set.

    Args:
        width: in columns; by default that of the terminal.
        record: True to keep what is printed, to export it.
    """
    if width is None and "COLUMNS" not in os.environ and not sys.stdout.isatty():
        width = PIPE_WIDTH
    file = cast("IO[str]", _WithoutTrailingBlanks())
    return ReportConsole(file=file, highlight=False, width=width, record=record)


def error_console() -> Console:
    """The console for errors and progress."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on the console for errors, which is gone in the end; none where that is no terminal, or none is wanted."""
    shown_on = error_console()
    return Progress(*columns, console=shown_on, transient=True, disable=not (shown_on.is_terminal and is_wanted()))


def check_output(path: Path | None, *, force: bool) -> None:
    """Refuse to overwrite a file, before anything is done for it.

    Raises:
        BadParameter: it is there and ``force`` is not set, or its directory is not there.
    """
    if path is None:
        return
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a directory")
    if is_stream(path):
        return
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} exists; choose another name, or overwrite it with --force")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"there is no directory {path.parent}")
    check_writable(path.parent)


def check_writable(directory: Path) -> None:
    """See that files can be made in a directory, or that it can be made itself, before anything is done for them.

    Raises:
        BadParameter: it is no directory, or not writable.
    """
    while not directory.exists():
        directory = directory.absolute().parent
    if not os.access(directory, os.W_OK | os.X_OK) or not directory.is_dir():
        raise typer.BadParameter(f"nothing can be written in {directory}")


def needs_profile_extra(what: str, error: ImportError) -> typer.Exit:
    """Say what to install for something that needs an optional package; to be raised."""
    error_console().print(
        f"error: {what} needs {error.name}\n  help: pip install 'mlutriton[profile]'", style="red", markup=False
    )
    return typer.Exit(_WRONG_COMMAND_LINE)
