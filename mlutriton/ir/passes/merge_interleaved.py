"""Accesses that interleave become one access of consecutive elements, and a transpose.

Real and imaginary parts, the pairs of a rotary embedding, the channels of pixels: a kernel that takes each of them by
itself asks for every second or third element. All of them together are what stands there from the first to the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mlutriton.ir.analysis.access import Scalars
from mlutriton.ir.analysis.aliasing import may_write
from mlutriton.ir.analysis.scalar_forms import ScalarForms, plus
from mlutriton.ir.core import Block, Function, Value, replace_uses
from mlutriton.ir.ops import Concatenate, Constant, Reshape, TileLoad, TileStore, Transpose, Window
from mlutriton.ir.passes.insertion import put
from mlutriton.ir.types import TensorType, element_type, shape_of

# More than so many accesses are hardly ever one.
MOST_INTERLEAVED = 16
# One more dimension is to fit into a transfer.
MOST_DIMENSIONS = 2

_Access = TileLoad | TileStore


def run(function: Function) -> bool:
    """Merge accesses that interleave; returns whether there are any."""
    forms, found = ScalarForms(), False
    for block in [function.body, *(region for each in function.walk() for region in each.regions)]:
        for group in _groups(block, forms):
            if isinstance(group[0], TileLoad):
                _load_together(block, [each for each in group if isinstance(each, TileLoad)])
            else:
                _store_together(block, [each for each in group if isinstance(each, TileStore)])
            found = True
    return found


def _groups(block: Block, forms: ScalarForms) -> list[list[_Access]]:
    """Accesses in the order of their places, of which each begins one element behind the one before.

    Between loads nothing may write, between stores nothing may touch memory: they all happen at once.
    """
    alike: dict[object, list[_Access]] = {}
    written = touched = 0
    last_stored: object = None
    for operation in block.operations:
        is_write = may_write(operation)
        if isinstance(operation, TileLoad | TileStore) and _step(operation):
            alike_in = _key(operation, forms)
            if isinstance(operation, TileLoad):
                touched += 1
                alike.setdefault((written, alike_in), []).append(operation)
            else:
                # What is stored elsewhere meanwhile may be the same memory.
                touched += alike_in != last_stored
                last_stored = alike_in
                alike.setdefault((touched, alike_in), []).append(operation)
        else:
            touched += is_write or any(each.READS for each in operation.walk())
        written += is_write
    return [run for accesses in alike.values() for run in _runs(accesses, forms)]


def _runs(accesses: Sequence[_Access], forms: ScalarForms) -> list[list[_Access]]:
    """Of accesses that are alike, those that together leave no gap."""
    _, origin = forms.place(accesses[0].base)
    begins: dict[int, _Access] = {}
    for access in accesses:
        _, place = forms.place(access.base)
        distance = plus(place, origin, -1)
        if not distance.keys() - {()}:
            begins[distance.get((), 0)] = access
    step, found = _step(accesses[0]), list[list[_Access]]()
    taken: set[int] = set()
    for begin in sorted(begins):
        places = range(begin, begin + step)
        if all(place in begins and place not in taken for place in places):
            taken.update(places)
            found.append([begins[place] for place in places])
    return [run for run in found if isinstance(run[0], TileLoad) or _can_be_one_store(run, accesses)]


def _can_be_one_store(stores: Sequence[_Access], among: Sequence[_Access]) -> bool:
    """True if the last store to each place is the same where all rows of one come before those of the next, or not."""
    return _follow_each_other(stores, among) and _has_rows_apart(stores[0])


def _has_rows_apart(store: _Access) -> bool:
    """False if a row begins before the end of the one before, so that a store of whole steps would meet itself.

    Rows at a distance that only the launch knows are taken to have places of their own.
    """
    *rows, last = store.geometry.shape
    match store.geometry.strides[0].defining_op:
        case Constant(value=int(distance)) if rows and rows[0] > 1:
            return abs(distance) >= last * _step(store)
        case _:
            return True


def _follow_each_other(stores: Sequence[_Access], among: Sequence[_Access]) -> bool:
    """True if no other store stands between some, which may be to what they store: the last one counts."""
    places = [among.index(store) for store in stores]
    return max(places) - min(places) < len(places)


def _step(access: _Access) -> int:
    """The distance of an access's neighbours along its last dimension, if that is a small known number; else 0."""
    geometry = access.geometry
    if len(geometry.shape) > MOST_DIMENSIONS or any(geometry.wraps):
        return 0
    match geometry.strides[-1].defining_op:
        case Constant(value=int(step)) if 1 < step <= MOST_INTERLEAVED:
            return step
        case _:
            return 0


def _key(access: _Access, forms: ScalarForms) -> object:
    """Equal for accesses that differ in their values and in where they begin alone."""
    pointer, _ = forms.place(access.base)
    geometry = tuple(frozenset(forms.of(each).items()) for each in access.geometry.operands())
    if isinstance(access, TileStore):
        return pointer, geometry, access.value.type
    other = access.other.defining_op
    fill = repr(other.value) if isinstance(other, Constant) else access.other
    return pointer, geometry, access.result.type, fill


def _load_together(block: Block, loads: Sequence[TileLoad]) -> None:
    first = min(loads, key=block.operations.index)
    code, step, shape = Scalars(first.location), len(loads), shape_of(first.result.type)
    element = element_type(first.result.type)
    operands = _operands(loads[0], step, code, (first.other,))
    whole = code.add(
        TileLoad(operands, {"wraps": (0,) * (len(shape) + 1)}, result_types=[TensorType((*shape, step), element)])
    )
    count = math.prod(shape)
    pairs = code.add(Reshape([whole], result_types=[TensorType((count, step), element)]))
    apart = code.add(Transpose([pairs], {"order": (1, 0)}))
    replaced: dict[Value, Value] = {}
    for place, load in enumerate(loads):
        line = code.add(Window([apart], {"axis": 0, "first": place, "count": 1}))
        part = code.add(Reshape([line], result_types=[load.result.type]))
        part.name = load.result.name
        replaced[load.result] = part
    replace_uses(block, replaced)
    put(block, first, code.operations, set(loads))


def _store_together(block: Block, stores: Sequence[TileStore]) -> None:
    last = max(stores, key=block.operations.index)
    code, step, shape = Scalars(last.location), len(stores), shape_of(last.value.type)
    element, count = element_type(last.value.type), math.prod(shape)
    lines = [code.add(Reshape([each.value], result_types=[TensorType((count,), element)])) for each in stores]
    stacked = _joined(lines, lambda a, b: code.add(Concatenate([a, b])))
    rows = code.add(Reshape([stacked], result_types=[TensorType((step, count), element)]))
    pairs = code.add(Transpose([rows], {"order": (1, 0)}))
    whole = code.add(Reshape([pairs], result_types=[TensorType((*shape, step), element)]))
    operands = _operands(stores[0], step, code, (whole,))
    code.operations.append(TileStore(operands, {"wraps": (0,) * (len(shape) + 1)}, location=last.location))
    put(block, last, code.operations, set(stores))


def _joined(values: Sequence[Value], join: Callable[[Value, Value], Value]) -> Value:
    joined = values[0]
    for value in values[1:]:
        joined = join(joined, value)
    return joined


def _operands(first: _Access, step: int, code: Scalars, what: tuple[Value, ...]) -> list[Value]:
    """The operands of an access of whole steps that begins where one does that takes an element of each."""
    geometry = first.geometry
    one, none, all_of_step = (code.value(number) for number in (1, 0, step))
    return [
        first.base, *what, *geometry.strides, one, *geometry.firsts, none, *geometry.limits, all_of_step,
    ]  # fmt: skip
