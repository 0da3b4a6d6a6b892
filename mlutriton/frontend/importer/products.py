"""Import of matrix products: the precisions of ``tl.dot``, and the microscaling formats of ``tl.dot_scaled``.

Both become plain dots of the IR. Sources: Henry, Tang and Heinecke, Leveraging the bfloat16 artificial intelligence
datatype for higher-precision computations, 2019, for products of split numbers; OCP Microscaling Formats (MX)
specification 1.0 for the formats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlutriton.dtypes import BF16, F16, F32, I8, I16, I32, TF32, DType
from mlutriton.frontend.importer.translation import Imported, Rule, Translation, integers, text
from mlutriton.frontend.ttir.tree import TtirOperation
from mlutriton.ir.core import Value
from mlutriton.ir.ops import Broadcast, Dot, ExpandDims, Join, Reshape, Transpose
from mlutriton.ir.types import element_type, shape_of, with_shape

# ---- products of float32 --------------------------------------------------------------------------------------------

# Which parts of the left and the right operand are multiplied, the least products first; part 0 is the greatest. What
# is left out is smaller than what the last part of an operand leaves out.
_PRODUCTS: dict[str, tuple[tuple[int, int], ...]] = {
    "tf32x3": ((1, 0), (0, 1), (0, 0)),
    "bf16x3": ((1, 0), (0, 1), (0, 0)),
    "bf16x6": ((1, 1), (2, 0), (0, 2), (1, 0), (0, 1), (0, 0)),
}


def _dot(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    a, b, c = translation.values(operation.operands)
    precision = text(operation, "inputPrecision", "ieee")
    if element_type(a.type) != F32:
        return (_product(translation, a, b, c),)
    if precision not in _PRODUCTS:
        return (_product(translation, a, b, c, precision),)
    products = _PRODUCTS[precision]
    count = 1 + max(place for pair in products for place in pair)
    if precision == "tf32x3":
        inner, parts = "tf32", [_tf32_parts(translation, operand) for operand in (a, b)]
    else:
        inner, parts = "ieee", [_bf16_parts(translation, operand, count) for operand in (a, b)]
    left, right = parts
    zero = translation.constant(0.0, c.type)
    total = zero
    for i, j in products[:-1]:
        total = _product(translation, left[i], right[j], total, inner)
    # The parts of an infinity are an infinity and NaN: then the greatest product alone is right.
    is_nan = translation.elementwise("funo", total, total)
    total = translation.elementwise("select", is_nan, zero, total)
    total = _product(translation, left[0], right[0], total, inner)
    return (translation.elementwise("fadd", total, c),)


def _product(translation: Translation, a: Value, b: Value, c: Value, precision: str = "ieee") -> Value:
    dot = Dot([a, b, c], {"precision": precision})
    if complaint := dot.check():
        raise translation.refusal(
            f"tl.dot of {a.type} and {b.type} to {c.type} is not supported: {complaint}",
            help="what is added, and out_dtype, are floats where factors are; int8 is added up in tl.int32",
        )
    return translation.add(dot).result


def _tf32_parts(translation: Translation, value: Value) -> list[Value]:
    """A number without its last bits, and those bits."""
    dropped = F32.mantissa_bits - TF32.mantissa_bits
    bits = translation.elementwise("bitcast", value, to=I32)
    upper = translation.elementwise("and", bits, translation.constant(-1 << dropped, bits.type))
    greatest = translation.elementwise("bitcast", upper, to=F32)
    return [greatest, translation.elementwise("fsub", value, greatest)]


def _bf16_parts(translation: Translation, value: Value, count: int) -> list[Value]:
    """The nearest bf16, the nearest to what that leaves, and so on."""
    parts = [translation.elementwise("fpcast", value, to=BF16)]
    while len(parts) < count:
        value = translation.elementwise("fsub", value, translation.elementwise("fpcast", parts[-1], to=F32))
        parts.append(translation.elementwise("fpcast", value, to=BF16))
    return parts


# ---- microscaling formats -------------------------------------------------------------------------------------------

_E2M1_MANTISSA_BITS, _E2M1_EXPONENT_BIAS = 1, 1
_E8M0_NAN = 255


def _dot_scaled(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    a, *rest = translation.values(operation.operands)
    scaled = integers(operation, "scale")
    a_scale = rest.pop(0) if 1 in scaled else None
    b = rest.pop(0)
    b_scale = rest.pop(0) if len(rest) > 1 else None
    (c,) = rest
    formats = text(operation, "lhs"), text(operation, "rhs")
    dtype = F16 if "fp16" in formats else BF16
    is_exact = not operation.attributes.get("fastMath", False)
    left = _numbers(translation, a, dtype, formats[0], -1 if operation.attributes.get("lhs_k_pack", True) else -2)
    right = _numbers(translation, b, dtype, formats[1], -2 if operation.attributes.get("rhs_k_pack", True) else -1)
    if a_scale is not None:
        left = _scaled(translation, left, _scales(translation, a_scale, dtype, is_exact=is_exact), axis=-1)
    if b_scale is not None:
        scales = _scales(translation, b_scale, dtype, is_exact=is_exact)
        rank = len(shape_of(scales.type))
        order = (*range(rank - 2), rank - 1, rank - 2)
        scales = translation.add(Transpose([scales], {"order": order})).result
        right = _scaled(translation, right, scales, axis=-2)
    return (_product(translation, left, right, c),)


def _numbers(translation: Translation, value: Value, dtype: DType, format: str, packed_axis: int) -> Value:
    """The numbers of an operand in the type that is multiplied."""
    if format == "e2m1":
        return fp4_numbers(translation, _nibbles(translation, value, packed_axis), dtype)
    return value if element_type(value.type) == dtype else translation.elementwise("fpcast", value, to=dtype)


def _nibbles(translation: Translation, value: Value, axis: int) -> Value:
    """Halves of bytes, the lower first, side by side along an axis that so becomes twice as long."""
    halves = [
        translation.elementwise("and", value, translation.constant(15, value.type)),
        translation.elementwise("lshr", value, translation.constant(4, value.type)),
    ]
    joined = translation.add(Join(halves)).result
    shape = list(shape_of(value.type))
    rank = len(shape)
    if axis == -2:
        joined = translation.add(Transpose([joined], {"order": (*range(rank - 1), rank, rank - 1)})).result
    shape[axis] *= 2
    return _reshaped(translation, joined, shape)


def fp4_numbers(translation: Translation, nibbles: Value, dtype: DType) -> Value:
    """The numbers behind codes of e2m1.

    The code is laid over the type's own, one bit of mantissa under the first and the exponent above it: that is the
    number but for the difference of the biases, subnormal codes included.
    """
    bits = translation.elementwise("zext", nibbles, to=I16)
    magnitude = translation.elementwise("and", bits, translation.constant(7, bits.type))
    places = dtype.mantissa_bits - _E2M1_MANTISSA_BITS
    magnitude = translation.elementwise("shl", magnitude, translation.constant(places, bits.type))
    sign = translation.elementwise("and", bits, translation.constant(8, bits.type))
    sign = translation.elementwise("shl", sign, translation.constant(dtype.bits - 4, bits.type))
    number = translation.elementwise("bitcast", translation.elementwise("or", magnitude, sign), to=dtype)
    factor = 2.0 ** (dtype.exponent_bias - _E2M1_EXPONENT_BIAS)
    return translation.elementwise("fmul", number, translation.constant(factor, number.type))


def _scales(translation: Translation, scales: Value, dtype: DType, *, is_exact: bool) -> Value:
    """Scales in the type that is multiplied; bytes are exponents of 2, of which the last, if exact, is NaN."""
    if element_type(scales.type) != I8:
        return translation.elementwise("fpcast", scales, to=dtype)
    exponents = translation.elementwise("zext", scales, to=I16)
    bits = translation.elementwise("shl", exponents, translation.constant(BF16.mantissa_bits, exponents.type))
    # The exponent field 0 is that of subnormal numbers: 2**-127 is the one with the upper bit of the mantissa.
    least = translation.constant(1 << BF16.mantissa_bits - 1, exponents.type)
    numbers = translation.elementwise("bitcast", translation.elementwise("smax", bits, least), to=BF16)
    if is_exact:
        is_nan = translation.elementwise("eq", exponents, translation.constant(_E8M0_NAN, exponents.type))
        numbers = translation.elementwise("select", is_nan, translation.constant(math.nan, numbers.type), numbers)
    return numbers if dtype is BF16 else translation.elementwise("fpcast", numbers, to=dtype)


def _scaled(translation: Translation, value: Value, scales: Value, axis: int) -> Value:
    """Numbers times their scales, of which each belongs to a group of neighbours along an axis."""
    shape, groups = shape_of(value.type), shape_of(scales.type)[axis]
    place = len(shape) + axis
    grouped = (*shape[:place], groups, shape[place] // groups, *shape[place + 1 :])
    spread = translation.add(ExpandDims([scales], {"axis": place + 1})).result
    spread = translation.add(Broadcast([spread], result_types=(with_shape(grouped, element_type(spread.type)),))).result
    product = translation.elementwise("fmul", _reshaped(translation, value, grouped), spread)
    return _reshaped(translation, product, shape)


def _reshaped(translation: Translation, value: Value, shape: Sequence[int]) -> Value:
    type = with_shape(tuple(shape), element_type(value.type))
    return translation.add(Reshape([value], result_types=(type,))).result


RULES: dict[str, Rule] = {"tt.dot": _dot, "tt.dot_scaled": _dot_scaled}
