"""The TTIR parser: every form of text that Triton prints, checked against Triton's own object graph."""

import re

import numpy as np
import pytest

from mlutriton.diagnostics import CompileError, Location
from mlutriton.dtypes import F32, I1, I32, DType
from mlutriton.frontend.ttir import parse_ttir
from mlutriton.frontend.ttir.locations import LocationTable, SourceLocation
from mlutriton.frontend.ttir.text import IndexType, TensorDescriptorType, read_constant, read_signature, read_types
from mlutriton.ir.types import PointerType, TensorType

MLIR_NAMES = {"f8e5m2": "f8E5M2", "f8e4m3": "f8E4M3FN"}


def mlir(ttir_type):
    """A type as MLIR spells it."""
    match ttir_type:
        case DType(name=name):
            return MLIR_NAMES.get(name, name)
        case PointerType(pointee):
            return f"!tt.ptr<{mlir(pointee)}>"
        case TensorType(shape, element):
            return f"tensor<{''.join(f'{size}x' for size in shape)}{mlir(element)}>"
        case TensorDescriptorType(block):
            return f"!tt.tensordesc<{mlir(block)[7:-1]}>"
        case IndexType():
            return "index"


def operations(region):
    for block in region.blocks:
        for operation in block.operations:
            yield operation
            for nested in operation.regions:
                yield from operations(nested)


def all_operations(module):
    return [operation for function in module.functions for operation in operations(function.body)]


def is_implied(name, operand_count):
    # MLIR does not print a terminator that yields nothing, and functions are no operations here.
    return name in ("builtin.module", "tt.func") or (name == "scf.yield" and operand_count == 0)


def spelled(value):
    # Releases before 3.8 write the block of a descriptor as a tensor.
    return re.sub(r"tensordesc<tensor<(.*?)>>", r"tensordesc<\1>", str(value.get_type()))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("optimize", [False, True])
def test_agrees_with_the_object_graph(kernel_name, optimize, make_module):
    module = make_module(kernel_name, optimize)
    expected = []

    def visit(operation):
        name, operand_count = operation.get_name(), operation.get_num_operands()
        if not is_implied(name, operand_count):
            results = [spelled(operation.get_result(index)) for index in range(operation.get_num_results())]
            expected.append((name, operand_count, *results))

    module.walk(visit)
    parsed = parse_ttir(str(module))
    found = [
        (
            operation.name,
            len(operation.operands) + sum(len(successor.operands) for successor in operation.successors),
            *(mlir(result.type) for result in operation.results),
        )
        for operation in all_operations(parsed)
        if not is_implied(operation.name, len(operation.operands))
    ]
    assert sorted(map(str, found)) == sorted(map(str, expected))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_operation_has_a_place_in_the_source(make_module):
    module = parse_ttir(str(make_module("flash")))
    stores = [operation for operation in all_operations(module) if operation.name == "tt.store"]
    assert all(store.location.location.file.endswith("corpus.py") for store in stores)
    (first_dot, *_) = (operation for operation in all_operations(module) if operation.name == "tt.dot")
    inner, outer = first_dot.location.frames
    assert inner.line < outer.line  # _inner is written above flash, which calls it
    assert first_dot.location.names == ("qk",)
    reductions = [operation for operation in all_operations(module) if operation.name == "tt.reduce"]
    assert all("standard.py" in reduction.location.frames[0].file for reduction in reductions)
    assert all(reduction.location.location.file.endswith("corpus.py") for reduction in reductions)
    loop = next(operation for operation in all_operations(module) if operation.name == "scf.for")
    assert loop.location.names == ("acc", "l_i", "m_i")


def test_text_without_locations_is_read_too(make_module):
    module = make_module("softmax")
    bare, full = parse_ttir(module.str_nodebug()), parse_ttir(str(module))
    assert [op.name for op in all_operations(bare)] == [op.name for op in all_operations(full)]
    assert not any(op.location.frames for op in all_operations(bare))


def parse_body(body, arguments="%x: !tt.ptr<f32>, %n: i32, %v: tensor<8xf32>, %i: tensor<8xi32>, %c: i1"):
    return parse_ttir(f"module {{\n  tt.func public @kernel({arguments}) {{\n{body}\n    tt.return\n  }}\n}}\n").kernel


def first(body):
    return parse_body(body).body.blocks[0].operations[0]


def test_function_header():
    kernel = parse_ttir(
        """\
#loc = loc("/tmp/a file.py":4:1)
module {
  tt.func public @kernel(%x: !tt.ptr<f16> {tt.divisibility = 16 : i32, tt.name = "a, %b"} loc("x"(#loc)), %n: i32 loc(\
"n"(#loc))) attributes {noinline = false} {
    tt.return loc(#loc)
  } loc(#loc)
  tt.func private @"helper<1, (2)>"(%a: f32) -> (f32, i32) attributes {noinline = true} {
    %0 = arith.constant 1 : i32
    tt.return %a, %0 : f32, i32
  }
} loc(#loc)
"""
    )
    pointer, count = kernel.kernel.arguments
    assert (pointer.name, pointer.attributes) == ("x", {"tt.divisibility": 16, "tt.name": "a, %b"})
    assert (count.name, count.type, count.attributes) == ("n", I32, {})
    assert kernel.kernel.location.location == Location("/tmp/a file.py", 4, 1)
    helper = kernel.functions[1]
    assert (helper.name, helper.results, helper.visibility) == ("helper<1, (2)>", (F32, I32), "private")
    assert kernel.kernel.attributes == {"noinline": False}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%r = arith.cmpi slt, %i, %i : tensor<8xi32>", {"predicate": "slt"}),
        ("%r = tt.get_program_id y : i32", {"axis": "y"}),
        ("%r = tt.make_range {end = 8 : i32, start = 0 : i32} : tensor<8xi32>", {"end": 8, "start": 0}),
        ("tt.atomic_rmw fadd, acq_rel, gpu, %x, %n, %c : (!tt.ptr<f32>, i32, i1) -> f32",
         {"operation": "fadd", "semantics": "acq_rel", "scope": "gpu"}),
        ("%r = tt.load %x cacheModifier = cg evictionPolicy = evict_last : !tt.ptr<f32>",
         {"cacheModifier": "cg", "evictionPolicy": "evict_last"}),
        ("%r = tt.load %x {cachePolicy = #tt.cache_policy<cache_modifier = cg, eviction_policy = evict_last>} : "
         "!tt.ptr<f32>", {"cacheModifier": "cg", "evictionPolicy": "evict_last"}),
        ("%r = tt.trans %v {order = array<i32: 1, 0>} : tensor<8xf32> -> tensor<8xf32>", {"order": (1, 0)}),
        ("%r = tt.reshape %v allow_reorder : tensor<8xf32> -> tensor<8xf32>", {"allow_reorder": True}),
        ("tt.print \" { : \\22x\\22 loc(\" {hex = true, isSigned = array<i32: 0>} : %v : tensor<8xf32>",
         {"prefix": ' { : "x" loc(', "hex": True, "isSigned": (0,)}),
        ("tt.assert %c, \"a\\0Ab\" : i1", {"message": "a\nb"}),
        ("%r = arith.addf %v, %v fastmath<contract> : tensor<8xf32>", {"fastmath": "contract"}),
        ("%r:2 = tt.call @f(%n) : (i32) -> (i32, f32)", {"callee": "f"}),
        ("%r:2 = tt.call @\"f<1>\"(%n) : (i32) -> (i32, f32)", {"callee": "f<1>"}),
        ("%r = tt.dot_scaled %v scale %i, %v, %v lhs = e4m3 rhs = bf16 {fastMath = false} : tensor<8xf32>, "
         "tensor<8xi32> * tensor<8xf32> -> tensor<8xf32>",
         {"scale": (1,), "lhs": "e4m3", "rhs": "bf16", "fastMath": False}),
    ],
)  # fmt: skip
def test_attributes(text, expected):
    assert first(text).attributes == expected


def test_block_pointers_of_older_releases():
    kernel = parse_body(
        """
        %p = tt.make_tensor_ptr %x, [%n, %n], [%n, %n], [%n, %n] {order = array<i32: 1, 0>} : <tensor<4x8xf32>>
        %t = tt.load %p {boundaryCheck = array<i32: 0, 1>, padding = 1 : i32} : !tt.ptr<tensor<4x8xf32>>
        %q = tt.advance %p, [%n, %n] : <tensor<4x8xf32>>
        """
    )
    make, load, advance, _ = kernel.body.blocks[0].operations
    assert [len(operation.operands) for operation in (make, load, advance)] == [7, 1, 3]
    assert load.results[0].type == TensorType((4, 8), F32)
    assert advance.results[0].type == make.results[0].type


@pytest.mark.parametrize(
    ("text", "type_text", "value"),
    [
        ("true", "i1", True),
        ("-7 : i32", "i32", -7),
        ("0.00999999977 : f32", "f32", 0.00999999977),
        ("0xFF800000 : f32", "f32", -np.inf),
        ("0x7F80 : bf16", "bf16", np.inf),
        ("-1.000000e+06 : f64", "f64", -1e6),
        ("dense<true> : tensor<8xi1>", "tensor<8xi1>", True),
        ("dense<0xFC00> : tensor<2x4xf16>", "tensor<2x4xf16>", -np.inf),
        ("dense<1.500000e+00> : tensor<8xf8E5M2>", "tensor<8xf8E5M2>", 1.5),
    ],
)
def test_constants(text, type_text, value):
    assert read_constant(text) == (read_types(type_text)[0], value)


def test_lists_of_constants():
    constant_type, value = read_constant("dense<[[1, -2], [3, 4]]> : tensor<2x2xi32>")
    assert constant_type == TensorType((2, 2), I32)
    np.testing.assert_array_equal(value, np.array([[1, -2], [3, 4]], np.int32))
    _, value = read_constant('dense<"0x0000803F00000040"> : tensor<2xf32>')
    np.testing.assert_array_equal(value, np.array([1, 2], np.float32))
    assert np.isnan(read_constant("dense<0x7FC00000> : tensor<8xf32>")[1])


def test_types():
    signature = read_signature("tensor<64x1x!tt.ptr<f16>>, tensor<64x1xi32> * i1 -> (!tt.tensordesc<8x8xf32>, index)")
    assert [mlir(each) for each in signature.listed] == ["tensor<64x1x!tt.ptr<f16>>", "tensor<64x1xi32>", "i1"]
    assert [mlir(each) for each in signature.results] == ["!tt.tensordesc<8x8xf32>", "index"]
    assert read_types("!tt.tensordesc<tensor<8x8xf32>>") == read_types("!tt.tensordesc<8x8xf32>")
    assert read_types("!tt.tensordesc<tensor<8xsi32>>") == read_types("!tt.tensordesc<8xi32>")
    assert read_signature("tensor<8xf16> to tensor<8xf32>").results == (TensorType((8,), F32),)


def test_loops_and_branches():
    kernel = parse_body(
        """
        %r:2 = scf.for unsigned %k = %n to %n step %n iter_args(%a = %v, %b = %n) -> (tensor<8xf32>, i32)  : i32 {
          %s = scf.if %c -> (i32) {
            scf.yield %k : i32
          } else {
            scf.yield %b : i32
          }
          scf.yield %a, %s : tensor<8xf32>, i32
        } {tt.num_stages = 3 : i32, tt.flatten}
        %w = scf.while (%a = %r#1) : (i32) -> i32 {
          scf.condition(%c) %a : i32
        } do {
        ^bb0(%a: i32):
          scf.yield %a : i32
        }
        cf.cond_br %c, ^bb1(%w, %n : i32, i32), ^bb2
      ^bb1(%p: i32, %q: i32):  // pred: ^bb0
        cf.br ^bb2
      ^bb2:  // 2 preds: ^bb0, ^bb1
        """
    )
    entry, left, right = kernel.body.blocks
    loop, repeat, branch = entry.operations
    assert loop.attributes == {"tt.num_stages": 3, "tt.flatten": True, "unsigned": True}
    assert [value.type for value in loop.regions[0].blocks[0].arguments] == [I32, TensorType((8,), F32), I32]
    choice, _ = loop.regions[0].blocks[0].operations
    assert choice.regions[1].blocks[0].operations[0].operands[0] is loop.regions[0].blocks[0].arguments[2]
    assert repeat.operands == (loop.results[1],)
    before, after = repeat.regions
    assert before.blocks[0].operations[0].operands[1] is before.blocks[0].arguments[0]
    assert after.blocks[0].operations[0].operands == after.blocks[0].arguments
    assert [(target.label, len(target.operands)) for target in branch.successors] == [("bb1", 2), ("bb2", 0)]
    assert branch.operands[0].type == I1
    assert (left.label, len(left.arguments), right.label) == ("bb1", 2, "bb2")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("%r = arith.addi %n, %unknown : i32", "%unknown is used before it is defined"),
        ("%r = arith.addi %n, %n : i31", "the type 'i31' is not known"),
        ("%r = arith.addi %n, %n : tensor<?xi32>", "the type"),
        ("%r = arith.addi %n, surprise, %n : i32", "'surprise' is not expected in arith.addi"),
        ("%r = arith.addi %n, ? %n : i32", "is not expected in arith.addi"),
        ("%r:2 = arith.addi %n, %n : i32", "2 results have 1 types"),
        ("%r = tt.load %n : i32", "i32 is not a pointer"),
        ("%r = scf.parallel (%k) = (%n) to (%n) step (%n) {", "its syntax is not known"),
        ("cf.cond_br %c, ^bb1", "cf.cond_br has 1 targets"),
        ("%r = arith.constant 1.5 : i32", "'1.5' is not an integer"),
        ("%r = tt.splat %n {a = <>} : i32", "the attribute value '<>' has an unknown form"),
        ("scf.if %c {", "the text ends in the middle"),
    ],
)
def test_unknown_text_is_refused_with_line_and_text(line, reason):
    with pytest.raises(CompileError) as caught:
        parse_body(line)
    assert caught.value.code == "E0204"
    assert reason in caught.value.summary
    if "ends" not in reason:
        assert "line 3 " in caught.value.summary
        assert caught.value.note == line


def test_refusal_names_the_line_of_the_kernel():
    text = 'module {\n tt.func public @f() {\n foo bar loc("k.py":7:3)\n}\n}\n'
    with pytest.raises(CompileError) as caught:
        parse_ttir(text)
    assert caught.value.location == Location("k.py", 7, 3)


@pytest.mark.parametrize("text", ["", "module {\n}\n", "builtin.module {"])
def test_text_without_a_kernel_is_refused(text):
    with pytest.raises(CompileError):
        parse_ttir(text)


def test_a_value_may_have_been_given_to_thousands_of_variables():
    count = 3000
    aliases = [f'#loc{each} = loc("v{each}"(#loc{each - 1}))' for each in range(1, count)]
    table = LocationTable("\n".join(['#loc0 = loc("k.py":7:3)', *aliases]))
    names = tuple(f"v{each}" for each in range(1, count))
    assert table.resolve(f"#loc{count - 1}") == SourceLocation((Location("k.py", 7, 3),), names)
