"""Kernels whose programs meet in memory."""

EXAMPLES = ("histogram", "segmented_sum")


def test_values_equal_numpy(case):
    case.check()
