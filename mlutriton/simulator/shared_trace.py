"""Traces of large grids: programs that do the same at other addresses share their records.

The trace of a program that has no task to itself grows with the grid, although most programs take the same path and
differ in where their tiles lie: each array that a program goes through moves by a distance of its own. So the records
of one program stand for all of its class. From program to program these distances mostly grow by the same: a *run* of
such programs is kept as one, however long it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.trace_format import KIND_MASK, MAX_ADDRESS, RECORD_WORDS, Kind
from mlutriton.simulator import trace_columns
from mlutriton.simulator.replay import StoredTrace, Trace
from mlutriton.simulator.replay import Words as Column
from mlutriton.simulator.replay.state import (
    RUN_CORE_WORDS,
    RUN_CORES,
    RUN_DISTANCES,
    RUN_PROGRAM,
    RUN_RECORDS,
)

Words = NDArray[np.int64]

_ADDRESSED = (Kind.LOAD, Kind.STORE, Kind.SCALAR_LOAD, Kind.SCALAR_STORE, Kind.ATOMIC_SCALAR)
_HAS_ADDRESS = np.isin(np.arange(KIND_MASK + 1), _ADDRESSED)
# Classes that look alike but for what moves together; programs that are of none of so many are kept whole.
_MOST_ALIKE = 8
# Programs of one path in a part of a grid that are worth a class.
_LEAST_MEMBERS = 4
_PIECE_RECORDS = 1 << 19
_NO_STARTS: Column = np.empty(0, np.int64)
_MIXERS = (0x1E3779B97F4A7C15, 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D, 0x14057B7EF767814F)


class SharedTrace(Trace):
    """A trace that is kept by classes; ``words`` and ``starts`` write it out when they are first asked for."""

    def __init__(self, stored: StoredTrace, cores_per_program: int) -> None:
        """Take over what was kept.

        Args:
            stored: records of classes, and runs of programs.
            cores_per_program: as of any trace.
        """
        self.__dict__.update(cores_per_program=cores_per_program, stored=stored)

    @cached_property
    def _runs(self) -> tuple[Words, Words]:
        """The first program of each run and how many there are behind the last, and [runs, cores, RUN_CORE_WORDS]."""
        members = self.cores_per_program
        rows = self.stored.runs[:-1].reshape(-1, RUN_CORES + members * RUN_CORE_WORDS)
        firsts = np.append(rows[:, RUN_PROGRAM], self.programs)
        return firsts, rows[:, RUN_CORES:].reshape(-1, members, RUN_CORE_WORDS)

    @property
    def records(self) -> int:
        """Records of all programs."""
        firsts, cores = self._runs
        return int(np.diff(firsts) @ cores[:, :, RUN_RECORDS].sum(axis=1))

    @property
    def programs(self) -> int:
        """Programs of the launch."""
        return self.stored.rows // self.cores_per_program

    @cached_property
    def starts(self) -> Column:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of each program and core, the number of its first record in ``words``."""
        firsts, cores = self._runs
        sizes = np.repeat(cores[:, :, RUN_RECORDS], np.diff(firsts), axis=0).reshape(-1)
        return np.cumsum(sizes) - sizes

    @cached_property
    def words(self) -> Column:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The words of all records."""
        return _column(list(self.pieces()))

    def pieces(self) -> Iterator[Column]:
        """The words of all records, of some programs at a time."""
        stored, (firsts, cores) = self.stored, self._runs
        records, moves = stored.words.reshape(-1, RECORD_WORDS), np.arange(stored.moves)
        programs_per_piece = max(1, self.programs * _PIECE_RECORDS // max(self.records, 1))
        for begin in range(0, self.programs, programs_per_piece):
            programs = np.arange(begin, min(begin + programs_per_piece, self.programs))
            runs = np.searchsorted(firsts, programs, side="right") - 1
            start, counts, first = (cores[runs, :, word].reshape(-1) for word in range(RUN_CORE_WORDS))
            members = np.repeat(programs - firsts[runs], self.cores_per_program)
            at_first = first[:, None] + moves
            distances = stored.distances[at_first] + members[:, None] * stored.distances[at_first + stored.moves]
            rows = np.repeat(np.arange(len(counts)), counts)
            places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + start[rows]
            piece = records[places]
            piece[:, 2] += distances[rows, stored.groups[places]]
            yield piece.reshape(-1)


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
    _programs: int = 0
    _runs: list[Words] = field(default_factory=list[Words])
    _first_programs: list[Words] = field(default_factory=list[Words])
    _distances: list[Words] = field(default_factory=list[Words])
    _classes: dict[int, list[_Class]] = field(default_factory=dict[int, list[_Class]])
    _latest: _Class | None = None

    def add(self, words: Words, starts: Words) -> None:
        """Add programs: the words of their records, and the first record of each core."""
        records = words.reshape(-1, RECORD_WORDS)
        sizes = np.diff(starts, append=len(records))
        part = _Part(np.empty(len(starts), np.int64), sizes)
        if not self._is_all_of_latest(part, records):
            self._classify(part, records, starts)
        self._keep_runs(part)

    def _is_all_of_latest(self, part: _Part, records: Words) -> bool:
        """Enter all programs of a part into the class that was made last, if they are of it: most are."""
        latest = self._latest
        if latest is None or not (part.sizes == len(latest.records)).all():
            return False
        by_program = records.reshape(-1, *latest.records.shape)
        addresses = np.where(_have_address(latest.records), by_program[:, :, 2] & MAX_ADDRESS, 0)
        moved = addresses - latest.addresses
        if (
            (by_program[:, :, :2] != latest.records[:, :2]).any()
            or (by_program[:, :, 2] - addresses != latest.records[:, 2]).any()
            or (moved != moved[:, latest.leaders[latest.groups]]).any()
        ):
            return False
        part.enter(latest, np.arange(len(by_program)), addresses)
        return True

    def _classify(self, part: _Part, records: Words, starts: Words) -> None:
        """Find the classes of programs that are not all of one that is known."""
        sizes = part.sizes
        addresses = _addresses(records)
        bare = records.copy()
        bare[:, 2] -= addresses
        whole = [np.empty(0, np.int64)]
        for key, rows in _alike(bare, starts, sizes):
            left = rows if len(rows) >= _LEAST_MEMBERS or key in self._classes else rows[:0]
            if len(left):
                places: Words = starts[left][:, None] + np.arange(int(sizes[left[0]]))
                left = self._share(part, key, left, bare, addresses, places)
            whole.append(left if len(rows) >= _LEAST_MEMBERS or key in self._classes else rows)
        self._keep_whole(part, np.concatenate(whole), records, starts)

    def _share(self, part: _Part, key: int, rows: Words, bare: Words, addresses: Words, places: Words) -> Words:
        """Let programs that look alike be of classes; returns those that are of none."""
        known = self._classes.setdefault(key, [])
        for each in known:
            fits = self._fitting(each, bare, addresses, places)
            part.enter(each, rows[fits], addresses[places[fits]])
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
        part.enter(made, rows[fits], addresses[places[fits]])
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
        made = self._latest = _Class(self._records, records, addresses[0], groups.reshape(-1), leaders)
        whole = records.copy()
        whole[:, 2] += addresses[0]
        self._append(whole, made.groups)
        return made

    def _keep_whole(self, part: _Part, rows: Words, records: Words, starts: Words) -> None:
        rows = np.sort(rows)
        counts = part.sizes[rows]
        before = np.cumsum(counts) - counts
        part.starts[rows] = self._records + before
        places = np.arange(int(counts.sum())) + np.repeat(starts[rows] - before, counts)
        self._append(records[places], np.zeros(len(places), np.int64))

    def _keep_runs(self, part: _Part) -> None:
        """Keep the programs of a part as runs."""
        members = self.cores_per_program
        starts, sizes = part.starts.reshape(-1, members), part.sizes.reshape(-1, members)
        distances = part.distances()
        distances = distances.reshape(len(starts), members * distances.shape[1])
        firsts = _first_of_runs(starts, distances)
        steps = np.zeros((len(firsts), distances.shape[1]), np.int64)
        is_long = np.diff(firsts, append=len(starts)) > 1
        steps[is_long] = distances[firsts[is_long] + 1] - distances[firsts[is_long]]
        shape = len(firsts), members, distances.shape[1] // members
        self._distances.append(np.stack([distances[firsts].reshape(shape), steps.reshape(shape)], axis=2))
        self._runs.append(np.stack([starts[firsts], sizes[firsts]], axis=2))
        self._first_programs.append(self._programs + firsts)
        self._programs += len(starts)

    def _append(self, records: Words, groups: Words) -> None:
        self._words.append(records.reshape(-1))
        self._groups.append(groups)
        self._records += len(records)

    def trace(self) -> SharedTrace:
        """The trace of all that was added."""
        members = self.cores_per_program
        moves = max((each.shape[-1] for each in self._distances), default=1)
        # [runs, cores, first and step, moves]
        distances = np.concatenate(
            [np.zeros((0, members, 2, moves), np.int64), *(_widened(each, moves) for each in self._distances)]
        )
        cores = np.concatenate([np.zeros((0, members, 2), np.int64), *self._runs])
        firsts = _column(self._first_programs)
        goes_on = self._goes_on(firsts, cores, distances)
        firsts, cores, distances = firsts[~goes_on], cores[~goes_on], distances[~goes_on]
        runs = np.empty((len(firsts), RUN_CORES + members * RUN_CORE_WORDS), np.int64)
        runs[:, RUN_PROGRAM] = firsts
        by_core = np.empty((len(firsts), members, RUN_CORE_WORDS), np.int64)
        by_core[:, :, :RUN_DISTANCES] = cores
        by_core[:, :, RUN_DISTANCES] = np.arange(len(firsts) * members).reshape(-1, members) * 2 * moves
        runs[:, RUN_CORES:] = by_core.reshape(runs[:, RUN_CORES:].shape)
        stored = StoredTrace(
            _column(self._words),
            self._programs * members,
            _NO_STARTS,
            _column(self._groups),
            np.append(runs.reshape(-1), self._programs),
            distances.reshape(-1),
            moves,
        )
        return SharedTrace(stored, members)

    def _goes_on(self, firsts: Words, cores: Words, distances: Words) -> NDArray[np.bool_]:
        """Which runs go on with the one before them, as where one part ends and the next begins."""
        goes_on = np.zeros(len(firsts), np.bool_)
        lengths = np.diff(firsts, append=self._programs)
        reached = distances[:-1, :, 0] + lengths[:-1, None, None] * distances[:-1, :, 1]
        same_step = (distances[1:, :, 1] == distances[:-1, :, 1]).all(axis=(1, 2)) | (lengths[1:] == 1)
        goes_on[1:] = (distances[1:, :, 0] == reached).all(axis=(1, 2)) & same_step & (lengths[:-1] > 1)
        goes_on[1:] &= (cores[1:] == cores[:-1]).all(axis=(1, 2))
        return goes_on


@dataclass
class _Part:
    """Programs that are being added: where the records of each core are, how many, and what their addresses move by."""

    starts: Words
    sizes: Words
    _moved: list[tuple[Words, Words]] = field(default_factory=list[tuple[Words, Words]])

    def enter(self, each: _Class, rows: Words, addresses: Words) -> None:
        """Let rows be of a class, as their addresses fit it."""
        self.starts[rows] = each.first_record
        self._moved.append((rows, (addresses - each.addresses)[:, each.leaders]))

    def distances(self) -> Words:
        """By group, [rows, moves]."""
        moves = max((distances.shape[1] for _, distances in self._moved), default=1)
        found = np.zeros((len(self.starts), moves), np.int64)
        for rows, distances in self._moved:
            found[rows, : distances.shape[1]] = distances
        return found


def _first_of_runs(starts: Words, distances: Words) -> Words:
    """The first program of each run, in which all have the same records and are equally far from the one before."""
    programs = len(starts)
    is_like_last, step_changes = np.zeros((2, programs), np.bool_)
    is_like_last[1:] = (starts[1:] == starts[:-1]).all(axis=1)
    steps = np.diff(distances, axis=0)
    step_changes[2:] = (steps[1:] != steps[:-1]).any(axis=1) & is_like_last[2:] & is_like_last[1:-1]
    # Of programs in a row at which the step changes, every other one is the second of a run, whose step it settles.
    places = np.arange(programs)
    before = np.maximum.accumulate(np.where(step_changes, -1, places))
    return np.flatnonzero(~is_like_last | (step_changes & ((places - before) % 2 == 1)))


def _widened(distances: Words, moves: int) -> Words:
    """With zeros for groups that there are not."""
    widths = [(0, 0)] * (distances.ndim - 1) + [(0, moves - distances.shape[-1])]
    return np.pad(distances, widths)


def _column(parts: list[Words]) -> Column:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _addresses(records: Words) -> Words:
    """The address of each record; 0 of those that have none."""
    return np.where(_have_address(records), trace_columns.payloads(records), 0)


def _have_address(records: Words) -> NDArray[np.bool_]:
    """Which records have an address."""
    return ~trace_columns.extent_records(records) & _HAS_ADDRESS[trace_columns.kinds(records)]


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
