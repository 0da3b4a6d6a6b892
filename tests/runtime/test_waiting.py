"""What takes long is named on a terminal until it is done, and nowhere else."""

import io
import multiprocessing
import threading
import time
from types import SimpleNamespace

import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton import pipeline, waiting
from mlutriton.waiting import shown_otherwise, working


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    shown = Terminal()
    # Pytest has its own place for it again when a test begins.
    monkeypatch.setattr(waiting, "sys", SimpleNamespace(stderr=shown))
    monkeypatch.setattr(waiting, "_PATIENCE_S", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv(waiting.PROGRESS_VARIABLE, raising=False)
    return shown


def wait_for(text, shown):
    while text not in shown.getvalue():
        time.sleep(0.01)


def test_what_takes_long_is_named_until_it_is_done(terminal):
    with pytest.raises(KeyboardInterrupt), working("replaying scale"):  # noqa: PT012
        wait_for("replaying scale ... ", terminal)
        raise KeyboardInterrupt
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is empty again


def test_nothing_is_said_of_what_is_soon_done(terminal, monkeypatch):
    monkeypatch.setattr(waiting, "_PATIENCE_S", 100.0)
    with working("replaying scale"):
        pass
    assert not terminal.getvalue()


def speakers():
    return sum(each.name == "mlutriton-progress" for each in threading.enumerate())


def is_silent(terminal):
    with working("replaying scale"):
        return speakers() == 0


def test_nothing_is_said_where_nobody_wants_it(terminal, monkeypatch):
    with shown_otherwise():
        assert is_silent(terminal)
    with monkeypatch.context() as changed:
        changed.setenv(waiting.PROGRESS_VARIABLE, "0")
        assert is_silent(terminal)
    with monkeypatch.context() as changed:
        changed.setenv("TERM", "dumb")
        assert is_silent(terminal)
    with monkeypatch.context() as changed:
        changed.setattr(multiprocessing, "parent_process", object)
        assert is_silent(terminal)
    with monkeypatch.context() as changed:
        changed.setattr(Terminal, "isatty", lambda self: False)
        assert is_silent(terminal)
    for absent in (None, io.StringIO()):  # of a process that has no console, and of one that has closed it
        with monkeypatch.context() as changed:
            if absent is not None:
                absent.close()
            changed.setattr(waiting, "sys", SimpleNamespace(stderr=absent))
            assert is_silent(terminal)
    assert not is_silent(terminal)


def test_one_line_speaks_for_what_is_done_inside(terminal):
    with working("running scale"):
        wait_for("running scale", terminal)
        with working("compiling scale"):
            assert speakers() == 1
    assert "compiling" not in terminal.getvalue()


@mlu.jit
def scale(x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(x + i) * 2)


def test_a_compilation_that_takes_long_is_named(terminal, monkeypatch):
    def slow(*arguments, original=pipeline.compile_ttir):
        wait_for("compiling scale", terminal)
        return original(*arguments)

    monkeypatch.setattr(pipeline, "compile_ttir", slow)
    mlu.compile(scale, "*fp32:16, 64")
    assert terminal.getvalue().endswith("\x1b[2K")
