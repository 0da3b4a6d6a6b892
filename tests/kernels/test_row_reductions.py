"""Kernels that reduce rows and use what they found."""

from mlutriton.testing import load_examples

EXAMPLES = ("softmax", "layer_norm", "rms_norm", "cross_entropy")


def test_values_equal_numpy(case):
    case.check()


def test_rows_of_a_loop_share_transfers_and_instructions(repository):
    """One row a tile costs what eight do: the compiler works on several rows at a time itself."""
    [example] = load_examples(repository / "examples" / "softmax.py")
    one_row, eight_rows = (case.run().run.cycles for case in example.cases)
    assert one_row < 1.1 * eight_rows
