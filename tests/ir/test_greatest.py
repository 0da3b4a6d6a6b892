"""What is known of how great integers can be."""

import pytest

from mlutriton.ir.analysis.greatest import greatest
from mlutriton.ir.parser import parse_function

BOUNDS = {
    "and %x, %mask : i8": 15,
    "lshr %x, %four : i8": 15,
    "lshr %x, %zero : i8": None,
    "lshr %x, %x : i8": None,
    'zext %x {to = "i32"} : i32': 255,
    'sext %x {to = "i32"} : i32': None,
    "urem %x, %four : i8": 3,
    "srem %x, %four : i8": None,
    "add %mask, %four : i8": None,
}


@pytest.mark.parametrize(("operation", "bound"), BOUNDS.items(), ids=BOUNDS)
def test_the_greatest_that_an_integer_can_be(operation, bound):
    function = parse_function(f"""
func @f(%x: i8) {{
  %mask = constant {{value = 15}} : i8
  %four = constant {{value = 4}} : i8
  %zero = constant {{value = 0}} : i8
  %made = {operation}
  return
}}
""")
    assert greatest(function.body.operations[-2].result) == bound


def test_what_is_used_many_times_is_looked_at_once():
    steps = "\n".join(f"  %x{n + 1} = xor %x{n}, %x{n} : i32" for n in range(60))
    function = parse_function(f"""
func @f(%x0: i32) {{
{steps}
  %seven = constant {{value = 7}} : i32
  %made = and %x60, %seven : i32
  return
}}
""")
    assert greatest(function.body.operations[-2].result) == 7
