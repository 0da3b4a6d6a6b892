"""Compiling in several threads: results and errors reach who asks for them, and forks wait."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from pathlib import Path

import pytest

from mlutriton import launch
from mlutriton.codegen.llvm.runtime import special_module
from mlutriton.isa.assembly import assemble
from mlutriton.isa.native_interface import NativeText
from mlutriton.simulator.compiling import Beside, compiling, uncollected
from mlutriton.simulator.memory import GlobalMemory
from mlutriton.simulator.native import CACHE_DIRECTORY_VARIABLE, begin_llvm, compile_llvm, kept_module
from tests.simulator.programs_by_hand import COPY, HEADER, MACHINE, STORE

ANSWER = "define i64 @answer() {\n  ret i64 42\n}\n"


def test_what_another_thread_finds() -> None:
    here = threading.get_ident()
    assert Beside(threading.get_ident).result() != here


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    def fail() -> None:
        raise KeyError("lost")

    failed = Beside(fail)
    for _ in range(2):
        with pytest.raises(KeyError, match="lost"):
            failed.result()


def test_a_process_forks_when_work_is_done() -> None:
    begun, goes_on = threading.Event(), threading.Event()
    done: list[bool] = []

    def work() -> None:
        begun.set()
        goes_on.wait()
        done.append(True)

    beside = Beside(work)
    begun.wait()
    threading.Timer(0.1, goes_on.set).start()
    child = os.fork()
    if child == 0:
        os._exit(0 if done and compiling.acquire(blocking=False) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    beside.result()


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_again_as_it_was(collects: bool) -> None:
    try:
        if not collects:
            gc.disable()
        with uncollected():
            with uncollected():
                assert not gc.isenabled()
            assert not gc.isenabled()
        assert gc.isenabled() == collects
    finally:
        gc.enable()


def test_who_asks_for_a_module_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_DIRECTORY_VARIABLE, str(tmp_path))
    texts: list[str] = []

    def make_text() -> str:
        time.sleep(0.1)
        texts.append(ANSWER)
        return ANSWER

    begin_llvm(make_text, cache_key="answer")
    module = compile_llvm(make_text, cache_key="answer")
    assert module.function("answer", [], ctypes.c_int64)() == 42
    begin_llvm(make_text, cache_key="answer")
    assert kept_module("answer") is not None
    assert len(texts) == 1


def test_what_a_program_calls_is_compiled_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_DIRECTORY_VARIABLE, str(tmp_path))
    makers: list[threading.Thread] = []

    def noted(function: str) -> str:
        makers.append(threading.current_thread())
        return special_module(function)

    monkeypatch.setattr("mlutriton.codegen.llvm.runtime.special_module", noted)
    for forget in (launch.runtime, launch._begin_runtime):
        forget.cache_clear()
    program = assemble(HEADER + COPY + "    v.transpose.f32 [b], [a], 1, 8, 8, 1\n" + STORE)
    for with_values in (False, True, True):
        kernel = launch.load_program(program, MACHINE, is_kept=False)
        kernel.native((1, 1, 1), [0, 0, 0], GlobalMemory(), with_values=with_values)
    assert len(makers) == 1
    assert makers[0] is not threading.main_thread()


@pytest.mark.parametrize(
    "text",
    [NativeText("no code", (ANSWER,)), NativeText(ANSWER, ("no code",)), NativeText(ANSWER, (), ("no code",))],
    ids=["control", "loops", "shared"],
)
def test_a_text_that_llvm_rejects(text: NativeText) -> None:
    with pytest.raises(RuntimeError, match="LLVM rejects the text"):
        compile_llvm(text, cache_key=None)
