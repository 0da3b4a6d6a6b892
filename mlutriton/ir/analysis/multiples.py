"""Which integers, and tensors of them, are multiples of a known number in every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mlutriton.ir.core import Value
from mlutriton.ir.ops import Broadcast, Constant, Elementwise, ExpandDims, Reshape, Splat, Transpose
from mlutriton.ir.types import is_index

# No tile has more neighbours along an axis.
_GREATEST = 1 << 20


class Multiples:
    """Answers, given what loops do with their integers.

    Index arithmetic is taken not to overflow, as Triton's own address analysis does.

    Args:
        advancing: what integers that loops advance begin with and advance by.
        assumed: numbers of which arguments are multiples.
    """

    def __init__(self, advancing: Mapping[Value, Sequence[Value]], assumed: Mapping[Value, int]) -> None:
        self._advancing = advancing
        self._assumed = assumed
        # What is being asked, and what has been found to hold with it: loops begin with multiples.
        self._asked: set[tuple[int, Value]] = set()

    def divides(self, factor: int, value: Value) -> bool:
        """True if an integer is certainly a multiple of a number."""
        if factor == 1 or (factor, value) in self._asked:
            return True
        match value.defining_op:
            case Constant(value=int(number)):
                return number % factor == 0
            case _ if not is_index(value.type):
                return False
            case Splat() | Broadcast() | ExpandDims() | Transpose() | Reshape() as moved:
                return self.divides(factor, moved.operands[0])
            case Elementwise(name="sext" | "trunc_int", operands=[source]):
                return self.divides(factor, source)
            case Elementwise(name="add" | "sub" | "smin" | "smax" | "srem", operands=operands):
                return all(self.divides(factor, each) for each in operands)
            case Elementwise(name="mul", operands=[a, b]):
                return self._divides_product(factor, a, b) or self._divides_product(factor, b, a)
            case Elementwise(name="sdiv", operands=[dividend, divisor]):
                constant = divisor.defining_op
                return (
                    isinstance(constant, Constant)
                    and isinstance(constant.value, int)
                    and constant.value > 0
                    and self.divides(factor * constant.value, dividend)
                )
            case None if self._assumed.get(value, 1) % factor == 0:
                return True
            case None if value in self._advancing:
                before = set(self._asked)
                self._asked.add((factor, value))
                holds = all(self.divides(factor, each) for each in self._advancing[value])
                if not holds:
                    self._asked = before  # nor does what was concluded from it
                return holds
            case _:
                return False

    def power_of_two(self, value: Value) -> int:
        """The greatest power of two, within reason, of which an integer is certainly a multiple."""
        factor = 1
        while factor < _GREATEST and self.divides(2 * factor, value):
            factor *= 2
        return factor

    def _divides_product(self, factor: int, a: Value, b: Value) -> bool:
        match a.defining_op:
            case Constant(value=int(number)):
                return self.divides(factor // math.gcd(factor, number), b)
            case None if self._assumed.get(a, 1) > 1:
                return self.divides(factor // math.gcd(factor, self._assumed[a]), b)
            case _:
                return self.divides(factor, a)
