"""The element-wise operations, each defined once, for the compiler, the ISA and the simulator.

What holds for all of them:

* Integers are signless and wrap around. No operation traps: every input has a defined result.
* Float operations round to nearest, ties to even, and keep subnormal numbers. On ``f16``, ``bf16`` and the
  8-bit formats an operation is computed in ``f32`` and its ``f32`` result is rounded once more to the type; ``f64`` is
  computed in ``f64``.
* What is too large for an 8-bit format, infinities included, gives its greatest number of that sign, as the conversions
  of GPUs do (PTX: ``.satfinite``).
* The sign and payload of a NaN result are unspecified, save for ``fneg``, ``fabs`` and ``copysign``.
* Operands have one type, ``dtype``, except the mask of ``select``. Casts go from ``dtype`` to a second type, ``to``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlutriton.dtypes import I1, DType

Domain = Literal["int", "bits", "float", "any"]
"""Types an operation is defined for: ``int`` is i8 to i64, ``bits`` adds i1, ``float`` is every float."""

CostClass = Literal["simple", "fma", "divide", "special"]
"""What a machine model charges: one pass, a fused multiply-add, a division, a root or transcendental function."""


@dataclass(frozen=True)
class Operation:
    """One element-wise operation.

    Attributes:
        name: its name in the IR; the ISA's mnemonics are derived from it.
        arity: number of operands.
        domain: the operand types it is defined for.
        result: ``same`` as the operands, ``bool`` (i1), or, for a cast, the domain of the destination type.
        commutative: whether the first two operands may be swapped without changing a bit of a result that is not NaN.
        cost_class: what a machine model charges for it.
        doc: its exact meaning.
    """

    name: str
    arity: int
    domain: Domain
    result: Literal["same", "bool"] | Domain
    commutative: bool
    cost_class: CostClass
    doc: str

    @property
    def is_cast(self) -> bool:
        """True when the destination type is given apart from the source type."""
        return self.result not in ("same", "bool")

    def accepts(self, dtype: DType, to: DType | None = None) -> bool:
        """Return whether the operation is defined on ``dtype`` and, for a cast, from it to ``to``."""
        if not self.is_cast:
            return to is None and _belongs(dtype, self.domain)
        if to is None or not _belongs(dtype, self.domain) or not _belongs(to, self.result):
            return False
        match self.name:
            case "sext" | "zext":
                return dtype.bits < to.bits
            case "trunc_int":
                return dtype.bits > to.bits
            case "bitcast":
                return dtype.bits == to.bits
            case _:
                return True

    def result_type(self, dtype: DType, to: DType | None = None) -> DType:
        """Return the type of the result; ``accepts`` must hold."""
        if self.is_cast:
            assert to is not None
            return to
        return I1 if self.result == "bool" else dtype


def _belongs(dtype: DType, domain: Literal["same", "bool"] | Domain) -> bool:
    match domain:
        case "int":
            return dtype.is_int
        case "bits":
            return dtype.is_int or dtype.is_bool
        case "float":
            return dtype.is_float
        case "bool":
            return dtype.is_bool
        case "any" | "same":
            return True


_Row = tuple[str, int, bool, CostClass, str]


def _operations(domain: Domain, result: Literal["same", "bool"] | Domain, *rows: _Row) -> tuple[Operation, ...]:
    return tuple(
        Operation(name, arity, domain, result, commutative, cost_class, doc)
        for name, arity, commutative, cost_class, doc in rows
    )


# Columns: name, arity, commutative, cost class, meaning. For casts the two domains are those of source and destination.
# fmt: off
_TABLE: tuple[Operation, ...] = (
    *_operations("int", "same",
        ("add",        2, True,  "simple",  "a + b modulo 2**bits."),
        ("sub",        2, False, "simple",  "a - b modulo 2**bits."),
        ("mul",        2, True,  "simple",  "a * b modulo 2**bits."),
        ("mulhs",      2, True,  "fma",     "The upper half of the signed product of 2*bits bits."),
        ("mulhu",      2, True,  "fma",     "The upper half of the unsigned product of 2*bits bits."),
        ("sdiv",       2, False, "divide",  "Signed a / b toward zero; x / 0 = -1; the least integer / -1 = the least "
                                            "integer."),
        ("udiv",       2, False, "divide",  "Unsigned a / b; x / 0 = all ones."),
        ("srem",       2, False, "divide",  "a - b * sdiv(a, b), with the sign of a; x rem 0 = x; the least integer "
                                            "rem -1 = 0."),
        ("urem",       2, False, "divide",  "a - b * udiv(a, b), unsigned; x rem 0 = x."),
    ),
    *_operations("bits", "same",
        ("and",        2, True,  "simple",  "Bitwise and."),
        ("or",         2, True,  "simple",  "Bitwise or."),
        ("xor",        2, True,  "simple",  "Bitwise exclusive or."),
    ),
    *_operations("int", "same",
        ("shl",        2, False, "simple",  "a shifted left by unsigned b; 0 when b >= bits."),
        ("lshr",       2, False, "simple",  "a shifted right by unsigned b, zeros enter; 0 when b >= bits."),
        ("ashr",       2, False, "simple",  "a shifted right by unsigned b, copies of the sign enter; all sign when b "
                                            ">= bits."),
        ("smin",       2, True,  "simple",  "The lesser, signed."),
        ("smax",       2, True,  "simple",  "The greater, signed."),
        ("umin",       2, True,  "simple",  "The lesser, unsigned."),
        ("umax",       2, True,  "simple",  "The greater, unsigned."),
        ("iabs",       1, False, "simple",  "The absolute value; the least integer stays itself."),
    ),
    *_operations("float", "same",
        ("fadd",       2, True,  "simple",  "a + b."),
        ("fsub",       2, False, "simple",  "a - b."),
        ("fmul",       2, True,  "simple",  "a * b."),
        ("fma",        3, True,  "fma",     "a * b + c with one rounding (in f32, then to the type, where the type is "
                                            "narrower)."),
        ("fdiv",       2, False, "divide",  "a / b."),
        ("frem",       2, False, "divide",  "The exact remainder a - b * trunc(a / b), with the sign of a; NaN for "
                                            "infinite a or zero b."),
        ("fmin",       2, True,  "simple",  "The lesser; a NaN operand is ignored; -0 < +0."),
        ("fmax",       2, True,  "simple",  "The greater; a NaN operand is ignored; -0 < +0."),
        ("fminimum",   2, True,  "simple",  "The lesser; NaN if an operand is; -0 < +0."),
        ("fmaximum",   2, True,  "simple",  "The greater; NaN if an operand is; -0 < +0."),
        ("fneg",       1, False, "simple",  "The sign bit inverted, of a NaN too."),
        ("fabs",       1, False, "simple",  "The sign bit cleared, of a NaN too."),
        ("copysign",   2, False, "simple",  "a with the sign bit of b."),
        ("floor",      1, False, "simple",  "The greatest integer <= x."),
        ("ceil",       1, False, "simple",  "The least integer >= x."),
        ("trunc",      1, False, "simple",  "The integer part of x."),
        ("round_even", 1, False, "simple",  "The nearest integer, ties to even."),
        ("sqrt",       1, False, "special", "The square root, correctly rounded; NaN below zero, -0 for -0."),
        ("rsqrt",      1, False, "special", "1 / sqrt(x), two roundings."),
        ("exp",        1, False, "special", "e**x."),
        ("exp2",       1, False, "special", "2**x."),
        ("log",        1, False, "special", "The natural logarithm; -inf for zeros, NaN below."),
        ("log2",       1, False, "special", "The logarithm to base 2; -inf for zeros, NaN below."),
        ("sin",        1, False, "special", "The sine of x radians; NaN for infinities."),
        ("cos",        1, False, "special", "The cosine of x radians; NaN for infinities."),
        ("tan",        1, False, "special", "The tangent of x radians; NaN for infinities."),
        ("tanh",       1, False, "special", "The hyperbolic tangent."),
        ("erf",        1, False, "special", "The error function."),
    ),
    *_operations("bits", "bool",
        ("eq",         2, True,  "simple",  "a == b."),
        ("ne",         2, True,  "simple",  "a != b."),
    ),
    *_operations("int", "bool",
        ("slt",        2, False, "simple",  "a < b, signed."),
        ("sle",        2, False, "simple",  "a <= b, signed."),
        ("sgt",        2, False, "simple",  "a > b, signed."),
        ("sge",        2, False, "simple",  "a >= b, signed."),
        ("ult",        2, False, "simple",  "a < b, unsigned."),
        ("ule",        2, False, "simple",  "a <= b, unsigned."),
        ("ugt",        2, False, "simple",  "a > b, unsigned."),
        ("uge",        2, False, "simple",  "a >= b, unsigned."),
    ),
    *_operations("float", "bool",
        ("foeq",       2, True,  "simple",  "a == b; false on NaN."),
        ("fone",       2, True,  "simple",  "a < b or a > b; false on NaN."),
        ("folt",       2, False, "simple",  "a < b; false on NaN."),
        ("fole",       2, False, "simple",  "a <= b; false on NaN."),
        ("fogt",       2, False, "simple",  "a > b; false on NaN."),
        ("foge",       2, False, "simple",  "a >= b; false on NaN."),
        ("ford",       2, True,  "simple",  "Neither operand is NaN."),
        ("fueq",       2, True,  "simple",  "a == b; true on NaN."),
        ("fune",       2, True,  "simple",  "a != b; true on NaN."),
        ("fult",       2, False, "simple",  "a < b; true on NaN."),
        ("fule",       2, False, "simple",  "a <= b; true on NaN."),
        ("fugt",       2, False, "simple",  "a > b; true on NaN."),
        ("fuge",       2, False, "simple",  "a >= b; true on NaN."),
        ("funo",       2, True,  "simple",  "An operand is NaN."),
    ),
    *_operations("any", "same",
        ("select",     3, False, "simple",  "b where the i1 mask a is true, c elsewhere, bit for bit; dtype is the "
                                            "type of b and c."),
    ),
    *_operations("bits", "int",
        ("sext",       1, False, "simple",  "To a wider integer, copies of the sign enter; i1 true gives -1."),
        ("zext",       1, False, "simple",  "To a wider integer, zeros enter; i1 true gives 1."),
    ),
    *_operations("int", "bits",
        ("trunc_int",  1, False, "simple",  "To a narrower integer, the lower bits; to i1, the lowest."),
    ),
    *_operations("bits", "float",
        ("sitofp",     1, False, "simple",  "A signed integer rounded to f32 (f64 for f64), that rounded to the type; "
                                            "i1 true gives -1."),
        ("uitofp",     1, False, "simple",  "An unsigned integer rounded to f32 (f64 for f64), that rounded to the "
                                            "type."),
    ),
    *_operations("float", "int",
        ("fptosi",     1, False, "simple",  "The integer part, limited to the signed range; NaN gives 0."),
        ("fptoui",     1, False, "simple",  "The integer part, limited to the unsigned range; NaN gives 0."),
    ),
    *_operations("float", "float",
        ("fpcast",     1, False, "simple",  "The nearest value of the type, ties to even, one rounding; too large "
                                            "gives infinity, in 8-bit formats the greatest number."),
        ("fpcast_rtz", 1, False, "simple",  "The nearest value of the type toward zero; a finite value stays finite."),
    ),
    *_operations("any", "any",
        ("bitcast",    1, False, "simple",  "The same bits read as another type of as many bits."),
    ),
)
# fmt: on

OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _TABLE}
assert len(OPERATIONS) == len(_TABLE), "an operation is listed twice"
