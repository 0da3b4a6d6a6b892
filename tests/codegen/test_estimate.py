"""What programs are expected to take, by which their forms are compared."""

from mlutriton.codegen.estimate import estimated
from mlutriton.ir.parser import parse_function
from mlutriton.isa.machine import Machine, machine

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


CHIP = machine("mlu590-m9")
MOVING = CHIP.move_setup_cycles + 512 * 512 * 2 / CHIP.move_bytes_per_cycle
PLAIN = PRODUCT.replace("fadd %right, %right : tensor<512x512xf16>", "fadd %left, %left : tensor<16x512xf16>").replace(
    "dot %left, %weights", "dot %left, %right"
)


def cycles(text: str, chip: Machine = CHIP, *, is_resident: bool = True) -> float:
    return estimated(parse_function(text), chip, is_resident=is_resident).cycles


def test_weights_that_are_computed_take_a_move() -> None:
    """Those that are multiplied as they are loaded go to WRAM straight away."""
    adding = (512 - 16) * 512 * 2 / CHIP.vector_bytes_per_cycle
    assert cycles(PRODUCT, is_resident=False) == cycles(PLAIN, is_resident=False) + adding + MOVING


def test_weights_that_are_read_twice_take_a_move() -> None:
    """They come to NRAM, for whatever else reads them."""
    twice = PLAIN.replace("fadd %left, %left : tensor<16x512xf16>", "fneg %right : tensor<512x512xf16>")
    adding = (512 - 16) * 512 * 2 / CHIP.vector_bytes_per_cycle
    assert cycles(twice, is_resident=False) == cycles(PLAIN, is_resident=False) + adding + MOVING


def test_a_product_waits_for_weights_that_are_computed() -> None:
    """Their move begins when they are there, so that neither hides the other, nor the product."""
    chip = CHIP.replace(vector_bytes_per_cycle=8)
    adding, product = 512 * 512 * 2 / 8 + chip.vector_gap_cycles, 16 * 512 * 512 / chip.mac_per_cycle_f16
    assert cycles(PRODUCT, chip) == adding + MOVING + product
