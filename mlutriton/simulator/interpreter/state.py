"""What the interpreter knows while it runs: the state of a core, and the operands of the current instruction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mlutriton.diagnostics import KernelFault
from mlutriton.dtypes import I1, DType, signed
from mlutriton.isa.expression import value_of
from mlutriton.isa.legality import Touch, span_text
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import (
    ABSENT,
    MAXIMUM_COUNT,
    Address,
    Forward,
    GlobalAddress,
    Immediate,
    Label,
    Mode,
    Operand,
    Register,
)
from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import SYNC_COMPUTE, SYNC_IO, SYNC_MOVE, Access, Queue, Row, SlotKind
from mlutriton.simulator.interpreter.on_chip_memory import OnChipMemory, Places, RaceError, UninitializedError
from mlutriton.simulator.interpreter.trace_writer import TraceWriter
from mlutriton.simulator.memory import GlobalMemory
from mlutriton.simulator.prints import Print
from mlutriton.simulator.touched_memory import TouchedMemory

Array = NDArray[Any]
MASK64 = (1 << 64) - 1
SYNC_MASKS = {Queue.IO: SYNC_IO, Queue.MOVE: SYNC_MOVE, Queue.COMPUTE: SYNC_COMPUTE}


# What to do about faults of which nothing more is known than their code.
FAULT_HELP = {
    "E0304": "keep addresses and counts within the buffer, and the indices of a gather within its source",
    "E0305": "the condition is the kernel's own: pass what it asks for, or correct it",
    "E0306": "let every core of the program come to every barrier",
    "E0310": "see that every loop ends",
}


@dataclass(frozen=True, slots=True)
class Launch:
    """What all cores of a launch share.

    Attributes:
        instruction_work: work done, [len(InstructionWork), instructions], but for what ``executions`` counts.
        executions: how often each instruction has been run.
        issue_cycles: cycles of the SCALAR queue that each instruction takes.
    """

    program: Program
    grid: tuple[int, int, int]
    parameters: tuple[int, ...]
    memory: GlobalMemory
    machine: Machine
    instruction_work: NDArray[np.int64]
    executions: list[int]
    issue_cycles: list[int]
    touched: TouchedMemory
    tasks: int

    def program_id(self, number: int) -> tuple[int, int, int]:
        """The position of a program in the grid."""
        x, y, _ = self.grid
        return number % x, number // x % y, number // (x * y)


class Core:
    """One core that runs one task."""

    def __init__(
        self,
        launch: Launch,
        task: int,
        number: int,
        nram: OnChipMemory,
        wram: OnChipMemory,
        sram: OnChipMemory,
    ) -> None:
        self.launch = launch
        self.task = self.served = task
        self.number = number
        self.memories = {"nram": nram, "wram": wram, "sram": sram}
        self.memory = launch.memory
        if launch.program.local_bytes:
            self.memory = launch.memory.with_local(np.zeros(launch.program.local_bytes, np.uint8))
        self.registers = [0] * launch.program.register_count
        self.position = 0
        self.instruction = launch.program.instructions[0]
        self.trace = TraceWriter()
        self.prints: list[Print] = []
        # What the last pause said: whether nothing has changed, and how often the program has looked.
        self.pause: tuple[bool, int] = (False, 0)
        # What a step of a chain hands on; occupancy of the chain so far, and what its steps touch.
        self.forwarded: Array | None = None
        self.chain_cycles = 0
        self.chain: list[Touch] = []
        # What the last instruction of the COMPUTE queue wrote, and whether it was an mm.
        self.written: list[Touch] = []
        self.wrote_product = False

    def forget(self) -> None:
        """Give back on-chip and local memory once the program is over; its trace and prints stay."""
        self.memories.clear()
        self.memory = self.launch.memory

    def fail(self, code: str, fact: str, *, note: str = "", help: str = "") -> NoReturn:
        """Stop with a fault at the current instruction."""
        place, help = self.instruction.location, help or FAULT_HELP.get(code, "")
        raise self._here(KernelFault(code, fact, location=place, context=self.context, note=self.note(note), help=help))

    def _here(self, fault: KernelFault) -> KernelFault:
        fault.program = self.launch.program_id(self.served)
        return fault

    @property
    def context(self) -> str:
        """Where this is, for messages."""
        core = f", core {self.number} of its cluster" if self.launch.program.cores_per_program > 1 else ""
        return f"{self.launch.program.name}, program {self.launch.program_id(self.served)}{core}"

    def note(self, text: str = "") -> str:
        """The current instruction, for messages, and more."""
        return "\n".join(filter(None, [text, f"instruction {self.position - 1}: {self.instruction}"]))

    def global_bytes(self, address: int, count: int, *, write: bool) -> NDArray[np.uint8]:
        """Bytes of GDRAM, checked."""
        view = self.memory.view(address, count, write=write)
        if view is None:
            self.miss(address, count)
        return view

    def miss(self, address: int, count: int) -> NoReturn:
        """Stop with the fault of the current instruction at bytes of GDRAM that it may not touch."""
        action, place = global_action(self.instruction.row), self.instruction.location
        note, context = self.note(), self.context
        raise self._here(self.memory.fault(address, count, action, location=place, context=context, note=note))

    def item_bytes(self, address: int, count: int, *, write: bool) -> NDArray[np.uint8]:
        """Bytes of GDRAM that an item loads or stores, checked and marked."""
        found = self.global_bytes(address, count, write=write)
        self.launch.touched.mark(self.memory.device_address(address), count, write=write)
        return found

    def read_global(self, address: int, dtype: DType) -> Array:
        """One element of GDRAM."""
        return from_bytes(self.global_bytes(address, dtype.bytes, write=False).copy(), dtype)[0]

    def write_global(self, address: int, value: Array, dtype: DType) -> None:
        """Set one element of GDRAM."""
        self.global_bytes(address, dtype.bytes, write=True)[:] = to_bytes(value, dtype)

    def branch(self, operand: Operand) -> None:
        """Go on at a label."""
        assert isinstance(operand, Label)
        self.position = self.launch.program.labels[operand.name]


class Step:
    """One execution of an instruction: its operands' values and what it touches.

    Attributes:
        counts: values of the count slots, from 0 to ``MAXIMUM_COUNT``.
        touches: ranges of on-chip memory, in the order of the slots.
    """

    def __init__(self, core: Core, instruction: Instruction) -> None:
        self.core = core
        self.instruction = instruction
        self.counts: dict[str, int] = {}
        for place, name in instruction.row.count_slots:
            self.counts[name] = min(max(0, self._integer(instruction.operands[place])), MAXIMUM_COUNT)
        self.touches: list[Touch] = []

    @property
    def is_idle(self) -> bool:
        """True if an extent is 0, so that nothing happens."""
        return not all(map(self.counts.__getitem__, self.instruction.row.extents))

    def _integer(self, operand: Operand) -> int:
        match operand:
            case Register(index):
                return signed(self.core.registers[index])
            case Immediate(value):
                return int(value)
            case _:
                raise AssertionError(operand)

    def dtype(self, name: str) -> DType:
        """The element type of a slot."""
        return self.instruction.dtype_of(self.instruction.row.slot(name))

    def integer(self, name: str) -> int:
        """A scalar operand as a signed 64-bit integer."""
        return self._integer(self.instruction.operand(name))

    def scalar(self, name: str) -> Array:
        """A scalar operand as an array without dimensions."""
        return element(self.bits(self.instruction.row.slot_index[name]), self.dtype(name))

    def bits(self, place: int) -> int:
        """The bits of the scalar operand of a slot."""
        operand, dtype = self.instruction.operands[place], self.instruction.dtype_of(self.instruction.row.slots[place])
        if isinstance(operand, Register):
            return self.core.registers[operand.index] & ((1 << 8 * dtype.bytes) - 1)
        assert isinstance(operand, Immediate)
        return _immediate_bits(operand, dtype)

    def set_result(self, value: Array, name: str = "rd") -> None:
        """Write a scalar register."""
        self.set_bits(element_bits(value, self.dtype(name)), name)

    def set_bits(self, bits: int, name: str = "rd") -> None:
        """Write the bits of a scalar register."""
        operand = self.instruction.operand(name)
        assert isinstance(operand, Register)
        self.core.registers[operand.index] = bits

    def is_absent(self, name: str) -> bool:
        """True if an optional operand is not there."""
        return self.instruction.operand(name) == ABSENT

    def global_address(self, name: str) -> int:
        """A host address."""
        operand = self.instruction.operand(name)
        assert isinstance(operand, GlobalAddress)
        return (self.core.registers[operand.register.index] + operand.offset_bytes) & MASK64

    # ---- on-chip operands -------------------------------------------------------------------------------------------

    def resolve(self) -> None:
        """Find what the on-chip operands touch.

        Raises:
            KernelFault: E0304 if a range leaves its buffer.
        """
        for place, _ in self.instruction.row.memory_slots:
            slot, operand = self.instruction.row.slots[place], self.instruction.operands[place]
            if not isinstance(operand, Address):
                continue
            elements = value_of(span_text(slot, operand), self.counts)
            width = self.instruction.dtype_of(slot).bytes
            buffer = self.core.launch.program.buffers[operand.buffer]
            offset = operand.offset_bytes + (self._integer(operand.register) if operand.register else 0)
            if not 0 <= offset <= offset + elements * width <= buffer.bytes:
                self.core.fail(
                    "E0304",
                    f"{slot.name} is bytes {offset} to {offset + elements * width} of buffer {buffer.name},"
                    f" which has {buffer.bytes}",
                    note=f"the buffer serves {buffer.location}" if buffer.location.line else "",
                )
            start = buffer.offset_bytes + offset
            self.touches.append(Touch(slot, operand.mode, width, buffer.space, start, start + elements * width))

    def touch(self, name: str) -> Touch:
        """What an operand touches."""
        return next(touch for touch in self.touches if touch.slot.name == name)

    def _places(self, touch: Touch, offsets: NDArray[np.int64] | None) -> Places:
        if offsets is None:
            return slice(touch.start, touch.end)
        return (touch.start + offsets.reshape(-1, 1) * touch.width + np.arange(touch.width)).reshape(-1)

    def read(self, name: str, *shape: int, offsets: NDArray[np.int64] | None = None) -> Array:
        """Elements of an operand: all that it spans, or those at ``offsets`` from its address."""
        touch = self.touch(name)
        core = self.core
        try:
            data = core.memories[touch.space].read(self._places(touch, offsets), self.instruction.row.queue)
        except UninitializedError as trouble:
            core.fail(
                "E0302",
                f"{name} reads byte {trouble.args[0]} of {touch.space.upper()}, which nothing has written",
                help="load or fill all of the buffer before it is read",
            )
        except RaceError as trouble:
            self._fail_race(name, touch, trouble)
        return from_bytes(data, self.dtype(name)).reshape(shape or (-1,))

    def write(self, name: str, values: Array, *, offsets: NDArray[np.int64] | None = None) -> None:
        """Set elements of an operand, likewise."""
        touch = self.touch(name)
        data = to_bytes(values, self.dtype(name))
        try:
            self.core.memories[touch.space].write(self._places(touch, offsets), data, self.instruction.row.queue)
        except RaceError as trouble:
            self._fail_race(name, touch, trouble)

    def _fail_race(self, name: str, touch: Touch, race: RaceError) -> NoReturn:
        place, queue = race.args
        verb = "writes" if touch.writes else "reads"
        self.core.fail(
            "E0303",
            f"{name} {verb} byte {place} of {touch.space.upper()}, on which the {queue.value} queue may be working",
            help=f"put 'sync {SYNC_MASKS[queue]}' before it",
        )

    def vector(self, name: str, rows: int, columns: int) -> Array:
        """A vector operand, broadcastable to rows x columns."""
        operand = self.instruction.operand(name)
        match operand:
            case Forward():
                assert self.core.forwarded is not None
                return self.core.forwarded
            case Address(mode=Mode.FULL):
                return self.read(name, rows, columns)
            case Address(mode=Mode.ROW):
                return self.read(name, rows, 1)
            case Address():
                return self.read(name, 1, columns)
            case _:
                return self.scalar(name)

    def list(self, name: str, count: int | None = None) -> Array:
        """A vector operand of so many elements, ``n`` if nothing is said."""
        count = self.counts["n"] if count is None else count
        return np.broadcast_to(self.vector(name, 1, count), (1, count))[0]

    def set_vector(self, values: Array, rows: int, columns: int) -> None:
        """Write the target of an element-wise instruction."""
        values = np.broadcast_to(values, (rows, columns))
        if isinstance(self.instruction.operand("dst"), Forward):
            self.core.forwarded = values
        else:
            self.write("dst", values)


def global_action(row: Row) -> str:
    """What an instruction does to GDRAM, for messages."""
    if row.trace.startswith("ATOMIC"):
        return "atomic"
    writes = any(slot.kind is SlotKind.GLOBAL and slot.access is not Access.READ for slot in row.slots)
    return "store" if writes else "load"


def from_bytes(data: NDArray[np.uint8], dtype: DType) -> Array:
    """Elements from their bytes; an ``i1`` is true where its byte is not 0."""
    return data != 0 if dtype is I1 else data.view(dtype.numpy)


def to_bytes(values: Array, dtype: DType) -> NDArray[np.uint8]:
    """The bytes of elements."""
    return np.frombuffer(np.ascontiguousarray(values, dtype.numpy).tobytes(), np.uint8)


def immediate(value: int | float, dtype: DType) -> Array:
    """An immediate as an element: rounded to nearest even, or wrapped."""
    with np.errstate(all="ignore"):
        if dtype.is_float:
            return np.asarray(value, np.float64).astype(dtype.numpy)
        data = (int(value) & ((1 << dtype.bits) - 1)).to_bytes(dtype.bytes, "little")
        return from_bytes(np.frombuffer(data, np.uint8), dtype)[0]


def element(bits: int, dtype: DType) -> Array:
    """An element from its bits, as an array without dimensions."""
    return from_bytes(np.frombuffer(bits.to_bytes(dtype.bytes, "little"), np.uint8), dtype)[0]


def element_bits(value: Array, dtype: DType) -> int:
    """The bits of an element."""
    return int.from_bytes(to_bytes(value, dtype).tobytes(), "little")


@lru_cache(maxsize=4096)
def _immediate_bits(operand: Immediate, dtype: DType) -> int:
    return element_bits(immediate(operand.value, dtype), dtype)
