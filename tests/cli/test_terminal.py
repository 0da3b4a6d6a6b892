"""What commands look like on a terminal, narrow or wide, with and without colours, and in a pipe."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

SCRIPT = """
import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def scale(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, 2 * tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def launch_scale(n, BLOCK, PAD=1):
    return (triton.cdiv(n, BLOCK),), {name: mlu.spec((n * PAD,), "float32") for name in ("out", "x")} | {"n": n}


if __name__ == "__main__":
    x = np.ones(50_000, np.float32)
    for block in (256, 1024):
        scale[(triton.cdiv(len(x), block),)](np.empty_like(x), x, len(x), BLOCK=block)
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TUNE = ("script.py::scale", "--space", "BLOCK=16..4096:x2", "num_stages=1..3", "--shape", "n=1000000", "--force")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("terminal")
    (path / "script.py").write_text(SCRIPT)
    subprocess.run(command("profile", "--recordings", "runs", "script.py"), cwd=path, check=True, capture_output=True)
    return path


def command(*words):
    return [sys.executable, "-W", "ignore", "-m", "mlutriton.cli.main", *words]


def environment(**changes):
    unset = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    return (
        {name: value for name, value in os.environ.items() if name not in unset} | {"TERM": "xterm-256color"} | changes
    )


def on_terminal(directory, *words, columns=80, **changes):
    """Everything that a command writes to a terminal of so many columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    started = subprocess.Popen(
        command(*words), cwd=directory, stdin=its, stdout=its, stderr=its, env=environment(**changes)
    )
    os.close(its)
    written = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert started.wait() == 0, written.decode()
    return written.decode().replace("\r\n", "\n")


def in_pipe(directory, *words, **changes):
    ended = subprocess.run(
        command(*words), cwd=directory, capture_output=True, text=True, env=environment(**changes), check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


@pytest.mark.parametrize("columns", [80, 120])
def test_tune_shows_how_far_it_is_and_the_best_so_far(directory, columns):
    text = ESCAPES.sub("", on_terminal(directory, "tune", *TUNE, columns=columns))
    bars, table = text[: text.index("scale for n=1000000")], text[text.index("scale for n=1000000") :]
    progress = [int(done) for done in re.findall(r"(\d+)/27 ", bars)]
    assert progress[0] == 0
    assert progress[-1] == 27
    assert progress == sorted(progress)
    best = [int(cycles.replace(",", "")) for cycles in re.findall(r"([\d,]+) cycles with BLOCK=", bars)]
    assert best == sorted(best, reverse=True)
    assert f"{best[-1]:,}" in table
    assert "/27" not in table  # it is taken away in the end
    assert max(map(len, table.splitlines()[:10])) <= columns


def test_the_bar_is_taken_away_after_ctrl_c(directory):
    """What stands on the terminal then is what to type to go on."""
    ours, its = pty.openpty()
    space = ("--space", "BLOCK=16..1024:x2", "num_stages=1..3", "PAD=1..200")
    started = subprocess.Popen(
        command("tune", "script.py::scale", *space, "--shape", "n=1000000", "--output", "interrupted"),
        cwd=directory,
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(),
        start_new_session=True,
    )
    os.close(its)
    written = b""
    while b"cycles with" not in written:
        written += os.read(ours, 1 << 16)
    os.killpg(started.pid, 2)
    try:
        while part := os.read(ours, 1 << 16):
            written += part
    except OSError:
        pass
    os.close(ours)
    assert started.wait() == 130
    text = written.decode()
    end = text[text.rindex("best so far") :]
    assert "--resume" in end
    assert text.rindex("\x1b[?25h") < text.rindex("best so far")  # the cursor is shown again
    assert "Traceback" not in text


def test_the_demo_shows_what_it_runs(directory, repository):
    text = on_terminal(directory, "demo", str(repository / "examples" / "cumsum.py"))
    plain = ESCAPES.sub("", text)
    assert re.search(r"0/\d+ cumsum", plain)
    assert "work bound" in plain


@pytest.mark.parametrize("words", [("tune", *TUNE), ("demo", "{examples}/cumsum.py"), ("profile", "script.py")])
def test_nothing_of_it_goes_into_a_pipe(directory, repository, words):
    words = [word.format(examples=repository / "examples") for word in words]
    output, errors = in_pipe(directory, *words)
    assert "\x1b" not in output
    assert "\r" not in output
    assert errors == ""
    assert not any(line.endswith(" ") for line in output.splitlines())


def test_no_color_is_respected(directory):
    words = ("what-if", "runs/01-scale.mlurun")
    colours = re.compile(r"\x1b\[[0-9;]*(3|4|9)[0-7][0-9;]*m")
    assert not colours.search(on_terminal(directory, *words, NO_COLOR="1"))
    machine = ("machines", "show", "mlu590-m9")
    assert colours.search(on_terminal(directory, *machine))
    assert not colours.search(on_terminal(directory, *machine, NO_COLOR="1"))


@pytest.mark.parametrize(
    "words",
    [
        ("machines", "list"),
        ("machines", "show", "mlu590-m9"),
        ("machines", "compare", "mlu370-x4", "mlu590-m9", "mlu220"),
        ("what-if", "runs/01-scale.mlurun"),
        ("what-if", "runs/01-scale.mlurun", "--sweep", "dram_gb_per_s=100..4000:4", "--sweep", "sync_cycles=1,2"),
        ("profile", "script.py"),
    ],
)
def test_no_terminal_is_too_narrow_for_names_and_figures(directory, words):
    """They all stand there whole, at any width; in a narrow one, text is broken between words."""

    def said(columns):
        text = ESCAPES.sub("", on_terminal(directory, *words, columns=columns))
        return re.sub(r"[^\n\r]*replaying[^\n\r]*", "", text).replace("─", " ").split()  # where that takes long

    wide = sorted(said(200))
    for columns in (40, 80):
        assert sorted(said(columns)) == wide


@pytest.mark.parametrize("words", [("machines", "show", "mlu590-m9"), ("profile", "script.py")])
def test_text_keeps_within_the_terminal(directory, words):
    text = ESCAPES.sub("", on_terminal(directory, *words, columns=100))
    assert max(map(len, text.splitlines())) <= 100
