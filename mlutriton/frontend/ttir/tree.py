"""The generic tree of a TTIR module: functions, regions, blocks, operations and values, as Triton wrote them."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlutriton.frontend.ttir.locations import SourceLocation
from mlutriton.frontend.ttir.text import Attribute, TtirType


@dataclass(slots=True, eq=False)
class Value:
    """An SSA value: the result of an operation or the argument of a block; compared by identity."""

    name: str
    type: TtirType


@dataclass(slots=True, eq=False)
class Block:
    """A straight run of operations with the values that it receives."""

    label: str
    arguments: tuple[Value, ...]
    operations: list[TtirOperation] = field(default_factory=list["TtirOperation"])


@dataclass(slots=True, eq=False)
class Region:
    """The blocks inside an operation; the first one is entered."""

    blocks: list[Block]


@dataclass(slots=True, eq=False)
class Successor:
    """The target of a branch, and the values handed to its block."""

    label: str
    operands: tuple[Value, ...]


@dataclass(slots=True, eq=False)
class TtirOperation:
    """One operation.

    Attributes:
        name: dialect and operation, ``tt.load``.
        operands: in the order of the text. ``scf.for``: lower, upper, step, then the initial values of what it carries.
        results: the values that it defines.
        attributes: the dictionary, and under the names of ``POSITIONAL_WORDS`` what the syntax writes without a name.
        regions: nested code. ``scf.if``: then, and else if there is one; ``scf.while``: before and after.
        successors: the targets of ``cf.br`` and ``cf.cond_br``.
        location: the place in the Python source.
    """

    name: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    attributes: dict[str, Attribute]
    location: SourceLocation
    regions: tuple[Region, ...] = ()
    successors: tuple[Successor, ...] = ()


@dataclass(slots=True, eq=False)
class Argument:
    """A parameter of a function; ``attributes`` holds ``tt.divisibility`` and the like."""

    name: str
    value: Value
    attributes: dict[str, Attribute]

    @property
    def type(self) -> TtirType:
        """The parameter's type."""
        return self.value.type


@dataclass(slots=True, eq=False)
class TtirFunction:
    """A function; the kernel is the one with ``public`` visibility."""

    name: str
    arguments: tuple[Argument, ...]
    results: tuple[TtirType, ...]
    body: Region
    visibility: str
    attributes: dict[str, Attribute]
    location: SourceLocation


@dataclass(slots=True, eq=False)
class TtirModule:
    """The functions of one compiled kernel."""

    functions: tuple[TtirFunction, ...]

    @property
    def kernel(self) -> TtirFunction:
        """The function that a launch runs."""
        return next(function for function in self.functions if function.visibility == "public")
