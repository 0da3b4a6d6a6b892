"""Dumps: with ``MLUTRITON_DUMP`` set to a directory, every stage of every compilation is written there as text.

The files of one kernel are numbered in the order of the stages::

    softmax.00.ttir   softmax.01.import.ir   softmax.02.canonicalize.ir  ...  softmax.12.program.s
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlutriton.diagnostics import ArgumentError
from mlutriton.ir.core import Function
from mlutriton.ir.printer import print_function
from mlutriton.isa.assembly import disassemble
from mlutriton.isa.program import Program

if TYPE_CHECKING:
    from mlutriton.pipeline import Observer


def dump_to(directory: Path, ttir: str) -> Observer:
    """An observer of the pipeline that writes each stage to a file; the text it starts from is written with the first.

    Raises:
        ArgumentError: E0109, the directory cannot be written.
    """
    written = 0

    def observe(stage: str, result: Function | Program) -> None:
        nonlocal written
        if not written:
            _write(directory / f"{result.name}.00.ttir", ttir)
        written += 1
        text, ending = (disassemble(result), "s") if isinstance(result, Program) else (print_function(result), "ir")
        _write(directory / f"{result.name}.{written:02}.{stage}.{ending}", text)

    return observe


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArgumentError(
            "E0109",
            f"MLUTRITON_DUMP names {path.parent}, which cannot be written: {error.strerror}",
            help="set it to a directory of your own, or unset it",
        ) from error
