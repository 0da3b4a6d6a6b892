"""Runs a function of Triton's language on arrays: the kernel around it loads, calls and stores."""

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.frontend.triton_versions import RELEASE


def since(*release):
    """Decorates a test of what Triton has since a release: under earlier ones there is no such test."""
    return (lambda test: test) if release <= RELEASE else (lambda test: None)


@mlu.jit
def load(pointer, SHAPE: tl.constexpr, COUNT: tl.constexpr):
    if len(SHAPE) == 0:
        return tl.load(pointer)
    return tl.load(pointer + tl.reshape(tl.arange(0, COUNT), SHAPE))


@mlu.jit
def store(pointer, value):
    if len(value.shape) == 0:
        tl.store(pointer, value)
    else:
        tl.store(pointer + tl.reshape(tl.arange(0, value.numel), value.shape), value)


@mlu.jit
def kernel(
    first_out,
    second_out,
    a,
    b,
    c,
    FUNCTION: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    C: tl.constexpr,
    A_COUNT: tl.constexpr,
    B_COUNT: tl.constexpr,
    C_COUNT: tl.constexpr,
):
    x = load(a, A, A_COUNT)
    if b is None:
        result = FUNCTION(x)
    elif c is None:
        result = FUNCTION(x, load(b, B, B_COUNT))
    else:
        result = FUNCTION(x, load(b, B, B_COUNT), load(c, C, C_COUNT))
    if second_out is None:
        store(first_out, result)
    else:
        store(first_out, result[0])
        store(second_out, result[1])


def call(function, *arrays, result, **options):
    """Returns what a function of the language, or one decorated with ``mlu.jit``, makes of arrays.

    Args:
        function: takes up to three tensors (or scalars, for arrays without dimensions).
        arrays: a tensor's elements each.
        result: an array like the result; a pair of them if the function returns two tensors.
        options: of the launch.
    """
    outputs = [np.empty(like.shape, like.dtype) for like in (result if isinstance(result, tuple) else (result,))]
    given = [np.ascontiguousarray(array).reshape(np.shape(array)) for array in arrays]
    absent = [None] * (3 - len(given))
    kernel[(1,)](
        *[*outputs, None][:2],
        *given,
        *absent,
        FUNCTION=function,
        **{name: x.shape for name, x in zip("ABC", given, strict=False)},
        **dict.fromkeys("ABC"[len(given) :], ()),
        **{f"{name}_COUNT": x.size for name, x in zip("ABC", given, strict=False)},
        **{f"{name}_COUNT": 0 for name in "ABC"[len(given) :]},
        **options,
    )
    return tuple(outputs) if isinstance(result, tuple) else outputs[0]
