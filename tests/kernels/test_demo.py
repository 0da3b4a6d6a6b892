"""``mlutriton demo`` shows what ran, and fails when a kernel does."""

import pytest
from typer.testing import CliRunner

from mlutriton.cli.main import app

# A kernel in name only: the table and the exit code are what is tested, not the simulator.
EXAMPLE = '''
"""An example that adds one."""
from pathlib import Path

import numpy as np

from mlutriton.diagnostics import KernelFault
from mlutriton.testing import Case


class Run:
    cycles, time_us, work_bound_cycles, schedule_bound_cycles, gb_per_s, tflop_per_s = 2400, 1.5, 1200, 1300, 10.0, 0.5

    def timeline(self, path):
        Path(path).write_text("[]")


class Adding:
    def __init__(self, wrong):
        self.wrong = wrong

    def __getitem__(self, grid):
        def launch(x):
            if self.wrong == "fault":
                raise KernelFault("E0301", "load misses every array")
            x += 1 + (self.wrong == "value")
            return Run()
        return launch


def cases():
    return [
        Case("add_one", wrong, Adding(wrong), lambda: {"x": np.zeros(4)}, (1,), ("x",), lambda x: {"x": x + 1})
        for wrong in ("nothing", "value", "fault")
    ]
'''


@pytest.fixture
def demo(tmp_path):
    (tmp_path / "example.py").write_text(EXAMPLE)

    def run(*options):
        return CliRunner().invoke(app, ["demo", str(tmp_path), "--output", str(tmp_path / "out"), *options])

    return run


def test_a_row_shows_the_run(demo, tmp_path):
    result = demo("--filter", "nothing")
    assert result.exit_code == 0, result.output
    [row] = [line.split() for line in result.output.splitlines() if "add_one" in line and "json" not in line]
    assert row == ["add_one", "nothing", "0", "2,400", "1.5", "1,200", "2.00", "10", "-", "0.000"]
    assert "Simulated on mlu590-m9" in result.output
    assert (tmp_path / "out" / "add_one-nothing.json").is_file()


def test_the_table_can_be_drawn(demo, tmp_path):
    drawings = [tmp_path / "first.svg", tmp_path / "second.svg"]
    for drawing in drawings:
        assert demo("--filter", "nothing", "--svg", str(drawing)).exit_code == 0
    first, second = (drawing.read_text(encoding="utf-8") for drawing in drawings)
    assert "2,400" in first
    assert "Timeline" not in first
    assert first == second


def test_a_failure_is_told_and_the_others_still_run(demo):
    result = demo()
    assert result.exit_code == 1
    assert "FAILED add_one value\nx: 4 elements differ by up to 1" in result.output
    assert "FAILED add_one fault\nerror[E0301]: load misses every array" in result.output
    assert result.output.count("2,400") == 2


@pytest.mark.parametrize("options", [("--filter", "absent"), ("--machine", "abacus")])
def test_a_wrong_option_is_refused(demo, options):
    result = demo(*options)
    assert result.exit_code == 2
    assert options[1] in result.output


def test_the_examples_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["demo", "--filter", "vector_add 98432"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "vector_add-98432-fp32.json").stat().st_size > 0
