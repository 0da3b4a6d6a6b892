"""The trace: what a program leaves behind for the timing replay, a 24-byte record per operation on a shared resource.

A record is three little-endian 64-bit words::

    word 0   scalar_cycles: u32 (bits 0-31)    compute_cycles: u32 (bits 32-63)
    word 1   compute_head: i32 (bits 0-31)     kind: u4 (bits 32-35)     flags: u4 (36-39)     amount: u24 (40-63)
    word 2   payload: u48 (bits 0-47)          instruction: u16 (bits 48-63)

The three cycle counts fold all work since the previous record that no other core can see, and the issue of the
record's own operation. With ``s`` the scalar time and ``free`` the time when the compute queue falls free::

    free' = max(free + compute_cycles, s + compute_head)        s' = s + scalar_cycles

``compute_head`` is ``NO_COMPUTE`` if no vector or tensor instruction was issued. ``instruction`` is the number of the
instruction that left the record, or ``MAX_INSTRUCTION`` for those from there on. ``kind`` says what happens at s':

================  ====================================================  ==========  ==================================
kind              what happens                                          amount      payload
================  ====================================================  ==========  ==================================
END               the program is over when all its queues are empty
LOAD, STORE       IO queue: DRAM to the chip, chip to DRAM              bytes       address
MOVE              MOVE queue: within the chip                           bytes
GATHER, SCATTER   IO queue: runs of bytes of DRAM, one by one           items       item_bytes
SCALAR_LOAD       the core waits for a word of DRAM                     bytes       address
SCALAR_STORE      the core hands a word to DRAM and waits               bytes       address
ATOMIC_SCALAR     the core waits for an atomic on DRAM                  bytes       address
ATOMIC_VECTOR     IO queue: atomics on runs of bytes of DRAM            items       item_bytes
SYNC              the core waits for queues, then ``sync_cycles``       queue mask
BARRIER_CLUSTER   the core waits for the cores of its task and cluster
BARRIER_UNION     the core waits for all cores of its task
LOCAL             nothing: the fold alone
================  ====================================================  ==========  ==================================

A LOAD or STORE of several segments that are not in one piece has a geometry: ``count2`` planes of ``count1`` segments,
with strides between the starts of segments and of planes in DRAM. If there is one plane, and counts, cycles and stride
are not too large, the record is flagged ``FLAG_STRIDED`` and holds the geometry as well::

    word 0   scalar_cycles: u16 (bits 0-15)    compute_head: u16 (16-31)      stride1_bytes: i32 (32-63)
    word 1   count1: u16 (bits 0-15)           compute_cycles: u16 (16-31)    the rest as above

Here ``compute_head`` is 0 if no vector or tensor instruction was issued.

Otherwise it is flagged ``FLAG_EXTENT`` and followed by one EXTENT, which has no kind of its own::

    word 0   segment_bytes: u32 (bits 0-31)    count1: u32 (bits 32-63)
    word 1   stride1_bytes: i64
    word 2   count2: u16 (bits 0-15)           stride2_bytes: i48 (bits 16-63)

Addresses are those of the device, so that equal launches leave equal traces. From ``LOCAL_START`` on they are of local
memory, that of the first core; every other core's lies ``LOCAL_STRIDE_BYTES`` behind that of the core before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from mlutriton.dtypes import signed

RECORD_WORDS = 3
NO_COMPUTE = -(1 << 31)

MAX_CYCLES = (1 << 31) - 1
MAX_AMOUNT = (1 << 24) - 1
MAX_ADDRESS = (1 << 48) - 1
MAX_INSTRUCTION = (1 << 16) - 1
# Cycles and counts of a record that is flagged FLAG_STRIDED.
MAX_STRIDED = (1 << 16) - 1
MAX_STRIDE_BYTES = (1 << 31) - 1

# No two cores' local memories, and no other address that occurs, look alike to the L2 directory.
LOCAL_START = (1 << 46) + (1 << 41)
LOCAL_STRIDE_BYTES = 1 << 28

KIND_SHIFT = 32
KIND_MASK = 15
FLAGS_SHIFT = 36
FLAGS_MASK = 15
AMOUNT_SHIFT = 40
INSTRUCTION_SHIFT = 48
# Of a record that is flagged FLAG_STRIDED: head and stride in word 0, compute cycles in word 1.
STRIDED_HEAD_SHIFT = 16
STRIDE_SHIFT = 32
STRIDED_COMPUTE_SHIFT = 16


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


assert max(Kind) <= KIND_MASK

# Go through DRAM item by item, where addresses are many: their payload is the size of an item.
ITEM_KINDS = (Kind.GATHER, Kind.SCATTER, Kind.ATOMIC_VECTOR)

# Flags of LOAD, STORE and MOVE.
FLAG_EXTENT = 1  # an EXTENT follows
FLAG_SRAM = 2  # one side is the cluster's SRAM
FLAG_BETWEEN_CLUSTERS = 4  # MOVE: from one cluster's SRAM to another's
FLAG_STRIDED = 8  # the record holds count and stride of its segments itself

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

    @property
    def is_one_piece(self) -> bool:
        """Whether every segment begins where the one before ends: then a record needs no geometry."""
        rows_touch = self.count1 == 1 or self.stride1_bytes == self.segment_bytes
        return rows_touch and (self.count2 == 1 or self.stride2_bytes == self.segment_bytes * self.count1)

    def words(self) -> tuple[int, int, int]:
        """The three words of the EXTENT, as signed 64-bit integers."""
        return (
            signed(self.segment_bytes | self.count1 << 32),
            self.stride1_bytes,
            signed(self.count2 | (self.stride2_bytes & MAX_ADDRESS) << 16),
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
    instruction: int = 0

    def words(self) -> tuple[int, ...]:
        """The words of the record and its extent, as signed 64-bit integers.

        Raises:
            ValueError: a field does not fit.
        """
        for name, value, limit in (
            ("amount", self.amount, MAX_AMOUNT),
            ("address", self.address, MAX_ADDRESS),
            ("scalar_cycles", self.scalar_cycles, MAX_CYCLES),
            ("compute_cycles", self.compute_cycles, MAX_CYCLES),
        ):
            if not 0 <= value <= limit:
                raise ValueError(f"{name} is {value}; a record holds 0 to {limit}")
        extent = self.extent
        instruction = min(self.instruction, MAX_INSTRUCTION)
        payload = signed(self.address | instruction << INSTRUCTION_SHIFT)
        middle = self.kind << KIND_SHIFT | self.amount << AMOUNT_SHIFT
        if extent is not None and self._holds(extent):
            middle |= extent.count1 | self.compute_cycles << STRIDED_COMPUTE_SHIFT
            middle |= (self.flags | FLAG_STRIDED) << FLAGS_SHIFT
            local = self.scalar_cycles | max(self.compute_head, 0) << STRIDED_HEAD_SHIFT
            return local | extent.stride1_bytes << STRIDE_SHIFT, signed(middle), payload
        middle |= self.compute_head & 0xFFFFFFFF | (self.flags | (FLAG_EXTENT if extent else 0)) << FLAGS_SHIFT
        local = signed(self.scalar_cycles | self.compute_cycles << 32)
        return (local, signed(middle), payload, *(extent.words() if extent else ()))

    def _holds(self, extent: Extent) -> bool:
        """Whether the record has room for this geometry itself."""
        return (
            extent.count2 == 1
            and extent.count1 > 1
            and extent.segment_bytes * extent.count1 == self.amount
            and max(extent.count1, self.scalar_cycles, self.compute_cycles) <= MAX_STRIDED
            and (self.compute_head == NO_COMPUTE or 0 < self.compute_head <= MAX_STRIDED)
            and -MAX_STRIDE_BYTES - 1 <= extent.stride1_bytes <= MAX_STRIDE_BYTES
        )


def unpack(words: Sequence[int], first: int = 0) -> Iterator[Record]:
    """The records of words, from the record numbered ``first`` on; the inverse of ``Record.words``."""
    place = first * RECORD_WORDS
    while place < len(words):
        local, middle, payload = (int(word) & (1 << 64) - 1 for word in words[place : place + RECORD_WORDS])
        place += RECORD_WORDS
        kind = Kind(middle >> KIND_SHIFT & KIND_MASK)
        flags = middle >> FLAGS_SHIFT & FLAGS_MASK
        amount, head = middle >> AMOUNT_SHIFT, middle & 0xFFFFFFFF
        scalar_cycles, compute_cycles = local & 0xFFFFFFFF, local >> 32
        extent = None
        if flags & FLAG_STRIDED:
            count1, compute_cycles = head & MAX_STRIDED, head >> STRIDED_COMPUTE_SHIFT
            extent = Extent(amount // count1, count1, signed(local) >> STRIDE_SHIFT)
            scalar_cycles = local & MAX_STRIDED
            head = local >> STRIDED_HEAD_SHIFT & MAX_STRIDED or NO_COMPUTE & 0xFFFFFFFF
        elif kind in (Kind.LOAD, Kind.STORE) and flags & FLAG_EXTENT:
            sizes, stride1, plane = (int(word) for word in words[place : place + RECORD_WORDS])
            place += RECORD_WORDS
            extent = Extent(sizes & 0xFFFFFFFF, sizes >> 32 & 0xFFFFFFFF, stride1, plane & 0xFFFF, plane >> 16)
        yield Record(
            kind,
            amount=amount,
            address=payload & MAX_ADDRESS,
            flags=flags & ~FLAG_STRIDED & ~FLAG_EXTENT,
            scalar_cycles=scalar_cycles,
            compute_cycles=compute_cycles,
            compute_head=head - (1 << 32) if head >> 31 else head,
            extent=extent,
            instruction=payload >> INSTRUCTION_SHIFT,
        )
