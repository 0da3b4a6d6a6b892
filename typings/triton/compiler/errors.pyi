from typing import Any

class CompilationError(Exception):
    node: Any
