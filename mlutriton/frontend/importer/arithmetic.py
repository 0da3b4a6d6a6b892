"""Import of element-wise arithmetic: the dialects ``arith`` and ``math``, and what ``tt`` adds to them."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.arithmetic import OPERATIONS
from mlutriton.dtypes import I1, DType
from mlutriton.frontend.importer.libdevice import external_function
from mlutriton.frontend.importer.translation import Imported, Rule, Translation, text
from mlutriton.frontend.ttir.tree import TtirOperation
from mlutriton.ir.core import Value
from mlutriton.ir.ops import PtrCast
from mlutriton.ir.types import PointerType, element_type, with_element

# Operations whose operands and meaning are those of one row of the arithmetic table.
# fmt: off
PLAIN: dict[str, str] = {
    "arith.addi":     "add",       "arith.subi":     "sub",       "arith.muli":      "mul",
    "arith.divsi":    "sdiv",      "arith.divui":    "udiv",      "arith.remsi":     "srem",
    "arith.remui":    "urem",      "arith.andi":     "and",       "arith.ori":       "or",
    "arith.xori":     "xor",       "arith.shli":     "shl",       "arith.shrsi":     "ashr",
    "arith.shrui":    "lshr",      "arith.minsi":    "smin",      "arith.maxsi":     "smax",
    "arith.minui":    "umin",      "arith.maxui":    "umax",      "arith.addf":      "fadd",
    "arith.subf":     "fsub",      "arith.mulf":     "fmul",      "arith.divf":      "fdiv",
    "arith.remf":     "frem",      "arith.negf":     "fneg",      "arith.minnumf":   "fmin",
    "arith.maxnumf":  "fmax",      "arith.minimumf": "fminimum",  "arith.maximumf":  "fmaximum",
    "math.absf":      "fabs",      "math.absi":      "iabs",      "math.fma":        "fma",
    "math.exp":       "exp",       "math.exp2":      "exp2",      "math.log":        "log",
    "math.log2":      "log2",      "math.sqrt":      "sqrt",      "math.rsqrt":      "rsqrt",
    "math.sin":       "sin",       "math.cos":       "cos",       "math.tan":        "tan",
    "math.tanh":      "tanh",      "math.erf":       "erf",       "math.floor":      "floor",
    "math.ceil":      "ceil",      "math.trunc":     "trunc",     "math.roundeven":  "round_even",
    "math.copysign":  "copysign",  "tt.mulhiui":     "mulhu",     "tt.precise_divf": "fdiv",
    "tt.precise_sqrt": "sqrt",
}

# Conversions to the element type of the result.
CASTS: dict[str, str] = {
    "arith.extsi":  "sext",    "arith.extui":  "zext",    "arith.trunci": "trunc_int",
    "arith.sitofp": "sitofp",  "arith.uitofp": "uitofp",  "arith.fptosi": "fptosi",
    "arith.fptoui": "fptoui",  "arith.extf":   "fpcast",  "arith.truncf": "fpcast",
    "arith.bitcast": "bitcast",
}
# fmt: on

assert OPERATIONS.keys() >= {*PLAIN.values(), *CASTS.values()}, "an operation is not in the arithmetic table"


def _plain(name: str) -> Rule:
    def rule(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
        return (translation.elementwise(name, *translation.values(operation.operands)),)

    return rule


def _destination(translation: Translation, operation: TtirOperation) -> DType:
    element = element_type(translation.result_type(operation))
    assert isinstance(element, DType)
    return element


def _cast(name: str) -> Rule:
    def rule(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
        (source,) = translation.values(operation.operands)
        return (translation.elementwise(name, source, to=_destination(translation, operation)),)

    return rule


def _resize(extension: str) -> Rule:
    def rule(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
        (source,) = translation.values(operation.operands)
        return (translation.resized(source, _destination(translation, operation), extension),)

    return rule


def _compare_integers(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    return (translation.elementwise(text(operation, "predicate"), *translation.values(operation.operands)),)


def _compare_floats(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    predicate = text(operation, "predicate")
    left, right = translation.values(operation.operands)
    if predicate in ("true", "false"):
        return (translation.constant(predicate == "true", with_element(left.type, I1)),)
    return (translation.elementwise("f" + predicate, left, right),)


def _select(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    condition, yes, no = translation.imported(operation.operands)
    assert isinstance(condition, Value)
    return (translation.select(condition, yes, no),)


def _rounded_division(translation: Translation, operation: TtirOperation, *, up: bool) -> Sequence[Imported]:
    """A signed quotient toward plus or minus infinity, from the one toward zero."""
    left, right = translation.values(operation.operands)
    dtype = element_type(left.type)
    assert isinstance(dtype, DType)
    zero = translation.constant(0, left.type)
    remainder = translation.elementwise("srem", left, right)
    is_inexact = translation.elementwise("ne", remainder, zero)
    # The remainder has the dividend's sign, so this compares the signs of both operands.
    signs = [translation.elementwise("slt", value, zero) for value in (remainder, right)]
    is_toward_zero_wrong = translation.elementwise("eq" if up else "ne", *signs)
    correction = translation.elementwise("and", is_inexact, is_toward_zero_wrong)
    quotient = translation.elementwise("sdiv", left, right)
    return (
        translation.elementwise(
            "add" if up else "sub", quotient, translation.elementwise("zext", correction, to=dtype)
        ),
    )


def _ceiling_division(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    return _rounded_division(translation, operation, up=True)


def _floor_division(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    return _rounded_division(translation, operation, up=False)


def _unsigned_ceiling_division(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    left, right = translation.values(operation.operands)
    dtype = element_type(left.type)
    assert isinstance(dtype, DType)
    remainder = translation.elementwise("urem", left, right)
    is_inexact = translation.elementwise("ne", remainder, translation.constant(0, left.type))
    quotient = translation.elementwise("udiv", left, right)
    return (translation.elementwise("add", quotient, translation.elementwise("zext", is_inexact, to=dtype)),)


def _clamp(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    value, least, most = translation.values(operation.operands)
    suffix = "imum" if text(operation, "propagateNan", "none") == "all" else ""
    value = translation.elementwise("fmax" + suffix, value, least)
    return (translation.elementwise("fmin" + suffix, value, most),)


def _float_to_float(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    (source,) = translation.values(operation.operands)
    name = "fpcast_rtz" if text(operation, "rounding", "rtne") == "rtz" else "fpcast"
    return (translation.elementwise(name, source, to=_destination(translation, operation)),)


def _bitcast(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    (source,) = translation.values(operation.operands)
    target = translation.result_type(operation)
    if source.type == target:
        return (source,)
    if isinstance(element_type(target), PointerType):
        return (translation.add(PtrCast([source], result_types=(target,))).result,)
    return (translation.elementwise("bitcast", source, to=_destination(translation, operation)),)


RULES: dict[str, Rule] = {
    **{source: _plain(name) for source, name in PLAIN.items()},
    **{source: _cast(name) for source, name in CASTS.items()},
    "arith.index_cast": _resize("sext"),
    "arith.index_castui": _resize("zext"),
    "arith.cmpi": _compare_integers,
    "arith.cmpf": _compare_floats,
    "arith.select": _select,
    "arith.ceildivsi": _ceiling_division,
    "arith.floordivsi": _floor_division,
    "arith.ceildivui": _unsigned_ceiling_division,
    "tt.clampf": _clamp,
    "tt.fp_to_fp": _float_to_float,
    "tt.bitcast": _bitcast,
    "tt.extern_elementwise": external_function,
}
