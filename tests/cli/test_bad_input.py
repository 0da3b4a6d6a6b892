"""Commands meet what users and disks do to them: it is told in a line, the exit code says so, and nothing is lost."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mlutriton as mlu
from mlutriton.cli.main import app
from mlutriton.files import is_stream, write_whole

SCRIPT = """
import sys

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def scale(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, 2 * tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def launch_scale(n, BLOCK):
    return (triton.cdiv(n, BLOCK),), {name: mlu.spec((n,), "float32") for name in ("out", "x")} | {"n": n}


if __name__ == "__main__":
    x = np.ones(50_000, np.float32)
    scale[(triton.cdiv(len(x), 1024),)](np.empty_like(x), x, len(x), BLOCK=1024)
    open("has-run", "w").close()
"""
TUNE = ("tune", "script.py::scale", "--space", "BLOCK=64,256", "--shape", "n=5000", "--workers", "1")
PROFILE = ("profile", "--details", "0")


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def names(directory):
    return {path.name for path in directory.iterdir()}


@pytest.fixture
def run(directory):
    def run(*words, status, shell="", **changes):
        """What a command says; ``shell`` is put behind it."""
        command = " ".join(f"'{word}'" for word in (sys.executable, "-W", "ignore", "-m", "mlutriton.cli.main", *words))
        ended = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} {shell}"],
            cwd=directory,
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "160"} | changes,
            timeout=300,
            check=False,
        )
        assert ended.returncode == status, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    return run


@pytest.mark.parametrize(
    "words", [("machines", "list"), ("machines", "show", "mlu590-m9", "--toml"), ("explain", "E0101"), TUNE]
)
def test_an_output_that_is_full_is_told(run, directory, words):
    assert run(*words, status=2, shell="> /dev/full") == "error: No space left on device\n"
    if words is TUNE:
        assert {"tuned.json", "results.csv", "plot-0.png"} <= names(directory / "tune-scale")


def test_a_file_that_cannot_be_written_does_not_keep_others_from_it(run, directory):
    written = ("--json", "/dev/full", "--html", "r.html", "--recordings", "runs", "--timelines", "lines")
    said = run(*PROFILE, *written, "script.py", status=2)
    assert "error: /dev/full: No space left on device" in said
    assert (directory / "r.html").is_file()
    assert mlu.Run.load(directory / "runs" / "01-scale.mlurun").kernel == "scale"
    assert (directory / "lines" / "01-scale.json").is_file()
    assert not Path("/dev/full").is_file()


@pytest.mark.parametrize("option", ["--json", "--html", "--recordings", "--timelines"])
def test_where_nothing_can_be_written_is_told_before_the_script_runs(directory, monkeypatch, option):
    closed = directory / "closed"
    closed.mkdir()
    allowed = os.access  # permissions mean nothing to root, but a disk that is only read does
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed and allowed(path, mode))
    words = [*PROFILE, option, str(closed / "new"), str(directory / "script.py")]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert f"nothing can be written in {closed}" in result.output
    assert not (directory / "has-run").exists()


def test_streams_are_written_to(run, directory):
    said = run(*PROFILE, "--json", "/dev/stderr", "script.py", status=0, shell="> report.txt")
    assert json.loads(said)["groups"][0]["kernel"] == "scale"
    assert "simulated launches" in (directory / "report.txt").read_text()


@pytest.mark.parametrize("words", [TUNE, (*PROFILE, "script.py"), ("machines", "show", "mlu590-m9")])
def test_nobody_has_to_read_to_the_end(run, directory, words):
    said = run(*words, status=0, shell="| head -1; true")
    assert len(said.splitlines()) <= 1
    if words is TUNE:
        assert "plot-0.png" in names(directory / "tune-scale")


@pytest.mark.parametrize(
    ("words", "closed"),
    [
        *((("machines", "list"), closed) for closed in (">&-", "<&-", ">&- 2>&-")),
        # What starts processes and writes files of its own has the same streams as any other.
        (TUNE, ">&- 2>&-"),
        (TUNE, "<&-"),
        ((*PROFILE, "--json", "r.json", "script.py"), ">&-"),
        ((*PROFILE, "--json", "r.json", "script.py"), "<&-"),
    ],
)
def test_streams_may_be_closed(run, words, closed):
    run(*words, status=0, shell=closed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nosuch", "ModuleNotFoundError: No module named 'nosuch'"),
        ("x = (", "SyntaxError"),
        ("import sys\nsys.exit(3)", "SystemExit: it calls sys.exit(3)"),
        ("import sys\nsys.exit()", "SystemExit: it calls sys.exit(None)"),
        ("class Odd(BaseException): pass\n1 / 0", "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize(
    "words", [("tune", "bad.py::k"), ("compile", "bad.py::k", "--signature", "*fp32"), ("demo", "bad.py")]
)
def test_a_file_that_cannot_be_run_is_told(directory, monkeypatch, text, message, words):
    monkeypatch.chdir(directory)
    (directory / "bad.py").write_text(text)
    result = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert message in result.output
    assert "bad.py failed" in result.output
    assert "bad.py shows where" in result.output


ODD = {
    "MLUTRITON_MACHINE": "nosuch",
    "MLUTRITON_CACHE_DIR": "/dev/null",
    "MLUTRITON_THREADS": "none",
    "MLUTRITON_ENGINE": "fast",
}


def test_an_odd_environment_is_told(run):
    """In a script, with the place of the launch, as in Python."""
    words = ("run", "scale.mluprog", "--grid", "1", "out=zeros:fp32[64]", "x=ones:fp32[64]", "n=64")
    run("compile", "script.py::scale", "-s", "*fp32,*fp32,i32,64", "-o", "scale.mluprog", status=0)
    run(*words, status=0)
    for name, value in ODD.items():
        said = run(*words, status=2, **{name: value})
        assert "error[E0109]" in said
        assert name in said


@pytest.mark.parametrize("columns", ["0", "-5", "abc", "1"])
def test_odd_widths_lose_nothing(run, columns):
    assert "mlu590-m9" in run("machines", "list", status=0, COLUMNS=columns)


def test_two_searches_at_once_do_not_spoil_each_other(run, directory):
    """One of them is told that the other is at work, and its journal is whole."""
    words = ("--space", "BLOCK=16..4096:x2", "num_stages=1..9", "num_warps=1,2,4", "--shape", "n=100000", "--force")
    command = [sys.executable, "-W", "ignore", "-m", "mlutriton.cli.main", "tune", "script.py::scale", *words]
    started = [
        subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(*each.communicate(timeout=300), each.returncode) for each in started]
    statuses = sorted(status for _, _, status in ended)
    assert statuses in ([0, 2], [0, 0])  # the second of [0, 0] came when the first was done
    if statuses == [0, 2]:
        [errors] = [errors for _, errors, status in ended if status == 2]
        assert "another process is writing tune-scale/journal.jsonl" in errors
    lines = (directory / "tune-scale" / "journal.jsonl").read_text().splitlines()[1:]
    assert len({json.loads(line)["trial"] for line in lines}) == len(lines) == 9 * 9 * 3


# ---- files that are there whole or not at all ----


def test_a_file_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"before")
    path.chmod(0o640)
    write_whole(path, b"after")
    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o640
    monkeypatch.setattr(Path, "chmod", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left") as told:
        write_whole(path, b"never")
    assert told.value.filename == str(path)
    assert path.read_bytes() == b"after"
    assert names(tmp_path) == {"file"}


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", b"text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"text"


def test_a_pipe_stays_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert is_stream(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_whole(path, b"text")
    reader.join()
    assert read == [b"text"]
    assert path.is_fifo()


def test_devices_stay_devices(tmp_path):
    write_whole(Path("/dev/null"), b"text")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("/dev/full"), b"text")
    assert Path("/dev/full").is_char_device()


def test_a_directory_is_no_stream(tmp_path):
    assert not is_stream(tmp_path)
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path, b"text")
