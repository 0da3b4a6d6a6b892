"""``mlutriton machines``: what there is to simulate, where its figures come from, and files of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import mlutriton as mlu
from mlutriton.cli.console import check_output, console, needs_profile_extra
from mlutriton.files import write_whole
from mlutriton.isa.machine import DEFAULT_MACHINE_NAME, PARAMETERS, Machine
from mlutriton.isa.machine_file import CONFIDENCES, Confidence
from mlutriton.isa.machine_reference import source_keys
from mlutriton.profile.terminal import shown, table

# Colours come on top of words: no row says by colour alone how sure it is.
_STYLES: dict[Confidence, str] = {"sourced": "green", "derived": "", "assumed": "yellow"}

app = typer.Typer(no_args_is_help=True)


@app.callback()
def machines() -> None:
    """List, show, compare and validate the machines that can be simulated."""


@app.command("list")
def list_machines() -> None:
    """List the machines that come with the package.

    Example: mlutriton machines list
    """
    made = table("machine", "cores", "MHz", "NRAM KiB", "DRAM GB/s", "L2 MiB", "int8 TOP/s", "fp16 TFLOP/s", "sources")
    made.columns[-1].justify = "left"
    for name in mlu.machines():
        machine = mlu.machine(name)
        half = _peak(machine, "f16")
        made.add_row(
            name + (" (default)" if name == DEFAULT_MACHINE_NAME else ""),
            f"{machine.cores:,}",
            f"{machine.clock_mhz:,}",
            f"{machine.nram_bytes // 1024:,}",
            f"{machine.dram_gb_per_s:,.1f}",
            f"{machine.l2_bytes / (1 << 20):,.4g}",
            f"{_peak(machine, 'i8'):,.0f}",
            f"{half:,.0f}" if half else "-",
            _counts(machine),
        )
    console().print(made)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="MACHINE", help="A name, or a TOML file.")],
    toml: Annotated[bool, typer.Option("--toml", help="Print it as a machine file that extends nothing.")] = False,
) -> None:
    """Show every value of a machine with its source and how sure it is.

    Example: mlutriton machines show mlu590-m9
    """
    machine = mlu.machine(name)
    if toml:
        typer.echo(machine.to_toml(), nl=False)
        return
    out = console()
    out.print(f"{machine.name}: {_counts(machine)}", style="bold")
    for section, parameters in groupby(PARAMETERS.values(), lambda each: each.section):
        made = table(section, "value", "unit", "confidence", "source", left=1)
        for column in made.columns[2:]:
            column.justify, column.no_wrap = "left", False
        for each in parameters:
            origin = machine.provenance(each.name)
            value = shown(machine.values[each.name])
            made.add_row(
                each.name, value, each.unit, origin.confidence, origin.source, style=_STYLES[origin.confidence]
            )
        out.print()
        out.print(made)
    out.print()
    out.print(_sources([machine]))


@app.command("compare")
def compare(
    names: Annotated[list[str], typer.Argument(metavar="MACHINE MACHINE...", help="Names, or TOML files.")],
    every: Annotated[bool, typer.Option("--all", help="Also show values that are the same.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the comparison as a page.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the page if it is there.")] = False,
) -> None:
    """Compare machines, value by value; * marks what is assumed.

    Example: mlutriton machines compare mlu370-x4 mlu590-m9 --html machines.html
    """
    if len(names) < 2:
        raise typer.BadParameter("a comparison takes two machines or more; see mlutriton machines list")
    check_output(html, force=force)
    render = _page_renderer() if html else None
    chosen = [mlu.machine(name) for name in names]
    made = table("parameter", *(machine.name for machine in chosen), "unit")
    made.columns[-1].justify = "left"
    same = 0
    for name, parameter in PARAMETERS.items():
        values = [machine.values[name] for machine in chosen]
        if not every and len({repr(value) for value in values}) == 1:
            same += 1
            continue
        made.add_row(name, *(_marked(machine, name) for machine in chosen), parameter.unit)
    out = console()
    out.print(made)
    if same:
        out.print(f"{same} of {len(PARAMETERS)} values are the same; --all shows them too.")
    if html is not None and render is not None:
        write_whole(html, render(chosen).encode())
        out.print(f"wrote {html}", soft_wrap=True)


@app.command("validate")
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A machine file.")],
) -> None:
    """Check a machine file, and say what it changes.

    Exit status: 0 if it is a machine; 2 if not, with the line and what is expected there.

    Example: mlutriton machines validate my-machine.toml
    """
    machine = Machine.load(file)
    out = console()
    out.print(f"{file} is a machine: {machine.name}, {machine.cores} cores, {_counts(machine)}")
    close = min(mlu.machines(), key=lambda name: len(_differing(mlu.machine(name), machine)))
    differing = _differing(mlu.machine(close), machine)
    if not differing:
        out.print(f"It behaves like {close}.")
        return
    out.print(f"It differs from {close}, the preset that is closest, in {len(differing)} of {len(PARAMETERS)} values.")
    if machine.name in mlu.machines():
        out.print("Its name is that of a preset, and reports do not tell the two apart: give it one of its own.")
    made = table("parameter", close, machine.name, "confidence", "source")
    for column in made.columns[3:]:
        column.justify, column.no_wrap = "left", False
    for name in differing:
        origin = machine.provenance(name)
        values = shown(mlu.machine(close).values[name]), shown(machine.values[name])
        made.add_row(name, *values, origin.confidence, origin.source)
    out.print(made)


def _differing(one: Machine, other: Machine) -> list[str]:
    return [name for name in PARAMETERS if one.values[name] != other.values[name]]


def _peak(machine: Machine, dtype: str) -> float:
    """Peak of the tensor units in 10^12 operations a second."""
    return 2 * machine.cores * machine.values[f"mac_per_cycle_{dtype}"] * machine.clock_mhz / 1e6


def _counts(machine: Machine) -> str:
    counts = Counter(origin.confidence for origin in machine.provenances.values())
    return ", ".join(f"{counts[confidence]} {confidence}" for confidence in CONFIDENCES)


def _marked(machine: Machine, name: str) -> str:
    return shown(machine.values[name]) + ("*" if machine.provenance(name).confidence == "assumed" else " ")


def _sources(chosen: Iterable[Machine]) -> Table:
    """What the keys that begin source texts stand for."""
    texts = " ".join(origin.source for machine in chosen for origin in machine.provenances.values())
    made = table("key", "source", left=2)
    for key, meaning in source_keys().items():
        if key in texts:
            made.add_row(key, meaning)
    return made


def _page_renderer() -> Callable[[Sequence[Machine]], str]:
    try:
        from mlutriton.profile.page import render_machines  # needs what only the extra installs
    except ImportError as error:
        raise needs_profile_extra("a page", error) from error
    return render_machines
