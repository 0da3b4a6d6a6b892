"""Loops that add up products take several steps at once: the same values to the bit, in fewer cycles."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of


@mlu.jit
def product(a, b, c, scale, rows, columns, depth, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for first in range(0, depth, BK):
        k = first + tl.arange(0, BK)
        left = tl.load(a + m * depth + k[None, :], mask=k[None, :] < depth, other=0.0)
        right = tl.load(b + k[:, None] * columns + n[None, :], mask=k[:, None] < depth, other=0.0)
        total += tl.dot(left, right.to(tl.float16) * tl.load(scale + n)[None, :])
    tl.store(c + m * columns + n[None, :], total)


@mlu.jit
def product_by_pointers(a, b, c, rows, columns, depth, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    n = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    k = tl.arange(0, BK)
    left, right = a + m * depth + k[None, :], b + k[:, None] * columns + n
    total = tl.zeros((BM, BN), tl.float32)
    for step in range(tl.cdiv(depth, BK)):
        rest = depth - step * BK
        x = tl.load(left, mask=k[None, :] < rest, other=0.0)
        y = tl.load(right, mask=k[:, None] < rest, other=0.0)
        total = tl.dot(x, y, total)
        left += BK
        right += BK * columns
    tl.store(c + m * columns + n, total)


@mlu.jit
def product_of_turned(a, b, c, rows, columns, depth, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for first in range(0, depth, BK):
        k = first + tl.arange(0, BK)
        left = tl.load(a + k[None, :] * rows + m[:, None])
        right = tl.load(b + n[:, None] * depth + k[None, :])
        total += tl.dot(left, right.T)
    tl.store(c + m[:, None] * columns + n[None, :], total)


def halves(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16)


def both(launch, shape, **options):
    """What a launch gives with deeper steps and without, and the two runs."""
    deep, plain = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    runs = launch(deep, num_stages=2, **options), launch(plain, num_stages=1, **options)
    np.testing.assert_array_equal(deep.view(np.int32), plain.view(np.int32))
    return deep, *runs


@pairs_of(("depth", [1, 32, 150, 500]), ("cores", [1, 4]), ("engine", ["native", "interpreter"]))
def test_weights_of_bytes_with_scales(engine, cores, depth, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(depth)
    a, scale = halves(rng, 64, depth), rng.random(64).astype(np.float16)
    b = rng.integers(-9, 9, (depth, 64), dtype=np.int8)
    c, *_ = both(
        lambda c, **options: product[(2, 2)](a, b, c, scale, 64, 64, depth, BM=32, BN=32, BK=32, **options),
        (64, 64),
        num_warps=cores,
    )
    expected = a.astype(np.float32) @ (b.astype(np.float16) * scale).astype(np.float32)
    np.testing.assert_allclose(c, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("cores", [1, 4])
@pytest.mark.parametrize("depth", [16, 250, 512])
def test_pointers_that_move_on(cores, depth):
    rng = np.random.default_rng(depth)
    a, b = halves(rng, 64, depth), halves(rng, depth, 96)
    c, *_ = both(
        lambda c, **options: product_by_pointers[(2, 3)](a, b, c, 64, 96, depth, BM=32, BN=32, BK=32, **options),
        (64, 96),
        num_warps=cores,
    )
    np.testing.assert_allclose(c, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("cores", [1, 4])
@pytest.mark.parametrize("depth", [16, 240])
def test_transposed_tiles(cores, depth):
    rng = np.random.default_rng(depth)
    a, b = halves(rng, depth, 64), halves(rng, 64, depth)
    c, *_ = both(
        lambda c, **options: product_of_turned[(2, 2)](a, b, c, 64, 64, depth, BM=32, BN=32, BK=16, **options),
        (64, 64),
        num_warps=cores,
    )
    np.testing.assert_allclose(c, a.T.astype(np.float32) @ b.T.astype(np.float32), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("cores", "share"), [(1, 0.45), (4, 0.35)])
def test_short_steps_take_less(cores, share):
    rng = np.random.default_rng(0)
    a, b = halves(rng, 512, 1024), halves(rng, 1024, 512)
    _, deep, plain = both(
        lambda c, **options: product_by_pointers[(8, 8)](a, b, c, 512, 512, 1024, BM=64, BN=64, BK=32, **options),
        (512, 512),
        num_warps=cores,
    )
    assert deep.cycles < share * plain.cycles


@mlu.jit
def product_of_chosen_rows(a, b, c, chosen, rows, columns, depth, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Rows of a that a table chooses, to rows of c that it chooses too; a number that is no row chooses none."""
    row = tl.load(chosen + tl.program_id(0) * BM + tl.arange(0, BM))
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    is_there = row < rows
    left, right = a + row[:, None] * depth + k[None, :], b + k[:, None] * columns + n[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for step in range(tl.cdiv(depth, BK)):
        rest = depth - step * BK
        x = tl.load(left, mask=is_there[:, None] & (k[None, :] < rest), other=0.0)
        y = tl.load(right, mask=k[:, None] < rest, other=0.0)
        total = tl.dot(x, y, total)
        left += BK
        right += BK * columns
    tl.store(c + row[:, None] * columns + n[None, :], total, mask=is_there[:, None])


def launch_of_chosen_rows(c, a, b, chosen, **options):
    rows, depth = a.shape
    grid = len(chosen) // 16, b.shape[1] // 32
    return product_of_chosen_rows[grid](
        a, b, c, chosen, rows, b.shape[1], depth, BM=16, BN=32, BK=32, **options
    )  # fmt: skip


@pairs_of(("depth", [1, 32, 150, 500]), ("cores", [1, 4]), ("engine", ["native", "interpreter"]))
def test_rows_that_are_gathered(engine, cores, depth, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(depth)
    a, b = halves(rng, 50, depth), halves(rng, depth, 64)
    chosen = np.concatenate([rng.permutation(50)[:37], np.full(11, 50)]).astype(np.int32)
    rng.shuffle(chosen)
    c, *_ = both(lambda c, **options: launch_of_chosen_rows(c, a, b, chosen, **options), (50, 64), num_warps=cores)
    there = chosen[chosen < 50]
    expected = a[there].astype(np.float32) @ b.astype(np.float32)
    np.testing.assert_allclose(c[there], expected, rtol=1e-3, atol=1e-2)
    assert np.isnan(np.delete(c, there, axis=0)).all()


def test_gathered_rows_take_fewer_cycles_in_deeper_steps():
    rng = np.random.default_rng(0)
    a, b, chosen = halves(rng, 64, 1024), halves(rng, 1024, 64), rng.permutation(64).astype(np.int32)
    _, deep, plain = both(lambda c, **options: launch_of_chosen_rows(c, a, b, chosen, **options), (64, 64))
    assert 2 * deep.cycles < plain.cycles
