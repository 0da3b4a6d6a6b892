from collections.abc import Callable
from typing import Any

parse: Callable[[str, str, Any], Any]
filter_traceback: Callable[[BaseException], None]

class CompiledKernel:
    metadata: Any
    asm: dict[str, Any]
