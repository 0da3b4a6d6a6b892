"""Programs that go over the tiles of a problem in a loop, as programs of one tile each.

Kernels for GPUs often have as many programs as there are processors, and each takes every so-many-th tile:

    for tile in range(program_id, tiles, PROGRAMS): ...

Here it is known better how tiles are dealt out: neighbours go together on the cores of a cluster, and the loop over
them is pipelined. So what the loop does for a tile becomes the program, and its number that of the tile.

A program takes its tiles in turn, those of a grid come in any order. That makes no difference if none reads what
another one writes, and no two write to the same place. The first is known if arrays share no bytes; the second if
each digit of a tile's number (:mod:`mlutriton.ir.passes.numbering`) moves what is stored by its extent or more,
elements of an array being taken to have a place of their own. Tiles with the same digits are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from mlutriton.ir.analysis.access import AccessAnalysis, Scalars
from mlutriton.ir.analysis.aliasing import Aliasing, may_meet
from mlutriton.ir.analysis.launch_facts import Holds, condition_function, launch_arithmetic, launch_function
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, constant, plus
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.memory_ops import ArraysDisjoint
from mlutriton.ir.ops import Constant, Elementwise, For, Load, NumPrograms, ProgramId, Store
from mlutriton.ir.passes import canonicalize, cse, dce, numbering, widen
from mlutriton.ir.types import shape_of


@dataclass(frozen=True)
class DealtOut:
    """Programs of one tile each.

    Attributes:
        function: does one tile; its number along the first axis of the grid is that of the tile.
        count: a function whose last result says how many tiles there are.
        condition: a function that says of which launches each tile is done by one program.
    """

    function: Function
    count: Function
    condition: Function


def run(function: Function) -> DealtOut | None:
    """Programs of one tile each; None if programs do not go over tiles, or it may matter in which order they do."""
    loop = _loop_over_tiles(function)
    if loop is None or not widen.may_be_widened(function) or _reads_what_it_writes(function):
        return None
    made = _of_one_tile(function)
    if made is None or not _are_apart(made):
        return None
    return DealtOut(made, launch_function(function, loop.operands[1]), _condition(function))


def _loop_over_tiles(function: Function) -> For | None:
    """The loop over tiles that is all that a function does, from its number on; None if there is none."""
    *operations, _ = function.body.operations
    loops = [each for each in operations if isinstance(each, For)]
    if len(loops) != 1 or any(not each.PURE for each in operations if each is not loops[0]):
        return None
    loop = loops[0]
    start, end, step = loop.operands[:3]
    queries = [each for each in function.walk() if isinstance(each, ProgramId) and each.axis == 0]
    users = [each for each in function.walk() for operand in each.operands if operand is start]
    is_number = [each.result for each in queries] == [start] and not set(users) - {loop, *_defining(loop.initial)}
    is_known = launch_arithmetic([end], function) is not None and isinstance(step.defining_op, Constant | NumPrograms)
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
    for simplify in (canonicalize.run, cse.run, dce.run):
        simplify(made)
    return made


def _loop(function: Function) -> For:
    return next(each for each in function.body.operations if isinstance(each, For))


def _defining(values: list[Value]) -> set[Operation]:
    return {each.defining_op for each in values if each.defining_op is not None}


def _reads_what_it_writes(function: Function) -> bool:
    aliasing = Aliasing(function)
    stores = [aliasing.roots(each) for each in function.walk() if isinstance(each, Store)]
    loads = [aliasing.roots(each) for each in function.walk() if isinstance(each, Load)]
    return any(may_meet(store, load) for store in stores for load in loads)


# ---- places ----------------------------------------------------------------------------------------------------------


def _are_apart(function: Function) -> bool:
    """True if no two tiles are stored to the same place."""
    numbered = numbering.run(function) or numbering.as_written(function)
    queries = {each.axis: each.result for each in numbered.function.walk() if isinstance(each, ProgramId)}
    digits = [each for each in numbered.digits if each.of == 0]
    radices = {queries[each.axis]: _known(each.radix) for each in digits if each.axis in queries}
    stores = [each for each in numbered.function.walk() if isinstance(each, Store)]
    given = set(numbered.function.body.arguments)
    return len(radices) == len(digits) and all(_is_apart(each, radices, given) for each in stores)


def _known(value: Value | None) -> int | None:
    operation = value.defining_op if value is not None else None
    return int(operation.value) if isinstance(operation, Constant) else None


def _may_differ(value: Value, radices: Mapping[Value, int | None], given: Set[Value]) -> bool:
    """False if a scalar is certainly the same for all tiles."""
    pending, seen = [value], set(given)
    while pending:
        each = pending.pop()
        if each in seen:
            continue
        # What loops and branches give depends on more than on their operands.
        if each in radices or isinstance(each.owner, Block) or each.owner.regions:
            return True
        seen.add(each)
        pending += each.owner.operands
    return False


def _is_apart(store: Store, radices: Mapping[Value, int | None], given: Set[Value]) -> bool:
    """True if digits move a tile, along each of its dimensions, by no less than what lesser ones reach.

    Args:
        store: stores the tile.
        radices: of all digits; None if it is not known, as of the greatest.
        given: arguments of the kernel.
    """
    forms, scalars = ScalarForms(), Scalars(store.location)
    linear = AccessAnalysis({}).linear(store.operands[0], scalars)
    if linear is None or linear.base is None:
        return False
    base, offset = forms.place(linear.base)
    if _may_differ(base, radices, given):
        return False
    for each in linear.offset:
        offset = plus(offset, constant(each) if isinstance(each, int) else forms.of(each))
    moved: dict[int, dict[Value, int]] = {}
    strides: list[Form] = []
    for term in linear.terms:
        if term is None or term.wrap is not None or term.repeats > 1:
            return False
        strides.append(constant(term.stride) if isinstance(term.stride, int) else forms.of(term.stride))
    for factors, count in offset.items():
        digit = next((each for each in factors if each in radices), None)
        if digit is None and not any(_may_differ(each, radices, given) for each in factors):
            continue  # the same for all tiles
        rest = tuple(each for each in factors if each is not digit)
        along = [at for at, stride in enumerate(strides) if stride.keys() == {rest}]
        if digit is None or len(rest) != len(factors) - 1 or len(along) != 1 or count % strides[along[0]][rest]:
            return False
        moved.setdefault(along[0], {})[digit] = count // strides[along[0]][rest]
    is_whole = {digit for each in moved.values() for digit in each} == set(radices)
    shape = shape_of(store.operands[1].type)
    return is_whole and all(_go_up(shape[at], each, radices) for at, each in moved.items())


def _go_up(extent: int, moved: Mapping[Value, int], radices: Mapping[Value, int | None]) -> bool:
    """True if each digit moves a tile by no less than what it and lesser digits reach."""
    reach: int | None = extent
    for digit in sorted(moved, key=lambda each: moved[each]):
        if reach is None or moved[digit] < reach:
            return False
        radix = radices[digit]
        reach = None if radix is None else moved[digit] * radix
    return True


# ---- launches --------------------------------------------------------------------------------------------------------


def _condition(function: Function) -> Function:
    """That there are tiles, that each is done by one program, and that these read nothing that others write."""
    asked = copy_function(function)
    loop = _loop(asked)
    code = Scalars(function.location)
    tiles, step = (code.value(each) for each in loop.operands[1:3])
    programs = code.value(code.add(NumPrograms((), {"axis": 0})))
    facts = [
        code.add(ArraysDisjoint()),
        code.add(Elementwise.of("sge", tiles, code.value(1))),
        code.add(Elementwise.of("sle", programs, step)),
        code.add(Elementwise.of("sge", programs, code.value(code.minimum([tiles, step])))),
    ]
    place = asked.body.operations.index(loop)
    asked.body.operations[place:place] = code.operations
    return condition_function(asked, [Holds(each) for each in facts])
