"""What is looked up element by element is looked up on chip where it stands in little memory."""

from pathlib import Path

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

RANDOM = np.random.default_rng(0)
NEVER = 77


@mlu.jit
def take(out, table, index, n, B: tl.constexpr, NEVER: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    k = tl.load(index + i, mask=i < n, other=0)
    tl.store(out + i, tl.load(table + k, mask=(i < n) & (k != NEVER), other=5.0), mask=i < n)


@mlu.jit
def take_in_a_loop(out, table, index, n, B: tl.constexpr):
    for start in range(tl.program_id(0) * B, n, tl.num_programs(0) * B):
        i = start + tl.arange(0, B)
        k = tl.load(index + i, mask=i < n, other=0).to(tl.int32)
        tl.store(out + i, tl.load(table + k, mask=i < n, other=0.0), mask=i < n)


@mlu.jit
def take_of_rows(out, table, index, n, columns, B: tl.constexpr):
    """Each program looks up in a row of its own."""
    i = tl.arange(0, B)
    row = tl.program_id(0)
    k = tl.load(index + row * n + i, mask=i < n, other=0)
    tl.store(out + row * n + i, tl.load(table + row * columns + k, mask=i < n, other=0.0), mask=i < n)


@mlu.jit
def search(out, x, bounds, n, count, STEPS: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + i, mask=i < n, other=0.0)
    low, high = tl.zeros([B], tl.int32), tl.zeros([B], tl.int32) + count
    for _ in range(STEPS):
        middle = (low + high) // 2
        is_open = low < high
        is_above = is_open & (tl.load(bounds + middle, mask=is_open, other=0.0) < value)
        low = tl.where(is_above, middle + 1, low)
        high = tl.where(is_open & ~is_above, middle, high)
    tl.store(out + i, low, mask=i < n)


@mlu.jit
def unpacked(out, packed, book, n, other, BITS: tl.constexpr, B: tl.constexpr):
    """Codes of a few bits, packed in bytes, and what they stand for; `other` where the code before is 0."""
    EACH: tl.constexpr = 8 // BITS
    i = tl.program_id(0) * B + tl.arange(0, B)
    byte = tl.load(packed + i // EACH, mask=i < n, other=0)
    code = (byte >> (i % EACH * BITS).to(tl.uint8)) & (1 << BITS) - 1
    tl.store(out + i, tl.load(book + code, mask=(i < n) & (byte != 0), other=other), mask=i < n)


@mlu.jit
def resized(out, x, height, width, new_width, scale, shift, B: tl.constexpr):
    """Rows of images in another width, linearly between columns."""
    row, plane = tl.program_id(0), tl.program_id(1)
    i = tl.arange(0, B)
    place = i.to(tl.float32) * scale + shift
    first = place.to(tl.int32)
    second = tl.minimum(first + 1, width - 1)
    begin = x + plane * height * width + row * width
    a = tl.load(begin + first, mask=i < new_width, other=0.0)
    b = tl.load(begin + second, mask=i < new_width, other=0.0)
    tl.store(out + (plane * height + row) * new_width + i, a + (b - a) * (place - first), mask=i < new_width)


def linear(x, new_width, scale, shift):
    """What `resized` computes."""
    place = np.arange(new_width, dtype=np.float32) * np.float32(scale) + np.float32(shift)
    first = place.astype(np.int32)
    a, b = x[..., first], x[..., np.minimum(first + 1, x.shape[-1] - 1)]
    return a + (b - a) * (place - first)


@mlu.jit
def resized_as_usual(out, x, width, new_width, scale, ENDS: tl.constexpr, B: tl.constexpr):
    """Rows in another width, of which the centers of columns, or else their ends, are in the same place."""
    row, i = tl.program_id(0), tl.arange(0, B)
    column = i.to(tl.float32)
    place = column * (width - 1) / (new_width - 1) if ENDS else tl.maximum((column + 0.5) * scale - 0.5, 0.0)
    first = tl.floor(place).to(tl.int32)
    second = tl.minimum(first + 1, width - 1)
    a = tl.load(x + row * width + first, mask=i < new_width, other=0.0)
    b = tl.load(x + row * width + second, mask=i < new_width, other=0.0)
    tl.store(out + row * new_width + i, a + (b - a) * (place - first), mask=i < new_width)


@mlu.jit
def nearest(out, x, width, new_width, scale, shift, B: tl.constexpr):
    """Rows in another width; what is beyond their ends is what is there."""
    row, i = tl.program_id(0), tl.arange(0, B)
    place = tl.minimum(tl.maximum(i.to(tl.float32) * scale + shift, 0.0), width - 1.0).to(tl.int32)
    taken = tl.load(x + row * width + place, mask=i < new_width)
    tl.store(out + row * new_width + i, taken, mask=i < new_width)


@mlu.jit
def reflected(out, x, width, padding, B: tl.constexpr):
    """Rows with their ends mirrored on both sides."""
    i = tl.arange(0, B)
    place = tl.abs(i - padding)
    place = tl.where(place >= width, 2 * (width - 1) - place, place)
    row, wide = tl.program_id(0), width + 2 * padding
    tl.store(out + row * wide + i, tl.load(x + row * width + place, mask=i < wide, other=0.0), mask=i < wide)


@mlu.jit
def take_in_place(table, index, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    k = tl.load(index + i, mask=i < n, other=0)
    tl.store(table + i, tl.load(table + k, mask=i < n, other=0.0), mask=i < n)


def numbers(count, dtype=np.float32):
    return (RANDOM.standard_normal(count) * 50).astype(dtype)


def expected(table, index):
    return np.where(index == NEVER, 5, table[np.where(index == NEVER, 0, index)]).astype(table.dtype)


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4"])
@pytest.mark.parametrize(("dtype", "index_dtype"), [("f4", "i4"), ("f2", "i8"), ("i1", "i2"), ("i8", "i4")])
def test_a_table_is_looked_up_on_chip(machine, dtype, index_dtype):
    n = 5000
    table = numbers(100, dtype)
    index, out = RANDOM.integers(0, 100, n).astype(index_dtype), np.empty(n, dtype)
    mlu.set_machine(machine)
    try:
        run = on_both_engines(lambda: take[(5,)](out, table, index, n, 1024, NEVER), out)
    finally:
        mlu.set_machine("mlu590-m9")
    np.testing.assert_array_equal(out, expected(table, index))
    assert run.cycles < run.machine.gather_item_cycles * 1024


def test_what_nobody_chooses_may_be_anywhere():
    n = 3000
    table, index, out = numbers(77), RANDOM.integers(0, 77, n, dtype=np.int32), np.empty(n, np.float32)
    index[::3] = NEVER
    run = on_both_engines(lambda: take[(3,)](out, table, index, n, 1024, NEVER), out)
    np.testing.assert_array_equal(out, expected(table, index))
    assert run.cycles < run.machine.gather_item_cycles * 1024


@pytest.mark.parametrize("wrong", [-1, 100, 1 << 30])
def test_an_index_outside_of_the_table_is_the_fault_of_its_element(wrong, monkeypatch):
    n = 4096
    table, index, out = numbers(100), np.zeros(n, np.int32), np.empty(n, np.float32)
    index[3000] = wrong
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        with pytest.raises(mlu.KernelFault, match="E0301") as caught:
            take[(4,)](out, table, index, n, 1024, NEVER)
        message = str(caught.value)
        assert f"load of 4 bytes at {table.ctypes.data + 4 * wrong:#x}" in message
        assert "program (2, 0, 0)" in message
        assert "v.lookup" in message
        assert caught.value.location is not None
        assert "tl.load(table + k" in Path(__file__).read_text().splitlines()[caught.value.location.line - 1]


def test_an_index_that_leads_to_another_array_is_told_so(monkeypatch):
    n = 4096
    whole, index, out = numbers(200), np.zeros(n, np.int32), np.empty(n, np.float32)
    index[3000] = 100
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        with pytest.raises(mlu.KernelFault, match="E0301") as caught:
            take_with_another[(4,)](out, whole[:100], index, whole[100:], n, 1024)
        message = str(caught.value)
        assert f"at {whole[100:].ctypes.data:#x} leaves the array that it looks up in" in message
        assert "there is another" in message
        assert "own pointer" in message


def test_other_launches_go_item_by_item():
    """Tables that are large, that begin within an array, and that share bytes with what is stored."""
    n = 4096
    index, out = RANDOM.integers(0, 70, n, dtype=np.int32), np.empty(n, np.float32)
    for table in (numbers(100_000), (whole := numbers(1000))[500:]):
        others = (whole,) if table.size == 500 else (table,)
        run = on_both_engines(lambda table=table, others=others: take_beside(out, table, index, others), out)
        np.testing.assert_array_equal(out, table[index])
        assert run.cycles > run.machine.gather_item_cycles * 1024
    shared = numbers(n)
    before = shared.copy()
    on_both_engines(lambda: take[(4,)](shared, shared[:100], index, n, 1024, NEVER), shared)
    np.testing.assert_array_equal(shared[:100], before[index[:100]])


@mlu.jit
def take_with_another(out, table, index, another, n, B: tl.constexpr):
    """As `take`; the launch passes another array, which may hold the table."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    k = tl.load(index + i, mask=i < n, other=0)
    first = tl.load(another)
    value = tl.load(table + k, mask=i < n, other=0.0)
    tl.store(out + i, tl.where(first == first, value, 0.0), mask=i < n)


def take_beside(out, table, index, others):
    return take_with_another[(4,)](out, table, index, others[0], out.size, 1024)


def test_an_index_may_be_negative_where_the_array_begins_earlier():
    n = 4096
    whole, out = numbers(1000), np.empty(4096, np.float32)
    index = RANDOM.integers(-400, 400, n, dtype=np.int32)
    on_both_engines(lambda: take_with_another[(4,)](out, whole[500:], index, whole, n, 1024), out)
    np.testing.assert_array_equal(out, whole[500 + index])


def test_what_is_written_is_no_table():
    n = 1024
    table, index = numbers(n), RANDOM.integers(0, n, n, dtype=np.int32)
    before = table.copy()
    run = on_both_engines(lambda: take_in_place[(1,)](table, index, n, 1024), table)
    np.testing.assert_array_equal(table, before[index])
    assert run.cycles > run.machine.gather_item_cycles * 1024


def test_a_core_loads_its_table_once():
    n = 1 << 18
    table, index, out = numbers(16), RANDOM.integers(0, 16, n, dtype=np.uint8), np.empty(n, np.float32)
    run = on_both_engines(lambda: take_in_a_loop[(48,)](out, table, index, n, 1024), out)
    np.testing.assert_array_equal(out, table[index])
    assert run.cycles < 1.3 * run.machine.gather_local_item_cycles * n // 48 + 4000
    straight = on_both_engines(lambda: take_of_rows[(256,)](out, table, index.view(np.uint8), 1024, 0, 1024), out)
    np.testing.assert_array_equal(out, table[index])
    assert straight.cycles < 1.4 * run.cycles


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["f2", "f4", "i1", "i8"])
def test_what_few_bits_can_name_is_chosen_by_them(bits, dtype):
    n = 1 << 15
    packed, book = RANDOM.integers(0, 256, n * bits // 8, dtype=np.uint8), numbers(1 << bits, dtype)
    packed[::5] = 0
    out = np.empty(n, dtype)
    run = on_both_engines(lambda: unpacked[(32,)](out, packed, book, n, 3, bits, 1024), out)
    codes = (packed[:, None] >> np.arange(0, 8, bits)) & (1 << bits) - 1
    wanted = np.where(packed[:, None] == 0, np.dtype(dtype).type(3), book[codes]).reshape(-1)
    np.testing.assert_array_equal(out, wanted)
    assert run.cycles < run.machine.gather_item_cycles * 1024 // 2


@mlu.jit
def shifted(out, codes, book, PLACES: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    k = tl.load(codes + i) >> tl.full((B,), PLACES, tl.uint8)
    tl.store(out + i, tl.load(book + k.to(tl.int32)))


@pytest.mark.parametrize("places", [4, 200])
def test_a_shift_of_bytes_by_more_than_their_bits_leaves_nothing(places):
    codes, book, out = RANDOM.integers(0, 256, 1024, dtype=np.uint8), numbers(256), np.empty(1024, np.float32)
    on_both_engines(lambda: shifted[(1,)](out, codes, book, places, 1024), out)
    np.testing.assert_array_equal(out, book[codes >> 4 if places == 4 else codes * 0])


def test_a_book_that_lacks_what_bits_can_name_is_asked_one_by_one(monkeypatch):
    n = 4096
    packed, book, out = RANDOM.integers(0, 256, n // 2, dtype=np.uint8) & 0x77, numbers(16), np.empty(n, np.float32)
    codes = (packed[:, None] >> np.array([0, 4])) & 15
    run = on_both_engines(lambda: unpacked[(4,)](out, packed, book[:8], n, 0, 4, 1024), out)
    np.testing.assert_array_equal(out, np.where(packed[:, None] == 0, 0, book[codes]).reshape(-1))
    assert run.cycles > 1024 * run.machine.gather_item_cycles
    packed[700] = 8
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        with pytest.raises(mlu.KernelFault, match="E0301") as caught:
            unpacked[(4,)](out, packed, book[:8], n, 0, 4, 1024)
        assert f"load of 4 bytes at {book.ctypes.data + 32:#x}" in str(caught.value)


@pytest.mark.parametrize("rows", [1, 40])
def test_rows_of_a_small_array_are_parts_of_its_table(rows):
    n, columns = 500, 60
    table, out = numbers((rows, columns)), np.empty((rows, n), np.float32)
    index = RANDOM.integers(0, columns, (rows, n)).astype(np.int32)
    run = on_both_engines(lambda: take_of_rows[(rows,)](out, table, index, n, columns, 512), out)
    np.testing.assert_array_equal(out, np.take_along_axis(table, index, 1))
    assert run.cycles < run.machine.gather_item_cycles * 512


@pytest.mark.parametrize("count", [1, 2, 333, 1000])
def test_bounds_are_searched_on_chip(count):
    n = 3000
    x, bounds, out = numbers(n), np.sort(numbers(count)), np.empty(n, np.int32)
    run = on_both_engines(lambda: search[(3,)](out, x, bounds, n, count, 10, 1024), out)
    np.testing.assert_array_equal(out, np.searchsorted(bounds, x))
    assert run.cycles < run.machine.gather_item_cycles * 1024 * 10 // 4


@pytest.mark.parametrize("options", [{"num_warps": 4}, {"num_stages": 1}, {"num_stages": 3}])
@pytest.mark.parametrize("block", [256, 4096, 1 << 17])
def test_blocks_of_any_size_on_any_number_of_cores(options, block):
    n = 1 << 17
    table, index, out = numbers(200), RANDOM.integers(0, 200, n, dtype=np.int32), np.empty(n, np.float32)
    take[(-(-n // block),)](out, table, index, n, block, NEVER, **options)
    np.testing.assert_array_equal(out, expected(table, index))


def test_few_elements_of_a_large_table_are_rather_loaded():
    table, index, out = numbers(10_000), RANDOM.integers(0, 70, 8, dtype=np.int32), np.empty(8, np.float32)
    few = take[(1,)](out, table, index, 8, 8, NEVER)
    np.testing.assert_array_equal(out, table[index])
    assert few.dram_read_bytes < table.nbytes // 4


def test_cycles_alone_are_those_of_a_launch():
    n = 5000
    table, index, out = numbers(200), RANDOM.integers(0, 200, n, dtype=np.int32), np.empty(n, np.float32)
    run = take[(5,)](out, table, index, n, 1024, NEVER)
    assert mlu.estimate(take, (5,), out, table, index, n, 1024, NEVER).cycles == run.cycles


@pytest.mark.parametrize(
    ("width", "new_width", "scale", "shift"),
    [(60, 120, 0.5, 0.0), (200, 100, 2.0, 0.0), (100, 100, -1.0, 99.0), (77, 128, 0.25, 11.5), (5, 128, 0.0, 3.25)],
)
def test_what_is_near_each_other_is_loaded_together(width, new_width, scale, shift):
    x = numbers((40, 12, width))
    out = np.empty((40, 12, new_width), np.float32)
    run = on_both_engines(lambda: resized[(12, 40)](out, x, 12, width, new_width, scale, shift, 128), out)
    np.testing.assert_allclose(out, linear(x, new_width, scale, shift), rtol=1e-5, atol=1e-4)
    items = 2 * 128 * 12 * 40 // run.machine.cores
    assert run.cycles < items * run.machine.gather_item_cycles // 2


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize(("width", "new_width"), [(60, 120), (120, 60), (2, 100), (100, 40), (1, 100), (77, 77)])
def test_places_of_images_are_near_each_other(width, new_width, ends):
    rows = 192  # four of a core
    x = numbers((rows, width))
    out = np.empty((rows, new_width), np.float32)
    scale = np.float32(width / new_width)
    run = on_both_engines(lambda: resized_as_usual[(rows,)](out, x, width, new_width, scale, ends, 128), out)
    column = np.arange(new_width, dtype=np.float32)
    centers = np.maximum((column + np.float32(0.5)) * scale - np.float32(0.5), 0)
    place = column * np.float32(width - 1) / np.float32(new_width - 1) if ends else centers
    first = place.astype(np.int32)
    a, b = x[:, first], x[:, np.minimum(first + 1, width - 1)]
    np.testing.assert_allclose(out, a + (b - a) * (place - first), rtol=1e-4, atol=1e-4)
    assert run.cycles < 2 * 128 * rows // run.machine.cores * run.machine.gather_item_cycles // 2


@pytest.mark.parametrize(
    ("width", "scale", "shift"), [(200, 0.5, -0.25), (200, 2.0, -40.0), (200, -1.0, 150.0), (1, 0.0, float("inf"))]
)
def test_what_is_cut_off_at_both_ends_is_near_each_other(width, scale, shift):
    x = numbers((100, width))
    out = np.empty((100, 400), np.float32)
    run = on_both_engines(lambda: nearest[(100,)](out, x, width, 400, scale, shift, 512), out)
    place = np.clip(np.arange(400, dtype=np.float32) * np.float32(scale) + np.float32(shift), 0, width - 1)
    np.testing.assert_array_equal(out, x[:, place.astype(np.int32)])
    assert run.cycles < 512 * run.machine.gather_item_cycles


@pytest.mark.parametrize(("width", "scale", "shift"), [(3000, 20.0, 0.0), (60, float("nan"), 0.0)])
def test_what_is_far_apart_or_unknown_goes_item_by_item(width, scale, shift):
    x, out = numbers((2, 4, width)), np.empty((2, 4, 100), np.float32)
    run = on_both_engines(lambda: resized[(4, 2)](out, x, 4, width, 100, scale, shift, 128), out)
    if scale == scale:
        np.testing.assert_allclose(out, linear(x, 100, scale, shift), rtol=1e-5, atol=1e-4)
    assert run.cycles > 128 * run.machine.gather_item_cycles


@pytest.mark.parametrize(("scale", "shift", "outside"), [(0.5, 4.0, 60), (0.5, -4.0, -4)])
def test_a_place_outside_of_the_array_is_the_fault_of_its_element(scale, shift, outside, monkeypatch):
    x, out = numbers((1, 1, 60)), np.empty((1, 1, 120), np.float32)
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        with pytest.raises(mlu.KernelFault, match="E0301") as caught:
            resized[(1, 1)](out, x, 1, 60, 120, scale, shift, 128)
        assert f"load of 4 bytes at {x.ctypes.data + 4 * outside:#x}" in str(caught.value)
        assert "v.lookup" in str(caught.value)


def test_places_behind_a_row_are_those_of_the_next_one():
    x = numbers((1, 8, 60))
    x_in_one = x.reshape(-1)
    part = np.empty((1, 7, 60), np.float32)
    on_both_engines(lambda: resized[(7, 1)](part, x, 7, 60, 60, 1.0, 30.0, 64), part)
    first = np.arange(7)[:, None] * 60 + np.arange(60) + 30
    np.testing.assert_array_equal(part[0], x_in_one[first])


@pytest.mark.parametrize(("width", "padding"), [(100, 1), (90, 19), (20, 19), (128, 0)])
def test_mirrored_ends_are_near_the_row(width, padding):
    x = numbers((480, width))
    out = np.empty((480, width + 2 * padding), np.float32)
    run = on_both_engines(lambda: reflected[(480,)](out, x, width, padding, 128), out)
    np.testing.assert_array_equal(out, np.pad(x, ((0, 0), (padding, padding)), mode="reflect"))
    assert run.cycles < 480 * 128 // run.machine.cores * run.machine.gather_item_cycles // 2


def test_an_empty_table_has_nothing_to_choose(monkeypatch):
    index, out = np.full(1024, NEVER, np.int32), np.empty(1024, np.float32)
    on_both_engines(lambda: take[(1,)](out, np.empty(0, np.float32), index, 1024, 1024, NEVER), out)
    assert (out == 5).all()
    x, part = numbers((1, 1, 60)), np.empty((1, 1, 100), np.float32)
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        with pytest.raises(mlu.KernelFault, match="E0301"):
            resized[(1, 1)](part, x, 1, 60, 100, 0.0, 1000.0, 128)
