"""Details of the text that generated functions don't reach."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.arithmetic import OPERATIONS
from mlutriton.dtypes import F32, F64, I32
from mlutriton.ir import reference
from mlutriton.ir.core import Attribute, Block, Function, Operation
from mlutriton.ir.evaluator import evaluate
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.ops import OPS, Constant, Elementwise, Print, Return
from mlutriton.ir.parser import parse_function
from mlutriton.ir.printer import print_function
from mlutriton.ir.types import PointerType, TensorType

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "ir.md"


def returning(operations: list[Operation]) -> Function:
    body = Block()
    body.operations = [*operations, Return()]
    return Function("f", body)


@given(st.floats(width=64))
def test_floats_are_exact(value: float) -> None:
    again = parse_function(print_function(returning([Constant.of(value, F64)]))).body.operations[0]
    assert isinstance(again, Constant)
    assert type(again.value) is float
    assert again.value == value or (math.isnan(again.value) and math.isnan(value))
    assert math.copysign(1, again.value) == math.copysign(1, value)


@pytest.mark.parametrize(
    "value", [True, False, 0, -(2**63), 0.0, -0.0, 1e22, math.inf, -math.inf, "", 'a"\\\n', (), (1, -2)]
)
def test_attributes_keep_value_and_type(value: Attribute) -> None:
    print_ = Print((), {"prefix": value, "style": "signed"})
    again = parse_function(print_function(returning([print_]))).body.operations[0].attributes["prefix"]
    assert (again, type(again), str(again)) == (value, type(value), str(value))


def test_types() -> None:
    types = [I32, PointerType(F32), TensorType((4, 1, 8), F32), TensorType((16,), PointerType(F32))]
    body = Block(types)
    body.operations = [Return()]
    again = parse_function(print_function(Function("f", body)))
    assert [argument.type for argument in again.body.arguments] == types


def test_names_are_unique_and_legal() -> None:
    constants = [Constant.of(0, I32) for _ in range(5)]
    for constant, name in zip(constants, ["x", "x", "x_1", "a.b", "2d"], strict=True):
        constant.result.name = name
    text = print_function(returning(list(constants)))
    names = [line.split(" = ")[0].strip() for line in text.splitlines()[1:-2]]
    assert names == ["%x", "%x_1", "%x_1_1", "%a_b", "%_2d"]


def test_constants_are_normal() -> None:
    assert Constant.of(2**32 - 1, I32).value == -1
    assert Constant.of(0.1, F32).value == float(np.float32(0.1))
    assert Constant.of(1e39, F32).value == math.inf
    assert Constant.of(3, F32).value == 3.0


def test_the_table_is_complete() -> None:
    """Every op class that there is stands in the table, and every arithmetic operation prints under its own name."""

    def leaves(cls: type[Operation]) -> set[type[Operation]]:
        below = set[type[Operation]]().union(*(leaves(sub) for sub in cls.__subclasses__()))
        return below | ({cls} if cls.NAME else set())

    assert leaves(Operation) == set(OPS.values())
    assert {Elementwise((), {"operation": name}, result_types=()).name for name in OPERATIONS} == set(OPERATIONS)


def test_the_reference_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference.render()


def test_registered_arrays_are_contiguous() -> None:
    with pytest.raises(ValueError, match="not contiguous"):
        ArrayMemory().register("x", np.zeros((4, 4))[:, ::2])


def test_an_empty_grid_runs_nothing() -> None:
    assert evaluate(returning([Print((), {"prefix": "", "style": "signed"})]), (0,), [], ArrayMemory()) == []
