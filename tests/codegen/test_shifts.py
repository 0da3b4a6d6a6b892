"""Scalar divisions by powers of two become shifts that give the same for every dividend."""

import numpy as np
import pytest

from mlutriton.arithmetic.evaluate import evaluate
from mlutriton.codegen.shifts import divide_by_shifts
from mlutriton.codegen.tile_code import TileCode
from mlutriton.dtypes import I32, I64
from mlutriton.isa.operands import Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE

DIVISIONS = ("sdiv", "srem", "udiv", "urem")


def replaced(name, dtype, divisor):
    division = Instruction(TABLE[name], (dtype,), (Register(1), Register(0), Immediate(divisor)))
    code = TileCode("test", [division], {}, 2, [], frozenset())
    divide_by_shifts(code)
    return code.nodes


def results(nodes, dividends, dtype):
    values = {Register(0): dividends}

    def value(operand):
        return values[operand] if isinstance(operand, Register) else dtype.numpy.type(operand.value)

    for node in nodes:
        values[node.operands[0]] = evaluate(node.row.name, *map(value, node.operands[1:]), dtype=dtype)
    return values[Register(1)]


@pytest.mark.parametrize("dtype", [I32, I64], ids=str)
@pytest.mark.parametrize("name", DIVISIONS)
def test_shifts_give_the_quotients_and_remainders(name, dtype):
    limits = np.iinfo(dtype.numpy)
    dividends = np.array([*range(-20, 21), limits.min, limits.min + 1, limits.max], dtype.numpy)
    for power in (0, 1, 2, 5, dtype.bits - 2):
        divisor = 1 << power
        nodes = replaced(name, dtype, divisor)
        assert not {each.row.name for each in nodes} & set(DIVISIONS)
        wanted = evaluate(name, dividends, dtype.numpy.type(divisor), dtype=dtype)
        np.testing.assert_array_equal(results(nodes, dividends, dtype), wanted)


@pytest.mark.parametrize("divisor", [0, 3, -2, -(1 << 31)])
def test_other_divisions_stay(divisor):
    (node,) = replaced("sdiv", I32, divisor)
    assert node.row.name == "sdiv"


def test_what_is_divided_may_be_known():
    division = Instruction(TABLE["sdiv"], (I64,), (Register(1), Immediate(8), Immediate(2)))
    code = TileCode("test", [division], {}, 2, [], frozenset())
    divide_by_shifts(code)
    assert code.nodes == [division]
