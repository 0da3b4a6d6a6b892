from collections.abc import Callable
from typing import Any

class base_type: ...
class base_value: ...

class constexpr:
    value: Any

class slice:
    start: Any
    stop: Any
    step: Any
    def __init__(self, start: Any, stop: Any, step: Any) -> None: ...

class tensor:
    __getitem__: Any
    type: Any
    dtype: Any
    shape: Any

def builtin(fn: Callable[..., Any]) -> Any: ...
def __getattr__(name: str) -> Any: ...
