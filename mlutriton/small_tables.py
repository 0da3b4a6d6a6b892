"""A version of a kernel for launches whose arrays that are looked up element by element are small.

A code book, the bounds of buckets, a small image: what a kernel looks up there by an index from memory is moved item by
item, at many cycles each. Where the whole array fits in a part of the NRAM, a core loads it once, for all of its
programs, and looks up on chip.

How long arrays are and where they begin, launches know. An index outside of such an array misses all memory that the
kernel may touch, but for arrays beside it; ``look_up`` has its fault.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mlutriton.codegen.estimate import item_count
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.dtypes import I64
from mlutriton.ir.analysis.aliasing import Aliasing
from mlutriton.ir.analysis.launch_facts import Holds, condition_function, with_arrays_apart
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.memory_ops import AddPtr, ArraysDisjoint, GatherLoad, LookUp, ReachableBytes, TileLoad, pointee
from mlutriton.ir.ops import Constant, Elementwise, NumPrograms, Splat, TileGeometry
from mlutriton.ir.types import TensorType, element_type
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import Program
from mlutriton.placement import CompileOptions, Metadata, Observer, placed

# Tables take up to this part of the NRAM, all together.
_SHARE = 8


def version(
    function: Function, options: CompileOptions, metadata: Metadata, observe: Observer
) -> tuple[Program, list[Function]] | None:
    """The program that looks up on chip, and when it is to run; None if there is nothing that may be looked up there.

    Args:
        function: whose memory accesses are known.
        options: what decides a compilation.
        metadata: facts for the program file.
        observe: called with what is made.
    """
    machine = options.machine
    found = _tables(function)
    if not found or machine.gather_local_item_cycles >= machine.gather_item_cycles:
        return None
    capacity_bytes = machine.usable_nram_bytes // _SHARE // len(found)
    made = with_arrays_apart(function)
    code = Scalars(made.location)
    tables = {argument: _table(code, argument, capacity_bytes) for argument in _tables(made)}
    _rewrite(made.body, tables)
    made.body.operations[:0] = code.operations
    options.verify(made, "small_tables")
    observe("small_tables", made)
    try:
        program = placed(made, options, metadata, observe).program
    except OnChipMemoryError:
        return None
    return program, [_condition(function, capacity_bytes, machine, is_resident=program.is_resident)]


@dataclass(frozen=True)
class _Place:
    """Where the elements of a load stand in an array.

    Attributes:
        argument: points to its beginning.
        behind: scalars that are added to each index.
    """

    argument: Value
    behind: tuple[Value, ...]


def _place(load: Operation, arguments: Collection[Value]) -> _Place | None:
    """Where a load looks up single elements by their number; None if it does something else."""
    if not isinstance(load, GatherLoad) or load.integer("length") != 1:
        return None
    base, _, _, _, limit = load.operands
    is_whole = isinstance(limit.defining_op, Constant) and limit.defining_op.value == 1
    if not is_whole or load.integer("scale_bytes") != pointee(base).bytes:
        return None
    behind: list[Value] = []
    while isinstance(base.defining_op, AddPtr):
        base, offset = base.defining_op.operands
        behind.append(offset)
    return _Place(base, tuple(behind)) if base in arguments else None


def _tables(function: Function) -> dict[Value, list[GatherLoad]]:
    """By argument, the loads that look up in an array that the function does not write."""
    written = Aliasing(function).written
    if written is None:
        return {}
    found: dict[Value, list[GatherLoad]] = {}
    for each in function.walk():
        place = _place(each, function.body.arguments)
        if isinstance(each, GatherLoad) and place is not None and place.argument not in written:
            found.setdefault(place.argument, []).append(each)
    return found


def _table(code: Scalars, argument: Value, capacity_bytes: int) -> tuple[Value, Value]:
    """A tensor with all elements of an array, and how many they are."""
    dtype = pointee(argument)
    count = code.value(code.quotient(code.add(ReachableBytes([argument])), dtype.bytes))
    zero, one = code.value(0), code.value(1)
    shape = (capacity_bytes // dtype.bytes,)
    geometry = TileGeometry(shape, [one], [zero], [count], [None])
    nothing = code.add(Constant.of(0.0 if dtype.is_float else 0, dtype))
    operands = [argument, nothing, *geometry.operands()]
    load = TileLoad(operands, {"wraps": geometry.flags()}, result_types=[TensorType(shape, dtype)])
    load.result.name = f"all_{argument.name}"
    return code.add(load), count


def _rewrite(block: Block, tables: Mapping[Value, tuple[Value, Value]]) -> None:
    """Have loads of arrays of which there are tables look up in these."""
    replaced: dict[Value, Value] = {}
    operations: list[Operation] = []
    for each in block.operations:
        for region in each.regions:
            _rewrite(region, tables)
        place = _place(each, tables)
        if place is None:
            operations.append(each)
            continue
        _, index, mask, other, _ = each.operands
        code = Scalars(each.location)
        if place.behind:
            index = code.add(Elementwise.of("sext", index, to=I64)) if element_type(index.type) != I64 else index
            behind = code.value(code.sum([code.value(one) for one in place.behind]))
            index = code.add(Elementwise.of("add", index, code.add(Splat([behind], result_types=[index.type]))))
        table, count = tables[place.argument]
        found = code.add(LookUp([table, place.argument, index, mask, other, count]))
        found.name = each.results[0].name
        replaced[each.results[0]] = found
        operations += code.operations
    block.operations = operations
    replace_uses(block, replaced)


def _condition(function: Function, capacity_bytes: int, machine: Machine, *, is_resident: bool) -> Function:
    """What has to hold of a launch: arrays are apart, begin where they are passed, fit, and are soon looked up."""
    asked = copy_function(function)
    tables = _tables(asked)
    code = Scalars(asked.location)
    facts = [Holds(code.add(ArraysDisjoint()))]
    total: Scalar = 0
    for argument in tables:
        reached = code.add(ReachableBytes([argument]))
        before = code.add(ReachableBytes([code.add(AddPtr([argument, code.value(-1)]))]))
        within = code.value(code.binary("add", reached, pointee(argument).bytes))
        facts.append(Holds(code.add(Elementwise.of("sle", reached, code.value(capacity_bytes)))))
        facts.append(Holds(code.add(Elementwise.of("ne", before, within))))
        total = code.binary("add", total, reached)
    programs: Scalar = 1
    for axis in range(3 if is_resident else 0):
        programs = code.binary("mul", programs, code.value(code.add(NumPrograms((), {"axis": axis}))))
    programs = code.maximum([1, code.quotient(programs, machine.cores)])
    items = sum(item_count(each) for loads in tables.values() for each in loads)
    saved = code.binary("mul", programs, items * (machine.gather_item_cycles - machine.gather_local_item_cycles))
    rate = max(1, min(machine.core_dma_bytes_per_cycle, machine.l2_bytes_per_cycle // machine.cores))
    begun = len(tables) * (machine.dma_setup_cycles + machine.cycles_from_ns(machine.dram_bulk_latency_ns))
    taken = code.binary("add", code.quotient(total, rate), begun)
    facts.append(Holds(code.add(Elementwise.of("sle", code.value(taken), code.value(saved)))))
    asked.body.operations[-1:-1] = code.operations
    return condition_function(asked, facts)
