"""Native execution on host threads: the same for any number of them, interrupted, at once, and after a fork."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time

import numpy as np
import pytest

from mlutriton.codegen.llvm.translate import translate
from mlutriton.diagnostics import KernelFault
from mlutriton.isa.assembly import assemble
from mlutriton.isa.native_interface import CONTEXT_WORDS, Context
from mlutriton.simulator import execution as executions
from mlutriton.simulator.execution import NativeProgram, execute
from mlutriton.simulator.host_core import BUFFER_BYTES
from mlutriton.simulator.memory import Allocation, GlobalMemory
from mlutriton.simulator.native import compile_llvm
from tests.simulator.programs_by_hand import COPY, COPY_ALL, HEADER, MACHINE, STORE, prepared, run_text


def test_the_fault_of_the_first_program_is_reported_whatever_the_threads(runtime):
    text = "slt.i64 r5, r3, 57\nassert r5, 0\n" + COPY + "v.mov.f32 [b], [a], 1, 64\n" + STORE
    for threads in (1, 2, 7):
        with pytest.raises(KernelFault, match=r"program \(57, 0, 0\)"):
            run_text(text, runtime, grid=200, threads=threads)


def test_any_number_of_threads_gives_the_same(runtime):
    text = COPY + "v.exp.f32 [b], [a], 1, 64\nprint.scalar.i64 0, 0, r3\n" + STORE
    results = [run_text(text, runtime, grid=150, threads=threads) for threads in (1, 2, 7)]
    for out, execution in results[1:]:
        assert (out == results[0][0]).all()
        assert execution.trace.words.tolist() == results[0][1].trace.words.tolist()
        assert execution.trace.starts.tolist() == results[0][1].trace.starts.tolist()
        assert execution.counters == results[0][1].counters
        assert execution.work.by_instruction().tolist() == results[0][1].work.by_instruction().tolist()
        assert [each.program for each in execution.prints] == [(number, 0, 0) for number in range(150)]


def test_atomics_run_in_program_order(runtime):
    text = "uitofp.i64.f32 r5, r3\nfmul.f32 r5, r5, 0.1\natom.fadd.f32 r6, g[r0], r5\nexit"
    expected = np.float32(0)
    for number in range(300):
        expected += np.float32(number) * np.float32(0.1)
    for threads in (1, 7):
        out, _ = run_text(text, runtime, grid=300, threads=threads)
        assert out[0] == expected


def test_a_program_that_never_ends_can_be_interrupted(runtime):
    text = "again:\nadd.i64 r3, r3, 1\nslt.i64 r4, r3, 0\ncbr r4, end\nbr again\nend:\nexit"
    # Compiled before: an interrupt in one of LLVM's calls back to Python is lost.
    _, _, launch = prepared(text, runtime, 3)
    # Shells start what runs in the background without a handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            launch(2)
    finally:
        signal.signal(signal.SIGINT, before)
    timer.join()


COUNT_TO = "param r4, 2\nagain:\nadd.i64 r3, r3, 1\nslt.i64 r5, r3, r4\ncbr r5, again\nexit"


def test_the_calling_thread_takes_part_where_it_need_not_be_interrupted(runtime):
    program = assemble(HEADER + COUNT_TO)
    array = np.zeros(4, np.float32)
    memory = GlobalMemory([Allocation.of_array("x", array)])

    def native(depends_on_data):
        module = compile_llvm(translate(program, MACHINE), cache_key=None)
        loaded = NativeProgram(module, runtime, program, depends_on_data=lambda: depends_on_data)
        run, loaded.ran_here = loaded.run, False

        def noted(context):
            loaded.ran_here |= threading.current_thread() is threading.main_thread()
            run(context)

        loaded.run = noted
        return loaded

    def runs_here(loaded, n, grid=64):
        loaded.ran_here = False
        execute(loaded, (grid, 1, 1), [array.ctypes.data, array.ctypes.data, n], memory, MACHINE, 2)
        return loaded.ran_here

    steady, unsteady = native(False), native(True)
    assert [runs_here(steady, n) for n in (5, 5, 6, 6, 5)] == [False, True, False, True, True]
    assert [runs_here(steady, 5, grid) for grid in (64, 60, 60)] == [True, False, True]
    assert [runs_here(unsteady, 5) for _ in range(3)] == [False] * 3


def test_a_small_launch_in_between_says_nothing_of_one_that_is_known(runtime):
    program = assemble(HEADER + COUNT_TO)
    native = NativeProgram(compile_llvm(translate(program, MACHINE), cache_key=None), runtime, program)
    many, one, others = (native.likeness((programs, 1, 1), [0, 0, 7]) for programs in (100, 1, 200))
    native.note(many, 100, 20_000)
    native.note(one, 1, 9_000)
    assert native.is_done_before_shared(many, 100), "as it was the last time"
    assert not native.is_done_before_shared(others, 100), "as the last program was"
    native.note(many, 100, 1_000_000_000)
    assert not native.is_done_before_shared(many, 100)


def test_a_launch_that_was_interrupted_says_nothing_of_the_next(runtime):
    program = assemble(HEADER + COUNT_TO)
    array = np.zeros(4, np.float32)
    memory = GlobalMemory([Allocation.of_array("x", array)])
    module = compile_llvm(translate(program, MACHINE), cache_key=None)
    native = NativeProgram(module, runtime, program, depends_on_data=lambda: False)

    def launch(n):
        execute(native, (4, 1, 1), [array.ctypes.data, array.ctypes.data, n], memory, MACHINE, 2)

    launch(5)
    for _ in range(2):
        timer = threading.Timer(0.3, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            launch(1 << 62)
        timer.join()


def test_launches_leave_nothing_to_those_that_follow(runtime):
    _, _, large = prepared(COPY_ALL, runtime, 5000)  # its trace outgrows the first buffer
    _, _, small = prepared(COPY_ALL, runtime, 3)
    before = small(1)
    kept = before.trace.words.copy()
    large(1)
    with pytest.raises(KernelFault):
        run_text("dma.load.f32 [a], g[r1 + 900], 64, 1, 1, 0, 0, 0, 0\nexit", runtime, grid=1)
    after = small(1)
    assert (after.trace.words == kept).all()
    assert (before.trace.words == kept).all()
    assert after.counters == before.counters


def test_buffers_that_have_grown_are_kept_for_the_next_launch(runtime, monkeypatch):
    monkeypatch.setattr(executions, "_idle_cores", {})
    buffers = []
    for programs in (5000, 3, 5000):
        _, _, launch = prepared(COPY_ALL, runtime, programs)
        launch(1)
        ((core,),) = executions._idle_cores.values()
        buffers.append([core.context[word] for word in (Context.TRACE, Context.TRACE_END)])
    assert buffers[0][1] - buffers[0][0] > BUFFER_BYTES
    assert buffers[1:] == buffers[:1] * 2


@pytest.mark.parametrize("limit", [BUFFER_BYTES // 2, BUFFER_BYTES, 2 * BUFFER_BYTES, 3 * BUFFER_BYTES])
def test_a_buffer_that_is_kept_overflows_where_a_new_one_does(runtime, monkeypatch, limit):
    monkeypatch.setattr(executions, "_idle_cores", {})
    _, _, large = prepared(COPY_ALL, runtime, 4000)
    _, _, first = prepared(COPY_ALL, runtime, 3000)
    _, _, second = prepared(COPY_ALL, runtime, 3000)
    unlimited, reached = executions.recorded_bytes_limit, []
    for launch in (first, second):
        monkeypatch.setattr(executions, "recorded_bytes_limit", lambda: limit)
        with pytest.raises(KernelFault, match=f"{limit:,} bytes"):
            launch(1)
        ((core,),) = executions._idle_cores.values()
        reached.append(core.context[Context.COUNTERS : CONTEXT_WORDS])
        monkeypatch.setattr(executions, "recorded_bytes_limit", unlimited)
        large(1)
    assert any(reached[0])
    assert reached[0] == reached[1]


def test_python_threads_may_launch_at_once(runtime):
    launches = [prepared(COPY_ALL, runtime, grid) for grid in (3, 40, 700, 2000)]
    expected = [launch(1) for _, _, launch in launches]
    wrong = []

    def launch_often(number):
        out, x, launch = launches[number]
        for repetition in range(30):
            out[:] = 0
            got = launch(1 + repetition % 3)
            if not (out == x).all() or (got.trace.words != expected[number].trace.words).any():
                wrong.append((number, repetition))

    threads = [threading.Thread(target=launch_often, args=(number,)) for number in range(len(launches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, where there are threads
def test_a_forked_process_launches_on_threads_of_its_own(runtime):
    out, x, launch = prepared(COPY_ALL, runtime, 2000)
    launch(2)
    child = os.fork()
    if not child:
        out[:] = 0
        launch(2)
        os._exit(0 if (out == x).all() else 1)
    deadline = time.monotonic() + 20
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)
