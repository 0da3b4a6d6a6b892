"""Access analysis: what integer and pointer tensors are, as closed forms of the element's position.

A tensor is *linear* if its element at position ``(i_0, ..., i_r-1)`` is

    base + sum(offset) + sum over d of stride_d * position_d,
    position_d = i_d or (start_d + i_d) mod modulo_d or the whole part of i_d / quotient_d

with scalar ``base`` (a pointer, or nothing), ``offset`` addends, strides, starts and moduli. A mask is *rectangular* if
it is true exactly where ``first_d <= i_d < limit_d`` for every d. Loads and stores of linear pointers under rectangular
masks are tiles; all others are gathers.

Index arithmetic is taken not to overflow its type, as Triton's own address analysis does; everything here is 64-bit.
That goes for types of 32 bits and more, and for what can be so: not for a tile whose own elements lie further apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlutriton.dtypes import I1, I32, I64, DType
from mlutriton.immutables import replace
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.ir.analysis.digits import digit_of, units
from mlutriton.ir.analysis.integer_signs import is_never_negative, least_of
from mlutriton.ir.analysis.linear_forms import Linear, Term, linear_sum, reshaped, scaled, wrapped
from mlutriton.ir.analysis.multiples import Multiples
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Value
from mlutriton.ir.ops import (
    AddPtr,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    For,
    PtrCast,
    Range,
    Reshape,
    Splat,
    Transpose,
    pointee,
)
from mlutriton.ir.types import TensorType, element_type, is_index, shape_of, storage_dtype

# Numbers that are compared in longer steps are hashes of indices, which are meant to overflow. This is a choice:
# kernels ask for every so-many-th position of a group, a word or a pixel, and hashes multiply by large numbers. What
# is multiplied by less would have to be a position behind 8 million to overflow 31 bits.
_LONGEST_STEP = 1 << 8
_CASTS = ("sext", "zext", "trunc_int")
_COMPARISONS = ("slt", "sle", "sgt", "sge")
_INVERSES = dict(zip(_COMPARISONS, reversed(_COMPARISONS), strict=True))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a mask asks of the position along one dimension: at least every ``first``, below every ``limit``."""

    first: tuple[Scalar, ...] = ()
    limit: tuple[Scalar, ...] = ()

    def __and__(self, other: Bounds) -> Bounds:
        """Both."""
        return Bounds(self.first + other.first, self.limit + other.limit)

    def stretched(self, extent: int, scalars: Scalars) -> Bounds:
        """Those of a dimension of extent 1 that was broadcast: its verdict on position 0 becomes one on all."""
        first = [scalars.minimum([1, scalars.maximum(self.first)])] if self.first else []
        limit = [scalars.minimum([1, *self.limit])] if self.limit else []
        return Bounds(*(tuple(scalars.binary("mul", each, extent) for each in side) for side in (first, limit)))


FREE = Bounds()


class AccessAnalysis:
    """Finds linear and rectangular forms; new scalar arithmetic goes to the given :class:`Scalars`.

    Attributes:
        known: forms that were found, and of loop-carried values and loop results those that the caller has established.
        least: what they are no less than, as are other integers.
        advancing: what integers that loops advance begin with and advance by.

    Args:
        assumed: numbers of which arguments of the function are multiples.
    """

    def __init__(self, assumed: Mapping[Value, int] | None = None) -> None:
        self.known: dict[Value, Linear] = {}
        self.least: dict[Value, int | None] = {}
        self.advancing: dict[Value, list[Value]] = {}
        self._assumed = assumed or {}
        # Where arithmetic was collected last, what was found with it, and how often that was taken.
        self._scalars: Scalars | None = None
        self._with_arithmetic: dict[Value, Linear | None] = {}
        self._taken = 0

    @property
    def multiples(self) -> Multiples:
        """What is known of multiples."""
        return Multiples(self.advancing, self._assumed)

    def linear(self, value: Value, scalars: Scalars) -> Linear | None:
        """The closed form of an integer or pointer tensor (or scalar), or None.

        What has none, and what takes arithmetic, is found once for the same ``scalars``: numbers that are made of two
        others again and again would be looked at twice as often with each step.
        """
        if scalars is not self._scalars:
            self._scalars, self._with_arithmetic = scalars, {}
        return depth_first(lambda each: self._search(each, scalars), value)

    def _search(self, value: Value, scalars: Scalars) -> Search[Value, Linear | None]:
        if value in self.known:
            return self.known[value]
        if not isinstance(value.type, TensorType):
            return self._scalar(value)
        if value in self._with_arithmetic:
            self._taken += 1
            return self._with_arithmetic[value]
        before = self._taken, len(scalars.operations)
        found = yield from self._tensor(value, value.type, scalars)
        if found is not None and (self._taken, len(scalars.operations)) == before:
            # What it is made of was there before, and need not be looked at again for what is made of it.
            self.known[value] = found
        else:
            self._with_arithmetic[value] = found
        return found

    def _tensor(self, value: Value, type: TensorType, scalars: Scalars) -> Search[Value, Linear | None]:
        operation = value.defining_op
        rank = len(type.shape)
        match operation:
            case Constant() if isinstance(operation.value, int):
                return Linear(None, (operation.value,) if operation.value else (), (None,) * rank)
            case Range():
                start = operation.attributes["start"]
                assert isinstance(start, int)
                return Linear(None, (start,) if start else (), (Term(1),))
            case Splat():
                source = self._scalar(operation.operands[0])
                return source and replace(source, terms=(None,) * rank)
            case ExpandDims():
                source = yield operation.operands[0]
                axis = operation.attributes["axis"]
                assert isinstance(axis, int)
                return source and replace(source, terms=(*source.terms[:axis], None, *source.terms[axis:]))
            case Broadcast():
                source = yield operation.operands[0]
                return source and self._broadcast(source, shape_of(operation.operands[0].type), type.shape)
            case Transpose():
                source = yield operation.operands[0]
                return source and replace(source, terms=tuple(source.terms[d] for d in operation.order))
            case Reshape():
                source = yield operation.operands[0]
                return source and reshaped(source, shape_of(operation.operands[0].type), type.shape, scalars)
            case PtrCast():
                return (yield from self._cast_pointer(operation, scalars))
            case AddPtr():
                pointer = yield operation.operands[0]
                offset = pointer and (yield operation.operands[1])
                return pointer and offset and linear_sum(pointer, offset, scalars)
            case Elementwise():
                return (yield from self._elementwise(operation, scalars))
            case _:
                return None

    def _cast_pointer(self, cast: PtrCast, scalars: Scalars) -> Search[Value, Linear | None]:
        """Pointers to elements of as many bytes: that to the first one is cast."""
        (source,) = cast.operands
        form = (yield source) if pointee(source).bytes == pointee(cast.result).bytes else None
        if form is None or form.base is None:
            return None
        base = PtrCast([form.base], result_types=[element_type(cast.result.type)])
        return replace(form, base=scalars.add(base))

    def _scalar(self, value: Value) -> Linear | None:
        if isinstance(value.type, DType):
            operation = value.defining_op
            if isinstance(operation, Constant) and isinstance(operation.value, int):
                return Linear(None, (operation.value,) if operation.value else (), ())
            return Linear(None, (value,), ()) if value.type.is_int else None
        return Linear(value, (), ())

    @staticmethod
    def _broadcast(source: Linear, shape: tuple[int, ...], target: tuple[int, ...]) -> Linear | None:
        terms: list[Term | None] = []
        for term, extent, new in zip(source.terms, shape, target, strict=True):
            if extent == new or term is None:
                terms.append(term)
            elif term.wrap is None:
                # A dimension of extent 1 only ever has position 0.
                terms.append(None)
            else:
                # Its one position is not 0 but where the wrap begins.
                return None
        return replace(source, terms=tuple(terms))

    def _elementwise(self, operation: Elementwise, scalars: Scalars) -> Search[Value, Linear | None]:
        name = operation.name
        if not is_index(operation.result.type):
            return None
        find = self._cast if name in _CASTS else self._arithmetic
        form = yield from find(operation, scalars)
        return form if form and not _certainly_overflows(form, operation.result) else None

    def _cast(self, cast: Elementwise, scalars: Scalars) -> Search[Value, Linear | None]:
        """An integer of another width, of the same value."""
        (source,) = cast.operands
        if element_type(source.type) == I1 or (cast.name == "zext" and not is_never_negative(source, self.least)):
            return None
        form = yield source
        return self._truncated(form, scalars) if form and cast.name == "trunc_int" else form

    def _truncated(self, form: Linear, scalars: Scalars) -> Linear:
        """A form whose addends have the sum's lower 32 bits alone: what was loaded, or hashed, may have more."""
        if all(isinstance(each, int) or _is_narrow(each) for each in form.offset):
            return form
        total = scalars.value(scalars.sum(form.offset))
        narrow = scalars.add(Elementwise.of("sext", scalars.add(Elementwise.of("trunc_int", total, to=I32)), to=I64))
        self.least[narrow] = least_of(total, self.least)
        return replace(form, offset=(narrow,))

    def _arithmetic(self, operation: Elementwise, scalars: Scalars) -> Search[Value, Linear | None]:
        name = operation.name
        digit = digit_of(operation)
        if digit is None and name not in ("add", "sub", "mul", "shl"):
            return None
        if digit is not None and not digit.is_signed and not is_never_negative(operation.operands[0], self.least):
            return None
        first, second = operation.operands
        a = yield first
        b = a if first is second else a and (yield second)
        if a is None or b is None:
            return None
        match name:
            case "add":
                return linear_sum(a, b, scalars)
            case "sub":
                return linear_sum(a, scaled(b, -1, scalars), scalars)
            case "mul":
                if b.is_uniform:
                    return scaled(a, scalars.sum(b.offset), scalars)
                return scaled(b, scalars.sum(a.offset), scalars) if a.is_uniform else None
            case "shl":
                amount = scalars.sum(b.offset) if b.is_uniform else None
                return scaled(a, 1 << amount, scalars) if isinstance(amount, int) and 0 <= amount < 63 else None
            case _ if digit is None or not b.is_uniform or b.base is not None:
                return None
            case _:
                divisor = digit.divisor if isinstance(digit.divisor, int) else scalars.sum(b.offset)
                shape = shape_of(operation.result.type)
                form = self._digit(a, divisor, shape, scalars, is_quotient=digit.is_quotient)
                if form is not None:
                    return form
                if digit.is_quotient:
                    return self._quotient(a, divisor, shape, scalars) if isinstance(divisor, int) else None
                return None if self._may_begin_below_zero(a) else wrapped(a, divisor, scalars)

    def _digit(
        self, a: Linear, divisor: Scalar, shape: tuple[int, ...], scalars: Scalars, *, is_quotient: bool
    ) -> Linear | None:
        """A quotient or remainder of which neighbours are the same, or advance as the number does."""
        terms = [term for term in a.terms if term is not None]
        if a.base is not None or divisor == 0 or any(term.wrap or term.repeats > 1 for term in terms):
            return None
        if not terms:
            part = scalars.binary("sdiv" if is_quotient else "srem", scalars.sum(a.offset), divisor)
            return Linear(None, (), a.terms).plus(part)
        known = divisor if isinstance(divisor, int) else None
        quotients: list[Term | None] = []
        remainders: list[Term | None] = []
        reach = 0
        for term, extent in zip(a.terms, shape or (1,) * len(a.terms), strict=True):
            stride = 0 if term is None else term.stride
            if not isinstance(stride, int) or stride < 0:
                return None
            is_whole = known is not None and stride % known == 0
            quotients.append(replace(term, stride=stride // known) if term and known and is_whole else None)
            remainders.append(None if is_whole else term)
            reach += 0 if is_whole else stride * (extent - 1)
        if not self._begins_at_unit(a.offset, divisor, reach):
            return None
        total = scalars.sum(a.offset)
        if is_quotient:
            return Linear(None, (), tuple(quotients)).plus(self._part("sdiv", total, divisor, scalars))
        return Linear(None, (), tuple(remainders)).plus(self._part("srem", total, divisor, scalars))

    def _begins_at_unit(self, offset: Sequence[Scalar], divisor: Scalar, reach: int) -> bool:
        """Whether what is less than ``reach`` further on than an offset has the same quotient for certain."""
        multiples = self.multiples
        if isinstance(divisor, int):
            candidates = units(divisor, reach) if divisor > 0 else iter(())
        else:
            unit = 1 << reach.bit_length()
            candidates = iter([unit] if multiples.divides(unit, divisor) else [])
        return any(all(self._is_multiple(each, unit) for each in offset) for unit in candidates)

    def _part(self, operation: str, dividend: Scalar, divisor: Scalar, scalars: Scalars) -> Scalar:
        """A quotient or remainder of what is not negative."""
        if isinstance(divisor, int) and self._is_multiple(dividend, divisor) and operation == "srem":
            return 0
        match operation, dividend, divisor:
            case _, 0, _:
                return 0
            case "sdiv", _, int():
                return scalars.quotient(dividend, divisor)
            case _, _, int():
                return scalars.remainder(dividend, divisor)
            case _:
                return scalars.binary(operation, dividend, divisor)

    def _may_begin_below_zero(self, a: Linear) -> bool:
        """True unless positions begin at 0 or behind it: remainders of negative numbers do not begin again at 0."""
        leasts = [each if isinstance(each, int) else least_of(each, self.least) for each in a.offset]
        known = [each for each in leasts if each is not None]
        return len(known) < len(leasts) or sum(known) < 0

    def _quotient(self, a: Linear, divisor: int, shape: tuple[int, ...], scalars: Scalars) -> Linear | None:
        """A range of stride 1 by a known number that divides its extent: it repeats each position.

        What it begins with must be a multiple, so that no group of neighbours is cut.
        """
        moving = [d for d, term in enumerate(a.terms) if term is not None]
        if a.base is not None or divisor <= 0 or len(moving) != 1 or a.terms[moving[0]] != Term(1):
            return None
        (dimension,) = moving
        if shape[dimension] % divisor or not all(self._is_multiple(each, divisor) for each in a.offset):
            return None
        repeated = Term(1, repeats=divisor)
        quotient = Linear(None, (), tuple(repeated if d == dimension else None for d in range(len(a.terms))))
        for addend in a.offset:
            quotient = quotient.plus(scalars.quotient(addend, divisor))
        return quotient

    def _is_multiple(self, scalar: Scalar, factor: int) -> bool:
        """Whether a number is certainly a multiple of another, and not negative."""
        if isinstance(scalar, int):
            return scalar >= 0 and scalar % factor == 0
        return is_never_negative(scalar, self.least) and self.multiples.divides(factor, scalar)

    # ---- masks -----------------------------------------------------------------------------------------------------

    def box(self, mask: Value, scalars: Scalars) -> list[Bounds]:
        """For each dimension bounds outside of which a mask is false everywhere; inside it may be anything.

        A comparison of positions along several dimensions, as ``row >= column``, bounds each of them by the furthest
        that the others can be.
        """
        shape = shape_of(mask.type)
        found = _verdict(FREE, len(shape))
        others: list[Elementwise] = []
        for part in conjuncts(mask):
            bounds = self.bounds(part, scalars)
            operation = part.defining_op
            if bounds is not None:
                found = [x & y for x, y in zip(found, bounds, strict=True)]
            elif isinstance(operation, Elementwise) and operation.name in _COMPARISONS:
                others.append(operation)
        implied = [self._implied(each, found, scalars) for each in others]
        for each in implied:
            found = [x & y for x, y in zip(found, each, strict=True)]
        return found

    def _implied(self, comparison: Elementwise, box: Sequence[Bounds], scalars: Scalars) -> list[Bounds]:
        """What a comparison says of each dimension, given bounds of all."""
        shape = shape_of(comparison.result.type)
        found = _verdict(FREE, len(shape))
        compared = self._compared(comparison, scalars)
        terms = compared[0].terms if compared else ()
        strides = [stride for term in terms if (stride := _short_stride(term)) is not None]
        if compared is None or len(strides) < len(terms):
            return found
        for dimension, stride in enumerate(strides):
            if not stride:
                continue
            # sum over d of stride_d * position_d < bound, where what the others add is no less than `least`.
            leasts: list[Scalar] = [0]
            for d, other in enumerate(strides):
                if d != dimension and other < 0:
                    lasts = [scalars.binary("sub", limit, 1) for limit in (shape[d], *box[d].limit)]
                    moved = [scalars.binary("mul", last, other) for last in lasts]
                    leasts = [scalars.binary("add", least, each) for least in leasts for each in moved]
                elif d != dimension and box[d].first:
                    first = scalars.binary("mul", scalars.maximum([0, *box[d].first]), other)
                    leasts = [scalars.binary("add", least, first) for least in leasts]
            ends = [self._end(stride, scalars.binary("sub", compared[1], least), scalars) for least in leasts]
            found[dimension] = Bounds(sum((each.first for each in ends), ()), sum((each.limit for each in ends), ()))
        return found

    def bounds(self, mask: Value, scalars: Scalars, *, wanted: bool = True) -> list[Bounds] | None:
        """For each dimension the bounds of the valid positions, or None if the mask is not rectangular.

        Args:
            mask: says of each position what it is.
            scalars: takes what has to be computed.
            wanted: what it says of the valid ones.
        """
        return depth_first(lambda part: self._bounds(*part, scalars), (mask, wanted))

    def _bounds(self, mask: Value, wanted: bool, scalars: Scalars) -> Search[tuple[Value, bool], list[Bounds] | None]:
        assert isinstance(mask.type, TensorType)
        rank = len(mask.type.shape)
        operation = mask.defining_op
        match operation:
            case Constant():
                return _verdict(FREE if operation.value == wanted else Bounds(limit=(0,)), rank)
            case Splat():
                extent = mask.type.shape[0]
                limit = scalars.select(operation.operands[0], *((extent, 0) if wanted else (0, extent)))
                return _verdict(Bounds(limit=(limit,)), rank)
            case ExpandDims():
                source = yield operation.operands[0], wanted
                axis = operation.integer("axis")
                return source and [*source[:axis], FREE, *source[axis:]]
            case Broadcast():
                source = yield operation.operands[0], wanted
                before = shape_of(operation.operands[0].type)
                return source and [
                    each if old == new else each.stretched(new, scalars)
                    for each, old, new in zip(source, before, mask.type.shape, strict=True)
                ]
            case Transpose():
                source = yield operation.operands[0], wanted
                return source and [source[d] for d in operation.order]
            case Elementwise(name="xor", operands=[negated, Value(defining_op=Constant(value=True))]):
                return (yield negated, not wanted)
            case Elementwise() if operation.name == ("and" if wanted else "or"):
                a = yield operation.operands[0], wanted
                b = a and (yield operation.operands[1], wanted)
                return a and b and [x & y for x, y in zip(a, b, strict=True)]
            case Elementwise() if operation.name in _COMPARISONS:
                name = operation.name if wanted else _INVERSES[operation.name]
                return self._comparison(Elementwise.of(name, *operation.operands), scalars)
            case _:
                return None

    def _compared(self, operation: Elementwise, scalars: Scalars) -> tuple[Linear, Scalar] | None:
        """A linear form without offset, and the bound below which a comparison asks it to be."""
        sides = self._sides(operation, scalars)
        if sides is None:
            return None
        # a < b  <=>  (a's terms - b's terms) < b's offset - a's offset
        a, b = sides
        difference = linear_sum(replace(a, offset=()), scaled(replace(b, offset=()), -1, scalars), scalars)
        return difference and (difference, scalars.binary("sub", scalars.sum(b.offset), scalars.sum(a.offset)))

    def _sides(self, operation: Elementwise, scalars: Scalars) -> tuple[Linear, Linear] | None:
        """The forms of two numbers of which a comparison asks that the first be less than the second."""
        left, right = operation.operands
        if operation.name in ("sgt", "sge"):
            left, right = right, left
        a = self.linear(left, scalars)
        b = a and self.linear(right, scalars)
        if a is None or b is None:
            return None
        return a, b.plus(1) if operation.name in ("sle", "sge") else b

    def _comparison(self, operation: Elementwise, scalars: Scalars) -> list[Bounds] | None:
        compared = self._compared(operation, scalars)
        if compared is None:
            return None
        difference, bound = compared
        shape, rank = shape_of(operation.result.type), len(difference.terms)
        moving = [(d, term) for d, term in enumerate(difference.terms) if term is not None]
        if not moving:
            # The same verdict for every element: 0 < bound.
            limit = scalars.binary("mul", scalars.minimum([1, bound]), shape[0])
            return _verdict(Bounds(limit=(limit,)), rank)
        if len(moving) > 1:
            return self._flat_comparison(difference, shape, bound, scalars)
        ((dimension, term),) = moving
        if term.wrap is not None or term.repeats > 1 or not isinstance(term.stride, int):
            return None
        if abs(term.stride) > _LONGEST_STEP:
            return None
        sides = self._sides(operation, scalars) if term.stride < 0 else None
        bounds = FREE if sides and self._is_less(*sides) else self._end(term.stride, bound, scalars)
        return _verdict(bounds, rank, dimension)

    @staticmethod
    def _end(stride: int, bound: Scalar, scalars: Scalars) -> Bounds:
        """The bounds of a position of which ``stride * position < bound``."""
        if stride > 0:
            # i < bound / stride, rounded up; what this makes of negative numbers is not positive either.
            rounded = scalars.binary("add", bound, stride - 1)
            return Bounds(limit=(scalars.quotient(rounded, stride),))
        # i > -bound / size: 1 more than that rounded down; again only what is positive counts.
        size = -stride
        return Bounds(first=(scalars.quotient(scalars.binary("sub", size, bound), size),))

    def _flat_comparison(
        self, difference: Linear, shape: tuple[int, ...], bound: Scalar, scalars: Scalars
    ) -> list[Bounds] | None:
        """Bounds of ``position < bound``, where the position in a tensor of several dimensions counts in one go.

        None unless the bound is a multiple of what the outermost of them counts.
        """
        strides = [0 if term is None else term.stride for term in difference.terms]
        if any(term and (term.wrap or term.repeats > 1) for term in difference.terms):
            return None
        counts = {d: stride for d, stride in enumerate(strides) if isinstance(stride, int) and stride}
        if len(counts) < sum(term is not None for term in difference.terms):
            return None
        if isinstance(bound, int):
            extremes = [stride * (shape[d] - 1) for d, stride in counts.items()]
            if sum(each for each in extremes if each > 0) < bound:
                return _verdict(FREE, len(shape))
        following = 1
        for d in sorted(counts, key=lambda d: counts[d]):
            if counts[d] != following:
                return None
            following *= shape[d]
        outermost = max(counts, key=lambda d: counts[d])
        step = counts[outermost]
        is_whole = bound % step == 0 if isinstance(bound, int) else self.multiples.divides(step, bound)
        limit = Bounds(limit=(scalars.quotient(bound, step),))
        return _verdict(limit, len(shape), outermost) if is_whole else None

    def _is_less(self, a: Linear, b: Linear) -> bool:
        """Whether the offset of ``a`` is certainly below that of ``b``, so far as arithmetic alone tells."""
        constant = sum(x for x in b.offset if isinstance(x, int)) - sum(x for x in a.offset if isinstance(x, int))
        values = [x for x in b.offset if not isinstance(x, int)]
        return (
            constant > 0
            and all(isinstance(x, int) for x in a.offset)
            and all(is_never_negative(x, self.least) for x in values)
        )


def _short_stride(term: Term | None) -> int | None:
    """How far positions along a dimension are apart, 0 if it does not matter; None if that is not known, or is far."""
    if term is None:
        return 0
    is_plain = term.wrap is None and term.repeats == 1 and isinstance(term.stride, int)
    return term.stride if is_plain and isinstance(term.stride, int) and abs(term.stride) <= _LONGEST_STEP else None


def conjuncts(mask: Value) -> Iterator[Value]:
    """The masks that all have to be true where a mask is."""
    pending = [mask]
    while pending:
        part = pending.pop()
        operation = part.defining_op
        if isinstance(operation, Elementwise) and operation.name == "and":
            pending += operation.operands
        else:
            yield part


def _is_narrow(value: Value) -> bool:
    """True if an integer has 32 bits, perhaps with its sign in front of them."""
    operation = value.defining_op
    if isinstance(operation, Elementwise) and operation.name == "sext":
        value = operation.operands[0]
    return storage_dtype(element_type(value.type)).bits <= I32.bits


def _verdict(bounds: Bounds, rank: int, dimension: int = 0) -> list[Bounds]:
    """Bounds of one dimension and none of the others."""
    return [bounds if d == dimension else FREE for d in range(rank)]


def _certainly_overflows(form: Linear, value: Value) -> bool:
    """True if elements differ by more than their type can: a hash, that is, and no index."""
    span = 1 << storage_dtype(element_type(value.type)).bits - 1
    strides = (term.stride if term and term.wrap is None else 0 for term in form.terms)
    reach = sum(
        abs(stride) * (extent - 1)
        for stride, extent in zip(strides, shape_of(value.type), strict=True)
        if isinstance(stride, int)
    )
    return reach >= span


def advances(value: Value, carried: Value, loop: For) -> list[Value] | None:
    """The integer values that one iteration adds to a carried value to give ``value``; None if it does more."""
    # What was looked at before did not lead to it.
    seen = set[Value]()

    def search(value: Value) -> Search[Value, list[Value] | None]:
        if value is carried:
            return []
        operation = value.defining_op
        is_sum = isinstance(operation, Elementwise) and operation.name == "add"
        if operation is None or value in seen or not (is_sum or isinstance(operation, AddPtr)):
            return None
        seen.add(value)
        for place, other in ((0, 1), (1, 0)) if is_sum else ((0, 1),):
            rest = yield operation.operands[place]
            if rest is not None:
                rest.append(operation.operands[other])
                return rest
        return None

    return depth_first(search, value)
