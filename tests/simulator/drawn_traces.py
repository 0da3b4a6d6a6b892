"""Traces by hand and drawn at random, which no program has left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from mlutriton.isa.machine import Machine
from mlutriton.isa.trace_format import (
    FLAG_BETWEEN_CLUSTERS,
    FLAG_SRAM,
    LOCAL_START,
    WAIT_ALL,
    WAIT_COMPUTE,
    WAIT_IO,
    WAIT_MOVE,
    Extent,
    Kind,
    Record,
)
from mlutriton.simulator.replay import Trace
from tests.language.generated.machines import machines

END = Record(Kind.END)
MEGABYTE = 1 << 20


def load(size: int, address: int = 0, **fields: object) -> Record:
    return dataclasses.replace(Record(Kind.LOAD, amount=size, address=address), **fields)


def store(size: int, address: int = 0, **fields: object) -> Record:
    return dataclasses.replace(Record(Kind.STORE, amount=size, address=address), **fields)


def sync(mask: int = WAIT_ALL, **fields: object) -> Record:
    return dataclasses.replace(Record(Kind.SYNC, amount=mask), **fields)


def trace_of(*programs: list[Record], cores_per_program: int = 1) -> Trace:
    words: list[int] = []
    starts: list[int] = []
    for program in programs:
        starts.append(len(words) // 3)
        for record in program:
            words += record.words()
    return Trace(np.array(words, dtype=np.int64), np.array(starts, dtype=np.int64), cores_per_program)


@st.composite
def extents(draw: st.DrawFn) -> Extent:
    return Extent(
        draw(st.sampled_from([4, 64, 200, 512])),
        draw(st.integers(1, 5)),
        draw(st.sampled_from([64, 200, 512, 4096])),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([0, 1024, 10_000])),
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    kinds = [Kind.LOAD, Kind.STORE] * 3 + [kind for kind in Kind if kind not in UNDRAWN]
    kind = draw(st.sampled_from(kinds))
    local = draw(st.sampled_from([(0, 0, None), (9, 0, None), (40, 500, 30), (100, 2000, 2000), (3, 40, -20)]))
    instruction = draw(st.integers(0, 3))
    record = Record(kind, scalar_cycles=local[0], compute_cycles=local[1], instruction=instruction)
    if local[2] is not None:
        record = dataclasses.replace(record, compute_head=local[2])
    if kind in (Kind.LOAD, Kind.STORE):
        start = draw(st.sampled_from([0, 0, LOCAL_START]))
        address = start + draw(st.integers(0, 300)) * draw(st.sampled_from([64, 1000, 4096]))
        extent = draw(st.none() | extents())
        amount = draw(st.sampled_from([0, 1, 4, 100, 4096, 50_000]))
        if extent:
            amount = extent.segment_bytes * extent.count1 * extent.count2
        return dataclasses.replace(record, amount=amount, address=address, extent=extent)
    if kind == Kind.SYNC:
        return dataclasses.replace(record, amount=draw(st.integers(0, WAIT_ALL)))
    if kind == Kind.MOVE:
        flags = draw(st.sampled_from([0, FLAG_SRAM, FLAG_SRAM, FLAG_SRAM | FLAG_BETWEEN_CLUSTERS]))
        return dataclasses.replace(record, amount=draw(st.sampled_from([0, 100, 7000])), flags=flags)
    return dataclasses.replace(record, amount=draw(st.integers(0, 60)), address=draw(st.sampled_from([2, 4, 64, 130])))


UNDRAWN = (Kind.END, Kind.BARRIER_CLUSTER, Kind.BARRIER_UNION)


@st.composite
def traces(draw: st.DrawFn, widths: Sequence[int] = (1, 1, 4, 8)) -> Trace:
    """Programs on so many cores each as one of the widths says."""
    members = draw(st.sampled_from(widths))
    programs: list[list[Record]] = []
    for _ in range(draw(st.integers(1, 5 if members > 1 else 16))):
        # All cores of a task meet at the same barriers.
        barriers = draw(st.lists(st.sampled_from([Kind.BARRIER_CLUSTER, Kind.BARRIER_UNION]), max_size=2))
        for _ in range(members):
            program: list[Record] = []
            for barrier in barriers:
                program += [*draw(st.lists(records(), max_size=5)), Record(barrier, scalar_cycles=3)]
            programs.append([*program, *draw(st.lists(records(), max_size=10)), END])
    return trace_of(*programs, cores_per_program=members)


@st.composite
def alike_programs(draw: st.DrawFn) -> Trace:
    """Programs of two sorts that differ in addresses, which meet in the L2 in any order."""
    several = st.lists(records(), max_size=9) | st.lists(st.sampled_from(ALIKE_RECORDS), max_size=9)
    sorts = [draw(several), draw(several)]
    programs: list[list[Record]] = []
    for _ in range(draw(st.integers(2, 30))):
        distance = draw(st.sampled_from([0, 0, 64, 1000, 4096])) * draw(st.integers(0, 5))
        sort = sorts[draw(st.sampled_from([0, 0, 0, 0, 1]))]
        moved = [
            dataclasses.replace(record, address=record.address + distance)
            if record.kind in (Kind.LOAD, Kind.STORE, Kind.SCALAR_LOAD)
            else record
            for record in sort
        ]
        programs.append([*moved, END])
    return trace_of(*programs)


# Transfers of both queues that wait while others find different things in the L2.
ALIKE_RECORDS = [
    load(3000),
    load(8192, 512, scalar_cycles=9),
    store(3000, 64),
    load(0),
    Record(Kind.MOVE, amount=20_000, scalar_cycles=3),
    Record(Kind.MOVE, amount=400_000),
    Record(Kind.MOVE, amount=100),
    Record(Kind.GATHER, amount=9, address=130),
    sync(WAIT_IO, scalar_cycles=7),
    sync(WAIT_MOVE),
    sync(WAIT_COMPUTE, compute_cycles=900, compute_head=900),
    Record(Kind.LOAD, 64 * 5, 128, extent=Extent(64, 5, 200)),
]


@st.composite
def tiles_of_matrices(draw: st.DrawFn) -> Record:
    """A tile of a grid on one of two matrices, and now and then one that lies across others or is of another grid."""
    matrix, row, column = draw(st.integers(0, 1)), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    width, rows = draw(st.sampled_from([(256, 4), (256, 4), (256, 4), (256, 4), (512, 2), (100, 3)]))
    across = draw(st.sampled_from([0] * 20 + [128, 1024, 60]))
    stride = 1024 if matrix else 32768
    address = (matrix << 20) + row * rows * stride + column * width + across
    kind = draw(st.sampled_from([Kind.LOAD, Kind.LOAD, Kind.STORE]))
    return Record(kind, width * rows, address, extent=Extent(width, rows, stride))


def cut_matrix(widths: list[int], heights: list[int], stride: int, origin: int = MEGABYTE) -> list[tuple[int, Extent]]:
    """Tiles of a matrix, each with its address: all of its rows are cut alike, and so are its columns."""
    return [
        (origin + sum(heights[:row]) * stride + sum(widths[:column]), Extent(widths[column], heights[row], stride))
        for row in range(len(heights))
        for column in range(len(widths))
    ]


# Rows of which tiles leave something over, at the end and below; matrices of the same width that are cut otherwise; and
# rows too long for columns of a line.
CUTS = [
    *cut_matrix([384, 384, 256], [4, 4, 2], 1024),
    *cut_matrix([256] * 4, [4, 4, 2], 1024, 2 * MEGABYTE),
    *cut_matrix([512, 512], [2] * 5, 1024, 3 * MEGABYTE),
    *cut_matrix([80_000, 80_000, 40_000], [4, 2], 200_000, 4 * MEGABYTE),
]
# Other tiles of the second of them, across those.
OTHER_CUTS = [
    *cut_matrix([256] * 4, [2] * 5, 1024, 2 * MEGABYTE),
    *cut_matrix([512, 384, 128], [4, 3, 3], 1024, 2 * MEGABYTE),
]


@st.composite
def strips(draw: st.DrawFn) -> Record:
    """A strip of a row, or some rows of a matrix whose rows begin anywhere; neighbours share lines."""
    row_bytes = draw(st.sampled_from([3108, 4096, 1000]))
    width = draw(st.sampled_from([row_bytes, 1024, 36, 4]))
    rows = draw(st.sampled_from([1, 1, 1, 3, 8]))
    address = draw(st.integers(0, 12)) * row_bytes + draw(st.integers(0, 3)) * width
    kind = draw(st.sampled_from([Kind.LOAD, Kind.LOAD, Kind.STORE]))
    return Record(kind, width * rows, address, extent=Extent(width, rows, row_bytes))


@st.composite
def traces_on_machines(draw: st.DrawFn) -> tuple[Trace, Machine]:
    """Traces with the machine that they are of, of which most will not be built."""
    model = draw(machines)
    cluster = model.cores_per_cluster
    widths = [1, 1, cluster, *([2 * cluster] if model.clusters > 1 else [])]
    return draw(traces(widths) | alike_programs()), model
