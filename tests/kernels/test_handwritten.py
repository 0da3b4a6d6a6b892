"""The programs in assembly that compiled kernels are measured against do what those do, without a race."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from benchmarks import kernels
from benchmarks.against_handwritten import DIRECTORY, PAIRS, Pair
from examples import cumsum, flash_attention, layer_norm, matmul, paged_attention, softmax, transpose, vector_add

SMALL = {
    "vector_add": partial(vector_add.case, 100_003, 1024),
    "gelu": partial(kernels.gelu_case, 131, 200),
    "softmax": partial(softmax.case, 700, 99, 8),
    "layer_norm": partial(layer_norm.case, 101, 500),
    "row_sum": partial(kernels.row_sum_case, 1000, 70),
    "cumsum": partial(cumsum.case, 100, 128),
    "transpose": partial(transpose.case, 2, 300, 200, np.float32, "fp32"),
    "embedding_bag": partial(kernels.embedding_bag_case, 300, 5, 100, 30),
    "gemm_f16": partial(matmul.case, 200, 192, 256, np.float16, "fp16"),
    "gemm_i8": partial(matmul.case, 200, 192, 256, np.int8, "int8"),
    "flash_attention": partial(flash_attention.case, 2, 1, 512, 128, causal=False),
    "paged_attention": partial(paged_attention.case, 4, 2, 8, 700),
}
MORE = {
    "transpose": {"batch": 2},
    "embedding_bag": {"count": 5, "width": 30},
    "gemm_f16": {"rows": 32, "columns": 128, "depth": 96},
    "gemm_i8": {"rows": 32, "columns": 128, "depth": 96},
    "flash_attention": {"batches": 2},
    "paged_attention": {"sequences": 4},
}


def check(pair):
    case, actual = pair.values()
    expected = case.reference(**case.arguments())
    for name in case.outputs:
        error, wrong = case.compare(actual[name], expected[name])
        assert not wrong, f"{name}: {wrong} elements differ by up to {error}"


@pytest.mark.parametrize("name", PAIRS)
def test_a_program_does_what_the_kernel_does(name):
    check(PAIRS[name])


@pytest.mark.parametrize("program", sorted(path.stem for path in DIRECTORY.glob("*.s")))
def test_a_program_has_no_races(program, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    check(Pair(SMALL[program], program, MORE.get(program, {})))


def test_a_wrong_program_is_found(tmp_path, monkeypatch):
    text = (DIRECTORY / "row_sum.s").read_text(encoding="utf-8")
    (tmp_path / "row_sum.s").write_text(text.replace("red.fadd", "red.fmax"), encoding="utf-8")
    monkeypatch.setattr("benchmarks.against_handwritten.DIRECTORY", tmp_path)
    with pytest.raises(AssertionError, match="elements differ"):
        check(replace(PAIRS["row sum 4096x4096 fp32"], case=SMALL["row_sum"]))
