"""A version of a kernel for launches of round sizes.

Where a kernel takes flat positions apart into digits (:mod:`mlutriton.ir.analysis.digits`), the end of its tensors
must not lie amid them: with ``index < n`` and ``index % 64``, whole rows of 64 can be taken at once if ``n`` is a
multiple of 64. The same goes for ``index % size``, of which a compiler knows at best that ``size`` is a multiple of 16;
and ``(index + shift) % size`` begins again at 0 if ``shift`` is not negative, as does ``(index - 1 + size) % size`` if
``size`` is no less than 1. Nearly every launch is like that, but
only the launch knows.
"""

from __future__ import annotations

from collections.abc import Callable

from mlutriton.codegen.estimate import item_count
from mlutriton.ir.analysis.launch_facts import AtLeast, Fact, Multiple, condition_function
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function, Value
from mlutriton.ir.memory_ops import Assert, GatherLoad, Print, ScatterStore
from mlutriton.ir.passes import memory_access
from mlutriton.isa.program import Program
from mlutriton.placement import CompileOptions, Metadata, Observer, placed


def assumed(function: Function) -> Function | None:
    """A copy of a function that takes sizes to be round; None if that is of no use.

    Args:
        function: before its memory accesses are known.
    """
    if any(isinstance(each, Print | Assert) for each in function.walk()):
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


def version(
    rounded: Function,
    function: Function,
    options: CompileOptions,
    metadata: Metadata,
    observe: Observer,
    prepare: Callable[[Function], None],
) -> tuple[Program, list[Function]] | None:
    """The program for round sizes, and when it is to run; None if no fewer items are moved one by one.

    Args:
        rounded: what :func:`assumed` made.
        function: without the assumption, when its memory accesses are known.
        options: what decides a compilation.
        metadata: facts for the program file.
        observe: called with what is made.
        prepare: brings a function from where ``rounded`` is to where ``function`` is.
    """
    prepare(rounded)
    if _items(rounded) >= _items(function):
        return None
    observe("round_sizes", rounded)
    pairs = zip(rounded.body.arguments, rounded.argument_attributes, function.argument_attributes, strict=True)
    facts: list[Fact] = []
    for argument, new, old in pairs:
        if new.get("divisibility", 1) != old.get("divisibility", 1):
            facts.append(Multiple(argument, new["divisibility"]))
        if new.get("least") != old.get("least"):
            facts.append(AtLeast(argument, new["least"]))
    condition = condition_function(rounded, facts)
    condition.argument_attributes = function.argument_attributes
    return placed(rounded, options, metadata, observe).program, [condition]


def _items(function: Function) -> int:
    return sum(item_count(each) for each in function.walk() if isinstance(each, GatherLoad | ScatterStore))
