"""The same work on a Dask cluster: a real scheduler and worker processes, of which one is killed half-way."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from mlutriton.diagnostics import ArgumentError
from mlutriton.tune import DaskEngine, LocalEngine, tune
from mlutriton.tune.session import RequestedSearch, prepare, searched

SHAPES = [{"n": 100_000}, {"n": 3000}]
SPACE = {"BLOCK": [64, 128, 256, 512, 1024], "UNROLL": [1, 2, 3, 4], "num_stages": [1, 2]}
WORKERS = 2


def process(*arguments, directory):
    command = [sys.executable, "-W", "ignore", "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def line_with(started, pattern):
    for line in started.stdout:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"{started.args} ended without {pattern}")


@contextmanager
def running(directory):
    """Address of a scheduler with workers, and the workers."""
    scheduler = process("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", directory=directory)
    started = [scheduler]
    try:
        address = line_with(scheduler, r"Scheduler at:\s+tcp://(\S+)")[1]
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
        workers = [process("worker", f"tcp://{address}", *options, directory=directory) for _ in range(WORKERS)]
        started += workers
        for worker in workers:
            line_with(worker, "Registered to")
        yield f"dask://{address}", workers
    finally:
        for each in started:
            each.kill()
            each.communicate(timeout=300)


@pytest.fixture
def cluster(tmp_path):
    """A cluster of a test's own, which may kill workers."""
    with running(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """That of a cluster whose workers live, and serve one test after another."""
    with running(tmp_path_factory.mktemp("cluster")) as (address, _):
        yield address


@pytest.mark.filterwarnings("default")
def test_a_worker_is_killed_and_nothing_is_lost_or_counted_twice(cluster, kernels, tmp_path):
    address, workers = cluster
    request = {"shapes": SHAPES, "space": SPACE}
    progress = []

    def kill_half_way(seen):
        progress.append(seen.done)
        if seen.done >= seen.total // 2 and workers[0].poll() is None:
            workers[0].send_signal(signal.SIGKILL)
            workers[0].wait()

    journal = tmp_path / "journal.jsonl"
    found = tune(f"{kernels}::scale", **request, engine=DaskEngine(address), journal=journal, progress=kill_half_way)
    assert workers[0].returncode == -signal.SIGKILL
    assert progress == sorted(progress)
    assert progress[-1] == len(SHAPES) * 40
    assert found.results == tune(f"{kernels}::scale", **request, engine=LocalEngine(1)).results
    lines = journal.read_text().splitlines()[1:]
    assert len(lines) == len(set(lines)) == progress[-1]


@pytest.mark.filterwarnings("default")
def test_workers_that_have_no_such_file_get_it(address, kernels, tmp_path):
    file = tmp_path / "elsewhere.py"
    file.write_text(kernels.read_text())
    prepared = prepare(RequestedSearch(f"{file}::scale", shapes=SHAPES[:1], space=SPACE))
    file.unlink()
    found = searched(prepared, engine=DaskEngine(address))
    assert found.results[0].best is not None
    assert found.results[0].failures == []


def test_a_scheduler_has_to_answer(kernels, tmp_path):
    engine, journal = DaskEngine("dask://127.0.0.1:1"), tmp_path / "journal.jsonl"
    with pytest.raises(ArgumentError, match="E0501") as told:
        tune(f"{kernels}::scale", shapes=SHAPES, space=SPACE, engine=engine, journal=journal)
    assert not journal.exists()
    assert "no Dask scheduler answers at dask://127.0.0.1:1" in told.value.summary
    assert "dask worker" in told.value.help


NEIGHBOURS = {
    "kernel.py": """
import mlutriton as mlu
import mlutriton.language as tl
import triton

from offsets import FACTOR, place
import parts.shapes


@mlu.jit
def scale(out, x, n, BLOCK: tl.constexpr):
    offsets = place(BLOCK)
    for _ in tl.static_range(FACTOR):
        tl.store(out + offsets, 2 * tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def launch_scale(n, BLOCK):
    return (triton.cdiv(n, BLOCK),), {**parts.shapes.arrays(n), "n": n}
""",
    "offsets.py": """
import triton
import triton.language as tl

FACTOR = tl.constexpr(1)


@triton.jit
def place(BLOCK: tl.constexpr):
    return tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
""",
    "parts/__init__.py": "",
    "parts/shapes.py": """
import mlutriton as mlu

from .names import NAMES


def arrays(n):
    return {name: mlu.spec((n,), "float32") for name in NAMES}
""",
    "parts/names.py": 'NAMES = ("out", "x")',
}


def written(directory, **changed):
    for name, text in NEIGHBOURS.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(changed.get(name.removesuffix(".py"), text))
    return f"{directory / 'kernel.py'}::scale"


@pytest.mark.filterwarnings("default")
def test_what_the_kernel_imports_from_its_directory_is_sent(address, tmp_path):
    """Also when workers have served a search before whose files had the same names."""
    request = {"shapes": SHAPES[:1], "space": {"BLOCK": [64, 128, 256, 512], "num_stages": [1, 2]}}
    more = NEIGHBOURS["offsets.py"].replace("constexpr(1)", "constexpr(3)")
    found = []
    for number, changed in enumerate([{}, {"offsets": more}]):
        kernel = written(tmp_path / str(number), **changed)
        prepared = prepare(RequestedSearch(kernel, **request))
        local = searched(prepare(RequestedSearch(kernel, **request)), engine=LocalEngine(1)).results
        (tmp_path / str(number)).rename(tmp_path / "gone")
        found.append(searched(prepared, engine=DaskEngine(address)).results)
        assert found[-1] == local
        shutil.rmtree(tmp_path / "gone")
    assert found[0][0].best.cycles < found[1][0].best.cycles


@pytest.mark.filterwarnings("default")
def test_what_workers_lack_is_told(address, tmp_path, monkeypatch):
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "only_here.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    kernel = written(tmp_path, kernel=f"import only_here\n{NEIGHBOURS['kernel.py']}")
    with pytest.raises(ArgumentError, match="E0501") as told:
        tune(kernel, shapes=SHAPES[:1], space={"BLOCK": [64]}, engine=DaskEngine(address))
    assert "No module named 'only_here'" in told.value.summary
    assert "kernel.py" in told.value.summary


@pytest.mark.filterwarnings("default")
def test_the_command_survives_the_loss_of_a_worker(cluster, tmp_path):
    address, workers = cluster
    kernel = written(tmp_path)
    words = ["--space", "BLOCK=16..1024:x2", "num_stages=1..4", "num_warps=1,2,4", "--shape", "n=1000000"]
    command = [sys.executable, "-W", "ignore", "-m", "mlutriton.cli.main", "tune", kernel, *words]
    distributed = [*command, "--engine", address, "--output", "far"]
    started = subprocess.Popen(distributed, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "far" / "journal.jsonl"
    while started.poll() is None and not (journal.is_file() and journal.read_text().count("\n") > 20):
        time.sleep(0.02)
    assert started.poll() is None, started.communicate()
    workers[0].kill()
    output, errors = started.communicate(timeout=300)
    assert started.returncode == 0, errors
    assert "84 configurations: " in output
    assert "Traceback" not in errors
    lines = journal.read_text().splitlines()[1:]
    assert len(lines) == len(set(lines)) == 84
    subprocess.run([*command, "--output", "near", "--workers", "1"], cwd=tmp_path, check=True, capture_output=True)
    far, near = (json.loads((tmp_path / each / "results.json").read_text()) for each in ("far", "near"))
    assert far["shapes"] == near["shapes"]
