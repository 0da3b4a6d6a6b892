"""Loads and stores of every form: what addresses, masks and other values may be."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

pytestmark = pytest.mark.usefixtures("each_engine")


def numbers(*shape, dtype=np.float32):
    return np.random.default_rng(7).integers(1, 100, shape).astype(dtype)


# ---- addresses


@mlu.jit
def strided_copy(out, x, stride, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i * stride))


@pytest.mark.parametrize("stride", [1, 2, 3, 7, 0, -1, -2])
def test_strides_of_any_sign(stride):
    x, out = numbers(256), np.zeros(32, np.float32)
    begin = 31 * -stride if stride < 0 else 0
    strided_copy[(1,)](out, x[begin:] if stride >= 0 else x[::-1][len(x) - 1 - begin :], stride, BLOCK=32)
    np.testing.assert_array_equal(out, x[begin + stride * np.arange(32)])


@mlu.jit
def reversed_copy(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + (n - 1 - i), mask=i < n, other=-5), mask=i < n + 2)


def test_reversed_order():
    x, out = numbers(29), np.zeros(32, np.float32)
    reversed_copy[(1,)](out, x, 29, BLOCK=32)
    np.testing.assert_array_equal(out, [*x[::-1], -5, -5, 0])


@mlu.jit
def scattered_store(out, x, stride, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i * stride, tl.load(x + i))


@pytest.mark.parametrize("stride", [1, 3, 0])
def test_strided_stores(stride):
    x, out = numbers(16), np.zeros(64, np.float32)
    scattered_store[(1,)](out, x, stride, BLOCK=16)
    expected = np.zeros(64, np.float32)
    for place, value in enumerate(x):
        expected[place * stride] = value
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def store_where_all_meet(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i * 0, tl.load(x + i))


def test_the_last_of_stores_to_one_place_stays():
    x, out = numbers(16), np.zeros(4, np.float32)
    store_where_all_meet[(1,)](out, x, BLOCK=16)
    assert out[0] == x[-1]


@mlu.jit
def indirect(out, x, index, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    mask = i < n
    place = tl.load(index + i, mask=mask, other=0)
    tl.store(out + place, tl.load(x + (place ^ 1), mask=mask), mask=mask)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32])
def test_indirect(dtype):
    x, out = numbers(64), np.zeros(64, np.float32)
    index = np.random.default_rng(1).permutation(64)[:50].astype(dtype)
    indirect[(1,)](out, x, index, 50, BLOCK=64)
    expected = np.zeros(64, np.float32)
    expected[index] = x[index ^ 1]
    np.testing.assert_array_equal(out, expected)


def test_indices_beyond_the_signed_half_are_unsigned():
    x, out = numbers(256), np.zeros(256, np.float32)
    index = np.arange(255, 127, -1).astype(np.uint8)
    indirect[(1,)](out, x, index, 128, BLOCK=128)
    expected = np.zeros(256, np.float32)
    expected[index] = x[index ^ 1]
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def rows_by_index(out, x, index, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    r, c = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    row = tl.load(index + r)
    mask = (c < columns)[None, :] & (row >= 0)[:, None]
    tile = tl.load(x + row[:, None] * columns + c[None, :], mask=mask, other=-1.0)
    tl.store(out + r[:, None] * BLOCK + c[None, :], tile)


def test_rows_by_index():
    x, out, index = numbers(20, 13), np.zeros((8, 16), np.float32), np.array([3, -1, 19, 0, 0, 7, -1, 12], np.int32)
    rows_by_index[(1,)](out, x, index, 13, ROWS=8, BLOCK=16)
    expected = np.full((8, 16), -1, np.float32)
    expected[:, :13] = np.where(index[:, None] >= 0, x[index], -1)
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def pointer_in_loop(out, x, n, step, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    place = x + i
    total = tl.zeros((BLOCK,), tl.float32)
    for _ in range(n):
        total += tl.load(place)
        place += step
    tl.store(out + i, total)


@pytest.mark.parametrize("step", [16, -16, 0, 5])
def test_pointers_that_a_loop_carries(step):
    x, out = numbers(200), np.zeros(16, np.float32)
    middle = mlu.array(x)
    middle.address += 64 * x.itemsize
    pointer_in_loop[(1,)](out, middle, 4, step, BLOCK=16)
    expected = sum(x[64 + k * step :][:16] for k in range(4))
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def pointer_advanced_unevenly(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    place = x + i
    total = tl.zeros((BLOCK,), tl.float32)
    for k in range(n):
        total += tl.load(place)
        place += i + k
    tl.store(out + i, total)


def test_pointers_that_advance_each_by_its_own_step():
    x, out = numbers(200), np.zeros(16, np.float32)
    pointer_advanced_unevenly[(1,)](out, x, 5, BLOCK=16)
    place, expected = np.arange(16), np.zeros(16, np.float32)
    for k in range(5):
        expected += x[place]
        place = place + np.arange(16) + k
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def linked_list(out, following, start, n, BLOCK: tl.constexpr):
    place = tl.load(start + tl.arange(0, BLOCK))
    for k in range(n):
        tl.store(out + k * BLOCK + tl.arange(0, BLOCK), place)
        place = tl.load(following + place)


def test_addresses_from_loaded_values_in_a_loop():
    following = np.random.default_rng(3).permutation(32).astype(np.int32)
    start, out = np.arange(8, dtype=np.int32), np.zeros((6, 8), np.int32)
    linked_list[(1,)](out, following, start, 6, BLOCK=8)
    expected = [start]
    for _ in range(5):
        expected.append(following[expected[-1]])
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def chosen_pointers(out, a, b, flag, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    each = tl.load(tl.where(i % 2 == 0, a + i, b + i))
    if flag > 0:
        source = a
        tile = a + i
    else:
        source = b
        tile = b + i * 2
    one = tl.load(source + 3)
    tl.store(out + i, each + one + tl.load(tile))


@pytest.mark.parametrize("flag", [0, 1])
def test_pointers_that_a_condition_chooses(flag):
    a, b, out = numbers(64), numbers(64) + 1000, np.zeros(16, np.float32)
    chosen_pointers[(1,)](out, a, b, flag, BLOCK=16)
    i = np.arange(16)
    expected = np.where(i % 2 == 0, a[i], b[i]) + (a if flag else b)[3] + (a[i] if flag else b[2 * i])
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def swapped_buffers(a, b, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    source, target = a, b
    for _ in range(n):
        tl.store(target + i, tl.load(source + i) + 1)
        source, target = target, source


@pytest.mark.parametrize("n", [0, 1, 4, 5])
def test_pointers_that_a_loop_swaps(n):
    a, b = numbers(16), np.zeros(16, np.float32)
    x = a.copy()
    swapped_buffers[(1,)](a, b, n, BLOCK=16)
    np.testing.assert_array_equal(a if n % 2 == 0 else b, x + n)


@mlu.jit
def swapped_pointer_tensors(a, b, n, BLOCK: tl.constexpr):
    source, target = a + tl.arange(0, BLOCK), b + tl.arange(0, BLOCK)
    for _ in range(n):
        tl.store(target, tl.load(source) + 1)
        source, target = target, source


@pytest.mark.parametrize("n", [1, 4])
def test_pointer_tensors_that_a_loop_swaps(n):
    a, b = numbers(16), np.zeros(16, np.float32)
    x = a.copy()
    swapped_pointer_tensors[(1,)](a, b, n, BLOCK=16)
    np.testing.assert_array_equal(a if n % 2 == 0 else b, x + n)


@mlu.jit
def table_of_pointers(out, table, lengths, a, b, c, BLOCK: tl.constexpr):
    k = tl.program_id(0)
    source = tl.load(table + k).to(tl.pointer_type(tl.float32))
    i = tl.arange(0, BLOCK)
    tl.store(out + k * BLOCK + i, tl.load(source + i, mask=i < tl.load(lengths + k), other=0.0))


def test_pointers_to_pointers():
    arrays = [numbers(n) + n for n in (5, 16, 9)]
    table, lengths = np.array([a.ctypes.data for a in arrays], np.uint64), np.array([5, 16, 9], np.int32)
    out = np.zeros((3, 16), np.float32)
    table_of_pointers[(3,)](out, table, lengths, *arrays, BLOCK=16)
    for row, a in zip(out, arrays, strict=True):
        np.testing.assert_array_equal(row, np.pad(a, (0, 16 - len(a))))


@mlu.jit
def table_of_unpassed_arrays(out, table, first, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.static_assert(first.dtype == tl.int64)
    first = first.to(tl.pointer_type(tl.float32))
    tl.store(out + n * BLOCK, tl.load(first + 1))
    for k in range(n):
        address = tl.load(table + k).to(tl.pointer_type(tl.int64))
        source = tl.load(address).to(tl.pointer_type(tl.float32))
        tl.store(out + k * BLOCK + i, tl.load(source + i, mask=i < 5))
        tl.store(source + i, 7.0, mask=i < 5)


def test_arrays_that_only_addresses_lead_to():
    arrays = [numbers(5) + n for n in range(3)]
    before = np.array(arrays)
    # Addresses of addresses; mlu.array says that a kernel may follow them.
    pointers = [mlu.array(array) for array in arrays]
    addresses = [mlu.array(np.array([pointer.data_ptr()], np.int64)) for pointer in pointers]
    table = np.array([address.data_ptr() for address in addresses], np.uint64)
    out = np.zeros((4, 8), np.float32)
    table_of_unpassed_arrays[(1,)](out, table, pointers[0].data_ptr(), 3, BLOCK=8)
    np.testing.assert_array_equal(out[:3, :5], before)
    assert out[3, 0] == before[0, 1]
    np.testing.assert_array_equal(arrays, np.full((3, 5), 7.0))
    stranger = np.zeros(1 << 22, np.float32)  # so large that it stands apart from the others
    addresses[1].array[0] = stranger.ctypes.data
    with pytest.raises(mlu.KernelFault, match=r"E0301(.|\n)*as long as mlu.array\(x\) of it is kept"):
        table_of_unpassed_arrays[(1,)](out, table, pointers[0].data_ptr(), 3, BLOCK=8)


@mlu.jit
def tensor_of_addresses(out, table, a, b, c, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    pointers = tl.load(table + i, mask=i < 3, other=0).to(tl.pointer_type(tl.float32))
    tl.store(out + i, tl.load(pointers + 2, mask=i < 3, other=-1))


def test_tensor_of_addresses():
    arrays = [numbers(n) + n for n in (5, 16, 9)]
    table = np.array([a.ctypes.data for a in arrays], np.int64)
    out = np.zeros(4, np.float32)
    tensor_of_addresses[(1,)](out, table, *arrays, BLOCK=4)
    np.testing.assert_array_equal(out, [*(a[2] for a in arrays), -1])


@mlu.jit
def addresses_as_integers(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    address = (x + i).to(tl.int64)
    tl.store(out + i, address - x.to(tl.int64))
    back = (address + 4).to(tl.pointer_type(tl.float32))
    tl.store(out + BLOCK + i, tl.load(back).to(tl.int64))


def test_addresses_as_integers():
    x, out = numbers(17), np.zeros(32, np.int64)
    addresses_as_integers[(1,)](out, x, BLOCK=16)
    np.testing.assert_array_equal(out, [*range(0, 64, 4), *x[1:].astype(np.int64)])


@mlu.jit
def other_pointee(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    words = x.to(tl.pointer_type(tl.int16))
    tl.store(out + i, tl.load(words + i))
    tiles = (x + i).to(tl.pointer_type(tl.int8), bitcast=True)
    tl.store(out + BLOCK + i, tl.load(tiles + 1))


def test_pointers_of_another_type():
    x, out = np.random.default_rng(0).integers(-(2**31), 2**31, 16).astype(np.int32), np.zeros(32, np.int16)
    other_pointee[(1,)](out, x, BLOCK=16)
    np.testing.assert_array_equal(out, [*x.view(np.int16)[:16], *x.view(np.int8)[1::4]])


@mlu.jit
def in_place(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(y + i, mask=i < n) * 2, mask=i < n)


def test_in_place():
    x = numbers(50)
    expected = x * 2
    in_place[(4,)](x, x, 50, BLOCK=16)
    np.testing.assert_array_equal(x, expected)


@mlu.jit
def shifted_in_place(x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    for k in range(0, n, BLOCK):
        values = tl.load(x + k + i)
        tl.store(x + k + 1 + i, values)


def test_a_loop_reads_what_it_wrote():
    x = numbers(65)
    expected = x.copy()
    for k in range(0, 64, 16):
        expected[k + 1 : k + 17] = expected[k : k + 16].copy()
    shifted_in_place[(1,)](x, 64, BLOCK=16)
    np.testing.assert_array_equal(x, expected)


@mlu.jit
def overlapping(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    for k in range(0, n, BLOCK):
        tl.store(out + k + i, tl.load(x + k + i) + 1)


def test_overlapping_arguments():
    x = numbers(65)
    expected = x.copy()
    for k in range(0, 64, 16):
        expected[k + 1 : k + 17] = expected[k : k + 16] + 1
    overlapping[(1,)](x[1:], x[:-1], 64, BLOCK=16)
    np.testing.assert_array_equal(x, expected)


@mlu.jit
def gather_in_pipelined_loop(out, x, index, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.range(0, n, BLOCK, num_stages=3):
        place = tl.load(index + k + i)
        value = tl.load(x + place)
        total += value
        tl.store(x + place, value + 1)
    tl.store(out + i, total)


def test_gathers_in_pipelined_loops_see_scatters():
    x, out = numbers(32), np.zeros(16, np.float32)
    index = np.concatenate([np.random.default_rng(k).permutation(32)[:16] for k in range(6)]).astype(np.int32)
    expected, state = np.zeros(16, np.float32), x.copy()
    for places in index.reshape(-1, 16):
        expected += state[places]
        state[places] += 1
    gather_in_pipelined_loop[(1,)](out, x, index, 96, BLOCK=16)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(x, state)


# ---- masks and other


@mlu.jit
def halo(out, x, n, shift, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = i + shift
    inside = (place >= 0) & (place < n)
    tl.store(out + i, tl.load(x + place, mask=inside, other=-1), mask=i < n)


@pytest.mark.parametrize("shift", [0, -3, 3, -20, 70])
def test_masks_with_lower_bounds(shift):
    x, out = numbers(50), np.zeros(50, np.float32)
    halo[(4,)](out, x, 50, shift, BLOCK=16)
    place = np.arange(50) + shift
    np.testing.assert_array_equal(out, np.where((place >= 0) & (place < 50), x[place.clip(0, 49)], -1))


@mlu.jit
def convolution(out, x, height, width, DY: tl.constexpr, DX: tl.constexpr, BLOCK: tl.constexpr):
    r, c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    y, z = r[:, None] + DY, c[None, :] + DX
    inside = (y >= 0) & (y < height) & (z >= 0) & (z < width)
    tile = tl.load(x + y * width + z, mask=inside, other=0.0)
    tl.store(out + r[:, None] * width + c[None, :], tile, mask=(r < height)[:, None] & (c < width)[None, :])


@pytest.mark.parametrize("shift", [(0, 0), (-1, 1), (2, -2), (-9, 9)])
def test_halos_of_convolutions(shift):
    x, out = numbers(13, 19), np.zeros((13, 19), np.float32)
    convolution[(2, 3)](out, x, 13, 19, *shift, BLOCK=8)
    padded = np.pad(x, 16)
    np.testing.assert_array_equal(out, padded[16 + shift[0] :, 16 + shift[1] :][:13, :19])


@mlu.jit
def lower_bound_store(out, x, low, high, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i), mask=(i >= low) & (i < high))


@pytest.mark.parametrize("bounds", [(0, 16), (3, 11), (-5, 30), (12, 4), (16, 16)])
def test_stores_with_lower_bounds(bounds):
    x, out = numbers(16), np.zeros(16, np.float32)
    lower_bound_store[(1,)](out, x, *bounds, BLOCK=16)
    i = np.arange(16)
    np.testing.assert_array_equal(out, np.where((i >= bounds[0]) & (i < bounds[1]), x, 0))


@mlu.jit
def any_mask(out, x, m, other, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    mask = tl.load(m + i) != 0
    tl.store(out + i, tl.load(x + i, mask=mask, other=other))
    tl.store(out + BLOCK + i, tl.load(x + i, mask=(i % 3 == 0) | (i > 10), other=i * 10))
    tl.store(out + 2 * BLOCK + i, tl.load(x + i, mask=~mask & (i < 9), other=tl.load(x + 1)))
    tl.store(out + 3 * BLOCK + i, 7.0, mask=mask)
    tl.store(out + 4 * BLOCK + i, tl.load(x + i, mask=False, other=3))
    tl.store(out + 5 * BLOCK + i, tl.load(x + i, mask=other > 5, other=i))


@pytest.mark.parametrize("other", [4.5, 6.0])
@pytest.mark.parametrize("dtype", [np.bool_, np.int8])
def test_any_mask_and_any_other(dtype, other):
    x, out = numbers(16), np.zeros((6, 16), np.float32)
    mask = np.random.default_rng(2).integers(0, 2, 16).astype(dtype)
    any_mask[(1,)](out, x, mask, other, BLOCK=16)
    i, m = np.arange(16), mask.astype(bool)
    np.testing.assert_array_equal(out[0], np.where(m, x, other))
    np.testing.assert_array_equal(out[1], np.where((i % 3 == 0) | (i > 10), x, i * 10))
    np.testing.assert_array_equal(out[2], np.where(~m & (i < 9), x, x[1]))
    np.testing.assert_array_equal(out[3], np.where(m, 7, 0))
    np.testing.assert_array_equal(out[4], np.full(16, 3))
    np.testing.assert_array_equal(out[5], x if other > 5 else i)


@mlu.jit
def broadcast_everything(out, x, y, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r, c = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    one = tl.load(x + r, mask=r < 5, other=9)
    row = tl.load(y + c)
    two = tl.load(x + r + c * 0, mask=c < 3, other=row)
    tl.store(out + r * COLUMNS + c, one)
    tl.store(out + ROWS * COLUMNS + r * COLUMNS + c, two, mask=(r < 7) & (c != 2))
    tl.store(out + 2 * ROWS * COLUMNS + r * COLUMNS + c, 5)
    tl.store(out + 3 * ROWS * COLUMNS + r * COLUMNS + c, row, mask=r > 2)


def test_broadcast_pointers_masks_values_and_other():
    x, y, out = numbers(8), numbers(4) + 50, np.zeros((4, 8, 4), np.float32)
    broadcast_everything[(1,)](out, x, y, ROWS=8, COLUMNS=4)
    r, c = np.arange(8)[:, None], np.arange(4)[None, :]
    expected = np.zeros((4, 8, 4), np.float32)
    expected[0] = np.where(r < 5, x[:, None], 9)
    expected[1] = np.where((r < 7) & (c != 2), np.where(c < 3, x[:, None], y), 0)
    expected[2] = 5
    expected[3] = np.where(r > 2, y, 0)
    np.testing.assert_array_equal(out, expected)


# ---- scalars, ranks and types


@mlu.jit
def scalars(out, x, flag):
    k = tl.program_id(0)
    tl.store(out + k, tl.load(x + k) + tl.load(x + 99, mask=flag > k, other=-2), mask=k != 1)
    tl.store(out + 10, 42, mask=k == 2)


def test_scalar_loads_and_stores():
    x, out = numbers(100), np.zeros(11, np.float32)
    scalars[(4,)](out, x, 3)
    expected = np.zeros(11, np.float32)
    expected[:4] = x[:4] + np.where(np.arange(4) < 3, x[99], -2)
    expected[1], expected[10] = 0, 42
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def scalars_of_any_type(out, x, BLOCK: tl.constexpr):
    for k in range(BLOCK):
        tl.store(out + k, tl.load(x + BLOCK - 1 - k))
    tl.store(out + BLOCK + tl.arange(0, BLOCK), tl.load(x + 1))


ALL = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
]


@pytest.mark.parametrize("dtype", ALL)
def test_scalars_of_every_type(dtype):
    x = np.random.default_rng(0).integers(0, 2**62, 8).astype(np.uint64).view(np.uint8)[: 8 * np.dtype(dtype).itemsize]
    x = (x & 1 if dtype == "bool" else x).copy().view(dtype)
    out = np.zeros(16, dtype)
    scalars_of_any_type[(1,)](out, x, BLOCK=8)
    np.testing.assert_array_equal(out, [*x[::-1], *[x[1]] * 8])


@mlu.jit
def truth_values(out, counts, a, b, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    p, q = tl.load(a + i, mask=i < n, other=True), tl.load(b + i, mask=i < n, other=False)
    tl.store(out + i, p & q)
    tl.store(out + BLOCK + i, p ^ q, mask=i < n)
    tl.store(out + 2 * BLOCK + i, i % 3 == 0)
    tl.store(out + 3 * BLOCK + i, p.to(tl.int32) + q)
    tl.store(counts, tl.sum(p.to(tl.int32)))


def test_arrays_of_truth_values():
    a, b = np.random.default_rng(5).integers(0, 2, (2, 16)).astype(bool)
    out, counts = np.zeros((4, 16), bool), np.zeros(1, np.int32)
    truth_values[(1,)](out, counts, a, b, 13, BLOCK=16)
    i = np.arange(16)
    p, q = np.where(i < 13, a, True), np.where(i < 13, b, False)
    np.testing.assert_array_equal(out[0], p & q)
    np.testing.assert_array_equal(out[1], np.where(i < 13, p ^ q, False))
    np.testing.assert_array_equal(out[2], i % 3 == 0)
    np.testing.assert_array_equal(out[3], p | q)
    assert counts[0] == p.sum()


@mlu.jit
def rank_5(out, x, s0, s1, s2, s3, s4, limit):
    a, b, c = tl.arange(0, 2), tl.arange(0, 4), tl.arange(0, 2)
    d, e = tl.arange(0, 4), tl.arange(0, 8)
    ab = a[:, None, None, None, None] * s0 + b[None, :, None, None, None] * s1
    cde = c[None, None, :, None, None] * s2 + d[None, None, None, :, None] * s3 + e[None, None, None, None, :] * s4
    place = ab + cde
    rows = a[:, None, None, None, None] * 256 + b[None, :, None, None, None] * 64
    dense = rows + c[None, None, :, None, None] * 32 + d[None, None, None, :, None] * 8 + e[None, None, None, None, :]
    mask = (e < limit)[None, None, None, None, :] & (b < 3)[None, :, None, None, None]
    tl.store(out + dense, tl.load(x + place, mask=mask, other=-1))
    tl.store(x + place, 5.0, mask=mask)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_rank_5(order):
    shape = (2, 4, 2, 4, 8)
    x = numbers(*(shape[d] for d in order))
    view = x.transpose(np.argsort(order))
    out = np.zeros(shape, np.float32)
    expected = np.full(shape, -1, np.float32)
    expected[:, :3, :, :, :5] = view[:, :3, :, :, :5]
    rank_5[(1,)](out, x, *(s // 4 for s in view.strides), 5)
    np.testing.assert_array_equal(out, expected)
    assert (view[:, :3, :, :, :5] == 5).all()
    assert (view != 5).any()


@mlu.jit
def hints(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i, cache_modifier=".cg", eviction_policy="evict_last", volatile=True)
    b = tl.load(x + i, mask=i < n, other=0.0, cache_modifier=".ca", eviction_policy="evict_first")
    i = tl.max_contiguous(tl.multiple_of(i, BLOCK), BLOCK)
    tl.store(out + i, a + b, mask=i < n, cache_modifier=".wt", eviction_policy="evict_first")


def test_hints_change_nothing():
    x, out = numbers(16), np.zeros(16, np.float32)
    hints[(1,)](out, x, 12, BLOCK=16)
    np.testing.assert_array_equal(out, np.where(np.arange(16) < 12, 2 * x, 0))


@mlu.jit
def periodic(out, x, n, shift, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + (i + shift) % n))
    tl.store(out + BLOCK + i, tl.load(x + (i // 4) * 2 + i % 4))


@pytest.mark.parametrize("shift", [0, 5, 23, 1000])
def test_positions_that_wrap(shift):
    x, out = numbers(24), np.zeros((2, 32), np.float32)
    periodic[(1,)](out, x, 24, shift, BLOCK=32)
    i = np.arange(32)
    np.testing.assert_array_equal(out, [x[(i + shift) % 24], x[i // 4 * 2 + i % 4]])


@mlu.jit
def transposed(out, x, o0, o1, s0, s1):
    r, c = tl.arange(0, 32)[:, None], tl.arange(0, 2)[None, :]
    tl.store(out + r * o0 + c * o1, tl.load(x + r * s0 + c * s1))


def test_views_of_arrays():
    x, out = numbers(6, 40), np.zeros((40, 3), np.float32)
    transposed[(1,)](out[:32, ::2], x[1::2, 3:35].T, *(s // 4 for s in out[:, ::2].strides), 1, 80)
    np.testing.assert_array_equal(out[:32, ::2], x[[1, 3], 3:35].T)
    assert not out[:, 1].any()


@mlu.jit
def copy_from_constant(out, x: tl.const, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    first = tl.load(x)
    tl.store(out + i, tl.load(x + i) - first)


def test_pointers_to_constants():
    x, out = numbers(16), np.zeros(16, np.float32)
    copy_from_constant[(1,)](out, x, BLOCK=16)
    np.testing.assert_array_equal(out, x - x[0])


@mlu.jit
def looks_twice(out, flag, VOLATILE: tl.constexpr):
    tl.store(out, tl.load(flag, volatile=VOLATILE) + tl.load(flag, volatile=VOLATILE))


@pytest.mark.parametrize(("volatile", "looks"), [(False, 1), (True, 2)])
def test_each_volatile_load_looks_anew(volatile, looks):
    out, flag = np.zeros(1, np.float32), np.ones(1, np.float32)
    run = looks_twice[(1,)](out, flag, volatile)
    assert out == 2
    assert sum(each.row.name == "dma.load" for each in run.program.instructions) == looks


@mlu.jit
def looks_twice_at_several(out, flags, places, VOLATILE: tl.constexpr, GATHERED: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = flags + (tl.load(places + i) if GATHERED else i)
    tl.store(out + i, tl.load(at, volatile=VOLATILE) + tl.load(at, volatile=VOLATILE))


@pytest.mark.parametrize(("gathered", "instruction"), [(False, "dma.load"), (True, "gather")])
def test_each_volatile_load_of_several_looks_anew(gathered, instruction):
    loads = list[int]()
    for volatile in (False, True):
        out, flags, places = np.zeros(64, np.float32), numbers(64), np.arange(64, dtype=np.int32)[::-1].copy()
        run = looks_twice_at_several[(1,)](out, flags, places, volatile, gathered, 64)
        np.testing.assert_array_equal(out, 2 * (flags[::-1] if gathered else flags))
        loads.append(sum(each.row.name == instruction for each in run.program.instructions))
    assert loads[1] == 2 * loads[0] > 0
