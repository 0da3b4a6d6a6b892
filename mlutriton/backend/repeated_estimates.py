"""Launches of one kernel for their cycles alone, thousands of them, with ever other constants, options and arguments.

What ``kernel[grid](...)`` does once for each is done once for all that it is the same for, and in memory: Triton's code
generator for the same constants, the compiler for the same text, native code for the same program.
"""

from __future__ import annotations

import copy
import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from triton._C.libtriton import ir
from triton.compiler.compiler import ASTSource

from mlutriton.backend.compiler import compile_options_of, run_ttir_passes
from mlutriton.backend.launcher import Launcher
from mlutriton.backend.options import LATE_OPTIONS, MLUOptions
from mlutriton.configuration import current_machine
from mlutriton.diagnostics import CompileError
from mlutriton.frontend.arguments import checked_grid
from mlutriton.frontend.importer import import_ttir
from mlutriton.frontend.jit import Kernel
from mlutriton.frontend.known_launches import KnownLaunches
from mlutriton.frontend.ttir import parse_ttir
from mlutriton.isa.encoding import encode
from mlutriton.launch import Grid, LoadedKernel, Run, bound_of_first_tasks, launch, load_program
from mlutriton.pipeline import compile_function

# Programs that are held at a time; each has its native code in memory.
_MAXIMUM_PROGRAMS = 256

# A program that is loaded, and the digest of its file.
_Program = tuple[LoadedKernel, bytes]


@dataclass(frozen=True)
class PreparedLaunch:
    """A compiled kernel with all that a launch gives it.

    Attributes:
        kernel: the program, loaded.
        grid: extents.
        values: of the program's parameters.
        identity: the same for launches that leave the same trace: program, grid and the bits of all values.
    """

    kernel: LoadedKernel
    grid: Grid
    values: list[Any]
    identity: bytes

    def run(self) -> Run:
        """Run it.

        Raises:
            CompileError: E0108, its cycles depend on values that it loads.
            KernelFault: the program did what the machine forbids.
        """
        return launch(self.kernel, self.grid, self.values)

    @property
    def tasks(self) -> int:
        """How many tasks it has, see :func:`mlutriton.launch.bound_of_first_tasks`."""
        return self.kernel.program.task_count(prod(self.grid), self.kernel.machine.cores)

    def bound_of_first_tasks(self, tasks: int) -> int:
        """Cycles that it does not fall below, known from some of its tasks.

        Raises:
            MluError: as for ``run``.
        """
        return bound_of_first_tasks(self.kernel, self.grid, self.values, tasks)


class RepeatedEstimates:
    """Prepares launches of a kernel on the current machine.

    Args:
        kernel: a kernel of ``mlu.jit`` or ``triton.jit``, also inside of ``triton.heuristics``. It is left as it is.
    """

    def __init__(self, kernel: Any) -> None:
        self._launched, self._twin = _twin_of(kernel)
        self._twin._do_compile = self._compile
        self._texts: dict[str, str | CompileError] = {}
        self._programs: dict[tuple[str, Any], _Program | CompileError] = {}
        self._loaded: dict[bytes, _Program] = {}
        self._prepared: PreparedLaunch | None = None

    def prepare(self, grid: Any, arguments: Mapping[str, Any]) -> PreparedLaunch:
        """Compile a launch.

        Args:
            grid: as for a launch.
            arguments: parameters and options by name; ``spec`` in the place of arrays.

        Raises:
            MluError: an argument or the kernel is refused, as for a launch.
        """
        if len(self._loaded) >= _MAXIMUM_PROGRAMS:
            self._forget()
        self._prepared = None
        self._launched.run(grid=grid, warmup=False, **arguments)
        assert self._prepared is not None
        return self._prepared

    def _forget(self) -> None:
        self._twin.device_caches.clear()
        for memory in (self._texts, self._programs, self._loaded):
            memory.clear()

    def _compile(
        self, key: str, signature: Any, device: int, constants: Any, options: MLUOptions, attributes: Any, warmup: bool
    ) -> _Compiled:
        """Takes the place of Triton's own, which keeps every stage on disk."""
        kernels, _, target, backend, _ = self._twin.device_caches[device]
        early = {name: value for name, value in vars(options).items() if name not in LATE_OPTIONS}
        source = ASTSource(self._twin, signature, constants, attributes)
        text_key = repr((signature, sorted(constants.items()), sorted(attributes.items()), sorted(early.items())))
        text = _once(self._texts, text_key, lambda: _ttir(source, target, backend, options))
        compile_options = compile_options_of(options, current_machine())

        def compiled() -> _Program:
            program = compile_function(import_ttir(parse_ttir(text)), compile_options)
            digest = hashlib.sha256(encode(program)).digest()
            if digest not in self._loaded:
                self._loaded[digest] = load_program(program, compile_options.machine, is_kept=False), digest
            return self._loaded[digest]

        program = _once(self._programs, (text, compile_options), compiled)
        kernels[key] = _Compiled(self, Launcher(source, None), *program)
        return kernels[key]

    def take(self, prepared: PreparedLaunch) -> None:
        """Receive the launch that the kernel would now make."""
        self._prepared = prepared


class _Compiled:
    """What Triton takes for a compiled kernel."""

    function = packed_metadata = None

    def __init__(self, owner: RepeatedEstimates, launcher: Launcher, loaded: LoadedKernel, digest: bytes) -> None:
        self._owner, self._launcher, self._loaded, self._digest = owner, launcher, loaded, digest

    def launch_metadata(self, *_: object) -> None:
        """There is nobody to tell."""

    def run(
        self,
        x: int,
        y: int,
        z: int,
        stream: object,
        function: object,
        packed_metadata: object,
        launch_metadata: object,
        enter_hook: object,
        exit_hook: object,
        *arguments: Any,
    ) -> None:
        """Prepares the launch instead of making it."""
        grid = checked_grid((x, y, z))
        values = self._launcher.values(arguments)
        words = self._loaded.parameter_words(values)
        reaches = [(each.bytes, each.writable) for each in values if hasattr(each, "first_address")]
        identity = hashlib.sha256(self._digest + repr((grid, words, reaches)).encode()).digest()
        self._owner.take(PreparedLaunch(self._loaded, grid, values, identity))


def _once(memory: dict[Any, Any], key: Any, make: Any) -> Any:
    """What was made for a key, or the error that this ended with, made once."""
    if key not in memory:
        try:
            memory[key] = make()
        except CompileError as error:
            memory[key] = error
    made = memory[key]
    if isinstance(made, CompileError):
        raise made.with_traceback(None)
    return made


def _ttir(source: ASTSource, target: Any, backend: Any, options: MLUOptions) -> str:
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    functions, modules = backend.get_codegen_implementation(options), backend.get_module_map()
    return str(run_ttir_passes(source.make_ir(target, options, functions, modules, context), {}))


def _twin_of(kernel: Any) -> tuple[Any, Any]:
    """A copy of a kernel and of what is around it, and the innermost of it: a kernel with caches of its own."""
    if hasattr(kernel, "device_caches"):
        twin: Any = Kernel.__new__(Kernel)
        twin.__dict__.update(kernel.__dict__)
        twin.device_caches = defaultdict(twin.create_binder)
        twin.known_launches = KnownLaunches()
        twin.takes_cambricon_language = getattr(kernel, "takes_cambricon_language", False)
        return twin, twin
    around = copy.copy(kernel)
    around.fn, twin = _twin_of(kernel.fn)
    return around, twin
