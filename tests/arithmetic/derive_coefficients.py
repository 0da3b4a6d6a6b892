"""Derives the polynomials of ``mlutriton/arithmetic/coefficients.py``; run it to print that file's table.

Weighted Remez exchange in 60-digit decimal arithmetic; the coefficients are then rounded to the format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, getcontext
from functools import cache

import numpy as np

getcontext().prec = 60
GRID_POINTS = 400

Real = Callable[[Decimal], Decimal]


def sine(x: Decimal) -> Decimal:
    """Return sin(x) by its Taylor series."""
    term = total = x
    for k in range(1, 40):
        term *= -x * x / (2 * k * (2 * k + 1))
        total += term
    return total


def cosine(x: Decimal) -> Decimal:
    """Return cos(x) by its Taylor series."""
    term = total = Decimal(1)
    for k in range(1, 40):
        term *= -x * x / (2 * k * (2 * k - 1))
        total += term
    return total


PI = 4 * sum(
    weight * sum(Decimal((-1) ** k) / ((2 * k + 1) * Decimal(base) ** (2 * k + 1)) for k in range(60))
    for weight, base in ((4, 5), (-1, 239))
)


def hyperbolic_tangent(x: Decimal) -> Decimal:
    """Return tanh(x)."""
    return 1 - 2 / ((2 * x).exp() + 1)


def error_function(x: Decimal) -> Decimal:
    """Return erf(x) by its Taylor series."""
    term = total = x
    for k in range(1, 250):
        term *= -x * x / k
        total += term / (2 * k + 1)
    return 2 * total / PI.sqrt()


@dataclass(frozen=True)
class Fit:
    """A polynomial of least maximal ``|weight(x) * (target(x) - polynomial(x))|``; its degrees for f32 and f64."""

    target: Real
    weight: Real
    low: Decimal
    high: Decimal
    degrees: tuple[int, int]


def even(function: Callable[[Decimal], tuple[Decimal, Decimal]]) -> tuple[Real, Real]:
    """Return target and weight over z = x*x of a function of x that returns its own pair."""
    return (lambda z: function(z.sqrt())[0]), (lambda z: function(z.sqrt())[1])


HALF_LN2 = Decimal(2).ln() / 2 * Decimal("1.0001")
QUARTER_PI = (PI / 4 * Decimal("1.0001")) ** 2
ATANH = even(lambda s: ((((1 + s) / (1 - s)).ln() / s - 2) / (s * s), s**3 / ((1 + s) / (1 - s)).ln()))
SIN = even(lambda x: ((sine(x) - x) / x**3, x**3 / sine(x)))
COS = even(lambda x: ((cosine(x) - 1 + x * x / 2) / x**4, x**4 / cosine(x)))
TAN = even(lambda x: ((sine(x) / cosine(x) - x) / x**3, x**3 / (sine(x) / cosine(x))))
TANH = even(lambda x: ((hyperbolic_tangent(x) - x) / x**3, x**3 / hyperbolic_tangent(x)))
ERF = even(lambda x: (error_function(x) / x - 1, x / error_function(x)))

SMALL = Decimal("1e-8")
# fmt: off
FITS = {
    "exp":      Fit(lambda r: (r.exp() - 1 - r) / r**2, lambda r: r**2 / r.exp(), -HALF_LN2, HALF_LN2, (4, 10)),
    "exp2":     Fit(lambda r: (2**r - 1) / r, lambda r: abs(r) / 2**r, Decimal("-0.5001"), Decimal("0.5001"), (5, 11)),
    "log":      Fit(*ATANH, SMALL, Decimal("0.02945"), (2, 6)),
    "sin":      Fit(*SIN,   SMALL, QUARTER_PI, (2, 5)),
    "cos":      Fit(*COS,   SMALL, QUARTER_PI, (2, 5)),
    "tan":      Fit(*TAN,   SMALL, QUARTER_PI, (6, 14)),
    "tanh":     Fit(*TANH,  SMALL, Decimal("0.3907"), (4, 10)),
    "erf":      Fit(*ERF,   SMALL, Decimal("1.0001"), (6, 13)),
    "log_erfc": Fit(lambda t: (1 - error_function(t)).ln(), lambda t: 1 / error_function(t) - 1,
                    Decimal(1), Decimal(6), (7, 19)),
}
# fmt: on


def solve(matrix: list[list[Decimal]], right: list[Decimal]) -> list[Decimal]:
    """Solve a dense linear system by elimination with pivoting."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = max(range(column, size), key=lambda i: abs(rows[i][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for i in range(column + 1, size):
            factor = rows[i][column] / rows[column][column]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[column], strict=True)]
    solution = [Decimal(0)] * size
    for i in reversed(range(size)):
        known = sum((rows[i][j] * solution[j] for j in range(i + 1, size)), Decimal(0))
        solution[i] = (rows[i][size] - known) / rows[i][i]
    return solution


def alternation(errors: list[Decimal], wanted: int) -> list[int]:
    """Return ``wanted`` grid indices of extremes of alternating sign: the new reference of the exchange."""
    extremes: list[int] = []
    for i, error in enumerate(errors):
        if not extremes or (error > 0) != (errors[extremes[-1]] > 0):
            extremes.append(i)
        elif abs(error) > abs(errors[extremes[-1]]):
            extremes[-1] = i
    while len(extremes) > wanted:
        extremes.pop(0 if abs(errors[extremes[0]]) < abs(errors[extremes[-1]]) else -1)
    return extremes


def remez(grid: list[Decimal], values: list[Decimal], weights: list[Decimal], degree: int) -> list[Decimal]:
    """Return the coefficients of the polynomial whose weighted maximal error on the grid is least."""
    powers = range(degree + 1)
    count = degree + 2
    reference = [round((1 - math.cos(math.pi * (i + 0.5) / count)) / 2 * (len(grid) - 1)) for i in range(count)]
    coefficients: list[Decimal] = []
    for _ in range(12):
        matrix = [
            [grid[i] ** power for power in powers] + [(-1) ** k / max(weights[i], Decimal("1e-40"))]
            for k, i in enumerate(reference)
        ]
        *coefficients, level = solve(matrix, [values[i] for i in reference])
        errors = [
            weight * (value - sum(c * x**power for c, power in zip(coefficients, powers, strict=True)))
            for x, value, weight in zip(grid, values, weights, strict=True)
        ]
        if max(map(abs, errors)) <= abs(level) * Decimal("1.01"):
            break
        exchanged = alternation(errors, count)
        if len(exchanged) < count:
            break
        reference = exchanged
    return coefficients


@cache
def sample(name: str) -> tuple[list[Decimal], list[Decimal], list[Decimal]]:
    """Return points of the interval, dense at its ends, with targets and weights."""
    fit = FITS[name]
    nodes = [(1 - Decimal(math.cos(math.pi * (i + 0.5) / GRID_POINTS))) / 2 for i in range(GRID_POINTS)]
    grid = [fit.low + (fit.high - fit.low) * node for node in nodes]
    return grid, [fit.target(x) for x in grid], [abs(fit.weight(x)) for x in grid]


def maximal_error(name: str, coefficients: Sequence[float]) -> float:
    """Return the weighted maximal error of a polynomial."""
    return float(
        max(
            weight * abs(value - sum(Decimal(c) * x**power for power, c in enumerate(coefficients)))
            for x, value, weight in zip(*sample(name), strict=True)
        )
    )


def derive(name: str, format_name: str) -> list[float]:
    """Return the coefficients, lowest power first, rounded to the format."""
    exact = remez(*sample(name), FITS[name].degrees[format_name == "f64"])
    return [float(np.float32(str(c))) if format_name == "f32" else float(c) for c in exact]


def main() -> None:
    """Print every polynomial and its maximal error as a power of two."""
    for format_name in ("f32", "f64"):
        print(f"{format_name.upper()} = Coefficients(")
        for name in FITS:
            coefficients = derive(name, format_name)
            print(f"    # 2**{math.log2(maximal_error(name, coefficients)):.1f}\n    {name}={tuple(coefficients)},")
        print(")")


if __name__ == "__main__":
    main()
