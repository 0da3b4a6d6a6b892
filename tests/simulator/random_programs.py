"""Random programs that are legal, neither race nor read what is not written, and arrays for them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from mlutriton.arithmetic import OPERATIONS
from mlutriton.dtypes import BF16, F16, F32, F64, I1, I8, I16, I32, I64
from mlutriton.isa.machine import machine
from mlutriton.isa.operands import FORWARD, Address, GlobalAddress, Immediate, Label, Mode, Register
from mlutriton.isa.program import Buffer, Instruction, Parameter, Program
from mlutriton.isa.table import ATOMICS, REDUCTIONS, SCANS, TABLE, Queue

MACHINE = machine("mlu590-m9")


DTYPES = (I1, I8, I16, I32, I64, F16, BF16, F32, F64)


INTEGERS = (I8, I16, I32, I64)


FLOATS = (F16, BF16, F32, F64)


ELEMENTS = 512


BUFFERS = 3


# The sign and payload of a NaN are no part of the architecture; these would show them.
SHOWS_NAN_BITS = {"copysign", "bitcast"}


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
            if dtype is forwarded and (waiting or self.chance(0.2)):
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
        elif self.chance(0.5):
            n, extent = self.random.choice([1, 60, 500]), self.random.choice([1, 10, 300])
            dtype = self.random.choice(DTYPES)
            index = self.index_values(index_dtype, 2, n, extent)
            mask = Immediate(1) if self.chance(0.4) else self.place(I1, n)
            fill = self.value(dtype) if self.chance(0.5) else self.place(dtype, n, 0)
            operands = (self.place(dtype, extent, 0), index, self.pointer(dtype), Immediate(extent), mask, fill)
            counts = (self.count(each) for each in (n, extent))
            self.emit("v.lookup", (dtype, index_dtype), self.place(dtype, n, 1), *operands, *counts)
        elif self.chance(0.4):
            dtype, n = self.random.choice(DTYPES), self.random.choice([1, 60, 500])
            mask = Immediate(1) if self.chance(0.2) else self.place(I1, n)
            self.emit("v.collect", (dtype,), self.place(dtype, n, 0), self.place(dtype, n, 1), mask, self.count(n))
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
        kind = self.random.randrange(7)
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
        elif kind == 5:
            begin = Register(self.TEMPORARIES[self.temporary % len(self.TEMPORARIES)])
            self.temporary += 1
            self.emit("add", (I64,), begin, self.pointer(dtype), Immediate(address.offset_bytes))
            self.emit("reach", (), self.value_register(I64), begin, Immediate(self.random.randrange(2)))
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
            old = Immediate(0) if self.chance(0.3) else self.place(dtype, n * length, 1)
            scale = Immediate(dtype.bytes)
            values = [
                self.value(dtype) if self.chance(0.5) else self.place(dtype, n * length, 0)
                for _ in range(2 if name == "cas" else 1)
            ]
            types = (dtype, offset_dtype)
            self.emit(f"gatom.{name}", types, old, base, offsets, scale, *values, mask, *self.run(n, length))

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
