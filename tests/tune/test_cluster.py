"""The same work on a Dask cluster: a real scheduler and worker processes, of which one is killed half-way."""

import re
import signal
import subprocess
import sys

import pytest

from mlutriton.diagnostics import ArgumentError
from mlutriton.tune import DaskEngine, LocalEngine, tune
from mlutriton.tune.session import prepare, searched

SHAPES = [{"n": 100_000}, {"n": 3000}]
SPACE = {"BLOCK": [64, 128, 256, 512, 1024], "UNROLL": [1, 2, 3, 4], "num_stages": [1, 2]}
WORKERS = 3


def process(*arguments, directory):
    command = [sys.executable, "-W", "ignore", "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def line_with(started, pattern):
    for line in started.stdout:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"{started.args} ended without {pattern}")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Address of a scheduler with workers, and the workers."""
    monkeypatch.setenv("TEST_PROCESS", "0")
    scheduler = process("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", directory=tmp_path)
    started = [scheduler]
    try:
        address = line_with(scheduler, r"Scheduler at:\s+tcp://(\S+)")[1]
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
        workers = [process("worker", f"tcp://{address}", *options, directory=tmp_path) for _ in range(WORKERS)]
        started += workers
        for worker in workers:
            line_with(worker, "Registered to")
        yield f"dask://{address}", workers
    finally:
        for each in started:
            each.kill()
            each.communicate(timeout=60)


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
def test_workers_that_have_no_such_file_get_it(cluster, kernels, tmp_path):
    address, _ = cluster
    file = tmp_path / "elsewhere.py"
    file.write_text(kernels.read_text())
    prepared = prepare(f"{file}::scale", shapes=SHAPES[:1], space=SPACE)
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
