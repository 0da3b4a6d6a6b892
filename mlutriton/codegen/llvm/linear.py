"""Linear forms of 64-bit integers that are known only when a program runs.

They are enough to see that a tile ends where the next one begins, though addresses and sizes are not known.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.isa.expression import Call, Constant, Expression, Name


@dataclass(frozen=True, slots=True)
class Linear:
    """A sum of multiples of IR values, and a constant; modulo 2**64, as the values are.

    Attributes:
        terms: IR values with their factors, none of them 0, in the order of the names.
        constant: what does not depend on any of them; as the factors, a signed integer of 64 bits.
    """

    terms: tuple[tuple[str, int], ...] = ()
    constant: int = 0

    def plus(self, other: Linear, factor: int = 1) -> Linear:
        """``self + factor * other``."""
        factors = dict(self.terms)
        for name, each in other.terms:
            factors[name] = _wrapped(factors.get(name, 0) + factor * each)
        terms = tuple(sorted((name, each) for name, each in factors.items() if each))
        return Linear(terms, _wrapped(self.constant + factor * other.constant))

    def is_at_most(self, other: Linear) -> bool:
        """True if the two differ by a constant, and ``other`` is not less; for values that are no 2**63 apart."""
        return self.terms == other.terms and _wrapped(other.constant - self.constant) >= 0


def _wrapped(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def linear(value: int | str) -> Linear:
    """The form of an integer, or of an IR value of which nothing is known."""
    return Linear(constant=_wrapped(value)) if isinstance(value, int) else Linear(((value, 1),))


def product(a: Linear | None, b: Linear | None) -> Linear | None:
    """``a * b``, if one of them is a constant."""
    if a is None or b is None:
        return None
    if a.terms and b.terms:
        return None
    return Linear().plus(a, b.constant) if a.terms else Linear().plus(b, a.constant)


def linear_expression(expression: Expression, values: dict[str, Linear]) -> Linear | None:
    """The form of an expression of the instruction table; None if it has none."""
    match expression:
        case Constant(value):
            return linear(value)
        case Name(text):
            return values[text]
        case Call(function, arguments):
            operands = [linear_expression(argument, values) for argument in arguments]
            match function, operands:
                case "*", [a, b]:
                    return product(a, b)
                case "+" | "-", [Linear() as a, Linear() as b]:
                    return a.plus(b, 1 if function == "+" else -1)
                case _:
                    return None
