"""Tests as Triton's own are written: torch tensors on ``device``, ``triton._internal_testing``, compiled kernels."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from numpy.random import RandomState
from triton._internal_testing import (
    float_dtypes,
    int_dtypes,
    integral_dtypes,
    is_cuda,
    is_hip,
    is_interpreter,
    numpy_random,
    to_numpy,
    to_triton,
    torch_dtype_name,
    uint_dtypes,
)

SIZE = 128


@triton.jit
def patched(x, y, z, OPERATION: tl.constexpr, SIZE: tl.constexpr):
    offsets = tl.arange(0, SIZE)
    x = tl.load(x + offsets)
    y = tl.load(y + offsets)
    tl.store(z + offsets, PLACEHOLDER)  # noqa: F821


def patch(kernel, expression):
    new = triton.JITFunction(kernel.fn)
    new._unsafe_update_src(kernel.src.replace("PLACEHOLDER", expression))
    return new


def check_binary(expression, dtype_x, dtype_y, device, numpy_expression=None, dtype_z=None, tolerance=0.0):
    rs = RandomState(17)
    x = numpy_random(SIZE, dtype_x, rs, low=1, high=100)
    y = numpy_random(SIZE, dtype_y, rs, low=1, high=100)
    with np.errstate(all="ignore"):
        expected = eval(numpy_expression or expression, {"x": x, "y": y, "np": np})
    expected = expected.astype(dtype_z or expected.dtype)
    z = to_triton(np.empty(SIZE, expected.dtype), device=device)
    patch(patched, expression)[(1,)](to_triton(x, device), to_triton(y, device), z, OPERATION=0, SIZE=SIZE, num_warps=4)
    np.testing.assert_allclose(to_numpy(z), expected, rtol=tolerance, atol=tolerance)


def test_target(device):
    assert not is_cuda()
    assert not is_hip()
    assert not is_interpreter()
    target = triton.runtime.driver.active.get_current_target()
    assert target.backend == device == "cpu"
    assert triton.runtime.driver.active.get_active_torch_device() == torch.device(device)
    assert torch.empty(1, device=target.backend).device.type == "cpu"


@pytest.mark.parametrize("dtype", integral_dtypes + float_dtypes)
def test_add(dtype, device):
    check_binary("x + y", dtype, dtype, device)


@pytest.mark.parametrize("op", ["-", "*", "/"])
def test_arithmetic(op, device):
    check_binary(f"x {op} y", "float32", "float32", device)


@pytest.mark.parametrize(("dtype_x", "dtype_y"), [("int8", "int32"), ("uint8", "uint16"), ("int16", "float32")])
def test_promotion(dtype_x, dtype_y, device):
    check_binary("x + y", dtype_x, dtype_y, device)


@pytest.mark.parametrize("dtype", int_dtypes)
def test_bitwise(dtype, device):
    check_binary("(x & y) ^ (x | ~y)", dtype, dtype, device)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64"])
def test_shift(dtype, device):
    check_binary("x << (y % 8)", dtype, dtype, device)
    check_binary("x >> (y % 8)", dtype, dtype, device)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("op", ["==", "!=", "<", "<=", ">", ">="])
def test_compare(dtype, op, device):
    check_binary(f"x {op} y", dtype, dtype, device, dtype_z="int8")


@pytest.mark.parametrize("dtype", ["int32", *uint_dtypes])
def test_division(dtype, device):
    check_binary("x // y", dtype, dtype, device)
    check_binary("x % y", dtype, dtype, device)


def test_where_and_minimum(device):
    check_binary("tl.where(x > y, x, y)", "float32", "float32", device, "np.maximum(x, y)")
    check_binary("tl.minimum(x, y)", "int16", "int16", device, "np.minimum(x, y)")


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "sin", "cos"])
def test_math(name, device):
    expression = f"tl.{name}(tl.abs(x))"
    check_binary(expression, "float32", "float32", device, f"np.{name}(np.abs(x))", tolerance=1e-5)


def test_bfloat16(device):
    x = to_triton(numpy_random(SIZE, "bfloat16"), device, dst_type="bfloat16")
    z = torch.empty_like(x)
    patch(patched, "x + y")[(1,)](x, x, z, OPERATION=0, SIZE=SIZE)
    assert torch_dtype_name(z.dtype) == "bfloat16"
    torch.testing.assert_close(z, x + x)


@triton.jit
def masked_copy(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets, mask=offsets < n, other=7), mask=offsets < n + 2)


@pytest.mark.parametrize("n", [0, 1, 63, 100])
def test_masked_load_store(n, device):
    x = torch.arange(128, dtype=torch.int32, device=device)
    out = torch.zeros(256, dtype=torch.int32, device=device)
    masked_copy[(4,)](out, x, n, BLOCK=32)
    expected = torch.zeros_like(out)
    expected[:n] = x[:n]
    expected[n : min(n + 2, 128)] = 7
    assert torch.equal(out, expected)


@triton.jit
def reduce_rows(out, x, OPERATION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, AXIS: tl.constexpr):
    at = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    values = tl.load(x + at)
    if OPERATION == "sum":
        reduced = tl.sum(values, axis=AXIS)
    elif OPERATION == "max":
        reduced = tl.max(values, axis=AXIS)
    elif OPERATION == "min":
        reduced = tl.min(values, axis=AXIS)
    else:
        reduced = tl.argmax(values, axis=AXIS)
    tl.store(out + tl.arange(0, COLUMNS if AXIS == 0 else ROWS), reduced)


@pytest.mark.parametrize("op", ["sum", "max", "min", "argmax"])
@pytest.mark.parametrize(("axis", "dtype"), [(0, "int32"), (1, "float32")])
def test_reduce(op, axis, dtype, device):
    x = numpy_random((16, 32), dtype, low=-100, high=100)
    expected = getattr(np, op)(x, axis=axis).astype("int32" if op == "argmax" else dtype)
    out = to_triton(np.empty_like(expected), device)
    reduce_rows[(1,)](out, to_triton(x, device), OPERATION=op, ROWS=16, COLUMNS=32, AXIS=axis)
    np.testing.assert_allclose(to_numpy(out), expected, rtol=1e-5, atol=1e-5)


@triton.jit
def atomic(z, x, OPERATION: tl.constexpr):
    value = tl.load(x + tl.program_id(0))
    if OPERATION == "add":
        tl.atomic_add(z, value)
    elif OPERATION == "max":
        tl.atomic_max(z, value)
    elif OPERATION == "min":
        tl.atomic_min(z, value)
    else:
        tl.atomic_xchg(z, value)


@pytest.mark.parametrize("op", ["add", "max", "min"])
@pytest.mark.parametrize("dtype", ["uint32", "float32"])
def test_atomic_rmw(op, dtype, device):
    x = numpy_random(50, dtype, low=1, high=1000)
    z = to_triton(np.array([500], dtype), device)
    atomic[(50,)](z, to_triton(x, device), OPERATION=op)
    expected = {"add": 500 + x.sum(), "max": max(500, x.max()), "min": min(500, x.min())}[op]
    np.testing.assert_allclose(to_numpy(z)[0], expected, rtol=1e-5)


@triton.jit
def locked(count, lock):
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(count, tl.load(count) + 1)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


def test_atomic_cas(device):
    count, lock = (torch.zeros(1, dtype=torch.int32, device=device) for _ in range(2))
    locked[(20,)](count, lock, num_warps=1)
    assert count.item() == 20


@triton.jit
def dot(z, x, y, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left = tl.load(x + m[:, None] * K + k[None, :])
    right = tl.load(y + k[:, None] * N + n[None, :])
    product = tl.dot(left, right, input_precision=PRECISION, out_dtype=z.dtype.element_ty)
    tl.store(z + m[:, None] * N + n[None, :], product)


@pytest.mark.parametrize(("m", "n", "k"), [(16, 16, 16), (32, 64, 128)])
@pytest.mark.parametrize("dtype", ["int8", "float16", "bfloat16", "float32"])
def test_dot(m, n, k, dtype, device):
    rs = RandomState(17)
    x, y = (to_triton(numpy_random(shape, dtype, rs), device, dst_type=dtype) for shape in ((m, k), (k, n)))
    z = torch.empty((m, n), dtype=torch.int32 if dtype == "int8" else torch.float32, device=device)
    pgm = dot[(1,)](z, x, y, M=m, N=n, K=k, PRECISION="ieee", num_warps=4, num_stages=3)
    torch.testing.assert_close(z, x.to(z.dtype) @ y.to(z.dtype), rtol=1e-3, atol=1e-3)
    assert "tt.dot" in pgm.asm["ttir"]
    with pytest.raises(KeyError):
        pgm.asm["ptx"]


@triton.jit
def scan_rows(z, x, N: tl.constexpr, REVERSE: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(z + at, tl.cumsum(tl.load(x + at), axis=0, reverse=REVERSE))


@pytest.mark.parametrize("reverse", [False, True])
def test_cumsum(reverse, device):
    x = numpy_random((4, 64), "int32", low=-50, high=50)
    z = to_triton(np.empty_like(x), device)
    scan_rows[(4,)](z, to_triton(x, device), N=64, REVERSE=reverse)
    expected = np.cumsum(x[:, ::-1], axis=1)[:, ::-1] if reverse else np.cumsum(x, axis=1)
    np.testing.assert_array_equal(to_numpy(z), expected)


@triton.jit
def transposed(z, x, M: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(z + tl.arange(0, N)[:, None] * M + tl.arange(0, M)[None, :], tl.trans(tl.load(x + at)))


def test_trans(device):
    x = torch.randn((16, 32), device=device)
    z = torch.empty((32, 16), device=device)
    transposed[(1,)](z, x, M=16, N=32)
    assert torch.equal(z, x.T)


@triton.jit
def specialized(out, a, b):
    tl.store(out, a + b)


def test_specialization_and_warmup(device, fresh_triton_cache):
    warm = specialized.warmup(torch.int32, 1, 16, grid=(1,))
    assert "divisibility" in warm.asm["ttir"]
    out = torch.zeros(1, dtype=torch.int32, device=device)
    pgm = specialized[(1,)](out, 1, 17)
    assert out.item() == 18
    assert pgm.metadata.shared >= 0
    assert pgm.metadata.num_warps == 1
    assert (pgm.n_spills, pgm.n_regs >= 0) == (0, True)
    assert any(fresh_triton_cache.rglob("specialized.ttir"))


def test_knobs_are_isolated(device, fresh_knobs, tmp_path):
    fresh_knobs.cache.dir = str(tmp_path)
    seen = []
    fresh_knobs.runtime.jit_post_compile_hook = lambda *args, **kwargs: seen.append(kwargs["fn"].name)
    fresh = triton.JITFunction(specialized.fn)
    fresh[(1,)](torch.zeros(1, dtype=torch.int32, device=device), 2, 3)
    assert [name.rpartition(".")[2] for name in seen] == ["specialized"]


@triton.jit
def refused(out):
    tl.store(out, tl.arange(0, 3))


def test_compile_errors_are_tritons(device):
    with pytest.raises(triton.CompilationError):
        refused[(1,)](torch.zeros(4, dtype=torch.int32, device=device))


def test_random(device):
    @triton.jit
    def uniform(out, seed, N: tl.constexpr):
        offsets = tl.arange(0, N)
        tl.store(out + offsets, tl.rand(seed, offsets))

    out = torch.empty(1024, device=device)
    uniform[(1,)](out, 42, N=1024)
    assert 0.45 < out.mean().item() < 0.55


def test_do_bench_and_autotune(device):
    @triton.autotune(configs=[triton.Config({"BLOCK": block}, num_warps=4) for block in (16, 32)], key=["n"])
    @triton.jit
    def copy(out, x, n, BLOCK: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(out + offsets, tl.load(x + offsets, mask=offsets < n), mask=offsets < n)

    x = torch.randn(1000, device=device)
    out = torch.empty_like(x)
    launch = lambda: copy[lambda meta: (triton.cdiv(1000, meta["BLOCK"]),)](out, x, 1000)  # noqa: E731
    launch()
    assert torch.equal(out, x)
    assert triton.testing.do_bench(launch) > 0


@triton.jit
def stores_at_its_value(x, v):
    tl.store(x + v, v)


def test_small_allocations_are_rounded_up(device):
    x = torch.empty(1, device=device)
    assert "%v: i32" in stores_at_its_value[(1,)](x, 3).asm["ttir"]
    with pytest.raises(RuntimeError, match="misses every registered array"):
        stores_at_its_value[(1,)](x, 4)


def test_hosts_find_the_size_of_the_device(device):
    properties = torch.get_device_module(device).get_device_properties(device)
    current = triton.runtime.driver.active.get_current_device()
    told = triton.runtime.driver.active.utils.get_device_properties(current)
    assert properties.multi_processor_count == told["multiprocessor_count"]
    assert properties.shared_memory_per_block_optin == told["max_shared_mem"]
