"""The compiler half of the plug-in: Triton's passes on TTIR, then one call into the pipeline."""

# Triton's extension module has no type information.

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from triton import knobs
from triton._C.libtriton import ir, passes
from triton.backends.compiler import BaseBackend, GPUTarget, Language

from mlutriton.backend.options import FOREIGN_OPTIONS, OPTION_NAMES, MLUOptions, parse_options
from mlutriton.backend.tools_of_gpus import refuse_to_write_c
from mlutriton.diagnostics import ArgumentError, OnChipMemoryError

if TYPE_CHECKING:
    from mlutriton.isa.machine import Machine
    from mlutriton.isa.program import Program
    from mlutriton.pipeline import CompileOptions

TARGET_NAMES = ("mlu", "cpu")


class MLUBackend(BaseBackend):
    """Compiles Triton modules to program files of the virtual MLU."""

    binary_ext = "mluprog"
    option_names = OPTION_NAMES | FOREIGN_OPTIONS

    @staticmethod
    def supports_target(target: GPUTarget) -> bool:
        """True for the targets that the driver of this package announces."""
        return target.backend in TARGET_NAMES

    def hash(self) -> str:
        """Identifies compiler and machine in Triton's cache."""
        from mlutriton.configuration import source_hash  # loads NumPy

        return f"mlutriton-{source_hash()}-{_machine_identity()}"

    def parse_options(self, options: dict[str, Any]) -> MLUOptions:
        """Checks launch options.

        Raises:
            ArgumentError: E0107, an option has a value that is not allowed; E0113, the kernel is to become C.
        """
        refuse_to_write_c()
        return parse_options(options, _machine_identity(), f"mlu{self.target.arch}")

    def add_stages(self, stages: dict[str, Any], options: MLUOptions, language: object = None) -> None:
        """Names the two stages: ``ttir``, then the program file; a hook of the user's may replace them.

        Raises:
            ArgumentError: E0112, the kernel is written in Gluon.
        """
        if language is Language.GLUON:
            raise ArgumentError(
                "E0112",
                "a kernel of Gluon cannot become one for an MLU",
                note="Gluon says how a GPU lays tiles out over its threads; an MLU has none",
                help="write it in triton.language, under @triton.jit",
            )
        from mlutriton.launch import warm_up  # loads the compiler

        warm_up()
        stages["ttir"] = run_ttir_passes
        stages["mluprog"] = functools.partial(_compile_program, options=options)
        if knobs.runtime.add_stages_inspection_hook is not None:
            knobs.runtime.add_stages_inspection_hook(self, stages, options, language, self.target.arch)

    def pack_metadata(self, metadata: Any) -> tuple[int, int, int]:
        """What Triton hands to launchers."""
        return metadata.num_warps, metadata.num_ctas, metadata.shared

    def get_codegen_implementation(self, options: MLUOptions) -> dict[str, Any]:
        """Answers of the target to Triton's code generator: a dot of any size is legal, a custom type converted."""
        return {
            "min_dot_size": lambda left_type, right_type: (1, 1, 1),  # pyright: ignore[reportUnknownLambdaType]
            "convert_custom_types": _convert_custom_types,
        }

    def get_module_map(self) -> Mapping[str, ModuleType]:
        """Maps the portable libdevice to the one whose calls name each function by its symbol."""
        from triton.language.extra.cuda import libdevice  # triton.language does not exist yet at this file's top

        return {"triton.language.extra.libdevice": libdevice}

    def load_dialects(self, context: object) -> None:
        """Adds no dialects: the compiler starts at TTIR."""


def _convert_custom_types(*arguments: Any, **keywords: Any) -> Any:
    """Converts a tensor from or to a type that is none of Triton's IR."""
    from mlutriton.backend.float8e4b15 import convert_float8e4b15  # needs triton.language; hardly a kernel needs it

    return convert_float8e4b15(*arguments, **keywords)


def run_ttir_passes(module: Any, metadata: dict[str, Any]) -> Any:
    """Runs Triton's own passes; tensor descriptors stay, for they are the DMA's own form."""
    from mlutriton.backend.cambricon_language import has_other_sizes  # needs triton.language

    if has_other_sizes():
        return module
    manager = ir.pass_manager(module.context)
    manager.enable_debug()
    passes.common.add_inliner(manager)
    passes.ttir.add_combine(manager)
    passes.common.add_canonicalizer(manager)
    passes.ttir.add_reorder_broadcast(manager)
    passes.common.add_cse(manager)
    passes.common.add_symbol_dce(manager)
    passes.ttir.add_loop_unroll(manager)
    # Unrolling leaves bounds that are arithmetic on constants, and steps that repeat.
    passes.common.add_canonicalizer(manager)
    passes.common.add_cse(manager)
    passes.ttir.add_triton_licm(manager)
    manager.run(module, "make_ttir")
    return module


def _compile_program(module: Any, metadata: dict[str, Any], *, options: MLUOptions) -> bytes:
    """Compiles a TTIR module to a program file."""
    # These load the compiler, NumPy and LLVM: not in every process that imports Triton.
    from mlutriton.codegen.selection.tensor_operands import tensor_types
    from mlutriton.configuration import current_machine, dump_directory
    from mlutriton.ir.core import Function
    from mlutriton.launch import begin_products
    from mlutriton.pipeline import compile_ttir
    from mlutriton.simulator.compiling import uncollected
    from mlutriton.waiting import working

    machine = current_machine()
    metadata["name"] = module.get_entry_func_name()
    # A core runs one program at a time, which owns the whole NRAM: so ported kernels that divide the device's memory by
    # a program's find that one program fits a core. What truly does not fit is refused below.
    metadata["shared"] = machine.usable_nram_bytes
    compile_options = compile_options_of(options, machine)
    text = str(module)
    directory, show = dump_directory(), None
    if directory is not None:
        from mlutriton.dump import dump_to  # as long as nobody wants to see it, it need not be loaded

        show = dump_to(directory, text)

    def observe(stage: str, result: Function | Program) -> None:
        if stage == "import" and isinstance(result, Function):
            begin_products(tensor_types(result, machine))
        if show is not None:
            show(stage, result)

    try:
        with working(f"compiling {metadata['name']}"), uncollected():
            return compile_ttir(text, compile_options, observe)
    except OnChipMemoryError as error:
        from mlutriton.backend.errors import OutOfOnChipMemory  # likewise

        raise OutOfOnChipMemory(error) from error


def compile_options_of(options: MLUOptions, machine: Machine) -> CompileOptions:
    """What the options of a launch say to the compiler behind Triton's own code generator."""
    from mlutriton.configuration import verifies_stages  # loads NumPy
    from mlutriton.pipeline import CompileOptions  # loads the compiler

    return CompileOptions(
        machine=machine,
        num_stages=options.num_stages,
        fuse_multiply_add=options.enable_fp_fusion,
        cores=machine.cores_per_cluster if options.num_warps > 1 else 1,
        verifies_stages=verifies_stages(),
    )


def _machine_identity() -> str:
    from mlutriton.configuration import current_machine  # loads NumPy

    machine = current_machine()
    return f"{machine.name}-{machine.content_hash[:16]}"
