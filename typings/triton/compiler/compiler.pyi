from collections.abc import Callable
from typing import Any

parse: Callable[[str, str, Any], Any]
get_cache_key: Callable[..., str]
get_cache_manager: Callable[[str], Any]
filter_traceback: Callable[[BaseException], None]

class CompiledKernel:
    metadata: Any
    asm: dict[str, Any]

class ASTSource:
    def __init__(
        self,
        fn: Any,
        signature: dict[str, str],
        constexprs: dict[tuple[int, ...], object] | None = None,
        attrs: dict[tuple[int, ...], list[list[object]]] | None = None,
    ) -> None: ...
    def make_ir(self, target: Any, options: Any, codegen_fns: Any, module_map: Any, context: Any) -> Any: ...

class IRSource:
    ext: str
    path: Any
    parse_options: Callable[[Any], Any]

def make_backend(target: object) -> Any: ...
def compile(src: ASTSource, target: object = None, options: dict[str, Any] | None = None) -> CompiledKernel: ...
