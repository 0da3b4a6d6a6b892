"""Attention."""

import mlutriton as mlu
from mlutriton.testing import load_examples

EXAMPLES = ("flash_attention", "paged_attention")


def test_values_equal_numpy(case):
    case.check()


def test_causal_attention_skips_the_future(repository):
    [example] = load_examples(repository / "examples" / "flash_attention.py")
    cycles = {
        case.shape: mlu.estimate(case.kernel, case.grid, **case.arguments(), **case.constants).cycles
        for case in example.cases
        if case.shape.startswith("2x8x1024x128")
    }
    assert cycles["2x8x1024x128 fp16 causal"] < cycles["2x8x1024x128 fp16"]
