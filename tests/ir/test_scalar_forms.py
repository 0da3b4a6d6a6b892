"""Sums of products are alike in every process."""

import random

from mlutriton.dtypes import I64
from mlutriton.ir.analysis.scalar_forms import product
from mlutriton.ir.core import Block


def test_factors_stand_in_the_order_in_which_they_were_made():
    """Wherever in memory they happen to be."""
    blocks = [Block([I64, I64]) for _ in range(1000)]
    values = [value for block in blocks for value in block.arguments]
    shuffled = random.Random(0).sample(values, len(values))
    for one, other in zip(shuffled[::2], shuffled[1::2], strict=True):
        ordered = sorted((one, other), key=values.index)
        assert product({(one,): 2}, {(other,): 3}) == {tuple(ordered): 6}
