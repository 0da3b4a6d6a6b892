"""Tensors of torch as arguments: the same kernels as on arrays of NumPy."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

import mlutriton as mlu


@mlu.jit
def bfloat(memory, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.atomic_add(memory + i % 4, i.to(tl.bfloat16), mask=i < n)
    tl.atomic_add(memory + 4, 0.5)


def test_bfloat16():
    memory = torch.zeros(8, dtype=torch.bfloat16)
    bfloat[(2,)](memory, 8, BLOCK=16)
    assert memory.tolist() == [8.0, 12.0, 16.0, 20.0, 1.0, 0, 0, 0]


@triton.jit
def add_row(out, x, n, row_stride, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * row_stride + tl.arange(0, BLOCK)
    mask = tl.arange(0, BLOCK) < n
    tl.store(out + offsets, tl.load(out + offsets, mask=mask) + tl.load(x + offsets, mask=mask), mask=mask)


def test_tensors_are_written_in_place():
    x, out = torch.arange(100, dtype=torch.float32).view(4, 25), torch.ones(4, 25)
    add_row[(4,)](out, x, 25, 25, BLOCK=32)
    torch.testing.assert_close(out, x + 1)


def test_a_view_reaches_its_storage():
    x, out = torch.arange(100, dtype=torch.float32).view(4, 25), torch.ones(4, 25)
    add_row[(2,)](out[1:], x[:1], 25, 25, BLOCK=32)
    torch.testing.assert_close(out, torch.cat([torch.ones(1, 25), 1 + x[:2], torch.ones(1, 25)]))


def test_warmup_takes_types_for_arrays():
    compiled = add_row.warmup(torch.float32, torch.float32, 25, 25, BLOCK=32, grid=(4,))
    assert "!tt.ptr<f32>" in compiled.asm["ttir"]


def test_what_from_numpy_gives_shares_its_memory():
    array = np.zeros(32, np.float32)
    add_row[(1,)](torch.from_numpy(array), np.arange(32, dtype=np.float32), 32, 32, BLOCK=32)
    np.testing.assert_array_equal(array, np.arange(32))


def test_triton_is_not_asked_about_tensors_again():
    kernel = mlu.jit(add_row.fn)
    with mock.patch.object(JITFunction, "run", autospec=True, side_effect=JITFunction.run) as asked:
        for number in range(6):
            x, out = torch.full((4, 25), float(number)), torch.ones(4, 25)
            run = kernel[(4,)](out, torch.nn.Parameter(x) if number == 5 else x, 25, 25, BLOCK=32)
            assert out.tolist() == [[number + 1.0] * 25] * 4
            assert run.programs == 4
        assert asked.call_count == 3, "the first time, the second one to learn what was found, and of a parameter"
        x, out = torch.arange(101, dtype=torch.float32), torch.ones(100)
        for view, other in ((x[:100], 0), (x[1:], 1), (x[:100], 0)):
            kernel[(4,)](out.fill_(1), view, 25, 25, BLOCK=32)
            assert out.tolist() == [value + other + 1.0 for value in range(100)]
        assert asked.call_count == 4, "of one that is aligned otherwise"
        kernel[(4,)](out.fill_(1), x[:100].double(), 25, 25, BLOCK=32)
        assert out.tolist() == [value + 1.0 for value in range(100)]
        assert asked.call_count == 5, "of one of another type"
    for other in (x.to("meta"), x.to_sparse()):
        with pytest.raises(mlu.ArgumentError, match="E0101"):
            kernel[(4,)](out, other, 25, 25, BLOCK=32)


def test_a_tensor_without_memory_is_refused_in_words():
    out = torch.ones(4, 25)
    with FakeTensorMode():
        traced = torch.empty(4, 25)
    with pytest.raises(TypeError, match=r"E0101.*FakeTensor without memory"):
        add_row[(4,)](out, traced, 25, 25, BLOCK=32)
    with pytest.raises(RuntimeError) as caught:
        add_row[(4,)](out, torch.eye(25).to_sparse(), 25, 25, BLOCK=32)
    assert "E0101" in caught.value.__notes__[0]


@triton.jit
def copy_block(target, source, row, column):
    target.store([0, 0], source.load([row, column]))


@pytest.mark.parametrize("padding", ["zero", "nan"])
def test_padding_of_descriptors(padding):
    x, out = torch.arange(200, dtype=torch.float32).view(10, 20), torch.zeros(4, 8)
    source = TensorDescriptor.from_tensor(x, [4, 8], padding=padding)
    copy_block[(1,)](TensorDescriptor.from_tensor(out, [4, 8]), source, 8, 16)
    expected = torch.full((4, 8), 0.0 if padding == "zero" else torch.nan)
    expected[:2, :4] = x[8:, 16:]
    torch.testing.assert_close(out, expected, equal_nan=True)


@triton.jit
def add_to_each(addresses, lengths, count, BLOCK: tl.constexpr):
    for place in range(tl.program_id(0), count, tl.num_programs(0)):
        values = tl.load(addresses + place).to(tl.pointer_type(tl.float32))
        offsets = tl.arange(0, BLOCK)
        mask = offsets < tl.load(lengths + place)
        tl.store(values + offsets, tl.load(values + offsets, mask=mask) + place, mask=mask)


def test_a_list_of_tensors_is_passed_as_their_addresses():
    tensors = [torch.ones(length) for length in (5, 16, 9)]
    addresses = torch.tensor([tensor.data_ptr() for tensor in tensors])
    lengths = torch.tensor([len(tensor) for tensor in tensors], dtype=torch.int32)
    add_to_each[(2,)](addresses, lengths, 3, BLOCK=16)
    for place, tensor in enumerate(tensors):
        assert (tensor == 1 + place).all()
