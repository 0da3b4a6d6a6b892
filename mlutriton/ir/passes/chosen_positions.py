"""Positions of which each is one of two: a border that is repeated or mirrored, or two arrays beside each other.

Kernels keep positions within an array by the least and the greatest of two numbers, or by a choice:

    right = load x[minimum(i + 1, n - 1)]                 inside = load x[i + 1] where i + 1 <= n - 1
                                                          behind = load x[n - 1] where i + 1 > n - 1
                                                          right = select(i + 1 <= n - 1, inside, behind)

On the left each element is gathered by itself, on the right there are two tiles, one of them a single element. Each
element is still asked for once, where it was. Loads of which not all become tiles that way stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlutriton.diagnostics import UNKNOWN_LOCATION
from mlutriton.dtypes import I1
from mlutriton.ir.analysis.access import AccessAnalysis
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


def run(function: Function) -> None:
    """Make of each load at positions that are chosen those of both between which there is a choice."""
    pairs = zip(function.body.arguments, function.argument_attributes, strict=False)
    assumed = {argument: facts.get("divisibility", 1) for argument, facts in pairs}
    _Splitter(AccessAnalysis(assumed)).block(function.body)


@dataclass(frozen=True)
class _Choice:
    """A tensor of positions, or pointers, each of which is one of two.

    Attributes:
        value: the tensor.
        condition: where the first is chosen.
        first: those of which a position is one there,
        second: and those of which it is one elsewhere.
    """

    value: Value
    condition: Value
    first: Value
    second: Value


class _Splitter:
    def __init__(self, analysis: AccessAnalysis) -> None:
        self.analysis = analysis
        self._linear: dict[Value, Linear | None] = {}
        self._replaced: dict[Value, Value] = {}

    def block(self, block: Block) -> None:
        rewritten: list[Operation] = []
        for operation in block.operations:
            for region in operation.regions:
                self.block(region)
            if isinstance(operation, Load) and _is_chosen(operation.operands[0]):
                scalars = Scalars(operation.location)
                found = self._split(operation, [_MOST_CHOICES], scalars)
                if found is not None:
                    found.name = operation.result.name
                    self._replaced[operation.result] = found
                    rewritten += scalars.operations
                    continue
            rewritten.append(operation)
        block.operations = rewritten
        replace_uses(block, self._replaced)

    def _split(self, load: Load, choices: list[int], code: Scalars) -> Value | None:
        """What a load gives, as one of a tile or by a choice between such; None if that would take more choices."""
        pointer, mask, other = load.operands
        form, bounds = self._form(pointer), self.analysis.bounds(mask, Scalars(UNKNOWN_LOCATION))
        if bounds is None:
            return None
        if form is not None:
            is_tile = form.base is not None and not any(term and term.wrap for term in form.terms)
            return code.add(load) if is_tile else None
        choice = self._innermost(pointer, code) if choices[0] else None
        where = choice and _spread(choice.condition, choice.value, pointer, code)
        if choice is None or where is None:
            return None
        choices[0] -= 1
        elsewhere = code.add(Elementwise.of("xor", where, code.add(Constant.of(True, where.type))))
        parts = [(where, choice.first), (elsewhere, choice.second)]
        if (form := self._form(choice.first)) and form.is_uniform:
            # What is the same for several is put in where the other one has loaded nothing.
            parts.reverse()
        made = [(_Substitution(choice.value, position, code), condition) for condition, position in parts]
        masks = [code.add(Elementwise.of("and", taken.of(mask), condition)) for taken, condition in made]
        left = [number for number, chosen in enumerate(masks) if not self._is_false(chosen)]
        found: Value | None = None
        for number in left:
            taken, _ = made[number]
            # All that the mask chooses is of this kind if none is of the other.
            its_mask = masks[number] if len(left) > 1 else taken.of(mask)
            part = self._split(Load([taken.of(pointer), its_mask, taken.of(other)], load.attributes), choices, code)
            if part is None:
                return None
            found = part if found is None else code.add(Elementwise.of("select", its_mask, part, found))
        return found or other

    def _is_false(self, mask: Value) -> bool:
        """True if a mask certainly chooses nothing, whatever the launch."""
        bounds = self.analysis.bounds(mask, Scalars(UNKNOWN_LOCATION))
        if bounds is None:
            return False
        forms = ScalarForms()
        return any(
            forms.is_never_negative(plus(form_of(first, forms), form_of(limit, forms), -1))
            for each in bounds
            for first in (0, *each.first)
            for limit in each.limit
        )

    def _form(self, value: Value) -> Linear | None:
        if value not in self._linear:
            self._linear[value] = self.analysis.linear(value, Scalars(UNKNOWN_LOCATION))
        return self._linear[value]

    def _innermost(self, pointer: Value, code: Scalars) -> _Choice | None:
        """A choice that a tensor of pointers is made of, between two that are linear; None if there is none."""
        for value in _made_of(pointer):
            ends = _ends(value)
            if ends is not None and all(self._form(each) is not None for each in ends):
                return _choice(value, code)
        return None


def _made_of(pointer: Value) -> Sequence[Value]:
    """Tensors of which another one is made by index arithmetic."""
    found = [pointer]
    seen = {pointer}
    for value in found:
        operation = value.defining_op
        if isinstance(operation, _ELEMENT_BY_ELEMENT + _MOVED):
            fresh = [each for each in operation.operands if shape_of(each.type) and each not in seen]
            seen.update(fresh)
            found += fresh
    return found


def _is_chosen(pointer: Value) -> bool:
    return bool(shape_of(pointer.type)) and any(_ends(each) is not None for each in _made_of(pointer))


def _ends(value: Value) -> Sequence[Value] | None:
    """The numbers between which there is a choice; None if a tensor is no choice of positions."""
    match value.defining_op:
        case Elementwise(name="select", operands=[_, *ends]) if element_type(value.type) != I1:
            return ends
        case Elementwise(name="smin" | "smax" | "iabs", operands=ends) if is_index(value.type):
            return ends
        case _:
            return None


def _choice(value: Value, code: Scalars) -> _Choice:
    operation = value.defining_op
    assert isinstance(operation, Elementwise)
    match operation.operands:
        case [condition, first, second]:
            return _Choice(value, condition, first, second)
        case [first, second]:
            return _Choice(value, code.add(Elementwise.of(_EXTREMES[operation.name], first, second)), first, second)
        case operands:
            [number] = operands
            zero = code.add(Constant.of(0, number.type))
            negated = code.add(Elementwise.of("sub", zero, number))
            return _Choice(value, code.add(Elementwise.of("sge", number, zero)), number, negated)


class _Substitution:
    """Tensors that are made of one of the two between which there was a choice.

    Args:
        old: what is replaced,
        new: and what by.
        code: takes what has to be computed.
    """

    def __init__(self, old: Value, new: Value, code: Scalars) -> None:
        self._code = code
        self._known = {old: new}

    def of(self, value: Value) -> Value:
        """A tensor with what is replaced."""
        if value not in self._known:
            self._known[value] = self._find(value)
        return self._known[value]

    def _find(self, value: Value) -> Value:
        operation = value.defining_op
        if not isinstance(operation, _ELEMENT_BY_ELEMENT + _MOVED) or not shape_of(value.type):
            return value
        operands = [self.of(each) for each in operation.operands]
        if operands == operation.operands:
            return value
        add = self._code.add
        if isinstance(operation, Elementwise):
            alike = [each for operand in operands if (each := self._scalar(operand)) is not None]
            if len(alike) == len(operands):
                # The same for all, as the least of two numbers of the launch.
                return add(Splat([add(Elementwise(alike, operation.attributes))], result_types=[value.type]))
        return add(operation.__class__(operands, operation.attributes, result_types=[value.type]))

    def _scalar(self, value: Value) -> Value | None:
        """The scalar of which a tensor is made; None if there is none."""
        operation = value.defining_op
        match operation:
            case Splat():
                return operation.operands[0]
            case Constant():
                return self._code.add(Constant.of(operation.value, element_type(value.type)))
            case _:
                return None


def _spread(condition: Value, choice: Value, pointer: Value, code: Scalars) -> Value | None:
    """A condition of each element of a choice as one of each pointer that is made of it.

    Returns:
        None if a pointer is made of more than one element.
    """
    known: dict[Value, Value | None] = {choice: condition}
    is_clear = True

    def of(value: Value) -> Value | None:
        if value not in known:
            known[value] = find(value)
        return known[value]

    def find(value: Value) -> Value | None:
        nonlocal is_clear
        operation = value.defining_op
        if not shape_of(value.type) or not isinstance(operation, _ELEMENT_BY_ELEMENT + _MOVED):
            return None
        found = list(dict.fromkeys(made for each in operation.operands if (made := of(each)) is not None))
        is_clear &= len(found) < 2
        if not found or isinstance(operation, _ELEMENT_BY_ELEMENT):
            return found[0] if found else None
        types = [with_element(value.type, I1)]
        return code.add(operation.__class__(found, operation.attributes, result_types=types))

    found = of(pointer)
    return found if is_clear else None
