"""Known launches run what Triton would run, and Triton is asked wherever that might be something else."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import triton
from triton import knobs
from triton.runtime.jit import JITFunction

import mlutriton as mlu
import mlutriton.language as tl

SCALE = tl.constexpr(2)


@mlu.jit
def scale(out, x, n, factor, BLOCK: tl.constexpr, ADDED: tl.constexpr = 1):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < n)
    tl.store(out + at, values * factor + ADDED, mask=at < n)


@mlu.jit
def shifted(out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, at + SCALE)


@pytest.fixture
def asked() -> Generator[mock.Mock]:
    """What Triton is asked to launch."""
    with mock.patch.object(JITFunction, "run", autospec=True, side_effect=JITFunction.run) as run:
        yield run


def test_arrays_of_the_same_types_need_no_triton(asked: mock.Mock) -> None:
    kernel = mlu.jit(scale.fn)
    for number in range(5):
        x, out = np.full(100, number, np.float32), np.zeros(100, np.float32)
        run = kernel[(2,)](out, x, 100, 2.5, BLOCK=64)
        assert out.tolist() == [number * 2.5 + 1] * 100
        assert run.programs == 2
        assert run.kernel == "scale"
    assert asked.call_count == 2, "the first time, and the second one to learn what was found"


def test_a_grid_may_be_another_and_a_function_of_the_arguments(asked: mock.Mock) -> None:
    kernel = mlu.jit(scale.fn)
    x, out = np.ones(300, np.float32), np.zeros(300, np.float32)
    for _ in range(2):
        kernel[(1,)](out, x, 300, 2.0, BLOCK=64)
    seen: list[dict[str, Any]] = []

    def grid(meta: dict[str, Any]) -> tuple[int]:
        seen.append(dict(meta))
        return (-(-meta["n"] // meta["BLOCK"]),)

    run = kernel[grid](out, x, 300, 2.0, BLOCK=64)
    assert (run.programs, out.tolist()) == (5, [3.0] * 300)
    assert asked.call_count == 2
    meta = seen[0]
    assert list(meta) == ["out", "x", "n", "factor", "BLOCK", "ADDED"]
    assert (meta["n"], meta["factor"], meta["ADDED"], meta["x"].shape) == (300, 2.0, 1, (300,))
    with pytest.raises(mlu.MluError, match="E0104"):
        kernel[(-1,)](out, x, 300, 2.0, BLOCK=64)


@pytest.mark.parametrize(
    "change",
    [
        {"n": 64},
        {"factor": 3},
        {"factor": True},
        {"factor": 0.0},
        {"ADDED": 2},
        {"ADDED": True},
        {"BLOCK": 32},
        {"num_warps": 8},
        {"x": np.ones(101, np.float32)[1:]},
        {"x": np.ones(100, np.float64)},
        {"out": np.zeros(100, np.int32)},
    ],
    ids=str,
)
def test_triton_is_asked_about_anything_else(change: dict[str, Any], asked: mock.Mock) -> None:
    kernel = mlu.jit(scale.fn)
    arguments: dict[str, Any] = {"x": np.ones(100, np.float32), "n": 100, "factor": 2.0, "BLOCK": 64}
    other = arguments | change
    for given, times in ((arguments, 1), (arguments, 2), (arguments, 2), (other, 3), (arguments, 3), (other, 4)):
        given = {"out": np.zeros(100, np.float32)} | given
        kernel[(4,)](**given)
        assert asked.call_count == times
        n, factor, added = given["n"], given["factor"], given.get("ADDED", 1)
        assert given["out"].tolist() == [factor + added] * n + [0] * (100 - n)


def test_hooks_are_called(asked: mock.Mock) -> None:
    kernel, out = mlu.jit(shifted.fn), np.zeros(4, np.int32)
    called: list[str] = []

    def note(*_: Any, **__: Any) -> None:
        called.append("launch")

    for _ in range(3):
        kernel[(1,)](out, BLOCK=4)
    knobs.runtime.launch_enter_hook.add(note)
    try:
        kernel[(1,)](out, BLOCK=4)
    finally:
        knobs.runtime.launch_enter_hook.remove(note)
    kernel.add_pre_run_hook(note)
    kernel[(1,)](out, BLOCK=4)
    assert called == ["launch", "launch"]
    assert asked.call_count == 4


def test_a_constant_of_the_module_that_has_changed_is_an_error() -> None:
    kernel, out = mlu.jit(shifted.fn), np.zeros(4, np.int32)
    for _ in range(3):
        kernel[(1,)](out, BLOCK=4)
    assert out.tolist() == [2, 3, 4, 5]
    with mock.patch.dict(globals(), SCALE=tl.constexpr(9)), pytest.raises(Exception, match="SCALE has changed"):
        kernel[(1,)](out, BLOCK=4)


def test_another_machine_has_code_of_its_own(asked: mock.Mock) -> None:
    kernel, out = mlu.jit(shifted.fn), np.zeros(4, np.int32)
    machines = mlu.machine("mlu590-m9"), mlu.machine("mlu370-x4")
    try:
        for machine in (*machines, *machines):
            mlu.set_machine(machine)
            assert [kernel[(1,)](out, BLOCK=4).machine for _ in range(3)] == [machine] * 3
    finally:
        mlu.set_machine(machines[0])
    assert asked.call_count == 5, "the last machine alone is known"


def test_what_triton_has_forgotten_is_compiled_anew(asked: mock.Mock) -> None:
    kernel, out = mlu.jit(shifted.fn), np.zeros(4, np.int32)
    for _ in range(3):
        kernel[(1,)](out, BLOCK=4)
    kernel.device_caches.clear()
    for _ in range(3):
        kernel[(1,)](out, BLOCK=4)
    assert asked.call_count == 3


def test_few_launches_are_kept(asked: mock.Mock) -> None:
    kernel, out = mlu.jit(scale.fn), np.zeros(1000, np.float32)
    x = np.ones(1000, np.float32)
    for n in (*range(1, 200), 199, 199, 199, 1, 1, 1):
        kernel[(16,)](out, x, n, 2.0, BLOCK=64)
    assert out.tolist() == [3.0] * 199 + [0.0] * 801
    assert asked.call_count == 199 + 1 + 2


def test_a_launch_is_made_again_only_for_the_same_memory() -> None:
    kernel = mlu.jit(scale.fn)
    space = np.arange(4000, dtype=np.float32)
    for number in range(3):
        for first, step, programs in ((0, 1, 2), (64, 1, 2), (64, 2, 2), (64, 2, 1), (0, 1, 2), (0, 1, 2)):
            out = np.zeros(128, np.float32)
            part = space[first : first + 128 * step : step]
            part[0] = number
            expected = space[first : first + 64 * programs] * 2.0 + 1
            kernel[(programs,)](out, part, 128, 2.0, BLOCK=64)
            assert out.tolist() == [*expected.tolist(), *[0.0] * (128 - 64 * programs)]


def test_memory_that_is_no_longer_enough_is_a_fault_again() -> None:
    kernel, space = mlu.jit(scale.fn), np.ones(128, np.float32)
    out = np.zeros(128, np.float32)
    for size in (128, 128, 128, 100, 128, 100):
        if size == 128:
            kernel[(2,)](out, space[:size], 128, 2.0, BLOCK=64)
            continue
        with pytest.raises(mlu.MluError, match="E0301"):
            kernel[(2,)](out, space[:size], 128, 2.0, BLOCK=64)
    out.flags.writeable = False
    with pytest.raises(mlu.MluError, match="E0307"):
        kernel[(2,)](out, space, 128, 2.0, BLOCK=64)


def test_cycles_alone_need_no_triton(asked: mock.Mock) -> None:
    kernel = mlu.jit(scale.fn)
    x, out = np.ones(300, np.float32), np.zeros(300, np.float32)
    cycles = kernel[(5,)](out, x, 300, 2.0, BLOCK=64).cycles
    for specs in ([mlu.spec((300,), np.float32) for _ in range(2)] for _ in range(3)):
        for _ in range(2):
            run = mlu.estimate(kernel, (5,), *specs, 300, 2.0, BLOCK=64)
            assert (run.cycles, run.with_values) == (cycles, False)
    assert asked.call_count == 3, "of specs, the second time and the first one"
    assert out.tolist() == [3.0] * 300
    assert mlu.estimate(kernel, (5,), *(mlu.spec((300,), np.float64) for _ in range(2)), 300, 2.0, BLOCK=64).cycles
    assert asked.call_count == 4


def test_faults_are_those_of_any_launch() -> None:
    kernel = mlu.jit(scale.fn)
    x, out = np.ones(100, np.float32), np.zeros(100, np.float32)
    for _ in range(2):
        kernel[(2,)](out, x, 100, 2.0, BLOCK=64)
    short = np.zeros(50, np.float32)
    with pytest.raises(mlu.MluError, match="E0301"):
        kernel[(2,)](short, x, 100, 2.0, BLOCK=64)


def test_grids_divide_as_triton_does() -> None:
    for x, y in ((7, 2), (-7, 2), (0, 3), (np.int32(7), 2), (tl.constexpr(7), tl.constexpr(2)), (True, 2)):
        assert triton.cdiv(x, y) == (int(x) + int(y) - 1) // int(y)
    assert triton.cdiv(x=9, y=4) == 3
    assert triton.next_power_of_2(5) == 8
