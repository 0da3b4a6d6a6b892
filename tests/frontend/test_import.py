"""The import into the tile IR: kernels evaluated against NumPy, and what is kept of them for messages."""

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl
from triton.language.extra import libdevice

from mlutriton.diagnostics import KernelFault
from mlutriton.ir.ops import Constant, For, If, Load, Reduce, Store, TileLoad
from mlutriton.ir.passes import canonicalize, memory_access

RNG = np.random.default_rng(5)


def floats(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


# ---- values ---------------------------------------------------------------------------------------------------------


@triton.jit
def add_kernel(x, y, o, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    tl.store(o + offs, tl.load(x + offs, mask=mask, other=1.0) + tl.load(y + offs, mask=mask), mask=mask)


def test_masked_addition(run):
    x, y, o = floats(20), floats(20), np.zeros(20, np.float32)
    run(add_kernel, "*fp32 *fp32 *fp32 i32", (3,), x, y, o, 20, BLOCK=8)
    np.testing.assert_array_equal(o, x + y)


@triton.jit
def softmax_kernel(o, x, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + row * n + offs, mask=offs < n, other=-float("inf"))
    e = tl.exp(v - tl.max(v, axis=0))
    tl.store(o + row * n + offs, e / tl.sum(e, axis=0), mask=offs < n)


def test_softmax(run):
    x, o = floats(3, 13), np.zeros((3, 13), np.float32)
    run(softmax_kernel, "*fp32 *fp32 i32", (3,), o, x, 13, BLOCK=16)
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(o, e / e.sum(1, keepdims=True), rtol=1e-6)


@triton.jit
def matmul_kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm = (tl.program_id(0) * BM + tl.arange(0, BM)) % M
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    ap = a + rm[:, None] * K + rk[None, :]
    bp = b + rk[:, None] * N + rn[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(0, tl.cdiv(K, BK), num_stages=3):
        x = tl.load(ap, mask=rk[None, :] < K - k * BK, other=0.0)
        y = tl.load(bp, mask=(rk[:, None] < K - k * BK) & (rn[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc)
        ap += BK
        bp += BK * N
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    tl.store(c + rm[:, None] * N + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


def test_matmul(run):
    a, b = floats(10, 13).astype(np.float16), floats(13, 9).astype(np.float16)
    c = np.zeros((10, 9), np.float32)
    constants = {"BM": 8, "BN": 8, "BK": 4}
    run(matmul_kernel, "*fp16 *fp16 *fp32 i32 i32 i32", (2, 2), a, b, c, 10, 9, 13, **constants)
    np.testing.assert_allclose(c, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-5, atol=1e-6)


@triton.jit
def attention_kernel(Q, K, V, Out, n, D: tl.constexpr, BN: tl.constexpr):
    row = tl.program_id(0) * 4 + tl.arange(0, 4)
    d = tl.arange(0, D)
    q = tl.load(Q + row[:, None] * D + d[None, :])
    m = tl.full([4], float("-inf"), tl.float32)
    total = tl.zeros([4], tl.float32)
    acc = tl.zeros([4, D], tl.float32)
    for start in range(0, n, BN):
        r = start + tl.arange(0, BN)
        k = tl.load(K + r[None, :] * D + d[:, None])
        s = tl.where(row[:, None] >= r[None, :], tl.dot(q, k, input_precision="ieee"), float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        p = tl.exp2((s - new[:, None]) * 1.44269504)
        scale = tl.exp2((m - new) * 1.44269504)
        total = total * scale + tl.sum(p, 1)
        acc = tl.dot(p, tl.load(V + r[:, None] * D + d[None, :]), acc * scale[:, None], input_precision="ieee")
        m = new
    tl.store(Out + row[:, None] * D + d[None, :], acc / total[:, None])


def test_causal_attention(run):
    q, k, v = floats(8, 4), floats(8, 4), floats(8, 4)
    o = np.zeros((8, 4), np.float32)
    run(attention_kernel, "*fp32 *fp32 *fp32 *fp32 i32", (2,), q, k, v, o, 8, D=4, BN=4)
    s = np.where(np.tri(8, dtype=bool), q @ k.T, -np.inf)
    p = np.exp(s - s.max(1, keepdims=True))
    np.testing.assert_allclose(o, p / p.sum(1, keepdims=True) @ v, rtol=1e-4, atol=1e-5)


@triton.jit
def control_kernel(o, n):
    pid = tl.program_id(0)
    if pid >= n:
        return
    steps = 0
    value = pid + 7
    while value != 1:
        if value % 2 == 0:
            value = value // 2
            steps += 1
        else:
            value = 3 * value + 1
            steps += 1
    tl.store(o + pid, steps)
    if pid == 3:
        tl.store(o + pid, -1)
        return
    if pid == 4:
        if n > 5:
            return
        tl.store(o + pid, -2)
    tl.store(o + pid, steps + 100)


def collatz(value):
    return 0 if value == 1 else 1 + collatz(value // 2 if value % 2 == 0 else 3 * value + 1)


@pytest.mark.parametrize("n", [5, 6])
def test_loops_branches_and_early_returns(run, n):
    o = np.zeros(8, np.int32)
    run(control_kernel, "*i32 i32", (8,), o, n)
    expected = [collatz(pid + 7) + 100 if pid < n else 0 for pid in range(8)]
    expected[3] = -1
    if n > 5:
        expected[4] -= 100
    np.testing.assert_array_equal(o, expected)


@triton.jit(noinline=True)
def early_value(x, s):
    if x > 3:
        return x * 2, s
    if x == 1:
        return x - 7, s + 1.0
    return x, s * 2.0


@triton.jit
def calls_kernel(o, f, n):
    for i in range(n):
        a, b = early_value(i, 1.5)
        tl.store(o + i, a)
        tl.store(f + i, b)


def test_calls_are_inlined(run):
    o, f = np.zeros(6, np.int32), np.zeros(6, np.float32)
    run(calls_kernel, "*i32 *fp32 i32", (1,), o, f, 6)
    np.testing.assert_array_equal(o, [0, -6, 2, 3, 8, 10])
    np.testing.assert_array_equal(f, [3, 2.5, 3, 3, 1.5, 1.5])


@triton.jit
def atomics_kernel(x, o, lock, n, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    tl.atomic_add(o + offs // 2, v, mask=offs < n)
    tl.atomic_max(o + 8 + offs // 4, v)
    tl.atomic_min(o + 12 + offs // 4, v)
    old = tl.atomic_xchg(lock, 5)
    seen = tl.atomic_cas(lock + 1, old, 9)
    tl.atomic_or(lock + 2, seen + 2)
    tl.atomic_and(lock + 3, 6)
    tl.atomic_xor(lock + 4, 6)


def test_atomics(run):
    x, o, lock = floats(8), np.zeros(16, np.float32), np.arange(5, dtype=np.int32)
    lock[1] = 0
    run(atomics_kernel, "*fp32 *fp32 *i32 i32", (1,), x, o, lock, 7, BLOCK=8)
    sums = np.where(np.arange(8) < 7, x, 0).reshape(4, 2).sum(1, dtype=np.float32)
    np.testing.assert_allclose(o[:4], sums, rtol=1e-6)
    np.testing.assert_array_equal(o[8:10], np.maximum(x.reshape(2, 4).max(1), 0))
    np.testing.assert_array_equal(o[12:14], np.minimum(x.reshape(2, 4).min(1), 0))
    np.testing.assert_array_equal(lock, [5, 9, 2, 2, 2])


@triton.jit
def damped(a, b):
    if a > 3.5:
        return a * 0.5 + b
    return a + b


@triton.jit
def pick(a, i, b, j):
    return tl.where(a >= b, a, b), tl.where(a >= b, i, j)


@triton.jit
def scans_kernel(x, o, i, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    tl.store(o + offs, tl.cumsum(v, 0, reverse=True))
    tl.store(o + BLOCK + offs, tl.associative_scan(v, 0, damped))
    best, place = tl.reduce((v, offs), 0, pick)
    tl.store(o + 2 * BLOCK, best)
    tl.store(i, place)
    tl.store(i + 1, tl.argmin(v, 0))
    tl.store(i + 2, tl.sum((v > 0).to(tl.int32)))


def test_reductions_and_scans(run):
    x, o, i = floats(8) * 4, np.zeros(17, np.float32), np.zeros(3, np.int32)
    run(scans_kernel, "*fp32 *fp32 *i32", (1,), x, o, i, BLOCK=8)
    np.testing.assert_allclose(o[:8], np.cumsum(x[::-1])[::-1], rtol=1e-5, atol=1e-5)
    expected = [x[0]]
    for value in x[1:]:
        expected.append(expected[-1] * np.float32(0.5 if expected[-1] > 3.5 else 1) + value)
    np.testing.assert_allclose(o[8:16], expected, rtol=1e-5)
    assert o[16] == x.max()
    np.testing.assert_array_equal(i, [x.argmax(), x.argmin(), (x > 0).sum()])


@triton.jit
def doubled_below(a):
    if a > 0:
        return a
    return a * 2


@triton.jit
def shapes_kernel(x, o, i, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    m = tl.reshape(v, (BLOCK // 4, 4))
    tl.store(o + offs, tl.ravel(tl.trans(m)))
    tl.store(o + BLOCK + offs, tl.ravel(tl.permute(tl.reshape(v, (2, 2, BLOCK // 4)), (2, 0, 1))))
    a, b = tl.split(tl.join(v, v + 1))
    tl.store(o + 2 * BLOCK + tl.arange(0, 2 * BLOCK), tl.cat(a, b))
    tl.store(o + 4 * BLOCK + tl.arange(0, 2 * BLOCK), tl.interleave(v, b))
    tl.store(o + 6 * BLOCK + offs, tl.flip(v, 0))
    tl.store(o + 7 * BLOCK + offs, tl.sort(v))
    tl.store(o + 8 * BLOCK + offs, tl.gather(v, (offs * 3) % BLOCK, 0))
    tl.store(o + 9 * BLOCK + offs, tl.map_elementwise(doubled_below, v))
    tl.store(i + tl.arange(0, 4), tl.histogram(offs // 3, 4))
    tl.store(i + 4 + tl.arange(0, 4), tl.histogram(offs // 3, 4, mask=offs < 5))
    tl.store(i + 8, tl.sum(tl.load(i + 8 + tl.arange(0, 1))) + tl.num_programs(1))


def test_shapes(run):
    x, o, i = floats(16), np.zeros(160, np.float32), np.zeros(9, np.int32)
    run(shapes_kernel, "*fp32 *fp32 *i32", (1, 1), x, o, i, BLOCK=16)
    expected = [
        x.reshape(4, 4).T.ravel(),
        x.reshape(2, 2, 4).transpose(2, 0, 1).ravel(),
        np.concatenate([x, x + 1]),
        np.stack([x, x + 1], 1).ravel(),
        x[::-1],
        np.sort(x),
        x[np.arange(16) * 3 % 16],
        np.where(x > 0, x, x * 2),
    ]
    np.testing.assert_array_equal(o, np.concatenate(expected))
    np.testing.assert_array_equal(i, [3, 3, 3, 3, 3, 2, 0, 0, 1])


@triton.jit
def conversions_kernel(x, o, h, i, u, q, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    tl.store(h + offs, v.to(tl.float16, fp_downcast_rounding="rtz"))
    tl.store(o + offs, v.to(tl.bfloat16).to(tl.float32) + v.to(tl.float8e5).to(tl.float32))
    tl.store(o + BLOCK + offs, libdevice.rint(v) + tl.math.floor(v) + libdevice.tanh(v) + libdevice.fma(v, v, v))
    tl.store(o + 2 * BLOCK + offs, tl.clamp(v, -0.5, 0.5) + tl.maximum(v, 0.25) + tl.abs(v) + v % 0.75)
    tl.store(o + 3 * BLOCK + offs, tl.div_rn(v, 3.0) + tl.sqrt_rn(tl.abs(v)))
    k = v.to(tl.int32, bitcast=True)
    w = k.to(tl.uint32, bitcast=True)
    tl.store(i + offs, k // 7 + k % 5 + (k >> 3) + tl.minimum(k, 3) + libdevice.isnan(v).to(tl.int32))
    tl.store(u + offs, w // 7 + w % 5 + (w >> 3) + tl.minimum(w, 3) + tl.umulhi(w, w))
    tl.store(q + offs, (v > 0) ^ (k == 0))
    address = u.to(tl.int64) + 4 * BLOCK
    tl.store(address.to(tl.pointer_type(tl.uint32)), tl.where(v > 0, w, 1).to(tl.uint8).to(tl.uint32).sum(0))


def test_elementwise_arithmetic_and_conversions(run):
    x = floats(8)
    o, h, q = np.zeros(32, np.float32), np.zeros(8, np.float16), np.zeros(8, np.bool_)
    i, u = np.zeros(8, np.int32), np.zeros(9, np.uint32)
    run(conversions_kernel, "*fp32 *fp32 *fp16 *i32 *u32 *i1", (1,), x, o, h, i, u, q, BLOCK=8)
    nearest = x.astype(np.float16)
    toward_zero = np.where(abs(nearest) > abs(x), np.nextafter(nearest, np.float16(0)), nearest)
    np.testing.assert_array_equal(h, toward_zero)
    narrow = x.astype(ml_dtypes.bfloat16).astype(np.float32) + x.astype(ml_dtypes.float8_e5m2).astype(np.float32)
    np.testing.assert_array_equal(o[:8], narrow)
    np.testing.assert_allclose(o[8:16], np.rint(x) + np.floor(x) + np.tanh(x) + (x * x + x), rtol=1e-5, atol=1e-5)
    expected = np.clip(x, -0.5, 0.5) + np.maximum(x, 0.25) + abs(x) + np.fmod(x, np.float32(0.75))
    np.testing.assert_allclose(o[16:24], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(o[24:], x / np.float32(3) + np.sqrt(abs(x)), rtol=1e-6)
    k, w = x.view(np.int32), x.view(np.uint32)
    wide = k.astype(np.int64)
    quotient = np.trunc(wide / 7).astype(np.int64)
    np.testing.assert_array_equal(i, (quotient + np.fmod(wide, 5) + (wide >> 3) + np.minimum(wide, 3)).astype(np.int32))
    high = (w.astype(np.uint64) ** 2 >> 32).astype(np.uint32)
    np.testing.assert_array_equal(u[:8], w // 7 + w % 5 + (w >> 3) + np.minimum(w, 3) + high)
    assert u[8] == np.where(x > 0, w, 1).astype(np.uint8).sum()
    np.testing.assert_array_equal(q, x > 0)


# ---- descriptors and block pointers ---------------------------------------------------------------------------------


@triton.jit
def descriptors_kernel(x, o, s, M, N, first, BM: tl.constexpr, BN: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [BM, BN], padding_option="nan")
    target = tl.make_tensor_descriptor(o, [M, N], [N, 1], [BM, BN])
    for row in range(first, M, BM):
        for column in range(0, N, BN):
            target.store([row, column], source.load([row, column]) + target.load([row, column]))
    target.atomic_add([first, 0], tl.full((BM, BN), 1.0, tl.float32))
    block = source.load([first, first])
    tl.store(s + tl.arange(0, BM)[:, None] * BN + tl.arange(0, BN)[None, :], block)


@pytest.mark.parametrize("first", [0, -2, 1])
def test_descriptors(run, first):
    x, o, s = floats(6, 12), np.ones((6, 12), np.float32), np.zeros((4, 8), np.float32)
    expected = o.copy()
    expected[max(first, 0) :] += x[max(first, 0) :]
    rows = slice(max(first, 0), first + 4)
    expected[rows, :8] += 1
    run(descriptors_kernel, "*fp32 *fp32 *fp32 i32 i32 i32", (1,), x, o, s, 6, 12, first, BM=4, BN=8)
    np.testing.assert_array_equal(o, expected)
    around = np.full((10, 20), np.nan, np.float32)
    around[2:8, 2:14] = x
    np.testing.assert_array_equal(s, around[2 + first : 6 + first, 2 + first : 10 + first])


@triton.jit
def least_kernel(x, o, n, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [n], [1], [BLOCK])
    target = tl.make_tensor_descriptor(o, [n], [1], [BLOCK])
    target.atomic_min([0], source.load([0]))


@pytest.mark.parametrize(("name", "dtype"), [("i32", np.int32), ("u32", np.uint32)])
def test_descriptors_know_the_sign_of_their_elements(run, name, dtype):
    x = np.array([0x80000000, 5, 7], np.uint32).view(dtype)
    o = np.array([6, 6, 6], dtype)
    expected = np.minimum(x, o)
    run(least_kernel, f"*{name} *{name} i32", (1,), x, o, 3, BLOCK=4)
    np.testing.assert_array_equal(o, expected)


@triton.jit
def moved_descriptor_kernel(x, o, n, BLOCK: tl.constexpr):
    d = tl.make_tensor_descriptor(x, [n], [1], [BLOCK])
    total = tl.zeros([BLOCK], tl.float32)
    for i in range(3):
        if i == 1:
            d = tl.make_tensor_descriptor(x + n, [n], [1], [BLOCK])
        total += d.load([0])
    tl.store(o + tl.arange(0, BLOCK), total)


def test_descriptors_through_loops_and_branches(run):
    x, o = floats(2, 6), np.zeros(8, np.float32)
    run(moved_descriptor_kernel, "*fp32 *fp32 i32", (1,), x, o, 6, BLOCK=8)
    np.testing.assert_array_equal(o, [*(x[0] + x[1] + x[1]), 0, 0])


@triton.jit
def picked_rows_kernel(x, o, M, N, BN: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [1, BN])
    target = tl.make_tensor_descriptor(o, [M, N], [N, 1], [1, BN])
    rows = (tl.arange(0, 8) * 3) % 8
    target.scatter(source.gather(rows, 4), rows, 4)


def test_gathered_and_scattered_rows(run):
    x, o = floats(6, 12), np.zeros((6, 12), np.float32)
    run(picked_rows_kernel, "*fp32 *fp32 i32 i32", (1,), x, o, 6, 12, BN=8)
    np.testing.assert_array_equal(o, np.where(np.arange(12) >= 4, x, 0))


@triton.jit
def host_descriptor_kernel(d, o, BM: tl.constexpr, BN: tl.constexpr):
    block = d.load([0, 8 * tl.program_id(0)])
    tl.store(o + tl.arange(0, BM)[:, None] * BN + tl.arange(0, BN)[None, :], block)


@pytest.mark.parametrize(("pads_with_nan", "padding"), [(False, 0), (True, np.nan)])
def test_host_descriptors(compiled, pads_with_nan, padding, evaluated):
    function = compiled(host_descriptor_kernel, "tensordesc<fp32[4,8]> *fp32", BM=4, BN=8)
    names = [argument.name for argument in function.body.arguments]
    types = [str(argument.type) for argument in function.body.arguments]
    assert names[0] == "d"
    assert types == ["ptr<f32>", "i32", "i32", "i64", "i64", "i1", "ptr<f32>"]
    x, o = floats(4, 6), np.zeros((4, 8), np.float32)
    evaluated(function, (1,), x, 4, 6, 6, 1, pads_with_nan, o)
    np.testing.assert_array_equal(o[:, :6], x)
    np.testing.assert_array_equal(o[:, 6:], np.full((4, 2), padding, np.float32))


@triton.jit
def signs_kernel(d, o, n):
    for i in range(n):
        t = d.load([i * 8])
        tl.store(o + tl.arange(0, 8), t)
    tl.store(o + tl.arange(0, 8), d.load([tl.program_id(0) % 4 // 2]))
    tl.store(o + tl.arange(0, 8), d.load([n]))


def test_positions_that_cannot_be_negative_are_not_checked_for_it(compiled):
    function = compiled(signs_kernel, "tensordesc<fp32[8]> *fp32 i32")
    canonicalize.run(function)
    memory_access.run(function)
    loads = [operation.geometry for operation in function.walk() if isinstance(operation, TileLoad)]
    assert len(loads) == 3
    assert [isinstance(tile.firsts[0].defining_op, Constant) for tile in loads].count(False) == 1


# ---- what is kept for messages --------------------------------------------------------------------------------------


def first(function, kind):
    return next(operation for operation in function.walk() if isinstance(operation, kind))


def line_of(kernel, text):
    lines = kernel.fn.__code__.co_firstlineno, kernel.src.splitlines()
    return lines[0] + 1 + next(number for number, line in enumerate(lines[1]) if text in line)


def test_operations_keep_their_place_in_the_kernel(compiled):
    function = compiled(softmax_kernel, "*fp32 *fp32 i32", BLOCK=16)
    place = first(function, Load).location
    assert place.file.endswith("test_import.py")
    assert place.line == line_of(softmax_kernel, "tl.load")
    # The reduction stands in Triton's own library; what the user can act on is the call.
    assert first(function, Reduce).location.line == line_of(softmax_kernel, "tl.max")
    assert first(function, Reduce).location.file == place.file
    assert first(function, Store).location.line == line_of(softmax_kernel, "tl.store")


def test_values_keep_their_names(compiled):
    function = compiled(matmul_kernel, "*fp16 *fp16 *fp32 i32 i32 i32", BM=8, BN=8, BK=4)
    assert [argument.name for argument in function.body.arguments] == ["a", "b", "c", "M", "N", "K"]
    loop = first(function, For)
    assert loop.index.name == "k"
    assert {"ap", "bp", "acc"} == {value.name for value in loop.carried}
    assert first(function, Load).result.name == "x"
    assert loop.attributes["stages"] == 3


def test_facts_about_arguments_are_kept(compiled):
    function = compiled(add_kernel, "*fp32 *fp32 *fp32 i32", BLOCK=8)
    assert function.argument_attributes == [*3 * [{"divisibility": 16}], {}]


@triton.jit
def speaking_kernel(x, n):
    v = tl.load(x + tl.arange(0, 4))
    tl.device_print("v", v, n, hex=True)
    tl.device_assert(v > 0, "v is not positive")


def test_prints_and_assertions(compiled, evaluated):
    function = compiled(speaking_kernel, "*fp32 i32")
    printed, number = evaluated(function, (1,), np.ones(4, np.float32), 3)
    assert printed.prefix.strip() == "v: (operand 0)"
    np.testing.assert_array_equal(printed.values[0], np.ones(4))
    assert number.values[0] == 3
    with pytest.raises(KernelFault, match="v is not positive") as caught:
        evaluated(function, (1,), np.zeros(4, np.float32), 3)
    assert caught.value.location.line == line_of(speaking_kernel, "device_assert")


def test_early_returns_become_branches(compiled):
    function = compiled(control_kernel, "*i32 i32")
    assert isinstance(function.body.operations[-2], If)
