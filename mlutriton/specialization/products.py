"""Versions of products on the cores of a cluster, with tiles cut anew (:mod:`mlutriton.ir.passes.programs.cut`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mlutriton.codegen.grids import of_parts
from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.ir.analysis.launch_facts import Rounds, condition_function
from mlutriton.ir.analysis.layouts import NotSplitError
from mlutriton.ir.core import Function
from mlutriton.ir.memory_ops import Store, TileLoad
from mlutriton.ir.passes.programs import cut, widen
from mlutriton.ir.types import shape_of
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import Program
from mlutriton.placement import multiplies, partitioned, rounds_of
from mlutriton.specialization.candidates import Alone, Candidate, Version

# Rows of a product that a core of a cluster is to have: it takes as long to multiply them as to take the other matrix
# from the SRAM, whose port all cores share.
_MEMBER_ROWS = 128
# Columns of a product that a cluster is to have besides, so that it takes about as long to multiply as to load.
_MOST_COLUMNS = 256
# What multiplies with a few vectors has so small a part of the rows that a cluster is to have, and its kernel tiles of
# no more than twice as many rows: so tall are also those that are written for any number of rows.
_FEW_ROWS = 16
_SHORT_TILES = 8
# What parts may take at most of what whole programs take, for which the same loads are longer segments.
_WORTH_CUTTING = 0.95
# Axes of a product, as how many axes are behind.
_COLUMNS, _ROWS = range(2)


def candidate(function: Function, options: CompileOptions) -> Candidate | None:
    """Versions of parts; None if programs do not multiply, or cannot be cut.

    Args:
        function: as it is written, before its memory accesses are known.
        options: what decides a compilation.
    """
    is_of_use = options.num_stages > 1 and options.machine.cores_per_cluster > 1
    if not (is_of_use and multiplies(function) and widen.may_be_widened(function)):
        return None
    parts = _parts(function, options.machine)
    return partial(_versions, parts) if parts else None


def _parts(function: Function, machine: Machine) -> list[cut.Cut]:
    """Programs whose tiles are cut anew for launches of many rows and of few, in the order in which they are asked for.

    * Tiles as tall as lets the clusters share powers of two. Twelve clusters have four tiles of a third each of them,
      or eight of a third of half. Where there are fewer parts than clusters, nothing is shared evenly.
    * Tiles that are narrow in place of that: as many columns as let the clusters share those of powers of two, and as
      many rows as a cluster is at its best with, or half of that. Twice as many columns where there are fewer rows, and
      also where there are hardly any, if the kernel has tiles for that: it multiplies with a few vectors.
    * Tiles as tall and wide as a cluster is at its best with, for any launch of which the others are not.
    """
    cores = machine.cores_per_cluster
    clusters = machine.cores // cores
    odd = clusters // (clusters & -clusters)
    most = _MEMBER_ROWS * cores
    granule = machine.tensor_column_granule
    columns = -(-2 * _MOST_COLUMNS // (odd * granule)) * granule if odd > 1 else _MOST_COLUMNS
    # Of the fewest rows, the cores share out the columns instead, each of which is to have segments that are not short.
    narrow = [(most, columns)] * (odd > 1) + [(most // 2, columns), (most // 4, 2 * columns)]
    if _tile_rows(function) <= most // _SHORT_TILES:
        narrow.append((most // _FEW_ROWS, 2 * columns))
    wanted = [cut.Shape({_ROWS: rows, _COLUMNS: count}) for rows, count in narrow]
    wanted.append(cut.Shape({_ROWS: most, _COLUMNS: _MOST_COLUMNS}, is_for_many=True))
    if odd > 1:
        whole = most
        while whole < odd * most:
            whole *= 2
        rows = -(-whole // (odd * cores)) * cores
        wanted.insert(0, cut.Shape({_ROWS: rows, _COLUMNS: _MOST_COLUMNS}, clusters))
    # Attention has tiles along its rows alone.
    return cut.run(function, wanted, clusters) or cut.run(
        function, [cut.Shape({_ROWS: most}, is_for_many=True)], clusters
    )


def _tile_rows(function: Function) -> int:
    """How many rows the tallest tile has that a kernel stores."""
    shapes = (shape_of(each.operands[1].type) for each in function.walk() if isinstance(each, Store))
    return max((shape[-1 - _ROWS] for shape in shapes if len(shape) > _ROWS), default=0)


def _versions(parts: Sequence[cut.Cut], alone: Alone, compilation: Compilation) -> Sequence[Version]:
    """The programs of parts that are of use, and when each is to run.

    Args:
        parts: in the order in which they are asked for; they are rewritten.
        alone: programs each by itself.
        compilation: for which it is.
    """
    compilation = compilation.with_options(cores=compilation.machine.cores_per_cluster)
    found: list[Version] = []
    others = [*alone.rounds]
    for each in reversed(parts):
        compilation.find_accesses(each.function)
        compilation.observe("cut", each.function)
        # Those that are not for many suit launches that leave cores without any program.
        made = _on_cluster(each, compilation, alone.rounds if each.shape.is_for_many else [])
        if made is None:
            continue
        program, rounds = made
        faster = condition_function(each.asked, [], (rounds.times(1 / _WORTH_CUTTING), others))
        program = of_parts(program, each.parameters, each.counts, compilation.machine)
        # What mostly fails is asked first. What the very first question needs, is computed for all behind it as well.
        found.insert(0, Version(program, [faster, each.fits, *each.conditions]))
        others.append(rounds)
    return found


def _on_cluster(part: cut.Cut, compilation: Compilation, others: Sequence[Rounds]) -> tuple[Program, Rounds] | None:
    """The program of a part on the cores of a cluster, and the rounds that it makes.

    Args:
        part: what it does.
        compilation: for these cores.
        others: rounds of programs, of which one takes less for as much if this one is of no use.
    """
    if any(any(each.geometry.flags()) for each in part.function.walk() if isinstance(each, TileLoad)):
        return None
    try:
        member = partitioned(part.function, compilation.options, share=True)
        rounds = rounds_of(member, compilation.options)
        for_one = rounds.times(1 / part.share)
        if not all(for_one.may_take_less(_WORTH_CUTTING, each) for each in others):
            return None
        program = compilation.program(member, single_buffers=False)
    except (NotSplitError, OnChipMemoryError):
        return None
    compilation.observe("partition", member)
    rounds = rounds_of(member, compilation.options, is_resident=program.is_resident)
    return program, replace(rounds, count=part.programs)
