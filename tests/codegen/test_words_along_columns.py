"""Products with weights that are packed along their columns: repeated words are cut into parts as columns are."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

GROUP = 64
# Which four bits of a word each of its columns has.
ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])


@mlu.jit
def packed(a, b, c, scales, zeros, rows, columns, depth, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
           PARTS: tl.constexpr, GROUP: tl.constexpr):  # fmt: skip
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    word = tl.program_id(1) * (BN // 8) + tl.arange(0, BN // 8)
    k = tl.program_id(2) * BK + tl.arange(0, BK)
    order = ((tl.arange(0, 2) * 4)[None, :] + tl.arange(0, 4)[:, None]).reshape(8)
    shifts = tl.reshape(tl.broadcast_to((order * 4)[None, :], (BK * (BN // 8), 8)), (BK, BN))
    total = tl.zeros((BM, BN), tl.float32)
    for step in range(tl.cdiv(depth, BK * PARTS)):
        begin = step * BK * PARTS
        is_there = begin + k < depth
        left = tl.load(a + m[:, None] * depth + (begin + k)[None, :], (m[:, None] < rows) & is_there[None, :], 0.0)
        w = tl.load(b + (begin + k)[:, None] * (columns // 8) + word[None, :],
                    is_there[:, None] & (word[None, :] < columns // 8), 0)  # fmt: skip
        w = tl.interleave(w, w)
        w = tl.interleave(w, w)
        w = tl.interleave(w, w)
        group = (begin + tl.program_id(2) * BK) // GROUP + tl.arange(0, 1)
        inside = group[:, None] < tl.cdiv(depth, GROUP)
        z = tl.load(zeros + group[:, None] * (columns // 8) + word[None, :],
                    inside & (word[None, :] < columns // 8), 0)  # fmt: skip
        z = tl.interleave(z, z)
        z = tl.interleave(z, z)
        z = tl.broadcast_to(tl.interleave(z, z), (BK, BN))
        s = tl.load(scales + group[:, None] * columns + n[None, :], inside & (n[None, :] < columns), 0.0)
        w = (((w >> shifts) & 15) - ((z >> shifts) & 15)) * tl.broadcast_to(s, (BK, BN))
        total = tl.dot(left, w.to(tl.float16), total)
    at = tl.program_id(2) * rows * columns + m[:, None] * columns + n[None, :]
    tl.store(c + at, total, (m[:, None] < rows) & (n[None, :] < columns))


def words(values):
    """Eight values of four bits a word, along the last axis."""
    values = values.astype(np.uint32).reshape(len(values), -1, 8) << (4 * ORDER.astype(np.uint32))
    return np.bitwise_or.reduce(values, axis=2).view(np.int32)


def launch(rows, columns, depth, tile, parts=1, **options):
    rng = np.random.default_rng(7)
    a = rng.standard_normal((rows, depth)).astype(np.float16)
    weights, zeros = rng.integers(0, 16, (depth, columns)), rng.integers(0, 16, (-(-depth // GROUP), columns))
    scales = rng.uniform(0.01, 0.1, zeros.shape).astype(np.float16)
    c = np.full((parts, rows, columns), np.nan, np.float32)
    grid = -(-rows // tile[0]), -(-columns // tile[1]), parts
    arguments = a, words(weights), c, scales, words(zeros), rows, columns, depth
    run = packed[grid](*arguments, *tile, parts, GROUP, **options)
    of_group = np.arange(depth) // GROUP
    wanted = a.astype(np.float32) @ ((weights - zeros[of_group]) * scales[of_group].astype(np.float32))
    np.testing.assert_allclose(c.sum(axis=0), wanted, rtol=2e-3, atol=2e-2)
    return c, run


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"])
@pytest.mark.parametrize("num_warps", [1, 4])
@pytest.mark.parametrize(
    ("rows", "columns", "depth", "tile", "parts"),
    [
        (5, 776, 500, (16, 64, 32), 1),
        (33, 1000, 640, (32, 128, 64), 2),
    ],
)
def test_values_are_those_of_tiles_as_written(machine, num_warps, rows, columns, depth, tile, parts, monkeypatch):
    monkeypatch.setenv("MLUTRITON_VERIFY", "1")
    mlu.set_machine(machine)
    cut, _ = launch(rows, columns, depth, tile, parts, num_warps=num_warps)
    plain, _ = launch(rows, columns, depth, tile, parts, num_warps=num_warps, num_stages=1)
    np.testing.assert_array_equal(cut, plain)


def test_the_interpreter_agrees(monkeypatch):
    native, run = launch(5, 776, 320, (16, 64, 64))
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    interpreted, same = launch(5, 776, 320, (16, 64, 64))
    np.testing.assert_array_equal(native, interpreted)
    assert run.cycles == same.cycles


def test_parts_are_taken():
    _, cut = launch(16, 4096, 1024, (16, 64, 64))
    _, written = launch(16, 4096, 1024, (16, 64, 64), num_stages=1)
    assert 2 * cut.cycles < written.cycles
