"""What programs of one loop store, a little in each iteration of the next program.

A queue can only be waited for as a whole. So where programs of a task are one loop, the store of a large result holds
up all that is loaded behind it, for the time of several iterations. Instead, the rows of the result are stored in as
many parts as a program has iterations: a part in each iteration of the program that comes next, which makes its own
result in another place meanwhile. That of the last program is stored behind the loop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mlutriton.codegen.tile_code import (
    Branch,
    Emitter,
    Loop,
    Node,
    ScalarOperand,
    TileCode,
    instructions,
    registers_set,
    serve,
)
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction


class Spread(Enum):
    """How what a program stores is spread over the iterations of the next one."""

    TWO_PLACES = auto()  # which makes its own result in another place, by turns
    ONE_PLACE = auto()  # which makes its own result when all is stored
    NONE = auto()


@dataclass(frozen=True)
class PartedStore:
    """The store of a result, a few rows at a time.

    Attributes:
        source: where the result is.
        bytes: of the result.
        rows: that it has at most.
        row_bytes: of a row there.
        element_bytes: of an element.
        places: registers with the offsets of the places where the present program makes its result, and where that of
            the one before is; None if there is one place alone.
    """

    source: Address
    bytes: int
    rows: int
    row_bytes: int
    element_bytes: int
    places: tuple[Register, Register] | None

    @property
    def phases(self) -> dict[str, Register]:
        """Where a program makes its result."""
        return {self.source.buffer: self.places[0]} if self.places else {}

    def height(self, emitter: Emitter, steps: ScalarOperand) -> ScalarOperand:
        """Rows of a part, if there are as many parts as steps."""
        steps = emitter.integer("smax", steps, Immediate(1))
        return emitter.integer("sdiv", emitter.integer("add", steps, Immediate(self.rows - 1)), steps)


def parted_store(code: TileCode, behind: Sequence[Node], totals: Collection[str], spread: Spread) -> PartedStore | None:
    """The store behind the loop of a program in parts, if it is the only one.

    Args:
        code: its buffer may get a second place.
        behind: what follows the loop.
        totals: buffers that a program writes until its loop has ended, which cannot do with one place.
        spread: how it is wanted.
    """
    stores = [each for each in instructions(behind) if each.row.trace == "STORE"]
    if len(stores) != 1 or stores[0].row.name != "dma.store":
        return None
    node = stores[0]
    source, n1, n2, local1 = (node.operand(name) for name in ("src", "n1", "n2", "local1"))
    if not isinstance(source, Address) or not source.is_at_begin or n2 != Immediate(1):
        return None
    if n1 == Immediate(1) or not isinstance(local1, Immediate) or not int(local1.value):
        return None
    buffer, element_bytes = code.buffers[source.buffer], node.dtypes[0].bytes
    row_bytes = int(local1.value) * element_bytes
    places = None
    if source.buffer in totals and spread is Spread.ONE_PLACE:
        return None
    if spread is Spread.TWO_PLACES:
        buffer.phases = 2
        places = code.register(), code.register()
        code.phases |= {each: each for each in places}
    return PartedStore(source, buffer.bytes, buffer.bytes // row_bytes, row_bytes, element_bytes, places)


def spread_store(
    emitter: Emitter,
    whole: Loop,
    store: PartedStore,
    node: Instruction,
    number: Register,
    last: Register,
    height: ScalarOperand,
) -> tuple[list[ScalarOperand], list[Node]]:
    """Store in the iterations of a loop what the programs before have made.

    Args:
        emitter: appends to the body of the loop.
        whole: the loop over all programs of a task; gets carried registers.
        store: how it is done.
        node: the store as it would be in the last iteration of a program.
        number: of the program.
        last: whether an iteration is the last of its program.
        height: rows of a part.

    Returns:
        What the carried registers take on, and what is to be stored behind the loop.
    """
    yielded: list[ScalarOperand] = []

    def carry(register: Register, initial: ScalarOperand, anew: ScalarOperand, otherwise: ScalarOperand) -> None:
        whole.carried.append((register, initial))
        yielded.append(emitter.scalar("select", (I64,), last, anew, otherwise))

    def kept(operand: ScalarOperand) -> Register:
        """A number as the program before left it; 0 if there was none."""
        register = emitter.code.register()
        carry(register, Immediate(0), operand, register)
        return register

    made = registers_set(whole.body)
    made |= {register for register, _ in whole.carried}
    operands: dict[str, Operand] = {}
    for slot, operand in zip(node.row.slots, node.operands, strict=True):
        match operand:
            case Register() if operand in made:
                operands[slot.name] = kept(operand)
            case GlobalAddress(register=register) if register in made:
                operands[slot.name] = replace(operand, register=kept(register))
            case _:
                operands[slot.name] = operand
    if store.places is not None:
        now, other = store.places
        operands["src"] = replace(store.source, register=other)
        carry(now, Immediate(0), other, now)
        carry(other, Immediate(store.bytes), now, other)
    served, is_there, row = kept(number), kept(Immediate(1)), emitter.code.register()
    carry(row, Immediate(0), Immediate(0), emitter.integer("add", row, height))
    with emitter.into([]) as nodes:
        part = _part(emitter, store, operands, row, height)
        nodes += [serve(served, node.location), _with(node, part), serve(number, node.location)]
    emitter.nodes.append(Branch(is_there, nodes, location=node.location))
    after: list[Node] = [serve(served, node.location), _with(node, operands)]
    return yielded, [Branch(is_there, after, location=node.location)]


def _part(
    emitter: Emitter, store: PartedStore, operands: Mapping[str, Operand], row: Register, height: ScalarOperand
) -> dict[str, Operand]:
    """The operands of the store from a row on, over so many rows."""
    target, valid, stride = (operands[name] for name in ("dst", "n1", "global1"))
    assert isinstance(target, GlobalAddress)
    assert isinstance(valid, Register | Immediate)
    assert isinstance(stride, Register | Immediate)
    left = emitter.integer("smin", emitter.integer("sub", valid, row), height)
    away = emitter.integer("mul", emitter.integer("mul", stride, row), Immediate(store.element_bytes))
    place = emitter.scalar("mul", (I64,), row, Immediate(store.row_bytes))
    if store.places is not None:
        place = emitter.scalar("add", (I64,), store.places[1], place)
        emitter.code.keep_phase(place, store.places[1])
    return {
        **operands,
        "dst": replace(target, register=emitter.scalar("add", (I64,), target.register, away)),
        "src": replace(store.source, register=place),
        "n1": emitter.integer("smax", left, Immediate(0)),
    }


def _with(node: Instruction, operands: Mapping[str, Operand]) -> Instruction:
    return node.taking(operands[slot.name] for slot in node.row.slots)
