"""The manual of the ISA, ``docs/reference/isa.md``, derived from the table and from what its consumers say."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import groupby

from mlutriton.arithmetic import functions
from mlutriton.isa import assembly, encoding, operands, trace_format
from mlutriton.isa.legality import RULES
from mlutriton.isa.reduction import REDUCTION_GROUP_BYTES
from mlutriton.isa.table import MAXIMUM_CHAIN_STEPS, TABLE, Access, Queue, Row, Slot, SlotKind

_MODEL = f"""\
## Model

A program runs on one core (or on all cores of a cluster, each running the same text). A core has 64-bit scalar
registers `r0`, `r1`, ..., which are 0 at the start, and the memories

| memory | of | holds |
|---|---|---|
| NRAM | core | operands of vector instructions, left operand and result of `mm` |
| WRAM | core | right operand of `mm`, which alone can read it |
| SRAM | cluster | what DMA and moves bring there |
| GDRAM | chip | the arrays of the host, at their own addresses |
| local memory | core | what a program puts there: DRAM from the address in the special register `local_memory` on |

On-chip memory is addressed through *buffers*, declared windows; an access that leaves its window is fault E0304.
GDRAM is addressed by bytes; an access outside the arrays that were passed to the kernel and its local memory is fault
E0301, a store to a read-only one E0307. A DMA is checked as a whole, from the lowest to the highest byte that it
touches, before it moves anything; gathers, scatters and atomics item by item, those whose mask is set. No address has
to be aligned. An `i1` takes a byte, is true where that byte is not 0, and is written as 0 or 1. A value narrower than
a register sits zero-extended in its low bits. Immediates are rounded to nearest even, or wrapped, to their type.

### Queues

The SCALAR queue takes the instructions in order. It executes its own and hands the others, in order, to the COMPUTE,
IO and MOVE queues, which run in parallel, each in order and one instruction at a time; only the set-up and latency of a
transfer pass while the one before it in its queue still moves bytes. Registers are interlocked: operands are read when
an instruction is handed on. On-chip memory is **not** interlocked between queues: an access
to bytes that an instruction of another queue may still be working on is a race (fault E0303), unless both only read,
or a `sync` with that queue came between. A scalar load or store of NRAM races with COMPUTE like any other. Reading a
byte of on-chip memory that the program has not written is fault E0302. The native simulator does not look for these
two, nor for forbidden overlaps of operands that registers decide (fault E0309); the interpreter does.

### Counts

A count that is negative counts as 0, one above 2147483647 as 2147483647. If an *extent* is 0 (every count but
strides, `valid*` and `first_column`), the instruction touches nothing and leaves no trace record; its issue and
occupancy are charged as the formulas say. Strides of GDRAM are signed; those of on-chip memory are counts.

### Time of the COMPUTE queue

An instruction is handed on `issue` cycles after the one before and starts when the queue is free. It occupies the
queue for its `occupancy`, and besides

* for `vector_latency_cycles` if one of its reads overlaps bytes that the instruction right before it in the queue
  wrote,
* else for `vector_gap_cycles`.

Ranges are compared from first to last byte. The `c` of an `mm` counts as read; but not if the instruction before is
an `mm` too, since accumulators are chained. Labels, branches and syncs change nothing in this; the first instruction
of a program has none before it.

### Chains

Neighbouring element-wise instructions are fused by `~`: the first hands its result on instead of writing it, and the
second may take it for more than one of its sources. A chain
of at most {MAXIMUM_CHAIN_STEPS} steps is one instruction for the queue: its occupancy is the greatest of its steps,
it waits once (its reads are those of all steps), and it starts when its last step has been issued; each step costs
its issue.

### Order of evaluation

Results are defined to the bit, except for the sign and payload of a NaN. `f16` and `bf16` are computed in `f32` and
rounded after each operation; but the accumulators of a reduction or scan by `fadd` or `fmul` are at least `f32`, and
only results are rounded.

* **Row reduction** (`inner` = 1): there are `lanes` = {REDUCTION_GROUP_BYTES} / width accumulators. They start from
  the identity of the operation (`fadd` -0.0, `fmul` 1, `fmin` and `fmax` NaN, `fminimum` +inf, `fmaximum` -inf;
  `add`, `or`, `xor`, `umax` 0, `mul` 1, `and`, `umin` all ones, `smin` and `smax` the greatest and least integer).
  Element k is combined into accumulator k % lanes, in order of k: acc = op(acc, element). Then for step = lanes/2,
  lanes/4, ..., 1: acc[i] = op(acc[i], acc[i + step]) for i < step. acc[0] is the result.
* **Column reduction** (`inner` > 1): acc = a[0], then acc = op(acc, a[k]) for k = 1 to n-1.
* **Scan**: one element after another; acc = op(acc, element).
* **argmax, argmin**: the first place of the extreme; a NaN is the extreme; -0.0 and +0.0 are equal.
* **mm**: for each element of c, one fused multiply-add in `f32` for each k in order, operands converted exactly.
* **Scatter and atomics**: item after item.
"""

_TRACE = """\
## Trace

What a program leaves behind for the timing replay. Of a DMA the record holds the bytes of GDRAM that it moves, the
address on the device of the first segment, and, if there is more than one segment, their geometry: `n0` elements,
`n1` segments, `n2` planes (of `dma.load_pad` the valid ones). Segments of `dma.weight` run along the columns if
`global_column` is 1, else along the depth if `global_depth` is 1; else they are single elements, columns before
depth. A load of which nothing is valid has amount and address 0. Gathers, scatters and vector atomics count all n
items, whatever the mask, as launches for cycles alone compute none; an item has the bytes of its `valid` elements. Of a
vector atomic the DRAM takes a granule of an item at a time, however many elements lie in it.
"""


def render() -> str:
    """The whole page as Markdown."""
    parts = [
        "# The virtual MLU instruction set",
        "<!-- Generated by `make docs`; do not edit. -->",
        _MODEL.strip(),
        _functions(),
        "## Operands",
        _docstring_block(operands.__doc__),
        "| slot | what may stand there |\n|---|---|\n"
        + "\n".join(f"| {kind.name.lower()} | {kind.value} |" for kind in SlotKind),
        "## Rules of legal programs",
        "\n".join(f"* **{name}**: {rule}" for name, rule in RULES.items()),
        "## Text form",
        _docstring_block(assembly.__doc__),
        "## Binary form",
        _docstring_block(encoding.__doc__),
        _TRACE.strip(),
        "```text\n" + _table_of(trace_format.__doc__) + "\n```",
        "## Instructions",
        _INSTRUCTIONS.strip(),
    ]
    for section, rows in groupby(sorted(TABLE.values(), key=_section_order), key=lambda row: row.section):
        parts += [f"### {section}", *_section(list(rows))]
    return "\n\n".join(parts) + "\n"


_INSTRUCTIONS = """\
Each entry shows the text form; types stand as suffixes (`<int>` is i8 to i64, `<bits>` adds i1, `<float>` is f16,
bf16, f32 and f64, `<any>` is every type), then the queue and the costs in cycles. In costs, `width` is the bytes of
the widest type, `lanes` is 128 / width, `macs` the rate of the tensor unit for the first type, `k_granule` the
elements that fill `tensor_k_granule_bytes`, and `passes` is by the operation's class: 1 for simple ones, else
`vector_fma_passes`, `vector_divide_passes`, `vector_special_passes`; times `vector_i64_passes` or
`vector_f64_passes` if a type is i64 or f64 (the greater, if both). A conversion from or to an 8-bit float takes
`vector_f8_passes` unless `has_fp8`. Other names are counts of the instruction or
parameters of the [machine](machines.md).
"""


def _section_order(row: Row) -> int:
    sections = list(dict.fromkeys(each.section for each in TABLE.values()))
    return sections.index(row.section)


def _section(rows: list[Row]) -> Iterable[str]:
    if rows[0].operation is None:
        yield from (entry(row) for row in rows)
        return
    # Element-wise instructions share their form: a table says the rest.
    prefix = "v." if rows[0].queue is Queue.COMPUTE else ""
    name = f"{prefix}<name>.<types>"
    yield f"Text: `{name} [dst], sources, rows, columns`." if prefix else f"Text: `{name} rd, sources`."
    yield "| instruction | sources | class | issue | meaning |\n|---|---|---|---|---|\n" + "\n".join(
        f"| `{row.name}{_suffixes(row)}` | {', '.join(slot.name for slot in _sources(row))} |"
        f" {row.operation.cost_class if row.operation else ''} | `{row.issue}` | {_cell(row.doc)} |"
        for row in rows
    )
    if rows[0].occupancy:
        yield f"Occupancy: `{rows[0].occupancy}`"


def _sources(row: Row) -> list[Slot]:
    return [slot for slot in row.slots if slot.kind in (SlotKind.SCALAR, SlotKind.VECTOR)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def entry(row: Row) -> str:
    """What the manual says of one instruction, as Markdown; the costs' terms stand in the manual."""
    costs = [f"issue `{row.issue}`"]
    if row.operation is not None:
        costs.append(f"class {row.operation.cost_class}")
    if row.occupancy:
        costs.append(f"occupancy `{row.occupancy}`")
    if row.trace:
        costs.append(f"record {row.trace}")
    lines = [f"#### `{row.name}`", f"`{_form(row)}`", _cell(row.doc), f"{row.queue.value} queue; {'; '.join(costs)}."]
    memory = [_touch(slot) for slot in row.slots if slot.access is not Access.NONE]
    if memory:
        lines.append("\n".join(memory))
    return "\n\n".join(lines)


def _suffixes(row: Row) -> str:
    return "".join(f".<{kinds}>" for kinds in row.types).replace("|", "\\|")


def _form(row: Row) -> str:
    suffixes = "".join(f".<{kinds}>" for kinds in row.types)
    return f"{row.name}{suffixes} {', '.join(_slot_text(slot) for slot in row.slots)}".rstrip()


def _slot_text(slot: Slot) -> str:
    match slot.kind:
        case SlotKind.ON_CHIP | SlotKind.TARGET | SlotKind.VECTOR:
            return f"[{slot.name}]"
        case SlotKind.GLOBAL:
            return f"g[{slot.name}]"
        case _:
            return slot.name


def _touch(slot: Slot) -> str:
    where = "GDRAM" if slot.kind is SlotKind.GLOBAL else " or ".join(space.upper() for space in slot.spaces)
    optional = "; 0 if absent" if slot.optional else ""
    span = "" if slot.kind is SlotKind.GLOBAL else f", spans `{slot.span}` elements"
    kind = f", {slot.kind.name.lower()}" if slot.kind is SlotKind.VECTOR else ""
    return f"* `{slot.name}`: {slot.access.value}, {where}{kind}{span}{optional}"


def _functions() -> str:
    text = inspect.cleandoc(functions.__doc__ or "")
    return "### Transcendental functions\n\n```text\n" + text + "\n```"


def _docstring_block(text: str | None) -> str:
    return "```text\n" + inspect.cleandoc(text or "") + "\n```"


def _table_of(text: str | None) -> str:
    """A module's text after its first paragraph."""
    return inspect.cleandoc(text or "").split("\n\n", 1)[1]
