"""LLVM, set up once for this host: text in, object code out, and objects linked into memory.

Several threads generate code at once, each with an LLVM context and a target machine of its own. llvmlite lets one
thread at a time into LLVM, for the sake of whoever shares a context; the three calls that take long go past its lock,
as what they touch is their thread's alone.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import threading
from collections.abc import Sequence
from enum import Enum
from functools import cached_property, lru_cache
from typing import Any

from mlutriton.configuration import verifies_stages
from mlutriton.simulator.compiling import compiling

# Part of every file name: raise it whenever the passes below or the layout of a file change.
_CACHE_VERSION = 5

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


class Effort(Enum):
    """How well code is compiled; each is one thread's at a time.

    Attributes:
        speed_level: LLVM's level of code generation.
        passes: what is done with a module before.
    """

    QUICK = (_QUICK_SPEED_LEVEL, ())
    FULL = (_SPEED_LEVEL, _PASSES)
    # The same for what is compiled beside it: what many programs share, and loops whose turn has not come.
    SHARED = (_SPEED_LEVEL, _PASSES, "shared")
    THOROUGH = (_SPEED_LEVEL, _PASSES + _THOROUGH_PASSES)

    def __init__(self, speed_level: int, passes: tuple[str, ...], *_: str) -> None:
        self.speed_level = speed_level
        self.passes = passes


@lru_cache(maxsize=1)
def _made() -> Toolchain:
    return Toolchain()


_making = threading.Lock()


def toolchain() -> Toolchain:
    """LLVM for this host."""
    with _making:
        return _made()


class Toolchain:
    """LLVM for this host; there is one in a process."""

    def __init__(self) -> None:
        # The import alone takes longer than loading cached code, and much of the package never needs it.
        from llvmlite import binding  # pyright: ignore[reportMissingTypeStubs]

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        self.llvm: Any = binding
        self.host: tuple[str, str, str] = (
            binding.get_process_triple(),
            binding.get_host_cpu_name(),
            binding.get_host_cpu_features().flatten(),
        )
        self._host_digest = hashlib.sha256(repr((_CACHE_VERSION, self.llvm.llvm_version_info, self.host)).encode())
        self._serial = itertools.count()
        self.long_calls = _LongCalls(binding)
        self._code_generators = {effort: _CodeGenerator(self, effort) for effort in Effort}

    @cached_property
    def _jit(self) -> Any:
        # This linker lays all of a module side by side, and reaches what is far away by a table, as the code model
        # asks for.
        return self.llvm.create_lljit_compiler(self.target_machine(_SPEED_LEVEL), use_jit_link=True)

    def target_machine(self, speed_level: int) -> Any:
        """A target machine for this host."""
        triple, cpu, features = self.host
        target = self.llvm.Target.from_triple(triple)
        # In the model for code at any distance, calls and constants are by 64-bit addresses, which LLVM's quick
        # selection of instructions does not know.
        return target.create_target_machine(
            cpu=cpu, features=features, opt=speed_level, reloc="pic", codemodel="small", jit=True
        )

    def file_name(self, cache_key: str) -> str:
        """Name of the cache file: a digest of the key and of all else that the machine code depends on."""
        digest = self._host_digest.copy()
        digest.update(cache_key.encode())
        return digest.hexdigest() + ".o"

    def compile(self, ir_text: str, effort: Effort) -> bytes:
        """Object code of a module.

        Raises:
            RuntimeError: LLVM rejects the text.
        """
        return self._code_generators[effort].compile(ir_text)

    def compile_sample(self) -> None:
        """Bring into memory what a program's code needs of LLVM; who compiles and links one then waits for less."""
        for effort in (Effort.FULL, Effort.QUICK):
            self.compile(_SAMPLE, effort)
        _ = self._jit

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


class _CodeGenerator:
    """Makes object code with so much effort, of one module at a time."""

    def __init__(self, toolchain: Toolchain, effort: Effort) -> None:
        self._toolchain = toolchain
        self._llvm = toolchain.llvm
        self._effort = effort
        self._lock = threading.Lock()

    @cached_property
    def _context(self) -> Any:
        return self._llvm.create_context()

    @cached_property
    def _machine(self) -> Any:
        return self._toolchain.target_machine(self._effort.speed_level)

    @cached_property
    def _data_layout(self) -> str:
        return str(self._machine.target_data)

    @cached_property
    def _passes(self) -> tuple[Any, Any]:
        """The passes and what runs them."""
        builder = self._llvm.create_pass_builder(self._machine, self._llvm.create_pipeline_tuning_options())
        passes = self._llvm.create_new_module_pass_manager()
        for name in self._effort.passes:
            getattr(passes, f"add_{name}_pass")()
        return passes, builder

    def compile(self, ir_text: str) -> bytes:
        """Object code of a module.

        Raises:
            RuntimeError: LLVM rejects the text.
        """
        calls = self._toolchain.long_calls
        with self._lock, calls.parse(ir_text, self._context) as module:
            module.triple = self._toolchain.host[0]
            module.data_layout = self._data_layout
            if verifies_stages():
                module.verify()
            if self._effort.passes:
                calls.run_passes(*self._passes, module)
            return calls.emit(self._machine, module)


class _LongCalls:
    """The calls of LLVM that take long, past llvmlite's lock: whoever makes them has its module's context alone."""

    def __init__(self, llvm: Any) -> None:
        self._llvm = llvm
        self._library = ctypes.CDLL(llvm.ffi.lib._name)

    @cached_property
    def _parse(self) -> Any:
        return self._function("LLVMPY_ParseAssembly")

    @cached_property
    def _run_passes(self) -> Any:
        return self._function("LLVMPY_RunNewModulePassManager")

    @cached_property
    def _emit(self) -> Any:
        return self._function("LLVMPY_TargetMachineEmitToMemory")

    def _function(self, name: str) -> Any:
        function, locked = self._library[name], getattr(self._llvm.ffi.lib, name)
        function.argtypes, function.restype = locked.argtypes, locked.restype
        return function

    def parse(self, ir_text: str, context: Any) -> Any:
        """The module of a text.

        Raises:
            RuntimeError: LLVM rejects the text.
        """
        with self._llvm.ffi.OutputString() as message:
            pointer = self._parse(context, ir_text.encode(), message)
            if not pointer:
                raise RuntimeError(f"LLVM rejects the text: {message}")
            return self._llvm.ModuleRef(pointer, context)

    def run_passes(self, passes: Any, builder: Any, module: Any) -> None:
        """Run passes on a module."""
        self._run_passes(passes, module, builder)

    def emit(self, machine: Any, module: Any) -> bytes:
        """Object code of a module.

        Raises:
            RuntimeError: LLVM has no code for it.
        """
        library = self._llvm.ffi.lib
        with self._llvm.ffi.OutputString() as message:
            buffer = self._emit(machine, module, 1, message)
            if not buffer:
                raise RuntimeError(f"LLVM generates no code: {message}")
        try:
            return ctypes.string_at(library.LLVMPY_GetBufferStart(buffer), library.LLVMPY_GetBufferSize(buffer))
        finally:
            library.LLVMPY_DisposeMemoryBuffer(buffer)


# What LLVM does for it is what it does for kernels: scalar code and calls, a loop over vectors, a masked rest.
_SAMPLE = """
declare void @callee(ptr, i64)
define i64 @sample(ptr noalias %data, i64 %count, i64 %limit) {
entry:
  %kept = alloca i64, align 8
  store i64 %count, ptr %kept, align 8
  %is_less = icmp slt i64 %count, %limit
  %chosen = select i1 %is_less, i64 %count, i64 %limit
  %left = sub i64 %limit, %chosen
  %product = mul i64 %left, %chosen
  %is_large = icmp ugt i64 %product, 188416
  br i1 %is_large, label %fault, label %head
head:
  %place = phi i64 [ 0, %entry ], [ %next, %body ]
  %goes_on = icmp slt i64 %place, %chosen
  br i1 %goes_on, label %body, label %rest
body:
  %address = getelementptr float, ptr %data, i64 %place
  %bits = load <16 x i32>, ptr %address, align 1
  %value = bitcast <16 x i32> %bits to <16 x float>
  %sum = fadd <16 x float> %value, %value
  %is_smaller = fcmp olt <16 x float> %sum, %value
  %result = select <16 x i1> %is_smaller, <16 x float> %sum, <16 x float> %value
  store <16 x float> %result, ptr %address, align 1
  %next = add nsw i64 %place, 16
  br label %head
rest:
  %one = insertelement <16 x i64> poison, i64 %left, i64 0
  %all = shufflevector <16 x i64> %one, <16 x i64> poison, <16 x i32> zeroinitializer
  %mask = icmp slt <16 x i64> <i64 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7, i64 8, i64 9, i64 10, i64 11,
    i64 12, i64 13, i64 14, i64 15>, %all
  %end = getelementptr float, ptr %data, i64 %chosen
  %old = load <16 x float>, ptr %end, align 1
  %new = fmul <16 x float> %old, %old
  %merged = select <16 x i1> %mask, <16 x float> %new, <16 x float> %old
  store <16 x float> %merged, ptr %end, align 1
  call void @callee(ptr %data, i64 %left)
  %again = load i64, ptr %kept, align 8
  ret i64 %again
fault:
  %reason = phi i64 [ 1, %entry ]
  ret i64 %reason
}
"""
