"""Places in on-chip memories that the operands of a translated program name, as far as they are known."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlutriton.codegen.llvm.emitter import Count
from mlutriton.codegen.llvm.polynomials import Polynomial
from mlutriton.dtypes import DType
from mlutriton.isa.operands import Mode
from mlutriton.isa.program import Buffer


@dataclass(slots=True, eq=False)
class Place:
    """Bytes of an on-chip memory that an operand names; never changed.

    Attributes:
        buffer: the window that they belong to.
        base: IR value of the register in the address, or empty; equal names are equal values.
        start: first byte in its memory, without the register.
        size: bytes touched.
        dtype: element type.
        mode: how elements are repeated over rows and columns.
        lines: how often each line of how many elements comes, of a source that is read that way.
        first: the parameter that tells where it begins, in a function that is shared by places of any beginning.
        ends: first byte, and the byte after the last one if the place is not empty, where both are polynomials.
        is_lent: whether it may lie in DRAM, in a function that reads it.
        row_bytes: how far apart its rows begin, in a function that reads them where they lie; empty if side by side.
        low: first byte of the memory that may be touched.
        high: the byte after the last of them.
    """

    buffer: Buffer
    base: str
    start: int
    size: Count
    dtype: DType
    mode: Mode = Mode.FULL
    lines: tuple[int, int] | None = None
    first: str = ""
    ends: tuple[Polynomial, Polynomial] | None = None
    is_lent: bool = False
    row_bytes: str = ""
    low: int = field(init=False)
    high: int = field(init=False)

    def __post_init__(self) -> None:
        window = self.buffer.offset_bytes
        self.low = window if self.base else self.start
        if self.base or isinstance(self.size, str):
            self.high = max(self.low, window + self.buffer.bytes)
        else:
            self.high = self.start + self.size

    def same_start(self, other: Place) -> bool:
        """True if both certainly begin at the same byte."""
        return self.buffer.space == other.buffer.space and self.base == other.base and self.start == other.start

    def may_overlap(self, other: Place) -> bool:
        """False if the two certainly have no byte in common."""
        # Both lie in their windows.
        if self.low >= other.high or other.low >= self.high or self.buffer.space != other.buffer.space:
            return False
        if self.size == 0 or other.size == 0:
            return False
        if self.base and self.base == other.base and isinstance(self.size, int) and isinstance(other.size, int):
            return self.start < other.start + other.size and other.start < self.start + self.size
        # What is true modulo 2**64 is true, as both lie in their windows.
        return not (self.ends and other.ends and _is_before(self.ends, other.ends))

    def must_overlap(self, other: Place) -> bool:
        """True if the two certainly have a byte in common."""
        known = isinstance(self.size, int) and isinstance(other.size, int) and self.base == other.base
        return known and self.may_overlap(other)


def _is_before(a: tuple[Polynomial, Polynomial], b: tuple[Polynomial, Polynomial]) -> bool:
    """True if one of two places certainly ends before the other one begins."""
    return a[1].is_at_most(b[0]) or b[1].is_at_most(a[0])
