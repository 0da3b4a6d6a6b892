"""Neighbouring programs as one where what each of them transfers is in short pieces.

A tile of 32 columns of float32 is rows of 128 bytes, each of which is set up by itself: that takes longer than their
flow. The tiles of neighbours mostly lie side by side (:mod:`mlutriton.ir.passes.programs.widen`), so that several
programs transfer rows as many times as long. A transpose gains along both axes, as it loads along one and stores along
the other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

from mlutriton.codegen.estimate import estimated, estimated_ends, shortest_segment_bytes
from mlutriton.codegen.grids import neighbours_at_once
from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.ir.analysis.launch_facts import Rounds, condition_function, has_texts
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function
from mlutriton.ir.memory_ops import Store
from mlutriton.ir.passes.programs import numbering, widen
from mlutriton.ir.tensor_ops import Dot
from mlutriton.ir.types import shape_of
from mlutriton.isa.machine import Machine
from mlutriton.placement import WORTH_WHILE, whole, with_merged_accesses
from mlutriton.specialization.candidates import Alone, Candidate, Version

# Programs that go together along an axis at most.
_MOST_NEIGHBOURS = 8
# Setting up rows of so many bytes takes less time than their flow, on any machine.
_ROW_BYTES = 512


def candidate(function: Function, options: CompileOptions) -> Candidate | None:
    """Versions in which programs go together for what they transfer alone; None if that is of no use.

    Args:
        function: as it is written, before its memory accesses are known.
        options: what decides a compilation.
    """
    return partial(_versions, copy_function(function)) if _may_gain(function, options) else None


def _may_gain(function: Function, options: CompileOptions) -> bool:
    every = list(function.walk())
    return (
        options.num_stages > 1
        and not any(isinstance(each, Dot) for each in every)
        and not has_texts(function)
        and any(isinstance(each, Store) and len(shape_of(each.operands[1].type)) > 1 for each in every)
        and widen.may_be_widened(function)
    )


def _versions(written: Function, alone: Alone, compilation: Compilation) -> Sequence[Version]:
    """The program of several programs at a time whose tiles have longer rows, and when it is to run, if it is of use.

    Args:
        written: the function before its memory accesses are known.
        alone: the function when they are.
        compilation: for which it is.
    """
    machine = compilation.machine
    if _count(alone.function) < 2:
        return []
    before = _merged(alone.function, compilation)
    count = _count(before)
    # Taking several at once leaves fewer to share out among cores.
    other = replace(_rounds(before, 1, machine), is_even=True)
    while count > 1:
        chosen = _best(written, count, other, compilation)
        if chosen is None:
            return []
        block, rounds = chosen
        try:
            program, _ = whole(block.function, compilation, single_buffers=False)
        except OnChipMemoryError:
            count //= 2
            continue
        compilation.observe("widen", block.function)
        faster = condition_function(block.function, [], (rounds, [other]))
        return [Version(neighbours_at_once(program, block.counts), [*block.conditions, faster])]
    return []


def _best(
    written: Function, count: int, other: Rounds, compilation: Compilation
) -> tuple[numbering.Block, Rounds] | None:
    """So many neighbours along one axis or along each of several as one program, if that takes less than they do."""
    best: tuple[numbering.Block, Rounds] | None = None
    for block in _blocks(written, count):
        compilation.find_accesses(block.function)
        merged = _merged(block.function, compilation)
        rounds = _rounds(merged, math.prod(block.counts), compilation.machine)
        if rounds.share() < WORTH_WHILE * (best[1] if best else other).share():
            best = block, rounds
    return best


def _blocks(written: Function, count: int) -> Iterator[numbering.Block]:
    """So many neighbours along one axis of their tiles, along each such axis in turn, and along all of them."""
    digits = [each for each in _numbered(written).digits if each.has_blocks_of(count)]
    along: list[int] = []
    for digit in digits:
        block = _block(written, [digit.axis], count)
        if block is not None:
            along.append(digit.axis)
            yield block
    if len(along) > 1:
        block = _block(written, along, count)
        if block is not None:
            yield block


def _numbered(written: Function) -> numbering.Numbering:
    return numbering.run(written) or numbering.as_written(written)


def _block(written: Function, axes: Collection[int], count: int) -> numbering.Block | None:
    """So many neighbours along each of some axes as one program, if their tiles lie side by side."""
    numbered = _numbered(written)
    function, conditions = numbered.function, list[Function]()
    for axis in axes:
        wide = widen.run(function, axis, count)
        if wide is None:
            return None
        if wide.facts:
            conditions.append(condition_function(function, wide.facts))
        function = wide.function
    return numbered.block(function, conditions, dict.fromkeys(axes, count))


def _count(function: Function) -> int:
    """How many neighbours have rows that are long enough."""
    shortest = shortest_segment_bytes(function)
    return min(widen.power_of_two_up_to(_ROW_BYTES // shortest) if shortest else 1, _MOST_NEIGHBOURS)


def _merged(function: Function, compilation: Compilation) -> Function:
    """A function as it is compiled if there is room for that."""
    merging = with_merged_accesses(function, compilation.options)
    return merging[0] if merging else function


def _rounds(function: Function, count: int, machine: Machine) -> Rounds:
    """How many programs run at a time if a core takes so many at once, and how long that takes about."""
    cycles, ends = round(estimated(function, machine).cycles), round(estimated_ends(function, machine))
    return Rounds(machine.cores * count, cycles, ends=ends)
