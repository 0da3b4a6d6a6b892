"""Views: how an SSA value stands during selection - in a register, in a buffer, or as a repetition of either."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlutriton.codegen.tile_code import ScalarOperand, TileBuffer
from mlutriton.dtypes import DType
from mlutriton.isa.operands import Address, Immediate, Mode


@dataclass(frozen=True, slots=True)
class ScalarView:
    """A scalar in a register or a literal."""

    operand: ScalarOperand
    dtype: DType


@dataclass(frozen=True, slots=True)
class DenseView:
    """A row-major tensor (or a scalar, for shape ``()``) in a buffer."""

    buffer: TileBuffer
    shape: tuple[int, ...]
    dtype: DType
    offset_bytes: int = 0

    def address(self, mode: Mode = Mode.FULL, offset_bytes: int = 0) -> Address:
        """The operand that names it."""
        return Address(self.buffer.name, None, self.offset_bytes + offset_bytes, mode)

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class SpreadView:
    """A source with extents of 1 repeated to ``shape``; for a scalar source every element is the same.

    ``aligned`` is the source's shape, of the same rank as ``shape``.
    """

    source: ScalarView | DenseView
    aligned: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: DType

    @property
    def is_uniform(self) -> bool:
        """True if every element is the same."""
        return all(extent == 1 for extent in self.aligned)

    def placement(self) -> tuple[Mode, int, int] | None:
        """(mode, rows, columns) if the repetition is by rows or by columns, else None."""
        moving = [d for d, extent in enumerate(self.aligned) if extent > 1]
        repeated = [d for d, (a, s) in enumerate(zip(self.aligned, self.shape, strict=True)) if a == 1 and s > 1]
        count = math.prod(self.shape)
        kept = math.prod(self.aligned)
        if not moving or not repeated:
            return None
        if max(moving) < min(repeated):
            return Mode.ROW, kept, count // kept
        if min(moving) > max(repeated):
            return Mode.COLUMN, count // kept, kept
        return None


View = ScalarView | DenseView | SpreadView


def is_true(view: View) -> bool:
    """True if every element is known to be true."""
    source = view.source if isinstance(view, SpreadView) else view
    return isinstance(source, ScalarView) and isinstance(source.operand, Immediate) and bool(source.operand.value)
