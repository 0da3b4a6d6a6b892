from collections.abc import Callable

triton_key: Callable[[], str]

class FileCacheManager:
    def put(self, data: object, filename: str, binary: bool = True) -> str: ...
    def _make_path(self, filename: str) -> str: ...
