"""Traces of large grids: programs that do the same at other addresses share their records.

The trace of a program that has no task to itself grows with the grid, although most programs take the same path and
differ in where their tiles lie: each array that a program goes through moves by a distance of its own. So the records
of one program stand for all of its class, and of every other one only those distances are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.trace_format import KIND_MASK, RECORD_WORDS, Kind
from mlutriton.simulator import trace_columns
from mlutriton.simulator.replay import StoredTrace, Trace
from mlutriton.simulator.replay import Words as Column

Words = NDArray[np.int64]

_ADDRESSED = (Kind.LOAD, Kind.STORE, Kind.SCALAR_LOAD, Kind.SCALAR_STORE, Kind.ATOMIC_SCALAR)
_HAS_ADDRESS = np.isin(np.arange(KIND_MASK + 1), _ADDRESSED)
# Classes that look alike but for what moves together; programs that are of none of so many are kept whole.
_MOST_ALIKE = 8
# Programs of one path in a part of a grid that are worth a class.
_LEAST_MEMBERS = 4
_PIECE_RECORDS = 1 << 19
_MIXERS = (0x1E3779B97F4A7C15, 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D, 0x14057B7EF767814F)


class SharedTrace(Trace):
    """A trace that is kept by classes; ``words`` and ``starts`` write it out when they are first asked for."""

    def __init__(self, stored: StoredTrace, sizes: Words, cores_per_program: int) -> None:
        """Take over what was kept.

        Args:
            stored: records of classes, and of each core of each program where they are and what moves.
            sizes: records of each core of each program.
            cores_per_program: as of any trace.
        """
        self.__dict__.update(cores_per_program=cores_per_program, _stored=stored, _sizes=sizes)

    @property
    def stored(self) -> StoredTrace:
        """What is kept."""
        return self.__dict__["_stored"]

    @property
    def records(self) -> int:
        """Records of all programs."""
        return int(self.__dict__["_sizes"].sum())

    @property
    def programs(self) -> int:
        """Programs of the launch."""
        return len(self.stored.starts) // self.cores_per_program

    @cached_property
    def starts(self) -> Column:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of each program and core, the number of its first record in ``words``."""
        sizes = self.__dict__["_sizes"]
        return np.cumsum(sizes) - sizes

    @cached_property
    def words(self) -> Column:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The words of all records."""
        return _column(list(self.pieces()))

    def pieces(self) -> Iterator[Column]:
        """The words of all records, of some programs at a time."""
        stored, sizes = self.stored, self.__dict__["_sizes"]
        piece: Words = np.cumsum(sizes) // _PIECE_RECORDS
        bounds = np.flatnonzero(np.diff(piece, prepend=-1, append=-1))
        for first, last in pairwise(bounds.tolist()):
            counts = sizes[first:last]
            rows = np.repeat(np.arange(first, last), counts)
            places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + stored.starts[rows]
            records = stored.words.reshape(-1, RECORD_WORDS)[places]
            records[:, 2] += stored.offsets[stored.first_offsets[rows] + stored.groups[places]]
            yield records.reshape(-1)


@dataclass
class _Class:
    """Programs with the same records but for addresses.

    Attributes:
        first_record: of those that stand for all.
        records: these, [records, RECORD_WORDS], without addresses.
        addresses: their addresses, 0 of records that have none.
        groups: for each record, which distance it moves by.
        leaders: for each distance, a record that moves by it.
    """

    first_record: int
    records: Words
    addresses: Words
    groups: Words
    leaders: Words


@dataclass
class TraceSharer:
    """Makes a trace of its parts, which it sees in the order of programs."""

    cores_per_program: int
    _words: list[Words] = field(default_factory=list[Words])
    _groups: list[Words] = field(default_factory=list[Words])
    _records: int = 0
    _starts: list[Words] = field(default_factory=list[Words])
    _sizes: list[Words] = field(default_factory=list[Words])
    _offsets: list[Words] = field(default_factory=lambda: [np.zeros(1, np.int64)])
    _offset_count: int = 1
    _first_offsets: list[Words] = field(default_factory=list[Words])
    _classes: dict[int, list[_Class]] = field(default_factory=dict[int, list[_Class]])

    def add(self, words: Words, starts: Words) -> None:
        """Add programs: the words of their records, and the first record of each core."""
        records = words.reshape(-1, RECORD_WORDS)
        sizes = np.diff(starts, append=len(records))
        addresses = _addresses(records)
        bare = records.copy()
        bare[:, 2] -= addresses
        self._starts.append(np.empty(len(starts), np.int64))
        self._first_offsets.append(np.zeros(len(starts), np.int64))
        self._sizes.append(sizes)
        whole = [np.empty(0, np.int64)]
        for key, rows in _alike(bare, starts, sizes):
            left = rows if len(rows) >= _LEAST_MEMBERS or key in self._classes else rows[:0]
            if len(left):
                places: Words = starts[left][:, None] + np.arange(int(sizes[left[0]]))
                left = self._share(key, left, bare, addresses, places)
            whole.append(left if len(rows) >= _LEAST_MEMBERS or key in self._classes else rows)
        self._keep_whole(np.concatenate(whole), records, starts, sizes)

    def _share(self, key: int, rows: Words, bare: Words, addresses: Words, places: Words) -> Words:
        """Let programs that look alike be of classes; returns those that are of none."""
        known = self._classes.setdefault(key, [])
        for each in known:
            fits = self._fitting(each, bare, addresses, places)
            self._enter(each, rows[fits], addresses[places[fits]])
            rows, places = rows[~fits], places[~fits]
            if not len(rows):
                return rows
        if len(rows) < _LEAST_MEMBERS or len(known) == _MOST_ALIKE:
            return rows
        made = self._new_class(bare[places[0]], addresses[places])
        if made is None:
            return rows
        known.append(made)
        fits = self._fitting(made, bare, addresses, places)
        self._enter(made, rows[fits], addresses[places[fits]])
        return rows[~fits]

    def _fitting(self, each: _Class, bare: Words, addresses: Words, places: Words) -> NDArray[np.bool_]:
        """Which programs are of a class."""
        if places.shape[1] != len(each.records):
            return np.zeros(len(places), np.bool_)
        fits = (bare[places] == each.records).all(axis=(1, 2))
        moved = addresses[places] - each.addresses
        expected = moved[:, each.leaders[each.groups]]
        return fits & (moved == expected).all(axis=1)

    def _new_class(self, records: Words, addresses: Words) -> _Class | None:
        """The class of programs with these records and addresses, [programs, records]; None if that saves little."""
        moved = addresses - addresses[0]
        weights = np.arange(1, len(moved) + 1, dtype=np.int64) * _MIXERS[0] | 1
        has_address = addresses[0] != 0
        _, leaders, groups = np.unique((moved * weights[:, None]).sum(axis=0), return_index=True, return_inverse=True)
        if len(leaders) > max(4, np.count_nonzero(has_address) // 2):
            return None
        made = _Class(self._records, records, addresses[0], groups.reshape(-1), leaders)
        whole = records.copy()
        whole[:, 2] += addresses[0]
        self._append(whole, made.groups)
        return made

    def _enter(self, each: _Class, rows: Words, addresses: Words) -> None:
        offsets = (addresses - each.addresses)[:, each.leaders]
        count = len(each.leaders)
        self._starts[-1][rows] = each.first_record
        self._first_offsets[-1][rows] = self._offset_count + np.arange(len(rows)) * count
        self._offsets.append(offsets.reshape(-1))
        self._offset_count += offsets.size

    def _keep_whole(self, rows: Words, records: Words, starts: Words, sizes: Words) -> None:
        rows = np.sort(rows)
        counts = sizes[rows]
        before = np.cumsum(counts) - counts
        self._starts[-1][rows] = self._records + before
        places = np.arange(int(counts.sum())) + np.repeat(starts[rows] - before, counts)
        self._append(records[places], np.zeros(len(places), np.int64))

    def _append(self, records: Words, groups: Words) -> None:
        self._words.append(records.reshape(-1))
        self._groups.append(groups)
        self._records += len(records)

    def trace(self) -> SharedTrace:
        """The trace of all that was added."""
        parts = self._words, self._starts, self._groups, self._offsets, self._first_offsets
        stored = StoredTrace(*map(_column, parts))
        return SharedTrace(stored, _column(self._sizes), self.cores_per_program)


def _column(parts: list[Words]) -> Column:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _addresses(records: Words) -> Words:
    """The address of each record; 0 of those that have none."""
    has_address = ~trace_columns.extent_records(records) & _HAS_ADDRESS[trace_columns.kinds(records)]
    return np.where(has_address, trace_columns.payloads(records), 0)


def _alike(bare: Words, starts: Words, sizes: Words) -> Iterator[tuple[int, Words]]:
    """Programs whose records but for addresses are most probably equal: a key of these records, and the programs."""
    if not len(starts):
        return
    place = np.arange(len(bare)) - np.repeat(starts, sizes)
    mixed = bare[:, 0] * _MIXERS[0] + bare[:, 1] * _MIXERS[1] + bare[:, 2] * _MIXERS[2]
    mixed ^= mixed >> 29
    mixed *= place * _MIXERS[3] | 1
    keys: Words = np.add.reduceat(mixed, starts) + sizes
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order], prepend=keys[order[0]] - 1, append=keys[order[-1]] + 1))
    for first, last in pairwise(bounds.tolist()):
        yield int(keys[order[first]]), order[first:last]
