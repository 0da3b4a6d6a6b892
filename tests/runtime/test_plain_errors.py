"""Plain kernels of Triton: what it refuses is raised as it is, with a note of where it is and what to write instead."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import triton
import triton.language as tl

from mlutriton.configuration import current_machine


@triton.jit
def copy(out, x, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(x + place, mask=place < n), mask=place < n)


@triton.jit
def unannotated(out, BLOCK):
    tl.store(out + tl.arange(0, BLOCK), 0.0)


@triton.jit
def sliced(out, BLOCK: tl.constexpr):
    tl.store(out + tl.arange(0, BLOCK)[:8], 0.0)


@triton.jit
def stopping(out, BLOCK: tl.constexpr):
    breakpoint()
    tl.store(out + tl.arange(0, BLOCK), 0.0)


@triton.jit
def unequal(out, BLOCK: tl.constexpr):
    tl.store(out + tl.arange(0, BLOCK), tl.arange(0, BLOCK) + tl.arange(0, 32))


@triton.jit
def listed(out, BLOCK: tl.constexpr):
    for value in [1.0, 2.0]:
        tl.store(out + tl.arange(0, BLOCK), value)


@triton.jit
def growing(out, n, BLOCK: tl.constexpr):
    total = 0
    for _ in range(n):
        total += tl.zeros((BLOCK,), tl.float32)
    tl.store(out + tl.arange(0, BLOCK), total)


@triton.jit
def deciding(out, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    if place > 3:
        tl.store(out + place, 1.0)


@triton.jit
def ending(out, n):
    i = 0
    while i < n:
        i += 1
        if i == 3:
            break
    tl.store(out, i)


@triton.jit
def misspelt(out, BLOCK: tl.constexpr):
    tl.store(out + tl.arrange(0, BLOCK), 0.0)


@triton.jit
def as_in_python(out, BLOCK: tl.constexpr):
    tl.store(out, sum(tl.arange(0, BLOCK)))


@triton.jit
def set_in_a_branch(out, n):
    if n > 3:
        value = 1.0
    tl.store(out, value)


@triton.jit
def indexed(out, BLOCK: tl.constexpr):
    out[0] = 1.0


@triton.jit
def masked_by_numbers(out, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(out + place, mask=place))


def plain(x):
    return x + 1


@triton.jit
def calling_plain(out):
    tl.store(out, plain(1.0))


@triton.jit
def zipping(out):
    for place, value in zip((0, 1), (2, 3)):  # noqa: B905
        tl.store(out + place, value)


@triton.jit
def rounding(out):
    tl.store(out, round(tl.load(out)))


@triton.jit
def saturating(out):
    tl.store(out, tl.math.tanh(tl.load(out)))


@triton.jit
def converting(out, DTYPE: tl.constexpr):
    tl.store(out, tl.load(out).to(DTYPE))


def arrays():
    return np.zeros(100, np.float32), np.ones(100, np.float32)


def notes_of(launch):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Triton's own, of many types
        launch()
    assert "error[" not in str(caught.value)  # the notes say it, not Triton's text
    return "\n".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("launch", "line", "remedy"),
    [
        (lambda: unannotated[(1,)](arrays()[0], 16), "tl.arange(0, BLOCK)", "BLOCK: tl.constexpr"),
        (lambda: copy[(1,)](*arrays(), 100, BLOCK=100), "tl.arange(0, BLOCK)", "triton.next_power_of_2"),
        (lambda: copy[(1,)](arrays()[0], None, 100, BLOCK=128), "tl.load(x", "is not None"),
        (lambda: sliced[(1,)](arrays()[0], BLOCK=16), "[:8]", "tl.gather"),
        (lambda: stopping[(1,)](arrays()[0], BLOCK=16), "breakpoint()", "TRITON_INTERPRET=1"),
        (lambda: unequal[(1,)](arrays()[0], BLOCK=16), "tl.arange(0, 32)", "x[:, None]"),
        (lambda: listed[(1,)](arrays()[0], BLOCK=16), "for value in", "tl.static_range"),
        (lambda: growing[(1,)](arrays()[0], 5, BLOCK=16), "for _ in range(n)", "acc = tl.zeros"),
        (lambda: deciding[(1,)](arrays()[0], BLOCK=16), "if place > 3", "mask=condition"),
        (lambda: copy[(1,)](*arrays(), np.array([100]), BLOCK=128), "place < n", "n.item()"),
        (lambda: ending[(1,)](arrays()[0], 5), "break", "condition of a while loop"),
        (lambda: misspelt[(1,)](arrays()[0], BLOCK=16), "tl.arrange", "did you mean tl.arange?"),
        (lambda: as_in_python[(1,)](arrays()[0], BLOCK=16), "sum(tl.arange", "help: tl.sum"),
        (lambda: zipping[(1,)](arrays()[0]), "in zip(", "tl.static_range(len(values))"),
        (lambda: rounding[(1,)](arrays()[0]), "round(tl.load", "libdevice.round: from triton.language.extra"),
        (lambda: saturating[(1,)](arrays()[0]), "tl.math.tanh", "libdevice.tanh: from triton.language.extra"),
        (lambda: set_in_a_branch[(1,)](arrays()[0], 5), "tl.store(out, value)", "a value before any if"),
        (lambda: indexed[(1,)](arrays()[0], BLOCK=16), "out[0] = 1.0", "tl.store(out + index, value)"),
        (lambda: copy[(1,)](*arrays(), 100, BLOCK=arrays()[0]), "* BLOCK", "n.item()"),
        (lambda: copy[(1,)](*arrays(), 100, BLOCK="128"), "* BLOCK", "takes a number"),
        (lambda: copy[(1,)](arrays()[0], arrays(), 100, BLOCK=128), "tl.load(x", "x[0] is its first item"),
        (lambda: converting[(1,)](arrays()[0], np.float16), ".to(DTYPE)", "x.to(tl.float32)"),
        (lambda: converting[(1,)](arrays()[0], "float16"), ".to(DTYPE)", "x.to(tl.float32)"),
    ],
)
def test_what_does_not_compile_tells_file_line_and_remedy(launch, line, remedy):
    notes = notes_of(launch)
    assert remedy in notes
    file, number, _ = notes.split("--> ")[1].splitlines()[0].rsplit(":", 2)
    assert line in Path(file).read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize(
    ("launch", "code", "remedy"),
    [
        (lambda: copy[(1,)](*arrays(), [100], BLOCK=128), "E0101", "the argument n is a list"),
        (lambda: copy[(1,)](*arrays(), 2**70, BLOCK=128), "E0101", "does not fit 64 bits"),
        (lambda: masked_by_numbers[(1,)](arrays()[0], BLOCK=16), "E0201", "mask=x != 0"),
        (lambda: calling_plain[(1,)](arrays()[0]), "E0201", "@triton.jit"),
        (lambda: copy[(1,)](*arrays(), 100), "E0101", "the kernel takes out, x, n, BLOCK"),
        (lambda: copy[(1,)](*arrays(), 100, BLOCK=128, num_wraps=4), "E0107", "did you mean num_warps?"),
        (lambda: copy[(1,)](*arrays(), 100, SIZE=128), "E0107", "the kernel takes out, x, n, BLOCK"),
        (lambda: copy(*arrays(), 100, BLOCK=128), "E0104", "copy[(programs,)](...)"),
        (lambda: copy[()](*arrays(), 100, BLOCK=128), "E0104", "kernel[(programs,)](...)"),
        (lambda: copy[1](*arrays(), 100, BLOCK=128), "E0104", "kernel[(programs,)]"),
        (lambda: copy[lambda meta: (meta["BLOK"],)](*arrays(), 100, BLOCK=128), "E0104", "out, x, n, BLOCK"),
        (lambda: copy[lambda: (1,)](*arrays(), 100, BLOCK=128), "E0104", "lambda meta: "),
    ],
)
def test_wrong_launches_tell_the_cause(launch, code, remedy):
    notes = notes_of(launch)
    assert f"error[{code}]" in notes
    assert remedy in notes


def test_a_lookup_that_fails_elsewhere_is_not_the_grids():
    def hook(*args, **kwargs):
        return {}["BLOK"]

    @triton.jit
    def hooked(out, BLOCK: tl.constexpr):
        tl.store(out + tl.arange(0, BLOCK), 0.0)

    hooked.add_pre_run_hook(hook)
    with pytest.raises(KeyError, match="BLOK") as caught:
        hooked[(1,)](arrays()[0], BLOCK=16)
    assert not getattr(caught.value, "__notes__", [])


def test_a_stage_that_is_none_tells_those_that_are():
    _out, x = arrays()
    kernel = copy.warmup(x, x, 100, BLOCK=128, grid=(1,))
    with pytest.raises(KeyError, match="no stage 'ptx'; it has ir, llir, mluprog, s, source, ttir"):
        kernel.asm["ptx"]


SCRIPT = """
from triton.testing import do_bench

import warnings
import numpy as np
import triton
import triton.language as tl

launches = 0

def count(*args, **kwargs):
    global launches
    launches += 1

@triton.jit
def copy(out, x, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(x + place, mask=place < n), mask=place < n)

copy.add_pre_run_hook(count)
tuned = triton.autotune([triton.Config({"BLOCK": size}) for size in (64, 128)], key=["n"], warmup=25, rep=100)(copy)
out, x = np.zeros(1000, np.float32), np.ones(1000, np.float32)
tuned[lambda meta: (triton.cdiv(1000, meta["BLOCK"]),)](out, x, 1000)
assert (out == 1).all() and launches == 3, launches
assert do_bench(lambda: copy[(8,)](out, x, 1000, BLOCK=128)) > 0 and launches == 4, launches
with warnings.catch_warnings(record=True) as caught:
    assert not do_bench(lambda: x + x) == 0
assert "launches no kernel" in str(caught[0].message)
"""


def test_the_first_benchmark_of_a_process_calls_each_kernel_once(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr


WRONG_AT_FIRST = """
import numpy as np
import triton
import triton.language as tl

@triton.jit
def clear(out, BLOCK):
    tl.store(out + tl.arange(0, BLOCK), 0.0)

clear[(1,)](np.zeros(16, np.float32), 16)
"""


def test_the_first_launch_of_a_process_is_explained_too(tmp_path):
    (tmp_path / "script.py").write_text(WRONG_AT_FIRST)
    ran = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "script.py:8:20" in ran.stderr
    assert "annotate the parameter in the def, BLOCK: tl.constexpr" in ran.stderr


GPU_TEXT = """
#blocked = #ttg.blocked<{sizePerThread = [1], threadsPerWarp = [32], warpsPerCTA = [4], order = [0]}>
module attributes {"ttg.num-ctas" = 1 : i32, "ttg.num-warps" = 4 : i32, "ttg.threads-per-warp" = 32 : i32} {
  tt.func public @nothing(%out: !tt.ptr<f32>) attributes {noinline = false} {
    tt.return
  }
}
"""


def test_a_text_for_a_gpu_is_refused_in_words(tmp_path):
    (tmp_path / "nothing.ttgir").write_text(GPU_TEXT)
    with pytest.raises(TypeError, match=r"E0112.*cannot be compiled from .*nothing.ttgir") as caught:
        triton.compile(str(tmp_path / "nothing.ttgir"))
    assert "compile the .ttir" in str(caught.value)


def test_tools_of_gpus_are_refused_in_words(tmp_path):
    (tmp_path / "nothing.py").write_text(WRONG_AT_FIRST.partition("clear[")[0])
    kernel = ["nothing.py", "--kernel-name", "clear", "--signature", "*fp32, 128", "--grid", "1,1,1"]
    command = [sys.executable, "-m", "triton.tools.compile", *kernel]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.returncode != 0
    assert "E0113" in ran.stderr
    assert "mlutriton compile" in ran.stderr
    profiler = pytest.importorskip("triton.profiler")
    for name in (None, "cupti"):
        with pytest.raises(TypeError, match="E0113") as caught:
            profiler.start("launches", backend=name)
        assert "mlutriton profile" in str(caught.value)


def test_peaks_are_the_machines():
    chip, clock_khz = current_machine(), 1e6
    tensor, vector = triton.testing.get_max_tensorcore_tflops, triton.testing.get_max_simd_tflops
    assert tensor(tl.float16, clock_khz) == pytest.approx(2 * chip.cores * chip.mac_per_cycle_f16 / 1e3)
    assert tensor(tl.int8, clock_khz, 0) == pytest.approx(2 * chip.cores * chip.mac_per_cycle_i8 / 1e3)
    with pytest.raises(RuntimeError, match=f"tensor units of {chip.name} do not take fp64"):
        tensor(tl.float64, clock_khz)
    assert vector(tl.float32, clock_khz) == pytest.approx(chip.cores * chip.vector_bytes_per_cycle / 4 / 1e3)
