"""Recordings come back as they were, and what is no recording is refused."""

import json
import random
import zipfile

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.diagnostics import ArgumentError, ProgramError
from mlutriton.isa.trace_format import WAIT_ALL, Extent, Kind, Record
from mlutriton.simulator.recording import check_trace
from mlutriton.simulator.replay import Trace
from mlutriton.simulator.report import Run


@mlu.jit
def scaled_rows(out, x, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row + column, mask=mask, other=0.0)
    tl.store(out + row + column, values / tl.sum(values, axis=0), mask=mask)


@mlu.jit
def gathered(out, x, place, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + tl.load(place + offsets)))


def rows_run(rows=70):
    x = np.random.default_rng(0).random((rows, 200), dtype=np.float32)
    return scaled_rows[(rows,)](np.empty_like(x), x, 200, BLOCK=256)


def gathered_run():
    x = np.arange(4096, dtype=np.float32)
    place = np.random.default_rng(0).permutation(4096).astype(np.int32)
    return gathered[(64,)](np.empty_like(x), x, place, BLOCK=64)


@pytest.mark.parametrize("launch", [rows_run, gathered_run])
def test_a_recording_comes_back(tmp_path, launch):
    run = launch()
    loaded = Run.load(run.save(tmp_path / "a.mlurun"))
    assert str(loaded) == str(run)
    assert loaded.to_json() == run.to_json()
    assert loaded.lines() == run.lines()
    assert loaded.program == run.program
    assert loaded.machine == run.machine
    assert "def gathered(" in next(iter(loaded.sources.values()))
    assert loaded.save(tmp_path / "b.mlurun").read_bytes() == (tmp_path / "a.mlurun").read_bytes()
    run.timeline(tmp_path / "a.json")
    loaded.timeline(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_recording_of_another_machine_is_replayed_there(tmp_path):
    run = rows_run()
    slower = run.machine.replace(dram_gb_per_s=100)
    loaded = Run.load(run.save(tmp_path / "a.mlurun"))
    assert loaded.what_if(slower).cycles == run.what_if(slower).cycles > run.cycles


def test_a_program_that_divided_the_grid_among_cores_keeps_their_number():
    run = rows_run()
    assert run.program.is_resident
    with pytest.raises(ArgumentError, match="what_if cannot change clusters"):
        run.what_if(run.machine.replace(clusters=24))


def test_whatever_is_damaged_is_refused_or_makes_no_difference(tmp_path):
    run = rows_run(5)
    path = run.save(tmp_path / "a.mlurun")
    content = path.read_bytes()
    rng = random.Random(0)
    damaged = [content[: rng.randrange(len(content))] for _ in range(30)] + [b"", b"PK", content[1:]]
    for _ in range(300):
        place = rng.randrange(len(content))
        damaged.append(content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :])
    refusals = []
    for each in damaged:
        path.write_bytes(each)
        try:
            loaded = Run.load(path)
        except ProgramError as error:
            refusals.append(error.code)
        else:
            assert loaded.to_json() == run.to_json()
    assert set(refusals) == {"E0405"}
    assert len(refusals) > 0.9 * len(damaged)


def with_changed(path, **changes):
    """Write the recording anew, with some of its parts changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, change in changes.items():
        key = next(each for each in members if each.startswith(f"{name}."))
        members[key] = change(members[key])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def facts(**changed):
    return lambda text: json.dumps(json.loads(text) | changed).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"recording": facts(version=1)},
        {"recording": facts(format="other")},
        {"recording": facts(grid=[1, 2])},
        {"recording": facts(grid=[1, -2, 1])},
        {"recording": facts(counters=[1])},
        {"recording": facts(cores_per_program="x")},
        {"recording": lambda text: b"[]"},
        {"machine": lambda text: b'name = "x"\n'},
        {"program": lambda text: text[:-1]},
        {"sources": lambda text: b"3"},
        {"starts": lambda text: text[:40]},
        {"trace": lambda text: b"\x93NUMPY"},
        {"work": lambda text: text.replace(b"'<i8'", b"'<u8'")},
    ],
)
def test_a_recording_with_a_wrong_part_is_refused(tmp_path, changes):
    path = rows_run(5).save(tmp_path / "a.mlurun")
    with_changed(path, **changes)
    with pytest.raises(ProgramError, match="E0405"):
        Run.load(path)


END = Record(Kind.END)
BLOCK = Record(Kind.LOAD, 512, 1 << 20, scalar_cycles=1, extent=Extent(8, 8, 64, 8, 4096))
STRIDED = Record(Kind.LOAD, 64, 1 << 20, extent=Extent(8, 8, 64))


def trace(*records, starts=(0,)):
    words = [word for record in records for word in (record.words() if isinstance(record, Record) else record)]
    return Trace(np.array(words, np.int64), np.array(starts, np.int64))


@pytest.mark.parametrize(
    "good",
    [trace(END), trace(BLOCK, STRIDED, Record(Kind.SYNC, WAIT_ALL), END), trace(END, BLOCK, END, starts=(0, 1))],
)
def test_traces_of_programs_pass(good):
    check_trace(good, 1)


@pytest.mark.parametrize(
    "bad",
    [
        trace(BLOCK),
        trace(END, STRIDED),
        trace(END, END),
        trace(END, END, starts=(0, 0)),
        trace(END, END, starts=(0, 5)),
        trace(END, END, starts=(1,)),
        trace(END, BLOCK, END, starts=(0, 2)),
        trace(Record(Kind.LOCAL, instruction=7), END),
        trace((0, 14 << 32, 0), END),
        trace(BLOCK.words()[:3], END),
        trace(BLOCK.words()[:3]),
        trace((*BLOCK.words()[:3], 9 | 8 << 32, 64, 8 | 4096 << 16), END),
        trace((STRIDED.words()[0], STRIDED.words()[1] & ~0xFFFFFFFF, STRIDED.words()[2]), END),
        trace((STRIDED.words()[0], STRIDED.words()[1] + 1, STRIDED.words()[2]), END),
        trace(),
    ],
)
def test_ill_formed_traces_are_refused(bad):
    with pytest.raises(ValueError, match=r"\w"):
        check_trace(bad, 1)
