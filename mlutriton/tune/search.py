"""In which order configurations are tried.

A search hands out units of trials one after the other, and is told the outcomes of earlier ones in the same order.
Which have been told when a unit is made depends on its number alone (see :func:`told_before`), never on how fast the
workers are: so a search is the same for any number of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from mlutriton.diagnostics import ArgumentError
from mlutriton.tune.engines import missing_package
from mlutriton.tune.space import Space
from mlutriton.tune.trial import Configuration, Outcome, Status, Trial, text_of

SEARCHES = ("exhaustive", "random", "model")

# As many units are under way at most, which is also as many workers as are of use.
MAXIMUM_UNDER_WAY = 64
MAXIMUM_UNDER_WAY_OF_MODEL = 8
# Trials of a unit: enough that sending it costs nothing, few enough that the workers end together.
_LARGEST_UNIT = 32


def told_before(number: int, most: int) -> int:
    """How many units have been told when that of a number is made: all but ``most``, and fewer to begin with.

    The first units find no bound to stay below, so few of them are made before one is known.
    """
    return max(0, number - min(most, 2 + number // 4))


class Search(Protocol):
    """Hands out trials and learns from their outcomes."""

    @property
    def total(self) -> int:
        """Trials that it will hand out, at most."""
        ...

    @property
    def most_under_way(self) -> int:
        """Units that may be under way."""
        ...

    def next(self) -> tuple[Trial, ...] | None:
        """The trials of the next unit; None after the last."""
        ...

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from a unit, each in its turn."""
        ...


class ListedSearch:
    """Tries each configuration of a list. Those with the same constants of the kernel are compiled together.

    Args:
        listed: what to try for each shape.
        constants: names of what the kernel is compiled for.
        seed: decides the order of the units. Any order finds the same; this one soon meets a good configuration.
    """

    most_under_way = MAXIMUM_UNDER_WAY

    def __init__(self, listed: Sequence[Sequence[Configuration]], constants: frozenset[str], seed: int) -> None:
        self.total = sum(len(configurations) for configurations in listed)
        groups: dict[str, list[list[Trial]]] = {}
        for shape, configurations in enumerate(listed):
            for each in configurations:
                compiled_for = text_of({name: value for name, value in each.items() if name in constants})
                by_shape = groups.setdefault(compiled_for, [[] for _ in listed])
                by_shape[shape].append(Trial(shape, each))
        units = [part for by_shape in groups.values() for trials in by_shape for part in _parts(trials)]
        random.Random(seed).shuffle(units)
        self._units = iter(units)

    def next(self) -> tuple[Trial, ...] | None:
        """The trials of the next unit."""
        return next(self._units, None)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing to learn: all will be tried."""


def _parts(trials: Sequence[Trial]) -> Iterator[tuple[Trial, ...]]:
    rest = iter(trials)
    while part := tuple(islice(rest, _LARGEST_UNIT)):
        yield part


class ModelSearch:
    """Lets a model of what was found choose what to try: Optuna's tree-structured Parzen estimator.

    Each shape has a model of its own. Of a configuration that was skipped the model learns the bound, which is all
    that is known of its cycles: they are no fewer.

    Args:
        spaces: what to choose from for each shape.
        trials: how many configurations to try for each, at most.
        seed: decides the choices.
    """

    most_under_way = MAXIMUM_UNDER_WAY_OF_MODEL

    def __init__(self, spaces: Sequence[Space], trials: int, seed: int) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise missing_package("optuna", "--search model", error) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna: Any = optuna
        self._spaces = spaces
        self._valid = [{text_of(each): each for each in space.configurations} for space in spaces]
        # Whose turn it is: the shapes take turns, until each has had its trials.
        self._turns = [
            shape for turn in range(trials) for shape, space in enumerate(spaces) if turn < min(trials, len(space))
        ]
        self.total = len(self._turns)
        self._studies: list[Any] = [
            optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed + shape, constant_liar=True))
            for shape in range(len(spaces))
        ]
        self._made = 0
        self._asked: dict[str, list[Any]] = {}
        self._values: dict[str, float] = {}

    def next(self) -> tuple[Trial, ...] | None:
        """The configuration that the model of a shape chooses; the shapes take turns."""
        if self._made >= self.total:
            return None
        shape = self._turns[self._made]
        self._made += 1
        study = self._studies[shape]
        configuration = None
        for _ in range(_MAXIMUM_ASKED):
            asked = study.ask()
            configuration = self._suggested(shape, asked)
            trial = None if configuration is None else Trial(shape, configuration)
            if trial is None:
                study.tell(asked, state=self._optuna.trial.TrialState.FAIL)
            elif trial.key in self._values:
                # It is known already: remind the model, and ask again.
                study.tell(asked, self._values[trial.key])
            elif trial.key in self._asked:
                self._asked[trial.key].append(asked)
            else:
                self._asked[trial.key] = [asked]
                return (trial,)
        return ()

    def _suggested(self, shape: int, asked: Any) -> Configuration | None:
        """The configuration that a model suggests; None if a condition excludes it."""
        space = self._spaces[shape]
        if not space.axes:
            place: int = asked.suggest_categorical("configuration", range(len(space)))
            return space.configurations[place]
        chosen = {name: values[_index(asked, name, values)] for name, values in space.axes.items()}
        return self._valid[shape].get(text_of(chosen))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the model what came of its choice."""
        for outcome in outcomes:
            asked = self._asked.pop(outcome.trial.key)
            study = self._studies[outcome.trial.shape]
            value = outcome.cycles if outcome.status is Status.TIMED else outcome.bound_cycles
            if value is None:
                value = _WORSE * max(self._values.values(), default=1.0)
            self._values[outcome.trial.key] = float(value)
            for each in asked:
                study.tell(each, float(value))


# Suggestions that repeat what is known before a unit is given up.
_MAXIMUM_ASKED = 100
# What a failure counts as, beside the worst that is known.
_WORSE = 2.0


def _index(asked: Any, name: str, values: Sequence[Any]) -> int:
    """The place of a value: along an axis of numbers neighbours are alike, along others nothing is."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        places = sorted(range(len(values)), key=values.__getitem__)
        rank: int = asked.suggest_int(name, 0, len(values) - 1)
        return places[rank]
    place: int = asked.suggest_categorical(name, range(len(values)))
    return place


def search_of(
    name: str, spaces: Sequence[Space], constants: frozenset[str], *, trials: int | None, seed: int
) -> Search:
    """A search by its name.

    Args:
        name: one of ``SEARCHES``.
        spaces: what to search for each shape.
        constants: names of what the kernel is compiled for.
        trials: how many configurations to try for each shape; None for all, which only a full search knows.
        seed: decides what is left to chance.

    Raises:
        ArgumentError: E0502, there is no such search, or the number of trials does not go with it; E0504.
    """
    if name not in SEARCHES:
        raise ArgumentError("E0502", f"there is no search {name!r}", help=f"type one of: {', '.join(SEARCHES)}")
    if name == "exhaustive":
        if trials is not None:
            raise ArgumentError(
                "E0502",
                f"an exhaustive search tries all {max(map(len, spaces)):,} configurations, not {trials:,}",
                help=f"add --search random, or --search model; or leave out --trials {trials}",
            )
        return ListedSearch([space.configurations for space in spaces], constants, seed)
    if trials is None:
        raise ArgumentError("E0502", f"a {name} search needs a number of trials", help="add --trials 200")
    if trials < 1:
        raise ArgumentError("E0502", f"{trials} trials find nothing", help="add --trials 200")
    if name == "random":
        chosen = [random.Random(seed).sample(each.configurations, min(trials, len(each))) for each in spaces]
        return ListedSearch(chosen, constants, seed)
    return ModelSearch(spaces, min(trials, max(map(len, spaces))), seed)
