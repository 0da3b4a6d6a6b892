"""Native execution against the reference interpreter: the same bytes and trace, for random programs and by hand."""

from __future__ import annotations

import _thread
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlutriton.arithmetic import OPERATIONS, evaluate
from mlutriton.codegen.llvm.dependence import depends_on_data
from mlutriton.codegen.llvm.translate import translate
from mlutriton.diagnostics import KernelFault
from mlutriton.dtypes import BF16, F16, F32, F64, I1, I8, I16, I32, I64
from mlutriton.isa.assembly import assemble
from mlutriton.isa.legality import check
from mlutriton.isa.machine import machine
from mlutriton.isa.native_interface import Counter
from mlutriton.isa.operands import FORWARD, Address, GlobalAddress, Immediate, Label, Mode, Register
from mlutriton.isa.program import Buffer, Instruction, Parameter, Program
from mlutriton.isa.table import ATOMICS, REDUCTIONS, SCANS, TABLE, Queue
from mlutriton.launch import runtime
from mlutriton.simulator import interpreter
from mlutriton.simulator.execution import NativeProgram, execute
from mlutriton.simulator.memory import Allocation, GlobalMemory
from mlutriton.simulator.native import compile_llvm

MACHINE = machine("mlu590-m9")
DTYPES = (I1, I8, I16, I32, I64, F16, BF16, F32, F64)
INTEGERS = (I8, I16, I32, I64)
FLOATS = (F16, BF16, F32, F64)
ELEMENTS = 512
BUFFERS = 3
# The sign and payload of a NaN are no part of the architecture; these would show them.
SHOWS_NAN_BITS = {"copysign", "bitcast"}


@pytest.fixture(scope="session", name="runtime")
def runtime_fixture():
    return runtime


# ---- random programs ------------------------------------------------------------------------------------------------


@dataclass
class Generator:
    """Makes a legal program that neither races nor reads what is not written."""

    random: random.Random
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    busy: set[Queue] = field(default_factory=set)
    temporary: int = 0

    # Registers: a pointer for each type, a zero, temporaries, then three for each type.
    ZERO = len(DTYPES)
    TEMPORARIES = range(ZERO + 1, ZERO + 25)
    VALUES = ZERO + 25
    LOOP = VALUES + 3 * len(DTYPES)

    def emit(self, name, dtypes, *operands):
        row = TABLE[name]
        touches_nram = any(isinstance(operand, Address) for operand in operands)
        if self.busy - {row.queue} and touches_nram:
            self.sync()
        if touches_nram and row.queue is not Queue.SCALAR:
            self.busy.add(row.queue)
        instruction = Instruction(row, tuple(dtypes), tuple(operands))
        assert row.admits(tuple(dtypes)), (name, dtypes)
        assert len(operands) == len(row.slots), (name, operands)
        self.instructions.append(instruction)

    def sync(self):
        self.busy.clear()
        self.instructions.append(Instruction(TABLE["sync"], (), (Immediate(7),)))

    # -- operands

    def chance(self, share):
        return self.random.random() < share

    def register_of(self, value):
        """A register that holds an integer which the translation does not know."""
        register = Register(self.TEMPORARIES[self.temporary % len(self.TEMPORARIES)])
        self.temporary += 1
        self.emit("add", (I64,), register, Register(self.ZERO), Immediate(value))
        return register

    def count(self, value):
        return self.register_of(value) if self.chance(0.15) else Immediate(value)

    def place(self, dtype, elements, number=None, mode=Mode.FULL):
        number = self.random.randrange(BUFFERS) if number is None else number
        start = self.random.randrange(max(1, ELEMENTS - elements + 1)) * dtype.bytes
        if self.chance(0.25):
            base = self.random.randrange(start + 1)
            return Address(f"{dtype}_{number}", self.register_of(base), start - base, mode)
        return Address(f"{dtype}_{number}", None, start, mode)

    def value(self, dtype):
        """An immediate or a register of the type."""
        if self.chance(0.4):
            return self.value_register(dtype)
        if dtype.is_float:
            return Immediate(self.random.choice([0.0, -0.0, 1.0, 0.1, -3.5, 1e30, float("inf"), float("nan")]))
        if dtype is I1:
            return Immediate(self.random.randrange(2))
        return Immediate(self.random.choice([0, 1, -1, 3, 7, -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1]))

    def value_register(self, dtype):
        return Register(self.VALUES + 3 * DTYPES.index(dtype) + self.random.randrange(3))

    def extents(self, limit=ELEMENTS):
        while True:
            rows = self.random.choice([1, 1, 1, 2, 3, 5, 17, 41])
            columns = self.random.choice([1, 2, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 128])
            if rows * columns <= limit:
                return rows, columns

    def pointer(self, dtype):
        return Register(DTYPES.index(dtype))

    # -- instructions, by kind

    def elementwise(self, name, types, rows, columns, *, target=None, forwarded=None, operands=None):
        """One instruction; ``forwarded`` is the type that the step before hands on."""
        row = TABLE[f"v.{name}"]
        sources = []
        waiting = forwarded is not None
        for slot in row.slots[1:-2]:
            dtype = I1 if slot.type == -3 else types[slot.type]
            if waiting and dtype is forwarded:
                sources.append(FORWARD)
                waiting = False
            elif self.chance(0.2):
                sources.append(self.value(dtype))
            else:
                mode = self.random.choice([Mode.FULL, Mode.FULL, Mode.FULL, Mode.ROW, Mode.COLUMN])
                span = {Mode.FULL: rows * columns, Mode.ROW: rows, Mode.COLUMN: columns}[mode]
                sources.append(self.place(dtype, span, self.random.randrange(2), mode))
        if waiting:
            return False
        result = I1 if row.slots[0].type == -3 else types[row.slots[0].type]
        if target is None:
            same = [
                s
                for s in sources
                if isinstance(s, Address) and s.mode is Mode.FULL and s.buffer.startswith(f"{result}_")
            ]
            others = [s for s in sources if isinstance(s, Address) and s not in same]
            in_place = len(same) == 1 and not any(s.buffer == same[0].buffer for s in others)
            target = same[0] if in_place and self.chance(0.6) else self.place(result, rows * columns, 2)
        self.emit(f"v.{name}", types, target, *sources, *(operands or (Immediate(rows), Immediate(columns))))
        return True

    def random_operation(self, *, of=None, classes=None):
        while True:
            operation = self.random.choice(list(OPERATIONS.values()))
            if operation.name in SHOWS_NAN_BITS or (classes and operation.cost_class not in classes):
                continue
            types = (of or self.random.choice(DTYPES),)
            if operation.is_cast:
                types = (types[0], self.random.choice(DTYPES))
            if operation.accepts(*types):
                return operation.name, types

    def vector(self):
        rows, columns = self.extents()
        name, types = self.random_operation()
        self.elementwise(name, types, rows, columns, operands=(self.count(rows), self.count(columns)))

    def chain(self):
        rows, columns = self.extents()
        operands = (self.count(rows), self.count(columns))
        steps = self.random.randrange(2, 5)
        forwarded = None
        for number in range(steps):
            target = FORWARD
            while True:
                name, types = self.random_operation(of=forwarded, classes=("simple", "fma"))
                if number == steps - 1:
                    first = TABLE[f"v.{name}"].slots[0].type
                    target = self.place(I1 if first == -3 else types[first], rows * columns, 2)
                before = len(self.instructions)
                # The registers of addresses are set before the chain, which must not be interrupted.
                if self.elementwise(name, types, rows, columns, target=target, forwarded=forwarded, operands=operands):
                    step = self.instructions.pop()
                    break
                del self.instructions[before:]
            self.pending = [*getattr(self, "pending", []), step] if number else [step]
            slot = step.row.slots[0]
            forwarded = step.dtype_of(slot)
        self.instructions += self.pending

    def softmax_like(self):
        """Instructions over the same elements, with reductions between."""
        dtype = self.random.choice(FLOATS)
        rows, columns = self.extents()
        x, y, m = (Address(f"{dtype}_{number}", None, 0) for number in range(3))
        shape = (Immediate(rows), Immediate(columns))
        columns_first = (Immediate(1), Immediate(rows * columns)) if self.chance(0.5) else shape
        axis = (Immediate(rows), self.count(columns), Immediate(1))
        self.emit("v.fmul", (dtype,), y, x, self.value(dtype), *columns_first)
        self.emit(f"red.{self.random.choice(['fmax', 'fmin', 'fmaximum'])}", (dtype,), m, y, *axis)
        self.emit("v.fsub", (dtype,), y, y, Address(m.buffer, None, 0, Mode.ROW), *shape)
        self.emit("v.exp2", (dtype,), y, y, *columns_first)
        self.emit("red.fadd", (dtype,), m, y, *axis)
        if self.chance(0.5):
            self.emit("v.fdiv", (dtype,), y, y, Address(m.buffer, None, 0, Mode.ROW), *shape)

    def swap_like(self):
        """Lines that are combined, repeated and computed with, as the steps of a sort are; also in rows and columns."""
        dtype = self.random.choice(INTEGERS)
        outer, n, inner = self.random.choice([(16, 2, 1), (5, 4, 2), (9, 2, 8), (3, 4, 16), (1, 8, 4), (7, 3, 16)])
        x, y, few = (Address(f"{dtype}_{number}", None, 0) for number in range(3))
        counts = (Immediate(outer), Immediate(n), Immediate(inner))
        self.emit("red.xor", (dtype,), few, x, *counts)
        self.emit("v.repeat", (dtype,), y, few, *counts)
        rows, columns = self.random.choice([(1, outer * n * inner), (outer, n * inner), (outer * n, inner)])
        other = Address(few.buffer, None, 0, self.random.choice(list(Mode)))
        shape = (Immediate(rows), Immediate(columns))
        self.emit("v.xor", (dtype,), y, y, x, *shape)
        self.emit("v.add", (dtype,), x, y, other, *shape)

    def copy(self):
        dtype = self.random.choice(DTYPES)
        rows, columns = self.extents()
        kind = self.random.randrange(4)
        if kind == 0:
            mode = self.random.choice(list(Mode))
            span = {Mode.FULL: rows * columns, Mode.ROW: rows, Mode.COLUMN: columns}[mode]
            source = self.value(dtype) if self.chance(0.3) else self.place(dtype, span, 0, mode)
            self.emit(
                "v.mov", (dtype,), self.place(dtype, rows * columns, 1), source, self.count(rows), self.count(columns)
            )
        elif kind == 1:
            dtype = self.random.choice(INTEGERS)
            n = rows * columns
            self.emit("v.iota", (dtype,), self.place(dtype, n), self.value(dtype), self.value(dtype), self.count(n))
        elif kind == 2:
            batch, inner = self.random.choice([(1, 1), (2, 1), (1, 3), (2, 2)])
            rows, columns = min(rows, 9), min(columns, 14)
            n = batch * rows * columns * inner
            counts = (self.count(each) for each in (batch, rows, columns, inner))
            self.emit("v.transpose", (dtype,), self.place(dtype, n, 0), self.place(dtype, n, 1), *counts)
        else:
            outer, n, inner = self.axis()
            source, target = self.place(dtype, outer * inner, 0), self.place(dtype, outer * n * inner, 1)
            self.emit("v.repeat", (dtype,), target, source, *(self.count(each) for each in (outer, n, inner)))

    def axis(self):
        while True:
            outer = self.random.choice([1, 2, 5, 19])
            n = self.random.choice([1, 2, 4, 8, 9, 16, 33, 64, 100, 200])
            inner = self.random.choice([1, 1, 2, 3, 4, 8, 16, 17])
            if outer * n * inner <= ELEMENTS:
                return outer, n, inner

    def reduce(self):
        outer, n, inner = self.axis()
        counts = [self.count(each) for each in (outer, n, inner)]
        kind = self.random.randrange(3)
        if kind == 0:
            name = self.random.choice(REDUCTIONS)
            dtype = self.random.choice([d for d in DTYPES if TABLE[f"red.{name}"].admits((d,))])
            target, source = self.place(dtype, outer * inner, 0), self.place(dtype, outer * n * inner, 1)
            self.emit(f"red.{name}", (dtype,), target, source, *counts)
        elif kind == 1:
            dtype = self.random.choice(DTYPES)
            target, source = self.place(dtype, outer * inner, 0), self.place(dtype, outer * n * inner, 1)
            index = self.place(I32, outer * inner, 2)
            self.emit(self.random.choice(["red.argmax", "red.argmin"]), (dtype,), target, index, source, *counts)
        else:
            name = self.random.choice(SCANS)
            dtype = self.random.choice([d for d in DTYPES if TABLE[f"scan.{name}"].admits((d,))])
            target, source = self.place(dtype, outer * n * inner, 0), self.place(dtype, outer * n * inner, 1)
            self.emit(f"scan.{name}", (dtype,), target, source, *counts, Immediate(self.random.randrange(2)))

    def index_values(self, dtype, number, n, limit):
        """Make the first elements of a buffer valid indices."""
        place = Address(f"{dtype}_{number}", None, 0)
        self.emit("v.urem", (dtype,), place, place, Immediate(limit), Immediate(1), Immediate(n))
        return place

    def local_items(self):
        index_dtype = self.random.choice([I32, I64])
        if self.chance(0.5):
            outer, n, inner = self.axis()
            extent = self.random.choice([each for each in (1, 2, 7, 50) if outer * each * inner <= ELEMENTS])
            dtype = self.random.choice(DTYPES)
            index = self.index_values(index_dtype, 2, outer * n * inner, extent)
            source, target = self.place(dtype, outer * extent * inner, 0), self.place(dtype, outer * n * inner, 1)
            counts = (self.count(each) for each in (outer, n, inner, extent))
            self.emit("v.gather", (dtype, index_dtype), target, source, index, *counts)
        else:
            n, bins = self.random.choice([1, 60, 500]), self.random.choice([1, 10, 300])
            source = self.index_values(index_dtype, 1, n, bins + 3)
            mask = Immediate(1) if self.chance(0.4) else self.place(I1, n)
            self.emit(
                "v.histogram", (index_dtype,), self.place(I32, bins, 0), source, mask, self.count(n), self.count(bins)
            )

    def scalar(self):
        name, types = self.random_operation()
        row = TABLE[name]
        result = I1 if row.slots[0].type == -3 else types[row.slots[0].type]
        sources = [self.value(I1 if slot.type == -3 else types[slot.type]) for slot in row.slots[1:]]
        self.emit(name, types, self.value_register(result), *sources)
        if self.chance(0.3):
            self.emit("mov", (result,), self.value_register(result), self.value(result))

    def scalar_memory(self):
        dtype = self.random.choice(DTYPES)
        kind = self.random.randrange(6)
        address = GlobalAddress(self.pointer(dtype), self.random.randrange(ELEMENTS) * dtype.bytes)
        if kind == 0:
            self.emit("lds", (dtype,), self.value_register(dtype), self.place(dtype, 1))
        elif kind == 1:
            self.emit("sts", (dtype,), self.place(dtype, 1), self.value(dtype))
        elif kind == 2:
            self.emit("ldg", (dtype,), self.value_register(dtype), address)
        elif kind == 3:
            self.emit("stg", (dtype,), address, self.value(dtype))
        elif kind == 4:
            self.emit("print.text", (), Immediate(0))
            if self.chance(0.1):
                self.emit("pause", (), Immediate(self.random.randrange(2)), Immediate(1))
            self.emit("print.scalar", (dtype,), Immediate(0), Immediate(2), self.value(dtype))
        else:
            n = self.random.choice([1, 5, 40])
            self.emit(
                "print.vector", (dtype,), Immediate(1), Immediate(0), Immediate(1), self.place(dtype, n), self.count(n)
            )

    def transfer(self):
        dtype = self.random.choice(DTYPES)
        counts = self.random.choice([(64, 1, 1), (1, 30, 1), (7, 9, 1), (5, 3, 4), (16, 2, 3), (33, 4, 1), (2, 1, 9)])
        n0, n1, n2 = counts
        stride1 = self.random.choice([n0, n0 + 3, 1, 0, -n0])
        stride2 = self.random.choice([n0 * n1, n0 * n1 + 5, 0, -2])
        starts = [i * stride1 + j * stride2 for i in range(n1) for j in range(n2)]
        offset = -min(starts) * dtype.bytes
        assert max(starts) - min(starts) + n0 <= ELEMENTS
        address = GlobalAddress(self.pointer(dtype), offset)
        strides = (self.register_of(stride1), Immediate(stride2))
        kind = self.random.randrange(3)
        extents = tuple(self.count(each) for each in counts)
        if kind == 0:
            before = tuple(self.count(self.random.randrange(each + 2) if self.chance(0.3) else 0) for each in counts)
            valid = tuple(self.count(self.random.randrange(each + 2)) for each in counts)
            place = self.place(dtype, n0 * n1 * n2)
            self.emit("dma.load_pad", (dtype,), place, address, *extents, *before, *valid, *strides, self.value(dtype))
        else:
            local1 = n0 + self.random.randrange(3)
            local2 = n1 * local1 + self.random.randrange(3)
            place = self.place(dtype, (n2 - 1) * local2 + (n1 - 1) * local1 + n0)
            local = (self.count(local1), self.count(local2))
            if kind == 1:
                self.emit("dma.load", (dtype,), place, address, *extents, *local, *strides)
            else:
                self.emit("dma.store", (dtype,), address, place, *extents, *local, *strides)

    def items(self):
        """Gathers, scatters and atomics on GDRAM."""
        offset_dtype = self.random.choice([I32, I64])
        dtype = self.random.choice(DTYPES)
        n, length = self.random.choice([(1, 1), (20, 1), (130, 1), (1, 200), (20, 7), (9, 33)])
        base = GlobalAddress(self.pointer(dtype))
        offsets = self.index_values(offset_dtype, 2, n, ELEMENTS - length)
        mask = Immediate(1) if self.chance(0.4) else self.place(I1, n, 0)
        scale = Immediate(dtype.bytes)
        kind = self.random.randrange(4)
        if kind == 0:
            fill = self.value(dtype) if self.chance(0.5) else self.place(dtype, n, 0)
            target = self.place(dtype, n * length, 1)
            self.emit("gather", (dtype, offset_dtype), target, base, offsets, scale, mask, fill, *self.run(n, length))
        elif kind == 1:
            source = self.place(dtype, n * length, 1)
            self.emit("scatter", (dtype, offset_dtype), base, source, offsets, scale, mask, *self.run(n, length))
        else:
            name = self.random.choice((*ATOMICS, "cas"))
            dtype = self.random.choice([d for d in DTYPES if TABLE[f"atom.{name}"].admits((d,))])
            if name == "cas" and dtype.is_float:
                dtype = I32
            base = GlobalAddress(self.pointer(dtype))
            if kind == 2:
                values = [self.value(dtype) for _ in range(2 if name == "cas" else 1)]
                self.emit(f"atom.{name}", (dtype,), self.value_register(dtype), base, *values)
                return
            old = Immediate(0) if self.chance(0.3) else self.place(dtype, n, 1)
            scale = Immediate(dtype.bytes)
            values = [
                self.value(dtype) if self.chance(0.5) else self.place(dtype, n, 0)
                for _ in range(2 if name == "cas" else 1)
            ]
            types = (dtype, offset_dtype)
            self.emit(f"gatom.{name}", types, old, base, offsets, scale, *values, mask, self.count(n))

    def run(self, n, length):
        """Counts of n items: all of each one valid, or less, or more than there is."""
        valid = length if self.chance(0.5) else self.random.randrange(length + 2)
        return self.count(n), self.count(length), self.count(valid)

    def tensor(self):
        dtype = self.random.choice([F16, BF16, F32, I8])
        result = F32 if dtype.is_float else I32
        rows, depth = self.random.choice([(1, 1), (7, 33), (13, 20), (4, 70)])
        columns = self.random.choice([1, 16, 37, 64, 70])
        if rows * columns > ELEMENTS:
            rows = 5
        first = self.random.choice([0, 0, 3, 64])
        weight = Address("weight", None, 0)
        by_depth, by_column = self.random.choice([(columns, 1), (1, depth), (2, 3), (0, 1)])
        while (depth - 1) * by_depth + (columns - 1) * by_column >= ELEMENTS:
            depth = (depth + 1) // 2
            by_depth, by_column = self.random.choice([(0, 1), (1, depth), (2, 3), (0, 1)])
        strides = (Immediate(by_depth), self.register_of(by_column))
        if self.chance(0.3):
            first = 0
            source = self.place(dtype, (depth - 1) * by_depth + (columns - 1) * by_column + 1)
            counts = [Immediate(each) for each in (depth, columns, by_depth, by_column)]
            self.emit("move.weight", (dtype,), weight, source, *counts)
        else:
            if first:
                counts = [self.count(each) for each in (depth, first, depth, first, 0)]
                address = GlobalAddress(self.pointer(dtype))
                self.emit(
                    "dma.weight", (dtype,), weight, address, *counts, Immediate(0), Immediate(1), self.value(dtype)
                )
            valid = [self.random.randrange(each + 2) if self.chance(0.4) else each for each in (depth, columns)]
            counts = [self.count(each) for each in (depth, columns, *valid, first)]
            address = GlobalAddress(self.pointer(dtype))
            self.emit("dma.weight", (dtype,), weight, address, *counts, *strides, self.value(dtype))
        lda = depth + self.random.randrange(3)
        total = first + columns
        rows = max(1, min(rows, ELEMENTS // total, (ELEMENTS - depth) // lda))
        c = self.place(result, rows * total, 0)
        a = self.place(dtype, (rows - 1) * lda + depth, 1)
        for _ in range(self.random.randrange(1, 3)):
            counts = [self.count(each) for each in (rows, total, depth, lda)]
            self.emit("mm", (dtype, result), c, a, weight, *counts, self.value(I1))

    def move(self):
        dtype = self.random.choice(DTYPES)
        n0, n1 = self.random.choice([(40, 1), (3, 20), (1, 7)])
        to1, from1 = n0 + self.random.randrange(2), n0 + self.random.randrange(2)
        near, far = self.place(dtype, (n1 - 1) * from1 + n0, 0), Address("shared", None, 8 * self.random.randrange(9))
        counts = [self.count(each) for each in (n0, n1, to1, from1)]
        self.emit("move", (dtype,), far, near, *counts)
        counts[2], counts[3] = counts[2], counts[2]
        self.emit("move", (dtype,), self.place(dtype, (n1 - 1) * to1 + n0, 1), far, *counts)

    KINDS = (
        vector, vector, vector, chain, chain, softmax_like, swap_like, copy, reduce, local_items, scalar, scalar,
        scalar_memory, transfer, items, tensor, move,
    )  # fmt: skip

    def some(self, count):
        for _ in range(count):
            self.random.choice(self.KINDS)(self)

    def loop(self):
        """A few instructions, two or three times, with a part that may be skipped."""
        counter, label = Register(self.LOOP), f"loop{len(self.labels)}"
        self.emit("mov", (I64,), counter, Immediate(0))
        self.sync()
        self.labels[label] = len(self.instructions)
        self.some(self.random.randrange(1, 5))
        skip = f"skip{len(self.labels)}"
        self.sync()
        self.emit("cbr", (), self.value_register(I1), Label(skip))
        self.some(1)
        self.sync()
        self.labels[skip] = len(self.instructions)
        self.emit("add", (I64,), counter, counter, Immediate(1))
        condition = self.value_register(I1)
        self.emit("slt", (I64,), condition, counter, Immediate(self.random.randrange(2, 4)))
        self.emit("cbr", (), condition, Label(label))

    def program(self, length):
        for number in range(len(DTYPES)):
            self.emit("param", (), Register(number), Immediate(number))
        self.emit("param", (), Register(self.ZERO), Immediate(len(DTYPES)))
        # Zeros of a type are a value of every type.
        for number, dtype in enumerate(DTYPES):
            for buffer in range(BUFFERS):
                source = GlobalAddress(Register(number), buffer * 0)
                counts = [Immediate(each) for each in (ELEMENTS, 1, 1, 0, 0, 0, 0)]
                self.emit("dma.load", (dtype,), Address(f"{dtype}_{buffer}", None, 0), source, *counts)
        for _ in range(length):
            if self.chance(0.15):
                self.loop()
            else:
                self.some(1)
        self.sync()
        for number, dtype in enumerate(DTYPES):
            for buffer in range(BUFFERS):
                target = GlobalAddress(Register(number), (1 + buffer) * ELEMENTS * dtype.bytes)
                counts = [Immediate(each) for each in (ELEMENTS, 1, 1, 0, 0, 0, 0)]
                self.emit("dma.store", (dtype,), target, Address(f"{dtype}_{buffer}", None, 0), *counts)
        self.emit("exit", ())
        buffers, offset = {}, 0
        for dtype in DTYPES:
            for number in range(BUFFERS):
                name = f"{dtype}_{number}"
                buffers[name] = Buffer(name, "nram", offset, ELEMENTS * dtype.bytes)
                offset += ELEMENTS * dtype.bytes
        buffers["weight"] = Buffer("weight", "wram", 4096, 1 << 17)
        buffers["shared"] = Buffer("shared", "sram", 128, 1 << 13)
        parameters = (*(Parameter(f"p{i}", d, True) for i, d in enumerate(DTYPES)), Parameter("zero", I64))
        return Program(
            "random", MACHINE.isa, parameters, buffers, tuple(self.instructions), self.labels, self.LOOP + 1,
            strings=("scalar", "vector"),
        )  # fmt: skip


def random_arrays(seed):
    """One array for each type: the first part is loaded, the rest is stored to."""
    generator = np.random.default_rng(seed)
    arrays = []
    for dtype in DTYPES:
        size = ELEMENTS * (1 + BUFFERS)
        if dtype is I1:
            values = generator.integers(0, 2, size).astype(np.bool_)
        elif dtype.is_float:
            values = generator.normal(0, 2, size).astype(dtype.numpy)
            special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 6e-8, 65504.0, 1e30, 0.5, 1.5, 2.5]
            with np.errstate(all="ignore"):
                values[generator.integers(0, size, 120)] = np.resize(special, 120).astype(dtype.numpy)
        else:
            values = generator.integers(-(1 << (dtype.bits - 1)), 1 << (dtype.bits - 1), size).astype(dtype.numpy)
        arrays.append(values)
    return arrays


def equal(a, b):
    """Equal bit for bit, any NaN being equal to any other."""
    same = a.view(np.uint8).reshape(len(a), a.itemsize) == b.view(np.uint8).reshape(len(b), b.itemsize)
    same = same.all(axis=1)
    if a.dtype.kind == "f" or a.dtype.name == "bfloat16":
        with np.errstate(invalid="ignore"):
            same |= np.isnan(a) & np.isnan(b)
    return same


def load(program, runtime, *, with_values=True):
    text = translate(program, MACHINE, with_values=with_values)
    return NativeProgram(compile_llvm(text, cache_key=None), runtime, program)


def run_both(program, seed, runtime):
    arrays, natives = random_arrays(seed), random_arrays(seed)
    memories, parameters = [], []
    for group in (arrays, natives):
        memories.append(GlobalMemory(Allocation.of_array(f"p{i}", array) for i, array in enumerate(group)))
        parameters.append([*(array.ctypes.data for array in group), 0])
    expected = interpreter.run(program, (1, 1, 1), parameters[0], memories[0], MACHINE)
    native = load(program, runtime)
    got = execute(native, (1, 1, 1), parameters[1], memories[1], MACHINE, 1)
    return arrays, natives, expected, got


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32))
def test_random_programs_agree_with_the_interpreter(seed, runtime):
    program = Generator(random.Random(seed)).program(14)
    check(program, MACHINE)
    arrays, natives, expected, got = run_both(program, seed, runtime)
    for dtype, array, native in zip(DTYPES, arrays, natives, strict=True):
        wrong = np.flatnonzero(~equal(array, native))
        assert not wrong.size, (dtype, divmod(int(wrong[0]), ELEMENTS), array[wrong[0]], native[wrong[0]])
    assert got.trace.words.tolist() == expected.trace_words.tolist()
    assert got.instruction_work.tolist() == expected.instruction_work.tolist()
    assert got.touched is None or (got.touched.marks == expected.touched.marks).all()
    assert got.touched is not None or not expected.touched.marks.any()
    assert len(got.prints) == len(expected.prints)
    for a, b in zip(got.prints, expected.prints, strict=True):
        assert (a.program, a.message) == (b.program, b.message)
        assert equal(np.ascontiguousarray(a.values), np.ascontiguousarray(b.values)).all()


def test_random_programs_reach_every_instruction():
    made = {each.row.name for seed in range(300) for each in Generator(random.Random(seed)).program(30).instructions}
    elsewhere = {"assert", "br", "barrier.cluster", *SHOWS_NAN_BITS, *(f"v.{name}" for name in SHOWS_NAN_BITS)}
    # Operations are drawn from a long list: those few that are not drawn are tested one by one in test_llvm_elements.
    assert {name for name in TABLE.keys() - made - elsewhere if TABLE[name].operation is None} == {"sreg", "serve"}
    assert len(TABLE.keys() - made - elsewhere) < 12


# ---- by hand --------------------------------------------------------------------------------------------------------

HEADER = f"""
.program by_hand
.isa {MACHINE.isa}
.cores 1
.param out ptr f32
.param x ptr f32
.param n i64
.buffer a nram 0 256
.buffer b nram 256 256
.string 0 "wrong"
    param r0, 0
    param r1, 1
    param r2, 2
    sreg r3, 0
"""
COPY = """
    mul.i64 r4, r3, 256
    add.i64 r0, r0, r4
    add.i64 r1, r1, r4
    dma.load.f32 [a], g[r1], 64, 1, 1, 0, 0, 0, 0
    sync 1
"""
STORE = """
    sync 4
    dma.store.f32 g[r0], [b], 64, 1, 1, 0, 0, 0, 0
    exit
"""


def run_text(text, runtime, *, grid=3, n=0, threads=1, with_values=True, writable=True):
    """Run a program on one array of 64 elements for each program; returns the output and the execution."""
    program = assemble(HEADER + text)
    check(program, MACHINE)
    x = np.arange(grid * 64, dtype=np.float32)
    out = np.zeros_like(x)
    out.flags.writeable = writable
    memory = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    native = load(program, runtime, with_values=with_values)
    parameters = [out.ctypes.data, x.ctypes.data, n]
    return out, execute(native, (grid, 1, 1), parameters, memory, MACHINE, threads)


def faults(text, runtime, *, grid=3, n=0, writable=True):
    """The faults of the interpreter and of native code, as texts without host addresses."""
    program = assemble(HEADER + text)
    x = np.zeros(grid * 64, np.float32)
    x.flags.writeable = writable
    memory = GlobalMemory([Allocation.of_array("x", x)])
    parameters = [x.ctypes.data, x.ctypes.data, n]
    with pytest.raises(KernelFault) as expected:
        interpreter.run(program, (grid, 1, 1), parameters, memory, MACHINE)
    for threads in (1, 2):
        native = load(program, runtime)  # a program that is known to be quick would run on one
        with pytest.raises(KernelFault) as got:
            execute(native, (grid, 1, 1), parameters, memory, MACHINE, threads)
        assert str(got.value) == str(expected.value)
    return expected.value.code


FAULTS = {
    "load outside": ("E0301", "dma.load.f32 [a], g[r1 + 900], 64, 1, 1, 0, 0, 0, 0\nexit"),
    "load below": ("E0301", "sub.i64 r1, r1, 4\ndma.load.f32 [a], g[r1], 64, 1, 1, 0, 0, 0, 0\nexit"),
    "scalar load outside": ("E0301", "mov.i64 r1, 8\nldg.f32 r5, g[r1]\nexit"),
    "gather outside": (
        "E0301",
        "v.iota.i32 [a], 0, 40, 30\nsync 4\ngather.f32.i32 [b], g[r1], [a], 4, 1, 0.0, 30, 1, 1\nexit",
    ),
    "window": ("E0304", "mov.i64 r5, 16\nadd.i64 r5, r5, r2\nv.mov.f32 [a + r5], 0.0, 1, 64\nexit"),
    "count": ("E0304", "add.i64 r5, r2, 65\nv.mov.f32 [b], 0.0, 1, r5\nexit"),
    "index": ("E0304", "v.mov.f32 [a], 0.0, 1, 8\nv.mov.i32 [a + 32], 8, 1, 4\n"
              "v.gather.f32.i32 [b], [a], [a + 32], 1, 4, 1, 8\nexit"),
    "assertion": ("E0305", "slt.i64 r5, r3, 1\nassert r5, 0\nexit"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_reads_like_that_of_the_interpreter(name, runtime):
    code, text = FAULTS[name]
    assert faults(text, runtime) == code


def test_a_stride_that_would_wrap_around(runtime):
    text = f"mov.i64 r5, {1 << 62}\ndma.load.f32 [a], g[r1], 1, 5, 1, 1, 0, r5, 0\nexit"
    with pytest.raises(KernelFault, match="E0301"):
        run_text(text, runtime)


def test_a_store_to_a_read_only_array(runtime):
    text = "v.mov.f32 [b], 1.0, 1, 64\nsync 4\ndma.store.f32 g[r0], [b], 64, 1, 1, 0, 0, 0, 0\nexit"
    assert faults(text, runtime, writable=False) == "E0307"


def test_the_fault_of_the_first_program_is_reported_whatever_the_threads(runtime):
    text = "slt.i64 r5, r3, 57\nassert r5, 0\n" + COPY + "v.mov.f32 [b], [a], 1, 64\n" + STORE
    for threads in (1, 2, 7):
        with pytest.raises(KernelFault, match=r"program \(57, 0, 0\)"):
            run_text(text, runtime, grid=200, threads=threads)


def test_any_number_of_threads_gives_the_same(runtime):
    text = COPY + "v.exp.f32 [b], [a], 1, 64\nprint.scalar.i64 0, 0, r3\n" + STORE
    results = [run_text(text, runtime, grid=150, threads=threads) for threads in (1, 2, 7)]
    for out, execution in results[1:]:
        assert (out == results[0][0]).all()
        assert execution.trace.words.tolist() == results[0][1].trace.words.tolist()
        assert execution.trace.starts.tolist() == results[0][1].trace.starts.tolist()
        assert execution.counters == results[0][1].counters
        assert execution.instruction_work.tolist() == results[0][1].instruction_work.tolist()
        assert [each.program for each in execution.prints] == [(number, 0, 0) for number in range(150)]


def test_atomics_run_in_program_order(runtime):
    text = "uitofp.i64.f32 r5, r3\nfmul.f32 r5, r5, 0.1\natom.fadd.f32 r6, g[r0], r5\nexit"
    expected = np.float32(0)
    for number in range(300):
        expected += np.float32(number) * np.float32(0.1)
    for threads in (1, 7):
        out, _ = run_text(text, runtime, grid=300, threads=threads)
        assert out[0] == expected


LOOP = """
    mov.i64 r5, 0
again:
    v.fadd.f32 [b], [a], 1.0, 1, 64
    v.fmul.f32 [b], [b], [b], 1, 64
    sync 4
    add.i64 r5, r5, 1
    slt.i64 r6, r5, r2
    cbr r6, again
"""


def test_timing_alone_leaves_the_same_trace_and_touches_no_array(runtime):
    out, with_values = run_text(COPY + LOOP + STORE, runtime, n=5)
    assert out.any()
    out, timing_only = run_text(COPY + LOOP + STORE, runtime, n=5, with_values=False)
    assert not out.any()
    assert timing_only.trace.words.tolist() == with_values.trace.words.tolist()
    assert timing_only.counters == with_values.counters
    assert timing_only.instruction_work.tolist() == with_values.instruction_work.tolist()


def test_counters(runtime):
    _, execution = run_text(COPY + LOOP + STORE, runtime, grid=2, n=5)
    counters = dict(zip(Counter, execution.counters, strict=True))
    assert counters[Counter.READ_BYTES] == counters[Counter.WRITTEN_BYTES] == 2 * 256
    assert counters[Counter.VECTOR_SIMPLE_CYCLES] == 2 * 5 * 2 * 2
    assert counters[Counter.MACS] == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ldg.i64 r5, g[r0]\nexit", None),
        ("ldg.i64 r5, g[r0]\nfadd.f32 r6, r5, 1.0\nstg.f32 g[r0], r6\nexit", None),
        ("ldg.i1 r5, g[r0]\ncbr r5, end\nend:\nexit", 2),
        ("ldg.i64 r5, g[r0]\nadd.i64 r5, r5, 1\nmov.i64 r6, r5\nldg.i64 r7, g[r6]\nexit", 4),
        ("ldg.i64 r5, g[r0]\nmov.i64 r5, 3\nv.mov.f32 [a], 0.0, 1, r5\nexit", None),
        ("ldg.i64 r5, g[r0]\nv.mov.f32 [a], 0.0, 1, r5\nexit", 2),
        ("mov.i64 r6, 0\nagain:\nv.mov.f32 [a + r6], 0.0, 1, 1\nldg.i64 r6, g[r0]\nbr again", 3),
    ],
)
def test_dependence_on_data_is_found(text, line):
    lines = [f'.loc "kernel.py" {number} 1\n{each}' for number, each in enumerate(text.splitlines(), 1)]
    place = depends_on_data(assemble(HEADER + "\n".join(lines)))
    assert (place.line if place else None) == line


def test_loops_that_differ_in_what_they_are_handed_share_a_function():
    steps = "".join(
        f"v.fadd.f32 [b], [a + {register}], {register}, 1, 64\nv.transpose.f32 [a], [b], 1, 8, 8, 1\n"
        for register in ("r5", "r6")
    )
    program = assemble(HEADER + COPY + "add.i64 r5, r5, 0\nadd.i64 r6, r6, 4\n" + steps + STORE)
    text = translate(program, MACHINE)
    assert text.loops.count("define void") == 1
    assert text.control.count("call void @loops0(") == 2


def test_temporaries_that_die_are_not_stored():
    program = assemble(HEADER + COPY + "v.fadd.f32 [b], [a], 1.0, 1, 64\nv.fmul.f32 [b], [b], 2.0, 1, 64\n" + STORE)
    assert translate(program, MACHINE).loops.count("store <16 x i32>") == 1
    unused = assemble(HEADER + COPY + "v.fadd.f32 [b], [a], 1.0, 1, 64\nexit")
    assert "store <16 x i32>" not in translate(unused, MACHINE).loops


@pytest.mark.parametrize(("distance", "calls"), [(0, 3), (64, 3), (-4, 5)])
def test_tiles_that_follow_each_other_are_walked_through_apart(distance, calls, runtime):
    """The second tile begins behind the first one, by a distance from its end, though both are known only by name."""
    steps = "".join(
        f"v.{name}.f32 [a], [a], {value}, r2, 8\nv.{name}.f32 [a + r5], [a + r5], {value}, r6, 8\n"
        for name, value in (("fadd", 1.0), ("fmul", 3.0))
    )
    first = f"mul.i64 r5, r2, 32\nadd.i64 r5, r5, {distance}\nsub.i64 r6, 5, r2\n"
    text = HEADER + COPY + first + steps + "v.mov.f32 [b], [a], 1, 64\n" + STORE
    program = assemble(text)
    assert translate(program, MACHINE).control.count("call void @loops") == calls
    for n in (-1, 0, 1, 4, 5) if distance == 64 else (1, 4, 5):
        x, expected = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
        memory = GlobalMemory([Allocation.of_array("out", expected), Allocation.of_array("x", x)])
        interpreter.run(program, (1, 1, 1), [expected.ctypes.data, x.ctypes.data, n % (1 << 64)], memory, MACHINE)
        out, _ = run_text(text.removeprefix(HEADER), runtime, grid=1, n=n % (1 << 64))
        assert out.tolist() == expected.tolist()


def test_what_a_later_loop_reads_is_stored_though_an_instruction_behind_it_joins_an_earlier_one(runtime):
    """The product joins the loop of the sums; the difference, which waits for one of them, comes after both."""
    steps = (
        "v.fadd.f32 [a], [a], 1.0, 2, 16\nred.fadd.f32 [a + 128], [a], 2, 16, 1\n"
        "v.fsub.f32 [b], [a + 4], [a + 128], 1, 1\nv.fmul.f32 [b + 128], [a], 2.0, 2, 16\n"
    )
    out, _ = run_text(COPY + steps + STORE, runtime, grid=1)
    a = np.arange(32, dtype=np.float32).reshape(2, 16) + 1
    assert out[0] == 2 - a[0].sum()
    assert out[32:].tolist() == (2 * a).ravel().tolist()


PAIRS = """
.program pairs
.isa {isa}
.cores 1
.param out ptr {dtype}
.param x ptr {dtype}
.buffer a nram 0 {size}
.buffer b nram {size} {size}
.buffer pairs nram {twice} {size}
    param r0, 0
    param r1, 1
    dma.load.{dtype} [a], g[r1], 192, 1, 1, 0, 0, 0, 0
    sync 1
    red.{operation}.{dtype} [pairs], [a], {outer}, 2, {inner}
{steps}
    sync 4
    dma.store.{dtype} g[r0], [{stored}], 192, 1, 1, 0, 0, 0, 0
    exit
"""
EXCHANGES = {
    # Name: what follows the reduction, what is stored, and whether nothing of it need be in memory.
    "into another tile": ("v.repeat.{dtype} [b], [pairs], {outer}, 2, {inner}", "b", True),
    "and on": (
        "v.repeat.{dtype} [b], [pairs], {outer}, 2, {inner}\n"
        "v.mov.{dtype} [b], [b], 1, 192\n"
        "red.{operation}.{dtype} [pairs], [b], 96, 2, 1\nv.repeat.{dtype} [a], [pairs], 96, 2, 1",
        "a",
        True,
    ),
    "in place": ("v.repeat.{dtype} [a], [pairs], {outer}, 2, {inner}", "a", None),
    "and read once more": (
        "v.repeat.{dtype} [b], [pairs], {outer}, 2, {inner}\nv.mov.{dtype} [b + {late}], [pairs], 1, 8",
        "b",
        False,
    ),
}


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("inner", [1, 2, 3, 4, 8, 16, 48])
@pytest.mark.parametrize(
    ("operation", "dtype"), [("xor", I32), ("fmin", F32), ("fadd", F16), ("smax", I8), ("fmul", F64)]
)
def test_pairs_that_are_repeated_at_once(name, inner, operation, dtype, runtime):
    steps, stored, is_passed_on = EXCHANGES[name]
    size = 192 * dtype.bytes
    words = {"dtype": dtype.name, "operation": operation, "outer": 96 // inner, "inner": inner, "late": size // 2}
    text = PAIRS.format(**words, isa=MACHINE.isa, size=size, twice=2 * size, stored=stored, steps=steps.format(**words))
    program = assemble(text)
    check(program, MACHINE)
    x = np.random.default_rng(0).integers(-99, 99, 192).astype(dtype.numpy)
    if dtype.is_float:
        x[::5], x[1::7], x[2::11], x[3::13] = 0.0, -0.0, np.nan, np.inf
    expected, out = np.zeros_like(x), np.zeros_like(x)
    for result in (expected, out):
        memory = GlobalMemory([Allocation.of_array("out", result), Allocation.of_array("x", x)])
        parameters = [result.ctypes.data, x.ctypes.data]
        if result is expected:
            interpreter.run(program, (1, 1, 1), parameters, memory, MACHINE)
        else:
            execute(load(program, runtime), (1, 1, 1), parameters, memory, MACHINE, 1)
    assert equal(expected, out).all()
    if is_passed_on is not None and inner != 3:
        assert ("@mlu." not in translate(program, MACHINE).control) == is_passed_on


def test_a_program_that_never_ends_can_be_interrupted(runtime):
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_text("again:\nadd.i64 r3, r3, 1\nslt.i64 r4, r3, 0\ncbr r4, end\nbr again\nend:\nexit", runtime, threads=2)
    timer.join()


@pytest.mark.parametrize("function", ["exp", "exp2"])
def test_powers_are_rounded_once_where_they_are_subnormal_or_infinite(function, runtime):
    out, x, launch = prepared(f"{COPY}v.{function}.f32 [b], [a], 1, 64\n{STORE}", runtime, 64)
    low, high = (-105, 89.5) if function == "exp" else (-152, 128.5)
    x[:] = np.linspace(low, high, x.size)
    x[:1500] = np.linspace(low, low + 20, 1500)
    x[-3:] = np.nan, np.inf, -np.inf
    launch(1)
    assert equal(evaluate(function, x, dtype=F32), out).all()
    assert np.count_nonzero((out > 0) & (out < np.finfo(np.float32).tiny)) > 500


GATHERS = {
    "two arrays": "v.iota.i64 [a], 0, r2, 2\nsync 4\ngather.f32.i64 [b], g[r1], [a], 1, 1, 0.5, 2, 1, 1\n",
    "masked": "v.iota.i64 [a], 0, r2, 2\nv.ne.i64 [a + 128], [a], r2, 1, 2\nsync 4\n"
    "gather.f32.i64 [b], g[r1], [a], 1, [a + 128], 0.5, 2, 1, 1\n",
}


@pytest.mark.parametrize(("name", "second"), [("two arrays", 7), ("masked", 0.5)])
def test_items_that_lie_in_two_arrays(name, second, runtime):
    store = "sync 7\ndma.store.f32 g[r0], [b], 2, 1, 1, 0, 0, 0, 0\nexit"
    program = assemble(HEADER + GATHERS[name] + store)
    x, apart, out = np.full(64, 3, np.float32), np.zeros(1 << 20, np.float32), np.full(64, 7, np.float32)
    memory = GlobalMemory([Allocation.of_array("x", x), Allocation.of_array("out", out)])
    distance = (out.ctypes.data + 160 - x.ctypes.data) % (1 << 64)
    execute(load(program, runtime), (1, 1, 1), [out.ctypes.data, x.ctypes.data, distance], memory, MACHINE, 1)
    assert out[:3].tolist() == [3, second, 7]
    assert not apart.any()


COUNT_TO = "param r4, 2\nagain:\nadd.i64 r3, r3, 1\nslt.i64 r5, r3, r4\ncbr r5, again\nexit"


def test_the_calling_thread_takes_part_where_it_need_not_be_interrupted(runtime):
    program = assemble(HEADER + COUNT_TO)
    array = np.zeros(4, np.float32)
    memory = GlobalMemory([Allocation.of_array("x", array)])

    def native(depends_on_data):
        module = compile_llvm(translate(program, MACHINE), cache_key=None)
        loaded = NativeProgram(module, runtime, program, depends_on_data=lambda: depends_on_data)
        run, loaded.ran_here = loaded.run, False

        def noted(context):
            loaded.ran_here |= threading.current_thread() is threading.main_thread()
            run(context)

        loaded.run = noted
        return loaded

    def runs_here(loaded, n, grid=64):
        loaded.ran_here = False
        execute(loaded, (grid, 1, 1), [array.ctypes.data, array.ctypes.data, n], memory, MACHINE, 2)
        return loaded.ran_here

    steady, unsteady = native(False), native(True)
    assert [runs_here(steady, n) for n in (5, 5, 6, 6, 5)] == [False, True, False, True, False]
    assert [runs_here(steady, 5, grid) for grid in (64, 60, 60)] == [True, False, True]
    assert [runs_here(unsteady, 5) for _ in range(3)] == [False] * 3


def test_a_launch_that_was_interrupted_says_nothing_of_the_next(runtime):
    program = assemble(HEADER + COUNT_TO)
    array = np.zeros(4, np.float32)
    memory = GlobalMemory([Allocation.of_array("x", array)])
    module = compile_llvm(translate(program, MACHINE), cache_key=None)
    native = NativeProgram(module, runtime, program, depends_on_data=lambda: False)

    def launch(n):
        execute(native, (4, 1, 1), [array.ctypes.data, array.ctypes.data, n], memory, MACHINE, 2)

    launch(5)
    for _ in range(2):
        timer = threading.Timer(0.3, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            launch(1 << 62)
        timer.join()


COPY_ALL = COPY + STORE.replace("[b]", "[a]")


def prepared(text, runtime, grid):
    """A loaded program on one array of 64 elements for each program: the output, the input, and how to launch it."""
    program = assemble(HEADER + text)
    x = np.arange(grid * 64, dtype=np.float32)
    out = np.zeros_like(x)
    memory = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    native = load(program, runtime)
    parameters = [out.ctypes.data, x.ctypes.data, 0]
    return out, x, lambda threads: execute(native, (grid, 1, 1), parameters, memory, MACHINE, threads)


def test_launches_leave_nothing_to_those_that_follow(runtime):
    _, _, large = prepared(COPY_ALL, runtime, 5000)  # its trace outgrows the first buffer
    _, _, small = prepared(COPY_ALL, runtime, 3)
    before = small(1)
    kept = before.trace.words.copy()
    large(1)
    with pytest.raises(KernelFault):
        run_text("dma.load.f32 [a], g[r1 + 900], 64, 1, 1, 0, 0, 0, 0\nexit", runtime, grid=1)
    after = small(1)
    assert (after.trace.words == kept).all()
    assert (before.trace.words == kept).all()
    assert after.counters == before.counters


def test_python_threads_may_launch_at_once(runtime):
    launches = [prepared(COPY_ALL, runtime, grid) for grid in (3, 40, 700, 2000)]
    expected = [launch(1) for _, _, launch in launches]
    wrong = []

    def launch_often(number):
        out, x, launch = launches[number]
        for repetition in range(30):
            out[:] = 0
            got = launch(1 + repetition % 3)
            if not (out == x).all() or (got.trace.words != expected[number].trace.words).any():
                wrong.append((number, repetition))

    threads = [threading.Thread(target=launch_often, args=(number,)) for number in range(len(launches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, where there are threads
def test_a_forked_process_launches_on_threads_of_its_own(runtime):
    out, x, launch = prepared(COPY_ALL, runtime, 2000)
    launch(2)
    child = os.fork()
    if not child:
        out[:] = 0
        launch(2)
        os._exit(0 if (out == x).all() else 1)
    deadline = time.monotonic() + 20
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)


def test_a_program_without_arrays_faults_where_it_touches_one(runtime):
    program = assemble(HEADER + "mov.i64 r1, 8\nldg.f32 r5, g[r1]\nexit")
    with pytest.raises(KernelFault, match="no array was passed"):
        execute(load(program, runtime), (1, 1, 1), [0, 0, 0], GlobalMemory(), MACHINE, 1)


def test_a_grid_without_programs(runtime):
    _, execution = run_text(COPY + STORE.replace("[b]", "[a]"), runtime, grid=0)
    assert not len(execution.trace.words)
