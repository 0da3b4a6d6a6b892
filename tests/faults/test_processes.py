"""What befalls a process: interrupts, caches that cannot be written, and processes that share one or die over it."""

import os
import signal
import subprocess
import sys
import time
from itertools import count

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.simulator import execution

KERNELS = """
import os, signal, sys, threading, time
import numpy as np
import mlutriton as mlu, mlutriton.language as tl

@mlu.jit
def spin(x):
    while tl.atomic_add(x, 1) > 0:
        pass

@mlu.jit
def turn(x, n):
    i = n
    while i > 0:
        i = (i * 3) // 3
    tl.store(x, i)

@mlu.jit
def add(out, x, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets) + 1)
"""


@pytest.fixture
def run(tmp_path):
    """Start a process that runs a script, ``before`` even Triton is imported."""
    (tmp_path / "kernels.py").write_text(KERNELS)
    numbers = count()
    started = []

    def start(code, before="", **environment):
        # Each has a script of its own: one that is written anew is empty for whoever begins to read it just then.
        script = tmp_path / f"main{next(numbers)}.py"
        script.write_text(before + "from kernels import *\n" + code)
        process = subprocess.Popen(
            [sys.executable, script.name],
            cwd=tmp_path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()  # of a test that fails, so that no endless loop outlives it
        process.communicate()


def finished(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output, errors


def test_an_interrupt_ends_an_endless_loop(run):
    code = """
x = np.zeros(4, np.int32)
for kernel, arguments in ((turn, (5,)), (spin, ())):
    kernel[(1,)](x, *[0 for _ in arguments])  # compiled: the next launch is in its loop when the signal comes
    sent = []
    def interrupt():
        time.sleep(0.3)
        sent.append(time.process_time())  # of this process alone: the host may be busy with others
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt).start()
    try:
        kernel[(100,)](x + 1, *arguments)
    except KeyboardInterrupt as stop:
        print(time.process_time() - sent[0])
        assert f"the launch of {kernel.__name__} (100, 1, 1)" in stop.__notes__[0]
"""
    output, _ = finished(run(code))
    assert len(output.split()) == 2
    assert max(map(float, output.split())) < 1


@mlu.jit
def clear(x, step):
    i = 0
    while i < 10:
        tl.store(x + i, 0)
        i += step


def test_a_loop_that_fills_the_memory_is_stopped(monkeypatch):
    x = np.ones(10, np.int32)
    clear[(1,)](x, 2)
    assert x.tolist() == [0, 1] * 5
    monkeypatch.setattr(execution, "recorded_bytes_limit", lambda: 1 << 22)
    for grid in (1, 50):
        with pytest.raises(mlu.KernelFault, match="4,194,304 bytes") as caught:
            clear[(grid,)](x, 0)
        assert caught.value.code == "E0310"
        assert caught.value.location.file == __file__


ADD = """
out = np.zeros(64, np.float32)
for block in (32, 64):
    add[(1,)](out, np.ones(64, np.float32), BLOCK=block)
print(out.sum())
"""


def test_a_process_that_finds_its_code_loads_nothing_that_makes_code(run, tmp_path):
    parts = "mlutriton.pipeline", "mlutriton.codegen.llvm.translate", "mlutriton.codegen.llvm.runtime"
    code = f"{ADD}\nimport sys\nprint([name in sys.modules for name in {parts}])"
    outputs = [finished(run(code, **own_caches(tmp_path)))[0].splitlines() for _ in range(2)]
    assert [found for _, found in outputs] == [str([True] * 3), str([False] * 3)]


def test_caches_that_cannot_be_written_are_one_warning_each(run):
    output, errors = finished(run(ADD, MLUTRITON_CACHE_DIR="/proc/none", TRITON_CACHE_DIR="/proc/none"))
    assert output == "128.0\n"
    assert errors.count("RuntimeWarning") == 2
    assert "Set MLUTRITON_CACHE_DIR to a directory that can be written" in errors
    assert "Set TRITON_CACHE_DIR to a directory that can be written" in errors


def test_a_full_disk_is_one_warning_for_each_cache(run, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
    output, errors = finished(run(ADD, before=limit, **own_caches(tmp_path)))
    assert output == "128.0\n"
    assert errors.count("RuntimeWarning") == 2


def test_a_host_without_any_place_to_write_is_an_error_that_names_the_variables(run):
    nowhere = """
import tempfile
def mkdtemp(prefix):
    raise FileNotFoundError(2, "No usable temporary directory found")
tempfile.mkdtemp = mkdtemp
"""
    process = run(ADD, before=nowhere, TRITON_CACHE_DIR="/proc/none")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "error[E0109]: Triton cannot keep kernels in /proc/none: No such file or directory" in errors
    assert "note: nor is there a place for them until the process ends: No usable temporary directory" in errors
    assert "help: set TRITON_CACHE_DIR or TMPDIR to a directory that can be written" in errors


def test_a_user_without_a_home_names_a_cache_directory(run, tmp_path, monkeypatch):
    for variable in ("HOME", "TRITON_CACHE_DIR", "MLUTRITON_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    no_account = """
import pwd
def getpwuid(user):
    raise KeyError(user)
pwd.getpwuid = getpwuid
"""
    _, errors = (process := run(ADD, before=no_account)).communicate(timeout=300)
    assert process.returncode == 1
    assert "error[E0109]: there is no home directory to keep compiled code in" in errors
    output, errors = finished(run(ADD, before=no_account, MLUTRITON_CACHE_DIR=str(tmp_path / "code")))
    assert output == "128.0\n"
    assert "there is no home directory; every process compiles them again. Set TRITON_CACHE_DIR" in errors
    assert not (tmp_path / "~").exists()


def test_processes_share_a_cache_and_survive_each_other(run, tmp_path):
    victim, *others = [run(ADD, **own_caches(tmp_path)) for _ in range(3)]
    time.sleep(1)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert [finished(process)[0] for process in others] == ["128.0\n"] * 2
    damaged = list((tmp_path / "code").glob("*.o"))
    assert damaged
    for file in damaged:
        file.write_bytes(file.read_bytes()[:100])
    assert finished(run(ADD, **own_caches(tmp_path)))[0] == "128.0\n"


def test_a_damaged_kernel_is_compiled_again(run, tmp_path):
    assert finished(run(ADD, **own_caches(tmp_path)))[0] == "128.0\n"
    for pattern, content in (("add.json", b""), ("*.mluprog", None), ("__grp__*.json", b"{")):
        damaged = list(tmp_path.rglob(pattern))
        assert damaged
        for file in damaged:
            file.write_bytes(file.read_bytes()[:-7] if content is None else content)
        assert finished(run(ADD, **own_caches(tmp_path))) == ("128.0\n", "")


def own_caches(directory):
    return {"MLUTRITON_CACHE_DIR": str(directory / "code"), "TRITON_CACHE_DIR": str(directory / "compiled")}
