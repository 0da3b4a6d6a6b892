"""Products with packed weights: what differs from step to step is done by each, the same to the bit in fewer cycles."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of

GROUP = 128


@mlu.jit
def packed(a, b, c, scales, zeros, rows, columns, depth, group, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
           LEFT_LAST: tl.constexpr):  # fmt: skip
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    total = tl.zeros((BM, BN), tl.float32)
    for step in range(tl.cdiv(depth, BK)):
        if not LEFT_LAST:
            left = tl.load(a + m[:, None] * depth + (step * BK + k)[None, :], mask=m[:, None] < rows, other=0.0)
        words = tl.load(b + (step * (BK // 8) + k // 8)[:, None] * columns + n[None, :])
        of_group = step * BK // group
        scale = tl.load(scales + of_group * columns + n)
        zero = (tl.load(zeros + of_group * (columns // 8) + n // 8) >> (n % 8 * 4)) & 15
        weights = (words >> (k % 8 * 4)[:, None]) & 15
        right = ((weights - zero[None, :]) * scale[None, :]).to(tl.float16)
        if LEFT_LAST:
            left = tl.load(a + m[:, None] * depth + (step * BK + k)[None, :], mask=m[:, None] < rows, other=0.0)
        total += tl.dot(left, right)
    tl.store(c + m[:, None] * columns + n[None, :], total, mask=m[:, None] < rows)


def words(values, axis):
    """Eight values of four bits a word."""
    values = np.moveaxis(values.astype(np.uint32), axis, 0)
    packed = sum(values[place::8] << np.uint32(4 * place) for place in range(8))
    return np.ascontiguousarray(np.moveaxis(packed, 0, axis)).view(np.int32)


def launch(rows, columns, depth, group, tile, left_last=False, **options):
    rng = np.random.default_rng(7)
    a = rng.standard_normal((rows, depth)).astype(np.float16)
    weights, zeros = rng.integers(0, 16, (depth, columns)), rng.integers(0, 16, (-(-depth // group), columns))
    scales = rng.uniform(0.01, 0.1, zeros.shape).astype(np.float16)
    of_group = np.arange(depth) // group
    c = np.full((rows, columns), np.nan, np.float32)
    grid = -(-rows // tile[0]), columns // tile[1]
    arguments = a, words(weights, 0), c, scales, words(zeros, 1), rows, columns, depth, group
    run = packed[grid](*arguments, *tile, left_last, **options)
    wanted = a.astype(np.float32) @ ((weights - zeros[of_group]) * scales[of_group].astype(np.float32))
    np.testing.assert_allclose(c, wanted, rtol=2e-3, atol=2e-2)
    return c, run


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"])
@pytest.mark.parametrize("num_warps", [1, 4])
@pytest.mark.parametrize(
    ("rows", "columns", "depth", "group", "tile"),
    [
        (5, 128, 13 * 64, GROUP, (16, 64, 64)),
        (16, 768, 2048, GROUP, (16, 64, 32)),
        (33, 384, 1024, 32, (32, 128, 32)),
        (16, 768, 896, 896, (16, 64, 128)),
    ],
)
def test_values_are_those_of_one_step_at_a_time(machine, num_warps, rows, columns, depth, group, tile, monkeypatch):
    monkeypatch.setenv("MLUTRITON_VERIFY", "1")
    mlu.set_machine(machine)
    deep, _ = launch(rows, columns, depth, group, tile, num_warps=num_warps)
    plain, _ = launch(rows, columns, depth, group, tile, num_warps=num_warps, num_stages=1)
    np.testing.assert_array_equal(deep, plain)


@pytest.mark.parametrize("num_warps", [1, 4])
def test_weights_are_multiplied_behind_what_is_loaded_after_them(num_warps):
    launch(5, 128, 13 * 64, GROUP, (16, 64, 64), left_last=True, num_warps=num_warps)


def test_the_interpreter_agrees(monkeypatch):
    monkeypatch.setenv("MLUTRITON_VERIFY", "1")
    native, run = launch(5, 128, 13 * 64, GROUP, (16, 64, 64))
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    interpreted, same = launch(5, 128, 13 * 64, GROUP, (16, 64, 64))
    np.testing.assert_array_equal(native, interpreted)
    assert run.cycles == same.cycles


@pytest.mark.parametrize("num_warps", [1, 4])
def test_steps_go_together(num_warps):
    """One by one, they take some 2,400 cycles each, in place of 1,050."""
    _, run = launch(16, 4096, 4096, GROUP, (16, 64, 64), num_warps=num_warps)
    assert run.cycles < 80_000


def test_words_are_read_for_each_row_where_they_stand():
    """No tile has them eight times."""
    _, run = launch(5, 128, 13 * 64, GROUP, (16, 64, 64))
    names = {each.row.name for each in run.program.instructions}
    assert "v.ashr" in names
    assert "v.repeat" not in names


@mlu.jit
def two_products(
    a, b, other, c, scales, columns, depth, OF_SAME: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr
):
    """What a step makes of its weights is not multiplied at once: what it makes of others, or the next product, is."""
    m, n, k = tl.arange(0, BM), tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BK)
    total, gate = tl.zeros((BM, BN), tl.float32), tl.zeros((BM, BN), tl.float32)
    for step in range(tl.cdiv(depth, BK)):
        left = tl.load(a + m[:, None] * depth + (step * BK + k)[None, :])
        scale = tl.load(scales + step * columns + n)
        place = (step * (BK // 8) + k // 8)[:, None] * columns + n[None, :]
        weights = (((tl.load(b + place) >> (k % 8 * 4)[:, None]) & 15) * scale[None, :]).to(tl.float16)
        if OF_SAME:
            others = weights
        else:
            others = (((tl.load(other + place) >> (k % 8 * 4)[:, None]) & 15) * scale[None, :]).to(tl.float16)
        total += tl.dot(left, weights)
        gate += tl.dot(left * 2, others)
    tl.store(c + m[:, None] * columns + n[None, :], total - gate)


@pairs_of(
    ("of_same", [False, True]),
    ("num_warps", [1, 4]),
    ("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"]),
    ("engine", ["native", "interpreter"]),
    indirect=["machine"],
)
def test_two_products_of_what_a_step_makes(of_same, num_warps, machine, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(7)
    a, scales = rng.integers(-3, 4, (16, 512)).astype(np.float16), rng.integers(1, 4, (16, 64)).astype(np.float16)
    one, other = (rng.integers(0, 16, (512, 64)) for _ in range(2))
    c = np.full((16, 64), np.nan, np.float32)
    two_products[(1,)](a, words(one, 0), words(other, 0), c, scales, 64, 512, of_same, 16, 64, 32, num_warps=num_warps)
    summed = one - 2 * (one if of_same else other)
    np.testing.assert_array_equal(c, a.astype(np.float32) @ (summed * np.repeat(scales.astype(np.float32), 32, axis=0)))
