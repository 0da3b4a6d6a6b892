"""Scalar divisions by powers of two as the shifts that they are: a division takes as long as a dozen of these.

    unsigned a / 2^k = a >> k                        a rem 2^k = a & (2^k - 1)
    signed   a / 2^k = (a + b) >> k                  a rem 2^k = a - (that << k)

where b is 2^k - 1 for negative a and else 0, as signed quotients are rounded toward zero.
"""

from __future__ import annotations

from mlutriton.codegen.tile_code import Emitter, Node, TileCode, children
from mlutriton.isa.operands import Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Queue

_DIVISIONS = ("sdiv", "srem", "udiv", "urem")


def divide_by_shifts(code: TileCode) -> None:
    """Replace scalar divisions by constants that are powers of two."""
    _Shifts(code).block(code.nodes)


class _Shifts:
    def __init__(self, code: TileCode) -> None:
        self.emitter = Emitter(code)

    def block(self, nodes: list[Node]) -> None:
        result: list[Node] = []
        for node in nodes:
            for nested in children(node):
                self.block(nested)
            if not isinstance(node, Instruction) or not self._replaced(node, result):
                result.append(node)
        nodes[:] = result

    def _replaced(self, node: Instruction, result: list[Node]) -> bool:
        """Add what does the same to the result, if a node is such a division."""
        if node.row.name not in _DIVISIONS or node.row.queue is not Queue.SCALAR:
            return False
        target, dividend, divisor = node.operands
        if not isinstance(target, Register) or not isinstance(dividend, Register) or not isinstance(divisor, Immediate):
            return False
        value = int(divisor.value)
        (dtype,) = node.dtypes
        if value < 1 or value.bit_count() != 1 or value >= 1 << dtype.bits - 1:
            return False
        power, below = Immediate(value.bit_length() - 1), Immediate(value - 1)
        emitter = self.emitter
        emitter.nodes, emitter.location = result, node.location
        match node.row.name:
            case "udiv":
                emitter.emit("lshr", node.dtypes, (target, dividend, power))
            case "urem":
                emitter.emit("and", node.dtypes, (target, dividend, below))
            case name:
                sign = emitter.scalar("ashr", node.dtypes, dividend, Immediate(dtype.bits - 1))
                bias = emitter.scalar("and", node.dtypes, sign, below)
                biased = emitter.scalar("add", node.dtypes, dividend, bias)
                if name == "sdiv":
                    emitter.emit("ashr", node.dtypes, (target, biased, power))
                else:
                    whole = emitter.scalar("and", node.dtypes, biased, Immediate(-value))
                    emitter.emit("sub", node.dtypes, (target, dividend, whole))
        return True
