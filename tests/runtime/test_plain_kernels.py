"""Plain ``@triton.jit`` kernels on arrays of any library: nothing of this package is named in them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

import mlutriton as mlu


@triton.jit
def add_one(out, x, columns, out_row, out_column, x_row, x_column, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    values = tl.load(x + row * x_row + column * x_column, mask=inside)
    tl.store(out + row * out_row + column * out_column, values + 1, mask=inside)


@triton.jit
def accumulate(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    tl.store(out + offsets, tl.load(out + offsets, mask=inside) + tl.load(x + offsets, mask=inside), mask=inside)


def element_strides(array):
    return [stride // array.itemsize for stride in array.strides]


class OnlyDlpack:
    """An array of a library that nobody has heard of."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@settings(max_examples=25)
@given(
    steps=st.tuples(st.sampled_from([-2, -1, 1, 3]), st.sampled_from([-3, -1, 1, 2])),
    transposed=st.booleans(),
    dtype=st.sampled_from(["float32", "int16", "float64"]),
)
def test_arrays_of_any_strides(steps, transposed, dtype):
    base = np.arange(24 * 24, dtype=dtype).reshape(24, 24)
    x = base[:: steps[0], :: steps[1]]
    x = x.T if transposed else x
    before = x.copy()
    out = np.zeros((24, 72), dtype)[: x.shape[0], 2 : 2 + 2 * x.shape[1] : 2]
    add_one[(x.shape[0],)](out, x, x.shape[1], *element_strides(out), *element_strides(x), BLOCK=32)
    np.testing.assert_array_equal(out, before + 1)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("wrap", [np.asarray, OnlyDlpack, mlu.array])
def test_arrays_of_any_library_are_written_in_place(wrap):
    x, out = np.arange(100, dtype=np.float32), np.ones(100, np.float32)
    compiled = accumulate[(4,)](wrap(out), wrap(x), 100, BLOCK=32)
    np.testing.assert_array_equal(out, x + 1)
    assert isinstance(compiled, triton.compiler.CompiledKernel)
    assert mlu.last_run().grid == (4, 1, 1)
    compiled[(4, 1, 1)](wrap(out), wrap(x), 100, 32)
    np.testing.assert_array_equal(out, 2 * x + 1)


def test_numpy_scalars_are_numbers():
    x, out = np.arange(100, dtype=np.float32), np.ones(100, np.float32)
    compiled = accumulate[(np.int64(4),)](out, x=x, n=np.int32(100), BLOCK=np.int64(32))
    np.testing.assert_array_equal(out, x + 1)
    compiled[(4, 1, 1)](out, x, np.int32(100), 32)
    np.testing.assert_array_equal(out, 2 * x + 1)


def test_a_compiled_kernel_is_launched_without_its_constants():
    x, out = np.arange(100, dtype=np.float32), np.ones(100, np.float32)
    compiled = accumulate[(4,)](out, x, 100, BLOCK=32)
    compiled[(4, 1, 1)](out, x, 100)
    np.testing.assert_array_equal(out, 2 * x + 1)
    with pytest.raises(mlu.ArgumentError, match="takes 4 arguments, and is given 2"):
        compiled[(4, 1, 1)](out, x)


def test_grids_and_hooks_can_ask_the_arrays():
    x, out = np.arange(100, dtype=np.float32), np.ones(100, np.float32)
    accumulate[lambda meta: (triton.cdiv(meta["x"].size + len(meta["out"]), 2 * meta["BLOCK"]),)](out, x, 100, BLOCK=32)
    assert mlu.last_run().grid == (4, 1, 1)
    with pytest.raises(AttributeError, match="sise"):
        accumulate[lambda meta: (meta["x"].sise,)](out, x, 100, BLOCK=32)


@pytest.mark.parametrize("variables", [{}, {"TRITON_STORE_BINARY_ONLY": "1"}, {"TRITON_DISABLE_LINE_INFO": "1"}])
def test_without_a_mention_of_this_package(variables, tmp_path):
    (tmp_path / "main.py").write_text("""
import numpy as np, triton, triton.language as tl

@triton.autotune([triton.Config({"BLOCK": block}) for block in (16, 64)], key=["n"], reset_to_zero=["out"])
@triton.heuristics({"EVEN": lambda arguments: arguments["n"] % arguments["BLOCK"] == 0})
@triton.jit
def count(out, x, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + offsets) if EVEN else tl.load(x + offsets, mask=offsets < n, other=0)
    tl.atomic_add(out, tl.sum(values))

out = np.zeros(1, np.int32)
count[lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"]),)](out, np.arange(100, dtype=np.int32), 100)
print(out[0])
""")
    environment = {**os.environ, **variables, "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    for _ in range(2):  # the second time, the kernel comes from Triton's cache
        command = [sys.executable, "main.py"]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.stdout == "4950\n", ran.stderr
