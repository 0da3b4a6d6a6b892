"""What a mask chooses and is stored one behind the other is collected on chip, and stored as a row."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

RANDOM = np.random.default_rng(0)


@mlu.jit
def selected(out, begins, x, flags, n, IS_EXCLUSIVE: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    chosen = (i < n) & (tl.load(flags + i, mask=i < n, other=0) != 0)
    truth = chosen.to(tl.int32)
    place = tl.cumsum(truth, 0) - (truth if IS_EXCLUSIVE else 1)
    tl.store(out + tl.load(begins + tl.program_id(0)) + place, tl.load(x + i, mask=i < n), mask=chosen)


@mlu.jit
def of_another_mask(out, x, flags, n, B: tl.constexpr):
    """Places are counted by flags, of which not all are stored."""
    i = tl.arange(0, B)
    chosen = tl.load(flags + i, mask=i < n, other=0) != 0
    tl.store(out + tl.cumsum(chosen.to(tl.int32), 0) - 1, tl.load(x + i, mask=i < n), mask=chosen & (i % 2 == 0))


@mlu.jit
def split(out, x, flags, B: tl.constexpr):
    """What is chosen from the front on, and what is not from the back."""
    i = tl.arange(0, B)
    chosen = tl.load(flags + i) != 0
    value, truth = tl.load(x + i), chosen.to(tl.int32)
    tl.store(out + tl.cumsum(truth, 0) - 1, value, mask=chosen)
    tl.store(out + B - tl.cumsum(1 - truth, 0), value, mask=chosen == 0)


@mlu.jit
def first_selected(out, x, flags, n, room, IS_EXCLUSIVE: tl.constexpr, B: tl.constexpr):
    """Of each block the first that are chosen, as many as there is room for; those behind ``n`` are counted too."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    chosen = tl.load(flags + i) != 0
    truth = chosen.to(tl.int32)
    place = tl.cumsum(truth, 0) - (truth if IS_EXCLUSIVE else 1)
    tl.store(out + tl.program_id(0) * room + place, tl.load(x + i), mask=chosen & (place < room) & (n > i))


@mlu.jit
def last_selected(out, x, flags, least, B: tl.constexpr):
    """Without the first that are chosen, whose places stay free."""
    i = tl.arange(0, B)
    chosen = tl.load(flags + i) != 0
    place = tl.cumsum(chosen.to(tl.int32), 0) - 1
    tl.store(out + place, tl.load(x + i), mask=chosen & (least <= place))


@pytest.mark.parametrize("is_exclusive", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_is_selected_is_a_row(is_exclusive, share):
    n, block = 2000, 512
    x, flags = RANDOM.standard_normal(n, dtype=np.float32), RANDOM.random(n) < share
    counts = np.add.reduceat(flags, np.arange(0, n, block), dtype=np.int32)
    begins = (np.cumsum(counts) - counts).astype(np.int32)
    out = np.full(n + 50, -1, np.float32)
    run = on_both_engines(lambda: selected[(4,)](out, begins, x, flags, n, is_exclusive, block), out)
    kept = x[flags]
    np.testing.assert_array_equal(out, np.append(kept, np.full(n + 50 - len(kept), -1, np.float32)))
    assert run.cycles < run.machine.gather_item_cycles * block


@pytest.mark.parametrize("is_exclusive", [True, False])
@pytest.mark.parametrize("room", [0, 1, 60, 512])
def test_as_much_of_a_row_is_stored_as_its_mask_lets_through(is_exclusive, room):
    n, block = 1500, 512
    x, flags = RANDOM.standard_normal(2048, dtype=np.float32), RANDOM.random(2048) < 0.5
    out = np.full((4, room), -1, np.float32)
    # Where there is no room, nothing is touched.
    given = out if room else np.zeros(1, np.float32)
    run = on_both_engines(lambda: first_selected[(4,)](given, x, flags, n, room, is_exclusive, block), given)
    for program, row in enumerate(out):
        here = slice(program * block, min(n, program * block + block))
        kept = x[here][flags[here]][:room]
        np.testing.assert_array_equal(row, np.append(kept, np.full(room - len(kept), -1, np.float32)))
    assert run.cycles < run.machine.gather_item_cycles * block


def test_a_row_of_which_the_begin_is_left_out_is_none():
    x, flags = RANDOM.standard_normal(512, dtype=np.float32), RANDOM.random(512) < 0.5
    out = np.full(512, -1, np.float32)
    on_both_engines(lambda: last_selected[(1,)](out, x, flags, 20, 512), out)
    kept = x[flags]
    np.testing.assert_array_equal(out[: len(kept)], np.append(np.full(20, -1, np.float32), kept[20:]))


def test_what_is_not_one_behind_the_other_is_no_row():
    n = 500
    x, flags = RANDOM.standard_normal(n, dtype=np.float32), RANDOM.random(n) < 0.5
    out = np.full(n, -1, np.float32)
    on_both_engines(lambda: of_another_mask[(1,)](out, x, flags, n, 512), out)
    expected = np.full(n, -1, np.float32)
    kept = flags & (np.arange(n) % 2 == 0)
    expected[np.cumsum(flags)[kept] - 1] = x[kept]
    np.testing.assert_array_equal(out, expected)


def test_a_row_that_ends_behind_the_array_is_a_fault():
    n = 512
    x, flags = np.ones(n, np.float32), np.ones(n, np.bool_)
    with pytest.raises(mlu.KernelFault, match="E0301"):
        selected[(1,)](np.zeros(n - 1, np.float32), np.zeros(1, np.int32), x, flags, n, False, n)


def test_a_row_that_does_not_fit_as_a_whole_is_scattered_in_strips():
    n = 8192
    x, flags = RANDOM.standard_normal(n, dtype=np.float32), RANDOM.random(n) < 0.5
    out = np.zeros(n, np.float32)
    before = mlu.current_machine()
    mlu.set_machine("mlu-tiny")
    try:
        split[(1,)](out, x, flags, n)
    finally:
        mlu.set_machine(before)
    np.testing.assert_array_equal(out, np.append(x[flags], x[~flags][::-1]))
