"""Functions without tiles that wrap (:mod:`mlutriton.ir.passes.unwrap`)."""

from __future__ import annotations

from mlutriton.compilation import CompileOptions
from mlutriton.ir.core import Function
from mlutriton.ir.passes import simplify, unwrap


def straight(function: Function, options: CompileOptions) -> unwrap.Unwrapped | None:
    """A function without tiles that wrap, ready to be placed, if there are any and that can be known of a launch.

    Args:
        function: whose memory accesses are known.
        options: what decides a compilation.
    """
    found = unwrap.run(function)
    if found is not None:
        simplify.run(found.function)
        options.verify(found.function, "unwrap")
    return found
