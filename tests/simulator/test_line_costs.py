"""Costs by source line: they are those of the whole launch, and stand where the kernel says what costs them."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.simulator.line_costs import line_costs
from mlutriton.simulator.replay import replay
from mlutriton.simulator.replay.timing import Cause


@mlu.jit
def softmax(out, x, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row + column, mask=mask, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row + column, powers / tl.sum(powers, axis=0), mask=mask)


@mlu.jit
def histogram(counts, place, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(counts + tl.load(place + offsets), 1)


def line_of(kernel, text):
    lines, first = inspect.getsourcelines(kernel.fn)
    return next(first + number for number, line in enumerate(lines) if text in line)


def softmax_run(launch=lambda *arguments: softmax[(60,)](*arguments, 1000, BLOCK=1024)):
    x = np.random.default_rng(0).standard_normal((60, 1000), dtype=np.float32)
    return launch(np.empty_like(x), x)


def histogram_run():
    place = np.arange(20 * 64, dtype=np.int32) % 50
    return histogram[(20,)](np.zeros(50, np.int32), place, BLOCK=64)


@pytest.mark.parametrize("launch", [softmax_run, histogram_run], ids=["softmax", "histogram"])
def test_costs_of_lines_are_those_of_the_launch(launch):
    run = launch()
    lines = run.lines().values()
    spent = run.core_cycles
    waits = sum(spent) - spent.launch - spent.dispatch - spent.issue - spent.tail_idle
    assert sum(line.stalled_cycles for line in lines) == waits
    assert sum(line.scalar_cycles for line in lines) == spent.issue
    assert sum(line.compute_cycles for line in lines) == run.timing.compute_busy_cycles.sum()
    assert sum(line.io_cycles for line in lines) == run.timing.io_busy_cycles.sum()
    assert sum(line.move_cycles for line in lines) == run.timing.move_busy_cycles.sum()


def test_costs_stand_at_their_lines():
    costs = softmax_run().lines()
    file = inspect.getsourcefile(softmax.fn)
    load, exp, store = (costs[file, line_of(softmax, text)] for text in ("tl.load", "tl.exp", "tl.store"))
    assert load.bytes == store.bytes == 60 * 1000 * 4
    assert load.io_cycles > 0
    assert load.compute_cycles == 0
    assert exp.compute_cycles > 0
    assert exp.io_cycles == 0
    stalls = [line.stall_cycles for line in costs.values()]
    assert sum(each.get(Cause.WAIT_IO_LATENCY, 0) for each in stalls) > 0


def test_items_count_their_bytes():
    costs = histogram_run().lines()
    line = costs[inspect.getsourcefile(histogram.fn), line_of(histogram, "atomic_add")]
    assert line.bytes == 2 * 20 * 64 * 4


def test_both_engines_and_cycles_alone_agree(monkeypatch):
    costs = softmax_run().lines()
    specs = softmax_run(lambda out, x: mlu.estimate(softmax, (60,), out, x, 1000, BLOCK=1024))
    assert specs.lines() == costs
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    assert softmax_run().lines() == costs


def test_costs_need_events():
    run = softmax_run()
    with pytest.raises(ValueError, match="events"):
        line_costs(run.program, run.machine, run.trace, replay(run.trace, run.machine), run.instruction_work)


def test_timeline_names_lines(tmp_path):
    events = json.loads(softmax_run().timeline(tmp_path / "softmax.json").read_text())["traceEvents"]
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert f"load test_line_costs.py:{line_of(softmax, 'tl.load')}" in names
    assert f"store test_line_costs.py:{line_of(softmax, 'tl.store')}" in names
    assert any(name.startswith("compute test_line_costs.py:") for name in names)
