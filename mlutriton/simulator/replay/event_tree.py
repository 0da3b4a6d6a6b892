"""Where the sources of events stand in the tournament that finds the earliest one.

To set when a source acts next takes a step for each level above its leaf. So sources that are set often stand near the
root: the tree is the Huffman code of how often each is set, with four children a node.
"""

from __future__ import annotations

import heapq
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray

from mlutriton.simulator.replay.state import SOURCES_PER_CORE

_CHILDREN = 4
# How often sources are set while a transfer goes through an IO queue: all classes of SRAM, and the scalar, IO and MOVE
# queues of all cores. Only time depends on these.
_SRAM, _QUEUES = 0.5, (0.5, 3.0, 1.5)
_ROOT = 1

_Tree = int | list["_Tree"] | None


@lru_cache(maxsize=64)
def event_tree(cores: int, clusters: int, memory_classes: int) -> tuple[NDArray[np.int64], int]:
    """The node of each source, in the order of their slots, and how many nodes there are; memory classes have none."""
    slots = memory_classes + clusters + cores * SOURCES_PER_CORE
    weights = {memory_classes + cluster: _SRAM / clusters for cluster in range(clusters)}
    for queue, weight in enumerate(_QUEUES):
        weights |= dict.fromkeys(range(memory_classes + clusters + queue, slots, SOURCES_PER_CORE), weight / cores)
    order = count()
    forest: list[tuple[float, int, _Tree]] = [(weights[slot], next(order), slot) for slot in sorted(weights)]
    # Every node has all its children, if need be ones that never act.
    forest += [(0.0, next(order), None) for _ in range(-(len(weights) - 1) % (_CHILDREN - 1))]
    heapq.heapify(forest)
    while len(forest) > 1:
        least = [heapq.heappop(forest) for _ in range(_CHILDREN)]
        children: list[_Tree] = [tree for _, _, tree in least]
        heapq.heappush(forest, (sum(weight for weight, _, _ in least), next(order), children))
    leaves = np.zeros(slots, np.int64)
    waiting: list[tuple[_Tree, int]] = [(forest[0][2], _ROOT)]
    last = _ROOT
    while waiting:
        tree, node = waiting.pop()
        last = max(last, node)
        if isinstance(tree, list):
            first_child = _CHILDREN * node - 2
            waiting += ((child, first_child + place) for place, child in enumerate(tree))
        elif tree is not None:
            leaves[tree] = node
    leaves.setflags(write=False)
    return leaves, last + 1
