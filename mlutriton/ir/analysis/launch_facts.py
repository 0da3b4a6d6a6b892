"""What is known of the numbers of a launch only when it begins: facts that a version of a program may rest on.

A fact here is that a number is a multiple of another, or no less than it, or a condition. It can be checked once,
before anything runs, if what it is about follows from the kernel's arguments and the size of the grid alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlutriton.dtypes import I1
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.copying import copy_function, copy_operation
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.memory_ops import AddPtr, ArraysDisjoint, Assert, Print, ReachableBytes
from mlutriton.ir.ops import Constant, Elementwise, For, NumPrograms
from mlutriton.ir.types import PointerType, shape_of

# Zero is a multiple of everything.
_EVERYTHING = 1 << 62

# Turns of a loop whose length is not known.
USUAL_TURNS = 32
# Turns of a short loop: with fewer, its ends are most of it. Up to the usual number several are one, the more of them
# the longer the loop is (:mod:`mlutriton.codegen.pipelining.deeper_steps`), so that each more takes little.
FEW_TURNS = 8
# Turns of a long loop: as many are one as there is room for, and each more takes as much as the others.
MANY_TURNS = 128


@dataclass(frozen=True)
class TurnCycles:
    """What a turn more of a loop takes.

    Attributes:
        few: cycles, up to the usual number of turns.
        many: cycles, from there on.
    """

    few: int
    many: int

    def times(self, factor: float) -> TurnCycles:
        """Turns that take so many times as long."""
        return TurnCycles(round(self.few * factor), round(self.many * factor))


@dataclass(frozen=True)
class Rounds:
    """How long a grid takes: so many of its programs at a time, as long as one round of them takes.

    Attributes:
        programs: that run at the same time.
        cycles: of one round, where loops take the usual number of turns.
        turns: cycles of it for a turn of each of the :func:`counted_loops`.
        ends: cycles before the first round and behind the last one, in which a core waits for the one or the other.
        is_even: fewer programs take as much less, as those that run have more of what all share.
        count: how many programs a launch has, if that is another number than that of its grid.
    """

    programs: int
    cycles: int
    turns: tuple[TurnCycles, ...] = ()
    ends: int = 0
    is_even: bool = False
    count: Value | None = None

    def times(self, factor: float) -> Rounds:
        """Rounds that take so many times as long."""
        turns = tuple(each.times(factor) for each in self.turns)
        return replace(self, cycles=round(self.cycles * factor), turns=turns, ends=round(self.ends * factor))

    def may_take_less(self, factor: float, other: Rounds) -> bool:
        """Whether it takes no more than a part of the share that another form takes, of short loops or of long ones."""
        pairs = zip(self._shares(), other._shares(), strict=True)
        return any(one <= factor * another for one, another in pairs)

    def _shares(self) -> list[float]:
        """Cycles that a program takes of the whole machine, with few turns of its loops, the usual number, and many."""
        fewer = (FEW_TURNS - USUAL_TURNS) * sum(each.few for each in self.turns)
        more = (MANY_TURNS - USUAL_TURNS) * sum(each.many for each in self.turns)
        return [(self.cycles + change) / self.programs for change in (fewer, 0, more)]

    def share(self) -> float:
        """Cycles that a program takes of the whole machine, where there are many of them."""
        return self.cycles / self.programs


@dataclass(frozen=True)
class Multiple:
    """The fact that an integer of the launch is a multiple of a positive number."""

    value: Value
    of: int


@dataclass(frozen=True)
class Holds:
    """The fact that a condition of the launch is true."""

    value: Value


@dataclass(frozen=True)
class AtLeast:
    """The fact that an integer of the launch is no less than a number."""

    value: Value
    number: int


Fact = Multiple | Holds | AtLeast


# Arithmetic nests no deeper in any kernel that is worth it.
_DEPTH = 64


class Factors:
    """Powers of two of which integers of a function are multiples in every run, also where arithmetic overflows.

    Attributes:
        assumed: what is taken for granted beyond what the function itself says.
    """

    def __init__(self, function: Function) -> None:
        pairs = zip(function.body.arguments, function.argument_attributes, strict=False)
        self.assumed = {argument: _power_of_two(facts.get("divisibility", 1)) for argument, facts in pairs}
        loops = (each for each in function.walk() if isinstance(each, For))
        self._loops = {loop.body.arguments[0]: loop for loop in loops}

    def of(self, value: Value, depth: int = 0) -> int:
        """The greatest such factor that is known of an integer."""
        return max(self.assumed.get(value, 1), self._of(value, depth) if depth < _DEPTH else 1)

    def _of(self, value: Value, depth: int) -> int:
        operation = value.defining_op
        match operation:
            case None:
                loop = self._loops.get(value)
                return min(self.of(each, depth + 1) for each in loop.operands[:3:2]) if loop else 1
            case Constant():
                return _power_of_two(operation.value) if isinstance(operation.value, int) else 1
            case Elementwise():
                return self._of_arithmetic(operation, depth)
            case _:
                return 1

    def _of_arithmetic(self, operation: Elementwise, depth: int) -> int:
        match operation.name:
            case "mul":
                return min(math.prod(self.of(each, depth + 1) for each in operation.operands), _EVERYTHING)
            case "add" | "sub" | "smin" | "smax" | "umin" | "umax" | "srem" | "urem":
                return min(self.of(each, depth + 1) for each in operation.operands)
            case "sext" | "zext" | "trunc_int":
                return self.of(operation.operands[0], depth + 1)
            case _:
                return 1


def _power_of_two(number: int) -> int:
    """The greatest power of two of which a number is a multiple."""
    return number & -number if number else _EVERYTHING


_OF_THE_LAUNCH = Elementwise | Constant | NumPrograms | ArraysDisjoint | ReachableBytes | AddPtr


def launch_arithmetic(values: Sequence[Value], function: Function) -> list[Operation] | None:
    """The operations that compute scalars from arguments and the grid's size, in order; None if more goes into them."""
    needed = _needed(values, function)
    if needed is None:
        return None
    # What is asked about is mostly an argument itself, for which nothing has to be looked for.
    return [each for each in function.walk() if each in needed] if needed else []


def is_of_the_launch(value: Value, function: Function) -> bool:
    """True if a scalar follows from arguments and the grid's size."""
    return _needed([value], function) is not None


def _needed(values: Sequence[Value], function: Function) -> set[Operation] | None:
    arguments = set(function.body.arguments)
    needed: set[Operation] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        operation = value.defining_op
        if operation in needed or value in arguments:
            continue
        if not isinstance(operation, _OF_THE_LAUNCH) or shape_of(value.type):
            return None
        needed.add(operation)
        pending += operation.operands
    return needed


def counted_loops(function: Function) -> list[For]:
    """The loops of which a launch tells how many turns they take in every program, but for those within others."""
    loops = [each for each in function.body.operations if isinstance(each, For)]
    return [each for each in loops if all(is_of_the_launch(bound, function) for bound in each.operands[:3])]


_APART = "noalias"


def with_arrays_apart(function: Function) -> Function:
    """A copy that is known to run only where the arrays of the launch share no bytes that are written."""
    made = copy_function(function)
    facts = made.argument_attributes or [{} for _ in made.body.arguments]
    made.argument_attributes = [
        {**each, _APART: 1} if isinstance(argument.type, PointerType) else each
        for each, argument in zip(facts, made.body.arguments, strict=True)
    ]
    return made


def has_texts(function: Function) -> bool:
    """True if something in a function has a text of its own, which every version of it would have again."""
    return any(isinstance(each, Print | Assert) for each in function.walk())


def are_apart(function: Function) -> bool:
    """True of a function that runs only where the arrays of the launch share no bytes that are written."""
    pairs = zip(function.body.arguments, function.argument_attributes, strict=False)
    known = [_APART in facts for argument, facts in pairs if isinstance(argument.type, PointerType)]
    return bool(known) and all(known)


def apart_function(function: Function) -> Function:
    """A function of the same arguments, the last operation of which tells whether arrays share no bytes like that."""
    body, code, _ = _launched(function, [])
    code.add(ArraysDisjoint())
    return Function(function.name, body, function.argument_attributes, function.location)


def launch_function(function: Function, value: Value) -> Function:
    """A function of the same arguments, the last operation of which gives an integer of the launch in 64 bits."""
    body, code, values = _launched(function, [value])
    code.add(Elementwise.of("add", code.value(values[value]), code.value(0)))
    return Function(function.name, body, function.argument_attributes, function.location)


def _launched(function: Function, wanted: Sequence[Value]) -> tuple[Block, Scalars, dict[Value, Value]]:
    """The arithmetic on the launch that gives some values: where it stands, what adds to it, and what is what there."""
    source = launch_arithmetic(wanted, function)
    assert source is not None, "it follows from arguments"
    body = Block([each.type for each in function.body.arguments], [each.name for each in function.body.arguments])
    values = dict(zip(function.body.arguments, body.arguments, strict=True))
    body.operations = [copy_operation(each, values) for each in source]
    code = Scalars(function.location)
    code.operations = body.operations
    return body, code, values


def condition_function(
    function: Function,
    facts: Sequence[Fact],
    faster: tuple[Rounds, Sequence[Rounds]] | None = None,
) -> Function:
    """A function of the same arguments, the last operation of which tells whether something holds.

    Args:
        function: has the arguments, and the arithmetic that facts are about.
        facts: all of them have to hold.
        faster: a launch has to take no longer in the first rounds than in any of the others.
    """
    loops = counted_loops(function) if faster is not None else []
    if faster is not None and any(len(each.turns) != len(loops) for each in (faster[0], *faster[1])):
        loops = []
    of_loops = [operand for each in loops for operand in each.operands[:3]]
    compared = [faster[0], *faster[1]] if faster is not None else []
    counts = [each.count for each in compared if each.count is not None]
    wanted = [*(each.value for each in facts), *counts, *of_loops]
    body, code, values = _launched(function, wanted)
    holds = code.add(Constant.of(1, I1))
    for fact in dict.fromkeys(facts):
        one = values[fact.value]
        if isinstance(fact, Multiple):
            rest = code.value(code.remainder(code.value(one), fact.of))
            one = code.add(Elementwise.of("eq", rest, code.value(0)))
        elif isinstance(fact, AtLeast):
            one = code.add(Elementwise.of("sge", code.value(one), code.value(fact.number)))
        holds = code.add(Elementwise.of("and", holds, one))
    if faster is not None:
        programs: Scalar = 1
        for axis in range(3):
            programs = code.binary("mul", programs, code.value(code.add(NumPrograms((), {"axis": axis}))))
        turns = [_turns(code, [_scalar(values[operand]) for operand in each.operands[:3]]) for each in loops]
        one, *others = (
            _cycles(code, programs, each, None if each.count is None else values[each.count], turns)
            for each in compared
        )
        other = code.minimum(others)
        is_faster = code.add(Elementwise.of("sle", code.value(one), code.value(other)))
        holds = code.add(Elementwise.of("and", holds, is_faster))
    return Function(function.name, body, function.argument_attributes, function.location)


def _scalar(value: Value) -> Scalar:
    made = value.defining_op
    return int(made.value) if isinstance(made, Constant) else value


def _turns(code: Scalars, bounds: Sequence[Scalar]) -> Scalar:
    """How many turns a loop from a number up to another one takes."""
    start, end, step = bounds
    length = code.binary("sub", end, start)
    if step == 1:
        return length
    rounded_up = code.binary("sub", code.binary("add", length, step), 1)
    return code.quotient(rounded_up, step) if isinstance(step, int) else code.binary("sdiv", rounded_up, step)


def _cycles(code: Scalars, programs: Scalar, rounds: Rounds, count: Scalar | None, turns: Sequence[Scalar]) -> Scalar:
    """How long a grid takes, with loops of so many turns; the usual ones if that is not known.

    Args:
        code: gets the arithmetic.
        programs: of the grid, which has no more tasks than that.
        rounds: of a form of it.
        count: how many programs that has, if not as many.
        turns: of loops.
    """
    each: Scalar = rounds.cycles
    for length, cycles in zip(turns, rounds.turns if turns else (), strict=True):
        fewer = code.minimum([length, USUAL_TURNS])
        more = code.maximum([code.binary("sub", length, USUAL_TURNS), 0])
        of_few = code.binary("mul", fewer, cycles.few)
        each = code.sum([of_few, code.binary("mul", more, cycles.many), each, -USUAL_TURNS * cycles.few])
    if rounds.is_even:
        cycles = code.quotient(code.binary("mul", programs, each), rounds.programs)
    else:
        tasks: Scalar = rounds.programs
        if count is not None:
            programs, tasks = count, code.minimum([programs, tasks])
        above = code.binary("sub", code.binary("add", programs, tasks), 1)
        begun = code.quotient(above, tasks) if isinstance(tasks, int) else code.binary("sdiv", above, tasks)
        cycles = code.binary("mul", begun, each)
    return code.binary("add", cycles, rounds.ends)
