"""Launch options: what ``kernel[grid](..., num_stages=2, precision_mode="fast")`` may say."""

from __future__ import annotations

import hashlib
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

    Attributes:
        num_warps: 1 runs a program on one core (Block task), 4 on the four cores of a cluster (Union1 task) if it can
            be split among them and gains by that; the report says where it runs, and why on one core.
        num_stages: depth of the software pipeline of loops: 1 loads and computes in turn.
        bottleneck: what the kernel waits for, if known: ``io``, ``mv`` or ``simd``.
        pipeline_strategies: ways to pipeline that may be tried.
        opt_level: ``O0`` to ``O3``, ``Om``, ``Os``.
        precision_mode: ``precision`` keeps every rounding that the kernel states, ``fast`` permits tf32 and quick
            division.
        restrict_ptr: promise that no two pointer arguments reach the same bytes.
        can_promote_shared: permit tiles in SRAM.
        force_use_shared_memory: demand tiles in SRAM.
        enable_soft_i64: permit 64-bit integer vectors, which the machine emulates.
        enable_mlu_bound_check: check every access against the registered arrays.
        onchip_mem_analysis: keep the bill of on-chip memory in the report.
        machine: name and content hash of the machine that the kernel is compiled for.
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
    chosen["pipeline_strategies"] = tuple(chosen.get("pipeline_strategies", ()))
    chosen["extern_libs"] = tuple(dict(chosen.get("extern_libs", ())).items())
    chosen |= {"machine": machine, "arch": arch}
    options = MLUOptions(**chosen)
    # Triton looks up every keyword of a launch in the options' __dict__ and refuses those that are missing there.
    options.__dict__.update({name: given[name] for name in FOREIGN_OPTIONS & given.keys()})
    return options


def _not_allowed(name: str, value: object, allowed: str) -> ArgumentError:
    return ArgumentError("E0107", f"the launch option {name} = {value!r} is not {allowed}")
