"""Polynomials of 64-bit integers that are known only when a program runs.

They are enough to see that a tile ends where the next one begins, though addresses and sizes are not known.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.isa.expression import Call, Constant, Expression, Name

# Longer ones say nothing that anyone asks for.
_MOST_TERMS = 8


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A sum of products of IR values, and a constant; modulo 2**64, as the values are.

    Attributes:
        terms: the names of a product, in their order, with its factor, which is not 0; in the order of the products.
        constant: what does not depend on any of them; as the factors, a signed integer of 64 bits.
    """

    terms: tuple[tuple[tuple[str, ...], int], ...] = ()
    constant: int = 0

    def plus(self, other: Polynomial, factor: int = 1) -> Polynomial:
        """``self + factor * other``."""
        factors = dict(self.terms)
        for names, each in other.terms:
            factors[names] = factors.get(names, 0) + factor * each
        return _polynomial(factors, self.constant + factor * other.constant)

    def times(self, other: Polynomial) -> Polynomial | None:
        """``self * other``, unless it is long."""
        if len(self.terms) * len(other.terms) > _MOST_TERMS:
            return None
        factors = dict(Polynomial().plus(self, other.constant).terms)
        for names, each in other.terms:
            factors[names] = factors.get(names, 0) + self.constant * each
            for own_names, own in self.terms:
                together = tuple(sorted((*own_names, *names)))
                factors[together] = factors.get(together, 0) + own * each
        return _polynomial(factors, self.constant * other.constant)

    def is_at_most(self, other: Polynomial) -> bool:
        """True if the two differ by a constant, and ``other`` is not less; for values that are no 2**63 apart."""
        return self.terms == other.terms and _wrapped(other.constant - self.constant) >= 0


def polynomial(value: int | str) -> Polynomial:
    """The polynomial of an integer, or of an IR value of which nothing is known."""
    return Polynomial(constant=_wrapped(value)) if isinstance(value, int) else Polynomial((((value,), 1),))


def polynomial_of(expression: Expression, values: dict[str, Polynomial]) -> Polynomial | None:
    """The polynomial of an expression of the instruction table; None if it has none."""
    match expression:
        case Constant(value):
            return polynomial(value)
        case Name(text):
            return values[text]
        case Call(function, arguments):
            match function, [polynomial_of(argument, values) for argument in arguments]:
                case "*", [Polynomial() as a, Polynomial() as b]:
                    return a.times(b)
                case "+" | "-", [Polynomial() as a, Polynomial() as b]:
                    return a.plus(b, 1 if function == "+" else -1)
                case _:
                    return None


def _polynomial(factors: dict[tuple[str, ...], int], constant: int) -> Polynomial:
    wrapped = ((names, _wrapped(factor)) for names, factor in factors.items())
    return Polynomial(tuple(sorted((names, factor) for names, factor in wrapped if factor)), _wrapped(constant))


def _wrapped(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
