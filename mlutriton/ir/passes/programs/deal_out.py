"""Programs that go over the tiles of a problem in a loop, as programs of one tile each.

Kernels for GPUs often have as many programs as there are processors, and each takes every so-many-th tile:

    for tile in range(program_id, tiles, PROGRAMS): ...

Here it is known better how tiles are dealt out: neighbours go together on the cores of a cluster, and the loop over
them is pipelined. So what the loop does for a tile becomes the program, and its number that of the tile. It may also go
over where tiles begin, ``range(program_id * ROWS, rows, PROGRAMS * ROWS)``. This is of use for products, and for
straight runs of transfers and arithmetic, of which each core gets as many, in a row, whatever the grid.

A program takes its tiles in turn, those of a grid come in any order. That makes no difference if none reads what
another one writes, and no two write to the same place (:mod:`mlutriton.ir.passes.programs.stored_places`). The first is
known if arrays share no bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlutriton.ir.analysis.aliasing import reads_what_it_writes
from mlutriton.ir.analysis.launch_facts import (
    Fact,
    Holds,
    condition_function,
    is_of_the_launch,
    launch_function,
    with_arrays_apart,
)
from mlutriton.ir.analysis.scalar_forms import ScalarForms, plus
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function, Operation, Value, replace_uses
from mlutriton.ir.memory_ops import ArraysDisjoint
from mlutriton.ir.ops import (
    Constant,
    Elementwise,
    For,
    If,
    Load,
    NumPrograms,
    ProgramId,
    Store,
    While,
)
from mlutriton.ir.passes import dce, simplify
from mlutriton.ir.passes.programs.stored_places import StoredPlaces


@dataclass(frozen=True)
class DealtOut:
    """Programs of one tile each.

    Attributes:
        function: does one tile; its number along the first axis of the grid is that of the tile.
        count: a function whose last result says how many tiles there are.
        conditions: functions that say of which launches each tile is done by one program, in whatever order.
        in_one_line: these launches have one program along other axes, for which the function does not ask.
    """

    function: Function
    count: Function
    conditions: list[Function]
    in_one_line: bool


def run(function: Function) -> DealtOut | None:
    """Programs of one tile each; None if programs do not go over tiles, or it may matter in which order they do."""
    numbered = _by_number(function)
    loop = _loop_over_tiles(numbered)
    if loop is None or reads_what_it_writes(numbered):
        return None
    made = _of_one_tile(numbered)
    if made is None or not all(map(_is_plain, made.walk())):
        return None
    places = StoredPlaces(made)
    tiles, step = places.launched(loop.operands[1:3], numbered)
    apart = places.apart(tiles)
    if apart is None:
        return None
    in_one_line = not any(isinstance(each, ProgramId) and each.axis for each in numbered.walk())
    condition = _condition(places.function, tiles, step, apart, in_one_line=in_one_line)
    count = launch_function(numbered, loop.operands[1])
    return DealtOut(with_arrays_apart(made), count, [condition, *places.conditions], in_one_line)


def goes_straight(function: Function) -> bool:
    """True if a function is a loop around a straight run of operations."""
    loops = [each for each in function.walk() if isinstance(each, For | While | If)]
    return len(loops) == 1 and isinstance(loops[0], For)


def _is_plain(operation: Operation) -> bool:
    is_control = isinstance(operation, For | If) or operation.TERMINATOR
    return is_control or operation.PURE or isinstance(operation, Load | Store)


def _by_number(function: Function) -> Function:
    """The function with a loop over numbers of tiles, also where it goes over where these begin."""
    made = copy_function(function)
    dce.run(made)
    loop = next((each for each in made.body.operations if isinstance(each, For)), None)
    number = next((each for each in made.walk() if isinstance(each, ProgramId) and each.axis == 0), None)
    if loop is None or number is None or loop.initial:
        return made
    start, end, step = loop.operands
    forms = ScalarForms()
    first, ahead = forms.of(start), forms.of(step)
    size = first.get((number.result,), 0)
    if first.keys() != {(number.result,)} or size <= 1 or number.result.type != start.type or len(ahead) != 1:
        return made
    ((factors, count),) = ahead.items()
    if count % size or len(factors) > 1:
        return made
    code = Scalars(loop.location)
    size_of = code.add(Constant.of(size, start.type))
    behind = code.add(Elementwise.of("add", end, code.add(Constant.of(size - 1, start.type))))
    tiles = code.add(Elementwise.of("sdiv", behind, size_of))
    several = code.add(Constant.of(count // size, start.type))
    step = code.add(Elementwise.of("mul", factors[0], several)) if factors and count > size else several
    loop.operands = [number.result, tiles, factors[0] if factors and count == size else step]
    begin = Elementwise.of("mul", loop.index, size_of)
    begin.location = loop.location
    replace_uses(loop.body, {loop.index: begin.result})
    loop.body.operations.insert(0, begin)
    place = made.body.operations.index(loop)
    made.body.operations[place:place] = code.operations
    dce.run(made)
    return made


def _loop_over_tiles(function: Function) -> For | None:
    """The loop over tiles that is all that a function does, from its number on; None if there is none.

    What comes before a straight loop may be loaded: it is the same for all tiles, and loaded once.
    """
    *operations, _ = function.body.operations
    loops = [each for each in operations if isinstance(each, For)]
    if len(loops) != 1:
        return None
    loop, is_straight = loops[0], goes_straight(function)
    if any(not (each.PURE or (is_straight and isinstance(each, Load))) for each in operations if each is not loop):
        return None
    start, end, step = loop.operands[:3]
    queries = [each for each in function.walk() if isinstance(each, ProgramId) and each.axis == 0]
    users = [each for each in function.walk() for operand in each.operands if operand is start]
    is_number = [each.result for each in queries] == [start] and not set(users) - {loop, *_defining(loop.initial)}
    is_known = is_of_the_launch(end, function) and isinstance(step.defining_op, Constant | NumPrograms)
    counts = [each for each in function.walk() if isinstance(each, NumPrograms)]
    is_counted = all(each.result is step and each.axis == 0 for each in counts)
    return loop if is_number and is_known and is_counted else None


def _of_one_tile(function: Function) -> Function | None:
    """What the loop does for the tile of a program's number; None if it carries anything else."""
    made = copy_function(function)
    loop = _loop(made)
    start, step = loop.operands[0], loop.operands[2]
    forms = ScalarForms()
    values = {loop.index: start}
    code = Scalars(function.location)
    for initial, carried, yielded in zip(loop.initial, loop.carried, loop.body.terminator.operands, strict=True):
        moved = plus(forms.of(yielded), forms.of(carried), -1)
        ahead = plus(forms.of(initial), forms.of(start), -1)
        if carried.type != start.type or moved != forms.of(step) or ahead.keys() - {()}:
            return None
        number = code.add(Constant.of(ahead.get((), 0), start.type))
        values[carried] = code.add(Elementwise.of("add", start, number))
    *before, end = made.body.operations
    before.remove(loop)
    place = next(at for at, each in enumerate(before) if start in each.results)
    before[place + 1 : place + 1] = code.operations
    made.body.operations = [*before, *loop.body.operations[:-1], end]
    replace_uses(made.body, values)
    simplify.run(made)
    return made


def _loop(function: Function) -> For:
    return next(each for each in function.body.operations if isinstance(each, For))


def _defining(values: list[Value]) -> set[Operation]:
    return {each.defining_op for each in values if each.defining_op is not None}


# ---- launches --------------------------------------------------------------------------------------------------------


def _condition(function: Function, tiles: Value, step: Value, facts: Sequence[Fact], *, in_one_line: bool) -> Function:
    """That there are tiles, that each is done by one program, and that these read nothing that others write.

    Args:
        function: has the parameters, and the arithmetic on the launch that all this is about; gets more of it.
        tiles: how many there are.
        step: from a tile to the next one of a program.
        facts: what has to hold besides.
        in_one_line: along other axes there has to be one.
    """
    code = Scalars(function.location)
    every, step = (code.value(each) for each in (tiles, step))
    programs = code.value(code.add(NumPrograms((), {"axis": 0})))
    conditions = [
        code.add(ArraysDisjoint()),
        code.add(Elementwise.of("sge", every, code.value(1))),
        code.add(Elementwise.of("sle", programs, step)),
        code.add(Elementwise.of("sge", programs, code.value(code.minimum([every, step])))),
    ]
    for axis in (1, 2) if in_one_line else ():
        extent = code.value(code.add(NumPrograms((), {"axis": axis})))
        conditions.append(code.add(Elementwise.of("eq", extent, code.value(1))))
    function.body.operations[-1:-1] = code.operations
    return condition_function(function, [*map(Holds, conditions), *facts])
