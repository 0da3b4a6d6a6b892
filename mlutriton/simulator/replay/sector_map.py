"""What of memory the L2 holds, sector by sector, and which tiles lines belong to.

A sector is what DRAM moves at least; a line has one or more of them. A *page* is a run of sectors, as many as a word
has bits: one word says which of them are valid, another one which are dirty. Pages are kept in *blocks* of neighbours,
which are found by their number in a hash table of chains; rows of blocks without a valid sector are given back when
there are no more rows.

As long as no two tiles share a line, or none has to leave, nobody asks whose a line is. From then on every line that is
there has an owner, the tile that used it last: it is that of its page, or if several tiles have lines there, its own.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.state import (
    BLOCK_HEADS,
    BLOCK_NEXT,
    BLOCK_NUMBER,
    BLOCK_PAGES,
    BLOCK_SHIFT,
    BLOCK_WORDS,
    BLOCKS_END,
    GENERATION,
    GENERATION_SHIFT,
    HAS_OWNERS,
    L2_MISSING_BYTES,
    L2_READ_BYTES,
    L2_WRITTEN_BYTES,
    LINES_TO_DROP,
    NEXT_BLOCK,
    PAGE_DIRTY,
    PAGE_TILE,
    PAGE_VALID,
    PAGES_FULL,
    ROW_MASK,
    STATUS,
    TILE_OWNED,
    ReplayState,
)
from mlutriton.simulator.replay.tile_list import leave_tile
from mlutriton.simulator.replay.timing import GRANULE_SHIFT, LINE_BITS, LINE_SHIFT

PAGE_SHIFT = 6
PAGE_SECTORS = 1 << PAGE_SHIFT
# Heads of neighbouring blocks are neighbours, this many of them.
NEIGHBOURS_SHIFT = 3
# The tile of a page that more than one has used.
SEVERAL = 0

ALL_BUT_THE_SIGN = (1 << 63) - 1


# Words of bits.


@inlined
def bits_between(first: int, stop: int) -> int:
    """A word with the bits from the first one on set, up to the one before ``stop``, which is not the first."""
    mask = -1 << first
    if stop < PAGE_SECTORS:
        mask &= ~(-1 << stop)
    return mask


@inlined
def count_bits(word: int) -> int:
    """How many bits of a word are set."""
    return (word & ALL_BUT_THE_SIGN).bit_count() + (word < 0)


@inlined
def count_lines(state: ReplayState, sectors: int) -> int:
    """How many lines have one of these sectors of a page."""
    for doubling in range(state.timing[LINE_SHIFT] - state.timing[GRANULE_SHIFT]):
        sectors |= sectors >> (1 << doubling)
    return count_bits(sectors & state.timing[LINE_BITS])


# Pages.


@inlined
def chain_of(state: ReplayState, block: int) -> int:
    """The place of the chain in which a block is."""
    key = block >> NEIGHBOURS_SHIFT & 0x3FFFFFFF ^ block >> 33
    return (key * 0x9E3779B1 >> 20 << NEIGHBOURS_SHIFT ^ block) & state.shared[BLOCK_HEADS] - 1


@inlined
def find_page(state: ReplayState, page: int, previous: int) -> int:
    """The row of a page, that behind the row of the page before it if that is known; 0 if there is none."""
    if previous and page & BLOCK_PAGES - 1:
        return previous + 1
    return find_block(state, page)


def find_block(state: ReplayState, page: int) -> int:
    """The row of a page, found by its block; 0 if there is none."""
    block = page >> BLOCK_SHIFT
    head = state.block_heads[chain_of(state, block)]
    row = head & ROW_MASK if head >> GENERATION_SHIFT == state.shared[GENERATION] else 0
    while row and state.pages[row + BLOCK_NUMBER] != block:
        row = state.pages[row + BLOCK_NEXT]
    return row + (page & BLOCK_PAGES - 1) if row else 0


def new_page(state: ReplayState, page: int) -> int:
    """The row of a page whose block had none; that of no page if there is no room."""
    if state.shared[NEXT_BLOCK] == state.shared[BLOCKS_END] and not state.shared[STATUS]:
        give_rows_back(state)
    if state.shared[STATUS]:
        return 0
    row = state.shared[NEXT_BLOCK]
    state.shared[NEXT_BLOCK] = row + BLOCK_WORDS
    state.pages[row + BLOCK_NUMBER] = page >> BLOCK_SHIFT
    for each in range(row, row + BLOCK_PAGES):
        state.pages[each + PAGE_VALID] = 0
        state.pages[each + PAGE_DIRTY] = 0
    enter_chain(state, row)
    return row + (page & BLOCK_PAGES - 1)


@inlined
def enter_chain(state: ReplayState, row: int) -> None:
    """Let a block be found."""
    place = chain_of(state, state.pages[row + BLOCK_NUMBER])
    head = state.block_heads[place]
    state.pages[row + BLOCK_NEXT] = head & ROW_MASK if head >> GENERATION_SHIFT == state.shared[GENERATION] else 0
    state.block_heads[place] = state.shared[GENERATION] << GENERATION_SHIFT | row


def give_rows_back(state: ReplayState) -> None:
    """Move the blocks that have valid sectors together; if they are too many, the replay has to start again."""
    for place in range(state.shared[BLOCK_HEADS]):
        state.block_heads[place] = 0
    kept = BLOCK_WORDS
    row = BLOCK_WORDS
    while row < state.shared[NEXT_BLOCK]:
        valid = 0
        for page in range(row, row + BLOCK_PAGES):
            valid |= state.pages[page + PAGE_VALID]
        if valid:
            for word in range(BLOCK_WORDS):
                state.pages[kept + word] = state.pages[row + word]
            if state.shared[HAS_OWNERS]:
                for page in range(BLOCK_PAGES):
                    if state.pages[row + page + PAGE_TILE] == SEVERAL:
                        for line in range(PAGE_SECTORS):
                            state.owners[first_owner(kept + page) + line] = state.owners[first_owner(row + page) + line]
            enter_chain(state, kept)
            kept += BLOCK_WORDS
        row += BLOCK_WORDS
    state.shared[NEXT_BLOCK] = kept
    if 2 * kept > state.shared[BLOCKS_END]:
        state.shared[STATUS] = PAGES_FULL


# Segments.


@inlined
def use_sectors(state: ReplayState, row: int, first: int, stop: int, absent: int, store: int) -> int:
    """Let sectors of a page be valid, and dirty if they are stored, of which some were not; returns lines that are new.

    Counts what is missing and what DRAM moves as if all of each sector were used.
    """
    mask = bits_between(first, stop)
    valid = state.pages[row + PAGE_VALID]
    granule_shift = state.timing[GRANULE_SHIFT]
    moved = (stop - first if absent == mask else count_bits(absent)) << granule_shift
    state.shared[L2_MISSING_BYTES] += moved
    state.shared[L2_WRITTEN_BYTES if store else L2_READ_BYTES] += moved
    state.pages[row + PAGE_VALID] = valid | mask
    if store:
        state.pages[row + PAGE_DIRTY] |= mask
    if not valid:
        fold = state.timing[LINE_SHIFT] - granule_shift
        return (stop - 1 >> fold) - (first >> fold) + 1
    if mask & ~valid:
        return count_lines(state, valid | mask) - count_lines(state, valid)
    return 0


@inlined
def use_part(state: ReplayState, covered: int, is_valid: int, store: int) -> None:
    """Of a sector that was not there, only so many bytes are used."""
    granule = 1 << state.timing[GRANULE_SHIFT]
    state.shared[L2_MISSING_BYTES] -= granule - covered
    # What a store leaves of a sector has to be there.
    if store and not is_valid:
        state.shared[L2_READ_BYTES] += granule


@inlined
def use_segment(state: ReplayState, tile: int, start: int, size: int, store: int) -> int:
    """Use consecutive bytes; returns how many lines were not there."""
    granule_shift = state.timing[GRANULE_SHIFT]
    begin = start >> granule_shift
    end = (start + size - 1 >> granule_shift) + 1
    before = start - (begin << granule_shift)
    behind = (end << granule_shift) - start - size
    lines = 0
    row = 0
    sector = begin
    whole_pages = 0
    while sector < end:
        page = sector >> PAGE_SHIFT
        first = sector & PAGE_SECTORS - 1
        row = find_page(state, page, row)
        if not row:
            row = new_page(state, page)
        valid = state.pages[row + PAGE_VALID]
        if not (valid | first) and begin < sector < end - PAGE_SECTORS:
            # Pages of this block, up to that of the last sector, as far as nothing of them is there.
            behind_whole = min(end - 1 >> PAGE_SHIFT, (page | BLOCK_PAGES - 1) + 1)
            whole_pages -= page
            while page < behind_whole and not state.pages[row + PAGE_VALID]:
                state.pages[row + PAGE_VALID] = -1
                state.pages[row + PAGE_DIRTY] = -store
                state.pages[row + PAGE_TILE] = tile
                row += 1
                page += 1
            whole_pages += page
            row -= 1
            sector = page << PAGE_SHIFT
            continue
        stop = min(end - (page << PAGE_SHIFT), PAGE_SECTORS)
        present = state.pages[row + PAGE_DIRTY] if store else valid
        absent = bits_between(first, stop) & ~present
        if state.pages[row + PAGE_TILE] != tile:
            share_page(state, tile, row)
        new_lines = 0
        if absent:
            new_lines = use_sectors(state, row, first, stop, absent, store)
            if before | behind:
                last = sector + stop - first - 1
                if before and sector == begin and absent >> first & 1:
                    covered = min((1 << granule_shift) - before, size)
                    use_part(state, covered, valid >> first & 1, store)
                if behind and last == end - 1 and absent >> (stop - 1) & 1 and not (before and last == begin):
                    use_part(state, (1 << granule_shift) - behind, valid >> (stop - 1) & 1, store)
        if state.shared[HAS_OWNERS]:
            if state.pages[row + PAGE_TILE] == tile:
                state.tiles[tile + TILE_OWNED] += new_lines
            else:
                take_lines(state, tile, row, first, stop)
        lines += new_lines
        sector += stop - first
    if whole_pages:
        # Of pages in the middle of which nothing was there.
        moved = whole_pages << PAGE_SHIFT + granule_shift
        state.shared[L2_MISSING_BYTES] += moved
        state.shared[L2_WRITTEN_BYTES if store else L2_READ_BYTES] += moved
        new_lines = whole_pages << PAGE_SHIFT + granule_shift - state.timing[LINE_SHIFT]
        if state.shared[HAS_OWNERS]:
            state.tiles[tile + TILE_OWNED] += new_lines
        lines += new_lines
    return lines


@inlined
def enter_segment(state: ReplayState, tile: int, line: int, stop: int, dirty: int) -> None:
    """Let lines of a tile be there, and be dirty or not; nobody has them."""
    fold = state.timing[LINE_SHIFT] - state.timing[GRANULE_SHIFT]
    while line < stop:
        first = line << fold & PAGE_SECTORS - 1
        lines = min(stop - line, PAGE_SECTORS - first >> fold)
        mask = bits_between(first, first + (lines << fold))
        row = find_page(state, line << fold >> PAGE_SHIFT, 0)
        if not row:
            row = new_page(state, line << fold >> PAGE_SHIFT)
        if state.pages[row + PAGE_TILE] != tile:
            share_page(state, tile, row)
        state.pages[row + PAGE_VALID] |= mask
        if dirty:
            state.pages[row + PAGE_DIRTY] |= mask
        if state.shared[HAS_OWNERS] and state.pages[row + PAGE_TILE] != tile:
            place = first_owner(row) + (first >> fold)
            for other in range(place, place + lines):
                state.owners[other] = tile
        line += lines


def enter_sectors(state: ReplayState, sector: int, end: int, dirty: int) -> None:
    """Let sectors be there, and be dirty or not, of lines that never have to leave."""
    row = 0
    while sector < end:
        first = sector & PAGE_SECTORS - 1
        stop = min(end - sector + first, PAGE_SECTORS)
        row = find_page(state, sector >> PAGE_SHIFT, row)
        if not row:
            row = new_page(state, sector >> PAGE_SHIFT)
        state.pages[row + PAGE_VALID] |= bits_between(first, stop)
        if dirty:
            state.pages[row + PAGE_DIRTY] |= bits_between(first, stop)
        state.pages[row + PAGE_TILE] = SEVERAL
        sector += stop - first


@inlined
def drop_segment(state: ReplayState, tile: int, line: int, stop: int) -> int:
    """Let lines of a tile leave, of consecutive ones, as many as have to; returns the first that was not looked at."""
    fold = state.timing[LINE_SHIFT] - state.timing[GRANULE_SHIFT]
    row = 0
    while line < stop and state.shared[LINES_TO_DROP]:
        first = line << fold & PAGE_SECTORS - 1
        lines = min(stop - line, PAGE_SECTORS - first >> fold)
        row = find_page(state, line << fold >> PAGE_SHIFT, row)
        if not row:
            line += lines
            continue
        has_owners = state.shared[HAS_OWNERS] if state.pages[row + PAGE_TILE] != tile else 0
        if not has_owners:
            # All that is there is the tile's.
            mask = bits_between(first, first + (lines << fold))
            held = count_lines(state, state.pages[row + PAGE_VALID] & mask)
            if held <= state.shared[LINES_TO_DROP]:
                state.pages[row + PAGE_VALID] &= ~mask
                state.pages[row + PAGE_DIRTY] &= ~mask
                state.shared[LINES_TO_DROP] -= held
                line += lines
                continue
        place = first_owner(row) + (first >> fold)
        while lines and state.shared[LINES_TO_DROP]:
            mask = bits_between(first, first + (1 << fold))
            if state.owners[place] == tile if has_owners else state.pages[row + PAGE_VALID] & mask:
                state.pages[row + PAGE_VALID] &= ~mask
                state.pages[row + PAGE_DIRTY] &= ~mask
                state.shared[LINES_TO_DROP] -= 1
                if has_owners:
                    state.owners[place] = 0
            first += 1 << fold
            place += 1
            line += 1
            lines -= 1
    return line


# Owners. If several tiles have used a page, each of its lines has one: the tile that used it last; 0 of other lines.


@inlined
def first_owner(row: int) -> int:
    """The place of the owner of a page's first line."""
    return (row // BLOCK_WORDS << BLOCK_SHIFT | row & BLOCK_PAGES - 1) << PAGE_SHIFT


def share_page(state: ReplayState, tile: int, row: int) -> None:
    """Let a tile have lines in a page that is another one's, of several, or of none."""
    if not state.pages[row + PAGE_VALID]:
        state.pages[row + PAGE_TILE] = tile
    elif state.pages[row + PAGE_TILE] != SEVERAL:
        if state.shared[HAS_OWNERS]:
            set_owners(state, row, state.pages[row + PAGE_TILE])
        state.pages[row + PAGE_TILE] = SEVERAL


def set_owners(state: ReplayState, row: int, tile: int) -> None:
    """Let the lines of a page that are there belong to a tile."""
    fold = state.timing[LINE_SHIFT] - state.timing[GRANULE_SHIFT]
    valid = state.pages[row + PAGE_VALID]
    place = first_owner(row)
    sectors = bits_between(0, 1 << fold)
    for line in range(PAGE_SECTORS >> fold):
        state.owners[place + line] = tile if valid >> (line << fold) & sectors else 0


def own_pages(state: ReplayState) -> None:
    """Let lines belong to the only tile of their page; those of several have no owner yet."""
    block = BLOCK_WORDS
    while block < state.shared[NEXT_BLOCK]:
        for row in range(block, block + BLOCK_PAGES):
            if state.pages[row + PAGE_VALID]:
                tile = state.pages[row + PAGE_TILE]
                if tile == SEVERAL:
                    set_owners(state, row, 0)
                else:
                    state.tiles[tile + TILE_OWNED] += count_lines(state, state.pages[row + PAGE_VALID])
        block += BLOCK_WORDS


@inlined
def take_line(state: ReplayState, tile: int, place: int) -> None:
    """Let a line belong to a tile."""
    other = state.owners[place]
    if other != tile:
        if other:
            leave_tile(state, other)
        state.owners[place] = tile
        state.tiles[tile + TILE_OWNED] += 1


def take_lines(state: ReplayState, tile: int, row: int, first: int, stop: int) -> None:
    """Let the lines of sectors of a page belong to a tile."""
    fold = state.timing[LINE_SHIFT] - state.timing[GRANULE_SHIFT]
    for place in range(first_owner(row) + (first >> fold), first_owner(row) + (stop - 1 >> fold) + 1):
        take_line(state, tile, place)


@inlined
def own_segment(state: ReplayState, tile: int, start: int, size: int) -> None:
    """Let lines of consecutive bytes that are there belong to a tile, if their page is of several."""
    line_shift = state.timing[LINE_SHIFT]
    fold = line_shift - state.timing[GRANULE_SHIFT]
    line = start >> line_shift
    stop = (start + size - 1 >> line_shift) + 1
    row = 0
    while line < stop:
        first = line << fold & PAGE_SECTORS - 1
        lines = min(stop - line, PAGE_SECTORS - first >> fold)
        row = find_page(state, line << fold >> PAGE_SHIFT, row)
        if row and state.pages[row + PAGE_TILE] == SEVERAL:
            place = first_owner(row) + (first >> fold)
            for other in range(lines):
                if state.pages[row + PAGE_VALID] & bits_between(first + (other << fold), first + (other + 1 << fold)):
                    take_line(state, tile, place + other)
        line += lines
