"""Versions of a kernel for launches of which more is known, each of them only where it pays.

Which version runs is decided when a program begins (:mod:`mlutriton.codegen.versions`). There are those

* without tiles that wrap (:mod:`mlutriton.ir.passes.unwrap`),
* of neighbouring programs at a time, on the cores of a cluster (:mod:`mlutriton.ir.passes.widen`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mlutriton.codegen.generate import generate
from mlutriton.codegen.versions import join, neighbours_at_once
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.ir.analysis.launch_facts import Rounds, condition_function
from mlutriton.ir.analysis.layouts import NotSplitError
from mlutriton.ir.core import Function
from mlutriton.ir.memory_ops import TileLoad
from mlutriton.ir.passes import unwrap, widen
from mlutriton.ir.verifier import verify
from mlutriton.isa.program import Program
from mlutriton.placement import (
    WORTH_WHILE,
    CompileOptions,
    Metadata,
    Observer,
    multiplies,
    partitioned,
    placed,
    rounds_of,
)

# Programs that go together at most.
_MOST_NEIGHBOURS = 8
# Rows of a product that a core of a cluster is to have: it takes as long to multiply them as to take the other matrix
# from the SRAM, whose port all cores share.
_MEMBER_ROWS = 128


@dataclass(frozen=True)
class _Version:
    """A form of a function for launches of which something holds.

    Attributes:
        function: ready to be placed.
        conditions: functions that say what.
    """

    function: Function
    conditions: list[Function]


def _straight(function: Function) -> _Version | None:
    """The function without tiles that wrap, if there are any and that can be known of a launch."""
    found = unwrap.run(function)
    if found is None:
        return None
    straight, facts = found
    verify(straight, "unwrap")
    return _Version(straight, [condition_function(straight, facts)])


def neighbours(function: Function, options: CompileOptions) -> widen.Widened | None:
    """Programs that go together, if they multiply tiles, and as many as a cluster is at its best with.

    Args:
        function: as it is written, before its memory accesses are known.
        options: what decides a compilation.
    """
    machine = options.machine
    if not multiplies(function) or options.num_stages < 2 or machine.cores_per_cluster == 1:
        return None
    found = (widen.run(function, 1 << power) for power in range(_MOST_NEIGHBOURS.bit_length() - 1, 0, -1))
    wide = next((each for each in found if each is not None), None)
    if wide is None:
        return None
    count = min(_power_of_two(_MEMBER_ROWS * machine.cores_per_cluster // wide.extent), wide.count)
    if count < 2:
        return None
    return wide if count == wide.count else widen.run(function, count)


def _power_of_two(number: int) -> int:
    """The greatest power of two that is no more than a number; 0 of 0."""
    return 1 << number.bit_length() >> 1


def specialized(
    function: Function,
    wide: widen.Widened | None,
    options: CompileOptions,
    metadata: Metadata,
    observe: Observer,
    prepare: Callable[[Function], None],
) -> Program:
    """The program of a function, with versions for launches of which more is known if these are worth while.

    Args:
        function: whose memory accesses are known.
        wide: what :func:`neighbours` said of it.
        options: what decides a compilation.
        metadata: facts for the program file.
        observe: called with what is made.
        prepare: brings a function from where ``wide`` is to where ``function`` is.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    straight = _straight(function) if multiplies(function) else None
    together = None
    if wide is not None:
        prepare(wide.function)
        best = function if straight is None else straight.function
        together = _at_once(wide, best, options, metadata, observe)
    program = placed(function, options, metadata, observe)
    if straight is not None:
        special = placed(straight.function, options, metadata, observe)
        program = join(special, program, straight.conditions, options.machine)
    return program if together is None else join(together[0], program, together[1], options.machine)


def _at_once(
    wide: widen.Widened, alone: Function, options: CompileOptions, metadata: Metadata, observe: Observer
) -> tuple[Program, list[Function]] | None:
    """The program of several programs at a time on the cores of a cluster, and when it is to run; None if it is no use.

    Args:
        wide: these programs.
        alone: each of them alone.
        options: what decides a compilation.
        metadata: facts for the program file.
        observe: called with what is made.
    """
    machine = options.machine
    observe("widen", wide.function)
    straight = _straight(wide.function) or _Version(wide.function, [])
    if any(any(each.geometry.flags()) for each in straight.function.walk() if isinstance(each, TileLoad)):
        return None
    on_cluster = replace(options, cores=machine.cores_per_cluster)
    other = rounds_of(alone, replace(options, cores=1))
    try:
        if options.cores > 1:
            other = min(other, rounds_of(partitioned(alone, options, share=True), options), key=Rounds.share)
    except NotSplitError:
        pass
    try:
        part = partitioned(straight.function, on_cluster, share=True)
        one = rounds_of(part, on_cluster)
        rounds = Rounds(one.programs * wide.count, one.cycles)
        if rounds.share() > WORTH_WHILE * other.share():
            return None
        program = generate(part, machine, options.num_stages, metadata, single_buffers=False)
    except (NotSplitError, OnChipMemoryError):
        return None
    observe("partition", part)
    conditions = [condition_function(wide.source, wide.facts, (rounds, other)), *straight.conditions]
    return neighbours_at_once(program, wide.count), conditions
