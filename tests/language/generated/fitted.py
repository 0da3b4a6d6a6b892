"""Cases whose arrays are just as large as what their kernels touch, or a little larger, or one element smaller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tests.language.generated import judge
from tests.language.generated.numbers import is_float
from tests.language.generated.texts import Machines, Text, TextCase, integers

HALF = 1 << 16  # places of an array on either side of its place 0
MOST_SHIFT = 64  # of a view
MARGINS = (0, 0, 0, 1, 5, 300, 40_000)  # elements of an array beyond what is touched


@dataclass(frozen=True)
class Array:
    """An array of a kernel, whose place 0 is ``name - first_name``.

    Attributes:
        greatest: of what it holds, which are whole numbers.
        is_odd: it holds NaN, infinities and zeros of either sign too, if its type has them.
        least: of what it holds; None if ``-greatest`` is.
        permuted: so many places from 0 on have the numbers below that.
        view_of: name of an array whose bytes it has, of the same type.
        shift: the place of that array where its own place 0 is.
    """

    dtype: np.dtype
    greatest: int = 8
    least: int | None = None
    is_odd: bool = False
    permuted: int = 0
    view_of: str = ""
    shift: int = 0

    def whole(self, random: np.random.Generator) -> np.ndarray:
        """What is at each place."""
        made = integers(random, 2 * HALF + MOST_SHIFT, self.dtype, self.greatest)
        if self.least is not None:
            made = random.integers(self.least, self.greatest + 1, made.size).astype(self.dtype)
        if self.is_odd and is_float(self.dtype):
            odd = np.asarray([np.nan, np.inf, -np.inf, -0.0, 0.0, 0.0, -0.0]).astype(self.dtype)
            made = np.where(random.random(made.size) < random.random() ** 3, random.choice(odd, made.size), made)
        made[HALF : HALF + self.permuted] = random.permutation(self.permuted)
        return made


@dataclass(frozen=True)
class FittedCase(TextCase):
    """A kernel whose arrays end where its programs do.

    Attributes:
        reached: what programs touch, from place 0 of each array.
        asked_for: arrays of which all that is loaded is made use of.
        shared: arrays whose bytes others have too.
    """

    reached: judge.Reached = field(default_factory=dict)
    asked_for: tuple[str, ...] = ()
    shared: frozenset[str] = frozenset()

    def ended(self) -> list[str]:
        """The arrays that a kernel cannot do without any part of: what it loads from others may be of no use."""
        needed = ("out", "sums", *self.asked_for)
        return [
            name
            for name, touched in self.reached.items()
            if touched and name.startswith(needed) and name not in self.shared
        ]

    def beyond(self, name: str, at_end: bool) -> dict[str, object]:
        """Arguments with an array that lacks the first or the last element that is touched."""
        memory, touched = self.memory(), self.reached[name]
        first, array = memory[f"first_{name}"], memory[name]
        assert isinstance(first, int)
        assert isinstance(array, np.ndarray)
        if at_end:
            return memory | {name: array[: max(last for *_, last in touched) - first]}
        begin = min(each for _, each, _ in touched) + 1
        return memory | {name: array[begin - first :], f"first_{name}": begin}


@dataclass
class FittedText(Text):
    """Draws a kernel some of whose constants are arguments, by name."""

    numbers: dict[str, int] = field(default_factory=dict)

    def constant(self, value: int) -> str:
        """A number, which is an argument or not."""
        if self.chance(2):
            return str(value)
        name = f"n{len(self.numbers)}"
        self.numbers[name] = value
        return name


def fitted(
    drawn: Text,
    machines: Machines,
    arrays: Mapping[str, Array],
    numbers: dict[str, int],
    grid: tuple[int, ...],
    asked_for: tuple[str, ...] = (),
) -> FittedCase:
    """The case of a text, whose kernel takes arrays, the first places of all of them, and numbers."""
    names = [*arrays, *(f"first_{name}" for name in arrays), *numbers]
    text = f"@mlu.jit\ndef generated({', '.join(names)}):\n" + "\n".join(drawn.lines) + "\n"
    seed = drawn.number(1 << 20)
    margins = {name: (drawn.pick(MARGINS), drawn.pick(MARGINS)) for name in arrays}

    def memory(ends: Mapping[str, tuple[int, int]]) -> dict[str, object]:
        random = np.random.default_rng(seed)
        wholes = {name: array.whole(random) for name, array in arrays.items()}
        slices = dict[str, np.ndarray]()
        for name, array in arrays.items():
            first, last = (each + HALF + array.shift for each in ends[name])
            slices[name] = wholes[array.view_of or name][first : last + 1]
        return {**slices, **{f"first_{name}": ends[name][0] for name in arrays}, **numbers}

    probed = memory(dict.fromkeys(arrays, (-HALF, HALF - 1)))
    reached = {
        name: [(program, first - HALF, last - HALF) for program, first, last in touched]
        for name, touched in judge.reached(text, grid, probed).items()
        if name in arrays
    }
    ends = {
        name: (
            max(min((each[1] for each in touched), default=0) - margins[name][0], -HALF),
            min(max((each[2] for each in touched), default=0) + margins[name][1], HALF - 1),
        )
        for name, touched in reached.items()
    }
    options = drawn.pick([{}, {}, {}, {"num_stages": 1}, {"num_warps": 4}])
    shared = frozenset(each for name, array in arrays.items() if array.view_of for each in (name, array.view_of))
    machine = drawn.pick(machines)
    return FittedCase(
        text, lambda: memory(ends), grid, machine, options, reached=reached, asked_for=asked_for, shared=shared
    )
