"""Rewrite rules of ops that move or repeat elements, of pointers and of memory access.

The laws are those of :mod:`~mlutriton.ir.passes.canonicalize.arithmetic_rules`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlutriton.dtypes import DType
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import (
    AddPtr,
    Assert,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    Gather,
    GatherLoad,
    IntToPtr,
    Join,
    Load,
    PtrCast,
    PtrToInt,
    Range,
    Reduce,
    Reshape,
    ScatterStore,
    Splat,
    Store,
    Transpose,
    Window,
    pointee,
)
from mlutriton.ir.passes.canonicalize.arithmetic_rules import Make, constant_of, scalar_of
from mlutriton.ir.types import TensorType, Type, element_type, shape_of, with_element


def simplify_structure(op: Operation, make: Make) -> Sequence[Value] | None:
    """Values that are equal to the op's results and better, or None."""
    match op:
        case Splat() | ExpandDims() | Broadcast() | Reshape() | Transpose():
            value = _moved(op, make)
        case AddPtr():
            value = _addptr(op, make)
        case PtrToInt() | IntToPtr() | PtrCast():
            value = _pointer_cast(op, make)
        case Range() if op.integer("end") - op.integer("start") == 1:
            value = make(Constant.of(op.integer("start"), op.result.type))
        case Join() if op.operands[0] is op.operands[1]:
            value = _repeated(op, make)
        case Gather():
            value = _window(op, make)
        case Reduce() if shape_of(op.operands[0].type)[op.axis] == 1 and shape_of(op.results[0].type):
            pairs = zip(op.operands, op.results, strict=True)
            return [make(Reshape([operand], result_types=[result.type])) for operand, result in pairs]
        case Load() if constant_of(op.operands[1]) is False:
            value = op.operands[2]
        case GatherLoad() if constant_of(op.operands[2]) is False and op.integer("length") == 1:
            value = op.operands[3]
        case Store() if constant_of(op.operands[2]) is False:
            return []
        case ScatterStore() if constant_of(op.operands[3]) is False:
            return []
        case Assert() if constant_of(op.operands[0]) is True:
            return []
        case _:
            return None
    return None if value is None else [value]


def _moved(op: Operation, make: Make) -> Value | None:
    source, type = op.operands[0], op.result.type
    if not isinstance(op, Transpose) and source.type == type:
        return source
    inner = source.defining_op
    match op, inner:
        case _, Constant():
            return make(Constant.of(inner.value, type))
        case _, Splat() if shape_of(type):
            return make(Splat(inner.operands, result_types=[type]))
        case Reshape(), Splat():
            return inner.operands[0]
        case (Broadcast(), Broadcast()) | (Reshape(), Reshape() | ExpandDims()):
            return make(_retyped(op, inner.operands[0], type))
        case Reshape(), Broadcast():
            return _parted(op, inner, make)
        case Transpose(), _ if op.order == tuple(range(len(op.order))):
            return source
        case Transpose(), Transpose():
            order = tuple(inner.order[d] for d in op.order)
            return make(Transpose(inner.operands, {"order": order}))
        case _:
            return None


def _parted(op: Operation, repeat: Broadcast, make: Make) -> Value | None:
    """A tensor that is repeated as a whole along what another shape parts is repeated along each of the parts."""
    (once, *source), (times, *inner) = (shape_of(each.type) for each in (repeat.operands[0], repeat.result))
    parts: list[int] = []
    for extent in shape_of(op.result.type) if once == 1 else ():
        if times == 1 or times % extent:
            break
        parts.append(extent)
        times //= extent
    if not parts or (times == 1 and len(parts) == 1):
        return None
    dtype = element_type(op.result.type)
    single = make(Reshape(repeat.operands, result_types=[TensorType((*[1] * len(parts), 1, *source), dtype)]))
    repeated = make(Broadcast([single], result_types=[TensorType((*parts, times, *inner), dtype)]))
    return make(Reshape([repeated], result_types=[op.result.type]))


def _repeated(op: Join, make: Make) -> Value | None:
    """A tensor beside itself of which each element is repeated already: it is repeated twice as many times.

    Two of each alone are rather joined, which takes fewer cycles.
    """
    source, type = op.operands[0], op.result.type
    repeat = source.defining_op.operands[0].defining_op if isinstance(source.defining_op, Reshape) else None
    match repeat:
        case Join() if repeat.operands[0] is repeat.operands[1]:
            once = repeat.operands[0]
            single = make(ExpandDims([once], {"axis": len(shape_of(once.type))}))
        case Broadcast() if shape_of(repeat.operands[0].type)[-1] == 1:
            single = repeat.operands[0]
        case _:
            return None
    *rest, times = shape_of(repeat.result.type)
    *outer, two = shape_of(type)
    if not rest or [*rest[:-1], rest[-1] * times] != outer:
        return None
    wide = make(Broadcast([single], result_types=[TensorType((*rest, times * two), element_type(type))]))
    return make(Reshape([wide], result_types=[type]))


def _window(op: Gather, make: Make) -> Value | None:
    """A gather at positions that follow each other, if they are known and all inside."""
    source, index = op.operands
    axis = op.integer("axis")
    first, count = _first_of_run(index, axis), shape_of(index.type)[axis]
    if first is None or not 0 <= first <= shape_of(source.type)[axis] - count:
        return None
    return make(Window([source], {"axis": axis, "first": first, "count": count}))


def _first_of_run(index: Value, axis: int) -> int | None:
    """The first of positions that grow by one along an axis and are the same everywhere beside it."""
    count, first = shape_of(index.type)[axis], 0
    while True:
        definition, shape = index.defining_op, shape_of(index.type)
        match definition:
            case Range():
                return first + definition.integer("start")
            case Constant() if count == 1 and isinstance(definition.value, int):
                return first + definition.value
            case Elementwise() if definition.name == "add":
                added = constant_of(definition.operands[1])
                if added is None:
                    return None
                first += int(added)
            case Elementwise() if definition.name == "sext":
                pass
            case Broadcast() | Reshape() | ExpandDims():
                # What is repeated, or is one row in another shape, has no other extents.
                inner = shape_of(definition.operands[0].type)
                if math.prod(inner) != count or (len(inner) == len(shape) and inner[axis] != count):
                    return None
            case _:
                return None
        index = definition.operands[0]


def _retyped(op: Operation, source: Value, type: Type) -> Operation:
    return op.__class__([source], op.attributes, result_types=[type])


def _addptr(op: AddPtr, make: Make) -> Value | None:
    pointer, offset = op.operands
    if constant_of(offset) == 0:
        return pointer
    uniform = isinstance(pointer.defining_op, Splat) and isinstance(offset.defining_op, Splat | Constant)
    if shape_of(pointer.type) and uniform:
        scalar = make(AddPtr([scalar_of(pointer, make), scalar_of(offset, make)]))
        return make(Splat([scalar], result_types=[pointer.type]))
    inner = pointer.defining_op
    if not isinstance(inner, AddPtr) or inner.operands[1].type != offset.type:
        return None
    first, second = constant_of(inner.operands[1]), constant_of(offset)
    dtype = element_type(offset.type)
    if first is None or second is None or not isinstance(dtype, DType):
        return None
    # Offsets are sign-extended one by one: their sum must be one of the type. An address wraps as i64 does.
    if dtype.bits < 64 and not -(1 << (dtype.bits - 1)) <= first + second < 1 << (dtype.bits - 1):
        return None
    return make(AddPtr([inner.operands[0], make(Elementwise.of("add", inner.operands[1], offset))]))


def _cast(pointer: Value, type: Type, make: Make) -> Value:
    """A pointer, or a tensor of such, as pointers to what those of another type point to."""
    return make(PtrCast([pointer], result_types=[with_element(pointer.type, element_type(type))]))


def _pointer_cast(op: Operation, make: Make) -> Value | None:
    source, type = op.operands[0], op.result.type
    inner = source.defining_op
    match op, inner:
        case PtrCast(), _ if source.type == type:
            return source
        case (PtrCast(), PtrCast()) | (PtrToInt(), PtrCast()):
            return make(_retyped(op, inner.operands[0], type))
        case PtrCast(), AddPtr() if pointee(source).bytes == pointee(op.result).bytes:
            return make(AddPtr([_cast(inner.operands[0], type, make), inner.operands[1]]))
        case PtrCast(), Splat() | Broadcast() | ExpandDims() | Reshape() | Transpose():
            # A pointer is cast before there are many of it: what is linear in positions is to be seen as such.
            return make(_retyped(inner, _cast(inner.operands[0], type, make), type))
        case PtrToInt(), IntToPtr():
            return inner.operands[0]
        case IntToPtr(), PtrToInt():
            return make(PtrCast(inner.operands, result_types=[type]))
        case _:
            return None
