"""Code generation: from a function of the tile IR to a program of the virtual ISA, as a column of verbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mlutriton.codegen.allocate import allocate
from mlutriton.codegen.cleanup import fuse_chains, remove_dead_code
from mlutriton.codegen.early_scalars import compute_early
from mlutriton.codegen.flatten import flatten
from mlutriton.codegen.interleave import interleave
from mlutriton.codegen.lane_trees import combine_lanes_of_all_rows
from mlutriton.codegen.lines_by_themselves import read_lines_by_themselves
from mlutriton.codegen.meeting import join_by_overlap, place_barriers, set_order_aside
from mlutriton.codegen.pipelining.deeper_steps import DEPTHS, deepen_loops
from mlutriton.codegen.pipelining.narrow_rows import apply_widths, narrow_rows
from mlutriton.codegen.pipelining.programs.in_turn import load_across_programs
from mlutriton.codegen.pipelining.programs.residence import MOST_PROGRAMS, stay_resident
from mlutriton.codegen.pipelining.programs.spread_stores import Spread
from mlutriton.codegen.pipelining.software_pipeline import pipeline_loops
from mlutriton.codegen.repeated_steps import repeat_cheap_steps
from mlutriton.codegen.reuse import reuse_scalars
from mlutriton.codegen.selection.select import select
from mlutriton.codegen.selection.state import storage_type
from mlutriton.codegen.selection.vector_scalars import loads_around_loops
from mlutriton.codegen.shifts import divide_by_shifts
from mlutriton.codegen.synchronize import synchronize
from mlutriton.codegen.tile_code import TileCode
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.ir.analysis.aliasing import Aliasing
from mlutriton.ir.analysis.lengths import Lengths, lengths_of
from mlutriton.ir.core import Function
from mlutriton.ir.ops import Dot, Member
from mlutriton.ir.types import PointerType
from mlutriton.ir.verifier import verify
from mlutriton.isa.assembly import name_of
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import WRITES, Buffer, Parameter, Program

# Programs that go together are so many at least.
_SEVERAL = 2


@dataclass(frozen=True)
class _Refused:
    """Deep steps that did not fit.

    Attributes:
        depths: of each loop that has any.
        memory: that was too small.
        used_bytes: what they needed of it.
        limit_bytes: what there is.
    """

    depths: Sequence[int]
    memory: str
    used_bytes: int
    limit_bytes: int

    def refuses(self, depths: Sequence[int]) -> bool:
        """Whether steps of other depths do not fit either.

        In SRAM all that cores share has a place of its own, which is in proportion to the depth of steps or the same.
        """
        if depths == self.depths:
            return True
        if self.memory != "SRAM" or len(depths) != len(self.depths):
            return False
        pairs = zip(depths, self.depths, strict=True)
        return all(self.used_bytes * depth > self.limit_bytes * before for depth, before in pairs)


def generate(
    function: Function,
    machine: Machine,
    stages: int,
    metadata: Mapping[str, object],
    *,
    single_buffers: bool = True,
) -> Program:
    """The program of a function whose memory accesses have been analysed.

    Args:
        function: the kernel.
        machine: decides how much memory there is, and what the tensor unit multiplies.
        stages: depth of the software pipeline of loops that do not ask for one themselves; 1 for none.
        metadata: facts for the program file.
        single_buffers: give up double buffering if the tiles do not fit with it.

    Raises:
        CompileError: E0203, the function is broken.
        OnChipMemoryError: E0202, also without double buffering the tiles do not fit.
    """
    verify(function)
    try:
        return _generate(function, machine, stages, metadata)
    except OnChipMemoryError:
        if stages == 1 or not single_buffers:
            raise
    with suppress(OnChipMemoryError):
        return _generate(function, machine, stages, metadata, in_place=True)
    return _generate(function, machine, 1, metadata)


def _generate(
    function: Function, machine: Machine, stages: int, metadata: Mapping[str, object], *, in_place: bool = False
) -> Program:
    most_programs, depths = (0, []) if in_place else (MOST_PROGRAMS, list(DEPTHS))
    spreads = [Spread.NONE] if in_place else list(Spread)
    whole_beside_pieces = True
    refused: _Refused | None = None
    around_loops = stages > 1 and most_programs > 1 and loads_around_loops(function)
    lengths = Lengths.UNKNOWN if stages == 1 or in_place or not _multiplies(function) else lengths_of(function)
    while True:
        code = select(function, machine, is_pipelined=stages > 1, around_loops=around_loops)
        remove_dead_code(code)
        fuse_chains(code)
        repeat_cheap_steps(code)
        read_lines_by_themselves(code, machine)
        deeper = deepen_loops(code, machine, depths[0]) if stages > 1 and depths else []
        if deeper and refused is not None and refused.refuses(deeper):
            del depths[0]
            continue
        together = stay_resident(code, machine, most_programs, spread=spreads[0]) if stages > 1 else 0
        if around_loops and together < _SEVERAL:
            # A program by itself waits longer for a transfer than for a scalar.
            around_loops = False
            continue
        try:
            return _finished(
                code,
                function,
                machine,
                stages,
                metadata,
                in_place=in_place,
                whole_beside_pieces=whole_beside_pieces,
                lengths=lengths,
            )
        except OnChipMemoryError as error:
            if code.has_pieces and whole_beside_pieces:
                whole_beside_pieces = False
                continue
            lengths = Lengths.UNKNOWN
            if code.loads_across:
                continue
            # What is stored while the next program computes needs a place of its own, as does each of several programs
            # and each of several steps. Deep steps are worth the most.
            if not together and not deeper:
                raise
            refusal = error.memory, error.used_bytes, error.limit_bytes
        if len(spreads) > 1 and together == 1:
            del spreads[0]
        elif deeper:
            refused = _Refused(deeper, *refusal)
            del depths[0]
            spreads = list(Spread)
        else:
            most_programs = together // 2


def _finished(
    code: TileCode,
    function: Function,
    machine: Machine,
    stages: int,
    metadata: Mapping[str, object],
    *,
    in_place: bool,
    whole_beside_pieces: bool,
    lengths: Lengths,
) -> Program:
    narrow_rows(code)
    reuse_scalars(code)
    ordered = set_order_aside(code)
    if stages > 1:
        pipeline_loops(
            code,
            stages,
            machine,
            are_disjoint=bool(ordered) or code.arrays_apart,
            in_place=in_place,
            whole_beside_pieces=whole_beside_pieces,
        )
    if lengths <= Lengths.SHRINKING and not ordered:
        load_across_programs(code, from_last=lengths is Lengths.GROWING)
    apply_widths(code)
    divide_by_shifts(code)
    join_by_overlap(code, ordered)
    place_barriers(code)
    remove_dead_code(code)
    limits = {
        "nram": machine.usable_nram_bytes,
        "wram": machine.usable_wram_bytes,
        "sram": machine.usable_sram_bytes,
    }
    buffers = _placed(code, limits, machine)
    synchronize(code, buffers)
    compute_early(code)
    facts = {**metadata, **_written(function)}
    return flatten(code, _parameters(function), buffers, machine.isa, facts, _members(function))


def _placed(code: TileCode, limits_bytes: dict[str, int], machine: Machine) -> dict[str, Buffer]:
    """The buffers of the code, which takes more of them where that takes less time, if they fit so.

    Raises:
        OnChipMemoryError: E0202, they do not fit.
    """
    trees = combine_lanes_of_all_rows(code, machine)
    if trees.buffers:
        with suppress(OnChipMemoryError):
            return _in_order(code, limits_bytes)
        trees.undo()
    return _in_order(code, limits_bytes)


def _in_order(code: TileCode, limits_bytes: dict[str, int]) -> dict[str, Buffer]:
    """The buffers of the code, in an order of instructions that waits little, if they fit so.

    Raises:
        OnChipMemoryError: E0202, they do not fit.
    """
    reordering = interleave(code)
    try:
        return allocate(code, limits_bytes)
    except OnChipMemoryError:
        reordering.undo()
    return allocate(code, limits_bytes)


def _multiplies(function: Function) -> bool:
    return any(isinstance(each, Dot) for each in function.walk())


def _written(function: Function) -> dict[str, object]:
    """The fact through which parameters a function writes, if it is known."""
    written = Aliasing(function).written
    if written is None:
        return {}
    return {WRITES: [place for place, each in enumerate(function.body.arguments) if each in written]}


def _members(function: Function) -> int:
    """The cores that run a program together."""
    return max((each.integer("members") for each in function.walk() if isinstance(each, Member)), default=1)


def _parameters(function: Function) -> list[Parameter]:
    parameters: list[Parameter] = []
    for index, argument in enumerate(function.body.arguments):
        name = name_of(argument.name) if argument.name else f"argument{index}"
        if isinstance(argument.type, PointerType):
            parameters.append(Parameter(name, argument.type.pointee, pointer=True))
        else:
            parameters.append(Parameter(name, storage_type(argument.type)))
    return parameters
