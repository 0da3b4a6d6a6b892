"""What an import from TTIR carries along: the values known so far, the block being filled, and building blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from mlutriton.arithmetic import OPERATIONS
from mlutriton.diagnostics import CompileError, Location
from mlutriton.dtypes import F32, I1, I8, I64, DType
from mlutriton.frontend.ttir import tree
from mlutriton.frontend.ttir.locations import SourceLocation
from mlutriton.frontend.ttir.text import BlockPointerType, IndexType, TensorDescriptorType, TtirType
from mlutriton.ir.core import Block, Builder, Operation, Value
from mlutriton.ir.ops import Broadcast, Constant, Elementwise, ExpandDims, Reshape, Splat
from mlutriton.ir.types import ScalarType, TensorType, Type, element_type, shape_of, with_shape


@dataclass(frozen=True, slots=True)
class TensorHandle:
    """A tensor descriptor or block pointer: what is known of a tensor in memory that is accessed by blocks.

    The IR has no such values. Wherever a handle goes (through loops, branches, calls) its components go in its place.

    Attributes:
        type: what it is, with the shape of its blocks.
        components: base, one extent a dimension, one stride a dimension; then for a descriptor whether it pads with NaN
            (i1), for a block pointer one offset a dimension.
    """

    type: TensorDescriptorType | BlockPointerType
    components: tuple[Value, ...]

    @property
    def block(self) -> TensorType:
        """The type of a block."""
        return self.type.block

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.type.block.shape)

    @property
    def base(self) -> Value:
        """Pointer to the tensor's first element."""
        return self.components[0]

    @property
    def extents(self) -> tuple[Value, ...]:
        """Elements along each dimension."""
        return self.components[1 : 1 + self.rank]

    @property
    def strides(self) -> tuple[Value, ...]:
        """Elements from one position to the next, along each dimension."""
        return self.components[1 + self.rank : 1 + 2 * self.rank]

    @property
    def rest(self) -> tuple[Value, ...]:
        """The NaN flag of a descriptor, the offsets of a block pointer."""
        return self.components[1 + 2 * self.rank :]


Imported = Value | TensorHandle


def flatten(imported: Sequence[Imported]) -> list[Value]:
    """The SSA values that stand for a list of imported values."""
    flat: list[Value] = []
    for item in imported:
        if isinstance(item, TensorHandle):
            flat += item.components
        else:
            flat.append(item)
    return flat


def rebuild(pattern: Sequence[Imported], flat: Sequence[Value]) -> list[Imported]:
    """The inverse of :func:`flatten`: new values in the form of ``pattern``."""
    rest = iter(flat)
    return [
        TensorHandle(item.type, tuple(next(rest) for _ in item.components))
        if isinstance(item, TensorHandle)
        else next(rest)
        for item in pattern
    ]


def types_of(values: Sequence[Value]) -> list[Type]:
    """The types of values."""
    return [value.type for value in values]


# How an integer operation reads truth values: signed, as 0 and -1, or unsigned, as 0 and 1.
_TRUTH_VALUE_EXTENSIONS: dict[str, str] = {
    **dict.fromkeys(("sdiv", "srem", "smin", "smax", "slt", "sle", "sgt", "sge"), "sext"),
    **dict.fromkeys(("udiv", "urem", "umin", "umax", "ult", "ule", "ugt", "uge"), "zext"),
}
# Of a single bit: a kernel that multiplies masks has a mask.
_OF_TRUTH_VALUES = {"add": "xor", "sub": "xor", "mul": "and"}

TERMINATORS = frozenset(
    {
        "cf.br",
        "cf.cond_br",
        "scf.condition",
        "scf.yield",
        "tt.map_elementwise.return",
        "tt.reduce.return",
        "tt.return",
        "tt.scan.return",
    }
)
"""Operations that end a block; the rule of the operation around it reads them."""

_UNIQUE_SUFFIX = re.compile(r"_\d+$")
_NO_VARIABLE = re.compile(r"(?:arg)?\d+(?:#\d+)?")

_Op = TypeVar("_Op", bound=Operation)


class Translation:
    """One import in progress.

    Attributes:
        builder: appends to the block being filled, at the location of the current operation.
        functions: the module's functions by name.
        active_calls: callees whose bodies are being imported, the outermost first.
        callers: where these are called, the innermost first.
        is_element_function: the block is a function of single elements, where branches become selections.
        decisions: in a function of single elements, the conditions under which the current place is reached, each with
            the truth value that it has there.
    """

    def __init__(self, rules: Mapping[str, Rule], functions: Mapping[str, tree.TtirFunction], body: Block) -> None:
        self.builder = Builder(body)
        self.functions = functions
        self.active_calls: list[str] = []
        self.callers: tuple[Location, ...] = ()
        self.is_element_function = False
        self.decisions: list[tuple[Value, bool]] = []
        self._rules = rules
        self._known: dict[tree.Value, Imported] = {}

    # ---- values

    def imported(self, values: Sequence[tree.Value]) -> list[Imported]:
        """What stands for values of the module."""
        return [self._known[value] for value in values]

    def values(self, values: Sequence[tree.Value]) -> list[Value]:
        """What stands for values of the module, none of which is a handle.

        Raises:
            CompileError: E0201, one is.
        """
        known: list[Value] = []
        for value in values:
            imported = self._known[value]
            if isinstance(imported, TensorHandle):
                raise self.refusal(f"a value of type {imported.type} is not supported here")
            known.append(imported)
        return known

    def bind(self, values: Sequence[tree.Value], imported: Sequence[Imported]) -> None:
        """Let imported values stand for values of the module."""
        self._known.update(zip(values, imported, strict=True))

    def type(self, type: TtirType) -> Type:
        """The IR's type for a type of the module.

        Raises:
            CompileError: E0201, values of that type have components instead.
        """
        if isinstance(type, IndexType):
            return I64
        if isinstance(type, TensorDescriptorType | BlockPointerType):
            raise self.refusal(f"a value of type {type} is not supported here")
        return type

    def result_type(self, operation: tree.TtirOperation) -> Type:
        """The type of the first result."""
        return self.type(operation.results[0].type)

    # ---- operations

    def run(self, operations: Sequence[tree.TtirOperation]) -> None:
        """Import operations in order.

        Raises:
            CompileError: E0201, one is not supported.
        """
        for operation in operations:
            location = operation.location
            self.builder.location = self._place(location)
            rule = self._rules.get(operation.name)
            if rule is None:
                raise self._unknown(operation)
            results = rule(self, operation)
            self.bind(operation.results, results)
            for name, result in zip(location.names, results, strict=False):
                if isinstance(result, Value) and not result.name:
                    result.name = name

    def _place(self, location: SourceLocation) -> Location:
        """The line of the user's: that of the call where the operation is one of Triton's own functions."""
        return SourceLocation(location.frames + self.callers).location if self.callers else location.location

    def body(self, block: tree.Block) -> list[Imported]:
        """Import a block without its terminator, whose operands are returned; one without operands may be missing."""
        operations = block.operations
        if not operations or operations[-1].name not in TERMINATORS:
            self.run(operations)
            return []
        self.run(operations[:-1])
        self.builder.location = self._place(operations[-1].location)
        return self.imported(operations[-1].operands)

    @contextmanager
    def inside(self, block: Block) -> Generator[None]:
        """Fill another block for a while."""
        outer = self.builder
        self.builder = Builder(block, outer.location)
        try:
            yield
        finally:
            self.builder = outer

    @contextmanager
    def where(self, condition: Value, outcome: bool) -> Generator[None]:
        """Import one arm of a branch in a function of single elements."""
        self.decisions.append((condition, outcome))
        yield
        self.decisions.pop()

    def reached(self, condition: Value) -> Value:
        """A condition that does not hold where a function of single elements has not come here."""
        for decision, outcome in self.decisions:
            holds = self.elementwise("eq", decision, self.constant(outcome, I1))
            condition = self.elementwise("and", condition, holds)
        return condition

    def add(self, operation: _Op) -> _Op:
        """Append an operation."""
        return self.builder.add(operation)

    def _unknown(self, operation: tree.TtirOperation) -> CompileError:
        dialect = operation.name.partition(".")[0]
        supported = [name.partition(".")[2] for name in self._rules if name.startswith(dialect + ".")]
        return self.refusal(
            f"the operation {operation.name} is not supported",
            help=f"of {dialect}, these are: {', '.join(sorted(supported))}" if supported else "",
        )

    def refusal(self, summary: str, *, note: str = "", help: str = "") -> CompileError:
        """The error E0201 at the current location, for the caller to raise."""
        return CompileError("E0201", summary, location=self.builder.location, note=note, help=help)

    # ---- building blocks

    def constant(self, value: int | float, type: Type) -> Value:
        """A constant scalar or tensor."""
        return self.add(Constant.of(value, type)).result

    def true(self, shape: tuple[int, ...]) -> Value:
        """A mask of that shape that hides nothing."""
        return self.constant(True, with_shape(shape, I1))

    def elementwise(self, name: str, *inputs: Value, to: DType | None = None) -> Value:
        """An arithmetic operation; also integer operations on truth values, and float operations on 8-bit floats.

        Raises:
            CompileError: E0201, the operation is not defined on the types.
        """
        is_truth = element_type(inputs[0].type) == I1
        name = _OF_TRUTH_VALUES.get(name, name) if is_truth else name
        extension = _TRUTH_VALUE_EXTENSIONS.get(name)
        if extension and is_truth:
            wide = [self.elementwise(extension, value, to=I8) for value in inputs]
            result = self.elementwise(name, *wide)
            return result if OPERATIONS[name].result == "bool" else self.elementwise("trunc_int", result, to=I1)
        if _computes_on_codes(name, inputs[-1]):
            wide = [self.elementwise("fpcast", value, to=F32) for value in inputs]
            result = self.elementwise(name, *wide)
            narrow = element_type(inputs[-1].type)
            assert isinstance(narrow, DType)
            return result if OPERATIONS[name].result == "bool" else self.elementwise("fpcast", result, to=narrow)
        operation = Elementwise.of(name, *inputs, to=to)
        if complaint := operation.check():
            raise self.refusal(f"this operation is not supported: {complaint}")
        return self.add(operation).result

    def select(self, condition: Value, yes: Imported, no: Imported) -> Imported:
        """``yes`` where the condition holds, else ``no``; a scalar condition decides for a whole tensor."""
        if isinstance(yes, TensorHandle):
            chosen = [self._selected(condition, *pair) for pair in zip(flatten([yes]), flatten([no]), strict=True)]
            return TensorHandle(yes.type, tuple(chosen))
        assert isinstance(no, Value)
        return self._selected(condition, yes, no)

    def _selected(self, condition: Value, yes: Value, no: Value) -> Value:
        if not shape_of(condition.type):
            condition = self.splat(condition, shape_of(yes.type))
        return self.elementwise("select", condition, yes, no)

    def resized(self, value: Value, dtype: DType, extension: str = "sext") -> Value:
        """An integer value in another width."""
        source = element_type(value.type)
        assert isinstance(source, DType)
        if source.bits == dtype.bits:
            return value
        return self.elementwise(extension if source.bits < dtype.bits else "trunc_int", value, to=dtype)

    def splat(self, scalar: Value, shape: tuple[int, ...]) -> Value:
        """A scalar repeated; the scalar itself for the shape ``()``."""
        if not shape:
            return scalar
        return self.add(Splat([scalar], result_types=(with_shape(shape, _scalar(scalar)),))).result

    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value:
        """The elements under another shape; the value itself if that is its own."""
        if shape_of(value.type) == shape:
            return value
        return self.add(Reshape([value], result_types=(with_shape(shape, _scalar(value)),))).result

    def along(self, row: Value, axis: int, rank: int) -> Value:
        """A row as a tensor of ``rank`` dimensions, all but ``axis`` of extent 1."""
        for dimension in range(rank):
            if dimension != axis:
                row = self.add(ExpandDims([row], {"axis": dimension})).result
        return row

    def broadcast(self, value: Value, shape: tuple[int, ...]) -> Value:
        """Extents of 1 repeated; the value itself if there is nothing to repeat."""
        if shape_of(value.type) == shape:
            return value
        return self.add(Broadcast([value], result_types=(with_shape(shape, _scalar(value)),))).result


Rule = Callable[[Translation, tree.TtirOperation], Sequence[Imported]]
"""Imports one operation: appends to the builder, returns what stands for its results."""


def _computes_on_codes(name: str, operand: Value) -> bool:
    """True for arithmetic on 8-bit floats, which are formats of storage: it is done in f32 and rounded."""
    element, operation = element_type(operand.type), OPERATIONS[name]
    is_code = isinstance(element, DType) and element.is_float8
    return is_code and operation.domain == "float" and not operation.is_cast


def _scalar(value: Value) -> ScalarType:
    return element_type(value.type)


def integer(operation: tree.TtirOperation, name: str, default: int | None = None) -> int:
    """An attribute that is an integer."""
    value = operation.attributes.get(name, default)
    assert isinstance(value, int), f"{operation.name} has no integer {name}"
    return value


def integers(operation: tree.TtirOperation, name: str) -> tuple[int, ...]:
    """An attribute that is a list of integers; one that is missing is empty."""
    value = operation.attributes.get(name, ())
    assert isinstance(value, tuple), f"{operation.name} has no list {name}"
    return tuple(item for item in value if isinstance(item, int))


def text(operation: tree.TtirOperation, name: str, default: str | None = None) -> str:
    """An attribute that is a word or string."""
    value = operation.attributes.get(name, default)
    assert isinstance(value, str), f"{operation.name} has no text {name}"
    return value


def variable_names(values: Sequence[tree.Value]) -> list[str]:
    """The kernel's variables behind block arguments, which have no location of their own; empty where unknown."""
    return ["" if _NO_VARIABLE.fullmatch(value.name) else _UNIQUE_SUFFIX.sub("", value.name) for value in values]
