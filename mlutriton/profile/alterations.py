"""Altered traces: the records that a launch would have left behind, had something about it been otherwise.

Each function takes a trace and gives another; the replay of it says what the change is worth. ``chosen`` selects rows
of the trace's records, see ``rows_of``. Other records are as they were: a change that costs something elsewhere, as a
transposition on the chip would, is worth less than the replay says.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.trace_format import (
    AMOUNT_SHIFT,
    FLAG_EXTENT,
    FLAG_STRIDED,
    FLAGS_MASK,
    FLAGS_SHIFT,
    INSTRUCTION_SHIFT,
    KIND_MASK,
    KIND_SHIFT,
    LOCAL_START,
    MAX_ADDRESS,
    MAX_AMOUNT,
    MAX_STRIDED,
    NO_COMPUTE,
    RECORD_WORDS,
    STRIDE_SHIFT,
    STRIDED_COMPUTE_SHIFT,
    STRIDED_HEAD_SHIFT,
    Kind,
)
from mlutriton.simulator import trace_columns
from mlutriton.simulator.replay import Trace

Rows = NDArray[np.bool_]
Words = NDArray[np.int64]

_LOW_WORD = (1 << 32) - 1
# Addresses that no launch has: altered transfers go there, and share no line with others.
_ELSEWHERE = 1 << 45
_PIECE_BYTES = 1 << 12


def rows_of(trace: Trace, kinds: Collection[Kind], instructions: Collection[int] | None = None) -> Rows:
    """The records of some kinds, left behind by some instructions or by any."""
    records = _records(trace)
    chosen = ~trace_columns.extent_records(records) & np.isin(trace_columns.kinds(records), list(kinds))
    if instructions is not None:
        chosen &= np.isin(trace_columns.instructions(records), list(instructions))
    return chosen


def segments(trace: Trace, chosen: Rows) -> tuple[int, int]:
    """How many transfers were chosen that have several segments, and how many segments these have together."""
    records = _records(trace)
    strided = chosen & (trace_columns.flags(records) & FLAG_STRIDED != 0)
    counts = int((records[strided, 1] & MAX_STRIDED).sum())
    number = int(strided.sum())
    extents = records[np.flatnonzero(chosen & (trace_columns.flags(records) & FLAG_EXTENT != 0)) + 1]
    sizes, rows = extents[:, 0] & _LOW_WORD, extents[:, 0] >> 32 & _LOW_WORD
    # Segments that touch are one, as in the replay.
    rows = np.where(extents[:, 1] == sizes, 1, rows)
    pieces = rows * (extents[:, 2] & 0xFFFF)
    return number + int((pieces > 1).sum()), counts + int(pieces[pieces > 1].sum())


def in_one_piece(trace: Trace, chosen: Rows) -> Trace:
    """Each of the LOADs and STOREs chosen moves its bytes as one segment; equal tiles still lie at one place."""
    records = _records(trace).copy()
    flags = trace_columns.flags(records)
    places = np.flatnonzero(chosen & (flags & (FLAG_STRIDED | FLAG_EXTENT) != 0))
    if not places.size:
        return trace
    with_extent = flags[places] & FLAG_EXTENT != 0
    behind = np.where(with_extent, np.minimum(places + 1, len(records) - 1), 0)
    geometry = np.where(with_extent[:, None], records[behind], 0)
    strided = flags[places] & FLAG_STRIDED != 0
    own = (
        np.where(strided, records[places, 0] >> STRIDE_SHIFT, 0),
        np.where(strided, records[places, 1] & MAX_STRIDED, 0),
    )
    amounts = trace_columns.amounts(records)[places]
    keys = np.column_stack((trace_columns.payloads(records)[places], amounts, *own, geometry))
    _, first, same = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    addresses = _addresses(amounts[first])[same.reshape(-1)]

    _set_address(records, places, addresses)
    extents = behind[with_extent]
    records[extents] = np.column_stack((amounts[with_extent] | 1 << 32, np.zeros_like(extents), np.ones_like(extents)))
    single = places[strided]
    compute, head = _compute(records[single])
    records[single, 0] = records[single, 0] & MAX_STRIDED | compute << 32
    records[single, 1] = records[single, 1] & ~(FLAG_STRIDED << FLAGS_SHIFT | _LOW_WORD) | head & _LOW_WORD
    return trace.altered(records.reshape(-1))


def as_blocks(trace: Trace, chosen: Rows) -> Trace:
    """Each of the GATHERs and SCATTERs chosen is a LOAD or STORE of as many bytes in one piece."""
    records = _records(trace).copy()
    places = np.flatnonzero(chosen)
    if not places.size:
        return trace
    store = trace_columns.kinds(records)[places] == Kind.SCATTER
    amounts = np.minimum(trace_columns.amounts(records)[places] * trace_columns.payloads(records)[places], MAX_AMOUNT)
    _set_address(records, places, _addresses(amounts))
    _set_kind(records, places, np.where(store, int(Kind.STORE), int(Kind.LOAD)))
    _set_amount(records, places, amounts)
    return trace.altered(records.reshape(-1))


def grouped(trace: Trace, chosen: Rows, times: int) -> Trace:
    """So many of the LOADs and STOREs chosen, one behind the other in a program, are one that moves as much."""
    records = _records(trace).copy()
    places = np.flatnonzero(chosen)
    programs = np.searchsorted(trace.starts, places, side="right")
    amounts = trace_columns.amounts(records)[places]
    # Of each program and instruction by itself: a group never mixes loads with stores.
    order = np.lexsort((places, trace_columns.instructions(records)[places], programs))
    places, amounts, programs = places[order], amounts[order], programs[order]
    numbers = trace_columns.instructions(records)[places]
    begins = np.ones(len(places), np.bool_)
    begins[1:] = (programs[1:] != programs[:-1]) | (numbers[1:] != numbers[:-1])
    position = np.arange(len(places)) - np.maximum.accumulate(np.where(begins, np.arange(len(places)), 0))
    first = position % times == 0
    sums = np.minimum(np.add.reduceat(amounts, np.flatnonzero(first)), MAX_AMOUNT) if places.size else amounts
    _set_amount(records, places, np.zeros_like(places))
    leaders = places[first]
    _set_amount(records, leaders, sums)
    extended = trace_columns.flags(records)[leaders] & FLAG_EXTENT != 0
    extents = leaders[extended] + 1
    counts = records[extents, 0] >> 32 & _LOW_WORD
    segment = sums[extended] // np.maximum(counts * (records[extents, 2] & 0xFFFF), 1)
    records[extents, 0] = segment | counts << 32
    return trace.altered(records.reshape(-1))


def free(trace: Trace, chosen: Rows) -> Trace:
    """The operations chosen take no time: transfers have no bytes, scalar accesses and atomics are done at once."""
    records = _records(trace).copy()
    places = np.flatnonzero(chosen)
    kinds = trace_columns.kinds(records)[places]
    transfers = places[kinds <= Kind.MOVE]
    _set_amount(records, transfers, np.zeros_like(transfers))
    blocking = places[np.isin(kinds, [Kind.SCALAR_LOAD, Kind.SCALAR_STORE, Kind.ATOMIC_SCALAR])]
    _set_kind(records, blocking, np.full_like(blocking, int(Kind.LOCAL)))
    return trace.altered(records.reshape(-1))


def without_waits(trace: Trace, queues_by_instruction: dict[int, int]) -> Trace:
    """The SYNCs of some instructions do not wait for the queues of a mask."""
    records = _records(trace).copy()
    syncs = np.flatnonzero(rows_of(trace, [Kind.SYNC], queues_by_instruction))
    masks = np.zeros(max(queues_by_instruction, default=0) + 1, np.int64)
    for number, mask in queues_by_instruction.items():
        masks[number] = mask
    kept = trace_columns.amounts(records)[syncs] & ~masks[trace_columns.instructions(records)[syncs]]
    _set_amount(records, syncs, kept)
    return trace.altered(records.reshape(-1))


def with_compute(trace: Trace, share: float) -> Trace:
    """Vector and tensor instructions take that share of their cycles."""
    records = _records(trace).copy()
    chosen = _with_compute(records)
    compute, head = _compute(records[chosen])
    # The head is compute behind what was issued before it; its issue part stays.
    scaled = (compute * share).astype(np.int64)
    _set_compute(records, chosen, scaled, np.maximum(head - compute, 0) + scaled)
    return trace.altered(records.reshape(-1))


def without_issue(trace: Trace) -> Trace:
    """Scalar work and the issue of instructions take no time."""
    records = _records(trace).copy()
    computing = _with_compute(records)
    compute, _ = _compute(records[computing])
    _set_compute(records, computing, compute, compute)
    extents = trace_columns.extent_records(records)
    strided = ~extents & (trace_columns.flags(records) & FLAG_STRIDED != 0)
    records[strided, 0] &= ~MAX_STRIDED
    records[~extents & ~strided, 0] &= ~_LOW_WORD
    return trace.altered(records.reshape(-1))


def repeated(trace: Trace, times: int) -> Trace:
    """So many launches in one: each further one of the same programs works on memory of its own."""
    records = _records(trace)
    addressed = rows_of(trace, [Kind.LOAD, Kind.STORE, Kind.SCALAR_LOAD, Kind.SCALAR_STORE, Kind.ATOMIC_SCALAR])
    addressed &= trace_columns.payloads(records) < LOCAL_START
    highest = int(trace_columns.payloads(records)[addressed].max(initial=0))
    distance = 1 << (highest + 1).bit_length()
    times = max(min(times, LOCAL_START // distance), 1)
    parts: list[Words] = []
    for number in range(times):
        part = records.copy()
        part[addressed, 2] += number * distance
        parts.append(part.reshape(-1))
    starts = np.concatenate([trace.starts + number * trace.records for number in range(times)])
    return trace.altered(np.concatenate(parts), starts)


def first_programs(trace: Trace, programs: int) -> Trace:
    """The first so many programs alone."""
    traces = programs * trace.cores_per_program
    if traces >= len(trace.starts):
        return trace
    return trace.altered(trace.words[: int(trace.starts[traces]) * RECORD_WORDS], trace.starts[:traces])


def _records(trace: Trace) -> Words:
    return trace.words.reshape(-1, RECORD_WORDS)


def _with_compute(records: Words) -> Rows:
    """The records with vector or tensor instructions before them."""
    _, head = _compute(records)
    return ~trace_columns.extent_records(records) & (head != NO_COMPUTE)


def _compute(records: Words) -> tuple[Words, Words]:
    """Compute cycles and head of each record."""
    strided = trace_columns.flags(records) & FLAG_STRIDED != 0
    compute = np.where(strided, records[:, 1] >> STRIDED_COMPUTE_SHIFT & MAX_STRIDED, records[:, 0] >> 32 & _LOW_WORD)
    head = records[:, 0] >> STRIDED_HEAD_SHIFT & MAX_STRIDED
    own = ((records[:, 1] & _LOW_WORD) ^ 1 << 31) - (1 << 31)
    return compute, np.where(strided, np.where(head == 0, NO_COMPUTE, head), own)


def _set_compute(records: Words, chosen: Rows, compute: Words, head: Words) -> None:
    """Let records have other compute cycles and heads, none of them larger than before."""
    strided = trace_columns.flags(records) & FLAG_STRIDED != 0
    of_strided = strided[chosen]
    rows = chosen & ~strided
    records[rows, 0] = records[rows, 0] & _LOW_WORD | compute[~of_strided] << 32
    records[rows, 1] = records[rows, 1] & ~_LOW_WORD | head[~of_strided]
    rows = chosen & strided
    records[rows, 0] = records[rows, 0] & ~(MAX_STRIDED << STRIDED_HEAD_SHIFT) | head[of_strided] << STRIDED_HEAD_SHIFT
    kept = records[rows, 1] & ~(MAX_STRIDED << STRIDED_COMPUTE_SHIFT)
    records[rows, 1] = kept | compute[of_strided] << STRIDED_COMPUTE_SHIFT


def _addresses(amounts: Words) -> Words:
    """Places for transfers of so many bytes, none of which shares a line with another."""
    pieces = -(-amounts // _PIECE_BYTES) * _PIECE_BYTES
    return _ELSEWHERE + np.cumsum(pieces) - pieces


def _set_address(records: Words, places: Words, addresses: Words) -> None:
    records[places, 2] = records[places, 2] & ~MAX_ADDRESS | addresses


def _set_amount(records: Words, places: Words, amounts: Words) -> None:
    records[places, 1] = records[places, 1] & (1 << AMOUNT_SHIFT) - 1 | amounts << AMOUNT_SHIFT


def _set_kind(records: Words, places: Words, kinds: Words) -> None:
    cleared = ~(KIND_MASK << KIND_SHIFT | FLAGS_MASK << FLAGS_SHIFT)
    records[places, 1] = records[places, 1] & cleared | kinds << KIND_SHIFT


# Addresses fill what instructions leave of their word.
assert MAX_ADDRESS.bit_length() == INSTRUCTION_SHIFT
