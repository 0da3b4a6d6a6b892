"""Loads native code: LLVM IR text in, machine code of this host out, object code kept on disk between processes.

Nothing of LLVM is touched before the first compilation. Functions are called by ``ctypes``, which releases the GIL.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlutriton.diagnostics import ArgumentError
from mlutriton.isa.native_interface import NativeText
from mlutriton.simulator.compiling import Beside, compiling
from mlutriton.simulator.toolchain import Effort, toolchain

CACHE_DIRECTORY_VARIABLE = "MLUTRITON_CACHE_DIR"

_DIGEST_BYTES = 32
_SIZE_BYTES = 8

LlvmText = str | NativeText


class NativeModule:
    """Machine code in memory; it is freed when this object and all functions taken from it are gone."""

    def __init__(self, objects: Sequence[bytes]) -> None:
        self._toolchain = toolchain()  # which is to outlive what it has linked
        self._library, self._owner = self._toolchain.link(objects)
        self._symbols: dict[str, Any] = {}
        self._addresses: dict[str, int] = {}

    def address(self, name: str) -> int:
        """Address of an exported function or table.

        Raises:
            KeyError: nothing of that name is exported.
        """
        if name not in self._addresses:
            symbols = self._symbols[name] = self._toolchain.look_up(self._library, name)
            self._addresses[name] = int(symbols[name])
        return self._addresses[name]

    def find_all(self, table: str, names: Sequence[str]) -> None:
        """Find many functions with one look-up: that of an exported table of their addresses, in this order.

        Raises:
            KeyError: no table of that name is exported.
        """
        if table not in self._addresses:
            addresses = (ctypes.c_uint64 * len(names)).from_address(self.address(table))
            self._addresses.update(zip(names, addresses, strict=True))

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


def begin_llvm(make_text: Callable[[], str], *, cache_key: str, wakes_up: bool = False) -> None:
    """Let another thread compile a module, if the disk cache does not have it; who asks for the module waits for it.

    Args:
        make_text: makes the module.
        cache_key: names its content.
        wakes_up: programs that are compiled afterwards are to find LLVM in memory.
    """

    def compiled() -> list[bytes]:
        stored = _kept_or_compiled(cache_key, make_text)
        if wakes_up:
            toolchain().compile_sample()
        return stored

    _begun[cache_key] = Beside(compiled)


# What other threads compile, by its name, until somebody asks for it.
_begun: dict[str, Beside[list[bytes]]] = {}


def kept_module(cache_key: str) -> NativeModule | None:
    """What the disk cache has of a name, loaded; None if it has nothing that can be."""
    with compiling:
        begun = _begun.pop(cache_key, None)
        stored = begun.result() if begun else _read(cache_directory() / toolchain().file_name(cache_key))
        if stored is not None:
            # A file of the right digest that still does not link comes from a broken writer.
            with contextlib.suppress(RuntimeError):
                return NativeModule(stored)
        return None


def _compiled(ir_text: LlvmText | Callable[[], LlvmText], cache_key: str | None, thoroughly: bool) -> NativeModule:
    kept = None if cache_key is None else kept_module(cache_key)
    if kept is not None:
        return kept
    try:
        text = ir_text() if callable(ir_text) else ir_text
        if isinstance(text, str):
            objects = [toolchain().compile(text, Effort.THOROUGH if thoroughly else Effort.FULL)]
        else:
            objects = _objects_of(text)
    finally:
        _loops.clear()
    if cache_key is not None:
        _write(cache_directory() / toolchain().file_name(cache_key), objects)
    return NativeModule(objects)


class _Part:
    """Loops of a program, which one thread compiles: another one, one part after the other, or whoever waits for it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._begun = threading.Lock()
        self._object = b""
        self._beside = Beside(self._in_turn)

    def compile_unless_begun(self) -> None:
        """Compile it here if its turn has not come yet."""
        self._compile(Effort.SHARED)

    def result(self) -> bytes:
        """Its object code."""
        if not self._object:
            self._beside.result()
        return self._object

    def _in_turn(self) -> None:
        with _turn:
            self._compile(Effort.FULL)

    def _compile(self, effort: Effort) -> None:
        if self._begun.acquire(blocking=False):
            self._object = toolchain().compile(self._text, effort)


# Held by the thread that compiles a part; others wait for it here, where their parts can still be taken from them.
_turn = threading.Lock()


def _objects_of(text: NativeText) -> list[bytes]:
    """Object code of a program, of which another thread compiles the loops meanwhile."""
    for each in text.loops:
        if each not in _loops:
            begin_part(each, is_shared=False)
    objects = [toolchain().compile(text.control, Effort.QUICK)]
    for each in reversed(text.loops):
        _loops[each].compile_unless_begun()
    objects += [_shared_object(each) for each in text.shared]
    return objects + [_loops[each].result() for each in text.loops]


def begin_part(text: str, is_shared: bool) -> None:
    """Let another thread compile a part of the program that is being translated; whoever compiles it waits for that.

    Args:
        text: loops, or a module that many programs have in common.
        is_shared: whether it is such a module, which is kept.
    """
    if is_shared:
        _begin_shared(text)
    else:
        _loops[text] = _Part(text)


def _begin_shared(text: str) -> Beside[bytes]:
    begun = _shared.get(text)
    if begun is None:
        while len(_shared) >= _MOST_SHARED:
            del _shared[next(iter(_shared))]
        begun = _shared[text] = Beside(lambda: _kept_or_compiled(f"shared {text}", lambda: text)[0])
    return begun


# What has been begun of the program that is being translated, and of modules that many programs have in common those
# that were begun last.
_loops: dict[str, _Part] = {}
_shared: dict[str, Beside[bytes]] = {}
_MOST_SHARED = 256


def _shared_object(text: str) -> bytes:
    """Object code of a module that many programs have in common."""
    try:
        return _begin_shared(text).result()
    except BaseException:
        _shared.pop(text, None)
        raise


def _kept_or_compiled(cache_key: str, make_text: Callable[[], str]) -> list[bytes]:
    """The object code of a module, of which the disk cache has a copy from now on."""
    path = cache_directory() / toolchain().file_name(cache_key)
    stored = _read(path)
    if not stored:
        stored = [toolchain().compile(make_text(), Effort.SHARED)]
        _write(path, stored)
    return stored


def cache_directory() -> Path:
    """Where object code is kept: ``MLUTRITON_CACHE_DIR``, else ``mlutriton`` in the user's cache directory.

    Raises:
        ArgumentError: E0109, the user has none.
    """
    chosen = os.environ.get(CACHE_DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen)
    # XDG ignores a relative path.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "mlutriton"
    except RuntimeError as problem:
        raise ArgumentError(
            "E0109",
            "there is no home directory to keep compiled code in",
            note=f"HOME is not set, and the user {os.getuid()} has no account",
            help=f"set {CACHE_DIRECTORY_VARIABLE} to a directory, which need not exist",
        ) from problem


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
