"""Triton's reports over sizes, with its tables and plots: they show simulated time."""

import matplotlib
import numpy as np
import pytest
import triton

import mlutriton as mlu
import mlutriton.language as tl

matplotlib.use("Agg")


@mlu.jit
def double(x, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + place, tl.load(x + place, mask=place < n) * 2, mask=place < n)


@pytest.mark.parametrize("quantiles", [None, [0.5, 0.2, 0.8]])
def test_a_report_over_sizes(quantiles, tmp_path, capsys):
    x = np.ones(4096, np.float32)
    launch = lambda n, block: double[(triton.cdiv(n, block),)](x, n, BLOCK=block)  # noqa: E731

    @triton.testing.perf_report(
        triton.testing.Benchmark(
            x_names=["n"],
            x_vals=[256, 4096],
            line_arg="block",
            line_vals=[64, 1024],
            line_names=["small", "large"],
            ylabel="ms",
            plot_name="double",
            args={},
        )
    )
    def benchmark(n, block):
        return triton.testing.do_bench(lambda: launch(n, block), quantiles=quantiles)

    table = benchmark.run(print_data=True, save_path=str(tmp_path), return_df=True)
    assert list(table["n"]) == [256, 4096]
    for name, block in (("small (ms)", 64), ("large (ms)", 1024)):
        assert list(table[name]) == pytest.approx([launch(n, block).time_us / 1e3 for n in (256, 4096)])
    assert "large (ms)" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"double.png", "double.csv", "results.html"}
