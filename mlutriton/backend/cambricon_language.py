"""Where kernels may use what Cambricon's Triton has beyond Triton: tiles of any size, and parts of tensors.

Triton's code generator and verifier want numbers of elements to be powers of two, and tensors to be indexed with
``None`` and whole dimensions alone. For kernels of ``mlu.jit``, and where the launch option ``cambricon_language`` is
given, both let the rest pass. A module with other sizes is one that MLIR's own passes refuse, and goes to the compiler
as the code generator wrote it.
"""

from __future__ import annotations

import ast
import functools
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import triton._utils
from triton._C.libtriton import ir
from triton.compiler.code_generator import CodeGenerator
from triton.compiler.compiler import ASTSource
from triton.language import core, standard
from triton.language.semantic import TritonSemantic

from mlutriton.backend.options import MLUOptions
from mlutriton.language.cambricon import flip, is_plain, read_part, write_part
from mlutriton.simulator.compiling import uncollected


class _Reading(threading.local):
    """What this thread has Triton's code generator read.

    Attributes:
        is_extended: the kernel may use the language of Cambricon.
        has_other_sizes: it has a tensor whose number of elements is no power of two.
    """

    is_extended = False
    has_other_sizes = False


_reading = _Reading()


def extend_language() -> None:
    """Replaces what refuses the language inside Triton; for other kernels all of it does what it did."""
    ASTSource.make_ir = _knowing_the_kernel(ASTSource.make_ir)
    triton._utils.is_power_of_two = _noticing_sizes(triton._utils.is_power_of_two)
    TritonSemantic.arange = _of_any_size(TritonSemantic.arange)
    for verified in (ir.module, ir.OpState):
        verified.verify = _sparing_sizes(verified.verify)
    core.tensor.__getitem__ = _reading_parts(core.tensor.__getitem__)
    CodeGenerator.call_Function = _calling_ours(CodeGenerator.call_Function)
    CodeGenerator.visit_Slice = _counting_positions(CodeGenerator.visit_Slice)
    CodeGenerator.visit_Subscript_Store = _assigning_parts(CodeGenerator.visit_Subscript_Store)


def has_other_sizes() -> bool:
    """Whether the module that this thread made last has a tensor that MLIR's verifier refuses."""
    return _reading.has_other_sizes


def _knowing_the_kernel(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def make_ir(source: Any, target: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        is_ours = isinstance(options, MLUOptions)
        is_meant = getattr(source.fn, "takes_cambricon_language", False)
        _reading.is_extended = is_ours and (options.cambricon_language or is_meant)
        _reading.has_other_sizes = False
        try:
            with uncollected() if is_ours else nullcontext():
                return original(source, target, options, *args, **kwargs)
        finally:
            _reading.is_extended = False

    return make_ir


def _noticing_sizes(original: Callable[[int], bool]) -> Callable[[int], bool]:
    @functools.wraps(original)
    def is_power_of_two(number: int) -> bool:
        if original(number):
            return True
        _reading.has_other_sizes |= _reading.is_extended
        return _reading.is_extended and number > 0

    return is_power_of_two


def _sparing_sizes(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    @functools.wraps(original)
    def verify(verified: Any) -> bool:
        return (_reading.is_extended and _reading.has_other_sizes) or original(verified)

    return verify


def _of_any_size(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def arange(semantic: Any, start: Any, end: Any, *, ret_ty: Any = None) -> Any:
        is_range = isinstance(start, int) and isinstance(end, int) and 0 <= start < end < 1 << 31
        if not _reading.is_extended or not is_range:
            return original(semantic, start, end, ret_ty=ret_ty)
        result_type = ret_ty or core.block_type(core.int32, [end - start])
        handle = semantic.builder.create_make_range(result_type.to_ir(semantic.builder), start, end)
        return semantic.tensor(handle, result_type)

    return arange


def _reading_parts(original: Callable[..., Any]) -> Any:
    @core.builtin
    @functools.wraps(original)
    def __getitem__(tensor: Any, slices: Any, _semantic: Any = None) -> Any:  # noqa: N807
        if not _reading.is_extended or is_plain(slices):
            return original(tensor, slices, _semantic=_semantic)
        return read_part(tensor, slices, _semantic)

    return __getitem__


# Functions of Triton's library that want powers of two and one dimension, and what takes their place.
_OURS: dict[Any, Any] = {standard.flip: flip}


def _calling_ours(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call_Function(generator: Any, node: Any, function: Any, args: list[Any], kws: dict[str, Any]) -> Any:  # noqa: N802
        if _reading.is_extended and getattr(function, "__func__", function) in _OURS:
            if hasattr(function, "__func__"):  # the function as a method of its first argument
                function, args = function.__func__, [function.__self__, *args]
            function = _OURS[function]
        return original(generator, node, function, args, kws)

    return call_Function


def _counting_positions(original: Callable[..., Any]) -> Callable[..., Any]:
    """Lets ``first : first + count`` have a first position of the kernel: its count is known all the same."""

    @functools.wraps(original)
    def visit_Slice(generator: Any, node: ast.Slice) -> Any:  # noqa: N802
        match node:
            case ast.Slice(lower=ast.AST() as first, upper=ast.BinOp(left=left, op=ast.Add(), right=count)) if (
                _reading.is_extended and ast.dump(first) == ast.dump(left)
            ):
                made = original(generator, node)
                made.count = generator.visit(count)
                return made
            case _:
                return original(generator, node)

    return visit_Slice


def _assigning_parts(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def visit_Subscript_Store(generator: Any, node: Any, value: Any) -> None:  # noqa: N802
        name = getattr(node.value, "id", None)
        tensor: Any = generator.dereference_name(name) if name else None
        if _reading.is_extended and isinstance(tensor, core.tensor) and tensor.type.is_block():
            generator.set_value(name, write_part(tensor, generator.visit(node.slice), value, generator.semantic))
        else:
            original(generator, node, value)

    return visit_Subscript_Store
