"""Every rewrite rule: it applies where it should and not where it must not, and the values stay on special values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mlutriton.arithmetic import OPERATIONS
from mlutriton.dtypes import BF16, BY_NAME, F16, F32, F64, I1, I8, I32, I64, DType
from mlutriton.ir.evaluator import evaluate
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.parser import parse_function
from mlutriton.ir.passes import canonicalize, dce
from mlutriton.ir.passes.canonicalize.arithmetic_rules import INVERSE, MIRROR
from mlutriton.ir.verifier import verify

FLOATS = [0.0, -0.0, 1.0, -1.0, 1.5, 3.0, 1e-40, -1e-45, 6e-8, 1e38, 65504.0, np.inf, -np.inf, np.nan, -np.nan]
ALL_FLOATS = (F16, BF16, F32, F64)
ALL_INTS = (I8, I32, I64)


def specials(dtype: DType) -> list[int | float]:
    if dtype.is_float:
        return FLOATS
    if dtype.is_bool:
        return [False, True]
    half = 1 << (dtype.bits - 1)
    return [0, 1, -1, 2, 3, 7, 8, -8, half - 1, -half, half // 2]


def compare(body: str, dtype: DType) -> list[str]:
    """The names of the ops that are left of ``%r``; its values are the same before and after.

    ``T`` in the body is a tensor of the dtype, ``B`` one of i1; ``%x``, ``%y`` and ``%m`` are there.
    """
    with np.errstate(all="ignore"):
        values = np.array(specials(dtype)).astype(dtype.numpy)
    x, y = np.repeat(values, len(values)), np.tile(values, len(values))
    mask = np.arange(len(x)) % 3 == 0
    tensor = f"tensor<{len(x)}x{dtype}>"
    truth = f"tensor<{len(x)}xi1>"
    lines = [line.strip() for line in body.strip().splitlines()]
    text = "\n".join(lines).replace(": T", f": {tensor}").replace(": B", f": {truth}").replace("<N", f"<{len(x)}")
    text = (
        f"func @rule(%x: {tensor}, %y: {tensor}, %m: {truth}) {{\n{text}\n"
        'print %r {prefix = "", style = "signed"}\nreturn\n}'
    )
    results = []
    names: list[str] = []
    for simplify in (False, True):
        function = parse_function(text)
        verify(function)
        if simplify:
            canonicalize.run(function)
            dce.run(function)
            verify(function)
            names = [operation.name for operation in function.body.operations[:-2]]
        (record,) = evaluate(function, (1,), [x, y, mask], ArrayMemory())
        results.append(record.values[0])
    before, after = results
    assert before.dtype == after.dtype
    with np.errstate(all="ignore"):
        both_nan = (before != before) & (after != after)
    same = (before.view(f"u{before.itemsize}") == after.view(f"u{after.itemsize}")) | both_nan
    assert same.all(), f"{dtype}: {x[~same]}, {y[~same]} give {before[~same]} and then {after[~same]}"
    return names


def with_constant(operation: str, value: object, *, result: str = "T", left: bool = False) -> str:
    operands = "%c, %x" if left else "%x, %c"
    return f"%c = constant {{value = {value}}} : T\n%r = {operation} {operands} : {result}"


LEAST, GREATEST = object(), object()

# operation, constant, what is left. A constant alone means that the result is known.
INTEGER_RULES: list[tuple[str, object, list[str]]] = [
    *[(name, 0, []) for name in ("add", "sub", "or", "xor", "shl", "lshr", "ashr", "umax")],
    *[(name, 1, []) for name in ("mul", "sdiv", "udiv")],
    *[(name, 0, ["constant"]) for name in ("mul", "and", "umin")],
    *[(name, 1, ["constant"]) for name in ("srem", "urem")],
    ("and", -1, []), ("umin", -1, []), ("or", -1, ["constant"]), ("umax", -1, ["constant"]),
    ("smin", GREATEST, []), ("smax", LEAST, []), ("smin", LEAST, ["constant"]), ("smax", GREATEST, ["constant"]),
    ("sub", 3, ["constant", "add"]), ("sub", LEAST, ["constant", "add"]),
    ("udiv", 8, ["constant", "lshr"]), ("urem", 8, ["constant", "and"]),
    # These must stay.
    ("udiv", 3, ["constant", "udiv"]), ("udiv", LEAST, ["constant", "udiv"]), ("sdiv", 8, ["constant", "sdiv"]),
    ("udiv", 0, ["constant", "udiv"]), ("sdiv", -1, ["constant", "sdiv"]), ("srem", 8, ["constant", "srem"]),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ALL_INTS, ids=str)
@pytest.mark.parametrize(("operation", "constant", "left"), INTEGER_RULES)
def test_integers_with_constants(operation: str, constant: object, left: list[str], dtype: DType) -> None:
    half = 1 << (dtype.bits - 1)
    value = -half if constant is LEAST else half - 1 if constant is GREATEST else constant
    assert compare(with_constant(operation, value), dtype) == left


@pytest.mark.parametrize("dtype", ALL_INTS, ids=str)
@pytest.mark.parametrize("sign", ["s", "u"])
@pytest.mark.parametrize("sum", ["%c, %b", "%b, %c"])
@pytest.mark.parametrize("product", ["%a, %y", "%y, %a"])
def test_a_quotient_and_its_remainder(sign: str, sum: str, product: str, dtype: DType) -> None:
    parts = f"%a = {sign}div %x, %y : T\n%b = {sign}rem %x, %y : T\n"
    assert compare(f"{parts}%c = mul {product} : T\n%r = add {sum} : T", dtype) == []
    assert compare(f"{parts}%c = mul %a, %x : T\n%r = add {sum} : T", dtype) != []


@pytest.mark.parametrize("sign", ["s", "u"])
@pytest.mark.parametrize("product", ["%a, %y", "%y, %a"])
def test_a_number_without_the_multiple_of_a_divisor(sign: str, product: str) -> None:
    values = specials(I32)
    body = f"%a = {sign}div %x, %y : i32\n%c = mul {product} : i32\n%r = sub %x, %c : i32"
    text = f'func @rule(%x: i32, %y: i32) {{\n{body}\nprint %r {{prefix = "", style = "signed"}}\nreturn\n}}'
    function = parse_function(text)
    canonicalize.run(function)
    dce.run(function)
    assert [operation.name for operation in function.body.operations[:-2]] == [f"{sign}rem"]
    for x, y in itertools.product(values, values):
        before, after = (
            evaluate(each, (1,), [np.int32(x), np.int32(y)], ArrayMemory())[0].values[0]
            for each in (parse_function(text), function)
        )
        assert before == after
    # Vectors divide once more for a remainder.
    tensors = f"%a = {sign}div %x, %y : T\n%c = mul {product} : T\n%r = sub %x, %c : T"
    assert compare(tensors, I32) == [f"{sign}div", "mul", "sub"]


# operation, constant, what is left: the second half are rules that would be wrong.
FLOAT_RULES: list[tuple[str, str, list[str]]] = [
    ("fmul", "1.0", []), ("fdiv", "1.0", []), ("fadd", "-0.0", []), ("fsub", "0.0", []),
    ("fmul", "-1.0", ["fneg"]), ("fdiv", "-1.0", ["fneg"]),
    ("fdiv", "4.0", ["constant", "fmul"]), ("fdiv", "-0.5", ["constant", "fmul"]),
    ("fadd", "0.0", ["constant", "fadd"]), ("fsub", "-0.0", ["constant", "fsub"]),
    ("fmul", "0.0", ["constant", "fmul"]),
    ("fdiv", "3.0", ["constant", "fdiv"]), ("fdiv", "0.0", ["constant", "fdiv"]), ("fdiv", "inf", ["constant", "fdiv"]),
    ("fmax", "-inf", ["constant", "fmax"]), ("fminimum", "nan", ["constant", "fminimum"]),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ALL_FLOATS, ids=str)
@pytest.mark.parametrize(("operation", "constant", "left"), FLOAT_RULES)
def test_floats_with_constants(operation: str, constant: str, left: list[str], dtype: DType) -> None:
    assert compare(with_constant(operation, constant), dtype) == left


@pytest.mark.parametrize(("dtype", "exponent"), [(F16, 15), (BF16, 127), (F32, 127), (F64, 1023)], ids=str)
def test_division_by_the_largest_and_least_powers_of_two(dtype: DType, exponent: int) -> None:
    """Outside them the reciprocal is subnormal, which not every multiplier is quick at, or too large."""
    assert compare(with_constant("fdiv", f"0x1p+{exponent}"), dtype) == ["constant", "fdiv"]
    assert compare(with_constant("fdiv", f"0x1p+{exponent - 1}"), dtype) == ["constant", "fmul"]
    assert compare(with_constant("fdiv", f"0x1p-{exponent}"), dtype) == ["constant", "fmul"]
    assert compare(with_constant("fdiv", f"0x1p-{exponent + 1}"), dtype) == ["constant", "fdiv"]


@pytest.mark.parametrize(
    ("operation", "left"),
    [
        *[(name, []) for name in ("and", "or", "smin", "smax", "umin", "umax", "fmin", "fmax", "fminimum", "fmaximum")],
        *[(name, ["constant"]) for name in ("sub", "xor", "eq", "ne", "slt", "sle", "sgt", "sge")],
        *[(name, ["constant"]) for name in ("ult", "ule", "ugt", "uge")],
        *[(name, [name]) for name in ("add", "sdiv", "urem", "fsub", "fdiv", "foeq", "fole", "fune", "fult", "fadd")],
    ],
)
def test_equal_operands(operation: str, left: list[str]) -> None:
    row = OPERATIONS[operation]
    for dtype in (*ALL_INTS, *ALL_FLOATS, I1):
        if row.accepts(dtype):
            assert compare(f"%r = {operation} %x, %x : {'B' if row.result == 'bool' else 'T'}", dtype) == left


@pytest.mark.parametrize("operation", sorted(INVERSE))
def test_negated_comparisons(operation: str) -> None:
    text = f"%c = {operation} %x, %y : B\n%t = constant {{value = true}} : B\n%r = xor %c, %t : B"
    for dtype in (I8, I64, F16, F32):
        if OPERATIONS[operation].accepts(dtype):
            assert compare(text, dtype) == [INVERSE[operation]]


def test_every_comparison_has_an_inverse_and_a_mirror() -> None:
    comparisons = {name for name, row in OPERATIONS.items() if row.result == "bool"}
    assert INVERSE.keys() == comparisons
    assert MIRROR.keys() == {name for name in comparisons if not OPERATIONS[name].commutative}


@pytest.mark.parametrize("operation", sorted(MIRROR))
def test_constants_move_to_the_right(operation: str) -> None:
    for dtype in (I8, I64, F16, F32):
        if OPERATIONS[operation].accepts(dtype):
            left = compare(with_constant(operation, "3.0" if dtype.is_float else 3, result="B", left=True), dtype)
            assert left == ["constant", MIRROR[operation]]


CASES: list[tuple[tuple[DType, ...], str, list[str]]] = [
    # chains
    (ALL_INTS, "%c = constant {value = 3} : T\n%d = constant {value = 127} : T\n%a = add %x, %c : T\n"
     "%r = add %a, %d : T",
     ["constant", "add"]),
    (ALL_INTS, "%c = constant {value = 3} : T\n%a = add %x, %c : T\n%r = sub %a, %c : T", []),
    (ALL_INTS, "%c = constant {value = 3} : T\n%d = constant {value = -5} : T\n%a = mul %x, %c : T\n"
     "%r = mul %d, %a : T",
     ["constant", "mul"]),
    (ALL_INTS, "%c = constant {value = 3} : T\n%d = constant {value = 5} : T\n%a = smax %x, %c : T\n"
     "%r = smax %a, %d : T",
     ["constant", "smax"]),
    (ALL_FLOATS, "%c = constant {value = 3.0} : T\n%a = fadd %x, %c : T\n%r = fadd %a, %c : T",
     ["constant", "fadd", "fadd"]),
    # signs
    (ALL_FLOATS, "%a = fneg %x : T\n%r = fneg %a : T", []),
    (ALL_FLOATS, "%a = fabs %x : T\n%r = fabs %a : T", ["fabs"]),
    (ALL_FLOATS, "%a = floor %x : T\n%r = trunc %a : T", ["floor"]),
    (ALL_FLOATS, "%c = constant {value = 3.0} : T\n%a = fmul %x, %c : T\n%r = fneg %a : T", ["constant", "fmul"]),
    (ALL_FLOATS, "%c = constant {value = 3.0} : T\n%a = fdiv %x, %c : T\n%r = fneg %a : T", ["constant", "fdiv"]),
    (ALL_FLOATS, "%c = constant {value = 0.0} : T\n%a = fmul %x, %c : T\n%r = fneg %a : T", ["constant", "fmul"]),
    (ALL_FLOATS, "%a = fmul %x, %y : T\n%r = fneg %a : T", ["fmul", "fneg"]),
    # select
    ((I1,), "%t = constant {value = true} : T\n%f = constant {value = false} : T\n%r = select %x, %t, %f : T", []),
    ((I1,), "%t = constant {value = true} : T\n%f = constant {value = false} : T\n%r = select %x, %f, %t : T",
     ["constant", "xor"]),
    ((F32, I8), "%r = select %m, %x, %x : T", []),
    ((F32, I8), "%t = constant {value = true} : B\n%r = select %t, %x, %y : T", []),
    ((F32, I8), "%t = constant {value = true} : B\n%n = xor %m, %t : B\n%r = select %n, %x, %y : T", ["select"]),
    (ALL_INTS, "%c = slt %x, %y : B\n%r = select %c, %x, %y : T", ["smin"]),
    (ALL_INTS, "%c = sle %x, %y : B\n%r = select %c, %y, %x : T", ["smax"]),
    (ALL_INTS, "%c = ugt %x, %y : B\n%r = select %c, %x, %y : T", ["umax"]),
    (ALL_INTS, "%c = uge %x, %y : B\n%r = select %c, %y, %x : T", ["umin"]),
    (ALL_FLOATS, "%c = fogt %x, %y : B\n%r = select %c, %x, %y : T", ["fogt", "select"]),
    ((F32, I8), "%i = select %m, %x, %y : T\n%r = select %m, %i, %y : T", ["select"]),
    ((F32, I8), "%i = select %m, %y, %x : T\n%r = select %m, %x, %i : T", []),
    ((I1,), "%f = constant {value = false} : T\n%r = select %m, %x, %f : T", ["and"]),
    ((I1,), "%t = constant {value = true} : T\n%r = select %m, %t, %y : T", ["or"]),
    ((I1,), "%f = constant {value = false} : T\n%r = select %m, %f, %y : T", ["constant", "select"]),
    # booleans
    ((I1,), "%t = constant {value = true} : T\n%r = and %x, %t : T", []),
    ((I1,), "%t = constant {value = true} : T\n%r = or %x, %t : T", ["constant"]),
    ((I1,), "%f = constant {value = false} : T\n%r = ne %x, %f : T", []),
    ((I1,), "%f = constant {value = false} : T\n%r = eq %x, %f : T", ["constant", "xor"]),
    ((I1,), "%t = constant {value = true} : T\n%r = eq %x, %t : T", []),
    ((I1,), "%t = constant {value = true} : T\n%r = ne %x, %t : T", ["constant", "xor"]),
    ((I1,), '%w = zext %x {to = "i32"} : tensor<Nxi32>\n%z = constant {value = 0} : tensor<Nxi32>\n%r = ne %w, %z : B',
     []),
    ((I1,), '%w = sext %x {to = "i32"} : tensor<Nxi32>\n%z = constant {value = 0} : tensor<Nxi32>\n%r = eq %w, %z : B',
     ["constant", "xor"]),
    ((I1,), '%w = zext %x {to = "i32"} : tensor<Nxi32>\n%z = constant {value = 1} : tensor<Nxi32>\n%r = ne %w, %z : B',
     ["constant", "xor"]),
    ((I1,), '%w = sext %x {to = "i32"} : tensor<Nxi32>\n%z = constant {value = 0} : tensor<Nxi32>\n'
     "%r = slt %w, %z : B", []),
    ((I1,), '%w = zext %x {to = "i32"} : tensor<Nxi32>\n%z = constant {value = 2} : tensor<Nxi32>\n'
     "%r = slt %w, %z : B", ["constant"]),
    ((F32,), "%u = constant {value = 1.0} : T\n%z = constant {value = 0.0} : T\n%s = select %m, %u, %z : T\n"
     "%r = fogt %s, %z : B", []),
    (ALL_INTS, "%u = constant {value = 1} : T\n%z = constant {value = 0} : T\n%s = select %m, %u, %z : T\n"
     "%r = eq %s, %z : B", ["constant", "xor"]),
    ((I32,), "%z = constant {value = 0} : T\n%s = select %m, %x, %z : T\n%r = ne %s, %z : B",
     ["constant", "select", "ne"]),
    # casts
    ((I8, I1), '%a = sext %x {to = "i16"} : tensor<Nxi16>\n%r = sext %a {to = "i32"} : tensor<Nxi32>', ["sext"]),
    ((I8, I1), '%a = zext %x {to = "i16"} : tensor<Nxi16>\n%r = sext %a {to = "i32"} : tensor<Nxi32>', ["zext"]),
    ((I8, I1), '%a = sext %x {to = "i16"} : tensor<Nxi16>\n%r = zext %a {to = "i32"} : tensor<Nxi32>',
     ["sext", "zext"]),
    ((I32,), '%a = sext %x {to = "i64"} : tensor<Nxi64>\n%r = trunc_int %a {to = "i32"} : T', []),
    ((I32,), '%a = zext %x {to = "i64"} : tensor<Nxi64>\n%r = trunc_int %a {to = "i8"} : tensor<Nxi8>', ["trunc_int"]),
    ((I8,), '%a = zext %x {to = "i64"} : tensor<Nxi64>\n%r = trunc_int %a {to = "i32"} : tensor<Nxi32>', ["zext"]),
    ((I64,), '%a = trunc_int %x {to = "i32"} : tensor<Nxi32>\n%r = trunc_int %a {to = "i8"} : tensor<Nxi8>',
     ["trunc_int"]),
    ((F16, BF16), '%a = fpcast %x {to = "f32"} : tensor<Nxf32>\n%r = fpcast %a {to = "E"} : T', []),
    ((F32,), '%a = fpcast %x {to = "f64"} : tensor<Nxf64>\n%r = fpcast_rtz %a {to = "f16"} : tensor<Nxf16>',
     ["fpcast_rtz"]),
    ((F32,), '%a = fpcast %x {to = "f16"} : tensor<Nxf16>\n%r = fpcast %a {to = "f32"} : T', ["fpcast", "fpcast"]),
    ((F64,), '%a = fpcast %x {to = "f32"} : tensor<Nxf32>\n%r = fpcast %a {to = "f16"} : tensor<Nxf16>',
     ["fpcast", "fpcast"]),
    ((F32,), '%a = bitcast %x {to = "i32"} : tensor<Nxi32>\n%r = bitcast %a {to = "f32"} : T', []),
]  # fmt: skip


@pytest.mark.parametrize(("dtypes", "body", "left"), CASES, ids=[f"case{i}" for i in range(len(CASES))])
def test_cases(dtypes: tuple[DType, ...], body: str, left: list[str]) -> None:
    for dtype in dtypes:
        assert compare(body.replace('"E"', f'"{dtype}"'), dtype) == left


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_folding_is_evaluation(name: str) -> None:
    """Every operation of constants is a constant, of the value that the operation has."""
    row = OPERATIONS[name]
    for dtype in (I1, I8, I32, F16, F32):
        for to in BY_NAME.values() if row.is_cast else [None]:
            if not row.accepts(dtype, to):
                continue
            value, other = ("1.5", "-inf") if dtype.is_float else ("true", "false") if dtype.is_bool else ("7", "-8")
            types = ["B" if name == "select" else "T", "T", "T"][: row.arity]
            numbers = ["true" if name == "select" else value, other, value]
            lines = [f"%c{i} = constant {{value = {numbers[i]}}} : {type}" for i, type in enumerate(types)]
            result = f"tensor<Nx{to}>" if to else "B" if row.result == "bool" else "T"
            attribute = f' {{to = "{to}"}}' if to else ""
            operands = ", ".join(f"%c{i}" for i in range(row.arity))
            left = compare("\n".join([*lines, f"%r = {name} {operands}{attribute} : {result}"]), dtype)
            assert left == ["constant"]
