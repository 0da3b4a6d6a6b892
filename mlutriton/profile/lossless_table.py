"""Tables of which a narrow terminal loses nothing: Rich cuts off numbers and names to fit."""

from __future__ import annotations

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

# Between two columns: a blank of each, and one where a line would be.
_GAP = 3


class LosslessTable(Table):
    """A table without frame, as wide as words and numbers need at least.

    Columns that may wrap are broken between words to fit; others keep their width.
    """

    def __init__(self, *, title: str | None = None) -> None:
        super().__init__(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Columns with the least, and with all words in a line."""
        ranges = self._ranges(console, options)
        gaps = _GAP * max(len(ranges) - 1, 0)
        return Measurement(sum(each.minimum for each in ranges) + gaps, sum(each.maximum for each in ranges) + gaps)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lines of the table in the width that there is, or wider if they need it."""
        ranges = self._ranges(console, options)
        widths = [each.maximum for each in ranges]
        excess = sum(widths) + _GAP * (len(widths) - 1) - options.max_width
        while excess > 0:
            slack = [width - each.minimum and width for width, each in zip(widths, ranges, strict=True)]
            if not any(slack):
                break
            widths[slack.index(max(slack))] -= 1
            excess -= 1
        for column, width in zip(self.columns, widths, strict=True):
            column.width = width
        yield from super().__rich_console__(console, options)

    def _ranges(self, console: Console, options: ConsoleOptions) -> list[Measurement]:
        """Least and greatest width of each column, without the gaps."""
        unlimited = options.update(max_width=1 << 16)
        ranges: list[Measurement] = []
        for column in self.columns:
            cells = [Measurement.get(console, unlimited, each) for each in (column.header, *column.cells)]
            most = max(each.maximum for each in cells)
            ranges.append(Measurement(most if column.no_wrap else max(each.minimum for each in cells), most))
        return ranges
