"""What makes a program legal for a machine; the simulator runs nothing else.

``RULES`` lists the rules in the manual's words; each error names the one that was broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from mlutriton.diagnostics import Location, ProgramError
from mlutriton.dtypes import I64, DType
from mlutriton.isa.assembly import NAME
from mlutriton.isa.expression import names_in, value_of
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import (
    MAXIMUM_COUNT,
    MAXIMUM_REGISTERS,
    Address,
    Forward,
    GlobalAddress,
    Immediate,
    Label,
    Mode,
    Operand,
    Register,
)
from mlutriton.isa.program import OPERAND_CLASSES, Instruction, Program, may_stand
from mlutriton.isa.table import (
    MAXIMUM_CHAIN_STEPS,
    PRINT_STYLES,
    SPECIAL_REGISTERS,
    Access,
    Slot,
    SlotKind,
)
from mlutriton.isa.trace_format import LOCAL_STRIDE_BYTES

RULES: dict[str, str] = {
    "names": "Names of programs, parameters, buffers and labels begin with a letter of any script, _ or $, go on with"
    " these, digits and dots, and differ from those of registers and from inf and nan.",
    "memory": "A buffer lies in nram, wram or sram, within what the machine leaves to tiles.",
    "types": "The instruction takes these element types and the machine has them: bf16 and the operand type of mm"
    " are not on every machine.",
    "operands": "Each slot holds an operand of its kind. Immediates fit their slot's type; counts are not negative.",
    "registers": "Registers are among those that the program declares.",
    "spaces": "An address names a declared buffer, in a memory that the slot admits.",
    "modes": "Row and column mode stand only for operands that are read in an instruction over rows and columns.",
    "window": "An access whose address and counts are immediates stays inside its buffer.",
    "index": "Indices name what there is: a parameter, a special register, a string; sync takes 1 to 7, reverse 0 or"
    " 1.",
    "labels": "A branch goes to a label of an instruction.",
    "overlap": "What an instruction writes is disjoint from what it reads and else writes. But the target of an"
    " element-wise instruction (and of v.mov) may begin exactly where a source in full mode does, if its elements are"
    " not wider; this holds for the target of a chain and all of the chain's sources.",
    "chain": "An instruction with target ~ hands its result to the next instruction, in which at least one source is ~,"
    f" each of the same type; nothing else is ~. A chain has at most {MAXIMUM_CHAIN_STEPS} instructions, all with the"
    " same rows and columns operands, each v.mov or element-wise of cost class simple or fma; no label stands inside"
    " it.",
    "end": "The last instruction is exit or br, and control can reach an exit.",
}

CHAIN_COST_CLASSES = ("simple", "fma")

_REGISTER_KINDS = frozenset(kind for kind, classes in OPERAND_CLASSES.items() if Register in classes)


@dataclass(frozen=True, slots=True)
class Touch:
    """The bytes of an on-chip memory from the first to the last that an operand touches."""

    slot: Slot
    mode: Mode
    width: int
    space: str
    start: int
    end: int

    @property
    def writes(self) -> bool:
        """True if the bytes are written."""
        return self.slot.access in (Access.WRITE, Access.READ_WRITE)

    @property
    def reads(self) -> bool:
        """True if the bytes are read."""
        return self.slot.access in (Access.READ, Access.READ_WRITE)

    def meets(self, other: Touch) -> bool:
        """True if a byte belongs to both."""
        return self.space == other.space and self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        return f"{self.slot.name} (bytes {self.start} to {self.end} of {self.space.upper()})"


def first_clash(own: Sequence[Touch], earlier: Sequence[Touch] = ()) -> tuple[Touch, Touch] | None:
    """A written and another touched range that break the rule ``overlap``.

    ``own`` are the touches of an instruction, ``earlier`` those of the steps before it in its chain.
    """
    for target in own:
        if not target.writes:
            continue
        for other in (*own, *earlier):
            if other is target or not target.meets(other):
                continue
            in_place = (
                target.slot.kind is SlotKind.TARGET
                and target.start == other.start
                and other.mode is Mode.FULL
                and target.width <= other.width
            )
            if not in_place:
                return target, other
    return None


def check(program: Program, machine: Machine) -> None:
    """Refuse a program that breaks a rule on this machine.

    Raises:
        ProgramError: E0402 with the instruction, the rule and a remedy; E0404 for a program of another ISA number.
    """
    if program.isa != machine.isa:
        raise ProgramError(
            "E0404",
            f"program {program.name} is made for ISA {program.isa}, {machine.name} has ISA {machine.isa}",
            help=f"compile or assemble it for {machine.name}",
        )
    if machine.content_hash not in program.legal_machines:
        _Checker(program, machine).check()
        program.legal_machines.add(machine.content_hash)


class _Checker:
    """The rules, applied to one program."""

    def __init__(self, program: Program, machine: Machine) -> None:
        self.program = program
        self.machine = machine
        self.instruction: Instruction | None = None
        # What each instruction touches, as far as registers have no say in it.
        self.touches: list[list[Touch]] = []
        # Numbers of the instructions that are handed something, or hand something on.
        self.chained: set[int] = set()

    def fail(self, rule: str, fact: str, *, location: Location | None = None, help: str = "") -> NoReturn:
        """Refuse the current instruction, or the program if there is none."""
        instruction = self.instruction
        if instruction is not None:
            fact, location = f"{instruction.mnemonic}: {fact}", instruction.location
        text = f"instruction: {instruction}\n" if instruction is not None else ""
        error = ProgramError("E0402", fact, location=location, note=f"{text}rule: {RULES[rule]}", help=help)
        error.rule = rule
        raise error

    def check(self) -> None:
        program = self.program
        self._declarations()
        admitted: set[tuple[str, tuple[DType, ...]]] = set()
        registers = program.register_count
        for instruction in program.instructions:
            self.instruction = instruction
            row, operands = instruction.row, instruction.operands
            kind = row.name, instruction.dtypes
            if kind not in admitted:
                self._types(instruction)
                admitted.add(kind)
            if len(operands) != len(row.slots):
                self.fail("operands", f"{len(operands)} operands, {row.name} has {len(row.slots)}")
            for slot, operand in zip(row.slots, operands, strict=True):
                if type(operand) is Register and slot.kind in _REGISTER_KINDS and 0 <= operand.index < registers:
                    continue  # as most are
                self._operand(instruction, slot, operand)
            touches = self._touches(instruction) if row.memory_slots else []
            self.touches.append(touches)
            if touches:
                self._overlap(touches)
        self._chains()
        self.instruction = None
        self._end()

    def _declarations(self) -> None:
        program, machine = self.program, self.machine
        parameters = (parameter.name for parameter in program.parameters)
        for name in (program.name, *parameters, *program.buffers, *program.labels):
            if not NAME.fullmatch(name):
                self.fail("names", f"'{name}' is not a name")
        capacities = {
            "nram": machine.usable_nram_bytes,
            "wram": machine.usable_wram_bytes,
            "sram": machine.usable_sram_bytes,
        }
        for name, buffer in program.buffers.items():
            if buffer.name != name or buffer.space not in capacities:
                self.fail("memory", f"buffer {name} is called {buffer.name} and lies in {buffer.space}")
            end, capacity = buffer.offset_bytes + buffer.bytes, capacities[buffer.space]
            if buffer.offset_bytes < 0 or buffer.bytes < 0 or end > capacity:
                self.fail(
                    "memory",
                    f"buffer {name} takes bytes {buffer.offset_bytes} to {end} of {buffer.space.upper()},"
                    f" which has {capacity}",
                    location=buffer.location,
                    help="make the tiles smaller, or let buffers share bytes that are not needed at the same time",
                )
        if not 0 <= program.register_count <= MAXIMUM_REGISTERS:
            self.fail("registers", f"{program.register_count} registers; a program has 0 to {MAXIMUM_REGISTERS}")
        if not 0 <= program.local_bytes <= LOCAL_STRIDE_BYTES:
            self.fail("memory", f"{program.local_bytes:,} bytes of local memory; a core has {LOCAL_STRIDE_BYTES:,}")
        if program.cores_per_program not in (1, machine.cores_per_cluster):
            self.fail(
                "operands",
                f".cores is {program.cores_per_program}",
                help=f"a program runs on 1 core or on a cluster of {machine.cores_per_cluster}",
            )

    def _types(self, instruction: Instruction) -> None:
        row, machine = instruction.row, self.machine
        if not row.admits(instruction.dtypes):
            self.fail(
                "types", f"{row.name} does not take the types {', '.join(map(str, instruction.dtypes)) or 'none'}"
            )
        for dtype in instruction.dtypes:
            if dtype.name == "bf16" and not machine.has_bf16:
                self.fail("types", f"{machine.name} does not have {dtype}", help="convert to f16 or f32")
        if row.name == "mm" and not machine.mac_per_cycle(instruction.dtypes[0]):
            self.fail("types", f"the tensor unit of {machine.name} does not take {instruction.dtypes[0]}")

    def _operand(self, instruction: Instruction, slot: Slot, operand: Operand) -> None:
        if not isinstance(operand, OPERAND_CLASSES[slot.kind]) and not may_stand(operand, slot):
            self.fail("operands", f"{operand} stands for {slot.name}", help=f"{slot.name} is a {slot.kind.value}")
        match operand:
            case Register():
                self._register(operand)
            case Immediate():
                self._immediate(instruction, slot, operand.value)
            case GlobalAddress():
                self._register(operand.register)
            case Label():
                if not 0 <= self.program.labels.get(operand.name, -1) < len(self.program.instructions):
                    self.fail("labels", f"label {operand.name} stands at no instruction")
            case Forward():
                self.chained.add(len(self.touches))
            case Address():
                pass

    def _register(self, register: Register) -> None:
        if not 0 <= register.index < self.program.register_count:
            self.fail("registers", f"{register} is used, but the program has {self.program.register_count} registers")

    def _immediate(self, instruction: Instruction, slot: Slot, value: int | float) -> None:
        if slot.kind is SlotKind.COUNT and type(value) is int and 0 <= value <= MAXIMUM_COUNT:
            return  # as most are
        dtype = I64 if slot.optional else instruction.dtype_of(slot)
        if isinstance(value, float) != dtype.is_float:
            self.fail("operands", f"{value!r} stands for {slot.name}, which is {dtype}")
        if isinstance(value, float):
            return
        if slot.kind is SlotKind.COUNT:
            limits = 0, MAXIMUM_COUNT
        else:
            limits = self._index_limits(slot) if slot.kind is SlotKind.INDEX else _integer_limits(dtype)
        if not limits[0] <= value <= limits[1]:
            self.fail(
                "index" if slot.kind is SlotKind.INDEX else "operands",
                f"{value} stands for {slot.name}, which takes {limits[0]} to {limits[1]}",
            )

    def _index_limits(self, slot: Slot) -> tuple[int, int]:
        assert self.instruction is not None
        match self.instruction.row.name, slot.name:
            case "param", "index":
                return 0, len(self.program.parameters) - 1
            case "sreg", "index":
                return 0, len(SPECIAL_REGISTERS) - 1
            case _ if slot.is_string:
                return 0, len(self.program.strings) - 1
            case _, "style":
                return 0, len(PRINT_STYLES) - 1
            case _, "queues":
                return 1, 7
            case _, "reverse":
                return 0, 1
            case _:
                return 0, (1 << 31) - 1

    def _address(self, instruction: Instruction, slot: Slot, address: Address) -> Touch | None:
        """Check an address; returns what it touches if that is known and is not nothing."""
        buffer = self.program.buffers.get(address.buffer)
        if buffer is None:
            self.fail("spaces", f"there is no buffer {address.buffer}")
        if buffer.space not in slot.spaces:
            allowed = " or ".join(slot.spaces).upper()
            self.fail("spaces", f"{slot.name} is in {buffer.space.upper()}", help=f"{slot.name} has to be in {allowed}")
        if address.register is not None:
            self._register(address.register)
        over_rows = {"rows", "columns"} <= instruction.row.slot_index.keys() and slot.kind is SlotKind.VECTOR
        if address.mode is not Mode.FULL and not over_rows:
            self.fail("modes", f"{slot.name} is in {address.mode.value} mode", help="write it without row or col")
        if address.register is not None:
            return None
        elements = static_span(instruction, slot)
        width = instruction.dtype_of(slot).bytes
        end = address.offset_bytes + (elements or 0) * width
        if (elements is None or elements) and not 0 <= address.offset_bytes <= end <= buffer.bytes:
            self.fail(
                "window",
                f"{slot.name} is bytes {address.offset_bytes} to {end} of {buffer.name}, which has {buffer.bytes}",
                help="touch fewer elements, or declare a larger buffer",
            )
        if not elements:
            return None
        start = buffer.offset_bytes + address.offset_bytes
        return Touch(slot, address.mode, width, buffer.space, start, start + elements * width)

    def _touches(self, instruction: Instruction) -> list[Touch]:
        """What an instruction touches on the chip, as far as that is known; checks its addresses."""
        row, operands = instruction.row, instruction.operands
        return [
            touch
            for place, _ in row.memory_slots
            if isinstance(operand := operands[place], Address)
            and (touch := self._address(instruction, row.slots[place], operand))
        ]

    def _overlap(self, touches: list[Touch], earlier: Sequence[Touch] = ()) -> None:
        """Check what an instruction writes against all that it and the steps before it in its chain touch."""
        if clash := first_clash(touches, earlier):
            self.fail("overlap", "{} overlaps {}".format(*clash), help="give the result a buffer of its own")

    def _chains(self) -> None:
        labelled = set(self.program.labels.values())
        chain: list[Instruction] = []
        forwarded: DType | None = None
        for index, instruction in enumerate(self.program.instructions):
            if forwarded is None and index not in self.chained:
                continue
            self.instruction = instruction
            placed = zip(instruction.row.slots, instruction.operands, strict=True)
            places = [slot for slot, operand in placed if isinstance(operand, Forward)]
            sources = [slot for slot in places if slot.kind is SlotKind.VECTOR]
            targets = [slot for slot in places if slot.kind is SlotKind.TARGET]
            if bool(sources) != (forwarded is not None):
                self.fail("chain", f"{len(sources)} sources are ~, the instruction before hands on {int(bool(chain))}")
            if places:
                self._chain_step(instruction, chain)
            if forwarded is not None:
                for source in sources:
                    if instruction.dtype_of(source) is not forwarded:
                        self.fail("chain", f"{source.name} is {instruction.dtype_of(source)}, handed on is {forwarded}")
                if index in labelled:
                    self.fail("chain", "a label stands inside the chain")
            chain = [*chain, instruction]
            if targets:
                forwarded = instruction.dtype_of(targets[0])
                continue
            if len(chain) > 1:
                steps = self.touches[index - len(chain) + 1 : index]
                self._overlap(self.touches[index], [touch for touches in steps for touch in touches])
            chain, forwarded = [], None
        if forwarded is not None:
            self.fail("chain", "nothing takes the result")

    def _chain_step(self, instruction: Instruction, before: list[Instruction]) -> None:
        row = instruction.row
        if not row.is_elementwise_or_mov or (row.operation and row.operation.cost_class not in CHAIN_COST_CLASSES):
            self.fail("chain", f"{instruction.row.name} cannot be part of a chain", help="give its operands buffers")
        if len(before) >= MAXIMUM_CHAIN_STEPS:
            self.fail("chain", f"the chain is longer than {MAXIMUM_CHAIN_STEPS} instructions")
        if before and extents(before[0]) != extents(instruction):
            self.fail("chain", "rows and columns differ from those of the instruction before")

    def _end(self) -> None:
        instructions, labels = self.program.instructions, self.program.labels
        if not instructions or instructions[-1].row.name not in ("exit", "br"):
            self.fail("end", "control can leave the end of the program", help="end the program with exit")
        reached: set[int] = set()
        pending = [0]
        while pending:
            index = pending.pop()
            while index not in reached:
                reached.add(index)
                name = instructions[index].row.name
                if name in ("br", "cbr"):
                    target = instructions[index].operand("target")
                    assert isinstance(target, Label)
                    pending.append(labels[target.name])
                if name in ("br", "exit"):
                    break
                index += 1
        if not any(instructions[index].row.name == "exit" for index in reached):
            self.fail("end", "no exit can be reached")


def extents(instruction: Instruction) -> tuple[Operand, ...]:
    """The operands that state how many elements an instruction works on."""
    return tuple(instruction.operand(name) for name in instruction.row.extents)


def static_span(instruction: Instruction, slot: Slot) -> int | None:
    """Elements from the address in a slot to the end of what is touched; None if registers decide.

    Operands in row mode span ``rows`` elements, in column mode ``columns``; 0 if the instruction does nothing.
    """
    text = span_text(slot, instruction.operand(slot.name))
    counts: dict[str, int] = {}
    for name in {*instruction.row.extents, *names_in(text)}:
        operand = instruction.operand(name)
        if not isinstance(operand, Immediate):
            return None
        counts[name] = int(operand.value)
    if any(counts[name] == 0 for name in instruction.row.extents):
        return 0
    return value_of(text, counts)


def span_text(slot: Slot, operand: Operand) -> str:
    """The expression for the span of an operand: that of its slot, or what its mode says."""
    mode = _mode(operand)
    return slot.span if mode is Mode.FULL else "rows" if mode is Mode.ROW else "columns"


def _mode(operand: Operand) -> Mode:
    return operand.mode if isinstance(operand, Address) else Mode.FULL


def _integer_limits(dtype: DType) -> tuple[int, int]:
    if dtype.is_bool:
        return 0, 1
    return -(1 << (dtype.bits - 1)), (1 << dtype.bits) - 1
