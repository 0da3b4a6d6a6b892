"""Functions of NVIDIA's device library, which kernels name by symbol, that are one operation of the arithmetic table.

Others are refused rather than approximated: ``pow(x, y)`` as ``exp2(y * log2(x))`` loses half its digits.
"""

from __future__ import annotations

from mlutriton.arithmetic import OPERATIONS

# Functions on f64; the one on f32 has the same name with an ``f`` behind it.
_BOTH_WIDTHS: dict[str, str] = {
    **{name: name for name in ("exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tan", "tanh", "erf")},
    **{name: name for name in ("floor", "ceil", "trunc", "fabs", "fma", "copysign", "fmin", "fmax")},
    "rint": "round_even",
    "nearbyint": "round_even",
    "fmod": "frem",
}

# fmt: off
_ONE_WIDTH: dict[str, str] = {
    "fma_rn": "fma",  "fmaf_rn": "fma",
    "fadd_rn": "fadd",  "fsub_rn": "fsub",  "fmul_rn": "fmul",  "fdiv_rn": "fdiv",  "fsqrt_rn": "sqrt",
    "dadd_rn": "fadd",  "dsub_rn": "fsub",  "dmul_rn": "fmul",  "ddiv_rn": "fdiv",  "dsqrt_rn": "sqrt",
    "isnanf": "funo",  "isnand": "funo",
    "fast_expf": "exp",  "fast_logf": "log",  "fast_log2f": "log2",  "fast_sinf": "sin",  "fast_cosf": "cos",
    "fast_tanf": "tan",  "fast_fdividef": "fdiv",
    "abs": "iabs",  "llabs": "iabs",
    "mulhi": "mulhs",  "mul64hi": "mulhs",  "umulhi": "mulhu",  "umul64hi": "mulhu",
    "float_as_int": "bitcast",  "float_as_uint": "bitcast",  "int_as_float": "bitcast",  "uint_as_float": "bitcast",
    "double_as_longlong": "bitcast",  "longlong_as_double": "bitcast",
    "double2float_rn": "fpcast",  "double2float_rz": "fpcast_rtz",
    **{f"{source}2{target}_rz": "fptosi" for source in ("float", "double") for target in ("int", "ll")},
    **{f"{source}2{target}_rz": "fptoui" for source in ("float", "double") for target in ("uint", "ull")},
    **{f"{source}2{target}_rn": "sitofp" for source in ("int", "ll") for target in ("float", "double")},
    **{f"{source}2{target}_rn": "uitofp" for source in ("uint", "ull") for target in ("float", "double")},
}
# fmt: on

LIBDEVICE: dict[str, str] = {
    **{f"__nv_{function}{suffix}": name for function, name in _BOTH_WIDTHS.items() for suffix in ("", "f")},
    **{f"__nv_{function}": name for function, name in _ONE_WIDTH.items()},
}
"""The arithmetic operation by symbol."""

assert OPERATIONS.keys() >= set(LIBDEVICE.values()), "an operation is not in the arithmetic table"
