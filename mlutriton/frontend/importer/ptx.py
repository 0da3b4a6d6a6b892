"""PTX instructions that compute element by element, each defined once, as operations of the tile IR.

A register is a tuple of *lanes*, the lowest bits first: ``mov.b32 {low, high}, $1`` moves nothing, and ``bf16x2`` is
arithmetic on two lanes. Approximate instructions are as exact as the operations they become, and none flushes subnormal
numbers. Meanings: PTX ISA 9.0, chapter 9.7, "Instructions".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mlutriton.arithmetic import OPERATIONS
from mlutriton.arithmetic.library import LIBRARY
from mlutriton.dtypes import BF16, F8E4M3, F8E5M2, F16, F32, F64, I1, I8, I16, I32, I64, DType
from mlutriton.frontend.importer.libdevice import TranslationPrimitives
from mlutriton.frontend.importer.products import fp4_numbers
from mlutriton.frontend.importer.translation import Translation
from mlutriton.ir.core import Value
from mlutriton.ir.types import element_type, with_shape

Lanes = tuple[Value, ...]


@dataclass(frozen=True)
class RegisterType:
    """A type of PTX.

    Attributes:
        kind: f(loat), s(igned), u(nsigned) or b(its).
        dtype: the type of a lane; of four bits there is none, two share a byte.
        lanes: how many there are in a register.
    """

    kind: str
    dtype: DType
    lanes: int = 1


_BITS = {1: I1, 8: I8, 16: I16, 32: I32, 64: I64}
_FLOATS = {"f16": F16, "bf16": BF16, "f32": F32, "f64": F64, "e4m3": F8E4M3, "e5m2": F8E5M2}
TYPES: dict[str, RegisterType] = {
    "pred": RegisterType("b", I1),
    "e2m1x2": RegisterType("b", I8),
    **{f"{kind}{bits}": RegisterType(kind, _BITS[bits]) for kind in "sub" for bits in (8, 16, 32, 64)},
    **{name: RegisterType("f", dtype) for name, dtype in _FLOATS.items()},
    **{f"{name}x2": RegisterType("f", dtype, 2) for name, dtype in _FLOATS.items()},
}
"""The types by their names in instructions."""


@dataclass(frozen=True)
class Form:
    """An instruction: its name, its types, and its other suffixes, of which a rule takes away those that it heeds."""

    name: str
    types: Sequence[str]
    modifiers: set[str]

    @property
    def type(self) -> RegisterType:
        """The last type, that of most operands."""
        return TYPES[self.types[-1]]

    def take(self, *modifiers: str) -> str:
        """The suffix that is one of these and is heeded from here on; empty if none is."""
        found = next((modifier for modifier in modifiers if modifier in self.modifiers), "")
        self.modifiers.discard(found)
        return found


_INTEGER = re.compile(r"[-+]?(?:0[xX][\da-fA-F]+|0[bB][01]+|0|[1-9]\d*)U?")
_DECIMAL = re.compile(r"[-+]?\d+(?:\.\d*(?:[eE][-+]?\d+)?|[eE][-+]?\d+)")
_FLOAT_BITS = re.compile(r"0[fF]([\da-fA-F]{8})|0[dD]([\da-fA-F]{16})")


def _bits(lane: Value) -> int:
    return _dtype(lane).bits


def _dtype(lane: Value) -> DType:
    element = element_type(lane.type)
    assert isinstance(element, DType)
    return element


@dataclass
class Registers:
    """The registers of a block of assembly, and the operations on them.

    Attributes:
        translation: appends the operations.
        shape: that of every value.
        lanes: what each register holds, by its name.
    """

    translation: Translation
    shape: tuple[int, ...]
    lanes: dict[str, Lanes] = field(default_factory=dict[str, Lanes])
    _places: int = 0

    def name_places(self, element: object, places: int, value: Value | None = None) -> str:
        """Name the registers ``$n`` of an operand, which hold its value if it is an input; return the first name.

        Narrow elements share a register of 32 bits (Triton's ElementwiseInlineAsmOpConversion).
        """
        sharing = min(max(32 // element.bits, 1), places) if isinstance(element, DType) else 1
        if value is not None and element == I1:
            value = self.apply("zext", value, to=I8)
        first = f"${self._places}"
        for _ in range(places // sharing):
            if value is not None:
                self.lanes[f"${self._places}"] = (value,) * sharing
            self._places += 1
        return first

    def constant(self, value: float, dtype: DType) -> Value:
        """A number in every element."""
        return self.translation.constant(value, with_shape(self.shape, dtype))

    def apply(self, name: str, *operands: Value | float, to: DType | None = None) -> Value:
        """An operation; numbers are constants of the last operand's type that is none."""
        dtype = next(_dtype(operand) for operand in reversed(operands) if isinstance(operand, Value))
        values = [operand if isinstance(operand, Value) else self.constant(operand, dtype) for operand in operands]
        return self.translation.elementwise(name, *values, to=to)

    def call(self, name: str, *operands: Value) -> Value:
        """A function of the device library."""
        return LIBRARY["__nv_" + name](TranslationPrimitives(self.translation, self.shape), *operands)

    def missing(self, operand: str) -> str:
        """The register of an operand that holds nothing; empty if all do."""
        parts = operand.strip("{}").replace(",", " ").split()
        numbers = (_INTEGER, _DECIMAL, _FLOAT_BITS)
        return next((x for x in parts if x not in self.lanes and not any(each.fullmatch(x) for each in numbers)), "")

    def read(self, operand: str, dtype: DType, count: int = 1) -> Lanes:
        """The lowest lanes of a register, of registers in braces or of a number, as values of a type."""
        if dtype.is_float and (_DECIMAL.fullmatch(operand) or re.fullmatch(r"[-+]?\d", operand)):
            return (self.constant(float(operand), dtype),) * count
        return self.typed(self.held(operand, dtype.bits * count), dtype, count)

    def held(self, operand: str, bits: int) -> Lanes:
        """What an operand of so many bits holds, as it is."""
        if found := _FLOAT_BITS.fullmatch(operand):
            digits = found[1] or found[2]
            return (self._number(int(digits, 16), _BITS[4 * len(digits)]),)
        if _INTEGER.fullmatch(operand):
            return (self._number(int(operand.rstrip("U"), 0), _BITS[bits]),)
        if _DECIMAL.fullmatch(operand):
            return (self.constant(float(operand), F64 if bits == 64 else F32),)
        if operand.startswith("{"):
            parts = operand.strip("{}").replace(",", " ").split()
            width = bits // len(parts)
            return tuple(lane for part in parts for lane in self._filling(self.held(part, width), width))
        return self.lanes[operand]

    def _number(self, value: int, dtype: DType) -> Value:
        half = 1 << (dtype.bits - 1)
        return self.constant((value + half) % (2 * half) - half, dtype)

    def _filling(self, lanes: Lanes, bits: int) -> Lanes:
        return lanes if len(lanes) * _bits(lanes[0]) == bits else self.typed(lanes, _BITS[bits], 1)

    def write(self, operand: str, lanes: Lanes) -> None:
        """Let a register, or registers in braces, hold lanes."""
        if not operand.startswith("{"):
            self.lanes[operand] = lanes
            return
        parts = operand.strip("{}").replace(",", " ").split()
        width = _BITS[sum(_bits(lane) for lane in lanes) // len(parts)]
        for part, lane in zip(parts, self.typed(lanes, width, len(parts)), strict=True):
            self.lanes[part] = (lane,)

    def typed(self, lanes: Lanes, dtype: DType, count: int) -> Lanes:
        """Lanes as so many of a type: cut, joined, read as another type of as many bits; zeros are above them."""
        width = _bits(lanes[0])
        if dtype == I1 and width > 1:
            lanes = tuple(self.apply("ne", lane, 0) for lane in self._integers(lanes))
        elif width > dtype.bits:
            starts = range(0, width, dtype.bits)
            shifted = [self.apply("lshr", lane, start) for lane in self._integers(lanes) for start in starts]
            lanes = tuple(self.apply("trunc_int", lane, to=_BITS[dtype.bits]) for lane in shifted[:count])
        elif width < dtype.bits:
            each, lanes = dtype.bits // width, self._integers(lanes)
            lanes = tuple(self._joined(lanes[i : i + each], _BITS[dtype.bits]) for i in range(0, len(lanes), each))
        lanes = lanes[:count]
        if _dtype(lanes[0]) != dtype:
            lanes = tuple(self.apply("bitcast", lane, to=dtype) for lane in self._integers(lanes))
        return lanes + (self.constant(0, dtype),) * (count - len(lanes))

    def _integers(self, lanes: Lanes) -> Lanes:
        to = _BITS[_bits(lanes[0])]
        return tuple(lane if _dtype(lane) == to else self.apply("bitcast", lane, to=to) for lane in lanes)

    def _joined(self, lanes: Lanes, to: DType) -> Value:
        whole, *rest = (self.apply("zext", lane, to=to) for lane in lanes)
        for place, lane in enumerate(rest, 1):
            whole = self.apply("or", whole, self.apply("shl", lane, place * _bits(lanes[0])))
        return whole


Rule = Callable[[Registers, Form, list[str]], Lanes]
"""What an instruction computes of its operands; nothing if there is no such form of it."""

# Instructions that are one operation on each lane, by the kind of their type.
# fmt: off
_OPERATIONS: dict[str, dict[str, str]] = {
    "abs":  {"f": "fabs", "s": "iabs"},               "add":   {"f": "fadd", "s": "add", "u": "add"},
    "and":  {"b": "and"},                             "cos":   {"f": "cos"},
    "div":  {"f": "fdiv", "s": "sdiv", "u": "udiv"},  "ex2":   {"f": "exp2"},
    "fma":  {"f": "fma"},                             "lg2":   {"f": "log2"},
    "max":  {"f": "fmax", "s": "smax", "u": "umax"},  "min":   {"f": "fmin", "s": "smin", "u": "umin"},
    "or":   {"b": "or"},                              "rem":   {"s": "srem", "u": "urem"},
    "rsqrt": {"f": "rsqrt"},                          "shl":   {"b": "shl"},
    "shr":  {"s": "ashr", "u": "lshr", "b": "lshr"},  "sin":   {"f": "sin"},
    "sqrt": {"f": "sqrt"},                            "sub":   {"f": "fsub", "s": "sub", "u": "sub"},
    "tanh": {"f": "tanh"},                            "xor":   {"b": "xor"},
}
# Functions of the device library, of 32 bits; those of 64 end in ll.
_FUNCTIONS = {"brev": "brev", "clz": "clz", "popc": "popc", "prmt": "byte_perm"}

_ORDERS = ("lt", "le", "gt", "ge")
_COMPARISONS: dict[str, dict[str, str]] = {
    "f": {**{name: "fo" + name for name in ("eq", "ne", *_ORDERS)},
          **{name + "u": "fu" + name for name in ("eq", "ne", *_ORDERS)}, "num": "ford", "nan": "funo"},
    "s": {"eq": "eq", "ne": "ne", **{name: "s" + name for name in _ORDERS}},
    "u": {"eq": "eq", "ne": "ne", **{name: "u" + name for name in _ORDERS},
          "lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge"},
    "b": {"eq": "eq", "ne": "ne"},
}
_TO_INTEGERS = {"rni": "round_even", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
# fmt: on


def _operation(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    """One operation on each lane."""
    name = _OPERATIONS[form.name].get(form.type.kind)
    if name is None:
        return ()
    if form.name in ("min", "max") and form.take("NaN"):
        name += "imum"
    columns = [registers.read(operand, form.type.dtype, form.type.lanes) for operand in operands]
    return _limited(registers, form, [registers.apply(name, *lane) for lane in zip(*columns, strict=True)])


def _limited(registers: Registers, form: Form, values: Iterable[Value]) -> Lanes:
    """What ``.relu`` and ``.sat`` make of floats: NaN stays what it is, or becomes 0."""
    values = tuple(values)
    if _dtype(values[0]).is_float and (limits := form.take("relu", "sat")):
        least = "fmaximum" if limits == "relu" else "fmax"
        values = tuple(registers.apply(least, value, 0.0) for value in values)
        if limits == "sat":
            values = tuple(registers.apply("fmin", value, 1.0) for value in values)
    return values


def _function(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    """A function of the device library."""
    name = _FUNCTIONS[form.name] + "ll" * (form.type.dtype == I64)
    return (registers.call(name, *(registers.read(operand, form.type.dtype)[0] for operand in operands)),)


def _move(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    if form.type.kind == "f":
        return registers.read(operands[0], form.type.dtype, form.type.lanes)
    return registers.held(operands[0], form.type.dtype.bits)


def _product(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    """``mul`` and ``mad``: of integers the lower half, the upper half, or all of the product."""
    dtype, is_signed = form.type.dtype, form.type.kind == "s"
    if form.type.kind == "f":
        # A product that is written for itself is rounded: no sum may take it in.
        operands = [*operands, "-0.0"] if form.name == "mul" else operands
        return _operation(registers, Form("fma", form.types, form.modifiers), operands)
    a, b = (registers.read(operand, dtype)[0] for operand in operands[:2])
    part = form.take("lo", "hi", "wide")
    if part == "wide":
        dtype = _BITS[2 * dtype.bits]
        a, b = (registers.apply("sext" if is_signed else "zext", value, to=dtype) for value in (a, b))
    product = registers.apply(("mulhs" if is_signed else "mulhu") if part == "hi" else "mul", a, b)
    for operand in operands[2:]:
        product = registers.apply("add", product, registers.read(operand, dtype)[0])
    return (product,) if part else ()


def _negation(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    """``neg`` and ``not``."""
    values = registers.read(operands[0], form.type.dtype, form.type.lanes)
    if form.type.kind == "f":
        return tuple(registers.apply("fneg", value) for value in values)
    return (registers.apply("sub", 0 if form.name == "neg" else -1, values[0]),)


def _reciprocal(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    return (registers.apply("fdiv", 1.0, registers.read(operands[0], form.type.dtype)[0]),)


def _selection(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    yes, no = (registers.read(operand, form.type.dtype)[0] for operand in operands[:2])
    return (registers.apply("select", registers.read(operands[2], I1)[0], yes, no),)


def _comparison(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    comparisons = _COMPARISONS[form.type.kind]
    name = form.take(*comparisons)
    values = [registers.read(operand, form.type.dtype)[0] for operand in operands]
    return (registers.apply(comparisons[name], *values),) if name else ()


def _logic(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    """``lop3``, whose last operand is its truth table: a sum modulo 2 of products of the first three."""
    inputs = [registers.read(operand, form.type.dtype)[0] for operand in operands[:3]]
    if not _INTEGER.fullmatch(operands[3]):
        return ()
    table, result = int(operands[3], 0), registers.constant(0, form.type.dtype)
    for chosen in range(8):  # which of the three a product has
        if sum(table >> row & 1 for row in range(8) if row & chosen == row) % 2:
            factors = [value for place, value in zip((4, 2, 1), inputs, strict=True) if chosen & place]
            product = registers.constant(-1, form.type.dtype)
            for factor in factors:
                product = registers.apply("and", product, factor)
            result = registers.apply("xor", result, product)
    return (result,)


def _funnel_shift(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    """``shf``: the lower and the upper half of 64 bits, shifted; 32 bits are left."""
    low, high, amount = (registers.read(operand, I32)[0] for operand in operands)
    wraps = form.take("wrap", "clamp") == "wrap"
    amount = registers.apply("and", amount, 31) if wraps else registers.apply("umin", amount, 32)
    rest = registers.apply("sub", 32, amount)
    to_left, to_right = (amount, rest) if form.take("l", "r") == "l" else (rest, amount)
    return (registers.apply("or", registers.apply("shl", high, to_left), registers.apply("lshr", low, to_right)),)


def _conversion(registers: Registers, form: Form, operands: list[str]) -> Lanes:
    """``cvt``: of two operands, the first goes to the upper lane."""
    if len(form.types) != 2:
        return ()
    to, source = (TYPES[name] for name in form.types)
    if list(form.types) == ["e2m1x2", "f32"] and len(operands) == 2:
        high, low = (_to_four_bits(registers, registers.read(operand, F32)[0]) for operand in operands)
        return (registers.apply("or", low, registers.apply("shl", high, 4)),)
    if list(form.types) == ["f16x2", "e2m1x2"]:
        byte = registers.read(operands[0], I8)[0]
        halves = (byte, registers.apply("lshr", byte, 4))
        return tuple(fp4_numbers(registers.translation, each, F16) for each in halves)
    if "e2m1x2" in form.types or to.lanes != max(len(operands), source.lanes):
        return ()
    values = [lane for operand in reversed(operands) for lane in registers.read(operand, source.dtype, source.lanes)]
    whole = form.take(*_TO_INTEGERS)
    if source.kind == "f" and whole:
        values = [registers.apply(_TO_INTEGERS[whole], value) for value in values]
    if source.kind == "f" and to.kind == "f":
        cast = "fpcast_rtz" if form.take("rz") else "fpcast"
        converted = [
            value if source.dtype == to.dtype else registers.apply(cast, value, to=to.dtype) for value in values
        ]
        return _limited(registers, form, converted)
    if to.kind == "f":
        cast = "sitofp" if source.kind == "s" else "uitofp"
        return _limited(registers, form, [registers.apply(cast, value, to=to.dtype) for value in values])
    if source.kind == "f":
        name = "fptosi" if to.kind == "s" else "fptoui"
        whole_numbers = [registers.apply(name, value, to=to.dtype) for value in values]
    else:
        extension = "sext" if source.kind == "s" else "zext"
        whole_numbers = [registers.translation.resized(value, to.dtype, extension) for value in values]
    # A signed number fills a register that is wider.
    fills = to.kind == "s" and to.dtype.bits < I32.bits
    return tuple(registers.apply("sext", value, to=I32) if fills else value for value in whole_numbers)


def _to_four_bits(registers: Registers, value: Value) -> Value:
    """The code of the nearest number with two bits of exponent and one of mantissa, in the lower half of a byte.

    What is greater than all of them becomes the greatest, NaN of either sign the greatest positive one.
    """
    value = registers.apply("select", registers.apply("funo", value, value), 6.0, value)
    size = registers.apply("fabs", value)
    # Steps of 1/2 below 2, of 1 below 4 and of 2 above: where each begins it is the least of the three.
    code = registers.constant(7.0, F32)
    for start, scale in ((0.0, 2.0), (2.0, 1.0), (4.0, 0.5)):
        steps = registers.apply("round_even", registers.apply("fmul", size, scale))
        code = registers.apply("fmin", code, registers.apply("fadd", steps, start))
    sign = registers.apply("and", registers.apply("lshr", registers.apply("bitcast", value, to=I32), 28), 8)
    whole = registers.apply("or", sign, registers.apply("fptoui", code, to=I32))
    return registers.apply("trunc_int", whole, to=I8)


RULES: dict[str, tuple[Rule, tuple[int, ...]]] = {
    **{name: (_operation, (OPERATIONS[next(iter(kinds.values()))].arity,)) for name, kinds in _OPERATIONS.items()},
    **{name: (_function, (3 if name == "prmt" else 1,)) for name in _FUNCTIONS},
    "cvt": (_conversion, (1, 2)),
    "lop3": (_logic, (4,)),
    "mad": (_product, (3,)),
    "mov": (_move, (1,)),
    "mul": (_product, (2,)),
    "neg": (_negation, (1,)),
    "not": (_negation, (1,)),
    "rcp": (_reciprocal, (1,)),
    "selp": (_selection, (3,)),
    "setp": (_comparison, (2,)),
    "shf": (_funnel_shift, (3,)),
}
"""By the name of an instruction, what it computes, and of how many operands."""
