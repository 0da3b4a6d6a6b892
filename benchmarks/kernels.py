"""Kernels that are measured against NumPy and that no example shows, each with the case that is run."""

from functools import partial

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case


@mlu.jit
def gelu(output, x, bias, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < columns)
    values = tl.load(x + row * columns + column, mask=mask) + tl.load(bias + column, mask=column < columns)
    inner = 0.7978845608028654 * (values + 0.044715 * values * values * values)
    # tanh(u) = 2 * sigmoid(2 * u) - 1
    tl.store(output + row * columns + column, values * tl.sigmoid(2 * inner), mask=mask)


def gelu_case(rows, columns):
    def arguments():
        rng = np.random.default_rng(0)
        x = rng.standard_normal((rows, columns), dtype=np.float32)
        bias = rng.standard_normal(columns, dtype=np.float32)
        return {"output": np.empty_like(x), "x": x, "bias": bias, "rows": rows, "columns": columns}

    def reference(x, bias, **_):
        values = (x + bias).astype(np.float64)
        inner = np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)
        return {"output": (0.5 * values * (1 + np.tanh(inner))).astype(np.float32)}

    return Case(
        name="gelu",
        shape=f"{rows}x{columns} fp32",
        kernel=gelu,
        arguments=arguments,
        constants={"ROWS": 8, "BLOCK": 1024},
        grid=lambda meta: (triton.cdiv(rows, meta["ROWS"]), triton.cdiv(columns, meta["BLOCK"])),
        outputs=("output",),
        reference=reference,
        tolerance=(1e-5, 1e-6),
    )


@mlu.jit
def reduce_rows(output, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr, MAXIMUM: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row[:, None] < rows) & (column < columns)
    pointers = x + row[:, None] * columns + column
    if MAXIMUM:
        result = tl.max(tl.load(pointers, mask=mask, other=-float("inf")), axis=1)
    else:
        result = tl.sum(tl.load(pointers, mask=mask, other=0), axis=1)
    tl.store(output + row, result, mask=row < rows)


def reduction_case(rows, columns, *, maximum):
    def arguments():
        x = np.random.default_rng(0).random((rows, columns), dtype=np.float32)
        return {"output": np.empty(rows, np.float32), "x": x, "rows": rows, "columns": columns}

    def reference(x, **_):
        return {"output": x.max(axis=1) if maximum else x.sum(axis=1, dtype=np.float64).astype(np.float32)}

    return Case(
        name="reduction",
        shape=f"{rows}x{columns} fp32",
        kernel=reduce_rows,
        arguments=arguments,
        constants={"ROWS": 8, "BLOCK": triton.next_power_of_2(columns), "MAXIMUM": maximum},
        grid=lambda meta: (triton.cdiv(rows, meta["ROWS"]),),
        outputs=("output",),
        reference=reference,
        tolerance=(1e-5, 0.0),
    )


@mlu.jit
def sort_rows(output, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < columns)
    values = tl.load(x + row * columns + column, mask=mask, other=float("inf"))
    tl.store(output + row * columns + column, tl.sort(values, dim=1), mask=mask)


def sort_case(rows, columns):
    def arguments():
        x = np.random.default_rng(0).random((rows, columns), dtype=np.float32)
        return {"output": np.empty_like(x), "x": x, "rows": rows, "columns": columns}

    return Case(
        name="sort",
        shape=f"{rows}x{columns} fp32",
        kernel=sort_rows,
        arguments=arguments,
        constants={"ROWS": 8, "BLOCK": triton.next_power_of_2(columns)},
        grid=lambda meta: (triton.cdiv(rows, meta["ROWS"]),),
        outputs=("output",),
        reference=lambda x, **_: {"output": np.sort(x, axis=1)},
    )


@mlu.jit
def gather(output, x, indices, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    index = tl.load(indices + offsets, mask=mask, other=0)
    tl.store(output + offsets, tl.load(x + index, mask=mask), mask=mask)


def gather_case(n, size):
    def arguments():
        rng = np.random.default_rng(0)
        x, indices = rng.random(size, dtype=np.float32), rng.integers(0, size, n, np.int32)
        return {"output": np.empty(n, np.float32), "x": x, "indices": indices, "n": n}

    return Case(
        name="gather",
        shape=f"{n} of {size} fp32",
        kernel=gather,
        arguments=arguments,
        constants={"BLOCK": 8192},
        grid=lambda meta: (triton.cdiv(n, meta["BLOCK"]),),
        outputs=("output",),
        reference=lambda x, indices, **_: {"output": x[indices]},
    )


row_sum_case = partial(reduction_case, maximum=False)
row_maximum_case = partial(reduction_case, maximum=True)


@mlu.jit
def embedding_bag(output, weight, identifiers, bags, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    for bag in tl.range(tl.program_id(0), bags, tl.num_programs(0)):
        rows = tl.load(identifiers + bag * COUNT + tl.arange(0, COUNT))
        column = tl.arange(0, WIDTH)
        tile = tl.load(weight + rows[:, None] * WIDTH + column[None, :])
        tl.store(output + bag * WIDTH + column, tl.sum(tile, axis=0))


def embedding_bag_case(bags, count, size, width):
    def arguments():
        rng = np.random.default_rng(0)
        weight = rng.random((size, width), dtype=np.float32)
        identifiers = rng.integers(0, size, (bags, count), np.int32)
        return {
            "output": np.empty((bags, width), np.float32),
            "weight": weight,
            "identifiers": identifiers,
            "bags": bags,
        }

    def reference(weight, identifiers, **_):
        return {"output": weight[identifiers].sum(axis=1)}

    return Case(
        name="embedding_bag",
        shape=f"{bags} bags of {count} of {size}x{width} fp32",
        kernel=embedding_bag,
        arguments=arguments,
        constants={"COUNT": count, "WIDTH": width},
        grid=(48,),
        outputs=("output",),
        reference=reference,
        tolerance=(1e-5, 1e-6),
    )


@mlu.jit
def add_in_loop(x, y, output, n, BLOCK: tl.constexpr):
    first = tl.program_id(0) * BLOCK
    for start in range(first, min(first + BLOCK, n), BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        tl.store(output + offsets, tl.load(x + offsets) + tl.load(y + offsets))


@mlu.jit
def tutorial_matmul(
    a_ptr, b_ptr, c_ptr, M, N, K, stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # As most kernels for GPUs have it: rows and columns behind the end wrap, so that loads need no mask there.
    pid = tl.program_id(axis=0)
    num_pid_m = tl.cdiv(M, BLOCK_M)
    num_pid_n = tl.cdiv(N, BLOCK_N)
    num_pid_in_group = GROUP_M * num_pid_n
    group_id = pid // num_pid_in_group
    first_pid_m = group_id * GROUP_M
    group_size_m = min(num_pid_m - first_pid_m, GROUP_M)
    pid_m = first_pid_m + ((pid % num_pid_in_group) % group_size_m)
    pid_n = (pid % num_pid_in_group) // group_size_m
    offs_am = (pid_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    offs_bn = (pid_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    offs_k = tl.arange(0, BLOCK_K)
    a_ptrs = a_ptr + (offs_am[:, None] * stride_am + offs_k[None, :] * stride_ak)
    b_ptrs = b_ptr + (offs_k[:, None] * stride_bk + offs_bn[None, :] * stride_bn)
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(tl.cdiv(K, BLOCK_K)):
        a = tl.load(a_ptrs, mask=offs_k[None, :] < K - k * BLOCK_K, other=0.0)
        b = tl.load(b_ptrs, mask=offs_k[:, None] < K - k * BLOCK_K, other=0.0)
        accumulator = tl.dot(a, b, accumulator)
        a_ptrs += BLOCK_K * stride_ak
        b_ptrs += BLOCK_K * stride_bk
    offs_cm = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_cn = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    c_ptrs = c_ptr + stride_cm * offs_cm[:, None] + stride_cn * offs_cn[None, :]
    tl.store(c_ptrs, accumulator.to(tl.float16), mask=(offs_cm[:, None] < M) & (offs_cn[None, :] < N))


def tutorial_matmul_case(m, n, k, blocks=(128, 128, 32)):
    def arguments():
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal(shape, np.float32).astype(np.float16) for shape in ((m, k), (k, n)))
        sizes = {"M": m, "N": n, "K": k}
        rows = {"stride_am": k, "stride_bk": n, "stride_cm": n}
        columns = {"stride_ak": 1, "stride_bn": 1, "stride_cn": 1}
        return {"a_ptr": a, "b_ptr": b, "c_ptr": np.empty((m, n), np.float16), **sizes, **rows, **columns}

    return Case(
        name="tutorial_matmul",
        shape=f"{m}x{n}x{k} fp16",
        kernel=tutorial_matmul,
        arguments=arguments,
        constants={**dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), blocks, strict=True)), "GROUP_M": 8},
        grid=lambda meta: (triton.cdiv(m, meta["BLOCK_M"]) * triton.cdiv(n, meta["BLOCK_N"]),),
        outputs=("c_ptr",),
        reference=lambda a_ptr, b_ptr, **_: {
            "c_ptr": (a_ptr.astype(np.float32) @ b_ptr.astype(np.float32)).astype(np.float16)
        },
        tolerance=(1e-3, 5e-7 * k),
        flops=2 * m * n * k,
    )
