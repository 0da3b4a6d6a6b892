"""``mlutriton explain``: what an error code, an instruction or a machine parameter means."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from mlutriton.cli.shipped import shipped
from mlutriton.diagnostics import CODES
from mlutriton.isa.machine import PARAMETERS
from mlutriton.isa.machine_reference import parameter_entry
from mlutriton.isa.manual import entry
from mlutriton.isa.table import TABLE

PAGES = shipped("error_pages", in_checkout="docs/reference/errors")


def explain(
    subject: Annotated[
        str | None, typer.Argument(help="Error code, instruction, or parameter of a machine; none lists the codes.")
    ] = None,
) -> None:
    """Explain an error code, an instruction of the machine, or a parameter of machine files.

    Examples: mlutriton explain E0301 · mlutriton explain v.fma · mlutriton explain dram_gb_per_s
    """
    console = Console(highlight=False)
    if subject is None:
        console.print(_codes())
        return
    text = explanation(subject)
    if text is None:
        known = [*CODES, *TABLE, *PARAMETERS]
        close = get_close_matches(subject, known, n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else "; 'mlutriton explain' lists the error codes"
        raise typer.BadParameter(f"there is no error code, instruction or machine parameter {subject!r}{hint}")
    console.print(Markdown(text) if console.is_terminal else text, markup=False, soft_wrap=not console.is_terminal)


def explanation(subject: str) -> str | None:
    """The page of a subject as Markdown, or None if there is no such thing."""
    if subject.upper() in CODES:
        return _error_page(subject.upper())
    # As it stands in a program, an instruction has element types for a suffix: v.add.f32.
    name = subject
    while name and name not in TABLE:
        name = name.rpartition(".")[0]
    if name:
        return entry(TABLE[name])
    if subject in PARAMETERS:
        return parameter_entry(PARAMETERS[subject])
    return None


def _error_page(code: str) -> str:
    page = PAGES / f"{code}.md"
    return page.read_text(encoding="utf-8") if page.is_file() else f"# {code}: {CODES[code]}"


def _codes() -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("code")
    table.add_column("error")
    for code, meaning in CODES.items():
        table.add_row(code, meaning)
    return table
