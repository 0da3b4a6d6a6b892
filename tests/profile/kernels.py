"""Kernels whose launches the tests of profiles examine."""

from __future__ import annotations

import inspect

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def softmax(out, x, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row + column, mask=mask, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row + column, powers / tl.sum(powers, axis=0), mask=mask)


@mlu.jit
def softmax_by_reciprocals(out, x, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row + column, mask=mask, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row + column, powers * (1 / tl.sum(powers, axis=0)), mask=mask)


@mlu.jit
def column_copy(out, x, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    tile = tl.load(x + i[:, None] * columns + j[None, :])
    tl.store(out + (j[:, None] * rows + i[None, :]), tl.trans(tile))


@mlu.jit
def gathered(out, x, place, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + tl.load(place + offsets)))


@mlu.jit
def matmul(c, a, b, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    i = tl.program_id(0) * M + tl.arange(0, M)
    j = tl.program_id(1) * N + tl.arange(0, N)
    total = tl.zeros((M, N), dtype=tl.float32)
    for start in range(0, k, K):
        inner = start + tl.arange(0, K)
        left = tl.load(a + i[:, None] * k + inner[None, :])
        right = tl.load(b + inner[:, None] * n + j[None, :])
        total += tl.dot(left, right)
    tl.store(c + i[:, None] * n + j[None, :], total.to(tl.float16))


@mlu.jit
def staircase(c, a, b, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    """A product with a matrix that is zero above steps, which begin at a place that is looked up."""
    i = tl.program_id(0) * M + tl.arange(0, M)
    j = tl.program_id(1) * N + tl.arange(0, N)
    total = tl.zeros((M, N), dtype=tl.float32)
    for start in range(tl.program_id(1) * N + tl.load(a).to(tl.int32), tl.num_programs(1) * N, K):
        inner = start + tl.arange(0, K)
        left = tl.load(a + i[:, None] * k + inner[None, :])
        right = tl.load(b + inner[:, None] * n + j[None, :])
        total += tl.dot(left, right)
    tl.store(c + i[:, None] * n + j[None, :], total.to(tl.float16))


@mlu.jit
def counted(counts, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(counts, tl.sum(tl.load(x + offsets), axis=0))


def softmax_run(rows=200, columns=500):
    x = np.random.default_rng(0).random((rows, columns), dtype=np.float32)
    return softmax[(rows,)](np.empty_like(x), x, columns, BLOCK=512 if columns <= 512 else 1024)


def column_copy_run(size=512):
    x = np.zeros((size, size), np.float32)
    return column_copy[(size // 64, size // 16)](np.empty_like(x), x, size, size, ROWS=64, COLUMNS=16)


def gathered_run(programs=96):
    place = np.random.default_rng(0).permutation(programs * 64).astype(np.int32)
    x = np.zeros(1 << 16, np.float32)  # more than would be looked up on chip
    return gathered[(programs,)](np.empty(place.size, np.float32), x, place, BLOCK=64)


def matmul_run(size=512, programs=(8, 4), kernel=matmul, **options):
    m, n = size // programs[0], size // programs[1]
    a, b = np.zeros((size, size), np.float16), np.zeros((size, size), np.float16)
    return kernel[programs](np.empty_like(a), a, b, size, size, size, M=m, N=n, K=128, **options)


def staircase_run(**options):
    """Programs of unequal length, dealt out as cores fall free."""
    run = matmul_run(kernel=staircase, **options)
    assert not run.program.is_resident
    return run


def cluster_run():
    """Programs of four cores each, which share SRAM and meet at barriers."""
    run = matmul_run(num_warps=4)
    assert run.trace.cores_per_program == 4
    return run


def counted_run(programs=60):
    return counted[(programs,)](np.zeros(1, np.int32), np.ones(programs * 64, np.int32), programs * 64, BLOCK=64)


RUNS = [softmax_run, column_copy_run, gathered_run, matmul_run, counted_run, cluster_run]


def line_of(kernel, text):
    lines, first = inspect.getsourcelines(kernel.fn)
    return next(first + number for number, line in enumerate(lines) if text in line)
