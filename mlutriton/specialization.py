"""Versions of a kernel for launches of which more is known, each of them only where it pays.

Which version runs is decided when a program begins (:mod:`mlutriton.codegen.versions`). There are those

* without tiles that wrap (:mod:`mlutriton.ir.passes.unwrap`),
* of neighbouring programs at a time (:mod:`mlutriton.ir.passes.widen`), on the cores of a cluster where these multiply,
* of parts of another length (:mod:`mlutriton.ir.passes.cut`), on the cores of a cluster where these multiply,
* of neighbouring programs at a time on one core, where tiles have short rows (:mod:`mlutriton.longer_rows`),
* where sizes are round (:mod:`mlutriton.round_sizes`),
* of all turns of a short loop at once (:mod:`mlutriton.short_loops`),
* where arrays hold all around what masks leave out (:mod:`mlutriton.whole_boxes`),
* where arrays that are looked up element by element are small (:mod:`mlutriton.small_tables`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlutriton import longer_rows, round_sizes, short_loops, small_tables, whole_boxes
from mlutriton.codegen.estimate import estimated
from mlutriton.codegen.generate import generate
from mlutriton.codegen.versions import Condition, Unless, join, neighbours_at_once, of_parts
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.ir.analysis.launch_facts import Rounds, condition_function
from mlutriton.ir.analysis.layouts import NotSplitError
from mlutriton.ir.core import Function
from mlutriton.ir.memory_ops import TileLoad
from mlutriton.ir.passes import canonicalize, cse, cut, dce, numbering, unwrap, widen
from mlutriton.isa.machine import Machine
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

# Programs that go together along an axis at most.
_MOST_NEIGHBOURS = 8
# Rows of a product that a core of a cluster is to have: it takes as long to multiply them as to take the other matrix
# from the SRAM, whose port all cores share.
_MEMBER_ROWS = 128
# Columns of a product that a cluster is to have besides, so that it takes about as long to multiply as to load.
_MOST_COLUMNS = 256
# What parts may take at most of what whole programs take, or neighbours, for which the same loads are longer segments.
_WORTH_CUTTING = 0.95
# Axes of a product, as how many axes are behind.
_COLUMNS, _ROWS = range(2)


@dataclass(frozen=True)
class _Version:
    """A form of a function for launches of which something holds.

    Attributes:
        function: ready to be placed.
        conditions: functions that say what.
        is_usual: it holds for almost all launches.
    """

    function: Function
    conditions: list[Function]
    is_usual: bool = False


def _straight(function: Function, options: CompileOptions, together: Sequence[int] = (1, 1, 1)) -> _Version | None:
    """The function without tiles that wrap, if there are any and that can be known of a launch."""
    found = unwrap.run(function, together)
    if found is None:
        return None
    for simplify in (canonicalize.run, cse.run, dce.run):
        simplify(found.function)
    options.verify(found.function, "unwrap")
    return _Version(found.function, [found.condition], found.is_usual)


def neighbours(function: Function, options: CompileOptions) -> list[numbering.Block]:
    """Programs that go together, if they multiply tiles, and as many as a cluster is at its best with; best first.

    Args:
        function: as it is written, before its memory accesses are known.
        options: what decides a compilation.
    """
    if not _may_go_together(function, options):
        return []
    numberings = [numbering.run(function), numbering.as_written(function)]
    blocks = [_block(each, options.machine) for each in numberings if each is not None]
    found = [each for each in blocks if each is not None]
    # Fewer facts have to hold for numbers as they are written.
    return found if len(found) < 2 or math.prod(found[0].counts) > math.prod(found[1].counts) else found[1:]


def _may_go_together(function: Function, options: CompileOptions) -> bool:
    """False if programs cannot go together on the cores of a cluster, or that is of no use."""
    is_of_use = options.num_stages > 1 and options.machine.cores_per_cluster > 1
    return is_of_use and multiplies(function) and widen.may_be_widened(function)


def _block(numbered: numbering.Numbering, machine: Machine) -> numbering.Block | None:
    """Neighbours along both axes of their tiles, or along one, as far as a cluster is at its best."""
    most = _MEMBER_ROWS * machine.cores_per_cluster
    found = _widened(numbered, {_ROWS: most, _COLUMNS: _MOST_COLUMNS})
    if found is not None and _ROWS not in found.extents:
        # Alone, either axis does: tiles are split along the one that leaves cores the least work.
        found = _widened(numbered, {_COLUMNS: most})
    if found is None:
        return None
    return numbered.block(found.function, found.conditions, found.counts)


def parts(function: Function, options: CompileOptions) -> list[cut.Cut]:
    """Programs whose tiles are cut anew, if they multiply tiles, for launches of many rows and of few.

    * Tiles as tall as lets the clusters share powers of two. Twelve clusters have four tiles of a third each of them,
      or eight of a third of half. Where a cluster's number is a power of two, neighbours do. So they do where there are
      fewer parts than clusters: nothing is shared evenly then.
    * Tiles that are narrow in place of that: as many columns as let the clusters share those of powers of two, and as
      many rows as a cluster is at its best with, or half of that. Twice as many columns where there are fewer rows.

    Args:
        function: as it is written, before its memory accesses are known.
        options: what decides a compilation.

    Returns:
        The tallest first.
    """
    machine = options.machine
    if not _may_go_together(function, options):
        return []
    cores = machine.cores_per_cluster
    clusters = machine.cores // cores
    odd = clusters // (clusters & -clusters)
    most = _MEMBER_ROWS * cores
    granule = machine.tensor_column_granule
    columns = -(-2 * _MOST_COLUMNS // (odd * granule)) * granule if odd > 1 else _MOST_COLUMNS
    # Of the fewest rows, the cores share out the columns instead, each of which is to have segments that are not short.
    shapes = [(most, columns)] * (odd > 1) + [(most // 2, columns), (most // 4, 2 * columns)]
    wanted = [cut.Lengths({_ROWS: rows, _COLUMNS: count}) for rows, count in shapes]
    if odd > 1:
        whole = most
        while whole < odd * most:
            whole *= 2
        rows = -(-whole // (odd * cores)) * cores
        wanted.insert(0, cut.Lengths({_ROWS: rows, _COLUMNS: _MOST_COLUMNS}, clusters))
    return cut.run(function, wanted)


@dataclass(frozen=True)
class _Widening:
    """Programs as one, so many along each digit.

    Attributes:
        function: does what all of them do.
        conditions: functions that say of which launches it is right.
        counts: by the axis of a digit.
        extents: of tiles, by how many axes they have behind the one along which they lie side by side.
    """

    function: Function
    conditions: list[Function]
    counts: dict[int, int]
    extents: dict[int, int]


def _widened(numbered: numbering.Numbering, wanted: Mapping[int, int]) -> _Widening | None:
    """Programs as one until tiles have the extents that are wanted, by how many axes they have behind that one."""
    found = _Widening(numbered.function, [], {}, {})
    for digit in numbered.asked_for():
        # Where two do not go together, more do not either.
        pair = widen.run(found.function, digit.axis, 2) if digit.has_blocks_of(2) else None
        if pair is None or pair.from_last not in wanted:
            continue
        most = min(widen.power_of_two_up_to(wanted[pair.from_last] // pair.extent), _MOST_NEIGHBOURS)
        counts = [each for each in _powers_of_two(most) if digit.has_blocks_of(each)]
        candidates = (pair if each == 2 else widen.run(found.function, digit.axis, each) for each in counts)
        wide = next((each for each in candidates if each is not None), None)
        if wide is not None:
            conditions = [condition_function(found.function, wide.facts)] if wide.facts else []
            found = _Widening(
                wide.function,
                [*found.conditions, *conditions],
                {**found.counts, digit.axis: wide.count},
                {**found.extents, wide.from_last: wide.extent * wide.count},
            )
    return found if found.counts else None


def _powers_of_two(most: int) -> list[int]:
    """From a power of two down to 2."""
    return [1 << power for power in range(most.bit_length() - 1, 0, -1)]


def specialized(
    function: Function,
    wide: Sequence[numbering.Block],
    parted: Sequence[cut.Cut],
    written: Function | None,
    rounded: Function | None,
    unboxed: Function | None,
    looping: Function | None,
    options: CompileOptions,
    metadata: Metadata,
    observe: Observer,
    prepare: Callable[[Function], None],
) -> Program:
    """The program of a function, with versions for launches of which more is known if these are worth while.

    Args:
        function: whose memory accesses are known.
        wide: what :func:`neighbours` said of it.
        parted: what :func:`parts` said of it.
        written: a copy of the function as it is written if longer rows may be of use, else None.
        rounded: what :func:`mlutriton.round_sizes.assumed` said of it.
        unboxed: a copy of the function as it is written if loads of whole boxes may be of use, else None.
        looping: a copy of the function as it is written if all turns of its loop at once may be of use, else None.
        options: what decides a compilation.
        metadata: facts for the program file.
        observe: called with what is made.
        prepare: brings a function from where ``wide``, ``parted``, ``written``, ``rounded``, ``unboxed`` and
            ``looping`` are to where ``function`` is.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    straight = _straight(function, options) if multiplies(function) else None
    best = placed(function if straight is None else straight.function, options, metadata, observe)
    together = _together(wide, parted, best.rounds, options, metadata, observe, prepare)
    if written is not None:
        longer = longer_rows.together(written, function, options, metadata, observe, prepare)
        together += [longer] if longer else []
    if rounded is not None:
        found = round_sizes.version(rounded, function, options, metadata, observe, prepare)
        together += [found] if found else []
        rounded = rounded if found else None
    looked_up = small_tables.version(function, options, metadata, observe)
    if looked_up is not None:
        program, conditions, cycles = looked_up
        # Rows that are loaded for round sizes may take less than looking up.
        is_first = rounded is None or cycles <= estimated(rounded, options.machine).cycles
        together.insert(0 if is_first else len(together), (program, [*conditions]))
    if unboxed is not None:
        together = [*whole_boxes.versions(unboxed, function, options, metadata, observe, prepare), *together]
    if looping is not None:
        found = short_loops.version(looping, options, metadata, observe, prepare)
        together = [*([found] if found else []), *together]
    general = best.program
    if straight is not None:
        # What hardly ever runs is rather compiled quickly.
        others = replace(options, cores=1) if straight.is_usual else options
        together.append((best.program, [*straight.conditions]))
        general = placed(function, others, metadata, observe).program
    return join(together, general, options.machine) if together else general


def _together(
    blocks: Sequence[numbering.Block],
    parted: Sequence[cut.Cut],
    apart: Sequence[Rounds],
    options: CompileOptions,
    metadata: Metadata,
    observe: Observer,
    prepare: Callable[[Function], None],
) -> list[tuple[Program, list[Condition]]]:
    """The programs of neighbours and of parts on the cores of a cluster that are of use, and when each is to run.

    Args:
        blocks: these neighbours, best first.
        parted: programs of parts.
        apart: of each of them alone.
        options: what decides a compilation.
        metadata: facts for the program file.
        observe: called with what is made.
        prepare: brings a block's function to where the one of ``alone`` is.
    """
    machine = options.machine
    on_cluster = replace(options, cores=machine.cores_per_cluster)
    blocked: list[Rounds] = []
    found: list[tuple[Program, list[Condition]]] = []
    for block in reversed(blocks):
        prepare(block.function)
        observe("widen", block.function)
        straight = _straight(block.function, options, block.counts) or _Version(block.function, [])
        others = [*apart, *blocked]
        made = _on_cluster(straight.function, on_cluster, metadata, observe, others, math.prod(block.counts))
        if made is not None:
            program, part, rounds = made
            faster = condition_function(part, [], (rounds, others))
            conditions: list[Condition] = [*block.conditions, *straight.conditions, faster]
            found.insert(0, (neighbours_at_once(program, block.counts), conditions))
            blocked.append(rounds)
    holding = [conditions for _, conditions in reversed(found)]
    others = [*apart]
    for each in reversed(parted):
        prepare(each.function)
        observe("cut", each.function)
        made = _on_cluster(each.function, on_cluster, metadata, observe, [])
        if made is None:
            continue
        program, _, rounds = made
        rounds = replace(rounds, count=each.programs)
        slower = rounds.times(1 / _WORTH_CUTTING)
        faster = condition_function(each.asked, [], (slower, others))
        than_blocks = [condition_function(each.asked, [], (slower, [one])) for one in blocked]
        # Forms of which the launch is not take no time at all.
        unless = [Unless(one, conditions) for one, conditions in zip(than_blocks, holding, strict=True)]
        program = of_parts(program, each.parameters, each.counts, machine)
        # What mostly fails is asked first. What the very first question needs, is computed for all behind it as well.
        found.insert(0, (program, [faster, each.fits, *unless, *each.conditions]))
        others.append(rounds)
    return found


def _on_cluster(
    function: Function,
    options: CompileOptions,
    metadata: Metadata,
    observe: Observer,
    others: Sequence[Rounds],
    count: int = 1,
) -> tuple[Program, Function, Rounds] | None:
    """The program of a function on the cores of a cluster, the part of each, and the rounds of programs that it makes.

    Args:
        function: does what several programs do.
        options: want these cores.
        metadata: facts for the program file.
        observe: called with what is made.
        others: rounds of forms of which one takes less for a program if this one is of no use.
        count: of programs that it does.
    """
    if any(any(each.geometry.flags()) for each in function.walk() if isinstance(each, TileLoad)):
        return None
    try:
        part = partitioned(function, options, share=True)
        if not _is_of_use(rounds_of(part, options), count, others):
            return None
        program = generate(part, options.machine, options.num_stages, metadata, single_buffers=False)
    except (NotSplitError, OnChipMemoryError):
        return None
    rounds = rounds_of(part, options, is_resident=program.is_resident)
    if not _is_of_use(rounds, count, others):
        return None
    observe("partition", part)
    return program, part, replace(rounds, programs=rounds.programs * count)


def _is_of_use(rounds: Rounds, count: int, others: Sequence[Rounds]) -> bool:
    """Whether a form that does so many programs takes less for each of them than every other one."""
    rounds = replace(rounds, programs=rounds.programs * count)
    return all(rounds.may_take_less(WORTH_WHILE, each) for each in others)
