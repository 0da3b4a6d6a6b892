"""The host's vector registers, from LLVM's own description; they decide the speed of native code, not its results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class MicroKernel:
    """The block of a matrix product that is kept in vector registers: ``rows`` times ``columns`` of float32."""

    rows: int
    columns: int


@cache
def micro_kernel() -> MicroKernel:
    """The block that fills this host's vector registers, leaving room for two weights vectors and one broadcast."""
    features = _features()
    if features.get("avx512f"):
        return MicroKernel(8, 32)
    if features.get("avx"):
        return MicroKernel(6, 16)
    if features.get("neon"):
        return MicroKernel(6, 16)
    return MicroKernel(4, 8)


def scales_by_powers_of_two() -> bool:
    """Whether LLVM makes an instruction of ``ldexp`` on vectors of float32; elsewhere it calls a function for each."""
    return bool(_features().get("avx512f"))


@cache
def _features() -> dict[str, Any]:
    # The import takes longer than a translation, and cached code needs none of this.
    from llvmlite import binding  # pyright: ignore[reportMissingTypeStubs]

    return dict(binding.get_host_cpu_features())
