"""What Triton refuses, said with code, place and remedy."""

from __future__ import annotations

import ast
import inspect
import traceback
from collections.abc import Hashable, Iterable, Mapping, Sequence
from difflib import get_close_matches

from triton.compiler.errors import CompilationError
from triton.runtime.jit import JITFunction

from mlutriton.diagnostics import ArgumentError, CompileError, Location, MluError
from mlutriton.frontend.arguments import unknown_dtype, unpassable
from mlutriton.frontend.remedies import remedy_for


def explained(
    problem: Exception,
    kernel: JITFunction,
    arguments: Sequence[object],
    keywords: Mapping[str, object],
    option_names: Iterable[str],
    grid: object = None,
) -> Exception:
    """The error to raise for one that Triton raised: a better one where there is one, else itself.

    Args:
        problem: what Triton raised.
        kernel: what was launched.
        arguments: positional arguments of the launch.
        keywords: the others.
        option_names: what a launch can be given beside the kernel's arguments.
        grid: of the launch, if it is one.
    """
    if isinstance(problem, MluError):
        return problem
    text = str(problem)
    match problem:
        case TypeError() | OverflowError() if "speciali" in text:
            return unpassable([*zip(kernel.arg_names, arguments, strict=False), *keywords.items()])
        case TypeError() if text.startswith("dynamic_func()"):
            if not keywords.keys() <= {*kernel.arg_names, *option_names}:
                return _unknown_keyword(kernel, keywords, option_names)
            takes = ", ".join(kernel.arg_names)
            return ArgumentError(
                "E0101", text.replace("dynamic_func", kernel.fn.__name__), help=f"the kernel takes {takes}"
            )
        case TypeError() if text.startswith("unhashable type"):
            return _unhashable(kernel, arguments, keywords) or problem
        case TypeError() if text.endswith("has no len()"):
            return ArgumentError(
                "E0104", f"a grid is a tuple of integers: {text}", help="kernel[(programs,)](...), with the comma"
            )
        case TypeError() if callable(grid) and text.startswith(f"{getattr(grid, '__qualname__', None)}() "):
            return ArgumentError(
                "E0104",
                f"the grid cannot be asked: {text}",
                note="a grid that is a function is passed the kernel's arguments by name",
                help="grid = lambda meta: (triton.cdiv(n, meta['BLOCK']),)",
            )
        case IndexError() if grid == ():
            return ArgumentError("E0104", "the grid () says no number of programs", help="kernel[(programs,)](...)")
        case RuntimeError() if "data pointer" in text:
            return ArgumentError(
                "E0101",
                f"a tensor that has no memory of its own cannot be passed: {text}",
                help="a sparse one as its indices and values; under torch.vmap launch in a torch.library.custom_op",
            )
        case KeyError() if "unrecognised" in text:
            return _unknown_keyword(kernel, keywords, option_names)
        case KeyError(args=(str(name),)):
            given = [*zip(kernel.arg_names, arguments, strict=False), *keywords.items()]
            return _unknown_name(problem, name, given, kernel, grid)
        case RuntimeError() if text.startswith("Unsupported function referenced"):
            return CompileError(
                "E0201",
                f"{kernel.fn.__name__} calls a function that is not compiled: {text.partition(': ')[2]}",
                location=_place_of(kernel),
                help="decorate it with @triton.jit; what NumPy, torch and math have for arrays is in tl",
            )
        case RuntimeError() if text == "error encountered during parsing":
            return CompileError(
                "E0201",
                f"{kernel.fn.__name__} is no valid program: what Triton found, and where, is printed above",
                location=_place_of(kernel),
                help="a mask is of int1: mask=x != 0; an if and a while take one number: while tl.max(x) > 0",
            )
        case CompilationError():
            return _located(problem, kernel)
        case _:
            return problem


def without_a_grid(name: str) -> ArgumentError:
    """The error E0104 for a kernel that is called like a function, for the caller to raise."""
    return ArgumentError(
        "E0104",
        f"{name} is called without a grid",
        note="only another kernel calls a kernel as a function; a launch says how many programs run",
        help=f"{name}[(programs,)](...)",
    )


def _unhashable(
    kernel: JITFunction, arguments: Sequence[object], keywords: Mapping[str, object]
) -> ArgumentError | None:
    """The error for a constant that could change after a kernel was compiled for it."""
    given = {**dict(zip(kernel.arg_names, arguments, strict=False)), **keywords}
    constants = {each.name: given[each.name] for each in kernel.params if each.is_constexpr and each.name in given}
    for name, value in constants.items():
        if not isinstance(value, Hashable):
            return ArgumentError(
                "E0101",
                f"the constant {name} is a {type(value).__name__}",
                note="a kernel is compiled once for every value of its constants, so they have to be hashable",
                help="pass a tuple",
            )
    return None


def _unknown_keyword(kernel: JITFunction, keywords: Mapping[str, object], option_names: Iterable[str]) -> ArgumentError:
    known = sorted({*kernel.arg_names, *option_names})
    name = next(name for name in keywords if name not in known)
    close = get_close_matches(name, known, n=1)
    return ArgumentError(
        "E0107",
        f"{name} is neither a parameter of {kernel.fn.__name__} nor a launch option",
        help=f"did you mean {close[0]}?" if close else f"the kernel takes {', '.join(kernel.arg_names)}",
    )


def _unknown_name(
    problem: KeyError, name: str, arguments: Iterable[tuple[str, object]], kernel: JITFunction, grid: object
) -> Exception:
    """Two things are looked up by name: the dtype of an array, and what the function of a grid asks for."""
    for parameter, value in arguments:
        dtype = getattr(value, "dtype", None)
        if str(dtype).rpartition(".")[2] == name:
            return unknown_dtype(dtype, parameter)
    *_, (innermost, _) = traceback.walk_tb(problem.__traceback__)
    if innermost.f_code is not getattr(grid, "__code__", None):
        return problem
    return ArgumentError(
        "E0104",
        f"the grid asks for {name}, which is no parameter of {kernel.fn.__name__}",
        help=f"it can ask for {', '.join(kernel.arg_names)}",
    )


def _place_of(kernel: JITFunction) -> Location:
    code = kernel.fn.__code__
    return Location(code.co_filename, code.co_firstlineno)


def _located(problem: CompilationError, kernel: JITFunction) -> Exception:
    """Triton counts lines from the kernel's ``def``; here is the line of the file."""
    try:
        lines, first_line = inspect.getsourcelines(kernel.fn)
    except OSError:  # the file is gone, or its text was never in one
        return problem
    skipped = next(number for number, line in enumerate(lines) if line.lstrip().startswith("def "))
    line = first_line + skipped + getattr(problem.node, "lineno", 1) - 1
    indent = len(lines[skipped]) - len(lines[skipped].lstrip())
    location = Location(kernel.fn.__code__.co_filename, line, indent + getattr(problem.node, "col_offset", 0) + 1)
    cause: BaseException = problem
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if _is_recursion(cause):
        return CompileError(
            "E0201",
            f"{kernel.fn.__name__} calls a function that calls itself without end",
            location=location,
            note="calls are expanded when the kernel is compiled, so that a value of the launch cannot end them",
            help="write a loop, or let a tl.constexpr parameter end the recursion",
        )
    problem.add_note(f"  --> {location}")
    remedy = remedy_for(f"{problem}\n{cause}")
    if remedy:
        problem.add_note(f"  help: {remedy}")
    return problem


def _is_recursion(cause: BaseException) -> bool:
    """True if Triton looked for what a function returns whose body it has not read to the end."""
    match cause, cause.__context__:
        case RecursionError(), _:
            return True
        case CompilationError(node=ast.Call(func=ast.Name(id=name))), KeyError(args=(str(missing),)):
            return f"{name}__" in missing
        case _:
            return False
