"""FlagGems' operators, unmodified, on CPU tensors: against torch's operators of the same name.

With ``GEMS_VENDOR=cambricon`` those that FlagGems has for the MLU take the place of the generic ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import flag_gems
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clients.comparison import Recorder, recorded

Arguments = Callable[[], tuple[Any, ...]]


def _float(*shape: int) -> Tensor:
    return torch.randn(shape)


def _positive(*shape: int) -> Tensor:
    return torch.rand(shape) * 4 + 0.1


def _unit(*shape: int) -> Tensor:
    return torch.rand(shape) * 1.8 - 0.9


def _integer(*shape: int) -> Tensor:
    return torch.randint(-100, 100, shape, dtype=torch.int32)


def _special(*shape: int) -> Tensor:
    x = torch.randn(shape)
    x.view(-1)[::3] = torch.nan
    x.view(-1)[1::5] = torch.inf
    x.view(-1)[2::7] = -torch.inf
    return x


def _bool(*shape: int) -> Tensor:
    return torch.rand(shape) > 0.5


# By name: what torch has of the same name, and how the arguments are made.
POINTWISE: dict[str, tuple[Callable[..., Any], Arguments]] = {
    **{
        name: (getattr(torch, name), lambda: (_float(7, 130),))
        for name in (
            "abs angle atan ceil cos cosh erf exp exp2 expm1 neg reciprocal relu round sigmoid signbit sin square "
            "tan tanh logical_not arcsinh"
        ).split()
    },
    **{name: (getattr(torch, name), lambda: (_positive(7, 130),)) for name in "log log10 rsqrt sqrt".split()},
    **{name: (getattr(torch, name), lambda: (_unit(7, 130),)) for name in "acos logit".split()},
    **{name: (getattr(torch, name), lambda: (_special(7, 50),)) for name in "isnan isinf isfinite isneginf".split()},
    **{
        name: (getattr(functional, name), lambda: (_float(7, 130),))
        for name in "celu elu gelu glu hardsigmoid relu6 selu silu softplus softshrink".split()
    },
    "log_sigmoid": (functional.logsigmoid, lambda: (_float(7, 130),)),
    "nan_to_num": (torch.nan_to_num, lambda: (_special(7, 50),)),
    "bitwise_not": (torch.bitwise_not, lambda: (_integer(7, 130),)),
    **{
        name: (getattr(torch, name), lambda: (_float(7, 130), _float(130)))
        for name in (
            "add sub mul maximum minimum fmin atan2 hypot logaddexp copysign eq ne lt le gt ge logical_and logical_or "
            "logical_xor"
        ).split()
    },
    "true_divide": (torch.true_divide, lambda: (_float(7, 130), _positive(7, 130))),
    "floor_divide": (torch.floor_divide, lambda: (_float(7, 130), _positive(7, 130))),
    "remainder": (torch.remainder, lambda: (_integer(7, 130), torch.randint(1, 9, (7, 130), dtype=torch.int32))),
    "pow_tensor_tensor": (torch.pow, lambda: (_positive(7, 130), _float(7, 130))),
    "pow_tensor_scalar": (torch.pow, lambda: (_positive(7, 130), 2.5)),
    "bitwise_and_tensor": (torch.bitwise_and, lambda: (_integer(7, 130), _integer(7, 130))),
    "bitwise_or_tensor": (torch.bitwise_or, lambda: (_integer(7, 130), _integer(7, 130))),
    "bitwise_left_shift": (
        torch.bitwise_left_shift,
        lambda: (_integer(7, 130), torch.randint(0, 9, (7, 130), dtype=torch.int32)),
    ),
    "clamp": (torch.clamp, lambda: (_float(7, 130), -0.5, 0.7)),
    "lerp_scalar": (torch.lerp, lambda: (_float(7, 130), _float(7, 130), 0.3)),
    "addcmul": (torch.addcmul, lambda: (_float(7, 130), _float(7, 130), _float(7, 130))),
    "addcdiv": (torch.addcdiv, lambda: (_float(7, 130), _float(7, 130), _positive(7, 130))),
    "where_self": (torch.where, lambda: (_bool(7, 130), _float(7, 130), _float(7, 130))),
    "threshold": (functional.threshold, lambda: (_float(7, 130), 0.1, 20.0)),
}

REDUCTIONS: dict[str, tuple[Callable[..., Any], Arguments]] = {
    **{
        name: (getattr(torch, name), lambda: (_float(7, 130),))
        for name in "sum mean prod max min amax argmax argmin count_nonzero".split()
    },
    "sum_dim": (torch.sum, lambda: (_float(7, 130), [1])),
    "mean_dim": (torch.mean, lambda: (_float(7, 130), [0])),
    "prod_dim": (torch.prod, lambda: (_float(7, 13), 1)),
    "max_dim": (torch.max, lambda: (_float(7, 130), 1)),
    "min_dim": (torch.min, lambda: (_float(7, 130), 0)),
    "all": (torch.all, lambda: (_bool(7, 130),)),
    "any": (torch.any, lambda: (_bool(7, 130),)),
    "all_dim": (torch.all, lambda: (_bool(7, 130), 1)),
    "any_dim": (torch.any, lambda: (_bool(7, 130), 1)),
    "cumsum": (torch.cumsum, lambda: (_float(7, 3000), 1)),
    "cummax": (torch.cummax, lambda: (_float(7, 130), 1)),
    "cummin": (torch.cummin, lambda: (_float(7, 130), 1)),
    "softmax": (torch.softmax, lambda: (_float(7, 3000), -1)),
    "log_softmax": (torch.log_softmax, lambda: (_float(7, 130), -1)),
    "std": (torch.std, lambda: (_float(7, 130),)),
    "var_mean": (torch.var_mean, lambda: (_float(7, 130), [1])),
    "vector_norm": (torch.linalg.vector_norm, lambda: (_float(7, 130), 2, [1])),
    "trace": (torch.trace, lambda: (_float(40, 40),)),
    "mse_loss": (functional.mse_loss, lambda: (_float(7, 130), _float(7, 130))),
    "isin": (torch.isin, lambda: (_integer(7, 50), _integer(30))),
    "quantile": (torch.quantile, lambda: (_float(7, 130), torch.tensor([0.1, 0.5]))),
}

NORMS: dict[str, tuple[Callable[..., Any], Arguments]] = {
    "layer_norm": (
        torch.native_layer_norm,
        lambda: (_float(7, 130), [130], _float(130), _float(130), 1e-5),
    ),
    "group_norm": (
        torch.native_group_norm,
        lambda: (_float(2, 16, 50), _float(16), _float(16), 2, 16, 50, 4, 1e-5),
    ),
    "batch_norm": (
        torch.native_batch_norm,
        lambda: (_float(4, 6, 20), _float(6), _float(6), torch.zeros(6), torch.ones(6), True, 0.1, 1e-5),
    ),
    "rms_norm": (
        lambda x, shape, w, eps: functional.rms_norm(x, shape, w, eps),
        lambda: (_float(7, 130), [130], _float(130), 1e-5),
    ),
    "weight_norm_interface": (torch._weight_norm_interface, lambda: (_float(20, 30), _float(20, 1), 0)),
}

BLAS: dict[str, tuple[Callable[..., Any], Arguments]] = {
    "mm": (torch.mm, lambda: (_float(70, 90), _float(90, 50))),
    "bmm": (torch.bmm, lambda: (_float(3, 40, 50), _float(3, 50, 60))),
    "addmm": (torch.addmm, lambda: (_float(50), _float(70, 90), _float(90, 50))),
    "baddbmm": (torch.baddbmm, lambda: (_float(3, 40, 60), _float(3, 40, 50), _float(3, 50, 60))),
    "mv": (torch.mv, lambda: (_float(70, 90), _float(90))),
    "addmv": (torch.addmv, lambda: (_float(70), _float(70, 90), _float(90))),
    "dot": (torch.dot, lambda: (_float(900), _float(900))),
    "vdot": (torch.vdot, lambda: (_float(900), _float(900))),
    "outer": (torch.outer, lambda: (_float(70), _float(90))),
    "addr": (torch.addr, lambda: (_float(70, 90), _float(70), _float(90))),
    "conv1d": (functional.conv1d, lambda: (_float(2, 4, 50), _float(8, 4, 3))),
    "conv2d": (functional.conv2d, lambda: (_float(2, 4, 20, 20), _float(8, 4, 3, 3))),
}

INDEXING: dict[str, tuple[Callable[..., Any], Arguments]] = {
    "arange": (torch.arange, lambda: (100,)),
    "cat": (torch.cat, lambda: ([_float(7, 30), _float(7, 20)], 1)),
    "stack": (torch.stack, lambda: ([_float(7, 30), _float(7, 30)], 1)),
    "hstack": (torch.hstack, lambda: ([_float(7, 30), _float(7, 20)],)),
    "vstack": (torch.vstack, lambda: ([_float(7, 30), _float(9, 30)],)),
    "flip": (torch.flip, lambda: (_float(7, 130), [1])),
    "tile": (torch.tile, lambda: (_float(7, 13), [2, 3])),
    "repeat": (Tensor.repeat, lambda: (_float(7, 13), [2, 3])),
    "roll": (torch.roll, lambda: (_float(7, 130), 3, 1)),
    "diag": (torch.diag, lambda: (_float(40),)),
    "diag_embed": (torch.diag_embed, lambda: (_float(7, 30),)),
    "tril": (torch.tril, lambda: (_float(40, 50),)),
    "triu": (torch.triu, lambda: (_float(40, 50),)),
    "eye": (torch.eye, lambda: (40,)),
    "full": (torch.full, lambda: ([7, 130], 2.5)),
    "zeros": (torch.zeros, lambda: ([7, 130],)),
    "ones": (torch.ones, lambda: ([7, 130],)),
    "linspace": (torch.linspace, lambda: (0, 1, 100)),
    "gather": (torch.gather, lambda: (_float(7, 130), 1, torch.randint(0, 130, (7, 40)))),
    "index_select": (torch.index_select, lambda: (_float(7, 130), 1, torch.randint(0, 130, (40,)))),
    "index_add": (
        torch.index_add,
        lambda: (_float(7, 130), 1, torch.randperm(130)[:40], _float(7, 40)),
    ),
    "index": (lambda x, places: x[tuple(places)], lambda: (_float(30, 40), [torch.randint(0, 30, (9,))])),
    "index_put": (
        torch.index_put,
        lambda: (_float(30, 40), [torch.randperm(30)[:9]], _float(9, 40)),
    ),
    "embedding": (torch.embedding, lambda: (_float(100, 50), torch.randint(0, 100, (30,)))),
    "scatter": (
        torch.scatter,
        lambda: (_float(7, 130), 1, torch.stack([torch.randperm(130)[:40] for _ in range(7)]), _float(7, 40)),
    ),
    "masked_fill": (torch.masked_fill, lambda: (_float(7, 130), _bool(7, 130), -1.5)),
    "masked_select": (torch.masked_select, lambda: (_float(7, 130), _bool(7, 130))),
    "nonzero": (torch.nonzero, lambda: (_bool(7, 130),)),
    "one_hot": (functional.one_hot, lambda: (torch.arange(0, 30) % 7, 9)),
    "constant_pad_nd": (torch.constant_pad_nd, lambda: (_float(7, 30), [1, 2], 0.5)),
    "repeat_interleave_self_int": (torch.repeat_interleave, lambda: (_float(7, 30), 3, 1)),
    "select_scatter": (torch.select_scatter, lambda: (_float(7, 30), _float(30), 0, 2)),
    "slice_scatter": (torch.slice_scatter, lambda: (_float(7, 30), _float(7, 10), 1, 5, 15)),
    "sort": (torch.sort, lambda: (_float(7, 130),)),
    "topk": (torch.topk, lambda: (_float(7, 130), 5)),
    "max_pool2d_with_indices": (
        torch.max_pool2d_with_indices
        if hasattr(torch, "max_pool2d_with_indices")
        else torch.ops.aten.max_pool2d_with_indices,
        lambda: (_float(2, 3, 20, 20), [2, 2]),
    ),
    "avg_pool2d": (functional.avg_pool2d, lambda: (_float(2, 3, 20, 20), [2, 2])),
    "upsample_nearest2d": (torch.ops.aten.upsample_nearest2d, lambda: (_float(2, 3, 10, 10), [20, 20])),
}


def _normal(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], weight, bias)


def _added_rms_norm(x: Tensor, residual: Tensor, shape: list[int], weight: Tensor) -> tuple[Tensor, Tensor]:
    return functional.rms_norm(x + residual, shape, weight, 1e-5), x + residual


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _penalized(logits: Tensor, prompt: Tensor, output: Tensor, penalties: Tensor) -> Tensor:
    factor = torch.where(prompt | output, penalties[:, None], 1.0)
    return torch.where(logits > 0, logits / factor, logits * factor)


def _in_place(operator: Callable[..., Any], *given: Any) -> Tensor:
    operator(*given)
    return given[0]


# What torch has under no name, or another one: the operator, the formula, the arguments.
FUSED: dict[str, tuple[Callable[..., Any], Callable[..., Any], Arguments]] = {
    "silu_and_mul": (
        flag_gems.silu_and_mul,
        lambda x, y: functional.silu(x) * y,
        lambda: (_float(7, 130), _float(7, 130)),
    ),
    "gelu_and_mul": (
        flag_gems.gelu_and_mul,
        lambda x, y: functional.gelu(x) * y,
        lambda: (_float(7, 130), _float(7, 130)),
    ),
    "geglu": (
        flag_gems.geglu,
        lambda x: functional.gelu(x[:, :64], approximate="tanh") * x[:, 64:],
        lambda: (_float(7, 128),),
    ),
    "reglu": (flag_gems.reglu, lambda x: functional.relu(x[:, :64]) * x[:, 64:], lambda: (_float(7, 128),)),
    "swiglu": (flag_gems.swiglu, lambda x: functional.silu(x[:, :64]) * x[:, 64:], lambda: (_float(7, 128),)),
    "skip_layer_norm": (
        lambda x, y, w, b: flag_gems.skip_layer_norm(x, y, [130], w, b),
        lambda x, y, w, b: _normal(x + y, w, b),
        lambda: (_float(7, 130), _float(7, 130), _float(130), _float(130)),
    ),
    "fused_add_rms_norm": (
        flag_gems.fused_add_rms_norm,
        _added_rms_norm,
        lambda: (_float(7, 130), _float(7, 130), [130], _float(130)),
    ),
    "instance_norm": (
        flag_gems.instance_norm,
        lambda x, w, b: functional.instance_norm(x, weight=w, bias=b),
        lambda: (_float(3, 4, 50), _float(4), _float(4)),
    ),
    "weight_norm": (
        flag_gems.weight_norm,
        lambda v, g: torch._weight_norm(v, g, 0),
        lambda: (_float(20, 30), _float(20, 1)),
    ),
    "cross_entropy_loss": (
        flag_gems.cross_entropy_loss,
        functional.cross_entropy,
        lambda: (_float(8, 300), torch.randint(0, 300, (8,))),
    ),
    "bincount": (flag_gems.bincount, torch.bincount, lambda: (torch.randint(0, 40, (500,)),)),
    "moe_sum": (
        lambda x: _in_place(lambda out: flag_gems.moe_sum(x, out), torch.empty(7, 64)),
        lambda x: x.sum(1),
        lambda: (_float(7, 3, 64),),
    ),
    "apply_rotary_pos_emb": (
        flag_gems.apply_rotary_pos_emb,
        lambda q, k, cos, sin: (_rotated(q, cos, sin), _rotated(k, cos, sin)),
        lambda: (_float(1, 20, 4, 64), _float(1, 20, 2, 64), _float(20, 32), _float(20, 32)),
    ),
    "apply_repetition_penalties": (
        lambda *given: _in_place(flag_gems.apply_repetition_penalties, *given),
        _penalized,
        lambda: (_float(7, 130), _bool(7, 130), _bool(7, 130), _positive(7)),
    ),
    "scaled_dot_product_attention": (
        lambda q, k, v: flag_gems.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda: (_float(1, 2, 80, 64), _float(1, 2, 80, 64), _float(1, 2, 80, 64)),
    ),
}


VENDOR = os.environ["GEMS_VENDOR"]
SUITE = "flag_gems generic" if VENDOR == "nvidia" else f"flag_gems {VENDOR}"

# Operators that FlagGems itself cannot run here, by vendor, and why.
REFUSED: dict[str, dict[str, str]] = {
    "nvidia": {
        "bitwise_left_shift": "its host passes `out=None` on as a tensor",
        "where_self": "its host refuses tensors on the CPU",
    },
    "cambricon": {
        **dict.fromkeys("logical_and logical_or".split(), "it does not broadcast, and reads beyond the smaller tensor"),
        "bitwise_left_shift": "its host passes `out=None` on as a tensor",
        "cross_entropy_loss": "its host divides by the number of classes in place of the number of rows",
        "index_add": "its host asks for a CUDA device",
        "outer": "its host makes tensors on a device named `mlu`",
        "where_self": "its host refuses tensors on the CPU",
    },
}


def _agrees(
    name: str, run: Callable[..., Any], reference: Callable[..., Any], arguments: Arguments, record: Recorder
) -> None:
    torch.manual_seed(0)
    given = arguments()
    expected = _outputs(reference(*_copies(given)))
    with recorded(record, SUITE, name, REFUSED[VENDOR].get(name)):
        outputs = _outputs(run(*_copies(given)))
        for got, want in zip(outputs, expected, strict=False):
            # Some keep, and some drop, a dimension of one element.
            shaped = got.reshape(want.shape)
            torch.testing.assert_close(shaped, want, rtol=1e-4, atol=1e-4, equal_nan=True, check_dtype=False)


def _copies(given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.clone() if isinstance(each, Tensor) else each for each in given)


def _outputs(returned: Any) -> list[Tensor]:
    return [each for each in returned if each is not None] if isinstance(returned, tuple | list) else [returned]


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise(name: str, record_property: Recorder) -> None:
    _agrees(name, getattr(flag_gems, name), *POINTWISE[name], record_property)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str, record_property: Recorder) -> None:
    _agrees(name, getattr(flag_gems, name), *REDUCTIONS[name], record_property)


@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str, record_property: Recorder) -> None:
    _agrees(name, getattr(flag_gems, name), *NORMS[name], record_property)


@pytest.mark.parametrize("name", BLAS)
def test_blas(name: str, record_property: Recorder) -> None:
    _agrees(name, getattr(flag_gems, name), *BLAS[name], record_property)


@pytest.mark.parametrize("name", INDEXING)
def test_indexing(name: str, record_property: Recorder) -> None:
    _agrees(name, getattr(flag_gems, name), *INDEXING[name], record_property)


@pytest.mark.parametrize("name", FUSED)
def test_fused(name: str, record_property: Recorder) -> None:
    _agrees(name, *FUSED[name], record_property)


# name: how a sample of 20,000 is drawn, and the mean and the standard deviation that it must have.
RANDOM: dict[str, tuple[Callable[[], Tensor], float, float]] = {
    "rand": (lambda: flag_gems.rand([20_000]), 0.5, 12**-0.5),
    "randn": (lambda: flag_gems.randn([20_000]), 0.0, 1.0),
    "uniform_": (lambda: flag_gems.uniform_(torch.empty(20_000), -1.0, 3.0), 1.0, 4 * 12**-0.5),
    "exponential_": (lambda: flag_gems.exponential_(torch.empty(20_000), 2.0), 0.5, 0.5),
    "normal_float_tensor": (lambda: flag_gems.normal_float_tensor(3.0, torch.full((20_000,), 2.0)), 3.0, 2.0),
    "bernoulli_": (lambda: flag_gems.bernoulli_(torch.empty(20_000), 0.3), 0.3, (0.3 * 0.7) ** 0.5),
    "dropout": (lambda: flag_gems.dropout(torch.ones(20_000), 0.25, True)[0], 1.0, (0.25 / 0.75) ** 0.5),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random(name: str, record_property: Recorder) -> None:
    draw, mean, deviation = RANDOM[name]
    torch.manual_seed(0)
    with recorded(record_property, SUITE, name, REFUSED[VENDOR].get(name)):
        sample = draw()
        # Seven standard errors of the mean; the deviation's is of the same order.
        assert abs(float(sample.mean()) - mean) < 7 * deviation / 20_000**0.5
        assert abs(float(sample.std()) - deviation) < 0.05 * deviation
        assert not torch.equal(sample, draw())
