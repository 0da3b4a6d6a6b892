"""Accesses at digits of flat positions, ``index // size % size``: tiles, rows or repeated elements where they can."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines

RANDOM = np.random.default_rng(0)


@mlu.jit
def permuted(out, x, n, S: tl.constexpr, H: tl.constexpr, D: tl.constexpr, B: tl.constexpr):
    """Axes 1 and 2 of [batch, S, H, D] exchanged."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    mask = i < n
    d, s, h, z = i % D, i // D % S, i // (D * S) % H, i // (D * S * H)
    tl.store(out + i, tl.load(x + d + h * D + s * (H * D) + z * (S * H * D), mask=mask), mask=mask)


@mlu.jit
def permuted_out(out, x, n, S: tl.constexpr, H: tl.constexpr, D: tl.constexpr, B: tl.constexpr):
    """As `permuted`, with the digits in the addresses that are stored to."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    mask = i < n
    d, h, s, z = i % D, i // D % H, i // (D * H) % S, i // (D * S * H)
    tl.store(out + d + s * D + h * (S * D) + z * (S * H * D), tl.load(x + i, mask=mask), mask=mask)


@mlu.jit
def by_channel(out, x, weight, n, HW: tl.constexpr, C: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    mask = i < n
    tl.store(out + i, tl.load(x + i, mask=mask) * tl.load(weight + i // HW % C, mask=mask, other=2.0), mask=mask)


@mlu.jit
def by_any_channel(out, x, weight, n, HW, C, B: tl.constexpr):
    """As `by_channel`, for sizes that are arguments, in a loop."""
    row = tl.program_id(0)
    for begin in range(0, n, B):
        i = begin + tl.arange(0, B)
        mask = i < n
        value = tl.load(x + row * n + i, mask=mask) * tl.load(weight + (row * n + i) // HW % C, mask=mask)
        tl.store(out + row * n + i, value, mask=mask)


@mlu.jit
def halves(out, a, b, n, D: tl.constexpr, START: tl.constexpr, B: tl.constexpr):
    """Rows of two matrices beside each other, from some position on."""
    i = START + tl.program_id(0) * B + tl.arange(0, B)
    mask, d, row = i < n, i % (2 * D), i // (2 * D)
    left = tl.load(a + row * D + d, mask=mask & (d < D), other=-1.0)
    right = tl.load(b + row * D + (d - D), mask=mask & (d >= D), other=-2.0)
    tl.store(out + i, tl.where(d < D, left, right), mask=mask)


@mlu.jit
def channels_last(out, x, rows, columns, C: tl.constexpr, HW: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr):
    y = tl.program_id(1) * B0 + tl.arange(0, B0)[:, None]
    xx = tl.program_id(0) * B1 + tl.arange(0, B1)[None, :]
    mask = (y < rows) & (xx < columns)
    tl.store(out + y % C + C * xx + C * HW * (y // C), tl.load(x + xx + HW * y, mask=mask), mask=mask)


@mlu.jit
def shifted_pixels(
    out, x, dy, dx, C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr
):
    """Rows of pixels of an image [N, H, W, C], each taken from elsewhere, or 0 from outside."""
    m, c = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BC + tl.arange(0, BC)
    n, h, w = m // (H * W), m // W % H + dy, m % W + dx
    inside = (h >= 0) & (h < H) & (w >= 0) & (w < W)
    value = tl.load(x + ((n * H + h) * W + w)[:, None] * C + c[None, :], mask=inside[:, None], other=0.0)
    tl.store(out + m[:, None] * C + c[None, :], value)


@pytest.mark.parametrize("kernel", [permuted, permuted_out])
@pytest.mark.parametrize(
    ("batch", "s", "h", "d", "block"),
    [
        (2, 8, 4, 16, 64),
        (2, 8, 4, 16, 1024),
        (1, 16, 3, 48, 256),
        (3, 5, 7, 20, 128),
        (2, 3, 5, 7, 64),
        (2, 64, 2, 2, 32),
    ],
)
def test_permuted_axes(kernel, batch, s, h, d, block):
    x = RANDOM.standard_normal((batch, s, h, d), np.float32)
    out = np.full((batch, h, s, d), -9, np.float32)
    n = x.size - (5 if kernel is permuted else 0)
    on_both_engines(lambda: kernel[-(-x.size // block),](out, x, n, S=s, H=h, D=d, B=block), out)
    np.testing.assert_array_equal(out.ravel()[:n], x.transpose(0, 2, 1, 3).ravel()[:n])


@pytest.mark.parametrize(("hw", "channels"), [(64, 8), (56, 6), (49, 5), (1, 64), (1, 48), (3136, 3), (16, 1)])
@pytest.mark.parametrize("missing", [0, 16, 3])
def test_weights_of_channels(hw, channels, missing):
    x = RANDOM.standard_normal((3, channels, hw), np.float32)
    weight = RANDOM.standard_normal(channels, np.float32)
    n, wanted = x.size - missing, (x * weight[:, None]).ravel()
    out = np.full(x.size, -9, np.float32)
    on_both_engines(lambda: by_channel[-(-n // 256),](out, x, weight, n, HW=hw, C=channels, B=256), out)
    np.testing.assert_array_equal(out[:n], wanted[:n])
    assert (out[n:] == -9).all()
    length = n // 3
    out[:] = -9
    on_both_engines(lambda: by_any_channel[3,](out, x, weight, length, hw, channels, B=128), out)
    np.testing.assert_array_equal(out[: 3 * length], wanted[: 3 * length])


@pytest.mark.parametrize(("d", "start"), [(64, 0), (48, 0), (16, 8), (20, 0), (8, 3)])
def test_halves_of_rows(d, start):
    a, b = RANDOM.standard_normal((2, 40, d), np.float32)
    wanted = np.concatenate([a, b], 1)
    out = np.full_like(wanted, -9)
    on_both_engines(lambda: halves[-(-out.size // 128),](out, a, b, out.size, D=d, START=start, B=128), out)
    np.testing.assert_array_equal(out.ravel()[start:], wanted.ravel()[start:])


@pytest.mark.parametrize(("channels", "block"), [(64, 64), (16, 64), (48, 64), (64, 16)])
def test_channels_last(channels, block):
    x = RANDOM.standard_normal((3, channels, 100), np.float32)
    out = np.full((3, 100, channels), -9, np.float32)
    grid = (-(-100 // 32), -(-3 * channels // block))
    on_both_engines(lambda: channels_last[grid](out, x, 3 * channels, 100, C=channels, HW=100, B0=block, B1=32), out)
    np.testing.assert_array_equal(out, x.transpose(0, 2, 1))


@pytest.mark.parametrize(("dy", "dx"), [(-1, -1), (0, 1), (1, 0), (20, 0)])
@pytest.mark.parametrize(("h", "w"), [(8, 16), (4, 32), (16, 8), (6, 12)])
def test_images_that_are_shifted(dy, dx, h, w):
    x = RANDOM.standard_normal((4, h, w, 16), np.float32)
    out, wanted = np.full_like(x, -9), np.zeros_like(x)
    rows, columns = range(max(0, -dy), min(h, h - dy)), range(max(0, -dx), min(w, w - dx))
    for row in rows:
        for column in columns:
            wanted[:, row, column] = x[:, row + dy, column + dx]
    on_both_engines(lambda: shifted_pixels[x.size // 16 // 32, 1](out, x, dy, dx, C=16, H=h, W=w, BM=32, BC=16), out)
    np.testing.assert_array_equal(out, wanted)


@mlu.jit
def pooled(out, x, n, H: tl.constexpr, W: tl.constexpr, STEP: tl.constexpr, B: tl.constexpr):
    """The greatest of STEP by 2 elements, of images that are STEP times as wide and twice as high."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    mask, w, h, c = i < n, i % W, i // W % H, i // (H * W)
    begin = x + (c * 2 * H + 2 * h) * (STEP * W) + STEP * w
    greatest = tl.load(begin, mask=mask, other=-8.0)
    for row in tl.static_range(2):
        for column in tl.static_range(STEP):
            greatest = tl.maximum(greatest, tl.load(begin + row * (STEP * W) + column, mask=mask, other=-8.0))
    tl.store(out + i, greatest, mask=mask)


@pytest.mark.parametrize(("h", "w"), [(4, 8), (3, 56), (5, 6), (2, 32)])
@pytest.mark.parametrize(("step", "missing"), [(2, 0), (3, 8), (9, 0), (2, 5)])
def test_pools_of_neighbours(h, w, step, missing):
    # Memory ends with the last element that is wanted.
    x = RANDOM.standard_normal((5, 2 * h, w * step), np.float32)
    wanted = x.reshape(5, h, 2, w, step).max((2, 4)).ravel()
    out = np.full(wanted.size, -9, np.float32)
    n = out.size - missing
    on_both_engines(lambda: pooled[-(-n // 64),](out, x, n, H=h, W=w, STEP=step, B=64), out)
    np.testing.assert_array_equal(out[:n], wanted[:n])
    assert (out[n:] == -9).all()


def test_few_items_are_gathered_one_by_one():
    x, weight = RANDOM.standard_normal((64, 8 * 56), np.float32), RANDOM.standard_normal(8, np.float32)
    out = np.empty_like(x)
    run = by_channel[x.size // 1024,](out, x, weight, x.size, HW=56, C=8, B=1024)
    # Each program has a core for itself; as many items as it has elements would take 28 cycles each.
    assert run.cycles < 1024 * 28 / 2


@mlu.jit
def by_flat_channel(out, x, weight, n, HW, C, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + i, mask=i < n, other=1.0) * tl.load(weight + i // HW % C, mask=i < n, other=2.0)
    tl.store(out + i, value, mask=i < n)


@pytest.mark.parametrize("size", [64, 128, 192, 16, 48, 112, 49, 7])
@pytest.mark.parametrize("missing", [0, 16, 64, 5])
def test_sizes_that_only_the_launch_knows(size, missing):
    channels, block = 3, 256
    x = RANDOM.standard_normal((4, channels, size), np.float32)
    weight, out = RANDOM.standard_normal(channels, np.float32), np.zeros_like(x)
    n = x.size - missing
    on_both_engines(lambda: by_flat_channel[(-(-n // block),)](out, x, weight, n, size, channels, B=block), out)
    expected = x * weight[:, None]
    expected.reshape(-1)[n:] = 0
    np.testing.assert_array_equal(out, expected)


def test_rows_are_long_where_the_launch_says_so():
    def cycles(size):
        x = RANDOM.standard_normal((64, 16, size), np.float32)
        # Weights of which there are too many to look them up on chip.
        weight, out = RANDOM.standard_normal(1 << 18, np.float32), np.zeros_like(x)
        run = by_flat_channel[(x.size // 1024,)](out, x, weight, x.size, size, 16, B=1024)
        np.testing.assert_array_equal(out, x * weight[:16, None])
        return run.cycles / x.size

    assert cycles(192) < cycles(208) * 0.8, "192 is a multiple of 64, 208 of 16"


@mlu.jit
def rolled(out, x, begin, n, shift, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + begin + (i + shift) % n, mask=i < n), mask=i < n)


@pytest.mark.parametrize("n", [1024, 1000, 96, 7])
@pytest.mark.parametrize("shift", [0, 1, 5, 64, 999, 4000, -1, -64, -300])
def test_rolled_rows(n, shift):
    """As in C, a remainder has the sign of its dividend: negative shifts reach in front of the begin."""
    x, out = RANDOM.standard_normal(2 * n, np.float32), np.zeros(n, np.float32)
    on_both_engines(lambda: rolled[(-(-n // 128),)](out, x, n, n, shift, B=128), out)
    np.testing.assert_array_equal(out, x[n + np.fmod(np.arange(n) + shift, n)])


def test_a_shift_that_is_not_negative_moves_rows():
    x = RANDOM.standard_normal(1 << 16, np.float32)
    out = np.zeros_like(x)
    right = rolled[(64,)](out, x, 0, x.size, 12345, B=1024)
    np.testing.assert_array_equal(out, np.roll(x, -12345))
    one_by_one = 1024 * mlu.machine("mlu590-m9").gather_item_cycles
    assert right.cycles < one_by_one


@mlu.jit
def patches(
    out, x, H, W, C, n, SIZE: tl.constexpr, REACH: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, WIDE: tl.constexpr
):
    """What lies around each pixel of images [N, H, W, C] in a row, 0 outside: the left side of a convolution."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    image, h, w = m // (H * W), m // W % H, m % W
    for begin in range(0, SIZE * SIZE * C, BK):
        k = begin + tl.arange(0, BK)
        if WIDE:
            k = k.to(tl.int64)
        y, z = h[:, None] - REACH + (k // (SIZE * C))[None, :], w[:, None] - REACH + (k // C % SIZE)[None, :]
        inside = (y >= 0) & (y < H) & (z >= 0) & (z < W) & (m < n)[:, None]
        kept = (m < n)[:, None] & (k < SIZE * SIZE * C)[None, :]
        value = tl.load(x + ((image[:, None] * H + y) * W + z) * C + (k % C)[None, :], mask=inside & kept, other=0.0)
        tl.store(out + m[:, None] * (SIZE * SIZE * C) + k[None, :], value, mask=kept)


def images_and_patches(h, w, channels, size, reach):
    x = RANDOM.standard_normal((2, h, w, channels), np.float32)
    padded = np.pad(x, ((0, 0), (reach, size), (reach, size), (0, 0)))
    parts = [padded[:, y : y + h, z : z + w] for y in range(size) for z in range(size)]
    return x, np.stack(parts, 3).reshape(2 * h * w, -1)


@pairs_of(
    ("channels", [16, 48, 20, 5]),
    (("size", "reach"), [(3, 1), (2, 0), (4, 3)]),
    ("wide", [False, True]),
)
def test_patches_around_pixels(channels, size, reach, wide):
    x, wanted = images_and_patches(5, 7, channels, size, reach)
    out = np.full((80, wanted.shape[1]), -9, np.float32)
    block = {"BM": 16, "BK": 16, "WIDE": wide}
    on_both_engines(lambda: patches[(5,)](out, x, 5, 7, channels, 70, size, reach, **block), out)
    np.testing.assert_array_equal(out[:70], wanted)
    assert (out[70:] == -9).all()


def test_channels_of_patches_come_together():
    def cycles(channels):
        # Images that are too large to look elements up on chip.
        x, wanted = images_and_patches(99, 101, channels, 3, 1)
        out = np.zeros((80, wanted.shape[1]), np.float32)
        run = patches[(5,)](out, x, 99, 101, channels, 2 * 99 * 101, 3, 1, BM=16, BK=16, WIDE=False)
        np.testing.assert_array_equal(out, wanted[:80])
        return run.cycles / out.size

    assert cycles(48) < cycles(52) / 2, "48 is a multiple of 16"


@mlu.jit
def permuted_by_bits(out, x, n, shift, FORM: tl.constexpr, D: tl.constexpr, H: tl.constexpr, B: tl.constexpr):
    """Axes of [S, 2 ** H, 2 ** D] exchanged; positions in front of the begin are taken as two's complement has them."""
    i = tl.program_id(0) * B + tl.arange(0, B) + shift
    mask = (i < n) & (i >= shift)
    if FORM == "unsigned":
        u = i.to(tl.uint32)
        d, h, s = u % (1 << D), u // (1 << D) % (1 << H), u // (1 << (D + H))
    elif FORM == "wide":
        w = i.to(tl.int64)
        d, h, s = w & ((1 << D) - 1), (w >> D) & ((1 << H) - 1), w >> (D + H)
    else:
        d, h, s = i & ((1 << D) - 1), (i >> D) & ((1 << H) - 1), i >> (D + H)
    value = tl.load(x + h * (n >> H) + s * (1 << D) + d, mask=mask & (i >= 0), other=-1)
    tl.store(out + i, value, mask=mask & (i >= 0))
    below = ((i >> 2) & 7) * 4 + (i & 3)
    tl.store(out + n + (i - shift), tl.load(x + below, mask=mask, other=0), mask=mask & (i < 0))


@pairs_of(
    (("s", "h", "d"), [(5, 2, 4), (3, 3, 6), (7, 1, 2), (2, 2, 9)]),
    ("form", ["signed", "unsigned", "wide"]),
    ("shift", [0, -5, -16]),
)
def test_digits_that_bits_take(form, s, h, d, shift):
    x = np.arange(s << (h + d), dtype=np.int32).reshape(1 << h, s, 1 << d)
    out = np.full(x.size + 16, -9, np.int32)
    grid = (-(-(x.size - shift) // 128),)
    on_both_engines(lambda: permuted_by_bits[grid](out, x, x.size, shift, FORM=form, D=d, H=h, B=128), out)
    np.testing.assert_array_equal(out[: x.size], x.swapaxes(0, 1).ravel())
    np.testing.assert_array_equal(out[x.size : x.size - shift], np.arange(32 + shift, 32))
    assert (out[x.size - shift :] == -9).all()


def test_digits_that_bits_take_are_those_of_divisions():
    @mlu.jit
    def divided(out, x, n, B: tl.constexpr):
        i = tl.program_id(0) * B + tl.arange(0, B)
        tl.store(out + i, tl.load(x + i % 64 + i // 64 % 4 * (n // 4) + i // 256 * 64))

    @mlu.jit
    def shifted(out, x, n, B: tl.constexpr):
        i = tl.program_id(0) * B + tl.arange(0, B)
        tl.store(out + i, tl.load(x + (i & 63) + ((i >> 6) & 3) * (n // 4) + (i >> 8) * 64))

    x = np.arange(1 << 18, dtype=np.int32)
    outs = np.zeros((2, x.size), np.int32)
    cycles = [
        kernel[(256,)](out, x, x.size, B=1024).cycles for kernel, out in zip((divided, shifted), outs, strict=True)
    ]
    np.testing.assert_array_equal(outs[0], x.reshape(4, -1, 64).swapaxes(0, 1).ravel())
    np.testing.assert_array_equal(*outs)
    assert cycles[1] <= cycles[0]


@mlu.jit
def with_a_border(out, x, n, height, width, BLOCK: tl.constexpr):
    """Images with a border of one element, of sizes of which nothing is known."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column, row, image = place % width, place // width % height, place // (width * height)
    values = tl.load(x + place, mask=place < n)
    tl.store(out + (image * (height + 2) + row + 1) * (width + 2) + column + 1, values, mask=place < n)


def bordered(images, height, width):
    x = np.random.default_rng(width).standard_normal((images, height, width), np.float32)
    out = np.zeros((images, height + 2, width + 2), np.float32)
    grid = (-(-x.size // 256),)
    run = on_both_engines(lambda: with_a_border[grid](out, x, x.size, height, width, BLOCK=256), out)
    np.testing.assert_array_equal(out, np.pad(x, ((0, 0), (1, 1), (1, 1))))
    return run


@pytest.mark.parametrize(("height", "width"), [(28, 28), (7, 12), (4, 4), (27, 30), (5, 7), (3, 1), (1, 3)])
def test_images_of_any_width(height, width):
    bordered(5, height, width)


def test_rows_of_four_are_fewer_items_than_elements():
    def cycles(height, width):
        x, out = mlu.spec((256, height, width), np.float32), mlu.spec((256, height + 2, width + 2), np.float32)
        n = 256 * height * width
        return mlu.estimate(with_a_border, (-(-n // 1024),), out, x, n, height, width, BLOCK=1024).cycles

    assert cycles(27, 28) < 0.5 * cycles(28, 27)
