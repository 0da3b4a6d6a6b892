"""Combine regions: what is recognised, and what must not be."""

from __future__ import annotations

import pytest

from mlutriton.ir.analysis.combine import ArgCombine, arg_combine, combine_kind
from mlutriton.ir.ops import Reduce
from mlutriton.ir.parser import parse_function
from mlutriton.ir.verifier import verify


def reduction(region: str, *dtypes: str) -> Reduce:
    names = "abcdef"
    inputs = ", ".join(f"%v{i}: tensor<8x{dtype}>" for i, dtype in enumerate(dtypes))
    operands = ", ".join(f"%v{i}" for i in range(len(dtypes)))
    results = ", ".join(f"%r{i}" for i in range(len(dtypes)))
    parameters = ", ".join(f"%{names[i]}: {dtype}" for i, dtype in enumerate(dtypes * 2))
    text = (
        f"func @f({inputs}) {{\n{results} = reduce {operands} {{axis = 0}} : {', '.join(dtypes)} ({{\n"
        f"^({parameters}):\n{region}\n}})\nreturn\n}}"
    )
    function = parse_function(text)
    verify(function)
    (operation,) = function.body.operations[:-1]
    assert isinstance(operation, Reduce)
    return operation


@pytest.mark.parametrize(
    ("region", "dtype", "kind"),
    [
        *[(f"%r = {name} %a, %b : f32\nyield %r", "f32", name) for name in ("fadd", "fmul", "fmax", "fminimum")],
        *[(f"%r = {name} %b, %a : i32\nyield %r", "i32", name) for name in ("add", "mul", "xor", "smax", "umin")],
        ("%r = or %a, %b : i1\nyield %r", "i1", "or"),
        ("%l = sgt %a, %b : i1\n%r = select %l, %a, %b : i32\nyield %r", "i32", "smax"),
        ("%l = ult %a, %b : i1\n%r = select %l, %b, %a : i32\nyield %r", "i32", "umax"),
        ("%l = fogt %a, %b : i1\n%e = foeq %a, %b : i1\n%m = fmaximum %a, %b : f32\nyield %m", "f32", "fmaximum"),
        # Not what they look like: the zeros and NaNs differ, or the order of operands matters, or there is more.
        ("%l = fogt %a, %b : i1\n%r = select %l, %a, %b : f32\nyield %r", "f32", None),
        ("%r = fsub %a, %b : f32\nyield %r", "f32", None),
        ("%r = fadd %a, %a : f32\nyield %r", "f32", None),
        ("%k = constant {value = 1} : i32\n%s = add %a, %b : i32\n%r = add %s, %k : i32\nyield %r", "i32", None),
        ("yield %a", "f32", None),
        ("%k = constant {value = 3} : i32\n%l = sgt %a, %k : i1\n%r = select %l, %a, %b : i32\nyield %r", "i32", None),
    ],
)
def test_one_operand(region: str, dtype: str, kind: str | None) -> None:
    assert combine_kind(reduction(region, dtype)) == kind


def tie_break(equal: str, greater: str) -> str:
    """What Triton writes for argmax and argmin: the extreme, of equal values the one with the lesser index."""
    return f"""%e = {equal} %a, %c : i1
    %l = slt %b, %d : i1
    %t = and %e, %l : i1
    %g = {greater} %a, %c : i1
    %p = or %g, %t : i1
    %v = select %p, %a, %c : T
    %i = select %p, %b, %d : i32
    yield %v, %i"""


def fast(greater: str) -> str:
    return f"%p = {greater} %a, %c : i1\n%v = select %p, %a, %c : T\n%i = select %p, %b, %d : i32\nyield %v, %i"


@pytest.mark.parametrize(
    ("region", "dtype", "expected"),
    [
        (tie_break("foeq", "fogt"), "f32", ArgCombine("argmax", False, "index", "right")),
        (tie_break("foeq", "folt"), "f16", ArgCombine("argmin", False, "index", "right")),
        (tie_break("eq", "sgt"), "i32", ArgCombine("argmax", False, "index", "right")),
        (tie_break("eq", "ult"), "i8", ArgCombine("argmin", True, "index", "right")),
        (fast("fogt"), "f32", ArgCombine("argmax", False, "right", "right")),
        (fast("fule"), "f32", ArgCombine("argmin", False, "left", "left")),
        (fast("sge"), "i64", ArgCombine("argmax", False, "left", "right")),
        # A NaN is the extreme, or is passed over.
        ("%n = funo %a, %a : i1\n%g = fogt %a, %c : i1\n%p = or %n, %g : i1\n%v = select %p, %a, %c : T\n"
         "%i = select %p, %b, %d : i32\nyield %v, %i", "f32", ArgCombine("argmax", False, "right", "nan")),
        ("%n = funo %c, %c : i1\n%g = fogt %a, %c : i1\n%p = or %n, %g : i1\n%v = select %p, %a, %c : T\n"
         "%i = select %p, %b, %d : i32\nyield %v, %i", "f32", ArgCombine("argmax", False, "right", "number")),
        # Not one pair or the other as a whole, or not by the values.
        ("%p = fogt %a, %c : i1\n%v = select %p, %a, %c : T\n%i = select %p, %d, %b : i32\nyield %v, %i", "f32", None),
        ("%p = slt %b, %d : i1\n%v = select %p, %a, %c : T\n%i = select %p, %b, %d : i32\nyield %v, %i", "f32", None),
        ("%v = fadd %a, %c : T\n%i = add %b, %d : i32\nyield %v, %i", "f32", None),
        ("%v = fmax %a, %c : T\n%i = smin %b, %d : i32\nyield %v, %i", "f32", None),
    ],
)  # fmt: skip
def test_value_and_index(region: str, dtype: str, expected: ArgCombine | None) -> None:
    operation = reduction(region.replace(": T", f": {dtype}"), dtype, "i32")
    assert arg_combine(operation) == expected
    answered = expected is not None and not expected.unsigned and expected.nan != "number"
    assert combine_kind(operation) == (expected.kind if expected and answered else None)
