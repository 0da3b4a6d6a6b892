"""Values, operations, blocks and functions of the tile IR.

Control flow is structured: every region is one block, and ``for``, ``while`` and ``if`` are operations with regions
whose last operation hands values back. Values are identified by object; names are only for printing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

from numpy.typing import NDArray

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.ir.types import Type

Attribute = int | float | bool | str | tuple[int, ...]

Array = NDArray[Any]
"""The value of an SSA value: an array of its shape (``()`` for scalars) and element type; pointers are int64."""

_regions = attrgetter("regions")


_ages = count()


class Value:
    """An SSA value: the result of an operation or the argument of a block.

    Attributes:
        type: its type.
        owner: the operation or block that defines it.
        index: its place among the owner's results or arguments.
        name: a hint for printing, from the kernel's own variable where known.
        age: less than that of every value made later; orders values alike in every process.
    """

    __slots__ = ("age", "index", "name", "owner", "type")

    def __init__(self, type: Type, owner: Operation | Block, index: int, name: str = "") -> None:
        self.type = type
        self.owner = owner
        self.index = index
        self.name = name
        self.age = next(_ages)

    @property
    def defining_op(self) -> Operation | None:
        """The operation that defines it; None for block arguments."""
        return self.owner if isinstance(self.owner, Operation) else None

    def __repr__(self) -> str:
        return f"<Value {self.name or hex(id(self))} : {self.type}>"


class Block:
    """A straight list of operations with typed arguments."""

    __slots__ = ("arguments", "operations")

    def __init__(self, argument_types: Sequence[Type] = (), names: Sequence[str] = ()) -> None:
        self.arguments = [
            Value(type, self, i, names[i] if i < len(names) else "") for i, type in enumerate(argument_types)
        ]
        self.operations: list[Operation] = []

    @property
    def terminator(self) -> Operation:
        """The last operation."""
        return self.operations[-1]

    def walk(self) -> list[Operation]:
        """Every operation in the block and in nested regions, parents first."""
        operations = self.operations
        if not any(map(_regions, operations)):
            return [*operations]
        found: list[Operation] = []
        begin = 0
        for place in [place for place, operation in enumerate(operations) if operation.regions]:
            found += operations[begin : place + 1]
            begin = place + 1
            for region in operations[place].regions:
                found += region.walk()
        found += operations[begin:]
        return found


class Operation:
    """One operation. Subclasses in :mod:`~mlutriton.ir.ops` define the ops; the class is the op's whole definition.

    Class attributes:
        NAME: the name in IR text.
        OPERANDS: operand names; a last name that ends in ``*`` takes all that remain.
        ATTRIBUTES: attribute names with their Python types.
        FREE_RESULTS: the result types don't follow from the operands; the constructor takes ``result_types``.
        PURE: no effect but its results; may be removed, moved and merged.
        READS: reads memory and has no other effect; may be removed, not moved; merged if nothing in between may write.
        TERMINATOR: must be last in its block, and nowhere else.
        REGIONS: the name of the op that ends each of its regions.
    """

    NAME: ClassVar[str] = ""
    OPERANDS: ClassVar[tuple[str, ...]] = ()
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {}
    FREE_RESULTS: ClassVar[bool] = False
    PURE: ClassVar[bool] = True
    READS: ClassVar[bool] = False
    TERMINATOR: ClassVar[bool] = False
    REGIONS: ClassVar[tuple[str, ...]] = ()

    __slots__ = ("attributes", "location", "operands", "regions", "results")

    def __init__(
        self,
        operands: Sequence[Value] = (),
        attributes: Mapping[str, Attribute] | None = None,
        *,
        result_types: Sequence[Type] | None = None,
        regions: Sequence[Block] = (),
        location: Location = UNKNOWN_LOCATION,
    ) -> None:
        self.operands = list(operands)
        self.attributes: dict[str, Attribute] = dict(attributes or {})
        self.regions = list(regions)
        self.location = location
        types = self.infer_types() if result_types is None else result_types
        self.results = [Value(type, self, i) for i, type in enumerate(types)]

    def infer_types(self) -> Sequence[Type]:
        """Result types from operands and attributes; ops whose result types are free take ``result_types`` instead."""
        return ()

    def check(self) -> str | None:
        """The first violated rule of this op in words, or None.

        The verifier calls it on every operation, after it has checked operand count, attributes and terminators of
        regions.
        """
        return None

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        """The results for given operands; pure ops that depend on nothing else have it."""
        raise NotImplementedError(f"{self.name} has no value apart from a running program")

    def expected_attributes(self) -> Mapping[str, type]:
        """The attributes that must be there, with their Python types."""
        return self.ATTRIBUTES

    def integer(self, attribute: str) -> int:
        """An attribute that is an int."""
        value = self.attributes[attribute]
        assert isinstance(value, int)
        return value

    def integers(self, attribute: str) -> tuple[int, ...]:
        """An attribute that is a tuple of ints."""
        value = self.attributes[attribute]
        assert isinstance(value, tuple)
        return value

    def text(self, attribute: str) -> str:
        """An attribute that is a string."""
        value = self.attributes[attribute]
        assert isinstance(value, str)
        return value

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    @property
    def name(self) -> str:
        """The op's name in IR text (element-wise ops carry the arithmetic operation's)."""
        return self.NAME

    def walk(self) -> list[Operation]:
        """This operation and every one nested in its regions."""
        found: list[Operation] = [self]
        for region in self.regions:
            found += region.walk()
        return found

    def __repr__(self) -> str:
        return f"<{self.name} at {self.location}>"


@dataclass
class Function:
    """A kernel: a body block whose arguments are the kernel's parameters and whose last operation is ``return``.

    Attributes:
        name: the kernel's name.
        body: the code.
        argument_attributes: per argument, known facts such as ``{"divisibility": 16}``.
        location: the ``def`` line.
    """

    name: str
    body: Block
    argument_attributes: list[dict[str, int]] = field(default_factory=list[dict[str, int]])
    location: Location = UNKNOWN_LOCATION

    def walk(self) -> list[Operation]:
        """Every operation, parents first."""
        return self.body.walk()

    def add_parameter(self, type: Type, name: str, facts: Mapping[str, int] | None = None) -> Value:
        """A parameter behind those that there are, of which these facts are known."""
        arguments = self.body.arguments
        if self.argument_attributes or facts:
            every = self.argument_attributes or [{} for _ in arguments]
            self.argument_attributes = [*every, dict(facts or {})]
        arguments.append(Value(type, self.body, len(arguments), name))
        return arguments[-1]


_Op = TypeVar("_Op", bound=Operation)


class Builder:
    """Appends operations to a block, with a current location."""

    def __init__(self, block: Block, location: Location = UNKNOWN_LOCATION) -> None:
        self.block = block
        self.location = location

    def add(self, operation: _Op) -> _Op:
        """Append an operation; it takes the builder's location if it has none."""
        if operation.location is UNKNOWN_LOCATION:
            operation.location = self.location
        self.block.operations.append(operation)
        return operation


def replace_uses(block: Block, mapping: Mapping[Value, Value]) -> None:
    """Make every operand in the block and its nested regions that is a key of ``mapping`` its value."""
    if not mapping:
        return
    for operation in block.walk():
        operation.operands = [mapping.get(operand, operand) for operand in operation.operands]


def use_counts(block: Block) -> dict[Value, int]:
    """How often each value stands as an operand in the block and its nested regions."""
    counts: dict[Value, int] = {}
    for operation in block.walk():
        for operand in operation.operands:
            counts[operand] = counts.get(operand, 0) + 1
    return counts
