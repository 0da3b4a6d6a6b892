"""Vectors of lines that repeat: what a loop over whole vectors reads where its operand has fewer elements than it."""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.codegen.llvm.elements import LANES, Lanes, bits_kind, from_bits
from mlutriton.codegen.llvm.emitter import Count, Emitter, wide
from mlutriton.dtypes import DType


@dataclass(frozen=True)
class RepeatedLines:
    """Consecutive lines of ``length`` elements, each of which stands ``times`` times before the next one."""

    times: int
    length: int

    @property
    def fills_vectors(self) -> bool:
        """Whether vectors that follow each other begin at the same place in a line, or at a line."""
        span = self.times * self.length
        if self.length % LANES == 0:
            return True
        return LANES % self.length == 0 and (span % LANES == 0 or LANES % span == 0)

    def read(self, e: Emitter, start: str, dtype: DType, element: Count) -> Lanes:
        """``LANES`` elements of the repeated lines from a multiple of ``LANES`` on; reads past their end.

        Args:
            e: where it is written.
            start: address of the first line.
            dtype: of the elements.
            element: number of the first element, with all repetitions counted.
        """
        span = self.times * self.length
        first = e.multiply(_divided(e, element, span), self.length)
        if self.length % LANES == 0:
            first = e.add(first, _remainder(e, element, self.length))
        elif LANES % span == 0:
            first = _divided(e, element, self.times)
        vector = wide(bits_kind(dtype), LANES)
        bits = e.value(f"load {vector}, ptr {e.pointer(start, e.multiply(first, dtype.bytes))}, align 1")
        if self.length % LANES:
            places = ", ".join(f"i32 {lane // span * self.length + lane % self.length}" for lane in range(LANES))
            bits = e.value(f"shufflevector {vector} {bits}, {vector} poison, <{LANES} x i32> <{places}>")
        return from_bits(e, bits, dtype, LANES)


def _divided(e: Emitter, value: Count, divisor: int) -> Count:
    return value // divisor if isinstance(value, int) else e.value(f"udiv i64 {value}, {divisor}")


def _remainder(e: Emitter, value: Count, divisor: int) -> Count:
    return value % divisor if isinstance(value, int) else e.value(f"urem i64 {value}, {divisor}")
