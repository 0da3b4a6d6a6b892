"""Derives ``mlutriton/arithmetic/library/coefficients.py``; run it to print that file.

Each table interpolates a function at Chebyshev's nodes of -1 to 1 in 60-digit arithmetic, rewritten in powers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath

mpmath.mp.dps = 60
pi, sqrt, exp, log = mpmath.pi, mpmath.sqrt, mpmath.exp, mpmath.log

Function = Callable[[Any], Any]


def interpolated(function: Function, degree: int) -> list[float]:
    """Coefficients in powers of t from -1 to 1, the lowest first."""
    count = degree + 1
    angles = [pi * (2 * k + 1) / (2 * count) for k in range(count)]
    values = [function(mpmath.cos(angle)) for angle in angles]
    chebyshev = [
        2 * sum(v * mpmath.cos(j * a) for v, a in zip(values, angles, strict=True)) / count for j in range(count)
    ]
    chebyshev[0] /= 2
    lower, current = [mpmath.mpf(1)], [mpmath.mpf(0), mpmath.mpf(1)]
    total = [mpmath.mpf(0)] * count
    for coefficient in chebyshev:
        for power, factor in enumerate(lower):
            total[power] += coefficient * factor
        following = [mpmath.mpf(0), *(2 * factor for factor in current)]
        for power, factor in enumerate(lower):
            following[power] -= factor
        lower, current = current, following
    return [float(c) for c in total]


def below_8(function: Function) -> Function:
    """Of t = x**2 / 32 - 1 for x from 0 to 8."""
    return lambda t: function(sqrt(32 * (t + 1)))


def beyond_8(function: Function) -> Function:
    """Of t = 2 (8 / x)**2 - 1 for x from 8 on."""
    return lambda t: function(8 / sqrt((t + 1) / 2))


def in_phase(order: int) -> Function:
    """P of J = sqrt(2 / (pi x)) (P cos(phase) - Q sin(phase)), and of Y likewise."""

    def function(x: Any) -> Any:
        phase = x - (2 * order + 1) * pi / 4
        j, y = mpmath.besselj(order, x), mpmath.bessely(order, x)
        return sqrt(pi * x / 2) * (j * mpmath.cos(phase) + y * mpmath.sin(phase))

    return function


def out_of_phase(order: int) -> Function:
    """Q x / 8 of the same."""

    def function(x: Any) -> Any:
        phase = x - (2 * order + 1) * pi / 4
        j, y = mpmath.besselj(order, x), mpmath.bessely(order, x)
        return sqrt(pi * x / 2) * (y * mpmath.cos(phase) - j * mpmath.sin(phase)) * x / 8

    return function


def scaled_erfcx(t: Any) -> Any:
    """(1 + 2x) e**(x**2) erfc(x) of t = (x - 3.75) / (x + 3.75)."""
    x = mpmath.mpf("3.75") * (1 + t) / (1 - t)
    return (1 + 2 * x) * exp(x * x) * mpmath.erfc(x)


TABLES: dict[str, tuple[Function, int]] = {
    "ERFCX": (scaled_erfcx, 24),
    "J0_NEAR": (below_8(lambda x: mpmath.besselj(0, x)), 19),
    "J1_NEAR": (below_8(lambda x: mpmath.besselj(1, x) / x), 19),
    "Y0_NEAR": (below_8(lambda x: mpmath.bessely(0, x) - 2 / pi * log(x) * mpmath.besselj(0, x)), 19),
    "Y1_NEAR": (below_8(lambda x: (mpmath.bessely(1, x) - 2 / pi * (log(x) * mpmath.besselj(1, x) - 1 / x)) / x), 19),
    "P0": (beyond_8(in_phase(0)), 14),
    "Q0": (beyond_8(out_of_phase(0)), 14),
    "P1": (beyond_8(in_phase(1)), 14),
    "Q1": (beyond_8(out_of_phase(1)), 14),
    "I0_NEAR": (lambda t: exp(-4 * (t + 1)) * mpmath.besseli(0, 4 * (t + 1)), 27),
    "I1_NEAR": (lambda t: exp(-4 * (t + 1)) * mpmath.besseli(1, 4 * (t + 1)) / (4 * (t + 1)), 27),
    "I0_FAR": (lambda t: sqrt(16 / (t + 1)) * exp(-16 / (t + 1)) * mpmath.besseli(0, 16 / (t + 1)), 26),
    "I1_FAR": (lambda t: sqrt(16 / (t + 1)) * exp(-16 / (t + 1)) * mpmath.besseli(1, 16 / (t + 1)), 26),
}


def derive(name: str) -> list[float]:
    """The coefficients of a table."""
    return interpolated(*TABLES[name])


if __name__ == "__main__":
    print('"""Polynomials of special functions; derived by ``tests/arithmetic/derive_library_coefficients.py``."""\n')
    print("# fmt: off")
    for name in TABLES:
        print(f"{name}: tuple[float, ...] = (")
        for coefficient in derive(name):
            print(f"    {coefficient!r},")
        print(")")
    print("# fmt: on")
