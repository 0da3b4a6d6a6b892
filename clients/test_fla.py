"""Operators of flash-linear-attention (fla-core), unmodified: results and gradients against its own plain formulas.

Its hosts take whatever device Triton's target names. The formulas are its own too: in torch, most of them a loop over
tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from fla.ops.attn import naive_parallel_attn, parallel_attn
from fla.ops.based import fused_chunk_based, parallel_based
from fla.ops.based.naive import naive_parallel_based
from fla.ops.delta_rule import chunk_delta_rule, fused_recurrent_delta_rule
from fla.ops.delta_rule.naive import delta_rule_recurrence
from fla.ops.forgetting_attn import parallel_forgetting_attn
from fla.ops.forgetting_attn.naive import naive_forgetting_attn
from fla.ops.gated_delta_product import chunk_gated_delta_product
from fla.ops.gated_delta_product.naive import naive_recurrent_gated_delta_product
from fla.ops.gated_delta_rule import chunk_gated_delta_rule
from fla.ops.gated_delta_rule.naive import naive_recurrent_gated_delta_rule
from fla.ops.gdn2 import chunk_gdn2
from fla.ops.gdn2.naive import naive_recurrent_gdn2
from fla.ops.gla import chunk_gla, fused_recurrent_gla
from fla.ops.gla.naive import naive_recurrent_gla
from fla.ops.gsa import chunk_gsa, fused_recurrent_gsa
from fla.ops.gsa.naive import naive_recurrent_gsa
from fla.ops.hgrn import chunk_hgrn, fused_recurrent_hgrn
from fla.ops.hgrn.naive import naive_recurrent_hgrn
from fla.ops.kda import chunk_kda
from fla.ops.kda.naive import naive_recurrent_kda
from fla.ops.retention import chunk_retention, fused_recurrent_retention, parallel_retention
from fla.ops.retention.naive import naive_retention
from fla.ops.rwkv6 import chunk_rwkv6, fused_recurrent_rwkv6
from fla.ops.rwkv6.recurrent_naive import naive_recurrent_rwkv6
from fla.ops.simple_gla import chunk_simple_gla, fused_recurrent_simple_gla, parallel_simple_gla
from fla.ops.simple_gla.naive import naive_recurrent_simple_gla
from fla.ops.stickbreaking_attn import parallel_stickbreaking_attn
from fla.ops.stickbreaking_attn.naive import naive_stickbreaking_attn
from torch import Tensor
from torch.nn import functional

from clients.comparison import Recorder, recorded, results_and_gradients

BATCH, TOKENS, HEADS, WIDTH = 1, 100, 2, 32
VECTORS, NUMBERS = (BATCH, TOKENS, HEADS, WIDTH), (BATCH, TOKENS, HEADS)
Kind = tuple[str, tuple[int, ...]]

_QUERIES: list[Kind] = [("normal", VECTORS), ("normal", VECTORS), ("normal", VECTORS)]
_UNIT_KEYS: list[Kind] = [("normal", VECTORS), ("unit", VECTORS), ("normal", VECTORS)]


@dataclass(frozen=True)
class Operator:
    """One operator beside its formula.

    Attributes:
        runs: the operator's implementations, of the tensors.
        formula: the same in torch.
        inputs: what the tensors are like, and their shapes: vectors of tokens and heads first.
        dtypes: that the operator takes.
    """

    runs: Sequence[Callable[..., Any]]
    formula: Callable[..., Any]
    inputs: list[Kind]
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)


def _drawn(kind: str, shape: tuple[int, ...]) -> Tensor:
    values = torch.randn(shape)
    match kind:
        case "unit":
            return functional.normalize(values, dim=-1)
        case "decay":
            return functional.logsigmoid(values)
        case "share":
            return values.sigmoid()
        case _:
            return values


def _first(run: Callable[..., Any], **options: object) -> Callable[..., Tensor]:
    """The output of an operator that also returns its state."""

    def output(*inputs: Tensor) -> Tensor:
        returned = run(*inputs, **options)
        return returned[0] if isinstance(returned, tuple) else returned

    return output


def _heads_first(formula: Callable[..., Any]) -> Callable[..., Tensor]:
    """A formula over heads of tokens, of tokens of heads."""

    def output(*inputs: Tensor) -> Tensor:
        turned = [each.transpose(1, 2) if each.ndim > 2 else each for each in inputs]
        return _first(formula)(*turned).transpose(1, 2)

    return output


OPERATORS = {
    "attention": Operator([parallel_attn], naive_parallel_attn, _QUERIES),
    "based": Operator(
        [parallel_based, fused_chunk_based],
        _heads_first(naive_parallel_based),
        [("normal", (*NUMBERS, 16)), ("normal", (*NUMBERS, 16)), ("normal", VECTORS)],
    ),
    "delta_rule": Operator(
        [chunk_delta_rule, fused_recurrent_delta_rule],
        _heads_first(delta_rule_recurrence),
        [*_UNIT_KEYS, ("share", NUMBERS)],
        (torch.bfloat16,),
    ),
    "forgetting_attention": Operator(
        [parallel_forgetting_attn], naive_forgetting_attn, [*_QUERIES, ("decay", NUMBERS)]
    ),
    "gated_delta_product": Operator(
        [_first(chunk_gated_delta_product, num_householder=2)],
        _first(naive_recurrent_gated_delta_product, scale=WIDTH**-0.5, num_householder=2),
        [
            ("normal", VECTORS),
            ("unit", (BATCH, 2 * TOKENS, HEADS, WIDTH)),
            ("normal", (BATCH, 2 * TOKENS, HEADS, WIDTH)),
            ("decay", NUMBERS),
            ("share", (BATCH, 2 * TOKENS, HEADS)),
        ],
        (torch.bfloat16,),
    ),
    "gated_delta_rule": Operator(
        [chunk_gated_delta_rule],
        lambda q, k, v, g, beta: naive_recurrent_gated_delta_rule(q, k, v, beta, g)[0],
        [*_UNIT_KEYS, ("decay", NUMBERS), ("share", NUMBERS)],
    ),
    "gated_delta_rule_2": Operator(
        [chunk_gdn2], naive_recurrent_gdn2, [*_UNIT_KEYS, ("decay", VECTORS), ("share", VECTORS), ("share", VECTORS)]
    ),
    "gated_linear_attention": Operator(
        [chunk_gla, fused_recurrent_gla], naive_recurrent_gla, [*_QUERIES, ("decay", VECTORS)]
    ),
    "gated_slot_attention": Operator(
        [chunk_gsa, fused_recurrent_gsa],
        naive_recurrent_gsa,
        [*_QUERIES, ("normal", (*NUMBERS, 16)), ("decay", (*NUMBERS, 16))],
    ),
    "hgrn": Operator(
        [chunk_hgrn, fused_recurrent_hgrn],
        naive_recurrent_hgrn,
        [("normal", (2, TOKENS, 70)), ("decay", (2, TOKENS, 70))],
    ),
    "kimi_delta_attention": Operator(
        [chunk_kda], naive_recurrent_kda, [*_UNIT_KEYS, ("decay", VECTORS), ("share", NUMBERS)]
    ),
    "retention": Operator(
        [chunk_retention, fused_recurrent_retention, parallel_retention], _heads_first(naive_retention), _QUERIES
    ),
    "rwkv6": Operator(
        [chunk_rwkv6, fused_recurrent_rwkv6],
        _heads_first(naive_recurrent_rwkv6),
        [*_QUERIES, ("decay", VECTORS), ("normal", (HEADS, WIDTH))],
    ),
    "simple_gated_linear_attention": Operator(
        [chunk_simple_gla, fused_recurrent_simple_gla, parallel_simple_gla],
        naive_recurrent_simple_gla,
        [*_QUERIES, ("decay", NUMBERS)],
    ),
    "stick_breaking_attention": Operator([parallel_stickbreaking_attn], naive_stickbreaking_attn, _QUERIES),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name, operator in OPERATORS.items() for dtype in operator.dtypes],
    ids=lambda value: str(value).removeprefix("torch."),
)
def test_results_and_gradients_are_those_of_the_formula(
    name: str, dtype: torch.dtype, record_property: Recorder
) -> None:
    operator = OPERATORS[name]
    torch.manual_seed(0)
    inputs = [_drawn(*each).to(dtype) for each in operator.inputs]
    expected = results_and_gradients(_first(operator.formula), [each.float() for each in inputs], len(inputs))
    with recorded(record_property, "fla", f"{name} {str(dtype).removeprefix('torch.')}"):
        for run in operator.runs:
            results = results_and_gradients(_first(run), inputs, len(inputs))
            for result, want in zip(results, expected, strict=True):
                # Both add up hundreds of terms, rounded on the way: what counts is the error beside the greatest ones.
                share = 1e-4 if dtype == torch.float32 else 3e-2
                tolerance = share * max(1.0, float(want.abs().max()))
                torch.testing.assert_close(result.float(), want, rtol=share, atol=tolerance)
