"""The work bound: the least time that the work of a launch needs on a machine, however it is compiled.

    launch floor + max(DRAM, tensor units, vector units), each as if it alone were there and all cores shared it evenly

* Launch floor: that of one wave of tasks, as any work could be launched.
* DRAM: bytes of every granule that is loaded, once, and of every granule that is stored, once, at the rate that long
  bursts reach. It does not matter whether tiles, items of gathers and scatters, atomics or scalar accesses touch it; an
  atomic loads and stores. A launch for cycles alone knows no addresses of items, which then count for nothing. Granules
  that may have been stored before any program loads them, and lie in the L2 since, count as stored alone. They have not
  been if whoever stores there loads the same box before.
* Tensor units: the multiply-accumulates at the fastest rate of the types that the program multiplies, without
  rounding up to granules, fill or drain.
* Vector units: the element-wise operations and reductions as if all of them stood in full chains, and their elements
  filled all lanes: those that may be chained cost a share of ``1 / MAXIMUM_CHAIN_STEPS``, and so do reductions, which
  another compilation might do as chained additions of whole tiles; divisions and transcendental functions cost what
  they take. Copies, fills, rearrangements, exchanges of elements and steps that are done again are left out: another
  compilation might not need them.

Transfers to and from local memory are left out: another compilation might not need them.

It assumes that the program does no arithmetic beyond what its kernel asks for, that nothing lies in the L2 at the
start, and that no item is gathered where another one was scattered. Boxes that are loaded to be stored again do not
count as loaded; those around what masks choose of loads do, and so does all of a small table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.diagnostics import Location
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import Counter
from mlutriton.isa.program import LOADS_FOR_STORES, Program
from mlutriton.isa.table import MAXIMUM_CHAIN_STEPS
from mlutriton.isa.trace_format import (
    FLAG_EXTENT,
    FLAG_STRIDED,
    LOCAL_START,
    MAX_INSTRUCTION,
    MAX_STRIDED,
    RECORD_WORDS,
    STRIDE_SHIFT,
    Kind,
)
from mlutriton.simulator import trace_columns
from mlutriton.simulator.touched_memory import TouchedMemory

Words = NDArray[np.int64]

# Bytes of the vector unit's lanes that count as the share of a full chain, in full, and not at all.
_CHAINED = (Counter.VECTOR_SIMPLE_BYTES, Counter.VECTOR_FMA_BYTES, Counter.VECTOR_REDUCTION_BYTES)
_WHOLE = (Counter.VECTOR_DIVIDE_BYTES, Counter.VECTOR_SPECIAL_BYTES)
_LEFT_OUT = (Counter.VECTOR_OTHER_BYTES,)
VECTOR_COUNTERS = tuple(sorted((*_CHAINED, *_WHOLE, *_LEFT_OUT)))
assert set(VECTOR_COUNTERS) == {counter for counter in Counter if counter.name.startswith("VECTOR_")}

# Records of addresses of DRAM, by what they do there.
_LOADING = (Kind.LOAD, Kind.SCALAR_LOAD, Kind.ATOMIC_SCALAR)
_STORING = (Kind.STORE, Kind.SCALAR_STORE, Kind.ATOMIC_SCALAR)
_NO_GRANULES = np.zeros(0, np.int64)

# Segments that are laid out at a time, to bound the memory that this takes.
_SEGMENTS_AT_ONCE = 1 << 21

# A range of granules is one word: its first, and in these low bits how many follow.
_FOLLOW_BITS = 24
_FOLLOW_MASK = (1 << _FOLLOW_BITS) - 1


@dataclass(frozen=True)
class WorkBound:
    """The parts of the work bound.

    Units: cycles, of the whole chip; bytes of DRAM.
    """

    launch_cycles: int
    dram_cycles: int
    tensor_cycles: int
    vector_cycles: int
    loaded_bytes: int
    stored_bytes: int

    @property
    def cycles(self) -> int:
        """The bound itself."""
        return self.launch_cycles + max(self.dram_cycles, self.tensor_cycles, self.vector_cycles)


def work_bound(
    trace: Iterable[Words],
    counters: Sequence[int],
    program: Program,
    machine: Machine,
    touched: TouchedMemory | None = None,
) -> WorkBound:
    """The work bound of a launch.

    Args:
        trace: the records of all its programs, in pieces of any number of programs.
        counters: work done, by ``Counter``.
        program: what was run.
        machine: where.
        touched: DRAM that items touched, if known.
    """
    loaded_bytes, stored_bytes = unique_bytes(trace, machine.dram_granule_bytes, touched, _loading_for_stores(program))
    rate = max((machine.peak_mac_per_cycle(each) for each in _multiplied_types(program)), default=0)
    vector_bytes = sum(counters[each] for each in _CHAINED) // MAXIMUM_CHAIN_STEPS
    vector_bytes += sum(counters[each] for each in _WHOLE)
    return WorkBound(
        machine.cycles_from_ns(machine.launch_device_ns),
        int((loaded_bytes + stored_bytes) / machine.dram_bytes_per_cycle),
        counters[Counter.MACS] // rate if rate else 0,
        vector_bytes // (machine.vector_bytes_per_cycle * machine.cores),
        loaded_bytes,
        stored_bytes,
    )


def _multiplied_types(program: Program) -> set[Any]:
    return {each.dtypes[0] for each in program.instructions if each.row.name == "mm"}


def _loading_for_stores(program: Program) -> list[int]:
    """The numbers of instructions that load what a store leaves as it is: they stand where it does in the kernel.

    Loads of a program in assembly may stand where a store does as well, and are its own.
    """
    if not program.metadata.get(LOADS_FOR_STORES):
        return []
    places: dict[str, set[Location]] = {"LOAD": set(), "STORE": set()}
    for each in program.instructions:
        if each.row.trace in places and each.location.column:
            places[each.row.trace].add(each.location)
    shared = places["LOAD"] & places["STORE"]
    numbered = enumerate(program.instructions[:MAX_INSTRUCTION])
    return [number for number, each in numbered if each.row.trace == "LOAD" and each.location in shared]


def unique_bytes(
    trace: Iterable[Words], granule_bytes: int, touched: TouchedMemory | None = None, left_out: Sequence[int] = ()
) -> tuple[int, int]:
    """Bytes of the DRAM granules that are loaded, and that are stored, each granule counted once.

    Args:
        trace: the records of all programs of a launch, in pieces of any number of programs.
        granule_bytes: of the DRAM.
        touched: DRAM that items touched, if known.
        left_out: numbers of instructions of which the loads do not count.
    """
    loaded, stored = (
        touched.granules(granule_bytes, write=write) if touched else _NO_GRANULES for write in (False, True)
    )
    # An item of an atomic is loaded first.
    fresh = np.setdiff1d(stored, loaded, assume_unique=True)
    loads, news, updates = (_merged(each << _FOLLOW_BITS) for each in (loaded, fresh, np.intersect1d(stored, loaded)))
    for words in trace:
        records = words.reshape(-1, RECORD_WORDS)
        kinds, is_record = trace_columns.kinds(records), ~trace_columns.extent_records(records)
        # Loads to the SRAM come from DRAM too; moves between memories on the chip are of another kind.
        on_dram = is_record & (trace_columns.payloads(records) < LOCAL_START)
        if left_out:
            on_dram &= (kinds != Kind.LOAD) | ~np.isin(trace_columns.instructions(records), left_out)
        places = np.flatnonzero(on_dram & np.isin(kinds, (*_LOADING, *_STORING)))
        boxes, programs = _boxes(records, places), np.cumsum(is_record & (kinds == Kind.END))[places]
        is_load, is_store = (np.isin(kinds[places], touching) for touching in (_LOADING, _STORING))
        is_new = is_store & _begin_with_stores(boxes, programs, is_load)
        loads, news, updates = (
            _with_boxes(ranges, _joined(_distinct(boxes.choose(chosen)), granule_bytes), granule_bytes)
            for ranges, chosen in ((loads, is_load), (news, is_new), (updates, is_store & ~is_new))
        )
    loaded_granules = _count(_merged(np.concatenate((loads, news)))) - _count(news)
    stored_granules = _count(_merged(np.concatenate((news, updates))))
    return loaded_granules * granule_bytes, stored_granules * granule_bytes


def _count(ranges: Words) -> int:
    """How many granules there are in ranges that are apart."""
    return int(((ranges & _FOLLOW_MASK) + 1).sum())


@dataclass(frozen=True)
class _Boxes:
    """Boxes of memory, column by column: ``count2`` planes of ``count1`` segments of so many bytes.

    Units: addresses and strides in bytes.
    """

    address: Words
    segment: Words
    count1: Words
    stride1: Words
    count2: Words
    stride2: Words

    def columns(self) -> tuple[Words, ...]:
        return self.address, self.segment, self.count1, self.stride1, self.count2, self.stride2

    def choose(self, chosen: Any) -> _Boxes:
        """The boxes at these places."""
        return _Boxes(*(column[chosen] for column in self.columns()))


def _boxes(records: Words, places: NDArray[np.int64]) -> _Boxes:
    """What the transfers at these places touch."""
    chosen = records[places]
    flags, size = trace_columns.flags(chosen), trace_columns.amounts(chosen)
    ones, zeros = np.ones(len(places), np.int64), np.zeros(len(places), np.int64)
    boxes = _Boxes(trace_columns.payloads(chosen), size, ones, zeros, ones.copy(), zeros.copy())
    strided = np.flatnonzero(flags & FLAG_STRIDED)
    boxes.count1[strided] = chosen[strided, 1] & MAX_STRIDED
    boxes.stride1[strided] = chosen[strided, 0] >> STRIDE_SHIFT
    boxes.segment[strided] //= boxes.count1[strided]
    shaped = np.flatnonzero(flags & FLAG_EXTENT)
    sizes, stride1, plane = records[places[shaped] + 1].T
    boxes.segment[shaped], boxes.count1[shaped] = sizes & 0xFFFFFFFF, (sizes >> 32) & 0xFFFFFFFF
    boxes.stride1[shaped] = stride1
    boxes.count2[shaped], boxes.stride2[shaped] = plane & 0xFFFF, plane >> 16
    return boxes


def _distinct(boxes: _Boxes) -> _Boxes:
    """The boxes without the repetitions: programs of a grid load the same tiles over and over."""
    order, begins = _alike(boxes.columns())
    return boxes.choose(order[begins])


def _begin_with_stores(boxes: _Boxes, programs: Words, is_load: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of each box whether its program does not load it before it stores there.

    Args:
        boxes: in the order in which programs move them.
        programs: whose they are.
        is_load: whether they are loaded.
    """
    order, begins = _alike((programs, *boxes.columns()))
    found = np.zeros(len(order), np.bool_)
    found[order] = ~is_load[order[begins]][np.cumsum(begins) - 1]
    return found


def _alike(columns: Sequence[Words]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """An order that puts rows that are equal together, the first of them first; and where others begin."""
    # Equal rows have equal keys and so come together; that other rows may have that key too does no harm.
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        key *= 0x2545F4914F6CDD1D
        key += column
    order = np.argsort(key, kind="stable")
    begins = np.ones(len(key), np.bool_)
    begins[1:] = np.logical_or.reduce([column[order[1:]] != column[order[:-1]] for column in columns])
    return order, begins


def _joined(boxes: _Boxes, granule_bytes: int) -> _Boxes:
    """The boxes that are not empty, with segments made one where no whole granule lies between them."""
    boxes = boxes.choose((boxes.segment > 0) & (boxes.count1 > 0) & (boxes.count2 > 0))
    # The axis of the smaller stride goes first: along it segments lie close. An axis of one segment has no stride.
    stride1, stride2 = (
        np.where(counts == 1, 0, strides)
        for counts, strides in ((boxes.count1, boxes.stride1), (boxes.count2, boxes.stride2))
    )
    swap = np.abs(stride2) < np.abs(stride1)
    inner = [np.where(swap, boxes.count2, boxes.count1), np.where(swap, stride2, stride1)]
    outer = [np.where(swap, boxes.count1, boxes.count2), np.where(swap, stride1, stride2)]
    address, segment = boxes.address, boxes.segment
    joined = np.ones(len(address), np.bool_)
    for axis in (inner, outer):
        counts, strides = axis
        # A negative stride counts from its lowest segment.
        address = address + np.minimum((counts - 1) * strides, 0)
        strides = np.abs(strides)
        whole = segment + (counts - 1) * strides
        joined = joined & (strides - segment < granule_bytes) & (whole <= _FOLLOW_MASK)
        segment = np.where(joined, whole, segment)
        axis[:] = np.where(joined, 1, counts), strides
    return _Boxes(address, segment, *inner, *outer)


def _with_boxes(ranges: Words, boxes: _Boxes, granule_bytes: int) -> Words:
    """Ranges of granules, and those in which boxes lie."""
    batch: Words = np.cumsum(boxes.count1 * boxes.count2) // _SEGMENTS_AT_ONCE
    for number in range(int(batch[-1]) + 1 if batch.size else 0):
        starts, sizes = _segments(boxes.choose(batch == number))
        first = starts // granule_bytes
        follow = (starts + sizes - 1) // granule_bytes - first
        ranges = _merged(np.concatenate((ranges, first << _FOLLOW_BITS | follow)))
    return ranges


def _segments(boxes: _Boxes) -> tuple[Words, Words]:
    """Addresses and sizes of all segments of the boxes."""
    total = boxes.count1 * boxes.count2
    if (total == 1).all():
        return boxes.address, boxes.segment
    number = np.arange(int(total.sum())) - np.repeat(np.cumsum(total) - total, total)
    plane, row = np.divmod(number, np.repeat(boxes.count1, total))
    along_rows, along_planes = row * np.repeat(boxes.stride1, total), plane * np.repeat(boxes.stride2, total)
    starts = np.repeat(boxes.address, total) + along_rows + along_planes
    return starts, np.repeat(boxes.segment, total)


def _merged(ranges: Words) -> Words:
    """Disjoint ranges, in order, that hold what these ranges hold; as few as there can be of those that are kept."""
    if not ranges.size:
        return ranges
    ranges = np.sort(ranges)
    first = ranges >> _FOLLOW_BITS
    last = np.maximum.accumulate(first + (ranges & _FOLLOW_MASK))
    begins = np.ones(len(ranges), np.bool_)
    begins[1:] = first[1:] > last[:-1] + 1
    first, last = first[begins], last[np.append(begins[1:], np.True_)]
    if int((last - first).max()) > _FOLLOW_MASK:
        first, last = _divided(first, last)
    return first << _FOLLOW_BITS | (last - first)


def _divided(first: Words, last: Words) -> tuple[Words, Words]:
    """Ranges of which none has more granules than can be kept."""
    pieces = (last - first >> _FOLLOW_BITS) + 1
    number = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = np.repeat(first, pieces) + (number << _FOLLOW_BITS)
    return begin, np.minimum(begin + _FOLLOW_MASK, np.repeat(last, pieces))
