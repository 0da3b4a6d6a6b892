"""What to write in Triton's language instead of the assembly of a GPU."""

from __future__ import annotations

import re

# By instruction of PTX, without its suffixes. libdevice is triton.language.extra.libdevice.
# fmt: off
_INSTEAD: dict[str, str] = {
    "abs":  "tl.abs(x)",                 "add":  "x + y",                      "and":  "x & y",
    "atom": "tl.atomic_add(p, x), ...",  "bar":  "tl.debug_barrier()",         "bfe":  "(x >> start) & mask",
    "bfind": "31 - libdevice.clz(x)",    "brev": "libdevice.brev(x)",          "clz":  "libdevice.clz(x)",
    "cos":  "tl.cos(x)",                 "cvt":  "x.to(dtype, fp_downcast_rounding=...)",
    "div":  "tl.div_rn(x, y)",           "ex2":  "tl.exp2(x)",                 "fma":  "tl.fma(x, y, z)",
    "ld":   "tl.load(p)",                "lg2":  "tl.log2(x)",                 "lop3": "x & y | z, ...",
    "mad":  "x * y + z",                 "max":  "tl.maximum(x, y)",           "min":  "tl.minimum(x, y)",
    "mul":  "x * y, or tl.umulhi(x, y) for the upper half",                    "neg":  "-x",
    "not":  "~x",                        "or":   "x | y",                      "popc": "libdevice.popc(x)",
    "prmt": "libdevice.byte_perm(x, y, s)",                                    "rcp":  "1.0 / x",
    "red":  "tl.atomic_add(p, x), ...",  "rsqrt": "tl.rsqrt(x)",               "selp": "tl.where(c, x, y)",
    "setp": "x < y, ...",                "shf":  "(x << s) | (y >> (32 - s))", "shfl": "tl.gather(x, index, 0)",
    "shl":  "x << s",                    "shr":  "x >> s",                     "sin":  "tl.sin(x)",
    "sqrt": "tl.sqrt_rn(x)",             "st":   "tl.store(p, x)",             "sub":  "x - y",
    "tanh": "libdevice.tanh(x)",         "xor":  "x ^ y",
}
# fmt: on
_INSTRUCTION = re.compile(r"(?:^|[;{}\n])\s*(?:@!?%?\w+\s+)?([a-z]+\d?)\b")


def instead_of(assembly: str) -> str:
    """What to write instead of assembly: each of its instructions that has an equal.

    Example:
        >>> instead_of("popc.b32 $0, $1;")
        'write it with operations of tl: popc is libdevice.popc(x)'
        >>> instead_of("nanosleep.u32 100;")
        'write it with operations of tl'
    """
    known = [name for name in _INSTRUCTION.findall(assembly) if name in _INSTEAD]
    if not known:
        return "write it with operations of tl"
    return "write it with operations of tl: " + "; ".join(
        f"{name} is {_INSTEAD[name]}" for name in dict.fromkeys(known)
    )
