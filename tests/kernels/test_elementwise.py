"""Kernels that compute each element by itself."""

import inspect

import numpy as np

from mlutriton.testing import load_examples

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
