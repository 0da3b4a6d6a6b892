"""Programs whose elements change places, several at a time: each is a row of one tile.

What goes along rows is done for many programs by one instruction
(:mod:`mlutriton.codegen.pipelining.blocks.row_chunks`). The elements of an exchange
(:mod:`mlutriton.ir.passes.exchanges`) change places, so that programs of short tiles would be computed one by one, and
wait for each instruction. As rows of one tile (:mod:`mlutriton.ir.passes.turns_as_rows`) they are exchanged together:
the axis of rows is one more that is turned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mlutriton.codegen.estimate import estimated, estimated_ends
from mlutriton.codegen.grids import of_parts
from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.dtypes import I32
from mlutriton.ir.analysis.launch_facts import Rounds, condition_function, launch_function
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Block, Function, Operation, replace_uses
from mlutriton.ir.memory_ops import Load, Store, pointee
from mlutriton.ir.ops import Constant, Elementwise, For, NumPrograms, ProgramId, Transpose, Yield
from mlutriton.ir.passes import exchanges, simplify, turns_as_rows
from mlutriton.ir.types import shape_of
from mlutriton.isa.machine import Machine
from mlutriton.placement import WORTH_WHILE
from mlutriton.specialization.candidates import Alone, Candidate, Version

# Tiles of so many bytes take longer than what they wait for, and leave room for several of them.
_TILE_BYTES = 1 << 14
_FEWEST = 2
_GRID_AXES = 3


def candidate(function: Function, options: CompileOptions) -> Candidate | None:
    """Versions of several programs at a time; None if no elements change places, or tiles are long enough.

    Args:
        function: as it is written, before its memory accesses are known.
        options: what decides a compilation.
    """
    accesses = [each for each in function.walk() if isinstance(each, Load | Store)]
    asked = {each.axis for each in function.walk() if isinstance(each, ProgramId)}
    may_gain = (
        options.num_stages > 1
        and 0 in asked
        and exchanges.are_in(function)
        and turns_as_rows.may_have_rows([each for each in function.body.operations[:-1] if not _is_query(each)])
        and all(shape_of(each.operands[0].type) for each in accesses)
    )
    if not may_gain:
        return None
    longest = max(math.prod(shape_of(each.operands[0].type)) * pointee(each.operands[0]).bytes for each in accesses)
    count = 1 << (_TILE_BYTES // longest).bit_length() >> 1
    return partial(_versions, copy_function(function), count) if count >= _FEWEST else None


def _is_query(operation: Operation) -> bool:
    return isinstance(operation, ProgramId | NumPrograms)


def _versions(written: Function, count: int, alone: Alone, compilation: Compilation) -> Sequence[Version]:
    """The program of several programs at a time, and when it is to run, if it is of use.

    Args:
        written: the function before its memory accesses are known.
        count: how many go together at most.
        alone: the function when they are.
        compilation: for which it is.
    """
    machine = compilation.machine
    # Taking several at once leaves fewer to share out among cores.
    other = replace(_rounds(alone.function, 1, machine), is_even=True)
    while count >= _FEWEST:
        made = _together(written, count)
        compilation.find_accesses(made)
        rounds = _rounds(made, count, machine)
        if rounds.share() >= WORTH_WHILE * other.share():
            return []
        try:
            program = compilation.program(made, single_buffers=False)
        except OnChipMemoryError:
            count //= 2
            continue
        compilation.observe("rows_together", made)
        asked = copy_function(written)
        code = Scalars(asked.location)
        grid = [code.value(code.add(NumPrograms((), {"axis": axis}))) for axis in range(_GRID_AXES)]
        whole = code.binary("add", grid[0], count - 1)
        counts = [code.value(code.quotient(whole, count)), *grid[1:]]
        asked.body.operations[-1:-1] = code.operations
        functions = {axis: launch_function(asked, each) for axis, each in enumerate(counts)}
        program = of_parts(program, [launch_function(asked, grid[0])], functions, machine)
        return [Version(program, [condition_function(asked, [], (rounds, [other]))])]
    return []


def _together(function: Function, count: int) -> Function:
    """What so many neighbours along the first axis of the grid do, with one more parameter: how many there are."""
    made = copy_function(function)
    programs = made.add_parameter(I32, "programs")
    *operations, end = made.body.operations
    queries = [each for each in operations if _is_query(each)]
    numbers = [each.result for each in queries if isinstance(each, ProgramId) and each.axis == 0]
    lengths = [each.result for each in queries if isinstance(each, NumPrograms) and each.integer("axis") == 0]
    code = Scalars(made.location)
    several, zero, one = (code.add(Constant.of(number, I32)) for number in (count, 0, 1))
    first = code.add(Elementwise.of("mul", numbers[0], several))
    left = code.add(Elementwise.of("sub", programs, first))
    body = Block([I32])
    number = Elementwise.of("add", first, body.arguments[0], location=made.location)
    body.operations = [number, *(each for each in operations if not _is_query(each)), Yield()]
    replace_uses(body, {**dict.fromkeys(numbers, number.result), **dict.fromkeys(lengths, programs)})
    loop = For([zero, code.add(Elementwise.of("smin", left, several)), one], {"stages": 0}, regions=[body])
    loop.location = made.location
    made.body.operations = [*queries, *code.operations, loop, end]
    turns_as_rows.run(made, loop, count)
    simplify.run(made)
    return made


def _rounds(function: Function, count: int, machine: Machine) -> Rounds:
    """How many programs run at a time if a core takes so many at once, and how long that takes about.

    What exchanges elements waits for these to be in their places.
    """
    waits = sum(isinstance(each, Transpose) for each in function.walk()) * machine.vector_latency_cycles
    cycles, ends = round(estimated(function, machine).cycles), round(estimated_ends(function, machine))
    return Rounds(machine.cores * count, cycles + waits, ends=ends)
