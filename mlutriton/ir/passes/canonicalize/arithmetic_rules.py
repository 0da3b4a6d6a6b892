"""Rewrite rules of element-wise ops.

The laws that every rule keeps:

 1. The value is the same, bit for bit, for every input: -0.0, infinities and subnormal numbers included. (So neither
    ``x + 0.0 -> x`` nor ``x * 0.0 -> 0.0`` nor ``x - x -> 0.0`` is a rule.) Only where the result is a NaN its sign
    and payload may differ, as :mod:`mlutriton.arithmetic` leaves them open.
 2. Folding is evaluation: constants are folded by ``Operation.evaluate`` and nothing else.
 3. A rule makes the code smaller, or brings it nearer to one form: constants on the right, ``sub`` of a constant as
    ``add``, uniform tensors as splats of scalars. No two rules undo each other, so rewriting ends.
 4. A rule looks at operands and their definitions, never at uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from mlutriton.dtypes import BF16, F16, F32, F64, DType
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import Constant, Elementwise, Splat
from mlutriton.ir.types import element_type, numpy_dtype, shape_of

Make = Callable[[Operation], Value]
"""Adds an operation before the one at hand and returns its result, itself simplified."""

_ASSOCIATIVE = frozenset({"add", "mul", "and", "or", "xor", "smin", "smax", "umin", "umax"})
_IDEMPOTENT = frozenset({"and", "or", "smin", "smax", "umin", "umax", "fmin", "fmax", "fminimum", "fmaximum"})
_TRUE_ON_EQUAL = frozenset({"eq", "sle", "sge", "ule", "uge"})
_FALSE_ON_EQUAL = frozenset({"ne", "slt", "sgt", "ult", "ugt"})

_OPPOSITES = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "le": "gt", "gt": "le"}
_MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def _inverse_comparisons() -> dict[str, str]:
    inverse = {"eq": "ne", "ne": "eq", "ford": "funo", "funo": "ford"}
    for relation in _MIRRORED:
        inverse |= {sign + relation: sign + _OPPOSITES[relation] for sign in "su"}
    for relation, opposite in _OPPOSITES.items():
        inverse |= {"fo" + relation: "fu" + opposite, "fu" + relation: "fo" + opposite}
    return inverse


INVERSE = _inverse_comparisons()
"""The comparison that is true exactly where the key is false."""

MIRROR = {prefix + a: prefix + b for prefix in ("s", "u", "fo", "fu") for a, b in _MIRRORED.items()}
"""The comparison that says the same of swapped operands."""

_SELECTED = {
    "slt": "smin", "sle": "smin", "sgt": "smax", "sge": "smax",
    "ult": "umin", "ule": "umin", "ugt": "umax", "uge": "umax",
}  # fmt: skip


def constant_of(value: Value) -> int | float | None:
    """The number that every element of the value is known to be."""
    definition = value.defining_op
    return definition.value if isinstance(definition, Constant) else None


def simplify_elementwise(op: Elementwise, make: Make) -> Value | None:
    """A value that is equal to the op's result and better, or None."""
    constants = [constant_of(operand) for operand in op.operands]
    folded = fold(op, constants)
    if folded is not None:
        return make(folded)
    swapped = _constant_to_the_right(op, constants)
    if swapped is not None:
        return make(swapped)
    uniform = _of_scalars(op, make)
    if uniform is not None:
        return uniform
    if op.name == "select":
        return _select(op, constants, make)
    if op.arithmetic.is_cast:
        return _cast(op, make)
    if op.name in INVERSE and constants[1] is not None:
        truth = _compared_choice(op, make)
        if truth is not None:
            return truth
    match op.operands:
        case [a]:
            return _unary(op, a, make)
        case [a, b] if a is b:
            return _same_operands(op, a, make)
        case [a, b] if constants[1] is not None:
            if op.operand_dtype.is_float:
                return _with_float(op, a, float(constants[1]), make)
            return _with_integer(op, a, b, int(constants[1]), make)
        case [a, b] if op.name == "add":
            return _whole_of(a, b) or _whole_of(b, a)
        case [a, b] if op.name == "sub":
            return _rest_of(a, b, make)
        case _:
            return None


def fold(op: Elementwise, constants: Sequence[int | float | None]) -> Constant | None:
    """The constant that an op on constants is."""
    operands = [
        np.asarray(constant, numpy_dtype(operand.type))
        for constant, operand in zip(constants, op.operands, strict=True)
        if constant is not None
    ]
    if len(operands) < len(constants):
        return None
    (result,) = op.evaluate(operands)
    number = result.item() if result.dtype.kind in "bi" else float(result)
    if op.name == "bitcast" and number != number:
        return None  # a constant NaN has no payload
    return Constant.of(number, op.result.type)


def _remake(op: Elementwise, operands: Sequence[Value], name: str | None = None) -> Elementwise:
    return Elementwise(operands, op.attributes | {"operation": name or op.name})


def _constant_to_the_right(op: Elementwise, constants: Sequence[int | float | None]) -> Elementwise | None:
    if len(constants) < 2 or constants[0] is None or constants[1] is not None or op.name == "select":
        return None
    name = op.name if op.arithmetic.commutative else MIRROR.get(op.name)
    return _remake(op, [op.operands[1], op.operands[0], *op.operands[2:]], name) if name else None


def _of_scalars(op: Elementwise, make: Make) -> Value | None:
    """An op on splats is the splat of the op on scalars."""
    if not shape_of(op.result.type):
        return None
    definitions = [operand.defining_op for operand in op.operands]
    if not all(isinstance(definition, Splat | Constant) for definition in definitions):
        return None
    scalars = [scalar_of(operand, make) for operand in op.operands]
    return make(Splat([make(_remake(op, scalars))], result_types=[op.result.type]))


def scalar_of(value: Value, make: Make) -> Value:
    """The scalar that a splat or a constant repeats."""
    match value.defining_op:
        case Splat() as splat:
            return splat.operands[0]
        case Constant() as constant:
            return make(Constant.of(constant.value, element_type(value.type)))
        case _:
            return value


def _unary(op: Elementwise, a: Value, make: Make) -> Value | None:
    inner = a.defining_op
    if not isinstance(inner, Elementwise):
        return None
    match op.name, inner.name:
        case "fneg", "fneg":
            return inner.operands[0]
        case "fneg", "fmul" | "fdiv" if (c := constant_of(inner.operands[1])) is not None:
            return make(_remake(inner, [inner.operands[0], make(Constant.of(-c, inner.operands[1].type))]))
        case "fabs", "fabs":
            return a
        case "floor" | "ceil" | "trunc" | "round_even", "floor" | "ceil" | "trunc" | "round_even":
            return a
        case _:
            return None


def _same_operands(op: Elementwise, a: Value, make: Make) -> Value | None:
    if op.name in _IDEMPOTENT:
        return a
    if op.name in _TRUE_ON_EQUAL or op.name in _FALSE_ON_EQUAL:
        return make(Constant.of(op.name in _TRUE_ON_EQUAL, op.result.type))
    return make(Constant.of(0, op.result.type)) if op.name in ("sub", "xor") else None


_REMAINDERS = {"sdiv": "srem", "udiv": "urem"}


def _divided(multiple: Value) -> Elementwise | None:
    """The division of which a value is the quotient times the divisor."""
    product = multiple.defining_op
    if not isinstance(product, Elementwise) or product.name != "mul":
        return None
    for quotient, divisor in (product.operands, product.operands[::-1]):
        division = quotient.defining_op
        if not isinstance(division, Elementwise) or division.name not in _REMAINDERS:
            continue
        if division.operands[1] is divisor:
            return division
    return None


def _whole_of(multiple: Value, rest: Value) -> Value | None:
    """The number of which one value is the multiple of a divisor, and the other the remainder."""
    division, remainder = _divided(multiple), rest.defining_op
    if division is None or not isinstance(remainder, Elementwise) or remainder.name != _REMAINDERS[division.name]:
        return None
    return division.operands[0] if division.operands == remainder.operands else None


def _rest_of(whole: Value, multiple: Value, make: Make) -> Value | None:
    """A number without the multiple of a divisor, as the remainder; that of tensors takes longer."""
    division = _divided(multiple)
    if division is None or division.operands[0] is not whole or shape_of(whole.type):
        return None
    return make(Elementwise.of(_REMAINDERS[division.name], *division.operands))


def _with_integer(op: Elementwise, a: Value, b: Value, c: int, make: Make) -> Value | None:
    dtype = op.operand_dtype
    ones = True if dtype.is_bool else -1
    greatest = (1 << (dtype.bits - 1)) - 1
    least = -greatest - 1

    def constant(value: int) -> Value:
        return make(Constant.of(value, op.result.type))

    def binary(name: str, value: int) -> Value:
        return make(Elementwise.of(name, a, make(Constant.of(value, b.type))))

    match op.name:
        case "add" | "sub" | "or" | "xor" | "shl" | "lshr" | "ashr" if c == 0:
            return a
        case "mul" | "sdiv" | "udiv" if c == 1:
            return a
        case "mul" | "and" | "umin" if c == 0:
            return constant(0)
        case "srem" | "urem" if c == 1:
            return constant(0)
        case "and" | "umin" if c == ones:
            return a
        case "or" | "umax" if c == ones:
            return constant(ones)
        case "umax" if c == 0:
            return a
        case "smin" if c == greatest:
            return a
        case "smax" if c == least:
            return a
        case "smin" if c == least:
            return constant(least)
        case "smax" if c == greatest:
            return constant(greatest)
        case "sub":
            return binary("add", -c)
        case "udiv" if c > 1 and c.bit_count() == 1:
            return binary("lshr", c.bit_length() - 1)
        case "urem" if c > 1 and c.bit_count() == 1:
            return binary("and", c - 1)
        case "eq" | "ne" if dtype.is_bool:
            return _negation(a, make) if (op.name == "eq") == (c == 0) else a
        case "xor" if dtype.is_bool and isinstance(inner := a.defining_op, Elementwise) and inner.name in INVERSE:
            return make(Elementwise.of(INVERSE[inner.name], *inner.operands))
        case _:
            pass
    return _chain(op, a, b, make)


def _negation(truth: Value, make: Make) -> Value:
    return make(Elementwise.of("xor", truth, make(Constant.of(True, truth.type))))


def _compared_choice(op: Elementwise, make: Make) -> Value | None:
    """What a boolean chose of two constants, or became as a number, compared with a constant: the boolean again.

    Masks are written like this, and a mask that is seen to be a box loads tiles.
    """
    match op.operands[0].defining_op:
        case Elementwise(name="select", operands=[truth, a, b]):
            choices = [constant_of(a), constant_of(b)]
        case Elementwise(operands=[truth]) as cast if cast.arithmetic.is_cast and cast.operand_dtype.is_bool:
            choices = [_folded(cast, [each]) for each in (True, False)]
        case _:
            return None
    if None in choices:
        return None
    if_true, if_false = (_folded(op, [choice, constant_of(op.operands[1])]) for choice in choices)
    if if_true == if_false:
        return make(Constant.of(bool(if_true), op.result.type))
    return truth if if_true else _negation(truth, make)


def _folded(op: Elementwise, constants: Sequence[int | float | None]) -> int | float | None:
    folded = fold(op, constants)
    return None if folded is None else folded.value


def _chain(op: Elementwise, a: Value, b: Value, make: Make) -> Value | None:
    """``(x op c1) op c2`` is ``x op (c1 op c2)``."""
    inner = a.defining_op
    if op.name not in _ASSOCIATIVE or not isinstance(inner, Elementwise) or inner.name != op.name:
        return None
    x, c1 = inner.operands
    if constant_of(c1) is None:
        return None
    return make(Elementwise.of(op.name, x, make(Elementwise.of(op.name, c1, b))))


def _with_float(op: Elementwise, a: Value, c: float, make: Make) -> Value | None:
    negative_zero = c == 0 and math.copysign(1.0, c) < 0
    match op.name:
        case "fmul" | "fdiv" if c == 1:
            return a
        case "fmul" | "fdiv" if c == -1:
            return make(Elementwise.of("fneg", a))
        case "fadd" if negative_zero:
            return a
        case "fsub" if c == 0 and not negative_zero:
            return a
        case "fdiv" if _has_exact_reciprocal(c, op.operand_dtype):
            return make(Elementwise.of("fmul", a, make(Constant.of(1 / c, op.result.type))))
        case _:
            return None


LEAST_NORMAL = {F16: 2.0**-14, BF16: 2.0**-126, F32: 2.0**-126, F64: 2.0**-1022}
"""The least positive number of a type that has all its digits."""


def _has_exact_reciprocal(c: float, dtype: DType) -> bool:
    least = LEAST_NORMAL.get(dtype)
    return least is not None and abs(math.frexp(c)[0]) == 0.5 and least <= abs(1 / c) <= 2 / least


def _select(op: Elementwise, constants: Sequence[int | float | None], make: Make) -> Value | None:
    mask, a, b = op.operands
    if a is b:
        return a
    if constants[0] is not None:
        return a if constants[0] else b
    if op.operand_dtype.is_bool and constants[1:] == [True, False]:
        return mask
    if op.operand_dtype.is_bool and constants[1:] == [False, True]:
        return _negation(mask, make)
    if op.operand_dtype.is_bool and constants[2] is not None and not constants[2]:
        return make(Elementwise.of("and", mask, a))
    if op.operand_dtype.is_bool and constants[1]:
        return make(Elementwise.of("or", mask, b))
    one, other = _sides_of(a, mask)[0], _sides_of(b, mask)[1]
    if one is not a or other is not b:
        return make(Elementwise.of("select", mask, one, other))
    condition = mask.defining_op
    if not isinstance(condition, Elementwise):
        return None
    if condition.name == "xor" and constant_of(condition.operands[1]) is not None:
        return make(Elementwise.of("select", condition.operands[0], b, a))
    if condition.name in _SELECTED and condition.operands == [a, b]:
        return make(Elementwise.of(_SELECTED[condition.name], a, b))
    if condition.name in _SELECTED and condition.operands == [b, a]:
        return make(Elementwise.of(_SELECTED[MIRROR[condition.name]], a, b))
    return None


def _sides_of(value: Value, mask: Value) -> tuple[Value, Value]:
    """What a value is where a mask is true, and where it is false, if it is chosen by it; else the value itself."""
    match value.defining_op:
        case Elementwise(name="select", operands=[condition, a, b]) if condition is mask:
            return a, b
        case _:
            return value, value


def _cast(op: Elementwise, make: Make) -> Value | None:
    to = op.to
    source = op.operands[0]
    if op.operand_dtype == to and op.name in ("fpcast", "fpcast_rtz", "bitcast"):
        return source
    inner = source.defining_op
    if not isinstance(inner, Elementwise) or not inner.arithmetic.is_cast or to is None:
        return None
    x = inner.operands[0]
    origin = inner.operand_dtype
    match op.name, inner.name:
        case ("sext", "sext") | ("zext", "zext") | ("trunc_int", "trunc_int") | ("bitcast", "bitcast"):
            return make(Elementwise.of(op.name, x, to=to))
        case "sext", "zext":
            return make(Elementwise.of("zext", x, to=to))
        case "trunc_int", "sext" | "zext" if to == origin:
            return x
        case "trunc_int", "sext" | "zext":
            name = inner.name if to.bits > origin.bits else "trunc_int"
            return make(Elementwise.of(name, x, to=to))
        case "fpcast" | "fpcast_rtz", "fpcast" | "fpcast_rtz" if _widens(origin, op.operand_dtype):
            return make(Elementwise.of(op.name, x, to=to))
        case _:
            return None


def _widens(source: DType, to: DType) -> bool:
    """Whether a cast between floats keeps every value."""
    return (to is F64 and source is not F64) or (to is F32 and source not in (F32, F64))
