"""Kernels generated at random, as text of Triton's language: native code and interpreter must write what NumPy says.

Expressions, control flow and access patterns are drawn together with what NumPy makes of them. Their arithmetic is
exact, so that nothing depends on an order: integers wrap, floats are rounded once an operation.
"""

import linecache
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from unittest.mock import patch

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mlutriton as mlu
import mlutriton.language as tl

BLOCK = 16
LENGTH = 64  # of the arrays that are read
PROGRAMS = 3
N = 5
INTEGERS = [0, 1, -1, 2, 7, -100, 2**31 - 1, -(2**31)]
FLOATS = [0.0, -0.0, 1.0, -1.5, 0.1, 1e30, -1e-30]
NUMPY = {"i": np.int32, "f": np.float32, "b": np.bool_}
TRITON = {"i": "tl.int32", "f": "tl.float32"}

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Expression:
    """Text, and what it is for the values of the variables."""

    text: str
    value: Callable[[Values], np.ndarray]


@dataclass(frozen=True)
class Variable:
    """A name of the kernel: integer or float, a vector or a scalar."""

    name: str
    kind: str
    is_vector: bool


@dataclass
class Kernel:
    """Lines of a kernel, and what they do to the values of the variables and to memory."""

    lines: list[str] = field(default_factory=list)
    steps: list[Callable[[Values], None]] = field(default_factory=list)

    def add(self, line: str, step: Callable[[Values], None]) -> None:
        """Append a statement."""
        self.lines.append(line)
        self.steps.append(step)

    def run(self, values: Values) -> None:
        """Do what the statements do."""
        for step in self.steps:
            step(values)


def divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The quotient, rounded towards zero."""
    wide = a.astype(np.int64)
    return (np.sign(wide) * (abs(wide) // b)).astype(np.int32)


INTEGER_OPERATIONS = {
    "({} + {})": lambda a, b: a + b,
    "({} - {})": lambda a, b: a - b,
    "({} * {})": lambda a, b: a * b,
    "({} & {})": lambda a, b: a & b,
    "({} | {})": lambda a, b: a | b,
    "({} ^ {})": lambda a, b: a ^ b,
    "({} << ({} & 7))": lambda a, b: a << (b & 7),
    "({} >> ({} & 7))": lambda a, b: a >> (b & 7),
    "({} // (({} & 7) + 1))": lambda a, b: divided(a, (b & 7) + 1),
    "({} % (({} & 7) + 1))": lambda a, b: a - divided(a, (b & 7) + 1) * ((b & 7) + 1),
    "tl.maximum({}, {})": np.maximum,
    "tl.minimum({}, {})": np.minimum,
}
FLOAT_OPERATIONS = {
    "({} + {})": lambda a, b: a + b,
    "({} - {})": lambda a, b: a - b,
    "({} * {})": lambda a, b: a * b,
    "({0} / ({1} * {1} + 1.0))": lambda a, b: a / (b * b + np.float32(1)),
    "tl.maximum({}, {})": np.fmax,
    "tl.minimum({}, {})": np.fmin,
}
COMPARISONS = {
    "({} < {})": np.less,
    "({} <= {})": np.less_equal,
    "({} == {})": np.equal,
    "({} != {})": np.not_equal,
}
# Of a vector of integers.
REARRANGED = {
    "tl.flip({})": lambda v: v[::-1],
    "tl.cumsum({}, 0)": lambda v: np.cumsum(v, dtype=np.int32),
    "tl.cumsum({}, 0, reverse=True)": lambda v: np.cumsum(v[::-1], dtype=np.int32)[::-1],
    "tl.reshape(tl.trans(tl.reshape({}, (2, 8))), (BLOCK,))": lambda v: v.reshape(2, 8).T.reshape(-1),
    "tl.interleave(*tl.split(tl.reshape({}, (BLOCK // 2, 2))))": lambda v: v,
    "tl.sort({})": np.sort,
}
REDUCED = {
    "tl.sum({}, 0)": lambda v: np.sum(v, dtype=np.int32),
    "tl.max({}, 0)": np.max,
    "tl.argmin({}, 0)": lambda v: np.int32(v.argmin()),
    "tl.xor_sum({}, 0)": np.bitwise_xor.reduce,
}


class Generator:
    """Draws statements over the variables in scope."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.numbers = count()

    def pick(self, choices):
        return self.draw(st.sampled_from(list(choices)))

    def operation(self, table, *operands: Expression) -> Expression:
        form = self.pick(table)
        return Expression(
            form.format(*(each.text for each in operands)),
            lambda values: table[form](*(each.value(values) for each in operands)),
        )

    def expression(self, scope: list[Variable], kind: str, is_vector: bool, depth: int) -> Expression:
        """An expression of a kind; a vector may be made of scalars."""
        if is_vector and not self.draw(st.integers(0, 5)):
            scalar = self.expression(scope, kind, False, depth)
            return Expression(
                f"tl.broadcast_to({scalar.text}, (BLOCK,))", lambda values: np.repeat(scalar.value(values), BLOCK)
            )
        if depth == 0:
            return self.leaf(scope, kind, is_vector)
        makers = {"i": [self.integer] * 3, "f": [self.float] * 2, "b": [self.truth]}[kind]
        if kind != "b":
            makers = [*makers, self.chosen, self.loaded, self.leaf_of]
        return self.pick(makers)(scope, kind, is_vector, depth - 1)

    def leaf_of(self, scope, kind, is_vector, depth) -> Expression:
        return self.leaf(scope, kind, is_vector)

    def leaf(self, scope: list[Variable], kind: str, is_vector: bool) -> Expression:
        found = [each.name for each in scope if (each.kind, each.is_vector) == (kind, is_vector)]
        if found and self.draw(st.integers(0, 2)):
            name = self.pick(found)
            return Expression(name, lambda values: values[name])
        shape, text = ((BLOCK,), "(BLOCK,)") if is_vector else ((), "()")
        if kind == "b":
            return self.operation(COMPARISONS, *(self.leaf(scope, "i", is_vector) for _ in range(2)))
        number = self.pick(INTEGERS if kind == "i" else FLOATS)
        constant = np.full(shape, number, NUMPY[kind])
        return Expression(f"tl.full({text}, {number}, {TRITON[kind]})", lambda values: constant)

    def integer(self, scope, kind, is_vector, depth) -> Expression:
        operands = [self.expression(scope, "i", is_vector, depth) for _ in range(2)]
        whole = operands[0] if is_vector else self.expression(scope, "i", True, depth)
        choice = self.draw(st.integers(0, 4))
        if choice == 0:
            return self.operation(REARRANGED if is_vector else REDUCED, whole)
        if choice == 1 and is_vector:
            index = operands[1]
            return Expression(
                f"tl.gather({whole.text}, {index.text} & {BLOCK - 1}, 0)",
                lambda values: whole.value(values)[index.value(values) & BLOCK - 1],
            )
        return self.operation(INTEGER_OPERATIONS, *operands)

    def float(self, scope, kind, is_vector, depth) -> Expression:
        if not self.draw(st.integers(0, 3)):
            integer = self.expression(scope, "i", is_vector, depth)
            return Expression(
                f"({integer.text}).to(tl.float32)", lambda values: integer.value(values).astype(np.float32)
            )
        return self.operation(FLOAT_OPERATIONS, *(self.expression(scope, "f", is_vector, depth) for _ in range(2)))

    def truth(self, scope, kind, is_vector, depth) -> Expression:
        if depth and self.draw(st.booleans()):
            parts = [self.expression(scope, "b", is_vector, depth) for _ in range(2)]
            return self.operation(
                {"({} & {})": np.logical_and, "({} | {})": np.logical_or, "({} ^ {})": np.logical_xor}, *parts
            )
        kind = self.pick("if")
        return self.operation(COMPARISONS, *(self.expression(scope, kind, is_vector, depth) for _ in range(2)))

    def chosen(self, scope, kind, is_vector, depth) -> Expression:
        condition = self.expression(scope, "b", is_vector, depth)
        yes, no = (self.expression(scope, kind, is_vector, depth) for _ in range(2))
        return Expression(
            f"tl.where({condition.text}, {yes.text}, {no.text})",
            lambda values: np.where(condition.value(values), yes.value(values), no.value(values)),
        )

    def loaded(self, scope, kind, is_vector, depth) -> Expression:
        """A load: elements in order, with steps, backwards or anywhere; of a vector perhaps under a mask."""
        array = "integers" if kind == "i" else "floats"
        if is_vector and self.draw(st.booleans()):
            step, start = self.pick([1, 2, 3, -1, -3, 0]), self.draw(st.integers(0, 18))
            start += (BLOCK - 1) * max(-step, 0)
            place = Expression(f"i * {step} + {start}", lambda values: values["i"] * step + start)
        else:
            index = self.expression(scope, "i", is_vector, depth)
            place = Expression(f"({index.text} & {LENGTH - 1})", lambda values: index.value(values) & LENGTH - 1)
        if not is_vector or self.draw(st.booleans()):
            return Expression(f"tl.load({array} + {place.text})", lambda values: values[array][place.value(values)])
        if self.draw(st.booleans()):
            bound = self.leaf(scope, "i", False)
            mask = Expression(f"i < {bound.text}", lambda values: values["i"] < bound.value(values))
        else:
            mask = self.expression(scope, "b", True, depth)
        other = self.leaf(scope, kind, True)
        return Expression(
            f"tl.load({array} + {place.text}, mask={mask.text}, other={other.text})",
            lambda values: np.where(mask.value(values), values[array][place.value(values)], other.value(values)),
        )

    def statements(self, kernel: Kernel, scope: list[Variable], indent: str, length: int, depth: int) -> None:
        """Append statements; at the top they may make variables, in loops and branches they change those that are."""
        for _ in range(self.draw(st.integers(1, length))):
            makers = [self.assignment] * 3 + [self.exchange]
            if depth:
                makers += [self.loop, self.branch, self.countdown]
            self.pick(makers)(kernel, scope, indent, depth)

    def assignment(self, kernel: Kernel, scope: list[Variable], indent: str, depth: int) -> None:
        own = [each for each in scope if each.name.startswith("v")]
        if not indent.strip(" ") and len(indent) == 4 and (not own or self.draw(st.booleans())):
            target = Variable(f"v{next(self.numbers)}", self.pick("if"), self.draw(st.booleans()))
        elif own:
            target = self.pick(own)
        else:
            kernel.add(f"{indent}pass", lambda values: None)
            return
        made = self.expression(scope, target.kind, target.is_vector, 2)
        kernel.add(
            f"{indent}{target.name} = {made.text}", lambda values: values.update({target.name: made.value(values)})
        )
        if target not in scope:
            scope.append(target)

    def exchange(self, kernel: Kernel, scope: list[Variable], indent: str, depth: int) -> None:
        """Store to the program's own memory and read it again in another order."""
        own = [each for each in scope if each.name.startswith("v") and each.kind == "i" and each.is_vector]
        if not own:
            kernel.add(f"{indent}pass", lambda values: None)
            return
        target, turn = self.pick(own), self.draw(st.integers(0, BLOCK - 1))
        stored, mask = self.expression(scope, "i", True, 1), self.expression(scope, "b", True, 1)
        index = self.expression(scope, "i", True, 1)

        def step(values: Values) -> None:
            places = values["scratch"]
            where = mask.value(values)
            places[(values["i"] ^ turn)[where]] = stored.value(values)[where]
            values[target.name] = places[index.value(values) & BLOCK - 1]

        own_place = f"scratch + pid * {BLOCK}"
        kernel.add(f"{indent}tl.store({own_place} + (i ^ {turn}), {stored.text}, mask={mask.text})", step)
        kernel.lines.append(f"{indent}tl.debug_barrier()")
        kernel.lines.append(f"{indent}{target.name} = tl.load({own_place} + ({index.text} & {BLOCK - 1}))")
        kernel.lines.append(f"{indent}tl.debug_barrier()")

    def loop(self, kernel: Kernel, scope: list[Variable], indent: str, depth: int) -> None:
        name = f"k{next(self.numbers)}"
        start, stop, step = self.pick([0, 1, 5]), self.pick(["0", "4", "n", "pid"]), self.pick([1, 2])
        inside = Kernel()
        self.statements(inside, [*scope, Variable(name, "i", False)], indent + "    ", 3, depth - 1)
        kernel.lines += [f"{indent}for {name} in range({start}, {stop}, {step}):", *inside.lines]

        def run(values: Values) -> None:
            end = int(values[stop]) if stop in values else int(stop)
            for k in range(start, end, step):
                values[name] = np.asarray(k, np.int32)
                inside.run(values)

        kernel.steps.append(run)

    def branch(self, kernel: Kernel, scope: list[Variable], indent: str, depth: int) -> None:
        condition = self.expression(scope, "b", False, 1)
        arms = [Kernel(), Kernel()]
        for arm in arms:
            self.statements(arm, list(scope), indent + "    ", 2, depth - 1)
        kernel.lines += [f"{indent}if {condition.text}:", *arms[0].lines, f"{indent}else:", *arms[1].lines]
        kernel.steps.append(lambda values: arms[not condition.value(values)].run(values))

    def countdown(self, kernel: Kernel, scope: list[Variable], indent: str, depth: int) -> None:
        name = f"t{next(self.numbers)}"
        inside = Kernel()
        self.statements(inside, [*scope, Variable(name, "i", False)], indent + "    ", 2, depth - 1)
        kernel.lines += [f"{indent}{name} = pid + 1", f"{indent}while {name} > 0:", *inside.lines]
        kernel.lines.append(f"{indent}    {name} = {name} - 1")

        def run(values: Values) -> None:
            values[name] = values["pid"] + np.int32(1)
            while values[name] > 0:
                inside.run(values)
                values[name] = values[name] - np.int32(1)

        kernel.steps.append(run)


@dataclass(frozen=True)
class Case:
    """A kernel as text, what NumPy does, and the variables that it leaves."""

    text: str
    kernel: Kernel
    variables: list[Variable]

    def __repr__(self) -> str:
        return self.text


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel = Kernel()
    scope = [Variable("i", "i", True), Variable("pid", "i", False), Variable("n", "i", False)]
    Generator(draw).statements(kernel, scope, "    ", 6, 2)
    variables = scope[3:]
    lines = [
        "def generated(out_integers, out_floats, scratch, integers, floats, n, BLOCK: tl.constexpr):",
        "    i = tl.arange(0, BLOCK)",
        "    pid = tl.program_id(0)",
        *kernel.lines,
    ]
    for row, each in enumerate(variables):
        out = "out_integers" if each.kind == "i" else "out_floats"
        value = each.name if each.is_vector else f"tl.broadcast_to({each.name}, (BLOCK,))"
        lines.append(f"    tl.store({out} + (pid * {len(variables)} + {row}) * BLOCK + i, {value})")
    return Case("\n".join(lines) + "\n", kernel, variables)


def jitted(text: str):
    """The kernel of a text, whose lines are found as if they stood in a file."""
    name = f"<generated {hash(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace = {"tl": tl, "__name__": __name__}
    exec(compile(text, name, "exec"), namespace)
    return mlu.jit(namespace["generated"])


RANDOM = np.random.default_rng(0)
INTEGER_ARRAY = RANDOM.integers(-(2**31), 2**31, LENGTH).astype(np.int32) >> RANDOM.integers(0, 31, LENGTH)
INTEGER_ARRAY = INTEGER_ARRAY.astype(np.int32)
FLOAT_ARRAY = RANDOM.standard_normal(LENGTH).astype(np.float32)


def wanted(case: Case) -> list[np.ndarray]:
    rows = (PROGRAMS, len(case.variables), BLOCK)
    integers, floats = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
    scratch = np.zeros((PROGRAMS, BLOCK), np.int32)
    with np.errstate(all="ignore"):
        for pid in range(PROGRAMS):
            values = {"integers": INTEGER_ARRAY, "floats": FLOAT_ARRAY, "scratch": scratch[pid]}
            values |= {"i": np.arange(BLOCK, dtype=np.int32), "pid": np.asarray(pid, np.int32)}
            values |= {"n": np.asarray(N, np.int32)}
            case.kernel.run(values)
            for row, each in enumerate(case.variables):
                (integers if each.kind == "i" else floats)[pid, row] = values[each.name]
    return [integers, floats, scratch]


@given(case=cases())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_generated_kernels_write_what_numpy_says(case: Case) -> None:
    expected = wanted(case)
    kernel = jitted(case.text)
    for engine in ("native", "interpreter"):
        got = [np.zeros_like(each) for each in expected]
        with patch.dict(os.environ, {"MLUTRITON_ENGINE": engine}):
            kernel[(PROGRAMS,)](*got, INTEGER_ARRAY, FLOAT_ARRAY, N, BLOCK=BLOCK, enable_fp_fusion=False)
        for array, reference in zip(got, expected, strict=True):
            np.testing.assert_array_equal(array, reference, err_msg=engine)
