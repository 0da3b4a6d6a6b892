"""Kernels become program files, program files become text and run, all from the command line."""

import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from typer.testing import CliRunner

from mlutriton import configuration, files
from mlutriton.cli.main import app

KERNELS = """
import mlutriton as mlu
import mlutriton.language as tl
import triton


@mlu.jit
def scale(out, x, factor, n, BLOCK: tl.constexpr = 64):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out + offsets, tl.load(x + offsets, mask=mask) * factor, mask=mask)


@triton.autotune(configs=[triton.Config({"BLOCK": 64})], key=["n"])
@triton.jit
def plain(out, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, offsets, mask=offsets < n)


@mlu.jit
def wrong(out, BLOCK: tl.constexpr):
    tl.store(out + tl.arange(0, BLOCK), 0)
"""

SIGNATURE = "*fp32:16, *fp32:16, fp32, i32, 64"


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configuration, "_current", None)  # commands set the machine of their process
    (tmp_path / "kernels.py").write_text(KERNELS)

    def run(*arguments):
        return CliRunner().invoke(app, [str(each) for each in arguments])

    return run


@pytest.fixture
def program(command, tmp_path):
    result = command("compile", "kernels.py::scale", "-s", SIGNATURE, "-o", "scale.mluprog")
    assert result.exit_code == 0, result.output
    return tmp_path / "scale.mluprog"


def test_a_compiled_kernel_runs(command, program, tmp_path):
    x = np.random.default_rng(0).standard_normal(100, dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    options = ["--grid", "2", "out=zeros:fp32[100]", "x=x.npy", "factor=2.5", "n=100"]
    result = command("run", program, *options, "--save", "out=out.npy")
    assert result.exit_code == 0, result.output
    assert "scale (2, 1, 1) on mlu590-m9: simulated" in result.output
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), x * np.float32(2.5))


def test_the_outcome_can_be_compared(command, program, tmp_path):
    expected = np.full(100, 3, np.float32)
    expected[7] = 3.5
    np.save(tmp_path / "expected.npy", expected)
    options = ["--grid", "2", "out=zeros:fp32[100]", "x=ones:fp32[100]", "factor=3", "n=100"]
    compare = ["--expect", "out=expected.npy"]
    result = command("run", program, *options, *compare)
    assert result.exit_code == 1
    assert "out: 1 of 100 elements differ by up to 0.5" in result.output
    assert command("run", program, *options, *compare, "--tolerance", "0.2").exit_code == 0


@pytest.mark.parametrize("factor", ["nan", "-inf", "+inf", "1e-3"])
def test_floats_need_not_be_finite(command, program, tmp_path, factor):
    options = ["--grid", "2", "out=zeros:fp32[100]", "x=ones:fp32[100]", f"factor={factor}", "n=100"]
    assert command("run", program, *options, "--save", "out=out.npy").exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.full(100, float(factor), np.float32))


@pytest.mark.parametrize("option", [("--save", "out=nowhere/out.npy"), ("--timeline", "nowhere/timeline.json")])
def test_what_cannot_be_written_is_refused_before_anything_runs(command, program, option):
    options = ["--grid", "2", "out=zeros:fp32[100]", "x=ones:fp32[100]", "factor=3", "n=100"]
    result = command("run", program, *options, *option)
    assert result.exit_code == 2
    assert "there is no directory nowhere" in result.output
    assert "cycles" not in result.output


def test_the_report_is_json_if_asked_for(command, program, tmp_path):
    options = ["--grid", "2", "out=zeros:fp32[100]", "x=ones:fp32[100]", "factor=3", "n=100", "--json"]
    with_values, without = (
        json.loads(command("run", program, *options, *more).stdout) for more in ([], ["--cycles-only"])
    )
    assert with_values["with_values"]
    assert not without["with_values"]
    assert with_values["cycles"] == without["cycles"] > 0


def test_a_program_is_for_the_machine_that_is_named(command):
    for machine, isa in (("mlu590-m9", "592"), ("mlu370-x4", "372")):
        result = command("compile", "kernels.py::scale", "-s", SIGNATURE, "--machine", machine, "--stage", "s")
        assert f".isa      {isa}" in result.stdout


def test_text_and_file_are_the_same_program(command, program, tmp_path):
    assert command("disasm", program, "-o", "scale.s").exit_code == 0
    assert command("asm", "scale.s", "-o", "again.mluprog").exit_code == 0
    assert (tmp_path / "again.mluprog").read_bytes() == program.read_bytes()
    assert command("disasm", program).stdout == (tmp_path / "scale.s").read_text()


@pytest.mark.parametrize(
    ("stage", "expected"), [("ttir", "tt.func"), ("ir", "func @scale"), ("s", ".program  scale"), ("llir", "define")]
)
def test_every_stage_can_be_seen(command, stage, expected, tmp_path):
    result = command("compile", "kernels.py::scale", "-s", SIGNATURE, "--stage", stage, "--stages", "all")
    assert result.exit_code == 0, result.output
    assert expected in result.stdout
    assert (tmp_path / "all" / f"scale.{stage}").read_text().rstrip("\n") == result.stdout.rstrip("\n")
    assert not list(tmp_path.glob("*.mluprog"))


def test_parameters_can_be_described_by_name(command, tmp_path):
    by_name = "out=*fp32:16, n=i32, x=*fp32:16, factor=fp32"
    assert command("compile", "kernels.py::scale", "-s", by_name, "-o", "named").exit_code == 0
    assert command("compile", "kernels.py::scale", "-s", SIGNATURE, "-o", "ordered").exit_code == 0
    assert (tmp_path / "named").read_bytes() == (tmp_path / "ordered").read_bytes()


def test_hints_reach_the_compiler(command):
    texts = [
        command("compile", "kernels.py::plain", "-s", f"*i32{hint}, i32, 64", "--stage", "ttir").stdout
        for hint in ("", ":16")
    ]
    assert ["tt.divisibility = 16" in text for text in texts] == [False, True]


def test_what_is_stored_as_bytes_is_told_its_type(command, tmp_path):
    signature = "*bf16:16, *bf16:16, fp32, i32, 64"
    assert command("compile", "kernels.py::scale", "-s", signature, "-o", "scale.mluprog").exit_code == 0
    x = np.arange(64).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", x)
    result = command(
        "run", "scale.mluprog", "out=zeros:bf16[64]", "x=bf16:x.npy", "factor=2", "n=64", "--save", "out=out.npy"
    )
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy").view(ml_dtypes.bfloat16), x * ml_dtypes.bfloat16(2))


def test_random_arrays_are_those_of_the_seed(command, program, tmp_path):
    options = ["out=zeros:fp32[64]", "x=random:fp32[64]", "factor=1", "n=64"]
    for seed, name in ((1, "a"), (1, "b"), (2, "c")):
        assert command("run", program, *options, "--seed", seed, "--save", f"out={name}.npy").exit_code == 0
    first, second, third = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    np.testing.assert_array_equal(first, second)
    assert (first != third).any()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["run", "absent.mluprog"], 2, "absent.mluprog: No such file"),
        (["run", "kernels.py"], 1, "E0401"),
        (["run", "scale.mluprog"], 2, "out is missing"),
        (["run", "scale.mluprog", "out"], 2, "names no argument"),
        (["run", "scale.mluprog", "n=1", "n=2"], 2, "said twice"),
        (["run", "scale.mluprog", "out=zeros:fp33[4]"], 2, "did you mean fp32"),
        (["run", "scale.mluprog", "out=void:fp32[4]"], 2, "no fill void"),
        (["run", "scale.mluprog", "out=zeros:fp32[-4]"], 2, "is no array"),
        (["run", "scale.mluprog", "out=kernels.npy"], 2, "kernels.npy: No such file"),
        (["run", "scale.mluprog", "--grid", "x"], 2, "E0104"),
        (["run", "scale.mluprog", "n=1", "--save", "n=x.npy"], 2, "is not NAME=FILE.npy of an array"),
        (["run", "scale.mluprog", "--machine", "abacus"], 2, "E0105"),
        (["compile", "absent.py", "-s", ""], 2, "E0111"),
        (["compile", "kernels.py", "-s", ""], 2, "kernels.py has 3 kernels"),
        (["compile", "kernels.py::tl", "-s", ""], 2, "is no kernel"),
        (["compile", "kernels.py::scal", "-s", ""], 2, "name it: kernels.py::scale"),
        (["compile", "kernels.py::scale", "-s", "*fp32"], 2, "nothing is said of x, factor, n"),
        (["compile", "kernels.py::scale", "-s", "*fp32:8, *fp32, fp32, i32, 64"], 2, "has the hint 8"),
        (["compile", "kernels.py::scale", "-s", "*fp32, *fp32, fp32, i32, foo"], 2, "neither a type nor a constant"),
        (["compile", "kernels.py::wrong", "-s", "*fp32, 0"], 1, "kernels.py:23:"),
        (["compile", "kernels.py::scale", "-s", SIGNATURE, "-o", "absent/scale"], 2, "absent/scale: No such file"),
        (["asm", "kernels.py"], 1, "E0401"),
        (["disasm", "."], 2, "Is a directory"),
        (["explain", "E9999"], 2, "there is no error code"),
    ],
)
def test_a_wrong_command_is_told_what_is_wrong(command, program, arguments, status, message):
    result = command(*arguments)
    assert result.exit_code == status, result.output
    assert message in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_a_fault_is_no_traceback(command, program):
    result = command("run", program, "--grid", "2", "out=zeros:fp32[10]", "x=ones:fp32[100]", "factor=3", "n=100")
    assert result.exit_code == 1
    assert "error[E0301]: store of" in result.output
    assert "kernels.py:11:" in result.output


def test_a_full_disk_leaves_the_file_that_was_there(command, program, monkeypatch):
    before = program.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fdopen", full)
    result = command("compile", "kernels.py::scale", "-s", SIGNATURE.replace("64", "128"), "-o", program)
    assert result.exit_code == 2
    assert "No space left on device" in result.output
    assert program.read_bytes() == before
    assert [path.name for path in program.parent.iterdir() if path.name.startswith(".")] == []


def test_programs_run_without_triton(program):
    code = "import sys; sys.modules['triton'] = None; from mlutriton.cli.main import app; app()"
    arguments = ["run", str(program), "out=zeros:fp32[64]", "x=ones:fp32[64]", "factor=3", "n=64", "--json"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=os.environ, check=True
    )
    assert json.loads(result.stdout)["cycles"] > 0


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("e0301", "misses every registered array"),
        ("v.fma.f32", "COMPUTE queue"),
        ("mm", "WRAM"),
        ("dram_gb_per_s", "2,764.8"),
    ],
)
def test_subjects_are_explained(command, subject, expected):
    result = command("explain", subject)
    assert result.exit_code == 0
    assert expected in result.stdout


def test_codes_are_listed(command):
    assert "E0110" in command("explain").stdout
