"""A version of a kernel for launches of round sizes.

Where a kernel takes flat positions apart into digits (:mod:`mlutriton.ir.analysis.digits`), the end of its tensors
must not lie amid them: with ``index < n`` and ``index % 64``, whole rows of 64 can be taken at once if ``n`` is a
multiple of 64. The same goes for ``index % size``, of which a compiler knows at best that ``size`` is a multiple of 16;
and ``(index + shift) % size`` begins again at 0 if ``shift`` is not negative, as does ``(index - 1 + size) % size`` if
``size`` is no less than 1. Nearly every launch is like that, but only the launch knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mlutriton.codegen.estimate import all_items, estimated
from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.ir.analysis.launch_facts import AtLeast, Fact, Multiple, condition_function, has_texts
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function, Value
from mlutriton.ir.passes import memory_access
from mlutriton.placement import version_of
from mlutriton.specialization.candidates import Alone, Candidate, Version


def candidate(function: Function, _: CompileOptions) -> Candidate | None:
    """A version for round sizes; None if it is of no use.

    Args:
        function: as it is written, before its memory accesses are known.
    """
    rounded = _assumed(function)
    return None if rounded is None else partial(_versions, rounded)


def _assumed(function: Function) -> Function | None:
    """A copy of a function that takes sizes to be round; None if that is of no use."""
    if has_texts(function):
        return None
    wanted: dict[Value, dict[str, int]] = {
        argument: {"divisibility": factor} for argument, factor in memory_access.wanted_multiples(function).items()
    }
    for argument, number in memory_access.wanted_least(function).items():
        wanted.setdefault(argument, {})["least"] = number
    if not wanted:
        return None
    made = copy_function(function)
    arguments = function.body.arguments
    facts = made.argument_attributes or [{} for _ in arguments]
    made.argument_attributes = [
        {**each, **wanted.get(argument, {})} for argument, each in zip(arguments, facts, strict=True)
    ]
    return made


def _versions(rounded: Function, alone: Alone, compilation: Compilation) -> Sequence[Version]:
    """The program for round sizes, and when it is to run; none if it moves no fewer items, or is too large.

    Args:
        rounded: what :func:`_assumed` made.
        alone: without the assumption.
        compilation: for which it is.
    """
    function = alone.function
    compilation.find_accesses(rounded)
    if all_items(rounded) >= all_items(function):
        return []
    compilation.observe("round_sizes", rounded)
    pairs = zip(rounded.body.arguments, rounded.argument_attributes, function.argument_attributes, strict=True)
    facts: list[Fact] = []
    for argument, new, old in pairs:
        if new.get("divisibility", 1) != old.get("divisibility", 1):
            facts.append(Multiple(argument, new["divisibility"]))
        if new.get("least") != old.get("least"):
            facts.append(AtLeast(argument, new["least"]))
    condition = condition_function(rounded, facts)
    condition.argument_attributes = function.argument_attributes
    cycles = estimated(rounded, compilation.machine).cycles
    program = version_of(rounded, compilation)
    return [] if program is None else [Version(program, [condition], cycles)]
