"""What is known of integers by digits of positions, where no kernel shows it."""

from mlutriton.diagnostics import UNKNOWN_LOCATION
from mlutriton.ir.analysis.digit_spans import DigitSpans
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.parser import parse_function

TEXT = """
func @f(%n: i32, %m: i32) {
  %of_all = splat %n : tensor<64xi32>
  %three = constant {value = 3} : tensor<64xi32>
  %quotient = sdiv %of_all, %three : tensor<64xi32>
  %factor = splat %m : tensor<64xi32>
  %product = mul %quotient, %factor : tensor<64xi32>
  return
}
"""


def test_what_a_quotient_leaves_open_is_multiplied_too():
    function = parse_function(TEXT)
    spans = DigitSpans(function, Scalars(UNKNOWN_LOCATION))
    quotient, product = (spans.of(function.body.operations[place].results[0]) for place in (2, 4))
    assert quotient is not None
    assert quotient.error == 1
    assert product is None or product.error != 0
