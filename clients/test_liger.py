"""Liger's operators, unmodified, on CPU tensors: results and gradients against the same formula in torch.

Installed by ``make test-clients``; the target's name is ``cpu`` so that the kernels' hosts find a torch device of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import liger_kernel.ops as liger
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clients.comparison import Recorder, recorded, results_and_gradients


@dataclass(frozen=True)
class Operator:
    """One operator beside its formula.

    Attributes:
        run: the operator, of the tensors.
        formula: the same in torch.
        shapes: of the tensors; those that ``differentiable`` counts come first.
        differentiable: how many of the tensors have a gradient.
        prepare: makes what the operator is given of standard normal tensors.
        tolerance: absolute and relative, of float32.
    """

    run: Callable[..., Any]
    formula: Callable[..., Any]
    shapes: Sequence[tuple[int, ...]]
    differentiable: int | None = None
    prepare: Callable[[list[Tensor]], list[Tensor]] = list
    tolerance: float = 1e-4


def _rms_norm(x: Tensor, w: Tensor, eps: float = 1e-6) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos.unsqueeze(1) + torch.cat([-second, first], -1) * sin.unsqueeze(1)


def _angles(inputs: list[Tensor]) -> list[Tensor]:
    q, k, angle = inputs
    angle = torch.cat([angle, angle], -1)
    return [q, k, angle.cos(), angle.sin()]


def _log_probabilities(inputs: list[Tensor]) -> list[Tensor]:
    return [each.log_softmax(-1) for each in inputs]


def _student_and_teacher(inputs: list[Tensor]) -> list[Tensor]:
    return [inputs[0].log_softmax(-1), inputs[1].softmax(-1)]


def _probabilities(inputs: list[Tensor]) -> list[Tensor]:
    return [each.softmax(-1) for each in inputs]


def _jensen_shannon(student: Tensor, teacher: Tensor, beta: float = 0.5) -> Tensor:
    mixture = torch.log(beta * teacher.exp() + (1 - beta) * student.exp())
    terms = beta * teacher.exp() * (teacher - mixture) + (1 - beta) * student.exp() * (student - mixture)
    return terms.sum(-1).mean()


def _sparsemax(x: Tensor) -> Tensor:
    ordered, _ = x.sort(-1, descending=True)
    counts = torch.arange(1, x.shape[-1] + 1)
    totals = ordered.cumsum(-1)
    support = (1 + counts * ordered > totals).sum(-1, keepdim=True)
    threshold = (totals.gather(-1, support - 1) - 1) / support
    return (x - threshold).clamp(min=0)


def _poly_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    def normed(power: Tensor) -> Tensor:
        return power * torch.rsqrt(power.pow(2).mean(-1, keepdim=True) + 1e-6)

    return w[0] * normed(x**3) + w[1] * normed(x**2) + w[2] * normed(x) + b


def _group_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return functional.group_norm(x, 4, w, b, 1e-5)


def _attention_residual(values: Tensor, query: Tensor, norm: Tensor) -> Tensor:
    """``values``: (N, ..., D); attention of one query over the N layers."""
    scores = (_rms_norm(values, norm) * query).sum(-1)
    return (scores.softmax(0).unsqueeze(-1) * values).sum(0)


def _experts(x: Tensor, gate_up: Tensor, down: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    for token in range(x.shape[0]):
        for place in range(index.shape[1]):
            expert = int(index[token, place])
            gate, up = (gate_up[expert] @ x[token]).chunk(2)
            result[token] += weights[token, place] * (down[expert] @ (functional.silu(gate) * up))
    return result


TARGET = torch.tensor([3, 250, 0, -100, 17, 299, 5, 80])

OPERATORS = {
    "silu_mul": Operator(liger.LigerSiLUMulFunction.apply, lambda a, b: functional.silu(a) * b, [(5, 300), (5, 300)]),
    "gelu_mul": Operator(
        liger.LigerGELUMulFunction.apply, lambda a, b: functional.gelu(a, approximate="tanh") * b, [(5, 300), (5, 300)]
    ),
    "relu_squared": Operator(liger.LigerReLUSquaredFunction.apply, lambda x: functional.relu(x) ** 2, [(7, 130)]),
    "softmax": Operator(liger.LigerSoftmaxFunction.apply, lambda x: x.softmax(-1), [(9, 781)]),
    "softmax_long": Operator(liger.LigerSoftmaxFunction.apply, lambda x: x.softmax(-1), [(2, 40_000)]),
    "sparsemax": Operator(lambda x: liger.LigerSparsemaxFunction.apply(x, -1), _sparsemax, [(6, 100)]),
    "rms_norm": Operator(
        lambda x, w: liger.LigerRMSNormFunction.apply(x, w, 1e-6, 0.0, "llama", False), _rms_norm, [(9, 500), (500,)]
    ),
    "rms_norm_gemma": Operator(
        lambda x, w: liger.LigerRMSNormFunction.apply(x, w, 1e-6, 1.0, "gemma", False),
        lambda x, w: _rms_norm(x, 1 + w),
        [(9, 500), (500,)],
    ),
    "fused_add_rms_norm": Operator(
        lambda x, r, w: liger.LigerFusedAddRMSNormFunction.apply(x, r, w, 1e-6),
        lambda x, r, w: (_rms_norm(x + r, w), x + r),
        [(9, 256), (9, 256), (256,)],
    ),
    "modulated_rms_norm": Operator(
        lambda x, w, scale, shift: liger.LigerModulatedRMSNormFunction.apply(
            x, w, scale, shift, 1e-6, 0.0, "llama", False
        ),
        lambda x, w, scale, shift: _rms_norm(x, w) * (1 + scale[:, None]) + shift[:, None],
        [(2, 5, 256), (256,), (2, 256), (2, 256)],
    ),
    "layer_norm": Operator(
        lambda x, w, b: liger.LigerLayerNormFunction.apply(x, w, b, 1e-5),
        lambda x, w, b: functional.layer_norm(x, x.shape[-1:], w, b, 1e-5),
        [(9, 300), (300,), (300,)],
    ),
    "group_norm": Operator(
        lambda x, w, b: liger.LigerGroupNormFunction.apply(x, w, b, 16, 4, 1e-5),
        _group_norm,
        [(3, 16, 50), (16,), (16,)],
    ),
    "poly_norm": Operator(
        lambda x, w, b: liger.LigerPolyNormFunction.apply(x, w, b, 1e-6, False), _poly_norm, [(6, 200), (3,), ()]
    ),
    "rope": Operator(
        liger.LigerRopeFunction.apply,
        lambda q, k, cos, sin: (_rotated(q, cos, sin), _rotated(k, cos, sin)),
        [(2, 4, 10, 32), (2, 2, 10, 32), (1, 10, 16)],
        differentiable=2,
        prepare=_angles,
    ),
    "cross_entropy": Operator(
        lambda x: liger.LigerCrossEntropyFunction.apply(x, TARGET, None)[0],
        lambda x: functional.cross_entropy(x, TARGET),
        [(8, 300)],
    ),
    "cross_entropy_smooth_softcap": Operator(
        lambda x: liger.LigerCrossEntropyFunction.apply(x, TARGET, None, -100, 0.0, 0.1, "sum", 30.0)[0],
        lambda x: functional.cross_entropy(30 * torch.tanh(x / 30), TARGET, label_smoothing=0.1, reduction="sum"),
        [(8, 300)],
    ),
    "cross_entropy_weighted": Operator(
        lambda x, w: liger.LigerCrossEntropyFunction.apply(x, TARGET, w)[0],
        lambda x, w: functional.cross_entropy(x, TARGET, weight=w),
        [(8, 300), (300,)],
        differentiable=1,
        prepare=lambda inputs: [inputs[0], inputs[1].abs()],
    ),
    "fused_linear_cross_entropy": Operator(
        lambda x, w: liger.LigerFusedLinearCrossEntropyFunction.apply(x, w, TARGET)[0],
        lambda x, w: functional.cross_entropy(x @ w.T, TARGET),
        [(8, 64), (300, 64)],
    ),
    "kl_div": Operator(
        liger.LigerKLDivLossFunction.apply,
        lambda y, t: functional.kl_div(y, t, reduction="batchmean"),
        [(6, 300), (6, 300)],
        differentiable=1,
        prepare=_student_and_teacher,
    ),
    "jsd": Operator(
        liger.LigerJSDFunction.apply,
        _jensen_shannon,
        [(6, 300), (6, 300)],
        differentiable=1,
        prepare=_log_probabilities,
    ),
    "fused_linear_jsd": Operator(
        liger.LigerFusedLinearJSDFunction.apply,
        lambda x, w, tx, tw: _jensen_shannon((x @ w.T).log_softmax(-1), (tx @ tw.T).log_softmax(-1)),
        [(6, 32), (100, 32), (6, 32), (100, 32)],
        differentiable=2,
    ),
    "tvd": Operator(
        liger.LigerTVDLossFunction.apply,
        lambda p, q: 0.5 * (p - q).abs().sum(-1).mean(),
        [(6, 300), (6, 300)],
        differentiable=1,
        prepare=_probabilities,
    ),
    "embedding": Operator(
        lambda w: liger.LigerEmbeddingFunction.apply(w, TARGET.clamp(min=0)),
        lambda w: functional.embedding(TARGET.clamp(min=0), w),
        [(300, 70)],
    ),
    "attention_residual": Operator(
        lambda v, q, w: liger.LigerAttnResFunction.apply(v, q, w, 1e-6),
        _attention_residual,
        [(4, 2, 5, 64), (64,), (64,)],
    ),
    "multi_token_attention": Operator(
        lambda scores, w: liger.LigerMultiTokenAttentionFunction.apply(scores, w, None, 1, 1, 1, 1, False),
        lambda scores, w: _causal_convolution(scores, w),
        [(2, 3, 16, 16), (3, 3, 3, 3)],
    ),
    "fused_gate_up_silu": Operator(
        liger.LigerFusedGateUpSiLUMulFunction.apply,
        lambda y: functional.silu(y.chunk(2, -1)[0]) * y.chunk(2, -1)[1],
        [(6, 128)],
    ),
}


def _causal_convolution(scores: Tensor, weight: Tensor) -> Tensor:
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    probabilities = scores.masked_fill(future, -1e9).softmax(-1)
    return functional.conv2d(probabilities, weight, padding=1).masked_fill(future, 0.0)


# In bfloat16 these lose their digits in the formula itself: they divide by small differences.
FLOAT32_ONLY = {"sparsemax", "fused_linear_jsd", "jsd", "tvd", "kl_div"}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in OPERATORS
        for dtype in (torch.float32, torch.bfloat16)
        if dtype == torch.float32 or name not in FLOAT32_ONLY
    ],
    ids=lambda value: str(value).removeprefix("torch."),
)
def test_results_and_gradients_are_torchs(name: str, dtype: torch.dtype, record_property: Recorder) -> None:
    operator = OPERATORS[name]
    torch.manual_seed(0)
    inputs = operator.prepare([torch.randn(shape) / math.sqrt(len(shape)) for shape in operator.shapes])
    rounded = [each.to(dtype) if each.is_floating_point() else each for each in inputs]
    differentiable = len(inputs) if operator.differentiable is None else operator.differentiable
    expected = results_and_gradients(operator.formula, [each.float() for each in rounded], differentiable)
    with recorded(record_property, "liger", f"{name} {str(dtype).removeprefix('torch.')}"):
        results = results_and_gradients(operator.run, rounded, differentiable)
        for result, want in zip(results, expected, strict=True):
            # Of what is rounded to bfloat16 on the way, the last digits of the greatest elements count.
            tolerance = operator.tolerance if dtype == torch.float32 else 0.03 * max(1.0, float(want.abs().max()))
            torch.testing.assert_close(
                result.reshape(want.shape).float(), want, rtol=operator.tolerance, atol=tolerance
            )
