"""All turns of a loop at once, for launches where they are few, so that programs that look up a row are straight.

Kernels go along a row in blocks, as its length is an argument:

    source = tl.load(index + program)
    for begin in range(0, columns, BLOCK): ...

Straight programs look up rows for many programs at a time, and take them as items of one gather. A program with a loop
waits for its number, and then for its first block. Up to some length, a single tile holds the row: the tiles of the
turns lie side by side, as those of neighbouring programs may (:mod:`mlutriton.ir.passes.programs.widen`), and the mask
that ends the last of them ends it.

Others go over a few heads, groups or channels, ``range(first, min(first + 4, heads))``, with a short tile in each turn.
Then the tiles of all turns are rows of one tile (:mod:`mlutriton.ir.passes.turns_as_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.ir.analysis.access import AccessAnalysis
from mlutriton.ir.analysis.aliasing import Aliasing, may_meet, reads_what_it_writes
from mlutriton.ir.analysis.launch_facts import Holds, condition_function, is_of_the_launch, with_arrays_apart
from mlutriton.ir.analysis.scalar_forms import ScalarForms, plus
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.analysis.turns import Turns
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function, Operation, Value, replace_uses
from mlutriton.ir.memory_ops import ArraysDisjoint, Load, Store, pointee
from mlutriton.ir.ops import Constant, Elementwise, For, If, ProgramId, While
from mlutriton.ir.passes import simplify, turns_as_rows
from mlutriton.ir.passes.programs import widen
from mlutriton.ir.types import shape_of
from mlutriton.placement import version_of
from mlutriton.specialization.candidates import Alone, Candidate, Version

# Rows of up to so many bytes leave room for several of them, twice.
_ROW_BYTES = 1 << 14

# Loops over tiles that flow for less than such a part of a latency are not made one for all programs of a task.
_SHORT_SHARE = 2
_FEWEST_TURNS = 2


def candidate(function: Function, options: CompileOptions) -> Candidate | None:
    """A version that does all turns at once; None if a function has no loop along rows it looks up, or of few turns.

    Args:
        function: as it is written, before its memory accesses are known.
        options: what decides a compilation.
    """
    may_gain = options.num_stages > 1 and (_loop(function) is not None or _few_turns(function, options) is not None)
    return partial(_versions, copy_function(function)) if may_gain else None


def _versions(written: Function, _: Alone, compilation: Compilation) -> Sequence[Version]:
    """The program that does all turns at once, and when it is to run; none if their order matters, or it is too large.

    Args:
        written: a copy of the function before its memory accesses were known; it is rewritten.
        compilation: for which it is.
    """
    found = _at_once(written) if _loop(written) is not None else _as_rows(written, compilation.options)
    if found is None:
        return []
    function, condition = found
    compilation.find_accesses(function)
    compilation.observe("short_loops", function)
    program = version_of(function, compilation)
    return [] if program is None else [Version(program, [condition])]


def _loop(function: Function) -> For | None:
    """The loop over blocks that is all that a function does, but for numbers that it loads before."""
    *operations, _ = function.body.operations
    loops = [each for each in operations if isinstance(each, For)]
    if len(loops) != 1 or loops[0].initial or not widen.may_be_widened(function):
        return None
    (loop,) = loops
    start, end, step = (each.defining_op for each in loop.operands[:3])
    is_counted = isinstance(start, Constant) and start.value == 0 and isinstance(step, Constant)
    others = [each for each in operations if each is not loop]
    inside = list(_inside(loop))
    looked_up = [each for each in (*others, *inside) if isinstance(each, Load) and not shape_of(each.result.type)]
    is_straight = not any(isinstance(each, For | While | If | Store) for each in others) and not any(
        isinstance(each, For | While | If) for each in inside
    )
    # What is looked up says where rows are; a length would be known too late.
    is_known = not isinstance(end, Constant) and is_of_the_launch(loop.operands[1], function)
    return loop if is_counted and is_straight and is_known and looked_up else None


def _inside(loop: For) -> Iterator[Operation]:
    return iter(loop.body.operations[:-1])


def _at_once(function: Function) -> tuple[Function, Function] | None:
    """A function that does all turns at once, and the condition for it: that there are few enough."""
    asked = {each.axis for each in function.walk() if isinstance(each, ProgramId)}
    free = [axis for axis in (2, 1) if axis not in asked]
    if not free or reads_what_it_writes(function) or not _store_apart(function):
        return None
    made = copy_function(function)
    loop = _loop(made)
    assert loop is not None, "it may gain"
    end, step = loop.operands[1], loop.operands[2]
    assert isinstance(step.defining_op, Constant)
    block = step.defining_op.value
    assert isinstance(block, int)
    # For now, a turn is a program of its own.
    turn = ProgramId((), {"axis": free[0]}, location=loop.location)
    turn.location = loop.location
    code = Scalars(loop.location)
    number = code.add(turn)
    begin = code.add(Elementwise.of("mul", number if number.type == step.type else code.value(number), step))
    place = made.body.operations.index(loop)
    made.body.operations[place : place + 1] = [*code.operations, *_inside(loop)]
    replace_uses(made.body, {loop.index: begin})
    accesses = [each for each in made.walk() if isinstance(each, Load | Store) and shape_of(each.operands[0].type)]
    if not all(_ends(each, end, begin, block) for each in accesses):
        return None
    widest = max(pointee(each.operands[0]).bytes for each in accesses)
    count = widen.power_of_two_up_to(_ROW_BYTES // (block * widest))
    wide = widen.run(made, free[0], count) if count > 1 else None
    if wide is None or wide.facts:
        return None
    facts = Scalars(made.location)
    disjoint = facts.add(ArraysDisjoint())
    is_short = facts.add(Elementwise.of("sle", facts.value(end), facts.value(count * block)))
    # Numbers that the first turn loads are not there for certain if there is no turn.
    is_some = facts.add(Elementwise.of("sgt", facts.value(end), facts.value(0)))
    made.body.operations[-1:-1] = facts.operations
    condition = condition_function(made, [Holds(disjoint), Holds(is_short), Holds(is_some)])
    straight = wide.function
    for each in [each for each in straight.body.operations if isinstance(each, ProgramId) and each.axis == free[0]]:
        first = Constant.of(0, each.result.type, each.location)
        straight.body.operations[straight.body.operations.index(each)] = first
        replace_uses(straight.body, {each.result: first.result})
    return with_arrays_apart(straight), condition


def _few_turns(function: Function, options: CompileOptions) -> tuple[For, int] | None:
    """The loop over short tiles of an otherwise straight function, and how many turns it has at most."""
    operations = list(function.walk())
    loops = [each for each in function.body.operations if isinstance(each, For)]
    if len(loops) != 1 or not turns_as_rows.may_be_rows(loops[0]) or not all(map(_is_straight, operations)):
        return None
    (loop,) = loops
    count = _most_turns(loop)
    accesses = [each for each in _inside(loop) if isinstance(each, Load | Store)]
    if count is None or count < _FEWEST_TURNS or not any(isinstance(each, Store) for each in accesses):
        return None
    longest = max(math.prod(shape_of(each.operands[0].type)) * pointee(each.operands[0]).bytes for each in accesses)
    is_short = longest * _SHORT_SHARE <= options.machine.core_dma_latency_bytes
    return (loop, count) if is_short and count * longest <= _ROW_BYTES else None


def _is_straight(operation: Operation) -> bool:
    is_control = isinstance(operation, For) or operation.TERMINATOR
    return is_control or operation.PURE or (isinstance(operation, Load | Store) and not operation.is_volatile)


def _most_turns(loop: For) -> int | None:
    """The power of two that is no less than the turns that a loop has at most; None if they are not known."""
    start, end, step = loop.operands[:3]
    if not isinstance(step.defining_op, Constant):
        return None
    forms, pending = ScalarForms(), [end]
    while pending:
        limit = pending.pop()
        length = plus(forms.of(limit), forms.of(start), -1)
        if length.keys() <= {()}:
            turns = -(-length.get((), 0) // int(step.defining_op.value))
            return 1 << max(turns - 1, 0).bit_length()
        if isinstance(least := limit.defining_op, Elementwise) and least.name == "smin":
            pending += least.operands
    return None


def _as_rows(function: Function, options: CompileOptions) -> tuple[Function, Function] | None:
    """A function that does all turns at once, with rows for them, and the condition for it."""
    found = _few_turns(function, options)
    assert found is not None, "it may gain"
    facts = Scalars(function.location)
    apart = Turns(function, found[0]).apart(facts)
    if apart is None:
        return None
    made, asked = copy_function(function), function
    loop, count = next(each for each in made.body.operations if isinstance(each, For)), found[1]
    holding = [facts.add(ArraysDisjoint()), *apart]
    asked.body.operations[-1:-1] = facts.operations
    condition = condition_function(asked, [Holds(each) for each in holding])
    turns_as_rows.run(made, loop, count)
    simplify.run(made)
    return with_arrays_apart(made), condition


def _store_apart(function: Function) -> bool:
    """True if no two stores go to one array."""
    aliasing = Aliasing(function)
    roots = [aliasing.roots(each) for each in function.walk() if isinstance(each, Store)]
    return not any(may_meet(a, b) for place, a in enumerate(roots) for b in roots[:place])


def _ends(access: Load | Store, end: Value, begin: Value, block: int) -> bool:
    """True if an access of a block is masked where the row ends, so that there is nothing in blocks behind it."""
    if shape_of(access.operands[0].type) != (block,):
        return False
    scalars, forms = Scalars(access.location), ScalarForms()
    bounds = AccessAnalysis().bounds(access.operands[1 if isinstance(access, Load) else 2], scalars)
    rest = plus(forms.of(end), forms.of(begin), -1)
    return bounds is not None and any(forms.of(scalars.value(each)) == rest for each in bounds[0].limit)
