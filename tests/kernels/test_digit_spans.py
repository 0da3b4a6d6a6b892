"""What is found by digits of flat positions is looked up in the memory that a block of them spans."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

RANDOM = np.random.default_rng(0)


@mlu.jit
def pooled(
    out, x, total, H, W, OH, OW,
    S: tl.constexpr, P: tl.constexpr, D: tl.constexpr, K: tl.constexpr, B: tl.constexpr, WIDE: tl.constexpr = False,
):  # fmt: skip
    """The greatest of windows of K by K with a border, each S-th, of elements D apart."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    if WIDE:
        i = i.to(tl.int64)
    column, row, plane = i % OW, i // OW % OH, i // (OW * OH)
    best = tl.full((B,), -1.0, x.dtype.element_ty)
    for dy in tl.static_range(K):
        for dx in tl.static_range(K):
            y, z = row * S - P + dy * D, column * S - P + dx * D
            mask = (i < total) & (y >= 0) & (y < H) & (z >= 0) & (z < W)
            best = tl.maximum(best, tl.load(x + (plane * H + y) * W + z, mask=mask, other=-1.0))
    tl.store(out + i, best, mask=i < total)


def size(length, s, p, d, k):
    return (length + 2 * p - d * (k - 1) - 1) // s + 1


def best_of(x, s, p, d, k):
    planes, h, w = x.shape
    oh, ow = size(h, s, p, d, k), size(w, s, p, d, k)
    wide = np.pad(x, ((0, 0), (p, p), (p, p)), constant_values=-1)
    out = np.full((planes, oh, ow), -1, x.dtype)
    for dy in range(k):
        for dx in range(k):
            part = wide[:, dy * d : dy * d + s * oh : s, dx * d : dx * d + s * ow : s]
            out = np.maximum(out, part[:, :oh, :ow])
    return out


def pool(out, x, s, p, d, k, block, *, wide=False):
    programs = -(-out.size // block)
    return pooled[(programs,)](out, x, out.size, *x.shape[1:], *out.shape[1:], s, p, d, k, block, wide)


@pytest.mark.parametrize(
    ("machine", "s", "p", "d", "k"),
    [
        ("mlu590-m9", 1, 1, 1, 3),
        ("mlu590-m9", 2, 0, 1, 2),
        ("mlu590-m9", 1, 2, 3, 2),
        ("mlu370-x4", 2, 1, 1, 3),
        ("mlu370-x4", 3, 2, 1, 4),
    ],
)
def test_windows_of_flat_positions_are_looked_up(machine, s, p, d, k):
    x = RANDOM.random((2, 41, 37), np.float32)
    expected = best_of(x, s, p, d, k)
    out = np.empty_like(expected)
    mlu.set_machine(machine)
    try:
        run = on_both_engines(lambda: pool(out, x, s, p, d, k, 512), out)
    finally:
        mlu.set_machine("mlu590-m9")
    np.testing.assert_array_equal(out, expected)
    assert run.cycles < run.machine.gather_item_cycles * k * k * 512 / 2


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (3, 1, 2), (5, 3, 1), (130, 2, 2), (1, 40, 1), (2, 1, 300)])
def test_images_may_be_of_any_size(shape, dtype):
    x = RANDOM.random(shape).astype(dtype)
    expected = best_of(x, 1, 1, 1, 3)
    out = np.empty_like(expected)
    on_both_engines(lambda: pool(out, x, 1, 1, 1, 3, 256), out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("wide", [False, True])
def test_an_array_may_begin_within_another(wide):
    whole = RANDOM.random(5 * 30 * 30 + 100, np.float32)
    x = whole[100:].reshape(5, 30, 30)
    expected = best_of(x, 1, 1, 1, 3)
    out = np.empty_like(expected)
    on_both_engines(lambda: pool(out, x, 1, 1, 1, 3, 256, wide=wide), out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"], indirect=True)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("shape", [(3, 41, 37), (2, 1, 1), (1, 3, 2), (700, 1, 2), (1, 2, 1500)])
def test_windows_of_results_as_large_as_images_are_tiles(shape, wide, machine):
    x = RANDOM.random(shape, np.float32)
    expected = best_of(x, 1, 1, 1, 3)
    out = np.empty_like(expected)
    run = on_both_engines(lambda: pool(out, x, 1, 1, 1, 3, 1024, wide=wide), out)
    np.testing.assert_array_equal(out, expected)
    if shape == (3, 41, 37) and machine != "mlu-tiny":
        programs = -(-x.size // 1024)
        assert run.cycles < 9 * 1024 * run.machine.gather_local_item_cycles * -(-programs // run.machine.cores)
        # Three rows of each window are three loads.
        assert run.dram_read_bytes + run.l2_hit_bytes < 3 * 4 * 1100 * programs


@pytest.mark.parametrize(("rows", "columns"), [(42, 37), (41, 38)])
def test_a_mask_that_chooses_what_is_outside_of_an_array_is_a_fault(rows, columns):
    """Images are one after the other, so all but what is behind the last one is in the array."""
    x, out = RANDOM.random((1, 41, 37), np.float32), np.empty((1, rows, columns), np.float32)
    with pytest.raises(mlu.KernelFault, match="E0301"):
        pooled[(2,)](out, x, out.size, rows, columns, rows, columns, 1, 1, 1, 3, 1024)


@mlu.jit
def beside(out, x, n, W, away, B: tl.constexpr):
    """Elements so many away of each, which no mask keeps in the array."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + i // W * W + i % W + away, mask=i < n, other=0.0), mask=i < n)


@pytest.mark.parametrize("away", [0, -1, 1])
def test_elements_outside_of_an_array_that_no_mask_leaves_out_are_a_fault(away):
    x, out = RANDOM.random(2002, np.float32), np.empty(2002, np.float32)
    if away:
        with pytest.raises(mlu.KernelFault, match="E0301"):
            beside[(2,)](out, x, 2002, 7, away, 1024)
    else:
        run = on_both_engines(lambda: beside[(2,)](out, x, 2002, 7, away, 1024), out)
        np.testing.assert_array_equal(out, x)
        # Of rows that do not fill an image, the last ends behind the array for all that is known: those are looked up.
        looked_up = beside[(2,)](out, x[:2001], 2001, 7, away, 1024)
        assert run.cycles < looked_up.cycles - 0.9 * run.machine.gather_local_item_cycles * 1024


@mlu.jit
def behind(out, x, n, W, first, away, B: tl.constexpr):
    """The same behind a place within the array."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + first + (i // W * W + i % W + away), mask=i < n, other=0.0), mask=i < n)


@pytest.mark.parametrize("first", [20, 50, 98, 19, 99])
def test_elements_before_a_place_within_an_array_are_found(first):
    x, out = RANDOM.random(2080, np.float32), np.empty(2002, np.float32)
    if 20 <= first <= 98:
        on_both_engines(lambda: behind[(2,)](out, x, 2002, 7, first, -20, 1024), out)
        np.testing.assert_array_equal(out, x[first - 20 : first + 1982])
    else:
        with pytest.raises(mlu.KernelFault, match="E0301"):
            behind[(2,)](out, x, 2002, 7, first, -20, 1024)


def test_windows_that_are_too_far_apart_go_item_by_item():
    """Two rows of such an image do not fit on chip."""
    x = RANDOM.random((1, 3, 60_000), np.float32)
    expected = best_of(x, 1, 1, 1, 2)
    out = np.empty_like(expected)
    run = pool(out, x, 1, 1, 1, 2, 1024)
    np.testing.assert_array_equal(out, expected)
    assert run.cycles > run.machine.gather_item_cycles * 4 * 1024


def test_what_is_written_is_not_kept():
    x = np.zeros((4, 16, 16), np.float32)
    x[:, ::5, ::3] = 1
    run = pool(x, x, 1, 0, 1, 1, 256)
    assert run.cycles
    assert x.sum() == 4 * 4 * 6


@mlu.jit
def shifted(out, x, n, W, shift, B: tl.constexpr):
    """Positions that may be negative, of which quotients are rounded towards zero."""
    i = tl.program_id(0) * B + tl.arange(0, B) - shift
    inside = (i >= 0) & (i < n)
    tl.store(out + shift + i, tl.load(x + i // W * W + (W - 1 - i % W), mask=inside, other=0.0), mask=i < n)


@pytest.mark.parametrize("shift", [0, 1, 300])
def test_positions_may_be_negative(shift):
    x = RANDOM.random((40, 25), np.float32)
    out = np.empty(x.size + shift, np.float32)
    on_both_engines(lambda: shifted[(-(-out.size // 256),)](out, x, x.size, 25, shift, 256), out)
    np.testing.assert_array_equal(out, [*np.zeros(shift, np.float32), *x[:, ::-1].ravel()])


@mlu.jit
def unmasked(out, x, n, W, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + (i // W + 1) * W + (W - 1 - i % W), mask=i < n), mask=i < n)


def test_what_lies_behind_the_array_is_the_fault_of_its_element(monkeypatch):
    x, out = np.zeros((40, 25), np.float32), np.empty(1000, np.float32)
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        with pytest.raises(mlu.KernelFault, match="E0301") as caught:
            unmasked[(4,)](out, x, x.size, 25, 256)
        assert "program (3, 0, 0)" in str(caught.value)
        assert caught.value.location is not None


@mlu.jit
def transposed_convolution(
    out, x, w, total, C, M, H, W, OH, OW, S: tl.constexpr, P: tl.constexpr, K: tl.constexpr, B: tl.constexpr
):
    i = tl.program_id(0) * B + tl.arange(0, B)
    column, row, o, image = i % OW, i // OW % OH, i // (OW * OH) % M, i // (OW * OH * M)
    total_of = tl.zeros((B,), tl.float32)
    for c in range(C):
        for dy in tl.static_range(K):
            for dx in tl.static_range(K):
                y, z = row + P - dy, column + P - dx
                mask = (i < total) & (y >= 0) & (z >= 0) & (y % S == 0) & (z % S == 0) & (y // S < H) & (z // S < W)
                a = tl.load(x + ((image * C + c) * H + y // S) * W + z // S, mask=mask, other=0.0)
                total_of += a * tl.load(w + ((c * M + o) * K + dy) * K + dx, mask=i < total, other=0.0)
    tl.store(out + i, total_of, mask=i < total)


@pytest.mark.parametrize(("s", "k"), [(2, 3), (3, 2)])
def test_quotients_of_digits_are_spanned(s, k):
    images, c, o, h, w, p = 2, 2, 2, 7, 6, 1
    x = RANDOM.integers(-4, 5, (images, c, h, w)).astype(np.float32)
    weights = RANDOM.integers(-4, 5, (c, o, k, k)).astype(np.float32)
    full = np.zeros((images, o, (h - 1) * s + k, (w - 1) * s + k), np.float32)
    for dy in range(k):
        for dx in range(k):
            part = np.einsum("nchw,co->nohw", x, weights[:, :, dy, dx])
            full[:, :, dy : dy + s * h : s, dx : dx + s * w : s][:, :, :h, :w] += part
    expected = full[:, :, p:-p, p:-p]
    out = np.empty(expected.shape, np.float32)
    sizes = (out.size, c, o, h, w, *expected.shape[2:], s, p, k, 256)
    run = on_both_engines(lambda: transposed_convolution[(-(-out.size // 256),)](out, x, weights, *sizes), out)
    np.testing.assert_array_equal(out, expected)
    assert run.cycles < run.machine.gather_item_cycles * k * k * c * 256 / 2


@mlu.jit
def convolution(
    out, x, w, N, C, H, W, M, OH, OW,
    S: tl.constexpr, P: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """As a product of pixels and taps."""
    m, o = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    n, r = m // (OH * OW), m % (OH * OW)
    total = tl.zeros((BM, BN), tl.float32)
    for begin in range(0, C * K * K, BK):
        k = begin + tl.arange(0, BK)
        c, dy, dx = k // (K * K), k % (K * K) // K, k % (K * K) % K
        y, z = (r // OW)[:, None] * S - P + dy[None, :], (r % OW)[:, None] * S - P + dx[None, :]
        mask = (m[:, None] < N * OH * OW) & (k[None, :] < C * K * K) & (y >= 0) & (y < H) & (z >= 0) & (z < W)
        a = tl.load(x + n[:, None] * (C * H * W) + c[None, :] * (H * W) + y * W + z, mask=mask, other=0.0)
        inside = (o[None, :] < M) & (k[:, None] < C * K * K)
        total += tl.dot(a, tl.load(w + o[None, :] * (C * K * K) + k[:, None], mask=inside, other=0.0))
    place = n[:, None] * (M * OH * OW) + o[None, :] * (OH * OW) + r[:, None]
    tl.store(out + place, total, mask=(m[:, None] < N * OH * OW) & (o[None, :] < M))


@pytest.mark.parametrize(("h", "w", "s"), [(16, 16, 1), (9, 7, 1), (20, 12, 2)])
def test_a_product_of_pixels_and_taps(h, w, s):
    n, c, o, p, k = 2, 5, 20, 1, 3
    x = RANDOM.integers(-4, 5, (n, c, h, w)).astype(np.float16)
    weights = RANDOM.integers(-4, 5, (o, c, k, k)).astype(np.float16)
    oh, ow = size(h, s, p, 1, k), size(w, s, p, 1, k)
    wide = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))).astype(np.float32)
    expected = sum(
        np.einsum("nchw,oc->nohw", wide[:, :, dy : dy + s * oh : s, dx : dx + s * ow : s][:, :, :oh, :ow], tap)
        for dy in range(k)
        for dx in range(k)
        for tap in [weights[:, :, dy, dx].astype(np.float32)]
    )
    out = np.empty((n, o, oh, ow), np.float32)
    sizes = (n, c, h, w, o, oh, ow, s, p, k, 32, 32, 16)
    run = on_both_engines(lambda: convolution[(-(-n * oh * ow // 32), 1)](out, x, weights, *sizes), out)
    np.testing.assert_array_equal(out, expected)
    # A product of round sizes is round: no image ends amid the pixels of a program, whose results are a tile then.
    assert (run.cycles < run.machine.gather_item_cycles * 32 * 32) == (h == 16)


@mlu.jit
def below(out, x, bias, H, W, channels, total, B: tl.constexpr):
    """The neighbour below, the last row's being 0, and a number for each channel."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    column, row, plane = i % W, i // W % H, i // (H * W)
    value = tl.load(x + (plane * H + row + 1) * W + column, mask=(i < total) & (row + 1 < H), other=0.0)
    tl.store(out + i, value + tl.load(bias + plane % channels, mask=i < total, other=0.0), mask=i < total)


def test_round_sizes_and_windows_go_together():
    """The numbers of channels are repeated where rows are round, and looked up one by one where they are not."""
    cycles: dict[int, int] = {}
    for width in (64, 63):
        x, bias = RANDOM.random((8, 32, width), np.float32), RANDOM.random(4, np.float32)
        out = np.empty_like(x)
        sizes = (32, width, 4, x.size)
        launch = below[(-(-x.size // 512),)]
        run = on_both_engines(
            lambda launch=launch, x=x, bias=bias, sizes=sizes, out=out: launch(out, x, bias, *sizes, 512), out
        )
        lower = np.concatenate([x[:, 1:], np.zeros_like(x[:, :1])], axis=1)
        np.testing.assert_array_equal(out, lower + np.tile(bias, 2)[:, None, None])
        cycles[width] = run.cycles
    machine = mlu.current_machine()
    assert cycles[64] + machine.gather_local_item_cycles * 256 < cycles[63] < machine.gather_item_cycles * 512
