from collections.abc import Callable
from typing import Any

parse: Callable[[str, str, Any], Any]

class CompiledKernel:
    metadata: Any
    asm: dict[str, Any]
