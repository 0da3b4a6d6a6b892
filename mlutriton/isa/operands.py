"""Operands of instructions, as they stand in a program.

Text forms::

    r7                 Register: a 64-bit scalar register; narrower values sit zero-extended in the low bits
    42  -1  0.5  -inf  Immediate: read in the type of the slot
    [x]  [x + r4]  [x + r4 + 128]     Address: bytes of the declared on-chip buffer x, one element for every element
    row[m]             Address in row mode: one element for every row, repeated along the columns
    col[b]             Address in column mode: one element for every column, repeated for every row
    g[r5]  g[r5 + 64]  GlobalAddress: a byte address in GDRAM
    ~                  Forward: the value handed on from or to the neighbouring instruction of a fused chain
    loop_head          Label
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Mode(Enum):
    """How a vector operand is laid over the ``rows x columns`` extent of its instruction."""

    FULL = "full"
    ROW = "row"
    COLUMN = "col"

    __hash__ = object.__hash__  # there is one of each, and that of Enum takes the time of a call


@dataclass(frozen=True, slots=True)
class Register:
    """Scalar register ``r<index>``."""

    index: int

    def __hash__(self) -> int:
        return self.index

    def __str__(self) -> str:
        return f"r{self.index}"


@dataclass(frozen=True, slots=True, eq=False)
class Immediate:
    """A literal; a float where the slot's type is floating point, else an integer.

    Equal only to the same literal: 0.0, -0.0 and 0 differ, and a NaN equals a NaN.
    """

    value: int | float

    def __str__(self) -> str:
        return repr(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Immediate):
            return False
        a, b = self.value, other.value
        return a == b if type(a) is type(b) is int else repr(a) == repr(b)

    def __hash__(self) -> int:
        return self.value if type(self.value) is int else hash(repr(self.value))


@dataclass(frozen=True, slots=True)
class Address:
    """Bytes of an on-chip buffer: ``buffer.offset + register + offset``.

    Invariant: the access stays inside the buffer's window; leaving it is fault E0304.
    """

    buffer: str
    register: Register | None = None
    offset_bytes: int = 0
    mode: Mode = Mode.FULL

    def counted_from(self, register: Register | None) -> Address:
        """The same with another register."""
        return Address(self.buffer, register, self.offset_bytes, self.mode)

    def in_buffer(self, name: str) -> Address:
        """The same place of another buffer."""
        return Address(name, self.register, self.offset_bytes, self.mode)

    @property
    def is_at_begin(self) -> bool:
        """True if it names its buffer from the begin on."""
        return self.register is None and not self.offset_bytes

    def __str__(self) -> str:
        inner = self.buffer
        if self.register is not None:
            inner += f" + {self.register}"
        if self.offset_bytes:
            inner += f" + {self.offset_bytes}"
        return f"{'' if self.mode is Mode.FULL else self.mode.value}[{inner}]"


@dataclass(frozen=True, slots=True)
class GlobalAddress:
    """A byte address in GDRAM: ``register + offset``."""

    register: Register
    offset_bytes: int = 0

    def __str__(self) -> str:
        return f"g[{self.register} + {self.offset_bytes}]" if self.offset_bytes else f"g[{self.register}]"


@dataclass(frozen=True, slots=True)
class Forward:
    """The unnamed value between two neighbouring steps of a fused vector chain."""

    def __str__(self) -> str:
        return "~"


@dataclass(frozen=True, slots=True)
class Label:
    """A place in the program to branch to."""

    name: str

    def __str__(self) -> str:
        return self.name


Operand = Register | Immediate | Address | GlobalAddress | Forward | Label
MEMORY_OPERANDS = (Address, GlobalAddress)
FORWARD = Forward()
ABSENT = Immediate(0)
MAXIMUM_REGISTERS = 1 << 16
# No on-chip memory has more elements.
MAXIMUM_COUNT = (1 << 31) - 1
