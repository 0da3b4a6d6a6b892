"""Which box of a tensor holds what a box of it in another shape holds."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mlutriton.ir.analysis.scalars import Scalar
from mlutriton.ir.passes.strip_mine.boxes import Box
from mlutriton.ir.passes.strip_mine.written_code import Code


def reshaped_box(code: Code, source: tuple[int, ...], target: tuple[int, ...], box: Box) -> Box | None:
    """The box of the source of a reshape that holds what a box of its result holds; None if no box does.

    Boxes begin at multiples of their extents, as strips do, and so does what is found. A last strip that is shorter
    does where its extent divides that of the tensor; of others only what keeps its shape is found.
    """
    found: list[tuple[Scalar, int]] = []
    at = 0
    for inner, outer in _alike(source, target):
        if inner == outer:
            found += box[at : at + len(outer)]
            at += len(outer)
            continue
        run = _run(code, outer, box[at : at + len(outer)])
        part = None if run is None else _box_of_run(code, inner, *run)
        if part is None:
            return None
        found += part
        at += len(outer)
    return tuple(found)


def _alike(source: tuple[int, ...], target: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The extents of both shapes, in the shortest parts of as many elements."""
    i = j = 0
    while i < len(source) or j < len(target):
        first, second, (a, b) = i, j, (1, 1)
        while True:
            if a <= b and i < len(source):
                a, i = a * source[i], i + 1
            else:
                b, j = b * target[j], j + 1
            if a == b:
                break
        if i == len(source) or j == len(target):  # what is left are extents of 1
            i, j = len(source), len(target)
        yield source[first:i], target[second:j]


def _run(code: Code, shape: tuple[int, ...], box: Box) -> tuple[Scalar, int] | None:
    """Where the elements of a box begin in row-major order, and how many there are; None if others stand between."""
    stride = count = 1
    starts: list[Scalar] = []
    for extent, (start, part) in zip(reversed(shape), reversed(box), strict=True):
        if part > 1 and count < stride:
            return None
        starts.append(code.scaled(start, stride, 1))
        count *= part
        stride *= extent
    return code.sum(starts[::-1]), count


def _box_of_run(code: Code, shape: tuple[int, ...], start: Scalar, count: int) -> list[tuple[Scalar, int]] | None:
    """The box of these elements in row-major order, of which the first stands at a multiple of their number."""
    box: list[tuple[Scalar, int]] = []
    stride, left = 1, count
    for d, extent in reversed(list(enumerate(shape))):
        if left % extent == 0:
            box.append((0, extent))
            left //= extent
        elif extent % left == 0:
            place = code.scaled(start, 1, stride) if count % stride == 0 else code.quotient(start, stride)
            is_first = math.prod(shape[:d]) == 1
            box.append((place if is_first else code.remainder(place, extent), left))
            left = 1
        else:
            return None
        stride *= extent
    return box[::-1]
