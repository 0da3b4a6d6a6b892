"""Where a program runs and what of it at a time: on how many cores, and as it stands or in strips that fit on chip."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from mlutriton.codegen.estimate import estimated
from mlutriton.codegen.grids import resident
from mlutriton.codegen.versions import join
from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.ir.analysis.launch_facts import (
    Rounds,
    apart_function,
    are_apart,
    condition_function,
    has_texts,
    with_arrays_apart,
)
from mlutriton.ir.analysis.layouts import NotSplitError
from mlutriton.ir.analysis.lengths import Lengths, lengths_of
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function
from mlutriton.ir.memory_ops import TileLoad, TileStore
from mlutriton.ir.passes import (
    canonicalize,
    cse,
    dce,
    loop_invariant,
    merge_dimensions,
    merge_interleaved,
    merge_loads,
    strip_mine,
)
from mlutriton.ir.passes.programs import partition
from mlutriton.ir.tensor_ops import Dot
from mlutriton.isa.program import ONE_CORE_REASON, Program

# What makes a function ready for strips.
MERGE_PASSES: tuple[tuple[str, Callable[[Function], None]], ...] = (
    ("merge_dimensions", merge_dimensions.run),
    ("canonicalize_merged", canonicalize.run),
    ("cse_merged", cse.run),
    ("dce_merged", dce.run),
)

# What simplifies the code of strips: much of it is arithmetic on positions that a strip makes constant.
STRIP_PASSES: tuple[tuple[str, Callable[[Function], None]], ...] = (
    ("canonicalize_strips", canonicalize.run),
    ("cse_strips", cse.run),
    ("dce_strips", dce.run),
    ("loop_invariant_strips", loop_invariant.run_on_scalars),
)
LEAST_STRIP_BYTES = 512
# A part of a tile has to flow for so many latencies of a transfer for a program to be worth splitting.
_LATENCIES = 2
# Where the code of strips is longer, code generation takes minutes.
MAXIMUM_STRIP_OPERATIONS = 65_536


# A program is to take so much less of all cores on one core for that to be worth a version of its own.
WORTH_WHILE = 0.9

# The same for programs of unknown length, which would be dealt out as cores fall free otherwise.
_WORTH_DEALING_OUT = 0.5


def multiplies(function: Function) -> bool:
    """True if a function multiplies matrices, and nothing in it has a text of its own: then versions may pay."""
    return any(isinstance(each, Dot) for each in function.walk()) and not has_texts(function)


@dataclass(frozen=True)
class Placed:
    """A program, and the rounds of each form of it, of which the one that takes the least runs.

    Attributes:
        program: all of it.
        rounds: none if it does not multiply.
    """

    program: Program
    rounds: list[Rounds]


def placed(function: Function, compilation: Compilation) -> Placed:
    """The program of a function: for as many cores as are wanted if it can be split among them, else for one.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    if compilation.options.cores == 1:
        return _on_one_core(function, compilation)
    try:
        program, part = _split(function, compilation)
    except NotSplitError as error:
        reason = f"{error.reason} ({error.location})"
    except OnChipMemoryError as error:
        reason = error.summary
    else:
        return _or_apart(program, part, function, compilation)
    explained = replace(compilation, metadata={**compilation.metadata, ONE_CORE_REASON: reason})
    return _one_form(_fitted(function, explained), function, replace(compilation.options, cores=1))


def version_of(function: Function, compilation: Compilation) -> Program | None:
    """The program of what does the same as another function on some launches; None if it does not fit.

    The other one may then still: code of strips may be too long where more is to be done at each position.
    """
    try:
        return placed(function, compilation).program
    except OnChipMemoryError:
        return None


def _one_form(program: Program, part: Function, options: CompileOptions) -> Placed:
    if not multiplies(part):
        return Placed(program, [])
    return Placed(_dealt_out(program, part), [rounds_of(part, options, is_resident=program.is_resident)])


def _dealt_out(program: Program, part: Function) -> Program:
    """A program of which all tasks have as much to do, if the higher its number is, the longer it takes.

    Cores that fall free would take what comes next, and in the end some of them had the longest programs alone.
    """
    return resident(program) if lengths_of(part) is Lengths.GROWING else program


def _on_one_core(function: Function, compilation: Compilation) -> Placed:
    """The program of a function for one core; products that do not fit there rather go to a cluster than in strips.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    try:
        return _one_form(*whole(function, compilation), compilation.options)
    except OnChipMemoryError as error:
        refusal = error
    if compilation.machine.cores_per_cluster > 1 and multiplies(function):
        with suppress(NotSplitError, OnChipMemoryError):
            on_cluster = replace(compilation.options, cores=compilation.machine.cores_per_cluster)
            part = partitioned(function, on_cluster, share=True)
            program = compilation.program(part, single_buffers=False)
            compilation.observe("partition", part)
            return _one_form(program, part, on_cluster)
    return _one_form(_in_pieces_or_strips(function, compilation, refusal), function, compilation.options)


def _or_apart(
    program: Program,
    part: Function,
    function: Function,
    compilation: Compilation,
) -> Placed:
    """The program that cores run together, with one for grids of which each core better runs a program of its own."""
    if not multiplies(function):
        return Placed(program, [])
    on_one_core = replace(compilation.options, cores=1)
    together = rounds_of(part, compilation.options, is_resident=program.is_resident)
    alone = rounds_of(function, on_one_core)
    # Programs of unknown length are better dealt out as cores fall free, which those of two versions are not.
    is_even = program.is_resident or lengths_of(function) is not Lengths.UNKNOWN
    worth_while = WORTH_WHILE if is_even else _WORTH_DEALING_OUT
    if not alone.may_take_less(worth_while, together):
        return Placed(_dealt_out(program, part), [together])
    try:
        other = compilation.program(function)
    except OnChipMemoryError:
        return Placed(_dealt_out(program, part), [together])
    alone = rounds_of(function, on_one_core, is_resident=other.is_resident)
    faster = condition_function(function, [], (together, [alone]))
    return Placed(join([(program, [faster])], other, compilation.machine), [together, alone])


def rounds_of(function: Function, options: CompileOptions, *, is_resident: bool = True) -> Rounds:
    """How many programs run at a time on how many cores each, and how long that takes about."""
    machine = options.machine
    found = estimated(function, machine, is_resident=is_resident)
    return Rounds(machine.cores // options.cores, round(found.cycles), found.turns, round(found.ends))


def _split(function: Function, compilation: Compilation) -> tuple[Program, Function]:
    """The program of a function for several cores, which share tiles if these fit, and the part of each core.

    Raises:
        NotSplitError: it cannot be split, or that is of no use.
        OnChipMemoryError: E0202, it does not fit.
    """
    sharing = partitioned(function, compilation.options, share=True)
    try:
        program = compilation.program(sharing, single_buffers=False)
    except OnChipMemoryError:
        split = partitioned(function, compilation.options, share=False)
        compilation.observe("partition", split)
        return _fitted(split, compilation), sharing
    compilation.observe("partition", sharing)
    return program, sharing


def partitioned(function: Function, options: CompileOptions, *, share: bool) -> Function:
    """The part of a function that each core does: of those that multiply, the one that is expected to take the least.

    Raises:
        NotSplitError: it cannot be split, or that is of no use.
    """
    latency_bytes = options.machine.core_dma_latency_bytes
    parts = partition.partition(function, options.cores, share=share, least_part_bytes=_LATENCIES * latency_bytes)
    for part in parts if multiplies(function) else parts[:1]:
        options.verify(part, "partition")
        for _, run in STRIP_PASSES:
            run(part)
            options.verify(part, "partition")
    return min(parts, key=lambda part: rounds_of(part, options).share()) if multiplies(function) else parts[0]


def _fitted(function: Function, compilation: Compilation) -> Program:
    """The program of a function: as it stands if it fits on chip, else of ever smaller strips.

    Raises:
        OnChipMemoryError: E0202, it does not even fit strip by strip, or that takes too much code.
    """
    try:
        program, _ = whole(function, compilation)
    except OnChipMemoryError as error:
        refusal = error
    else:
        return program
    return _in_pieces_or_strips(function, compilation, refusal)


def whole(function: Function, compilation: Compilation, *, single_buffers: bool = True) -> tuple[Program, Function]:
    """The program of a function as it stands, and what it does mostly.

    Args:
        function: whose accesses are merged if there is room for that.
        compilation: for which it is.
        single_buffers: whether it may have no second buffers where there is no room for them.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    if merging := with_merged_accesses(function, compilation.options):
        merged, conditions = merging
        with suppress(OnChipMemoryError):
            program = compilation.program(merged, single_buffers=single_buffers)
            compilation.observe("merge_accesses", merged)
            if conditions:
                # What hardly ever runs is rather compiled quickly.
                simple = compilation.with_options(num_stages=1).program(function)
                program = join([(program, conditions)], simple, compilation.machine)
            return program, merged
    return compilation.program(function, single_buffers=single_buffers), function


def with_merged_accesses(function: Function, options: CompileOptions) -> tuple[Function, list[Function]] | None:
    """A copy of a function whose accesses are fewer and longer, and when it is right; None if nothing is merged."""
    numbers = Counter([type(each) for each in function.walk()])
    if max(numbers[TileLoad], numbers[TileStore]) < 2:
        return None
    merged = copy_function(function)
    interleaved = merge_interleaved.run(merged)
    if not (merge_loads.run(merged) or interleaved.is_any_merged):
        return None
    for run in (canonicalize.run, cse.run, dce.run):
        options.verify(merged, "merge_accesses")
        run(merged)
    options.verify(merged, "merge_accesses")
    return merged, interleaved.conditions


def _in_pieces_or_strips(
    function: Function,
    compilation: Compilation,
    refusal: OnChipMemoryError,
) -> Program:
    """The program of a function that does not fit as it stands: in pieces where arrays are apart, else in strips.

    Raises:
        OnChipMemoryError: E0202, it does not even fit strip by strip, or that takes too much code.
    """
    pieces = None
    if not multiplies(function) and not are_apart(function):
        with suppress(OnChipMemoryError):
            apart = with_arrays_apart(function)
            pieces = compilation.program(apart, single_buffers=False), apart_function(function)
    strips = _in_strips(function, compilation, refusal)
    return strips if pieces is None else join([(pieces[0], [pieces[1]])], strips, compilation.machine)


def _in_strips(
    function: Function,
    compilation: Compilation,
    refusal: OnChipMemoryError,
) -> Program:
    """The program of a function that does not fit as it stands, of ever smaller strips.

    Raises:
        OnChipMemoryError: E0202, it does not even fit strip by strip, or that takes too much code.
    """
    options = compilation.options
    for name, run in MERGE_PASSES:
        run(function)
        options.verify(function, name)
    strip_bytes = compilation.machine.usable_nram_bytes // 4
    refused: list[Function] = []
    while strip_bytes >= LEAST_STRIP_BYTES:
        mined = strip_mine.run(function, strip_bytes)
        options.verify(mined, "strip_mine")
        for _, run in STRIP_PASSES:
            run(mined)
            options.verify(mined, "strip_mine")
        if sum(1 for _ in mined.walk()) > MAXIMUM_STRIP_OPERATIONS:
            break
        try:
            program = compilation.program(mined, single_buffers=False)
        except OnChipMemoryError as error:
            refused.append(mined)
            # What is not of strips does not shrink with them: at half their size, at least half is needed.
            strip_bytes >>= max(1, math.ceil(math.log2(error.used_bytes / error.limit_bytes)))
            continue
        compilation.observe("strip_mine", mined)
        return program
    # Blocks of a loop may take what the loops around it need for double buffering, whatever the size of strips.
    for mined in refused if options.num_stages > 1 else ():
        with suppress(OnChipMemoryError):
            program = compilation.with_options(num_stages=1).program(mined)
            compilation.observe("strip_mine", mined)
            return program
    raise refusal
