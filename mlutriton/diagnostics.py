"""Errors a user can cause: one exception class, with code, place, cause and remedy.

Every error is raised as a subclass of :class:`MluError` and reads like this::

    error[E0301]: load of 4 bytes at 0x7f0000001000 misses every registered array
      --> softmax.py:14:16  (program (3, 0, 0), core 3)
      note: the nearest array is x, bytes 0x7f0000000000 to 0x7f0000001000
      help: mask the load: tl.load(ptr, mask=offsets < n)

The classes group the codes by who must act; ``CODES`` lists every code once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Location:
    """A place in a kernel's or assembly program's text. ``line`` and ``column`` count from 1; 0 means unknown."""

    file: str
    line: int
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}" + (f":{self.column}" if self.column else "")


UNKNOWN_LOCATION = Location("<unknown>", 0)


# One line a code. The first digit says which part of the system speaks:
# 1 arguments and configuration, 2 compiler, 3 a running program's fault, 4 ISA text and files, 5 tuning.
CODES: dict[str, str] = {
    "E0101": "a kernel argument has a type that cannot be passed to a kernel",
    "E0103": "an array argument has a dtype that the machine does not know",
    "E0104": "a grid is not one to three non-negative integers, or has too many programs",
    "E0105": "an unknown machine was named",
    "E0106": "a machine file lacks a parameter, or has one that is unknown or ill-typed",
    "E0107": "a launch option is unknown or has a value that is not allowed",
    "E0108": "timing alone was asked for a kernel whose control flow depends on loaded data",
    "E0109": "an environment variable has a value that is not allowed",
    "E0110": "a signature does not describe the parameters of a kernel",
    "E0111": "a Python file does not have the kernel that was named",
    "E0112": "what was given as a kernel is none, or cannot become one",
    "E0113": "a tool of Triton that is for GPUs alone was asked for",
    "E0201": "an operation of the kernel is not supported",
    "E0202": "the kernel's tiles do not fit the on-chip memory",
    "E0203": "the compiler broke an invariant of its own",
    "E0204": "Triton's intermediate text could not be read",
    "E0301": "a load, store, gather or atomic touches memory outside every registered array",
    "E0302": "an instruction reads on-chip memory that nothing has written",
    "E0303": "two queues touch the same on-chip bytes without a synchronization between them",
    "E0304": "an on-chip access leaves its buffer or its memory",
    "E0305": "the program stopped itself: an assertion failed or a trap was reached",
    "E0306": "the program can never finish: every core waits",
    "E0307": "a store touches an array that was passed as read-only",
    "E0309": "an instruction writes bytes that it also reads in a way that their order would decide",
    "E0310": "a program runs longer than a limit allows",
    "E0401": "an assembly text does not parse",
    "E0402": "an instruction is not legal",
    "E0403": "a program file is corrupt or of another version",
    "E0404": "a program was built for another machine",
    "E0405": "a recording of a launch is corrupt or of another version",
    "E0501": "what is to be tuned, or what was, cannot be found",
    "E0502": "a space, a shape or a launch to tune for is not well-formed",
    "E0503": "a result of tuning cannot be written, or an earlier one is in its place",
    "E0504": "a package that is not installed is needed",
}


class MluError(Exception):
    """Base of every error that a user can cause.

    Args:
        code: a key of ``CODES``.
        summary: one line that states the fact, with both numbers where there are two.
        location: the place in the user's own text, where one is known.
        context: where it happened at run time, e.g. ``program (3, 0, 0), core 3``.
        note: why it is so.
        help: what to type instead.
    """

    prefix: ClassVar[str] = ""

    def __init__(
        self,
        code: str,
        summary: str,
        *,
        location: Location | None = None,
        context: str = "",
        note: str = "",
        help: str = "",
    ) -> None:
        if code not in CODES:
            raise KeyError(f"unknown error code {code}")
        self.code = code
        self.summary = summary
        self.location = location
        self.context = context
        self.note = note
        self.help = help
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.summary}"]
        if self.location is not None or self.context:
            place = str(self.location) if self.location is not None else "<no source line>"
            lines.append(f"  --> {place}" + (f"  ({self.context})" if self.context else ""))
        lines += [f"  note: {text}" for text in self.note.splitlines()]
        lines += [f"  help: {text}" for text in self.help.splitlines()]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(cls: type[MluError], state: dict[str, object]) -> MluError:
    error = cls.__new__(cls)
    error.__dict__.update(state)
    Exception.__init__(error, str(error))
    return error


class ArgumentError(MluError, TypeError):
    """An argument, option, grid or machine the user passed is not usable (E01xx)."""


class CompileError(MluError):
    """The kernel cannot be compiled (E02xx)."""


class OnChipMemoryError(CompileError):
    """The kernel's tiles do not fit on-chip memory (E0202); carries the bill.

    Attributes:
        used_bytes: what the kernel needs.
        limit_bytes: what the machine offers to a program.
        memory: ``NRAM``, ``WRAM`` or ``SRAM``.
    """

    def __init__(
        self,
        summary: str,
        *,
        used_bytes: int,
        limit_bytes: int,
        memory: str,
        location: Location | None = None,
        note: str = "",
        help: str = "",
    ) -> None:
        self.used_bytes = used_bytes
        self.limit_bytes = limit_bytes
        self.memory = memory
        super().__init__("E0202", summary, location=location, note=note, help=help)


class KernelFault(MluError, RuntimeError):  # noqa: N818 - machines have faults
    """A running program did something that the machine forbids (E03xx).

    A ``RuntimeError``, as the errors of other devices are for whoever launches kernels on them.

    Attributes:
        program: the place in the grid of the program that the machine knows, or of a block that it is in.
    """

    program: tuple[int, int, int] | None = None


class ProgramError(MluError):
    """An assembly text or a program file is not a legal program (E04xx).

    Attributes:
        rule: name of the rule of the instruction set that is broken, where one is.
    """

    rule: str = ""
