"""Launch options: what ``kernel[grid](..., num_stages=2, precision_mode="fast")`` may say."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mlutriton.diagnostics import ArgumentError

# Options of other backends that ported kernels carry along. They say how to use registers, warps and caches that an MLU
# does not have, or are hints to Cambricon's own compiler (is_linear), so they are accepted and change nothing.
# fmt: off
FOREIGN_OPTIONS = frozenset({
    "allow_flush_denorm", "clc", "cluster_dims", "ctas_per_cga", "enable_reflect_ftz", "enable_warp_specialization",
    "is_linear", "kpack", "launch_pdl", "matrix_instr_nonkdim", "maxnreg", "max_num_imprecise_acc",
    "min_shared_mem", "optimize_epilogue", "ptx_options", "ptx_version", "sched4reg", "schedule_hint", "waves_per_eu",
})
# fmt: on


class NotAPowerOfTwo(ArgumentError, AssertionError):  # noqa: N818 - it says what the number is
    """A number of warps that Triton's other backends refuse with an assertion."""


@dataclass(frozen=True)
class MLUOptions:
    """Options of one kernel. The first group are Cambricon's names, the second are names that Triton itself reads.

    Attributes: ``EFFECTS`` and ``WITHOUT_EFFECT`` say what each option does, or why it does nothing.
    """

    # fmt: off
    num_warps:                  int = 1
    num_stages:                 int = 2
    bottleneck:                 str | None = None
    pipeline_strategies:        tuple[str, ...] = ()
    opt_level:                  str = "O3"
    precision_mode:             str = "precision"
    restrict_ptr:               bool = False
    can_promote_shared:         bool = True
    force_use_shared_memory:    bool = False
    enable_soft_i64:            bool = True
    enable_mlu_bound_check:     bool = True
    onchip_mem_analysis:        bool = False
    cambricon_language:         bool = False
    machine:                    str = ""

    num_ctas:                   int = 1
    warp_size:                  int = 1
    arch:                       str = "mlu"
    backend_name:               str = "mlu"
    debug:                      bool = False
    sanitize_overflow:          bool = False
    enable_fp_fusion:           bool = True
    launch_cooperative_grid:    bool = False
    ir_override:                str | None = None
    extern_libs:                tuple[tuple[str, str], ...] = ()
    supported_fp8_dtypes:       tuple[str, ...] = ("fp8e5", "fp8e4nv", "fp8e4b8", "fp8e5b16", "fp8e4b15")
    deprecated_fp8_dot_operand_dtypes: tuple[str, ...] = ()
    default_dot_input_precision: str = "ieee"
    allowed_dot_input_precisions: tuple[str, ...] = ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6")
    max_num_imprecise_acc_default: int = 0
    instrumentation_mode:       str = ""
    fpsan_homomorphic_casts:    bool = False
    # fmt: on

    def hash(self) -> str:
        """Identifies the options in Triton's cache; foreign options change nothing and are left out."""
        named = [f"{option.name}-{getattr(self, option.name)}" for option in fields(self)]
        return hashlib.sha256("_".join(named).encode()).hexdigest()


EFFECTS: dict[str, str] = {
    "num_warps": "1 runs a program on one core (Block task), 4 on the four cores of a cluster (Union1 task) if it can"
    " be split among them and gains by that; 2 counts as 1, more as 4. Products of matrices run on clusters whatever is"
    " asked for, several neighbouring programs at a time if tiles are small and the launch allows it, or if a tile does"
    " not fit one core. The report says where it ran, and why on one core.",
    "num_stages": "Depth of the software pipeline of loops; 1 loads and computes in turn.",
    "enable_fp_fusion": "Whether a product and a sum become one fused multiply-add.",
    "debug": "Whether `tl.device_assert` is checked, and sums and products of integers for overflow.",
    "sanitize_overflow": "The latter alone; as `debug` unless given.",
    "cambricon_language": "Whether the kernel may use what Cambricon's Triton has beyond Triton: tiles whose sizes are"
    " no powers of two, indices and slices of tensors, assignment to these. Kernels of `mlu.jit` may, and others where"
    " the variable `MLUTRITON_CAMBRICON_LANGUAGE` is set.",
    "supported_fp8_dtypes": "8-bit floats that Triton lets kernels use.",
    "deprecated_fp8_dot_operand_dtypes": "8-bit floats of which Triton warns in `tl.dot`.",
    "default_dot_input_precision": "`input_precision` of a `tl.dot` that names none.",
    "allowed_dot_input_precisions": "What `input_precision` may name.",
    "max_num_imprecise_acc_default": "Recorded by Triton in products of 8-bit floats, which are accumulated in f32.",
    "ir_override": "Triton reads the kernel's TTIR from this file instead.",
    "arch": "Set by the compiler: name of the machine's instruction set.",
    "backend_name": "Set by the compiler.",
    "machine": "Set by the compiler: the machine that the kernel is compiled for.",
    "warp_size": "1: there are no warps.",
}
"""What each option does that does anything."""

_ONE_COMPILER = "There is one way to compile; a hint changes nothing."
WITHOUT_EFFECT: dict[str, str] = {
    "bottleneck": _ONE_COMPILER,
    "pipeline_strategies": "Loops are pipelined wherever it gains something.",
    "opt_level": _ONE_COMPILER,
    "precision_mode": "Every rounding that the kernel states is kept; tf32 is asked for by `input_precision`.",
    "restrict_ptr": "Which pointers reach the same bytes is known from the arrays, launch by launch.",
    "can_promote_shared": "Tiles go to SRAM where a cluster shares them (`num_warps=4`), and nowhere else.",
    "force_use_shared_memory": "As `can_promote_shared`.",
    "enable_soft_i64": "Vectors of 64-bit integers are always emulated.",
    "enable_mlu_bound_check": "Every access is always checked.",
    "onchip_mem_analysis": "The bill of on-chip memory is printed whenever something does not fit.",
    "is_linear": _ONE_COMPILER,
    "num_ctas": "Blocks of a GPU's cluster: an MLU's are asked for by `num_warps`.",
    "launch_cooperative_grid": "Programs that wait for each other all run, in turns if need be.",
    "extern_libs": "The device library is built in.",
    "instrumentation_mode": "Instruments code of other devices.",
    "fpsan_homomorphic_casts": "As `instrumentation_mode`.",
}
"""Why each option changes nothing that is accepted all the same; registers, warps and caches of GPUs are not here."""

# Options that Triton's code generator does not see: kernels that differ in these alone have one text in TTIR.
LATE_OPTIONS = frozenset({"num_warps", "num_stages", "enable_fp_fusion"})

_CHOICES: dict[str, tuple[object, ...]] = {
    "bottleneck": (None, "io", "mv", "simd"),
    "opt_level": ("O0", "O1", "O2", "O3", "Om", "Os"),
    "precision_mode": ("fast", "precision"),
}

_LEAST: dict[str, int] = {"num_warps": 1, "num_stages": 0, "num_ctas": 1}

OPTION_NAMES = frozenset(option.name for option in fields(MLUOptions))


def parse_options(given: Mapping[str, Any], machine: str, arch: str) -> MLUOptions:
    """Checks the options of a launch and completes them; keys that are no options are kernel arguments, left alone.

    Args:
        given: options by name, mixed with keyword arguments of the kernel.
        machine: name and content hash of the current machine.
        arch: name of its instruction set.

    Raises:
        ArgumentError: E0107, a value is not allowed.
    """
    from mlutriton.configuration import CAMBRICON_LANGUAGE_VARIABLE  # loads NumPy: not wherever Triton is imported

    chosen: dict[str, Any] = {
        name: value for name, value in given.items() if name in OPTION_NAMES and (value is not None or name in _CHOICES)
    }
    for name, choices in _CHOICES.items():
        if name in chosen and chosen[name] not in choices:
            raise _not_allowed(name, chosen[name], "one of " + ", ".join(str(choice) for choice in choices))
    for name, least in _LEAST.items():
        if name in chosen and not (type(chosen[name]) is int and chosen[name] >= least):
            raise _not_allowed(name, chosen[name], f"an integer not below {least}")
    warps = chosen.get("num_warps", 1)
    if warps & (warps - 1):
        raise NotAPowerOfTwo("E0107", f"the launch option num_warps must be a power of 2, not {warps}")
    # Cambricon's rule: two warps are one core, more than four are one cluster.
    chosen["num_warps"] = 4 if warps >= 4 else 1
    chosen["sanitize_overflow"] = chosen.get("sanitize_overflow", bool(chosen.get("debug")))
    chosen["cambricon_language"] = bool(chosen.get("cambricon_language", os.environ.get(CAMBRICON_LANGUAGE_VARIABLE)))
    chosen["pipeline_strategies"] = tuple(chosen.get("pipeline_strategies", ()))
    chosen["extern_libs"] = tuple(dict(chosen.get("extern_libs", ())).items())
    chosen |= {"machine": machine, "arch": arch}
    options = MLUOptions(**chosen)
    # Triton looks up every keyword of a launch in the options' __dict__ and refuses those that are missing there.
    options.__dict__.update({name: given[name] for name in FOREIGN_OPTIONS & given.keys()})
    return options


def _not_allowed(name: str, value: object, allowed: str) -> ArgumentError:
    return ArgumentError("E0107", f"the launch option {name} = {value!r} is not {allowed}")


def render() -> str:
    """The page of the reference that lists the options."""
    return f"""# Launch options

Written by `make docs` from `mlutriton/backend/options.py`. A value that an option does not have is refused
([E0107](errors/E0107.md)), and so is a name that is none of these.

{_rows("what it does", EFFECTS)}

Accepted for the sake of kernels that were written for other compilers, and of no effect:

{_rows("why", WITHOUT_EFFECT)}

So are those that say how to use the registers, warps and caches of GPUs:
{", ".join(f"`{name}`" for name in sorted(FOREIGN_OPTIONS - WITHOUT_EFFECT.keys()))}.
"""


def _rows(title: str, texts: Mapping[str, str]) -> str:
    return "\n".join(
        [f"| option | {title} |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in texts.items())]
    )
