"""Invariants that no text can break; those that a text can break are in tests/filetests/verify.ir."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlutriton.diagnostics import CompileError
from mlutriton.dtypes import I32
from mlutriton.ir.core import Block, Function
from mlutriton.ir.ops import Constant, Elementwise, For, Reduce
from mlutriton.ir.parser import parse_function
from mlutriton.ir.verifier import verify

TEXT = """
func @f(%n: i32) {
  %i = range {start = 0, end = 4} : tensor<4xi32>
  %s = reduce %i {axis = 0} : i32 ({
    ^(%a: i32, %b: i32):
      %c = add %a, %b : i32
      yield %c
  })
  %one = constant {value = 1} : i32
  %r = for %one, %n, %one, %s {stages = 0} : i32 ({
    ^(%j: i32, %k: i32):
      %l = add %k, %j : i32
      yield %l
  })
  print %r {prefix = "", style = "signed"}
  return
}
"""


def operations(function: Function) -> list:
    return function.body.operations


def use_before_definition(function: Function) -> None:
    body = operations(function)
    body[0], body[1] = body[1], body[0]


def use_of_an_inner_value(function: Function) -> None:
    loop = operations(function)[3]
    operations(function)[4].operands = [loop.body.operations[0].result]


def same_operation_twice(function: Function) -> None:
    operations(function).insert(1, operations(function)[0])


def same_block_twice(function: Function) -> None:
    loop = operations(function)[3]
    copy = For(loop.operands, loop.attributes, regions=loop.regions)
    operations(function).insert(4, copy)


def wrong_owner(function: Function) -> None:
    operations(function)[0].results[0].owner = Block()


def wrong_place(function: Function) -> None:
    operations(function)[0].results[0].index = 1


def carried_type(function: Function) -> None:
    loop = operations(function)[3]
    loop.body.arguments[1].type = operations(function)[0].result.type


def yielded_count(function: Function) -> None:
    operations(function)[3].body.terminator.operands.clear()


def free_value_in_combine_region(function: Function) -> None:
    region = operations(function)[1].regions[0]
    region.operations[0].operands[1] = function.body.arguments[0]


def tensor_op_in_combine_region(function: Function) -> None:
    region = operations(function)[1].regions[0]
    region.operations.insert(0, Reduce([operations(function)[0].result], {"axis": 0}, regions=[Block()]))


def facts(function: Function) -> None:
    function.argument_attributes = [{}, {}]


def unknown_arithmetic(function: Function) -> None:
    operations(function)[1].regions[0].operations[0].attributes["operation"] = "frobnicate"


def superfluous_attribute(function: Function) -> None:
    operations(function)[2].attributes["colour"] = 1


def superfluous_destination(function: Function) -> None:
    operations(function)[1].regions[0].operations[0].attributes["to"] = "f32"


BREAKS: list[tuple[Callable[[Function], None], str]] = [
    (use_before_definition, "operand 0 is not defined before its use"),
    (use_of_an_inner_value, "operand 0 is not defined before its use"),
    (same_operation_twice, "the operation stands in two places"),
    (same_block_twice, "a block stands in two places"),
    (wrong_owner, "names another owner"),
    (wrong_place, "names another owner"),
    (carried_type, "operands of add differ in shape"),
    (yielded_count, "the yield of the loop has types (), not (i32)"),
    (free_value_in_combine_region, "the region of reduce uses a value from outside"),
    (tensor_op_in_combine_region, "the block does not end in yield"),
    (facts, "2 facts are given for 1 arguments"),
    (unknown_arithmetic, "not one of the arithmetic table"),
    (superfluous_attribute, "constant has attributes ['colour', 'value'], not ['value']"),
    (superfluous_destination, "add has attributes ['operation', 'to'], not ['operation']"),
]


def test_the_function_is_whole() -> None:
    verify(parse_function(TEXT))


@pytest.mark.parametrize(("damage", "complaint"), BREAKS, ids=[damage.__name__ for damage, _ in BREAKS])
def test_each_invariant(damage: Callable[[Function], None], complaint: str) -> None:
    function = parse_function(TEXT)
    damage(function)
    with pytest.raises(CompileError) as caught:
        verify(function)
    assert caught.value.code == "E0203"
    assert complaint in caught.value.summary


def test_a_value_in_two_lists() -> None:
    function = parse_function(TEXT)
    constant = Constant.of(1, I32)
    twin = Elementwise.of("add", constant.result, constant.result)
    twin.results = constant.results
    function.body.operations[:0] = [constant, twin]
    with pytest.raises(CompileError, match="value 0 is defined twice"):
        verify(function)
