"""``triton.language.extra.mlu.libdevice``: the portable device library, and activations under Cambricon's names.

Of a function there may be a ``fast_`` and an ``ultra_`` variant, which trade digits for time on the device. Here each
is the function itself.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import libdevice as _portable

globals().update({name: value for name, value in vars(_portable).items() if callable(value)})


@triton.jit
def sigmoid(x: tl.tensor) -> tl.tensor:
    """Return 1 / (1 + e**-x)."""
    return tl.sigmoid(x)


@triton.jit
def silu(x: tl.tensor) -> tl.tensor:
    """Return x * sigmoid(x)."""
    return x * tl.sigmoid(x)


@triton.jit
def gelu(x: tl.tensor) -> tl.tensor:
    """Return x times the normal distribution function of x."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def relu(x: tl.tensor) -> tl.tensor:
    """Return the greater of x and 0."""
    return tl.maximum(x, 0.0)


def _variants() -> dict[str, object]:
    plain = {"sigmoid": sigmoid, "silu": silu, "gelu": gelu}
    names = ("exp", "exp2", "log", "log2", "sin", "cos", "tanh", "sqrt", "rsqrt", "erf", "pow")
    plain |= {name: getattr(_portable, name) for name in names}
    return {f"{speed}_{name}": function for speed in ("fast", "ultra") for name, function in plain.items()}


globals().update(_variants())
