"""Whole kernels drawn at random: statements, control flow, and what NumPy makes of memory, program after program."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import strategies as st

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.isa.machine import Machine
from tests.language.generated.accesses import Accesses, in_order, owned
from tests.language.generated.expressions import Expression, Frame, Scope, Values, Variable
from tests.language.generated.numbers import BOOL, FLOAT32, INT32, NUMBERS, is_float, triton

SHARED = 16  # counters of each kind that all programs change
FLOAT_SPECIALS = [0.0, -0.0, np.inf, -np.inf, np.nan]
# Changes of shared memory: any order of programs leaves the same.
ACCUMULATIONS = {
    "add": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


class EarlyReturnError(Exception):
    """A program ends before its last statement."""


@dataclass
class Body:
    """Lines of a kernel, and what they do to the values of the variables and to memory."""

    lines: list[str] = field(default_factory=list)
    steps: list[Callable[[Values], None]] = field(default_factory=list)

    def run(self, values: Values) -> None:
        """Do what the statements do."""
        for step in self.steps:
            step(values)


class Statements(Accesses):
    """Draws statements; at the top they may make variables, in loops and branches they change those that there are."""

    def __init__(self, draw: st.DrawFn, frame: Frame) -> None:
        super().__init__(draw, frame)
        self.owned: set[np.dtype] = set()  # types of which a program has memory for itself
        self.shared: set[str] = set()  # accumulations
        self.kinds = [INT32, FLOAT32, self.pick(NUMBERS), self.pick(NUMBERS)]  # of variables

    def statements(self, body: Body, scope: Scope, indent: str, most: int, depth: int) -> None:
        for _ in range(1 + self.number(most - 1)):
            makers = [self.assignment] * 4 + [self.store, self.reload, self.exchange, self.accumulation]
            if depth:
                makers += [self.loop, self.loop, self.branch, self.countdown]
            if indent == "    ":
                makers += [self.early_return]
            self.pick(makers)(body, scope, indent, depth)

    def target(self, scope: Scope, indent: str) -> Variable:
        """A variable to assign to, which at the top may be a new one."""
        found = [each for each in scope if each.limit is None]
        if found and (indent != "    " or self.chance(2)):
            return self.pick(found)
        dtype = self.pick(self.kinds)
        return Variable(f"v{next(self.numbers)}", dtype, self.pick(self.frame.shapes))

    def assign(self, body: Body, scope: Scope, indent: str, target: Variable, made: Expression) -> None:
        body.lines.append(f"{indent}{target.name} = {made.text}")
        body.steps.append(lambda values: values.update({target.name: made(values)}))
        if target not in scope:
            scope.append(target)

    def assignment(self, body: Body, scope: Scope, indent: str, depth: int) -> None:
        target = self.target(scope, indent)
        self.assign(body, scope, indent, target, self.expression(scope, target.dtype, target.shape, 2))

    # ---- memory

    def own_array(self, dtype: np.dtype) -> str:
        self.owned.add(dtype)
        return f"own_{dtype.name}"

    def barrier(self, body: Body, indent: str) -> None:
        if self.chance(3):
            body.lines.append(f"{indent}tl.debug_barrier()")

    def store(self, body: Body, scope: Scope, indent: str, depth: int) -> None:
        """A store to places in the program's own memory, over what others stored."""
        dtype, shape = self.pick(self.kinds), self.pick(self.frame.shapes)
        array, place, stored = self.own_array(dtype), self.own(scope, shape), self.expression(scope, dtype, shape, 1)
        mask = self.mask(scope, shape, 1) if self.chance(2) else None

        def step(values: Values) -> None:
            where = np.broadcast_to(True if mask is None else mask(values), shape)
            values[array][place(values)[where]] = stored(values)[where]

        masked = f", mask={mask.text}" if mask else ""
        body.lines.append(f"{indent}tl.store({array} + {place.text}, {stored.text}{masked})")
        body.steps.append(step)
        self.barrier(body, indent)

    def reload(self, body: Body, scope: Scope, indent: str, depth: int) -> None:
        """A load of what a program's own memory holds by now."""
        target = self.target(scope, indent)
        shape = target.shape
        place = self.own(scope, shape) if self.chance(2) else self.computed(scope, shape, 1)
        self.assign(body, scope, indent, target, self.load(scope, target.dtype, self.own_array(target.dtype), place, 1))

    def exchange(self, body: Body, scope: Scope, indent: str, depth: int) -> None:
        """An atomic operation that returns what was there, on the program's own memory."""
        target = self.target(scope, indent)
        dtype, shape = target.dtype, target.shape
        if dtype.itemsize < 4 or is_float(dtype):
            self.store(body, scope, indent, depth)
            return
        array, place, operand = self.own_array(dtype), self.own(scope, shape), self.expression(scope, dtype, shape, 1)
        mask, other = self.mask(scope, shape, 1), self.leaf(scope, dtype, shape, 0)
        name = self.pick([*ACCUMULATIONS, "xchg"])
        function = ACCUMULATIONS.get(name, lambda before, new: new)

        def value(values: Values) -> np.ndarray:
            memory, places, where = values[array], place(values), np.broadcast_to(mask(values), shape)
            new, rest, before = operand(values), other(values), memory[places]
            memory[places[where]] = function(before, new)[where]
            return np.where(where, before, rest)

        # What an element that the mask leaves out returns is open.
        call = f"tl.atomic_{name}({array} + {place.text}, {operand.text}, mask={mask.text})"
        text = f"tl.where({mask.text}, {call}, {other.text})"
        self.assign(body, scope, indent, target, Expression(dtype, shape, text, value))
        self.barrier(body, indent)

    def accumulation(self, body: Body, scope: Scope, indent: str, depth: int) -> None:
        """An atomic operation on counters that all programs change, elements of a tensor perhaps the same ones."""
        name, shape = self.pick(ACCUMULATIONS), self.pick(self.frame.shapes)
        self.shared.add(name)
        index, operand = (self.expression(scope, INT32, shape, 1) for _ in range(2))
        mask = self.mask(scope, shape, 1)

        def step(values: Values) -> None:
            where = np.broadcast_to(mask(values), shape)
            places = index(values)[where] & SHARED - 1
            ACCUMULATIONS[name].at(values[f"shared_{name}"], places, operand(values)[where])

        place = f"shared_{name} + ({index.text} & {SHARED - 1})"
        body.lines.append(f"{indent}tl.atomic_{name}({place}, {operand.text}, mask={mask.text})")
        body.steps.append(step)

    # ---- control flow

    def loop(self, body: Body, scope: Scope, indent: str, depth: int) -> None:
        name = f"k{next(self.numbers)}"
        start, step = self.pick([0, 0, 1, 5]), self.pick([1, 1, 2, 3, -1])
        constant = Expression.of(INT32, (), "4", lambda: np.int32(4))
        known = Expression.of(INT32, (), "tl.minimum({}, 5)", lambda n: np.minimum(n, 5), scope[0].read())
        found = Expression.of(INT32, (), "({} & 7)", lambda n: n & 7, self.expression(scope, INT32, (), 1))
        stop, inside = self.pick([constant, known, found]), Body()
        counter = Variable(name, INT32, (), 7)
        self.statements(inside, [*scope, counter], indent + "    ", 3, depth - 1)
        first, last = (f"{start}", stop.text) if step > 0 else (stop.text, f"{start}")
        stages = self.pick(["", "", ", num_stages=3"])
        if stop.text == "4" and self.chance(3):
            body.lines.append(f"{indent}for unrolled in tl.static_range({first}, {last}, {step}):")
            body.lines.append(f"{indent}    {name} = tl.full((), unrolled, tl.int32)")
        else:
            body.lines.append(f"{indent}for {name} in tl.range({first}, {last}, {step}{stages}):")
        body.lines += inside.lines

        def run(values: Values) -> None:
            end = int(stop(values))
            for k in range(*((start, end) if step > 0 else (end, start)), step):
                values[name] = np.asarray(k, np.int32)
                inside.run(values)

        body.steps.append(run)

    def branch(self, body: Body, scope: Scope, indent: str, depth: int) -> None:
        condition = self.expression(scope, BOOL, (), 1)
        arms = [Body(), Body()]
        for arm in arms:
            self.statements(arm, list(scope), indent + "    ", 2, depth - 1)
        body.lines += [f"{indent}if {condition.text}:", *arms[0].lines, f"{indent}else:", *arms[1].lines]
        body.steps.append(lambda values: arms[not condition(values)].run(values))

    def countdown(self, body: Body, scope: Scope, indent: str, depth: int) -> None:
        name = f"t{next(self.numbers)}"
        begin, inside = self.expression(scope, INT32, (), 1), Body()
        self.statements(inside, [*scope, Variable(name, INT32, (), 3)], indent + "    ", 2, depth - 1)
        body.lines += [f"{indent}{name} = {begin.text} & 3", f"{indent}while {name} > 0:", *inside.lines]
        body.lines.append(f"{indent}    {name} = {name} - 1")

        def run(values: Values) -> None:
            values[name] = np.asarray(begin(values) & 3, np.int32)
            while values[name] > 0:
                inside.run(values)
                values[name] = np.asarray(values[name] - 1, np.int32)

        body.steps.append(run)

    def early_return(self, body: Body, scope: Scope, indent: str, depth: int) -> None:
        condition = self.expression(scope, BOOL, (), 1)

        def step(values: Values) -> None:
            if condition(values):
                raise EarlyReturnError

        body.lines += [f"{indent}if {condition.text}:", f"{indent}    return"]
        body.steps.append(step)


@dataclass(frozen=True)
class Case:
    """A kernel as text, what NumPy does, and how it is launched.

    Attributes:
        variables: those that a program stores at its end.
        moved: each program has the memory of another, which it finds in an array.
    """

    text: str
    body: Body
    variables: list[Variable]
    statements: Statements
    moved: bool
    machine: str | Machine
    options: dict[str, int]

    def _repr_pretty_(self, printer, cycle: bool) -> None:
        """What Hypothesis shows of a case that fails."""
        printer.text(f"\n{self.text}# {self.statements.frame} on {self.machine}, {self.options}\n")

    def memory(self) -> dict[str, np.ndarray]:
        """Arrays by the names of the kernel's arguments, as they are before a launch."""
        random, programs = np.random.default_rng(0), self.statements.frame.programs
        memory = {f"out_{each.name}": np.zeros((programs, *each.shape), each.dtype) for each in self.variables}
        if self.moved:
            memory["homes"] = random.permutation(programs).astype(np.int32)
        for dtype, length in sorted(self.statements.lengths.items(), key=str):
            memory[f"array_{dtype.name}"] = numbers_of(dtype, (length,), random)
        for dtype in sorted(self.statements.owned, key=str):
            memory[f"own_{dtype.name}"] = numbers_of(dtype, (programs, owned(self.statements.frame)), random)
        for name in sorted(self.statements.shared):
            memory[f"shared_{name}"] = numbers_of(INT32, (SHARED,), random)
        return memory

    def expected(self) -> dict[str, np.ndarray]:
        """The arrays as NumPy leaves them."""
        memory, frame = self.memory(), self.statements.frame
        with np.errstate(all="ignore"):
            for program in range(frame.programs):
                home = memory["homes"][program] if self.moved else program
                values = {name: array[home] if name.startswith("own_") else array for name, array in memory.items()}
                y, x = divmod(program, frame.grid[0])
                values |= {name: np.asarray(value, np.int32) for name, value in (("n", frame.n), ("x", x), ("y", y))}
                try:
                    self.body.run(values)
                except EarlyReturnError:
                    continue
                for each in self.variables:
                    memory[f"out_{each.name}"][program] = values[each.name]
        return memory


def numbers_of(dtype: np.dtype, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Integers of all sizes, or floats among which there are special ones."""
    if not is_float(dtype):
        bits = 8 * dtype.itemsize
        whole = random.integers(0, 2**64, shape, np.uint64, endpoint=False)
        return whole.view(np.int64).astype(dtype) >> random.integers(0, bits, shape).astype(dtype)
    floats = np.ldexp(random.standard_normal(shape), random.integers(-6, 6, shape))
    special = random.random(shape) < 0.05
    return np.where(special, random.choice(FLOAT_SPECIALS, shape), floats).astype(dtype)


@st.composite
def cases(
    draw: st.DrawFn,
    sizes: list[tuple[int, int]],
    grids: list[tuple[int, int]],
    machines: st.SearchStrategy[str | Machine],
) -> Case:
    """Kernels on tensors with axes of one of the sizes, on one of the grids and machines."""
    frame = Frame(*(draw(st.sampled_from(choices)) for choices in (sizes, grids, [5, 16, 100, 400])))
    statements, body = Statements(draw, frame), Body()
    scope = [Variable("n", INT32, (), frame.n)]
    scope += [Variable(name, INT32, (), size - 1) for name, size in zip("xy", frame.grid, strict=True)]
    statements.assignment(body, scope, "    ", 0)
    statements.statements(body, scope, "    ", 6, 2)
    machine = draw(machines)
    options = {"num_warps": draw(st.sampled_from([1, 1, 4])), "num_stages": draw(st.sampled_from([2, 1, 3]))}
    case = Case("", body, scope[3:], statements, draw(st.booleans()), machine, options)
    lines = [
        f"def generated({', '.join(case.memory())}, n):",
        "    x, y = tl.program_id(0), tl.program_id(1)",
        "    program = y * tl.num_programs(0) + x",
        f"    home = {'tl.load(homes + program)' if case.moved else 'program'}",
        *(f"    own_{each.name} += home * {owned(frame)}" for each in sorted(statements.owned, key=str)),
        *body.lines,
    ]
    for each in case.variables:
        place = "".join(f" + {in_order(each.shape).text}" for _ in each.shape[:1])
        lines.append(f"    tl.static_assert({each.name}.dtype == {triton(each.dtype)})")
        lines.append(f"    tl.store(out_{each.name} + program * {int(np.prod(each.shape))}{place}, {each.name})")
    return replace(case, text="\n".join(lines) + "\n")


def jitted(text: str):
    """The kernel of a text, whose lines are found as if they stood in a file."""
    name = f"<generated {hash(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace = {"tl": tl, "__name__": __name__}
    exec(compile(text, name, "exec"), namespace)
    return mlu.jit(namespace["generated"])
