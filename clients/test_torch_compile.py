"""Kernels that ``torch.compile`` generates, against torch itself: results and gradients.

Torch can have its compiler write Triton for the CPU, if Triton has a backend of that name, which it has here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

import mlutriton as mlu
from clients.comparison import Recorder, recorded, results_and_gradients
from mlutriton.backend.launcher import Launcher


@pytest.fixture(autouse=True)
def written_in_triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Lets torch write Triton; gives the names of the kernels that were launched."""
    launched: list[str] = []
    prepared = Launcher.prepared

    def prepare_and_tell(launcher: Any, kernel: Any, *args: Any) -> Any:
        launched.append(kernel.program.name)
        return prepared(launcher, kernel, *args)

    monkeypatch.setattr(Launcher, "prepared", prepare_and_tell)
    torch._dynamo.reset()
    chosen = {
        "cpu_backend": "triton",
        "force_disable_caches": True,
        "compile_threads": 1,
        "triton.autotune_pointwise": False,
    }
    with torch._inductor.config.patch(chosen):
        yield launched


def _numbers(*shape: int) -> Tensor:
    return torch.randn(shape)


def _places(*shape: int) -> Tensor:
    return torch.randint(0, 20, shape)


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cosine + torch.cat([-x[..., half:], x[..., :half]], -1) * sine


def _batch_norm(x: Tensor) -> Tensor:
    return functional.batch_norm(x, None, None, training=True)


# What is compiled, its arguments, and how many of them have a gradient: the first ones.
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[], list[Tensor]], int]] = {
    "softmax": (lambda x: x.softmax(-1), lambda: [_numbers(37, 1300)], 1),
    "softmax_of_columns": (lambda x: x.softmax(0), lambda: [_numbers(130, 37)], 1),
    "log_softmax": (lambda x: x.log_softmax(-1), lambda: [_numbers(37, 130)], 1),
    "layer_norm": (
        lambda x, w, b: functional.layer_norm(x, (130,), w, b),
        lambda: [_numbers(37, 130), _numbers(130), _numbers(130)],
        3,
    ),
    "layer_norm_in_a_loop": (lambda x: functional.layer_norm(x, (5000,)), lambda: [_numbers(7, 5000)], 1),
    "rms_norm": (lambda x, w: functional.rms_norm(x, (512,), w), lambda: [_numbers(9, 512), _numbers(512)], 2),
    "batch_norm": (_batch_norm, lambda: [_numbers(8, 6, 14, 14)], 1),
    "group_norm": (lambda x: functional.group_norm(x, 4), lambda: [_numbers(3, 16, 9, 9)], 1),
    "gelu": (lambda x: functional.gelu(x) + functional.gelu(x, approximate="tanh"), lambda: [_numbers(999)], 1),
    "swiglu": (lambda a, b: functional.silu(a) * b, lambda: [_numbers(33, 77), _numbers(33, 77)], 2),
    "trigonometric": (lambda x: x.sin() + x.cos() + x.tan() + x.atan() + (x / 9).asin(), lambda: [_numbers(999)], 1),
    "hyperbolic": (lambda x: x.sinh() + x.cosh() + x.tanh() + x.asinh() + (x / 9).atanh(), lambda: [_numbers(999)], 1),
    "exponentials": (
        lambda x: x.exp() + x.exp2() + x.expm1() + x.abs().log() + x.abs().log2() + x.abs().log1p(),
        lambda: [_numbers(999)],
        1,
    ),
    "powers": (lambda x, y: x.abs() ** y + x**3 + x.abs() ** 0.5, lambda: [_numbers(999), _numbers(999)], 2),
    "special": (
        lambda x: x.erf() + x.erfc() + (x / 5).erfinv() + x.abs().lgamma() + torch.special.i0(x),
        lambda: [_numbers(333)],
        0,
    ),
    "remainders": (
        lambda x, y: (x.atan2(y), x.hypot(y), x.fmod(y), x.remainder(y), x.copysign(y), x.nextafter(y)),
        lambda: [_numbers(999), _numbers(999)],
        0,
    ),
    "rounding": (lambda x: (x.round(), x.floor(), x.ceil(), x.trunc(), x.frac()), lambda: [_numbers(999) * 5], 0),
    "integers": (
        lambda a, b: (a // (b + 1), a % (b + 1), a & b, a ^ b, ~a, a << (b % 8), a >> (b % 8)),
        lambda: [_places(999) - 9, _places(999)],
        0,
    ),
    "casts": (
        lambda x: (x.half(), x.bfloat16(), x.double(), x.int(), x.long(), x.to(torch.uint8), x.bool()),
        lambda: [_numbers(999).abs() * 20],
        0,
    ),
    "float8": (
        lambda x: x.to(torch.float8_e4m3fn).float() + x.to(torch.float8_e5m2).float(),
        lambda: [_numbers(999)],
        0,
    ),
    "float64": (lambda x: x.exp() + x.sum(-1, keepdim=True), lambda: [_numbers(37, 130).double()], 0),
    "sums": (lambda x: (x.sum(), x.sum(0), x.mean(1), x.prod(1)), lambda: [_numbers(37, 130)], 0),
    "sum_in_two_kernels": (lambda x: (x.sum(), x.mean(), x.amax()), lambda: [_numbers(100_000)], 0),
    "variances": (lambda x: (x.var(), x.var(1), x.std(0)), lambda: [_numbers(37, 1300)], 1),
    "extremes": (
        lambda x: (*x.max(1), *x.min(0), x.amax(1), x.argmax(1), x.argmin(0)),
        lambda: [_numbers(37, 130)],
        0,
    ),
    "norms": (lambda x: (x.norm(), x.norm(dim=1), x.logsumexp(1)), lambda: [_numbers(37, 130)], 1),
    "cumulative": (
        lambda x: (x.cumsum(0), x.cumsum(1), (x / 2).cumprod(1), *x.cummax(1), x.logcumsumexp(1)),
        lambda: [_numbers(37, 60)],
        0,
    ),
    "sort": (lambda x: torch.sort(x, stable=True), lambda: [_places(37, 60)], 0),
    "bucketize": (torch.bucketize, lambda: [_numbers(999), torch.linspace(-2, 2, 17)], 0),
    "index": (lambda x, j: (x[j], x[:, j], x[j, j]), lambda: [_numbers(50, 20), _places(30)], 1),
    "gather": (lambda x, j: x.gather(1, j), lambda: [_numbers(30, 50), _places(30, 9)], 1),
    "scatter_add": (
        lambda x, s, j: x.scatter_add(0, j, s),
        lambda: [_numbers(50, 20), _numbers(30, 20), _places(30, 20)],
        2,
    ),
    "index_put": (
        lambda x, s, j: x.index_put((j,), s, accumulate=True),
        lambda: [_numbers(50, 20), _numbers(30, 20), _places(30)],
        2,
    ),
    "embedding": (lambda w, j: functional.embedding(j, w), lambda: [_numbers(50, 33), _places(7, 9)], 1),
    "pad": (lambda x: (functional.pad(x, (1, 2, 3, 4)), functional.pad(x, (1, 2, 3, 4), "reflect")),
            lambda: [_numbers(2, 3, 9, 9)], 0),
    "moves": (
        lambda x: (x.roll(3, 0), x.flip(1), x.t().contiguous(), x.tril(), x.repeat(2, 3)),
        lambda: [_numbers(15, 17)],
        0,
    ),
    "unfold": (lambda x: functional.unfold(x, 3), lambda: [_numbers(2, 3, 9, 9)], 1),
    "pools": (
        lambda x: (functional.max_pool2d(x, 3, 2), functional.avg_pool2d(x, 3, 2)),
        lambda: [_numbers(2, 3, 19, 19)],
        1,
    ),
    "interpolation": (
        lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda: [_numbers(2, 3, 9, 9)],
        1,
    ),
    "grid_sample": (functional.grid_sample, lambda: [_numbers(2, 3, 9, 9), _numbers(2, 5, 5, 2)], 0),
    "cross_entropy": (functional.cross_entropy, lambda: [_numbers(37, 130), _places(37)], 1),
    "losses": (
        lambda x, y: (functional.mse_loss(x, y), functional.smooth_l1_loss(x, y), functional.huber_loss(x, y)),
        lambda: [_numbers(37, 130), _numbers(37, 130)],
        1,
    ),
    "rotary": (_rotated, lambda: [_numbers(2, 4, 10, 64), _numbers(10, 64), _numbers(10, 64)], 1),
    "quantize": (
        lambda x: (x / 0.05).round().clamp(-128, 127).to(torch.int8).float() * 0.05,
        lambda: [_numbers(999)],
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_and_gradients_are_torchs(name: str, record_property: Recorder, written_in_triton: list[str]) -> None:
    function, arguments, differentiable = FUNCTIONS[name]
    torch.manual_seed(0)
    inputs = arguments()
    expected = results_and_gradients(function, inputs, differentiable)
    with recorded(record_property, "torch.compile", name):
        results = results_and_gradients(torch.compile(function), inputs, differentiable)
        assert written_in_triton
        assert all(kernel.startswith("triton_") for kernel in written_in_triton)
        for result, want in zip(results, expected, strict=True):
            torch.testing.assert_close(result, want, rtol=1e-3, atol=1e-4, equal_nan=True)


@triton.jit
def triton_double(out, x, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + place, 2 * tl.load(x + place, mask=place < n), mask=place < n)


TUNED = triton.autotune([triton.Config({"BLOCK": 64}), triton.Config({"BLOCK": 128})], key=["n"])(triton_double)
OWN = {"plain": triton_double, "of mlu": mlu.jit(triton_double.fn), "tuned": TUNED}


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("name", OWN)
def test_launches_in_a_compiled_function_are_part_of_it(name: str, backend: str, written_in_triton: list[str]) -> None:
    kernel: Any = OWN[name]
    constants = {} if name == "tuned" else {"BLOCK": 128}

    def function(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        kernel[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)](out, x + 1, x.numel(), **constants)
        return out.sin()

    x = _numbers(1000)
    torch.testing.assert_close(torch.compile(function, backend=backend, fullgraph=True)(x), (2 * (x + 1)).sin())
    assert any("triton_double" in launched for launched in written_in_triton)
