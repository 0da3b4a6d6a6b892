"""Every form of access to memory is checked, and arrays that were not passed stay as they are."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

GUARD = 4096


class Guarded:
    """An array between two others that no kernel may touch."""

    def __init__(self, count, dtype=np.float32):
        self.memory = np.full(count + 2 * GUARD, 77, dtype)
        self.array = self.memory[GUARD : GUARD + count]
        self.array[:] = 1

    def is_whole(self):
        return (self.memory[:GUARD] == 77).all() and (self.memory[-GUARD:] == 77).all()


@mlu.jit
def copy_1d(out, x, start, BLOCK: tl.constexpr):
    offsets = start + tl.arange(0, BLOCK)
    tl.store(out + tl.arange(0, BLOCK), tl.load(x + offsets))


@mlu.jit
def store_1d(out, x, start, BLOCK: tl.constexpr):
    offsets = start + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + tl.arange(0, BLOCK)))


@mlu.jit
def load_2d(out, x, stride, BLOCK: tl.constexpr):
    rows, columns = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    tl.store(out + rows * BLOCK + columns, tl.load(x + rows * stride + columns))


@mlu.jit
def store_2d(out, x, stride, BLOCK: tl.constexpr):
    rows, columns = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    tl.store(out + rows * stride + columns, tl.load(x + rows * BLOCK + columns))


@mlu.jit
def load_3d(out, x, stride, BLOCK: tl.constexpr):
    planes = tl.arange(0, BLOCK)[:, None, None]
    rows, columns = tl.arange(0, BLOCK)[None, :, None], tl.arange(0, BLOCK)[None, None, :]
    tile = tl.load(x + planes * stride + rows * BLOCK + columns)
    tl.store(out + planes * BLOCK * BLOCK + rows * BLOCK + columns, tile)


@mlu.jit
def load_scalar(out, x, start, BLOCK: tl.constexpr):
    tl.store(out, tl.load(x + start))


@mlu.jit
def store_scalar(out, x, start, BLOCK: tl.constexpr):
    tl.store(out + start, tl.load(x))


@mlu.jit
def gather(out, x, start, BLOCK: tl.constexpr):
    squares = tl.arange(0, BLOCK) * tl.arange(0, BLOCK)
    tl.store(out + tl.arange(0, BLOCK), tl.load(x + start + squares))


@mlu.jit
def scatter(out, x, start, BLOCK: tl.constexpr):
    squares = tl.arange(0, BLOCK) * tl.arange(0, BLOCK)
    tl.store(out + start + squares, tl.load(x + tl.arange(0, BLOCK)))


@mlu.jit
def gather_rows(out, x, start, BLOCK: tl.constexpr):
    rows, columns = tl.arange(0, 8), tl.arange(0, BLOCK)[None, :]
    source = (rows * rows)[:, None] * BLOCK + start
    tl.store(out + rows[:, None] * BLOCK + columns, tl.load(x + source + columns))


@mlu.jit
def add_scalar(out, x, start, BLOCK: tl.constexpr):
    tl.atomic_add(out + start, 1.0)


@mlu.jit
def add_tile(out, x, start, BLOCK: tl.constexpr):
    tl.atomic_add(out + start + tl.arange(0, BLOCK), 1.0)


@mlu.jit
def descriptor_beyond(out, x, extent, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [extent, BLOCK], [BLOCK, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(out, [BLOCK, BLOCK], [BLOCK, 1], [BLOCK, BLOCK])
    target.store([0, 0], source.load([0, 0]))


# Kernel; elements of out and of x; the last argument of a launch that is right, and of some that are wrong.
ACCESSES = {
    "tile load": (copy_1d, 64, 64, 0, (1, -1, 2**20, -(2**20), 2**40, 2**61)),
    "tile store": (store_1d, 64, 64, 0, (1, -1, 2**20, 2**61)),
    "matrix load": (load_2d, 256, 256, 16, (17, -16, 2**30, 2**60)),
    "matrix store": (store_2d, 256, 256, 16, (17, -16, 2**60)),
    "box load": (load_3d, 4096, 4096, 256, (257, -256, 2**59)),
    "scalar load": (load_scalar, 1, 16, 15, (16, -1, 2**61, -(2**61))),
    "scalar store": (store_scalar, 16, 1, 15, (16, -1, 2**61)),
    "gather": (gather, 16, 226, 0, (1, -1, 2**40)),
    "scatter": (scatter, 226, 16, 0, (1, -1, 2**40)),
    "row gather": (gather_rows, 128, 50 * 16, 0, (1, -1, 2**40)),
    "scalar atomic": (add_scalar, 16, 1, 15, (16, -1)),
    "tile atomic": (add_tile, 64, 1, 0, (1, -1)),
    "descriptor": (descriptor_beyond, 256, 256 - 16, 15, (16,)),
}
BLOCKS = {"tile": 64, "matrix": 16, "box": 16, "scalar": 16, "gather": 16, "scatter": 16, "row": 16, "descriptor": 16}


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("name", ACCESSES)
def test_an_access_that_leaves_its_array_is_a_fault(name, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    kernel, out_count, x_count, right, wrong = ACCESSES[name]
    block = BLOCKS[name.split()[0]]
    out, x = Guarded(out_count), Guarded(x_count)
    kernel[(1,)](out.array, x.array, right, BLOCK=block)
    for argument in wrong:
        with pytest.raises(mlu.KernelFault) as caught:
            kernel[(1,)](out.array, x.array, argument, BLOCK=block)
        fault = caught.value
        assert fault.code == "E0301"
        assert fault.location.file == __file__
        assert fault.context == f"{kernel.fn.__name__}, program (0, 0, 0)"
        assert "the nearest array is" in fault.note
        assert fault.help
    assert out.is_whole()
    assert x.is_whole()


@pytest.mark.parametrize("kernel", [store_1d, store_2d, store_scalar, scatter, add_scalar, add_tile])
def test_read_only_arrays_are_only_read(kernel):
    out = np.ones(4096, np.float32)
    out.flags.writeable = False
    with pytest.raises(mlu.KernelFault, match="E0307"):
        kernel[(1,)](out, np.zeros(4096, np.float32), 0, BLOCK=16)
    assert (out == 1).all()


def test_a_view_reaches_its_own_bytes_alone():
    memory = np.full(300, 77, np.float32)
    reverse = memory[100:164][::-1]
    with pytest.raises(mlu.KernelFault, match="ends 252 bytes after it: at element 126 of 64"):
        copy_1d[(1,)](np.zeros(64, np.float32), reverse, 0, BLOCK=64)
    with pytest.raises(mlu.KernelFault, match="ends 252 bytes after it"):
        store_1d[(1,)](reverse, np.zeros(64, np.float32), 0, BLOCK=64)
    assert (memory == 77).all()


def test_a_broadcast_array_is_told_to_be_short():
    x = np.broadcast_to(np.float32(3), (64,))
    with pytest.raises(mlu.KernelFault, match=r"if x was broadcast or expanded, .* np\.ascontiguousarray\(x\)"):
        copy_1d[(1,)](np.zeros(64, np.float32), x, 0, BLOCK=64)


@mlu.jit
def doubled(out, x, shift, turns, BLOCK: tl.constexpr):
    for turn in range(turns):
        place = turn * BLOCK + tl.arange(0, BLOCK)
        tl.store(out + shift + place, 2 * tl.load(x + place))


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_arrays_that_are_only_read_stay_as_they_are(engine, monkeypatch):
    # That nothing is stored there decides in which order programs load and store, and what the host need not copy.
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    memory = np.ones((2, 4096), np.float32)
    doubled[(1,)](*memory, 0, 4, BLOCK=1024)
    assert (memory == [[2], [1]]).all()
    with pytest.raises(mlu.KernelFault, match="leaves the arrays that the program writes"):
        doubled[(1,)](*memory, 4096, 4, BLOCK=1024)
    assert (memory == [[2], [1]]).all()


def test_empty_arrays_have_no_bytes():
    with pytest.raises(mlu.KernelFault, match="every array that was passed is empty"):
        copy_1d[(1,)](np.zeros(0, np.float32), np.zeros(0, np.float32), 0, BLOCK=64)


def test_a_grid_of_no_programs_touches_nothing():
    for grid in ((0,), (3, 0), (2, 2, 0)):
        copy_1d[grid](np.zeros(0, np.float32), np.zeros(0, np.float32), 0, BLOCK=64)


def test_arrays_need_no_alignment():
    out, x = (np.zeros(300, np.uint8)[1:257].view(np.float32) for _ in range(2))
    x[:] = 5
    copy_1d[(1,)](out, x, 0, BLOCK=64)
    assert (out == 5).all()


@mlu.jit
def through_an_integer(out, address):
    pointer = tl.load(address).to(tl.pointer_type(tl.float32))
    tl.store(out, tl.load(pointer))


def test_an_address_from_anywhere_is_checked():
    out, stranger = np.zeros(4, np.float32), np.ones(4, np.float32)
    through_an_integer[(1,)](out, np.array([out.ctypes.data], np.int64))
    for address in (stranger.ctypes.data, 0, -1, -4, 2**63 - 1):
        with pytest.raises(mlu.KernelFault, match="E0301"):
            through_an_integer[(1,)](out, np.array([address], np.int64))
