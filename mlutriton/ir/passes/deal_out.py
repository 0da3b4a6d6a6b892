"""Programs that go over the tiles of a problem in a loop, as programs of one tile each.

Kernels for GPUs often have as many programs as there are processors, and each takes every so-many-th tile:

    for tile in range(program_id, tiles, PROGRAMS): ...

Here it is known better how tiles are dealt out: neighbours go together on the cores of a cluster, and the loop over
them is pipelined. So what the loop does for a tile becomes the program, and its number that of the tile. It may also go
over where tiles begin, ``range(program_id * ROWS, rows, PROGRAMS * ROWS)``. This is of use for products, and for
straight runs of transfers and arithmetic, of which each core gets as many, in a row, whatever the grid.

A program takes its tiles in turn, those of a grid come in any order. That makes no difference if none reads what
another one writes, and no two write to the same place. The first is known if arrays share no bytes; the second if
each digit of a tile's number (:mod:`mlutriton.ir.passes.numbering`) moves what is stored by its extent or more,
elements of an array being taken to have a place of their own. Tiles with the same digits are the same. Where a row is
a tile, the next one begins behind a stride of the launch, which must not be less than what a row is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlutriton.ir.analysis.access import AccessAnalysis, Scalar, Scalars
from mlutriton.ir.analysis.aliasing import Aliasing, may_meet, reads_what_it_writes
from mlutriton.ir.analysis.launch_facts import Holds, condition_function, launch_arithmetic, launch_function
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, constant, plus
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.memory_ops import ArraysDisjoint
from mlutriton.ir.ops import (
    Constant,
    Elementwise,
    ExpandDims,
    For,
    If,
    Load,
    NumPrograms,
    ProgramId,
    Range,
    Splat,
    Store,
    While,
)
from mlutriton.ir.passes import canonicalize, cse, dce, numbering
from mlutriton.ir.types import shape_of


@dataclass(frozen=True)
class DealtOut:
    """Programs of one tile each.

    Attributes:
        function: does one tile; its number along the first axis of the grid is that of the tile.
        count: a function whose last result says how many tiles there are.
        condition: a function that says of which launches each tile is done by one program.
        in_one_line: these launches have one program along other axes, for which the function does not ask.
    """

    function: Function
    count: Function
    condition: Function
    in_one_line: bool


def run(function: Function) -> DealtOut | None:
    """Programs of one tile each; None if programs do not go over tiles, or it may matter in which order they do."""
    numbered = _by_number(function)
    loop = _loop_over_tiles(numbered)
    if loop is None or reads_what_it_writes(numbered):
        return None
    made = _of_one_tile(numbered)
    if made is None or not all(map(_is_plain, made.walk())):
        return None
    if goes_straight(numbered) and _stores_again(made):
        return None
    places = _Places(made)
    if not places.are_apart():
        return None
    in_one_line = not any(isinstance(each, ProgramId) and each.axis for each in numbered.walk())
    condition = _condition(numbered, places.distances, in_one_line=in_one_line)
    return DealtOut(made, launch_function(numbered, loop.operands[1]), condition, in_one_line)


def goes_straight(function: Function) -> bool:
    """True if a function is a loop around a straight run of operations."""
    loops = [each for each in function.walk() if isinstance(each, For | While | If)]
    return len(loops) == 1 and isinstance(loops[0], For)


def _is_plain(operation: Operation) -> bool:
    is_control = isinstance(operation, For | If) or operation.TERMINATOR
    return is_control or operation.PURE or isinstance(operation, Load | Store)


def _by_number(function: Function) -> Function:
    """The function with a loop over numbers of tiles, also where it goes over where these begin."""
    made = copy_function(function)
    dce.run(made)
    loop = next((each for each in made.body.operations if isinstance(each, For)), None)
    number = next((each for each in made.walk() if isinstance(each, ProgramId) and each.axis == 0), None)
    if loop is None or number is None or loop.initial:
        return made
    start, end, step = loop.operands
    forms = ScalarForms()
    first, ahead = forms.of(start), forms.of(step)
    size = first.get((number.result,), 0)
    if first.keys() != {(number.result,)} or size <= 1 or number.result.type != start.type or len(ahead) != 1:
        return made
    ((factors, count),) = ahead.items()
    if count % size or len(factors) > 1:
        return made
    code = Scalars(loop.location)
    size_of = code.add(Constant.of(size, start.type))
    behind = code.add(Elementwise.of("add", end, code.add(Constant.of(size - 1, start.type))))
    tiles = code.add(Elementwise.of("sdiv", behind, size_of))
    several = code.add(Constant.of(count // size, start.type))
    step = code.add(Elementwise.of("mul", factors[0], several)) if factors and count > size else several
    loop.operands = [number.result, tiles, factors[0] if factors and count == size else step]
    begin = Elementwise.of("mul", loop.index, size_of)
    begin.location = loop.location
    replace_uses(loop.body, {loop.index: begin.result})
    loop.body.operations.insert(0, begin)
    place = made.body.operations.index(loop)
    made.body.operations[place:place] = code.operations
    dce.run(made)
    return made


def _loop_over_tiles(function: Function) -> For | None:
    """The loop over tiles that is all that a function does, from its number on; None if there is none.

    What comes before a straight loop may be loaded: it is the same for all tiles, and loaded once.
    """
    *operations, _ = function.body.operations
    loops = [each for each in operations if isinstance(each, For)]
    if len(loops) != 1:
        return None
    loop, is_straight = loops[0], goes_straight(function)
    if any(not (each.PURE or (is_straight and isinstance(each, Load))) for each in operations if each is not loop):
        return None
    start, end, step = loop.operands[:3]
    queries = [each for each in function.walk() if isinstance(each, ProgramId) and each.axis == 0]
    users = [each for each in function.walk() for operand in each.operands if operand is start]
    is_number = [each.result for each in queries] == [start] and not set(users) - {loop, *_defining(loop.initial)}
    is_known = launch_arithmetic([end], function) is not None and isinstance(step.defining_op, Constant | NumPrograms)
    counts = [each for each in function.walk() if isinstance(each, NumPrograms)]
    is_counted = all(each.result is step and each.axis == 0 for each in counts)
    return loop if is_number and is_known and is_counted else None


def _of_one_tile(function: Function) -> Function | None:
    """What the loop does for the tile of a program's number; None if it carries anything else."""
    made = copy_function(function)
    loop = _loop(made)
    start, step = loop.operands[0], loop.operands[2]
    forms = ScalarForms()
    values = {loop.index: start}
    code = Scalars(function.location)
    for initial, carried, yielded in zip(loop.initial, loop.carried, loop.body.terminator.operands, strict=True):
        moved = plus(forms.of(yielded), forms.of(carried), -1)
        ahead = plus(forms.of(initial), forms.of(start), -1)
        if carried.type != start.type or moved != forms.of(step) or ahead.keys() - {()}:
            return None
        number = code.add(Constant.of(ahead.get((), 0), start.type))
        values[carried] = code.add(Elementwise.of("add", start, number))
    *before, end = made.body.operations
    before.remove(loop)
    place = next(at for at, each in enumerate(before) if start in each.results)
    before[place + 1 : place + 1] = code.operations
    made.body.operations = [*before, *loop.body.operations[:-1], end]
    replace_uses(made.body, values)
    for simplify in (canonicalize.run, cse.run, dce.run):
        simplify(made)
    return made


def _loop(function: Function) -> For:
    return next(each for each in function.body.operations if isinstance(each, For))


def _defining(values: list[Value]) -> set[Operation]:
    return {each.defining_op for each in values if each.defining_op is not None}


def _stores_again(function: Function) -> bool:
    """True if what two stores write may be in one array: tiles may then meet that each alone keeps apart."""
    aliasing = Aliasing(function)
    stores = [aliasing.roots(each) for each in function.walk() if isinstance(each, Store)]
    return any(may_meet(one, other) for place, one in enumerate(stores) for other in stores[:place])


# ---- places ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Distance:
    """From one row to the next, of which it has to be known when a launch begins that it is no less than a row.

    Attributes:
        times: how often the strides count.
        strides: parameters whose product it is, by their places.
        extent: elements of a row at most.
        limit: a parameter, by its place, that a mask keeps the positions of its elements below; None if there is none.
    """

    times: int
    strides: tuple[int, ...]
    extent: int
    limit: int | None


class _Places:
    """Where the tiles of programs are stored.

    Attributes:
        distances: what has to be known besides for rows to be apart.
    """

    def __init__(self, function: Function) -> None:
        self.numbered = numbering.run(function) or numbering.as_written(function)
        self.distances: list[_Distance] = []
        queries = {each.axis: each.result for each in self.numbered.function.walk() if isinstance(each, ProgramId)}
        self._digits = [each for each in self.numbered.digits if each.of == 0]
        # None if it is not known, as of the greatest.
        self._radices = {queries[each.axis]: _known(each.radix) for each in self._digits if each.axis in queries}
        self._arguments = self.numbered.function.body.arguments

    def are_apart(self) -> bool:
        """True if no two tiles are stored to the same place."""
        stores = [each for each in self.numbered.function.walk() if isinstance(each, Store)]
        return len(self._radices) == len(self._digits) and all(map(self._is_apart, stores))

    def _is_apart(self, store: Store) -> bool:
        """True if digits move a tile, along each of its dimensions, by no less than what lesser ones reach."""
        forms, scalars = ScalarForms(), Scalars(store.location)
        linear = AccessAnalysis({}).linear(store.operands[0], scalars)
        if linear is None or linear.base is None:
            return False
        base, offset = forms.place(linear.base)
        if self._may_differ(base):
            return False
        for each in linear.offset:
            offset = plus(offset, constant(each) if isinstance(each, int) else forms.of(each))
        moved: dict[int, dict[Value, int]] = {}
        strides: list[Form] = []
        extents: list[int] = []
        for term, extent in zip(linear.terms, shape_of(store.operands[1].type), strict=True):
            if term is None and extent == 1:
                continue  # a tile of one row is a row
            if term is None or term.wrap is not None or term.repeats > 1:
                return False
            strides.append(constant(term.stride) if isinstance(term.stride, int) else forms.of(term.stride))
            extents.append(extent)
        dimensions = len(extents)
        for factors, count in offset.items():
            digit = next((each for each in factors if each in self._radices), None)
            if digit is None and not any(map(self._may_differ, factors)):
                continue  # the same for all tiles
            rest = tuple(each for each in factors if each is not digit)
            if self._is_along_none(rest, strides):
                self.distances += [self._distance(store, rest, count)] if rest else []
                strides.append({rest: 1})
                extents.append(1)
            along = [at for at, stride in enumerate(strides) if stride.keys() == {rest}]
            if digit is None or len(rest) != len(factors) - 1 or len(along) != 1 or count % strides[along[0]][rest]:
                return False
            moved.setdefault(along[0], {})[digit] = count // strides[along[0]][rest]
        is_whole = {digit for each in moved.values() for digit in each} == set(self._radices)
        # How far it is from row to row tells nothing where something else moves them too.
        is_whole &= len(moved) == 1 or len(extents) == dimensions
        return is_whole and all(_go_up(extents[at], each, self._radices) for at, each in moved.items())

    def _may_differ(self, value: Value) -> bool:
        """False if a scalar is certainly the same for all tiles."""
        pending, seen = [value], set(self._arguments)
        while pending:
            each = pending.pop()
            if each in seen:
                continue
            # What loops and branches give depends on more than on their operands.
            if each in self._radices or isinstance(each.owner, Block) or each.owner.regions:
                return True
            seen.add(each)
            pending += each.owner.operands
        return False

    def _is_along_none(self, rest: tuple[Value, ...], strides: Sequence[Form]) -> bool:
        """True if a tile is a row, of neighbours, or an element, and what is to be multiplied leads to another one."""
        return all(each in self._arguments for each in rest) and (not strides or (bool(rest) and strides == [{(): 1}]))

    def _distance(self, store: Store, strides: Sequence[Value], times: int) -> _Distance:
        """What has to be known of so many times these strides for rows to be apart."""
        mask = store.operands[2] if len(store.operands) > 2 else None
        limits = [self._arguments.index(each) for each in _limits(mask) if each in self._arguments]
        extent = math.prod(shape_of(store.operands[1].type))
        return _Distance(times, tuple(map(self._arguments.index, strides)), extent, limits[0] if limits else None)


def _known(value: Value | None) -> int | None:
    operation = value.defining_op if value is not None else None
    return int(operation.value) if isinstance(operation, Constant) else None


def _limits(mask: Value | None) -> list[Value]:
    """Scalars below which a mask keeps the positions of the elements of a row."""
    match mask.defining_op if mask is not None else None:
        case Elementwise(name="and", operands=[a, b]):
            return _limits(a) + _limits(b)
        case Elementwise(name="slt", operands=[a, b]):
            position, limit = a.defining_op, b.defining_op
            while isinstance(position, ExpandDims):
                position = position.operands[0].defining_op
            if isinstance(position, Range) and position.integer("start") == 0 and isinstance(limit, Splat):
                return [limit.operands[0]]
            return []
        case _:
            return []


def _go_up(extent: int, moved: Mapping[Value, int], radices: Mapping[Value, int | None]) -> bool:
    """True if each digit moves a tile by no less than what it and lesser digits reach."""
    reach: int | None = extent
    for digit in sorted(moved, key=lambda each: moved[each]):
        if reach is None or moved[digit] < reach:
            return False
        radix = radices[digit]
        reach = None if radix is None else moved[digit] * radix
    return True


# ---- launches --------------------------------------------------------------------------------------------------------


def _condition(function: Function, distances: Sequence[_Distance], *, in_one_line: bool) -> Function:
    """That there are tiles, that each is done by one program, and that these read nothing that others write.

    Args:
        function: as it is written.
        distances: what has to be known for rows to be apart.
        in_one_line: along other axes there has to be one.
    """
    asked = copy_function(function)
    loop = _loop(asked)
    code = Scalars(function.location)
    tiles, step = (code.value(each) for each in loop.operands[1:3])
    programs = code.value(code.add(NumPrograms((), {"axis": 0})))
    facts = [
        code.add(ArraysDisjoint()),
        code.add(Elementwise.of("sge", tiles, code.value(1))),
        code.add(Elementwise.of("sle", programs, step)),
        code.add(Elementwise.of("sge", programs, code.value(code.minimum([tiles, step])))),
    ]
    arguments = asked.body.arguments
    for each in dict.fromkeys(distances):
        distance: Scalar = each.times
        for place in each.strides:
            distance = code.binary("mul", distance, code.value(arguments[place]))
        limit = [] if each.limit is None else [code.value(arguments[each.limit])]
        least = code.value(code.minimum([each.extent, *limit]))
        facts.append(code.add(Elementwise.of("sge", code.value(distance), least)))
    for axis in (1, 2) if in_one_line else ():
        extent = code.value(code.add(NumPrograms((), {"axis": axis})))
        facts.append(code.add(Elementwise.of("eq", extent, code.value(1))))
    place = asked.body.operations.index(loop)
    asked.body.operations[place:place] = code.operations
    return condition_function(asked, [Holds(each) for each in facts])
