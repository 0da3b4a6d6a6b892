"""Kernels generated at random: the program must do what the tile IR says, on the interpreter and natively.

The interpreter also finds races, reads of memory that nothing wrote, and illegal programs, so a missing ``sync`` or a
buffer placed over another that is alive fails here too.
"""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutriton.codegen.generate import generate
from mlutriton.diagnostics import Location
from mlutriton.dtypes import F16, F32, I1, I32
from mlutriton.ir.core import Block, Builder, Function
from mlutriton.ir.evaluator import evaluate
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.ops import AddPtr, Constant, Load, Print, Range, Return, Splat
from mlutriton.ir.passes import canonicalize, cse, dce, loop_invariant, memory_access
from mlutriton.ir.types import PointerType, TensorType
from mlutriton.ir.verifier import verify
from mlutriton.isa.legality import check
from mlutriton.isa.machine import machine
from mlutriton.launch import launch, load_program
from mlutriton.simulator import interpreter
from mlutriton.simulator.memory import Allocation, GlobalMemory
from tests.ir.test_generated import Generator

GRID = (2, 1, 1)
PASSES = (canonicalize, cse, loop_invariant, memory_access, canonicalize, cse, dce, loop_invariant)
FLOATS = np.array([0.0, -0.0, np.nan, 3.5], np.float32)
INTEGERS = np.array([0, -1, 1 << 30, 7], np.int32)
SCALARS = (5, -1.5, 0.1, True)


@st.composite
def kernels(draw: st.DrawFn) -> Function:
    """Kernels that load two vectors, compute something and print some of the values."""
    types = [I32, F32, F16, I1, PointerType(F32), PointerType(I32)]
    body = Block(types, ["n", "x", "half", "flag", "floats", "integers"])
    builder = Builder(body, Location("kernel.py", 1))
    place = builder.add(Range((), {"start": 0, "end": 4})).result
    everywhere = builder.add(Constant.of(1, TensorType((4,), I1))).result
    loaded = []
    for pointer, dtype in zip(body.arguments[4:], (F32, I32), strict=True):
        base = builder.add(Splat([pointer], result_types=[TensorType((4,), pointer.type)])).result
        other = builder.add(Constant.of(0, TensorType((4,), dtype))).result
        address = builder.add(AddPtr([base, place])).result
        loaded.append(builder.add(Load([address, everywhere, other])).result)
    generator = Generator(draw)
    before = list(body.operations)
    scope = generator.block(body, [*body.arguments[:4], *loaded], 12)
    assert body.operations[: len(before)] == before
    for value in (value for value in scope if draw(st.booleans())):
        builder.add(Print([value], {"prefix": "p", "style": "signed"}))
    builder.add(Return())
    return Function("generated", body, [], Location("kernel.py", 1))


def bits(values: np.ndarray) -> bytes:
    """The elements' bits, with one NaN for all."""
    array = np.atleast_1d(values).ravel()
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        array = np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array)
    return array.dtype.name.encode() + array.tobytes()


def wanted(function: Function) -> list[bytes]:
    memory = ArrayMemory()
    addresses = [memory.register(name, array) for name, array in (("floats", FLOATS), ("integers", INTEGERS))]
    return [bits(record.values[0]) for record in evaluate(function, GRID, [*SCALARS, *addresses], memory)]


def word(value: object) -> int:
    match value:
        case bool() | int():
            return int(value) & (1 << 64) - 1
        case float():
            return ctypes.c_uint32.from_buffer(ctypes.c_float(value)).value
    raise TypeError(value)


@pytest.mark.parametrize("stages", [1, 2])
@given(function=kernels())
@settings(max_examples=40, deadline=None)
def test_programs_do_what_the_ir_says(stages: int, function: Function) -> None:
    verify(function)
    expected = wanted(function)
    for step in PASSES:
        step.run(function)
        verify(function, step.__name__)
    target = machine("mlu590-m9")
    program = generate(function, target, stages, {})
    check(program, target)
    half = int(np.float16(SCALARS[2]).view(np.uint16))
    words = [5, word(-1.5), half, 1, FLOATS.ctypes.data, INTEGERS.ctypes.data]
    memory = GlobalMemory([Allocation.of_array("floats", FLOATS), Allocation.of_array("integers", INTEGERS)])
    result = interpreter.run(program, GRID, words, memory, target)
    assert [bits(each.values) for each in result.prints] == expected


@given(function=kernels())
@settings(max_examples=8, deadline=None)
def test_native_code_prints_the_same(function: Function) -> None:
    expected = wanted(function)
    for step in PASSES:
        step.run(function)
    kernel = load_program(generate(function, machine("mlu590-m9"), 2, {}), machine("mlu590-m9"))
    arrays = [Pointer(array) for array in (FLOATS, INTEGERS)]
    run = launch(kernel, GRID, [*SCALARS, *arrays])
    assert [bits(each.values) for each in run.prints] == expected


class Pointer:
    """An array as launches take it."""

    def __init__(self, array: np.ndarray) -> None:
        self.owner, self.address, self.bytes, self.writable = array, array.ctypes.data, array.nbytes, True
        self.first_address = self.address
