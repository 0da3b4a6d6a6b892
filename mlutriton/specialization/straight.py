"""Functions without tiles that wrap (:mod:`mlutriton.ir.passes.unwrap`)."""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.compilation import CompileOptions
from mlutriton.ir.core import Function
from mlutriton.ir.passes import simplify, unwrap


@dataclass(frozen=True)
class Straight:
    """A form of a function for launches of which something holds.

    Attributes:
        function: ready to be placed.
        conditions: functions that say what.
        is_usual: it holds for almost all launches.
    """

    function: Function
    conditions: list[Function]
    is_usual: bool = False


def straight(function: Function, options: CompileOptions) -> Straight | None:
    """A function without tiles that wrap, if there are any and that can be known of a launch.

    Args:
        function: whose memory accesses are known.
        options: what decides a compilation.
    """
    found = unwrap.run(function)
    if found is None:
        return None
    simplify.run(found.function)
    options.verify(found.function, "unwrap")
    return Straight(found.function, [found.condition], found.is_usual)
