"""Arrays that are not there: launches of specs take the cycles that launches of such arrays take."""

from typing import Any, NamedTuple

import numpy as np
from triton.tools.tensor_descriptor import TensorDescriptor

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.frontend.array_specs import described_together


@mlu.jit
def doubled_rows(out, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)[None, :]
    for first in tl.range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS)[:, None]
        mask = (row < rows) & (column < columns)
        values = tl.load(x + row * columns + column, mask=mask, other=0.0)
        tl.store(out + row * columns + column, values + values, mask=mask)


SHAPE = 2000, 1000
CONSTANTS = {"ROWS": 16, "BLOCK": 1024}


def estimated(out, x):
    return mlu.estimate(doubled_rows, (48,), out, x=x, rows=SHAPE[0], columns=SHAPE[1], **CONSTANTS).cycles


def test_an_estimate_of_arrays_that_share_memory_has_the_cycles_of_their_launch():
    shared, apart = np.ones(SHAPE[0] * SHAPE[1] + 64, np.float32), np.ones(SHAPE, np.float32)
    x, later = shared[:-64].reshape(SHAPE), shared[64:].reshape(SHAPE)
    cycles = []
    for out in (apart, x, later):
        cycles.append(doubled_rows[(48,)](out, x, *SHAPE, **CONSTANTS).cycles)
        assert estimated(out, x) == cycles[-1]
    assert cycles[1] > cycles[0]  # in place, it keeps loads behind the stores before them


@mlu.jit
def shifted(out, x, step, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out + offsets, tl.load(x + offsets * step, mask=mask), mask=mask)


def test_an_estimate_of_a_view_has_the_cycles_of_its_launch():
    x, out, n = np.arange(10000, dtype=np.float32), np.zeros(9000, np.float32), 9000
    for view in (x, x[1:], x[1000:], x[::-1], x[::2][:4500]):
        step = view.strides[0] // x.itemsize
        extent = min(n, len(view))
        run = shifted[(9,)](out, view, step, extent, BLOCK=1024)
        np.testing.assert_array_equal(out[:extent], view[:extent])
        assert mlu.estimate(shifted, (9,), out, view, step, extent, BLOCK=1024).cycles == run.cycles


class Pair(NamedTuple):
    out: Any
    x: Any


@mlu.jit
def copied_pair(pair, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(pair[0] + offsets, tl.load(pair[1] + offsets, mask=offsets < n), mask=offsets < n)


@mlu.jit
def copied_tile(out, x, BLOCK: tl.constexpr):
    out.store([0, 0], x.load([0, 0]))


def test_arrays_within_tuples_and_descriptors_are_left_alone():
    x, out = np.ones((16, 16), np.float32), np.zeros((16, 16), np.float32)
    described = [TensorDescriptor.from_tensor(mlu.array(each), [16, 16]) for each in (out, x)]
    for kernel, arguments in (
        (copied_pair, ((out, x), 100)),
        (copied_pair, (Pair(out, x), 100)),
        (copied_tile, described),
    ):
        estimate = mlu.estimate(kernel, (1,), *arguments, BLOCK=128)
        assert not estimate.with_values
        assert not out.any()
        assert kernel[(1,)](*arguments, BLOCK=128).cycles == estimate.cycles
        assert out.any()
        out[:] = 0


def test_a_spec_is_one_array():
    one, other = mlu.spec(SHAPE, "float32"), mlu.spec(SHAPE, "float32")
    x = np.ones(SHAPE, np.float32)
    assert estimated(one, one) == estimated(x, x) > estimated(one, other)


def test_specs_lie_to_each_other_as_their_arrays_do():
    shared, other = np.ones(100, np.float32), np.ones(100, np.float32)
    values = [shared[40:], other, 7, shared[:50], shared[60:], None, shared[:0]]
    specs = described_together(values)
    addresses = [spec.data_ptr() if hasattr(spec, "data_ptr") else spec for spec in specs]
    assert addresses[0] - addresses[3] == 160
    assert addresses[4] - addresses[0] == 80
    assert (addresses[2], addresses[5]) == (7, None)
    assert len({*addresses}) == len(values)
