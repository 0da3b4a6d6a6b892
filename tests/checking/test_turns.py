"""Programs that take turns."""

from functools import partial

import numpy as np
import pytest

from mlutriton.checking import turns
from mlutriton.checking.turns import Turn, WaitingError, take_turns
from mlutriton.ir.ops import Load

LOOKS = Load.__new__(Load)


def waits(made, number, flags, wanted):
    """Program ``number``: waits for a flag, and sets the next one."""
    while not flags[wanted]:
        if made[number].waits(LOOKS, [np.zeros(1)]):
            made[number].pass_on()
    flags[number + 1] = True


def run(wanted):
    """Programs each of which waits for one of the flags; these."""
    made, flags = [], [True] + len(wanted) * [False]
    for number, each in enumerate(wanted):
        made.append(Turn(partial(waits, made, number, flags, each)))
    take_turns(made, Turn.take)
    return flags


@pytest.mark.parametrize("wanted", [(0, 0, 0), (2, 3, 0), (0, 1, 2), (3, 1, 0, 1)])
def test_who_waits_goes_on_when_others_have_run(wanted):
    assert all(run(wanted))


def test_who_waits_for_each_other_is_given_up(monkeypatch):
    monkeypatch.setattr(turns, "_MOST_LOOKS_OF_ALL", 1000)
    with pytest.raises(WaitingError):
        run((2, 1, 0))


def test_the_fault_of_one_ends_all():
    def fails():
        raise ZeroDivisionError

    made = []
    made += [Turn(partial(waits, made, 0, [False, False], 0)), Turn(fails)]
    with pytest.raises(ZeroDivisionError):
        take_turns(made, Turn.take)
    assert made[0].is_given_up
