"""``mlutriton what-if``: replay a recorded launch on other machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import mlutriton as mlu
from mlutriton.cli.console import check_output, console, needs_profile_extra
from mlutriton.files import write_whole
from mlutriton.isa.machine import Machine
from mlutriton.isa.machine_file import Value
from mlutriton.profile.sensitivity import FACTOR, Gain, sensitivity
from mlutriton.profile.sweep import Point, points, setting, sizes_kept, swept
from mlutriton.profile.terminal import LEAST_SHARE, bar, shown, table
from mlutriton.simulator.report import Run
from mlutriton.waiting import working


def what_if(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="The recorded launch.", show_default=False)],
    machine: Annotated[
        list[str] | None, typer.Option(help="A machine: a name or a TOML file.", show_default=False)
    ] = None,
    changed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a parameter.", show_default=False),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=A..B:STEPS", help="Change a parameter step by step.", show_default=False),
    ] = None,
    factor: Annotated[float, typer.Option(min=1.01, help="How much better a parameter is made.")] = FACTOR,
    html: Annotated[Path | None, typer.Option(help="Write table and plot as a page.", show_default=False)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Replay a recorded launch on other machines, without running anything again.

    RECORDING is what run.save(...) or mlutriton profile --recordings has written. Without --set, --sweep or --machine,
    the answer is which machine parameter the launch would gain from.

    A range is FIRST..LAST in 8 even steps, FIRST..LAST:STEPS, or FIRST..LAST:STEPS:log; or values with commas. Several
    sweeps are combined. Cycles of scalar, vector and tensor instructions are part of a recording: their parameters
    cannot be changed, and the machine must have the same instruction set.

    Exit status: 0; 1 if the recording is none; 2 if a machine or a value cannot be used.

    For example:

      mlutriton what-if softmax.mlurun

      mlutriton what-if softmax.mlurun --machine mlu590-h8 --machine mlu580

      mlutriton what-if softmax.mlurun --set l2_latency_ns=100 --sweep dram_gb_per_s=500..4000:8
    """
    for path in (html, json_file):
        check_output(path, force=force)
    render = _page_renderer() if html else None
    run = Run.load(recording)
    settings: dict[str, Value] = dict(map(setting, changed or []))
    sweeps = list(map(swept, sweep or []))
    machines = [_changed(mlu.machine(name), settings) for name in machine or []]
    found: list[Point] = []
    gains: list[Gain] = []
    with working(f"replaying {run.kernel}"):
        if machines or settings or sweeps:
            found = points(run, machines or [_changed(run.machine, settings)], sweeps)
        else:
            gains = sensitivity(run, factor)
    out = console()
    out.print(
        f"{run.kernel} {run.grid}, recorded on {run.machine.name}: {run.cycles:,} cycles, {run.time_us:,.2f} us",
        style="bold",
    )
    out.print(points_table(run, found) if found else gains_table(gains, factor))
    if kept := sizes_kept(run, found):
        out.print(kept)
    if json_file is not None:
        write_whole(json_file, (json.dumps(_figures(run, found, gains), indent=1) + "\n").encode())
        out.print(f"wrote {json_file}", soft_wrap=True)
    if html is not None and render is not None:
        write_whole(html, render(run, found, gains).encode())
        out.print(f"wrote {html}", soft_wrap=True)


def _changed(machine: Machine, settings: dict[str, Value]) -> Machine:
    """The machine with changed parameters, which its name tells from then on."""
    if not settings:
        return machine
    changes = ", ".join(f"{name}={shown(value)}" for name, value in settings.items())
    return machine.replace(name=f"{machine.name}, {changes}", **settings)


def _page_renderer() -> Callable[[Run, Sequence[Point], Sequence[Gain]], str]:
    try:
        from mlutriton.profile.page import render_what_if  # needs what only the extra installs
    except ImportError as error:
        raise needs_profile_extra("an HTML page", error) from error
    return render_what_if


def points_table(run: Run, found: Sequence[Point]) -> Table:
    """The launch on each machine, a line for each."""
    names = list(dict.fromkeys(name for point in found for name in point.changes))
    made = table("machine", *names, "cycles", "time us", "of recorded", "")
    made.columns[-1].justify = "left"
    slowest = max([run.time_us, *(point.time_us for point in found)])
    made.add_row(
        f"{run.machine.name} as recorded",
        *(shown(run.machine.values[name]) for name in names),
        f"{run.cycles:,}",
        f"{run.time_us:,.2f}",
        "1.00x",
        bar(run.time_us / slowest),
    )
    for point in found:
        made.add_row(
            point.machine.name,
            *(shown(point.machine.values[name]) for name in names),
            f"{point.cycles:,}",
            f"{point.time_us:,.2f}",
            f"{point.time_us / run.time_us:.2f}x",
            bar(point.time_us / slowest),
        )
    return made


def gains_table(gains: Sequence[Gain], factor: float) -> Table:
    """What each parameter would save."""
    made = table("parameter", "as it is", f"{factor:g} times better", "cycles", "time us", "saves", "")
    made.columns[-1].justify = "left"
    without = [gain for gain in gains if abs(gain.saved) < LEAST_SHARE / 10]
    for gain in gains:
        if gain in without:
            continue
        made.add_row(
            gain.parameter,
            shown(gain.value),
            shown(gain.better),
            f"{gain.cycles:,}",
            f"{gain.time_us:,.2f}",
            f"{gain.saved:.1%}",
            bar(gain.saved),
        )
    if without:
        made.caption = f"{len(without)} other parameters make no difference"
        made.caption_justify = "left"
    return made


def _figures(run: Run, found: Sequence[Point], gains: Sequence[Gain]) -> dict[str, Any]:
    return {
        "simulated": True,
        "recorded": json.loads(run.to_json()),
        "points": [
            {
                "machine": point.machine.name,
                "changes": point.changes,
                "cycles": point.cycles,
                "time_us": point.time_us,
                "machine_hash": point.machine.content_hash,
            }
            for point in found
        ],
        "gains": [asdict(gain) for gain in gains],
    }
