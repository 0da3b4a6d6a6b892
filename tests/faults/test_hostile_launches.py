"""Launches that make no sense end with an error that names the argument, the option or the line."""

import numpy as np
import pytest
import triton
from triton.compiler.errors import CompilationError

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.frontend.arguments import MAXIMUM_PROGRAMS


@mlu.jit
def copy(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out + offsets, tl.load(x + offsets, mask=mask), mask=mask)


def arrays():
    return np.zeros(64, np.float32), np.ones(64, np.float32)


ARRAY = arrays()[0]
LAUNCHES = {
    "E0101 list": ((ARRAY, [1.0], 64), {"BLOCK": 64}, "argument x is a list"),
    "E0101 text": ((ARRAY, "x", 64), {"BLOCK": 64}, "argument x is a str"),
    "E0101 memory": ((ARRAY, memoryview(ARRAY), 64), {"BLOCK": 64}, "argument x is a memoryview"),
    "E0101 complex": ((ARRAY, ARRAY, np.complex64(64)), {"BLOCK": 64}, "argument n is a complex64"),
    "E0101 huge": ((ARRAY, ARRAY, 2**80), {"BLOCK": 64}, "does not fit 64 bits"),
    "E0101 huge negative": ((ARRAY, ARRAY, -(2**80)), {"BLOCK": 64}, "does not fit 64 bits"),
    "E0101 missing": ((ARRAY, ARRAY), {"BLOCK": 64}, r"copy\(\) missing(.|\n)*takes out, x, n, BLOCK"),
    "E0101 constexpr": ((ARRAY, ARRAY, 64), {}, "missing 1 required positional argument: 'BLOCK'"),
    "E0101 surplus": ((ARRAY, ARRAY, 64, 64, 64), {}, "takes 4 positional arguments but 5"),
    "E0101 twice": ((ARRAY, ARRAY, 64), {"n": 3, "BLOCK": 64}, "multiple values for argument 'n'"),
    "E0101 constant list": ((ARRAY, ARRAY, 64), {"BLOCK": [64]}, "constant BLOCK is a list"),
    "E0101 constant dict": ((ARRAY, ARRAY, 64), {"BLOCK": {}}, "constant BLOCK is a dict"),
    "E0103 order": ((ARRAY.astype(">f4"), ARRAY, 64), {"BLOCK": 64}, "newbyteorder"),
    "E0103 object": ((np.array([1, "a"], object), ARRAY, 64), {"BLOCK": 64}, "array out has the dtype object"),
    "E0103 record": ((np.zeros(3, [("a", "f4")]), ARRAY, 64), {"BLOCK": 64}, "array out has the dtype"),
    "E0103 date": ((np.zeros(3, "M8[s]"), ARRAY, 64), {"BLOCK": 64}, "array out has the dtype"),
    "E0107 misspelt": ((ARRAY, ARRAY, 64), {"BLOCK": 64, "num_stage": 2}, "did you mean num_stages"),
    "E0107 text": ((ARRAY, ARRAY, 64), {"BLOCK": 64, "num_stages": "2"}, "num_stages = '2' is not an integer"),
    "E0107 three warps": ((ARRAY, ARRAY, 64), {"BLOCK": 64, "num_warps": 3}, "must be a power of 2, not 3"),
    "E0107 warps": ((ARRAY, ARRAY, 64), {"BLOCK": 64, "num_warps": 0}, "num_warps = 0 is not"),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_what_is_wrong_is_named(name):
    arguments, keywords, message = LAUNCHES[name]
    with pytest.raises(mlu.MluError, match=message) as caught:
        copy[(1,)](*arguments, **keywords)
    assert caught.value.code == name.split()[0]
    assert caught.value.help or name.split()[0] == "E0107"


@pytest.mark.parametrize("grid", [(), (1.5,), (-1,), (1, 2, 3, 4), 4, None, "1", ("1",), (None,), lambda meta: None])
def test_no_grid(grid):
    with pytest.raises(mlu.ArgumentError, match="E0104"):
        copy[grid](*arrays(), 64, BLOCK=64)


def test_a_launch_needs_a_grid():
    with pytest.raises(mlu.ArgumentError, match=r"E0104(.|\n)*copy\[\(programs,\)\]"):
        copy(*arrays(), 64, BLOCK=64)


@pytest.mark.parametrize("grid", [(MAXIMUM_PROGRAMS + 1,), (2**31,) * 3, (2**63,), (2**70, 1), (2**14, 2**14)])
def test_too_many_programs(grid):
    with pytest.raises(mlu.ArgumentError, match="a launch has at most 67,108,864") as caught:
        copy[grid](*arrays(), 64, BLOCK=64)
    assert caught.value.code == "E0104"
    with pytest.raises(mlu.ArgumentError, match="E0104"):
        triton.jit(copy.fn)[grid](*map(mlu.array, arrays()), 64, BLOCK=64)


@pytest.mark.parametrize("n", [64.0, np.float16(64), np.uint64(64), np.int8(64), True, 2**64 - 1])
def test_any_number_counts(n):
    out, x = arrays()
    copy[(1,)](out, x, n, BLOCK=64)
    assert out.sum() == min(int(n), 64)


def test_errors_of_triton_tell_the_line_of_the_file():
    with pytest.raises(CompilationError) as caught:
        copy[(1,)](*arrays(), 64, BLOCK=64.5)
    line = copy.fn.__code__.co_firstlineno + 2
    place, remedy = caught.value.__notes__
    assert place == f"  --> {__file__}:{line}:42"
    assert "integers that are known to the compiler" in remedy


@mlu.jit
def factorial(n):
    return n * factorial(n - 1)


@mlu.jit
def recursive(out, n):
    tl.store(out, factorial(n))


def test_recursion_is_refused():
    with pytest.raises(mlu.CompileError, match="calls itself without end") as caught:
        recursive[(1,)](np.zeros(1, np.int32), 3)
    assert caught.value.code == "E0201"
    assert caught.value.location.line == recursive.fn.__code__.co_firstlineno + 2


@mlu.jit
def clock(out):
    tl.store(out, tl.inline_asm_elementwise("mov.u64 $0, %globaltimer;", "=l", [], tl.int64, False, 1))


def test_inline_assembly_without_operands_is_refused():
    with pytest.raises(mlu.CompileError, match=r"E0201(.|\n)*globaltimer"):
        clock[(1,)](np.zeros(1, np.int64))


def test_equal_kernels_of_two_files_have_their_own_lines(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "import mlutriton as mlu\nimport mlutriton.language as tl\n@mlu.jit\ndef far(x):\n    tl.store(x + 9, 1.0)\n"
    for name in ("first_far", "second_far"):
        (tmp_path / f"{name}.py").write_text(text)
        with pytest.raises(mlu.KernelFault) as caught:
            __import__(name).far[(1,)](np.zeros(1, np.float32))
        assert caught.value.location.file == str(tmp_path / f"{name}.py")


@pytest.mark.parametrize("name", [None, 5, b"mlu590-m9", "", "mlu591", "none.toml"])
def test_no_machine(name):
    before = mlu.current_machine()
    with pytest.raises(mlu.ArgumentError, match="E0105"):
        mlu.set_machine(name)
    assert mlu.current_machine() is before


@pytest.mark.parametrize(
    ("shape", "dtype", "code"),
    [(3, "float32", "E0101"), ((1.5,), "float32", "E0101"), ((2**40, 2**40), "int8", "E0101"), ((3,), "none", "E0103")],
)
def test_no_spec(shape, dtype, code):
    with pytest.raises(mlu.ArgumentError, match=code):
        mlu.spec(shape, dtype)


def test_a_run_is_asked_about_a_machine_by_name():
    run = copy[(1,)](*arrays(), 64, BLOCK=64)
    assert run.what_if("mlu590-h8").machine is mlu.machine("mlu590-h8")
    with pytest.raises(mlu.ArgumentError, match="E0105"):
        run.what_if("none")
