from typing import Any

class TritonSemantic:
    arange: Any
