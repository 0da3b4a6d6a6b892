"""Kernels compiled ahead of a launch, from a signature in the notation of ``triton.tools.compile``.

A signature says of each parameter, in order or by name, what it will be passed::

    *fp32:16, *fp32:16, i32, 1024
    *fp32:16, *fp32:16, columns=i32:16, BLOCK=1024

``*fp32`` is a pointer, ``i32`` a scalar; ``:16`` promises that the address or value is a multiple of 16, ``:1`` that
the value is 1. Anything else is the value of a ``tl.constexpr``: a number, ``True``, ``False``, ``None``, a quoted
text, or the name of an element type of Triton's language such as ``tl.float16``.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from triton.backends import backends
from triton.compiler.compiler import ASTSource, make_backend
from triton.compiler.compiler import compile as triton_compile
from triton.language import core
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from mlutriton.diagnostics import ArgumentError
from mlutriton.frontend.jit import BACKEND_NAME, activate
from mlutriton.frontend.refusals import explained

_TYPE = re.compile(
    r"(?P<type>\**(?:i1|[iu](?:8|16|32|64)|fp(?:16|32|64)|bf16|fp8e(?:4nv|4b8|4b15|5|5b16)))(?::(?P<hint>\w+))?"
)
_HINTS = (None, "1", "16")


def compile_kernel(kernel: Any, signature: str, **options: Any) -> Any:
    """Compile a kernel for the current machine without launching it.

    Args:
        kernel: a function of ``mlu.jit`` or ``triton.jit``, with or without a tuner around it.
        signature: what its parameters will be passed, see the module.
        options: launch options, such as ``num_stages=3``.

    Returns:
        Triton's compiled kernel; ``asm["mluprog"]`` is the program file, ``asm["ttir"]``, ``asm["ir"]``, ``asm["s"]``
        and ``asm["llir"]`` are its stages as text.

    Raises:
        ArgumentError: E0110, the signature does not describe the parameters; E0107, an option is not allowed; E0112,
            there is no kernel.
        CompileError: E02xx, the kernel cannot be compiled.
    """
    function = _function_of(kernel)
    types, constants, divisible = _described(function, signature)
    activate()
    compiler: Any = backends[BACKEND_NAME].compiler
    if unknown := sorted(options.keys() - compiler.option_names):
        raise ArgumentError("E0107", f"{unknown[0]} is not a launch option", help=", ".join(compiler.option_names))
    places = {name: (function.arg_names.index(name),) for name in types}
    source = ASTSource(
        fn=function,
        signature=types,
        constexprs={places[name]: value for name, value in constants.items()},
        attrs={places[name]: [["tt.divisibility", 16]] for name in divisible},
    )
    target = driver.active.get_current_target()
    try:
        parsed = make_backend(target).parse_options(dict(options))
        return triton_compile(source, target=target, options=dict(parsed.__dict__))
    except Exception as problem:
        better = explained(problem, function, (), constants, compiler.option_names)
        if better is problem:
            raise
        raise better from problem


def _function_of(kernel: Any) -> JITFunction:
    """The function inside of tuners and heuristics.

    Raises:
        ArgumentError: E0112, there is none.
    """
    inner = kernel
    while not isinstance(inner, JITFunction):
        inner = getattr(inner, "fn", None)
        if inner is None:
            kind = type(kernel).__name__
            raise ArgumentError("E0112", f"a {kind} is no kernel", help="decorate the function with @mlu.jit")
    return inner


def _described(function: JITFunction, signature: str) -> tuple[dict[str, str], dict[str, object], list[str]]:
    """The type of each parameter, the values of those that are constants, and those that are multiples of 16."""
    types: dict[str, str] = {}
    constants: dict[str, object] = {}
    divisible: list[str] = []
    for name, text in _entries(function, signature).items():
        described = _TYPE.fullmatch(text)
        if described is None:
            types[name], constants[name] = "constexpr", _constant(name, text)
            continue
        kind, hint = described["type"], described["hint"]
        if hint not in _HINTS or (hint == "1" and kind.startswith("*")):
            raise ArgumentError("E0110", f"{name}={text} has the hint {hint}", help="hints are :16, and :1 for scalars")
        if hint == "1":
            types[name], constants[name] = "constexpr", 1
            continue
        types[name] = kind
        if hint == "16":
            divisible.append(name)
    return {name: types[name] for name in function.arg_names}, constants, divisible


def _entries(function: JITFunction, signature: str) -> dict[str, str]:
    """What the signature says of each parameter."""
    names: list[str] = function.arg_names
    entries: dict[str, str] = {}
    for place, text in enumerate(part.strip() for part in signature.split(",")):
        name, equals, said = (part.strip() for part in text.partition("="))
        if not equals:
            name, said = names[place] if place < len(names) else "", text
        if name not in names or name in entries or not said:
            problem = "one is said twice" if name in entries else f"{text!r} is said of none of them"
            raise _mismatch(function, problem)
        entries[name] = said
    for parameter in function.params:
        if parameter.name not in entries and parameter.has_default:
            entries[parameter.name] = repr(parameter.default)
    if missing := [name for name in names if name not in entries]:
        raise _mismatch(function, f"nothing is said of {', '.join(missing)}")
    return entries


def _mismatch(function: JITFunction, problem: str) -> ArgumentError:
    example = ", ".join(
        f"{parameter.name}=1024" if parameter.is_constexpr else f"{parameter.name}=*fp32:16"
        for parameter in function.params
    )
    return ArgumentError(
        "E0110",
        f"the signature does not describe the parameters of {function.fn.__name__}: {problem}",
        note=f"they are {', '.join(function.arg_names)}",
        help=f"say for each what it will be passed, e.g. '{example}' with i32 for integers and fp32 for floats",
    )


def _constant(name: str, text: str) -> object:
    element_type = getattr(core, text.removeprefix("tl."), None) if text.startswith("tl.") else None
    if isinstance(element_type, core.dtype):
        return element_type
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ArgumentError(
            "E0110",
            f"{name}={text} is neither a type nor a constant",
            help="types are such as *fp32:16, i32, fp32; constants such as 64, 0.5, True, None, 'text', tl.float16",
        ) from None
