"""``triton.language.extra.mlu``: what Cambricon's Triton adds to the language."""

import triton

from mlutriton.language.mlu import libdevice


@triton.jit
def perf_begin() -> None:
    """Mark where a measurement begins: of no effect, for the report measures all."""


@triton.jit
def perf_end() -> None:
    """Mark where a measurement ends."""


__all__ = ["libdevice", "perf_begin", "perf_end"]
