"""Element types: one table for the compiler, the ISA and the simulator.

Integers are signless, as in LLVM and TTIR: an operation, not a type, says whether it reads its operands as signed.
``i1`` is stored as one byte that holds 0 or 1. The 8-bit floats are formats of storage: they are moved, selected and
converted, and computed with in a wider type.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mlutriton.immutables import remembered


class Kind(Enum):
    """What the bits of an element mean."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"


class Specials(Enum):
    """What a float format has beside numbers.

    Source: IEEE 754; OCP 8-bit floating point specification (``NAN``); Noune et al., 8-bit numerical formats for deep
    neural networks, 2022 (``UNSIGNED_ZERO``).
    """

    IEEE = "infinities and NaNs, with the greatest exponent"
    NAN = "no infinities; all bits but the sign set are NaN"
    UNSIGNED_ZERO = "no infinities, one zero; the code of -0 is the only NaN"


@dataclass(frozen=True, eq=False)
class DType:
    """An element type; there is one of a name.

    Attributes:
        name: the name used in IR text, assembly and messages (``f32``, ``i8``, ``bf16``).
        bits: significant bits of a value.
        kind: bool, int or float.
        numpy_name: the NumPy (or ml_dtypes) scalar type that holds one element.
        mantissa_bits: explicit mantissa bits of a float; 0 otherwise.
        specials: what a float has beside numbers.
    """

    name: str
    bits: int
    kind: Kind
    numpy_name: str
    mantissa_bits: int = 0
    specials: Specials = Specials.IEEE

    @remembered
    def bytes(self) -> int:
        """Storage size of one element in bytes."""
        return max(1, self.bits // 8)

    @remembered
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of an array of such elements."""
        return np.dtype(getattr(ml_dtypes, self.numpy_name, None) or self.numpy_name)

    @remembered
    def is_float(self) -> bool:
        """True for floating-point types."""
        return self.kind is Kind.FLOAT

    @remembered
    def is_float8(self) -> bool:
        """True for the 8-bit floating-point types."""
        return self.is_float and self.bits == 8

    @remembered
    def exponent_bias(self) -> int:
        """What the exponent field of a float exceeds the exponent of the number by."""
        return 1 - int(np.log2(float(self._limits.smallest_normal)))

    @remembered
    def greatest(self) -> float:
        """The greatest finite number of a float type."""
        return float(self._limits.max)

    @property
    def _limits(self) -> Any:
        return cast(Any, ml_dtypes.finfo(self.numpy))

    @remembered
    def is_int(self) -> bool:
        """True for integers wider than one bit."""
        return self.kind is Kind.INT

    @remembered
    def is_bool(self) -> bool:
        """True for ``i1``."""
        return self.kind is Kind.BOOL

    def __reduce__(self) -> tuple[Callable[[str], DType], tuple[str]]:
        return FORMATS_BY_NAME.__getitem__, (self.name,)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


# fmt: off
I1   = DType("i1",   1,  Kind.BOOL,  "bool")
I8   = DType("i8",   8,  Kind.INT,   "int8")
I16  = DType("i16",  16, Kind.INT,   "int16")
I32  = DType("i32",  32, Kind.INT,   "int32")
I64  = DType("i64",  64, Kind.INT,   "int64")
F16  = DType("f16",  16, Kind.FLOAT, "float16",  10)
BF16 = DType("bf16", 16, Kind.FLOAT, "bfloat16", 7)
F32  = DType("f32",  32, Kind.FLOAT, "float32",  23)
F64  = DType("f64",  64, Kind.FLOAT, "float64",  52)
F8E5M2  = DType("f8e5m2",  8, Kind.FLOAT, "float8_e5m2",     2)
F8E4M3  = DType("f8e4m3",  8, Kind.FLOAT, "float8_e4m3fn",   3, Specials.NAN)
F8E5B16 = DType("f8e5b16", 8, Kind.FLOAT, "float8_e5m2fnuz", 2, Specials.UNSIGNED_ZERO)
F8E4B8  = DType("f8e4b8",  8, Kind.FLOAT, "float8_e4m3fnuz", 3, Specials.UNSIGNED_ZERO)
TF32 = DType("tf32", 32, Kind.FLOAT, "float32", 10)
# fmt: on

ALL: tuple[DType, ...] = (I1, I8, I16, I32, I64, F16, BF16, F32, F64, F8E5M2, F8E4M3, F8E5B16, F8E4B8)
"""The types of values."""

FORMATS: tuple[DType, ...] = (*ALL, TF32)
"""What instructions name: also ``tf32``, which is how the tensor unit reads ``f32`` and no type of a value."""

BY_NAME: dict[str, DType] = {dtype.name: dtype for dtype in ALL}
FORMATS_BY_NAME: dict[str, DType] = {dtype.name: dtype for dtype in FORMATS}


def host_address(array: NDArray[Any]) -> int:
    """Where an array begins; ``array.ctypes`` says so too, but slowly."""
    memory: Any = array  # NumPy does not say in types that an array is a buffer
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))
    except (TypeError, ValueError):  # it has no bytes, or may not be written, or is not dense, or of a type of others
        return array.ctypes.data


def signed(word: int) -> int:
    """The signed integer of the same 64 bits."""
    return word - (1 << 64) if word >> 63 else word
