"""What a kernel says while it runs, and where it stops itself."""

import numpy as np
import pytest
import triton

import mlutriton as mlu
import mlutriton.language as tl
from tests.language.launching import call

pytestmark = pytest.mark.usefixtures("each_engine")


@mlu.jit
def says(x, BLOCK: tl.constexpr):
    k = tl.program_id(0)
    values = tl.load(x + tl.arange(0, BLOCK))
    tl.device_print("program", k)
    tl.device_print("both: ", values + k, k * 0.5)
    tl.device_print("no values")
    print("words", k, hex=True)
    tl.device_print("flags", values > 2, tl.sum(values))


def test_prints_in_the_order_of_programs(capfd):
    x = np.arange(4, dtype=np.float32)
    run = says[(3,)](x, BLOCK=4)
    lines = capfd.readouterr().out.splitlines()
    assert "\n".join(lines) == "\n".join(map(str, run.prints))
    assert lines[13:29] == [
        "pid (1, 0, 0) idx () program: 1",
        "pid (1, 0, 0) idx (0) both: (operand 0) 1.000000",
        "pid (1, 0, 0) idx (1) both: (operand 0) 2.000000",
        "pid (1, 0, 0) idx (2) both: (operand 0) 3.000000",
        "pid (1, 0, 0) idx (3) both: (operand 0) 4.000000",
        "pid (1, 0, 0) idx () both: (operand 1) 0.500000",
        "pid (1, 0, 0) no values",
        "pid (1, 0, 0) idx () words: 0x00000001",
        "pid (1, 0, 0) idx (0) flags: (operand 0) 0",
        "pid (1, 0, 0) idx (1) flags: (operand 0) 0",
        "pid (1, 0, 0) idx (2) flags: (operand 0) 0",
        "pid (1, 0, 0) idx (3) flags: (operand 0) 1",
        "pid (1, 0, 0) idx () flags: (operand 1) 6.000000",
        "pid (2, 0, 0) idx () program: 2",
        "pid (2, 0, 0) idx (0) both: (operand 0) 2.000000",
        "pid (2, 0, 0) idx (1) both: (operand 0) 3.000000",
    ]
    assert [each.values.shape for each in run.prints[:4]] == [(), (4,), (), (0,)]


@pytest.mark.parametrize("num_warps", [1, 4])
def test_each_thread_of_a_gpu_prints_what_has_no_indices(monkeypatch, capfd, num_warps):
    @mlu.jit
    def says_both(BLOCK: tl.constexpr):
        tl.device_print("one", tl.program_id(0))
        tl.device_print("text")
        tl.device_print("many", tl.arange(0, BLOCK))

    monkeypatch.setenv("MLUTRITON_WARP_SIZE", "8")
    run = says_both[(2,)](BLOCK=2, num_warps=num_warps)
    lines = capfd.readouterr().out.splitlines()
    threads = 8 * num_warps
    assert lines[: 2 * threads + 3] == [
        *["pid (0, 0, 0) idx () one: 0"] * threads,
        *["pid (0, 0, 0) text"] * threads,
        "pid (0, 0, 0) idx (0) many: 0",
        "pid (0, 0, 0) idx (1) many: 1",
        "pid (1, 0, 0) idx () one: 1",
    ]
    assert len(run.prints) == 6
    assert triton.runtime.driver.active.get_current_target().warp_size == 8


@mlu.jit
def says_any_type(bytes, words, halves, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.device_print("unsigned", tl.load(bytes + i))
    tl.device_print("signed", tl.load(bytes + i).to(tl.int8))
    tl.device_print("one", tl.load(words))
    tl.device_print("hex", tl.load(bytes + i), tl.load(words), tl.load(halves + i), hex=True)
    tl.device_print("rank 2", tl.load(halves + i)[None, :] + tl.zeros((2, 1), tl.float16))


def test_prints_of_any_type(capfd):
    halves = np.array([0.5, np.inf], np.float16)
    says_any_type[(1,)](np.array([1, 255], np.uint8), np.array([2**64 - 1], np.uint64), halves, BLOCK=2)
    assert capfd.readouterr().out.splitlines() == [
        "pid (0, 0, 0) idx (0) unsigned: 1",
        "pid (0, 0, 0) idx (1) unsigned: 255",
        "pid (0, 0, 0) idx (0) signed: 1",
        "pid (0, 0, 0) idx (1) signed: -1",
        "pid (0, 0, 0) idx () one: 18446744073709551615",
        "pid (0, 0, 0) idx (0) hex: (operand 0) 0x01",
        "pid (0, 0, 0) idx (1) hex: (operand 0) 0xff",
        "pid (0, 0, 0) idx () hex: (operand 1) 0xffffffffffffffff",
        "pid (0, 0, 0) idx (0) hex: (operand 2) 0x1.0000000000000p-1",
        "pid (0, 0, 0) idx (1) hex: (operand 2) inf",
        "pid (0, 0, 0) idx (0, 0) rank 2: 0.500000",
        "pid (0, 0, 0) idx (0, 1) rank 2: inf",
        "pid (0, 0, 0) idx (1, 0) rank 2: 0.500000",
        "pid (0, 0, 0) idx (1, 1) rank 2: inf",
    ]


@mlu.jit
def says_numbers(x, BLOCK: tl.constexpr):
    tl.device_print("", tl.load(x + tl.arange(0, BLOCK)))


def test_small_numbers_keep_their_digits(capfd):
    x = np.array([-0.0, 1 / 3, -2e-5, 1.5e-7, 1e20, np.nan, -np.inf, 7, 8, 9, 10, 11, 12, 13, 14, 15], np.float32)
    says_numbers[(1,)](x, BLOCK=16)
    shown = [line.removeprefix("pid (0, 0, 0) ") for line in capfd.readouterr().out.splitlines()]
    assert shown[:8] == [
        "idx ( 0): -0.000000",
        "idx ( 1): 0.333333",
        "idx ( 2): -0.000020",
        "idx ( 3): 1.5e-07",
        "idx ( 4): 100000002004087734272.000000",
        "idx ( 5): nan",
        "idx ( 6): -inf",
        "idx ( 7): 7.000000",
    ]
    assert shown[15] == "idx (15): 15.000000"


@mlu.jit
def says_and_stops(x):
    k = tl.program_id(0)
    tl.device_print("at", k)
    tl.device_assert(k < 2, "far enough")


def test_what_was_printed_before_a_fault_is_shown(capfd):
    with pytest.raises(mlu.KernelFault, match="far enough"):
        says_and_stops[(5,)](np.zeros(1, np.float32), debug=True)
    assert capfd.readouterr().out.splitlines() == [f"pid ({k}, 0, 0) idx () at: {k}" for k in range(3)]


@mlu.jit
def asserts(x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    values = tl.load(x + i, mask=i < n)
    tl.device_assert(values < 10, "too large", mask=i < n)
    assert tl.program_id(0) < 5, "too many programs"
    tl.device_assert(tl.sum(values) > 0)


def test_assertions(monkeypatch):
    x = np.arange(1, 5, dtype=np.float32)
    asserts[(3,)](x, 4, BLOCK=8)
    asserts[(3,)](x, 4, BLOCK=8, debug=True)
    x[2] = 11
    asserts[(3,)](x, 4, BLOCK=8)
    asserts[(3,)](x, 2, BLOCK=8, debug=True)
    with pytest.raises(mlu.KernelFault, match="too large") as caught:
        asserts[(3,)](x, 4, BLOCK=8, debug=True)
    assert caught.value.code == "E0305"
    # What is written for other devices expects a RuntimeError with this text.
    with pytest.raises(RuntimeError, match="device-side assertion failed: too many programs") as caught:
        asserts[(7,)](x, 2, BLOCK=8, debug=True)
    assert "(5, 0, 0)" in str(caught.value)
    assert "test_debugging.py" in str(caught.value)


@mlu.jit
def counts(sums, running, backwards, x, ROWS: tl.constexpr, COLUMNS: tl.constexpr, AXIS: tl.constexpr):
    at = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    values = tl.load(x + at)
    total = tl.sum(values, AXIS)
    tl.store(sums + tl.arange(0, total.numel), total)
    tl.store(running + at, tl.cumsum(values, AXIS))
    tl.store(backwards + at, tl.cumsum(values, AXIS, reverse=True))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(8, 16), (2, 1), (1, 4)])
def test_sums_are_watched_for_overflows(shape, axis):
    x = np.random.default_rng(0).integers(-100, 100, shape, np.int32)
    sums, running, backwards = np.empty(x.sum(axis).shape, np.int32), np.empty_like(x), np.empty_like(x)
    counts[(1,)](sums, running, backwards, x, *shape, axis, debug=True)
    np.testing.assert_array_equal(sums, x.sum(axis))
    np.testing.assert_array_equal(running, x.cumsum(axis))
    np.testing.assert_array_equal(backwards, np.flip(np.flip(x, axis).cumsum(axis), axis))


@pytest.mark.parametrize("axis", [0, 1])
def test_the_sum_that_overflows_stops_the_program(axis):
    x = np.full((4, 4), 2**29, np.int32)
    counts[(1,)](np.empty(4, np.int32), np.empty_like(x), np.empty_like(x), x - 2**28, 4, 4, axis, debug=True)
    with pytest.raises(mlu.KernelFault, match="int32 overflow detected for operation add") as caught:
        counts[(1,)](np.empty(4, np.int32), np.empty_like(x), np.empty_like(x), x, 4, 4, axis, debug=True)
    assert caught.value.location.file.endswith("test_debugging.py")


@mlu.jit
def last_of_ordered(a, b):
    if a > 0:
        tl.device_assert(a <= b, "out of order")
        result = b
    else:
        result = b
    return result


@mlu.jit
def positives(x):
    return tl.reduce(x, 0, last_of_ordered), tl.associative_scan(x, 0, last_of_ordered)


def test_combining_functions_assert_where_they_get():
    x = np.array([-1, -5, -7, 2, 3, 3, 8, 9], np.int32)
    last, all = call(positives, x, result=(np.zeros((), np.int32), x), debug=True)
    assert last == 9
    np.testing.assert_array_equal(all, x)
    x[4] = 1
    with pytest.raises(mlu.KernelFault, match="out of order"):
        call(positives, x, result=(np.zeros((), np.int32), x), debug=True)


@mlu.jit
def checks(WIDTH: tl.constexpr):
    tl.static_print("width", WIDTH)
    tl.static_assert(WIDTH % 2 == 0, "an even width")


def test_static_assert_and_print(each_engine, capsys):
    width = 8 if each_engine == "native" else 10  # compiled and printed once
    checks[(1,)](width)
    assert capsys.readouterr().out.split() == ["width", str(width)]
    with pytest.raises(Exception, match="an even width"):
        checks[(1,)](7)
