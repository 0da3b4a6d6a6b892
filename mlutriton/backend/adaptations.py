"""What is replaced inside Triton, all of it here and in ``early_adaptations``.

The replacements are made when the driver is created, do what the original does, and leave other backends alone.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import sys
import sysconfig
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from errno import ENOENT
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import triton
import triton.compiler.compiler
import triton.runtime.autotuner
import triton.runtime.cache
import triton.runtime.jit
from triton._C.libtriton import ir
from triton.compiler.code_generator import CodeGenerator
from triton.compiler.compiler import CompiledKernel, IRSource
from triton.runtime.autotuner import Autotuner
from triton.runtime.cache import FileCacheManager
from triton.runtime.jit import ConstexprFunction, JITFunction

import mlutriton.language as language
from mlutriton.backend.cambricon_language import extend_language
from mlutriton.backend.compiler import MLUBackend
from mlutriton.backend.early_adaptations import is_simulated
from mlutriton.backend.options import MLUOptions
from mlutriton.backend.stage_texts import StageTexts
from mlutriton.configuration import BLOCK_POINTERS_VARIABLE, dump_directory
from mlutriton.diagnostics import ArgumentError
from mlutriton.frontend.arguments import launch_argument
from mlutriton.frontend.block_pointers import install_block_pointers
from mlutriton.frontend.triton_versions import PLACES_OPERATIONS_ROUGHLY
from mlutriton.isa.encoding import is_whole
from mlutriton.simulator.compiling import compiling

# As much as the texts and the program of an ordinary kernel take.
_PROBE_BYTES = 1 << 17


@functools.cache
def adapt_triton() -> None:
    """Replaces what refuses arrays, and what makes first launches and benchmarks of simulated time slow."""
    # Imported for what Cambricon adds to Triton's language, whose place it takes.
    assert language is sys.modules["triton.language"]
    _replace_unwritable_cache()
    triton.runtime.jit.create_function_from_signature = _binding_arrays(
        triton.runtime.jit.create_function_from_signature
    )
    # As properties, so that tuners that were made before the driver was have them too.
    Autotuner.pre_hook = _own_hook("pre_hook")
    Autotuner.post_hook = _own_hook("post_hook")
    # The original reads all 500 MB of libtriton, which takes longer than to compile a kernel.
    triton.runtime.cache.triton_key = installation_key
    triton.runtime.autotuner.triton_key = installation_key
    JITFunction._do_compile = _alone(JITFunction._do_compile)
    if PLACES_OPERATIONS_ROUGHLY:
        CodeGenerator.visit = _keeping_the_place(CodeGenerator.visit)
        ir.builder.create_loc = _counting_columns_from_one(ir.builder.create_loc)
    CompiledKernel.__init__ = _showing_stages(CompiledKernel.__init__)
    triton.compiler.compiler.filter_traceback = _once(triton.compiler.compiler.filter_traceback)
    _write_cache_files_at_once()
    ConstexprFunction.__call__ = _at_once_for_integers(ConstexprFunction.__call__)
    IRSource.parse_options = _refusing_texts_of_gpus(IRSource.parse_options)
    triton.compiler.compiler.parse = _parsing_programs(triton.compiler.compiler.parse)
    # The original rounds the operands of a float32 product to TF32 wherever the device can.
    triton.knobs.language.fp32_default = triton.knobs.language.fp32_default or "ieee"
    # The original would store only the kinds of binaries that it knows, and miss the program when it loads it.
    triton.knobs.compilation.store_binary_only = False
    if dump_directory() is not None:
        # What comes from the cache passes through no stage that could be dumped.
        triton.knobs.compilation.always_compile = True
    extend_language()
    if os.environ.get(BLOCK_POINTERS_VARIABLE):
        install_block_pointers()


def _replace_unwritable_cache() -> None:
    """Lets Triton keep kernels in a directory of this process where its own cannot be written: it would just fail.

    Raises:
        ArgumentError: E0109, there is no such place either.
    """
    directory = Path(triton.knobs.cache.dir)
    try:
        if directory.parts[:1] == ("~",):  # else it would be a directory of that name
            raise FileNotFoundError(ENOENT, "there is no home directory")
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(bytes(_PROBE_BYTES))
    except OSError as error:
        try:
            substitute = tempfile.mkdtemp(prefix="mlutriton-")
        except OSError as nowhere:
            raise ArgumentError(
                "E0109",
                f"Triton cannot keep kernels in {directory}: {error.strerror}",
                note=f"nor is there a place for them until the process ends: {nowhere.strerror}",
                help="set TRITON_CACHE_DIR or TMPDIR to a directory that can be written",
            ) from nowhere
        atexit.register(shutil.rmtree, substitute, ignore_errors=True)
        triton.knobs.cache.dir = substitute
        warnings.warn(
            f"Triton cannot keep kernels in {directory}: {error.strerror}; every process compiles them again."
            " Set TRITON_CACHE_DIR to a directory that can be written.",
            RuntimeWarning,
            stacklevel=2,
        )


class _QuickCache(FileCacheManager):
    """Triton's cache of files; it writes a file without a directory of its own, which takes some disks milliseconds.

    What is damaged is not there: Triton would fail on it, at every launch until somebody empties the cache.
    """

    def get_group(self, filename: str) -> dict[str, str] | None:
        """Paths of the files of a compilation by their names; None if not all are there and whole."""
        group = super().get_group(filename)
        return group if group and all(_is_whole(Path(path)) for path in group.values()) else None

    def put(self, data: object, filename: str, binary: bool = True) -> str:
        """Write a file so that a reader sees all of it or nothing; returns its path."""
        path = str(self._make_path(filename))
        temporary = f"{path}.tmp.pid_{os.getpid()}_{uuid.uuid4()}"
        with open(temporary, "wb") as file:  # noqa: PTH123 - paths take twice as long as the file
            file.write(data if isinstance(data, bytes) else str(data).encode())
        os.replace(temporary, path)  # noqa: PTH105
        return path


def _is_whole(file: Path) -> bool:
    """False for a file of a compilation that is damaged, as far as a launch depends on it."""
    try:
        if file.suffix == ".json":
            return isinstance(json.loads(file.read_bytes()), dict)
        return is_whole(file.read_bytes()) if file.suffix == f".{MLUBackend.binary_ext}" else file.exists()
    except (OSError, ValueError):
        return False


def _write_cache_files_at_once() -> None:
    """Gives compilations for the MLU a cache that is quick to write, unless another kind of cache was chosen."""
    find_key, find_manager = triton.compiler.compiler.get_cache_key, triton.compiler.compiler.get_cache_manager
    compiling_for = threading.local()

    @functools.wraps(find_key)
    def get_cache_key(source: Any, backend: Any, *args: Any, **kwargs: Any) -> str:
        # A compilation asks for its key, and then for the cache of that key.
        compiling_for.backend = backend
        return find_key(source, backend, *args, **kwargs)

    @functools.wraps(find_manager)
    def get_cache_manager(key: str) -> Any:
        manager = find_manager(key)
        if type(manager) is FileCacheManager and isinstance(getattr(compiling_for, "backend", None), MLUBackend):
            manager.__class__ = _QuickCache
        return manager

    triton.compiler.compiler.get_cache_key = get_cache_key
    triton.compiler.compiler.get_cache_manager = get_cache_manager


@functools.cache
def installation_key() -> str:
    """Identifies the installed Triton by the version, sizes and times of its files rather than by their content."""
    stamps = (f"{path}:{status.st_size}:{status.st_mtime_ns}" for path, status in _installed_files())
    return "-".join([triton.__version__, *sorted(stamps)])


def _installed_files() -> Iterator[tuple[str, os.stat_result]]:
    root = Path(triton.__file__).parent
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX")).rpartition(".")[2]
    library = root / "_C" / f"libtriton.{suffix}"
    yield library.name, library.stat()
    for part in ("compiler", "language", "backends", "runtime"):
        for path in (root / part).rglob("*.py"):
            yield str(path.relative_to(root)), path.stat()


Binder = Callable[..., Any]


def _binding_arrays(original: Callable[[Any, Sequence[Any], object], Binder]) -> Callable[..., Binder]:
    """Lets Triton bind NumPy and DLPack arrays: it knows a pointer by its ``data_ptr``, which these do not have."""

    @functools.wraps(original)
    def create_function_from_signature(signature: Any, parameters: Sequence[Any], backend: object) -> Binder:
        bind = original(signature, parameters, backend)
        if not isinstance(backend, MLUBackend):
            return bind
        names = [parameter.name for parameter in parameters]
        last = names[-1] if names else ""  # which may be *arguments

        def bind_arrays(*args: object, **kwargs: object) -> Any:
            pairs = zip(args, chain(names, repeat(last)), strict=False)
            converted = [launch_argument(value, name) for value, name in pairs]
            for name, value in kwargs.items():
                kwargs[name] = launch_argument(value, name)
            return bind(*converted, **kwargs)

        return bind_arrays

    return create_function_from_signature


def _own_hook(attribute: str) -> property:
    """A hook of a tuner: Triton's own, for ``reset_to_zero`` and ``restore_value``, use methods of tensors."""

    def read(tuner: Any) -> Callable[..., Any]:
        hook = tuner.__dict__[attribute]
        return hook if tuner.__dict__.get(f"user_defined_{attribute}") else functools.partial(_with_tensors, hook)

    def write(tuner: Any, hook: Callable[..., Any]) -> None:
        tuner.__dict__[attribute] = hook

    return property(read, write)


def _with_tensors(hook: Callable[..., Any], arguments: Mapping[str, object], *args: Any, **kwargs: Any) -> Any:
    tensors = {name: launch_argument(value, name) for name, value in arguments.items()}
    return hook(tensors, *args, **kwargs)


def _alone(original: Callable[..., Any]) -> Callable[..., Any]:
    """Lets one thread compile at a time: Python's own parser fails now and then in two at once, and forks wait."""

    @functools.wraps(original)
    def compile_alone(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        with compiling if is_simulated() else nullcontext():
            return original(kernel, *args, **kwargs)

    return compile_alone


def _keeping_the_place(original: Callable[[Any, Any], Any]) -> Any:
    """Lets an operation be where its own expression begins, not the last part of it: errors name that place."""

    @functools.wraps(original)
    def visit(generator: Any, node: Any) -> Any:
        place = generator.builder.get_loc()
        result = original(generator, node)
        if isinstance(generator.builder.options, MLUOptions):
            generator.builder.set_loc(place)
        return result

    return visit


def _counting_columns_from_one(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_loc(builder: Any, file: str, line: int, column: int) -> Any:
        return original(builder, file, line, column + isinstance(builder.options, MLUOptions))

    return create_loc


def _showing_stages(original: Callable[..., None]) -> Callable[..., None]:
    """Gives kernels of the MLU every stage of their compilation as text."""

    @functools.wraps(original)
    def initialize(kernel: Any, *args: Any, **kwargs: Any) -> None:
        original(kernel, *args, **kwargs)
        if MLUBackend.supports_target(kernel.metadata.target):
            kernel.asm = StageTexts(kernel.asm, kernel.metadata)

    return initialize


def _refusing_texts_of_gpus(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Says what ``triton.compile`` takes in the place of a text of a later stage, for which it looks in vain.

    Raises:
        ArgumentError: E0112.
    """

    @functools.wraps(original)
    def parse_options(source: Any) -> Any:
        if source.ext != "ttir" and is_simulated():
            raise ArgumentError(
                "E0112",
                f"a kernel for an MLU cannot be compiled from {source.path}",
                note=f"{source.ext} already says how the threads of a GPU share the work",
                help="compile the .ttir of the kernel, which Triton keeps beside it; mlutriton.load loads a .mluprog",
            )
        return original(source)

    return parse_options


def _parsing_programs(original: Callable[[str, str, Any], Any]) -> Callable[[str, str, Any], Any]:
    """Lets ``TRITON_KERNEL_OVERRIDE`` replace programs as well, of whose file ending Triton does not know."""

    @functools.wraps(original)
    def parse(path: str, ending: str, context: Any) -> Any:
        return Path(path).read_bytes() if ending == MLUBackend.binary_ext else original(path, ending, context)

    return parse


def _once(original: Callable[[Any], None]) -> Callable[[Any], None]:
    """Lets Triton tidy the traceback of an error once: of a chain it takes each link's cause and its context.

    Where functions call each other without end that takes twice as long for every call.
    """

    @functools.wraps(original)
    def filter_traceback(error: Any) -> None:
        if not hasattr(error, "mlutriton_filtered"):
            error.mlutriton_filtered = True
            original(error)

    return filter_traceback


def _at_once_for_integers(original: Callable[..., Any]) -> Callable[..., Any]:
    """Lets ``triton.cdiv`` of a grid call its function: the original imports, and looks for constants of the language.

    Each launch asks for its grid, and that took an eighth of its Python where the caches of the host had gone cold.
    """

    @functools.wraps(original)
    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            for each in args:
                if type(each) is not int:
                    break
            else:
                return function.fn(*args)
        return original(function, *args, **kwargs)

    return call
