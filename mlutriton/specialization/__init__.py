"""Versions of a kernel for launches of which more is known, each of them only where it pays.

Which version runs is decided when a program begins (:mod:`mlutriton.codegen.versions`). There are those

* of all turns of a short loop at once (:mod:`mlutriton.specialization.short_loops`),
* where arrays hold all around what masks leave out (:mod:`mlutriton.specialization.whole_boxes`),
* where arrays that are looked up element by element are small (:mod:`mlutriton.specialization.small_tables`),
* of parts of another length, on the cores of a cluster where these multiply
  (:mod:`mlutriton.specialization.products`),
* of neighbouring programs at a time on one core, where tiles have short rows
  (:mod:`mlutriton.specialization.longer_rows`),
* of neighbouring programs at a time on one core, where elements of short tiles change places
  (:mod:`mlutriton.specialization.rows_together`),
* where sizes are round (:mod:`mlutriton.specialization.round_sizes`),
* without tiles that wrap (:mod:`mlutriton.specialization.straight`).
"""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.codegen.versions import join
from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.ir.core import Function
from mlutriton.isa.program import Program
from mlutriton.placement import multiplies, placed
from mlutriton.specialization import (
    longer_rows,
    products,
    round_sizes,
    rows_together,
    short_loops,
    small_tables,
    whole_boxes,
)
from mlutriton.specialization.candidates import Alone, Candidate, Version
from mlutriton.specialization.straight import straight

# Of several versions that are right, the first runs.
_KINDS = (short_loops, whole_boxes, small_tables, products, longer_rows, rows_together, round_sizes)


def candidates(function: Function, options: CompileOptions) -> list[Candidate]:
    """What may make versions of a function.

    Args:
        function: as it is written, before its memory accesses are known; those who need it later have copies.
        options: what decides a compilation.
    """
    found = [kind.candidate(function, options) for kind in _KINDS]
    return [each for each in found if each is not None]


def specialized(function: Function, candidates: Sequence[Candidate], compilation: Compilation) -> Program:
    """The program of a function, with versions for launches of which more is known if these are worth while.

    Args:
        function: whose memory accesses are known; it is rewritten.
        candidates: what :func:`candidates` said of it.
        compilation: for which it is.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    unwrapped = straight(function, compilation.options) if multiplies(function) else None
    best = placed(function if unwrapped is None else unwrapped.function, compilation)
    alone = Alone(function, best.rounds)
    found = _quickest_first([each for make in candidates for each in make(alone, compilation)])
    versions = [(each.program, each.conditions) for each in found]
    general = best.program
    if unwrapped is not None:
        versions.append((best.program, [unwrapped.condition]))
        general = placed(function, compilation).program
    return join(versions, general, compilation.machine) if versions else general


def _quickest_first(versions: Sequence[Version]) -> list[Version]:
    """Versions of which some change places, so that of those that know their cycles the quickest comes first."""
    known = iter(sorted((each for each in versions if each.cycles is not None), key=lambda each: each.cycles or 0))
    return [each if each.cycles is None else next(known) for each in versions]
