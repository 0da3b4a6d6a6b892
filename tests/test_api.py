"""The public names of the package, its configuration, and launches of programs without Triton."""

import os
import subprocess
import sys

import numpy as np
import pytest

import mlutriton as mlu
from mlutriton import configuration
from mlutriton.configuration import Engine
from mlutriton.frontend.array_specs import Spec
from mlutriton.isa.assembly import assemble
from mlutriton.isa.encoding import encode
from mlutriton.launch import load_program
from mlutriton.simulator.replay import replay

SCALE = """
.program scale
.isa 592
.param out ptr f32
.param x ptr f32
.param factor f32
.param n i32
.buffer tile nram 0 4096

    param r0, 0
    param r1, 1
    param r2, 2
    param r3, 3
    sreg r4, 0
    mul.i64 r5, r4, 1024
    sub.i64 r6, r3, r5
    smin.i64 r6, r6, 1024
    mul.i64 r7, r4, 4096
    add.i64 r8, r1, r7
    add.i64 r9, r0, r7
    dma.load.f32 [tile], g[r8], r6, 1, 1, r6, r6, 0, 0
    sync 1
    v.fmul.f32 [tile], [tile], r2, 1, r6
    sync 4
    dma.store.f32 g[r9], [tile], r6, 1, 1, r6, r6, 0, 0
    sync 1
    exit
"""

# What it stores depends on what it loads.
BRANCH = """
.program branch
.isa 592
.param x ptr i32

    param r0, 0
    ldg.i32 r1, g[r0]
    eq.i32 r2, r1, 0
    cbr r2, done
    stg.i32 g[r0], 7
done:
    exit
"""


@pytest.fixture(autouse=True)
def machine_as_before(monkeypatch):
    monkeypatch.setattr(configuration, "_current", None)
    for variable in ("MLUTRITON_MACHINE", "MLUTRITON_THREADS", "MLUTRITON_ENGINE"):
        monkeypatch.delenv(variable, raising=False)


def scale_arguments(n=2500):
    x = np.arange(n, dtype=np.float32)
    return np.zeros_like(x), x, 2.5, n


@pytest.fixture
def scale(tmp_path):
    path = tmp_path / "scale.mluprog"
    path.write_bytes(encode(assemble(SCALE)))
    return mlu.load(path)


# ---- names and imports ----


def test_every_public_name_is_there():
    for name in mlu.__all__:
        assert getattr(mlu, name) is not None
    assert set(mlu.__all__) <= set(dir(mlu))
    assert mlu.machine("mlu-tiny").name == "mlu-tiny"
    assert "mlu590-m9" in mlu.machines()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mlu.nothing


def imported_by(statement):
    code = f"{statement}\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    return set(output.split())


def test_the_package_alone_imports_neither_numpy_nor_triton():
    assert not imported_by("import mlutriton") & {"numpy", "triton", "torch", "llvmlite"}


def test_the_jit_needs_no_torch():
    assert "torch" not in imported_by("import mlutriton; mlutriton.jit")


def test_program_files_need_neither_triton_nor_the_compiler():
    modules = imported_by("import mlutriton; mlutriton.load, mlutriton.estimate, mlutriton.set_machine('mlu-tiny')")
    assert "mlutriton.launch" in modules
    assert not modules & {"triton", "torch", "mlutriton.pipeline", "mlutriton.backend", "mlutriton.ir"}


# ---- configuration ----


def test_the_machine_is_the_default_one_until_set():
    assert mlu.current_machine() is mlu.machine("mlu590-m9")
    assert mlu.set_machine("mlu-tiny") is mlu.current_machine()
    faster = mlu.machine("mlu-tiny").replace(dram_gb_per_s=4000)
    assert mlu.set_machine(faster) is faster is mlu.current_machine()


def test_a_machine_file_can_be_set(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(mlu.machine("mlu-tiny").replace(name="mine", clusters=3).to_toml())
    assert mlu.set_machine(path).clusters == 3
    assert mlu.machine(str(path)) == mlu.current_machine()


def test_an_unknown_machine_leaves_the_current_one():
    mlu.set_machine("mlu-tiny")
    with pytest.raises(mlu.ArgumentError, match="E0105"):
        mlu.set_machine("mlu591")
    assert mlu.current_machine().name == "mlu-tiny"


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("MLUTRITON_MACHINE", "mlu370-x4")
    monkeypatch.setenv("MLUTRITON_THREADS", "3")
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    assert mlu.current_machine().name == "mlu370-x4"
    assert configuration.threads() == 3
    assert configuration.engine() is Engine.INTERPRETER


def test_the_defaults_of_the_environment():
    assert configuration.threads() == len(os.sched_getaffinity(0))
    assert configuration.engine() is Engine.NATIVE


@pytest.mark.parametrize(
    ("variable", "value", "ask"),
    [
        ("MLUTRITON_MACHINE", "mlu591", configuration.current_machine),
        ("MLUTRITON_THREADS", "0", configuration.threads),
        ("MLUTRITON_THREADS", "two", configuration.threads),
        ("MLUTRITON_WARP_SIZE", "0", configuration.warp_size),
        ("MLUTRITON_THREADS", "-1", configuration.threads),
        ("MLUTRITON_ENGINE", "fast", configuration.engine),
    ],
)
def test_a_wrong_environment_is_named(monkeypatch, variable, value, ask):
    monkeypatch.setenv(variable, value)
    with pytest.raises(mlu.ArgumentError, match=f"{variable} is '{value}'") as caught:
        ask()
    assert caught.value.code == "E0109"
    assert caught.value.help


def test_sources_that_were_changed_since_the_import_have_a_name_of_their_own(monkeypatch):
    name = configuration.source_hash.__wrapped__
    assert name() == name()
    monkeypatch.setattr(configuration, "_IMPORTED_NS", 0)
    assert len({name(), name(), configuration.source_hash()}) == 3


def test_a_cache_directory_that_is_a_file_is_named(scale, monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("MLUTRITON_CACHE_DIR", str(file))
    with pytest.raises(mlu.ArgumentError, match="MLUTRITON_CACHE_DIR") as caught:
        scale[(3,)](*scale_arguments())
    assert caught.value.code == "E0109"


# ---- launches of programs ----


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_a_program_file_runs(scale, monkeypatch, engine):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    out, x, factor, n = scale_arguments()
    run = scale[(3,)](out, x, factor=factor, n=n)
    np.testing.assert_array_equal(out, x * np.float32(2.5))
    assert run.grid == (3, 1, 1)
    assert run.machine is mlu.current_machine()
    assert run.work_bound_cycles <= run.schedule_bound_cycles <= run.cycles
    assert run.dram_write_bytes >= out.nbytes


def test_engines_leave_the_same_trace(scale, monkeypatch):
    native = scale[(3,)](*scale_arguments())
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    interpreted = scale[(3,)](*scale_arguments())
    np.testing.assert_array_equal(native.trace.words, interpreted.trace.words)
    assert native.cycles == interpreted.cycles


def test_a_trace_outlives_the_next_launch(scale):
    first = scale[(3,)](*scale_arguments())
    words = first.trace.words.copy()
    for _ in range(5):
        scale[(2,)](*scale_arguments(2000))
    np.testing.assert_array_equal(first.trace.words, words)


def test_assembly_text_runs(tmp_path):
    path = tmp_path / "scale.s"
    path.write_text(SCALE)
    out, *others = scale_arguments(10)
    mlu.load(str(path))[(1,)](out, *others)
    np.testing.assert_array_equal(out, others[0] * np.float32(2.5))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.int8])
def test_arrays_of_other_elements_are_refused(scale, dtype):
    out, x, *others = scale_arguments(10)
    with pytest.raises(mlu.ArgumentError, match=f"array of {np.dtype(dtype)}; f32 is expected"):
        scale[(1,)](out, x.astype(dtype), *others)
    assert not out.any()


def test_integers_may_hold_the_bits_of_elements(scale):
    out, x, *others = scale_arguments(10)
    scale[(1,)](out.view(np.int32), x.view(np.uint32), *others)
    np.testing.assert_array_equal(out, x * np.float32(2.5))


def test_a_file_that_is_no_program_is_refused(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(mlu.ProgramError, match="E0403"):
        mlu.load(path)


def test_a_program_is_loaded_for_each_machine(scale):
    first = scale[(3,)](*scale_arguments())
    mlu.set_machine(mlu.current_machine().replace(clock_mhz=500, issue_cycles=40))
    second = scale[(3,)](*scale_arguments())
    assert second.machine is mlu.current_machine()
    assert second.time_us > first.time_us


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        ((), {}, "out is missing"),
        ((1, 2, 3, 4, 5), {}, "was passed 5"),
        ((None, None, 1.0), {"n": 1, "m": 2}, "m is too many"),
        ((None, None, 1.0, 1), {"n": 1}, "n is too many"),
    ],
)
def test_wrong_numbers_of_arguments_are_named(scale, arguments, named, message):
    with pytest.raises(mlu.ArgumentError, match=message) as caught:
        scale[(1,)](*arguments, **named)
    assert caught.value.code == "E0101"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": 2**32}, "n is 4294967296; i32"),
        ({"n": -(2**31) - 1}, "n is -2147483649; i32"),
        ({"n": 1.5}, "n is 1.5; i32"),
        ({"factor": 1e60}, r"factor is 1e\+60; f32"),
        ({"x": 3}, "int cannot be passed as a pointer for x"),
    ],
)
def test_arguments_that_do_not_fit_are_named(scale, changed, message):
    arguments = dict(zip(("out", "x", "factor", "n"), scale_arguments(), strict=True))
    with pytest.raises(mlu.ArgumentError, match=message):
        scale[(1,)](**arguments | changed)


def test_a_fault_names_the_array(scale):
    out, x, factor, n = scale_arguments()
    with pytest.raises(mlu.KernelFault, match="E0301") as caught:
        scale[(3,)](out, x[:100], factor, n)
    assert "x" in caught.value.note
    out.flags.writeable = False
    with pytest.raises(mlu.KernelFault, match="E0307"):
        scale[(3,)](out, x, factor, n)


def test_launches_that_leave_the_same_records_share_their_replay(scale):
    first = scale[(3,)](*scale_arguments())
    again = scale[(3,)](*scale_arguments())
    assert again.trace is first.trace
    assert again.timing is first.timing
    shorter = scale[(3,)](*scale_arguments()[:3], 2400)
    more = scale[(4,)](*scale_arguments(4000))
    last = scale[(3,)](*scale_arguments())
    for other in (shorter, more):
        assert other.trace is not first.trace
        alone = replay(other.trace, other.machine)
        assert (other.cycles, other.dram_read_bytes) == (alone.cycles, alone.dram_read_bytes)
    assert shorter.dram_read_bytes < first.dram_read_bytes < more.dram_read_bytes
    assert last.timing.statistics.tolist() == first.timing.statistics.tolist()


def test_a_trace_is_replayed_for_each_machine(scale):
    run = scale[(3,)](*scale_arguments())
    slower = run.machine.replace(dram_gb_per_s=run.machine.dram_gb_per_s // 100)
    cycles = [run.trace.timing(machine).cycles for machine in (run.machine, slower, run.machine)]
    assert cycles[0] == cycles[2] == run.cycles < cycles[1]


# ---- cycles alone ----


def test_an_estimate_has_the_cycles_of_the_run(scale):
    run = scale[(3,)](*scale_arguments())
    estimate = mlu.estimate(scale, (3,), mlu.spec((2500,), "float32"), mlu.spec((2500,), np.float32), 2.5, n=2500)
    assert not estimate.with_values
    np.testing.assert_array_equal(estimate.trace.words, run.trace.words)
    assert estimate.cycles == run.cycles
    assert list(estimate.counters) == list(run.counters)


def test_an_estimate_leaves_arrays_alone(scale):
    out, x, factor, n = scale_arguments()
    mlu.estimate(scale, (3,), out, x, factor, n)
    assert not out.any()


def test_an_estimate_needs_no_memory(scale):
    n = 1 << 30
    run = mlu.estimate(scale, (1000,), mlu.spec((n,), "float32"), mlu.spec((n,), "float32"), 1.0, n)
    assert run.dram_read_bytes == 1000 * 4096


def test_an_estimate_still_checks_bounds(scale):
    with pytest.raises(mlu.KernelFault, match="E0301"):
        mlu.estimate(scale, (3,), mlu.spec((2500,), "float32"), mlu.spec((2499,), "float32"), 2.5, 2500)


def test_an_estimate_that_depends_on_data_is_refused():
    kernel = mlu.load(encode(assemble(BRANCH)))
    with pytest.raises(mlu.CompileError, match="E0108"):
        mlu.estimate(kernel, (1,), mlu.spec((1,), "int32"))
    x = np.ones(1, np.int32)
    kernel[(1,)](x)
    assert x[0] == 7


def plain(out):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlu.jit(3), "a int cannot become a kernel"),
        (lambda: mlu.jit(noinline=True)(len), "a builtin_function_or_method cannot become a kernel"),
        (lambda: mlu.jit(lambda out: None), "<lambda> cannot become a kernel"),
        (lambda: mlu.estimate(plain, (1,), mlu.spec((4,), "float32")), "a function is no kernel"),
        (lambda: mlu.compile(plain, "out=*fp32"), "a function is no kernel"),
    ],
)
def test_what_is_no_kernel_is_refused(make, message):
    with pytest.raises(mlu.ArgumentError, match=message) as caught:
        make()
    assert caught.value.code == "E0112"


def test_specs_are_disjoint_and_like_tensors():
    first, second = mlu.spec((1000, 1000), "float16"), mlu.spec((3, 0), "bfloat16", (5, 1))
    assert first.data_ptr() + 2_000_000 < second.data_ptr()
    assert first.stride() == (1000, 1)
    assert second.stride(0) == 5
    assert str(second.dtype) == "bfloat16"
    assert repr(first) == "spec((1000, 1000), 'float16')"
    for shape, strides in (((-1,), None), ((2, 2), (1,)), ((2,), (-1,))):
        with pytest.raises(mlu.ArgumentError, match="E0101"):
            Spec(shape, "float32", strides)


# ---- words of parameters ----


def test_parameters_are_the_bits_of_their_type():
    text = "\n".join(
        [".program p", ".isa 592", *(f".param p{n} {kind}" for n, kind in enumerate(PARAMETER_WORDS)), "exit"]
    )
    kernel = load_program(assemble(text), mlu.machine("mlu590-m9"))
    words = kernel.parameter_words([value for value, _ in PARAMETER_WORDS.values()])
    assert words == [word for _, word in PARAMETER_WORDS.values()]


PARAMETER_WORDS = {
    "i1": (True, 1),
    "i8": (-1, 0xFF),
    "i16": (40000, 40000),
    "i32": (-2, 0xFFFFFFFE),
    "i64": (-(2**63), 2**63),
    "f16": (1.0, 0x3C00),
    "bf16": (-2.0, 0xC000),
    "f32": (1.5, 0x3FC00000),
    "f64": (-0.0, 1 << 63),
}
