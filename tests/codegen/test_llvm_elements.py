"""Every element-wise operation on every type, as LLVM against NumPy, sixteen at a time and one at a time."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import pytest

from mlutriton.arithmetic import OPERATIONS, evaluate
from mlutriton.codegen.llvm import elements
from mlutriton.codegen.llvm.elements import LANES, apply, load, store, transposed_square
from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.dtypes import ALL, F32, I1
from mlutriton.isa.table import TABLE
from mlutriton.simulator.native import compile_llvm

COUNT = 256


def cases():
    for operation in OPERATIONS.values():
        for dtype in ALL:
            for to in ALL if operation.is_cast else (None,):
                if TABLE["v." + operation.name].admits((dtype,) if to is None else (dtype, to)):
                    yield operation, dtype, to


def operand_types(operation, dtype):
    return (I1, dtype, dtype) if operation.name == "select" else (dtype,) * operation.arity


def function_name(operation, dtype, to, lanes):
    return f"{operation.name}_{dtype}_{to}_{lanes}"


def module_text(lanes, chosen):
    library, functions = Library(), []
    for operation, dtype, to in chosen:
        e = Emitter(library)
        with e.loop(COUNT, step=lanes) as index:
            operands = [
                load(e, e.pointer(f"%p{number}", e.multiply(index, each.bytes)), each, lanes)
                for number, each in enumerate(operand_types(operation, dtype))
            ]
            result = apply(e, operation.name, operands, to)
            store(e, result, e.pointer("%out", e.multiply(index, result.dtype.bytes)))
        e.do("ret void")
        name = function_name(operation, dtype, to, lanes)
        functions.append(e.function(f"define void @{name}(ptr %out, ptr %p0, ptr %p1, ptr %p2)"))
    return library.text() + "\n" + "\n".join(functions)


def random_operand(dtype, generator):
    if dtype is I1:
        return generator.integers(0, 2, COUNT).astype(np.bool_)
    bits = generator.integers(0, 256, COUNT * dtype.bytes, np.uint8).view(dtype.numpy).copy()
    with np.errstate(all="ignore"):
        if dtype.is_float:
            special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, 1.5, 2.5, 88.0, -88.0, 3e4, 1e-40, 7, 100]
            bits[:64] = generator.choice(special, 64).astype(dtype.numpy)
            bits[64:160] = generator.normal(0, 3, 96).astype(dtype.numpy)
            powers = [sign * 2.0**power for power in (7, 8, 15, 16, 31, 32, 63, 64) for sign in (1, -1)]
            ends = [power + beside for power in powers for beside in (-1, -0.5, 0, 0.5, 1)]
            bits[160:240] = np.array(ends).astype(dtype.numpy)
        else:
            least = -(1 << (dtype.bits - 1))
            special = [0, 1, -1, 2, 7, 8, 15, 16, 31, 32, 63, 64, -2, 3, 100, least, least, -1, 0]
            bits[:96] = generator.choice(special, 96).astype(dtype.numpy)
    return bits


@pytest.mark.parametrize("lanes", [1, LANES])
def test_operations_agree_with_numpy_bit_for_bit(lanes):
    assert_equal_numpy(lanes, list(cases()))


def test_hosts_that_scale_by_powers_of_two_step_by_step_agree_too(monkeypatch):
    """Those without long vectors, of which LLVM would call a function for each element."""
    asked = []
    monkeypatch.setattr(elements, "scales_by_powers_of_two", lambda: asked.append(None))
    # Functions are defined once a process: neither as for this host before, nor as for the other one behind.
    monkeypatch.setattr(elements, "_function_definitions", cache(elements._function_definitions.__wrapped__))
    assert_equal_numpy(LANES, [(operation, dtype, to) for operation, dtype, to in cases() if dtype is F32 and not to])
    assert asked


def assert_equal_numpy(lanes, chosen):
    module = compile_llvm(module_text(lanes, chosen), cache_key=None)
    generator = np.random.default_rng(lanes)
    wrong = []
    for operation, dtype, to in chosen:
        operands = [random_operand(each, generator) for each in operand_types(operation, dtype)]
        out = np.zeros(COUNT, operation.result_type(dtype, to).numpy)
        function = module.function(function_name(operation, dtype, to, lanes), [ctypes.c_void_p] * 4)
        function(out.ctypes.data, *(each.ctypes.data for each in operands), *[0] * (3 - len(operands)))
        expected = np.asarray(evaluate(operation.name, *operands, dtype=dtype, to=to)).astype(out.dtype)
        same = (out.view(np.uint8).reshape(COUNT, -1) == expected.view(np.uint8).reshape(COUNT, -1)).all(axis=1)
        if operation.result_type(dtype, to).is_float:
            with np.errstate(invalid="ignore"):
                same |= np.isnan(out) & np.isnan(expected)
        if not same.all():
            place = int(np.flatnonzero(~same)[0])
            wrong.append((operation.name, dtype, to, [each[place] for each in operands], out[place], expected[place]))
    assert not wrong


@pytest.mark.parametrize(("lanes", "bits"), [(16, 8), (4, 32), (8, 32), (16, 32), (16, 16), (8, 64), (2, 64), (32, 8)])
def test_squares_are_transposed(lanes, bits):
    e = Emitter(Library())
    row, vector = lanes * bits // 8, f"<{lanes} x i{bits}>"
    rows = [e.value(f"load {vector}, ptr {e.pointer('%a', row * line)}, align 1") for line in range(lanes)]
    for line, column in enumerate(transposed_square(e, rows, f"i{bits}", bits)):
        e.do(f"store {vector} {column}, ptr {e.pointer('%out', row * line)}, align 1")
    e.do("ret void")
    module = compile_llvm(e.function("define void @square(ptr %out, ptr %a)"), cache_key=None)
    square = np.arange(lanes * lanes, dtype=f"i{bits // 8}").reshape(lanes, lanes)
    out = np.empty_like(square)
    module.function("square", [ctypes.c_void_p] * 2)(out.ctypes.data, square.ctypes.data)
    np.testing.assert_array_equal(out, square.T)
