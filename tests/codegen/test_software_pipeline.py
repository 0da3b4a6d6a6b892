"""What stands in front of a loop and may as well come behind the loop's first loads."""

import pytest

from mlutriton.codegen.pipelining.pipeline_plan import Plan
from mlutriton.codegen.pipelining.software_pipeline import take_late
from mlutriton.codegen.tile_code import TileBuffer, TileCode
from mlutriton.dtypes import F32
from mlutriton.isa.operands import FORWARD, Address, Immediate
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE

SHAPE = (Immediate(1), Immediate(64))


def step(name, target, *sources):
    def operand(each):
        return Address(each) if isinstance(each, str) else each

    return Instruction(TABLE[name], (F32,), (operand(target), *map(operand, sources), *SHAPE))


FIRST, LAST = step("v.fadd", FORWARD, "a", "b"), step("v.fmul", "d", FORWARD, "c")
ALONE = step("v.exp", "e", "c")


@pytest.mark.parametrize(
    ("needed", "late"),
    [
        ("", [FIRST, LAST, ALONE]),
        ("a", [ALONE]),  # the first step of the chain has to stay, so both do
        ("d", [ALONE]),
        ("c", []),
    ],
)
def test_a_fused_chain_stays_together(needed, late):
    code = TileCode("test", [], {name: TileBuffer(name, "nram", 256) for name in "abcde"}, 0, [], frozenset())
    plan = Plan()
    plan.gathers = [step("v.exp", "z", needed)] if needed else []
    before = [FIRST, LAST, ALONE]
    taken = take_late(code, before, plan, None, 1000)
    assert taken == late
    assert before == [FIRST, LAST, ALONE][: 3 - len(late)]
