"""The Triton plug-in and ``mlu.jit``, with a compiler and a simulator that only write down what they are asked."""

import subprocess
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import triton
import triton.language as tl
from triton.backends import backends
from triton.tools.tensor_descriptor import TensorDescriptor

import mlutriton.backend.launcher
import mlutriton.language
from mlutriton.backend.devices import current_device, device_properties, machine_of
from mlutriton.backend.options import EFFECTS, FOREIGN_OPTIONS, OPTION_NAMES, WITHOUT_EFFECT, parse_options
from mlutriton.configuration import current_machine, set_machine
from mlutriton.diagnostics import ArgumentError, OnChipMemoryError
from mlutriton.frontend.arguments import pointer_argument
from mlutriton.frontend.jit import activate, jit
from mlutriton.isa.encoding import encode
from mlutriton.isa.program import Program


@dataclass
class Recorded:
    """What the stand-ins were asked."""

    compiled: list = field(default_factory=list)
    launches: list = field(default_factory=list)
    refuse_stages: int | None = None


@dataclass
class RecordedRun:
    kernel: object
    grid: tuple
    values: list
    time_us: float
    variant: str


def numbered_program(number):
    """A program file that is told from others by its name."""
    return encode(Program(f"program_{number}", 592, (), {}, (), {}, 0))


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    record = Recorded()

    def compile_ttir(text, options, observe):
        if options.num_stages == record.refuse_stages:
            raise OnChipMemoryError("too large", used_bytes=200, limit_bytes=100, memory="NRAM", note="a 200")
        record.compiled.append((text, options))
        return numbered_program(len(record.compiled))

    class Launch:
        can_be_repeated = False

        def __init__(self, kernel, grid, values, variant, printing_threads, text):
            self.recorded = RecordedRun(kernel, grid, list(values), 10.0 * grid[0], variant)

        def run(self):
            record.launches.append(self.recorded)
            return self.recorded

    pipeline = ModuleType("mlutriton.pipeline")
    pipeline.CompileOptions, pipeline.compile_ttir = SimpleNamespace, compile_ttir
    monkeypatch.setitem(sys.modules, "mlutriton.pipeline", pipeline)
    launcher = sys.modules.get("mlutriton.launch") or ModuleType("mlutriton.launch")
    monkeypatch.setitem(sys.modules, "mlutriton.launch", launcher)
    load = lambda program, machine: SimpleNamespace(program=program, machine=machine)  # noqa: E731
    stand_ins = {"Launch": Launch, "load": load, "LoadedKernel": object, "Run": RecordedRun, "begin_products": object}
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(launcher, name, stand_in, raising=False)
    activate()
    monkeypatch.setattr(mlutriton.backend.launcher, "Launch", Launch)
    machine = current_machine()
    yield record
    set_machine(machine)


def copy(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def power(out, x, n, SIZE: tl.constexpr):
    places = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)
    value = tl.load(x + places)
    for k in range(n):
        value = tl.dot(value, tl.load(x + places)) / (k + 3.0)
    tl.store(out + places, value)


@pytest.fixture
def arrays():
    return np.zeros(100, np.float32), np.ones(100, np.float32)


def test_triton_finds_the_plug_in():
    assert backends["mlu"].driver.__name__ == "MLUDriver"
    assert backends["mlu"].compiler.__name__ == "MLUBackend"


def test_importing_triton_loads_none_of_the_heavy_parts():
    heavy = ("numpy", "llvmlite", "torch", "mlutriton.ir", "mlutriton.isa", "mlutriton.simulator")
    code = f"import sys, triton; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout.strip() == "[]"


def test_the_language_is_tritons_own():
    assert mlutriton.language is tl


def test_a_launch_compiles_once_and_returns_its_run(recorded, arrays):
    kernel = jit(copy)
    out, x = arrays
    first = kernel[(2,)](out, x, 100, BLOCK=64)
    second = kernel[lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"]),)](out, x=x, n=np.int32(90), BLOCK=64)
    assert first.grid == second.grid == (2, 1, 1)
    assert [value.owner for value in first.values[:2]] == [out, x] or first.values[0].owner is out
    assert (first.values[2], second.values[2]) == (100, 90)
    assert len(recorded.compiled) == 1
    text, options = recorded.compiled[0]
    assert "tt.func public @copy" in text
    assert options.machine is current_machine()


def test_constants_and_ones_are_no_parameters(recorded, arrays):
    out, x = arrays
    run = jit(copy)[(1,)](out, x, 1, BLOCK=16)
    assert len(run.values) == 2
    assert "%n" not in recorded.compiled[0][0].partition("attributes")[0]


def test_a_plain_triton_kernel_runs_too(recorded, arrays):
    out, x = arrays
    compiled = triton.jit(copy)[(3,)](pointer_argument(out), pointer_argument(x), 100, BLOCK=32)
    assert recorded.launches[0].values[2] == 100
    assert recorded.launches[0].variant == "BLOCK=32, num_stages=2, num_warps=1"
    assert compiled.asm["mluprog"] == numbered_program(1)
    properties = device_properties(current_device())
    # How ported kernels count the programs that fit a core.
    assert properties["max_shared_mem"] // compiled.metadata.shared == 1
    assert properties["max_num_regs"] // (compiled.n_regs * properties["warpSize"] * 8) >= 1


def spelled(pair, descriptor, flag, scale, nothing, BLOCK: tl.constexpr):
    tl.store(pair[0] + pair[1], scale)
    if flag:
        tl.store(pair[0] + tl.arange(0, 8)[:, None] * 8 + tl.arange(0, 8)[None, :], descriptor.load([0, 0]))


def test_tuples_and_descriptors_are_spelled_out(recorded):
    x = pointer_argument(np.zeros((16, 8), np.float32))
    descriptor = TensorDescriptor.from_tensor(x, [8, 8])
    run = jit(spelled)[(1,)]((x, 5), descriptor, True, 0.5, None, BLOCK=8)
    assert run.values == [x, 5, x, 16, 8, 8, 1, False, True, 0.5]


def test_a_changed_machine_means_another_compilation(recorded, arrays):
    kernel = jit(copy)
    launch = kernel[(1,)]
    launch(*arrays, 100, BLOCK=64)
    set_machine("mlu370-x4")
    run = launch(*arrays, 100, BLOCK=64)
    assert [options.machine.name for _, options in recorded.compiled] == ["mlu590-m9", "mlu370-x4"]
    assert run.kernel.machine.name == "mlu370-x4"
    set_machine("mlu590-m9")
    assert launch(*arrays, 100, BLOCK=64).kernel.machine.name == "mlu590-m9"
    assert len(recorded.compiled) == 2


def test_programs_come_back_from_tritons_cache(recorded, arrays):
    jit(copy)[(1,)](*arrays, 100, BLOCK=64)
    run = jit(copy)[(1,)](*arrays, 100, BLOCK=64)
    assert len(recorded.compiled) == 1
    assert run.kernel.program == numbered_program(1)


def configurations(*stages):
    return [triton.Config({"BLOCK": 64}, num_stages=count) for count in stages]


def test_the_autotuner_sees_simulated_time_and_drops_what_does_not_fit(recorded, arrays):
    recorded.refuse_stages = 3
    tuned = triton.autotune(configurations(3, 2), key=["n"], reset_to_zero=["out"])(jit(copy))
    out, x = map(pointer_argument, arrays)
    run = tuned[(2,)](out, x, 100)
    assert tuned.best_config.num_stages == 2
    assert [timing[0] for timing in tuned.configs_timings.values()] == [float("inf"), pytest.approx(0.02)]
    assert run.grid == (2, 1, 1)


def test_what_does_not_fit_prints_the_bill(recorded, arrays):
    recorded.refuse_stages = 5
    with pytest.raises(OnChipMemoryError, match="a 200") as caught:
        jit(copy)[(1,)](*arrays, 100, BLOCK=64, num_stages=5)
    assert isinstance(caught.value, triton.OutOfResources)
    assert (caught.value.required, caught.value.limit, caught.value.name) == (200, 100, "NRAM")


def test_benchmarks_see_simulated_time(recorded, arrays):
    launch = jit(copy)[(3,)]
    call = lambda: launch(*arrays, 100, BLOCK=64)  # noqa: E731
    call()
    assert triton.testing.do_bench(call) == pytest.approx(0.03)
    assert triton.testing.do_bench(call, quantiles=[0.5, 0.2]) == pytest.approx([0.03, 0.03])
    assert triton.testing.do_bench(call, return_mode="all") == pytest.approx([0.03])
    assert len(recorded.launches) == 4
    original = triton.testing.do_bench.__wrapped__  # for who imported it before the driver was there
    assert original(call, warmup=0.1, rep=0.1) == pytest.approx(0.03)


def test_launch_hooks_are_called(recorded, arrays, monkeypatch):
    called = []
    monkeypatch.setattr(triton.knobs.runtime, "launch_enter_hook", lambda metadata: called.append("enter"))
    monkeypatch.setattr(triton.knobs.runtime, "launch_exit_hook", lambda metadata: called.append("exit"))
    jit(copy)[(1,)](*arrays, 100, BLOCK=64)
    assert called == ["enter", "exit"]


@pytest.mark.parametrize(
    ("arguments", "options", "code"),
    [
        (("text", 1, 2), {}, "E0101"),
        (([1], 1, 2), {}, "E0101"),
        ((np.zeros(3), np.zeros(3), 2**70), {}, "E0101"),
        ((np.zeros(3, complex), np.zeros(3), 2), {}, "E0103"),
        ((np.zeros(3), np.zeros(3), 2), {"num_stages": -1}, "E0107"),
        ((np.zeros(3), np.zeros(3), 2), {"opt_level": "O9"}, "E0107"),
        ((np.zeros(3), np.zeros(3), 2), {"bottleneck": "dram"}, "E0107"),
    ],
)
def test_wrong_arguments_are_refused(recorded, arguments, options, code):
    with pytest.raises(ArgumentError) as caught:
        jit(copy)[(1,)](*arguments, BLOCK=64, **options)
    assert caught.value.code == code


@pytest.mark.parametrize("grid", [(), (-1,), 4, lambda meta: (1, 2, 3, 4)])
def test_wrong_grids_are_refused(recorded, arrays, grid):
    with pytest.raises(ArgumentError) as caught:
        jit(copy)[grid](*arrays, 100, BLOCK=64)
    assert caught.value.code == "E0104"


def test_foreign_options_change_nothing_and_unknown_names_are_refused(recorded, arrays):
    kernel = jit(copy)
    kernel[(1,)](*arrays, 100, BLOCK=64, **dict.fromkeys(FOREIGN_OPTIONS, 1))
    with pytest.raises(ArgumentError, match="did you mean num_stages"):
        kernel[(1,)](*arrays, 100, BLOCK=64, num_stagse=2)


# A value of each that is not its default.
NOT_DEFAULT = {
    "bottleneck": "io", "pipeline_strategies": ["reduce_delay"], "opt_level": "O0", "precision_mode": "fast",
    "restrict_ptr": True, "can_promote_shared": False, "force_use_shared_memory": True, "enable_soft_i64": False,
    "enable_mlu_bound_check": False, "onchip_mem_analysis": True, "is_linear": True, "num_ctas": 2,
    "launch_cooperative_grid": True, "extern_libs": {"libdevice": "libdevice.bc"}, "instrumentation_mode": "fpsan",
    "fpsan_homomorphic_casts": True,
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_options_without_effect_leave_program_and_cycles_alone(name):
    x = np.arange(1, 257, dtype=np.float32).reshape(16, 16)
    plain, changed = np.zeros_like(x), np.zeros_like(x)
    run = jit(power)[(2,)](plain, x, 3, SIZE=16)
    other = jit(power)[(2,)](changed, x, 3, SIZE=16, **{name: NOT_DEFAULT[name]})
    assert plain.any()
    assert other.cycles == run.cycles
    np.testing.assert_array_equal(changed, plain)


def test_every_option_is_said_to_do_something_or_nothing():
    assert not EFFECTS.keys() & WITHOUT_EFFECT.keys()
    assert OPTION_NAMES <= EFFECTS.keys() | WITHOUT_EFFECT.keys() <= OPTION_NAMES | FOREIGN_OPTIONS


@pytest.mark.parametrize(("asked", "cores"), [(1, 1), (2, 1), (4, 4), (32, 4)])
def test_warps_mean_cores(asked, cores):
    assert parse_options({"num_warps": asked}, "machine", "mlu592").num_warps == cores


def test_options_are_told_apart_in_the_cache():
    plain = parse_options({}, "machine", "mlu592")
    assert plain.hash() == parse_options({"waves_per_eu": 2}, "machine", "mlu592").hash()
    assert plain.hash() != parse_options({"num_stages": 7}, "machine", "mlu592").hash()
    assert plain.hash() != parse_options({}, "other machine", "mlu592").hash()


def test_device_properties_describe_the_machine():
    machine = machine_of(current_device())
    properties = device_properties(current_device())
    assert properties["multiprocessor_count"] == properties["cluster_num"] * properties["core_num_per_cluster"]
    assert properties["max_shared_mem"] == machine.usable_nram_bytes
    assert device_properties(None) == properties  # torch.device("cpu").index is None
    activate()
    assert triton.testing.get_dram_gbps(current_device()) == pytest.approx(machine.dram_gb_per_s, rel=1e-3)


def test_the_target_can_be_named_after_torchs_device(monkeypatch):
    driver = backends["mlu"].driver()
    assert driver.get_current_target().backend == "mlu"
    monkeypatch.setenv("MLUTRITON_TARGET", "cpu")
    target = driver.get_current_target()
    assert (target.backend, target.arch) == ("cpu", current_machine().isa)
    assert backends["mlu"].compiler.supports_target(target)


def test_it_is_active_where_no_gpu_is(monkeypatch, tmp_path):
    driver = backends["mlu"].driver
    monkeypatch.delenv("TRITON_DEFAULT_BACKEND", raising=False)
    monkeypatch.setattr("mlutriton.backend.driver.GPU_DEVICE_NODES", (str(tmp_path / "none"),))
    assert driver.is_active()
    gpu = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))
    monkeypatch.setitem(backends, "gpu", gpu)
    monkeypatch.setattr("mlutriton.backend.driver.GPU_DEVICE_NODES", (str(tmp_path),))
    assert not driver.is_active()
    monkeypatch.setenv("TRITON_DEFAULT_BACKEND", "mlu")
    assert driver.is_active()


def test_code_for_cambricons_triton_finds_what_it_imports():
    source = """
from triton.language.extra.mlu.libdevice import philox
import triton.backends.mlu.driver as driver
import triton.language as tl
from triton.backends import backends

assert backends["mlu"].driver is driver.MLUDriver
assert tl.extra.mlu.libdevice.philox is philox
print(driver.BangUtils().get_device_properties(0)["core_num_per_cluster"])
"""
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300)
    assert ran.stdout == "4\n", ran.stderr


def test_parts_of_the_language_are_no_copies_under_our_name():
    source = """
import mlutriton.language as tl
import mlutriton.language.extra.libdevice as portable
import mlutriton.language.math
from mlutriton.language.core import constexpr
from mlutriton.language.extra.cuda import libdevice
from mlutriton.language.extra.mlu.libdevice import philox
from mlutriton.language.semantic import TritonSemantic
import triton.language

assert tl is triton.language
assert tl.math is mlutriton.language.math is triton.language.math
assert constexpr is tl.constexpr
assert portable.__name__ == "triton.language.extra.libdevice"
assert libdevice is triton.language.extra.cuda.libdevice
assert tl.extra is triton.language.extra
assert tl.extra.mlu.libdevice.philox is philox
assert TritonSemantic is triton.language.semantic.TritonSemantic
try:
    import mlutriton.language.missing
except ModuleNotFoundError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300)
    assert ran.stdout == "No module named 'mlutriton.language.missing'\n", ran.stderr


def test_kernels_of_gluon_are_refused():
    from triton.experimental import gluon  # no part of Triton's interface yet

    @gluon.jit
    def nothing():
        pass

    with pytest.raises(ArgumentError, match="Gluon") as caught:
        nothing[(1,)]()
    assert caught.value.code == "E0112"


def test_torch_finds_a_backend_of_the_name_of_its_cpu():
    backends = sys.modules["triton.backends"].backends
    assert "cpu" in backends
    assert backends["cpu"] is backends["mlu"]
    assert "cpu" not in list(backends)  # who looks through all sees it once
    with pytest.raises(KeyError, match="none"):
        backends["none"]
