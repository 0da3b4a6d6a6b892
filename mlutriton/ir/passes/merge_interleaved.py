"""Accesses that interleave become one access of consecutive elements, and a transpose.

Real and imaginary parts, the pairs of a rotary embedding, the channels of pixels: a kernel that takes each of them by
itself asks for every second or third element. All of them together are what stands there from the first to the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import permutations

from mlutriton.ir.analysis.aliasing import may_write
from mlutriton.ir.analysis.launch_facts import Fact, Holds, condition_function, has_texts, is_of_the_launch
from mlutriton.ir.analysis.scalar_forms import ScalarForms, plus
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Block, Function, Value, replace_uses
from mlutriton.ir.ops import (
    Concatenate,
    Constant,
    Elementwise,
    Reshape,
    TileLoad,
    TileStore,
    Transpose,
    Window,
)
from mlutriton.ir.passes.insertion import put
from mlutriton.ir.types import TensorType, element_type, shape_of

# More than so many accesses are hardly ever one.
MOST_INTERLEAVED = 16
# One more dimension is to fit into a transfer, together with the last one.
MOST_DIMENSIONS = 3

_Access = TileLoad | TileStore


@dataclass(frozen=True)
class Interleaved:
    """What has become of the accesses of a function.

    Attributes:
        is_any_merged: whether there are any that interleave.
        conditions: functions that say of which launches it is right.
    """

    is_any_merged: bool
    conditions: list[Function]


def run(function: Function) -> Interleaved:
    """Merge accesses that interleave."""
    forms, found, pitches = ScalarForms(), False, _Pitches(function)
    for block in [function.body, *(region for each in function.walk() for region in each.regions)]:
        for group in _groups(block, forms, pitches):
            if isinstance(group[0], TileLoad):
                _load_together(block, [each for each in group if isinstance(each, TileLoad)])
            else:
                _store_together(block, [each for each in group if isinstance(each, TileStore)])
            found = True
    return Interleaved(found, pitches.conditions())


class _Pitches:
    """Whether rows are so far from each other that they do not meet, be it as a fact of the launch."""

    def __init__(self, function: Function) -> None:
        self._function = function
        # Versions are not made of what has texts of its own.
        self._may_ask = not has_texts(function)
        self._code = Scalars(function.location)
        self._facts: dict[object, Fact] = {}

    def keep_apart(self, store: _Access) -> bool:
        """False if a row may begin before the end of another one: a store of whole steps would meet itself."""
        *extents, last = store.geometry.shape
        length = last * _step(store)
        rows = tuple(
            (_known(pitch), extent)
            for pitch, extent in zip(store.geometry.strides, extents, strict=False)
            if extent > 1
        )
        if (rows, length) in self._facts:
            return True
        asked = [pitch for pitch, _ in rows if isinstance(pitch, Value)]
        if asked and not (self._may_ask and all(is_of_the_launch(each, self._function) for each in asked)):
            return False
        # Rows of one dimension lie between those of another, whichever that is.
        verdicts = [self._are_nested(nest, length) for nest in permutations(rows)]
        if any(verdict is True for verdict in verdicts):
            return True
        of_launch = [verdict for verdict in verdicts if isinstance(verdict, Value)]
        if not of_launch:
            return False
        self._facts[rows, length] = Holds(reduce(self._either, of_launch))
        return True

    def _are_nested(self, rows: Sequence[tuple[Scalar, int]], length: int) -> Value | bool:
        """Whether each of the dimensions goes on behind all that those before it take, with rows of a length."""
        code, holds = self._code, list[Value]()
        taken: Scalar = length
        for pitch, extent in rows:
            distance = code.maximum([pitch, code.binary("sub", 0, pitch)])
            if isinstance(distance, Value) or isinstance(taken, Value):
                holds.append(code.add(Elementwise.of("sge", code.value(distance), code.value(taken))))
            elif distance < taken:
                return False
            taken = code.binary("add", code.binary("mul", distance, extent - 1), taken)
        return reduce(lambda a, b: code.add(Elementwise.of("and", a, b)), holds) if holds else True

    def _either(self, one: Value, other: Value) -> Value:
        return self._code.add(Elementwise.of("or", one, other))

    def conditions(self) -> list[Function]:
        """Functions that say of which launches all that was asked holds."""
        operations = self._function.body.operations
        operations[-1:-1] = self._code.operations
        return [condition_function(self._function, list(self._facts.values()))] if self._facts else []


def _known(number: Value) -> Scalar:
    constant = number.defining_op
    return constant.value if isinstance(constant, Constant) and isinstance(constant.value, int) else number


def _groups(block: Block, forms: ScalarForms, pitches: _Pitches) -> list[list[_Access]]:
    """Accesses in the order of their places, of which each begins one element behind the one before.

    Between loads nothing may write, between stores nothing may touch memory: they all happen at once.
    """
    alike: dict[object, list[_Access]] = {}
    written = touched = 0
    last_stored: object = None
    for operation in block.operations:
        is_write = may_write(operation)
        is_volatile = isinstance(operation, TileLoad) and operation.is_volatile
        if isinstance(operation, TileLoad | TileStore) and not is_volatile and _step(operation):
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
    return [run for accesses in alike.values() for run in _runs(accesses, forms, pitches)]


def _runs(accesses: Sequence[_Access], forms: ScalarForms, pitches: _Pitches) -> list[list[_Access]]:
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
    # The last store to each place is to be the same where all rows of one come before those of the next, or not.
    return [
        run
        for run in found
        if isinstance(run[0], TileLoad) or (_follow_each_other(run, accesses) and pitches.keep_apart(run[0]))
    ]


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
