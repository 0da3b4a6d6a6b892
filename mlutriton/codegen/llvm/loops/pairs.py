"""Elements combined with those that stand a distance apart: of the same vector, or of another one."""

from __future__ import annotations

from mlutriton.codegen.llvm.elements import LANES, Lanes, apply, kind, load, number_of
from mlutriton.codegen.llvm.emitter import Count, Emitter, wide


def combined_pairs(e: Emitter, operation: str, value: Lanes, distance: int, element: Count, source: str) -> Lanes:
    """The combination of each element with its partner, in the place of both.

    Args:
        e: where it is written.
        operation: name in :mod:`mlutriton.arithmetic`; it commutes.
        value: ``LANES`` elements.
        distance: between partners, a power of two below ``LANES``, or a multiple of it.
        element: number of the first of the elements, a multiple of ``LANES``.
        source: address of element 0, where partners are if they belong to other vectors.
    """
    dtype = value.dtype
    if distance < LANES:
        partners = [lane ^ distance for lane in range(LANES)]
        # Floats in one order for both partners: of two zeros an operation may prefer the first.
        first = value if not dtype.is_float else _chosen(e, value, [min(pair) for pair in enumerate(partners)])
        second = _chosen(e, value, [max(pair) for pair in enumerate(partners)] if dtype.is_float else partners)
        return apply(e, operation, [first, second])
    is_later = _is_later(e, element, distance)
    place = e.add(element, e.value(f"select i1 {is_later}, i64 {-distance}, i64 {distance}"))
    partner = load(e, e.pointer(source, e.multiply(place, dtype.bytes)), dtype, LANES)
    operands = [value, partner]
    if dtype.is_float:
        vector, numbers = wide(kind(dtype), LANES), [number_of(e, operand) for operand in operands]
        operands = [
            Lanes(dtype, LANES, number=e.value(f"select i1 {is_later}, {vector} {a}, {vector} {b}"))
            for a, b in (numbers[::-1], numbers)
        ]
    return apply(e, operation, operands)


def _chosen(e: Emitter, value: Lanes, lanes: list[int]) -> Lanes:
    vector, mask = wide(kind(value.dtype), LANES), ", ".join(f"i32 {lane}" for lane in lanes)
    text = f"shufflevector {vector} {number_of(e, value)}, {vector} poison, <{LANES} x i32> <{mask}>"
    return Lanes(value.dtype, LANES, number=e.value(text))


def _is_later(e: Emitter, element: Count, distance: int) -> str:
    """Whether elements are the second ones of their pairs."""
    if isinstance(element, int):
        return "true" if element // distance % 2 else "false"
    return e.value(f"trunc i64 {e.value(f'udiv i64 {element}, {distance}')} to i1")
