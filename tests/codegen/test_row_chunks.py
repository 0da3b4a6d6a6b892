"""Rows of a block that are computed many at a time: the values are those of rows computed one by one, to the bit."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.codegen.pipelining.blocks.row_chunks import uses_whole_buffers
from mlutriton.codegen.tile_code import Emitter, TileCode, instructions
from mlutriton.dtypes import F32, I32
from mlutriton.isa.operands import Address, Immediate, Register
from tests.kernels.engines import on_both_engines

KERNELS = ["softmax", "normalize", "centre", "tiles", "turn", "gelu", "biased", "moments"]
CORES = mlu.machine("mlu590-m9").cores


@mlu.jit
def softmax_row(out, x, columns, BLOCK: tl.constexpr):
    row, column = tl.program_id(0) * columns, tl.arange(0, BLOCK)
    values = tl.load(x + row + column, mask=column < columns, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row + column, powers / tl.sum(powers, axis=0), mask=column < columns)


@mlu.jit
def normalize_rows(x, out, mean, rstd, weight, bias, rows, columns, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    mask = column < columns
    scale, shift = tl.load(weight + column, mask=mask), tl.load(bias + column, mask=mask).to(tl.float32)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        values = tl.load(x + row * columns + column, mask=mask, other=0.0).to(tl.float32)
        average = tl.sum(values, axis=0) / columns
        centred = tl.where(mask, values - average, 0.0)
        inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + 1e-5)
        tl.store(mean + row, average)
        tl.store(rstd + row, inverse)
        tl.store(out + row * columns + column, centred * inverse * scale + shift, mask=mask)


@mlu.jit
def centre_tiles(out, x, shift, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    i, j = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]
    mask = (i < rows) & (j < columns)
    tile = tl.load(x + i * columns + j, mask=mask, other=0.0)
    added = tl.load(shift + j, mask=j < columns, other=0.0)
    largest = tl.argmax(tile, axis=1)[:, None].to(tl.float32)
    result = tl.cumsum(tile - tl.sum(tile, axis=1, keep_dims=True), axis=1) * added + largest
    tl.store(out + i * columns + j, result, mask=mask)


@mlu.jit
def scale_tiles(out, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    j = tl.arange(0, BLOCK)[None, :]
    for first in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        i = first + tl.arange(0, ROWS)[:, None]
        mask = (i < rows) & (j < columns)
        tile = tl.load(x + i * columns + j, mask=mask, other=1.0)
        tl.store(out + i * columns + j, tile / tl.max(tile, axis=1, keep_dims=True), mask=mask)


@mlu.jit
def turn_tiles(out, x, rows, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    i, j = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    tile = tl.load(x + i[:, None] * BLOCK + j[None, :], mask=i[:, None] < rows)
    tl.store(out + j[:, None] * rows + i[None, :], tl.trans(tile), mask=i[None, :] < rows)


@mlu.jit
def gelu(out, x, keep, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    kept = tl.load(keep + tl.arange(0, BLOCK)) != 0
    v = tl.load(x + place, mask=place < n)
    inner = tl.exp(-1.5957691 * (v + 0.044715 * v * v * v))
    tl.store(out + place, tl.where(kept, v / (1 + inner), v), mask=place < n)


@mlu.jit
def add_bias(out, x, bias, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Each program has a piece of the bias of its own, which all of its rows share."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (i < rows) & (j < columns)
    shift = tl.load(bias + j, mask=j < columns, other=0.0).to(tl.float32) * 0.5
    values = tl.load(x + i * columns + j, mask=mask, other=0.0) + shift
    largest = tl.max(values, axis=1, keep_dims=True)
    tl.store(out + i * columns + j, tl.exp(values - largest) * shift + values, mask=mask)


@mlu.jit
def row_moments(out, mean, spread, x, columns, BLOCK: tl.constexpr):
    """A long store and short ones, which may change places where the arrays permit."""
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row * columns + column, mask=mask, other=0.0)
    average = tl.sum(values, axis=0) / columns
    centred = tl.where(mask, values - average, 0.0)
    tl.store(mean + row, average)
    tl.store(spread + row, 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + 1.0))
    tl.store(out + row * columns + column, centred, mask=mask)


@mlu.jit
def add_number(out, x, SIZE: tl.constexpr):
    number = tl.program_id(0)
    place = number * SIZE + tl.arange(0, SIZE)
    tl.store(out + place, tl.load(x + place) * 2 + number)


def launch(name, count, width, rng, stages):
    """Results of a kernel over so many rows."""
    x = rng.standard_normal((count, width), dtype=np.float32)
    out = np.full((count + 2, width), 7, np.float32)
    block = 1 << (width - 1).bit_length()
    weight, bias = rng.random((2, width), dtype=np.float32)
    match name:
        case "softmax":
            run = softmax_row[(count,)](out, x, width, BLOCK=block, num_stages=stages)
            return [run, out]
        case "normalize":
            mean, rstd = np.full((2, count + 1), 7, np.float32)
            arrays = (x.astype(ml_dtypes.bfloat16), out, mean, rstd, weight, bias.astype(np.float16))
            run = normalize_rows[(3,)](*arrays, count, width, BLOCK=block, num_stages=stages)
            return [run, out, mean, rstd]
        case "centre":
            grid = (-(-count // 4),)
            run = centre_tiles[grid](out, x, weight, count, width, ROWS=4, BLOCK=block, num_stages=stages)
            return [run, out]
        case "tiles":
            run = scale_tiles[(3,)](out, x, count, width, ROWS=2, BLOCK=block, num_stages=stages)
            return [run, out]
        case "turn":
            x, out = np.resize(x, (count, 64)), np.zeros((64, count), np.float32)
            run = turn_tiles[(-(-count // 32),)](out, x, count, ROWS=32, BLOCK=64, num_stages=stages)
            return [run, out]
        case "gelu":
            keep = (rng.random(block) < 0.5).astype(np.int8)
            grid = (-(-count * width // block),)
            run = gelu[grid](out, x, keep, count * width, BLOCK=block, num_stages=stages)
            return [run, out]
        case "biased":
            grid = (-(-count // 8), -(-width // 64))
            halved = bias.astype(np.float16)
            run = add_bias[grid](out, x, halved, count, width, ROWS=8, BLOCK=64, num_stages=stages)
            return [run, out]
        case "moments":
            mean, spread = np.full((2, count + 1), 7, np.float32)
            run = row_moments[(count,)](out, mean, spread, x, width, BLOCK=block, num_stages=stages)
            return [run, out, mean, spread]
        case _:
            run = add_number[(count,)](out, x, SIZE=width, num_stages=stages)
            return [run, out]


@settings(max_examples=50)
@given(
    st.sampled_from(KERNELS),
    st.sampled_from([1, 2, 5, CORES, 3 * CORES + 7, 300]),
    st.sampled_from([1, 3, 32, 100, 257]),
    st.integers(0, 100),
)
def test_chunks_of_rows_equal_single_rows(name, count, width, seed):
    _, *expected = launch(name, count, width, np.random.default_rng(seed), 1)
    _, *results = launch(name, count, width, np.random.default_rng(seed), 2)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("name", KERNELS)
def test_chunks_race_with_nothing(name):
    out = np.zeros(1, np.float32)

    def run():
        made, result, *_ = launch(name, 130, 40, np.random.default_rng(0), 2)
        out[0] = result.sum()
        return made

    on_both_engines(run, out)


def test_what_differs_by_program_is_computed_program_by_program():
    _, expected = launch("number", 200, 16, np.random.default_rng(0), 1)
    _, result = launch("number", 200, 16, np.random.default_rng(0), 2)
    np.testing.assert_array_equal(result, expected)
    assert result[9, 3] != result[8, 3]


def test_many_short_rows_hide_the_latency_of_instructions():
    run, _ = launch("softmax", 100 * CORES, 64, np.random.default_rng(0), 2)
    latencies = 5 * run.machine.vector_latency_cycles
    assert run.cycles - run.work_bound.launch_cycles < 100 * latencies / 2


def test_rows_that_share_a_row_of_their_program_hide_the_latency_of_instructions():
    x, out = (mlu.spec((96 * CORES, 512), "float32") for _ in range(2))
    bias = mlu.spec((512,), "float16")
    runs = [
        mlu.estimate(
            add_bias, (12 * CORES, 2), out=out, x=x, bias=bias, rows=96 * CORES, columns=512, ROWS=8, BLOCK=256,
            num_stages=stages,
        )
        for stages in (1, 2)
    ]  # fmt: skip
    names = [each.row.name for each in runs[1].program.instructions]
    assert names.count("v.exp") == 2
    assert runs[1].cycles < runs[0].cycles / 2


def test_stores_to_overlapping_arrays_keep_their_order():
    """The mean of the first row stands where its first element is stored later."""
    x = np.random.default_rng(0).integers(-8, 8, (100, 64)).astype(np.float32)
    out = np.zeros((100, 64), np.float32)
    spread = np.zeros(100, np.float32)
    row_moments[(100,)](out, out.reshape(-1), spread, x, 64, BLOCK=64)
    expected = x - x.mean(axis=1, keepdims=True)
    np.testing.assert_array_equal(out[2:], expected[2:])
    assert out[0, 0] == expected[0, 0]


@mlu.jit
def scale_large(out, x, tiles, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    for tile in range(tiles):
        tl.store(out + tile * BLOCK + offsets, tl.load(x + tile * BLOCK + offsets) * 2)


def test_what_is_stored_takes_the_place_of_what_was_loaded():
    # In four buffers of their own, the tiles of two iterations would need half a megabyte.
    tile = 32_768
    out, x = np.zeros((2, 12 * tile), np.float32)
    x[:] = np.arange(12 * tile) % 1000
    run = scale_large[(1,)](out, x, 12, BLOCK=tile)
    np.testing.assert_array_equal(out, x * 2)
    assert run.program.memory_used_bytes("nram") == 2 * tile * 4
    assert run.cycles < 0.95 * scale_large[(1,)](out, x, 12, BLOCK=tile, num_stages=1).cycles


def test_rows_of_arrays_that_overlap_are_computed_in_order():
    x = np.arange(1, 41 * 16 + 1, dtype=np.float32).reshape(41, 16)
    mean, rstd = np.zeros((2, 40), np.float32)
    expected = x.copy()
    for row in range(40):
        average = expected[row].sum() / np.float32(16)
        centred = expected[row] - average
        inverse = 1 / np.sqrt((centred * centred).sum() / np.float32(16) + np.float32(1e-5))
        expected[row + 1] = centred * inverse
    ones, zeros = np.ones(16, np.float32), np.zeros(16, np.float32)
    normalize_rows[(1,)](x, x[1:], mean, rstd, ones, zeros, 40, 16, BLOCK=16)
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4)


@mlu.jit
def best_two(values, places, x, COLUMNS: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, COLUMNS)
    rest = tl.load(x + row * COLUMNS + column)
    for rank in tl.static_range(2):
        value, place = tl.max(rest, axis=0, return_indices=True)
        tl.store(values + row * 2 + rank, value)
        tl.store(places + row * 2 + rank, place)
        rest = tl.where(column == place, float("-inf"), rest)


@mlu.jit
def least_of_columns(places, x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)
    tl.store(places + column, tl.argmin(tl.load(x + row * COLUMNS + column[None, :]), axis=0))


def test_places_of_extremes_are_found_for_many_rows_at_a_time():
    x = np.random.default_rng(7).permuted(np.arange(600 * 64, dtype=np.float32).reshape(600, 64), axis=1)
    values, places = np.empty((600, 2), np.float32), np.empty((600, 2), np.int32)
    run = best_two[(600,)](values, places, x, COLUMNS=64)
    expected = np.argsort(-x, axis=1)[:, :2]
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(x, expected, axis=1))
    assert sum(each.row.name == "red.argmax" for each in run.program.instructions) >= 2
    of_columns = np.empty(64, np.int32)
    least_of_columns[(1,)](of_columns, x[:16], ROWS=16, COLUMNS=64)
    np.testing.assert_array_equal(of_columns, x[:16].argmin(axis=0))


@mlu.jit
def drop(x, out, seed, size, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < size
    kept = tl.rand(seed, offsets) > 0.5
    tl.store(out + offsets, tl.where(kept, tl.load(x + offsets, mask=mask) * 2, 0.0), mask=mask)


@mlu.jit
def keep_below_diagonal(x, out, columns, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row * columns + column, mask=mask, other=0.0)
    values = tl.where(column <= row * 2 - 30, values, 0.0)
    tl.store(out + row * columns + column, values - tl.sum(values, axis=0), mask=mask)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_numbers_of_iterations_are_tiles_with_an_element_for_each(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    x = np.random.default_rng(6).random((200, 100), np.float32)
    out = np.zeros_like(x)
    keep_below_diagonal[(200,)](x, out, 100, BLOCK=128)
    kept = np.where(np.arange(100) <= 2 * np.arange(200)[:, None] - 30, x, 0)
    np.testing.assert_allclose(out, kept - kept.sum(1, keepdims=True), rtol=1e-4, atol=1e-4)


def test_random_numbers_of_many_programs_are_made_at_once():
    x = np.random.default_rng(7).random(300_000, np.float32)
    out, single = np.zeros_like(x), np.zeros_like(x)
    chunks = drop[(-(-x.size // 256),)](x, out, 5, x.size, BLOCK=256)
    plain = drop[(-(-x.size // 256),)](x, single, 5, x.size, BLOCK=256, num_stages=1)
    np.testing.assert_array_equal(out, single)
    assert 0.45 < (out != 0).mean() < 0.55
    assert chunks.cycles < 0.25 * plain.cycles


@mlu.jit
def multiply_by_vectors(out, x, matrices, SIZE: tl.constexpr):
    """Each program has a square matrix and a vector of its own; results are as many as the vector's elements."""
    i, j = tl.arange(0, SIZE), tl.arange(0, SIZE)
    vector = tl.load(x + tl.program_id(0) * SIZE + j).to(tl.float32)
    matrix = tl.load(matrices + (tl.program_id(0) * SIZE + i[:, None]) * SIZE + j[None, :]).to(tl.float32)
    tl.store(out + tl.program_id(0) * SIZE + i, tl.sum(matrix * vector[None, :], axis=1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("programs", "size"), [(1, 32), (CORES + 3, 32), (5, 64)])
def test_a_result_for_each_row_takes_no_place_of_what_all_rows_share(programs, size, dtype):
    rng = np.random.default_rng(0)
    x, matrices = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((programs, size), (programs, size, size)))
    out = np.empty_like(x)
    multiply_by_vectors[(programs,)](out, x, matrices, SIZE=size)
    assert (out == np.einsum("pij,pj->pi", matrices, x)).all()


@mlu.jit
def softmax_of_columns(out, x, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.arange(0, ROWS)[:, None]
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < columns)
    tile = tl.load(x + row * columns + column, mask=mask, other=-float("inf"))
    powers = tl.exp(tile - tl.max(tile, axis=0, keep_dims=True))
    tl.store(out + row * columns + column, powers / tl.sum(powers, axis=0, keep_dims=True), mask=mask)


def test_tiles_that_all_rows_depend_on_are_computed_in_place():
    """They are not cut into parts, so that a third tile of 128 KB, for which there is no room, is not needed."""
    rows, columns = 1000, 48 * 32 * 2 + 5
    x = np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
    out = np.empty_like(x)
    run = softmax_of_columns[(-(-columns // 32),)](out, x, rows, columns, ROWS=1024, COLUMNS=32)
    powers = np.exp(x - x.max(axis=0))
    np.testing.assert_allclose(out, powers / powers.sum(axis=0), rtol=1e-5, atol=1e-9)
    tiles = [each for each in run.program.buffers.values() if each.bytes >= 1024 * 32 * 4]
    assert [each.bytes for each in tiles] == [2 * 1024 * 32 * 4]


@mlu.jit
def rotate_pairs(out, x, angles, heads, HALF: tl.constexpr):
    token, head, pair = tl.program_id(0), tl.program_id(1), tl.arange(0, HALF)
    at = (token * heads + head) * 2 * HALF + 2 * pair
    a, b = tl.load(x + at).to(tl.float32), tl.load(x + at + 1).to(tl.float32)
    factor = tl.load(angles + token * HALF + pair)
    tl.store(out + at, (a * factor - b).to(tl.float16))
    tl.store(out + at + 1, (a + b * factor).to(tl.float16))


@pytest.mark.parametrize(("tokens", "heads", "half"), [(300, 3, 32), (97, 1, 16), (1, 2, 64), (40, 16, 8)])
def test_even_and_odd_elements_stand_in_planes(tokens, heads, half):
    rng = np.random.default_rng(half)
    x = rng.standard_normal((tokens, heads, half, 2), np.float32).astype(np.float16)
    angles, out = rng.standard_normal((tokens, half), np.float32), np.zeros_like(x)
    run = on_both_engines(lambda: rotate_pairs[tokens, heads](out, x, angles, heads, HALF=half), out)
    a, b = x[..., 0].astype(np.float32), x[..., 1].astype(np.float32)
    factor = angles[:, None]
    expected = np.stack([a * factor - b, a + b * factor], axis=-1)
    np.testing.assert_allclose(out.astype(np.float32), expected, rtol=2e-3, atol=2e-3)
    if tokens * heads > 500:
        one_by_one = rotate_pairs[tokens, heads](out, x, angles, heads, HALF=half, num_stages=1)
        assert run.cycles < one_by_one.cycles / 4


@mlu.jit
def mix_colours(out, grey, x, PIXELS: tl.constexpr):
    """Three planes are read, one of which is scaled by its row's maximum, and three written in another order."""
    pixel = tl.arange(0, PIXELS)
    place = x + tl.program_id(0) * 3 * PIXELS + 3 * pixel
    red, green, blue = tl.load(place), tl.load(place + 1), tl.load(place + 2)
    most = tl.max(red, 0)
    tl.store(grey + tl.program_id(0) * PIXELS + pixel, red + green + blue)
    target = out + tl.program_id(0) * 3 * PIXELS + 3 * pixel
    tl.store(target, blue)
    tl.store(target + 1, red / most)
    tl.store(target + 2, green)


@pytest.mark.parametrize("rows", [1, 60, 400])
def test_three_planes(rows):
    rng = np.random.default_rng(rows)
    x = rng.random((rows, 64, 3), np.float32) + 1
    out, grey = np.zeros_like(x), np.zeros((rows, 64), np.float32)
    run = on_both_engines(lambda: mix_colours[(rows,)](out, grey, x, PIXELS=64), out, grey)
    if rows == 400:
        assert run.cycles < mix_colours[(rows,)](out, grey, x, PIXELS=64, num_stages=1).cycles / 2
    red, green, blue = np.moveaxis(x, -1, 0)
    np.testing.assert_array_equal(grey, red + green + blue)
    np.testing.assert_array_equal(out, np.stack([blue, red / red.max(axis=1, keepdims=True), green], axis=-1))


@mlu.jit
def scale_by_pairs(out, x, pairs, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """All rows of a program are scaled by one row, which is made from pairs of neighbours."""
    program, row, column = tl.program_id(0), tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)
    pair = pairs + 2 * (program * COLUMNS + column)
    factor = tl.load(pair) * tl.load(pair + 1)
    place = (program * ROWS + row) * COLUMNS + column[None, :]
    tl.store(out + place, tl.load(x + place) * factor[None, :])


@pytest.mark.parametrize(("programs", "rows", "columns"), [(1, 4, 16), (CORES + 5, 8, 32), (300, 16, 8)])
def test_planes_of_what_all_rows_share_stay_in_place(programs, rows, columns):
    rng = np.random.default_rng(rows)
    x, pairs = rng.random((programs, rows, columns), np.float32), rng.random((programs, columns, 2), np.float32)
    out = np.zeros_like(x)
    on_both_engines(lambda: scale_by_pairs[(programs,)](out, x, pairs, ROWS=rows, COLUMNS=columns), out)
    np.testing.assert_array_equal(out, x * pairs.prod(axis=2)[:, None])


@mlu.jit
def turn_odd_elements(out, x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Every second element of rows is stored column by column."""
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    values = tl.load(x + 2 * ((tl.program_id(0) * ROWS + row) * COLUMNS + column) + 1)
    tl.store(out + (tl.program_id(0) * COLUMNS + column) * ROWS + row, values)


@pytest.mark.parametrize(("programs", "rows", "columns"), [(130, 2, 16), (130, 4, 32), (300, 2, 64), (5, 16, 16)])
def test_a_plane_that_is_turned_is_not_taken_for_all_planes(programs, rows, columns):
    x = np.arange(programs * rows * columns * 2, dtype=np.float32).reshape(programs, rows, columns, 2)
    out = np.zeros((programs, columns, rows), np.float32)
    on_both_engines(lambda: turn_odd_elements[(programs,)](out, x, ROWS=rows, COLUMNS=columns), out)
    np.testing.assert_array_equal(out, x[..., 1].swapaxes(1, 2))


def test_what_a_register_says_the_length_of_is_no_whole_buffer():
    code = TileCode("kernel", [], {}, 2, [], frozenset())
    emitter = Emitter(code)
    made, table, places = (
        emitter.buffer(name, dtype, 64, "nram") for name, dtype in zip("atp", (F32, F32, I32), strict=True)
    )
    addresses = [Address(each.name) for each in (made, table, places)]
    rest = (Register(0), Immediate(64), Immediate(1), Immediate(0.0), Immediate(64))
    for extent, is_whole in ((Immediate(64), True), (Immediate(32), False), (Register(1), False)):
        emitter.nodes = []
        emitter.emit("v.lookup", (F32, I32), (*addresses, *rest, extent))
        assert uses_whole_buffers(code, list(instructions(emitter.nodes)), {made.name, table.name}, {}) == is_whole


@mlu.jit
def weigh_rows(out, x, weights, turns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row, column = tl.arange(0, ROWS)[:, None] * BLOCK, tl.arange(0, BLOCK)
    for turn in range(turns):
        weight = tl.load(weights + turn * BLOCK + column) + turn
        place = turn * ROWS * BLOCK + row + column[None, :]
        tl.store(out + place, tl.load(x + place) * weight[None, :])


@pytest.mark.parametrize("turns", [0, 1, 30])
def test_a_row_that_others_share_is_made_with_the_number_of_its_iteration(turns):
    rng = np.random.default_rng(5)
    x, weights = rng.integers(-9, 9, (turns + 1, 8, 64), np.int32), rng.integers(-9, 9, (turns + 1, 64), np.int32)
    out = np.zeros_like(x)
    on_both_engines(lambda: weigh_rows[(1,)](out, x, weights, turns, ROWS=8, BLOCK=64), out)
    expected = x * (weights + np.arange(turns + 1)[:, None])[:, None]
    np.testing.assert_array_equal(out[:turns], expected[:turns])
    assert not out[turns:].any()


@mlu.jit
def product(out, x, y, count, BLOCK: tl.constexpr, KIND: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + place, mask=place < count)
    if KIND == "sum":
        values += tl.load(y + place, mask=place < count)
    elif KIND == "square":
        values *= values
    elif KIND == "positive":
        values = tl.where(values > 0, values, 0.0)
    else:
        values = tl.exp(values)
    tl.store(out + place, values, mask=place < count)


@pytest.mark.parametrize("block", [256, 1024])
@pytest.mark.parametrize("kind", ["sum", "square", "positive"])
def test_a_little_arithmetic_is_not_handed_over_in_short_chunks(kind, block):
    """A power takes the COMPUTE queue longer: what takes less is over as soon, but for what else it has to load."""
    array = mlu.spec((1 << 20,), np.float32)

    def cycles(kind):
        return mlu.estimate(product, ((1 << 20) // block,), array, array, array, 1 << 20, block, kind).cycles

    assert cycles(kind) < (1.5 if kind == "sum" else 1.1) * cycles("power")
