"""Renders docs/reference/ir.md from the op table."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from mlutriton.arithmetic import OPERATIONS
from mlutriton.dtypes import ALL
from mlutriton.ir import control_ops, member_ops, memory_ops, tensor_ops
from mlutriton.ir import verifier as verifier_module
from mlutriton.ir.core import Operation

_SECTIONS = (
    ("Scalars and tensors", tensor_ops.TENSOR_OPS),
    ("Pointers and memory", memory_ops.MEMORY_OPS),
    ("Programs of several members", member_ops.MEMBER_OPS),
    ("Control flow", control_ops.CONTROL_OPS),
)

_INTRODUCTION = """\
# The tile IR

The tile IR is a small SSA form over tensors with structured control flow; it knows no hardware. A value is a scalar, a
pointer or a tensor of either: `{types}`, `ptr<f32>`, `tensor<64x32xf32>`, `tensor<64xptr<f32>>`.

In text, results stand before the op's name; operands, attributes and result types follow:

```
func @double(%x: ptr<f32> {{divisibility = 16}}, %n: i32) {{
  %i = range {{end = 64, start = 0}} : tensor<64xi32>
  %m, %at = reduce %v, %i {{axis = 0}} : f32, i32 ({{
    ^(%a: f32, %j: i32, %b: f32, %k: i32):
      ...
      yield %c, %l
  }})
  return
}}
```

Attributes are integers, `true` and `false`, floats (hexadecimal where no short decimal is exact), `inf`, `nan`,
strings, and lists of integers. `loc("kernel.py":14:9)` at the end of a line is the place in the kernel that it comes
from. Text from `;` to the end of a line is a comment.

Effects: *pure* ops may be removed, moved and merged; ops that *read* memory may be removed; all others stay where they
are.
"""


def render() -> str:
    """The page's text."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _INTRODUCTION.format(types="`, `".join(dtype.name for dtype in ALL))
    yield "## Invariants\n"
    yield inspect.cleandoc(verifier_module.__doc__ or "") + "\n"
    for title, ops in _SECTIONS:
        yield f"## {title}\n"
        for op in ops:
            yield from _entry(op)
    yield "## Element-wise operations\n"
    yield "| name | operands | result | meaning |"
    yield "|---|---|---|---|"
    for operation in OPERATIONS.values():
        result = f"to {operation.result}" if operation.is_cast else operation.result
        yield f"| `{operation.name}` | {operation.arity} {operation.domain} | {result} | {operation.doc} |"
    yield ""


def _entry(op: type[Operation]) -> Iterator[str]:
    yield f"### `{op.NAME}`\n"
    yield inspect.cleandoc(op.__doc__ or "").replace("``", "`").replace(":class:", "") + "\n"
    effect = "pure" if op.PURE else "reads memory" if op.READS else "ends a block" if op.TERMINATOR else "stays"
    facts = [f"effect: {effect}"]
    if op.OPERANDS:
        facts.append("operands: " + ", ".join(f"`{name}`" for name in op.OPERANDS))
    if op.ATTRIBUTES:
        facts.append("attributes: " + ", ".join(f"`{name}`" for name in op.ATTRIBUTES))
    if op.REGIONS:
        facts.append("regions that end in: " + ", ".join(f"`{name}`" for name in op.REGIONS))
    yield "\n".join(f"* {fact}" for fact in facts) + "\n"
