"""Kernels in Python files, named as ``softmax.py::softmax``."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from mlutriton.diagnostics import ArgumentError, MluError

SEPARATOR = "::"


class _ScriptLoader(SourceFileLoader):
    """Runs a file as it is now, like a script: byte code of a text as long, of the same second, passes for its own."""

    def get_code(self, fullname: str) -> CodeType:
        """The file's text, compiled."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def load_module(path: Path, code: str = "E0111") -> ModuleType:
    """Run a Python file as a module; what it imports from its own directory is found.

    Args:
        path: of the file.
        code: of the error if running it fails.

    Raises:
        ArgumentError: E0111, there is no such Python file; ``code``, it ends with an exception, or the process with it.
        MluError: what the file itself launches fails.
    """
    if not path.is_file() or path.suffix != ".py":
        raise ArgumentError("E0111", f"there is no Python file {path}")
    name = f"mlutriton_file_{path.stem}"
    loader = _ScriptLoader(name, str(path))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    module.__file__ = str(path)
    # Triton looks up the globals of a kernel through its module.
    sys.modules[name] = module
    directory = str(path.parent.resolve())
    if directory in sys.path:
        sys.path.remove(directory)  # that of another file may have come before it
    sys.path.insert(0, directory)
    try:
        loader.exec_module(module)
    except MluError:
        raise
    except (Exception, SystemExit) as problem:
        text = f"it calls sys.exit({problem.code})" if isinstance(problem, SystemExit) else f"{problem}"
        raise ArgumentError(
            code,
            f"running {path} failed: {type(problem).__name__}: {text}",
            note=place_in(problem, str(path)),
            help=f"python {path} shows where",
        ) from problem
    return module


def place_in(problem: BaseException, path: str) -> str:
    """The innermost line of a file that an exception came through; empty if it came through none."""
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == path]
    return f"at {path}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""


def load_kernel(reference: str) -> Any:
    """The kernel that ``FILE.py::NAME`` names; ``FILE.py`` alone if the file has but one.

    Raises:
        ArgumentError: E0111, there is no such file, no such kernel, or the file has several.
    """
    file, _, name = reference.partition(SEPARATOR)
    return kernel_of(load_module(Path(file)), file, name)


def kernel_of(module: ModuleType, file: str, name: str) -> Any:
    """The kernel of a name in a module; the only one for an empty name.

    Args:
        module: what holds it.
        file: what messages call the module.
        name: its name.

    Raises:
        ArgumentError: E0111, there is no such kernel, or the module has several.
    """
    kernels = {key: value for key, value in vars(module).items() if _is_kernel(value, module)}
    if name and hasattr(module, name) and name not in kernels:
        raise ArgumentError("E0111", f"{name} in {file} is no kernel", help="decorate the function with @mlu.jit")
    if name in kernels:
        return kernels[name]
    if not name and len(kernels) == 1:
        return next(iter(kernels.values()))
    known = ", ".join(kernels) or "none"
    close = get_close_matches(name, kernels, n=1) or list(kernels)[:1]
    raise ArgumentError(
        "E0111",
        f"{file} has no kernel {name}" if name else f"{file} has {len(kernels)} kernels",
        note=f"its kernels are: {known}",
        help=f"name it: {file}{SEPARATOR}{close[0]}" if close else "decorate a function with @mlu.jit",
    )


def _is_kernel(value: object, module: ModuleType) -> bool:
    """True for a function of ``jit`` that the file defines, with or without tuners around it."""
    function: Any = value
    while hasattr(function, "fn"):
        function = function.fn
    return hasattr(value, "arg_names") and getattr(function, "__module__", None) == module.__name__
