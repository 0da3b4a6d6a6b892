"""What the checks of launches find, and what they leave alone."""

import contextlib
import inspect

import numpy as np
import pytest
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.checking import launches
from mlutriton.checking.findings import Kind
from mlutriton.checking.launches import checked
from tests.language.launching import since


def line_of(kernel, text):
    """The number of the line of a kernel that has a text in it."""
    lines, first = inspect.getsourcelines(kernel.fn)
    return next(number for number, line in enumerate(lines, first) if text in line)


@mlu.jit
def column_sums(out, x, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * BLOCK + column)
    before = tl.load(out + column)
    tl.store(out + column, before + row)


@mlu.jit
def atomic_sums(out, x, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    tl.atomic_add(out + column, tl.load(x + tl.program_id(0) * BLOCK + column))


@mlu.jit
def locked_sums(out, x, lock, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * BLOCK + column)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(out + column, tl.load(out + column) + row)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@mlu.jit
def last_one_reads(out, x, total, arrived, BLOCK: tl.constexpr, SEM: tl.constexpr = "acq_rel"):
    column = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * BLOCK + column)
    tl.store(out + tl.program_id(0), tl.sum(row, axis=0))
    if tl.atomic_add(arrived, 1, sem=SEM) == tl.num_programs(0) - 1:
        tl.store(total, tl.sum(tl.load(out + tl.arange(0, 4)), axis=0))


@mlu.jit
def covered_twice(out, x, n, BLOCK: tl.constexpr):
    place = tl.minimum(tl.program_id(0) * BLOCK, n - BLOCK) + tl.arange(0, BLOCK)
    tl.store(out + place, 2 * tl.load(x + place))


@mlu.jit
def shifted_in_place(x, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + place, tl.load(x + place + 1))


@mlu.jit
def scattered(out, places, x, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    tl.store(out + tl.load(places + column), tl.load(x + column))


@mlu.jit
def softmax(out, x, columns, BLOCK: tl.constexpr, SAFE: tl.constexpr):
    column = tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + tl.program_id(0) * columns + column, mask=mask, other=-float("inf"))
    if SAFE:
        values -= tl.max(values, axis=0)
    powers = tl.exp(values)
    tl.store(out + tl.program_id(0) * columns + column, powers / tl.sum(powers, axis=0), mask=mask)


@mlu.jit
def halved(out, x, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(out + place, (2 * tl.load(x + place)).to(tl.float16))


@mlu.jit
def roots(out, x, steps, BLOCK: tl.constexpr):
    values = tl.load(x + tl.arange(0, BLOCK))
    for _ in range(steps):
        values = tl.sqrt(values - 1)
    tl.store(out + tl.arange(0, BLOCK), values)


@mlu.jit
def waits(flag):
    if tl.program_id(0) == 0:
        while tl.load(flag, volatile=True) == 0:
            pass
    else:
        tl.atomic_xchg(flag, 1)


@mlu.jit
def hands_over(out, x, part, flag, VOLATILE: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    if tl.program_id(0) == 0:
        tl.store(part + column, 2 * tl.load(x + column))
        tl.atomic_xchg(flag, 1)
    else:
        while tl.load(flag, volatile=VOLATILE) == 0:
            pass
        tl.store(out + column, tl.load(part + column))


@mlu.jit
def hands_over_with_a_poll(out, x, part, flag, TOO_EARLY: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    if tl.program_id(0) == 0:
        if TOO_EARLY:
            tl.atomic_store(flag, 1)
        tl.store(part + column, 2 * tl.load(x + column))
        if not TOO_EARLY:
            tl.atomic_store(flag, 1)
    else:
        tl.atomic_poll(flag, 1)
        tl.store(out + column, tl.load(part + column))


@mlu.jit
def counts_while_one_reads(out, counts, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    if tl.program_id(0) == 0:
        tl.store(out + column, tl.load(counts + column))
    else:
        tl.atomic_add(counts + column, 1)


ROWS = np.random.default_rng(0).random((4, 32), dtype=np.float32)


def found(launch):
    """What a launch shows."""
    with checked() as checks:
        launch()
    assert checks.launches == 1
    return list(checks.findings)


def test_programs_that_add_to_one_place_race():
    [race] = found(lambda: column_sums[(4,)](np.zeros(32, np.float32), ROWS, BLOCK=32))
    assert race.kind is Kind.RACE
    assert race.summary == "a program reads element 0 of out, which another one wrote"
    assert race.location.line == line_of(column_sums, "before = tl.load(out")
    assert race.program == (1, 0, 0)
    [wrote, _] = race.notes
    assert wrote.startswith("program (0, 0, 0) wrote it at ")
    assert f".py:{line_of(column_sums, 'tl.store(out')}:" in wrote


def test_a_program_that_overwrites_what_another_reads_races():
    [race] = found(lambda: shifted_in_place[(3,)](np.arange(129, dtype=np.int16), BLOCK=32))
    assert race.summary == "a program writes element 32 of x, which another one read"


def test_a_program_that_counts_where_another_reads_races():
    [race] = found(lambda: counts_while_one_reads[(3,)](*np.zeros((2, 8), np.int32), BLOCK=8))
    assert race.summary == "a program writes element 0 of counts, which another one read"
    assert f".py:{line_of(counts_while_one_reads, 'tl.load(counts')}:" in race.notes[0]


@pytest.mark.parametrize(
    "launch",
    [
        lambda: atomic_sums[(4,)](np.zeros(32, np.float32), ROWS, BLOCK=32),
        lambda: locked_sums[(4,)](np.zeros(32, np.float32), ROWS, np.zeros(1, np.int32), BLOCK=32),
        lambda: last_one_reads[(4,)](
            np.zeros(4, np.float32), ROWS, np.zeros(1, np.float32), np.zeros(1, np.int32), BLOCK=32
        ),
        lambda: covered_twice[(4,)](np.zeros(100, np.float32), ROWS, 100, BLOCK=32),
    ],
    ids=["atomics", "a lock", "a counter", "equal values"],
)
def test_what_is_ordered_or_equal_is_no_race(launch):
    assert not found(launch)


def test_a_relaxed_counter_orders_nothing():
    out, total, arrived = np.zeros(4, np.float32), np.zeros(1, np.float32), np.zeros(1, np.int32)
    [race] = found(lambda: last_one_reads[(4,)](out, ROWS, total, arrived, BLOCK=32, SEM="relaxed"))
    assert race.summary == "a program reads element 0 of out, which another one wrote"


def handed_over(kernel, choice):
    """What is found where one program hands a row to another."""
    out, part = np.zeros((2, 32), np.float32)
    races = found(lambda: kernel[(2,)](out, ROWS[0], part, np.zeros(1, np.int32), choice, BLOCK=32))
    np.testing.assert_array_equal(out, 2 * ROWS[0])
    return [race.summary for race in races]


def test_what_is_read_behind_a_volatile_load_of_a_flag_is_no_race():
    assert not handed_over(hands_over, True)
    # Triton leaves out a loop that looks at nothing that could change.
    assert handed_over(hands_over, False) == ["a program reads element 0 of part, which another one wrote"]


@since(3, 9)
def test_what_is_read_behind_a_poll_of_a_flag_is_no_race():
    assert not handed_over(hands_over_with_a_poll, False)
    assert handed_over(hands_over_with_a_poll, True) == ["a program reads element 0 of part, which another one wrote"]


def test_an_element_that_one_store_writes_twice_is_a_race():
    places = np.arange(32, dtype=np.int32) % 31
    [race] = found(lambda: scattered[(1,)](np.zeros(32, np.float32), places, ROWS, BLOCK=32))
    assert race.summary == "one store writes element 0 of out twice, with different values"
    assert not found(lambda: scattered[(1,)](np.zeros(32, np.float32), places, np.ones_like(ROWS), BLOCK=32))


def test_a_nan_leads_to_the_infinity_that_it_was_made_of():
    x = 1000 * ROWS[:, :30].copy()
    [nan] = found(lambda: softmax[(4,)](np.empty_like(x), x, 30, BLOCK=32, SAFE=False))
    assert (nan.kind, nan.times) == (Kind.NOT_A_NUMBER, 4)
    [made, of] = nan.notes
    assert "fdiv(inf, inf) = nan" in made
    assert "exp(" in of
    assert f".py:{line_of(softmax, 'powers = tl.exp')}:" in of


def test_infinities_that_are_meant_are_no_finding():
    x = 100 * ROWS[:, :30].copy()
    x[:, 5] = -np.inf
    assert not found(lambda: softmax[(4,)](np.empty_like(x), x, 30, BLOCK=32, SAFE=True))


def test_a_number_that_is_too_large_for_its_type():
    x = np.full(16, 40_000, np.float32)
    [infinity] = found(lambda: halved[(1,)](np.empty(16, np.float16), x, BLOCK=16))
    assert infinity.kind is Kind.INFINITY
    assert infinity.summary == "16 of 16 elements that are stored"
    assert infinity.notes[0].endswith("fpcast(80000.0) = inf")


def test_a_nan_that_goes_round_a_loop_is_found_where_it_was_made():
    [nan] = found(lambda: roots[(1,)](np.empty(16, np.float32), np.full(16, 1.5, np.float32), 4, BLOCK=16))
    assert nan.notes[0].endswith(f"sqrt({np.sqrt(np.float32(0.5)) - 1}) = nan")


def test_a_nan_that_is_passed_is_said_to_be_loaded():
    x = np.full((1, 30), np.nan, np.float32)
    [nan] = found(lambda: softmax[(1,)](np.empty_like(x), x, 30, BLOCK=32, SAFE=True))
    assert nan.notes[0].endswith("it was loaded")


def test_launches_compute_what_they_do_without_checks():
    out, x = np.zeros((4, 30), np.float32), ROWS[:, :30].copy()
    found(lambda: softmax[(4,)](out, x, 30, BLOCK=32, SAFE=True))
    np.testing.assert_allclose(out, np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), rtol=1e-5)
    sums = np.zeros(32, np.float32)
    found(lambda: atomic_sums[(4,)](sums, ROWS, BLOCK=32))
    np.testing.assert_allclose(sums, ROWS.sum(axis=0), rtol=1e-5)


def test_a_fault_is_the_launch_s_own():
    with checked() as checks, pytest.raises(mlu.KernelFault, match="E0301"):
        column_sums[(5,)](np.zeros(32, np.float32), ROWS, BLOCK=32)
    assert [each.kind for each in checks.findings] == [Kind.RACE]


def test_programs_that_take_long_are_passed_over(monkeypatch):
    monkeypatch.setattr(launches, "MOST_OPERATIONS", 100)
    with checked() as checks:
        roots[(1,)](np.empty(16, np.float32), np.full(16, 1.5, np.float32), 50, BLOCK=16)
    assert checks.launches == 0
    assert list(checks.passed_over.values()) == [1]


@mlu.jit
def meets(out, parts, arrived, total, BLOCK: tl.constexpr, MEETS: tl.constexpr):
    """Each program takes what the one behind it has left, and where that is too large to be a number, the quotient."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.arange(0, BLOCK)
    infinite = tl.exp(100.0 * (program + 1))
    tl.store(parts + program * BLOCK + column, program + column)
    if MEETS:
        tl.atomic_add(arrived, 1)
        while tl.atomic_add(arrived, 0) < total:
            pass
    behind = (program + 1) % programs
    tl.store(out + program * BLOCK + column, tl.load(parts + behind * BLOCK + column) + infinite)


def meeting(programs, total, meeting=True):
    out, parts = np.zeros((programs, 8), np.float32), np.zeros((programs, 8), np.int32)
    with checked() as checks, contextlib.suppress(mlu.KernelFault):
        meets[(programs,)](out, parts, np.zeros(1, np.int32), total, BLOCK=8, MEETS=meeting)
    return checks


def test_programs_that_wait_for_later_ones_are_checked():
    assert not found(lambda: waits[(2,)](np.zeros(1, np.int32)))
    checks = meeting(5, 5)
    assert checks.launches == 1
    # What a program has made before it waits is known behind that, and whose it is.
    [infinity] = checks.findings
    assert (infinity.kind, infinity.times, infinity.program) == (Kind.INFINITY, 5, (4, 0, 0))
    assert infinity.notes[0].endswith("exp(500.0) = inf")


def test_programs_that_do_not_wait_for_what_they_read_race():
    assert Kind.RACE in [each.kind for each in meeting(5, 5, meeting=False).findings]


def test_what_is_not_checked_is_counted():
    with checked(most_launches=2) as checks:
        for _ in range(5):
            atomic_sums[(4,)](np.zeros(32, np.float32), ROWS, BLOCK=32)
        mlu.estimate(atomic_sums, (3,), mlu.spec((32,), "fp32"), mlu.spec((4, 32), "fp32"), BLOCK=32)
    assert checks.launches == 2
    assert sum(checks.passed_over.values()) == 4


def test_plain_kernels_of_triton_are_checked():
    plain = triton.jit(column_sums.fn)
    out, x = mlu.array(np.zeros(32, np.float32)), mlu.array(ROWS)
    [race] = found(lambda: plain[(4,)](out, x, BLOCK=32))
    assert race.kernel == "column_sums"
