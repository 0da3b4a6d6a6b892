"""A version of a kernel for launches whose arrays hold all of the boxes around what masks leave out.

A load whose mask is no box, as ``row >= column`` or one that was loaded itself, can take the whole box around what the
mask may choose, and drop the rest on chip. That is one transfer instead of one of each element. It must not touch what
lies outside of the array, though, and whether it would is known when the kernel is launched: no program may have a box
that begins before its array or ends behind it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from mlutriton.codegen.estimate import item_count
from mlutriton.ir.analysis.edges import parts_of
from mlutriton.ir.analysis.launch_bounds import Bounds
from mlutriton.ir.analysis.launch_facts import Fact, condition_function
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, constant, plus, product
from mlutriton.ir.analysis.scalars import Scalar
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function, Value
from mlutriton.ir.memory_ops import Assert, GatherLoad, Load, Print, ReachableBytes, ScatterStore, TileLoad, pointee
from mlutriton.ir.passes import memory_access
from mlutriton.ir.types import PointerType, shape_of
from mlutriton.isa.program import Program
from mlutriton.placement import CompileOptions, Metadata, Observer, placed

# Sums of which the most telling bound is looked for.
_MOST_SUMS = 256
# And such bounds that are compared when a program begins.
_MOST_BOUNDS = 8


def may_gain(function: Function) -> bool:
    """False if no load can gain.

    Args:
        function: before its memory accesses are known.
    """
    every = list(function.walk())
    return any(isinstance(each, Load) and shape_of(each.result.type) for each in every) and not any(
        isinstance(each, Print | Assert) for each in every
    )


def version(
    written: Function,
    function: Function,
    options: CompileOptions,
    metadata: Metadata,
    observe: Observer,
    prepare: Callable[[Function], None],
) -> tuple[Program, list[Function]] | None:
    """The program that loads whole boxes, and when it is to run; None if no fewer items are moved one by one.

    Args:
        written: a copy of the function before its memory accesses were known; it is rewritten.
        function: when its memory accesses are known.
        options: what decides a compilation.
        metadata: facts for the program file.
        observe: called with what is made.
        prepare: brings a function from where ``written`` is to where ``function`` is.
    """
    if not any(isinstance(each, GatherLoad) and each.integer("length") == 1 for each in function.walk()):
        return None
    condition = _assume(written)
    if condition is None:
        return None
    prepare(written)
    if _items(written) >= _items(function):
        return None
    observe("whole_boxes", written)
    return placed(written, options, metadata, observe).program, [condition]


def _items(function: Function) -> int:
    return sum(item_count(each) for each in function.walk() if isinstance(each, GatherLoad | ScatterStore))


def _assume(function: Function) -> Function | None:
    """Have loads take whole boxes where a launch can tell that arrays hold them.

    Returns:
        what has to hold of the launch for that; None if no load can do so.
    """
    probe = copy_function(function)
    _mark(probe, {each for each in probe.body.arguments if isinstance(each.type, PointerType)})
    boxes = memory_access.boxes(probe)
    search = _Search(probe)
    found: dict[Value, list[Fact] | None] = {}
    for box in boxes:
        argument, facts = search.facts(box)
        before = found.get(argument, [])
        found[argument] = None if facts is None or before is None else [*before, *facts]
    held = {argument: facts for argument, facts in found.items() if facts is not None}
    if not held:
        return None
    probe.body.operations[-1:-1] = search.bounds.code.operations
    condition = condition_function(probe, [fact for facts in held.values() for fact in facts])
    condition.argument_attributes = function.argument_attributes
    places = [place for place, each in enumerate(probe.body.arguments) if each in held]
    _mark(function, {function.body.arguments[place] for place in places})
    return condition


def _mark(function: Function, arguments: set[Value]) -> None:
    """Have loads of the arrays of some arguments take whole boxes."""
    facts = function.argument_attributes or [{} for _ in function.body.arguments]
    function.argument_attributes = [
        {**each, memory_access.WHOLE_BOXES: 1} if argument in arguments else each
        for each, argument in zip(facts, function.body.arguments, strict=True)
    ]


class _Search:
    """Finds what has to hold of a launch for arrays to hold boxes.

    Attributes:
        bounds: has the arithmetic that facts are about.
    """

    def __init__(self, function: Function) -> None:
        self.bounds = Bounds(function)
        self._arguments = set(function.body.arguments)
        self._forms = ScalarForms()

    def facts(self, box: TileLoad) -> tuple[Value, list[Fact] | None]:
        """The pointer from which the places of a box are counted, and what has to hold; None if that is not known."""
        argument, offset = self._forms.place(box.base)
        if argument not in self._arguments:
            return argument, None
        facts: list[Fact] = []
        ends = [offset], [offset]
        geometry = box.geometry
        for extent, stride, first, limit in zip(
            geometry.shape, geometry.strides, geometry.firsts, geometry.limits, strict=True
        ):
            step = self._forms.of(stride)
            least = self.bounds.of_form(step, facts, least=True)
            if least is None:
                return argument, None
            facts.append(self.bounds.is_at_least(least, 0))
            lasts = [self._forms.of(each) for each in parts_of(limit, "smin")]
            lasts = [plus(each, constant(-1)) for each in (*lasts, constant(extent))]
            firsts = [self._forms.of(each) for each in parts_of(first, "smax")]
            for sums, positions in zip(ends, (firsts, lasts), strict=True):
                sums[:] = [plus(a, product(step, b)) for a, b in itertools.product(sums, positions)][:_MOST_SUMS]
        lowest = self._bound(ends[0], facts, least=True)
        highest = self._bound(ends[1], facts, least=False)
        if lowest is None or highest is None:
            return argument, None
        code = self.bounds.code
        bytes_ = code.binary("mul", code.binary("add", highest, 1), pointee(argument).bytes)
        reached = code.add(ReachableBytes([argument]))
        facts += [self.bounds.is_at_least(lowest, 0), self.bounds.is_at_least(reached, bytes_)]
        return argument, facts

    def _bound(self, sums: list[Form], facts: list[Fact], *, least: bool) -> Scalar | None:
        """A bound of what is no further than any of some sums; None if it is not known.

        The fewer products of a sum vary between programs, the more it tells.
        """
        apart = list({frozenset(form.items()): form for form in sums}.values())
        varying = [self.bounds.varying(form) for form in apart]
        fewest = [form for form, count in zip(apart, varying, strict=True) if count == min(varying)]
        bounds = [self.bounds.of_form(form, facts, least=least) for form in fewest[:_MOST_BOUNDS]]
        known = [bound for bound in bounds if bound is not None]
        if len(known) < len(bounds):
            return None
        return self.bounds.code.maximum(known) if least else self.bounds.code.minimum(known)
