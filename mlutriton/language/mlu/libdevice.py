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


@triton.jit
def philox(
    n: tl.constexpr,
    seed_low: tl.tensor,
    seed_high: tl.tensor,
    counter_0: tl.tensor,
    counter_1: tl.tensor,
    counter_2: tl.tensor,
    counter_3: tl.tensor,
    rounds: tl.constexpr,
) -> tl.tensor:
    """Return 4 * n random words of the Philox generator.

    Shapes: ``(n, 4)`` of ``uint32``: row i has the four words of the counter ``(counter_0 + i, counter_1, ...)``. The
    seeds and counters are scalars.
    """
    zeros = tl.zeros((n,), tl.uint32)
    words = tl.philox_impl(
        (tl.arange(0, n) + counter_0).to(tl.uint32),
        (zeros + counter_1).to(tl.uint32),
        (zeros + counter_2).to(tl.uint32),
        (zeros + counter_3).to(tl.uint32),
        (zeros + seed_low).to(tl.uint32),
        (zeros + seed_high).to(tl.uint32),
        rounds,
    )
    return tl.join(tl.join(words[0], words[2]), tl.join(words[1], words[3])).reshape(n, 4)


def _variants() -> dict[str, object]:
    plain = {"sigmoid": sigmoid, "silu": silu, "gelu": gelu}
    names = ("exp", "exp2", "log", "log2", "sin", "cos", "tanh", "sqrt", "rsqrt", "erf", "pow")
    plain |= {name: getattr(_portable, name) for name in names}
    return {f"{speed}_{name}": function for speed in ("fast", "ultra") for name, function in plain.items()}


globals().update(_variants())
