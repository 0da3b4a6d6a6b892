"""What Triton refuses, said with code, place and remedy."""

from __future__ import annotations

import ast
import inspect
import re
import traceback
from collections.abc import Hashable, Iterable, Mapping, Sequence
from difflib import get_close_matches

from triton.compiler.errors import CompilationError
from triton.runtime.jit import JITFunction

from mlutriton.diagnostics import ArgumentError, CompileError, Location, MluError
from mlutriton.frontend.arguments import unknown_dtype, unpassable

# What to write instead, by what Triton's own message says.
_REMEDIES = {
    r"arange's arguments must be of type tl.constexpr": (
        "the bounds are integers that are known to the compiler: annotate the parameter in the def, BLOCK: tl.constexpr"
    ),
    r"range must be a power of 2|[Ss]hape .* must be a power of 2|not a power of two": (
        "round up with triton.next_power_of_2(n), and mask what is beyond: tl.load(pointer, mask=offsets < n)"
    ),
    r"'NoneType' object has no attribute|NoneType.* cannot be|unsupported ptr type None": (
        "an argument is None here: pass an array, or let the kernel ask first: if x is not None"
    ),
    r"incompatible dimensions|[Cc]annot broadcast": (
        "tensors meet in shapes that broadcast: x[:, None] is a column, x[None, :] a row"
    ),
    r"breakpoint is not defined": "set TRITON_INTERPRET=1, under which Python itself runs the kernel",
    r"unsupported tensor index": (
        "tensors cannot be sliced: load the part by its own offsets, or take it with tl.gather, tl.reshape and tl.split"
    ),
    r"cannot cast pointer": "a pointer is stored in the place of what it points to: tl.load it first",
    r"is not string": 'the first thing to print is a text: tl.device_print("x", x)',
    r"'(List|Tuple|Name|Attribute)' object has no attribute 'func'": (
        "a loop goes over range, tl.range or tl.static_range: of a tuple, for i in tl.static_range(len(values))"
    ),
    r"Mismatched type for .* between then block|Loop-carried variable .* has initial type": (
        "give the variable one shape and dtype from the begin on: acc = tl.zeros((BLOCK,), tl.float32)"
    ),
    r"unsupported AST node type: (Break|Continue)": "let the condition of a while loop end it",
    r"unsupported AST node type: Import": "import it at the top of the file",
    r"unsupported AST node type: Lambda": "write it as a function of its own, under @triton.jit",
    r"__setitem__ is not supported": "make a new tensor: x = tl.where(tl.arange(0, BLOCK) == index, value, x)",
    r"Boolean value of Tensor with more than one value": (
        "each element decides for itself in tl.where(condition, a, b) or mask=condition; an if takes one number"
    ),
    r"Both operands must be same dtype": "cast one to the other's: b.to(a.dtype)",
    r"Expected dtype \['fp32', 'fp64'\]": "cast it first: x.to(tl.float32)",
    r"exceeds triton maximum tensor numel": "go through it in parts: for start in range(0, n, BLOCK)",
    r"invalid operands of type pointer": "an argument is an array here: tl.load it, or pass a number: n.item()",
    r"f-string containing non-constexpr": 'print text and value apart: tl.device_print("n", n)',
    r"Unsupported ptr type|unsupported pointer type|must be (a )?pointer": (
        "the argument is no pointer: pass an array, or the offsets are added to something else than one"
    ),
}


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
        case KeyError() if "unrecognised" in text:
            return _unknown_keyword(kernel, keywords, option_names)
        case KeyError(args=(str(name),)):
            given = [*zip(kernel.arg_names, arguments, strict=False), *keywords.items()]
            return _unknown_name(problem, name, given, kernel, grid)
        case CompilationError():
            return _located(problem, kernel)
        case _:
            return problem


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
        help=f"did you mean {close[0]}?" if close else f"these are: {', '.join(known)}",
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
    for pattern, remedy in _REMEDIES.items():
        if re.search(pattern, f"{problem}\n{cause}"):
            problem.add_note(f"  help: {remedy}")
            break
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
