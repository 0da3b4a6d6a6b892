"""The fields of many records at once, as arrays: columns of a trace.

Rows of ``records`` are records and extents, [rows, ``RECORD_WORDS``]; an extent's row has no meaning here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.trace_format import (
    AMOUNT_SHIFT,
    FLAG_EXTENT,
    FLAGS_MASK,
    FLAGS_SHIFT,
    INSTRUCTION_SHIFT,
    KIND_MASK,
    KIND_SHIFT,
    MAX_ADDRESS,
    MAX_AMOUNT,
    MAX_INSTRUCTION,
    Kind,
)

Words = NDArray[np.int64]


def kinds(records: Words) -> Words:
    """The ``Kind`` of each record."""
    return records[:, 1] >> KIND_SHIFT & KIND_MASK


def flags(records: Words) -> Words:
    """The flags of each record."""
    return records[:, 1] >> FLAGS_SHIFT & FLAGS_MASK


def amounts(records: Words) -> Words:
    """The amount of each record."""
    return records[:, 1] >> AMOUNT_SHIFT & MAX_AMOUNT


def payloads(records: Words) -> Words:
    """The address of each record, or what else its kind puts there."""
    return records[:, 2] & MAX_ADDRESS


def instructions(records: Words) -> Words:
    """The number of the instruction that left each record."""
    return records[:, 2] >> INSTRUCTION_SHIFT & MAX_INSTRUCTION


def extent_records(records: Words) -> NDArray[np.bool_]:
    """Which of the rows are extents: those after a LOAD or STORE, itself no extent, whose flag announces one.

    An extent may look like a record that announces one. Of consecutive records that look so, the first is a true one,
    as the record before it announces nothing; then extents and records alternate.
    """
    announces = (kinds(records) <= Kind.STORE) & (flags(records) & FLAG_EXTENT != 0)
    extents = np.zeros(len(records), np.bool_)
    if not announces.any():
        return extents
    places = np.arange(len(records))
    first = np.maximum.accumulate(np.where(announces, -1, places)) + 1
    extents[1:] = (announces & ((places - first) & 1 == 0))[:-1]
    return extents
