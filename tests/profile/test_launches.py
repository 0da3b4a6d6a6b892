"""Launches are gathered by what was launched, from any thread, and only so many runs are held."""

import threading

import numpy as np
from kernels import gathered_run, softmax, softmax_run

import mlutriton as mlu
from mlutriton.profile import Launches, record


def test_launches_of_one_program_and_grid_are_one_group():
    with record() as launches:
        first = softmax_run(rows=20)
        softmax_run(rows=20)
        other = softmax_run(rows=40)
        gathered_run()
    softmax_run(rows=20)
    groups = {(group.kernel, group.grid): group for group in launches.groups()}
    assert {key: group.launches for key, group in groups.items()} == {
        ("softmax", (20, 1, 1)): 2,
        ("softmax", (40, 1, 1)): 1,
        ("gathered", (96, 1, 1)): 1,
    }
    group = groups["softmax", (20, 1, 1)]
    assert (group.cycles, group.least_cycles, group.most_cycles) == (2 * first.cycles, first.cycles, first.cycles)
    assert groups["softmax", (40, 1, 1)].slowest is other
    times = [group.time_us for group in launches.groups()]
    assert times == sorted(times, reverse=True)


def test_machines_are_told_apart():
    with record() as launches:
        softmax_run(rows=20)
        mlu.set_machine(mlu.machine("mlu590-m9").replace(name="slow", dram_gb_per_s=100.0))
        try:
            softmax_run(rows=20)
        finally:
            mlu.set_machine("mlu590-m9")
    assert [group.machine for group in launches.groups()] == ["slow", "mlu590-m9"]


def test_runs_that_took_least_are_let_go():
    launches = Launches(most_runs_kept=2)
    for rows in (30, 100, 500, 20):
        launches.add(softmax_run(rows=rows))
    kept = {group.grid[0]: group.slowest is not None for group in launches.groups()}
    assert kept == {500: True, 100: True, 30: False, 20: False}
    assert sum(group.launches for group in launches.groups()) == 4


def test_threads_launch_at_once():
    x = np.ones((8, 500), np.float32)

    def work():
        for _ in range(10):
            softmax[(8,)](np.empty_like(x), x, 500, BLOCK=512)

    with record() as launches:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [group.launches for group in launches.groups()] == [40]


def test_estimates_are_launches_too():
    with record() as launches:
        array = mlu.spec((64, 500), np.float32)
        run = mlu.estimate(softmax, (64,), array, array, 500, BLOCK=512)
    [group] = launches.groups()
    assert group.slowest is run


def test_programs_of_one_kernel_are_told_apart_by_their_constants():
    with record() as launches:
        softmax_run(rows=20, columns=500)
        softmax_run(rows=20, columns=600)
    assert {group.variant for group in launches.groups()} == {
        "BLOCK=512, num_stages=2, num_warps=1",
        "BLOCK=1024, num_stages=2, num_warps=1",
    }
