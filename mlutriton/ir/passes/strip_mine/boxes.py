"""Boxes of tensors: where a strip begins and how large it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlutriton.ir.analysis.scalars import Scalar

Box = tuple[tuple[Scalar, int], ...]
"""For every dimension the first position and the extent."""

# How many times the elements of a strip the box of a product may have.
PRODUCT_STRIPS = 3


def whole(shape: Sequence[int]) -> Box:
    """All of a tensor."""
    return tuple((0, extent) for extent in shape)


def extents(box: Box) -> tuple[int, ...]:
    """The shape of a box."""
    return tuple(extent for _, extent in box)


def is_whole(box: Box, shape: Sequence[int]) -> bool:
    """True if the box is all of a tensor of that shape."""
    return extents(box) == tuple(shape)


def dense_strides(shape: Sequence[int]) -> list[int]:
    """Row-major strides in elements."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def halved(extent: int) -> int:
    """The next smaller extent of strips: half or a third of one that can be divided so, about half of any other."""
    return next((extent // divisor for divisor in (2, 3) if extent % divisor == 0), (extent + 1) // 2)


def strips(extent: int, strip: int) -> list[tuple[int | None, int]]:
    """The strips of one extent of which code is written: where each begins and its extent.

    Full ones come first, which begin at every multiple of their extent (None); what is left is a shorter one.
    """
    if strip == extent:
        return [(0, extent)]
    rest = extent % strip
    return [(None, strip), (extent - rest, rest)] if rest else [(None, strip)]


def strip_shape(shape: Sequence[int], axis: int | None, limit: int, *, square: bool) -> tuple[int, ...]:
    """Extents of at most ``limit`` elements; where they do not divide those of the tensor, a last strip is shorter.

    Leading dimensions are split first, then the axis that is to be combined, then the last. If ``square``, the longest
    one each time, and there may be more elements: what a product reads falls with the extents of its box.
    """
    limit *= PRODUCT_STRIPS if square else 1
    strip = list(shape)
    last = len(strip) - 1
    order = [d for d in range(last) if d != axis]
    order += [d for d in dict.fromkeys((axis, last)) if d is not None]
    while math.prod(strip) > limit:
        longest = max(range(len(strip)), key=lambda d: strip[d])
        place = longest if square else next(d for d in order if strip[d] > 1)
        strip[place] = halved(strip[place])
    return tuple(strip)
