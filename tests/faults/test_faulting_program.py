"""A fault names the program that has it, also where the machine serves several at a time."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

RANDOM = np.random.default_rng(0)


@mlu.jit
def copied(out, x, n, B: tl.constexpr):
    c = tl.arange(0, B)
    row = tl.program_id(0) * n
    tl.store(out + row + c, tl.load(x + row + c, mask=c < n), mask=c < n)


@mlu.jit
def moved(x, places, n, B: tl.constexpr):
    """Rows to places that are looked up, in place."""
    c = tl.arange(0, B)
    value = tl.load(x + tl.program_id(0) * n + c, mask=c < n)
    tl.store(x + tl.load(places + tl.program_id(0)) * n + c, value + 1.0, mask=c < n)


@mlu.jit
def product(out, a, b, n, B: tl.constexpr):
    i, j = tl.program_id(0) * B + tl.arange(0, B), tl.program_id(1) * B + tl.arange(0, B)
    total = tl.zeros((B, B), tl.float32)
    for start in range(0, n, B):
        k = start + tl.arange(0, B)
        total += tl.dot(tl.load(a + i[:, None] * n + k[None, :]), tl.load(b + k[:, None] * n + j[None, :]))
    tl.store(out + i[:, None] * n + j[None, :], total)


@mlu.jit
def checked(out, x, most, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + i)
    tl.device_assert(value < most, "too large")
    tl.store(out + i, value)


def fault_of(launch, engine="native"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLUTRITON_ENGINE", engine)
        with pytest.raises(mlu.KernelFault) as caught:
            launch()
    return caught.value


@mlu.jit
def chosen(out, x, places, B: tl.constexpr):
    number = tl.program_id(0) + tl.num_programs(0) * (tl.program_id(1) + tl.num_programs(1) * tl.program_id(2))
    c = tl.arange(0, B)
    tl.store(out + number * B + c, tl.gather(tl.load(x + c), tl.load(places + number * B + c), 0))


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize(("number", "place"), [(0, (0, 0, 0)), (1, (1, 0, 0)), (8, (0, 1, 1)), (23, (1, 2, 3))])
def test_of_a_grid_of_three_axes(number, place, engine):
    x, out, places = np.zeros(32, np.float32), np.zeros((24, 32), np.float32), np.zeros((24, 32), np.int32)
    places[number:, 5] = 32
    fault = fault_of(lambda: chosen[(2, 3, 4)](out, x, places, B=32), engine)
    assert (fault.code, fault.program) == ("E0304", place)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("rows", [1, 139, 198, 199])
def test_of_rows_that_are_loaded_together(rows, engine):
    x, out = np.zeros((rows, 50), np.float32), np.zeros((200, 50), np.float32)
    fault = fault_of(lambda: copied[(200,)](out, x, 50, B=64), engine)
    assert (fault.code, fault.program, fault.context) == ("E0301", (rows, 0, 0), f"copied, program {(rows, 0, 0)}")


def test_of_a_product_whose_tiles_are_cut_anew():
    a, out = np.zeros(512 * 512, np.float32), np.zeros(512 * 512 - 3, np.float32)
    fault = fault_of(lambda: product[(8, 8)](out, a, a, 512, B=64))
    assert (fault.code, fault.program) == ("E0301", (7, 7, 0))
    assert "of its cluster" not in fault.context


def test_of_an_assertion():
    x = np.arange(64 * 200, dtype=np.int32)
    fault = fault_of(lambda: checked[(200,)](np.zeros_like(x), x, 64 * 137, B=64, debug=True))
    assert (fault.code, fault.program) == ("E0305", (137, 0, 0))


def test_what_others_stored_is_there_once():
    """Nothing is stored in search of the program."""
    places = np.arange(100, dtype=np.int32)
    places[77] = 1000
    x = np.zeros((100, 50), np.float32)
    fault = fault_of(lambda: moved[(100,)](x, places, 50, B=64))
    assert fault.program == (77, 0, 0)
    assert set(np.unique(x)) <= {0, 1}


def test_of_a_launch_for_cycles_alone_the_machine_names_one():
    matrices = mlu.spec((200, 50), "float32"), mlu.spec((139, 50), "float32")
    fault = fault_of(lambda: mlu.estimate(copied, (200,), *matrices, 50, B=64))
    assert fault.program is not None
    assert fault.program <= (139, 0, 0)
