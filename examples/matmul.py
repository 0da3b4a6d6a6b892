"""Matrix multiplication: tiles, reuse and an epilogue that costs no trip to memory.

A program computes one ``BLOCK_M`` x ``BLOCK_N`` tile of the product and walks along K. Programs are numbered in groups
of ``GROUP_M`` tile rows, so that those that run at the same time share rows of A and columns of B in the cache. The
tile of B goes to the memory of the tensor unit, the tile of A and the sum stay in the core's own.

With ``num_warps=4`` the four cores of a cluster compute a tile together, a quarter of its rows each, and load the tile
of B once for all. A core's share of a 512 x 256 tile keeps its tensor unit busy, which no tile of one core does.

Masks handle sizes that no block divides: outside K both tiles read as zero, which adds nothing. The activation is
applied to the sum while it is still on chip.
"""

from functools import partial

import ml_dtypes
import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def leaky_relu(x):
    return tl.where(x >= 0, x, 0.01 * x)


@mlu.jit
def matmul(
    a, b, c, M, N, K,
    a_stride_m, a_stride_k, b_stride_k, b_stride_n, c_stride_m, c_stride_n,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    SUM: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    group = program // (GROUP_M * tiles_n)
    first_m = group * GROUP_M
    group_m = min(tiles_m - first_m, GROUP_M)
    tile_m = first_m + program % (GROUP_M * tiles_n) % group_m
    tile_n = program % (GROUP_M * tiles_n) // group_m

    m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    k = tl.arange(0, BLOCK_K)
    a_tile = a + m * a_stride_m + k[None, :] * a_stride_k
    b_tile = b + k[:, None] * b_stride_k + n * b_stride_n
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=SUM)
    for done in range(0, K, BLOCK_K):
        left = tl.load(a_tile, mask=(m < M) & (k[None, :] < K - done), other=0)
        right = tl.load(b_tile, mask=(k[:, None] < K - done) & (n < N), other=0)
        # Without "ieee", fp32 operands may be rounded to tf32 before they are multiplied.
        total = tl.dot(left, right, total, out_dtype=SUM, input_precision="ieee")
        a_tile += BLOCK_K * a_stride_k
        b_tile += BLOCK_K * b_stride_k
    if ACTIVATION == "leaky_relu":
        total = leaky_relu(total)
    tl.store(c + m * c_stride_m + n * c_stride_n, total.to(c.dtype.element_ty), mask=(m < M) & (n < N))


def launch_matmul(M, N, K, BLOCK_M, BLOCK_N, dtype="float16", ACTIVATION="none"):
    """How ``mlutriton tune`` launches it: a grid, and arguments of which no array is allocated."""
    integer = dtype == np.int8
    arrays = {"a": mlu.spec((M, K), dtype), "b": mlu.spec((K, N), dtype)}
    arrays["c"] = mlu.spec((M, N), np.int32 if integer else dtype)
    strides = {
        f"{name}_stride_{axis}": array.stride(number)
        for (name, array), axes in zip(arrays.items(), ["mk", "kn", "mn"], strict=True)
        for number, axis in enumerate(axes)
    }
    constants = {"SUM": tl.int32 if integer else tl.float32, "ACTIVATION": ACTIVATION}
    grid = (triton.cdiv(M, BLOCK_M) * triton.cdiv(N, BLOCK_N),)
    return grid, {**arrays, "M": M, "N": N, "K": K, **strides, **constants}


def reference(a, b, c, activation, **_):
    # Sums of int8 products are exact in float64, and NumPy multiplies that with BLAS.
    wide = np.float64 if a.dtype == np.int8 else np.float32
    product = a.astype(wide) @ b.astype(wide)
    if activation == "leaky_relu":
        product = np.where(product >= 0, product, np.float32(0.01) * product)
    return {"c": product.astype(c.dtype)}


def cases():
    bf16 = ml_dtypes.bfloat16
    return [
        case(512, 512, 512, np.float16, "fp16"),
        case(1024, 1024, 1024, np.float16, "fp16"),
        case(2048, 2048, 2048, np.float16, "fp16"),
        case(1024, 1024, 1024, np.float16, "fp16", activation="leaky_relu"),
        case(1024, 1024, 1024, bf16, "bf16"),
        case(1024, 1024, 1024, np.float32, "fp32"),
        case(1024, 1024, 1024, np.int8, "int8"),
        case(500, 333, 257, np.float16, "fp16", activation="leaky_relu"),
        case(500, 333, 257, np.float32, "fp32"),
        case(500, 333, 257, np.int8, "int8"),
    ]


def case(m, n, k, dtype, dtype_name, activation="none", on_cluster=False, blocks=None):
    integer = dtype == np.int8
    output_dtype = np.int32 if integer else dtype
    # On a cluster, segments of 512 bytes.
    blocks = blocks or ((512, 256, 512 // np.dtype(dtype).itemsize) if on_cluster else (128, 256, 128))

    def arguments():
        rng = np.random.default_rng(0)
        if integer:
            a, b = (rng.integers(-128, 128, shape, np.int8) for shape in [(m, k), (k, n)])
        else:
            a, b = (rng.standard_normal(shape, np.float32).astype(dtype) for shape in [(m, k), (k, n)])
        c = np.empty((m, n), output_dtype)
        strides = {
            f"{name}_stride_{axis}": array.strides[i] // array.itemsize
            for name, array, axes in [("a", a, "mk"), ("b", b, "kn"), ("c", c, "mn")]
            for i, axis in enumerate(axes)
        }
        return {"a": a, "b": b, "c": c, "M": m, "N": n, "K": k, **strides}

    return Case(
        name="matmul",
        shape=f"{m}x{n}x{k} {dtype_name}"
        + (f" {activation}" if activation != "none" else "")
        + " on clusters" * on_cluster,
        kernel=matmul,
        arguments=arguments,
        constants={
            **dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), blocks, strict=True)),
            "num_warps": 4 if on_cluster else 1,
            "GROUP_M": 4,
            "SUM": tl.int32 if integer else tl.float32,
            "ACTIVATION": activation,
        },
        grid=lambda meta: (triton.cdiv(m, meta["BLOCK_M"]) * triton.cdiv(n, meta["BLOCK_N"]),),
        outputs=("c",),
        reference=partial(reference, activation=activation),
        # Sums in another order differ in their last bits, the more terms they have the more; storing them rounds once
        # to the output's own precision.
        tolerance=(0.0, 0.0) if integer else (float(ml_dtypes.finfo(dtype).eps), max(5e-4, 5e-7 * k)),
        flops=2 * m * n * k,
    )


if __name__ == "__main__":
    show(cases())
