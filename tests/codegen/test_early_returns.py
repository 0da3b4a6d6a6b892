"""Programs that do something only if a number from memory allows it are served together, and store where one says."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of

ENGINES = ["native", "interpreter"]


@mlu.jit
def into_slots(x, scales, out, norms, slots, N: tl.constexpr):
    t = tl.program_id(0)
    slot = tl.load(slots + t)
    if slot < 0:
        return
    i = tl.arange(0, N)
    row = tl.load(x + t * N + i) * tl.load(scales + i)
    tl.store(out + slot * N + i, row)
    tl.store(norms + slot, tl.sum(row * row, axis=0))


@mlu.jit
def into_slots_as_a_mask(x, scales, out, norms, slots, N: tl.constexpr):
    t = tl.program_id(0)
    slot = tl.load(slots + t)
    i = tl.arange(0, N)
    mask = (i < N) & (slot >= 0)
    row = tl.load(x + t * N + i, mask=mask, other=0.0) * tl.load(scales + i)
    tl.store(out + slot * N + i, row, mask=mask)
    tl.store(norms + slot, tl.sum(row * row, axis=0), mask=slot >= 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("kernel", [into_slots, into_slots_as_a_mask])
def test_programs_may_return_early(kernel, dtype, engine, monkeypatch):
    """What they would have loaded lies outside of the array: nothing is, so that there is no fault."""
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(0)
    x, scales = rng.standard_normal((300, 128), np.float32), rng.standard_normal(128, np.float32)
    slots = np.full(400, -1, dtype)
    slots[:300] = rng.permutation(350)[:300]
    slots[5:300:7] = -3
    out, norms = np.full((350, 128), 7, np.float32), np.full(350, 7, np.float32)
    expected, squares = out.copy(), norms.copy()
    taken = np.flatnonzero(slots[:300] >= 0)
    expected[slots[taken]] = x[taken] * scales
    squares[slots[taken]] = (expected[slots[taken]] ** 2).sum(axis=1)
    kernel[(400,)](x, scales, out, norms, slots, N=128)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_allclose(norms, squares, rtol=1e-5)


def test_returning_early_costs_little():
    x, out = np.ones((2000, 256), np.float32), np.zeros((2000, 256), np.float32)
    slots, norms, scales = np.arange(2000), np.zeros(2000, np.float32), np.ones(256, np.float32)
    run = into_slots[(2000,)](x, scales, out, norms, slots, N=256)
    assert not any(each.row.name == "ldg" for each in run.program.instructions)
    assert run.cycles < 4 * run.work_bound_cycles


@mlu.jit
def one_or_the_other(x, y, out, flags, N: tl.constexpr):
    t, i = tl.program_id(0), tl.arange(0, N)
    flag = tl.load(flags + t)
    if flag > 0:
        row = tl.load(x + t * N + i)
        if flag > 1:
            row += tl.load(y + t * N + i)
            tl.store(out + t * N + i, row)
    else:
        row = -tl.load(y + t * N + i)
        tl.store(out + t * N + i, row)
    if t % 2 == 0:
        tl.store(x + t * N + i, row)


@pytest.mark.parametrize("engine", ENGINES)
def test_branches_exclude_each_other(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((100, 64), np.float32) for _ in range(2))
    flags, out = rng.integers(0, 3, 100, np.int32), np.full((100, 64), 7, np.float32)
    which = flags[:, None]
    row = np.where(which > 1, x + y, np.where(which > 0, x, -y))
    expected, changed = np.where(which == 1, out, row), np.where(np.arange(100)[:, None] % 2, x, row)
    one_or_the_other[(100,)](x, y, out, flags, N=64)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(x, changed)


@mlu.jit
def halves_to_places(x, out, places, lengths, N: tl.constexpr, TWICE: tl.constexpr):
    """Rows with a gap between them, of which memory says where they go and how many there are."""
    t = tl.program_id(0)
    row, column = tl.arange(0, 16)[:, None], tl.arange(0, N // 2)[None, :]
    mask = (row < tl.load(lengths + t)) & (column < N)
    tile = tl.load(x + t * 16 * N + row * N + column, mask=mask, other=1.0) + 1.0
    place = tl.load(places + t)
    if TWICE:
        tl.store(out + place * 16 * N + row * N + column, tile + 5.0, mask=mask)
    tl.store(out + place * 16 * N + row * N + column, tile, mask=mask)


def launched(count, *, twice=False, dtype=np.int64):
    rng = np.random.default_rng(count)
    x, out = rng.standard_normal((count, 16, 128), np.float32), np.full((count, 16, 128), 7, np.float32)
    places, lengths = rng.permutation(count).astype(dtype), rng.integers(0, 17, count, np.int32)
    run = halves_to_places[(count,)](x, out, places, lengths, N=128, TWICE=twice)
    expected = np.full_like(out, 7)
    for t, (place, length) in enumerate(zip(places, lengths, strict=True)):
        expected[place, :length, :64] = x[t, :length, :64] + 1
    np.testing.assert_array_equal(out, expected)
    return run


@pairs_of(("count", [1, 3, 200, 500]), ("twice", [False, True]), ("dtype", [np.int32, np.int64]), ("engine", ENGINES))
def test_stores_look_up_where_they_go(count, twice, dtype, engine, monkeypatch):
    """Also where one program stores twice to the same place: the last one stays."""
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    launched(count, twice=twice, dtype=dtype)


def test_stores_do_not_wait_for_what_they_look_up():
    plain = [each for each in launched(500).program.instructions if each.row.name in ("ldg", "lds")]
    assert plain
    assert all(each.row.name == "lds" for each in plain)


@mlu.jit
def looks_up_what_it_wrote(table, x, out, N: tl.constexpr):
    t = tl.program_id(0)
    row, column = tl.arange(0, 4)[:, None], tl.arange(0, N // 2)[None, :]
    tl.store(table + t, tl.load(table + t) + 1)
    place = tl.load(table + t)
    tile = tl.load(x + t * 4 * N + row * N + column) + 1.0
    tl.store(out + place * 4 * N + row * N + column, tile)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_table_that_a_program_writes_is_read_behind_that(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    x, out = np.random.default_rng(2).standard_normal((150, 4, 64), np.float32), np.zeros((152, 4, 64), np.float32)
    table = np.arange(150)
    looks_up_what_it_wrote[(150,)](table, x, out, N=64)
    np.testing.assert_array_equal(out[1:151, :, :32], x[:, :, :32] + 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_table_among_what_is_stored_is_read_in_turn(engine, monkeypatch):
    """A program's places lie in the part of an array that it stores to itself."""
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    memory = np.zeros((64, 16, 128), np.int32)
    places = np.random.default_rng(3).permutation(64).astype(np.int32)
    table = memory.reshape(-1)[64 * 127 : 64 * 127 + 64]
    table[:] = places
    x = np.random.default_rng(4).standard_normal((64, 16, 128), np.float32)
    out = memory.view(np.float32)
    halves_to_places[(64,)](x, out, table, np.full(64, 16, np.int32), N=128, TWICE=False)
    expected = np.zeros_like(out)
    for t, place in enumerate(places):
        expected[place, :, :64] = x[t, :, :64] + 1
    np.testing.assert_array_equal(out[:, :, :64], expected[:, :, :64])


@mlu.jit
def said_and_asserted(x, numbers, N: tl.constexpr):
    row = tl.load(x + tl.program_id(0) * N + tl.arange(0, N))
    number = tl.load(numbers + tl.program_id(0))
    tl.device_assert(number > 0, "a number is not positive")
    tl.device_print("number", number)
    tl.device_print("row", row)


def test_what_is_looked_up_only_to_be_said_or_asserted_is(capfd):
    numbers, x = np.arange(5, 0, -1).astype(np.int32), np.arange(10, dtype=np.float32)
    said_and_asserted[(5,)](x, numbers, N=2, debug=True)
    wanted = [[f"idx () number: {5 - p}", f"idx (0) row: {2 * p}.000000", f"idx (1) row: {2 * p + 1}.000000"]
              for p in range(5)]  # fmt: skip
    assert capfd.readouterr().out.splitlines() == [
        f"pid ({p}, 0, 0) {each}" for p, lines in enumerate(wanted) for each in lines
    ]
    numbers[3] = 0
    with pytest.raises(mlu.KernelFault, match="a number is not positive") as caught:
        said_and_asserted[(5,)](x, numbers, N=2, debug=True)
    assert "program (3, 0, 0)" in str(caught.value)
