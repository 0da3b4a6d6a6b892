"""The instruction table: one row an instruction, from which every consumer derives.

Assembler, disassembler, encoding, legality, interpreter, LLVM translation, timing and the manual read ``TABLE`` and
assert that they are complete for it. A row states

* the *types* that stand as suffixes of the mnemonic (``v.add.f32``, ``v.sitofp.i32.f32``: source first),
* the *slots*, each with what stands in it, whether it is read or written, and its *span*: how many elements it touches,
* what it costs: ``issue`` cycles of the scalar queue, which hands the instruction on, and ``occupancy`` cycles of the
  COMPUTE queue; operations on shared resources instead name the *trace* record that the replay times.

Element-wise instructions (scalar and vector) are made from the table of :mod:`mlutriton.arithmetic`.

Costs are expressions over the counts of the instruction, the fields of :class:`~mlutriton.isa.machine.Machine`, and
``width`` (bytes of the widest element type), ``lanes`` (128 / width), ``passes`` (of the operation's cost class),
``macs`` (MACs a cycle of the element type) and ``k_granule`` (elements that fill ``tensor_k_granule_bytes``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cache

from mlutriton.arithmetic import OPERATIONS, Operation
from mlutriton.dtypes import ALL, FORMATS, DType


class Queue(Enum):
    """The four in-order queues of a core. Queues run in parallel; only ``sync`` orders them."""

    SCALAR = "SCALAR"
    COMPUTE = "COMPUTE"
    IO = "IO"
    MOVE = "MOVE"

    __hash__ = object.__hash__  # there is one of each, and that of Enum takes the time of a call


class SlotKind(Enum):
    """What may stand in a slot."""

    RESULT = "scalar register, written"
    SCALAR = "scalar register or immediate of the slot's type"
    COUNT = "element count: register or immediate, 0 to 2147483647"
    VECTOR = "on-chip address in any mode, scalar register or immediate (the same for every element), or ~"
    TARGET = "on-chip address, written element for element, or ~"
    ON_CHIP = "on-chip address of consecutive elements"
    GLOBAL = "GDRAM address"
    LABEL = "label"
    INDEX = "immediate integer: an index, flag or mask"

    __hash__ = object.__hash__


MEMORY_SLOT_KINDS = (SlotKind.VECTOR, SlotKind.TARGET, SlotKind.ON_CHIP, SlotKind.GLOBAL)
"""Slots in which an address may stand."""


class Access(Enum):
    """What the instruction does to the bytes of an address slot."""

    NONE = "none"
    READ = "read"
    WRITE = "write"
    READ_WRITE = "read and write"

    __hash__ = object.__hash__


@dataclass(frozen=True)
class Slot:
    """One operand position.

    Attributes:
        name: used by spans, costs and consumers.
        kind: what may stand here.
        type: index into the instruction's types, or -1 for a 64-bit integer, -2 for ``i32``, -3 for ``i1``.
        access: effect on the addressed bytes; for ``GLOBAL`` slots on GDRAM.
        span: expression for the number of elements from the address to the end of what is touched.
        spaces: on-chip memories that may stand here.
        optional: the immediate 0 may stand for "absent" (an absent mask is the immediate 1 instead).
    """

    name: str
    kind: SlotKind
    type: int = -1
    access: Access = Access.NONE
    span: str = "1"
    spaces: tuple[str, ...] = ("nram",)
    optional: bool = False

    @property
    def is_string(self) -> bool:
        """Whether it is the number of one of the program's strings."""
        return self.kind is SlotKind.INDEX and self.name in ("message", "shape")


@dataclass(frozen=True, eq=False)
class Row:
    """One instruction of the table; its name stands for it when rows are compared.

    Attributes:
        name: mnemonic without type suffixes.
        section: heading of the manual.
        queue: the queue that executes it.
        types: one entry a suffix, each the admissible kinds: ``int``, ``bits`` (integers and i1), ``float``, ``any`` or
            names split by ``|``.
        slots: in the order of the assembly text.
        doc: what it does, in the manual's words.
        issue: cycles of the SCALAR queue.
        occupancy: cycles of the COMPUTE queue; empty for other queues.
        work: bytes of the lanes that its arithmetic takes, however its elements stand; empty if it has none.
        trace: name of the record the replay times, empty for local work.
        operation: the arithmetic operation of an element-wise instruction.
        combine: the arithmetic operation by which a reduction, scan or atomic combines two values; none for exchanges
            and for the extreme with its place.
        slot_index: positions of the slots by name.
        extents: names of the counts of which one that is 0 makes the instruction do nothing.
        memory_slots: positions of the slots in which an address may stand, with what happens to its bytes.
        count_slots: positions of the counts, with their names.
        has_result: whether the first slot is that of a register that is set.
    """

    name: str
    section: str
    queue: Queue
    types: tuple[str, ...]
    slots: tuple[Slot, ...]
    doc: str
    issue: str = "issue_cycles"
    occupancy: str = ""
    work: str = ""
    trace: str = ""
    operation: Operation | None = None
    combine: Operation | None = None
    slot_index: dict[str, int] = field(init=False, repr=False)
    extents: tuple[str, ...] = field(init=False, repr=False)
    memory_slots: tuple[tuple[int, Access], ...] = field(init=False, repr=False)
    count_slots: tuple[tuple[int, str], ...] = field(init=False, repr=False)
    has_result: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slot_index", {slot.name: i for i, slot in enumerate(self.slots)})
        counts = tuple((i, slot.name) for i, slot in enumerate(self.slots) if slot.kind is SlotKind.COUNT)
        object.__setattr__(self, "count_slots", counts)
        object.__setattr__(self, "extents", tuple(name for _, name in counts if name not in NOT_EXTENTS))
        places = tuple((i, slot.access) for i, slot in enumerate(self.slots) if slot.kind in MEMORY_SLOT_KINDS)
        object.__setattr__(self, "memory_slots", places)
        object.__setattr__(self, "has_result", bool(self.slots) and self.slots[0].kind is SlotKind.RESULT)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Row) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def slot(self, name: str) -> Slot:
        """The slot of a name."""
        return self.slots[self.slot_index[name]]

    @cache  # noqa: B019 - rows live as long as the program
    def admits(self, dtypes: tuple[DType, ...]) -> bool:
        """True if these element types may stand as suffixes of the mnemonic."""
        if len(dtypes) != len(self.types) or any(
            dtype not in admitted(kinds) for kinds, dtype in zip(self.types, dtypes, strict=True)
        ):
            return False
        if self.name == "mm":
            return dtypes[0].is_float == dtypes[1].is_float
        # 8-bit floats are for storage: they are moved, selected and converted, not computed with.
        computes = self.combine is not None or (self.operation is not None and self.operation.domain == "float")
        if computes and len(dtypes) == 1 and dtypes[0].is_float8:
            return False
        return self.operation is None or self.operation.accepts(*dtypes)

    @property
    def is_elementwise(self) -> bool:
        """True for vector instructions that work element for element over ``rows x columns``."""
        return self.operation is not None and self.queue is Queue.COMPUTE

    @property
    def is_elementwise_or_mov(self) -> bool:
        """True for the vector instructions over ``rows x columns``, whose target and sources may be ``~``."""
        return self.is_elementwise or self.name == "v.mov"


# Slot types that are not among an instruction's suffixes.
INT64, INT32, BOOL = -1, -2, -3

# Counts that say where elements are, or how many of them are valid, rather than how many there are.
NOT_EXTENTS = frozenset(
    {"lda", "local1", "local2", "valid", "valid0", "valid1", "valid2", "valid_depth", "valid_columns", "first_column"}
    | {"before0", "before1", "before2", "to1", "from1", "from_depth", "from_column"}
)


@cache
def admitted(kinds: str) -> tuple[DType, ...]:
    """The element types that an entry of ``Row.types`` stands for."""
    match kinds:
        case "any":
            return ALL
        case "int":
            return tuple(dtype for dtype in ALL if dtype.is_int)
        case "bits":
            return tuple(dtype for dtype in ALL if not dtype.is_float)
        case "float":
            return tuple(dtype for dtype in ALL if dtype.is_float)
        case names:
            return tuple(dtype for dtype in FORMATS if dtype.name in names.split("|"))


R, W, RW = Access.READ, Access.WRITE, Access.READ_WRITE
ELEMENTS = "rows * columns"


def _result(type: int = 0) -> Slot:
    return Slot("rd", SlotKind.RESULT, type)


def _scalar(name: str, type: int = 0) -> Slot:
    return Slot(name, SlotKind.SCALAR, type)


def _counts(names: str) -> tuple[Slot, ...]:
    return tuple(Slot(name, SlotKind.COUNT) for name in names.split())


def _strides(names: str) -> tuple[Slot, ...]:
    """Signed 64-bit strides in elements."""
    return tuple(Slot(name, SlotKind.SCALAR, INT64) for name in names.split())


def _vector(name: str, type: int = 0, span: str = ELEMENTS) -> Slot:
    return Slot(name, SlotKind.VECTOR, type, R, span)


def _target(type: int = 0) -> Slot:
    return Slot("dst", SlotKind.TARGET, type, W, ELEMENTS)


def _memory(
    name: str, access: Access, span: str, type: int = 0, spaces: str = "nram", *, optional: bool = False
) -> Slot:
    return Slot(name, SlotKind.ON_CHIP, type, access, span, tuple(spaces.split()), optional)


def _global(name: str, access: Access) -> Slot:
    return Slot(name, SlotKind.GLOBAL, 0, access)


def _index(name: str) -> Slot:
    return Slot(name, SlotKind.INDEX)


# A vector instruction takes the full rate over each row; a row begins on a fresh beat.
_VECTOR_CYCLES = "passes * rows * ceil_div(columns * width, vector_bytes_per_cycle)"
_OPERAND_NAMES = ("a", "b", "c")


def _elementwise() -> Iterator[Row]:
    for operation in OPERATIONS.values():
        types: tuple[str, ...]
        if operation.is_cast:
            types = (operation.domain, operation.result)
            sources, destination = [0], 1
        else:
            types = (operation.domain,)
            sources, destination = [0] * operation.arity, (BOOL if operation.result == "bool" else 0)
        if operation.name == "select":
            sources = [BOOL, 0, 0]
        names = ("mask", "a", "b") if operation.name == "select" else _OPERAND_NAMES
        simple = "scalar_float_cycles" if "float" in (operation.domain, operation.result) else "scalar_integer_cycles"
        scalar_cost = {
            "simple": simple,
            "fma": simple,
            "divide": "scalar_divide_cycles",
            "special": "scalar_special_cycles",
        }[operation.cost_class]
        yield Row(
            operation.name,
            "Scalar arithmetic",
            Queue.SCALAR,
            types,
            (_result(destination), *(_scalar(n, t) for n, t in zip(names, sources, strict=False))),
            operation.doc,
            issue=scalar_cost,
            operation=operation,
        )
        yield Row(
            f"v.{operation.name}",
            "Vector arithmetic",
            Queue.COMPUTE,
            types,
            (
                _target(destination),
                *(_vector(n, t) for n, t in zip(names, sources, strict=False)),
                *_counts("rows columns"),
            ),
            operation.doc,
            occupancy=_VECTOR_CYCLES,
            work="passes * rows * columns * width",
            operation=operation,
        )


# Columns are dealt out to 64 lanes of the tensor unit (mlu-ops, kernel.h: WRAM_LT_STRIDE): so many take room together.
WRAM_PANEL_COLUMNS = 64
# How they lie there shows nowhere, as only products read WRAM: side by side as a host's vector registers take them.
WRAM_STRIP_COLUMNS = 32
TENSOR_TYPES = "f16|bf16|tf32|f32|i8"
_WEIGHT_SPAN = f"round_up(columns, {WRAM_PANEL_COLUMNS}) * depth"
_WEIGHT_PART_SPAN = f"round_up(first_column + columns, {WRAM_PANEL_COLUMNS}) * depth"
_PAD3 = "n0 * n1 * n2"
_STRIDED3 = "(n2 - 1) * local2 + (n1 - 1) * local1 + n0"
# Along rows: one beat a 128-byte group, then the tree over the lanes of one group. Along columns: one pass a line.
_REDUCE_CYCLES = (
    "passes * outer * if_one(inner, ceil_div(n * width, vector_bytes_per_cycle) + log2_ceil(lanes),"
    " n * ceil_div(inner * width, vector_bytes_per_cycle))"
)
_AXIS = "outer n inner"
_SPAN_AXIS = "outer * n * inner"
_SPAN_REST = "outer * inner"
REDUCTIONS = ("add", "fadd", "mul", "fmul", "smin", "smax", "umin", "umax", "fmin", "fmax", "fminimum", "fmaximum",
              "and", "or", "xor")  # fmt: skip
SCANS = ("add", "fadd", "mul", "fmul", "smin", "smax", "fmin", "fmax")
ATOMICS = ("add", "fadd", "smin", "smax", "umin", "umax", "fmin", "fmax", "and", "or", "xor", "xchg")
PRINT_STYLES = ("signed", "unsigned", "hexadecimal")
_STYLES = "style is " + ", ".join(f"{number} {style}" for number, style in enumerate(PRINT_STYLES))
SPECIAL_REGISTERS = (
    "program_id.x", "program_id.y", "program_id.z", "num_programs.x", "num_programs.y", "num_programs.z",
    "core_in_cluster", "cores_per_cluster", "arrays_disjoint", "task", "tasks", "programs", "local_memory",
)  # fmt: skip


def _reduce_like() -> Iterator[Row]:
    for name in REDUCTIONS:
        domain = OPERATIONS[name].domain
        yield Row(
            f"red.{name}", "Reduction", Queue.COMPUTE, (domain,),
            (_memory("dst", W, _SPAN_REST), _memory("a", R, _SPAN_AXIS), *_counts(_AXIS)),
            "dst[o, i] = a[o, 0, i] op ... op a[o, n-1, i], in the architectural order of reductions.",
            occupancy=_REDUCE_CYCLES, work="passes * outer * max(n - 1, 0) * inner * width", combine=OPERATIONS[name],
        )  # fmt: skip
    for name in ("argmax", "argmin"):
        yield Row(
            f"red.{name}", "Reduction", Queue.COMPUTE, ("any",),
            (_memory("dst", W, _SPAN_REST), _memory("index", W, _SPAN_REST, INT32), _memory("a", R, _SPAN_AXIS),
             *_counts(_AXIS)),
            "dst = extreme value along n (signed for integers, a NaN counts as the extreme), index = first place where"
            " it stands.",
            occupancy=_REDUCE_CYCLES.replace("passes", "2"),
        )  # fmt: skip
    for name in SCANS:
        yield Row(
            f"scan.{name}", "Scan", Queue.COMPUTE, (OPERATIONS[name].domain,),
            (_memory("dst", W, _SPAN_AXIS), _memory("a", R, _SPAN_AXIS), *_counts(_AXIS), _index("reverse")),
            "dst[o, k, i] = a[o, 0, i] op ... op a[o, k, i], from the left one by one; from the end if reverse is 1.",
            occupancy="passes * outer * log2_ceil(n) * ceil_div(n * inner * width, vector_bytes_per_cycle)",
            work="passes * outer * log2_ceil(n) * n * inner * width",
            combine=OPERATIONS[name],
        )  # fmt: skip


def _atomics() -> Iterator[Row]:
    for name in ATOMICS:
        combine = OPERATIONS.get(name)
        domain = combine.domain if combine else "any"
        yield Row(
            f"atom.{name}", "Atomics", Queue.SCALAR, (domain,),
            (_result(), _global("address", RW), _scalar("value")),
            "rd = memory; memory = memory op value, as one step.", trace="ATOMIC_SCALAR", combine=combine,
        )  # fmt: skip
        yield Row(
            f"gatom.{name}", "Atomics", Queue.IO, (domain, "i32|i64"),
            (_memory("old", W, "n * length", optional=True), _global("address", RW), _memory("offsets", R, "n", 1),
             _index("scale"), _vector("value", 0, "n * length"), _vector("mask", BOOL, "n"),
             *_counts("n length valid")),
            "old and value are dense [n, length]. For k = 0 to n-1 in order, where mask[k], and j < valid in order:"
            " old[k, j] = element j of those from address + offsets[k] * scale on; that = that op value[k, j], each"
            " element as one step.", trace="ATOMIC_VECTOR", combine=combine,
        )  # fmt: skip
    yield Row(
        "atom.cas", "Atomics", Queue.SCALAR, ("any",),
        (_result(), _global("address", RW), _scalar("expected"), _scalar("value")),
        "rd = memory; memory = value if memory's bits equal expected's, as one step.", trace="ATOMIC_SCALAR",
    )  # fmt: skip
    yield Row(
        "gatom.cas", "Atomics", Queue.IO, ("any", "i32|i64"),
        (_memory("old", W, "n * length", optional=True), _global("address", RW), _memory("offsets", R, "n", 1),
         _index("scale"), _vector("expected", 0, "n * length"), _vector("value", 0, "n * length"),
         _vector("mask", BOOL, "n"), *_counts("n length valid")),
        "The same with compare-and-swap.", trace="ATOMIC_VECTOR",
    )  # fmt: skip


# fmt: off
_FIXED: tuple[Row, ...] = (
    # ---- Scalar -----------------------------------------------------------------------------------------------------
    Row("mov", "Scalar", Queue.SCALAR, ("any",), (_result(), _scalar("a")), "rd = a.", issue="scalar_integer_cycles"),
    Row("param", "Scalar", Queue.SCALAR, (), (_result(INT64), _index("index")),
        "rd = the kernel parameter of that index, zero-extended.", issue="scalar_integer_cycles"),
    Row("sreg", "Scalar", Queue.SCALAR, (), (_result(INT64), _index("index")),
        "rd = a special register: " + ", ".join(f"{i} {name}" for i, name in enumerate(SPECIAL_REGISTERS)) + ".",
        issue="scalar_integer_cycles"),
    Row("reach", "Scalar", Queue.SCALAR, (), (_result(INT64), _scalar("address", INT64), _index("stored")),
        "rd = the bytes from a byte address in GDRAM up to the end of the arrays there that share bytes; 0 outside of"
        " all that was passed to the kernel, and, if stored is 1, in what is read-only.",
        issue="scalar_integer_cycles"),
    Row("serve", "Scalar", Queue.SCALAR, (), (_scalar("program", INT64),),
        "What follows serves the program of that number, x fastest: faults and prints name it.",
        issue="scalar_integer_cycles"),
    Row("lds", "Scalar", Queue.SCALAR, ("any",), (_result(), _memory("a", R, "1")),
        "rd = one element of NRAM.", issue="scalar_nram_load_cycles"),
    Row("sts", "Scalar", Queue.SCALAR, ("any",), (_memory("dst", W, "1"), _scalar("value")),
        "One element of NRAM = value.", issue="scalar_nram_store_cycles"),
    Row("ldg", "Scalar", Queue.SCALAR, ("any",), (_result(), _global("address", R)),
        "rd = one element of GDRAM; blocks.", trace="SCALAR_LOAD"),
    Row("stg", "Scalar", Queue.SCALAR, ("any",), (_global("address", W), _scalar("value")),
        "One element of GDRAM = value; blocks.", trace="SCALAR_STORE"),
    # ---- Control ----------------------------------------------------------------------------------------------------
    Row("br", "Control", Queue.SCALAR, (), (Slot("target", SlotKind.LABEL),),
        "Go to target.", issue="scalar_branch_cycles"),
    Row("cbr", "Control", Queue.SCALAR, (), (_scalar("condition", BOOL), Slot("target", SlotKind.LABEL)),
        "Go to target if condition is 1, else on.", issue="scalar_branch_cycles"),
    Row("exit", "Control", Queue.SCALAR, (), (), "The program ends once its queues have drained.", trace="END"),
    Row("assert", "Control", Queue.SCALAR, (), (_scalar("condition", BOOL), _index("message")),
        "Fault E0305 with the message string if condition is 0.", issue="scalar_integer_cycles"),
    Row("pause", "Control", Queue.SCALAR, (), (_scalar("unchanged", BOOL), _scalar("attempt", INT64)),
        "Let other programs run before this one goes on: it has looked at memory attempt times, from 1, and if"
        " unchanged is 1 it does the same again until another program writes there. If all programs do, fault E0306.",
        issue="scalar_branch_cycles"),
    Row("print.text", "Control", Queue.SCALAR, (), (_index("message"),),
        "Hand the message string to the host.", issue="scalar_integer_cycles"),
    Row("print.scalar", "Control", Queue.SCALAR, ("any",), (_index("message"), _index("style"), _scalar("value")),
        f"Hand the message string and the value to the host; {_STYLES}.", issue="scalar_integer_cycles"),
    Row("print.vector", "Control", Queue.SCALAR, ("any",),
        (_index("message"), _index("style"), _index("shape"), _memory("a", R, "n"), *_counts("n")),
        f"Hand the message string and n elements to the host, as a tensor whose extents are in the shape string, like"
        f" 4x32, if that has n elements; {_STYLES}.", issue="scalar_integer_cycles"),
    # ---- Synchronization --------------------------------------------------------------------------------------------
    Row("sync", "Synchronization", Queue.SCALAR, (), (_index("queues"),),
        "Wait until queues have drained: sum of 1 IO, 2 MOVE, 4 COMPUTE.", trace="SYNC"),
    Row("barrier.cluster", "Synchronization", Queue.SCALAR, (), (),
        "Drain the own queues, then wait for the other cores of the cluster.", trace="BARRIER_CLUSTER"),
    # ---- Vector, not element-wise -----------------------------------------------------------------------------------
    Row("v.mov", "Vector", Queue.COMPUTE, ("any",), (_target(), _vector("a"), *_counts("rows columns")),
        "dst = a: copy, fill (scalar a), repeat along columns (row mode) or rows (column mode).",
        occupancy=_VECTOR_CYCLES),
    Row("v.iota", "Vector", Queue.COMPUTE, ("int",),
        (_memory("dst", W, "n"), _scalar("start"), _scalar("step"), *_counts("n")),
        "dst[k] = start + k * step, wrapping.", occupancy="ceil_div(n * width, vector_bytes_per_cycle)"),
    Row("v.transpose", "Vector", Queue.COMPUTE, ("any",),
        (_memory("dst", W, "batch * rows * columns * inner"), _memory("a", R, "batch * rows * columns * inner"),
         *_counts("batch rows columns inner")),
        "dst[b, c, r, :] = a[b, r, c, :] for blocks of inner consecutive elements; dst and a are disjoint.",
        occupancy="vector_transpose_passes * ceil_div(batch * rows * columns * inner * width, vector_bytes_per_cycle)"),
    Row("v.repeat", "Vector", Queue.COMPUTE, ("any",),
        (_memory("dst", W, "outer * n * inner"), _memory("a", R, "outer * inner"), *_counts("outer n inner")),
        "dst[o, k, i] = a[o, i] for k = 0 to n-1.",
        occupancy="outer * if_one(inner, ceil_div(n * width, vector_bytes_per_cycle),"
                  " n * ceil_div(inner * width, vector_bytes_per_cycle))"),
    Row("v.gather", "Vector", Queue.COMPUTE, ("any", "i32|i64"),
        (_memory("dst", W, "outer * n * inner"), _memory("a", R, "outer * extent * inner"),
         _memory("index", R, "outer * n * inner", 1), *_counts("outer n inner extent")),
        "dst[o, k, i] = a[o, index[o, k, i], i]; an index outside 0 to extent-1 is fault E0304.",
        occupancy="outer * n * inner * gather_local_item_cycles"),
    Row("v.lookup", "Vector", Queue.COMPUTE, ("any", "i32|i64"),
        (_memory("dst", W, "n"), _memory("a", R, "extent"), _memory("index", R, "n", 1), _scalar("src", INT64),
         _scalar("elements", INT64), _vector("mask", BOOL, "n"), _vector("fill", 0, "n"), *_counts("n extent")),
        "dst[k] = a[index[k]] where mask[k], else fill[k]. a holds the whole array of GDRAM that begins at byte address"
        " src, of so many elements: an index outside of both that the mask chooses is fault E0301 of the element that"
        " gather would load.",
        occupancy="n * gather_local_item_cycles"),
    Row("v.histogram", "Vector", Queue.COMPUTE, ("i32|i64",),
        (_memory("dst", W, "bins", INT32), _memory("a", R, "n"), _vector("mask", BOOL, "n"), *_counts("n bins")),
        "dst[b] = how many of the elements where mask is set equal b; others are left out.",
        occupancy="n * gather_local_item_cycles"),
    Row("v.collect", "Vector", Queue.COMPUTE, ("any",),
        (_memory("dst", W, "n"), _memory("a", R, "n"), _vector("mask", BOOL, "n"), *_counts("n")),
        "dst has the elements of a where mask is set, in order, and zeros behind them; dst and a are disjoint.",
        occupancy="2 * ceil_div(n * width, vector_bytes_per_cycle)"),
    # ---- Tensor -----------------------------------------------------------------------------------------------------
    Row("mm", "Tensor", Queue.COMPUTE, (TENSOR_TYPES, "f32|i32"),
        (_memory("c", RW, "rows * columns", 1), _memory("a", R, "(rows - 1) * lda + depth"),
         _memory("w", R, _WEIGHT_SPAN, 0, "wram"),
         *_counts("rows columns depth lda"), _scalar("accumulate", BOOL)),
        "c[rows, columns] = (c if accumulate else 0) + a[rows, depth] * w[depth, columns]. Floating point: one fused"
        " multiply-add into c in f32 for each k = 0 to depth-1 in this order; integers wrap in i32. tf32 stands for f32"
        " of which a is read, and w was loaded, as the nearest number with 10 bits of mantissa, ties to even.",
        occupancy="tensor_fill_cycles + ceil_div(rows * round_up(columns, tensor_column_granule)"
                  " * round_up(depth, k_granule), macs)"),
    # ---- DMA between GDRAM and on-chip memory (IO queue) ------------------------------------------------------------
    Row("dma.load", "DMA", Queue.IO, ("any",),
        (_memory("dst", W, _STRIDED3, 0, "nram sram"), _global("src", R), *_counts("n0 n1 n2 local1 local2"),
         *_strides("global1 global2")),
        "n2 x n1 segments of n0 consecutive elements; strides in elements, local in dst, global in src.", trace="LOAD"),
    Row("dma.load_pad", "DMA", Queue.IO, ("any",),
        (_memory("dst", W, _PAD3, 0, "nram sram"), _global("src", R),
         *_counts("n0 n1 n2 before0 before1 before2 valid0 valid1 valid2"), *_strides("global1 global2"),
         _scalar("fill")),
        "dst is dense [n2, n1, n0]; the box [valid2, valid1, valid0] from src on is loaded to place [before2, before1,"
        " before0] and on, the rest is fill. What of the box lies outside dst is left out.",
        trace="LOAD"),
    Row("dma.store", "DMA", Queue.IO, ("any",),
        (_global("dst", W), _memory("src", R, _STRIDED3, 0, "nram sram"), *_counts("n0 n1 n2 local1 local2"),
         *_strides("global1 global2")),
        "The counterpart of dma.load.", trace="STORE"),
    Row("dma.weight", "DMA", Queue.IO, (TENSOR_TYPES,),
        (_memory("dst", W, _WEIGHT_PART_SPAN, 0, "wram"), _global("src", R),
         *_counts("depth columns valid_depth valid_columns first_column"), *_strides("global_depth global_column"),
         _scalar("fill")),
        "The matrix src[k, n] = element at src + k * global_depth + n * global_column, valid for k < valid_depth and"
        " n < valid_columns and fill elsewhere, into WRAM strips: w[c // 32, k, c % 32] with c = first_column + n."
        " Columns from first_column + columns to the end of the last panel become 0. With tf32, f32 elements are"
        " rounded on the way.", trace="LOAD"),
    Row("gather", "DMA", Queue.IO, ("any", "i32|i64"),
        (_memory("dst", W, "n * length"), _global("src", R), _memory("offsets", R, "n", 1), _index("scale"),
         _vector("mask", BOOL, "n"), _vector("fill", 0, "n"), *_counts("n length valid")),
        "dst is dense [n, length]: dst[k, j] = element j of those from src + offsets[k] * scale on where mask[k] and"
        " j < valid, else fill[k].", trace="GATHER"),
    Row("scatter", "DMA", Queue.IO, ("any", "i32|i64"),
        (_global("dst", W), _memory("src", R, "n * length"), _memory("offsets", R, "n", 1), _index("scale"),
         _vector("mask", BOOL, "n"), *_counts("n length valid")),
        "src is dense [n, length]: element j of those from dst + offsets[k] * scale on = src[k, j] where mask[k] and"
        " j < valid, for k in order.", trace="SCATTER"),
    # ---- On-chip moves (MOVE queue) ---------------------------------------------------------------------------------
    Row("move", "Move", Queue.MOVE, ("any",),
        (_memory("dst", W, "(n1 - 1) * to1 + n0", 0, "nram sram"),
         _memory("src", R, "(n1 - 1) * from1 + n0", 0, "nram sram"), *_counts("n0 n1 to1 from1")),
        "n1 segments of n0 consecutive elements between on-chip memories.", trace="MOVE"),
    Row("move.weight", "Move", Queue.MOVE, (TENSOR_TYPES,),
        (_memory("dst", W, _WEIGHT_SPAN, 0, "wram"),
         _memory("src", R, "(depth - 1) * from_depth + (columns - 1) * from_column + 1", 0, "nram sram"),
         *_counts("depth columns from_depth from_column")),
        "As dma.weight, from an on-chip matrix.", trace="MOVE"),
)
# fmt: on

TABLE: dict[str, Row] = {row.name: row for row in (*_elementwise(), *_FIXED, *_reduce_like(), *_atomics())}

SYNC_IO, SYNC_MOVE, SYNC_COMPUTE = 1, 2, 4
MAXIMUM_CHAIN_STEPS = 4
