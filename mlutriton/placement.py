"""Where a program runs and what of it at a time: on how many cores, and as it stands or in strips that fit on chip."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from mlutriton.codegen.estimate import estimated
from mlutriton.codegen.generate import generate
from mlutriton.codegen.versions import join, resident
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.ir.analysis.launch_facts import (
    Rounds,
    apart_function,
    are_apart,
    condition_function,
    with_arrays_apart,
)
from mlutriton.ir.analysis.layouts import NotSplitError
from mlutriton.ir.analysis.lengths import Lengths, lengths_of
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function
from mlutriton.ir.memory_ops import Assert, AtomicCas, AtomicRmw, GatherAtomic, Print, TileLoad, TileStore
from mlutriton.ir.passes import (
    canonicalize,
    cse,
    dce,
    loop_invariant,
    merge_dimensions,
    merge_interleaved,
    merge_loads,
    partition,
    strip_mine,
)
from mlutriton.ir.tensor_ops import Dot
from mlutriton.ir.verifier import verify
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import ONE_CORE_REASON, Program

Observer = Callable[[str, Function | Program], None]
Metadata = Mapping[str, object]


@dataclass(frozen=True)
class CompileOptions:
    """What decides a compilation.

    Attributes:
        machine: decides tile sizes, instruction forms and legality.
        num_stages: depth of the software pipeline; 1 for none.
        fuse_multiply_add: an intermediate result that is used once need not be rounded.
        cores: of a cluster that run a program together, where that is possible.
        verifies_stages: the IR is checked after every stage, else where it is made and where code is made from it.
    """

    machine: Machine
    num_stages: int = 2
    fuse_multiply_add: bool = True
    cores: int = 1
    verifies_stages: bool = True

    def verify(self, function: Function, stage: str) -> None:
        """Check a function after a stage, if that is wanted.

        Raises:
            CompileError: E0203, the stage broke it.
        """
        if self.verifies_stages:
            verify(function, stage)


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
    operations = list(function.walk())
    return any(isinstance(each, Dot) for each in operations) and not any(
        isinstance(each, Print | Assert) for each in operations
    )


@dataclass(frozen=True)
class Placed:
    """A program, and the rounds of each form of it, of which the one that takes the least runs.

    Attributes:
        program: all of it.
        rounds: none if it does not multiply.
    """

    program: Program
    rounds: list[Rounds]


def placed(function: Function, options: CompileOptions, metadata: Metadata, observe: Observer) -> Placed:
    """The program of a function: for as many cores as are wanted if it can be split among them, else for one.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    if options.cores == 1:
        return _on_one_core(function, options, metadata, observe)
    try:
        program, part = _split(function, options, metadata, observe)
    except NotSplitError as error:
        reason = f"{error.reason} ({error.location})"
    except OnChipMemoryError as error:
        reason = error.summary
    else:
        return _or_apart(program, part, function, options, metadata, observe)
    program = _fitted(function, options, {**metadata, ONE_CORE_REASON: reason}, observe)
    return _one_form(program, function, replace(options, cores=1))


def _one_form(program: Program, part: Function, options: CompileOptions) -> Placed:
    if not multiplies(part):
        return Placed(program, [])
    return Placed(_dealt_out(program, part), [rounds_of(part, options, is_resident=program.is_resident)])


def _dealt_out(program: Program, part: Function) -> Program:
    """A program of which all tasks have as much to do, if the higher its number is, the longer it takes.

    Cores that fall free would take what comes next, and in the end some of them had the longest programs alone.
    """
    return resident(program) if _lengths(part) is Lengths.GROWING else program


def _lengths(function: Function) -> Lengths:
    """What is known of the lengths of programs, which may go in another order unless they have atomics."""
    has_atomics = any(isinstance(each, AtomicRmw | AtomicCas | GatherAtomic) for each in function.walk())
    return Lengths.UNKNOWN if has_atomics else lengths_of(function)


def _on_one_core(function: Function, options: CompileOptions, metadata: Metadata, observe: Observer) -> Placed:
    """The program of a function for one core; products that do not fit there rather go to a cluster than in strips.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    try:
        return _one_form(*_whole(function, options, metadata, observe), options)
    except OnChipMemoryError as error:
        refusal = error
    if multiplies(function):
        with suppress(NotSplitError, OnChipMemoryError):
            on_cluster = replace(options, cores=options.machine.cores_per_cluster)
            part = partitioned(function, on_cluster, share=True)
            program = generate(part, options.machine, max(1, options.num_stages), metadata, single_buffers=False)
            observe("partition", part)
            return _one_form(program, part, on_cluster)
    return _one_form(_in_parts(function, options, metadata, observe, refusal), function, options)


def _or_apart(
    program: Program,
    part: Function,
    function: Function,
    options: CompileOptions,
    metadata: Metadata,
    observe: Observer,
) -> Placed:
    """The program that cores run together, with one for grids of which each core better runs a program of its own."""
    if not multiplies(function):
        return Placed(program, [])
    on_one_core = replace(options, cores=1)
    together = rounds_of(part, options, is_resident=program.is_resident)
    alone = rounds_of(function, on_one_core)
    # Programs of unknown length are better dealt out as cores fall free, which those of two versions are not.
    is_even = program.is_resident or _lengths(function) is not Lengths.UNKNOWN
    worth_while = WORTH_WHILE if is_even else _WORTH_DEALING_OUT
    if not alone.may_take_less(worth_while, together):
        return Placed(_dealt_out(program, part), [together])
    try:
        other = generate(function, options.machine, max(1, options.num_stages), metadata)
    except OnChipMemoryError:
        return Placed(_dealt_out(program, part), [together])
    alone = rounds_of(function, on_one_core, is_resident=other.is_resident)
    faster = condition_function(function, [], (together, [alone]))
    return Placed(join([(program, [faster])], other, options.machine), [together, alone])


def rounds_of(function: Function, options: CompileOptions, *, is_resident: bool = True) -> Rounds:
    """How many programs run at a time on how many cores each, and how long that takes about."""
    machine = options.machine
    found = estimated(function, machine, is_resident=is_resident)
    return Rounds(machine.cores // options.cores, round(found.cycles), found.turns, round(found.ends))


def _split(
    function: Function, options: CompileOptions, metadata: Metadata, observe: Observer
) -> tuple[Program, Function]:
    """The program of a function for several cores, which share tiles if these fit, and the part of each core.

    Raises:
        NotSplitError: it cannot be split, or that is of no use.
        OnChipMemoryError: E0202, it does not fit.
    """
    sharing = partitioned(function, options, share=True)
    try:
        program = generate(sharing, options.machine, max(1, options.num_stages), metadata, single_buffers=False)
    except OnChipMemoryError:
        split = partitioned(function, options, share=False)
        observe("partition", split)
        return _fitted(split, options, metadata, observe), sharing
    observe("partition", sharing)
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


def _fitted(function: Function, options: CompileOptions, metadata: Metadata, observe: Observer) -> Program:
    """The program of a function: as it stands if it fits on chip, else of ever smaller strips.

    Raises:
        OnChipMemoryError: E0202, it does not even fit strip by strip, or that takes too much code.
    """
    try:
        program, _ = _whole(function, options, metadata, observe)
    except OnChipMemoryError as error:
        refusal = error
    else:
        return program
    return _in_parts(function, options, metadata, observe, refusal)


def _whole(
    function: Function, options: CompileOptions, metadata: Metadata, observe: Observer
) -> tuple[Program, Function]:
    """The program of a function as it stands, and what it does mostly.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    machine, stages = options.machine, max(1, options.num_stages)
    if merging := _with_merged_accesses(function, options):
        merged, conditions = merging
        with suppress(OnChipMemoryError):
            program = generate(merged, machine, stages, metadata)
            observe("merge_accesses", merged)
            if conditions:
                # What hardly ever runs is rather compiled quickly.
                program = join([(program, conditions)], generate(function, machine, 1, metadata), machine)
            return program, merged
    return generate(function, machine, stages, metadata), function


def _with_merged_accesses(function: Function, options: CompileOptions) -> tuple[Function, list[Function]] | None:
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


def _in_parts(
    function: Function,
    options: CompileOptions,
    metadata: Metadata,
    observe: Observer,
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
            pieces = (
                generate(apart, options.machine, max(1, options.num_stages), metadata, single_buffers=False),
                apart_function(function),
            )
    strips = _in_strips(function, options, metadata, observe, refusal)
    return strips if pieces is None else join([(pieces[0], [pieces[1]])], strips, options.machine)


def _in_strips(
    function: Function,
    options: CompileOptions,
    metadata: Metadata,
    observe: Observer,
    refusal: OnChipMemoryError,
) -> Program:
    """The program of a function that does not fit as it stands, of ever smaller strips.

    Raises:
        OnChipMemoryError: E0202, it does not even fit strip by strip, or that takes too much code.
    """
    machine, stages = options.machine, max(1, options.num_stages)
    for name, run in MERGE_PASSES:
        run(function)
        options.verify(function, name)
    strip_bytes = machine.usable_nram_bytes // 4
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
            program = generate(mined, machine, stages, metadata, single_buffers=False)
        except OnChipMemoryError as error:
            refused.append(mined)
            # What is not of strips does not shrink with them: at half their size, at least half is needed.
            strip_bytes >>= max(1, math.ceil(math.log2(error.used_bytes / error.limit_bytes)))
            continue
        observe("strip_mine", mined)
        return program
    # Blocks of a loop may take what the loops around it need for double buffering, whatever the size of strips.
    for mined in refused if stages > 1 else ():
        with suppress(OnChipMemoryError):
            program = generate(mined, machine, 1, metadata)
            observe("strip_mine", mined)
            return program
    raise refusal
