# What this package uses of Triton, which ships no types.
from collections.abc import Callable
from typing import Any

from triton import knobs as knobs
from triton import testing as testing

__version__: str
__file__: str

def jit(fn: Callable[..., Any], **options: Any) -> Any: ...
