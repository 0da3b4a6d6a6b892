"""How rows are combined: in which type, by which operation, and from what on.

The lesser and the greater of floats are those of integers that stand in the same order. That is one simple instruction
on any host, where the rules of NaN and of the signs of zeros make it half a dozen, each waiting for the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlutriton.codegen.llvm.elements import LANES, Lanes, apply, constant, kind, number_of, repeated
from mlutriton.codegen.llvm.emitter import Emitter, wide
from mlutriton.dtypes import F64, I32, I64, DType
from mlutriton.isa.reduction import accumulator_type, reduction_identity

# The operation on the integers, and whether NaN comes before all numbers, or after: where it is ignored or wins.
_ON_KEYS = {
    "fmin": ("smin", False),
    "fmax": ("smax", True),
    "fminimum": ("smin", True),
    "fmaximum": ("smax", False),
}


@dataclass(frozen=True)
class Combination:
    """What a reduction does with the elements of a row.

    Attributes:
        name: the operation of :mod:`mlutriton.arithmetic`.
        dtype: type of the elements and of the result.
    """

    name: str
    dtype: DType

    @property
    def _has_keys(self) -> bool:
        return self.name in _ON_KEYS and self.dtype.is_float

    @property
    def is_ordered(self) -> bool:
        """Whether another order of the elements may give another result."""
        return self.dtype.is_float and not self._has_keys

    @property
    def held(self) -> DType:
        """The type of what has been combined so far."""
        if self._has_keys:
            return I64 if self.dtype is F64 else I32
        return accumulator_type(self.name, self.dtype)

    @property
    def identity(self) -> str:
        """What combined with x gives x, in all lanes."""
        value = reduction_identity(self.name, self.dtype)
        if not self._has_keys:
            return constant(value, self.held, LANES).number
        with np.errstate(all="ignore"):
            number = np.asarray(value).astype(self.dtype.numpy).astype(np.float64 if self.held is I64 else np.float32)
        bits = int(number.view(f"i{self.held.bytes}"))
        key = (bits ^ (bits >> self.held.bits - 1 & self._all_but_sign)) + self._rotation
        return repeated(kind(self.held), key % (1 << self.held.bits), LANES)

    def of(self, number: str, lanes: int = LANES) -> Lanes:
        """What has been combined so far, as an IR value."""
        return Lanes(self.held, lanes, number=number)

    def begin(self, e: Emitter, value: Lanes) -> Lanes:
        """An element as it is combined."""
        if self._has_keys:
            return self._turned(e, value.lanes, number_of(e, value), to_keys=True)
        return value if value.dtype is self.held else apply(e, "fpcast", [value], self.held)

    def combine(self, e: Emitter, a: Lanes, b: Lanes) -> Lanes:
        """Two of them as one; the order of both counts where sums are rounded."""
        return apply(e, _ON_KEYS[self.name][0] if self._has_keys else self.name, [a, b])

    def end(self, e: Emitter, value: Lanes) -> Lanes:
        """What has been combined, as a result."""
        if self._has_keys:
            return self._turned(e, value.lanes, number_of(e, value), to_keys=False)
        return value if value.dtype is self.dtype else apply(e, "fpcast", [value], self.dtype)

    @property
    def _all_but_sign(self) -> int:
        return (1 << self.held.bits - 1) - 1

    @property
    def _rotation(self) -> int:
        """How far the integers are moved along, so that the NaNs of one sign come round to those of the other."""
        payloads = (1 << (52 if self.held is I64 else 23)) - 1
        return payloads if _ON_KEYS[self.name][1] else -payloads

    def _turned(self, e: Emitter, lanes: int, number: str, *, to_keys: bool) -> Lanes:
        """Floats as the integers in whose order they stand, or the other way round; of NaN too it loses no bit."""
        integer, single = wide(kind(self.held), lanes), wide(kind(self.dtype), lanes)

        def repeat(value: int) -> str:
            return repeated(kind(self.held), value % (1 << self.held.bits), lanes)

        bits = e.value(f"bitcast {single} {number} to {integer}") if to_keys else number
        if not to_keys:
            bits = e.value(f"sub {integer} {bits}, {repeat(self._rotation)}")
        sign = e.value(f"ashr {integer} {bits}, {repeat(self.held.bits - 1)}")
        flipped = e.value(f"and {integer} {sign}, {repeat(self._all_but_sign)}")
        bits = e.value(f"xor {integer} {bits}, {flipped}")
        if to_keys:
            return self.of(e.value(f"add {integer} {bits}, {repeat(self._rotation)}"), lanes)
        return Lanes(self.dtype, lanes, number=e.value(f"bitcast {integer} {bits} to {single}"))
