"""Tensors whose rows may become longer, as only the elements that are there now are stored in the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mlutriton.ir.analysis.uses import Uses
from mlutriton.ir.core import Value
from mlutriton.ir.ops import Broadcast, Constant, Elementwise, For, Splat, TileLoad, TileStore, Yield
from mlutriton.ir.types import shape_of


@dataclass
class Family:
    """Tensors of one shape that are made of each other element by element, loaded and stored.

    Attributes:
        values: the tensors.
        repeated: those that repeat a scalar, or a number of each row; others may use them in their old shape.
    """

    values: set[Value] = field(default_factory=set[Value])
    repeated: set[Value] = field(default_factory=set[Value])


def family_of(seeds: Iterable[Value], uses: Uses) -> Family | None:
    """All tensors that must change their shape if some do; None if one of them cannot."""
    family, pending = Family(), list(seeds)
    while pending:
        value = pending.pop()
        if value in family.values or value in family.repeated:
            continue
        definition = value.defining_op
        match definition:
            case Constant() | Splat():
                family.repeated.add(value)
                continue
            case Broadcast() if max(shape_of(definition.operands[0].type)[1:], default=1) == 1:
                family.repeated.add(value)
                continue
            case Elementwise():
                pending += definition.operands
            case TileLoad() | For() | None:
                pass
            case _:
                return None
        family.values.add(value)
        carried = uses.carried_with(value)
        if carried is None:
            return None
        pending += [each for group in carried for each in group]
        for user in uses.of(value):
            if isinstance(user, Elementwise):
                pending.append(user.result)
            elif not isinstance(user, TileStore | For | Yield):
                return None
    return family
