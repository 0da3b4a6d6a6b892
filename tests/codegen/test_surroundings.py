"""What is alive beside a loop while loops are rewritten one after another is what a walk through all code finds."""

import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.codegen.pipelining import software_pipeline
from mlutriton.codegen.tile_code import Branch, buffers_of, children
from mlutriton.isa.program import Instruction
from mlutriton.pipeline import CompileOptions, compile_ttir


@mlu.jit
def one_after_another(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    kept, used_once = tl.load(x + i), tl.load(x + BLOCK + i)
    for j in range(n):
        tl.store(out + j * BLOCK + i, tl.load(x + j * BLOCK + i) * used_once)
    for j in range(n):
        tl.store(out + (n + j) * BLOCK + i, tl.exp(tl.load(x + j * BLOCK + i)))
    tl.store(out + 2 * n * BLOCK + i, kept)


@mlu.jit
def one_in_another(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    kept = tl.load(x + i)
    for k in range(n):
        of_row = tl.load(x + k * BLOCK + i)
        for j in range(n):
            tl.store(out + (k * n + j) * BLOCK + i, tl.load(x + j * BLOCK + i) + 1.0)
        for j in range(n):
            tl.store(out + (n * n + k * n + j) * BLOCK + i, tl.load(x + j * BLOCK + i) * of_row)
    tl.store(out + 2 * n * n * BLOCK + i, kept)


@mlu.jit
def in_branches(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    kept, of_one_branch = tl.load(x + i), tl.load(x + BLOCK + i)
    if n > 3:
        for j in range(n):
            tl.store(out + j * BLOCK + i, tl.load(x + j * BLOCK + i) * of_one_branch)
    else:
        for j in range(n):
            tl.store(out + j * BLOCK + i, tl.load(x + j * BLOCK + i) - 1.0)
    tl.store(out + n * BLOCK + i, kept)


@mlu.jit
def made_before(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    third = i % 3 == 0
    place = tl.program_id(0) * BLOCK + i
    tl.store(out + place, tl.where(third, tl.load(x + place), 1.0))


def alive_beside(code, loop):
    inside = {id(node) for node in loop.body}
    before, during, behind = set(), set(), set()

    def visit(nodes):
        found = False
        for node in nodes:
            if node is loop or id(node) in inside:
                during.update(buffers_of([node]))
                found = True
            elif isinstance(node, Instruction):
                (behind if during else before).update(buffers_of([node]))
            else:
                earlier = set(before)
                visited = [visit(nested) for nested in children(node)]
                if any(visited) and not isinstance(node, Branch):
                    # What an outer loop touches may come round again, unless it is always made anew before.
                    during.update(buffers_of([node]) & (earlier | during | behind))
                found |= any(visited)
        return found

    visit(code.nodes)
    return during | before & behind


def compiled(kernel, block):
    text = mlu.compile(kernel, f"*fp32:16, *fp32:16, i32, {block}").asm["ttir"]
    compile_ttir(text, CompileOptions(mlu.current_machine()))


def test_what_an_outer_loop_makes_anew_and_is_done_with_is_not_alive(monkeypatch):
    asked = []

    def plan_blocks(code, loop, plan, machine, surroundings):
        asked.append((surroundings.alive_beside(loop), buffers_of(code.nodes)))
        return original(code, loop, plan, machine, surroundings)

    original = software_pipeline.plan_blocks
    monkeypatch.setattr(software_pipeline, "plan_blocks", plan_blocks)
    compiled(made_before, 4096)
    # What the third of the places is told from is needed no more.
    assert asked
    assert all(alive < every for alive, every in asked)


@pytest.mark.parametrize("kernel", [one_after_another, one_in_another, in_branches], ids=lambda kernel: kernel.__name__)
@pytest.mark.parametrize("block", [64, 4096])
def test_alive_beside_a_loop_is_what_a_walk_finds(kernel, block, monkeypatch):
    asked = []

    def plan_blocks(code, loop, plan, machine, surroundings):
        asked.append((surroundings.alive_beside(loop), alive_beside(code, loop)))
        return original(code, loop, plan, machine, surroundings)

    original = software_pipeline.plan_blocks
    monkeypatch.setattr(software_pipeline, "plan_blocks", plan_blocks)
    compiled(kernel, block)
    assert len(asked) >= 2
    for found, expected in asked:
        assert found == expected
