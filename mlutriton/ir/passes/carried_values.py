"""Removal of values that loops carry and that ``if`` hands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.ops import For, If, While

_T = TypeVar("_T")


def kept(values: Sequence[_T], keep: Sequence[bool]) -> list[_T]:
    """The values whose flag is set."""
    return [value for value, flag in zip(values, keep, strict=True) if flag]


def keep_carried(loop: For, keep: Sequence[bool]) -> None:
    """Drop the carried values of a ``for`` whose flag is clear, with their arguments and results."""
    if all(keep):
        return
    loop.operands[3:] = kept(loop.initial, keep)
    _keep_yielded(loop.body, keep)
    _keep_arguments(loop.body, [True, *keep])
    _keep_results(loop, keep)


def keep_results(op: If, keep: Sequence[bool]) -> None:
    """Drop the results of an ``if`` whose flag is clear."""
    if all(keep):
        return
    for region in op.regions:
        _keep_yielded(region, keep)
    _keep_results(op, keep)


def keep_loop_values(loop: While, carried: Sequence[bool], passed: Sequence[bool]) -> None:
    """Drop values that a ``while`` carries into region 0, and those that ``condition`` passes on."""
    before, after = loop.regions
    if not all(carried):
        loop.operands = kept(loop.operands, carried)
        _keep_arguments(before, carried)
        _keep_yielded(after, carried)
    if not all(passed):
        before.terminator.operands[1:] = kept(before.terminator.operands[1:], passed)
        _keep_arguments(after, passed)
        _keep_results(loop, passed)


def _keep_yielded(block: Block, keep: Sequence[bool]) -> None:
    block.terminator.operands = kept(block.terminator.operands, keep)


def _keep_arguments(block: Block, keep: Sequence[bool]) -> None:
    block.arguments = _renumbered(kept(block.arguments, keep))


def _keep_results(operation: Operation, keep: Sequence[bool]) -> None:
    operation.results = _renumbered(kept(operation.results, keep))


def _renumbered(values: list[Value]) -> list[Value]:
    for i, value in enumerate(values):
        value.index = i
    return values
