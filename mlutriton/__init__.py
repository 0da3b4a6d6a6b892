"""mlutriton: compile Triton kernels for a simulated MLU, run them, and see where the cycles went.

Example:
    import mlutriton as mlu, mlutriton.language as tl

    @mlu.jit
    def add(out, x, y, n, BLOCK: tl.constexpr): ...

    run = add[(8,)](out, x, y, n, BLOCK=1024)
    print(run)
"""

from typing import TYPE_CHECKING

from mlutriton.diagnostics import ArgumentError as ArgumentError
from mlutriton.diagnostics import CompileError as CompileError
from mlutriton.diagnostics import KernelFault as KernelFault
from mlutriton.diagnostics import MluError as MluError
from mlutriton.diagnostics import OnChipMemoryError as OnChipMemoryError
from mlutriton.diagnostics import ProgramError as ProgramError

if TYPE_CHECKING:
    from mlutriton.backend.driver import last_run as last_run
    from mlutriton.configuration import current_machine as current_machine
    from mlutriton.configuration import find_machine as machine
    from mlutriton.configuration import set_machine as set_machine
    from mlutriton.frontend.ahead_of_time import compile_kernel as compile
    from mlutriton.frontend.arguments import pointer_argument as array
    from mlutriton.frontend.array_specs import spec as spec
    from mlutriton.frontend.jit import jit as jit
    from mlutriton.isa.machine import Machine as Machine
    from mlutriton.isa.machine import machine_names as machines
    from mlutriton.launch import estimate as estimate
    from mlutriton.program_file import load as load
    from mlutriton.simulator.report import Run as Run

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "CompileError",
    "KernelFault",
    "Machine",
    "MluError",
    "OnChipMemoryError",
    "ProgramError",
    "Run",
    "array",
    "compile",
    "current_machine",
    "estimate",
    "jit",
    "last_run",
    "load",
    "machine",
    "machines",
    "set_machine",
    "spec",
]


def __getattr__(name: str) -> object:
    """Import what a name needs when it is first used: Triton imports this package while it is itself imported."""
    match name:
        case "jit":
            from mlutriton.frontend.jit import jit

            value = jit
        case "last_run":
            from mlutriton.backend.driver import last_run

            value = last_run
        case "compile":
            from mlutriton.frontend.ahead_of_time import compile_kernel

            value = compile_kernel
        case "array":
            from mlutriton.frontend.arguments import pointer_argument

            value = pointer_argument
        case "estimate":
            from mlutriton.launch import estimate

            value = estimate
        case "spec":
            from mlutriton.frontend.array_specs import spec

            value = spec
        case "load":
            from mlutriton.program_file import load

            value = load
        case "Run":
            from mlutriton.simulator.report import Run

            value = Run
        case "Machine" | "machines":
            from mlutriton.isa.machine import Machine, machine_names

            value = Machine if name == "Machine" else machine_names
        case "machine" | "current_machine" | "set_machine":
            from mlutriton import configuration

            value = configuration.find_machine if name == "machine" else getattr(configuration, name)
        case "language":
            import mlutriton.language

            return mlutriton.language
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
