"""The trace: what a program leaves behind for the timing replay, a 24-byte record per operation on a shared resource.

A record is three little-endian 64-bit words::

    word 0   scalar_cycles: u32 (bits 0-31)    compute_cycles: u32 (bits 32-63)
    word 1   compute_head: i32 (bits 0-31)     kind: u8 (bits 32-39)     amount: u24 (bits 40-63)
    word 2   payload: u64

The three cycle counts fold all work since the previous record that no other core can see, and the issue of the
record's own operation. With ``s`` the scalar time and ``free`` the time when the compute queue falls free::

    free' = max(free + compute_cycles, s + compute_head)        s' = s + scalar_cycles

``compute_head`` is ``NO_COMPUTE`` if no vector or tensor instruction was issued. ``kind`` says what happens at s':

================  ====================================================  ==========  ==================================
kind              what happens                                          amount      payload
================  ====================================================  ==========  ==================================
END               the program is over when all its queues are empty
LOAD, STORE       IO queue: DRAM to the chip, chip to DRAM              bytes       address: 48 | flags: 16
MOVE              MOVE queue: within the chip                           bytes       0: 48 | flags: 16
GATHER, SCATTER   IO queue: runs of bytes of DRAM, one by one           items       item_bytes
SCALAR_LOAD       the core waits for a word of DRAM
SCALAR_STORE      the core hands a word to DRAM and waits
ATOMIC_SCALAR     the core waits for an atomic on DRAM                              address
ATOMIC_VECTOR     IO queue: atomics on DRAM                             items
SYNC              the core waits for queues, then ``sync_cycles``       queue mask
BARRIER_CLUSTER   the core waits for the cores of its task and cluster
BARRIER_UNION     the core waits for all cores of its task
LOCAL             nothing: the fold alone
================  ====================================================  ==========  ==================================

A LOAD or STORE flagged ``FLAG_EXTENT`` is followed by one EXTENT, the geometry of the transfer, which has no kind of
its own: ``count2`` planes of ``count1`` segments. Strides are between the starts of segments and planes in DRAM::

    word 0   segment_bytes: u32 (bits 0-31)    count1: u32 (bits 32-63)
    word 1   stride1_bytes: i64
    word 2   count2: u16 (bits 0-15)           stride2_bytes: i48 (bits 16-63)

Addresses are those of the device, so that equal launches leave equal traces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

RECORD_WORDS = 3
NO_COMPUTE = -(1 << 31)

MAX_CYCLES = (1 << 31) - 1
MAX_AMOUNT = (1 << 24) - 1
MAX_ADDRESS = (1 << 48) - 1

KIND_SHIFT = 32
AMOUNT_SHIFT = 40
FLAGS_SHIFT = 48


class Kind(IntEnum):
    """What a record stands for; queue operations come first."""

    LOAD = 0
    STORE = 1
    GATHER = 2
    SCATTER = 3
    ATOMIC_VECTOR = 4
    MOVE = 5
    END = 6
    SYNC = 7
    SCALAR_LOAD = 8
    SCALAR_STORE = 9
    ATOMIC_SCALAR = 10
    BARRIER_CLUSTER = 11
    BARRIER_UNION = 12
    LOCAL = 13


# Flags of LOAD, STORE and MOVE.
FLAG_EXTENT = 1  # an EXTENT follows
FLAG_SRAM = 2  # one side is the cluster's SRAM
FLAG_BETWEEN_CLUSTERS = 4  # MOVE: from one cluster's SRAM to another's

# Queue mask of SYNC.
WAIT_IO = 1
WAIT_MOVE = 2
WAIT_COMPUTE = 4
WAIT_ALL = WAIT_IO | WAIT_MOVE | WAIT_COMPUTE


@dataclass(frozen=True)
class Extent:
    """Geometry of a 2-D or 3-D transfer on its DRAM side.

    Units: strides in bytes, between the starts of segments and of planes.
    """

    segment_bytes: int
    count1: int
    stride1_bytes: int
    count2: int = 1
    stride2_bytes: int = 0

    def words(self) -> tuple[int, int, int]:
        """The three words of the EXTENT, as signed 64-bit integers."""
        return (
            _signed(self.segment_bytes | self.count1 << 32),
            self.stride1_bytes,
            _signed(self.count2 | (self.stride2_bytes & MAX_ADDRESS) << 16),
        )


@dataclass(frozen=True)
class Record:
    """One record, unpacked, with the extent that follows it.

    Units: the cycles and amount as the table of this module says.
    """

    kind: Kind
    amount: int = 0
    address: int = 0
    flags: int = 0
    scalar_cycles: int = 0
    compute_cycles: int = 0
    compute_head: int = NO_COMPUTE
    extent: Extent | None = None

    def words(self) -> tuple[int, ...]:
        """The words of the record and its extent, as signed 64-bit integers.

        Raises:
            ValueError: a field does not fit.
        """
        flags = self.flags | (FLAG_EXTENT if self.extent else 0)
        for name, value, limit in (
            ("amount", self.amount, MAX_AMOUNT),
            ("address", self.address, MAX_ADDRESS),
            ("scalar_cycles", self.scalar_cycles, MAX_CYCLES),
            ("compute_cycles", self.compute_cycles, MAX_CYCLES),
        ):
            if not 0 <= value <= limit:
                raise ValueError(f"{name} is {value}; a record holds 0 to {limit}")
        head = self.compute_head & 0xFFFFFFFF
        words = (
            _signed(self.scalar_cycles | self.compute_cycles << 32),
            _signed(head | self.kind << KIND_SHIFT | self.amount << AMOUNT_SHIFT),
            _signed(self.address | flags << FLAGS_SHIFT),
        )
        return words + (self.extent.words() if self.extent else ())


def unpack(words: Sequence[int], first: int = 0) -> Iterator[Record]:
    """The records of words, from the record numbered ``first`` on; the inverse of ``Record.words``."""
    place = first * RECORD_WORDS
    while place < len(words):
        local, middle, payload = (int(word) & (1 << 64) - 1 for word in words[place : place + RECORD_WORDS])
        place += RECORD_WORDS
        extent = None
        kind = Kind(middle >> KIND_SHIFT & 0xFF)
        flags = payload >> FLAGS_SHIFT
        if kind in (Kind.LOAD, Kind.STORE) and flags & FLAG_EXTENT:
            sizes, stride1, plane = (int(word) for word in words[place : place + RECORD_WORDS])
            place += RECORD_WORDS
            extent = Extent(sizes & 0xFFFFFFFF, sizes >> 32 & 0xFFFFFFFF, stride1, plane & 0xFFFF, plane >> 16)
        head = middle & 0xFFFFFFFF
        yield Record(
            kind,
            amount=middle >> AMOUNT_SHIFT,
            address=payload & MAX_ADDRESS,
            flags=flags,
            scalar_cycles=local & 0xFFFFFFFF,
            compute_cycles=local >> 32,
            compute_head=head - (1 << 32) if head >> 31 else head,
            extent=extent,
        )


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
