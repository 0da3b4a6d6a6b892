"""Programs that were compiled for arguments that are multiples of a number, launched with others."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.isa.assembly import assemble, disassemble
from mlutriton.isa.encoding import encode

SIZE = 256


@mlu.jit
def biased(out, x, bias, n, period, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + place, mask=place < n) + tl.load(bias + place // period, mask=place < n)
    tl.store(out + place, values, mask=place < n)


def arrays():
    x, bias = np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32) * 1000
    return np.zeros(SIZE, np.float32), x, bias


def expected(x, bias, n, period):
    place = np.arange(SIZE)
    return np.where(place < n, x + bias[place // period], 0)


def test_a_program_says_what_it_takes_to_be_multiples():
    out, x, bias = arrays()
    run = biased[(1,)](out, x, bias, 64, 16, BLOCK=SIZE)
    for program in (run.program, assemble(disassemble(run.program))):
        for n, period in ((64, 16), (128, 48), (0, 32)):
            out[:] = 0
            mlu.load(encode(program))[(1,)](out, x, bias, n, period)
            np.testing.assert_array_equal(out, expected(x, bias, n, period))
        for n, period in ((70, 16), (64, 20), (-8, 16)):
            with pytest.raises(mlu.ArgumentError, match=r"which is no multiple of 16"):
                mlu.load(encode(program))[(1,)](out, x, bias, n, period)


def test_a_program_for_any_number_takes_multiples_too():
    out, x, bias = arrays()
    program = biased[(1,)](out, x, bias, 70, 17, BLOCK=SIZE).program
    for n, period in ((64, 16), (70, 20)):
        out[:] = 0
        mlu.load(encode(program))[(1,)](out, x, bias, n, period)
        np.testing.assert_array_equal(out, expected(x, bias, n, period))


def test_a_compiled_kernel_that_is_launched_by_itself_refuses_other_numbers():
    out, x, bias = arrays()
    compiled = biased.warmup(out, x, bias, 64, 16, BLOCK=SIZE, grid=(1,))
    compiled[(1, 1, 1)](out, x, bias, 128, 32, SIZE)
    np.testing.assert_array_equal(out, expected(x, bias, 128, 32))
    with pytest.raises(mlu.ArgumentError, match="the argument period is 17"):
        compiled[(1, 1, 1)](out, x, bias, 64, 17, SIZE)
