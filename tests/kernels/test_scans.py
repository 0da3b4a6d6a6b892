"""Running sums."""

EXAMPLES = ("cumsum",)


def test_values_equal_numpy(case):
    case.check()
