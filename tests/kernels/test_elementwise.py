"""Kernels that compute each element by itself."""

import inspect

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import load_examples
from tests.kernels.engines import on_both_engines

EXAMPLES = ("vector_add", "dropout")


def test_values_equal_numpy(case):
    case.check()


def test_reference_generator_is_philox(repository):
    # The published known answer of Philox 4x32-10 for a counter and a key of zeros begins with this word.
    [example] = load_examples(repository / "examples" / "dropout.py")
    philox = inspect.getmodule(example.cases[0].reference).philox
    assert philox(0, np.array([0]))[0] == 0x6627E8D5


def test_dropout_keeps_the_expected_share(repository):
    [example] = load_examples(repository / "examples" / "dropout.py")
    arguments = example.cases[0].arguments()
    kept = np.count_nonzero(example.cases[0].reference(**arguments)["output"])
    n, probability = arguments["n"], arguments["probability"]
    deviation = (n * probability * (1 - probability)) ** 0.5
    assert abs(kept - n * (1 - probability)) < 4 * deviation


@mlu.jit
def difference(out, narrow, wide, n):
    i = tl.arange(0, 2)
    total = 0
    while total < n:
        total += 3
    # Every other element: the tile that is loaded is as large as the wider result.
    tl.store(out + i, (tl.load(narrow + 2 * i) - tl.load(wide + 2 * i)).to(tl.float32) + total)


def test_a_result_does_not_take_the_place_of_narrower_elements():
    narrow, wide, out = np.array([7, 1, -5], np.int16), np.array([100, 2, 3000], np.int32), np.zeros(2, np.float32)
    on_both_engines(lambda: difference[(1,)](out, narrow, wide, 5, num_stages=1), out)
    np.testing.assert_array_equal(out, (narrow.astype(np.int32) - wide)[::2] + 6)
