"""Powers of two of which integers of a launch are multiples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.arithmetic.evaluate import evaluate
from mlutriton.dtypes import I32
from mlutriton.ir.analysis.launch_facts import Factors
from mlutriton.ir.parser import parse_function

OPERATIONS = ("mul", "add", "sub", "smin", "smax", "umin", "umax", "srem", "urem")
NUMBERS = st.one_of(st.integers(-40, 40), st.integers(-(2**31), 2**31 - 1))


def factors_of(lines, divisibility=1):
    """The factor of the last line's value, in a function of ``%n``, which is a multiple of a number."""
    function = parse_function("func @f(%n: i32) {\n" + "\n".join(lines) + "\nreturn\n}")
    function.argument_attributes = [{"divisibility": divisibility}]
    return Factors(function).of(function.body.operations[-2].results[0])


@given(st.data())
def test_every_integer_is_a_multiple_of_its_factor(data):
    divisibility = data.draw(st.sampled_from([1, 12, 16]))
    values = {"n": data.draw(st.integers(-100, 100)) * divisibility}
    lines = []
    for place in range(data.draw(st.integers(1, 6))):
        name, number = f"v{place}", data.draw(NUMBERS)
        a, b = (data.draw(st.sampled_from(sorted(values))) for _ in range(2))
        operation = data.draw(st.sampled_from(OPERATIONS))
        if data.draw(st.booleans()) or (operation.endswith("rem") and not values[b]):
            values[name] = number
            lines.append(f"%{name} = constant {{value = {number}}} : i32")
        else:
            values[name] = int(evaluate(operation, values[a], values[b], dtype=I32))
            lines.append(f"%{name} = {operation} %{a}, %{b} : i32")
    assert values[name] % factors_of(lines, divisibility) == 0


@pytest.mark.parametrize(
    ("operation", "number", "factor"),
    [("mul", 6, 32), ("add", 6, 2), ("add", 8, 8), ("sub", 48, 16), ("smin", 12, 4), ("urem", 24, 8), ("sdiv", 4, 1)],
)
def test_factors_are_as_great_as_can_be_known(operation, number, factor):
    lines = [f"%c = constant {{value = {number}}} : i32", f"%v = {operation} %n, %c : i32"]
    assert factors_of(lines, 16) == factor
