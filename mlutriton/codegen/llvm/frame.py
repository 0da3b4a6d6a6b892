"""The frame of a translated program: registers, memories, operands, faults and calls, for all who write parts of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

from mlutriton.codegen.llvm.elements import Lanes, constant, constant_bits, from_register, number_of, to_register
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.codegen.llvm.faults import Faults
from mlutriton.codegen.llvm.formulas import Formulas
from mlutriton.codegen.llvm.places import Place
from mlutriton.codegen.llvm.polynomials import Polynomial, polynomial, polynomial_of
from mlutriton.codegen.llvm.ranges import Range
from mlutriton.dtypes import DType
from mlutriton.isa.expression import Call, Expression, Name, names_in, parse
from mlutriton.isa.legality import span_text
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import (
    BASIC_FUNCTIONS,
    RUNTIME_FUNCTIONS,
    WRAM_EXPANSION,
    Fault,
    special_functions,
)
from mlutriton.isa.operands import MAXIMUM_COUNT, Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Program
from mlutriton.isa.table import Slot

_COUNTS = Range(0, MAXIMUM_COUNT)


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
        formulas: those of the instruction table, as text.
        faults: of the program so far.
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
        self.e, self.formulas, self.faults = e, Formulas(e), Faults(e)
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
        # What IR values are, as far as it helps, and how those are computed that nobody has asked about; they keep
        # their names.
        self._polynomials: dict[str, Polynomial] = {}
        self._computed: dict[str, tuple[str, Sequence[str]]] = {}
        # By expressions of the table, with what their names stand for.
        self._spans: dict[tuple[Count, ...], Polynomial | None] = {}
        self._places: dict[str, Place | None] = {}
        self._instruction_counts: dict[str, Count] | None = None
        self._checked: set[tuple[object, ...]] = set()

    def variable(self, *, is_cleared: bool = True) -> str:
        """A place for 64 bits that are kept from one block to the next."""
        place = self.e.variable("i64")
        self.variables.append(place)
        if is_cleared:
            self.cleared.append(place)
        return place

    def variables_behind(self) -> list[tuple[int, str]]:
        """The numbers and places of the variables that are still read behind the current block."""
        live = self._live_out
        gone = {place for index, place in self._registers.items() if not live >> index & 1}
        return [(number, place) for number, place in enumerate(self.variables) if place not in gone]

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
            self.formulas.learn(count, _COUNTS)
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
            self._instruction_counts = {name: self.count(name) for _, name in self.instruction.row.count_slots}
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
        size = self.e.multiply(self.formulas.of(text, counts), self.instruction.dtype_of(slot).bytes)
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

    # ---- calls, faults ---------------------------------------------------------------------------------

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
        """Stop the program with a fault of the current instruction where a condition holds."""
        self.faults.where(condition, fault, self.index, slot, address, size_bytes)

    def stop_if_failed(self, result: str) -> None:
        """Stop the program where a runtime function gave -1, having noted its fault in the context."""
        self.faults.where_failed(result, self.index)


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
