"""Kernels that reduce rows and use what they found."""

from mlutriton.testing import load_examples

EXAMPLES = ("softmax", "layer_norm", "rms_norm", "cross_entropy")


def test_values_equal_numpy(case):
    case.check()


def test_rows_that_share_a_transfer_take_fewer_cycles(repository):
    [example] = load_examples(repository / "examples" / "softmax.py")
    one_row, eight_rows = (case.run().run.cycles for case in example.cases)
    assert eight_rows < one_row
