"""What programs print: handed over with the values of a launch, and written to standard output once it is over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import PRINT_STYLES

Array = NDArray[Any]

# Where the six decimals that C prints would show less than two digits of a number, it is shown in full.
_LEAST_IN_DECIMALS = 1e-5


@dataclass(frozen=True)
class Print:
    """What a ``print`` instruction hands to the host; as text, the lines that Triton's other backends print.

    Attributes:
        program: id of the program, (x, y, z).
        message: the string.
        values: a scalar or tensor; without elements for a text alone.
        style: one of ``PRINT_STYLES``.
    """

    program: tuple[int, int, int]
    message: str
    values: Array
    style: str = PRINT_STYLES[0]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """A line for each element, with its indices padded to the same width; one without indices for a text."""
        place = "pid ({}, {}, {})".format(*self.program)
        if not self.values.size:
            yield f"{place}{self.message}"
            return
        widths = [len(str(extent - 1)) for extent in self.values.shape]
        for index in np.ndindex(self.values.shape):
            indices = ", ".join(f"{i:{width}}" for i, width in zip(index, widths, strict=True))
            yield f"{place} idx ({indices}){self.message}{self._text(self.values[index])}"

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
            case _, float() if not 0 < abs(number) < _LEAST_IN_DECIMALS:
                return f"{number:f}"
            case _:
                return str(value)


def handed_over(program: Program, number: tuple[int, int, int], instruction: Instruction, values: Array) -> Print:
    """What an instruction of the program with that id has handed over."""
    slots = instruction.row.slot_index

    def text(slot: str) -> str:
        return program.strings[int(str(instruction.operand(slot)))]

    if "style" not in slots:
        return Print(number, text("message"), values)
    shape = tuple(int(extent) for extent in text("shape").split("x") if extent.isdecimal()) if "shape" in slots else ()
    shaped = values.reshape(shape if math.prod(shape) == values.size else (values.size,))
    return Print(number, text("message"), shaped, PRINT_STYLES[int(str(instruction.operand("style")))])


def show(prints: Iterable[Print], threads: int = 1) -> None:
    """Write lines to standard output; what has no indices once for each thread of a program."""
    for each in prints:
        for _ in range(1 if each.values.ndim and each.values.size else threads):
            print(each)
