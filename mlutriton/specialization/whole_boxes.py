"""A version of a kernel for launches whose arrays hold all of the boxes around what masks choose.

A load whose mask is no box, as ``row >= column`` or one that was loaded itself, can take the whole box around what the
mask may choose, and drop the rest on chip. That is one transfer instead of one of each element. It must not touch what
lies outside of the array, though, and whether it would is known when the kernel is launched: no program may have a box
that begins before its array or ends behind it.

A store can do so as well, and write what was there where its mask leaves something out. Others must not write there
meanwhile: no place of a program's boxes may be one to which another program stores, which is known in the same way
(:mod:`mlutriton.ir.passes.programs.stored_places`).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mlutriton.codegen.estimate import all_items
from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.ir.analysis.edges import parts_of
from mlutriton.ir.analysis.launch_bounds import Bounds
from mlutriton.ir.analysis.launch_facts import Fact, condition_function, has_texts
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, constant, plus, product
from mlutriton.ir.analysis.scalars import Scalar
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function, Value
from mlutriton.ir.memory_ops import (
    GatherLoad,
    Load,
    ReachableBytes,
    ScatterStore,
    Store,
    TileLoad,
    pointee,
)
from mlutriton.ir.passes import memory_access
from mlutriton.ir.passes.programs.stored_places import StoredPlaces
from mlutriton.ir.types import PointerType, shape_of
from mlutriton.isa.program import LOADS_FOR_STORES
from mlutriton.placement import version_of
from mlutriton.specialization.candidates import Alone, Candidate, Version

# Sums of which the most telling bound is looked for.
_MOST_SUMS = 256
# And such bounds that are compared when a program begins.
_MOST_BOUNDS = 8
_GRID_AXES = range(3)


def candidate(function: Function, _: CompileOptions) -> Candidate | None:
    """Versions whose accesses take whole boxes; None if no access can gain.

    Args:
        function: as it is written, before its memory accesses are known.
    """
    return partial(_versions, copy_function(function)) if _may_gain(function) else None


def _may_gain(function: Function) -> bool:
    accesses = (each for each in function.walk() if isinstance(each, Load | Store))
    return any(shape_of(each.operands[0].type) for each in accesses) and not has_texts(function)


def _versions(written: Function, alone: Alone, compilation: Compilation) -> Sequence[Version]:
    """The programs of whole boxes that move fewer items one by one, and when each is to run, best first.

    Args:
        written: a copy of the function before its memory accesses were known; it is rewritten.
        alone: the function when they are known.
        compilation: for which it is.
    """
    function = alone.function
    items = (each for each in function.walk() if isinstance(each, GatherLoad | ScatterStore))
    if not any(each.integer("length") == 1 for each in items):
        return []
    found: list[Version] = []
    items = all_items(function)
    loading = copy_function(written)
    storing = replace(compilation, metadata={**compilation.metadata, LOADS_FOR_STORES: True})
    for boxed, conditions, made_by in (
        (loading, _assume(loading, {}), compilation),
        (written, _assume_all(written), storing),
    ):
        if conditions:
            compilation.find_accesses(boxed)
            left = all_items(boxed)
            if left >= items:
                continue
            compilation.observe("whole_boxes", boxed)
            program = version_of(boxed, made_by)
            if program is not None:
                items = left
                found.insert(0, Version(program, conditions))
    return found


def _assume_all(function: Function) -> list[Function]:
    """Have loads and stores take whole boxes, if any store can.

    Returns:
        what has to hold of the launch for that; nothing if no store can.
    """
    stored_places = StoredPlaces(function, _GRID_AXES)
    own = stored_places.own()
    return [*stored_places.conditions, *conditions] if own and (conditions := _assume(function, own)) else []


def _assume(function: Function, own: Mapping[int, Function]) -> list[Function]:
    """Have accesses take whole boxes where a launch can tell that arrays hold them.

    Args:
        function: is marked.
        own: by the number of a parameter, when nobody else stores to the boxes of stores to its array.

    Returns:
        what has to hold of the launch for that; nothing if no access can do so, or no store though that is wanted.
    """
    known = function.argument_attributes
    probe = copy_function(function)
    arguments = probe.body.arguments
    _mark(probe, memory_access.WHOLE_BOXES, [place for place, each in enumerate(arguments) if _is_pointer(each)])
    _mark(probe, memory_access.OWN_BOXES, own)
    loaded, stored = memory_access.boxes(probe)
    search = _Search(probe)
    of_loads, of_stores = search.held(loaded, stored=False), search.held(stored, stored=True)
    facts = [fact for held in (of_loads, of_stores) for each in held.values() for fact in each]
    if not (of_stores if own else of_loads):
        return []
    kept = [place for place, each in enumerate(arguments) if each in of_stores]
    _mark(function, memory_access.WHOLE_BOXES, [place for place, each in enumerate(arguments) if each in of_loads])
    _mark(function, memory_access.OWN_BOXES, kept)
    probe.body.operations[-1:-1] = search.bounds.code.operations
    holds = condition_function(probe, facts)
    holds.argument_attributes = known
    return [holds, *(own[place] for place in kept)]


def _is_pointer(value: Value) -> bool:
    return isinstance(value.type, PointerType)


def _mark(function: Function, fact: str, places: Collection[int]) -> None:
    """Have accesses of the arrays of some arguments take whole boxes."""
    facts = function.argument_attributes or [{} for _ in function.body.arguments]
    function.argument_attributes = [{**each, fact: 1} if place in places else each for place, each in enumerate(facts)]


class _Search:
    """Finds what has to hold of a launch for arrays to hold boxes.

    Attributes:
        bounds: has the arithmetic that facts are about.
    """

    def __init__(self, function: Function) -> None:
        self.bounds = Bounds(function)
        self._arguments = set(function.body.arguments)
        self._forms = ScalarForms()

    def held(self, boxes: Sequence[TileLoad], *, stored: bool) -> dict[Value, list[Fact]]:
        """What has to hold for arrays to have all of boxes, perhaps to store to; by argument, others are left out."""
        found: dict[Value, list[Fact] | None] = {}
        for box in boxes:
            argument, facts = self.facts(box, stored=stored)
            before = found.get(argument, [])
            found[argument] = None if facts is None or before is None else [*before, *facts]
        return {argument: facts for argument, facts in found.items() if facts is not None}

    def facts(self, box: TileLoad, *, stored: bool) -> tuple[Value, list[Fact] | None]:
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
        reached = code.add(ReachableBytes([argument], {"stored": stored}))
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
