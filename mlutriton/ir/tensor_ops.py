"""Pure ops on scalars and tensors: arithmetic, shapes, products, reductions and the program's place in the grid."""

# ruff: noqa: D102 - infer_types, check and evaluate are described at Operation.

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np

from mlutriton.arithmetic import OPERATIONS, evaluate, rounded
from mlutriton.arithmetic import Operation as ArithmeticOperation
from mlutriton.diagnostics import UNKNOWN_LOCATION, KernelFault, Location
from mlutriton.dtypes import BY_NAME, F32, F64, I1, I32, TF32, DType
from mlutriton.ir.core import Array, Attribute, Block, Operation, Value
from mlutriton.ir.types import (
    PointerType,
    TensorType,
    Type,
    element_type,
    numpy_dtype,
    shape_of,
    storage_dtype,
    with_element,
    with_shape,
)

PRECISIONS = ("ieee", "tf32")


_CASTS = frozenset(name for name, operation in OPERATIONS.items() if operation.is_cast)
_ATTRIBUTES_WITHOUT_TYPE: Mapping[str, type] = {"operation": str}


class Elementwise(Operation):
    """An arithmetic operation, element for element; all operands and results have one shape.

    Attributes ``operation`` (a name of the arithmetic table) and, for casts, ``to`` (a dtype name). In text the op's
    name is the operation's. ``select`` also takes pointers.
    """

    NAME = "elementwise"
    OPERANDS = ("inputs*",)
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"operation": str, "to": str}

    @classmethod
    def of(
        cls, operation: str, *inputs: Value, to: DType | None = None, location: Location = UNKNOWN_LOCATION
    ) -> Elementwise:
        """The operation of that name on values."""
        attributes: dict[str, Attribute] = {"operation": operation}
        if to is not None:
            attributes["to"] = to.name
        return cls(inputs, attributes, location=location)

    @property
    def name(self) -> str:
        return str(self.attributes["operation"])

    @property
    def arithmetic(self) -> ArithmeticOperation:
        """The row of the arithmetic table."""
        return OPERATIONS[self.name]

    @property
    def to(self) -> DType | None:
        """The destination type of a cast; None for other operations."""
        return BY_NAME[self.text("to")] if self.name in _CASTS else None

    @property
    def operand_dtype(self) -> DType:
        """The dtype that the operation works on (of ``select``: what it selects)."""
        return storage_dtype(element_type(self.operands[-1].type))

    def expected_attributes(self) -> Mapping[str, type]:
        return self.ATTRIBUTES if self.name in _CASTS else _ATTRIBUTES_WITHOUT_TYPE

    def infer_types(self) -> Sequence[Type]:
        return _elementwise_types(self.name, self.to, self.operands[-1].type)

    def check(self) -> str | None:
        return _elementwise_complaint(self.name, self.to, tuple(operand.type for operand in self.operands))

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (evaluate(self.name, *operands, dtype=self.operand_dtype, to=self.to),)


# Most of what a kernel does is element-wise, on few types, and is checked after every pass.
@lru_cache(maxsize=4096)
def _elementwise_types(name: str, to: DType | None, source: Type) -> Sequence[Type]:
    """The result type of an element-wise operation whose last operand has this type."""
    if to is not None:
        return (with_element(source, to),)
    return (with_element(source, I1),) if OPERATIONS[name].result == "bool" else (source,)


@lru_cache(maxsize=4096)
def _elementwise_complaint(name: str, to: DType | None, types: tuple[Type, ...]) -> str | None:
    """What is wrong with the operand types of an element-wise operation."""
    operation = OPERATIONS[name]
    if len(types) != operation.arity:
        return f"{name} takes {operation.arity} operands, not {len(types)}"
    shapes = {shape_of(type) for type in types}
    if len(shapes) != 1:
        return f"operands of {name} differ in shape: {sorted(shapes)}"
    elements = [element_type(type) for type in types]
    if name == "select" and elements.pop(0) != I1:
        return "the first operand of select is not i1"
    if len(set(elements)) != 1:
        return f"operands of {name} differ in type: {', '.join(map(str, elements))}"
    if isinstance(elements[0], PointerType) and name != "select":
        return f"{name} is not defined on pointers"
    if not operation.accepts(storage_dtype(elements[-1]), to):
        return f"{name} is not defined on {elements[0]}" + (f" to {to}" if to else "")
    return None


def normal_value(value: int | float, element: DType | PointerType) -> int | float:
    """The one form in which a constant of that type is written.

    It is bool for ``i1``, a signed int for integers and pointers, and for floats the Python float of the rounded value.
    """
    dtype = storage_dtype(element)
    if dtype.is_bool:
        return bool(value)
    if dtype.is_int:
        half = 1 << (dtype.bits - 1)
        return (int(value) + half) % (2 * half) - half
    with np.errstate(all="ignore"):
        return float(np.asarray(value, dtype.numpy))


class Constant(Operation):
    """A scalar, or a tensor of one repeated value. Attribute ``value`` is an int, float or bool; the type is free.

    A NaN is the quiet one, of either sign.
    """

    NAME = "constant"
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"value": object}
    FREE_RESULTS = True

    @classmethod
    def of(cls, value: int | float, type: Type, location: Location = UNKNOWN_LOCATION) -> Constant:
        """A constant of a type; the value is wrapped or rounded to it."""
        return cls((), {"value": normal_value(value, element_type(type))}, result_types=(type,), location=location)

    @property
    def value(self) -> int | float:
        """The value of every element."""
        value = self.attributes["value"]
        assert isinstance(value, int | float)
        return value

    def check(self) -> str | None:
        value = self.attributes["value"]
        if not isinstance(value, int | float):
            return f"the value of a constant is a number, not {value!r}"
        element = element_type(self.result.type)
        if isinstance(value, float) and not storage_dtype(element).is_float:
            return f"{value} is not a value of {element}"
        normal = normal_value(value, element)
        same = normal == value or (normal != normal and value != value)
        return None if same and type(normal) is type(value) else f"{value} is not a value of {element}, but {normal} is"

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (np.full(shape_of(self.result.type), self.value, numpy_dtype(self.result.type)),)


class Range(Operation):
    """``tensor<(end - start) x i32>`` of start, start + 1, ..."""

    NAME = "range"
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"start": int, "end": int}

    def infer_types(self) -> Sequence[Type]:
        return (TensorType((self.integer("end") - self.integer("start"),), I32),)

    def check(self) -> str | None:
        return None if self.integer("start") < self.integer("end") else "a range has at least one element"

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (np.arange(self.integer("start"), self.integer("end"), dtype=np.int32),)


def _keeps_element(source: Type, target: Type) -> str | None:
    if element_type(source) == element_type(target):
        return None
    return f"the element type changes from {element_type(source)} to {element_type(target)}"


class Splat(Operation):
    """A scalar repeated over the shape of the result (type is free)."""

    NAME = "splat"
    OPERANDS = ("source",)
    FREE_RESULTS = True

    def check(self) -> str | None:
        if shape_of(self.operands[0].type) or not shape_of(self.result.type):
            return "splat makes a tensor of a scalar"
        return _keeps_element(self.operands[0].type, self.result.type)

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (np.broadcast_to(operands[0], shape_of(self.result.type)),)


class ExpandDims(Operation):
    """A new extent of 1 at ``axis``."""

    NAME = "expand_dims"
    OPERANDS = ("source",)
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"axis": int}

    def infer_types(self) -> Sequence[Type]:
        source = self.operands[0].type
        shape, axis = shape_of(source), self.integer("axis")
        return (TensorType((*shape[:axis], 1, *shape[axis:]), element_type(source)),)

    def check(self) -> str | None:
        rank = len(shape_of(self.operands[0].type))
        return None if 0 <= self.integer("axis") <= rank else f"axis {self.integer('axis')} is not in 0 to {rank}"

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (np.expand_dims(operands[0], self.integer("axis")),)


class Broadcast(Operation):
    """Extents of 1 repeated to the result's shape (type is free; same rank)."""

    NAME = "broadcast"
    OPERANDS = ("source",)
    FREE_RESULTS = True

    def check(self) -> str | None:
        source, target = shape_of(self.operands[0].type), shape_of(self.result.type)
        if len(source) != len(target) or any(s not in (1, t) for s, t in zip(source, target, strict=True)):
            return f"{source} does not broadcast to {target}"
        return _keeps_element(self.operands[0].type, self.result.type)

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (np.broadcast_to(operands[0], shape_of(self.result.type)),)


class Reshape(Operation):
    """The same elements in row-major order under another shape (type is free); a scalar counts as one element."""

    NAME = "reshape"
    OPERANDS = ("source",)
    FREE_RESULTS = True

    def check(self) -> str | None:
        source, target = shape_of(self.operands[0].type), shape_of(self.result.type)
        if math.prod(source) != math.prod(target):
            return f"{source} and {target} differ in the number of elements"
        return _keeps_element(self.operands[0].type, self.result.type)

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (operands[0].reshape(shape_of(self.result.type)),)


class Transpose(Operation):
    """Dimensions permuted: extent ``d`` of the result is extent ``order[d]`` of the source."""

    NAME = "transpose"
    OPERANDS = ("source",)
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"order": tuple}

    @property
    def order(self) -> tuple[int, ...]:
        """The permutation."""
        return self.integers("order")

    def infer_types(self) -> Sequence[Type]:
        source = self.operands[0].type
        shape = shape_of(source)
        return (TensorType(tuple(shape[d] for d in self.order), element_type(source)),)

    def check(self) -> str | None:
        rank = len(shape_of(self.operands[0].type))
        return (
            None if sorted(self.order) == list(range(rank)) else f"{self.order} is no permutation of {rank} dimensions"
        )

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (np.transpose(operands[0], self.order),)


class Join(Operation):
    """Two tensors side by side along a new last extent of 2."""

    NAME = "join"
    OPERANDS = ("a", "b")

    def infer_types(self) -> Sequence[Type]:
        source = self.operands[0].type
        return (TensorType((*shape_of(source), 2), element_type(source)),)

    def check(self) -> str | None:
        a, b = (operand.type for operand in self.operands)
        return None if a == b else f"join takes two tensors of one type, not {a} and {b}"

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (np.stack(operands, axis=-1),)


class Split(Operation):
    """The two halves of a last extent of 2."""

    NAME = "split"
    OPERANDS = ("source",)

    def infer_types(self) -> Sequence[Type]:
        source = self.operands[0].type
        half = with_shape(shape_of(source)[:-1], element_type(source))
        return (half, half)

    def check(self) -> str | None:
        shape = shape_of(self.operands[0].type)
        return None if shape[-1:] == (2,) else f"split takes a last extent of 2, not {shape}"

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (operands[0][..., 0], operands[0][..., 1])


class Concatenate(Operation):
    """Two tensors one after the other along axis 0."""

    NAME = "concatenate"
    OPERANDS = ("a", "b")

    def infer_types(self) -> Sequence[Type]:
        a, b = (shape_of(operand.type) for operand in self.operands)
        return (TensorType((a[0] + b[0], *a[1:]), element_type(self.operands[0].type)),)

    def check(self) -> str | None:
        a, b = (operand.type for operand in self.operands)
        if not shape_of(a) or shape_of(a)[1:] != shape_of(b)[1:]:
            return f"{a} and {b} differ beyond axis 0"
        return _keeps_element(a, b)

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (np.concatenate(operands),)


class Window(Operation):
    """Positions ``first`` to ``first + count`` along ``axis``."""

    NAME = "window"
    OPERANDS = ("source",)
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"axis": int, "first": int, "count": int}

    def infer_types(self) -> Sequence[Type]:
        source, axis = self.operands[0].type, self.integer("axis")
        shape = shape_of(source)
        return (TensorType((*shape[:axis], self.integer("count"), *shape[axis + 1 :]), element_type(source)),)

    def check(self) -> str | None:
        shape, axis = shape_of(self.operands[0].type), self.integer("axis")
        if not 0 <= axis < len(shape):
            return f"axis {axis} is not in 0 to {len(shape) - 1}"
        first, end = self.integer("first"), self.integer("first") + self.integer("count")
        return None if 0 <= first < end <= shape[axis] else f"{first} to {end} is not inside {shape[axis]} positions"

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        first, axis = self.integer("first"), self.integer("axis")
        return (operands[0][(slice(None),) * axis + (slice(first, first + self.integer("count")),)],)


class Gather(Operation):
    """``result[.., k, ..] = source[.., index[.., k, ..], ..]`` along ``axis``; an index outside is a fault."""

    NAME = "gather"
    OPERANDS = ("source", "index")
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"axis": int}

    def infer_types(self) -> Sequence[Type]:
        return (TensorType(shape_of(self.operands[1].type), element_type(self.operands[0].type)),)

    def check(self) -> str | None:
        source, index = (shape_of(operand.type) for operand in self.operands)
        axis = self.integer("axis")
        if not 0 <= axis < len(source):
            return f"axis {axis} is not in 0 to {len(source) - 1}"
        if source[:axis] + source[axis + 1 :] != index[:axis] + index[axis + 1 :]:
            return f"{source} and {index} differ beyond axis {axis}"
        element = element_type(self.operands[1].type)
        return None if isinstance(element, DType) and element.is_int else f"indices are integers, not {element}"

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        source, index = operands
        extent = source.shape[self.integer("axis")]
        wrong = index[(index < 0) | (index >= extent)]
        if wrong.size:
            raise KernelFault("E0304", f"gather index {wrong[0]} is outside 0 to {extent - 1}", location=self.location)
        return (np.take_along_axis(source, index, self.integer("axis")),)


class Dot(Operation):
    """``c + a @ b`` with ``a [.., M, K]``, ``b [.., K, N]``, ``c [.., M, N]``.

    Floats: one fused multiply-add in f32 (f64 for f64) per k, in order of k, rounded to the type of ``c`` at the end.
    Integers wrap around. With ``precision`` tf32, the f32 numbers of ``a`` and ``b`` are first rounded to 10
    bits of mantissa, on machines whose tensor unit does so.
    """

    NAME = "dot"
    OPERANDS = ("a", "b", "c")
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"precision": str}

    def infer_types(self) -> Sequence[Type]:
        return (self.operands[2].type,)

    def check(self) -> str | None:
        a, b, c = (shape_of(operand.type) for operand in self.operands)
        if len(a) < 2 or a[:-1] != c[:-1] or b[-2:] != (a[-1], c[-1]) or a[:-2] != b[:-2]:
            return f"shapes do not fit: {a} x {b} + {c}"
        kinds = [storage_dtype(element_type(operand.type)).is_float for operand in self.operands]
        if len(set(kinds)) != 1:
            return "dot mixes floats and integers"
        known = self.text("precision") in PRECISIONS
        return None if known else f"precision {self.text('precision')!r} is not one of {', '.join(PRECISIONS)}"

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        a, b, c = operands
        if c.dtype.kind == "i":
            with np.errstate(all="ignore"):
                return ((c + np.matmul(a.astype(c.dtype), b.astype(c.dtype))).astype(c.dtype),)
        working = F64 if c.dtype == np.float64 else F32
        a, b, total = (x.astype(working.numpy) for x in operands)
        if self.text("precision") == "tf32" and operands[0].dtype == np.float32:
            a, b = rounded(a, TF32), rounded(b, TF32)
        for k in range(a.shape[-1]):
            total = evaluate("fma", a[..., :, k, None], b[..., k, None, :], total, dtype=working)
        with np.errstate(all="ignore"):
            return (total.astype(c.dtype),)


def evaluate_combine(region: Block, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The values that a combine region yields; its scalar code works on arrays element for element."""
    values: dict[Value, Array] = dict(zip(region.arguments, inputs, strict=True))
    for operation in region.operations[:-1]:
        results = operation.evaluate([values[operand] for operand in operation.operands])
        values.update(zip(operation.results, results, strict=True))
    return tuple(values[operand] for operand in region.terminator.operands)


class _Combining(Operation):
    """What reduce and scan have in common."""

    OPERANDS = ("inputs*",)
    REGIONS = ("yield",)

    @property
    def axis(self) -> int:
        """The axis along which elements are combined."""
        return self.integer("axis")

    @property
    def region(self) -> Block:
        """The combine function."""
        return self.regions[0]

    def check(self) -> str | None:
        if not self.operands:
            return f"{self.name} takes at least one operand"
        shape = shape_of(self.operands[0].type)
        if any(shape_of(operand.type) != shape for operand in self.operands):
            return f"operands of {self.name} differ in shape"
        if not 0 <= self.axis < len(shape):
            return f"axis {self.axis} is not in 0 to {len(shape) - 1}"
        elements = [element_type(operand.type) for operand in self.operands]
        if [argument.type for argument in self.region.arguments] != elements * 2:
            return f"the region of {self.name} takes {', '.join(map(str, elements * 2))}"
        if [operand.type for operand in self.region.terminator.operands] != elements:
            return f"the region of {self.name} yields {', '.join(map(str, elements))}"
        own = set(self.region.arguments)
        for operation in self.region.operations:
            if not isinstance(operation, Elementwise | Constant) and not operation.TERMINATOR:
                return f"the region of {self.name} holds {operation.name}; it may hold scalar arithmetic and constants"
            own.update(operation.results)
            if not own.issuperset(operation.operands):
                return f"the region of {self.name} uses a value from outside"
        return None


class Reduce(_Combining):
    """All operands reduced along ``axis`` by the region's combine function; the axis disappears.

    The region takes 2n scalars (accumulators, then elements) and ends in ``yield`` of n scalars. It holds scalar
    arithmetic and constants and uses no value from outside. The function is associative; the order of combination is
    the machine's, and the evaluator combines neighbours pairwise.
    """

    NAME = "reduce"
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"axis": int}

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.operands[0].type)
        rest = (*shape[: self.axis], *shape[self.axis + 1 :])
        return tuple(with_shape(rest, element_type(operand.type)) for operand in self.operands)

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        rows = [np.moveaxis(operand, self.axis, 0) for operand in operands]
        while (count := len(rows[0])) > 1:
            even = count - count % 2
            pairs = [row[0:even:2] for row in rows] + [row[1:even:2] for row in rows]
            combined = _broadcast_to(evaluate_combine(self.region, pairs), pairs[0].shape)
            rows = [np.concatenate([new, row[even:]]) for new, row in zip(combined, rows, strict=True)]
        return tuple(row[0] for row in rows)


class Scan(_Combining):
    """Inclusive scan of all operands along ``axis``, from the end if ``reverse``, one by one.

    The region is as for ``reduce``.
    """

    NAME = "scan"
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"axis": int, "reverse": bool}

    def infer_types(self) -> Sequence[Type]:
        return tuple(operand.type for operand in self.operands)

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        step = -1 if self.attributes["reverse"] else 1
        rows = [np.moveaxis(operand, self.axis, 0)[::step] for operand in operands]
        results = [row.copy() for row in rows]
        for k in range(1, len(rows[0])):
            pair = [result[k - 1] for result in results] + [row[k] for row in rows]
            for result, combined in zip(results, evaluate_combine(self.region, pair), strict=True):
                result[k] = combined
        return tuple(np.moveaxis(result[::step], 0, self.axis) for result in results)


def _broadcast_to(values: Sequence[Array], shape: tuple[int, ...]) -> list[Array]:
    # A region may yield a constant, which has no dimensions.
    return [np.broadcast_to(value, shape) for value in values]


class Histogram(Operation):
    """Counts of the integers 0 to bins-1 among the elements where ``mask`` is set.

    The result is ``tensor<bins x i32>``. Other integers are not counted.
    """

    NAME = "histogram"
    OPERANDS = ("source", "mask")
    FREE_RESULTS = True

    def check(self) -> str | None:
        source, mask = (operand.type for operand in self.operands)
        if mask != with_element(source, I1) or not storage_dtype(element_type(source)).is_int:
            return f"histogram takes integers and a mask of their shape, not {source} and {mask}"
        result = self.result.type
        return (
            None if len(shape_of(result)) == 1 and element_type(result) == I32 else "histogram counts in one row of i32"
        )

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        source, mask = operands
        (bins,) = shape_of(self.result.type)
        counted = source[mask & (source >= 0) & (source < bins)]
        return (np.bincount(counted.astype(np.int64), minlength=bins).astype(np.int32),)


class Collect(Operation):
    """The elements of a row where ``mask`` is set, in order from the first place on, and zeros behind them."""

    NAME = "collect"
    OPERANDS = ("source", "mask")

    def infer_types(self) -> Sequence[Type]:
        return (self.operands[0].type,)

    def check(self) -> str | None:
        source, mask = (operand.type for operand in self.operands)
        is_row = len(shape_of(source)) == 1 and mask == with_element(source, I1)
        return None if is_row else f"collect takes a row and a mask of its shape, not {source} and {mask}"

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        source, mask = operands
        result = np.zeros_like(source)
        chosen = source[mask]
        result[: len(chosen)] = chosen
        return (result,)


class _GridQuery(Operation):
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"axis": int}

    @property
    def axis(self) -> int:
        """The grid dimension (0 = x)."""
        return self.integer("axis")

    def infer_types(self) -> Sequence[Type]:
        return (I32,)

    def check(self) -> str | None:
        return None if self.axis in (0, 1, 2) else f"a grid has no dimension {self.axis}"


class ProgramId(_GridQuery):
    """The program's index along grid dimension ``axis`` (0 = x)."""

    NAME = "program_id"


class NumPrograms(_GridQuery):
    """The grid's extent along dimension ``axis``."""

    NAME = "num_programs"


TENSOR_OPS: tuple[type[Operation], ...] = (
    Elementwise, Constant, Range, Splat, ExpandDims, Broadcast, Reshape, Transpose, Join, Split, Concatenate, Window,
    Gather, Dot, Reduce, Scan, Histogram, Collect, ProgramId, NumPrograms,
)  # fmt: skip
