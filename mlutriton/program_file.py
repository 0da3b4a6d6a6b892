"""Program files as kernels: run without Triton and without the compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlutriton.configuration import current_machine
from mlutriton.diagnostics import ArgumentError, ProgramError
from mlutriton.frontend.arguments import (
    PointerArgument,
    checked_grid,
    dtype_named,
    launch_argument,
    pointer_argument,
)
from mlutriton.isa.assembly import assemble
from mlutriton.isa.encoding import MAGIC, decode
from mlutriton.isa.program import Parameter, Program
from mlutriton.launch import LoadedKernel, Run, launch, load_program


def load(source: str | Path | bytes) -> ProgramKernel:
    """A program as a kernel: ``load("softmax.mluprog")[(1823,)](out, x, n)``.

    Args:
        source: path of a program file or of an assembly text; or the bytes of a program file.

    Raises:
        OSError: the file cannot be read.
        ProgramError: E0401 or E0403, it is neither a program file nor an assembly text.
    """
    if isinstance(source, bytes):
        return ProgramKernel(decode(source))
    content = Path(source).read_bytes()
    if content.startswith(MAGIC[:4]):
        return ProgramKernel(decode(content))
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ProgramError("E0403", f"{source} is neither a program file nor an assembly text")
    return ProgramKernel(assemble(text, str(source)))


class ProgramKernel:
    """A program that is launched like a kernel, on the current machine.

    Attributes:
        program: the program.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._loaded: dict[str, LoadedKernel] = {}

    def __getitem__(self, grid: Any) -> Callable[..., Run]:
        """The launch of so many programs; takes the parameters in order, or by name."""

        def launcher(*arguments: object, **named: object) -> Run:
            return launch(self.loaded(), checked_grid(grid), self._values(arguments, named))

        return launcher

    def loaded(self) -> LoadedKernel:
        """The program, loaded for the current machine.

        Raises:
            ProgramError: E0402 or E0404, it is not legal on the current machine.
        """
        machine = current_machine()
        if machine.content_hash not in self._loaded:
            self._loaded[machine.content_hash] = load_program(self.program, machine)
        return self._loaded[machine.content_hash]

    def _values(self, arguments: tuple[object, ...], named: Mapping[str, object]) -> list[object]:
        parameters = self.program.parameters
        given = dict(zip((each.name for each in parameters), arguments, strict=False))
        missing = [each.name for each in parameters if each.name not in given and each.name not in named]
        surplus = [name for name in named if name in given or all(name != each.name for each in parameters)]
        if missing or surplus or len(arguments) > len(parameters):
            raise ArgumentError(
                "E0101",
                f"{self.program.name} was passed {len(arguments) + len(named)} arguments",
                note="\n".join(
                    [f"{name} is missing" for name in missing] + [f"{name} is too many" for name in surplus]
                ),
                help=f"it takes {', '.join(each.name for each in parameters)}",
            )
        given.update(named)
        return [
            _pointer(given[each.name], each) if each.pointer else launch_argument(given[each.name], each.name)
            for each in parameters
        ]


def _pointer(value: object, parameter: Parameter) -> PointerArgument:
    """A pointer to elements that the program takes for what they are, or to integers that hold their bits.

    Raises:
        ArgumentError: E0101, they would be taken for others: unlike a kernel, a program is of one type of elements.
    """
    pointer, wanted = pointer_argument(value, parameter.name), parameter.dtype.numpy
    dtype = dtype_named(pointer.dtype) if isinstance(pointer.dtype, str) else pointer.dtype
    if dtype is None or dtype == wanted or (dtype.kind in "biu" and dtype.itemsize == wanted.itemsize):
        return pointer
    raise ArgumentError(
        "E0101",
        f"the argument {parameter.name} is an array of {dtype}; {parameter.dtype} is expected",
        note="a program is compiled for one type of elements, and would take their bytes for those of others",
        help=f"convert it: {parameter.name}.astype({str(wanted)!r}), or compile the kernel for {dtype}",
    )
