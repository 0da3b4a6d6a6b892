from enum import Enum

class GPUTarget:
    backend: str
    arch: int | str
    warp_size: int
    def __init__(self, backend: str, arch: int | str, warp_size: int) -> None: ...

class Language(Enum):
    TRITON = 0
    GLUON = 1

class BaseBackend:
    target: GPUTarget
    def __init__(self, target: GPUTarget) -> None: ...
