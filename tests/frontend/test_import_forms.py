"""The import into the tile IR: forms that Triton prints seldom or not today, written by hand, and every refusal."""

import re

import numpy as np
import pytest

from mlutriton.diagnostics import CompileError
from mlutriton.ir.ops import Store

BLOCK_POINTERS = """
module {
  tt.func public @kernel(%x: !tt.ptr<f32>, %o: !tt.ptr<f32>, %n: i64) {
    %zero = arith.constant 0 : i32
    %two = arith.constant 2 : i32
    %four = arith.constant 4 : i32
    %one = arith.constant 1 : i64
    %lower = arith.constant 0 : index
    %upper = arith.constant 2 : index
    %step = arith.constant 1 : index
    %p = tt.make_tensor_ptr %x, [%n, %n], [%n, %one], [%zero, %zero] {order = array<i32: 1, 0>} : <tensor<4x4xf32>>
    %q = tt.make_tensor_ptr %o, [%n, %n], [%n, %one], [%zero, %zero] {order = array<i32: 1, 0>} : <tensor<4x4xf32>>
    %r:2 = scf.for %i = %lower to %upper step %step iter_args(%a = %p, %b = %q) -> (!tt.ptr<tensor<4x4xf32>>, !tt.ptr<tensor<4x4xf32>>) {
      %v = tt.load %a {boundaryCheck = array<i32: 1>, padding = 2 : i32} : !tt.ptr<tensor<4x4xf32>>
      tt.store %b, %v {boundaryCheck = array<i32: 0, 1>} : !tt.ptr<tensor<4x4xf32>>
      %c = tt.advance %a, [%zero, %four] : <tensor<4x4xf32>>
      %d = tt.advance %b, [%two, %four] : <tensor<4x4xf32>>
      scf.yield %c, %d : !tt.ptr<tensor<4x4xf32>>, !tt.ptr<tensor<4x4xf32>>
    }
    tt.return
  }
}
"""  # noqa: E501


def test_block_pointers(imported, evaluated):
    x, o = np.arange(36, dtype=np.float32).reshape(6, 6), np.zeros((6, 6), np.float32)
    evaluated(imported(BLOCK_POINTERS), (1,), x, o, 6)
    expected = np.zeros((6, 6), np.float32)
    expected[:4, :4] = x[:4, :4]
    expected[2:6, 4:] = x[:4, 4:]
    np.testing.assert_array_equal(o, expected)


HISTOGRAM = """
module {
  tt.func public @kernel(%x: !tt.ptr<i8>, %o: !tt.ptr<i32>) {
    %p = tt.make_range {end = 256 : i32, start = 0 : i32} : tensor<256xi32>
    %a = tt.splat %x : !tt.ptr<i8> -> tensor<256x!tt.ptr<i8>>
    %b = tt.addptr %a, %p : tensor<256x!tt.ptr<i8>>, tensor<256xi32>
    %v = tt.load %b : tensor<256x!tt.ptr<i8>>
    %h = tt.histogram %v : tensor<256xi8> -> tensor<256xi32>
    %c = tt.splat %o : !tt.ptr<i32> -> tensor<256x!tt.ptr<i32>>
    %d = tt.addptr %c, %p : tensor<256x!tt.ptr<i32>>, tensor<256xi32>
    tt.store %d, %h : tensor<256x!tt.ptr<i32>>
    tt.return
  }
}
"""


def test_a_histogram_of_bytes(imported, evaluated):
    x = np.random.default_rng(0).integers(0, 256, 256, np.uint8)
    counts = np.zeros(256, np.int32)
    evaluated(imported(HISTOGRAM), (1,), x.view(np.int8), counts)
    np.testing.assert_array_equal(counts, np.bincount(x, minlength=256))


# ---- forms that Triton's front end does not print today -------------------------------------------------------------


def scalar_kernel(body, result="%r", type="i32"):
    return f"""
module {{
  tt.func public @kernel(%o: !tt.ptr<{type}>, %a: {type}, %b: {type}) {{
    {body}
    tt.store %o, {result} : !tt.ptr<{type}>
    tt.return
  }}
}}
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ceildivsi", lambda a, b: -(-a // b)),
        ("floordivsi", lambda a, b: a // b),
        ("ceildivui", lambda a, b: -(-(a % 2**32) // (b % 2**32))),
    ],
)
@pytest.mark.parametrize(("a", "b"), [(7, 2), (-7, 2), (7, -2), (-7, -2), (6, 3), (-6, 3), (0, 5)])
def test_rounded_divisions(name, expected, a, b, imported, evaluated):
    o = np.zeros(1, np.int32)
    evaluated(imported(scalar_kernel(f"%r = arith.{name} %a, %b : i32")), (1,), o, a, b)
    assert int(o[0]) % 2**32 == expected(a, b) % 2**32


@pytest.mark.parametrize(
    ("predicate", "signed"),
    [("slt", True), ("sge", True), ("ult", False), ("ugt", False)],
)
@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_comparisons_of_truth_values(predicate, signed, a, b, imported, evaluated):
    text = """
    %zero = arith.constant 0 : i32
    %x = arith.cmpi ne, %a, %zero : i32
    %y = arith.cmpi ne, %b, %zero : i32
    %z = arith.cmpi PREDICATE, %x, %y : i1
    %sum = arith.addi %z, %x : i1
    %r = arith.extui %sum : i1 to i32
    """.replace("PREDICATE", predicate)
    o = np.zeros(1, np.int32)
    evaluated(imported(scalar_kernel(text)), (1,), o, a, b)
    left, right = (-a, -b) if signed else (a, b)
    holds = {"lt": left < right, "ge": left >= right, "gt": left > right}[predicate[1:]]
    assert o[0] == (holds + a) % 2


def listed_constant(elements):
    return scalar_kernel(
        f"""
    %c = arith.constant dense<{elements}> : tensor<2x2xi32>
    %p = tt.splat %o : !tt.ptr<i32> -> tensor<2x2x!tt.ptr<i32>>
    %q = tt.addptr %p, %c : tensor<2x2x!tt.ptr<i32>>, tensor<2x2xi32>
    tt.store %q, %c : tensor<2x2x!tt.ptr<i32>>
    """,
        "%a",
    )


@pytest.mark.parametrize("elements", [[[3, 2], [1, 0]], [[1, 3], [5, 7]], [[2, 2], [2, 2]]])
def test_constants_that_are_listed(elements, imported, evaluated):
    o = np.full(8, -1, np.int32)
    evaluated(imported(listed_constant(elements)), (1,), o, 0, 0)
    expected = np.full(8, -1)
    expected[np.ravel(elements)] = np.ravel(elements)
    expected[0] = 0
    np.testing.assert_array_equal(o, expected)


def nested_branches(depth):
    """Early returns behind which the paths meet, without a block that all of them pass: as deep as ``depth``."""
    lines = ["%zero = arith.constant 0 : i32", "%one = arith.constant 1 : i32"]
    lines += ["%c = arith.cmpi sgt, %a, %zero : i32", "%d = arith.cmpi sgt, %b, %zero : i32"]
    lines.append("cf.br ^start0")
    for level in range(depth):
        lines += [f"^start{level}:", f"cf.cond_br %c, ^maybe{level}, ^start{level + 1}"]
        lines += [f"^maybe{level}:", f"cf.cond_br %d, ^leave, ^start{level + 1}"]
    lines += ["^leave:", "tt.return", f"^start{depth}:"]
    return scalar_kernel("\n    ".join(lines), "%one")


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_nested_early_returns(a, b, imported, evaluated):
    o = np.zeros(1, np.int32)
    evaluated(imported(nested_branches(3)), (1,), o, a, b)
    assert o[0] == 1 - (a and b)


def test_blocks_that_meet_are_imported_once(imported, evaluated):
    text = """
    %zero = arith.constant 0 : i32
    %c = arith.cmpi sgt, %a, %zero : i32
    cf.cond_br %c, ^one, ^two(%a : i32)
    ^one:
    %x = arith.addi %a, %b : i32
    cf.br ^two(%x : i32)
    ^two(%r: i32):
    """
    function = imported(scalar_kernel(text))
    assert sum(isinstance(operation, Store) for operation in function.walk()) == 1
    for a in (-3, 3):
        o = np.zeros(1, np.int32)
        evaluated(function, (1,), o, a, 10)
        assert o[0] == (a + 10 if a > 0 else a)


# ---- the whole language ---------------------------------------------------------------------------------------------

REFUSED_KERNELS = {
    "assembly": "inline assembly",
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("optimize", [False, True])
def test_every_form_is_imported_or_refused_at_its_line(kernel_name, optimize, make_module, imported):
    text = str(make_module(kernel_name, optimize))
    if kernel_name not in REFUSED_KERNELS:
        assert imported(text).name == kernel_name
        return
    with pytest.raises(CompileError, match=REFUSED_KERNELS[kernel_name]) as caught:
        imported(text)
    assert caught.value.code == "E0201"
    assert caught.value.location.file.endswith("corpus.py")


RECURSION = """
module {
  tt.func public @kernel(%a: i32) {
    tt.call @again(%a) : (i32) -> () loc("k.py":3:5)
    tt.return
  }
  tt.func private @again(%a: i32) attributes {noinline = true} {
    tt.call @again(%a) : (i32) -> () loc("k.py":9:5)
    tt.return
  }
}
"""

ENCLOSED = """
module {
  tt.func public @kernel(%x: tensor<4xf32>, %s: f32) {
    %r = "tt.reduce"(%x) <{axis = 0 : i32}> ({
    ^bb0(%a: f32, %b: f32):
      %c = arith.addf %a, %s : f32
      tt.reduce.return %c : f32
    }) : (tensor<4xf32>) -> f32
    tt.return
  }
}
"""

LOADING = """
module {
  tt.func public @kernel(%x: tensor<4xf32>, %p: !tt.ptr<f32>) {
    %r = "tt.reduce"(%x) <{axis = 0 : i32}> ({
    ^bb0(%a: f32, %b: f32):
      %c = tt.load %p : !tt.ptr<f32>
      tt.reduce.return %c : f32
    }) : (tensor<4xf32>) -> f32
    tt.return
  }
}
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECURSION, "the function again calls itself"),
        (ENCLOSED, "uses a value of the kernel"),
        (LOADING, "holds load"),
        (nested_branches(5), "nested too deeply"),
        (listed_constant([[3, 2], [1, 1]]), "elements in no regular order"),
        (scalar_kernel("cf.br ^a\n    ^a:\n    cf.br ^a\n    ^b:", "%a"), None),
        (scalar_kernel("%r = math.powf %a, %b : f32", type="f32"), "the operation math.powf is not supported"),
        (scalar_kernel("%r = tt.atomic_rmw inc, relaxed, gpu, %o, %a : (!tt.ptr<i32>, i32) -> i32"), "atomic.* inc"),
        (scalar_kernel("%r = arith.fptosi %a : f64 to i1", "%a", "f64"), "fptosi is not defined on f64 to i1"),
        (
            scalar_kernel("scf.for unsigned %i = %a to %b step %a : i32 {\n    }", "%a"),
            "counts in unsigned integers",
        ),
    ],
)
def test_refusals(text, message, imported):
    if message is None:  # Blocks that branch in a circle never return.
        message = "a loop that is made of branches"
        text = text.replace("cf.br ^a\n    ^b:", "%c = arith.cmpi eq, %a, %b : i32\n    cf.cond_br %c, ^a, ^b\n    ^b:")
    with pytest.raises(CompileError, match=message) as caught:
        imported(text)
    assert caught.value.code == "E0201"


def test_a_refusal_says_what_is_supported(imported):
    with pytest.raises(CompileError) as caught:
        imported(scalar_kernel("%r = math.powf %a, %b : f32", type="f32"))
    assert re.search(r"of math, these are: .*exp2.*rsqrt", caught.value.help)
