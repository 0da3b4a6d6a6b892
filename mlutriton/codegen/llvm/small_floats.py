"""The 8-bit floats: their codes from and to ``float``, as integer arithmetic on 32-bit lanes.

A code is a sign, an exponent and a mantissa, as in ``float``: numbers of normal size differ from ``float`` in the bias
of the exponent and the length of the mantissa alone. The others are set right by one addition or selection each.
"""

from __future__ import annotations

from struct import pack, unpack

from mlutriton.codegen.llvm.emitter import Emitter, wide
from mlutriton.dtypes import F32, DType, Specials

_CODE_SIGN, _CODE_MAGNITUDE = 0x80, 0x7F
_SIGN, _MAGNITUDE, _INFINITY, _NAN = 0x80000000, 0x7FFFFFFF, 0x7F800000, 0x7FC00000


def decoded(e: Emitter, code: str, dtype: DType, lanes: int) -> str:
    """The number behind a code of an 8-bit format, as a ``float``."""
    codes, single = wide("i8", lanes), wide("float", lanes)
    name = e.library.require(f"mlu.decode.{dtype}.{lanes}", lambda: _decode(Emitter(e.library), dtype, lanes))
    return e.value(f"call {single} @{name}({codes} {code})")


def encoded(e: Emitter, number: str, dtype: DType, lanes: int, *, toward_zero: bool = False) -> str:
    """The code of the nearest number of an 8-bit format, ties to even, or of the nearest toward zero."""
    codes, single = wide("i8", lanes), wide("float", lanes)
    name = e.library.require(
        f"mlu.encode.{'rtz.' if toward_zero else ''}{dtype}.{lanes}",
        lambda: _encode(Emitter(e.library), dtype, lanes, toward_zero=toward_zero),
    )
    return e.value(f"call {codes} @{name}({single} {number})")


class _Words:
    """32-bit integer instructions on one lane or many."""

    def __init__(self, e: Emitter, lanes: int) -> None:
        self._value = e.value
        self._lanes = lanes
        self.integer, self.single = wide("i32", lanes), wide("float", lanes)
        self._flag = wide("i1", lanes)

    def constant(self, value: int) -> str:
        return str(value) if self._lanes == 1 else f"splat (i32 {value})"

    def __call__(self, name: str, a: str, b: int | str) -> str:
        """An integer instruction on two operands."""
        return self._value(f"{name} {self.integer} {a}, {self.constant(b) if isinstance(b, int) else b}")

    def select(self, condition: str, a: int | str, b: str) -> str:
        a = self.constant(a) if isinstance(a, int) else a
        return self._value(f"select {self._flag} {condition}, {self.integer} {a}, {self.integer} {b}")

    def of_float(self, number: str) -> str:
        return self._value(f"bitcast {self.single} {number} to {self.integer}")

    def as_float(self, bits: str) -> str:
        return self._value(f"bitcast {self.integer} {bits} to {self.single}")

    def float_operation(self, name: str, bits: str, constant: float) -> str:
        """The float that a float instruction makes of one given by its bits and of a constant."""
        operand = self.as_float(self.constant(_bits(constant)))
        return self._value(f"{name} {self.single} {self.as_float(bits)}, {operand}")


def _bits(value: float) -> int:
    return unpack("<I", pack("<f", value))[0]


def _decode(e: Emitter, dtype: DType, lanes: int) -> str:
    do = _Words(e, lanes)
    mantissa, bias = dtype.mantissa_bits, dtype.exponent_bias
    longer = F32.mantissa_bits - mantissa
    code = e.value(f"zext {wide('i8', lanes)} %code to {do.integer}")
    magnitude = do("and", code, _CODE_MAGNITUDE)
    aligned = do("shl", magnitude, longer)
    normal = do("add", aligned, F32.exponent_bias - bias << F32.mantissa_bits)
    # A subnormal number lacks the leading one: it is added with the exponent and taken away as a number.
    led = do("add", aligned, F32.exponent_bias - bias + 1 << F32.mantissa_bits)
    subnormal = do.of_float(do.float_operation("fsub", led, 2.0 ** (1 - bias)))
    bits = do.select(do("icmp ult", magnitude, 1 << mantissa), subnormal, normal)
    match dtype.specials:
        case Specials.IEEE:
            infinity = _CODE_MAGNITUDE >> mantissa << mantissa
            bits = do.select(do("icmp eq", magnitude, infinity), _INFINITY, bits)
            bits = do.select(do("icmp ugt", magnitude, infinity), _NAN, bits)
        case Specials.NAN:
            bits = do.select(do("icmp eq", magnitude, _CODE_MAGNITUDE), _NAN, bits)
        case Specials.UNSIGNED_ZERO:
            bits = do.select(do("icmp eq", code, _CODE_SIGN), _NAN, bits)
    bits = do("or", bits, do("shl", do("and", code, _CODE_SIGN), 24))
    e.do(f"ret {do.single} {do.as_float(bits)}")
    return e.function(
        f"define internal {do.single} @mlu.decode.{dtype}.{lanes}({wide('i8', lanes)} %code) alwaysinline"
    )


def _encode(e: Emitter, dtype: DType, lanes: int, *, toward_zero: bool) -> str:
    do = _Words(e, lanes)
    mantissa, bias = dtype.mantissa_bits, dtype.exponent_bias
    shorter = F32.mantissa_bits - mantissa
    bits = do.of_float("%number")
    magnitude = do("and", bits, _MAGNITUDE)
    greatest = _bits(dtype.greatest)
    limited = do.select(do("icmp ugt", magnitude, greatest), greatest, magnitude)
    if toward_zero:
        rounded = limited
        scaled = do.float_operation("fmul", limited, 2.0 ** (bias - 1 + mantissa))
        subnormal = e.value(f"fptoui {do.single} {scaled} to {do.integer}")
    else:
        odd = do("and", do("lshr", limited, shorter), 1)
        rounded = do("add", do("add", limited, (1 << shorter - 1) - 1), odd)
        # A number whose last bit is worth the least subnormal number rounds what is added to it as the format does.
        unit = 2.0 ** (1 - bias - mantissa + F32.mantissa_bits)
        subnormal = do("sub", do.of_float(do.float_operation("fadd", limited, unit)), _bits(unit))
    normal = do("sub", do("lshr", rounded, shorter), F32.exponent_bias - bias << mantissa)
    code = do.select(do("icmp ult", limited, _bits(2.0 ** (1 - bias))), subnormal, normal)
    signed = do("or", code, do("lshr", do("and", bits, _SIGN), 24))
    nan = _CODE_MAGNITUDE
    if dtype.specials is Specials.UNSIGNED_ZERO:
        signed, nan = do.select(do("icmp eq", code, 0), 0, signed), _CODE_SIGN
    result = do.select(do("icmp ugt", magnitude, _INFINITY), nan, signed)
    codes, mode = wide("i8", lanes), "rtz." if toward_zero else ""
    e.do(f"ret {codes} {e.value(f'trunc {do.integer} {result} to {codes}')}")
    return e.function(f"define internal {codes} @mlu.encode.{mode}{dtype}.{lanes}({do.single} %number) alwaysinline")
