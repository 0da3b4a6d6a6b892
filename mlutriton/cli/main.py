"""Entry point of the ``mlutriton`` command."""

from __future__ import annotations

import typer

from mlutriton.cli.demo import demo

app = typer.Typer(
    name="mlutriton",
    help="Write, debug, profile and tune Triton kernels for a simulated MLU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.command()(demo)


@app.callback()
def root() -> None:
    """Write, debug, profile and tune Triton kernels for a simulated MLU."""


if __name__ == "__main__":
    app()
