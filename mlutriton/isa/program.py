"""A program of the virtual ISA: what the compiler makes, a file holds and the simulator runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.dtypes import I1, I32, I64, DType
from mlutriton.immutables import remembered
from mlutriton.isa.operands import (
    ABSENT,
    MEMORY_OPERANDS,
    Address,
    Forward,
    GlobalAddress,
    Immediate,
    Label,
    Operand,
    Register,
)
from mlutriton.isa.table import BOOL, INT32, INT64, SPECIAL_REGISTERS, Access, Row, Slot, SlotKind


@dataclass(frozen=True, slots=True)
class Buffer:
    """A named window of an on-chip memory; windows may overlap where their lifetimes do not.

    Attributes:
        name: as written in assembly.
        space: ``nram``, ``wram`` or ``sram``.
        offset_bytes: start of the window in its memory.
        bytes: size of the window.
        location: the kernel line that the buffer serves, for the bill in memory errors.
    """

    name: str
    space: str
    offset_bytes: int
    bytes: int
    location: Location = UNKNOWN_LOCATION


@dataclass(frozen=True, slots=True)
class Parameter:
    """A kernel parameter; ``pointer`` parameters arrive as 64-bit GDRAM byte addresses of ``dtype`` elements."""

    name: str
    dtype: DType
    pointer: bool = False


# What ends a block; a cluster program is left at a barrier, and entered again behind it.
_ENDS_BLOCK = ("br", "cbr", "exit", "barrier.cluster")

# In the metadata of a program that was to run on the cores of a cluster: why it runs on one.
ONE_CORE_REASON = "one_core_reason"

# What may stand in a slot of each kind; an ``optional`` slot also takes the immediate 0.
OPERAND_CLASSES: dict[SlotKind, tuple[type[Operand], ...]] = {
    SlotKind.RESULT: (Register,),
    SlotKind.SCALAR: (Register, Immediate),
    SlotKind.COUNT: (Register, Immediate),
    SlotKind.VECTOR: (Address, Register, Immediate, Forward),
    SlotKind.TARGET: (Address, Forward),
    SlotKind.ON_CHIP: (Address,),
    SlotKind.GLOBAL: (GlobalAddress,),
    SlotKind.LABEL: (Label,),
    SlotKind.INDEX: (Immediate,),
}
assert OPERAND_CLASSES.keys() == set(SlotKind)


def may_stand(operand: Operand, slot: Slot) -> bool:
    """True if an operand of this class may stand in the slot."""
    return isinstance(operand, OPERAND_CLASSES[slot.kind]) or (slot.optional and operand == ABSENT)


_FIXED_DTYPES = {INT64: I64, INT32: I32, BOOL: I1}


def slot_dtype(slot: Slot, dtypes: tuple[DType, ...]) -> DType:
    """The element type of a slot in an instruction with these suffixes."""
    return dtypes[slot.type] if slot.type >= 0 else _FIXED_DTYPES[slot.type]


@dataclass(frozen=True)
class Instruction:
    """One instruction: a table row with element types and operands, in the order of the row's slots.

    Compilers ask the same of an instruction again and again, so that what is asked the most is found once.
    """

    row: Row
    dtypes: tuple[DType, ...]
    operands: tuple[Operand, ...]
    location: Location = UNKNOWN_LOCATION

    @property
    def mnemonic(self) -> str:
        """Row name and type suffixes, e.g. ``v.add.f32``."""
        return ".".join([self.row.name, *(dtype.name for dtype in self.dtypes)])

    def dtype_of(self, slot: Slot) -> DType:
        """The element type of what stands in a slot."""
        return slot_dtype(slot, self.dtypes)

    def operand(self, slot_name: str) -> Operand:
        """The operand that stands in a named slot."""
        return self.operands[self.row.slot_index[slot_name]]

    def taking(self, operands: Iterable[Operand]) -> Instruction:
        """The same instruction with other operands."""
        return Instruction(self.row, self.dtypes, tuple(operands), self.location)

    @remembered
    def accesses(self) -> tuple[tuple[Address | GlobalAddress, Access], ...]:
        """The memory operands with what happens to their bytes."""
        operands, slots = self.operands, self.row.memory_slots
        return tuple(
            [(one, access) for place, access in slots if isinstance(one := operands[place], MEMORY_OPERANDS)]
            if slots
            else ()
        )

    @remembered
    def buffers(self) -> tuple[tuple[str, Access], ...]:
        """The names of the buffers that its operands are in, with what happens to their bytes."""
        if not self.row.memory_slots:
            return ()
        return tuple([(one.buffer, access) for one, access in self.accesses if isinstance(one, Address)])

    @remembered
    def known_counts(self) -> Mapping[str, int]:
        """The counts that are immediates, by the names of their slots."""
        operands = self.operands
        return {
            name: int(operand.value)
            for place, name in self.row.count_slots
            if isinstance(operand := operands[place], Immediate)
        }

    @remembered
    def registers_read(self) -> tuple[Register, ...]:
        """Every scalar register that is read, addresses included."""
        found: list[Register] = []
        for operand in self.operands[1:] if self.row.has_result else self.operands:
            if isinstance(operand, Register):
                found.append(operand)
            elif isinstance(operand, MEMORY_OPERANDS) and operand.register is not None:
                found.append(operand.register)
        return tuple(found)

    @remembered
    def hands_on(self) -> bool:
        """Whether its result goes straight to the instruction behind it, as in a fused chain."""
        return bool(self.operands) and isinstance(self.operands[0], Forward)

    @remembered
    def written_register(self) -> Register | None:
        """The scalar register that is set, if one is."""
        if not self.row.has_result:
            return None
        operand = self.operands[0]
        assert isinstance(operand, Register)
        return operand

    def __str__(self) -> str:
        text = ", ".join(str(operand) for operand in self.operands)
        return f"{self.mnemonic} {text}".rstrip()


FOLLOWS_ADDRESSES = "follows_addresses"
"""The fact of a program that it makes pointers of integers: what it may touch depends on the values it is passed."""

WRITES = "writes"
"""The fact of a program through which of its parameters it writes, by number; without it, it may be any."""

MULTIPLES = "multiples"
"""The fact of a program which of its parameters, by number, it takes to be multiples, and of what, in pairs."""

LOADS_FOR_STORES = "loads_for_stores"
"""The fact of a program that it loads what a store leaves as it is, by instructions that stand where the store does."""

VERSIONS = "versions"
"""The fact of a program which of its labels begin versions of it: of two, a launch takes one in all of its programs."""


@dataclass(frozen=True)
class Program:
    """A whole program for one core (every core of a cluster runs the same text).

    Attributes:
        name: the kernel's name.
        isa: the ISA number it was made for (592); decides legality of types.
        parameters: in launch order.
        buffers: on-chip windows by name.
        instructions: in order; control leaves only through ``exit``.
        labels: label name to instruction index (may equal ``len(instructions)`` only if unreachable).
        local_bytes: local memory, which is private DRAM of a core; ``local_memory`` is the address of its first byte.
        cores_per_program: 1 for Block tasks, the cluster size for Union1 tasks.
        register_count: scalar registers used are ``r0`` to ``r<register_count - 1>``.
        strings: texts of ``print`` and ``assert``, by index.
        metadata: free-form JSON-able facts of the producer (source file, options).
    """

    name: str
    isa: int
    parameters: tuple[Parameter, ...]
    buffers: Mapping[str, Buffer]
    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]
    register_count: int
    cores_per_program: int = 1
    local_bytes: int = 0
    strings: tuple[str, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])

    @remembered
    def is_resident(self) -> bool:
        """True if a task serves program after program itself: its text asks how many tasks there are."""
        index = Immediate(SPECIAL_REGISTERS.index("tasks"))
        return any(each.row.name == "sreg" and each.operand("index") == index for each in self.instructions)

    @remembered
    def legal_machines(self) -> set[str]:
        """Content hashes of machines on which the program is known to be legal; what checks it adds to them."""
        return set()

    @remembered
    def block_starts(self) -> tuple[int, ...]:
        """For each instruction the first one of its block: all of a block are executed equally often."""
        leaders = {
            0,
            *self.labels.values(),
            *(i + 1 for i, each in enumerate(self.instructions) if each.row.name in _ENDS_BLOCK),
        }
        starts: list[int] = []
        for index in range(len(self.instructions)):
            starts.append(index if index in leaders else starts[-1])
        return tuple(starts)

    def task_count(self, programs: int, cores: int) -> int:
        """Tasks of a launch of so many programs on so many cores.

        One a program; of a resident program as many as run at once at most.
        """
        return min(programs, cores // self.cores_per_program) if self.is_resident else programs

    def memory_used_bytes(self, space: str) -> int:
        """High-water mark of an on-chip memory."""
        return max((b.offset_bytes + b.bytes for b in self.buffers.values() if b.space == space), default=0)
