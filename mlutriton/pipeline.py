"""The compiler: one column of stages from Triton's text to a program file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from mlutriton.codegen.generate import generate
from mlutriton.diagnostics import CompileError, OnChipMemoryError, ProgramError
from mlutriton.frontend.importer import import_ttir
from mlutriton.frontend.ttir import parse_ttir
from mlutriton.ir.analysis.layouts import NotSplitError
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function
from mlutriton.ir.memory_ops import IntToPtr, TileLoad, TileStore
from mlutriton.ir.passes import (
    canonicalize,
    carried_offsets,
    cse,
    dce,
    fuse_multiply_add,
    loop_invariant,
    memory_access,
    merge_dimensions,
    merge_interleaved,
    merge_loads,
    partition,
    strip_mine,
)
from mlutriton.ir.verifier import verify
from mlutriton.isa.encoding import encode_and_keep
from mlutriton.isa.legality import check
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import FOLLOWS_ADDRESSES, ONE_CORE_REASON, Program

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
    """

    machine: Machine
    num_stages: int = 2
    fuse_multiply_add: bool = True
    cores: int = 1


# Every pass with the name that dumps and error messages use. The first half works on the kernel as written; once memory
# accesses are known, the arithmetic that only fed them is dead, and what is left is simplified again.
PASSES: tuple[tuple[str, Callable[[Function], None]], ...] = (
    ("canonicalize", canonicalize.run),
    ("cse", cse.run),
    ("loop_invariant", loop_invariant.run),
    ("memory_access", memory_access.run),
    ("canonicalize_accesses", canonicalize.run),
    ("cse_accesses", cse.run),
    ("dce", dce.run),
    ("loop_invariant_accesses", loop_invariant.run),
    ("carried_offsets", carried_offsets.run),
    ("loop_invariant_offsets", loop_invariant.run),
    ("fuse_multiply_add", fuse_multiply_add.run),
    ("dce_fused", dce.run),
)

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


def compile_ttir(text: str, options: CompileOptions, observe: Observer | None = None) -> bytes:
    """Compile a TTIR module to a program file.

    Args:
        text: the module as Triton prints it, with locations.
        options: see :class:`CompileOptions`.
        observe: called with a stage's name and what it made, for dumps.

    Raises:
        CompileError: E02xx; names the kernel's line.
    """
    return encode_and_keep(compile_function(import_ttir(parse_ttir(text)), options, observe))


def compile_function(function: Function, options: CompileOptions, observe: Observer | None = None) -> Program:
    """Compile a function of the tile IR (which is rewritten on the way) to a program.

    Raises:
        CompileError: E02xx; names the kernel's line.
    """
    observe = observe or _look_away
    verify(function, "import")
    observe("import", function)
    follows_addresses = any(isinstance(operation, IntToPtr) for operation in function.walk())
    metadata: dict[str, object] = {FOLLOWS_ADDRESSES: True} if follows_addresses else {}
    for name, run in PASSES:
        if name == "fuse_multiply_add" and not options.fuse_multiply_add:
            continue
        run(function)
        verify(function, name)
        observe(name, function)
    program = _placed(function, options, metadata, observe)
    try:
        check(program, options.machine)
    except ProgramError as error:
        raise _refused(error) from error
    observe("program", program)
    return program


def _placed(function: Function, options: CompileOptions, metadata: Metadata, observe: Observer) -> Program:
    """The program of a function: for as many cores as are wanted if it can be split among them, else for one.

    Raises:
        OnChipMemoryError: E0202, it does not fit.
    """
    if options.cores == 1:
        return _fitted(function, options, metadata, observe)
    try:
        return _split(function, options, metadata, observe)
    except NotSplitError as error:
        reason = f"{error.reason} ({error.location})"
    except OnChipMemoryError as error:
        reason = error.summary
    return _fitted(function, options, {**metadata, ONE_CORE_REASON: reason}, observe)


def _split(function: Function, options: CompileOptions, metadata: Metadata, observe: Observer) -> Program:
    """The program of a function for several cores, which share tiles if these fit.

    Raises:
        NotSplitError: it cannot be split, or that is of no use.
        OnChipMemoryError: E0202, it does not fit.
    """
    sharing = _partitioned(function, options, share=True)
    try:
        program = generate(sharing, options.machine, max(1, options.num_stages), metadata, single_buffers=False)
    except OnChipMemoryError:
        split = _partitioned(function, options, share=False)
        observe("partition", split)
        return _fitted(split, options, metadata, observe)
    observe("partition", sharing)
    return program


def _partitioned(function: Function, options: CompileOptions, *, share: bool) -> Function:
    """The part of a function that each core does."""
    latency_bytes = options.machine.core_dma_latency_bytes
    part = partition.partition(function, options.cores, share=share, least_part_bytes=_LATENCIES * latency_bytes)
    verify(part, "partition")
    for _, run in STRIP_PASSES:
        run(part)
        verify(part, "partition")
    return part


def _fitted(function: Function, options: CompileOptions, metadata: Metadata, observe: Observer) -> Program:
    """The program of a function: as it stands if it fits on chip, else of ever smaller strips.

    Raises:
        OnChipMemoryError: E0202, it does not even fit strip by strip, or that takes too much code.
    """
    machine, stages = options.machine, max(1, options.num_stages)
    if merged := _with_merged_accesses(function):
        with suppress(OnChipMemoryError):
            program = generate(merged, machine, stages, metadata)
            observe("merge_accesses", merged)
            return program
    try:
        return generate(function, machine, stages, metadata)
    except OnChipMemoryError as error:
        refusal = error
    for name, run in MERGE_PASSES:
        run(function)
        verify(function, name)
    strip_bytes = machine.usable_nram_bytes // 4
    refused: list[Function] = []
    while strip_bytes >= LEAST_STRIP_BYTES:
        mined = strip_mine.run(function, strip_bytes)
        verify(mined, "strip_mine")
        for _, run in STRIP_PASSES:
            run(mined)
            verify(mined, "strip_mine")
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


def _with_merged_accesses(function: Function) -> Function | None:
    """A copy of a function whose accesses are fewer and longer; None if there is nothing to merge."""
    if sum(isinstance(each, TileLoad | TileStore) for each in function.walk()) < 2:
        return None
    merged = copy_function(function)
    is_merged = [run(merged) for run in (merge_interleaved.run, merge_loads.run)]
    if not any(is_merged):
        return None
    for run in (canonicalize.run, cse.run, dce.run):
        verify(merged, "merge_accesses")
        run(merged)
    verify(merged, "merge_accesses")
    return merged


def _refused(error: ProgramError) -> CompileError:
    """What a program that is not legal says about its kernel: element types are the kernel's, the rest is not."""
    if error.rule == "types":
        help = error.help or "convert the values to a type that the instruction takes: x.to(tl.float32)"
        return CompileError("E0201", error.summary, location=error.location, note=error.note, help=help)
    return CompileError("E0203", error.summary, location=error.location, note=error.note)


def _look_away(stage: str, result: Function | Program) -> None:
    """No dump is wanted."""
