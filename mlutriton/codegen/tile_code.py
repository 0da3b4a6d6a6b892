"""Tile code: ISA instructions in structured control flow, over virtual buffers that have no address yet.

Between selection and the final program, code is a list of nodes: instructions, loops and branches, and where the cores
of a cluster run a program together, what they have to do at the same time. Buffers are named and sized but not placed;
``Address`` operands name them. Scalar registers are unlimited and each is written by one
instruction or carried by one loop.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, cast

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.dtypes import I64, DType
from mlutriton.isa.operands import Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE, Access, Queue

ScalarOperand = Register | Immediate


@dataclass(frozen=True)
class RowExtent:
    """How long the rows of a buffer are, which stand one right behind the other.

    Attributes:
        most: elements of a row that is as long as can be, by which all is planned.
        register: elements that a row really has.
    """

    most: int
    register: Register

    # Rows are padded to a power of two: their length is as likely as any from half of it on.
    ORDINARY_SHARE: ClassVar[float] = 0.75


@dataclass(eq=False)
class TileBuffer:
    """An on-chip buffer before placement.

    Attributes:
        name: unique in the kernel.
        space: ``nram`` or ``wram``, or ``sram`` for what the cores of a cluster share.
        bytes: size; with ``phases`` 2 the buffer holds two of these.
        location: the source line it serves.
        phases: 2 for ping-pong buffers of a pipelined loop.
        alternative: of code that runs in the place of the other, so that it may lie where that has its buffers.
        extent: of its rows, if they may be shorter than they are planned.
    """

    name: str
    space: str
    bytes: int
    location: Location = UNKNOWN_LOCATION
    phases: int = 1
    alternative: bool = False
    extent: RowExtent | None = None


@dataclass(eq=False)
class Loop:
    """``for index = start; index < end; index += step`` with carried scalar registers.

    Attributes:
        dtype: type of the index.
        carried: registers with their initial operands.
        yielded: for each carried register the operand it takes on at the end of an iteration.
        stages: wanted depth of the software pipeline (1 = none, 0 = the default).
        independent: iterations are programs of the grid, which may run in any order.
        line: if not None, the quotient of the index and this number says on which line of the grid a program lies, the
            remainder where there.
    """

    dtype: DType
    index: Register
    start: ScalarOperand
    end: ScalarOperand
    step: ScalarOperand
    carried: list[tuple[Register, ScalarOperand]]
    body: list[Node] = field(default_factory=list["Node"])
    yielded: list[ScalarOperand] = field(default_factory=list[ScalarOperand])
    stages: int = 1
    independent: bool = False
    line: ScalarOperand | None = None
    location: Location = UNKNOWN_LOCATION


@dataclass(eq=False)
class While:
    """``head`` runs, then ``body`` while ``condition`` is 1; carried registers as for loops."""

    condition: ScalarOperand
    carried: list[tuple[Register, ScalarOperand]]
    head: list[Node] = field(default_factory=list["Node"])
    body: list[Node] = field(default_factory=list["Node"])
    yielded: list[ScalarOperand] = field(default_factory=list[ScalarOperand])
    location: Location = UNKNOWN_LOCATION


@dataclass(eq=False)
class Branch:
    """``then`` if the condition is 1, else ``otherwise``; results are registers that either side sets by ``mov``."""

    condition: ScalarOperand
    then: list[Node] = field(default_factory=list["Node"])
    otherwise: list[Node] = field(default_factory=list["Node"])
    location: Location = UNKNOWN_LOCATION


@dataclass(eq=False)
class Sharing:
    """Each core brings its part of a tile to SRAM (``load``); when all have, each takes what it needs (``take``)."""

    load: list[Node] = field(default_factory=list["Node"])
    take: list[Node] = field(default_factory=list["Node"])
    location: Location = UNKNOWN_LOCATION


@dataclass(eq=False)
class Ordering:
    """The cores of a cluster wait for each other's accesses to global memory.

    Attributes:
        unless_disjoint: not needed if the arrays of the launch share no bytes.
    """

    unless_disjoint: bool
    location: Location = UNKNOWN_LOCATION


Node = Instruction | Loop | While | Branch | Sharing | Ordering
_INSTRUCTIONS_ALONE = frozenset({Instruction})


@dataclass
class TileCode:
    """A kernel as tile code.

    Attributes:
        name: the kernel's name.
        nodes: the code.
        buffers: by name.
        register_count: registers used so far.
        strings: texts of prints and assertions.
        pointer_parameters: indices of the parameters that are pointers.
        local_areas: registers that hold the beginning of an area of local memory, with its offset.
        local_bytes: where the last area ends.
        phases: of registers in addresses of ping-pong buffers, the register with the offset of the phase they lie in.
        greatest: of registers with counts, what these are at most, where they mostly are that much.
        follows_addresses: numbers may be addresses; otherwise what is added to a pointer counts elements of its array.
        arrays_apart: it runs only where the arrays of the launch share no bytes.
        has_pieces: it takes programs in pieces.
        loads_across: a task loads what its next program begins with while the one before ends.
    """

    name: str
    nodes: list[Node]
    buffers: dict[str, TileBuffer]
    register_count: int
    strings: list[str]
    pointer_parameters: frozenset[int]
    local_areas: dict[Register, int] = field(default_factory=dict[Register, int])
    local_bytes: int = 0
    phases: dict[Register, Register] = field(default_factory=dict[Register, Register])
    greatest: dict[Register, int] = field(default_factory=dict[Register, int])
    follows_addresses: bool = True
    arrays_apart: bool = False
    has_pieces: bool = False
    loads_across: bool = False
    _named: set[str] = field(default_factory=set[str])

    def buffer_name(self, begin: str) -> str:
        """A name for a buffer that none has or has had: passes give buffers up, and take them back."""
        number = len(self.buffers)
        while (name := f"{begin}{number}") in self._named:
            number += 1
        self._named.add(name)
        return name

    def register(self) -> Register:
        """A register not used before."""
        self.register_count += 1
        return Register(self.register_count - 1)

    def keep_phase(self, offset: Register, start: ScalarOperand) -> None:
        """Note that an offset lies in the phase of another one, from which it counts, if that is in a known phase."""
        if isinstance(start, Register) and start in self.phases:
            self.phases[offset] = self.phases[start]


def children(node: Node) -> tuple[list[Node], ...]:
    """The nested node lists of a node, in the order they run."""
    if isinstance(node, Instruction):  # as most are
        return ()
    match node:
        case Loop():
            return (node.body,)
        case While():
            return (node.head, node.body)
        case Branch():
            return (node.then, node.otherwise)
        case Sharing():
            return (node.load, node.take)
        case Ordering():
            return ()


def instructions(nodes: Sequence[Node]) -> list[Instruction]:
    """Every instruction of a node list, nested ones included, in order."""
    if _INSTRUCTIONS_ALONE.issuperset(map(type, nodes)):  # as mostly, and quickly told
        return cast("list[Instruction]", [*nodes])
    found: list[Instruction] = []
    for node in nodes:
        if isinstance(node, Instruction):
            found.append(node)
        else:
            for nested in children(node):
                found += instructions(nested)
    return found


def steps(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """The nodes of a list one by one, those of a fused chain together."""
    chain: list[Node] = []
    for node in nodes:
        chain.append(node)
        if not (isinstance(node, Instruction) and node.hands_on):
            yield chain
            chain = []


def all_steps(nodes: Sequence[Node]) -> Iterator[list[Instruction]]:
    """Every instruction or chain of a node list, nested ones included, in order."""
    for step in steps(nodes):
        found = [node for node in step if isinstance(node, Instruction)]
        if found:
            yield found
        for node in step:
            for nested in children(node):
                yield from all_steps(nested)


# Of the ways to touch bytes, those that change them and those that depend on what they were.
WRITING = (Access.WRITE, Access.READ_WRITE)
READING = (Access.READ, Access.READ_WRITE)


def buffers_of(nodes: Sequence[Node], *ways: Access) -> set[str]:
    """Names of the buffers that nodes touch, nested ones included: in one of these ways, in any if none is given."""
    every = instructions(nodes)
    if not ways:
        return {name for each in every for name, _ in each.buffers}
    return {name for each in every for name, access in each.buffers if access in ways}


def touch_counts(nodes: Sequence[Node]) -> Counter[str]:
    """How many operands name each buffer."""
    return Counter([name for each in instructions(nodes) for name, _ in each.buffers])


def only_sets_register(instruction: Instruction) -> bool:
    """True if all that an instruction does is to set a register by arithmetic."""
    is_scalar = instruction.row.queue is Queue.SCALAR and not instruction.row.trace
    return is_scalar and not any(instruction.accesses) and instruction.written_register is not None


def registers_set(nodes: Sequence[Node]) -> set[Register]:
    """Every register that nodes set: by instructions, as index of a loop, or carried from one iteration to the next."""
    found: set[Register] = set()
    for node in nodes:
        if isinstance(node, Instruction):
            if (written := node.written_register) is not None:
                found.add(written)
            continue
        if isinstance(node, Loop):
            found.add(node.index)
        if isinstance(node, Loop | While):
            found.update(register for register, _ in node.carried)
        for nested in children(node):
            found |= registers_set(nested)
    return found


@dataclass(frozen=True)
class Part:
    """One of many equal parts of a buffer.

    Attributes:
        bytes: that it has if rows are as long as can be.
        extent: of the rows of which the part has a whole number; None if there is nothing to it.
        is_collected: the buffer has the parts of several blocks of iterations.
    """

    bytes: int
    extent: RowExtent | None = None
    is_collected: bool = False

    def size(self, emitter: Emitter) -> ScalarOperand:
        """The bytes from the begin of a part to that of the next."""
        if self.extent is None:
            return Immediate(self.bytes)
        return emitter.integer("mul", self.extent.register, Immediate(self.bytes // self.extent.most))


# What is computed at once of integers that are known.
_FOLDED: Mapping[str, Callable[[int, int], int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "smin": min, "smax": max,
}  # fmt: skip


def serve(number: Register, location: Location) -> Instruction:
    """The instruction that says which program of the grid is served from there on."""
    return Instruction(TABLE["serve"], (), (number,), location)


def sync(queues: int, location: Location) -> Instruction:
    """The instruction that waits for queues, as a sum of bits."""
    return Instruction(TABLE["sync"], (), (Immediate(queues),), location)


class Emitter:
    """Appends instructions to the current node list; folds scalar arithmetic on immediates."""

    def __init__(self, code: TileCode, location: Location = UNKNOWN_LOCATION) -> None:
        self.code, self.nodes, self.location = code, code.nodes, location

    @contextmanager
    def into(self, nodes: list[Node]) -> Generator[list[Node]]:
        """Append to another list meanwhile."""
        outside, self.nodes = self.nodes, nodes
        yield nodes
        self.nodes = outside

    def emit(self, name: str, dtypes: Sequence[DType], operands: Sequence[Operand]) -> None:
        """Append one instruction."""
        self.nodes.append(Instruction(TABLE[name], tuple(dtypes), tuple(operands), self.location))

    def scalar(self, name: str, dtypes: Sequence[DType], *operands: Operand) -> Register:
        """Append an instruction with a fresh result register."""
        result = self.code.register()
        self.emit(name, dtypes, (result, *operands))
        return result

    def mov(self, dtype: DType, target: Register, source: ScalarOperand) -> None:
        """Set a register."""
        self.emit("mov", (dtype,), (target, source))

    def integer(self, name: str, a: ScalarOperand, b: ScalarOperand, dtype: DType = I64) -> ScalarOperand:
        """Integer arithmetic with the cheap identities folded."""
        x = a.value if isinstance(a, Immediate) else None
        y = b.value if isinstance(b, Immediate) else None
        if isinstance(x, int) and isinstance(y, int) and name in _FOLDED:
            return Immediate(_FOLDED[name](x, y))
        match name:
            case "add" | "sub" if y == 0:
                return a
            case "add" if x == 0:
                return b
            case "mul" if y == 1:
                return a
            case "mul" if x == 1:
                return b
            case "mul" if x == 0 or y == 0:
                return Immediate(0)
            case _:
                return self.scalar(name, (dtype,), a, b)

    def buffer(self, hint: str, dtype: DType, count: int, space: str = "nram") -> TileBuffer:
        """A new buffer of ``count`` elements."""
        # With a dot where the number could be taken for part of the hint, or the whole for a register.
        dot = "." if hint == "r" or hint[-1:].isdigit() else ""
        name = self.code.buffer_name(f"{hint or 't'}{dot}")
        made = TileBuffer(name, space, max(1, count * dtype.bytes), self.location)
        self.code.buffers[name] = made
        return made


class LoopEmitter(Emitter):
    """An emitter in the place of a loop, with arithmetic of the type of its index as well."""

    def __init__(self, code: TileCode, loop: Loop) -> None:
        super().__init__(code, loop.location)
        self.index_dtype = loop.dtype

    def index_scalar(self, name: str, *operands: Operand) -> Register:
        """Like :meth:`scalar`, in the type of the index."""
        return self.scalar(name, (self.index_dtype,), *operands)

    def index_integer(self, name: str, a: ScalarOperand, b: ScalarOperand) -> ScalarOperand:
        """Like :meth:`integer`, in the type of the index."""
        return self.integer(name, a, b, self.index_dtype)
