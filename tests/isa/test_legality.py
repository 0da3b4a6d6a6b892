"""Each rule of legal programs is broken once; what is just within the rule is accepted."""

import pytest

from mlutriton.diagnostics import Location, ProgramError
from mlutriton.isa.assembly import assemble
from mlutriton.isa.legality import RULES, check
from mlutriton.isa.machine import machine

M9 = machine("mlu590-m9")

HEADER = """
.program p
.isa 592
.param x ptr f32
.buffer a nram 0 4096
.buffer b nram 4096 4096
.buffer c nram 8192 4096
.buffer s sram 0 4096
.buffer w wram 0 65536
.string 0 "text"
.registers 4
.loc "p.py" 3 5
"""


def program(body, header=HEADER):
    return assemble(f"{header}{body}\n exit")


ILLEGAL = {
    "v.fadd.i32 [a], [b], [c], 1, 8": "types",
    "v.add.f32 [a], [b], [c], 1, 8": "types",
    "v.sext.i32.i16 [a], [b], 1, 8": "types",
    "v.bitcast.i32.f16 [a], [b], 1, 8": "types",
    "mm.f16.i32 [a], [b], [w], 1, 1, 1, 1, 0": "types",
    "red.fadd.f8e4m3 [a], [b], 1, 8, 1": "types",
    "v.fneg.f8e5m2 [a], [b], 1, 8": "types",
    "v.fpcast.f32.tf32 [a], [b], 1, 8": "types",
    "mm.f64.f32 [a], [b], [w], 1, 1, 1, 1, 0": "types",
    "mov.i32 r0, 0x1ffffffff": "operands",
    "mov.i8 r0, -129": "operands",
    "v.mov.i32 [a], [b], 1, -8": "operands",
    "mov.i32 r4, 0": "registers",
    "mov.i32 r0, r9": "registers",
    "v.mov.i32 [a + r4], 0, 1, 8": "registers",
    "ldg.i32 r0, g[r5]": "registers",
    "v.mov.f32 [d], 0, 1, 8": "spaces",
    "v.mov.f32 [s], 0, 1, 8": "spaces",
    "v.mov.f32 [w], 0, 1, 8": "spaces",
    "v.mov.f32 [a], [w], 1, 8": "spaces",
    "mm.f32.f32 [a], [b], [c], 1, 1, 1, 1, 0": "spaces",
    "dma.load.f32 [w], g[r0], 1, 1, 1, 0, 0, 0, 0": "spaces",
    "v.mov.f32 row[a], 0, 1, 8": "modes",
    "red.fadd.f32 [a], row[b], 1, 8, 1": "modes",
    "gather.f32.i32 [a], g[r0], [b], 4, col[c], 0, 8, 1, 1": "modes",
    "v.mov.f32 [a + 4], 0, 1, 1024": "window",
    "v.mov.f32 [a + -4], 0, 1, 8": "window",
    "v.mov.f32 [a], row[b + 4092], 2, 8": "window",
    "lds.f64 r0, [a + 4092]": "window",
    "v.mov.f32 [a + 4100], 0, r0, 8": "window",
    "dma.load.f32 [a], g[r0], 512, 3, 1, 300, 0, 512, 0": "window",
    "param r0, 1": "index",
    "sreg r0, 13": "index",
    "sync 0": "index",
    "sync 8": "index",
    "print.scalar.i32 1, 0, r0": "index",
    "scan.fadd.f32 [a], [b], 1, 8, 1, 2": "index",
    "br nowhere": "labels",
    "v.fadd.f32 [a + 4], [a], [b], 1, 8": "overlap",
    "v.fadd.f32 [a], row[a], [b], 1, 8": "overlap",
    "v.fpcast.f16.f32 [a], [a], 1, 8": "overlap",
    "red.fadd.f32 [a], [a], 8, 8, 1": "overlap",
    "v.transpose.f32 [a], [a], 1, 8, 8, 1": "overlap",
    "red.argmax.f32 [a], [a], [b], 8, 8, 1": "overlap",
    "v.exp.f32 ~, [b], 1, 8\n v.fadd.f32 [a], ~, [c], 1, 8": "chain",
    "v.fadd.f32 ~, [a], [b], 1, 8\n v.fadd.f32 [a], [b], [c], 1, 8": "chain",
    "v.folt.f32 ~, [a], 0, 1, 8\n v.select.f32 [a], ~, ~, [b], 1, 8": "chain",
    "v.fadd.f32 ~, [a], [b], 1, 8\n v.fmul.f32 [a], ~, [b], 1, 9": "chain",
    "v.fadd.f32 ~, [a], [b], 1, 8\n v.fmul.f32 [a], ~, [b], 8, 1": "chain",
    "v.fadd.f32 ~, [a], [b], 1, 8\n v.mul.i32 [a], ~, [b], 1, 8": "chain",
    "v.fadd.f32 ~, [a], [b], 1, 8\n inside: v.fmul.f32 [a], ~, [b], 1, 8": "chain",
    "v.fadd.f32 ~, [a], [b], 1, 8\n sync 1": "chain",
    "v.fadd.f32 ~, [a], [b], 1, 8": "chain",
    "v.fadd.f32 [a], ~, [b], 1, 8": "chain",
    "v.fneg.f32 ~, [a], 1, 8\n" + "v.fneg.f32 ~, ~, 1, 8\n" * 3 + "v.fneg.f32 [b], ~, 1, 8": "chain",
    "v.fadd.f32 ~, [a], [b], 1, 8\n v.fmul.f32 [b + 4], ~, 2, 1, 8": "overlap",
    "v.histogram.i32 [a], [b], ~, 8, 4": "chain",
    "loop: br loop": "end",
}  # fmt: skip


@pytest.mark.parametrize(("body", "rule"), ILLEGAL.items(), ids=ILLEGAL)
def test_each_rule_is_enforced(body, rule):
    with pytest.raises(ProgramError) as caught:
        check(program(body), M9)
    assert caught.value.code == "E0402"
    assert f"rule: {RULES[rule]}" in caught.value.note
    if rule != "end":
        assert caught.value.location == Location("p.py", 3, 5)
        assert "instruction: " in caught.value.note


LEGAL = [
    "v.mov.f32 [a], 0, 1, 1024",
    "v.mov.f32 [a], 0, 1025, 0",
    "v.mov.f32 [a], row[b], 8, 128",
    "v.fadd.f32 [a], [a], [a], 1, 1024",
    "v.fpcast.f32.f16 [a], [a], 1, 1024",
    "v.fadd.f32 [a], [b], col[c], r1, r2",
    "v.fneg.f32 ~, [a], 1, 8\n" + "v.fneg.f32 ~, ~, 1, 8\n" * 2 + "v.fneg.f32 [a], ~, 1, 8",
    "v.fadd.f32 ~, [a], [b], 1, 8\n v.fmul.f32 [a], ~, ~, 1, 8",
    "v.folt.f32 ~, [a], 0, r1, 8\n v.select.f32 [a], ~, [b], row[c], r1, 8",
    "gatom.fadd.f32.i32 0, g[r0], [b], 4, [c], 1, 8, 1, 1",
    "mov.i32 r0, 0xffffffff",
    "mm.i8.i32 [a], [b], [w], 4, 64, 64, 64, 1",
    "loop: cbr r0, loop",
]


@pytest.mark.parametrize("body", LEGAL)
def test_what_the_rules_allow_is_legal(body):
    check(program(body), M9)


@pytest.mark.parametrize(
    ("header", "rule"),
    [
        (HEADER.replace("a nram 0 4096", "a nram 0 400000"), "memory"),
        (HEADER.replace(".program p", ".program p\n.cores 3"), "operands"),
        (HEADER.replace(".registers 4", ".registers 70000"), "registers"),
    ],
)
def test_declarations_are_checked(header, rule):
    with pytest.raises(ProgramError, match="E0402") as caught:
        check(program("", header), M9)
    assert f"rule: {RULES[rule]}" in caught.value.note


def test_every_rule_has_a_test():
    tested = set(ILLEGAL.values()) | {"memory", "names"}
    assert tested == set(RULES)


def test_names_are_checked():
    legal = program("")
    object.__setattr__(legal, "name", "two words")
    with pytest.raises(ProgramError, match="'two words' is not a name"):
        check(legal, M9)


def test_the_last_instruction_ends_control():
    with pytest.raises(ProgramError, match="control can leave the end"):
        check(assemble(HEADER + "sync 1"), M9)


def test_a_program_of_another_isa_is_refused():
    with pytest.raises(ProgramError, match="E0404"):
        check(program(""), machine("mlu370-x4"))


def test_types_depend_on_the_machine():
    old = program("v.mov.bf16 [a], 0, 1, 8", HEADER.replace("592", "290"))
    with pytest.raises(ProgramError, match="mlu290 does not have bf16"):
        check(old, machine("mlu290"))
    without = M9.replace(mac_per_cycle_f32=0)
    with pytest.raises(ProgramError, match=r"tensor unit .* does not take f32"):
        check(program("mm.f32.f32 [a], [b], [w], 1, 1, 1, 1, 0"), without)
