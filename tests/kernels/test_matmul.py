"""Matrix products."""

EXAMPLES = ("matmul",)


def test_values_equal_numpy(case):
    case.check()
