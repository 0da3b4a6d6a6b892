from collections.abc import Callable
from typing import Any

triton_key: Callable[[], str]

class Autotuner:
    fn: Any
    configs: list[Config]
    pre_hook: Any
    post_hook: Any

class Heuristics:
    fn: Any
    values: dict[str, Callable[..., Any]]

class Config:
    kwargs: dict[str, Any]
    pre_hook: Callable[[dict[str, Any]], object] | None
    def __init__(self, kwargs: dict[str, Any], **options: Any) -> None: ...
    def all_kwargs(self) -> dict[str, Any]: ...

def autotune(configs: list[Any], key: list[str], **options: Any) -> Callable[[Any], Any]: ...
