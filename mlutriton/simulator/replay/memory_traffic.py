"""What transfers share: the event tree, and the rates of L2, DRAM and ports by capped max-min fairness.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.state import (
    AT_CORE_RATE,
    CLASS_WORDS,
    CLASSES,
    COUNT,
    DUE_SOURCES,
    DUE_WORD,
    FINAL,
    FIRST,
    FIRST_OPENING,
    FOREVER,
    LANES_PER_CORE,
    MEMORY_CHANGED,
    MEMORY_KEY,
    NEVER,
    NEXT_OPENING,
    OPENINGS,
    PORT_LEFT,
    PROGRESS,
    RATE,
    SLOT_BITS,
    SOURCES_PER_CORE,
    UPDATED,
    WEIGHTS,
    WORD_BITS,
    WORD_SHIFT,
    ReplayState,
)
from mlutriton.simulator.replay.timing import (
    CLUSTER_RATE,
    CORE_RATE,
    DRAM_RATE,
    L2_RATE,
    PORT_GROUPS,
    PORTS_BIND,
)

MOST_OVERTAKEN = 8


@inlined
def schedule(state: ReplayState, slot: int, time: int) -> None:
    """Set when an event source acts next; FOREVER for not at all."""
    node = state.leaves[slot]
    key = time << SLOT_BITS | slot if time < FOREVER else NEVER
    if state.tree[node] == key:
        return
    state.tree[node] = key
    # To the root without an early exit: whether a parent changes is what a processor predicts worst.
    while node > 1:
        node += 2
        place = node & 3
        first = node - place - 2
        others = min(state.tree[first + (place ^ 1)], state.tree[first + (place ^ 2)], state.tree[first + (place ^ 3)])
        key = min(key, others)
        node >>= 2
        state.tree[node] = key


@inlined
def lane_slot(state: ReplayState, lane: int) -> int:
    """The event source that a queue is."""
    source = lane // LANES_PER_CORE * SOURCES_PER_CORE + 1 + lane % LANES_PER_CORE
    return state.shared[CLASSES] + source


@inlined
def schedule_lane(state: ReplayState, lane: int, time: int) -> None:
    """Set when a queue acts next."""
    schedule(state, lane_slot(state, lane), time)


# What acts at the very time at which it is told to never enters the tree: a set of event sources, a bit for each.


@inlined
def make_due(state: ReplayState, slot: int) -> None:
    """Let an event source that is not in the tree act now, in its turn."""
    word = slot >> WORD_SHIFT
    state.due[word] |= 1 << (slot & WORD_BITS - 1)
    state.shared[DUE_WORD] = min(state.shared[DUE_WORD], word)
    state.shared[DUE_SOURCES] += 1


@inlined
def first_due(state: ReplayState) -> int:
    """The first event source that acts now, of those that are due."""
    word = state.shared[DUE_WORD]
    while not state.due[word]:
        word += 1
    state.shared[DUE_WORD] = word
    bits = state.due[word]
    return (word << WORD_SHIFT) + (bits & -bits).bit_length() - 1


@inlined
def take_due(state: ReplayState) -> None:
    """The first event source is due no longer."""
    word = state.shared[DUE_WORD]
    state.due[word] &= state.due[word] - 1
    state.shared[DUE_SOURCES] -= 1


# Most transfers that are being prepared will be in about the order in which they began to be: a list of their events in
# order, which the tree would take longer to keep. Those that are far out of order do enter the tree.


@inlined
def first_opening(state: ReplayState) -> int:
    """The key of the first event of the list; NEVER if it is empty."""
    return state.openings[state.shared[FIRST_OPENING] & state.shared[OPENINGS] - 1]


@inlined
def take_opening(state: ReplayState) -> None:
    """Take the first event out of the list."""
    state.shared[FIRST_OPENING] += 1


@inlined
def add_opening(state: ReplayState, key: int) -> int:
    """Put an event into the list; returns whether it was nearly the last, without which it is not put there."""
    mask = state.shared[OPENINGS] - 1
    place = state.shared[NEXT_OPENING]
    oldest = max(state.shared[FIRST_OPENING], place - MOST_OVERTAKEN)
    if place > oldest and state.openings[oldest & mask] > key:
        return 0
    state.shared[NEXT_OPENING] = place + 1
    state.openings[place + 1 & mask] = NEVER
    while place > oldest and state.openings[place - 1 & mask] > key:
        state.openings[place & mask] = state.openings[place - 1 & mask]
        place -= 1
    state.openings[place & mask] = key
    return 1


# Rates.


@inlined
def settle(state: ReplayState, number: int, now: int) -> None:
    """Bring the progress of a class up to now."""
    base = number * CLASS_WORDS
    state.classes[base + PROGRESS] += state.classes[base + RATE] * (now - state.classes[base + UPDATED])
    state.classes[base + UPDATED] = now
    if not state.classes[base + COUNT]:
        state.classes[base + PROGRESS] = 0


@inlined
def end_of_flow(state: ReplayState, number: int) -> int:
    """When the next flow of a class is done, at its present rate."""
    base = number * CLASS_WORDS
    if not state.classes[base + COUNT]:
        return FOREVER
    rate = state.classes[base + RATE]
    left = max(state.members[state.classes[base + FIRST] + FINAL] - state.classes[base + PROGRESS], 0)
    return state.classes[base + UPDATED] + (left + rate - 1) // rate


@inlined
def have_core_rate(state: ReplayState, flows: int, weights: int) -> int:
    """Whether so many memory flows can all have the rate of a core, with DRAM bytes for each of their bytes in all."""
    cap = state.timing[CORE_RATE]
    if state.timing[PORTS_BIND] or flows * cap > state.timing[L2_RATE]:
        return 0
    return weights * cap <= state.timing[DRAM_RATE] << 16


@inlined
def keep_core_rate(state: ReplayState) -> int:
    """Whether all memory flows have had the rate of a core, and still can have it."""
    if not state.shared[AT_CORE_RATE]:
        return 0
    flows = state.classes[COUNT] + state.classes[CLASS_WORDS + COUNT]
    return have_core_rate(state, flows, state.classes[WEIGHTS] + state.classes[CLASS_WORDS + WEIGHTS])


@inlined
def add_memory_flow(state: ReplayState, least: int) -> None:
    """There is a memory flow more, which is not done before ``least``: then, if it takes nothing from any other."""
    if state.shared[MEMORY_CHANGED] or not keep_core_rate(state):
        state.shared[MEMORY_CHANGED] = 1
    else:
        state.shared[MEMORY_KEY] = min(state.shared[MEMORY_KEY], least << SLOT_BITS)


def share_memory(state: ReplayState, now: int) -> None:
    """Give every class of DRAM and L2 flows its rate from now on, and find when the next flow is done."""
    state.shared[MEMORY_CHANGED] = 0
    classes = 2 * state.timing[PORT_GROUPS]
    if not keep_core_rate(state):
        for number in range(classes):
            settle(state, number, now)
        set_rates(state)
    end = FOREVER
    for number in range(classes):
        end = min(end, end_of_flow(state, number))
    state.shared[MEMORY_KEY] = end << SLOT_BITS


def set_rates(state: ReplayState) -> None:
    """Raise the rates of all classes of DRAM and L2 flows together, and stop those that fill a resource.

    Where several resources fill at one level, the flows of all of them stop there.
    """
    groups = state.timing[PORT_GROUPS]
    cap = state.timing[CORE_RATE]
    flows = 0
    weights = 0
    for number in range(2 * groups):
        flows += state.classes[number * CLASS_WORDS + COUNT]
        weights += state.classes[number * CLASS_WORDS + WEIGHTS]
    l2_left = state.timing[L2_RATE]
    dram_left = state.timing[DRAM_RATE] << 16
    state.shared[AT_CORE_RATE] = have_core_rate(state, flows, weights)
    if state.shared[AT_CORE_RATE]:
        state.classes[RATE] = cap
        state.classes[CLASS_WORDS + RATE] = cap
        return
    for number in range(2 * groups):
        state.classes[number * CLASS_WORDS + RATE] = 0
        state.classes[number * CLASS_WORDS + PORT_LEFT] = state.timing[CLUSTER_RATE]
    while flows:
        # A test is quicker than a division, and most levels are above the cap.
        l2_level = cap if flows * cap <= l2_left else l2_left // flows
        dram_level = cap if not weights or weights * cap <= dram_left else dram_left // weights
        level = min(cap, l2_level, dram_level)
        for group in range(groups):
            level = min(level, port_level(state, group, groups, cap))
        level = max(level, 1)
        for group in range(groups):
            port_full = port_level(state, group, groups, cap) <= level
            stopped = 0
            for hits in range(2):
                number = group + hits * groups
                base = number * CLASS_WORDS
                if state.classes[base + RATE] or not state.classes[base + COUNT]:
                    continue
                if level == cap or l2_level <= level or port_full or (not hits and dram_level <= level):
                    state.classes[base + RATE] = level
                    stopped += state.classes[base + COUNT]
                    weights -= state.classes[base + WEIGHTS]
                    dram_left -= level * state.classes[base + WEIGHTS]
            flows -= stopped
            l2_left -= stopped * level
            state.classes[group * CLASS_WORDS + PORT_LEFT] -= stopped * level


@inlined
def port_level(state: ReplayState, group: int, groups: int, cap: int) -> int:
    """The rate at which the flows of a cluster that still rise would fill its port."""
    if not state.timing[PORTS_BIND]:
        return cap
    rising = 0
    for hits in range(2):
        base = (group + hits * groups) * CLASS_WORDS
        if not state.classes[base + RATE]:
            rising += state.classes[base + COUNT]
    return state.classes[group * CLASS_WORDS + PORT_LEFT] // rising if rising else cap
