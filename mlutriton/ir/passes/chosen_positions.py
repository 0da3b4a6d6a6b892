"""Positions of which each is one of two: a border that is repeated or mirrored, or two arrays beside each other.

Kernels keep positions within an array by the least and the greatest of two numbers, or by a choice:

    right = load x[minimum(i + 1, n - 1)]                 inside = load x[i + 1] where i + 1 <= n - 1
                                                          behind = load x[n - 1] where i + 1 > n - 1
                                                          right = select(i + 1 <= n - 1, inside, behind)

On the left each element is gathered by itself, on the right there are two tiles, one of them a single element. Each
element is still asked for once, where it was. Loads of which not all become tiles that way stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from mlutriton.diagnostics import UNKNOWN_LOCATION
from mlutriton.dtypes import I1
from mlutriton.ir.analysis.access import AccessAnalysis
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.ir.analysis.linear_forms import Linear
from mlutriton.ir.analysis.scalar_forms import ScalarForms, form_of, plus
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.ops import AddPtr, Broadcast, Constant, Elementwise, ExpandDims, Load, Splat, Transpose
from mlutriton.ir.types import element_type, is_index, shape_of, with_element

_ELEMENT_BY_ELEMENT = (AddPtr, Elementwise)
_MOVED = (Broadcast, ExpandDims, Transpose)
# Positions are taken apart in so many steps at most: four suffice for both ends of both axes.
_MOST_CHOICES = 8
# The comparison under which the first of two numbers is chosen.
_EXTREMES = {"smin": "sle", "smax": "sge"}

_Fact = TypeVar("_Fact")


def run(function: Function) -> None:
    """Make of each load at positions that are chosen those of both between which there is a choice."""
    pairs = zip(function.body.arguments, function.argument_attributes, strict=False)
    assumed = {argument: facts.get("divisibility", 1) for argument, facts in pairs}
    _Splitter(AccessAnalysis(assumed)).block(function.body)


class _Facts(Generic[_Fact]):
    """What is known of tensors by what is known of those that they are made of by index arithmetic.

    Args:
        find: that of a tensor, of whose sources it is known.
    """

    def __init__(self, find: Callable[[Value], _Fact]) -> None:
        self._find = find
        self.known: dict[Value, _Fact] = {}

    def of(self, value: Value) -> _Fact:
        """That of a tensor."""
        return depth_first(self._search, value)

    def _search(self, value: Value) -> Search[Value, _Fact]:
        if value not in self.known:
            for each in _sources(value):
                if each not in self.known:
                    yield each
            self.known[value] = self._find(value)
        return self.known[value]


class _Choice:
    """A tensor of positions, or pointers, each of which is one of two.

    Attributes:
        condition: where the first is chosen.
        ends: those of which a position is one there, and those of which it is one elsewhere.
    """

    def __init__(self, value: Value, add: Callable[[Operation], Value]) -> None:
        """Take apart a choice; what has to be computed for it, and for what is asked of it, is added."""
        self._add = add
        operation = value.defining_op
        assert isinstance(operation, Elementwise)
        match operation.operands:
            case [condition, first, second]:
                pass
            case [first, second]:
                condition = add(Elementwise.of(_EXTREMES[operation.name], first, second))
            case operands:
                [first] = operands
                zero = add(Constant.of(0, first.type))
                condition = add(Elementwise.of("sge", first, zero))
                second = add(Elementwise.of("sub", zero, first))
        self.condition = condition
        self.ends = first, second
        self._conditions = _Facts(self._spread)
        self._conditions.known[value] = (condition,)
        # Tensors as they are with the first, or with the second, in the place of the choice.
        self._first, self._second = (_Facts(partial(self._made_of, number)) for number in range(2))
        self._first.known[value], self._second.known[value] = self.ends

    def condition_of(self, value: Value) -> Value | None:
        """The condition of each element of a tensor that is made of the choice; None if it is made of several."""
        found = self._conditions.of(value)
        return found[0] if len(found) == 1 else None

    def taken(self, number: int, value: Value) -> Value:
        """A tensor as it is where the first (0) or the second (1) is chosen."""
        return (self._first, self._second)[number].of(value)

    def _spread(self, value: Value) -> tuple[Value, ...]:
        """Conditions of those elements of the choice of which each element of a tensor is made."""
        operation = value.defining_op
        found = tuple(dict.fromkeys(one for each in _sources(value) for one in self._conditions.known[each]))
        if not isinstance(operation, _MOVED) or len(found) != 1:
            return found
        types = [with_element(value.type, I1)]
        return (self._add(operation.__class__(found, operation.attributes, result_types=types)),)

    def _made_of(self, number: int, value: Value) -> Value:
        facts = (self._first, self._second)[number]
        operation = value.defining_op
        sources = {each: facts.known[each] for each in _sources(value)}
        if operation is None or all(each is made for each, made in sources.items()):
            return value
        operands = [sources.get(each, each) for each in operation.operands]
        if isinstance(operation, Elementwise):
            alike = [each for operand in operands if (each := self._scalar(operand)) is not None]
            if len(alike) == len(operands):
                # The same for all, as the least of two numbers of the launch.
                scalar = self._add(Elementwise(alike, operation.attributes))
                return self._add(Splat([scalar], result_types=[value.type]))
        return self._add(operation.__class__(operands, operation.attributes, result_types=[value.type]))

    def _scalar(self, value: Value) -> Value | None:
        """The scalar of which a tensor is made; None if there is none."""
        operation = value.defining_op
        match operation:
            case Splat():
                return operation.operands[0]
            case Constant():
                return self._add(Constant.of(operation.value, element_type(value.type)))
            case _:
                return None


class _Splitter:
    def __init__(self, analysis: AccessAnalysis) -> None:
        self._analysis = analysis
        self._forms = _Facts(self._linear)
        self._innermost = _Facts(self._find_innermost)
        self._are_chosen = _Facts(self._is_chosen)
        self._replaced: dict[Value, Value] = {}
        # In the block at hand, by the tensors: loads of it share what is made of them.
        self._choices: dict[Value, _Choice] = {}
        self._code = Scalars(UNKNOWN_LOCATION)

    def block(self, block: Block) -> None:
        rewritten: list[Operation] = []
        self._choices = {}
        for operation in block.operations:
            for region in operation.regions:
                self.block(region)
                self._choices = {}
            if isinstance(operation, Load) and self._are_chosen.of(operation.operands[0]):
                self._code = Scalars(operation.location)
                found = self._split(operation, [_MOST_CHOICES])
                if found is not None:
                    found.name = operation.result.name
                    self._replaced[operation.result] = self._replaced.get(found, found)
                    rewritten += self._code.operations
                    continue
                self._choices = {}
            rewritten.append(operation)
        block.operations = rewritten
        replace_uses(block, self._replaced)

    def _add(self, operation: Operation) -> Value:
        return self._code.add(operation)

    def _split(self, load: Load, choices: list[int]) -> Value | None:
        """What a load gives, as one of a tile or by a choice between such; None if that would take more choices."""
        pointer, mask, other = load.operands
        form, bounds = self._forms.of(pointer), self._analysis.bounds(mask, Scalars(UNKNOWN_LOCATION))
        if bounds is None:
            return None
        if form is not None:
            is_tile = form.base is not None and not any(term and term.wrap for term in form.terms)
            return self._add(load) if is_tile else None
        innermost = self._innermost.of(pointer) if choices[0] else None
        if innermost is None:
            return None
        if innermost not in self._choices:
            self._choices[innermost] = _Choice(innermost, self._add)
        choice = self._choices[innermost]
        where = choice.condition_of(pointer)
        if where is None:
            return None
        choices[0] -= 1
        elsewhere = self._add(Elementwise.of("xor", where, self._add(Constant.of(True, where.type))))
        parts = [(0, where), (1, elsewhere)]
        if (form := self._forms.of(choice.ends[0])) and form.is_uniform:
            # What is the same for several is put in where the other one has loaded nothing.
            parts.reverse()
        masks = [(number, self._add(Elementwise.of("and", mask, chosen))) for number, chosen in parts]
        left = [(number, chosen) for number, chosen in masks if not self._is_false(chosen)]
        found: Value | None = None
        for number, chosen in left:
            # All that the mask chooses is of this kind if none is of the other.
            its_mask = chosen if len(left) > 1 else mask
            part = self._split(Load([choice.taken(number, pointer), its_mask, other], load.attributes), choices)
            if part is None:
                return None
            found = part if found is None else self._add(Elementwise.of("select", its_mask, part, found))
        return found or other

    def _is_false(self, mask: Value) -> bool:
        """True if a mask certainly chooses nothing, whatever the launch."""
        bounds = self._analysis.bounds(mask, Scalars(UNKNOWN_LOCATION))
        if bounds is None:
            return False
        forms = ScalarForms()
        return any(
            forms.is_never_negative(plus(form_of(first, forms), form_of(limit, forms), -1))
            for each in bounds
            for first in (0, *each.first)
            for limit in each.limit
        )

    def _linear(self, value: Value) -> Linear | None:
        if any(self._forms.known[each] is None for each in _sources(value)):
            return None
        found = self._analysis.linear(value, Scalars(UNKNOWN_LOCATION))
        if found is not None:
            self._analysis.known[value] = found
        return found

    def _find_innermost(self, value: Value) -> Value | None:
        """A choice that a tensor is made of, between two that are linear; None if there is none."""
        ends = _ends(value)
        if ends is not None and all(self._forms.of(each) is not None for each in ends):
            return value
        known = (self._innermost.known[each] for each in _sources(value))
        return next((each for each in known if each is not None), None)

    def _is_chosen(self, value: Value) -> bool:
        return _ends(value) is not None or any(self._are_chosen.known[each] for each in _sources(value))


def _sources(value: Value) -> Sequence[Value]:
    """Tensors of which another one is made by index arithmetic."""
    operation = value.defining_op
    if not isinstance(operation, _ELEMENT_BY_ELEMENT + _MOVED):
        return ()
    return [each for each in operation.operands if shape_of(each.type)]


def _ends(value: Value) -> Sequence[Value] | None:
    """The numbers between which there is a choice; None if a tensor is no choice of positions."""
    if not shape_of(value.type):
        return None
    match value.defining_op:
        case Elementwise(name="select", operands=[_, *ends]) if element_type(value.type) != I1:
            return ends
        case Elementwise(name="smin" | "smax" | "iabs", operands=ends) if is_index(value.type):
            return ends
        case _:
            return None
