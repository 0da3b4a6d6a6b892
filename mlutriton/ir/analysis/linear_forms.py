"""Linear forms of an element's position (:mod:`mlutriton.ir.analysis.access`), and arithmetic on them."""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.immutables import replace
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Value

# Of what is added to itself again and again, as hashes do, there would be twice as many each time.
_MOST_ADDENDS = 1 << 12


@dataclass(frozen=True, slots=True)
class Term:
    """The part of one dimension: ``stride * position``.

    Attributes:
        stride: how much a position counts.
        wrap: (start, modulo) of positions that wrap around, else None.
        repeats: how many neighbours have one position; it divides the extent.
    """

    stride: Scalar
    wrap: tuple[Scalar, Scalar] | None = None
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear tensor (module docstring); a None term means that the dimension does not matter."""

    base: Value | None
    offset: tuple[Scalar, ...]
    terms: tuple[Term | None, ...]

    @property
    def is_uniform(self) -> bool:
        """True if every element is the same."""
        return all(term is None for term in self.terms)

    def plus(self, addend: Scalar) -> Linear:
        """This form with one more addend; constants are kept as one."""
        if isinstance(addend, int):
            constant = addend + sum(a for a in self.offset if isinstance(a, int))
            rest = tuple(a for a in self.offset if not isinstance(a, int))
            return replace(self, offset=(*rest, constant) if constant else rest)
        return replace(self, offset=(*self.offset, addend))


def linear_sum(a: Linear, b: Linear, scalars: Scalars) -> Linear | None:
    """The form of a sum, or None if it has none."""
    if (a.base is not None and b.base is not None) or len(a.offset) + len(b.offset) > _MOST_ADDENDS:
        return None
    rank = max(len(a.terms), len(b.terms))
    terms: list[Term | None] = []
    for s, t in zip(a.terms or (None,) * rank, b.terms or (None,) * rank, strict=True):
        if s is None or t is None:
            terms.append(s or t)
        elif s.repeats != t.repeats:
            return None
        elif s.wrap is None and t.wrap is None:
            stride = scalars.binary("add", s.stride, t.stride)
            terms.append(replace(s, stride=stride) if stride != 0 else None)
        elif s.wrap == t.wrap:
            terms.append(Term(scalars.binary("add", s.stride, t.stride), s.wrap))
        else:
            return None
    result = Linear(a.base or b.base, a.offset, tuple(terms))
    for addend in b.offset:
        result = result.plus(addend)
    return result


def scaled(a: Linear, factor: Scalar, scalars: Scalars) -> Linear:
    """The form of a product with a scalar."""
    if factor == 0:
        return Linear(a.base, (), (None,) * len(a.terms))
    terms = tuple(t and replace(t, stride=scalars.binary("mul", t.stride, factor)) for t in a.terms)
    result = Linear(a.base, (), terms)
    for addend in a.offset:
        result = result.plus(scalars.binary("mul", addend, factor))
    return result


def wrapped(a: Linear, modulo: Scalar, scalars: Scalars) -> Linear | None:
    """``a rem modulo`` for a single range of stride 1; negative starts are not expected of index arithmetic."""
    moving = [d for d, term in enumerate(a.terms) if term is not None]
    if a.base is not None or len(moving) != 1:
        return None
    term = a.terms[moving[0]]
    assert term is not None
    if term != Term(1):
        return None
    start = scalars.binary("srem", scalars.sum(a.offset), modulo) if a.offset else 0
    wrapped = Term(1, (start, modulo))
    return Linear(None, (), tuple(wrapped if d == moving[0] else None for d in range(len(a.terms))))


def reshaped(source: Linear, shape: tuple[int, ...], target: tuple[int, ...], scalars: Scalars) -> Linear | None:
    """Split or drop dimensions; dimensions are not merged unless they line up as one range."""
    if source.is_uniform:
        return replace(source, terms=(None,) * len(target))
    terms: list[Term | None] = []
    remaining = list(zip(shape, source.terms, strict=True))
    extent, term = 1, None
    for new in reversed(target):
        if new == 1:
            terms.append(None)
            continue
        while extent == 1:
            if not remaining:
                return None
            extent, term = remaining.pop()
        is_plain = term is None or (term.wrap is None and term.repeats == 1)
        if extent % new or not (is_plain or extent == new):
            return None
        terms.append(term)
        extent //= new
        term = term and replace(term, stride=scalars.binary("mul", term.stride, new))
    return replace(source, terms=tuple(reversed(terms)))
