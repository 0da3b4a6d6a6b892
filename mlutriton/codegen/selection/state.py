"""The state of selection: where every SSA value stands, and how to bring a value into the form an instruction needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from mlutriton.codegen.selection.tensor_operands import weight_uses
from mlutriton.codegen.selection.vector_scalars import Neighbours, VectorScalars, vector_scalars
from mlutriton.codegen.selection.views import DenseView, ScalarView, SpreadView, View
from mlutriton.codegen.tile_code import Emitter, ScalarOperand, TileBuffer, TileCode
from mlutriton.dtypes import I64, DType
from mlutriton.ir.analysis.launch_facts import are_apart
from mlutriton.ir.core import Function, Value, use_counts
from mlutriton.ir.ops import (
    Assemble,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    IntToPtr,
    Reshape,
    Splat,
    Split,
    Transpose,
    Window,
)
from mlutriton.ir.types import PointerType, Type, element_type, shape_of
from mlutriton.isa.assembly import name_of
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import GlobalAddress, Immediate, Mode, Operand, Register

ZERO, ONE = Immediate(0), Immediate(1)


def storage_type(type: Type) -> DType:
    """The element type that holds a value; pointers are 64-bit integers."""
    element = element_type(type)
    return I64 if isinstance(element, PointerType) else element


class Selection:
    """What every part of selection shares.

    Attributes:
        machine: decides in what types the tensor unit multiplies, and what is worth a place of its own.
        is_pipelined: loops are to be pipelined.
        views: where each value stands.
        uses: how often each value is used.
        targets: buffers that certain results should be produced in.
        weights: tile loads that only dots read as right operand, and how.
        weight_buffers: the WRAM buffers of those, once loaded.
        vector_scalars: scalars that only the vector unit needs.
        neighbours: by scalars that stand side by side in memory, where those are that have been loaded.
        rows_at: by a pointer to a row that is an item of a gather or scatter, its base and offset.
        shared_parts: tile loads that are parts of what cores load together, and that a core has no other use for.
        local_values: values defined in the block being selected.
        emitter: appends instructions.
    """

    def __init__(self, function: Function, machine: Machine, *, is_pipelined: bool, around_loops: bool = False) -> None:
        self.function = function
        self.machine, self.is_pipelined = machine, is_pipelined
        pointers = (i for i, a in enumerate(function.body.arguments) if isinstance(a.type, PointerType))
        self.code = TileCode(name_of(function.name), [], {}, 0, [], frozenset(pointers))
        self.code.arrays_apart = are_apart(function)
        self.code.follows_addresses = any(isinstance(each, IntToPtr) for each in function.walk())
        self.emitter = Emitter(self.code)
        self.views: dict[Value, View] = {}
        self.uses = use_counts(function.body)
        self.targets: dict[Value, DenseView] = {}
        self.weights = weight_uses(function, machine)
        self.weight_buffers: dict[Value, TileBuffer] = {}
        self.vector_scalars = (
            vector_scalars(function, around_loops=around_loops) if is_pipelined else VectorScalars(set(), set())
        )
        self.neighbours: dict[Neighbours, DenseView] = {}
        self.rows_at: dict[Value, tuple[GlobalAddress, DenseView]] = {}
        parts = Counter(each.operands[0] for each in function.walk() if isinstance(each, Assemble))
        self.shared_parts = {part for part, count in parts.items() if count == self.uses[part]}
        self.local_values: set[Value] = set()

    # ---- reading values --------------------------------------------------------------------------------------------

    def operand(self, value: Value | View) -> ScalarOperand:
        """A scalar as register or literal; one that stands in a buffer is read by the scalar unit."""
        view = self.views[value] if isinstance(value, Value) else value
        match view:
            case ScalarView(operand=operand):
                return operand
            case DenseView():
                return self.emitter.scalar("lds", (view.dtype,), view.address())
            case SpreadView():
                return self.operand(view.source)

    def register(self, value: Value | View) -> Register:
        """A scalar in a register."""
        return self.register_of(self.operand(value))

    def register_of(self, operand: ScalarOperand) -> Register:
        """An integer in a register."""
        return operand if isinstance(operand, Register) else self.emitter.scalar("mov", (I64,), operand)

    def dense(self, value: Value | View, hint: str = "") -> DenseView:
        """A value in a buffer, in row-major order."""
        view = self.views[value] if isinstance(value, Value) else value
        match view:
            case DenseView():
                return view
            case ScalarView():
                target = self.new(hint, (), view.dtype)
                self.fill(target, view.operand)
                return target
            case SpreadView():
                return self._spread_out(view, hint)

    def _spread_out(self, view: SpreadView, hint: str) -> DenseView:
        if not view.is_uniform and view.placement() is None:
            return self._repeat(view)
        target = self.new(hint, view.shape, view.dtype)
        self.copy(target, view)
        return target

    def string(self, text: str) -> Immediate:
        """The number of a text of the program."""
        if text not in self.code.strings:
            self.code.strings.append(text)
        return Immediate(self.code.strings.index(text))

    def copy(self, target: DenseView, view: View) -> None:
        """Write a value's elements to a dense target of the same shape."""
        if isinstance(view, SpreadView) and not view.is_uniform and view.placement() is None:
            view = self._repeat(view)
        rows, columns, (source,) = self.vector_operands([view], target.shape)
        self.emitter.emit("v.mov", (target.dtype,), (target.address(), source, Immediate(rows), Immediate(columns)))

    def fill(self, target: DenseView, scalar: ScalarOperand) -> None:
        """Set every element."""
        self.emitter.emit("v.mov", (target.dtype,), (target.address(), scalar, Immediate(1), Immediate(target.count)))

    def _repeat(self, view: SpreadView) -> DenseView:
        """Repeat one dimension after the other, the innermost first; neighbours that are repeated count as one."""
        source = self.dense(view.source)
        shape = list(view.aligned)
        current = DenseView(source.buffer, tuple(shape), source.dtype, source.offset_bytes)
        end = len(shape)
        while end:
            start = end
            while start and shape[start - 1] == 1:
                start -= 1
            times, inner = math.prod(view.shape[start:end]), math.prod(shape[end:])
            shape[start:end] = view.shape[start:end]
            end = min(start, end - 1)
            if times == 1:
                continue
            target = self.new("repeat", tuple(shape), view.dtype)
            counts = (Immediate(math.prod(shape[:start])), Immediate(times), Immediate(inner))
            self.emitter.emit("v.repeat", (view.dtype,), (target.address(), current.address(), *counts))
            current = target
        return current

    def vector_operands(self, views: Sequence[View], shape: tuple[int, ...]) -> tuple[int, int, list[Operand]]:
        """Operands of an element-wise instruction over ``shape``, with the rows and columns that suit them all."""
        count = math.prod(shape)
        split = next((p[1:] for v in views if isinstance(v, SpreadView) and (p := v.placement()) is not None), None)
        rows, columns = split or (1, count)
        operands: list[Operand] = []
        for view in views:
            match view:
                case ScalarView(operand=operand):
                    operands.append(operand)
                case DenseView() if view.count == 1 and count > 1:
                    operands.append(self._one_for_all(view, rows))
                case DenseView():
                    operands.append(view.address())
                case SpreadView() if view.is_uniform:
                    source = view.source
                    one = isinstance(source, DenseView)
                    operands.append(self._one_for_all(source, rows) if one else source.operand)
                case SpreadView():
                    place = view.placement()
                    if place is not None and place[1:] == (rows, columns):
                        operands.append(self.dense(view.source).address(place[0]))
                    elif place is None:
                        operands.append(self._repeat(view).address())
                    else:
                        operands.append(self._spread_out(view, "spread").address())
        return rows, columns, operands

    def _one_for_all(self, view: DenseView, rows: int) -> Operand:
        # With one row, row mode repeats the single element along all columns.
        return view.address(Mode.ROW) if rows == 1 else self.operand(view)

    def dies(self, value: Value) -> bool:
        """True if its only reader is the operation being selected, which may then take over the buffer."""
        return self.uses.get(value, 0) == 1 and value in self.local_values and is_fresh(value)

    # ---- writing values --------------------------------------------------------------------------------------------

    def new(self, hint: str, shape: tuple[int, ...], dtype: DType) -> DenseView:
        """A dense view of a new buffer."""
        return DenseView(self.emitter.buffer(hint, dtype, math.prod(shape)), shape, dtype)

    def destination(self, value: Value, shape: tuple[int, ...] | None = None) -> DenseView:
        """Where the result of an operation is to be produced."""
        if value in self.targets:
            return self.targets[value]
        shape = shape_of(value.type) if shape is None else shape
        return self.new(value.name, shape, storage_type(value.type))

    def axis_counts(self, shape: tuple[int, ...], axis: int) -> tuple[Immediate, Immediate, Immediate]:
        """(outer, n, inner) of an axis."""
        return (
            Immediate(math.prod(shape[:axis])),
            Immediate(shape[axis]),
            Immediate(math.prod(shape[axis + 1 :])),
        )


# Operations whose result may share its operand's buffer.
ALIASES = (Broadcast, ExpandDims, Reshape, Splat, Split, Transpose, Window)


def is_fresh(value: Value) -> bool:
    """True if the value stands in a buffer that no other value shares."""
    operation = value.defining_op
    if operation is None or isinstance(operation, (*ALIASES, Constant)):
        return False
    return not (isinstance(operation, Elementwise) and operation.name == "bitcast")


def flat(view: DenseView) -> DenseView:
    """The same elements as a vector."""
    return DenseView(view.buffer, (view.count,), view.dtype, view.offset_bytes)


def slice_of(view: DenseView, first: int, count: int) -> DenseView:
    """``count`` consecutive elements from element ``first``."""
    return DenseView(view.buffer, (count,), view.dtype, view.offset_bytes + first * view.dtype.bytes)
