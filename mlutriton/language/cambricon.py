"""What Cambricon's Triton lets kernels do with tensors beyond Triton: index and slice them, and assign to parts.

Tensors are values, so an assignment to a part makes a new tensor that takes the place of the old one; which elements
an access reads or keeps follows from ``tl.gather`` and ``tl.where``.
"""

# Triton's builtins have no types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from triton.language import core


@core.builtin
def empty(shape: Any, dtype: Any, _semantic: Any = None) -> Any:
    """A tensor whose elements are yet to be assigned; until then they are zeros."""
    return core.full(shape, 0, dtype, _semantic=_semantic)


@triton.jit
def masked_select(input, mask):  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]
    """The elements of a vector where ``mask`` is true, the others behind them, and how many are selected."""
    count: tl.constexpr = input.numel
    place = tl.arange(0, count)
    order = tl.sort(tl.where(mask, place, place + count))
    return tl.gather(input, order % count, 0), tl.sum(mask.to(tl.int32))


@core.builtin
def flip(x: Any, dim: Any = None, _semantic: Any = None) -> Any:
    """The tensor with the order of its elements reversed along one dimension or several; the last if none is given."""
    reversed_dimensions = {_checked_dimension(each, len(x.shape)) for each in _listed(-1 if dim is None else dim)}
    for dimension in sorted(reversed_dimensions):
        extent = int(x.shape[dimension])
        places = _places(Part(extent - 1, extent, -1), dimension, len(x.shape), _semantic)
        x = _gathered(x, dimension, places, _semantic)
    return x


@dataclass(frozen=True, eq=False)
class Part:
    """What an index selects along one dimension.

    Attributes:
        first: the first position, a number or an integer of the kernel.
        count: how many positions.
        step: positions from one to the next.
        is_single: it was one position, and the dimension goes.
    """

    first: Any
    count: int
    step: int = 1
    is_single: bool = False


_NEW_DIMENSION = None


def is_plain(indices: Any) -> bool:
    """Whether an index is one that Triton itself takes: ``None`` and whole dimensions."""
    return all(
        index is None or (isinstance(index, core.slice | builtins.slice) and all(end is None for end in _ends(index)))
        for index in _listed(indices)
    )


def read_part(tensor: Any, indices: Any, semantic: Any) -> Any:
    """``tensor[indices]``: the dimensions that are sliced keep what is selected of them, single positions go.

    Raises:
        ValueError: an index is out of range, of a kind that is not known, or the ends of a slice are not constants.
    """
    result, dimension = tensor, 0
    for part in _parts(indices, tensor.shape):
        if part is _NEW_DIMENSION:
            result = core.expand_dims(result, dimension, _semantic=semantic)
        elif not _is_whole(part, result.shape[dimension]):
            result = _gathered(result, dimension, _places(part, dimension, len(result.shape), semantic), semantic)
        if part is not _NEW_DIMENSION and part.is_single:
            result = _without(result, dimension, semantic)
        else:
            dimension += 1
    return result


def write_part(tensor: Any, indices: Any, value: Any, semantic: Any) -> Any:
    """The tensor that ``tensor[indices] = value`` leaves behind.

    The kernel fails where a position is out of range that is known only while it runs.

    Raises:
        ValueError: as for ``read_part``, or the value has too many dimensions or another shape.
    """
    parts = _parts(indices, tensor.shape)
    if _NEW_DIMENSION in parts:
        raise ValueError("None is no place to assign to")
    rank = len(parts)
    value = semantic.to_tensor(value).to(tensor.dtype, _semantic=semantic)
    value = core.broadcast_to(value, [part.count for part in parts if not part.is_single] or [1], _semantic=semantic)
    value = core.reshape(value, [part.count for part in parts], _semantic=semantic)
    first, *rest = parts
    is_run = isinstance(first.first, int) and first.step == 1
    if is_run and all(_is_whole(part, extent) for part, extent in zip(rest, tensor.shape[1:], strict=True)):
        return _with_rows(tensor, first, value, semantic)
    inside = None
    for dimension, part in enumerate(parts):
        extent = int(tensor.shape[dimension])
        if _is_whole(part, extent):
            continue
        _check_inside(part, extent, semantic)
        distance = _places(Part(0, extent), dimension, rank, semantic).__sub__(part.first, _semantic=semantic)
        turn = distance if part.step == 1 else distance.__floordiv__(part.step, _semantic=semantic)
        here = distance.__ge__(0, _semantic=semantic)
        here = here.__and__(turn.__lt__(part.count, _semantic=semantic), _semantic=semantic)
        if part.step != 1:
            on_step = distance.__mod__(part.step, _semantic=semantic).__eq__(0, _semantic=semantic)
            here = here.__and__(on_step, _semantic=semantic)
        inside = here if inside is None else inside.__and__(here, _semantic=semantic)
        if part.count > 1:
            value = _gathered(value, dimension, core.where(here, turn, 0, _semantic=semantic), semantic)
    return value if inside is None else core.where(inside, value, tensor, _semantic=semantic)


def _check_inside(part: Part, extent: int, semantic: Any) -> None:
    """Lets the kernel stop where a position that only it knows is not one of the tensor's."""
    if isinstance(part.first, int):
        return
    last = extent - part.count
    inside = part.first.__ge__(0, _semantic=semantic).__and__(
        part.first.__le__(last, _semantic=semantic), _semantic=semantic
    )
    semantic.builder.create_assert(inside.handle, f"the index assigned to is outside 0 to {last}")


def _with_rows(tensor: Any, rows: Part, value: Any, semantic: Any) -> Any:
    """A tensor with another value at a run of positions of its first dimension, which stand together."""
    shape = [int(extent) for extent in tensor.shape]
    inner = math.prod(shape[1:])
    flat = core.reshape(tensor, [shape[0] * inner], _semantic=semantic)
    joined = core.reshape(value, [rows.count * inner], _semantic=semantic)
    if rows.first:
        before = _places(Part(0, rows.first * inner), 0, 1, semantic)
        joined = semantic.cat(_gathered(flat, 0, before, semantic), joined, True)
    behind = shape[0] - rows.first - rows.count
    if behind:
        after = _places(Part((rows.first + rows.count) * inner, behind * inner), 0, 1, semantic)
        joined = semantic.cat(joined, _gathered(flat, 0, after, semantic), True)
    return core.reshape(joined, shape, _semantic=semantic)


def _checked_dimension(dimension: Any, rank: int) -> int:
    if not isinstance(dimension, int) or not -rank <= dimension < rank:
        raise ValueError(f"the dimension {dimension} is not one of a tensor of rank {rank}")
    return dimension % rank


def _listed(indices: Any) -> list[Any]:
    listed = indices.values if isinstance(indices, core.tuple) else indices
    listed = listed if isinstance(listed, Sequence) else [listed]
    return [_unwrapped(index) for index in listed]


def _unwrapped(value: Any) -> Any:
    """The value of a ``tl.constexpr``, anything else as it is."""
    return value.value if isinstance(value, core.constexpr) else value


def _ends(index: Any) -> tuple[Any, Any, Any]:
    start, stop, step = (_unwrapped(end) for end in (index.start, index.stop, index.step))
    return start, stop, step


def _parts(indices: Any, shape: Sequence[Any]) -> list[Any]:
    """What is selected along each dimension, and where a new one comes in."""
    rest = [int(extent) for extent in shape]
    parts: list[Part | None] = []
    listed = _listed(indices)
    # By identity: tensors compare as tensors.
    if any(index is ... for index in listed):
        place = next(place for place, index in enumerate(listed) if index is ...)
        named = sum(index is not None for index in listed) - 1
        listed[place : place + 1] = [core.slice(None, None, None)] * (len(rest) - named)
    for index in listed:
        if index is None:
            parts.append(_NEW_DIMENSION)
        elif not rest:
            raise ValueError(f"too many indices for tensor of rank {len(shape)}")
        else:
            parts.append(_part(index, rest.pop(0)))
    return parts + [Part(0, extent) for extent in rest]


def _part(index: Any, extent: int) -> Part:
    match index:
        case core.slice() | builtins.slice():
            ends = _ends(index)
            count = _unwrapped(getattr(index, "count", None))
            if isinstance(ends[0], core.tensor) and isinstance(count, int) and ends[2] is None:
                return Part(ends[0], count)
            if not all(end is None or isinstance(end, int) for end in ends):
                raise ValueError("the ends of a slice must be known when the kernel is compiled")
            positions = range(*builtins.slice(*ends).indices(extent))
            if not positions:
                raise ValueError(f"the slice {ends[0]}:{ends[1]} of {extent} elements is empty")
            return Part(positions[0], len(positions), positions.step)
        case int():
            if not -extent <= index < extent:
                raise ValueError(f"the index {index} is not inside {extent} elements")
            return Part(index % extent, 1, is_single=True)
        case core.tensor() if not index.type.is_block() and index.dtype.is_int():
            return Part(index, 1, is_single=True)
        case _:
            raise ValueError(f"unsupported tensor index: {index}")


def _is_whole(part: Part, extent: Any) -> bool:
    return isinstance(part.first, int) and (part.first, part.count, part.step) == (0, int(extent), 1)


def _places(part: Part, dimension: int, rank: int, semantic: Any) -> Any:
    """The positions that a part selects, along its dimension of ``rank``."""
    places = core.arange(0, part.count, _semantic=semantic)
    if part.step != 1:
        places = places.__mul__(part.step, _semantic=semantic)
    if not isinstance(part.first, int) or part.first:
        places = places.__add__(part.first, _semantic=semantic)
    shape = [1] * rank
    shape[dimension] = part.count
    return core.reshape(places, shape, _semantic=semantic)


def _gathered(tensor: Any, dimension: int, places: Any, semantic: Any) -> Any:
    """The elements at positions along one dimension."""
    shape = [int(extent) for extent in tensor.shape]
    shape[dimension] = int(places.shape[dimension])
    everywhere = core.broadcast_to(places, shape, _semantic=semantic)
    return core.gather(tensor, everywhere, dimension, _semantic=semantic)


def _without(tensor: Any, dimension: int, semantic: Any) -> Any:
    """The tensor without a dimension of one element; its element if that was the last."""
    shape = [int(extent) for extent in tensor.shape]
    del shape[dimension]
    return core.reshape(tensor, shape, _semantic=semantic) if shape else semantic.unsplat(tensor)
