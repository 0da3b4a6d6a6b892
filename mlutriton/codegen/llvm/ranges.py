"""Between which integers values lie, as far as that shows that a product of them does not wrap around."""

from __future__ import annotations

from typing import NamedTuple


class Range(NamedTuple):
    """All integers from ``least`` to ``most``, of unlimited size."""

    least: int
    most: int

    def is_within(self, other: Range) -> bool:
        """True if the other one has all of its integers."""
        return other.least <= self.least and self.most <= other.most

    def after(self, function: str, other: Range) -> Range | None:
        """What a function of the instruction table gives for integers of both; None if that is of no use."""
        match function:
            case "+":
                return Range(self.least + other.least, self.most + other.most)
            case "-":
                return Range(self.least - other.most, self.most - other.least)
            case "*":
                products = [a * b for a in self for b in other]
                return Range(min(products), max(products))
            case "max":
                return Range(max(self.least, other.least), max(self.most, other.most))
            case "min":
                return Range(min(self.least, other.least), min(self.most, other.most))
            case "ceil_div" if self.least >= 0 and other.least > 0 and self.most + other.most <= INT64.most:
                return Range(0, -(-self.most // other.least))  # their sum is on the way there
            case _:
                return None


INT64 = Range(-(1 << 63), (1 << 63) - 1)
