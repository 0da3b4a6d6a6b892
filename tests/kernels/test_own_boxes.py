"""Stores whose masks are no boxes write whole ones where nobody else writes there, and what is chosen elsewhere."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

RANDOM = np.random.default_rng(0)


def numbers(*shape):
    return RANDOM.standard_normal(shape, dtype=np.float32)


def is_quick(run, elements):
    """False if elements of a program are scattered one by one."""
    return run.cycles < run.machine.gather_item_cycles * elements


@mlu.jit
def triangle(out, x, rows, columns, stride, BM: tl.constexpr, BN: tl.constexpr):
    r = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    c = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    kept = (r < rows) & (c < columns) & (r >= c)
    tl.store(out + r * stride + c, tl.load(x + r * stride + c, mask=kept), mask=kept)


@mlu.jit
def triangle_in_a_loop(out, x, n, BM: tl.constexpr, BN: tl.constexpr):
    r = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    for start in range(0, n, BN):
        c = start + tl.arange(0, BN)[None, :]
        kept = (r < n) & (c <= r)
        tl.store(out + r * n + c, tl.load(x + r * n + c, mask=kept), mask=kept)


@mlu.jit
def triangles(out, x, n, pitch, stride, BM: tl.constexpr, BN: tl.constexpr):
    r = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    c = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    place = tl.program_id(2) * pitch + r * stride + c
    kept = (r < n) & (c < n) & (r >= c)
    tl.store(out + place, tl.load(x + place, mask=kept), mask=kept)


@mlu.jit
def triangle_by_digits(out, x, n, BM: tl.constexpr, BN: tl.constexpr):
    across = tl.cdiv(n, BN)
    r = tl.program_id(0) // across * BM + tl.arange(0, BM)[:, None]
    c = tl.program_id(0) % across * BN + tl.arange(0, BN)[None, :]
    kept = (r < n) & (c < n) & (r >= c)
    tl.store(out + r * n + c, tl.load(x + r * n + c, mask=kept), mask=kept)


@mlu.jit
def disc(out, n, radius, B: tl.constexpr):
    y, z = tl.program_id(0) * B + tl.arange(0, B)[:, None], tl.program_id(1) * B + tl.arange(0, B)[None, :]
    dy, dz = y - n // 2, z - n // 2
    tl.store(out + y * n + z, 7.0, mask=(y < n) & (z < n) & (dy * dy + dz * dz < radius * radius))


@mlu.jit
def chosen(out, x, flags, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    is_chosen = (i < n) & (tl.load(flags + i, mask=i < n, other=0) != 0)
    tl.store(out + i, tl.load(x + i, mask=is_chosen), mask=is_chosen)


@mlu.jit
def damped(x, n, B: tl.constexpr):
    """In place, where numbers are great."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + i, mask=i < n)
    tl.store(x + i, value * 0.5, mask=(i < n) & (value > 1))


@mlu.jit
def chosen_twice(out, x, y, flags, more, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    one = (i < n) & (tl.load(flags + i, mask=i < n, other=0) != 0)
    other = (i < n) & (tl.load(more + i, mask=i < n, other=0) != 0)
    tl.store(out + i, tl.load(x + i, mask=one), mask=one)
    tl.store(out + n + i, tl.load(x + i, mask=one), mask=one)
    tl.store(out + i, tl.load(y + i, mask=other), mask=other)


def with_old(x):
    return RANDOM.integers(2, 9, x.shape).astype(x.dtype)


@pytest.mark.parametrize("machine", ["mlu370-x4", "mlu590-m9", "mlu220"])
def test_a_triangle_is_stored_in_boxes(machine):
    n, stride = 70, 83
    x = numbers(n, stride)
    old = with_old(x)
    out = old.copy()
    mlu.set_machine(machine)
    try:
        run = on_both_engines(lambda: triangle[(3, 3)](out, x, n, n, stride, 32, 32), out)
    finally:
        mlu.set_machine("mlu590-m9")
    kept = np.tril(np.ones((n, stride), bool)) & (np.arange(stride) < n)
    np.testing.assert_array_equal(out, np.where(kept, x, old))
    assert is_quick(run, 32 * 32)


@pytest.mark.parametrize("n", [1, 31, 64, 100])
def test_a_triangle_is_stored_in_a_loop(n):
    x = numbers(n, n)
    old = with_old(x)
    out = old.copy()
    run = on_both_engines(lambda: triangle_in_a_loop[(-(-n // 16),)](out, x, n, 16, 64), out)
    np.testing.assert_array_equal(out, np.where(np.tri(n, dtype=bool), x, old))
    assert is_quick(run, 16 * 64 * -(-n // 64))


@pytest.mark.parametrize(("pitch", "stride"), [(50 * 50, 50), (60 * 53, 60), (60, 60 * 3)])
def test_triangles_lie_anywhere_apart(pitch, stride):
    """Behind each other, with room between them, and side by side."""
    n = 50
    x = numbers(max(3 * pitch, n * stride) + 100)
    old = with_old(x)
    out, expected = old.copy(), old.copy()
    run = on_both_engines(lambda: triangles[(4, 2, 3)](out, x, n, pitch, stride, 16, 32), out)
    for matrix, row in np.ndindex(3, n):
        begin = matrix * pitch + row * stride
        expected[begin : begin + row + 1] = x[begin : begin + row + 1]
    np.testing.assert_array_equal(out, expected)
    assert is_quick(run, 16 * 32)


def test_digits_of_a_number_tell_programs_apart():
    n = 90
    x = numbers(n, n)
    old = with_old(x)
    out = old.copy()
    run = on_both_engines(lambda: triangle_by_digits[(9,)](out, x, n, 32, 32), out)
    np.testing.assert_array_equal(out, np.where(np.tri(n, dtype=bool), x, old))
    assert is_quick(run, 32 * 32)


def test_a_disc_is_filled_in_boxes():
    n = 80
    old = with_old(numbers(n, n))
    out = old.copy()
    run = on_both_engines(lambda: disc[(3, 3)](out, n, 35, 32), out)
    distance = (np.arange(n) - n // 2) ** 2
    np.testing.assert_array_equal(out, np.where(distance[:, None] + distance < 35**2, 7, old))
    assert is_quick(run, 32 * 32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int64, np.bool_])
def test_what_a_flag_chooses_is_stored(dtype):
    n = 5000
    x, flags = (numbers(n) * 50).astype(dtype), RANDOM.random(n) < 0.5
    old = (numbers(n) * 50).astype(dtype)
    out = old.copy()
    run = on_both_engines(lambda: chosen[(5,)](out, x, flags, n, 1024), out)
    np.testing.assert_array_equal(out, np.where(flags, x, old))
    assert is_quick(run, 1024)


def test_bytes_that_are_not_chosen_stay_as_they_are():
    """A NaN keeps its bits, and what is no truth value is not made one."""
    n = 100
    flags = RANDOM.random(n) < 0.5
    out = np.full(n, 0x7F812345, np.int32).view(np.float32)
    on_both_engines(lambda: chosen[(1,)](out, np.ones(n, np.float32), flags, n, 128), out.view(np.int32))
    assert set(out.view(np.int32)[~flags]) == {0x7F812345}
    truths = np.full(n, 5, np.int8)
    on_both_engines(lambda: chosen[(1,)](truths.view(np.bool_), np.ones(n, np.bool_), flags, n, 128), truths)
    np.testing.assert_array_equal(truths, np.where(flags, 1, 5))


def test_what_is_great_is_damped_in_place():
    n = 5000
    x = numbers(n)
    expected = np.where(x > 1, x * np.float32(0.5), x)
    run = on_both_engines(lambda: damped[(5,)](x, n, 1024), x)
    np.testing.assert_array_equal(x, expected)
    assert is_quick(run, 1024)


@pytest.mark.parametrize("begin", [0, 300])
def test_stores_to_one_place_keep_their_order(begin):
    """The first array may also be where the next one is read, so that much is stored that was just loaded."""
    n = 2000
    memory = numbers(3 * n)
    out, x = memory[: 2 * n], memory[begin : begin + n]
    y, flags, more = numbers(n), RANDOM.random(n) < 0.5, RANDOM.random(n) < 0.5
    apart = x if begin else x.copy()
    expected = out.copy()
    if begin == 0:
        expected[:n][flags] = apart[flags]
        expected[n:][flags] = apart[flags]
        expected[:n][more] = y[more]
        on_both_engines(lambda: chosen_twice[(2,)](out, x.copy(), y, flags, more, n, 1024), memory)
        np.testing.assert_array_equal(out, expected)
    else:
        # One program: what it reads, it has stored before.
        expected = memory.copy()
        kept = np.flatnonzero(flags)
        expected[kept] = memory[begin + kept]
        expected[n + kept] = expected[begin + kept]
        expected[np.flatnonzero(more)] = y[more]
        on_both_engines(lambda: chosen_twice[(1,)](out, x, y, flags, more, n, 2048), memory)
        np.testing.assert_array_equal(memory, expected)


# ---- where others write, or nobody may ------------------------------------------------------------------------------


def test_only_the_array_is_touched():
    """An array that ends behind the last element that is chosen is not written behind that."""
    n, stride = 70, 83
    x = numbers(n, stride)
    whole = with_old(numbers(n * stride + 50))
    last = (n - 1) * stride + n
    for end in (last, last - 1, whole.size):
        out = whole.copy()

        def launch(out=out, end=end):
            return triangle[(3, 3)](out[:end], x.reshape(-1)[:last], n, n, stride, 32, 32)

        if end < last:
            with pytest.raises(mlu.KernelFault, match="E0301"):
                launch()
            continue
        on_both_engines(launch, out)
        kept = np.tril(np.ones((n, stride), bool)) & (np.arange(stride) < n)
        expected = np.where(kept, x, whole[: n * stride].reshape(n, stride)).reshape(-1)
        np.testing.assert_array_equal(out[: n * stride], expected)


def test_what_is_read_only_is_not_written_back(monkeypatch):
    n = 2000
    x, flags, out = numbers(n), np.zeros(n, np.bool_), np.zeros(n, np.float32)
    out.flags.writeable = False
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        flags[5] = False
        chosen[(2,)](out, x, flags, n, 1024)
        flags[5] = True
        with pytest.raises(mlu.KernelFault, match="E0307"):
            chosen[(2,)](out, x, flags, n, 1024)


@mlu.jit
def chessboard(out, down, stride, rows, columns, turns, ALONG: tl.constexpr, ACROSS: tl.constexpr, FAR: tl.constexpr):
    """Every other element of tiles that begin anywhere."""
    r, c = tl.arange(0, 16)[:, None], tl.arange(0, 16)[None, :]
    first = out + tl.program_id(0) * down + tl.program_id(1) * ALONG
    for turn in range(turns):
        place = first + turn * ACROSS + turn * FAR * stride + r * stride + c
        tl.store(place, 1.0, mask=(r < rows) & (c < columns) & ((r + c) % 2 == 0))


def boxes_meet(grid, down, stride, rows, columns, turns, along, across, far):
    r, c, t = np.arange(min(16, rows))[:, None, None], np.arange(min(16, columns))[:, None], np.arange(turns)
    box = np.unique(r * stride + c + t * (far * stride + across))
    every = [box + i * down + j * along for i, j in np.ndindex(*grid)]
    return len(np.unique(every)) < sum(map(len, every))


@pytest.mark.parametrize(
    ("along", "across", "far"),
    [(16, 0, 0), (8, 0, 0), (0, 16, 0), (48, 16, 0), (16, 48, 0), (32, 16, 1), (16, 0, 16), (17, 5, 2)],
)
def test_boxes_that_others_write_to_are_not_stored_whole(along, across, far):
    """Tiles of programs that overlap, interleave, or lie apart: what is quick has boxes that nobody else writes to."""
    out = np.zeros(1 << 16, np.float32)
    quick = 0
    for _ in range(60):
        pick = RANDOM.choice
        grid = int(pick([1, 2, 3])), int(pick([1, 1, 2, 3]))
        rows, columns, turns = int(pick([3, 8, 16, 40])), int(pick([3, 8, 16, 40])), int(pick([1, 2, 3]))
        stride = int(pick([3, 8, 16, 24, 48, 100]))
        down = int(pick([0, 3, 16, 8 * stride, 16 * stride, 48 * stride]))
        numbers = down, stride, rows, columns, turns
        run = mlu.estimate(chessboard, grid, out, *numbers, along, across, far)
        is_whole = is_quick(run, 16 * 16 * turns)
        quick += is_whole
        assert not (is_whole and boxes_meet(grid, *numbers, along, across, far)), (grid, numbers)
    assert (quick > 0) == (along != 8)


@mlu.jit
def claimed(out, counter, x, flags, n, B: tl.constexpr):
    """Where a program stores is a matter of who comes first."""
    i = tl.arange(0, B)
    begin = tl.atomic_add(counter, B // 2)
    is_chosen = (tl.load(flags + i) != 0) & (i < n)
    tl.store(out + begin + i, tl.load(x + i), mask=is_chosen)


def test_places_that_are_found_in_memory_are_not_known_to_be_ones_own():
    x, out, flags = numbers(64), np.zeros(320, np.float32), np.arange(64) < 32
    run = on_both_engines(lambda: claimed[(8,)](out, np.zeros(1, np.int32), x, flags, 64, 64), out)
    np.testing.assert_array_equal(out[:256].reshape(8, 32), np.tile(x[:32], (8, 1)))
    assert not is_quick(run, 64)


@mlu.jit
def two_arrays(a, b, x, flags, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    is_chosen = (i < n) & (tl.load(flags + i, mask=i < n, other=0) != 0)
    tl.store(a + i, tl.load(x + i, mask=is_chosen), mask=is_chosen)
    tl.store(b + i, 1.0, mask=(i < n) & (i % 2 == 1))


def test_arrays_that_share_bytes_are_not_stored_whole():
    n = 4096
    memory, x, flags = np.zeros(2 * n, np.float32), numbers(n), np.arange(n) % 2 == 0
    apart = on_both_engines(lambda: two_arrays[(4,)](memory[:n], memory[n:], x, flags, n, 1024), memory)
    np.testing.assert_array_equal(memory[:n], np.where(flags, x, 0))
    memory[:] = 0
    run = on_both_engines(lambda: two_arrays[(4,)](memory[:n], memory[512 : n + 512], x, flags, n, 1024), memory)
    expected = np.zeros(n + 512, np.float32)
    expected[:n][flags] = x[flags]
    expected[513::2] = 1
    np.testing.assert_array_equal(memory[: n + 512], expected)
    assert is_quick(apart, 1024)
    assert not is_quick(run, 1024)


def test_cycles_alone_are_those_of_a_launch():
    n = 300
    x, out = numbers(n, n), numbers(n, n)
    run = triangle[(10, 10)](out, x, n, n, n, 32, 32)
    assert mlu.estimate(triangle, (10, 10), out, x, n, n, n, 32, 32).cycles == run.cycles
