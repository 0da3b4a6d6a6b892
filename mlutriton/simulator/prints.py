"""What programs print: handed over with the values of a launch, and written to standard output once it is over."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import PRINT_STYLES

Array = NDArray[Any]
_LINE_WIDTH = 120


@dataclass(frozen=True)
class Print:
    """What a ``print`` instruction hands to the host.

    Attributes:
        program: id of the program, (x, y, z).
        message: the string.
        values: one element or many; none for a text alone.
        style: one of ``PRINT_STYLES``.
    """

    program: tuple[int, int, int]
    message: str
    values: Array
    style: str = PRINT_STYLES[0]

    def __str__(self) -> str:
        place = "pid ({}, {}, {})".format(*self.program)
        if not self.values.size:
            return f"{place}{self.message}"
        if self.values.size == 1:
            return f"{place}{self.message}{self._text(self.values.reshape(-1)[0])}"
        formatter: Any = {"all": self._text}
        shown = np.array2string(self.values, max_line_width=_LINE_WIDTH, threshold=sys.maxsize, formatter=formatter)
        return f"{place}{self.message}{shown}"

    def _text(self, value: Any) -> str:
        number = value.item()
        match self.style, number:
            case _, bool():
                return str(int(number))
            case "hexadecimal", int():
                return f"0x{number & (1 << 8 * value.itemsize) - 1:0{2 * value.itemsize}x}"
            case "hexadecimal", float():
                return number.hex()
            case "unsigned", int():
                return str(number & (1 << 8 * value.itemsize) - 1)
            case _:
                return str(value)


def handed_over(program: Program, number: tuple[int, int, int], instruction: Instruction, values: Array) -> Print:
    """What an instruction of the program with that id has handed over."""
    message = program.strings[int(str(instruction.operand("message")))]
    has_style = "style" in instruction.row.slot_index
    style = int(str(instruction.operand("style"))) if has_style else 0
    return Print(number, message, values, PRINT_STYLES[style])


def show(prints: Iterable[Print]) -> None:
    """Write lines to standard output."""
    for each in prints:
        print(each)
