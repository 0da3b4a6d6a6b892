"""The generic form of TTIR, in which MLIR prints what its verifier refuses: the tree is that of the pretty form."""

from pathlib import Path

import pytest
from triton._C.libtriton import ir

from mlutriton.diagnostics import CompileError
from mlutriton.frontend.importer import import_ttir
from mlutriton.frontend.ttir import parse_ttir

# Attributes that the compiler does not read, which the pretty form omits or spells in a way of its own.
UNREAD = {
    *("fastmath", "isVolatile", "operandSegmentSizes", "overflowFlags", "maxNumImpreciseAcc", "op_bundle_sizes"),
    *("addrSpace", "memory", "timeout", "cache", "evict", "cacheModifier", "evictionPolicy"),
}
# What the pretty form omits.
DEFAULTS = {"inputPrecision": "ieee", "boundaryCheck": (), "padding": 1, "lhs_k_pack": True, "rhs_k_pack": True}


def refused(module):
    """The module with one function more, of a tensor that the verifier does not let pass."""
    builder = ir.builder(module.context)
    odd = builder.get_or_insert_function(module, "odd", builder.get_function_ty([], []), "private", False)
    module.push_back(odd)
    builder.set_insertion_point_to_start(odd.add_entry_block())
    builder.create_make_range(builder.get_block_ty(builder.get_int32_ty(), [3]), 0, 3)
    builder.ret([])
    return module


def described(function):
    """All that a function says, a line an operation, with values numbered in the order of their definition."""
    numbers = {}

    def named(values):
        return [f"{numbers.setdefault(value, len(numbers))}: {value.type}" for value in values]

    def region(of, depth):
        for block in of.blocks:
            yield f"{'  ' * depth}block {named(block.arguments)}"
            for inner in block.operations:
                yield from operation(inner, depth + 1)

    def operation(of, depth):
        if of.name == "scf.yield" and not of.operands:
            return  # the pretty form omits it
        attributes = {
            name: value
            for name, value in sorted(of.attributes.items())
            if name not in UNREAD and (name not in DEFAULTS or value != DEFAULTS[name]) and of.name != "ub.poison"
        }
        targets = [(successor.label, named(successor.operands)) for successor in of.successors]
        operands, results = named(of.operands), named(of.results)
        yield f"{'  ' * depth}{results} = {of.name} {operands} {attributes} {targets} {of.location}"
        for inner in of.regions:
            yield from region(inner, depth)

    yield f"{function.visibility} {function.name} {function.results}"
    yield from (f"{argument.name} {argument.attributes}" for argument in function.arguments)
    yield from region(function.body, 0)


@pytest.mark.parametrize(
    "name",
    [
        *("add", "softmax", "matmul", "flash", "control", "atomics", "scans", "descriptors", "host_descriptor"),
        *("calls", "elementwise", "device_functions", "dots", "mapped", "loops", "assembly", "more", "returns"),
    ],
)
def test_both_forms_are_one_tree(make_module, name):
    module = make_module(name, optimize=False)
    pretty = parse_ttir(str(module))
    *functions, odd = parse_ttir(str(refused(module))).functions
    assert odd.name == "odd"
    for generic, function in zip(functions, pretty.functions, strict=True):
        assert list(described(generic)) == list(described(function))


def test_operations_of_tritons_functions_are_where_these_are_called(make_module):
    text = str(refused(make_module("softmax", optimize=False)))
    function = import_ttir(parse_ttir(text))
    assert {Path(operation.location.file).name for operation in function.walk()} == {"corpus.py"}


def test_a_line_that_is_not_understood_is_refused(make_module):
    text = str(refused(make_module("add", optimize=False)))
    with pytest.raises(CompileError) as error:
        parse_ttir(text.replace('"tt.addptr"(', '"tt.addptr"[', 1))
    assert error.value.code == "E0204"
    assert "tt.addptr" in error.value.note
