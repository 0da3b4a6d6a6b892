"""The checker of kernels: it has to find what is wrong."""

import ast
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from mlutriton.testing import Case, load_examples


class Doubling:
    """Stands for a kernel: doubles ``x`` and is off by ``error`` in the last element."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, grid):
        def launch(output, x):
            output[:] = 2 * x
            output[-1] += self.error
            return SimpleNamespace(cycles=1)

        return launch


def make_case(error=0, dtype=np.float32, tolerance=(0.0, 0.0)):
    return Case(
        name="double",
        shape="3",
        kernel=Doubling(error),
        arguments=lambda: {"output": np.zeros(3, dtype), "x": np.array([1, 2, 3], dtype)},
        grid=(1,),
        outputs=("output",),
        reference=lambda x, **_: {"output": 2 * x},
        tolerance=tolerance,
    )


def test_right_values_pass():
    result = make_case().check()
    assert (result.max_error, result.mismatches) == (0.0, ())


@pytest.mark.parametrize("error", [0.5, np.nan, np.inf])
def test_wrong_value_is_found(error):
    with pytest.raises(AssertionError, match="output: 1 elements differ"):
        make_case(error).check()


def test_tolerance_is_a_bound():
    assert make_case(0.5, tolerance=(0.0, 0.5)).check().max_error == 0.5
    with pytest.raises(AssertionError):
        make_case(0.5, tolerance=(0.0, 0.49)).check()


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.int8, np.int32, np.int64, np.float64])
def test_every_element_type_is_compared(dtype):
    assert make_case(dtype=dtype).check().max_error == 0
    with pytest.raises(AssertionError):
        make_case(1, dtype=dtype).check()


def test_special_values_match_only_themselves():
    case = make_case(tolerance=(1.0, 1.0))
    special = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert case.compare(special, special) == (0.0, 0)
    assert case.compare(np.array([0, 0, 0], np.float32), special)[1] == 3
    assert case.compare(special, np.array([0, 0, 0], np.float32))[1] == 3


def test_reference_of_another_dtype_is_refused():
    with pytest.raises(ValueError, match="output float32"):
        make_case().compare(np.zeros(3, np.float32), np.zeros(3, np.float64))


def test_every_example_belongs_to_a_family(repository):
    examples = load_examples(repository / "examples")
    assert all(example.summary and example.cases for example in examples)
    families = [name for file in Path(__file__).parent.glob("test_*.py") for name in examples_named_in(file)]
    assert sorted(families) == [example.name for example in examples]


def examples_named_in(file):
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name("EXAMPLES")], value=value):
                return ast.literal_eval(value)
    return ()
