"""Launch arguments: what a pointer may reach, what a scalar becomes, and what is refused."""

from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from triton._utils import canonicalize_dtype, get_primitive_bitwidth

from mlutriton.diagnostics import ArgumentError
from mlutriton.frontend.arguments import (
    ARRAY_DTYPES,
    PointerArgument,
    array_argument,
    checked_grid,
    launch_argument,
    pointer_argument,
    unpassable,
)


def reachable(array):
    """Addresses of the bytes of every element of a view, found the slow way."""
    base = array.__array_interface__["data"][0]
    offsets = np.zeros((), np.int64)
    for extent, stride in zip(array.shape, array.strides, strict=True):
        offsets = np.add.outer(offsets, np.arange(extent) * stride)
    return base + offsets.reshape(-1)


@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    steps=st.lists(st.sampled_from([-3, -2, -1, 1, 2]), min_size=3, max_size=3),
    order=st.permutations(range(3)),
    dtype=st.sampled_from(["int8", "float32", "float64"]),
)
def test_a_view_reaches_its_elements_and_no_more(shape, steps, order, dtype):
    array = np.zeros([4 * extent for extent in shape], dtype)
    view = array[tuple(slice(None, None, step) for step in steps[: len(shape)])]
    view = view.transpose([axis for axis in order if axis < len(shape)])
    pointer = array_argument(view)
    assert pointer.data_ptr() == view.ctypes.data
    if view.size:
        elements = reachable(view)
        assert pointer.first_address == elements.min()
        assert pointer.bytes == elements.max() + view.itemsize - elements.min()
        assert pointer.first_address <= pointer.address < pointer.first_address + pointer.bytes
    else:
        assert pointer.bytes == 0


def test_a_broadcast_view_reaches_one_element_and_is_read_only():
    pointer = array_argument(np.broadcast_to(np.float32(1), (1000, 1000)))
    assert pointer.bytes == 4
    assert not pointer.writable


def test_fields_of_packed_records_are_refused():
    records = np.zeros(10, [("tag", "u1"), ("value", "f4")])
    with pytest.raises(ArgumentError, match=r"E0101.*strides of \(5,\) bytes"):
        array_argument(records["value"])
    assert array_argument(records[:1]["value"]).bytes == 4
    assert array_argument(records["tag"]).stride() == (5,)


def test_masked_arrays_are_refused():
    masked = np.ma.masked_array(np.ones(4, np.float32), [False, True, False, False])
    with pytest.raises(ArgumentError, match=r"E0101.*a masked array .* for x"):
        array_argument(masked, "x")
    assert array_argument(masked.filled(0.0)).bytes == 16


@pytest.mark.parametrize("dtype", sorted(map(str, ARRAY_DTYPES)))
def test_triton_knows_every_element_type(dtype):
    array = np.zeros(3, getattr(ml_dtypes, dtype, dtype))
    name = canonicalize_dtype(array_argument(array).dtype)
    assert get_primitive_bitwidth(name) == (1 if dtype == "bool" else 8 * array.itemsize)


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "object", "S3", "longdouble"])
def test_other_element_types_are_refused(dtype):
    with pytest.raises(ArgumentError) as caught:
        launch_argument(np.zeros(3, dtype), "x")
    assert caught.value.code == "E0103"
    assert "array x" in caught.value.summary


def test_scalars_become_python_numbers():
    given_values = (np.int32(5), np.uint64(2**64 - 1), np.float32(0.5), np.bool_(True), ml_dtypes.bfloat16(2))
    converted = [launch_argument(value) for value in given_values]
    assert converted == [5, 2**64 - 1, 0.5, True, 2.0]
    assert [type(value) for value in converted] == [int, int, float, bool, float]
    untouched = (7, 1.5, False, None, "text")
    assert all(launch_argument(value) is value for value in untouched)
    with pytest.raises(ArgumentError, match="E0101"):
        launch_argument(np.complex64(1))


def test_tuples_are_converted_item_by_item():
    class Pair(NamedTuple):
        array: object
        count: object

    array = np.zeros(4, np.float32)
    pair, (count,) = launch_argument((Pair(array, np.int8(3)), (np.int16(4),)))
    assert isinstance(pair, Pair)
    assert isinstance(pair.array, PointerArgument)
    assert (pair.count, count) == (3, 4)


class Tensor:
    """What torch tensors offer, as far as a launch looks."""

    def __init__(self, array, device="cpu"):
        self.array, self.device, self.shape, self.dtype = array, device, array.shape, f"torch.{array.dtype}"

    def data_ptr(self):
        return self.array.ctypes.data

    def stride(self):
        return tuple(stride // self.array.itemsize for stride in self.array.strides)


def test_tensors_of_other_libraries():
    array = np.zeros((4, 6), np.float32)[:, ::2]
    pointer = pointer_argument(Tensor(array))
    assert (pointer.address, pointer.bytes, pointer.dtype) == (array.ctypes.data, (3 * 6 + 4 + 1) * 4, array.dtype)
    assert pointer_argument(Tensor(np.zeros((0, 6), np.float32))).bytes == 0
    with pytest.raises(ArgumentError, match="device cuda:0"):
        pointer_argument(Tensor(array, device="cuda:0"))
    with pytest.raises(ArgumentError, match="E0103"):
        pointer_argument(Tensor(array.astype(np.complex64)))
    with pytest.raises(ArgumentError, match="E0101"):
        pointer_argument(3)
    bare = Tensor(array)
    del bare.shape
    with pytest.raises(ArgumentError, match="tells an address, but not how much memory is there"):
        pointer_argument(bare)


def test_tensors_that_are_negated_when_they_are_read_are_refused():
    tensor = Tensor(np.ones(4, np.float32))
    tensor.is_neg = lambda: False
    assert pointer_argument(tensor).bytes == 16
    tensor.is_neg = lambda: True
    with pytest.raises(ArgumentError, match=r"E0101.*negates(.|\n)*resolve_neg"):
        pointer_argument(tensor)


class DlpackArray:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        if self.array is None:
            raise BufferError("no memory")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return (1, 0)


def test_dlpack_arrays():
    array = np.arange(6, dtype=np.int32)
    pointer = launch_argument(DlpackArray(array))
    assert (pointer.address, pointer.bytes) == (array.ctypes.data, 24)
    with pytest.raises(ArgumentError, match="no memory"):
        launch_argument(DlpackArray(None))


def test_pointers_serve_the_autotuner():
    pointer = array_argument(np.arange(6, dtype=np.int32).reshape(2, 3)[:, ::2])
    copy = pointer.clone()
    pointer.zero_()
    assert not pointer.array.any()
    pointer.copy_(copy)
    np.testing.assert_array_equal(pointer.array, [[0, 2], [3, 5]])
    assert pointer.shape == (2, 2)
    assert (pointer.stride(), pointer.stride(1)) == ((3, 2), 2)
    with pytest.raises(ArgumentError, match="E0101"):
        _ = pointer_argument(Tensor(np.zeros(3, np.float32))).array


@pytest.mark.parametrize(
    ("grid", "extents"),
    [((7,), (7, 1, 1)), ((2, 3), (2, 3, 1)), ([2, 3, 4], (2, 3, 4)), ((np.int64(5),), (5, 1, 1)), ((0,), (0, 1, 1))],
)
def test_grids(grid, extents):
    assert checked_grid(grid) == extents


@pytest.mark.parametrize("grid", [(), (1, 2, 3, 4), (-1,), (2, -1), 4, (1.5,), "ab", (None,)])
def test_other_grids_are_refused(grid):
    with pytest.raises(ArgumentError) as caught:
        checked_grid(grid)
    assert caught.value.code == "E0104"


def test_the_error_names_the_argument_that_triton_refused():
    array = array_argument(np.zeros(3, np.float32))
    assert "argument y is a list" in unpassable([("x", array), ("n", 3), ("y", [1]), ("z", "s")]).summary
    assert "n = 1180591620717411303424" in unpassable([("x", array), ("n", 2**70)]).summary
