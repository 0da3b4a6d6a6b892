"""Where programs store their tiles, and of which launches no two of them are stored to the same place.

Each digit of a program's number (:mod:`mlutriton.ir.passes.programs.numbering`) has to move what is stored along one
axis of its tile, by no less than what lesser digits reach there. Then no two tiles have a position in common, and
positions have places of their own if the stride of each axis is no less than what all positions along the axis below it
take. What is stored to one array by several stores counts as one tile that has all of it. So does what a loop stores in
its turns.

Where strides are numbers of the launch, so is whether they are long enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import permutations

from mlutriton.ir.analysis.access import AccessAnalysis
from mlutriton.ir.analysis.aliasing import Aliasing, Roots, may_meet, writes
from mlutriton.ir.analysis.launch_facts import Fact, Holds, condition_function, is_of_the_launch, launch_arithmetic
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, constant, form_of, multiples, number_of, plus
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.copying import copy_operation
from mlutriton.ir.core import Block, Function, Value
from mlutriton.ir.memory_ops import ArraysDisjoint
from mlutriton.ir.ops import Constant, Elementwise, For, NumPrograms, ProgramId, Store
from mlutriton.ir.passes.programs import numbering
from mlutriton.ir.types import shape_of

# Tiles have no more axes along which they extend or are moved.
_MOST_AXES = 3


@dataclass(frozen=True)
class _Axis:
    """A dimension of what tiles are stored to.

    Attributes:
        stride: elements from one position to the next.
        extent: positions of a tile.
        moved: how far each digit moves a tile, and the index of each loop.
        limits: below which a mask keeps all positions.
    """

    stride: Form
    extent: int
    moved: Mapping[Value, int]
    limits: tuple[Form, ...] = ()

    @property
    def step(self) -> int:
        """What positions are multiples of."""
        return math.gcd(*self.moved.values()) if self.extent == 1 and self.moved else 1

    @property
    def is_one_position(self) -> bool:
        """True if all tiles have the same position."""
        return self.extent == 1 and not self.moved

    def joined(self, other: _Axis, shift: int) -> _Axis:
        """With the positions of a tile that is moved alike, and begins so many of them later."""
        begin, end = min(0, shift), max(self.extent, shift + other.extent)
        there = [plus(each, constant(shift)) for each in other.limits]
        limits = tuple(plus(each, constant(-begin)) for each in self.limits if each in there)
        return replace(self, extent=end - begin, limits=limits)


@dataclass(frozen=True)
class _Tile:
    """What a program stores to an array.

    Attributes:
        base: the pointer from which places are counted.
        begin: the first place of the first tile.
        axes: of it; None if it is not known where it lies.
        roots: where the array may come from.
    """

    base: Value
    begin: Form
    axes: tuple[_Axis, ...] | None
    roots: Roots

    def joined(self, other: _Tile) -> _Tile:
        """With what is stored by another store, which may go to the same array."""
        roots = None if self.roots is None or other.roots is None else self.roots | other.roots
        return replace(self, axes=self._joined_axes(other), roots=roots)

    def _joined_axes(self, other: _Tile) -> tuple[_Axis, ...] | None:
        if self.axes is None or other.axes is None:
            return None
        alike = [(each.stride, each.moved) for each in self.axes] == [(each.stride, each.moved) for each in other.axes]
        if self.base is not other.base or not alike:
            return None
        shifts = multiples(plus(other.begin, self.begin, -1), [each.stride for each in self.axes])
        if shifts is None:
            return None
        pairs = zip(self.axes, other.axes, shifts, strict=True)
        return tuple(one.joined(each, shift) for one, each, shift in pairs)


class StoredPlaces:
    """The places to which the programs of a function store.

    Attributes:
        function: programs with their numbers by digits, and the arithmetic on the launch that facts are about.
    """

    def __init__(self, function: Function, axes: Sequence[int] = (0,)) -> None:
        """Look at a function whose numbers along some axes of the grid are those of a tile."""
        self._numbered = numbering.run(function) or numbering.as_written(function)
        self.function = self._numbered.function
        self._operations = set(self.function.walk())
        self._forms, self._code = ScalarForms(), Scalars(function.location)
        queries = {each.axis: each.result for each in self._operations if isinstance(each, ProgramId)}
        digits = [each for each in self._numbered.digits if each.of in axes]
        self._digits = {queries[each.axis]: each for each in digits if each.axis in queries}
        self._is_asked = len(self._digits) == len(digits)
        self._unasked = [each.of for each in digits if each.axis not in queries]
        self._loops = {each.index: each for each in self._operations if isinstance(each, For)}
        self._is_grid = len(axes) > 1

    def launched(self, wanted: Sequence[Value], source: Function) -> list[Value]:
        """Numbers of the launch of a function that has the same parameters, as those of this one."""
        arithmetic = launch_arithmetic(wanted, source)
        assert arithmetic is not None, "they are numbers of the launch"
        values = dict(zip(source.body.arguments, self.function.body.arguments, strict=True))
        self.function.body.operations[-1:-1] = [copy_operation(each, values) for each in arithmetic]
        return [values[each] for each in wanted]

    def apart(self, count: Value) -> list[Fact] | None:
        """What has to hold for no two tiles to be stored to the same place; None if that cannot be known.

        Args:
            count: how many tiles there are, a number of the launch.
        """
        if not self._is_asked:
            return None
        facts: list[Fact] = [*self._numbered.facts]
        for tile in self._tiles():
            apart = self._apart(tile, {0: count}) if tile.axes is not None else None
            if apart is None:
                return None
            facts += apart
        self.function.body.operations[-1:-1] = self._code.operations
        return facts

    @property
    def conditions(self) -> Sequence[Function]:
        """What has to hold of a launch for numbers to have these digits."""
        return self._numbered.conditions

    def own(self) -> dict[int, Function]:
        """When no two programs store to the same place of an array, whatever masks choose inside of their limits.

        Returns:
            by the number of its parameter, a function that says of which launches that is so, for arrays of which it
            can be known; besides, ``conditions`` have to hold. What loops store counts as stored by their program.
        """
        axes = {each.of for each in self._digits.values()} | {*self._unasked}
        values = {axis: self._code.add(NumPrograms((), {"axis": axis})) for axis in sorted(axes)}
        one_line: list[Fact] = []
        for axis in self._unasked:
            programs = self._code.value(values[axis])
            one_line.append(Holds(self._code.add(Elementwise.of("sle", programs, self._code.value(1)))))
        tiles = self._tiles()
        others = [Holds(self._code.add(ArraysDisjoint()))] if len(tiles) > 1 else []
        found: dict[int, list[Fact]] = {}
        for tile in tiles:
            apart = (
                self._apart(tile, values) if tile.axes is not None and tile.roots == frozenset([tile.base]) else None
            )
            if apart is not None:
                found[self.function.body.arguments.index(tile.base)] = [*one_line, *others, *apart]
        self.function.body.operations[-1:-1] = self._code.operations
        digits = self._numbered.facts
        return {place: condition_function(self.function, [*digits, *facts]) for place, facts in found.items()}

    def _tiles(self) -> list[_Tile]:
        """What is written to each array; stores to one array are one tile, without axes if it is not known where."""
        aliasing, tiles = Aliasing(self.function), list[_Tile]()
        for each in self.function.walk():
            if writes(each):
                roots = aliasing.roots(each)
                tile = self._tile(each, roots) if isinstance(each, Store) else None
                tile = tile or _Tile(each.operands[0], {}, None, roots)
                for met in [met for met in tiles if may_meet(met.roots, tile.roots)]:
                    tile = met.joined(tile)
                    tiles.remove(met)
                tiles.append(tile)
        return tiles

    def _apart(self, tile: _Tile, counts: Mapping[int, Value]) -> list[Fact] | None:
        """What has to hold for no two programs to have the same place of an array; None if that cannot be known.

        Args:
            tile: what each of them stores, of known axes.
            counts: how many programs there are along each axis of the grid.
        """
        assert tile.axes is not None
        if not all(self._go_up(axis.extent, axis.moved) for axis in tile.axes):
            return None
        return self._have_own_places([each for each in tile.axes if not each.is_one_position], counts)

    # ---- tiles -------------------------------------------------------------------------------------------------------

    def _tile(self, store: Store, roots: Roots) -> _Tile | None:
        """Where a store's tile is, if each digit moves it along one of its axes."""
        scalars, analysis = Scalars(store.location), AccessAnalysis({})
        linear = analysis.linear(store.operands[0], scalars)
        if linear is None or linear.base is None:
            return None
        base, offset = self._forms.place(linear.base)
        if self._may_differ(base):
            return None
        for each in linear.offset:
            offset = plus(offset, self._form(each))
        strides: list[Form] = []
        shape = shape_of(store.operands[1].type)
        # A tile of one row is a row.
        dimensions = [d for d, term in enumerate(linear.terms) if term is not None or shape[d] > 1]
        for term in (linear.terms[d] for d in dimensions):
            if term is None or term.wrap is not None or term.repeats > 1:
                return None
            strides.append(self._form(term.stride))
        extents = [shape[d] for d in dimensions]
        moved: list[dict[Value, int]] = [{} for _ in strides]
        begin: Form = {}
        for factors, count in offset.items():
            digit = next((each for each in factors if each in self._digits or self._is_counted(each)), None)
            if digit is None and not any(map(self._may_differ, factors)):
                begin[factors] = count  # the same for all tiles
                continue
            rest = tuple(each for each in factors if each is not digit)
            if digit is not None and self._is_along_none(rest, strides):
                strides.append({rest: 1})
                extents.append(1)
                moved.append({})
            steps = {at: stride[rest] for at, stride in enumerate(strides) if stride.keys() == {rest}}
            whole = [at for at, step in steps.items() if step > 0 and count % step == 0]
            if digit is None or len(rest) != len(factors) - 1 or not whole:
                return None
            # Along any of them it would be right: along the farthest, digits reach least.
            along = max(whole, key=lambda at: steps[at])
            moved[along][digit] = count // steps[along]
        # How far it is from row to row tells nothing where something else moves them too.
        is_clear = self._is_grid or sum(map(bool, moved)) == 1 or len(extents) == len(dimensions)
        if not is_clear or not self._digits.keys() <= {digit for each in moved for digit in each}:
            return None
        limits = self._limits(store, scalars, dimensions, moved)
        return _Tile(base, begin, tuple(map(_Axis, strides, extents, moved, limits)), roots)

    def _form(self, scalar: Scalar) -> Form:
        return form_of(scalar, self._forms)

    def _may_differ(self, value: Value) -> bool:
        """False if a scalar is certainly the same for all tiles."""
        pending, seen = [value], set(self.function.body.arguments)
        while pending:
            each = pending.pop()
            if each in seen:
                continue
            # What loops and branches give depends on more than on their operands.
            if each in self._digits or isinstance(each.owner, Block) or each.owner.regions:
                return True
            # As does what is found in memory, where others may write.
            if self._is_grid and not each.owner.PURE:
                return True
            seen.add(each)
            pending += each.owner.operands
        return False

    def _is_along_none(self, rest: tuple[Value, ...], strides: Sequence[Form]) -> bool:
        """True if a tile is a row, of neighbours, or an element, and what is to be multiplied leads to another one."""
        is_given = all(each in self.function.body.arguments for each in rest)
        if self._is_grid:
            return is_given and not any(each.keys() == {rest} for each in strides)
        return is_given and (not strides or (bool(rest) and strides == [{(): 1}]))

    def _is_counted(self, value: Value) -> bool:
        """True of the index of a loop from a known number up, by a known step, to a number of the launch."""
        loop = self._loops.get(value)
        if loop is None or not self._is_grid:
            return False
        start, end, step = loop.operands[:3]
        return _known(start, -1) >= 0 and _known(step, 0) > 0 and self._is_launched(end)

    def _last(self, index: Value) -> Scalar:
        """The greatest that the index of such a loop is, if it takes any turn."""
        start, end, step = self._loops[index].operands[:3]
        known = _known(end, -1)
        if known >= 0:
            first, ahead = _known(start, 0), _known(step, 1)
            return first + max(0, known - 1 - first) // ahead * ahead
        return self._code.binary("sub", end, 1)

    def _limits(
        self, store: Store, scalars: Scalars, dimensions: Sequence[int], moved: Sequence[Mapping[Value, int]]
    ) -> list[tuple[Form, ...]]:
        """For each axis the numbers of the launch below which the mask of a store keeps all positions.

        Args:
            store: the store.
            scalars: gets arithmetic that nobody needs.
            dimensions: of the tile, that the first axes are.
            moved: how far each digit moves a tile along each axis.
        """
        found: list[list[Form]] = [[] for _ in moved]
        box = AccessAnalysis({}).box(store.operands[2], scalars) if shape_of(store.operands[2].type) else []
        for at, dimension in enumerate(dimensions):
            for each in box[dimension].limit:
                limit = plus(self._form(each), {(digit,): count for digit, count in moved[at].items()})
                found[at] += [limit] if all(map(self._is_launched, _factors(limit))) else []
        return [tuple(each) for each in found]

    def _is_launched(self, value: Value) -> bool:
        """True of a number of the launch that the function has."""
        is_there = value in self.function.body.arguments or value.defining_op in self._operations
        return is_there and is_of_the_launch(value, self.function)

    # ---- strides -----------------------------------------------------------------------------------------------------

    def _have_own_places(self, axes: Sequence[_Axis], counts: Mapping[int, Value]) -> list[Fact] | None:
        """What has to hold for positions along these axes to have places of their own; None if they do not."""
        factors = [factor for each in axes for factor in _factors(each.stride)]
        if len(axes) > _MOST_AXES or not all(map(self._is_launched, factors)):
            return None
        times = self._code.binary
        strides = [number_of(each.stride, self._code) for each in axes]
        reaches = [times("mul", self._reach(each, counts), stride) for each, stride in zip(axes, strides, strict=True)]
        steps = [times("mul", stride, each.step) for each, stride in zip(axes, strides, strict=True)]
        known = {at: step for at, step in enumerate(steps) if isinstance(step, int)}
        ways: list[list[Value]] = []
        # From the axis of the closest positions on; what only the launch knows is taken to be farther than the others.
        for rest in permutations([at for at in range(len(axes)) if at not in known]):
            order = (*sorted(known, key=lambda at: known[at]), *rest)
            pairs = zip((steps[at] for at in order), (1, *(reaches[at] for at in order)), strict=False)
            way = self._are_no_less(list(pairs))
            ways += [] if way is None else [way]
        if not all(ways):
            return []
        every = [reduce(self._both("and"), way) for way in ways]
        return [Holds(reduce(self._both("or"), every))] if every else None

    def _are_no_less(self, pairs: Sequence[tuple[Scalar, Scalar]]) -> list[Value] | None:
        """What has to hold for the first number of each pair to be no less than the second; None if that is not so."""
        if any(far < least for far, least in pairs if isinstance(far, int) and isinstance(least, int)):
            return None
        asked = [(far, least) for far, least in pairs if not (isinstance(far, int) and isinstance(least, int))]
        value = self._code.value
        return [self._code.add(Elementwise.of("sge", value(far), value(least))) for far, least in asked]

    def _both(self, operation: str) -> Callable[[Value, Value], Value]:
        return lambda one, other: self._code.add(Elementwise.of(operation, one, other))

    def _reach(self, axis: _Axis, counts: Mapping[int, Value]) -> Scalar:
        """All positions along an axis are below this number."""
        reach: Scalar = axis.extent
        for mover in _least_first(axis.moved):
            if mover in self._digits:
                reach = self._code.binary("mul", self._most(mover, counts), axis.moved[mover])
            else:
                farthest = self._code.binary("mul", self._last(mover), axis.moved[mover])
                reach = self._code.binary("add", farthest, reach)
        return self._code.minimum([reach, *(number_of(each, self._code) for each in axis.limits)])

    def _most(self, digit: Value, counts: Mapping[int, Value]) -> Scalar:
        """How many there are of a digit at most."""
        radix = self._digits[digit].radix
        if radix is not None:
            known = radix.defining_op
            return int(known.value) if isinstance(known, Constant) else radix
        axis = self._digits[digit].of
        most: Scalar = counts[axis]
        for each in self._digits.values():
            if each.of == axis and each.radix is not None:
                least = self._code.maximum([each.radix, 1])
                above = self._code.binary("sub", self._code.binary("add", most, least), 1)
                most = self._code.binary("sdiv", above, least)
        return most

    def _go_up(self, extent: int, moved: Mapping[Value, int]) -> bool:
        """True if each digit moves a tile by no less than what it, loops and lesser digits reach."""
        if any(count <= 0 for count in moved.values()):
            return False
        reach: int | None = extent
        are_apart = True
        is_behind = False
        for mover in _least_first(moved):
            if mover in self._digits:
                radix = self._digits[mover].radix
                is_behind = True
                # Of one that only the launch knows as of the greatest.
                most = _known(radix, 0) if radix is not None else 0
            else:
                last = self._last(mover)
                most = last + 1 if isinstance(last, int) else 0
            if not is_behind:
                reach = None if reach is None or not most else reach + (most - 1) * moved[mover]
                continue
            are_apart = are_apart and reach is not None and moved[mover] >= reach
            reach = moved[mover] * most if most else None
        return are_apart


def _factors(form: Form) -> list[Value]:
    return [each for factors in form for each in factors]


def _least_first(moved: Mapping[Value, int]) -> list[Value]:
    return sorted(moved, key=lambda each: moved[each])


def _known(value: Value, otherwise: int) -> int:
    """What an integer is if that is known, else another number."""
    operation = value.defining_op
    return int(operation.value) if isinstance(operation, Constant) else otherwise
