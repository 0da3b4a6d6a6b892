"""``mlutriton tune``: search the configurations of a kernel by simulated cycles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mlutriton.cli.programs import Machine

_MANY = ("--space", "--shape", "--arguments")


class CommandOfAssignments(TyperCommand):
    """A command whose options ``--space``, ``--shape`` and ``--arguments`` take every NAME=VALUE that follows."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the words behind such an option to one; a shell hands them over apart."""
        joined: list[str] = []
        values = 0  # of the option that is open
        for word in args:
            if values > 1 and "=" in word and not word.startswith("-"):
                joined[-1] += f" {word}"
                continue
            joined.append(word)
            values = 1 if word in _MANY else values and values + 1
            if values > 2:
                values = 0
        return super().parse_args(ctx, joined)


def tune(
    kernel: Annotated[str, typer.Argument(metavar="FILE.py::KERNEL", help="What to tune.")],
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES...",
            help="Values to try: 64,128,256 or 1..5 or 0..96:8 (steps of 8) or 16..256:x2 (times 2). Or a Python file,"
            " FILE.py::NAME. Without it: the configurations of the kernel's own @triton.autotune.",
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="Leave out combinations: 'BLOCK_M * BLOCK_N <= 65536'.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE...",
            help="A shape to tune for; repeatable. Or a JSON list of objects, or a file of one. Without it: the cases"
            " of the kernel's file.",
        ),
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE.py::]FUNCTION",
            help="Takes names of shape and configuration; returns the grid and the arguments, with mlu.spec() for"
            " arrays. Without it: launch_KERNEL in the kernel's file.",
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=EXPRESSION...",
            help="In its place, with --grid: x=fp32:rows,columns for an array, stride=columns for a number. Names of"
            " the shape that are parameters are passed as they are.",
        ),
    ] = None,
    grid: Annotated[str, typer.Option(metavar="EXPRESSION", help="See --arguments: 'cdiv(n, BLOCK)'.")] = "",
    search: Annotated[str, typer.Option(help="exhaustive, random, or model: guided by Optuna.")] = "exhaustive",
    trials: Annotated[int | None, typer.Option(help="Configurations to try, of a random or model search.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed finds the same, with any number of workers.")] = 0,
    machine: Machine = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")] = None,
    engine: Annotated[str, typer.Option(help="local, or dask://HOST:PORT for a Dask cluster.")] = "local",
    output: Annotated[
        Path | None, typer.Option(help="Directory of journal and results; by default tune-KERNEL.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in the output directory.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in the output directory.")] = False,
    verify_winner: Annotated[
        bool, typer.Option("--verify", help="Run the winners with values against the kernel's reference.")
    ] = False,
    verify_shape: Annotated[
        str | None, typer.Option(metavar="'NAME=VALUE...'", help="For --verify; by default the shape made small.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of tables.")] = False,
) -> None:
    """Search the configurations of a kernel for the fastest one, by simulated cycles.

    No array is allocated and no value computed: a function launch_KERNEL beside the kernel, or --arguments and --grid,
    say what is passed. A configuration whose schedule bound is above the best so far is not replayed: it cannot win.

    Example: mlutriton tune softmax.py::softmax --space ROWS=1..16:x2 STAGES=1..4 PROGRAMS=24,48,96 --shape rows=4096
    columns=1024

    Example: mlutriton tune matmul.py::matmul --space BLOCK_M=64..256:x2 BLOCK_N=64..256:x2 BLOCK_K=64,128 GROUP_M=1,4,8
    num_stages=1..3 --shape M=4096 N=4096 K=4096 dtype=fp16 --search model --trials 100 --verify

    Example: mlutriton tune add.py::add --space BLOCK=256..16384:x2 --shape n=1000000 --arguments out=fp32:n x=fp32:n
    y=fp32:n --grid 'cdiv(n, BLOCK)'

    The output directory gets journal.jsonl, results.json, results.csv, plot-N.png, configs.py (a list of triton.Config)
    and tuned.json, which @mlutriton.tune.tuned("tuned.json") loads above a kernel. After Ctrl-C or a crash, type the
    same again with --resume.

    Exit codes: 0 found; 1 no configuration could be timed, or a winner's values are wrong; 2 wrong command line; 130
    interrupted.
    """
    from mlutriton.cli.tuning import Request, run  # loads Triton and the compiler: other commands need neither

    run(
        Request(
            kernel=kernel,
            space=space,
            where=where,
            shapes=shape,
            launch=launch,
            arguments=arguments,
            grid=grid,
            search=search,
            trials=trials,
            seed=seed,
            machine=machine,
            workers=workers,
            engine=engine,
            output=output,
            resume=resume,
            force=force,
            verify=verify_winner,
            verify_shape=verify_shape,
            top=top,
            json=json,
        )
    )
