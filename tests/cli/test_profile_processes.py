"""``mlutriton profile`` of what is more than one script in one process: modules, child processes, Ctrl-C, torch."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import mlutriton as mlu

KERNELS = """
import numpy as np

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def double(x, BLOCK: tl.constexpr):
    place = x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(place, 2 * tl.load(place))


def work(programs):
    return double[(programs,)](np.ones(1024 * programs, np.float32), BLOCK=1024).cycles
"""


@pytest.fixture
def profile(tmp_path):
    (tmp_path / "kernels.py").write_text(KERNELS)

    def run(script, *options, status=0, words=("script.py",)):
        (tmp_path / "script.py").write_text(script)
        command = [sys.executable, "-m", "mlutriton.cli.main", "profile", "--details", "0", "--json", "r.json"]
        ended = subprocess.run(
            [*command, *options, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout, ended.stderr, figures(tmp_path)

    return run


def figures(directory):
    return json.loads((directory / "r.json").read_text())


def groups(figures):
    return {each["grid"][0]: each["launches"] for each in figures["groups"] if each["kernel"] == "double"}


CHILDREN = {
    "subprocess": "import subprocess, sys\n"
    "for programs in '334':\n"
    "    subprocess.run([sys.executable, '-c', f'import kernels; kernels.work({programs})'], check=True)",
    "fork": "import multiprocessing\n"
    "with multiprocessing.get_context('fork').Pool(2) as pool:\n    pool.map(kernels.work, [3, 3, 4], chunksize=1)\n"
    "    pool.close()\n    pool.join()",
    "spawn": "import multiprocessing\n"
    "if __name__ == '__main__':\n"
    "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
    "        pool.map(kernels.work, [3, 3, 4], chunksize=1)\n        pool.close()\n        pool.join()",
    "bare fork": "import os\n"
    "for programs in (3, 3, 4):\n"
    "    if not (child := os.fork()):\n        kernels.work(programs)\n        break\n    os.waitpid(child, 0)",
    "executor": "from concurrent.futures import ProcessPoolExecutor\n"
    "with ProcessPoolExecutor(2) as pool:\n    list(pool.map(kernels.work, [3, 3, 4]))",
    "killed": "import os, subprocess, sys\n"
    "for programs in '334':\n"
    "    inner = f'import kernels, os; kernels.work({programs}); os.kill(os.getpid(), 9)'\n"
    "    subprocess.run([sys.executable, '-c', inner])",
    "grandchild": "import os, subprocess, sys\n"
    "inner = 'import kernels, os, subprocess, sys; kernels.work(3); '\\\n"
    "    'os.fork() or (kernels.work(3), os._exit(0)); os.wait(); kernels.work(4)'\n"
    "subprocess.run([sys.executable, '-c', inner], check=True)",
}


@pytest.mark.parametrize("kind", CHILDREN)
def test_launches_of_child_processes_are_among_those_reported(profile, tmp_path, kind):
    guard = "if __name__ == '__main__':\n    kernels.work(2); kernels.work(3)\n"
    output, errors, found = profile(f"import kernels\n{guard}{CHILDREN[kind]}\n", "--html", "r.html")
    page = " ".join((tmp_path / "r.html").read_text().split())
    assert f"3 of them by {found['child_processes']} child process" in page
    assert groups(found) == {2: 1, 3: 3, 4: 1}
    # A launch of the same program here and there is one line; what it takes does not depend on where it is made.
    assert all(each["least_cycles"] == each["most_cycles"] for each in found["groups"])
    assert found["child_launches"] == 3
    assert f"3 launches of {found['child_processes']} child processes are among them" in output
    assert errors == ""
    assert output.count("simulated launches") == 1
    assert found["groups"][0]["slowest"]["lines"]


def test_children_take_the_machine_of_the_command(profile, tmp_path):
    (tmp_path / "mine.toml").write_text(mlu.machine("mlu370-x4").replace(name="mine").to_toml())
    script = (
        "import os, subprocess, sys\nos.mkdir('below')\n"
        "subprocess.run([sys.executable, '-c', 'import sys; sys.path.append(\"..\"); import kernels; kernels.work(3)'],"
        " cwd='below', check=True)"
    )
    _, _, found = profile(script, "--machine", "mine.toml")
    assert [each["machine"] for each in found["groups"]] == ["mine"]


def test_nothing_is_left_in_the_temporary_directory(profile, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    profile(f"import kernels\n{CHILDREN['fork']}")
    assert not list((tmp_path / "temporary").glob("mlutriton-launches-*"))


def test_a_module_is_run_as_python_runs_it(profile, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "inner.py").write_text("from kernels import work")
    (tmp_path / "package" / "train.py").write_text(
        "import os, sys\nfrom .inner import work\n"
        "work(2)\nprint(__name__, __package__, __spec__.name, os.path.basename(sys.argv[0]), sys.argv[1:])\n"
        "assert sys.path[0] == os.getcwd()\n"
        "if 'raise' in sys.argv: raise ValueError('no more')\nif 'exit' in sys.argv: sys.exit(7)\n"
    )
    words = ("-m", "package.train", "--steps", "2")
    output, errors, found = profile("", words=words)
    plain = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert plain.stdout.strip() == "__main__ package package.train train.py ['--steps', '2']"
    assert plain.stdout in output
    assert groups(found) == {2: 1}
    (tmp_path / "r.json").unlink()
    profile("", words=("-m", "package.train", "exit"), status=7)
    (tmp_path / "r.json").unlink()
    _, errors, found = profile("", words=("-m", "package.train", "raise"), status=1)
    assert "ValueError: no more" in errors
    assert "mlutriton" not in errors
    assert "runpy" not in errors
    assert groups(found) == {2: 1}


@pytest.mark.parametrize("name", ["package.none", "none", "", "a b", ".x"])
def test_a_module_that_is_not_there_is_told(tmp_path, name):
    command = [sys.executable, "-m", "mlutriton.cli.main", "profile", "-m", name]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2
    assert "there is no module" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("waits_in", ["python", "child"])
def test_after_ctrl_c_what_ran_is_reported(tmp_path, waits_in):
    (tmp_path / "kernels.py").write_text(KERNELS)
    wait = {
        "python": "time.sleep(300)",
        "child": "subprocess.run([sys.executable, '-c', 'import time; time.sleep(300)'])",
    }[waits_in]
    (tmp_path / "script.py").write_text(
        f"import kernels, subprocess, sys, time\nkernels.work(3)\nopen('ready', 'w').close()\n{wait}\nkernels.work(4)\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-m", "mlutriton.cli.main", "profile", "--json", "r.json", "--html", "r.html", "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while started.poll() is None and not (tmp_path / "ready").exists():
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the children as well
    output, errors = started.communicate(timeout=300)
    assert started.returncode == 130, errors
    assert "KeyboardInterrupt" in errors
    assert "simulated launches" in output
    assert groups(figures(tmp_path)) == {3: 1}
    assert "double" in (tmp_path / "r.html").read_text()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed; make bench installs it")
def test_a_script_of_torch_is_profiled(profile):
    script = """
import torch
import triton
import triton.language as tl

@triton.jit
def double(x, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + place, 2 * tl.load(x + place, mask=place < n), mask=place < n)

x = torch.ones(5000)
double[(5,)](x, len(x), BLOCK=1024)
assert (x == 2).all()
"""
    _, errors, found = profile(script)
    assert groups(found) == {5: 1}
    assert errors == ""
