"""Scripts are profiled as they run, whatever they do; recordings are replayed on other machines."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import mlutriton as mlu
from mlutriton import configuration
from mlutriton.cli.main import app
from mlutriton.profile.script import run_script

SCRIPT = """
import sys

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def double(x, BLOCK: tl.constexpr):
    place = x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(place, 2 * tl.load(place))


@triton.jit
def negate(x, BLOCK: tl.constexpr):
    place = x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(place, -tl.load(place))


if __name__ == "__main__":
    x = np.ones(4096, np.float32)
    for _ in range(3):
        double[(4,)](x, BLOCK=1024)
    negate[(8,)](mlu.array(x), BLOCK=512)
    print("values", x[0], sys.argv[1:])
    if "raise" in sys.argv:
        raise ValueError("no more")
    if "exit" in sys.argv:
        sys.exit(7)
    if "fault" in sys.argv:
        double[(5,)](x, BLOCK=1024)
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # workers of xdist are given 80
    monkeypatch.setattr(configuration, "_current", None)
    (tmp_path / "script.py").write_text(SCRIPT)

    def invoke(*arguments, status=0):
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == status, result.output
        return result.output

    return invoke


def test_a_script_is_run_and_every_launch_is_reported(command):
    output = command("profile", "script.py", "--own", "option")
    assert "values -8.0 ['--own', 'option']" in output
    rows = {line.split()[0]: line.split() for line in output.splitlines() if " x 1 x 1 " in line}
    assert rows["double"][1:8] == ["4", "x", "1", "x", "1", "mlu590-m9", "3"]
    assert rows["negate"][1:8] == ["8", "x", "1", "x", "1", "mlu590-m9", "1"]
    assert "tl.store(place, 2 * tl.load(place))" in output
    assert "bounded by" in output
    assert "NRAM high water" in output


def test_a_script_that_raises_is_shown_as_python_shows_it_and_reported(command):
    output = command("profile", "script.py", "raise", status=1)
    python = subprocess.run([sys.executable, "script.py", "raise"], capture_output=True, text=True, timeout=300)
    assert python.stderr.endswith("ValueError: no more\n")
    assert python.stderr in output
    assert "negate" in output


def test_a_fault_of_a_kernel_ends_the_script_not_the_report(command):
    output = command("profile", "script.py", "fault", status=1)
    assert "error[E0301]" in output
    assert output.index("error[E0301]") < output.index("simulated launches")


def test_the_status_of_the_script_is_passed_on(command):
    assert "simulated launches" in command("profile", "script.py", "exit", status=7)


def test_a_script_without_launches_says_so(command, tmp_path):
    (tmp_path / "quiet.py").write_text("print('nothing')")
    assert "quiet.py has launched no kernel" in command("profile", "quiet.py")


@pytest.mark.parametrize(
    "problem",
    [
        "AssertionError('Torch not compiled with CUDA enabled')",
        "RuntimeError('PyTorch was compiled without CUDA support')",
        "RuntimeError('Expected one of cpu, cuda, hip device type at start of device string: mlu')",
        "RuntimeError('PyTorch is not linked with support for mlu devices')",
    ],
)
def test_a_script_for_another_device_is_told_of_the_hosts(command, tmp_path, problem):
    (tmp_path / "gpu.py").write_text(f"raise {problem}")
    output = command("profile", "gpu.py", status=1)
    assert output.index("Error: ") < output.index("device='cpu'") < output.index("launched no kernel")
    assert "get_device_interface()" in output
    (tmp_path / "gpu.py").write_text("raise RuntimeError('the CUDA kernel is for GPUs')")
    assert "help:" not in command("profile", "gpu.py", status=1)


def test_options_behind_the_script_are_its_own_and_it_is_said(command, tmp_path):
    output = command("profile", "script.py", "--html=r.html", "--steps", "2")
    assert "note: --html=r.html is passed on to script.py; as an option of profile it stands before script.py" in output
    assert output.count("note: ") == 1
    assert not (tmp_path / "r.html").exists()
    assert "note: " not in command("profile", "--json", "r.json", "script.py", "--steps")


def test_the_machine_is_that_of_the_command(command):
    assert "mlu370-x4" in command("profile", "--machine", "mlu370-x4", "script.py")
    assert "E0105" in command("profile", "--machine", "none", "script.py", status=2)


def test_files_are_written_and_never_overwritten_silently(command, tmp_path):
    written = ["--html", "r.html", "--json", "r.json", "--timelines", "lines", "--recordings", "runs"]
    command("profile", *written, "script.py")
    figures = json.loads((tmp_path / "r.json").read_text())
    assert [(group["kernel"], group["launches"]) for group in figures["groups"]] == [("double", 3), ("negate", 1)]
    slowest = figures["groups"][0]["slowest"]
    assert sum(slowest["core_cycles"].values()) == slowest["run"]["cycles"] * 48
    assert json.loads((tmp_path / "lines" / "01-double.json").read_text())["traceEvents"]
    assert mlu.Run.load(tmp_path / "runs" / "02-negate.mlurun").grid == (8, 1, 1)
    assert "<svg" in (tmp_path / "r.html").read_text()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for option, value in zip(written[::2], written[1::2], strict=True):
        output = command("profile", option, value, "script.py", status=2)
        assert "--force" in output
        assert "values" not in output  # nothing is run in vain
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    command("profile", "--json", "r.json", "--force", "script.py")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["none.py"], "there is no script"),
        (["--html", "none/r.html", "script.py"], "there is no directory"),
        (["--recordings", "script.py", "script.py"], "is a file, not a directory"),
    ],
)
def test_what_cannot_be_is_said_before_the_script_runs(command, arguments, reason):
    output = command("profile", *arguments, status=2)
    assert reason in " ".join(output.replace("│", " ").split())
    assert "values" not in output


def test_a_missing_extra_is_named_with_what_to_type(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "mlutriton.profile.page", raising=False)
    output = command("profile", "--html", "r.html", "script.py", status=2)
    assert "pip install 'mlutriton[profile]'" in output
    assert "values" not in output
    assert "simulated launches" in command("profile", "script.py")


def test_a_script_may_go_elsewhere(command, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "script.py").write_text(f"import os\nos.chdir('elsewhere')\n{SCRIPT}")
    output = command("profile", "--json", "r.json", "--timelines", "lines", "script.py")
    assert "tl.store(place, 2 * tl.load(place))" in output
    assert (tmp_path / "r.json").is_file()
    assert (tmp_path / "lines" / "01-double.json").is_file()


def test_output_that_goes_into_a_pipe_is_plain(command):
    result = subprocess.run(
        [sys.executable, "-m", "mlutriton.cli.main", "profile", "script.py"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"TERM": "xterm-256color"},
    )
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


# ---- scripts and launches ----


def test_a_script_finds_what_python_gives_it(tmp_path):
    (tmp_path / "beside.py").write_text("value = 3")
    (tmp_path / "main.py").write_text(
        "import sys, beside, __main__\n"
        "assert __name__ == '__main__' and __main__.__dict__ is globals()\n"
        "assert __file__ == sys.argv[0] and sys.argv[1:] == ['a', '-b']\n"
        "assert (lambda: 0).__code__.co_filename == __file__\n"
        "assert beside.value == 3\n"
    )
    path, argv, main = list(sys.path), sys.argv, sys.modules["__main__"]
    outcome = run_script(tmp_path / "main.py", ["a", "-b"])
    assert (outcome.status, outcome.traceback) == (0, "")
    assert (path, argv, main) == (sys.path, sys.argv, sys.modules["__main__"])


@pytest.mark.parametrize(
    ("text", "status", "shown"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('bye')", 1, "bye\n"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt\n"),
        ("x = (", 1, "SyntaxError: '(' was never closed\n"),
        ("def f(): 1 / 0\nf()", 1, "ZeroDivisionError: division by zero\n"),
    ],
)
def test_a_script_ends_as_it_would_in_python(tmp_path, text, status, shown):
    (tmp_path / "main.py").write_text(text)
    outcome = run_script(tmp_path / "main.py", [])
    assert outcome.status == status
    assert outcome.traceback.endswith(shown)
    assert "mlutriton" not in outcome.traceback


# ---- what-if ----


@pytest.fixture
def recording(command, tmp_path):
    command("profile", "--recordings", "runs", "script.py")
    return str(tmp_path / "runs" / "01-double.mlurun")


def test_without_a_change_the_gains_are_told(command, recording):
    output = command("what-if", recording)
    assert "launch_device_ns" in output
    assert "make no difference" in output


def test_changes_and_machines_are_replayed(command, recording, tmp_path):
    run = mlu.Run.load(recording)
    command("what-if", recording, "--machine", "mlu580", "--set", "dram_bulk_latency_ns=100", "--json", "a.json")
    [point] = json.loads((tmp_path / "a.json").read_text())["points"]
    assert point["cycles"] == run.what_if(mlu.machine("mlu580").replace(dram_bulk_latency_ns=100)).cycles


def test_a_program_stays_as_it_was_compiled_for_its_memories_and_it_is_said(command, recording, tmp_path):
    output = command("what-if", recording, "--set", "nram_bytes=1048576", "--html", "a.html")
    assert "still the one that was compiled for the nram_bytes of mlu590-m9" in output
    assert "still the one that was compiled for the nram_bytes" in (tmp_path / "a.html").read_text()
    assert "still" not in command("what-if", recording, "--set", "dram_gb_per_s=1000")


def test_sweeps_are_combined(command, recording, tmp_path):
    run = mlu.Run.load(recording)
    sweeps = ["--sweep", "dram_bulk_latency_ns=100..400:3", "--sweep", "dram_gb_per_s=10,1000"]
    output = command("what-if", recording, *sweeps, "--json", "a.json", "--html", "a.html")
    points = json.loads((tmp_path / "a.json").read_text())["points"]
    changes = [(each["changes"]["dram_bulk_latency_ns"], each["changes"]["dram_gb_per_s"]) for each in points]
    assert changes == [(latency, rate) for latency in (100, 250, 400) for rate in (10.0, 1000.0)]
    for (latency, rate), each in zip(changes, points, strict=True):
        machine = run.machine.replace(dram_bulk_latency_ns=latency, dram_gb_per_s=rate)
        assert each["cycles"] == run.what_if(machine).cycles
    assert output.count("mlu590-m9") == 8
    assert "<svg" in (tmp_path / "a.html").read_text()


def test_ranges_may_be_even_by_ratio(command, recording, tmp_path):
    command("what-if", recording, "--sweep", "dram_bulk_latency_ns=1..1000:4:log", "--json", "a.json")
    points = json.loads((tmp_path / "a.json").read_text())["points"]
    assert [each["changes"]["dram_bulk_latency_ns"] for each in points] == [1, 10, 100, 1000]


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["--set", "dram_gb_per_s"], "E0106", 2),
        (["--set", "dram_gb=3"], "E0106", 2),
        (["--set", "dram_gb_per_s=fast"], "E0106", 2),
        (["--set", "dram_gb_per_s=-3"], "E0106", 2),
        (["--set", "has_bf16=perhaps"], "E0106", 2),
        (["--set", "vector_bytes_per_cycle=256"], "E0107", 2),
        (["--sweep", "dram_gb_per_s=1..10:0"], "E0106", 2),
        (["--sweep", "dram_bulk_latency_ns=0..10:3:log"], "E0106", 2),
        (["--sweep", "dram_gb_per_s=1..9:200", "--sweep", "dram_bulk_latency_ns=1..200:200"], "E0106", 2),
        (["--machine", "mlu370-x4"], "E0107", 2),
        (["--machine", "none"], "E0105", 2),
    ],
)
def test_what_cannot_be_replayed_says_why(command, recording, arguments, code, status):
    assert f"error[{code}]" in command("what-if", recording, *arguments, status=status)


def test_what_is_no_recording_says_so(command, tmp_path):
    assert "error[E0405]" in command("what-if", "script.py", status=1)
    assert "No such file" in command("what-if", "none.mlurun", status=2)
    np.save(tmp_path / "a.npy", np.zeros(3))
    assert "error[E0405]" in command("what-if", "a.npy", status=1)
