"""The smallest case of each example."""

from functools import cache

import numpy as np

from mlutriton.testing import load_examples
from tests.conftest import REPOSITORY

EXAMPLES = {example.name: example.cases for example in load_examples(REPOSITORY / "examples")}


@cache
def smallest(name):
    """The case with the fewest bytes of arrays, which are made to be counted: seconds that not every process takes."""
    return min(EXAMPLES[name], key=size)


def size(case):
    return sum(value.nbytes for value in case.arguments().values() if isinstance(value, np.ndarray))
