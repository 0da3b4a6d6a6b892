"""Strip-mining: tensors that do not fit on chip are computed strip by strip.

Runs when a kernel does not fit. A tensor of more than a given size never stands as a whole; the pass writes the
function anew such that

* what only depends on positions, loads of arrays that the kernel does not write, and arithmetic on them are computed
  where they are wanted, for the box that is wanted (:mod:`slices`);
* stores, atomics, reductions, scans and values that are kept are done in nests of loops over strips, several in one
  nest where none needs what another has only at its end (:mod:`groups`);
* values that would cost much to compute again, that loops carry or branches choose, and whose elements change places,
  stand in the program's *local memory*, from which any box is loaded (:mod:`mining`).

Of a reduction that is split the parts of the strips are combined in the order of the strips. A scan goes on from the
last element of the strip before.

What is not repeated may meet what the kernel writes. Where that depends on whether the launch's arrays share bytes,
two versions are written: one that takes arrays to be apart, and one that takes every two accesses to meet.
"""

from __future__ import annotations

from contextlib import suppress

from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import AddPtr, ArraysDisjoint, For, If, LocalMemory, Return, TileStore, Yield
from mlutriton.ir.passes.strip_mine.areas import area_of, place_areas
from mlutriton.ir.passes.strip_mine.mining import Miner
from mlutriton.ir.passes.strip_mine.slices import NotByBoxesError
from mlutriton.ir.types import PointerType


def run(function: Function, strip_bytes: int) -> Function:
    """The function with tensors of more than ``strip_bytes`` bytes computed in strips of about that size."""
    parameters = function.body.arguments
    body = Block([value.type for value in parameters], [value.name for value in parameters])
    apart, areas, relies = _version(function, body, strip_bytes, disjoint=True)
    body.operations += areas
    if relies:
        # The version that is seldom needed must not be the one that decides what fits.
        meeting, more_areas, _ = _version(function, body, strip_bytes // 4, disjoint=False)
        _run_plainly(meeting)
        body.operations += more_areas
        disjoint = ArraysDisjoint(location=function.location)
        for block in (apart, meeting):
            block.operations.append(Yield(location=function.location))
        choice = If([disjoint.result], result_types=[], regions=[apart, meeting], location=function.location)
        body.operations += [disjoint, choice]
    else:
        body.operations += apart.operations
    body.operations.append(Return(location=function.body.terminator.location))
    mined = Function(function.name, body, function.argument_attributes, function.location)
    _remove_unread(mined)
    place_areas(mined)
    return mined


def _version(
    function: Function, body: Block, strip_bytes: int, *, disjoint: bool
) -> tuple[Block, list[LocalMemory], bool]:
    # In the place where its results are wanted, a loop, or else a reduction, may turn out to need other boxes.
    for whole_loops, short_reductions in ((True, True), (False, True)):
        with suppress(NotByBoxesError):
            return _mined(
                function,
                body,
                strip_bytes,
                disjoint=disjoint,
                whole_loops=whole_loops,
                short_reductions=short_reductions,
            )
    return _mined(function, body, strip_bytes, disjoint=disjoint, whole_loops=False, short_reductions=False)


def _mined(
    function: Function, body: Block, strip_bytes: int, *, disjoint: bool, whole_loops: bool, short_reductions: bool
) -> tuple[Block, list[LocalMemory], bool]:
    miner = Miner(
        function,
        body.arguments,
        strip_bytes,
        disjoint=disjoint,
        whole_loops=whole_loops,
        short_reductions=short_reductions,
    )
    block = Block()
    miner.block(function.body, block)
    return block, miner.slicer.areas, miner.relies


def _run_plainly(block: Block) -> None:
    """Let no loop be pipelined: the code for it would be as long again."""
    for operation in block.walk():
        if isinstance(operation, For):
            operation.attributes["stages"] = 1


def _remove_unread(function: Function) -> None:
    """Drop stores to areas of local memory from which nothing is loaded."""
    read: set[Value] = set()
    for operation in function.walk():
        pointers = operation.operands[1:] if isinstance(operation, TileStore) else operation.operands
        if not isinstance(operation, AddPtr):
            read.update(area_of(pointer) for pointer in pointers if isinstance(pointer.type, PointerType))
    _drop(function.body, read)


def _drop(block: Block, read: set[Value]) -> None:
    def is_unread(operation: Operation) -> bool:
        if not isinstance(operation, TileStore):
            return False
        area = area_of(operation.base)
        return isinstance(area.defining_op, LocalMemory) and area not in read

    block.operations = [operation for operation in block.operations if not is_unread(operation)]
    for operation in block.operations:
        for region in operation.regions:
            _drop(region, read)
