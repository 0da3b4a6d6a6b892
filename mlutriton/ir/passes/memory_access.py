"""Loads and stores become tiles where their addresses are linear and their masks rectangular, and gathers elsewhere.

Gathers are of whole rows where elements follow one another along a dimension, else of single elements.

Pointer and index tensors that a loop carries and only advances by a uniform amount become one carried 64-bit scalar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from mlutriton.dtypes import I1, I64
from mlutriton.immutables import replace
from mlutriton.ir.analysis.access import FREE, AccessAnalysis, Bounds, advances
from mlutriton.ir.analysis.digits import Cuts, Parts, digit_of
from mlutriton.ir.analysis.integer_signs import is_never_negative, least_of
from mlutriton.ir.analysis.linear_forms import Linear
from mlutriton.ir.analysis.multiples import Multiples
from mlutriton.ir.analysis.rows import RowAnalysis, Split, without
from mlutriton.ir.analysis.scalar_forms import ScalarForms
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.ops import (
    AtomicCas,
    AtomicRmw,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    For,
    GatherLoad,
    Join,
    Load,
    Reshape,
    Splat,
    Store,
    TileGeometry,
    TileLoad,
    TileStore,
    Transpose,
    Window,
    pointee,
)
from mlutriton.ir.passes.gathered_items import Items, base_pointer, items_of_rows, limit_of, single_items
from mlutriton.ir.passes.refinement import Refinement
from mlutriton.ir.passes.tiles_in_pages import MOST_PAGES, Positions, Tables, together
from mlutriton.ir.types import PointerType, ScalarType, TensorType, element_type, is_index, shape_of, storage_dtype

_Access = TypeVar("_Access", Load | Store, AtomicRmw)

# So many rows take no longer to set up than two transfers to begin one after the other.
_FEW_ROWS = 32
# Elements no further apart than this are loaded with what lies between them.
_FURTHEST = 8
# Tried where a size is known to be a multiple of less, as the 16 that launches know of: rows of that are short.
_USUAL_FACTOR = 64
# Tried where nothing is known of any size, as widths of 28 and 56: rows of that are short, but fewer than elements.
_SMALL_FACTOR = 4
# An element that is repeated to no more bytes than this is rather doubled one time after the other.
_FEW_BYTES = 16
# More than an axis of any tile has.
_MOST_GROUPS = 1 << 32


# A fact of arguments whose arrays hold the whole box around what each load may choose.
WHOLE_BOXES = "whole_boxes"
# Of those whose arrays also hold that around what each store may choose, in which no other program writes.
OWN_BOXES = "own_boxes"


def run(function: Function) -> None:
    """Rewrite every access of a tensor of pointers; scalar accesses stay as they are."""
    boxes(function)


def boxes(function: Function) -> tuple[list[TileLoad], list[TileLoad]]:
    """What :func:`run` does.

    Returns:
        The loads of whole boxes of which the kernel leaves something out, and those of which it stores a part.
    """
    own = _with(OWN_BOXES, function)
    rewriter = _Rewriter(_assumed(function), _least(function), _with(WHOLE_BOXES, function), own)
    rewriter.block(function.body)
    return rewriter.boxes, rewriter.own_boxes


def wanted_multiples(function: Function) -> dict[Value, int]:
    """By argument, of what it has to be a multiple so that more accesses become tiles, or longer rows.

    Args:
        function: of which :func:`run` has not been called yet.
    """
    assumed = _assumed(function)
    cuts = Cuts(Multiples({}, assumed).power_of_two)
    divisors = [each for each in _divisors(function, cuts) if each in assumed]
    wanted = dict.fromkeys((each for each in divisors if assumed[each] > 1), _USUAL_FACTOR)
    # What is divided once more is no position any more as soon as something is known of the first divisor.
    while divisors and not any(assumed[each] > 1 for each in divisors):
        wanted[divisors[0]] = _SMALL_FACTOR
        cuts = Cuts(Multiples({}, assumed | wanted).power_of_two)
        divisors = [each for each in _divisors(function, cuts) if each in assumed and each not in wanted]
    cuts = Cuts(Multiples({}, assumed | wanted).power_of_two)
    for access in function.walk():
        if isinstance(access, Load | Store) and _is_tensor_access(access):
            for argument, factor in cuts.wanted(access.operands[0], _mask(access)).items():
                wanted[argument] = math.lcm(wanted.get(argument, 1), factor)
    return {each: factor for each, factor in wanted.items() if each in assumed}


def _divisors(function: Function, cuts: Cuts) -> Iterator[Value]:
    """Numbers by which positions are divided, if rows are shorter than usual by what is known of them."""
    for each in function.walk():
        if isinstance(each, Elementwise) and digit_of(each) is not None and shape_of(each.result.type):
            divisor = cuts.short_divisor(each, _USUAL_FACTOR)
            if divisor is not None:
                yield divisor


def wanted_least(function: Function) -> dict[Value, int]:
    """By argument, what it must be no less than for it to be known that no position that is divided is negative.

    Args:
        function: of which :func:`run` has not been called yet.
    """
    wanted: dict[Value, int] = {}
    arguments_of = _arguments(function)
    # What is found is added to what is assumed: each assumption has its own, for all of its questions.
    known: dict[tuple[frozenset[Value], int | None], dict[Value, int | None]] = {}

    def assuming(arguments: frozenset[Value], number: int | None) -> dict[Value, int | None]:
        if (arguments, number) not in known:
            known[arguments, number] = _least(function) | dict.fromkeys(arguments, number)
        return known[arguments, number]

    for each in function.walk():
        if not isinstance(each, Elementwise) or digit_of(each) is None:
            continue
        dividend = each.operands[0]
        arguments = arguments_of.get(dividend)
        if not arguments or not shape_of(dividend.type) or is_never_negative(dividend, assuming(frozenset(), None)):
            continue
        least = least_of(dividend, assuming(arguments, 0))
        # Sizes of which as much is missing at most make up for what is taken away.
        number = None if least is None else max(0, -least)
        if is_never_negative(dividend, assuming(arguments, number)):
            wanted |= {each: max(number or 0, wanted.get(each, 0)) for each in arguments}
    return wanted


def _arguments(function: Function) -> dict[Value, frozenset[Value]]:
    """By value, the integer arguments from which it is computed, but for what loops and branches hand on."""
    none = frozenset[Value]()
    found = {
        each: none if isinstance(each.type, PointerType) else frozenset({each}) for each in function.body.arguments
    }
    for operation in function.walk():
        its = none.union(*(found.get(each, none) for each in operation.operands))
        found |= dict.fromkeys(operation.results, its)
    return found


def _least(function: Function) -> dict[Value, int | None]:
    pairs = zip(function.body.arguments, function.argument_attributes, strict=False)
    return {argument: facts["least"] for argument, facts in pairs if "least" in facts}


def _with(fact: str, function: Function) -> set[Value]:
    pairs = zip(function.body.arguments, function.argument_attributes, strict=False)
    return {argument for argument, facts in pairs if fact in facts}


def _assumed(function: Function) -> dict[Value, int]:
    pairs = zip(function.body.arguments, function.argument_attributes, strict=False)
    return {argument: facts.get("divisibility", 1) for argument, facts in pairs}


class _Rewriter:
    def __init__(
        self,
        assumed: Mapping[Value, int],
        least: Mapping[Value, int | None],
        boxed: Collection[Value],
        own: Collection[Value],
    ) -> None:
        self.analysis = AccessAnalysis(assumed)
        self.analysis.least |= least
        self.cuts = Cuts(lambda scalar: self.analysis.multiples.power_of_two(scalar))
        self.known_rows: dict[tuple[Value, int], Split] = {}
        self.boxed, self.own = boxed, own
        self.boxes: list[TileLoad] = []
        self.own_boxes: list[TileLoad] = []
        # What loads gave by what their rewritten forms give: uses come behind, and are replaced when they are met.
        self.replaced: dict[Value, Value] = {}
        self.tables = Tables()

    def block(self, block: Block) -> None:
        rewritten: list[Operation] = []
        for operation in block.operations:
            operation.operands = [self.replaced.get(operand, operand) for operand in operation.operands]
            for region in operation.regions:
                replace_uses(region, self.replaced)
            if isinstance(operation, For):
                self._loop(operation, rewritten)
                continue
            for region in operation.regions:
                self.block(region)
            if _is_tensor_access(operation):
                before, replacement = self._access(operation)
                rewritten += [*before, *replacement]
                if isinstance(operation, Load) and operation.is_volatile:
                    _look_anew([*before, *replacement])
                elif isinstance(operation, Load):
                    self.tables.note([*before, *replacement], rewritten)
                last = replacement[-1]
                for old, new in zip(operation.results, last.results, strict=False):
                    new.name = old.name
                    self.replaced[old] = new
            else:
                rewritten.append(operation)
        block.operations = rewritten

    # ---- loops -----------------------------------------------------------------------------------------------------

    def _loop(self, loop: For, before: list[Operation]) -> None:
        self._loop_least(loop)
        advanced: list[tuple[Value, list[Value]]] = []
        yielded = list(loop.body.terminator.operands)
        for place, carried in enumerate(list(loop.carried)):
            if not _is_index_tensor(carried):
                continue
            addends = advances(yielded[place], carried, loop)
            scalars = Scalars(loop.location)
            start = self.analysis.linear(loop.initial[place], scalars)
            rows = {} if start else self._rows_of(loop.initial[place], scalars)
            probe = Scalars(loop.location)
            if addends is None or not (start or rows):
                continue
            forms = [self.analysis.linear(addend, probe) for addend in addends]
            if any(form is None or not form.is_uniform for form in forms):
                continue
            before += scalars.operations
            offset = self._carry_scalar(loop, before)
            is_growing = all(is_never_negative(addend, self.analysis.least) for addend in addends)
            self.analysis.least[offset] = 0 if is_growing else None
            self.analysis.advancing[offset] = addends
            for value, addend in ((carried, offset), (loop.results[place], loop.results[-1])):
                if start:
                    self.analysis.known[value] = start.plus(addend)
                self.known_rows |= {(value, axis): split.plus(addend) for axis, split in rows.items()}
            advanced.append((offset, addends))
        self.block(loop.body)
        terminator = loop.body.terminator
        for offset, addends in advanced:
            scalars = Scalars(loop.location)
            step = [offset]
            for addend in addends:
                form = self.analysis.linear(addend, scalars)
                assert form is not None
                step += [scalars.value(scalar) for scalar in form.offset]
            terminator.operands.append(scalars.value(scalars.sum(step)))
            loop.body.operations[-1:-1] = scalars.operations
        before.append(loop)

    def _loop_least(self, loop: For) -> None:
        """Find what integers of a loop advance by, and which are never negative: they begin so and advance by such."""
        least = self.analysis.least
        least[loop.index] = least_of(loop.operands[0], least)
        self.analysis.advancing[loop.index] = [loop.operands[0], loop.operands[2]]
        yielded = loop.body.terminator.operands
        for place, (carried, initial) in enumerate(zip(loop.carried, loop.initial, strict=True)):
            least[carried] = None
            addends = advances(yielded[place], carried, loop)
            if addends is not None:
                self.analysis.advancing[carried] = [initial, *addends]
            is_growing = addends is not None and all(is_never_negative(addend, least) for addend in addends)
            least[carried] = least[loop.results[place]] = least_of(initial, least) if is_growing else None

    @staticmethod
    def _carry_scalar(loop: For, before: list[Operation]) -> Value:
        zero = Constant.of(0, I64, loop.location)
        before.append(zero)
        loop.operands.append(zero.result)
        argument = Value(I64, loop.body, len(loop.body.arguments), "offset")
        loop.body.arguments.append(argument)
        loop.results.append(Value(I64, loop, len(loop.results)))
        return argument

    def _rows_of(self, value: Value, scalars: Scalars) -> dict[int, Split]:
        """The forms of a tensor along each axis along which it has one."""
        rows = RowAnalysis(self.analysis, self.known_rows, scalars)
        found = {axis: rows.split(value, axis) for axis in range(len(shape_of(value.type)))}
        return {axis: split for axis, split in found.items() if split is not None}

    # ---- accesses --------------------------------------------------------------------------------------------------

    def _access(self, operation: Operation) -> tuple[Sequence[Operation], Sequence[Operation]]:
        if isinstance(operation, Load | Store):
            for form in (
                self._tile, self._finer_tile, self._long_rows, self._wrapped_tile, self._rows, self._pages,
                self._finer_rows, self._box,
            ):  # fmt: skip
                scalars = Scalars(operation.location)
                found = form(operation, scalars)
                if found is not None:
                    return scalars.operations, found
        if isinstance(operation, AtomicRmw):
            for form in (self._atomic_rows, self._finer_atomic_rows):
                scalars = Scalars(operation.location)
                found = form(operation, scalars)
                if found is not None:
                    return scalars.operations, found
        return (), single_items(operation)

    def _wrapped_tile(self, operation: Load | Store, scalars: Scalars) -> Sequence[Operation] | None:
        return self._tile(operation, scalars, may_wrap=True)

    def _tile(self, operation: Load | Store, scalars: Scalars, *, may_wrap: bool = False) -> Sequence[Operation] | None:
        pointer, mask = operation.operands[0], _mask(operation)
        form = self.analysis.linear(pointer, scalars)
        bounds = self.analysis.bounds(mask, scalars)
        if form is None or form.base is None or bounds is None:
            return None
        if not may_wrap and any(term and term.wrap for term in form.terms):
            return None
        repeats = tuple(
            term.repeats if term else extent
            for term, extent in zip(form.terms, shape_of(pointer.type), strict=True)
        )  # fmt: skip
        if max(repeats, default=1) > 1:
            return self._repeated(operation, form, bounds, repeats, scalars) if isinstance(operation, Load) else None
        shape = shape_of(pointer.type)
        base = base_pointer(form, scalars, operation.location)
        geometry = _geometry(shape, form, bounds, scalars)
        attributes = {"wraps": geometry.flags()}
        if isinstance(operation, Store):
            value = operation.operands[1]
            return [TileStore([base, value, *geometry.operands()], attributes, location=operation.location)]
        return self._tile_load(operation, base, geometry, scalars)

    def _repeated(
        self, load: Load, form: Linear, bounds: Sequence[Bounds], repeats: tuple[int, ...], scalars: Scalars
    ) -> Sequence[Operation]:
        """A load of which neighbours along some dimensions are the same: each is loaded once, and repeated."""
        _, mask, other = load.operands
        shape, element = shape_of(load.result.type), element_type(load.result.type)
        short = tuple(extent // times for extent, times in zip(shape, repeats, strict=True))
        terms = tuple(term and replace(term, repeats=1) for term in form.terms)
        outer = [_grouped(each, times, scalars) for each, times in zip(bounds, repeats, strict=True)]
        location = load.location
        base = base_pointer(form, scalars, location)
        geometry = _geometry(short, replace(form, terms=terms), outer, scalars)
        fill, is_uniform = _filling(load, scalars)
        # Where masks leave out whole groups, the load has filled in what stands for them.
        is_filled = is_uniform and all(times == 1 or each == FREE for each, times in zip(bounds, repeats, strict=True))
        type = TensorType(short, element)
        loaded = scalars.add(
            TileLoad([base, fill, *geometry.operands()], {"wraps": geometry.flags()}, result_types=[type])
        )
        apart: list[int] = []
        spread: list[int] = []
        if math.prod(short) > 1 and _is_doubled(repeats[-1], element):
            # Rows of so few elements keep the vector unit longer than it takes to put elements beside each other.
            loaded, last = _doubled(loaded, repeats[-1], scalars), short[-1] * repeats[-1]
            short, repeats = (*short[:-1], last), (*repeats[:-1], 1)
        for extent, times in zip(short, repeats, strict=True):
            apart += [extent, 1] if 1 < times < extent * times else [extent]
            spread += [extent, times] if 1 < times < extent * times else [extent * times]
        line = scalars.add(Reshape([loaded], result_types=[TensorType(tuple(apart), element)]))
        wide = scalars.add(Broadcast([line], result_types=[TensorType(tuple(spread), element)]))
        made: list[Operation] = [Reshape([wide], result_types=[load.result.type], location=location)]
        if not is_filled and any(each != FREE for each in bounds):
            made.append(Elementwise.of("select", mask, made[-1].result, other, location=location))
        return made

    def _finer_tile(self, operation: Load | Store, scalars: Scalars) -> Sequence[Operation] | None:
        """The access as a tile of more dimensions: of the digits that its positions are taken apart into."""
        return self._finer(operation, self.cuts.parts(operation.operands[0]), self._tile, scalars)

    def _finer(
        self,
        operation: _Access,
        parts: Parts,
        form: Callable[[_Access, Scalars], Sequence[Operation] | None],
        scalars: Scalars,
    ) -> Sequence[Operation] | None:
        """The access in some form on finer axes, if it has one there."""
        if all(len(part) == 1 for part in parts):
            return None
        refinement = Refinement(scalars)
        operands = [refinement.of(operand, parts) for operand in operation.operands]
        finer = operation.__class__(operands, operation.attributes, location=operation.location)
        found = form(finer, scalars)
        if found is None or isinstance(operation, Store):
            return found
        return [*found, Reshape([found[-1].result], result_types=[operation.result.type], location=operation.location)]

    def _box(self, operation: Load | Store, scalars: Scalars) -> Sequence[Operation] | None:
        """The access with all of the box around what its mask may choose, in an array that is known to hold it.

        A store writes what is there already where its mask leaves something out.
        """
        pointer, mask, location = operation.operands[0], _mask(operation), operation.location
        form = self.analysis.linear(pointer, scalars)
        known = self.boxed if isinstance(operation, Load) else self.own
        if form is None or form.base is None or ScalarForms().place(form.base)[0] not in known:
            return None
        if any(term and (term.wrap or term.repeats > 1) for term in form.terms):
            return None
        element = pointee(form.base)
        # A byte that is no truth value would not be written as it was.
        if isinstance(operation, Store) and (operation.is_volatile or element == I1):
            return None
        base = base_pointer(form, scalars, location)
        shape = shape_of(pointer.type)
        geometry = _geometry(shape, form, self.analysis.box(mask, scalars), scalars)
        attributes = {"wraps": geometry.flags()}
        zero = scalars.add(Constant.of(0, element))
        type = TensorType(shape, element)
        tile = TileLoad([base, zero, *geometry.operands()], attributes, result_types=[type], location=location)
        if isinstance(operation, Load):
            self.boxes.append(tile)
            return [tile, Elementwise.of("select", mask, tile.result, operation.operands[2], location=location)]
        self.own_boxes.append(tile)
        chosen = Elementwise.of("select", mask, operation.operands[1], tile.result, location=location)
        store = TileStore([base, chosen.result, *geometry.operands()], attributes, location=location)
        return [tile, chosen, store]

    @staticmethod
    def _tile_load(load: Load, base: Value, geometry: TileGeometry, scalars: Scalars) -> Sequence[Operation]:
        _, mask, other = load.operands
        fill, is_uniform = _filling(load, scalars)
        tile = TileLoad(
            [base, fill, *geometry.operands()],
            {"wraps": geometry.flags()},
            result_types=(load.result.type,),
            location=load.location,
        )
        if is_uniform:
            return [tile]
        return [tile, Elementwise.of("select", mask, tile.result, other, location=load.location)]

    def _rows(self, operation: Load | Store, scalars: Scalars) -> Sequence[Operation] | None:
        """The access as one of whole rows along the last axis that allows it."""
        pointer = operation.operands[0]
        shape = shape_of(pointer.type)
        # Rows along any other axis than the last would change the order in which elements are stored.
        last = len(shape) - 1
        axes = range(last, -1, -1) if isinstance(operation, Load) else [last]
        analysis = RowAnalysis(self.analysis, self.known_rows, scalars)
        for axis in axes if last else ():
            split = analysis.split(pointer, axis) if shape[axis] > 1 else None
            stride = split.stride if split else None
            is_near = stride == 1 or (isinstance(operation, Load) and stride in range(2, _FURTHEST + 1))
            mask = analysis.split_mask(_mask(operation), axis) if is_near else None
            if split is None or stride is None or mask is None:
                continue
            run = items_of_rows(split, mask, without(shape, axis), shape[axis], scalars)
            if isinstance(operation, Store):
                return [run.scatter(operation.operands[1], operation.location)]
            return self._gather_rows(operation, run, axis, stride, analysis)
        return None

    def _atomic_rows(self, operation: AtomicRmw, scalars: Scalars) -> Sequence[Operation] | None:
        """Atomics as those of whole rows along the last axis, which keeps their order."""
        pointer, value, mask = operation.operands
        shape = shape_of(pointer.type)
        axis = len(shape) - 1
        analysis = RowAnalysis(self.analysis, self.known_rows, scalars)
        split = analysis.split(pointer, axis) if shape[axis] > 1 else None
        row_mask = analysis.split_mask(mask, axis) if split is not None and split.stride == 1 else None
        if split is None or row_mask is None:
            return None
        rows = without(shape, axis) or (1,)
        run = items_of_rows(split, row_mask, rows, shape[axis], scalars)
        kind, location = operation.text("kind"), operation.location
        if axis:
            return [run.atomic(kind, [value], location)]
        row = scalars.add(Reshape([value], result_types=[TensorType((1, *shape), element_type(value.type))]))
        made = run.atomic(kind, [row], location)
        return [made, Reshape([made.result], result_types=[operation.result.type], location=location)]

    def _finer_atomic_rows(self, operation: AtomicRmw, scalars: Scalars) -> Sequence[Operation] | None:
        return self._finer(operation, self.cuts.parts(operation.operands[0]), self._atomic_rows, scalars)

    def _long_rows(self, operation: Load | Store, scalars: Scalars) -> Sequence[Operation] | None:
        """The access of a vector as one of few rows: these are waited for together, the pieces of a wrap in turn."""
        *outer, last = self.cuts.parts(operation.operands[0])
        is_short = outer or math.prod(last[:-1]) > _FEW_ROWS
        return None if is_short else self._finer_rows(operation, scalars)

    def _pages(self, operation: Load | Store, scalars: Scalars) -> Sequence[Operation] | None:
        """A load of few tiles that lie where numbers from memory say."""
        pointer = operation.operands[0]
        if not isinstance(operation, Load) or not self.tables:
            return None
        return self._finer(operation, self.cuts.parts(pointer), self._tiles_in_pages, scalars)

    def _tiles_in_pages(self, load: Load | Store, scalars: Scalars) -> Sequence[Operation] | None:
        shape = shape_of(load.operands[0].type)
        for axis, count in enumerate(shape):
            # A page that is one row is an item of a gather.
            if not 1 < count <= MOST_PAGES or sum(extent > 1 for extent in shape) < 3:
                continue
            positions = Positions(self.tables, scalars)
            pages: list[Value] = []
            for place in range(count):
                operands = [positions.at(each, axis, place) for each in load.operands]
                known = [each for each in operands if each is not None]
                page = Load(known, load.attributes, location=load.location) if len(known) == len(operands) else None
                tile = self._tile(page, scalars) if page and positions.looked_up else None
                if tile is None:
                    break
                scalars.operations += tile
                pages.append(tile[-1].result)
            else:
                together(pages, axis, scalars)
                return [scalars.operations.pop()]
        return None

    def _finer_rows(self, operation: Load | Store, scalars: Scalars) -> Sequence[Operation] | None:
        """The access as one of rows that no digit of a position begins amid."""
        parts = self.cuts.parts(operation.operands[0])
        found = self._finer(operation, parts, self._rows_or_repeats, scalars)
        if found is None:
            *outer, last = parts
            end = math.gcd(last[-1], self.cuts.ends(_mask(operation)))
            coarse = (*outer, (math.prod(last) // end, end) if end < math.prod(last) else last)
            found = self._finer(operation, coarse, self._rows_or_repeats, scalars) if end > 1 else None
        return found

    def _rows_or_repeats(self, operation: Load | Store, scalars: Scalars) -> Sequence[Operation] | None:
        found = self._repeated_rows(operation, scalars) if isinstance(operation, Load) else None
        return self._rows(operation, scalars) if found is None else found

    def _repeated_rows(self, load: Load, scalars: Scalars) -> Sequence[Operation] | None:
        """A load of which neighbours along the last axis are the same: one of each is loaded, and repeated."""
        pointer, mask, other = load.operands
        axis = len(shape_of(pointer.type)) - 1
        analysis = RowAnalysis(self.analysis, self.known_rows, scalars)
        row = analysis.drop(pointer, axis)
        # What is false somewhere along the axis is so from there on: the first tells whether any is true.
        row_mask = analysis.first(mask, axis) if analysis.is_prefix(mask, axis) else None
        if row is None or row_mask is None:
            return None
        element = element_type(load.result.type)
        zero = scalars.add(Constant.of(0, TensorType(shape_of(row.type), element)))
        before, made = self._access(Load([row, row_mask, zero], location=load.location))
        scalars.operations += [*before, *made]
        line = scalars.add(ExpandDims([made[-1].result], {"axis": axis}))
        wide = Broadcast([line], result_types=[load.result.type], location=load.location)
        return [wide, Elementwise.of("select", mask, wide.result, other, location=load.location)]

    @staticmethod
    def _gather_rows(load: Load, run: Items, axis: int, stride: int, analysis: RowAnalysis) -> Sequence[Operation]:
        """Rows of which every ``stride``-th element is wanted; what lies between comes with them."""
        _, mask, other = load.operands
        scalars, length = analysis.scalars, run.length
        if stride > 1:
            reach = scalars.binary("sub", scalars.binary("mul", run.limit, stride), stride - 1)
            run = replace(run, limit=scalars.value(scalars.maximum([0, reach])), length=length * stride)
        row_other = analysis.drop(other, axis)
        if row_other is None:
            wanted = TensorType(shape_of(run.offsets.type), element_type(other.type))
            gather = run.gather(scalars.add(Constant.of(0, wanted)), load.location)
        else:
            gather = run.gather(row_other, load.location)
        made: list[Operation] = [gather]
        if stride > 1:
            rows, element = shape_of(run.offsets.type), element_type(other.type)
            apart = Reshape([gather.result], result_types=[TensorType((*rows, length, stride), element)])
            taken = Window([apart.result], {"axis": len(rows) + 1, "first": 0, "count": 1}, location=load.location)
            made += [apart, taken, Reshape([taken.result], result_types=[TensorType((*rows, length), element)])]
        last = len(shape_of(other.type)) - 1
        if axis != last:
            order = tuple(last if d == axis else d - (d > axis) for d in range(last + 1))
            made.append(Transpose([made[-1].result], {"order": order}, location=load.location))
        if row_other is None:
            made.append(Elementwise.of("select", mask, made[-1].result, other, location=load.location))
        return made


def _filling(load: Load, scalars: Scalars) -> tuple[Value, bool]:
    """What a tile has where the mask of a load leaves something out, and whether that is all that stands there."""
    uniform = _uniform(load.operands[2])
    if isinstance(uniform, Value):
        return uniform, True
    fill = Constant.of(0, element_type(load.result.type), load.location) if uniform is None else uniform
    scalars.operations.append(fill)
    return fill.result, uniform is not None


def _grouped(bounds: Bounds, times: int, scalars: Scalars) -> Bounds:
    """Bounds of groups of neighbours: one that a mask cuts is loaded whole, one that it clears is not."""
    if times == 1:
        return bounds
    first = scalars.maximum([0, *bounds.first])
    limits = [scalars.quotient(scalars.binary("add", limit, times - 1), times) for limit in bounds.limit]
    if bounds.first:
        # Nothing is left of bounds that exclude each other, though they may lie in one group.
        some = [scalars.maximum([0, scalars.binary("sub", limit, first)]) for limit in bounds.limit]
        limits += [scalars.binary("mul", scalars.minimum([1, each]), _MOST_GROUPS) for each in some]
    return Bounds((scalars.quotient(first, times),) if bounds.first else (), tuple(limits))


def _geometry(shape: tuple[int, ...], form: Linear, bounds: Sequence[Bounds], scalars: Scalars) -> TileGeometry:
    return TileGeometry(
        shape,
        [scalars.value(term.stride if term else 0) for term in form.terms],
        [scalars.value(scalars.maximum([0, *each.first])) for each in bounds],
        [limit_of(extent, each.limit, scalars) for extent, each in zip(shape, bounds, strict=True)],
        [
            (scalars.value(term.wrap[0]), scalars.value(term.wrap[1])) if term and term.wrap else None
            for term in form.terms
        ],
    )


def _mask(operation: Load | Store) -> Value:
    return operation.operands[1 if isinstance(operation, Load) else 2]


def _uniform(value: Value) -> Value | Constant | None:
    """The scalar that a tensor repeats: a value, or a new constant operation, or None."""
    operation = value.defining_op
    match operation:
        case Constant():
            return Constant.of(operation.value, element_type(operation.result.type), operation.location)
        case Splat():
            return operation.operands[0]
        case Broadcast():
            return _uniform(operation.operands[0])
        case _:
            return None


def _is_doubled(times: int, element: ScalarType) -> bool:
    """True if elements are repeated by doubling them, so many times being a few that are a power of two."""
    return times & (times - 1) == 0 and 1 < times <= _FEW_BYTES // storage_dtype(element).bytes


def _doubled(value: Value, times: int, scalars: Scalars) -> Value:
    """A tensor with each element of its rows so many times, a power of two."""
    while times > 1:
        joined = scalars.add(Join([value, value]))
        *rows, last, two = shape_of(joined.type)
        value = scalars.add(Reshape([joined], result_types=[TensorType((*rows, last * two), element_type(value.type))]))
        times //= 2
    return value


def _is_index_tensor(value: Value) -> bool:
    if not isinstance(value.type, TensorType):
        return False
    return isinstance(value.type.element, PointerType) or is_index(value.type)


def _look_anew(operations: Sequence[Operation]) -> None:
    """Let loads see what others have stored until then, as the one does that they are made of."""
    for each in operations:
        if isinstance(each, TileLoad | GatherLoad):
            each.attributes = {**each.attributes, "volatile": True}


def _is_tensor_access(operation: Operation) -> bool:
    accesses = isinstance(operation, Load | Store | AtomicRmw | AtomicCas)
    return accesses and isinstance(operation.operands[0].type, TensorType)
