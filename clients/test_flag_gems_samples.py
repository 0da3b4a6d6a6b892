"""FlagGems' operators on torch's own samples: whatever torch computes of them, FlagGems' kernels compute beside it.

Torch has a list of operators, each with inputs of many shapes, layouts and types. While such an operator and its
gradient run, every operator under it that FlagGems has is run a second time by FlagGems, on copies of what it is given.
"""

from __future__ import annotations

import collections
import random
from collections.abc import Callable, Sequence
from typing import Any

import flag_gems
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from clients.comparison import Recorder, is_ours, reason

SUITE = "flag_gems samples"
DTYPES = (torch.float32, torch.float16, torch.int32, torch.bool)
SAMPLES = 4
CALLS = 2  # of an operator on the same types, in a test
TOLERANCES = {torch.float16: 2e-2, torch.float32: 1e-3}
OPERATORS: dict[str, Callable[..., Any]] = {entry[0]: entry[1] for entry in flag_gems._FULL_CONFIG}

# Where FlagGems' kernels do what torch's do not, or touch memory that is not theirs: by operator, how the reason
# begins, for which types, and what it comes from.
_DIFFERS, _MISSES, _HALF = "AssertionError: ", "E0301: ", ("float16",)
_INTEGERS, _FLOATS = ("int32", "bool"), ("float32", "float16")
KNOWN = {
    "addmv": (_DIFFERS, _INTEGERS, "it rounds the scalars of integers to integers"),
    "atan2": (_DIFFERS, _INTEGERS, "it gives integers for integers"),
    "erf": (_DIFFERS, _INTEGERS, "it gives integers for integers"),
    "linalg_vector_norm": (_DIFFERS, _HALF, "it keeps sums of powers in float16"),
    "log": (_DIFFERS, _INTEGERS, "it gives integers for integers"),
    "mm": (_MISSES, _FLOATS, "it reads before a matrix without elements"),
    "native_batch_norm": (_DIFFERS, _FLOATS, "it gives means where torch gives none"),
    "native_batch_norm_backward": (_MISSES, _FLOATS, "it reads means that are not there"),
    "native_group_norm": (_DIFFERS, _FLOATS, "it takes in the next group where a group's channels are no power of two"),
    "native_layer_norm": (_DIFFERS, _FLOATS, "its means have fewer dimensions"),
    "nll_loss_forward": (_DIFFERS, _FLOATS, "it leaves the total weight unset"),
    "pow.Tensor_Scalar": (_DIFFERS, _INTEGERS, "it cuts powers in float32 off to integers"),
    "repeat": ("SyntaxError: ", (*_FLOATS, *_INTEGERS), "it writes no Python for tensors without dimensions"),
    "soft_margin_loss": (_DIFFERS, _HALF, "torch's own result is infinite"),
    "sort": (_MISSES, ("bool",), "it counts in 16 places where it has two"),
    "sort.stable": (_MISSES, ("bool",), "it counts in 16 places where it has two"),
    "special_i1": (_DIFFERS, _INTEGERS, "it gives integers for integers"),
    "topk": (_DIFFERS, _INTEGERS, "it leaves unset what it fills rows of integers up with"),
}


def _is_random(name: str) -> bool:
    return any(
        word in name for word in ("rand", "bernoulli", "uniform", "normal", "exponential", "multinomial", "drop")
    )


class _Beside(TorchDispatchMode):
    """Runs FlagGems' operators beside torch's.

    Attributes:
        outcomes: by operator and type of the first tensor: why the results are not right, empty where they are.
        wrong: those of them that are neither refused by FlagGems or Triton nor known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}
        self.wrong: dict[str, BaseException] = {}
        self._calls = collections.Counter[object]()
        self._is_inside = False

    def __torch_dispatch__(
        self, function: Any, types: object, arguments: Sequence[Any] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        overload = function._schema.overload_name
        name = function._schema.name.removeprefix("aten::") + (f".{overload}" if overload else "")
        tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)]
        types_of_all = (name, *(tensor.dtype for tensor in tensors))
        if (
            self._is_inside
            or name not in OPERATORS
            or any(tensor.dtype.is_complex or tensor.layout != torch.strided for tensor in tensors)
            or self._calls[types_of_all] == CALLS
        ):
            return function(*arguments, **keywords)
        self._calls[types_of_all] += 1
        copies, named_copies = tree_map(
            lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, (arguments, keywords)
        )
        expected = function(*arguments, **keywords)
        dtype = str(tensors[0].dtype).removeprefix("torch.") if tensors else "numbers"
        self._is_inside = True
        try:
            self._compare(name, dtype, expected, copies, {key: named_copies[key] for key in named_copies})
        finally:
            self._is_inside = False
        return expected

    def _compare(self, name: str, dtype: str, expected: Any, copies: Sequence[Any], named: dict[str, Any]) -> None:
        named.pop("device", None)
        named.pop("pin_memory", None)
        tried = f"{name} {dtype}"
        try:
            results = OPERATORS[name](*copies, **named)
            if not _is_random(name):
                # The order of equal elements is free.
                places = slice(1 if name in ("sort", "topk") else None)
                _check(tree_leaves(results)[places], tree_leaves(expected)[places])
        except Exception as error:
            why = reason(error)
            beginning, dtypes, known = KNOWN.get(name, ("", (), ""))
            if dtype in dtypes and why.startswith(beginning):
                self.outcomes[tried] = known
                return
            self.outcomes[tried] = why
            if is_ours(error):
                self.wrong[tried] = error
        else:
            self.outcomes.setdefault(tried, "")


def _check(results: Sequence[Any], expected: Sequence[Any]) -> None:
    for result, want in zip(results, expected, strict=False):
        if isinstance(result, Tensor) and isinstance(want, Tensor):
            tolerance = TOLERANCES.get(want.dtype, 1e-5)
            torch.testing.assert_close(
                result, want, rtol=tolerance, atol=tolerance, equal_nan=True, check_dtype=False, check_stride=False
            )


def _names() -> list[str]:
    """Torch's operators under which there may be one of FlagGems: with its name, or a part of it."""
    bases = {name.split(".")[0].strip("_").removesuffix("_backward") for name in OPERATORS}
    return sorted({op.name for op in op_db if op.name.rpartition(".")[2] in bases or op.aten_name in bases})


@pytest.mark.parametrize("name", _names())
def test_what_torch_computes_of_samples(name: str, record_property: Recorder) -> None:
    beside = _Beside()
    for op in (each for each in op_db if each.name == name):
        for dtype in DTYPES:
            if not op.supports_dtype(dtype, "cpu"):
                continue
            torch.manual_seed(0)
            np.random.seed(0)
            random.seed(0)
            has_gradient = dtype == torch.float32 and op.supports_autograd
            samples = op.sample_inputs("cpu", dtype, requires_grad=has_gradient)
            for _, sample in zip(range(SAMPLES), samples, strict=False):
                with beside:
                    outputs = tree_leaves(op(sample.input, *sample.args, **sample.kwargs))
                    sums = [
                        each.sum()
                        for each in outputs
                        if isinstance(each, Tensor) and each.requires_grad and not each.dtype.is_complex
                    ]
                    if sums:
                        torch.stack(sums).sum().backward()
    record_property(SUITE, beside.outcomes)
    assert not beside.wrong, "\n".join(f"{tried}: {reason(error)}" for tried, error in beside.wrong.items())
