"""Strips of what members of a cluster write stay on their side of where these wait for each other."""

import pytest

from mlutriton.ir.ops import Order, TileStore
from mlutriton.ir.parser import parse_function
from mlutriton.ir.passes import strip_mine
from mlutriton.ir.verifier import verify

STORES = """
func @stores(%out: ptr<f32>, %more: ptr<f32>, %x: f32) {
  %zero = constant {value = 0} : i64
  %one = constant {value = 1} : i64
  %n = constant {value = 64} : i64
  %tile = splat %x : tensor<64xf32>
  order {unless_disjoint = ORDERED}
  tile_store %out, %tile, %one, %zero, %n {wraps = [0]}
  order {unless_disjoint = ORDERED}
  tile_store %more, %tile, %one, %zero, %n {wraps = [0]}
  order {unless_disjoint = ORDERED}
  return
}
"""
IN_ORDER = ["order", "tile_store", "order", "tile_store", "order"]


def effects(block):
    """Orders and stores as they come, with those of loops where these stand; then each branch by itself."""
    found, branches = [], []
    for operation in block.operations:
        if isinstance(operation, Order | TileStore):
            found.append(operation.NAME)
        elif len(operation.regions) == 1:
            found += effects(operation.regions[0])[0]
        branches += [effects(each)[0] for each in operation.regions if len(operation.regions) > 1]
    return [found, *branches]


@pytest.mark.parametrize("unless_disjoint", [False, True])
def test_strips_are_written_in_order(unless_disjoint):
    mined = strip_mine.run(parse_function(STORES.replace("ORDERED", str(unless_disjoint).lower())), 64)
    verify(mined, "strip_mine")
    whole, *versions = effects(mined.body)
    if unless_disjoint:
        # Where arrays are apart, both go in one loop.
        apart = ["order", "order", "order", "tile_store", "tile_store"]
        assert (whole, versions) == ([], [apart, IN_ORDER])
    else:
        assert (whole, versions) == (IN_ORDER, [])
