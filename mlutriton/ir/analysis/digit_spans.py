"""How far integers that are put together of digits of positions are from what they are at the first position.

Kernels that number elements in one go take the numbers apart, and find other elements by the digits:

    row, column = index // width, index % width        x[(row + 1) * width + column - 1]

With the floors ``x // L`` of a position, digits are sums of such, each so many times:

    (x // L) % D = x // L - D * (x // (L * D))

From the first of some neighbours to one that is ``steps`` further, ``x // L`` grows by ``steps / L``, give or take less
than 1. So where the digits of an element nearly make up its position again, as those of a filter's neighbours and of
what a pool chooses from do, all that neighbours find is in little memory, however large the array is. How little,
the sizes of a launch tell.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.ir.analysis.digits import digit_of
from mlutriton.ir.analysis.integer_signs import is_never_negative, least_of
from mlutriton.ir.analysis.launch_facts import AtLeast, Fact, Holds, launch_arithmetic
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, constant, number_of, plus, product
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.copying import copy_operation
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import Broadcast, Constant, Elementwise, ExpandDims, For, Range, Splat, Transpose
from mlutriton.ir.types import element_type, is_index, shape_of

Length = tuple[tuple[Value, ...], int]
"""A product of integers of the launch, the oldest first, and of a number above 0."""

_ONE: Length = ((), 1)
_age = attrgetter("age")


@dataclass(frozen=True)
class Floor:
    """A position divided by a length.

    Attributes:
        axis: of the tensor, along which the position advances by 1.
        position: a tensor; None if it is not divided, as all advance alike.
        length: by which it is divided.
        begin: of what the first position is a multiple.
    """

    axis: int
    position: Value | None
    length: Length
    begin: int = 1


@dataclass(frozen=True)
class _Digit:
    """``position // length % modulus``; all that is above if there is no modulus."""

    axis: int
    position: Value
    length: Length
    modulus: Length | None
    begin: int


@dataclass(frozen=True, eq=False)
class Digits:
    """An integer as ``(uniform + sum of floors * weights) / divisor``, give or take an error.

    Attributes:
        weights: of each floor.
        uniform: is the same for all elements; None if only that is known of it.
        divisor: a number above 0.
        error: an integer of the launch.
        digit: the single one that the integer is, if it is one.
    """

    weights: Mapping[Floor, Form]
    uniform: Form | None
    divisor: int = 1
    error: Scalar = 0
    digit: _Digit | None = None


class DigitSpans:
    """What is known of the integers of a function. Index arithmetic is taken not to overflow.

    Attributes:
        code: arithmetic on the launch; it needs nothing of the function but its arguments.
        facts: what has to hold of a launch for all that is said to be right.
    """

    def __init__(self, function: Function, code: Scalars) -> None:
        self.code = code
        self.facts: list[Fact] = []
        self._function = function
        self._forms = ScalarForms()
        self._copies: dict[Value, Value] = {}
        self._known: dict[Value, Digits | None] = {}
        self._least: dict[Value, int | None] = {}
        self._blocks: dict[Operation, Block] = {}
        self._enter(function.body)

    def _enter(self, block: Block) -> None:
        for each in block.operations:
            self._blocks[each] = block
            if isinstance(each, For):
                self._least[each.index] = least_of(each.operands[0], self._least)
            for region in each.regions:
                self._enter(region)

    def block_of(self, operation: Operation) -> Block:
        """Where an operation stands."""
        return self._blocks[operation]

    def of(self, value: Value) -> Digits | None:
        """What a tensor's elements are; None if that is not known."""
        return depth_first(self._search, value)

    def is_periodic(self, digits: Digits) -> bool:
        """True if an integer begins anew again and again, however far its positions go."""
        for axis in {each.axis for each in digits.weights}:
            floors = {each: weight for each, weight in digits.weights.items() if each.axis == axis}
            longest = max((each.length for each in floors), key=lambda length: (len(length[0]), length[1]))
            total: Form = {}
            for each, weight in floors.items():
                times = _ratio(longest, each.length)
                if times is None:
                    return False
                total = plus(total, product(weight, {times[0]: times[1]}))
            if total:
                return False
        return True

    def in_a_row(self, digits: Digits) -> list[Fact] | None:
        """When an integer advances by 1 from each position to the next, and nothing else; None if it never does."""
        facts: list[Fact] = []
        advance = [weight for floor, weight in digits.weights.items() if floor.length == _ONE]
        if advance != [constant(1)] or digits.uniform is None or digits.divisor > 1 or digits.error != 0:
            return None
        for floor, weight in digits.weights.items():
            if floor.length != _ONE:
                # Of as many positions to a row as there are elements, quotients make up for remainders.
                if sum(weight.values()) or len(weight) != 2:
                    return None
                none = Elementwise.of("eq", self.code.value(self._certain(weight)), self.code.value(0))
                facts.append(Holds(self.code.add(none)))
        return facts

    def family(self, digits: Digits) -> Hashable:
        """What integers have in common that differ by numbers of the launch."""
        if digits.uniform is None:
            return digits
        unknown = {each: count for each, count in digits.uniform.items() if self._number({each: count}) is None}
        weights = frozenset((each, frozenset(weight.items())) for each, weight in digits.weights.items())
        return digits.divisor, weights, frozenset(unknown.items())

    def between(self, first: Digits, others: Sequence[Digits], shape: tuple[int, ...]) -> tuple[Scalar, Scalar]:
        """From the first element of a tensor, to where those of all tensors are.

        Args:
            first: what the tensor's elements are.
            others: what those of all tensors are, this one too; they are of one family.
            shape: of all tensors.
        """
        code = self.code
        apart: list[Scalar] = []
        for each in others:
            is_known = each.uniform is not None and first.uniform is not None
            apart.append(self._certain(plus(each.uniform or {}, first.uniform or {}, -1)) if is_known else 0)
        low, high = self._growth(first.weights, shape)
        low = code.binary("add", low, code.minimum(apart))
        high = code.binary("add", high, code.maximum(apart))
        error = code.binary("mul", code.maximum([each.error for each in others]), 2)
        if first.divisor > 1:
            low, high = code.quotient(low, first.divisor), code.quotient(high, first.divisor)
            error = code.binary("add", error, 1)
        return code.binary("sub", low, error), code.binary("add", high, error)

    def _growth(self, weights: Mapping[Floor, Form], shape: tuple[int, ...]) -> tuple[Scalar, Scalar]:
        """How much less, and more, a sum of floors is anywhere in a tensor than at its first element."""
        code = self.code
        lows: list[Scalar] = []
        highs: list[Scalar] = []
        for axis, extent in enumerate(shape):
            ends: list[Scalar] = []
            for floor, weight in weights.items():
                if floor.axis == axis:
                    low, high, end = self._growth_of(floor, self._certain(weight), extent)
                    lows.append(low)
                    highs.append(high)
                    ends.append(end)
            end = code.sum(ends)
            lows.append(code.minimum([0, end]))
            highs.append(code.maximum([0, end]))
        return code.sum(lows), code.sum(highs)

    def _growth_of(self, floor: Floor, times: Scalar, extent: int) -> tuple[Scalar, Scalar, Scalar]:
        """The same of a single floor along its axis: less, and more, than what grows evenly to an end."""
        code = self.code
        end = code.binary("mul", times, extent - 1)
        if floor.length == _ONE:
            return 0, 0, end
        length = code.value(code.maximum([self._certain({floor.length[0]: floor.length[1]}), 1]))
        # A quotient that is rounded is less than 1 away, and so is what the floor grows by.
        slack = code.binary("add", self._absolute(times), 1)
        # It grows once at most where no length ends twice, and not at all where none begins amid the tensor.
        steps: Scalar = 1
        if floor.begin % extent == 0:
            rest = code.value(code.remainder(length, extent))
            steps = code.select(code.add(Elementwise.of("ne", rest, code.value(0))), 1, 0)
        once = code.binary("mul", times, steps)
        is_long = code.add(Elementwise.of("sge", length, code.value(extent)))
        low = code.select(is_long, code.minimum([0, once]), code.binary("sub", 0, slack))
        high = code.select(is_long, code.maximum([0, once]), slack)
        return low, high, code.select(is_long, 0, code.binary("sdiv", end, length))

    def _absolute(self, number: Scalar) -> Scalar:
        return self.code.maximum([number, self.code.binary("sub", 0, number)])

    def _certain(self, form: Form) -> Scalar:
        number = self._number(form)
        assert number is not None, "weights and lengths are of the launch"
        return number

    def _number(self, form: Form) -> Scalar | None:
        """What a form is, if a launch can tell."""
        if not all(self._is_launched(factor) for factors in form for factor in factors):
            return None
        copied = {tuple(self._copies.get(each, each) for each in factors): count for factors, count in form.items()}
        return number_of(copied, self.code)

    def _is_launched(self, scalar: Value) -> bool:
        """Whether a launch can tell a number; what computes it goes to the code."""
        if scalar in self._copies:
            return True
        needed = launch_arithmetic([scalar], self._function)
        for each in needed or ():
            if each.results[0] not in self._copies:
                self.code.operations.append(copy_operation(each, self._copies))
        return needed is not None

    def _search(self, value: Value) -> Search[Value, Digits | None]:
        if value not in self._known:
            self._known[value] = yield from self._find(value)
        return self._known[value]

    def _find(self, value: Value) -> Search[Value, Digits | None]:
        operation = value.defining_op
        match operation:
            case Constant(value=int(number)):
                return Digits({}, constant(number))
            case Splat() if is_index(value.type):
                return Digits({}, self._forms.of(operation.operands[0]))
            case Range():
                return Digits({Floor(0, None, _ONE): constant(1)}, constant(operation.integer("start")))
            case Broadcast() | ExpandDims() | Transpose():
                source = yield operation.operands[0]
                return source and _moved(source, operation)
            case Elementwise(operands=[source]) if operation.name in ("sext", "zext") and is_index(source.type):
                is_same = operation.name == "sext" or is_never_negative(source, self._least)
                return (yield source) if is_same else None
            case Elementwise(operands=[a, b]) if is_index(value.type):
                one = yield a
                other = yield b
                return None if one is None or other is None else self._of_arithmetic(operation, one, other)
            case _:
                return None

    def _of_arithmetic(self, operation: Elementwise, one: Digits, other: Digits) -> Digits | None:
        match operation.name:
            case "add":
                return self._sum(one, other, 1)
            case "sub":
                return self._sum(one, other, -1)
            case "mul":
                return self._scaled(one, other) or self._scaled(other, one)
            case _ if (digit := digit_of(operation)) is not None:
                divisor = constant(digit.divisor) if isinstance(digit.divisor, int) else other.uniform
                if other.weights or divisor is None or self._number(divisor) is None:
                    return None
                found = self._taken(operation.operands[0], one, divisor, is_quotient=digit.is_quotient)
                # Others than digits may be negative, of which only this is their quotient.
                return found or (self._divided(one, divisor) if operation.name == "sdiv" else None)
            case _:
                return None

    def _sum(self, one: Digits, other: Digits, times: int) -> Digits:
        divisor = one.divisor * other.divisor
        left, right = constant(other.divisor), constant(times * one.divisor)
        weights = {
            each: plus(product(one.weights.get(each, {}), left), product(other.weights.get(each, {}), right))
            for each in {**one.weights, **other.weights}
        }
        known = one.uniform is not None and other.uniform is not None
        uniform = plus(product(one.uniform or {}, left), product(other.uniform or {}, right)) if known else None
        error = self.code.binary("add", one.error, other.error)
        return Digits({each: weight for each, weight in weights.items() if weight}, uniform, divisor, error)

    def _scaled(self, one: Digits, factor: Digits) -> Digits | None:
        if factor.weights or factor.uniform is None or factor.divisor > 1 or factor.error != 0:
            return None
        if not one.weights and one.error == 0:
            return Digits({}, None if one.uniform is None else product(one.uniform, factor.uniform), one.divisor)
        times = self._number(factor.uniform)
        if times is None:
            return None
        weights = {each: product(weight, factor.uniform) for each, weight in one.weights.items()}
        uniform = None if one.uniform is None else product(one.uniform, factor.uniform)
        error = self.code.binary("mul", one.error, self._absolute(times))
        return Digits({each: weight for each, weight in weights.items() if weight}, uniform, one.divisor, error)

    def _taken(self, value: Value, number: Digits, divisor: Form, *, is_quotient: bool) -> Digits | None:
        """A digit of a position, or of a digit of one."""
        by = _length(divisor)
        digit = number.digit or self._position(value, number)
        if by is None or digit is None:
            return None
        modulus = None if digit.modulus is None else _ratio(digit.modulus, by)
        if digit.modulus is not None and modulus is None:
            return None
        for factor in by[0]:
            self.facts.append(AtLeast(self._copies.get(factor, factor), 1))
        if is_quotient:
            return _of_digit(replace(digit, length=_times(digit.length, by), modulus=modulus), number)
        return _of_digit(replace(digit, modulus=by), number)

    def _position(self, value: Value, number: Digits) -> _Digit | None:
        """A position that is never negative, as a digit of itself."""
        if len(number.weights) != 1 or number.divisor > 1 or number.error != 0:
            return None
        ((floor, weight),) = number.weights.items()
        if floor.length != _ONE or weight != constant(1) or not is_never_negative(value, self._least):
            return None
        begin = math.gcd(*(number.uniform or {}).values()) if number.uniform is not None else 1
        return _Digit(floor.axis, value, _ONE, None, begin)

    def _divided(self, number: Digits, divisor: Form) -> Digits | None:
        """A quotient by a number above 0, of anything."""
        if set(divisor) != {()} or divisor[()] < 1:
            return None
        error = self.code.binary("add", number.error, 1)
        return replace(number, divisor=number.divisor * divisor[()], error=error, digit=None)


def first_element(value: Value, code: Scalars) -> Value:
    """What the first element of a tensor of positions is, of which :class:`DigitSpans` knows the digits.

    Args:
        value: the tensor.
        code: gets the arithmetic.
    """
    known: dict[Value, Value] = {}

    def search(value: Value) -> Search[Value, Value]:
        if value not in known:
            known[value] = yield from find(value)
        return known[value]

    def find(value: Value) -> Search[Value, Value]:
        operation = value.defining_op
        match operation:
            case Constant():
                return code.add(Constant.of(operation.value, element_type(value.type)))
            case Range():
                return code.add(Constant.of(operation.integer("start"), element_type(value.type)))
            case Splat():
                return operation.operands[0]
            case Elementwise():
                operands: list[Value] = []
                for each in operation.operands:
                    first = yield each
                    operands.append(first)
                return code.add(Elementwise(operands, operation.attributes))
            case _:
                assert isinstance(operation, Broadcast | ExpandDims | Transpose), "positions are made of these"
                return (yield operation.operands[0])

    return depth_first(search, value)


def _of_digit(digit: _Digit, position: Digits) -> Digits:
    """A digit as a sum of floors."""
    weights = {_floor(digit, digit.length): constant(1)}
    if digit.modulus is not None:
        (factors, count) = digit.modulus
        weights[_floor(digit, _times(digit.length, digit.modulus))] = {factors: -count}
    # What is not divided is the position, with what is the same for all of its elements.
    uniform = position.uniform if digit.length == _ONE else {}
    return Digits(weights, uniform, digit=digit)


def _floor(digit: _Digit, length: Length) -> Floor:
    return Floor(digit.axis, None, length) if length == _ONE else Floor(digit.axis, digit.position, length, digit.begin)


def _moved(source: Digits, operation: Broadcast | ExpandDims | Transpose) -> Digits:
    """The same along the axes that an operation leads to."""
    match operation:
        case Broadcast():
            return source
        case ExpandDims():
            added = operation.integer("axis")
            places = {axis: axis + (axis >= added) for axis in range(len(shape_of(operation.result.type)))}
        case Transpose():
            places = {axis: place for place, axis in enumerate(operation.order)}
    weights = {replace(each, axis=places[each.axis]): weight for each, weight in source.weights.items()}
    digit = source.digit and replace(source.digit, axis=places[source.digit.axis])
    return replace(source, weights=weights, digit=digit)


def _length(form: Form) -> Length | None:
    """A product that a form is; None if it is more than that."""
    if len(form) != 1:
        return None
    ((factors, count),) = form.items()
    return (factors, count) if count > 0 else None


def _times(one: Length, other: Length) -> Length:
    return tuple(sorted((*one[0], *other[0]), key=_age)), one[1] * other[1]


def _ratio(one: Length, other: Length) -> Length | None:
    """What a product is, divided by another; None if it is no multiple of that."""
    rest = list(one[0])
    for each in other[0]:
        if each not in rest:
            return None
        rest.remove(each)
    return None if one[1] % other[1] else (tuple(rest), one[1] // other[1])
