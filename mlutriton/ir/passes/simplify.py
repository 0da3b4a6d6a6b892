"""What a rewritten function is left with: its simplest form, each value computed once, and nothing in vain."""

from __future__ import annotations

from mlutriton.ir.core import Function
from mlutriton.ir.passes import canonicalize, cse, dce


def run(function: Function) -> None:
    """Simplify a function that another pass has rewritten."""
    canonicalize.run(function)
    cse.run(function)
    dce.run(function)
