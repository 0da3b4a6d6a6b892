"""What every kind of version is: asked for before memory accesses are known, and made when they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlutriton.compilation import Compilation
from mlutriton.ir.analysis.launch_facts import Rounds
from mlutriton.ir.core import Function
from mlutriton.isa.program import Program


@dataclass(frozen=True)
class Alone:
    """A kernel whose programs go each by itself, with which versions are compared.

    Attributes:
        function: whose memory accesses are known.
        rounds: of each form of its program; none if it does not multiply.
    """

    function: Function
    rounds: Sequence[Rounds]


@dataclass(frozen=True)
class Version:
    """A program for launches of which more is known.

    Attributes:
        program: the version.
        conditions: have to hold of a launch for it to run.
        cycles: that a program of the kernel takes, about, where kinds of versions are compared by it.
    """

    program: Program
    conditions: Sequence[Function]
    cycles: float | None = None


# Makes the versions of a kernel that are worth while, best first.
Candidate = Callable[[Alone, Compilation], Sequence[Version]]
