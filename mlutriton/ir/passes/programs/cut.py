"""Tiles of other lengths than a kernel's: the positions that its programs go over, cut anew.

Where the tiles of neighbouring programs lie side by side (:mod:`mlutriton.ir.analysis.neighbours`), those of all
programs along an axis are one tensor, and what a program does for its part of that can be done for any other part:

    rows = program * 128 + range(0, 128)                  rows = start + range(0, 684)
    store c[rows], dot(load a[rows], load b)              store c[rows], dot(load a[rows], load b)

Parts begin one behind the other, and the last one reaches behind the end of all. That is right if masks leave out all
that is read and stored there. If they do not, the last part ends where all end, and does again some of what the one
before does, which is right if nothing is read through what is written. No sum changes its order. How many parts there
are and where the last one begins are numbers of the launch, which the function takes as parameters behind its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial

from mlutriton.dtypes import I1, I32
from mlutriton.ir.analysis.access import AccessAnalysis
from mlutriton.ir.analysis.aliasing import reads_what_it_writes
from mlutriton.ir.analysis.launch_facts import (
    Fact,
    Holds,
    condition_function,
    is_of_the_launch,
    launch_function,
)
from mlutriton.ir.analysis.layouts import WHOLE
from mlutriton.ir.analysis.neighbours import Neighbours, Progression, constant_of
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, form_of, number_of, plus
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.copying import copy_block
from mlutriton.ir.core import Function, Operation, Value, replace_uses
from mlutriton.ir.memory_ops import ArraysDisjoint
from mlutriton.ir.ops import (
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    Load,
    NumPrograms,
    ProgramId,
    Range,
    Splat,
    Store,
)
from mlutriton.ir.passes import dce
from mlutriton.ir.passes.programs import numbering, row_groups, widen
from mlutriton.ir.passes.programs.layout_emission import Emission
from mlutriton.ir.types import element_type, is_index, shape_of, with_shape

# Neighbours are any programs: so many that no divisor has all of them in one period.
_ANY = 1 << 40

# No part begins so far behind.
_ANYWHERE = 1 << 30

# Parts of a launch that is too small for them, so that every other form is expected to take less.
_NEVER = 1 << 31

# The last axis of tiles, as how many are behind it.
_LAST = 0

_CASTS = ("sext", "trunc_int")


@dataclass(frozen=True)
class Shape:
    """What parts are to be like.

    Attributes:
        lengths: of the largest tiles, by how many axes these have behind that one.
        least_parts: of a launch with fewer it is not right.
        is_for_many: it is of use where there are many of them, each of which takes less than programs that do as much.
    """

    lengths: Mapping[int, int]
    least_parts: int = 1
    is_for_many: bool = False


@dataclass(frozen=True)
class Cut:
    """Programs of parts of other lengths.

    Attributes:
        shape: for which it was made.
        function: does a part; has parameters behind those of the source.
        fits: a function that says whether a launch has as many rows and columns, or leaves out what a part has besides.
        conditions: functions that say besides of which launches it is right.
        parameters: functions whose last results are these parameters.
        counts: functions whose last results say how many parts there are along each axis of the grid that has any.
        asked: has the arithmetic on the launch that these are about.
        programs: a number of it, how many parts there are; very many where it does not fit.
        share: of a part, how many programs do as much.
    """

    shape: Shape
    function: Function
    fits: Function
    conditions: list[Function]
    parameters: list[Function]
    counts: dict[int, Function]
    asked: Function
    programs: Value
    share: float


class _NotCutError(Exception):
    """A position is not that of a part."""


def run(function: Function, wanted: Sequence[Shape], at_once: int) -> list[Cut]:
    """Functions of tiles that have other lengths, all about the same arithmetic on the launch.

    Args:
        function: as it is written, of which :func:`mlutriton.ir.passes.programs.widen.may_be_widened` is true.
        wanted: shapes of parts.
        at_once: how many of them run at a time.

    Returns:
        One for each of these shapes; none if there are no such tiles along all their axes. Where no programs lie side
        by side but along the last axis, tiles stay as long along the others, and shapes that are the same are one.
    """
    if reads_what_it_writes(function):
        return []
    ungrouped, conditions = row_groups.run(function)
    candidates = [numbering.run(ungrouped, conditions), numbering.as_written(function)]
    if conditions:
        # Groups of the only row are as the grid has them.
        candidates.insert(1, numbering.as_written(ungrouped, conditions))
    for numbered in (each for each in candidates if each is not None):
        # What is asked of the launch is added to the function that all of them are made from.
        search = cache(partial(_searched, numbered.function))
        made: list[tuple[Shape, Function, dict[int, tuple[int, int]]]] = []
        for each in wanted:
            found = _cut(numbered, each.lengths, search)
            if found is None:
                break
            if found[1] not in [lengths for _, _, lengths in made]:
                made.append((each, *found))
        else:
            ends = {axis: _ends(search(axis), axis, extent) for axis, (extent, _) in made[0][2].items()}
            return [_launched(numbered, *each, ends, at_once) for each in made]
    return []


def _ends(search: _Search, axis: int, extent: int) -> list[list[Form]] | None:
    """For each load and store of tiles along an axis the numbers of the launch below which its mask keeps positions.

    None if that is not known of one of them. A position counts from that of the first program on, of tiles of this
    extent. What computes the numbers is added to the function.
    """
    if search.layouts is None:
        return None
    function, forms = search.function, ScalarForms()
    analysis, scalars = AccessAnalysis(), Scalars(function.location)
    numbers = [each.result for each in function.walk() if isinstance(each, ProgramId) and each.axis == axis]
    found: dict[tuple[frozenset[tuple[tuple[Value, ...], int]], ...], list[Form]] = {}
    for operation in function.walk():
        match operation:
            case Store():
                mask, axes = operation.operands[2], {search.stored[operation]}
            case Load():
                mask, axes = operation.operands[1], search.layouts.wanted.get(operation.results[0], set()) - {WHOLE}
            case _:
                continue
        for along in axes:
            items = shape_of(mask.type)[along]
            if extent % items:
                return None
            limits = [form_of(each, forms) for each in analysis.box(mask, scalars)[along].limit]
            ends = [plus(each, {(number,): items for number in numbers if (number,) in each}) for each in limits]
            # An item may be a word of several positions.
            ends = [{key: factor * (extent // items) for key, factor in each.items()} for each in ends]
            known = [each for each in ends if all(is_of_the_launch(factor, function) for key in each for factor in key)]
            if not known:
                return None
            found[tuple(frozenset(each.items()) for each in known)] = known
    # Where a mask keeps all or nothing by a number of the launch, the function has no arithmetic that says so.
    function.body.operations[-1:-1] = [each for each in scalars.operations if is_of_the_launch(each.result, function)]
    return list(found.values())


def _cut(
    numbered: numbering.Numbering, lengths: Mapping[int, int], search_first: Callable[[int], _Search]
) -> tuple[Function, dict[int, tuple[int, int]]] | None:
    """The function of tiles of these lengths, and those before and now by axis of a digit; None if there is none.

    Args:
        numbered: the function as it is.
        lengths: as :class:`Shape` has them.
        search_first: has looked along the axis of a digit at that.
    """
    function = numbered.function
    found: dict[int, tuple[int, int]] = {}
    wanted = dict(lengths)
    beside = 0
    for digit in numbered.asked_for():
        search = search_first(digit.axis) if function is numbered.function else _searched(function, digit.axis)
        beside += search.layouts is not None
        if search.layouts is None or search.neighbours.facts:
            continue
        extents = {shape_of(store.operands[1].type)[along] for store, along in search.stored.items()}
        places = {len(shape_of(store.operands[1].type)) - 1 - along for store, along in search.stored.items()}
        if len(extents) != 1 or len(places) != 1 or not places <= wanted.keys():
            continue
        (extent,), (place,) = extents, places
        try:
            function = _Emission(function, search, digit.axis, extent, wanted[place]).run()
        except _NotCutError:
            continue
        found[digit.axis] = extent, wanted.pop(place)
    is_all = not wanted or (_LAST in lengths and _LAST not in wanted and beside == len(found))
    return (function, found) if is_all else None


class _Search(widen.Search):
    """Looks for axes, and at all integers, so that what loops carry of them is known."""

    def look(self) -> None:
        """Choose an axis for each store, and ask what each integer is from program to program."""
        super().look()
        for operation in self.function.walk():
            for result in operation.results:
                if is_index(result.type):
                    self.neighbours.of(result, WHOLE)


def _searched(function: Function, axis: int) -> _Search:
    """What there is along the axis of a digit."""
    search = _Search(function, Neighbours(function, axis, _ANY))
    search.run()
    return search


def _launched(
    numbered: numbering.Numbering,
    shape: Shape,
    function: Function,
    lengths: Mapping[int, tuple[int, int]],
    ends: Mapping[int, list[list[Form]] | None],
    at_once: int,
) -> Cut:
    """The function with its parts' numbers and places, and what has to hold.

    Args:
        numbered: from which it was made.
        shape: for which it was made.
        function: in which the query for a digit that is cut says where a part begins; is rewritten.
        lengths: of tiles before and now, by the axis of such a digit.
        ends: below which numbers masks keep the positions along the axis of a digit, as :func:`_ends` finds them.
        at_once: how many parts run at a time.
    """
    asked = numbered.function
    parts = _Parts(function, lengths, ends, at_once)
    parts.facts += [*numbered.facts, Holds(parts.code.add(ArraysDisjoint()))]
    counts = {
        axis: parts.number([each for each in numbered.digits if each.of == axis], axis)
        for axis in sorted({each.of for each in numbered.digits})
    }
    fits, programs = parts.programs(shape.least_parts)
    asked.body.operations[-1:-1] = parts.code.operations
    queries = [each for each in function.walk() if isinstance(each, ProgramId)]
    replace_uses(function.body, {each.result: parts.begins[each.axis] for each in queries if each.axis in parts.begins})
    function.body.operations[:0] = parts.inside.operations
    dce.run(function)
    return Cut(
        shape,
        function,
        condition_function(asked, [Holds(fits)]),
        [*numbered.conditions, condition_function(asked, parts.facts)],
        [launch_function(asked, each) for each in parts.parameters],
        {axis: launch_function(asked, each) for axis, each in counts.items()},
        asked,
        programs,
        math.prod(length / extent for extent, length in lengths.values()),
    )


class _Parts:
    """The numbers of parts, as arithmetic on the launch and in the function of a part.

    Attributes:
        code: arithmetic on the launch.
        inside: arithmetic in the function.
        facts: what has to hold of a launch for the numbers to be right.
        parameters: numbers of the launch that the function takes.
        begins: by axis of a digit, where a part begins along it if it is cut, else the digit itself.
    """

    def __init__(
        self,
        function: Function,
        lengths: Mapping[int, tuple[int, int]],
        ends: Mapping[int, list[list[Form]] | None],
        at_once: int,
    ) -> None:
        self.code, self.inside = Scalars(function.location), Scalars(function.location)
        self.facts: list[Fact] = []
        self.parameters: list[Value] = []
        self.begins: dict[int, Value] = {}
        self._function, self._lengths, self._ends, self._at_once = function, lengths, ends, at_once
        self._fitting: list[Value] = []
        self._every: Scalar = 1

    def number(self, digits: Sequence[numbering.Digit], axis: int) -> Value:
        """Number the parts along an axis of the grid by its digits; how many there are."""
        counts: list[Scalar] = []
        lasts: list[Scalar | None] = []
        along: Scalar = 1
        for digit, radix in self._radices(digits, axis):
            count, last = self._counted(digit, radix)
            along = self.code.binary("mul", along, count)
            counts.append(count)
            lasts.append(last)
        number = self.inside.add(ProgramId((), {"axis": axis}))
        if len(digits) == 2 and all(each.axis in self._lengths for each in digits):
            rows, columns = (self._lengths[each.axis][1] for each in digits)
            height = max(1, round(math.sqrt(self._at_once * columns / rows)))
            places = _in_groups(self.inside, number, [self._parameter(each) for each in counts], height)
        else:
            places = _one_by_one(self.inside, number, [self._parameter(each) for each in counts[:-1]])
        for digit, place, last in zip(digits, places, lasts, strict=True):
            self.begins[digit.axis] = place
            if last is not None:
                length = self.inside.add(Constant.of(self._lengths[digit.axis][1], I32))
                begin = self.inside.add(Elementwise.of("mul", place, length))
                # Where parts fit, the last one does not begin before the first; it ends where tiles do, or far behind.
                common = math.gcd(*self._lengths[digit.axis], _ANYWHERE)
                bound = self._parameter(last, {"divisibility": common, "least": 0})
                self.begins[digit.axis] = self.inside.add(Elementwise.of("smin", begin, bound))
        every = self.code.value(along)
        self._every = self.code.binary("mul", self._every, every)
        return every

    def programs(self, least: int) -> tuple[Value, Value]:
        """Whether a launch has as many rows and columns, and parts; and how many parts, very many if not."""
        code = self.code
        if least > 1:
            self._fitting.append(code.add(Elementwise.of("sge", code.value(self._every), code.value(least))))
        fits = code.add(Constant.of(1, I1))
        for each in self._fitting:
            fits = code.add(Elementwise.of("and", fits, each))
        return fits, code.value(code.select(fits, self._every, _NEVER))

    def _radices(self, digits: Sequence[numbering.Digit], axis: int) -> Iterator[tuple[numbering.Digit, Value]]:
        """How many there are of each digit, which together have to make all programs along an axis."""
        code = self.code
        left = code.value(code.add(NumPrograms((), {"axis": axis})))
        for digit in digits:
            radix = code.value(digit.radix) if digit.radix is not None else left
            if digit is not digits[-1]:
                least = code.maximum([radix, 1])
                rest_of_it = code.value(code.binary("srem", left, least))
                self.facts.append(Holds(code.add(Elementwise.of("eq", rest_of_it, code.value(0)))))
                left = code.value(code.binary("sdiv", left, least))
            elif digit.radix is not None:
                self.facts.append(Holds(code.add(Elementwise.of("eq", radix, left))))
            yield digit, radix

    def _counted(self, digit: numbering.Digit, radix: Value) -> tuple[Scalar, Scalar | None]:
        """How many parts there are along a digit, and behind which place none begins, if it is cut."""
        if digit.axis not in self._lengths:
            return radix, None
        code = self.code
        extent, length = self._lengths[digit.axis]
        whole = code.binary("mul", radix, extent)
        last = code.binary("sub", whole, length)
        kept, covered = self._ends[digit.axis], whole
        if kept is not None:
            end = code.maximum([code.minimum([number_of(each, code) for each in some]) for some in kept])
            is_inside = code.add(Elementwise.of("sle", code.value(end), code.value(whole)))
            last = code.binary("sub", code.select(is_inside, _ANYWHERE, whole), length)
            # Behind what masks keep no part has anything to do.
            covered = code.minimum([whole, code.maximum([end, 1])])
        self._fitting.append(code.add(Elementwise.of("sge", code.value(last), code.value(0))))
        return code.quotient(code.binary("add", covered, length - 1), length), last

    def _parameter(self, number: Scalar, facts: Mapping[str, int] | None = None) -> Value:
        """A parameter of the function that has a number of the launch, of which these facts are known."""
        self.parameters.append(self.code.value(number))
        return self._function.add_parameter(I32, f"part{len(self.parameters)}", facts)


def _one_by_one(code: Scalars, number: Value, radices: Sequence[Value]) -> list[Value]:
    """The digits of a number, the least first, of which the greatest has no radix."""
    digits: list[Value] = []
    for radix in radices:
        digits.append(code.add(Elementwise.of("srem", number, radix)))
        number = code.add(Elementwise.of("sdiv", number, radix))
    return [*digits, number]


def _in_groups(code: Scalars, number: Value, parts: Sequence[Value], height: int) -> list[Value]:
    """The row and the column of a part, numbered column by column in groups of so many rows, or what is left of them.

    Those that run at a time are then about a square of the result, which needs the least of what is loaded.
    """
    rows, columns = parts
    most = code.add(Constant.of(height, I32))
    span = code.add(Elementwise.of("mul", columns, most))
    within, group = _one_by_one(code, number, [span])
    first = code.add(Elementwise.of("mul", group, most))
    lines = code.add(Elementwise.of("smin", code.add(Elementwise.of("sub", rows, first)), most))
    row, column = _one_by_one(code, within, [lines])
    return [code.add(Elementwise.of("add", first, row)), column]


class _Emission(Emission):
    """Writes the function of a part, in which the number of a program is where the part begins.

    What is the number times the extent of a tile is that place, so what is the number times anything that is no
    multiple of the extent stands for as many times as much until it is multiplied.
    """

    def __init__(self, function: Function, search: widen.Search, axis: int, extent: int, length: int) -> None:
        assert search.layouts is not None, "tiles lie side by side"
        super().__init__(function, search.layouts)
        self.stored, self.neighbours = search.stored, search.neighbours
        self.axis, self.extent, self.length = axis, extent, length

    def shape(self, shape: tuple[int, ...], layout: int) -> tuple[int, ...]:
        """That of the tensors of a part."""
        if layout == WHOLE:
            return shape
        # Along words that have several elements each, for example, a tensor has fewer positions than tiles.
        length, rest = divmod(shape[layout] * self.length, self.extent)
        if rest:
            raise _NotCutError
        return (*shape[:layout], length, *shape[layout + 1 :])

    def with_effect(self, operation: Operation) -> None:
        """Store a part."""
        assert isinstance(operation, Store), "programs that may be widened do nothing else"
        layout = self.stored[operation]
        self.effect(operation.__class__([self.values[each, layout] for each in operation.operands], {}))

    def made(self, operation: Operation, layout: int) -> Sequence[Value]:
        """Do an operation for a part."""
        types = [
            with_shape(self.shape(shape_of(result.type), layout), element_type(result.type))
            for result in operation.results
        ]
        match operation:
            case ProgramId():
                return [self.code.add(ProgramId((), operation.attributes))]
            case Range() if layout != WHOLE:
                start, (length,) = operation.integer("start"), shape_of(types[0])
                return [self.code.add(Range((), {"start": start, "end": start + length}))]
            case Constant():
                return [self.code.add(Constant.of(operation.value, types[0]))]
            case _:
                operands = self.operands(operation, layout)
                factor = self._factor(operation)
                if factor is not None:
                    place, of = factor
                    if of.denominator > 1:
                        divisor = self.code.add(Constant.of(of.denominator, operands[1 - place].type))
                        operands[1 - place] = self.code.add(Elementwise.of("sdiv", operands[1 - place], divisor))
                    operands[place] = self.code.add(Constant.of(of.numerator, operands[place].type))
                regions = [copy_block(region, {}) for region in operation.regions]
                made = operation.__class__(operands, operation.attributes, result_types=types, regions=regions)
                return self.effect(made).results

    def _is_partial(self, value: Value) -> bool:
        """True if an integer stands for as many times as much as a tile is long."""
        relation = self.neighbours.of(value, WHOLE) if is_index(value.type) else None
        if not isinstance(relation, Progression) or relation.step % self.extent == 0:
            return False
        # All parts begin at multiples of what both lengths are.
        return relation.step == 1 or relation.step * math.gcd(self.extent, self.length, _ANYWHERE) % self.extent != 0

    def _factor(self, operation: Operation) -> tuple[int, Fraction] | None:
        """The factor that makes a place of what stands for more, as an operand's place and what it is to be."""
        operands = operation.operands
        partial = [place for place, each in enumerate(operands) if self._is_partial(each)]
        if any(map(self._is_unknown, operation.results)):
            raise _NotCutError
        if not partial or isinstance(operation, Splat | ExpandDims | Broadcast) or operation.name in _CASTS:
            return None
        if len(partial) > 1 or operation.name != "mul":
            raise _NotCutError
        factor = constant_of(operands[1 - partial[0]])
        if factor is None:
            raise _NotCutError
        if self._is_partial(operation.result):
            return None
        return 1 - partial[0], Fraction(factor, self.extent)

    def _is_unknown(self, value: Value) -> bool:
        """True for a number of which nothing is known from program to program."""
        return not shape_of(value.type) and not isinstance(self.neighbours.of(value, WHOLE), Progression)
