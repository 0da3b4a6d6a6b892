"""A search from beginning to end: ``tune``."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlutriton
from mlutriton.backend.tuners import innermost, kept_configurations, own_configurations, parameters_of
from mlutriton.configuration import current_machine, find_machine, source_hash
from mlutriton.diagnostics import ArgumentError
from mlutriton.frontend.array_specs import Spec
from mlutriton.isa.machine import Machine
from mlutriton.kernel_file import place_in
from mlutriton.testing.case import Case
from mlutriton.tune.engines import Engine, LocalEngine
from mlutriton.tune.evaluation import Evaluator
from mlutriton.tune.journal import Journal
from mlutriton.tune.launches import (
    CasePlan,
    ExpressionPlan,
    FunctionPlan,
    LaunchPlan,
    check_complete,
    check_names,
    merged,
)
from mlutriton.tune.recipe import Recipe, cases_of
from mlutriton.tune.result import ShapeResult, Tuning
from mlutriton.tune.search import Search, search_of, told_before
from mlutriton.tune.source import SourceFile, function_named, kernel_named, split
from mlutriton.tune.space import Space
from mlutriton.tune.trial import Outcome, Shape, Unit, shown, text_of
from mlutriton.tune.tuned_file import outline


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
        done: trials whose outcomes are known.
        total: trials of the whole search.
        best: the fastest of each shape so far.
    """

    done: int
    total: int
    best: Sequence[Outcome | None]


@dataclass(frozen=True)
class RequestedSearch:
    """A search as it is asked for; see :func:`tune`."""

    kernel: Any
    shapes: Iterable[Shape] | None = None
    space: Any = None
    launch: Any = None
    arguments: Mapping[str, str] | None = None
    grid: str = ""
    search: str = "exhaustive"
    trials: int | None = None
    seed: int = 0
    machine: Machine | str | Path | None = None
    prune: bool = True


def tune(
    kernel: Any,
    *,
    shapes: Iterable[Shape] | None = None,
    space: Any = None,
    launch: Any = None,
    arguments: Mapping[str, str] | None = None,
    grid: str = "",
    search: str = "exhaustive",
    trials: int | None = None,
    seed: int = 0,
    machine: Machine | str | Path | None = None,
    engine: Engine | None = None,
    journal: str | Path | None = None,
    resume: bool = False,
    prune: bool = True,
    progress: Callable[[Progress], object] | None = None,
) -> Tuning:
    """Search the configurations of a kernel for the fastest one by simulated cycles.

    Args:
        kernel: a kernel, or where it is: ``"FILE.py::KERNEL"``.
        shapes: names of sizes and element types with their values; the cases of the kernel's file if left out.
        space: names with the values to try, a list of configurations, or a :class:`Space`; the configurations of the
            kernel's own ``triton.autotune`` if left out, of which its ``prune_configs_by`` leaves some out.
        launch: a function from names of shape and configuration to grid and arguments, or where it is:
            ``"FILE.py::FUNCTION"``; by default ``launch_KERNEL`` in the kernel's file.
        arguments: in its place, an expression for each argument, with ``grid``: ``{"x": "fp32:rows,columns"}``.
        grid: an expression like ``"cdiv(n, BLOCK)"``.
        search: ``exhaustive``, ``random`` or ``model``.
        trials: how many configurations to try for each shape, unless all.
        seed: decides what is left to chance. The same seed finds the same, whatever the number of workers.
        machine: a machine, a preset's name or a path; the current one if left out.
        engine: where to work; by default in as many processes as there are cores.
        journal: a file to append outcomes to.
        resume: go on from the journal of an earlier search.
        prune: skip the replay of configurations whose schedule bound is above the best; the best is found all the same.
        progress: called after each unit of work.

    Raises:
        ArgumentError: E0501 to E0504, the search cannot be made as it is asked for.
    """
    wanted = RequestedSearch(kernel, shapes, space, launch, arguments, grid, search, trials, seed, machine, prune)
    plan = prepare(wanted)
    return searched(plan, engine=engine, journal=journal, resume=resume, progress=progress)


@dataclass(frozen=True)
class PreparedSearch:
    """A search that is ready to begin.

    Attributes:
        kernel_name: of the kernel.
        shapes: what to tune for.
        spaces: what to choose from for each shape.
        search: in which order.
        evaluator: with what.
        recipe: the same as data; None if the kernel is in no file.
        order: name and seed of the search.
        cases: of the kernel's file.
        identity: what decides the outcomes, by name.
        outlines: of each shape, what tells its launches apart.
    """

    kernel_name: str
    shapes: tuple[Shape, ...]
    spaces: tuple[Space, ...]
    search: Search
    evaluator: Evaluator
    recipe: Recipe | None
    order: tuple[str, int]
    cases: tuple[Case, ...]
    identity: Mapping[str, Any]
    outlines: tuple[dict[str, Any], ...]


def prepare(wanted: RequestedSearch) -> PreparedSearch:
    """See that a search can be made.

    Raises:
        ArgumentError: E0501 to E0504, it cannot.
    """
    machine, arguments, grid = wanted.machine, wanted.arguments or {}, wanted.grid
    if not isinstance(machine, Machine):
        machine = current_machine() if machine is None else find_machine(machine)
    file, kernel, names = _kernel(wanted.kernel)
    name: str = innermost(kernel).fn.__name__
    parameters = parameters_of(kernel)
    launch_file, function = _launch(wanted.launch, file, names, name)
    cases = cases_of(names)
    plan = _plan(kernel, name, cases, function, arguments, grid)
    without: list[Shape] = plan.shapes if isinstance(plan, CasePlan) else [{}]
    shapes = tuple(without if wanted.shapes is None else wanted.shapes)
    if not shapes:
        raise ArgumentError("E0502", "there is no shape to tune for", help="add --shape M=4096 N=4096")
    every = _space(wanted.space, kernel, name)
    check_names(plan, parameters, shapes, every.names)
    outlines: list[dict[str, Any]] = []
    spaces: list[Space] = []
    for shape in shapes:
        with Spec.placed_anew():
            programs, given = merged(plan, parameters, shape, every.configurations[0])
        check_complete(name, parameters, given)
        outlines.append({each: outline(given[each]) for each in parameters.all if _is_told(each, given, parameters)})
        spaces.append(every if wanted.space is not None else _pruned(every, kernel, shape, programs, given))
    expressions = tuple(arguments.items())
    recipe = None
    if file is not None and launch_file is not None:
        launcher = "" if function is None else function.__name__
        recipe = Recipe(file, name, launch_file, launcher, expressions, grid, shapes, machine, wanted.prune)
    identity = {
        "kernel": f"{name} {innermost(kernel).cache_key if file is None else file.digest}",
        "launch": f"{launch_file.digest if launch_file else None} {sorted(expressions)} {grid}",
        "machine": f"{machine.name} {machine.content_hash}",
        "shapes": [text_of(shape) for shape in shapes],
        "space": _digest(spaces),
        "search": wanted.search,
        "trials": wanted.trials,
        "seed": wanted.seed,
        "prune": wanted.prune,
        "version": f"{mlutriton.__version__} {source_hash()}",
    }
    return PreparedSearch(
        kernel_name=name,
        shapes=shapes,
        spaces=tuple(spaces),
        search=search_of(wanted.search, spaces, parameters.constants, trials=wanted.trials, seed=wanted.seed),
        evaluator=Evaluator(kernel, plan, shapes, machine, prune=wanted.prune),
        recipe=recipe,
        order=(wanted.search, wanted.seed),
        cases=tuple(cases),
        identity=identity,
        outlines=tuple(outlines),
    )


def searched(
    plan: PreparedSearch,
    *,
    engine: Engine | None = None,
    journal: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Tuning:
    """Make a search that is prepared; see :func:`tune`.

    Raises:
        ArgumentError: E0501, E0503 or E0504, the engine or the journal is not to be had.
    """
    started = time.perf_counter()
    kept = None
    engine = engine or LocalEngine()
    try:
        engine.start(plan.evaluator, plan.recipe)
        if journal is not None:
            kept = (Journal.resume if resume else Journal.begin)(Path(journal), plan.identity)
        outcomes = _outcomes(plan, engine, kept, progress or _look_away)
    finally:
        engine.stop()
        if kept is not None:
            kept.close()
    results = tuple(
        ShapeResult(shape, tuple(found), told, space.excluded)
        for shape, found, told, space in zip(plan.shapes, outcomes, plan.outlines, plan.spaces, strict=True)
    )
    seconds = time.perf_counter() - started
    parameters = parameters_of(plan.evaluator.kernel).all
    return Tuning(plan.kernel_name, plan.evaluator.machine, *plan.order, parameters, results, seconds)


def _is_told(name: str, given: Mapping[str, Any], parameters: Any) -> bool:
    return name in given and name not in parameters.constants


def _digest(spaces: Sequence[Space]) -> str:
    text = "\n\n".join("\n".join(text_of(each) for each in space.configurations) for space in spaces)
    sizes = " and ".join(dict.fromkeys(f"{len(space):,}" for space in spaces))
    return f"{sizes} configurations {hashlib.sha256(text.encode()).hexdigest()}"


def _kernel(kernel: Any) -> tuple[SourceFile | None, Any, Mapping[str, Any]]:
    """The file of a kernel, if it is in one; the kernel; and what else has a name where it is defined.

    The file of a kernel that is at hand is not run again: it may be the script that is tuning it.
    """
    if isinstance(kernel, str | Path):
        path, name = split(str(kernel))
        file = SourceFile.at(path)
        return file, kernel_named(file, name), vars(file.module())
    function = innermost(kernel).fn
    path = Path(function.__code__.co_filename)
    return (SourceFile.at(path) if path.is_file() else None), kernel, function.__globals__


def _launch(
    launch: Any, file: SourceFile | None, names: Mapping[str, Any], kernel_name: str
) -> tuple[SourceFile | None, Any]:
    """The file of the launch function, and the function; None where there is none."""
    if callable(launch):
        path = Path(inspect.getsourcefile(launch) or "")
        return (SourceFile.at(path) if path.is_file() else None), launch
    if launch:
        path, name = split(str(launch))
        if not name:
            path, name = ("", path) if not path.endswith(".py") else (path, f"launch_{kernel_name}")
        if path:
            file = SourceFile.at(path)
            names = vars(file.module())
        return file, function_named(names, name, path or "the kernel's file")
    found = names.get(f"launch_{kernel_name}")
    return file, found if callable(found) else None


def _plan(
    kernel: Any,
    name: str,
    listed: Iterable[Case],
    function: Any,
    arguments: Mapping[str, str],
    grid: str,
) -> LaunchPlan:
    """How a kernel is launched: as it is said, else by the function beside it, else as in its file's cases.

    Raises:
        ArgumentError: E0502, nothing says it.
    """
    if arguments or grid:
        if not grid:
            raise ArgumentError("E0502", "the arguments need a grid", help="add --grid 'cdiv(n, BLOCK)'")
        return ExpressionPlan.of_texts(arguments, grid, parameters_of(kernel).all)
    if function is not None:
        return FunctionPlan(function)
    cases = CasePlan.of(kernel, listed)
    if cases.cases:
        return cases
    raise ArgumentError(
        "E0502",
        f"nothing says how {name} is launched",
        help=f"write a function launch_{name} beside it that returns the grid and the arguments; or\n"
        "add --arguments x=fp32:n out=fp32:n --grid 'cdiv(n, BLOCK)'",
    )


def _space(space: Any, kernel: Any, name: str) -> Space:
    if space is not None:
        return Space.of_object(space)
    own = own_configurations(kernel)
    if not own:
        raise ArgumentError(
            "E0502",
            f"{name} has no configurations of its own",
            help="add --space BLOCK=64..1024:x2 num_stages=1..5, or decorate it with @triton.autotune",
        )
    return Space.of_list(own)


def _pruned(space: Space, kernel: Any, shape: Shape, grid: Any, arguments: Mapping[str, Any]) -> Space:
    """A kernel's own configurations without those that its own ``prune_configs_by`` leaves out for a shape.

    Raises:
        ArgumentError: E0502, one of its functions fails, or leaves nothing.
    """
    try:
        kept = kept_configurations(kernel, grid, arguments)
    except Exception as problem:
        raise ArgumentError(
            "E0502",
            f"prune_configs_by of {innermost(kernel).fn.__name__} failed for {shown(shape) or 'its arguments'}:"
            f" {type(problem).__name__}: {problem}",
            note=place_in(problem, innermost(kernel).fn.__code__.co_filename),
            help="mend it, or add --space NAME=VALUES, which is searched whole",
        ) from problem
    texts = {text_of(each) for each in kept}
    return Space.of_list(kept, excluded=sum(text_of(each) not in texts for each in space.configurations))


def _outcomes(
    plan: PreparedSearch, engine: Engine, journal: Journal | None, progress: Callable[[Progress], object]
) -> list[list[Outcome]]:
    """The outcomes of each shape, in the order of the search."""
    search = plan.search
    by_shape: list[list[Outcome]] = [[] for _ in plan.shapes]
    best: list[Outcome | None] = [None for _ in plan.shapes]
    seen: list[Outcome | None] = list(best)
    arrived: dict[int, list[Outcome]] = {}
    made = told = done = 0
    more = True
    progress(Progress(0, search.total, seen))

    def arrive(number: int, outcomes: list[Outcome]) -> None:
        nonlocal done
        arrived[number] = outcomes
        done += len(outcomes)
        for each in outcomes:
            seen[each.trial.shape] = _faster(seen[each.trial.shape], each)
        progress(Progress(done, search.total, seen))

    def tell() -> None:
        nonlocal told
        outcomes = arrived.pop(told)
        told += 1
        search.tell(outcomes)
        for each in outcomes:
            by_shape[each.trial.shape].append(each)
            best[each.trial.shape] = _faster(best[each.trial.shape], each)

    def receive() -> None:
        for number, outcomes in engine.completed():
            if journal is not None:
                journal.append(outcomes)
            arrive(number, outcomes)

    while more:
        # Exactly these are told before the next is made, though more may have arrived.
        while told < told_before(made, search.most_under_way):
            if told in arrived:
                tell()
            else:
                receive()
        trials = search.next()
        more = trials is not None
        if trials is None:
            break
        unit = Unit(trials, tuple(None if each is None else each.cycles for each in best))
        known = journal.outcomes(trials) if journal is not None else None
        if known is not None or not trials:
            arrive(made, known or [])
        else:
            engine.submit(made, unit)
        made += 1
    while told < made:
        if told in arrived:
            tell()
        else:
            receive()
    return by_shape


def _faster(best: Outcome | None, other: Outcome) -> Outcome | None:
    """The faster of two; the first where both are as fast."""
    if other.cycles is None or (best is not None and best.cycles is not None and best.cycles <= other.cycles):
        return best
    return other


def _look_away(progress: Progress) -> None:
    """Nobody watches."""
