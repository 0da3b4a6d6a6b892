"""Liger's operators of whole layers, unmodified: mixtures of experts, attention, hyper-connections, rotations, losses.

Each has arguments of its own, so each is a row of a function of tensors, its formula and the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import liger_kernel.ops as liger
import liger_kernel.ops.dyt
import pytest
import torch
from liger_kernel.ops.experimental.mm_int8int2 import matmul, pack_weights, unpack_weights
from torch import Tensor
from torch.nn import functional

from clients.comparison import Recorder, recorded, results_and_gradients

TARGET = torch.tensor([3, 250, 0, -100, 17, 299, 5, 80])


def _random(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape) * scale


def _experts(x: Tensor, gate_up: Tensor, down: Tensor, weights: Tensor, index: Tensor) -> Tensor:
    tokens = []
    for token in range(x.shape[0]):
        total = torch.zeros_like(x[0])
        for place in range(index.shape[1]):
            expert = int(index[token, place])
            gate, up = (gate_up[expert] @ x[token]).chunk(2)
            total = total + weights[token, place] * (down[expert] @ (functional.silu(gate) * up))
        tokens.append(total)
    return torch.stack(tokens)


def _mixture_of_experts() -> Any:
    index = torch.stack([torch.randperm(4)[:2] for _ in range(20)]).to(torch.int32)
    inputs = [_random(20, 64), _random(4, 96, 64, scale=0.2), _random(4, 64, 48, scale=0.2), _random(20, 2).softmax(-1)]
    return (
        lambda x, gate_up, down, weights: liger.LigerFusedMoEFunction.apply(x, gate_up, down, index, weights),
        lambda x, gate_up, down, weights: _experts(x, gate_up, down, weights, index),
        inputs,
        4,
    )


def _neighborhood_attention() -> Any:
    def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        place = torch.arange(q.shape[2])
        far = (place[:, None] - place).abs() > 3
        scores = (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        return scores.masked_fill(far, -torch.inf).softmax(-1) @ v

    run = lambda q, k, v: liger.LigerFusedNeighborhoodAttentionFunction.apply(q, k, v, 7, 1)  # noqa: E731
    return run, formula, [_random(1, 2, 40, 32) for _ in range(3)], 3


def _policy_loss(kind: str, level: str) -> Any:
    """GRPO and its relatives: ratios of probabilities, clipped, and a divergence from a reference."""
    batch, length, vocabulary = 3, 7, 50
    tokens = torch.randint(0, vocabulary, (batch, length))
    mask = (torch.arange(length) < torch.tensor([[7], [5], [3]])).to(torch.int32)
    old, reference = _random(batch, length, scale=0.1) - 4, _random(batch, length, scale=0.1) - 4
    advantages, present = _random(batch), mask.float()

    def run(logits: Tensor) -> Tensor:
        settings = (tokens, advantages, mask, 0.9, 0.04, 0.2, 0.2, False, kind, None, True, level)
        return liger.GrpoLossFunction.apply(logits, old, reference, *settings)[0]

    def formula(logits: Tensor) -> Tensor:
        chosen = (logits[:, :-1] / 0.9).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        drift = chosen - old
        if level == "sequence":
            drift = ((drift * present).sum(-1, keepdim=True) / present.sum(-1, keepdim=True)).expand(batch, length)
        ratio, advantage = drift.exp(), advantages[:, None]
        if kind == "cispo":
            loss = -ratio.clamp(max=0.2).detach() * advantage * chosen
        elif kind == "sapo":
            heat = torch.where(advantage > 0, 1.0, 1.05)
            loss = -torch.sigmoid(heat * (ratio - 1)) * 4 / heat * advantage
        else:
            loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        away = reference - chosen
        total = (loss + 0.04 * (away.exp() - away - 1)) * present
        if kind in ("grpo", "sapo"):
            return (total.sum(-1) / present.sum(-1)).mean()
        return total.sum() / (batch * length if kind == "dr_grpo" else present.sum())

    return run, formula, [_random(batch, length + 1, vocabulary)], 1


def _complex_rotation() -> Any:
    turns = torch.polar(torch.ones(10, 16), _random(10, 16))

    def turned(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * turns[None, :, None]).flatten(3)

    inputs = [_random(2, 10, 4, 32), _random(2, 10, 2, 32)]
    run = lambda q, k: liger.LigerLlama4RopeFunction.apply(q, k, turns)  # noqa: E731
    return run, lambda q, k: (turned(q), turned(k)), inputs, 2


def _rotation_of_images() -> Any:
    sections = [4, 6, 6]
    angle = _random(3, 2, 10, 16).repeat(1, 1, 1, 2)
    cos, sin = angle.cos(), angle.sin()

    def of_sections(table: Tensor) -> Tensor:
        parts = table.split(sections * 2, -1)
        return torch.cat([part[place % 3] for place, part in enumerate(parts)], -1).unsqueeze(1)

    def turned(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * of_sections(cos) + torch.cat([-second, first], -1) * of_sections(sin)

    inputs = [_random(2, 4, 10, 32), _random(2, 2, 10, 32)]
    run = lambda q, k: liger.LigerQwen2VLMRopeFunction.apply(q, k, cos, sin, sections)  # noqa: E731
    return run, lambda q, k: (turned(q), turned(k)), inputs, 2


def _hyper_connection_coefficients() -> Any:
    streams, width = 4, 32

    def formula(x: Tensor, phi: Tensor, bias: Tensor, pre: Tensor, post: Tensor, mix: Tensor) -> tuple[Tensor, ...]:
        rows = x.reshape(5, -1)
        mixed = (rows @ phi) * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + 1e-6)
        ends = [streams, streams, streams * streams]
        parts = list(zip(mixed.split(ends, -1), bias.split(ends), strict=True))
        table = (mix * parts[2][0] + parts[2][1]).view(5, streams, streams).softmax(-1) + 1e-6
        table = table / (table.sum(-2, keepdim=True) + 1e-6)
        for _ in range(4):
            table = table / (table.sum(-1, keepdim=True) + 1e-6)
            table = table / (table.sum(-2, keepdim=True) + 1e-6)
        first = torch.sigmoid(pre * parts[0][0] + parts[0][1]) + 1e-4
        return first, 2 * torch.sigmoid(post * parts[1][0] + parts[1][1]), table

    places = streams * (streams + 2)
    scales = [torch.tensor(0.5) for _ in range(3)]
    inputs = [_random(5, streams, width), _random(streams * width, places, scale=0.1), _random(places), *scales]
    run = lambda *given: liger.LigerMHCCoeffsFunction.apply(*given, True, 5, 1e-6, 1e-4, 1e-6, 2.0)  # noqa: E731
    return run, formula, inputs, 6


def _feed_forward() -> Any:
    inputs = [_random(2, 40, 64), _random(96, 64, scale=0.2), _random(96, 64, scale=0.2), _random(64, 96, scale=0.2)]

    def formula(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        return functional.linear(functional.silu(functional.linear(x, gate)) * functional.linear(x, up), down)

    return liger.LigerMLPFunction.apply, formula, [each.to(torch.float16) for each in inputs], 4


def _tiled_feed_forward() -> Any:
    gate, up, down = (torch.nn.Linear(*extents, bias=False) for extents in ((32, 64), (32, 64), (64, 32)))

    def layer(_: object, x: Tensor) -> Tensor:
        return down(liger.LigerSiLUMulFunction.apply(gate(x), up(x)))

    run = lambda x: liger.LigerTiledMLPFunction.apply(layer, None, x, 3, None)  # noqa: E731
    return run, lambda x: down(functional.silu(gate(x)) * up(x)), [_random(2, 30, 32)], 1


def _cross_entropy_of_a_part_of_the_vocabulary() -> Any:
    target = torch.randint(0, 300, (4, 2))
    target[0, 1] = -100

    def formula(x: Tensor) -> Tensor:
        losses = functional.cross_entropy(x.view(8, 300), target.view(8), reduction="none", label_smoothing=0.1)
        return losses.view(4, 2)

    settings = (target, None, -100, 0.1, "pytorch", "global")
    return lambda x: liger.LigerVocabParallelCEFunction.apply(x, *settings), formula, [_random(4, 2, 300)], 1


def _cross_entropy_and_distance() -> Any:
    def formula(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        distance = 0.5 * (student.softmax(-1) - teacher.softmax(-1)).abs().sum(-1) * (TARGET != -100)
        return functional.cross_entropy(student, TARGET, reduction="none"), distance

    run = lambda student, teacher: liger.LigerFusedCETVDFunction.apply(student, teacher, TARGET)  # noqa: E731
    return run, formula, [_random(8, 300), _random(8, 300)], 1


def _divergence_of_a_projection() -> Any:
    goal = _random(8, 100).softmax(-1)
    return (
        lambda x, w: liger.LigerFusedLinearKLDivFunction.apply(x, w, goal),
        lambda x, w: functional.kl_div((x @ w.T).log_softmax(-1), goal, reduction="batchmean"),
        [_random(8, 32), _random(100, 32)],
        2,
    )


def _scaled_cross_entropy_of_a_projection() -> Any:
    return (
        lambda x, w: liger.LigerFusedLinearScaledCrossEntropyFunction.apply(x, w, TARGET, 0.7),
        lambda x, w: functional.cross_entropy((x @ w.T) / 0.7, TARGET, reduction="none"),
        [_random(8, 32), _random(300, 32)],
        2,
    )


def _product_of_packed_weights() -> Any:
    weights = pack_weights(torch.randint(-1, 2, (512, 64), dtype=torch.int32), 2)
    x = torch.randint(-100, 100, (48, 512), dtype=torch.int8)
    return (
        lambda x: matmul(x, weights).float(),
        lambda x: (x.to(torch.int32) @ unpack_weights(weights, 2).to(torch.int32)).float(),
        [x],
        0,
    )


OPERATORS: dict[str, Callable[[], Any]] = {
    "fused_moe": _mixture_of_experts,
    "fused_neighborhood_attention": _neighborhood_attention,
    **{
        f"grpo_loss {kind} {level}": lambda kind=kind, level=level: _policy_loss(kind, level)
        for kind in ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo")
        for level in ("token", "sequence")
        if level == "token" or kind not in ("cispo", "sapo")
    },
    "llama4_rope": _complex_rotation,
    "qwen2vl_mrope": _rotation_of_images,
    "mhc_coeffs": _hyper_connection_coefficients,
    "mhc_pre": lambda: (
        liger.LigerMHCPreFunction.apply,
        lambda x, weights: (x * weights[..., None]).sum(-2),
        [_random(5, 4, 96), _random(5, 4)],
        2,
    ),
    "mhc_post_res": lambda: (
        liger.LigerMHCPostResFunction.apply,
        lambda x, f, post, mix: torch.einsum("noi,nic->noc", mix, x) + post[..., None] * f[:, None],
        [_random(5, 4, 96), _random(5, 96), _random(5, 4), _random(5, 4, 4)],
        4,
    ),
    "mlp float16": _feed_forward,
    "tiled_mlp": _tiled_feed_forward,
    "vocab_parallel_cross_entropy": _cross_entropy_of_a_part_of_the_vocabulary,
    "fused_ce_tvd": _cross_entropy_and_distance,
    "fused_linear_kl_div": _divergence_of_a_projection,
    "fused_linear_scaled_cross_entropy": _scaled_cross_entropy_of_a_projection,
    "mm_int8int2 int8": _product_of_packed_weights,
    "dyt": lambda: (
        liger.LigerDyTFunction.apply,
        lambda x, alpha, gamma, beta: gamma * torch.tanh(alpha * x) + beta,
        [_random(6, 200), _random(1), _random(200), _random(200)],
        4,
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_results_and_gradients_are_torchs(
    name: str, record_property: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its host asks for the device by name to count the cores, and knows no CPU.
    monkeypatch.setattr(liger_kernel.ops.dyt, "infer_device", lambda: "cuda")
    torch.manual_seed(0)
    run, formula, inputs, differentiable = OPERATORS[name]()
    half = any(each.dtype == torch.float16 for each in inputs)
    exact = [each.float() if each.is_floating_point() else each for each in inputs]
    expected = results_and_gradients(formula, exact, differentiable)
    with recorded(record_property, "liger", name if half or " int8" in name else f"{name} float32"):
        results = results_and_gradients(run, inputs, differentiable)
        for result, want in zip(results, expected, strict=True):
            tolerance = 0.01 * float(want.abs().max()) if half else 1e-4
            torch.testing.assert_close(result.float().reshape(want.shape), want, rtol=1e-3, atol=tolerance)
