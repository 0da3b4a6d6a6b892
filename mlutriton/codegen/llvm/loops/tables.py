"""Integers that are known when a program is translated, as constants of its loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.codegen.llvm.elements import LANES, Lanes, bits_kind, from_bits
from mlutriton.codegen.llvm.emitter import Count, Emitter, wide
from mlutriton.dtypes import DType


@dataclass(frozen=True, eq=False)
class Table:
    """Integers that repeat themselves along a row.

    Attributes:
        dtype: element type.
        values: one period of them.
    """

    dtype: DType
    values: NDArray[Any]

    def of(self, element: Count, e: Emitter) -> Lanes:
        """``LANES`` elements from a multiple of ``LANES`` on."""
        period, kind = len(self.values), bits_kind(self.dtype)
        stored = np.resize(self.values, max(period, LANES)).view(f"u{self.dtype.bytes}")
        if len(stored) == LANES:
            return from_bits(e, f"<{', '.join(f'{kind} {value}' for value in stored)}>", self.dtype, LANES)
        text = f"[{period} x {kind}] [{', '.join(f'{kind} {value}' for value in stored)}]"
        name = e.library.shared("table", "", f" = private constant {text}")
        place = element % period if isinstance(element, int) else e.value(f"urem i64 {element}, {period}")
        source = e.pointer(f"@{name}", e.multiply(place, self.dtype.bytes))
        return from_bits(e, e.value(f"load {wide(kind, LANES)}, ptr {source}, align 1"), self.dtype, LANES)
