"""A stage that breaks the IR is named where stages are verified; elsewhere nothing is generated from what it left."""

import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton import pipeline
from mlutriton.configuration import DUMP_VARIABLE, VERIFY_VARIABLE, verifies_stages
from mlutriton.diagnostics import CompileError
from mlutriton.ir.passes import dce


@mlu.jit
def scaled(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i) * 2.0)


def broken(function):
    """A pass that leaves an operation behind in which it had no business."""
    dce.run(function)
    function.body.operations[0].attributes["colour"] = "red"


@pytest.mark.parametrize(
    ("verifies", "summary", "help"),
    [(True, "is broken after the_last", ""), (False, "is broken:", "MLUTRITON_VERIFY=1")],
)
def test_what_a_stage_broke_is_refused(monkeypatch, verifies, summary, help):
    text = mlu.compile(scaled, "*fp32:16, *fp32:16, 64").asm["ttir"]
    monkeypatch.setattr(pipeline, "PASSES", (*pipeline.PASSES, pipeline.Pass("the_last", broken)))
    with pytest.raises(CompileError) as caught:
        pipeline.compile_ttir(text, pipeline.CompileOptions(mlu.current_machine(), verifies_stages=verifies))
    assert caught.value.code == "E0203"
    assert summary in caught.value.summary
    assert help in caught.value.help
    assert bool(caught.value.help) == bool(help)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, False), ({VERIFY_VARIABLE: "1"}, True), ({DUMP_VARIABLE: "stages"}, True)],
)
def test_who_asks_for_verified_stages(monkeypatch, variables, expected):
    for name in (VERIFY_VARIABLE, DUMP_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert verifies_stages() is expected
