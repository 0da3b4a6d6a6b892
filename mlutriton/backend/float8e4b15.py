"""Conversions of ``float8e4b15``, which is no type of Triton's IR: its elements are bytes there, to be taken apart.

Its codes are those of ``float16`` with the upper bit of the exponent left out and three bits of mantissa; there are
neither infinities nor NaNs. Values are those of Triton's conversions for NVIDIA GPUs: upward every code is a number, up
to 1.875; downward ties are rounded away from zero, and what is above 1.75, NaN too, becomes 1.75.
"""

# Triton's semantic layer has no type information.

from __future__ import annotations

from typing import Any

from triton.language import core

_GREATEST_AS_FLOAT16 = 0x3F00


def convert_float8e4b15(value: Any, target: Any, fp_downcast_rounding: object = None, _semantic: Any = None) -> Any:
    """Converts a tensor from or to ``float8e4b15``, always with the same rounding."""
    if value.type.scalar.is_fp8e4b15():
        return _semantic.cast(_to_float16(value, _semantic), target.scalar)
    if not value.type.scalar.is_fp16():
        value = _semantic.cast(_semantic.cast(value, core.float32), core.float16, "rtz")
    return _from_float16(value, _semantic)


def _to_float16(value: Any, semantic: Any) -> Any:
    code = semantic.cast(semantic.bitcast(value, core.uint8), core.uint16)
    sign = semantic.shl(semantic.and_(code, _word(0x80, semantic)), _word(8, semantic))
    magnitude = semantic.shl(semantic.and_(code, _word(0x7F, semantic)), _word(7, semantic))
    return semantic.bitcast(semantic.or_(sign, magnitude), core.float16)


def _from_float16(value: Any, semantic: Any) -> Any:
    bits = semantic.bitcast(value, core.uint16)
    magnitude = semantic.and_(bits, _word(0x7FFF, semantic))
    greatest = _word(_GREATEST_AS_FLOAT16, semantic)
    limited = semantic.minimum(magnitude, greatest, core.PropagateNan.NONE)
    rounded = semantic.lshr(semantic.add(limited, _word(0x40, semantic), False), _word(7, semantic))
    sign = semantic.lshr(semantic.and_(bits, _word(0x8000, semantic)), _word(8, semantic))
    return semantic.bitcast(semantic.cast(semantic.or_(rounded, sign), core.uint8), core.float8e4b15)


def _word(value: int, semantic: Any) -> Any:
    return semantic.scalar_constant(value, core.uint16)
