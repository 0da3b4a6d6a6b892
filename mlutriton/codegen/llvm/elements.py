"""Element values: how each type is loaded, stored, converted and computed with, one at a time or sixteen at a time.

A value of ``f32`` or a narrower type is computed with as a ``float`` that the type can represent; its storage form is
made only where bits are needed. All operations are defined in :mod:`mlutriton.arithmetic`; here is their LLVM text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from struct import pack, unpack

import numpy as np

from mlutriton.arithmetic.functions import FUNCTIONS
from mlutriton.arithmetic.operations import OPERATIONS
from mlutriton.codegen.llvm.emitter import Emitter, Library, wide
from mlutriton.codegen.llvm.host import scales_by_powers_of_two
from mlutriton.codegen.llvm.small_floats import decoded, encoded
from mlutriton.dtypes import BF16, F16, F32, F64, I1, TF32, DType

LANES = 16
"""Elements of one IR vector, for every type; LLVM splits it into what the host has."""


@cache
def kind(dtype: DType) -> str:
    """The IR type in which one element is computed with."""
    if dtype.is_float:
        return "double" if dtype is F64 else "float"
    return f"i{dtype.bits}"


def bits_kind(dtype: DType) -> str:
    """The integer IR type of an element's bits in memory."""
    return f"i{8 * dtype.bytes}"


def suffix(scalar: str, lanes: int) -> str:
    """The type suffix of an intrinsic."""
    scalar = {"float": "f32", "double": "f64", "half": "f16"}.get(scalar, scalar)
    return scalar if lanes == 1 else f"v{lanes}{scalar}"


def intrinsic(library: Library, name: str, scalar: str, lanes: int, arity: int) -> str:
    """Declare an intrinsic of one overloaded type and return its full name."""
    full, kind_ = f"llvm.{name}.{suffix(scalar, lanes)}", wide(scalar, lanes)
    return library.declare(full, f"{kind_} {{}}({', '.join([kind_] * arity)})")


@dataclass(slots=True)
class Lanes:
    """One element or sixteen, as an IR value.

    Attributes:
        dtype: the element type.
        lanes: 1 or ``LANES``.
        number: the value in the form that is computed with, once it has been made.
        bits: the value's bits in memory, an integer, once they have been made.
    """

    dtype: DType
    lanes: int
    number: str = ""
    bits: str = ""


# ---- constants and scalars ------------------------------------------------------------------------------------------


def float_text(value: float) -> str:
    """A float constant in LLVM's notation; ``float`` constants too are written as doubles."""
    return f"0x{unpack('<Q', pack('<d', value))[0]:016X}"


def _constant_text(value: float, dtype: DType) -> str:
    if dtype is F64:
        return float_text(value)
    if dtype.is_float:
        with np.errstate(all="ignore"):
            return float_text(float(np.asarray(value).astype(dtype.numpy)))
    return str(int(value) % (1 << dtype.bits))


def constant(value: float, dtype: DType, lanes: int = 1) -> Lanes:
    """An immediate, rounded or wrapped to its type, in every lane."""
    text = _constant_text(value, dtype)
    return Lanes(dtype, lanes, number=text if lanes == 1 else f"splat ({kind(dtype)} {text})")


def constant_bits(value: float, dtype: DType) -> int:
    """The bits of an immediate, zero-extended to 64."""
    if dtype.is_float:
        with np.errstate(all="ignore"):
            return int.from_bytes(np.asarray(value).astype(dtype.numpy).tobytes(), "little")
    return int(value) % (1 << dtype.bits)


def from_register(e: Emitter, register: str, dtype: DType) -> Lanes:
    """The value of a type that sits in the low bits of a 64-bit register value."""
    bits = register if dtype.bytes == 8 else e.value(f"trunc i64 {register} to {bits_kind(dtype)}")
    return _normalized(e, Lanes(dtype, 1, bits=bits))


def to_register(e: Emitter, value: Lanes) -> str:
    """The 64-bit register value that holds a scalar."""
    bits = bits_of(e, value)
    return bits if value.dtype.bytes == 8 else e.value(f"zext {bits_kind(value.dtype)} {bits} to i64")


def splat(e: Emitter, value: Lanes) -> Lanes:
    """A scalar in every lane."""
    if value.number and not value.number.startswith("%"):
        return Lanes(value.dtype, LANES, number=f"splat ({kind(value.dtype)} {value.number})")
    element = kind(value.dtype)
    return Lanes(value.dtype, LANES, number=e.in_all_lanes(element, number_of(e, value), LANES))


# ---- memory ---------------------------------------------------------------------------------------------------------


def load(e: Emitter, pointer: str, dtype: DType, lanes: int) -> Lanes:
    """Elements that stand side by side in memory."""
    bits = e.value(f"load {wide(bits_kind(dtype), lanes)}, ptr {pointer}, align 1")
    return from_bits(e, bits, dtype, lanes)


def from_bits(e: Emitter, bits: str, dtype: DType, lanes: int) -> Lanes:
    """Elements whose bits in memory are known."""
    return _normalized(e, Lanes(dtype, lanes, bits=bits))


def _normalized(e: Emitter, value: Lanes) -> Lanes:
    """An ``i1`` whose byte is not 0 is true: keep the truth alone."""
    if value.dtype is I1:
        return Lanes(I1, value.lanes, number=number_of(e, value))
    return value


def store(e: Emitter, value: Lanes, pointer: str) -> None:
    """Write elements side by side."""
    e.do(f"store {wide(bits_kind(value.dtype), value.lanes)} {bits_of(e, value)}, ptr {pointer}, align 1")


def store_first(e: Emitter, value: Lanes, pointer: str, mask: str) -> None:
    """Write the lanes where ``mask`` is true; the bytes of the others are written back unchanged."""
    scalar = wide(bits_kind(value.dtype), value.lanes)
    bits = bits_of(e, value)
    old = e.value(f"load {scalar}, ptr {pointer}, align 1")
    new = e.value(f"select {wide('i1', value.lanes)} {mask}, {scalar} {bits}, {scalar} {old}")
    e.do(f"store {scalar} {new}, ptr {pointer}, align 1")


def transposed(e: Emitter, rows: list[str], scalar: str) -> list[str]:
    """The columns of some vectors, one after the other: each step interleaves vectors half of their number apart."""
    half = len(rows) // 2
    low = [lane // 2 + LANES * (lane % 2) for lane in range(LANES)]
    for _ in range(half.bit_length()):
        rows = [
            shuffled(e, (rows[i], rows[i + half]), scalar, LANES, [lane + first for lane in low])
            for i in range(half)
            for first in (0, LANES // 2)
        ]
    return rows


def transposed_square(e: Emitter, rows: list[str], scalar: str, bits: int) -> list[str]:
    """The columns of as many vectors as these have lanes, of so many bits each.

    Hosts have instructions for two steps: to interleave halves of each 128 bits of two vectors, and to choose 128 bits
    of either. Others need the lanes' numbers in a register (32x128 floats take 0.50 us with them, not 0.39; Zen 4).
    Each step makes a bit of a row's number one of a lane's: first of the lane within its 128 bits, from the highest bit
    on, then of the number of these, from the lowest on.
    """
    lanes = len(rows)
    chunk = min(lanes, 128 // bits)
    chunks = range(0, lanes, chunk)
    interleaved = [first + lane + lanes * of for first in chunks for lane in range(chunk // 2) for of in range(2)]
    chosen = [first + lanes * of + lane for of in range(2) for first in chunks[::2] for lane in range(chunk)]
    within = [(1 << bit, interleaved, chunk // 2) for bit in reversed(range(chunk.bit_length() - 1))]
    across = [(chunk << bit, chosen, chunk) for bit in range(len(chunks).bit_length() - 1)]
    for apart, low, other in within + across:
        turned = list(rows)
        for i in range(lanes):
            if not i & apart:
                pair = rows[i], rows[i + apart]
                turned[i] = shuffled(e, pair, scalar, lanes, low)
                turned[i + apart] = shuffled(e, pair, scalar, lanes, [lane + other for lane in low])
        rows = turned
    return rows


def transposed_back(e: Emitter, columns: list[str], scalar: str) -> list[str]:
    """The vectors of which :func:`transposed` makes these: each step takes apart what stands at even and odd places."""
    half = len(columns) // 2
    for _ in range(half.bit_length()):
        columns = [
            shuffled(e, columns[2 * i : 2 * i + 2], scalar, LANES, range(first, 2 * LANES, 2))
            for first in range(2)
            for i in range(half)
        ]
    return columns


def shuffled(e: Emitter, vectors: Sequence[str], scalar: str, width: int, lanes: Sequence[int]) -> str:
    """A vector of lanes of one or two vectors of so many elements; those of the second are numbered on."""
    vector, mask = f"<{width} x {scalar}>", ", ".join(f"i32 {lane}" for lane in lanes)
    second = vectors[1] if len(vectors) > 1 else "poison"
    return e.value(f"shufflevector {vector} {vectors[0]}, {vector} {second}, <{len(lanes)} x i32> <{mask}>")


def part_of(e: Emitter, vector: str, scalar: str, width: int, first: int, count: int) -> str:
    """Neighbouring lanes of a vector of so many elements; a scalar if it is one."""
    if count == 1:
        return e.value(f"extractelement <{width} x {scalar}> {vector}, i64 {first}")
    return shuffled(e, [vector], scalar, width, range(first, first + count))


def lanes_below(e: Emitter, count: int | str, lanes: int = LANES) -> str:
    """A mask of the lanes whose number is below a count."""
    limit = e.in_all_lanes("i64", count, lanes)
    return e.value(f"icmp slt <{lanes} x i64> <{', '.join(f'i64 {lane}' for lane in range(lanes))}>, {limit}")


def number_of(e: Emitter, value: Lanes) -> str:
    """The value in the form that is computed with."""
    if not value.number:
        n, bits, dtype = value.lanes, value.bits, value.dtype
        source = wide(bits_kind(dtype), n)
        if dtype is I1:
            value.number = e.value(f"icmp ne {source} {bits}, {zero('i8', n)}")
        elif dtype is F16:
            half = e.value(f"bitcast {source} {bits} to {wide('half', n)}")
            value.number = e.value(f"fpext {wide('half', n)} {half} to {wide('float', n)}")
        elif dtype is BF16:
            long = e.value(f"zext {source} {bits} to {wide('i32', n)}")
            high = e.value(f"shl {wide('i32', n)} {long}, {repeated('i32', 16, n)}")
            value.number = e.value(f"bitcast {wide('i32', n)} {high} to {wide('float', n)}")
        elif dtype.is_float8:
            value.number = decoded(e, bits, dtype, n)
        elif dtype is TF32:
            value.number = _round(e, e.value(f"bitcast {source} {bits} to {wide('float', n)}"), TF32, n)
        elif dtype.is_float:
            value.number = e.value(f"bitcast {source} {bits} to {wide(kind(dtype), n)}")
        else:
            value.number = bits
    return value.number


def bits_of(e: Emitter, value: Lanes) -> str:
    """The value's bits in memory."""
    if not value.bits:
        n, number, dtype = value.lanes, value.number, value.dtype
        target = wide(bits_kind(dtype), n)
        if dtype is I1:
            value.bits = e.value(f"zext {wide('i1', n)} {number} to {target}")
        elif dtype is F16:
            half = e.value(f"fptrunc {wide('float', n)} {number} to {wide('half', n)}")
            value.bits = e.value(f"bitcast {wide('half', n)} {half} to {target}")
        elif dtype is BF16:
            whole = e.value(f"bitcast {wide('float', n)} {number} to {wide('i32', n)}")
            high = e.value(f"lshr {wide('i32', n)} {whole}, {repeated('i32', 16, n)}")
            value.bits = e.value(f"trunc {wide('i32', n)} {high} to {target}")
        elif dtype.is_float8:
            value.bits = encoded(e, number, dtype, n)
        elif dtype.is_float:
            value.bits = e.value(f"bitcast {wide(kind(dtype), n)} {number} to {target}")
        else:
            value.bits = number
    return value.bits


def zero(scalar: str, lanes: int) -> str:
    """The constant 0 of an integer type."""
    return "0" if lanes == 1 else "zeroinitializer"


def repeated(scalar: str, value: int | str, lanes: int) -> str:
    """A constant in every lane."""
    return str(value) if lanes == 1 else f"splat ({scalar} {value})"


# ---- operations -----------------------------------------------------------------------------------------------------

_INSTRUCTIONS = {
    "add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor",
    "fadd": "fadd", "fsub": "fsub", "fmul": "fmul", "fdiv": "fdiv", "frem": "frem",
    **{name: f"icmp {name}" for name in ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")},
    **{f"f{name}": f"fcmp {name}" for name in ("oeq", "one", "olt", "ole", "ogt", "oge", "ord", "ueq", "une", "ult",
                                               "ule", "ugt", "uge", "uno")},
}  # fmt: skip
_INTRINSICS = {
    "smin": "smin", "smax": "smax", "umin": "umin", "umax": "umax", "fma": "fma", "fabs": "fabs",
    "copysign": "copysign", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round_even": "roundeven",
    "sqrt": "sqrt",
    "fmin": "minimumnum", "fmax": "maximumnum", "fminimum": "minimum", "fmaximum": "maximum",
}  # fmt: skip
# Those that are two instructions of one lane.
_EXTREMES = {"smin": "slt", "smax": "sgt", "umin": "ult", "umax": "ugt"}
# The f32 result of these is a value of the narrower type already.
_EXACT = frozenset(
    {"fneg", "fabs", "copysign", "floor", "ceil", "trunc", "round_even", "fmin", "fmax", "fminimum", "fmaximum"}
)


def apply(e: Emitter, name: str, operands: list[Lanes], to: DType | None = None) -> Lanes:
    """Compute an operation of :mod:`mlutriton.arithmetic` on operands of equal lane counts."""
    dtype, lanes = operands[-1].dtype, operands[-1].lanes
    if name == "bitcast":
        assert to is not None
        return Lanes(to, lanes, bits=bits_of(e, operands[0]))
    if name == "select" and dtype.is_float8:
        return _select_codes(e, operands)
    if to is not None and to.is_float8:
        return _cast_to_code(e, name, operands[0], to)
    numbers = [number_of(e, operand) for operand in operands]
    scalar = wide(kind(dtype), lanes)
    operation = OPERATIONS[name]
    result = operation.result_type(dtype, to)
    if name == "select":
        text = e.value(f"select {wide('i1', lanes)} {numbers[0]}, {scalar} {numbers[1]}, {scalar} {numbers[2]}")
        return Lanes(dtype, lanes, number=text)
    if operation.is_cast:
        assert to is not None
        return Lanes(to, lanes, number=_cast(e, name, numbers[0], dtype, to, lanes))
    if name in _INSTRUCTIONS:
        text = e.value(f"{_INSTRUCTIONS[name]} {scalar} {', '.join(numbers)}")
    elif name == "fneg":
        text = e.value(f"fneg {scalar} {numbers[0]}")
    elif name in _EXTREMES and lanes == 1:
        text = e.extreme(_EXTREMES[name], scalar, *numbers)
    elif name in _INTRINSICS:
        function = intrinsic(e.library, _INTRINSICS[name], kind(dtype), lanes, operation.arity)
        text = e.value(f"call {scalar} @{function}({', '.join(f'{scalar} {number}' for number in numbers)})")
    elif name in _EXPANSIONS:
        text = _EXPANSIONS[name](e, numbers, dtype, lanes)
    else:
        text = _call_function(e, name, numbers[0], kind(dtype), lanes)
    if result.is_float and result is not F32 and result is not F64 and name not in _EXACT:
        text = _round(e, text, result, lanes)
    return Lanes(result, lanes, number=text)


# Doubles that a function takes at a time: a register of 256 bits.
_DOUBLE_LANES = 4


def _call_function(e: Emitter, name: str, argument: str, scalar: str, lanes: int) -> str:
    """Call a transcendental function; its body is made from the architectural definition, once for each module."""
    vector = wide(scalar, lanes)
    function = f"mlu.{name}.{suffix(scalar, lanes)}"
    if function not in e.library.definitions:
        e.library.add(_function_definitions(name, scalar, lanes))
    return e.value(f"call {vector} @{function}({vector} {argument})")


@cache
def _function_definitions(name: str, scalar: str, lanes: int) -> dict[str, str]:
    library = Library()
    e = Emitter(library)
    vector, function = wide(scalar, lanes), f"mlu.{name}.{suffix(scalar, lanes)}"
    dtype = F64 if scalar == "double" else F32
    if dtype is F64 and lanes > _DOUBLE_LANES:
        _call_slice_by_slice(e, name, lanes)
        library.definitions[function] = e.function(f"define internal {vector} @{function}({vector} %x) noinline")
        return library.definitions
    result = FUNCTIONS[name](LlvmPrimitives(e, lanes), Lanes(dtype, lanes, number="%x"), dtype)
    e.do(f"ret {vector} {result.number}")
    library.definitions[function] = e.function(f"define internal {vector} @{function}({vector} %x) alwaysinline")
    return library.definitions


def _call_slice_by_slice(e: Emitter, name: str, lanes: int) -> None:
    """The body of a function of many doubles: a loop over as many as fill a register.

    The functions of doubles are long, and LLVM's time grows faster than the registers that their values take.
    """
    whole, part = wide("double", lanes), wide("double", _DOUBLE_LANES)
    memory = e.variable(whole)
    e.do(f"store {whole} %x, ptr {memory}")
    with e.loop(lanes, step=_DOUBLE_LANES) as lane:
        place = e.pointer(memory, e.multiply(lane, F64.bytes))
        result = _call_function(e, name, e.value(f"load {part}, ptr {place}, align 8"), "double", _DOUBLE_LANES)
        e.do(f"store {part} {result}, ptr {place}, align 8")
    e.do(f"ret {whole} {e.value(f'load {whole}, ptr {memory}')}")


class LlvmPrimitives:
    """The operations that the architectural definitions of functions are made of, over computed forms."""

    def __init__(self, e: Emitter, lanes: int) -> None:
        self._e = e
        self._lanes = lanes

    def constant(self, value: float, dtype: DType) -> Lanes:
        """Return a constant in every lane."""
        return constant(value, dtype, self._lanes)

    def apply(self, name: str, *operands: Lanes, dtype: DType, to: DType | None = None) -> Lanes:
        """Return the operation ``name`` on operands of type ``dtype``."""
        # Copies: a form made in the rare branch of when_any must not be taken for one that exists after it.
        values = [Lanes(operand.dtype, self._lanes, number=operand.number) for operand in operands]
        result = apply(self._e, name, values, to)
        number_of(self._e, result)
        return result

    def scaled(self, a: Lanes, exponent: Callable[[], Lanes], dtype: DType) -> Lanes | None:
        """Return ``a * 2**exponent()`` where the host has an instruction for it."""
        if dtype is not F32 or self._lanes != LANES or not scales_by_powers_of_two():
            return None
        vector, integers = wide("float", LANES), wide("i32", LANES)
        name = self._e.library.declare(f"llvm.ldexp.v{LANES}f32.v{LANES}i32", f"{vector} {{}}({vector}, {integers})")
        call = f"call {vector} @{name}({vector} {a.number}, {integers} {exponent().number})"
        return Lanes(F32, LANES, number=self._e.value(call))

    def when_any(
        self, mask: Lanes, rare: Callable[[], tuple[Lanes, ...]], usual: tuple[Lanes, ...]
    ) -> tuple[Lanes, ...]:
        """Return the lanes of ``rare()`` where ``mask`` is true, of ``usual`` elsewhere; skips ``rare`` if none is."""
        e, lanes, needed = self._e, self._lanes, mask.number
        if lanes > 1:
            function = e.library.declare(f"llvm.vector.reduce.or.v{lanes}i1", f"i1 {{}}(<{lanes} x i1>)")
            needed = e.value(f"call i1 @{function}(<{lanes} x i1> {needed})")
        before, then, done = e.current, e.fresh("rare"), e.fresh("usual")
        e.branch(needed, then, done)
        e.label(then)
        merged = [apply(e, "select", [mask, a, b]) for a, b in zip(rare(), usual, strict=True)]
        after = e.current
        e.jump(done)
        e.label(done)
        return tuple(
            Lanes(
                b.dtype,
                lanes,
                e.value(f"phi {wide(kind(b.dtype), lanes)} [ {b.number}, %{before} ], [ {a.number}, %{after} ]"),
            )
            for a, b in zip(merged, usual, strict=True)
        )


def _round(e: Emitter, number: str, dtype: DType, lanes: int) -> str:
    """The nearest value of ``f16``, ``bf16`` or ``tf32``, ties to even, as a ``float``."""
    single, vector = wide("float", lanes), wide("i32", lanes)
    if dtype is F16:
        half = e.value(f"fptrunc {single} {number} to {wide('half', lanes)}")
        return e.value(f"fpext {wide('half', lanes)} {half} to {single}")
    function = f"mlu.round.{dtype}.{lanes}"
    dropped = F32.mantissa_bits - dtype.mantissa_bits
    if function not in e.library.definitions:
        inner = Emitter(e.library)
        bits = inner.value(f"bitcast {single} %x to {vector}")
        high = inner.value(f"lshr {vector} {bits}, {repeated('i32', dropped, lanes)}")
        odd = inner.value(f"and {vector} {high}, {repeated('i32', 1, lanes)}")
        bias = inner.value(f"add {vector} {odd}, {repeated('i32', (1 << dropped - 1) - 1, lanes)}")
        rounded = inner.value(f"add {vector} {bits}, {bias}")
        quiet = inner.value(f"or {vector} {bits}, {repeated('i32', 0x400000, lanes)}")
        is_nan = inner.value(f"fcmp uno {single} %x, %x")
        chosen = inner.value(f"select {wide('i1', lanes)} {is_nan}, {vector} {quiet}, {vector} {rounded}")
        cleared = inner.value(f"and {vector} {chosen}, {repeated('i32', 0x100000000 - (1 << dropped), lanes)}")
        inner.do(f"ret {single} {inner.value(f'bitcast {vector} {cleared} to {single}')}")
        e.library.definitions[function] = inner.function(
            f"define internal {single} @{function}({single} %x) alwaysinline"
        )
    return e.value(f"call {single} @{function}({single} {number})")


def _narrow(e: Emitter, number: str, lanes: int, *, odd: bool) -> str:
    """A double as a float, rounded toward zero, or to odd so that a second rounding is as good as a single one."""
    single, double, integer, flag = wide("float", lanes), wide("double", lanes), wide("i32", lanes), wide("i1", lanes)
    near = e.value(f"fptrunc {double} {number} to {single}")
    back = e.value(f"fpext {single} {near} to {double}")
    fabs = intrinsic(e.library, "fabs", "double", lanes, 1)
    size = e.value(f"call {double} @{fabs}({double} {back})")
    exact_size = e.value(f"call {double} @{fabs}({double} {number})")
    above = e.value(f"fcmp ogt {double} {size}, {exact_size}")
    bits = e.value(f"bitcast {single} {near} to {integer}")
    excess = e.value(f"zext {flag} {above} to {integer}")
    lower = e.value(f"sub {integer} {bits}, {excess}")
    if odd:
        inexact = e.value(f"fcmp one {double} {back}, {number}")
        lower = e.value(f"or {integer} {lower}, {e.value(f'zext {flag} {inexact} to {integer}')}")
    return e.value(f"bitcast {integer} {lower} to {single}")


def _select_codes(e: Emitter, operands: list[Lanes]) -> Lanes:
    """A selection among 8-bit floats, whose codes need not be read for it."""
    mask, a, b = operands
    codes = wide("i8", a.lanes)
    chosen = f"{codes} {bits_of(e, a)}, {codes} {bits_of(e, b)}"
    return Lanes(a.dtype, a.lanes, bits=e.value(f"select {wide('i1', a.lanes)} {number_of(e, mask)}, {chosen}"))


def _cast_to_code(e: Emitter, name: str, operand: Lanes, to: DType) -> Lanes:
    """A number converted to an 8-bit float, through ``float`` without a rounding that would show."""
    lanes, number, toward_zero = operand.lanes, number_of(e, operand), name == "fpcast_rtz"
    if operand.dtype is F64:
        number = _narrow(e, number, lanes, odd=not toward_zero)
    elif not operand.dtype.is_float:
        number = _cast(e, name, number, operand.dtype, F32, lanes)
    return Lanes(to, lanes, bits=encoded(e, number, to, lanes, toward_zero=toward_zero))


def _cast(e: Emitter, name: str, number: str, source: DType, to: DType, lanes: int) -> str:
    from_kind, to_kind = kind(source), kind(to)
    from_type, to_type = wide(from_kind, lanes), wide(to_kind, lanes)
    match name:
        case "sext" | "zext":
            return e.value(f"{name} {from_type} {number} to {to_type}")
        case "trunc_int":
            return e.value(f"trunc {from_type} {number} to {to_type}")
        case "sitofp" | "uitofp":
            text = e.value(f"{name} {from_type} {number} to {to_type}")
            return text if to in (F32, F64) else _round(e, text, to, lanes)
        case "fptosi" | "fptoui":
            return _integer_part(e, name, number, from_kind, to, lanes)
        case "fpcast":
            if from_kind == to_kind:
                keeps = to in (source, F32, F64)
                return number if keeps else _round(e, number, to, lanes)
            if source is not F64:
                return e.value(f"fpext {from_type} {number} to {to_type}")
            if to is F32:
                return e.value(f"fptrunc {from_type} {number} to {to_type}")
            return _round(e, _narrow(e, number, lanes, odd=True), to, lanes)
        case _:
            assert name == "fpcast_rtz", name
            if source is F64 and to is not F64:
                number = _narrow(e, number, lanes, odd=False)
            elif to is F64 and source is not F64:
                return e.value(f"fpext {from_type} {number} to {to_type}")
            return number if to in (source, F32, F64) else _round_toward_zero(e, number, to, lanes)


def _integer_part(e: Emitter, name: str, number: str, source: str, to: DType, lanes: int) -> str:
    """The integer part within the range of a type, 0 of NaN.

    LLVM has an instruction for it, but takes vectors apart. Where a conversion goes beyond, its lane is not used.
    """
    real, integer, flag = wide(source, lanes), wide(kind(to), lanes), wide("i1", lanes)
    least, end = (-(1 << to.bits - 1), 1 << to.bits - 1) if name == "fptosi" else (0, 1 << to.bits)
    result = e.value(f"{name} {real} {number} to {integer}")
    for order, bound, limit in (("oge", end, end - 1), ("olt", least, least), ("uno", 0, 0)):
        is_beyond = e.value(f"fcmp {order} {real} {number}, {repeated(source, f'{bound}.0', lanes)}")
        result = e.value(f"select {flag} {is_beyond}, {integer} {repeated(kind(to), limit, lanes)}, {integer} {result}")
    return result


def _round_toward_zero(e: Emitter, number: str, to: DType, lanes: int) -> str:
    single = wide("float", lanes)
    near = _round(e, number, to, lanes)
    fabs = intrinsic(e.library, "fabs", "float", lanes, 1)
    size = e.value(f"call {single} @{fabs}({single} {near})")
    exact_size = e.value(f"call {single} @{fabs}({single} {number})")
    above = e.value(f"fcmp ogt {single} {size}, {exact_size}")
    storage = wide("i16", lanes)
    bits = bits_of(e, Lanes(to, lanes, number=near))
    excess = e.value(f"zext {wide('i1', lanes)} {above} to {storage}")
    lower = e.value(f"sub {storage} {bits}, {excess}")
    return number_of(e, Lanes(to, lanes, bits=lower))


# An integer constant, in one lane or in all.
_LITERAL = re.compile(r"(?:splat \(i\d+ )?(\d+)\)?")


def _division(name: str) -> Callable[[Emitter, list[str], DType, int], str]:
    """Division without traps: a divisor that would trap is replaced by 1 and the result is set right after it."""
    signed, remainder = name.startswith("s"), name.endswith("rem")

    def expand(e: Emitter, numbers: list[str], dtype: DType, lanes: int) -> str:
        a, b = numbers
        integer, flag = wide(kind(dtype), lanes), wide("i1", lanes)
        literal = _LITERAL.fullmatch(b)
        if literal is not None and 0 < int(literal[1]) < (1 << dtype.bits) - 1:
            return e.value(f"{name} {integer} {a}, {b}")
        by_zero = e.value(f"icmp eq {integer} {b}, {zero(kind(dtype), lanes)}")
        traps = by_zero
        if signed:
            is_least = e.value(f"icmp eq {integer} {a}, {repeated(kind(dtype), -(1 << dtype.bits - 1), lanes)}")
            by_minus_one = e.value(f"icmp eq {integer} {b}, {repeated(kind(dtype), -1, lanes)}")
            traps = e.value(f"or {flag} {by_zero}, {e.value(f'and {flag} {is_least}, {by_minus_one}')}")
        divisor = e.value(f"select {flag} {traps}, {integer} {repeated(kind(dtype), 1, lanes)}, {integer} {b}")
        if lanes > 1 and dtype.bits <= 32:
            result = _divided_as_floats(e, name, a, divisor, dtype, lanes)
        else:
            result = e.value(f"{name} {integer} {a}, {divisor}")
        special = a if remainder else repeated(kind(dtype), -1, lanes)
        return e.value(f"select {flag} {by_zero}, {integer} {special}, {integer} {result}")

    return expand


def _divided_as_floats(e: Emitter, name: str, a: str, b: str, dtype: DType, lanes: int) -> str:
    """A quotient or remainder of integers that do not trap, by a division of floats: hosts have none of whole vectors.

    a / b is at least 1 / b below the next integer q + 1, relative to it at least 1 / (a + b), which is more than 2**-17
    for 16 bits and than 2**-33 for 32: rounded to the 24 or 53 bits of a float, it is still below.
    """
    sign, remainder = "s" if name.startswith("s") else "u", name.endswith("rem")
    integer, number = wide(kind(dtype), lanes), wide("float" if dtype.bits <= 16 else "double", lanes)
    dividend, divisor = (e.value(f"{sign}itofp {integer} {each} to {number}") for each in (a, b))
    quotient = e.value(f"fdiv {number} {dividend}, {divisor}")
    quotient = e.value(f"fpto{sign}i {number} {quotient} to {integer}")
    if not remainder:
        return quotient
    return e.value(f"sub {integer} {a}, {e.value(f'mul {integer} {quotient}, {b}')}")


def _shift(e: Emitter, name: str, numbers: list[str], dtype: DType, lanes: int) -> str:
    a, b = numbers
    integer, flag = wide(kind(dtype), lanes), wide("i1", lanes)
    inside = e.value(f"icmp ult {integer} {b}, {repeated(kind(dtype), dtype.bits, lanes)}")
    if name == "ashr":
        limit = repeated(kind(dtype), dtype.bits - 1, lanes)
        amount = e.value(f"select {flag} {inside}, {integer} {b}, {integer} {limit}")
        return e.value(f"ashr {integer} {a}, {amount}")
    shifted = e.value(f"{name} {integer} {a}, {b}")
    return e.value(f"select {flag} {inside}, {integer} {shifted}, {integer} {zero(kind(dtype), lanes)}")


def _multiply_high(e: Emitter, extension: str, numbers: list[str], dtype: DType, lanes: int) -> str:
    narrow, double = wide(kind(dtype), lanes), wide(f"i{2 * dtype.bits}", lanes)
    a, b = (e.value(f"{extension} {narrow} {number} to {double}") for number in numbers)
    product = e.value(f"mul {double} {a}, {b}")
    high = e.value(f"lshr {double} {product}, {repeated(f'i{2 * dtype.bits}', dtype.bits, lanes)}")
    return e.value(f"trunc {double} {high} to {narrow}")


def _absolute(e: Emitter, numbers: list[str], dtype: DType, lanes: int) -> str:
    integer = wide(kind(dtype), lanes)
    name = e.library.declare(f"llvm.abs.{suffix(kind(dtype), lanes)}", f"{integer} {{}}({integer}, i1)")
    return e.value(f"call {integer} @{name}({integer} {numbers[0]}, i1 false)")


_EXPANSIONS: dict[str, Callable[[Emitter, list[str], DType, int], str]] = {
    **{name: _division(name) for name in ("sdiv", "udiv", "srem", "urem")},
    "shl": lambda e, numbers, dtype, lanes: _shift(e, "shl", numbers, dtype, lanes),
    "lshr": lambda e, numbers, dtype, lanes: _shift(e, "lshr", numbers, dtype, lanes),
    "ashr": lambda e, numbers, dtype, lanes: _shift(e, "ashr", numbers, dtype, lanes),
    "mulhs": lambda e, numbers, dtype, lanes: _multiply_high(e, "sext", numbers, dtype, lanes),
    "mulhu": lambda e, numbers, dtype, lanes: _multiply_high(e, "zext", numbers, dtype, lanes),
    "iabs": _absolute,
}
_missing = {
    operation.name
    for operation in OPERATIONS.values()
    if not operation.is_cast
    and operation.name not in {"select", "fneg", *_INSTRUCTIONS, *_INTRINSICS, *_EXPANSIONS, *FUNCTIONS}
}
assert not _missing, f"operations without LLVM text: {sorted(_missing)}"
