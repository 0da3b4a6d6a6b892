"""Tables of which a narrow terminal loses nothing."""

import pytest
from rich.measure import Measurement

from mlutriton.cli.console import ReportConsole
from mlutriton.profile.lossless_table import LosslessTable


def table():
    made = LosslessTable()
    made.add_column("kernel", no_wrap=True)
    made.add_column("what it does")
    made.add_column("cycles", justify="right")
    made.add_row("attention_forward", "computes rows of the softmax", "1,234,567")
    made.add_row("sum", "adds", "9")
    return made


def printed(width):
    console = ReportConsole(width=width)
    with console.capture() as captured:
        console.print(table())
    return captured.get().splitlines()


def test_what_is_measured_is_what_is_printed():
    console = ReportConsole(width=200)
    least, most = Measurement.get(console, console.options, table())
    # The names, the longest word of what may be broken, the numbers; and two gaps.
    assert (least, most) == (17 + 8 + 9 + 6, 17 + 28 + 9 + 6)
    assert {len(line) for line in printed(200)} == {most}
    assert max(len(line) for line in printed(10)) == least


@pytest.mark.parametrize("width", [10, 40, 50, 59, 60, 200])
def test_nothing_is_lost(width):
    lines = printed(width)
    assert max(len(line) for line in lines) == min(max(width, 40), 60)
    words = " ".join(lines).split()
    assert {"attention_forward", "computes", "rows", "of", "the", "softmax", "1,234,567", "adds", "9"} <= {*words}
    assert (len(lines) == 4) == (width >= 60)
