"""Places of areas in local memory: those of areas that are done with are taken over by later ones.

A sort passes a tensor from area to area a hundred times; all of them side by side would be more than a core has.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.ir.core import Block, Function, Value
from mlutriton.ir.ops import (
    AddPtr,
    For,
    GatherAtomic,
    GatherLoad,
    Load,
    LocalMemory,
    ScatterStore,
    Store,
    TileLoad,
    TileStore,
    While,
)
from mlutriton.ir.types import PointerType

AREA_ALIGNMENT_BYTES = 512

_ACCESSES = (TileLoad, TileStore, GatherLoad, ScatterStore, GatherAtomic, Load, Store)


@dataclass
class _Life:
    """From which to which position of the function an area is touched."""

    area: LocalMemory
    first: int
    last: int


def place_areas(function: Function) -> None:
    """Give the areas of a function places such that those that are alive at once share no bytes."""
    lives = _Lives(function)
    placed: list[tuple[LocalMemory, int]] = []
    for life in sorted(lives.found.values(), key=lambda each: each.first):
        placed = [(area, last) for area, last in placed if last >= life.first]
        placed.append((life.area, life.last))
        life.area.attributes["offset_bytes"] = _gap(life.area, [area for area, _ in placed[:-1]])
        placed.sort(key=lambda each: each[0].integer("offset_bytes"))


def _gap(area: LocalMemory, others: list[LocalMemory]) -> int:
    """The lowest place between others, which are in order."""
    offset = 0
    for other in others:
        if offset + area.integer("bytes") <= other.integer("offset_bytes"):
            break
        offset = -(-other.end_bytes // AREA_ALIGNMENT_BYTES) * AREA_ALIGNMENT_BYTES
    return offset


def area_of(pointer: Value) -> Value:
    """The pointer that a pointer is some elements behind."""
    while isinstance(operation := pointer.defining_op, AddPtr):
        pointer = operation.operands[0]
    return pointer


class _Lives:
    """The walk that finds lives.

    Attributes:
        found: by the area's pointer.
    """

    def __init__(self, function: Function) -> None:
        self.found: dict[Value, _Life] = {}
        self.position = 0
        self.end = sum(1 for _ in function.walk())
        self._block(function.body, None)

    def _block(self, block: Block, loop: tuple[int, int] | None) -> None:
        for operation in block.operations:
            here = loop or (self.position, self.position)
            if loop is None and isinstance(operation, For | While):
                # What a loop touches anywhere may come round again.
                here = self.position, self.position + sum(1 for _ in operation.walk())
            self.position += 1
            if not isinstance(operation, AddPtr):
                # Whoever has a pointer handed on may use it at any time.
                span = here if isinstance(operation, _ACCESSES) else (0, self.end)
                for operand in operation.operands:
                    if isinstance(operand.type, PointerType):
                        self._touch(area_of(operand), span)
            for region in operation.regions:
                self._block(region, here if here[0] < here[1] else loop)

    def _touch(self, pointer: Value, span: tuple[int, int]) -> None:
        area = pointer.defining_op
        if isinstance(area, LocalMemory):
            life = self.found.setdefault(pointer, _Life(area, *span))
            life.first, life.last = min(life.first, span[0]), max(life.last, span[1])
