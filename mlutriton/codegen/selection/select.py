"""Instruction selection: one function an IR op, from SSA values to tile code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlutriton.arithmetic import OPERATIONS
from mlutriton.codegen.selection import elements, reductions, shapes, tiles
from mlutriton.codegen.selection.control import select_for, select_if, select_while
from mlutriton.codegen.selection.elementwise import constant, range_, select_elementwise, splat
from mlutriton.codegen.selection.sharing import assemble, is_part_of_shared
from mlutriton.codegen.selection.state import ONE, Selection, storage_type
from mlutriton.codegen.selection.tensor import dot
from mlutriton.codegen.selection.views import ScalarView, View
from mlutriton.codegen.shifts import divide_by_shifts
from mlutriton.codegen.tile_code import Ordering, TileCode
from mlutriton.diagnostics import CompileError
from mlutriton.dtypes import I1, I32, I64, DType
from mlutriton.ir import ops
from mlutriton.ir.core import Block, Function, Operation
from mlutriton.ir.types import PointerType, element_type, shape_of
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import GlobalAddress, Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import PRINT_STYLES, SPECIAL_REGISTERS


def select(function: Function, machine: Machine, *, is_pipelined: bool, around_loops: bool = False) -> TileCode:
    """The kernel as tile code for a machine; if its loops are to be pipelined, in the form that suits this.

    Args:
        function: the kernel.
        machine: decides in what types the tensor unit multiplies.
        is_pipelined: its loops are to be pipelined.
        around_loops: scalars that are loaded beside loops may come into tiles as well as those in loops do.
    """
    s = Selection(function, machine, is_pipelined=is_pipelined, around_loops=around_loops)
    _select_parameters(s, function)
    select_block(s, function.body)
    return s.code


def _select_parameters(s: Selection, function: Function) -> None:
    s.emitter.location = function.location
    for index, argument in enumerate(function.body.arguments):
        register = s.emitter.scalar("param", (), Immediate(index))
        s.views[argument] = ScalarView(register, storage_type(argument.type))


def select_condition(function: Function, machine: Machine) -> tuple[list[Instruction], Register, int]:
    """Scalar arithmetic on parameters: its instructions, the register of the last result, and how many registers."""
    s = Selection(function, machine, is_pipelined=False)
    _select_parameters(s, function)
    select_block(s, function.body)
    holds = s.register(function.body.operations[-1].result)
    divide_by_shifts(s.code)
    nodes = [node for node in s.code.nodes if isinstance(node, Instruction)]
    assert len(nodes) == len(s.code.nodes), "arithmetic has no control flow"
    return nodes, holds, s.code.register_count


def select_block(s: Selection, block: Block) -> None:
    """Every operation but the terminator's hand-over of values, which the parent does."""
    outside, s.local_values = s.local_values, set()
    shapes.make_in_place(s, block)
    for operation in block.operations:
        s.emitter.location = operation.location
        select_operation(s, operation)
        s.local_values.update(operation.results)
    s.local_values = outside


def select_operation(s: Selection, operation: Operation) -> None:
    """One operation.

    Raises:
        CompileError: E0201 if there is no way to run it.
    """
    match operation:
        case ops.For():
            select_for(s, operation, select_block)
        case ops.While():
            select_while(s, operation, select_block)
        case ops.If():
            select_if(s, operation, select_block)
        case ops.Load():
            elements.scalar_load(s, operation)
        case ops.Store():
            elements.scalar_store(s, operation)
        case ops.AtomicRmw() | ops.AtomicCas():
            elements.scalar_atomic(s, operation)
        case ops.TileLoad() if is_part_of_shared(s, operation):
            pass
        case ops.TileLoad():
            if not tiles.weight_load(s, operation):
                tiles.tile_load(s, operation)
        case _:
            handler = _HANDLERS.get(type(operation))
            if handler is None:
                raise CompileError(
                    "E0201", f"{operation.name} cannot be compiled for this machine yet", location=operation.location
                )
            handler(s, operation)


# ---- the rest ------------------------------------------------------------------------------------------------------


def _special_register(name: str) -> Callable[[Selection, Operation], None]:
    def handler(s: Selection, operation: Operation) -> None:
        axis = operation.attributes["axis"]
        assert isinstance(axis, int)
        index = SPECIAL_REGISTERS.index(f"{name}.{'xyz'[axis]}")
        s.views[operation.result] = ScalarView(s.emitter.scalar("sreg", (), Immediate(index)), I32)

    return handler


def _member(s: Selection, operation: Operation) -> None:
    index = Immediate(SPECIAL_REGISTERS.index("core_in_cluster"))
    s.views[operation.result] = ScalarView(s.emitter.scalar("sreg", (), index), I64)


def _order(s: Selection, operation: Operation) -> None:
    unless_disjoint = bool(operation.attributes["unless_disjoint"])
    s.emitter.nodes.append(Ordering(unless_disjoint, operation.location))


def _local_memory(s: Selection, operation: Operation) -> None:
    assert isinstance(operation, ops.LocalMemory)
    index = Immediate(SPECIAL_REGISTERS.index("local_memory"))
    offset_bytes = operation.integer("offset_bytes")
    address = s.emitter.scalar("add", (I64,), s.emitter.scalar("sreg", (), index), Immediate(offset_bytes))
    s.code.local_areas[address] = offset_bytes
    s.code.local_bytes = max(s.code.local_bytes, operation.end_bytes)
    s.views[operation.result] = ScalarView(address, I64)


def _arrays_disjoint(s: Selection, operation: Operation) -> None:
    index = Immediate(SPECIAL_REGISTERS.index("arrays_disjoint"))
    s.views[operation.result] = ScalarView(s.emitter.scalar("sreg", (), index), I1)


def _reachable_bytes(s: Selection, operation: Operation) -> None:
    address = s.register(operation.operands[0])
    stored = Immediate(int(bool(operation.attributes["stored"])))
    s.views[operation.result] = ScalarView(s.emitter.scalar("reach", (), address, stored), I64)


def _add_pointer(s: Selection, operation: Operation) -> None:
    pointer, offset = operation.operands
    if operation.result in s.vector_scalars.places:
        s.rows_at[operation.result] = GlobalAddress(s.register(pointer)), s.dense(offset)
        return
    pointer_type = element_type(pointer.type)
    assert isinstance(pointer_type, PointerType)
    scale = pointer_type.pointee.bytes
    offset_view, pointer_view = s.views[offset], s.views[pointer]
    if isinstance(pointer_view, ScalarView):
        step = s.operand(offset_view)
        if offset_view.dtype != I64 and isinstance(step, Register):
            step = s.emitter.scalar("sext", (offset_view.dtype, I64), step)
        address = s.emitter.integer("add", pointer_view.operand, s.emitter.integer("mul", step, Immediate(scale)))
        s.views[operation.result] = ScalarView(address, I64)
        return
    wide = offset_view
    if offset_view.dtype != I64:
        wide = _derived(s, "sext", I64, [offset_view])
    factor = ScalarView(Immediate(scale), I64)
    scaled = wide if scale == 1 else _derived(s, "mul", None, [wide, factor])
    s.views[operation.result] = _derived(s, "add", None, [pointer_view, scaled])


def _derived(s: Selection, name: str, to: DType | None, views: Sequence[View]) -> View:
    """An element-wise result on views, for arithmetic that has no operation of its own in the IR."""
    arithmetic = OPERATIONS[name]
    dtype = to or views[0].dtype
    shape = next((view.shape for view in views if not isinstance(view, ScalarView)), ())
    dtypes = (views[0].dtype, dtype) if arithmetic.is_cast else (dtype,)
    if not shape and all(isinstance(view, ScalarView) for view in views):
        return ScalarView(s.emitter.scalar(name, dtypes, *(s.operand(view) for view in views)), dtype)
    target = s.new("address", shape, dtype)
    rows, columns, operands = s.vector_operands(views, shape)
    s.emitter.emit(f"v.{name}", dtypes, (target.address(), *operands, Immediate(rows), Immediate(columns)))
    return target


def _alias(s: Selection, operation: Operation) -> None:
    s.views[operation.result] = s.views[operation.operands[0]]


def _assert(s: Selection, operation: Operation) -> None:
    (condition,) = operation.operands
    view = s.views[condition]
    if not isinstance(view, ScalarView):
        source = s.dense(view)
        verdict = s.new("verdict", (), I1)
        counts = (ONE, Immediate(source.count), ONE)
        s.emitter.emit("red.and", (I1,), (verdict.address(), source.address(), *counts))
        view = verdict
    s.emitter.emit("assert", (), (s.operand(view), s.string(str(operation.attributes["message"]))))


def _print(s: Selection, operation: Operation) -> None:
    prefix, style = s.string(operation.text("prefix")), Immediate(PRINT_STYLES.index(operation.text("style")))
    if not operation.operands:
        s.emitter.emit("print.text", (), (prefix,))
    for value in operation.operands:
        view = s.views[value]
        if isinstance(view, ScalarView):
            s.emitter.emit("print.scalar", (view.dtype,), (prefix, style, view.operand))
        else:
            source = s.dense(view)
            shape = s.string("x".join(map(str, shape_of(value.type))))
            place, count = source.address(), Immediate(source.count)
            s.emitter.emit("print.vector", (source.dtype,), (prefix, style, shape, place, count))


def _return(s: Selection, operation: Operation) -> None:
    s.emitter.emit("exit", (), ())


def _nothing(s: Selection, operation: Operation) -> None:
    """The parent operation hands the values on."""


_HANDLERS: dict[type[Operation], Callable[[Selection, Operation], None]] = {
    ops.Elementwise: select_elementwise,
    ops.Constant: constant,
    ops.Range: range_,
    ops.Splat: splat,
    ops.ExpandDims: shapes.reshape,
    ops.Broadcast: shapes.broadcast,
    ops.Reshape: shapes.reshape,
    ops.Transpose: shapes.select_transpose,
    ops.Join: shapes.join,
    ops.Split: shapes.split,
    ops.Concatenate: shapes.concatenate,
    ops.Gather: shapes.gather,
    ops.Window: shapes.window,
    ops.Dot: dot,
    ops.Reduce: reductions.reduce,
    ops.Scan: reductions.scan,
    ops.Histogram: reductions.histogram,
    ops.Collect: reductions.collect,
    ops.ProgramId: _special_register("program_id"),
    ops.NumPrograms: _special_register("num_programs"),
    ops.Member: _member,
    ops.Assemble: assemble,
    ops.Order: _order,
    ops.LocalMemory: _local_memory,
    ops.ArraysDisjoint: _arrays_disjoint,
    ops.ReachableBytes: _reachable_bytes,
    ops.AddPtr: _add_pointer,
    ops.PtrToInt: _alias,
    ops.IntToPtr: _alias,
    ops.PtrCast: _alias,
    ops.TileStore: tiles.tile_store,
    ops.GatherLoad: elements.gather_load,
    ops.LookUp: elements.look_up,
    ops.ScatterStore: elements.scatter_store,
    ops.GatherAtomic: elements.gather_atomic,
    ops.Assert: _assert,
    ops.Print: _print,
    ops.Yield: _nothing,
    ops.Condition: _nothing,
    ops.Return: _return,
}
