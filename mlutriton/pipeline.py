"""The compiler: one column of stages from Triton's text to a program file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from mlutriton.codegen.grids import over_tiles
from mlutriton.codegen.versions import join
from mlutriton.compilation import Compilation, CompileOptions, Observer
from mlutriton.diagnostics import CompileError, OnChipMemoryError, ProgramError
from mlutriton.frontend.importer import import_ttir
from mlutriton.frontend.ttir import parse_ttir
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function
from mlutriton.ir.memory_ops import IntToPtr
from mlutriton.ir.passes import (
    canonicalize,
    carried_offsets,
    chosen_positions,
    collected_stores,
    cse,
    dce,
    exchanges,
    fields_of_words,
    fuse_multiply_add,
    if_conversion,
    joined_stores,
    loop_invariant,
    memory_access,
    swapped_positions,
    unread_positions,
    unroll,
)
from mlutriton.ir.passes.programs import deal_out
from mlutriton.ir.types import is_index
from mlutriton.ir.verifier import verify
from mlutriton.isa.encoding import encode_and_keep
from mlutriton.isa.legality import check
from mlutriton.isa.program import FOLLOWS_ADDRESSES, MULTIPLES, Program
from mlutriton.placement import multiplies
from mlutriton.specialization import candidates, specialized

__all__ = ["CompileOptions", "Observer", "compile_function", "compile_ttir"]


class Pass(NamedTuple):
    """A step over the tile IR.

    Attributes:
        name: for dumps and error messages.
        run: rewrites a function.
        applies: whether that is wanted of a function, and possible.
    """

    name: str
    run: Callable[[Function], None]
    applies: Callable[[Function, CompileOptions], bool] = lambda function, options: True


def _may_fuse(function: Function, options: CompileOptions) -> bool:
    return options.fuse_multiply_add


def _has_room(function: Function, options: CompileOptions) -> bool:
    return exchanges.room_bytes(function) <= options.machine.usable_nram_bytes


# The first half works on the kernel as written; once memory accesses are known, the arithmetic that only fed them is
# dead, and what is left is simplified again.
PASSES: tuple[Pass, ...] = (
    Pass("canonicalize", canonicalize.run),
    Pass("cse", cse.run),
    Pass("unroll", unroll.run),
    Pass("if_conversion", if_conversion.run),
    Pass("joined_stores", joined_stores.run),
    Pass("collected_stores", collected_stores.run),
    Pass("unread_positions", unread_positions.run),
    Pass("swapped_positions", swapped_positions.run),
    Pass("chosen_positions", chosen_positions.run),
    Pass("memory_access", memory_access.run),
    Pass("canonicalize_accesses", canonicalize.run),
    Pass("cse_accesses", cse.run),
    Pass("dce", dce.run),
    Pass("loop_invariant", loop_invariant.run),
    Pass("carried_offsets", carried_offsets.run),
    Pass("loop_invariant_offsets", loop_invariant.run),
    Pass("fuse_multiply_add", fuse_multiply_add.run, _may_fuse),
    Pass("dce_fused", dce.run),
    Pass("fields_of_words", fields_of_words.run),
    Pass("exchanges", exchanges.run, _has_room),
)

# So many passes work on the kernel as it is written.
_AS_WRITTEN = [each.name for each in PASSES].index("memory_access")


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
    scattering = copy_function(function) if collected_stores.may_collect(function) else None
    try:
        return _compiled(function, PASSES[:_AS_WRITTEN], options, observe)
    except OnChipMemoryError:
        if scattering is None:
            raise
    # What is collected stands on chip as a whole; scattered by itself, it may go in strips.
    others = [each for each in PASSES[:_AS_WRITTEN] if each.run is not collected_stores.run]
    return _compiled(scattering, others, options, observe)


def _compiled(function: Function, first: Sequence[Pass], options: CompileOptions, observe: Observer) -> Program:
    """The program of a function, with the passes that work on it as it is written.

    Raises:
        CompileError: E02xx; names the kernel's line.
    """
    metadata = _facts(function)
    _run_passes(function, first, options, observe)
    is_straight = deal_out.goes_straight(function)
    tiles = deal_out.run(function) if options.num_stages > 1 and (is_straight or multiplies(function)) else None
    if tiles is None:
        program = _program(function, options, metadata, observe)
    else:
        # What hardly ever runs is rather compiled quickly.
        simple = replace(options, cores=1, num_stages=1 if is_straight else options.num_stages)
        as_written = _program(function, simple, metadata, _look_away)
        observe("deal_out", tiles.function)
        special = over_tiles(
            _program(tiles.function, options, metadata, observe),
            tiles.count,
            options.machine,
            in_one_line=tiles.in_one_line,
        )
        program = join([(special, [*tiles.conditions])], as_written, options.machine)
    try:
        check(program, options.machine)
    except ProgramError as error:
        raise _refused(error) from error
    observe("program", program)
    return program


def _facts(function: Function) -> dict[str, object]:
    """What whoever launches the program has to know of it."""
    facts: dict[str, object] = {}
    if any(isinstance(operation, IntToPtr) for operation in function.walk()):
        facts[FOLLOWS_ADDRESSES] = True
    pairs = enumerate(zip(function.body.arguments, function.argument_attributes, strict=False))
    known = [(place, facts.get("divisibility", 1)) for place, (each, facts) in pairs if is_index(each.type)]
    multiples = [[place, factor] for place, factor in known if factor > 1]
    if multiples:
        facts[MULTIPLES] = multiples
    return facts


def _program(function: Function, options: CompileOptions, metadata: Mapping[str, object], observe: Observer) -> Program:
    """The program of a function as it is written.

    Raises:
        CompileError: E02xx; names the kernel's line.
    """
    special = candidates(function, options)
    find_accesses = partial(_run_passes, passes=PASSES[_AS_WRITTEN:], options=options)
    find_accesses(function, observe=observe)
    compilation = Compilation(options, metadata, partial(find_accesses, observe=_look_away), observe)
    return specialized(function, special, compilation)


def _run_passes(
    function: Function,
    passes: Sequence[Pass],
    options: CompileOptions,
    observe: Observer,
) -> None:
    """Run those passes that apply, and show what each makes."""
    for each in passes:
        if each.applies(function, options):
            each.run(function)
            options.verify(function, each.name)
            observe(each.name, function)


def _refused(error: ProgramError) -> CompileError:
    """What a program that is not legal says about its kernel: element types are the kernel's, the rest is not."""
    if error.rule == "types":
        help = error.help or "convert the values to a type that the instruction takes: x.to(tl.float32)"
        return CompileError("E0201", error.summary, location=error.location, note=error.note, help=help)
    return CompileError("E0203", error.summary, location=error.location, note=error.note)


def _look_away(stage: str, result: Function | Program) -> None:
    """No dump is wanted."""
