"""What programs are expected to take, by which their forms are compared."""

from mlutriton.codegen.estimate import estimated
from mlutriton.ir.parser import parse_function
from mlutriton.isa.machine import machine

PRODUCT = """
func @product(%a: ptr<f16>, %b: ptr<f16>, %c: ptr<f32>) {
  %zero = constant {value = 0} : i64
  %one = constant {value = 1} : i64
  %n = constant {value = 16} : i64
  %k = constant {value = 512} : i64
  %fill = constant {value = 0.0} : f16
  %sum = constant {value = 0.0} : tensor<16x512xf32>
  %left = tile_load %a, %fill, %k, %one, %zero, %zero, %n, %k {wraps = [0, 0]} : tensor<16x512xf16>
  %right = tile_load %b, %fill, %k, %one, %zero, %zero, %k, %k {wraps = [0, 0]} : tensor<512x512xf16>
  %weights = fadd %right, %right : tensor<512x512xf16>
  %total = dot %left, %weights, %sum {precision = "ieee"} : tensor<16x512xf32>
  tile_store %c, %total, %k, %one, %zero, %zero, %n, %k {wraps = [0, 0]}
  return
}
"""


def test_weights_that_are_computed_take_a_move():
    """Those that are multiplied as they are loaded go to WRAM straight away."""
    chip = machine("mlu590-m9")
    plain = PRODUCT.replace("dot %left, %weights", "dot %left, %right")
    computed, loaded = (estimated(parse_function(text), chip, is_resident=False).cycles for text in (PRODUCT, plain))
    moved = 512 * 512 * 2 / chip.move_bytes_per_cycle
    # Both add them up, whether or not anyone reads that.
    assert computed == loaded + moved
