"""Loads native code: LLVM IR text in, machine code of this host out, object code kept on disk between processes.

Nothing of LLVM is touched before the first compilation. Functions are called by ``ctypes``, which releases the GIL.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from mlutriton.configuration import verifies_stages
from mlutriton.isa.native_interface import NativeText

CACHE_DIRECTORY_VARIABLE = "MLUTRITON_CACHE_DIR"

# Part of every file name: raise it whenever the passes below or the layout of a file change.
_CACHE_VERSION = 5
_DIGEST_BYTES = 32
_SIZE_BYTES = 8


# The code is written as it shall run and only needs registers in place of stack slots: all that LLVM could do takes
# three to ten times as long, and makes neither the runtime nor the replay faster by more than a tenth.
_PASSES = ("always_inliner", "sroa", "simplify_cfg", "instruction_combine", "simplify_cfg")
# Then, of code that is compiled once for all kernels, what takes LLVM another eighth of the time: to find what has been
# computed or loaded before, and to compute other things only where they are needed. It is nearly as fast as after all
# passes of level 2, which take as long as everything else.
_THOROUGH_PASSES = ("new_gvn", "sinking", "simplify_cfg")
_SPEED_LEVEL = 1
# Code that is run once for thousands of elements: to compile it as above takes longer than to run it ever will.
_QUICK_SPEED_LEVEL = 0

LlvmText = str | NativeText


# Whoever compiles holds it, and whoever forks: a child would wait forever for a lock that another thread of its parent
# held, be it one of LLVM's or one of Python's.
compiling = threading.RLock()
os.register_at_fork(before=compiling.acquire, after_in_parent=compiling.release, after_in_child=compiling.release)


class NativeModule:
    """Machine code in memory; it is freed when this object and all functions taken from it are gone."""

    def __init__(self, toolchain: _Toolchain, objects: Sequence[bytes]) -> None:
        self._toolchain = toolchain
        self._library, self._owner = toolchain.link(objects)
        self._symbols: dict[str, Any] = {}

    def address(self, name: str) -> int:
        """Address of an exported function.

        Raises:
            KeyError: no function of that name is exported.
        """
        if name not in self._symbols:
            self._symbols[name] = self._toolchain.look_up(self._library, name)
        return int(self._symbols[name][name])

    def function(self, name: str, arguments: Sequence[Any], result: Any = None) -> Callable[..., Any]:
        """An exported function as a ctypes callable; the GIL is released while it runs.

        Args:
            name: its name in the LLVM text.
            arguments: ctypes types of its parameters.
            result: ctypes type of what it returns, or None.

        Raises:
            KeyError: no function of that name is exported.
        """
        function = ctypes.CFUNCTYPE(result, *arguments)(self.address(name))
        # A ctypes function is only an address: this keeps its code in memory.
        function.module = self  # type: ignore[attr-defined]
        return function


def compile_llvm(
    ir_text: LlvmText | Callable[[], LlvmText], *, cache_key: str | None, thoroughly: bool = False
) -> NativeModule:
    """Compile LLVM IR for this host, or take its object code from the disk cache.

    Args:
        ir_text: the module or the translated program, or a function that makes it, which is called only if the cache
            does not have it.
        cache_key: names the content of the module, whoever made it; None keeps it out of the cache.
        thoroughly: take an eighth more time for a twentieth more speed.

    Raises:
        RuntimeError: LLVM rejects the text.
    """
    with compiling:
        return _compiled(ir_text, cache_key, thoroughly)


def kept_module(cache_key: str) -> NativeModule | None:
    """What the disk cache has of a name, loaded; None if it has nothing that can be."""
    with compiling:
        toolchain = _toolchain()
        stored = _read(cache_directory() / toolchain.file_name(cache_key))
        if stored is not None:
            # A file of the right digest that still does not link comes from a broken writer.
            with contextlib.suppress(RuntimeError):
                return NativeModule(toolchain, stored)
        return None


def _compiled(ir_text: LlvmText | Callable[[], LlvmText], cache_key: str | None, thoroughly: bool) -> NativeModule:
    toolchain = _toolchain()
    kept = None if cache_key is None else kept_module(cache_key)
    if kept is not None:
        return kept
    path = None if cache_key is None else cache_directory() / toolchain.file_name(cache_key)
    text = ir_text() if callable(ir_text) else ir_text
    if isinstance(text, str):
        objects = [toolchain.compile(text, thoroughly=thoroughly)]
    else:
        objects = [toolchain.compile(text.control, quickly=True)]
        objects += [toolchain.compile(text.loops)] if text.loops else []
        objects += [_shared_object(each) for each in text.shared]
    if path is not None:
        _write(path, objects)
    return NativeModule(toolchain, objects)


@lru_cache(maxsize=256)
def _shared_object(text: str) -> bytes:
    """Object code of a module that many programs have in common."""
    toolchain = _toolchain()
    path = cache_directory() / toolchain.file_name(f"shared {text}")
    stored = _read(path)
    if not stored:
        stored = [toolchain.compile(text)]
        _write(path, stored)
    return stored[0]


def cache_directory() -> Path:
    """Where object code is kept: ``MLUTRITON_CACHE_DIR``, else ``mlutriton`` in the user's cache directory."""
    chosen = os.environ.get(CACHE_DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen)
    # XDG ignores a relative path.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "mlutriton"


def _read(path: Path) -> list[bytes] | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return _objects(content) if hashlib.sha256(content).digest() == digest else None


def _objects(content: bytes) -> list[bytes]:
    """The object files of a cache file, each behind its size."""
    objects: list[bytes] = []
    while content:
        end = _SIZE_BYTES + int.from_bytes(content[:_SIZE_BYTES], "little")
        objects.append(content[_SIZE_BYTES:end])
        content = content[end:]
    return objects


def _write(path: Path, objects: Sequence[bytes]) -> None:
    """Write a cache file so that a reader sees all of it or nothing; a cache that cannot be written is a warning."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            content = b"".join(len(each).to_bytes(_SIZE_BYTES, "little") + each for each in objects)
            file.write(hashlib.sha256(content).digest() + content)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        _warn_of_cache(path.parent, error.strerror)


@lru_cache(maxsize=1)
def _warn_of_cache(directory: Path, reason: str) -> None:
    """Once, for it happens again with every kernel."""
    warnings.warn(
        f"compiled code is not kept in {directory}: {reason}; every process compiles it again."
        f" Set {CACHE_DIRECTORY_VARIABLE} to a directory that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )


@lru_cache(maxsize=1)
def _toolchain() -> _Toolchain:
    return _Toolchain()


class _Toolchain:
    """LLVM, set up once for this host."""

    def __init__(self) -> None:
        # The import alone takes longer than loading cached code, and much of the package never needs it.
        from llvmlite import binding  # pyright: ignore[reportMissingTypeStubs]

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        self.llvm: Any = binding
        self._serial = itertools.count()

    @cached_property
    def _host(self) -> tuple[str, str, str]:
        features = self.llvm.get_host_cpu_features().flatten()
        return self.llvm.get_process_triple(), self.llvm.get_host_cpu_name(), features

    @cached_property
    def _jit(self) -> Any:
        # This linker lays all of a module side by side, and reaches what is far away by a table, as the code model
        # asks for.
        return self.llvm.create_lljit_compiler(self._target_machine(_SPEED_LEVEL), use_jit_link=True)

    def _target_machine(self, speed_level: int) -> Any:
        triple, cpu, features = self._host
        target = self.llvm.Target.from_triple(triple)
        # In the model for code at any distance, calls and constants are by 64-bit addresses, which LLVM's quick
        # selection of instructions does not know.
        return target.create_target_machine(
            cpu=cpu, features=features, opt=speed_level, reloc="pic", codemodel="small", jit=True
        )

    @cached_property
    def _quick_machine(self) -> Any:
        return self._target_machine(_QUICK_SPEED_LEVEL)

    @cached_property
    def _machine(self) -> Any:
        return self._target_machine(_SPEED_LEVEL)

    @cached_property
    def _passes(self) -> tuple[Any, Any]:
        """The passes and what runs them."""
        return self._manager(_PASSES)

    @cached_property
    def _thorough_passes(self) -> tuple[Any, Any]:
        """More passes and what runs them."""
        return self._manager(_THOROUGH_PASSES)

    def _manager(self, names: Sequence[str]) -> tuple[Any, Any]:
        builder = self.llvm.create_pass_builder(self._machine, self.llvm.create_pipeline_tuning_options())
        passes = self.llvm.create_new_module_pass_manager()
        for name in names:
            getattr(passes, f"add_{name}_pass")()
        return passes, builder

    def file_name(self, cache_key: str) -> str:
        """Name of the cache file: a digest of the key and of all else that the machine code depends on."""
        parts = (_CACHE_VERSION, self.llvm.llvm_version_info, self._host, cache_key)
        return hashlib.sha256(repr(parts).encode()).hexdigest() + ".o"

    def compile(self, ir_text: str, *, quickly: bool = False, thoroughly: bool = False) -> bytes:
        """Object code of a module."""
        machine = self._quick_machine if quickly else self._machine
        module = self.llvm.parse_assembly(ir_text)
        module.triple = self._host[0]
        module.data_layout = str(machine.target_data)
        if verifies_stages():
            module.verify()
        if not quickly:
            passes, builder = self._passes
            passes.run(module, builder)
        if thoroughly:
            passes, builder = self._thorough_passes
            passes.run(module, builder)
        return bytes(machine.emit_object(module))

    def link(self, objects: Sequence[bytes]) -> tuple[str, Any]:
        """Load object files as a library of its own; returns the library's name and what keeps it in memory."""
        with compiling:
            name = f"mlutriton{next(self._serial)}"
            library = self.llvm.JITLibraryBuilder().add_current_process()
            for each in objects:
                library.add_object_img(each)
            return name, library.link(self._jit, name)

    def look_up(self, library: str, name: str) -> Any:
        """The symbol table, with owner, of one exported function."""
        with compiling:
            try:
                return self._jit.lookup(library, name)
            except RuntimeError as error:
                raise KeyError(f"no function {name} is exported") from error
