"""Triton's tuner, heuristics and benchmarks: they see simulated time, which is the same in every run."""

import subprocess
import sys

import numpy as np
import pytest
import triton
import triton.language as tl

import mlutriton as mlu

pytestmark = pytest.mark.filterwarnings("ignore:warmup, rep, and use_cuda_graph:DeprecationWarning")

DECORATORS = pytest.mark.parametrize("decorate", [mlu.jit, triton.jit], ids=["mlu", "triton"])
N = 10_000


def accumulate(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    tl.store(out + offsets, tl.load(out + offsets, mask=inside) + tl.load(x + offsets, mask=inside), mask=inside)


def configurations(*blocks, **options):
    return [triton.Config({"BLOCK": block}, **options) for block in blocks]


def grid(meta):
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


@pytest.fixture
def arrays():
    return np.zeros(N, np.float32), np.arange(N, dtype=np.float32)


def milliseconds(block, out, x):
    return mlu.jit(accumulate)[(triton.cdiv(N, block),)](out.copy(), x, N, BLOCK=block).time_us / 1e3


@DECORATORS
@pytest.mark.parametrize("option", ["reset_to_zero", "restore_value"])
def test_the_fastest_is_chosen_and_arrays_are_as_after_one_launch(decorate, option, arrays):
    out, x = arrays
    out += option == "restore_value"
    tuned = triton.autotune(configurations(16, 1024), key=["n"], **{option: ["out"]})(decorate(accumulate))
    tuned[grid](out, x, N)
    np.testing.assert_array_equal(out, x + (option == "restore_value"))
    assert tuned.best_config.kwargs == {"BLOCK": min(16, 1024, key=lambda block: milliseconds(block, *arrays))}
    for config, timing in tuned.configs_timings.items():
        assert timing == pytest.approx([milliseconds(config.kwargs["BLOCK"], *arrays)] * 3)
    tuned[grid](out, x, n=N)
    np.testing.assert_array_equal(out, 2 * x + (option == "restore_value"))


@DECORATORS
def test_what_does_not_fit_is_not_chosen(decorate, arrays):
    @decorate
    def count(out, x, n, BLOCK: tl.constexpr):
        # The bins of a histogram have to stand on chip together.
        bins = tl.arange(0, BLOCK)
        keys = tl.load(x + tl.arange(0, 32)).to(tl.int32)
        tl.store(out + bins, tl.histogram(keys, BLOCK), mask=bins < n)

    tuned = triton.autotune(configurations(1 << 17, 32), key=["n"])(count)
    tuned[(1,)](*arrays, 32)
    infinite = [timing == [float("inf")] * 3 for timing in tuned.configs_timings.values()]
    assert infinite == [True, False]
    with pytest.raises(triton.OutOfResources):
        count[(1,)](*arrays, 32, BLOCK=1 << 17)


@DECORATORS
def test_configurations_are_pruned(decorate, arrays):
    seen = []

    def at_most_256(configs, named_args, **kwargs):
        seen.append((named_args["n"], named_args["x"] is arrays[1]))
        return [config for config in configs if config.kwargs["BLOCK"] <= 256]

    pruning = {"early_config_prune": at_most_256, "perf_model": lambda *, BLOCK, **rest: -BLOCK, "top_k": 2}
    tuned = triton.autotune(configurations(16, 64, 256, 1024), key=["n"], prune_configs_by=pruning)(
        decorate(accumulate)
    )
    tuned[grid](*arrays, N)
    assert {config.kwargs["BLOCK"] for config in tuned.configs_timings} == {64, 256}
    assert seen == [(N, True)]


@DECORATORS
def test_hooks_of_tuners_and_configurations_see_the_callers_arrays(decorate, arrays):
    out, x = arrays
    called = []
    configs = configurations(64, 128, pre_hook=lambda nargs: called.append(nargs["out"] is out))

    def before(nargs, reset_only=False):
        nargs["out"][:] = 0

    def after(nargs, exception):
        called.append(exception)

    tuned = triton.autotune(configs, key=["n"], pre_hook=before, post_hook=after)(decorate(accumulate))
    tuned[grid](out, x, N)
    assert called == [True, None, True, None, True]
    np.testing.assert_array_equal(out, x)


@DECORATORS
@pytest.mark.parametrize("options", [{"use_cuda_graph": True}, {"warmup": 5, "rep": 10}], ids=["graph", "repetitions"])
def test_options_of_other_clocks_change_nothing(decorate, options, arrays):
    launches = []
    kernel = decorate(accumulate)
    kernel.add_pre_run_hook(lambda *args, **kwargs: launches.append(kwargs["BLOCK"]))
    tuned = triton.autotune(configurations(64, 128), key=["n"], reset_to_zero=["out"], **options)(kernel)
    tuned[grid](*arrays, N)
    assert launches == [64, 128, 128]
    np.testing.assert_array_equal(*arrays)


@DECORATORS
def test_a_clock_of_ones_own_is_asked(decorate, arrays):
    asked = []

    def clock(call, quantiles):
        call()
        asked.append(quantiles)
        return [1.0 / len(asked)] * 3

    tuned = triton.autotune(configurations(1024, 16), key=["n"], do_bench=clock, reset_to_zero=["out"])(
        decorate(accumulate)
    )
    tuned[grid](*arrays, N)
    assert tuned.best_config.kwargs == {"BLOCK": 16}
    assert asked == [(0.5, 0.2, 0.8)] * 2


@DECORATORS
def test_results_are_kept_on_disk(decorate, arrays, tmp_path):
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path)
        for hit in (False, True):
            kernel = decorate(accumulate)
            launches = []
            kernel.add_pre_run_hook(lambda *args, launches=launches, **kwargs: launches.append(kwargs["BLOCK"]))
            tuned = triton.autotune(configurations(16, 1024), key=["n"], cache_results=True)(kernel)
            tuned[grid](*arrays, N)
            fastest = tuned.best_config.kwargs["BLOCK"]
            assert launches == ([fastest] if hit else [16, 1024, fastest])
    assert any(tmp_path.rglob("accumulate.autotune.json"))


@DECORATORS
def test_heuristics_below_and_above_a_tuner(decorate, arrays):
    out, x = arrays

    def scale(out, x, n, BLOCK: tl.constexpr, EVEN: tl.constexpr, FACTOR: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        values = tl.load(x + offsets) if EVEN else tl.load(x + offsets, mask=offsets < n)
        tl.store(out + offsets, values * FACTOR, mask=offsets < n)

    kernel = triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})(decorate(scale))
    tuned = triton.autotune(configurations(16, 64), key=["n"])(kernel)
    triton.heuristics({"FACTOR": lambda args: 3 if args["x"] is x else 2})(tuned)[grid](out, x, N)
    np.testing.assert_array_equal(out, 3 * x)
    kernel[(1,)](out, x, 7, BLOCK=16, FACTOR=5)
    np.testing.assert_array_equal(out[:8], [*(5 * x[:7]), 3 * x[7]])


@DECORATORS
def test_benchmarks_run_a_kernel_once(decorate, arrays):
    kernel = decorate(accumulate)
    launch = lambda: kernel[grid](*arrays, N, BLOCK=256)  # noqa: E731
    expected = milliseconds(256, *arrays)
    for measure in (triton.testing.do_bench, triton.testing.do_bench_cudagraph):
        assert measure(launch, rep=10) == pytest.approx(expected)
        assert measure(launch, quantiles=[0.5, 0.2, 0.8]) == pytest.approx([expected] * 3)
        assert measure(launch, return_mode="median") == pytest.approx(expected)
    np.testing.assert_array_equal(arrays[0], 6 * arrays[1])


def test_benchmarks_over_sizes(arrays):
    kernel = mlu.jit(accumulate)
    measured = {}

    @triton.testing.perf_report(
        triton.testing.Benchmark(
            x_names=["n"],
            x_vals=[256, 4096],
            line_arg="block",
            line_vals=[64, 256],
            line_names=["64", "256"],
            plot_name="accumulate",
            args={},
        )
    )
    def benchmark(n, block):
        out, x = arrays
        launch = lambda: kernel[(triton.cdiv(n, block),)](out, x, n, BLOCK=block)  # noqa: E731
        measured[n, block] = triton.testing.do_bench(launch)
        return measured[n, block]

    assert benchmark.benchmarks.x_vals == [256, 4096]
    for n in benchmark.benchmarks.x_vals:
        for block in benchmark.benchmarks.line_vals:
            benchmark.fn(n, block)
    assert measured[256, 64] < measured[4096, 64]


def test_the_first_tuning_of_a_process(tmp_path):
    (tmp_path / "main.py").write_text("""
import numpy as np, triton, mlutriton as mlu, mlutriton.language as tl

launches = []

@triton.autotune([triton.Config({"BLOCK": block}) for block in (16, 64)], key=["n"], use_cuda_graph=True)
@mlu.jit
def copy(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets, mask=offsets < n), mask=offsets < n)

copy.fn.add_pre_run_hook(lambda *args, **kwargs: launches.append(kwargs["BLOCK"]))
x = np.arange(100, dtype=np.int32)
out = np.zeros_like(x)
call = lambda: copy[lambda meta: (triton.cdiv(100, meta["BLOCK"]),)](out, x, 100)
first = triton.testing.do_bench(call)
print((out == x).all(), len(launches), launches[:2])
""")
    command = [sys.executable, "-W", "ignore", "main.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.stdout == "True 3 [16, 64]\n", ran.stderr
