"""Whether the turns of a loop may be done in any order: what one of them stores, no other one touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlutriton.ir.analysis.access import FREE, AccessAnalysis
from mlutriton.ir.analysis.aliasing import Aliasing, may_meet
from mlutriton.ir.analysis.launch_facts import is_of_the_launch
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, constant, plus
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Function, Value
from mlutriton.ir.memory_ops import Load, Store
from mlutriton.ir.ops import Constant, Elementwise, For
from mlutriton.ir.types import shape_of


@dataclass(frozen=True)
class _Place:
    """Where an access is in a turn.

    Attributes:
        base: the pointer from which places are counted.
        rest: elements to where those of all turns are counted from.
        stride: by how many of them the next index is further on.
        begin: the first element behind that.
        end: behind the last one.
    """

    base: Value
    rest: Form
    stride: Form
    begin: int
    end: int


class Turns:
    """The places that the turns of a loop touch, where the arrays of a launch share no bytes."""

    def __init__(self, function: Function, loop: For) -> None:
        self.function, self.loop = function, loop
        self._forms = ScalarForms()
        self._inside = {result for each in loop.body.walk() for result in each.results} | set(loop.body.arguments)

    def apart(self, code: Scalars) -> list[Value] | None:
        """What has to hold of a launch for no turn to touch what another one stores; None if that cannot be known.

        Args:
            code: gets the arithmetic of that.
        """
        aliasing = Aliasing(self.function)
        accesses = [each for each in self.loop.body.operations if isinstance(each, Load | Store)]
        roots = {each: aliasing.roots(each) for each in accesses}
        stored = [roots[each] for each in accesses if isinstance(each, Store)]
        meeting = [each for each in accesses if any(may_meet(roots[each], one) for one in stored)]
        places: dict[Value, list[_Place]] = {}
        for each in meeting:
            place, found = self._place(each), roots[each]
            if place is None or found is None or len(found) > 1:
                return None
            places.setdefault(next(iter(found)), []).append(place)
        holding: list[Value] = []
        for together in places.values():
            apart = self._are_apart(together, code)
            if apart is None:
                return None
            holding += apart
        return holding

    def _are_apart(self, places: Sequence[_Place], code: Scalars) -> list[Value] | None:
        first, step = places[0], self.loop.operands[2].defining_op
        is_alike = all((each.base, each.rest, each.stride) == (first.base, first.rest, first.stride) for each in places)
        if not is_alike or not isinstance(step, Constant) or len(first.stride) != 1:
            return None
        reach = max(each.end for each in places) - min(each.begin for each in places)
        ((factors, count),) = first.stride.items()
        if not factors:
            return [] if abs(count) * int(step.value) >= reach else None
        if not all(is_of_the_launch(each, self.function) for each in factors):
            return None
        ahead: Scalar = count * int(step.value)
        for each in factors:
            ahead = code.binary("mul", ahead, each)
        return [code.add(Elementwise.of("sge", code.value(ahead), code.value(reach)))]

    def _place(self, access: Load | Store) -> _Place | None:
        scalars, analysis = Scalars(access.location), AccessAnalysis()
        linear = analysis.linear(access.operands[0], scalars)
        if linear is None or linear.base is None:
            return None
        base, offset = self._forms.place(linear.base)
        for each in linear.offset:
            offset = plus(offset, constant(each) if isinstance(each, int) else self._forms.of(each))
        begin = end = offset.pop((), 0)
        shape = shape_of(access.operands[0].type)
        mask = access.operands[1 if isinstance(access, Load) else 2]
        bounds = (analysis.bounds(mask, scalars) if shape else None) or [FREE] * len(shape)
        for term, extent, bound in zip(linear.terms, shape, bounds, strict=True):
            if term is None:
                continue
            if term.wrap is not None or term.repeats > 1 or not isinstance(term.stride, int):
                return None
            last = max(min([extent, *(each for each in bound.limit if isinstance(each, int))]) - 1, 0)
            begin, end = begin + min(0, term.stride * last), end + max(0, term.stride * last)
        stride: Form = {}
        for product in [each for each in offset if self.loop.index in each]:
            others = list(product)
            others.remove(self.loop.index)
            stride[tuple(others)] = offset.pop(product)
        if base in self._inside or any(
            each in self._inside for form in (offset, stride) for one in form for each in one
        ):
            return None
        return _Place(base, offset, stride, begin, end + 1)
