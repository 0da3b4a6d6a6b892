"""The frame of a translated program: registers, memories, operands, faults and calls, for all who write parts of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from mlutriton.codegen.llvm.elements import Lanes, constant, constant_bits, from_register, number_of, to_register
from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.codegen.llvm.polynomials import Polynomial, polynomial, polynomial_of
from mlutriton.codegen.llvm.ranges import INT64, Range
from mlutriton.dtypes import DType
from mlutriton.isa.expression import Call, Constant, Expression, Name, evaluate, names_in, parse
from mlutriton.isa.legality import span_text
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import (
    BASIC_FUNCTIONS,
    FAILED,
    RUNTIME_FUNCTIONS,
    WRAM_EXPANSION,
    Context,
    Fault,
    special_functions,
)
from mlutriton.isa.operands import MAXIMUM_COUNT, Address, GlobalAddress, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Buffer, Program
from mlutriton.isa.table import TABLE, Row, Slot, SlotKind

Count = int | str
"""A 64-bit integer: known now, or the name of an IR value."""

_BEYOND_EVERY_SPAN = 1 << 48
_COUNTS = Range(0, MAXIMUM_COUNT)

# Where faults meet, one number has the fault, the slot and the instruction: what leads there shall cost next to nothing
# where all is well. LLVM takes long where very many meet.
_FAULT_BITS = _SLOT_BITS = 8
_FAULTS_TOGETHER = 64


@dataclass(slots=True, eq=False)
class Place:
    """Bytes of an on-chip memory that an operand names; never changed.

    Attributes:
        buffer: the window that they belong to.
        base: IR value of the register in the address, or empty; equal names are equal values.
        start: first byte in its memory, without the register.
        size: bytes touched.
        dtype: element type.
        mode: how elements are repeated over rows and columns.
        lines: how often each line of how many elements comes, of a source that is read that way.
        first: the parameter that tells where it begins, in a function that is shared by places of any beginning.
        ends: first byte, and the byte after the last one if the place is not empty, where both are polynomials.
        is_lent: whether it may lie in DRAM, in a function that reads it.
        low: first byte of the memory that may be touched.
        high: the byte after the last of them.
    """

    buffer: Buffer
    base: str
    start: int
    size: Count
    dtype: DType
    mode: Mode = Mode.FULL
    lines: tuple[int, int] | None = None
    first: str = ""
    ends: tuple[Polynomial, Polynomial] | None = None
    is_lent: bool = False
    low: int = field(init=False)
    high: int = field(init=False)

    def __post_init__(self) -> None:
        window = self.buffer.offset_bytes
        self.low = window if self.base else self.start
        if self.base or isinstance(self.size, str):
            self.high = max(self.low, window + self.buffer.bytes)
        else:
            self.high = self.start + self.size

    def same_start(self, other: Place) -> bool:
        """True if both certainly begin at the same byte."""
        return self.buffer.space == other.buffer.space and self.base == other.base and self.start == other.start

    def may_overlap(self, other: Place) -> bool:
        """False if the two certainly have no byte in common."""
        # Both lie in their windows.
        if self.low >= other.high or other.low >= self.high or self.buffer.space != other.buffer.space:
            return False
        if self.size == 0 or other.size == 0:
            return False
        if self.base and self.base == other.base and isinstance(self.size, int) and isinstance(other.size, int):
            return self.start < other.start + other.size and other.start < self.start + self.size
        # What is true modulo 2**64 is true, as both lie in their windows.
        return not (self.ends and other.ends and _is_before(self.ends, other.ends))

    def must_overlap(self, other: Place) -> bool:
        """True if the two certainly have a byte in common."""
        known = isinstance(self.size, int) and isinstance(other.size, int) and self.base == other.base
        return known and self.may_overlap(other)


@cache
def _vanishes_with(expression: Expression, name: str) -> bool:
    """True if an expression is a product of a name and something."""
    match expression:
        case Name(text):
            return text == name
        case Call("*", factors):
            return any(_vanishes_with(factor, name) for factor in factors)
        case _:
            return False


def _is_before(a: tuple[Polynomial, Polynomial], b: tuple[Polynomial, Polynomial]) -> bool:
    """True if one of two places certainly ends before the other one begins."""
    return a[1].is_at_most(b[0]) or b[1].is_at_most(a[0])


def count_names(row: Row) -> tuple[str, ...]:
    """Names of the count slots of an instruction."""
    return _count_names(row.name)


@cache
def _count_names(name: str) -> tuple[str, ...]:
    return tuple(slot.name for slot in TABLE[name].slots if slot.kind is SlotKind.COUNT)


class Frame:
    """State that the translation of a program carries from one instruction to the next.

    Attributes:
        e: the text of the program's function, which is compiled quickly.
        loops: the functions that walk through elements, which are compiled well.
        loop_names: of these functions, by all that they depend on.
        program: what is translated.
        machine: what it runs on.
        index: number of the instruction being translated.
        instruction: the instruction itself.
        variables: places of all that is kept from one block to the next, 64 bits each.
        cleared: those of them that hold 0 at first.
    """

    def __init__(
        self,
        e: Emitter,
        loops: Library,
        program: Program,
        machine: Machine,
        live: Mapping[int, tuple[int, int]],
        lasting: int,
    ) -> None:
        """Begin a program.

        Args:
            e: writes the program's function.
            loops: gets the functions that walk through elements.
            program: what is translated.
            machine: what it runs on.
            live: which registers are read before written, as ``RegisterLife`` has them.
            lasting: which need no place to be read in other blocks, likewise.
        """
        self.e = e
        self.loops = loops
        self.loop_names: dict[Hashable, str] = {}
        self.program = program
        self.machine = machine
        self.index = 0
        self.instruction = program.instructions[0]
        self._callable = {*BASIC_FUNCTIONS, *special_functions(program)}
        self.variables: list[str] = []
        self.cleared: list[str] = []
        # Only what is read in another block than it is written in has a place.
        self._live, self._lasting = live, lasting
        kept = 0
        for live_in, _ in live.values():
            kept |= live_in
        kept &= ~self._lasting
        self._registers = {
            index: self.variable(is_cleared=bool(live[0][0] >> index & 1))
            for index in range(program.register_count)
            if kept >> index & 1
        }
        self._live_out = 0
        self._values: dict[int, str] = {}
        # What has been written as a type: that, and the value in both forms.
        self._typed: dict[int, tuple[DType, str, str]] = {}
        # What of both holds wherever the registers are read.
        self._lasting_values: dict[int, str] = {}
        self._lasting_typed: dict[int, tuple[DType, str, str]] = {}
        self._counts: dict[str, str] = {}
        # Of counts, and of what is computed of them: of most that how, as nobody has asked about them.
        self._ranges: dict[str, Range] = {}
        self._formed: dict[str, tuple[str, Count, Count]] = {}
        # What IR values are, as far as it helps, and how those are computed that nobody has asked about; they keep
        # their names.
        self._polynomials: dict[str, Polynomial] = {}
        self._computed: dict[str, tuple[str, Sequence[str]]] = {}
        # By expressions of the table, with what their names stand for.
        self._spans: dict[tuple[Count, ...], Polynomial | None] = {}
        self._places: dict[str, Place | None] = {}
        self._instruction_counts: dict[str, Count] | None = None
        self._formulas: dict[tuple[Count, ...], int] = {}
        self._checked: set[tuple[object, ...]] = set()
        # Where faults come from: block and values; those that a runtime function has noted, and others.
        self._failures: list[tuple[str, int]] = []
        self._faults: list[tuple[str, int, str, str]] = []

    def variable(self, *, is_cleared: bool = True) -> str:
        """A place for 64 bits that are kept from one block to the next."""
        place = self.e.variable("i64")
        self.variables.append(place)
        if is_cleared:
            self.cleared.append(place)
        return place

    def begin(self, index: int) -> None:
        """Turn to an instruction."""
        self.index, self.instruction = index, self.program.instructions[index]
        self._places.clear()
        self._instruction_counts = None

    def begin_block(self, start: int) -> None:
        """Forget what is known of registers only along the way that led here."""
        self._live_out = self._live[start][1]
        self._values = self._lasting_values.copy()
        self._typed = self._lasting_typed.copy()
        self._counts.clear()
        self._checked.clear()

    @contextmanager
    def conditional(self, condition: str) -> Generator[None]:
        """Write a part that runs only where a condition holds; what is learnt in it is forgotten after it."""
        known = (self._values.copy(), self._typed.copy(), self._counts.copy(), self._checked.copy())
        with self.e.when(condition):
            yield
        self._values, self._typed, self._counts, self._checked = known

    # ---- registers and operands -------------------------------------------------------------------------------------

    def register(self, register: Register) -> str:
        """The 64-bit value of a register."""
        index = register.index
        if index not in self._values:
            if index in self._typed:
                dtype, number, bits = self._typed[index]
                return to_register(self.e, Lanes(dtype, 1, number, bits))
            self._values[index] = self.e.load64(self._registers[index])
        return self._values[index]

    def set_register(self, register: Operand, value: str) -> None:
        """Write the 64-bit value of a register."""
        assert isinstance(register, Register)
        index = register.index
        self._typed.pop(index, None)
        self._values[index] = value
        if self._lasting >> index & 1:
            self._lasting_values[index] = value
        elif self._live_out >> index & 1:
            self.e.store64(value, self._registers[index])

    def operand(self, name: str) -> Operand:
        """The operand in a named slot of the current instruction."""
        return self.instruction.operand(name)

    def dtype(self, name: str) -> DType:
        """The element type of a named slot of the current instruction."""
        return self.instruction.dtype_of(self.instruction.row.slot(name))

    def scalar(self, name: str) -> Lanes:
        """The scalar in a named slot."""
        return self.scalar_value(self.operand(name), self.dtype(name))

    def scalar_value(self, operand: Operand, dtype: DType) -> Lanes:
        """The value of a register or immediate read as a type."""
        if isinstance(operand, Register):
            known = self._typed.get(operand.index)
            if known is not None and known[0] is dtype:
                return Lanes(dtype, 1, *known[1:])
            return from_register(self.e, self.register(operand), dtype)
        assert isinstance(operand, Immediate)
        return constant(operand.value, dtype)

    def scalar_bits(self, name: str) -> str:
        """The bits, zero-extended to 64, of the scalar in a named slot."""
        operand = self.operand(name)
        if isinstance(operand, Immediate):
            return str(constant_bits(operand.value, self.dtype(name)))
        return to_register(self.e, self.scalar(name))

    def flag(self, name: str) -> str:
        """The ``i1`` scalar in a named slot, as an IR condition."""
        operand = self.operand(name)
        if isinstance(operand, Immediate):
            return "true" if operand.value else "false"
        return number_of(self.e, self.scalar(name))

    def set_result(self, value: Lanes) -> None:
        """Write the result register of the current instruction."""
        register = self.operand("rd")
        assert isinstance(register, Register)
        index, typed = register.index, (value.dtype, value.number, value.bits)
        self._values.pop(index, None)
        if self._lasting >> index & 1:
            self._lasting_typed[index] = typed
        elif self._live_out >> index & 1:
            self.set_register(register, to_register(self.e, value))
        self._typed[index] = typed

    def count(self, name: str) -> Count:
        """The count in a named slot, from 0 to ``MAXIMUM_COUNT``."""
        value = self.integer(name)
        if isinstance(value, int):
            return value
        if value not in self._counts:
            count = self._counts[value] = str(self.e.minimum(self.e.maximum(value, 0), MAXIMUM_COUNT))
            self._ranges[count] = _COUNTS
            # Otherwise there is nothing, or more than any window holds.
            self._polynomials[count] = self.polynomial(value)
        return self._counts[value]

    def polynomial(self, value: Count) -> Polynomial:
        """What is known of a 64-bit value."""
        if isinstance(value, int) or not value.startswith("%"):
            return polynomial(int(value))
        pending = [value]
        while pending and self._computed:
            asked = pending[-1]
            operation, operands = self._computed.get(asked, ("", ()))
            unknown = [each for each in operands if each in self._computed]
            pending += unknown
            if not unknown:
                pending.pop()
            if operation and not unknown:
                del self._computed[asked]
                a, b = map(self.polynomial, operands)
                form = a.times(b) if operation == "mul" else a.plus(b, 1 if operation == "add" else -1)
                if form is not None:
                    self._polynomials[asked] = form
        return self._polynomials.get(value) or polynomial(value)

    def learn(self, result: str, operation: str, operands: Sequence[str]) -> None:
        """Note what operation on 64-bit integers an IR value is the result of."""
        self._computed[result] = (operation, operands)

    def integer(self, name: str) -> Count:
        """The signed 64-bit integer in a named slot: a stride or an index."""
        operand = self.operand(name)
        if isinstance(operand, Register):
            return self.register(operand)
        assert isinstance(operand, Immediate)
        return int(operand.value)

    def counts(self) -> dict[str, Count]:
        """All counts of the current instruction; not to be changed."""
        if self._instruction_counts is None:
            self._instruction_counts = {name: self.count(name) for name in count_names(self.instruction.row)}
        return self._instruction_counts

    def global_address(self, name: str) -> str:
        """The host address in a named ``GLOBAL`` slot."""
        address = self.operand(name)
        assert isinstance(address, GlobalAddress)
        return str(self.e.add(self.register(address.register), address.offset_bytes))

    # ---- on-chip places ---------------------------------------------------------------------------------------------

    def place(self, name: str) -> Place | None:
        """The bytes that a named slot of the current instruction touches; None if it holds no address."""
        if name not in self._places:
            self._places[name] = self._find_place(name)
        return self._places[name]

    def _find_place(self, name: str) -> Place | None:
        slot, address = self.instruction.row.slot(name), self.operand(name)
        if not isinstance(address, Address):
            return None
        buffer = self.program.buffers[address.buffer]
        base = self.register(address.register) if address.register is not None else ""
        size, start = self._span_bytes(slot, address), buffer.offset_bytes + address.offset_bytes
        ends = self._ends(slot, address, start) if base or isinstance(size, str) else None
        return Place(buffer, base, start, size, self.instruction.dtype_of(slot), address.mode, ends=ends)

    def _ends(self, slot: Slot, address: Address, start: int) -> tuple[Polynomial, Polynomial] | None:
        text, counts = span_text(slot, address), self.counts()
        key = text, *[counts[name] for name in names_in(text)]
        if key not in self._spans:
            values = {name: self.polynomial(counts[name]) for name in names_in(text)}
            self._spans[key] = polynomial_of(parse(text), values)
        elements = self._spans[key]
        if elements is None:
            return None
        begin = polynomial(start)
        if address.register is not None:
            begin = begin.plus(self.polynomial(self.register(address.register)))
        return begin, begin.plus(elements, self.instruction.dtype_of(slot).bytes)

    def _span_bytes(self, slot: Slot, address: Address) -> Count:
        counts = self.counts()
        extents = [counts[name] for name in self.instruction.row.extents]
        if 0 in extents:
            return 0
        text = span_text(slot, address)
        size = self.e.multiply(self.formula(text, counts), self.instruction.dtype_of(slot).bytes)
        for name, extent in zip(self.instruction.row.extents, extents, strict=True):
            if isinstance(extent, str) and not _vanishes_with(parse(text), name):
                empty = self.e.value(f"icmp eq i64 {extent}, 0")
                size = self.e.value(f"select i1 {empty}, i64 0, i64 {size}")
        return size

    def check_window(self, name: str) -> Place | None:
        """The place in a named slot; faults unless it lies in its buffer. Legality has shown it for constants."""
        place = self.place(name)
        if place is not None:
            self._check_window(self.instruction.row.slot_index[name], place)
        return place

    def _check_window(self, slot: int, place: Place) -> None:
        e, key = self.e, (place.buffer.name, place.base, place.start, place.size)
        if (not place.base and isinstance(place.size, int)) or key in self._checked:
            return
        self._checked.add(key)
        offset = e.add(place.base or 0, place.start - place.buffer.offset_bytes)
        # Unsigned: a negative offset is beyond every window.
        if isinstance(offset, int) and 0 <= offset <= place.buffer.bytes:
            outside = e.value(f"icmp ugt i64 {place.size}, {place.buffer.bytes - offset}")
        else:
            last = e.subtract(place.buffer.bytes, place.size)
            outside = e.value(f"icmp ugt i64 {offset}, {last}")
            if not isinstance(last, int) or last < 0:
                too_long = e.value(f"icmp ugt i64 {place.size}, {place.buffer.bytes}")
                outside = e.value(f"or i1 {outside}, {too_long}")
            if isinstance(place.size, str):
                touched = e.value(f"icmp ne i64 {place.size}, 0")
                outside = e.value(f"and i1 {outside}, {touched}")
        self.fault_if(outside, Fault.WINDOW, str(offset), str(place.size), slot)

    def shared_function(self, define: Callable[..., str], *arguments: Hashable) -> str:
        """Declare a function that other programs have too (see ``Library.borrow``), and return its name."""
        return self.e.library.borrow(define, *arguments)

    def loop_function(self, name: str) -> str:
        """Declare a function of ``loops`` here, and return its name."""
        if name not in self.e.library.definitions:
            self.e.library.require(name, lambda: self.loops.export(name))
            self.loops.end_part()
        return name

    def pointer(self, place: Place, e: Emitter | None = None) -> str:
        """The host address of a place, in another function too; in WRAM that of its float32 image."""
        e = e or self.e
        if place.buffer.space != "wram":
            return e.pointer(f"%{place.buffer.space}", place.first or e.add(place.base or 0, place.start))
        return e.pointer("%wram", self.image_offset(place))

    def image_offset(self, place: Place) -> Count:
        """Where the float32 image of a place in WRAM begins."""
        e = self.e
        inside = e.add(place.base or 0, place.start - place.buffer.offset_bytes)
        elements = (
            inside // place.dtype.bytes
            if isinstance(inside, int)
            else e.value(f"sdiv i64 {inside}, {place.dtype.bytes}")
        )
        return e.add(e.multiply(elements, 4), WRAM_EXPANSION * place.buffer.offset_bytes)

    # ---- expressions, calls, faults ---------------------------------------------------------------------------------

    def formula(self, text: str, values: dict[str, Count]) -> Count:
        """Evaluate a formula of the table over counts; once for the same known values."""
        key = (text, *values.values())
        if key not in self._formulas:
            result = self.expression(parse(text), values)
            if isinstance(result, str):
                return result
            self._formulas[key] = result
        return self._formulas[key]

    def expression(self, expression: Expression, values: dict[str, Count]) -> Count:
        """Evaluate an expression of the table, now where all its names are known, else as IR."""
        match expression:
            case Constant(value):
                return value
            case Name(text):
                return values[text]
            case Call(function, arguments):
                operands = [self.expression(argument, values) for argument in arguments]
                known = [operand for operand in operands if isinstance(operand, int)]
                if len(known) == len(operands):
                    return evaluate(Call(function, tuple(Constant(operand) for operand in known)), {})
                return self._call(function, operands)

    def _call(self, function: str, operands: list[Count]) -> Count:
        result = self._called(function, operands)
        if isinstance(result, str) and len(operands) == 2:
            self._formed[result] = function, operands[0], operands[1]
        return result

    def _called(self, function: str, operands: list[Count]) -> Count:
        e = self.e
        match function, operands:
            case "+", [a, b]:
                return e.add(a, b)
            case "-", [a, b]:
                return e.subtract(a, b)
            case "*", [a, b]:
                return 0 if 0 in (a, b) else self._product(a, b)
            case "max", [a, b]:
                return e.maximum(a, b)
            case "min", [a, b]:
                return e.minimum(a, b)
            case "ceil_div", [a, b]:
                return e.ceil_divide(a, b)
            case "round_up", [a, b]:
                return e.multiply(self._call("ceil_div", [a, b]), b)
            case "log2_ceil", [a]:
                name = e.library.declare("llvm.ctlz.i64", "i64 {}(i64, i1)")
                below = e.maximum(e.subtract(a, 1), 0)
                return e.subtract(64, e.value(f"call i64 @{name}(i64 {below}, i1 false)"))
            case "if_one", [condition, then, otherwise]:
                if isinstance(condition, int):
                    return then if condition == 1 else otherwise
                is_one = e.value(f"icmp eq i64 {condition}, 1")
                return e.value(f"select i1 {is_one}, i64 {then}, i64 {otherwise}")
            case _:
                raise AssertionError(f"no LLVM text for {function}")

    def _product(self, a: Count, b: Count) -> Count:
        """``a * b``, or a number far above the size of any memory: a span must not wrap around into its window."""
        e = self.e
        if 1 in (a, b):
            return e.multiply(a, b)
        found = self._range_after("*", a, b)
        if found is not None:
            product = e.multiply(a, b)
            return product if found.most <= _BEYOND_EVERY_SPAN else e.minimum(product, _BEYOND_EVERY_SPAN)
        name = e.library.declare("llvm.smul.fix.sat.i64", "i64 {}(i64, i64, i32)")
        return e.minimum(e.value(f"call i64 @{name}(i64 {a}, i64 {b}, i32 0)"), _BEYOND_EVERY_SPAN)

    def _range(self, value: Count) -> Range | None:
        """Integers between which a value lies; None if that is not known."""
        if isinstance(value, int):
            return Range(value, value)
        formed = self._formed.pop(value, None)
        if formed is not None and value not in self._ranges:
            found = self._range_after(*formed)
            if found is not None:
                self._ranges[value] = found
        return self._ranges.get(value)

    def _range_after(self, function: str, a: Count, b: Count) -> Range | None:
        """The same of what a function of the table gives; None if it may not fit 64 bits, and wrap around."""
        left, right = self._range(a), self._range(b)
        found = left.after(function, right) if left and right else None
        return found if found is not None and found.is_within(INT64) else None

    @property
    def is_surely_empty(self) -> bool:
        """True if an extent of the current instruction is known to be 0."""
        return any(self.operand(name) == Immediate(0) for name in self.instruction.row.extents)

    def is_empty(self) -> str | bool:
        """Whether an extent of the current instruction is 0, so that it does nothing."""
        e = self.e
        extents = [self.count(name) for name in self.instruction.row.extents]
        if 0 in extents:
            return True
        conditions = [e.value(f"icmp eq i64 {extent}, 0") for extent in extents if isinstance(extent, str)]
        if not conditions:
            return False
        result, *rest = conditions
        for condition in rest:
            result = e.value(f"or i1 {result}, {condition}")
        return result

    def call(self, name: str, arguments: Iterable[Count], *, result: str = "void", pointers: int = 0) -> str:
        """Call a runtime function; the first ``pointers`` arguments are addresses, the rest 64-bit integers."""
        e = self.e
        assert name in self._callable, f"{name} is not among what the program calls"
        entry = e.pointer("%runtime", 8 * RUNTIME_FUNCTIONS.index(name))
        function = e.value(f"load ptr, ptr {entry}, align 8, !invariant.load !0")
        text = ", ".join(f"{'ptr' if i < pointers else 'i64'} {argument}" for i, argument in enumerate(arguments))
        if result == "void":
            e.do(f"call void {function}({text})")
            return ""
        return e.value(f"call {result} {function}({text})")

    def fault_if(self, condition: str, fault: Fault, address: str = "0", size_bytes: str = "0", slot: int = 0) -> None:
        """Stop the program with a fault where a condition holds."""
        e = self.e
        on = e.fresh("on")
        what = (self.index << _SLOT_BITS | slot) << _FAULT_BITS | fault
        label = f"fault{len(self._faults) // _FAULTS_TOGETHER}"
        self._faults.append((e.current, what, address, size_bytes))
        e.branch(condition, label, on)
        e.go_on(on)

    def stop_if_failed(self, result: str) -> None:
        """Stop the program where a runtime function gave -1, having noted its fault in the context."""
        e = self.e
        on = e.fresh("on")
        label = f"failure{len(self._failures) // _FAULTS_TOGETHER}"
        self._failures.append((e.current, self.index))
        e.branch(e.value(f"icmp eq i64 {result}, -1"), label, on)
        e.go_on(on)

    def finish(self) -> None:
        """Write the ends of the function at which all faults meet."""
        e = self.e

        def meet(values: list[tuple[Count, str]]) -> str:
            return e.value("phi i64 " + ", ".join(f"[ {value}, %{block} ]" for value, block in values))

        for first in range(0, len(self._faults), _FAULTS_TOGETHER):
            faults = self._faults[first : first + _FAULTS_TOGETHER]
            e.label(f"fault{first // _FAULTS_TOGETHER}")
            what = meet([(each[1], each[0]) for each in faults])
            address, size = (meet([(each[field], each[0]) for each in faults]) for field in (2, 3))
            rest = e.value(f"lshr i64 {what}, {_FAULT_BITS}")
            fault = e.value(f"and i64 {what}, {(1 << _FAULT_BITS) - 1}")
            slot = e.value(f"and i64 {rest}, {(1 << _SLOT_BITS) - 1}")
            words = {
                Context.FAULT: fault,
                Context.FAULT_ADDRESS: address,
                Context.FAULT_BYTES: size,
                Context.FAULT_SLOT: slot,
            }
            for word, value in words.items():
                e.store64(value, e.pointer("%context", 8 * word))
            self._stop(e.value(f"lshr i64 {rest}, {_SLOT_BITS}"))
        for first in range(0, len(self._failures), _FAULTS_TOGETHER):
            e.label(f"failure{first // _FAULTS_TOGETHER}")
            failures = self._failures[first : first + _FAULTS_TOGETHER]
            self._stop(meet([(index, block) for block, index in failures]))

    def _stop(self, instruction: str) -> None:
        self.e.store64(instruction, self.e.pointer("%context", 8 * Context.FAULT_INSTRUCTION))
        self.e.do(f"ret i64 {FAILED}")
