"""What a tuner asks of kernels and of what Triton puts around them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from triton.runtime.autotuner import Autotuner, Config, Heuristics, autotune
from triton.runtime.jit import JITFunction

from mlutriton.backend.options import FOREIGN_OPTIONS, OPTION_NAMES

LAUNCH_OPTIONS = OPTION_NAMES | FOREIGN_OPTIONS
# What a Config has apart from the parameters of the kernel and other options.
CONFIG_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "ir_override")


class Parameters(NamedTuple):
    """The names of a kernel's parameters.

    Attributes:
        all: in order.
        constants: those that are ``tl.constexpr``.
        optional: those that have a default, or are computed by ``triton.heuristics``.
    """

    all: tuple[str, ...]
    constants: frozenset[str]
    optional: frozenset[str]


def innermost(kernel: Any) -> Any:
    """The kernel inside of Triton's decorators."""
    while not isinstance(kernel, JITFunction):
        kernel = kernel.fn
    return kernel


def without_tuners(kernel: Any) -> Any:
    """The kernel without ``triton.autotune``; heuristics stay."""
    if isinstance(kernel, Autotuner):
        return without_tuners(kernel.fn)
    if isinstance(kernel, Heuristics):
        around = copy.copy(kernel)
        around.fn = without_tuners(kernel.fn)
        return around
    return kernel


def own_configurations(kernel: Any) -> list[dict[str, Any]]:
    """The configurations of the ``triton.autotune`` around a kernel; none without."""
    tuner = _tuner_of(kernel)
    return [] if tuner is None else [config.all_kwargs() for config in tuner.configs]


def kept_configurations(kernel: Any, grid: Any, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of its own configurations that the ``prune_configs_by`` of a kernel leaves for a launch.

    Args:
        kernel: with the ``triton.autotune`` around it.
        grid: of the launch.
        arguments: of the launch, by name. What configurations set is not among what the kernel's functions see.

    Raises:
        Exception: whatever these functions raise; Triton's own if they leave nothing.
    """
    tuner = copy.copy(_tuner_of(kernel))
    assert tuner is not None
    set_by_configurations = {name for config in tuner.configs for name in config.all_kwargs()}
    given = {name: value for name, value in arguments.items() if name not in set_by_configurations}
    constants = parameters_of(kernel).constants
    # As if constants and options were passed by name and all else by place, which is how kernels are launched.
    tuner.nargs = {name: given.pop(name) for name in tuner.arg_names if name in given and name not in constants}
    kept = tuner.prune_configs({**given, "grid": grid, "warmup": False})
    return [config.all_kwargs() for config in kept]


def _tuner_of(kernel: Any) -> Any:
    """The ``triton.autotune`` around a kernel, if there is one."""
    while not isinstance(kernel, JITFunction):
        if isinstance(kernel, Autotuner):
            return kernel
        kernel = kernel.fn
    return None


def prepare_arguments(kernel: Any, configuration: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Let the hook of a configuration see the arguments of its launch, as ``triton.autotune`` does.

    Args:
        kernel: with the ``triton.autotune`` around it, if it has one.
        configuration: one of its own, or any other, which has no hook.
        arguments: of the launch; the hook may change them in place, such as the blocks of tensor descriptors.
    """
    tuner = _tuner_of(kernel)
    for config in tuner.configs if tuner is not None else ():
        if config.pre_hook is not None and config.all_kwargs() == configuration:
            config.pre_hook({**arguments, **configuration})
            return


def parameters_of(kernel: Any) -> Parameters:
    """The parameters of a kernel."""
    optional: set[str] = set()
    while not isinstance(kernel, JITFunction):
        if isinstance(kernel, Heuristics):
            optional |= kernel.values.keys()
        kernel = kernel.fn
    listed: Any = kernel.params
    return Parameters(
        tuple(each.name for each in listed),
        frozenset(each.name for each in listed if each.is_constexpr),
        frozenset(optional.union(each.name for each in listed if each.has_default)),
    )


def config_of(configuration: Mapping[str, Any], parameters: Iterable[str]) -> Any:
    """A configuration as a ``triton.Config``, without names that only a launch function knows."""
    known = {*parameters, *LAUNCH_OPTIONS}
    options = {name: value for name, value in configuration.items() if name in CONFIG_OPTIONS}
    rest = {name: value for name, value in configuration.items() if name in known and name not in options}
    # A Config has options of its own where it is told none, and these are Triton's, not the machine's.
    return Config(rest, **{"num_warps": None, "num_stages": None, "num_ctas": None, **options})


def chosen_by(
    choose: Callable[[Mapping[str, Any]], Any], configs: Sequence[Any], key: Sequence[str]
) -> Callable[[Any], Any]:
    """A ``triton.autotune`` that launches nothing to find out: a function of the arguments chooses.

    Args:
        choose: takes the arguments of a launch by name, returns one of the configs.
        configs: what may be chosen.
        key: names of the arguments whose values decide.
    """

    def prune(configs: Sequence[Any], named_args: Mapping[str, Any], **rest: Any) -> list[Any]:
        return [choose({**named_args, **rest})]

    def measure_nothing(kernel_call: object, quantiles: Sequence[float]) -> list[float]:
        """Up to Triton 3.7, one configuration is measured as well as several."""
        return [0.0 for _ in quantiles]

    return autotune(
        configs=list(configs), key=list(key), prune_configs_by={"early_config_prune": prune}, do_bench=measure_nothing
    )
