"""Versions that a launch does not take are not compiled for it, and nothing else changes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from benchmarks.kernels import tutorial_matmul
from mlutriton import launch
from mlutriton.codegen.llvm.translate import translate
from mlutriton.codegen.llvm.untaken_versions import LaunchNumbers, untaken_versions
from mlutriton.frontend.arguments import launch_argument
from mlutriton.isa.assembly import assemble, disassemble
from mlutriton.isa.machine import machine
from mlutriton.simulator.execution import NativeProgram, execute
from mlutriton.simulator.memory import GlobalMemory
from mlutriton.simulator.native import compile_llvm

MACHINE = machine("mlu590-m9")
HEADER = f"""
.program by_hand
.isa {MACHINE.isa}
.cores 1
.param out ptr i32
.param n i32
.param factor f32
"""
VERSIONS = '.meta versions ["large", "small"]\n'


def stores(number):
    return f"param r20, 0\nsreg r21, 0\nmul.i64 r21, r21, 4\nadd.i64 r20, r20, r21\nstg.i32 g[r20], {number}\nexit\n"


def choice(condition):
    return f"{condition}\ncbr r9, large\nbr small\nsmall:\n{stores(1)}large:\n{stores(2)}"


BY_SIZE = choice("param r1, 1\nsext.i32.i64 r2, r1\nmul.i64 r2, r2, 3\nsge.i64 r9, r2, 300")


def program_of(text):
    return assemble(HEADER + VERSIONS + text)


def untaken(text, n=0, factor=0, grid=(2, 3, 1), tasks=6, disjoint=True):
    program = program_of(text)
    places = untaken_versions(program, LaunchNumbers(grid, tasks, [0xDEAD, n, factor], disjoint))
    return {name for name, place in program.labels.items() if place in places}


@pytest.mark.parametrize(
    ("reached", "stored", "left_out"), [(99, 0, "large"), (100, 0, "small"), (99, 1, "small"), (100, 1, "large")]
)
def test_the_ends_of_arrays_tell_what_a_launch_takes(reached, stored, left_out):
    program = program_of(choice(f"param r1, 0\nreach r2, r1, {stored}\nsge.i64 r9, r2, 100"))
    reaches = {(0, 0, False): reached, (0, 0, True): 199 - reached}
    numbers = [LaunchNumbers((1, 1, 1), 1, [0xDEAD, 0, 0], True, each) for each in (reaches, {})]
    known, unknown = (untaken_versions(program, each) for each in numbers)
    assert {name for name, place in program.labels.items() if place in known} == {left_out}
    assert not unknown


def test_where_arrays_begin_tells_what_a_launch_takes():
    program = program_of(choice("param r1, 0\nadd.i64 r2, r1, -4\nreach r4, r2, 0\neq.i64 r9, r4, 0"))
    for before, left_out in ((0, {"small"}), (104, {"large"})):
        numbers = LaunchNumbers((1, 1, 1), 1, [0xDEAD, 0, 0], True, {(0, 0, False): 100, (0, -4, False): before})
        places = untaken_versions(program, numbers)
        assert {name for name, place in program.labels.items() if place in places} == left_out


@pytest.mark.parametrize(("n", "left_out"), [(99, "large"), (100, "small"), (-1 & 0xFFFFFFFF, "large")])
def test_arithmetic_on_numbers_tells_what_a_launch_takes(n, left_out):
    assert untaken(BY_SIZE, n) == {left_out}


@pytest.mark.parametrize(
    ("condition", "left_out"),
    [
        ("sreg r9, 8", {"small"}),
        ("sreg r1, 4\neq.i64 r9, r1, 3", {"small"}),
        ("sreg r1, 11\nsreg r2, 10\nne.i64 r9, r1, r2", {"large"}),
        ("sreg r1, 7\nne.i64 r9, r1, 1", {"large"}),
        # A register that is set twice is known in its block.
        ("sreg r1, 3\nudiv.i64 r1, r1, 2\neq.i64 r9, r1, 1", {"small"}),
        ("param r1, 2\nfmul.f32 r2, r1, 2.0\nfogt.f32 r9, r2, 2.5", {"small"}),
        ("mov.i1 r9, 0", {"large"}),
        # What programs of a launch do not have in common.
        ("sreg r1, 0\neq.i64 r9, r1, 3", set()),
        ("sreg r1, 9\neq.i64 r9, r1, 3", set()),
        ("param r1, 0\neq.i64 r9, r1, 3", set()),
        ("param r1, 0\nldg.i32 r2, g[r1]\neq.i32 r9, r2, 3", set()),
        ("sreg r1, 0\nmov.i64 r9, 1\nslt.i64 r2, r1, 1\ncbr r2, on\nmov.i64 r9, 0\non:\nmov.i64 r3, r9", set()),
    ],
)
def test_what_is_known_when_a_launch_begins(condition, left_out):
    assert untaken(choice(condition), factor=0x3FC00000) == left_out  # 1.5


def test_versions_in_versions_and_in_loops():
    inner = choice("param r1, 1\nslt.i32 r9, r1, 5").replace("large", "large.inner").replace("small", "small.inner")
    outer = "sreg r10, 9\nagain:\nsreg r12, 0\nsge.i64 r13, r12, 1\ncbr r13, end\nparam r11, 1\nsge.i32 r14, r11, 0\n"
    text = outer + "cbr r14, large\nbr small\nsmall:\nexit\nlarge:\n" + inner + "br again\nend:\nexit\n"
    program = assemble(HEADER + '.meta versions ["large", "small", "large.inner", "small.inner"]\n' + text)

    def names(n):
        places = untaken_versions(program, LaunchNumbers((1, 1, 1), 1, [0, n, 0], True))
        return {name for name, place in program.labels.items() if place in places}

    assert names(7) == {"small", "large.inner"}
    assert names(3) == {"small", "small.inner"}
    assert names(-1 & 0xFFFFFFFF) == {"large", "large.inner", "small.inner"}


def run(kernel, n, count=8):
    out = np.zeros(count, np.int32)
    launched = launch.launch(kernel, (count, 1, 1), [launch_argument(out), n, 0.0])
    return out[0] if (out == out[0]).all() else None, launched


def test_a_launch_of_each_version_after_the_other():
    kernel = launch.load_program(program_of(BY_SIZE), MACHINE)
    assert [run(kernel, n)[0] for n in (5, 500, 7, 700)] == [1, 2, 1, 2]
    natives = {kernel.native((8, 1, 1), [0, n, 0], GlobalMemory(), with_values=True) for n in (5, 6, 500, 600)}
    assert len(natives) == 2


def test_many_threads_at_once():
    kernel = launch.load_program(program_of(BY_SIZE), MACHINE, is_kept=False)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: run(kernel, n)[0], [5, 500] * 20)) == [1, 2] * 20


def test_code_is_kept_for_what_is_in_it(monkeypatch, tmp_path):
    monkeypatch.setenv("MLUTRITON_CACHE_DIR", str(tmp_path))
    program = program_of(BY_SIZE)
    for n, expected in ((5, 1), (500, 2)):
        assert run(launch.load_program(program, MACHINE), n)[0] == expected

    def refused(*_, **__):
        raise AssertionError("both are kept")

    monkeypatch.setattr("mlutriton.codegen.llvm.translate.translate", refused)
    for n, expected in ((700, 2), (7, 1)):
        assert run(launch.load_program(program, MACHINE), n)[0] == expected


def test_launches_of_many_numbers_get_all_versions():
    kernel = launch.load_program(program_of(BY_SIZE), MACHINE, is_kept=False)
    natives = [kernel.native((8, 1, 1), [0, n, 0], GlobalMemory(), with_values=True) for n in range(50, 120)]
    assert len(set(natives)) == 2
    assert len(set(natives[20:])) == 1
    assert [run(kernel, n)[0] for n in (1000, 1, 55, 2000)] == [2, 1, 1, 2]


def test_a_version_that_should_not_have_been_taken_is_noticed():
    program = program_of(BY_SIZE)
    text = translate(program, MACHINE, untaken={program.labels["small"]})
    native = NativeProgram(compile_llvm(text, cache_key=None), launch.runtime, program)
    kernel = launch.load_program(program, MACHINE, is_kept=False)
    memory = kernel.memory([launch_argument(np.zeros(8, np.int32)), 5, 0.0])
    with pytest.raises(AssertionError, match="takes"):
        execute(native, (1, 1, 1), [0, 5, 0], memory, MACHINE, 1)


@mlu.jit
def rows_scaled(out, x, rows, columns, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        places = row * columns + column
        values = tl.load(x + places, mask=column < columns)
        tl.store(out + places, values / tl.sum(values, axis=0), mask=column < columns)


def scaled(rows, columns, programs):
    x = np.random.default_rng(0).integers(1, 9, (rows, columns)).astype(np.float32)
    out = np.full_like(x, np.nan)
    run = rows_scaled[(programs,)](out, x, rows, columns, BLOCK=128)
    np.testing.assert_allclose(out, x / x.sum(axis=1, keepdims=True), rtol=1e-6)
    return out, run


def product(m, n, k):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-3, 4, shape).astype(np.float16) for shape in ((m, k), (k, n)))
    c = np.full((m, n), np.nan, np.float16)
    grid = (-(-m // 64) * -(-n // 64),)
    run = tutorial_matmul[grid](
        a, b, c, m, n, k, k, 1, n, 1, n, 1, BLOCK_M=64, BLOCK_N=64, BLOCK_K=32, GROUP_M=8, num_warps=4
    )
    np.testing.assert_array_equal(c, (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16))
    return c, run


# Launches of one kernel that take different versions of it.
LAUNCHES = {
    "rows": (scaled, [(70, 100, 20), (70, 100, 100), (1, 128, 3)]),
    "product": (product, [(512, 128, 64), (128, 128, 64), (100, 90, 33), (1024, 512, 64)]),
}


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("kernel", LAUNCHES)
def test_cycles_and_values_are_those_of_the_whole_program(kernel, threads, monkeypatch):
    monkeypatch.setenv("MLUTRITON_THREADS", str(threads))
    function, sizes = LAUNCHES[kernel]
    found, left_out = launch.LoadedKernel._untaken_versions, set()

    def noted(self, *arguments):
        untaken = found(self, *arguments)
        left_out.add(untaken)
        return untaken

    monkeypatch.setattr(launch.LoadedKernel, "_untaken_versions", noted)
    taken = [function(*each) for each in sizes]
    assert len(left_out) > 1, "launches take different versions"
    monkeypatch.setattr(launch.LoadedKernel, "_untaken_versions", lambda *_: frozenset())
    for (values, run), size in zip(taken, sizes, strict=True):
        whole, other = function(*size)
        np.testing.assert_array_equal(whole, values)
        assert other.cycles == run.cycles
        np.testing.assert_array_equal(other.trace.words, run.trace.words)
        np.testing.assert_array_equal(other.instruction_work, run.instruction_work)


def test_native_code_counts_only_what_can_run():
    """A launch clears its counters: they would be thousands with those of versions that it does not take."""
    program = program_of(BY_SIZE)

    def counters(untaken):
        native = launch.load_program(program, MACHINE, is_kept=False)._compiled(True, True, untaken)
        return native.work_terms.counters

    versions = {program.labels[label] for label in ("small", "large")}
    every, one = counters(frozenset()), [counters(frozenset({begin})) for begin in versions]
    assert every == len({*program.block_starts})
    assert max(one) < every


def test_programs_say_what_their_versions_are():
    _, run = product(128, 128, 64)
    versions = run.program.metadata["versions"]
    assert len(versions) >= 2
    assert set(versions) <= set(run.program.labels)
    assert assemble(disassemble(run.program)).metadata["versions"] == versions
