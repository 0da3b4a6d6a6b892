"""``mlutriton run``: launch a program file or an assembly text; needs neither Triton nor the compiler."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import mlutriton as mlu
from mlutriton.cli.arguments import Array, launch_arguments
from mlutriton.cli.console import check_output
from mlutriton.cli.programs import Machine
from mlutriton.diagnostics import ArgumentError
from mlutriton.files import write_whole
from mlutriton.waiting import working

FAILED = 1


def run(
    program: Annotated[Path, typer.Argument(metavar="PROGRAM", help="Program file, or assembly text.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="The program's parameters.")
    ] = None,
    grid: Annotated[str, typer.Option("--grid", "-g", help="Programs of the launch: 97, or 8,4,2.")] = "1",
    save: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE.npy", help="Write an array after the launch; repeatable.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE.npy", help="Compare an array after the launch; repeatable."),
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Relative and absolute error that --expect allows.")] = 0.0,
    cycles_only: Annotated[bool, typer.Option("--cycles-only", help="Compute no values.")] = False,
    timeline: Annotated[Path | None, typer.Option(help="Write a timeline for Perfetto.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of random arrays.")] = 0,
    machine: Machine = None,
) -> None:
    """Run a program on the simulated machine and report what it cost.

    Values are numbers, .npy files, or arrays that are made: zeros, ones, random or range, with type and shape.

    Example: mlutriton run add.mluprog --grid 97 out=zeros:fp32[98432] x=random:fp32[98432] y=ones:fp32[98432]
    n=98432 --save out=sum.npy
    """
    if machine:
        mlu.set_machine(machine)
    kernel = mlu.load(program)
    values = launch_arguments(arguments or [], seed)
    saved, expected = _paths(save or [], values), _paths(expect or [], values)
    wanted = {name: launch_arguments([f"{name}={path}"], seed)[name] for name, path in expected.items()}
    extents = _extents(grid)
    for path in [*saved.values(), timeline]:
        check_output(path, force=True)
    with working(f"running {kernel.program.name}"):
        report = mlu.estimate(kernel, extents, **values) if cycles_only else kernel[extents](**values)
    for prints in report.prints:
        typer.echo(prints, err=True)
    typer.echo(report.to_json() if json else str(report))
    if timeline:
        report.timeline(timeline)
    for name, path in saved.items():
        content = io.BytesIO()
        np.save(content, values[name], allow_pickle=False)
        write_whole(path, content.getvalue())
    wrong = [text for name, array in wanted.items() if (text := _difference(name, values[name], array, tolerance))]
    for text in wrong:
        typer.echo(text, err=True)
    if wrong:
        raise typer.Exit(FAILED)


def _extents(grid: str) -> tuple[int, ...]:
    try:
        return tuple(int(extent) for extent in grid.split(","))
    except ValueError:
        raise ArgumentError("E0104", f"the grid {grid!r} is not one to three integers", help="--grid 8,4,2") from None


def _paths(texts: list[str], values: dict[str, Any]) -> dict[str, Path]:
    """The file of each array that is named.

    Raises:
        ArgumentError: E0101, no such array is passed to the program.
    """
    paths: dict[str, Path] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not isinstance(values.get(name), np.ndarray) or not path.endswith(".npy"):
            arrays = ", ".join(key for key, value in values.items() if isinstance(value, np.ndarray)) or "none"
            raise ArgumentError(
                "E0101", f"{text!r} is not NAME=FILE.npy of an array argument", note=f"these are: {arrays}"
            )
        paths[name] = Path(path)
    return paths


def _difference(name: str, actual: Array, expected: Array, tolerance: float) -> str:
    """What an array misses what is expected by; nothing if it does not."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        kinds = f"{actual.dtype}{list(actual.shape)}, expected {expected.dtype}{list(expected.shape)}"
        return f"{name} is {kinds}"
    wide = np.result_type(actual.dtype, np.float32)
    left, right = actual.astype(wide), expected.astype(wide)
    wrong = ~np.isclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return ""
    error = np.abs(left - right)[wrong].max()
    return f"{name}: {np.count_nonzero(wrong):,} of {wrong.size:,} elements differ by up to {error:g}"
