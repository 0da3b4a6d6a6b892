"""The replay's memory: integer arrays, and the place of every field in them.

Arrays of rows hold one row per core, lane or class; a field of row ``r`` is at ``r * ROW_WORDS + FIELD``. A *lane* is a
DMA queue of a core: lane ``2 * core`` is its IO queue and ``2 * core + 1`` its MOVE queue. A *class* is a set of
transfers that always flow at the same rate.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.simulator.replay.machine_code import IntArray
from mlutriton.simulator.replay.timing import Cause

LANES_PER_CORE = 2
# Event sources of a core, in the order in which they act within a cycle: scalar queue, IO queue, MOVE queue, and one
# that never does, so that all of them are found without a division.
SOURCES_PER_CORE = 4

# Single numbers. The first ones say how large arrays are.
(
    CLASSES,
    RING_ENTRIES,  # a power of two
    TREE_NODES,
    OPENINGS,  # entries of the list of openings; a power of two
    TILE_ROWS,  # rows of tiles
    MOST_TILE_BUCKETS,  # entries of the table of tiles
    REGIONS,  # entries of the table of regions; a power of two
    BLOCK_HEADS,  # entries of the table of chains of blocks of pages; a power of two
    BLOCKS_END,  # behind their last one
    # These say what is replayed.
    GENERATION,  # number of the replay among those in this memory: heads of chains of earlier ones mean nothing
    TRACES,
    CORES_PER_PROGRAM,
    RECORDS,
    MOVES_PER_CORE,  # distances that the addresses of a program move by
    HAS_RUNS,  # whether programs share records
    RUN_WORDS,  # words of a run
    KEEP_PROGRAMS,
    KEEP_EVENTS,
    TILE_BUCKETS,  # entries of the table of tiles that are in use; a power of two
    # All others are zero before a replay.
    NEXT_PROGRAM,
    STATUS,
    RUN,  # place of the run of the latest program
    ALONE_MOST,  # of programs that run alone: cycles of the longest one
    ALONE_SUM,  # and of all of them
    MAKESPAN,  # this and the next three are what a Timing begins with
    READ_BYTES,  # of DRAM, by all cores
    WRITTEN_BYTES,
    HIT_BYTES,
    L2_HELD_LINES,  # lines in it
    L2_MISSING_BYTES,  # of the latest tile: bytes that were not there
    L2_READ_BYTES,  # what DRAM has to read for it
    L2_WRITTEN_BYTES,  # and to write
    FRESH_TILES,  # rows of tiles that have been used
    FREED_TILE,  # the first of those that are free again, each naming the next; 0 if there is none
    NEXT_BLOCK,  # the next row of blocks
    HAS_SHARED_LINES,  # whether a line may be of more than one tile
    HAS_OWNERS,  # whether it is known which of them used it last
    LINES_TO_DROP,  # lines that have to leave, while they do
    FAMILIES,  # families of tiles
    HAS_BROKEN_FAMILY,  # whether tiles of a family that is one no longer have yet to learn it
    STRETCHES,  # whether there are stretches
    LATEST_STRETCH,  # row of the one that began last
    HAS_ATOMICS,  # whether there was a scalar atomic
    MEMORY_CHANGED,  # whether memory classes need new rates before time goes on
    AT_CORE_RATE,  # whether all memory flows have the rate of a core, as only one port group allows
    MEMORY_KEY,  # of the event at which the next flow of a memory class is done; NEVER if there is none
    DUE_SOURCES,  # event sources that act now
    DUE_WORD,  # no word of theirs before this one has any
    FIRST_OPENING,  # number of the first event of the list of openings
    NEXT_OPENING,  # and of the next one that is put there
    SHARED_WORDS,
) = range(51)
FIRST_OF_REPLAY, END_OF_REPLAY = GENERATION, NEXT_PROGRAM

# What a replay ends with.
DONE, RING_FULL, PAGES_FULL, MALFORMED, DEADLOCK = range(5)

# A core.
(
    RECORD,  # the next record; of a core that follows another one, how far its records are behind those of that one
    SCALAR,  # scalar time
    COMPUTE_FREE,  # when its compute queue is empty
    WAIT_MASK,  # queues that it waits for
    REASON,  # why: the kind of the record that it waits at, or RUNNING
    PROGRAM,
    IDLE_SINCE,
    ALIKE,  # cores from this one on that do the same at the same time, see event_loop; 0 if it follows another one
    CORE_WORDS,
) = range(9)
RUNNING = -1

# A lane.
(
    HEAD,  # ring: entries taken
    TAIL,  # ring: entries put
    PHASE,
    FREE,  # when its last transfer was done
    CURRENT,  # record of the transfer under way
    STARTED,
    FLOWING,  # when the first byte of the transfer flows; without bytes, when it is done
    SETUP,  # the part of the transfer's set-up that no earlier transfer hides
    BYTES,
    CLASS,
    WEIGHT,  # DRAM bytes that a byte of the transfer costs, in 1/65536; of all cores that are alike together
    LEAST,  # cycles that its bytes take at the transfer's own greatest rate
    SUM_SETUP,  # these four: time of the transfers since the core last waited for the lane
    SUM_LATENCY,
    SUM_TRANSFER,
    SUM_CONTENTION,
    LANE_WORDS,
) = range(17)
# Phases of a lane: nothing to do, to start a transfer, before its bytes flow, while they flow, a transfer without flow.
IDLE, STARTING, OPENING, STREAMING, FIXED = range(5)

# A class: flows of equal rate. The first classes, one a port group, use DRAM; as many hit the L2; then one a cluster
# uses SRAM.
(
    COUNT,  # flows
    WEIGHTS,  # sum over its flows
    PROGRESS,  # what a flow that was always there would have moved, in 1/65536 byte
    RATE,
    UPDATED,  # when PROGRESS was right
    FIRST,  # where its flows begin among the members
    PORT_LEFT,  # scratch of the sharing, for the port of this class's cluster
    ENTRIES,  # members: one for the flows of cores that are alike
    CLASS_WORDS,
) = range(9)

# A flow of a class, or the flows of cores that are alike: its lane, and the progress of the class at which it is done.
# A class has room for so many times as many as there are lanes: flows are taken from the front, and the others moved
# there when half of the room is behind.
(MEMBER, FINAL, MEMBER_WORDS) = range(3)
MEMBER_SPACE = 2

# A row of statistics: cycles by cause, then these.
(COMPUTE_BUSY, IO_BUSY, MOVE_BUSY, STATISTIC_WORDS) = range(len(Cause), len(Cause) + 4)

# A row of an instruction's stalls: cycles by cause.
STALL_WORDS = len(Cause)

# A row of a program's result: its first core, when it began and ended.
(PROGRAM_CORE, PROGRAM_START, PROGRAM_END, PROGRAM_WORDS) = range(4)

# A tile that has lines in the L2. What is asked for most comes first, in one cache line of the host.
(
    TILE_ADDRESS,
    TILE_NEXT,  # row of the next tile of the same bucket; 0 after the last
    TILE_OLDER,  # row of the tile that was used before it
    TILE_NEWER,  # row of the tile that was used after it; of a free row, the next free one
    TILE_OWNED,  # lines that are there and its own
    TILE_LINES,  # lines that were its own when it was used last
    TILE_DIRTY,  # of a family's tile, its dirty lines; else all if the whole tile has been stored, or 0
    TILE_FAMILY,  # number of its family; 0 if it goes by the map
    TILE_SEGMENT,
    TILE_COUNT1,
    TILE_STRIDE1,
    TILE_COUNT2,
    TILE_STRIDE2,
    TILE_DROPPED,  # where its first line may be that has not left: number of the segment, and of its line
    TILE_FILLER,
    TILE_FILLER_TOO,
    TILE_WORDS,
) = range(17)

# A block of pages: its number, row of the next block of the same chain; and of each of its pages, behind one another, a
# bit for each sector that is valid, a bit for each that is dirty, and the tile that uses it. What a page has is so far
# behind the row of its block plus its number therein.
(BLOCK_NUMBER, BLOCK_NEXT) = range(2)
BLOCK_SHIFT = 3
BLOCK_PAGES = 1 << BLOCK_SHIFT
(PAGE_VALID, PAGE_DIRTY, PAGE_TILE, BLOCK_WORDS) = range(BLOCK_PAGES, 5 * BLOCK_PAGES, BLOCK_PAGES)

# A run of programs that share records: the first of them, then for each of its cores its first record, how many there
# are, and where the distances of the first program begin; those from each program to the next lie behind them.
RUN_PROGRAM, RUN_CORES = range(2)
(RUN_RECORD, RUN_RECORDS, RUN_DISTANCES, RUN_CORE_WORDS) = range(4)

# The head of a chain of tiles or blocks: which replay it is of, and the row of the first one.
GENERATION_SHIFT = 32
ROW_MASK = (1 << GENERATION_SHIFT) - 1

# Words of bits.
WORD_SHIFT = 6
WORD_BITS = 1 << WORD_SHIFT

ATOMIC_ADDRESSES = 4096
FOREVER = (1 << 46) - 1
SLOT_BITS = 16
NEVER = FOREVER << SLOT_BITS


@dataclass(eq=False)
class ReplayState:
    """Everything a replay reads and writes."""

    words: IntArray
    starts: IntArray
    groups: IntArray  # these three as in a StoredTrace
    runs: IntArray
    distances: IntArray
    moves: IntArray  # per core: what its program adds to addresses, by group
    timing: IntArray
    shared: IntArray
    cores: IntArray
    lanes: IntArray
    rings: IntArray  # per lane: record and issue time of the transfers that wait
    classes: IntArray
    members: IntArray  # per class: its flows in the order in which they will be done
    tree: IntArray  # a tournament of event keys, time << SLOT_BITS | slot; children of node n are at 4 * n - 2 and on
    leaves: IntArray  # per event source: its node
    openings: IntArray  # in a ring, the keys of events of queues that prepare a transfer, in order, then NEVER
    due: IntArray  # a bit for each event source that acts now without being in the tree
    tiles: IntArray  # those with lines in the L2; row 0 is both ends of their list
    tile_table: IntArray  # chains of them, by hash of their address
    families: IntArray
    regions: IntArray  # of memory, several in a word: the family whose tiles lie there
    stretches: IntArray
    stretch_regions: IntArray  # the stretches that have memory in a region
    block_heads: IntArray  # chains of blocks of pages, by their number
    pages: IntArray  # of runs of sectors, in blocks; the first is none
    owners: IntArray  # per page: the tile of each line
    atomics: IntArray  # when an address can take its next atomic
    statistics: IntArray
    programs: IntArray
    events: IntArray  # per record, if kept: start and end on its queue, or of the wait
    stalls: IntArray  # per instruction, if events are kept
