from collections.abc import Callable
from typing import Any

create_function_from_signature: Callable[..., Any]

class KernelParam:
    name: str
    default: Any
    is_constexpr: bool
    has_default: bool

class ConstexprFunction:
    __call__: Callable[..., Any]

class JITFunction:
    params: list[KernelParam]
    fn: Callable[..., Any]
    arg_names: list[str]
    _do_compile: Callable[..., Any]
    @property
    def cache_key(self) -> str: ...
    def __init__(self, fn: Callable[..., Any], **options: Any) -> None: ...
    def __getitem__(self, grid: Any) -> Callable[..., Any]: ...
    def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any: ...
