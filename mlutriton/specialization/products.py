"""Versions of products on the cores of a cluster: neighbouring programs at a time, or parts of another length.

Neighbours go together (:mod:`mlutriton.ir.passes.widen`) as far as a cluster is at its best, and tiles are cut anew
(:mod:`mlutriton.ir.passes.cut`) where that leaves clusters as much to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mlutriton.codegen.versions import Unless, neighbours_at_once, of_parts
from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.ir.analysis.launch_facts import Rounds, condition_function
from mlutriton.ir.analysis.layouts import NotSplitError
from mlutriton.ir.core import Function
from mlutriton.ir.memory_ops import Store, TileLoad
from mlutriton.ir.passes import cut, numbering, widen
from mlutriton.ir.types import shape_of
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import Program
from mlutriton.placement import WORTH_WHILE, multiplies, partitioned, rounds_of
from mlutriton.specialization.candidates import Alone, Candidate, Version
from mlutriton.specialization.straight import Straight, straight

# Programs that go together along an axis at most.
_MOST_NEIGHBOURS = 8
# Rows of a product that a core of a cluster is to have: it takes as long to multiply them as to take the other matrix
# from the SRAM, whose port all cores share.
_MEMBER_ROWS = 128
# Columns of a product that a cluster is to have besides, so that it takes about as long to multiply as to load.
_MOST_COLUMNS = 256
# Tiles for a few vectors have no more than a part so small of the rows that a cluster is to have.
_FEW_ROWS = 16
# What parts may take at most of what whole programs take, or neighbours, for which the same loads are longer segments.
_WORTH_CUTTING = 0.95
# Axes of a product, as how many axes are behind.
_COLUMNS, _ROWS = range(2)


def candidate(function: Function, options: CompileOptions) -> Candidate | None:
    """Versions of neighbours and of parts; None if programs do not multiply, or cannot go together.

    Args:
        function: as it is written, before its memory accesses are known.
        options: what decides a compilation.
    """
    if not _may_go_together(function, options):
        return None
    return partial(_versions, _neighbours(function, options.machine), _parts(function, options.machine))


def _may_go_together(function: Function, options: CompileOptions) -> bool:
    """False if programs cannot go together on the cores of a cluster, or that is of no use."""
    is_of_use = options.num_stages > 1 and options.machine.cores_per_cluster > 1
    return is_of_use and multiplies(function) and widen.may_be_widened(function)


def _neighbours(function: Function, machine: Machine) -> list[numbering.Block]:
    """Programs that go together, as many as a cluster is at its best with; best first."""
    numberings = [numbering.run(function), numbering.as_written(function)]
    blocks = [_block(each, machine) for each in numberings if each is not None]
    found = [each for each in blocks if each is not None]
    # Fewer facts have to hold for numbers as they are written.
    return found if len(found) < 2 or math.prod(found[0].counts) > math.prod(found[1].counts) else found[1:]


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


def _parts(function: Function, machine: Machine) -> list[cut.Cut]:
    """Programs whose tiles are cut anew for launches of many rows and of few.

    * Tiles as tall as lets the clusters share powers of two. Twelve clusters have four tiles of a third each of them,
      or eight of a third of half. Where a cluster's number is a power of two, neighbours do. So they do where there are
      fewer parts than clusters: nothing is shared evenly then.
    * Tiles that are narrow in place of that: as many columns as let the clusters share those of powers of two, and as
      many rows as a cluster is at its best with, or half of that. Twice as many columns where there are fewer rows, and
      also where there are hardly any, if the kernel has tiles for that: it multiplies with a few vectors.

    The tallest come first.
    """
    cores = machine.cores_per_cluster
    clusters = machine.cores // cores
    odd = clusters // (clusters & -clusters)
    most = _MEMBER_ROWS * cores
    granule = machine.tensor_column_granule
    columns = -(-2 * _MOST_COLUMNS // (odd * granule)) * granule if odd > 1 else _MOST_COLUMNS
    # Of the fewest rows, the cores share out the columns instead, each of which is to have segments that are not short.
    shapes = [(most, columns)] * (odd > 1) + [(most // 2, columns), (most // 4, 2 * columns)]
    if _tile_rows(function) <= most // _FEW_ROWS:
        shapes.append((most // _FEW_ROWS, 2 * columns))
    wanted = [cut.Shape({_ROWS: rows, _COLUMNS: count}) for rows, count in shapes]
    if odd > 1:
        whole = most
        while whole < odd * most:
            whole *= 2
        rows = -(-whole // (odd * cores)) * cores
        wanted.insert(0, cut.Shape({_ROWS: rows, _COLUMNS: _MOST_COLUMNS}, clusters))
    return cut.run(function, wanted)


def _tile_rows(function: Function) -> int:
    """How many rows the tallest tile has that a kernel stores."""
    shapes = (shape_of(each.operands[1].type) for each in function.walk() if isinstance(each, Store))
    return max((shape[-1 - _ROWS] for shape in shapes if len(shape) > _ROWS), default=0)


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


def _versions(
    blocks: Sequence[numbering.Block], parted: Sequence[cut.Cut], alone: Alone, compilation: Compilation
) -> Sequence[Version]:
    """The programs of neighbours and of parts that are of use, and when each is to run.

    Args:
        blocks: these neighbours, best first; they are rewritten.
        parted: programs of parts; they are rewritten.
        alone: programs each by itself.
        compilation: for which it is.
    """
    on_cluster = compilation.with_options(cores=compilation.machine.cores_per_cluster)
    together = _of_neighbours(blocks, alone, on_cluster)
    return [*_of_parts(parted, together, alone, on_cluster), *(version for version, _ in together)]


def _of_neighbours(
    blocks: Sequence[numbering.Block], alone: Alone, compilation: Compilation
) -> list[tuple[Version, Rounds]]:
    """The programs of neighbours that are of use, with the rounds that each makes, best first."""
    found: list[tuple[Version, Rounds]] = []
    for block in reversed(blocks):
        compilation.find_accesses(block.function)
        compilation.observe("widen", block.function)
        form = straight(block.function, compilation.options, block.counts) or Straight(block.function, [])
        others = [*alone.rounds, *(rounds for _, rounds in reversed(found))]
        made = _on_cluster(form.function, compilation, others, math.prod(block.counts))
        if made is not None:
            program, part, rounds = made
            faster = condition_function(part, [], (rounds, others))
            conditions = [*block.conditions, *form.conditions, faster]
            found.insert(0, (Version(neighbours_at_once(program, block.counts), conditions), rounds))
    return found


def _of_parts(
    parted: Sequence[cut.Cut], together: Sequence[tuple[Version, Rounds]], alone: Alone, compilation: Compilation
) -> list[Version]:
    """The programs of parts that are of use, for launches of which those of neighbours are not, or take longer."""
    found: list[Version] = []
    others = [*alone.rounds]
    for each in reversed(parted):
        compilation.find_accesses(each.function)
        compilation.observe("cut", each.function)
        made = _on_cluster(each.function, compilation, [])
        if made is None:
            continue
        program, _, rounds = made
        rounds = replace(rounds, count=each.programs)
        slower = rounds.times(1 / _WORTH_CUTTING)
        faster = condition_function(each.asked, [], (slower, others))
        # Forms of which the launch is not take no time at all.
        unless = [
            Unless(condition_function(each.asked, [], (slower, [their_rounds])), version.conditions)
            for version, their_rounds in reversed(together)
        ]
        program = of_parts(program, each.parameters, each.counts, compilation.machine)
        # What mostly fails is asked first. What the very first question needs, is computed for all behind it as well.
        found.insert(0, Version(program, [faster, each.fits, *unless, *each.conditions]))
        others.append(rounds)
    return found


def _on_cluster(
    function: Function, compilation: Compilation, others: Sequence[Rounds], count: int = 1
) -> tuple[Program, Function, Rounds] | None:
    """The program of a function on the cores of a cluster, the part of each, and the rounds of programs that it makes.

    Args:
        function: does what several programs do.
        compilation: for these cores.
        others: rounds of forms of which one takes less for a program if this one is of no use.
        count: of programs that it does.
    """
    if any(any(each.geometry.flags()) for each in function.walk() if isinstance(each, TileLoad)):
        return None
    try:
        part = partitioned(function, compilation.options, share=True)
        if not _is_of_use(rounds_of(part, compilation.options), count, others):
            return None
        program = compilation.program(part, single_buffers=False)
    except (NotSplitError, OnChipMemoryError):
        return None
    rounds = rounds_of(part, compilation.options, is_resident=program.is_resident)
    if not _is_of_use(rounds, count, others):
        return None
    compilation.observe("partition", part)
    return program, part, replace(rounds, programs=rounds.programs * count)


def _is_of_use(rounds: Rounds, count: int, others: Sequence[Rounds]) -> bool:
    """Whether a form that does so many programs takes less for each of them than every other one."""
    rounds = replace(rounds, programs=rounds.programs * count)
    return all(rounds.may_take_less(WORTH_WHILE, each) for each in others)
