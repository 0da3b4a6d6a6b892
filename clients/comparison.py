"""What tests of other projects' kernels share: outputs and gradients of a function, and what came of a comparison."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.compiler.errors import CompilationError

from mlutriton.diagnostics import MluError

Recorder = Callable[[str, object], None]


def results_and_gradients(function: Callable[..., Any], inputs: Sequence[Any], differentiable: int) -> list[Tensor]:
    """What a function returns, then the gradients of a fixed weighting of it.

    Args:
        function: of the inputs.
        inputs: tensors, and whatever else the function takes.
        differentiable: how many of them have a gradient: the first ones.
    """
    leaves = [
        each.detach().clone().requires_grad_(place < differentiable) if isinstance(each, Tensor) else each
        for place, each in enumerate(inputs)
    ]
    # Some operators work in place, which a leaf does not allow.
    returned = function(*(leaf * 1 if place < differentiable else leaf for place, leaf in enumerate(leaves)))
    outputs = list(returned) if isinstance(returned, tuple) else [returned]
    torch.manual_seed(1)
    total = sum((output.float() * torch.randn(output.shape)).sum() for output in outputs)
    kept = [output.detach().clone() for output in outputs]
    if not differentiable:
        return kept
    assert isinstance(total, Tensor)
    total.backward()
    gradients = [leaf.grad for leaf in leaves[:differentiable]]
    assert all(gradient is not None for gradient in gradients)
    return [*kept, *(gradient for gradient in gradients if gradient is not None)]


def root(error: BaseException) -> BaseException:
    """The first error of a chain: Triton wraps an error of a function in one of each of its callers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_ours(error: BaseException) -> bool:
    """True unless somebody else's code refused: Triton's front end, or the host of a kernel."""
    cause = root(error)
    last = traceback.extract_tb(cause.__traceback__)[-1].filename if cause.__traceback__ else ""
    return isinstance(cause, MluError) or "site-packages" not in last or "torch/testing" in last


def reason(error: BaseException) -> str:
    """An error in one line."""
    cause = root(error)
    if isinstance(cause, MluError):
        # Addresses differ from run to run.
        return f"{cause.code}: {re.sub(' at 0x[0-9a-f]+', '', cause.summary)}"
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    # Triton says what is wrong below the kernel's text.
    told = (lines[-1] if isinstance(cause, CompilationError) else lines[0]) if lines else ""
    return f"{type(cause).__name__}: {told}"


@contextlib.contextmanager
def recorded(record: Recorder, suite: str, tried: str, refused: str | None = None) -> Iterator[None]:
    """Puts down what came of a comparison.

    Args:
        record: pytest's ``record_property``.
        suite: the part of the page.
        tried: what is compared, e.g. ``softmax float32``.
        refused: why it cannot be compared, where that is known: then it has to fail.
    """
    try:
        yield
    except Exception as error:
        record(suite, {tried: refused or reason(error)})
        if refused is not None:
            pytest.xfail(refused)
        raise
    record(suite, {tried: ""})
    assert refused is None, f"it is right, though expected to fail: {refused}"
