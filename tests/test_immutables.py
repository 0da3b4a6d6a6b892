"""Properties that are found once, and changed copies."""

from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from mlutriton.immutables import remembered, replace


@dataclass(frozen=True)
class Box:
    """A box."""

    width: int
    height: int = 1
    area: int = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "area", self.width * self.height)

    @remembered
    def found(self):
        """How often it has been found."""
        return [self.width]


def test_a_property_is_found_once():
    box = Box(2)
    assert box.found is box.found
    assert Box(2).found is not box.found
    assert Box.found.__doc__ == "How often it has been found."


def test_a_copy_is_made_anew():
    box = Box(2, 3)
    found = box.found
    other = replace(box, width=5)
    assert (other.width, other.height, other.area) == (5, 3, 15)
    assert other.found == [5]
    assert found == [2]
    assert replace(box) == box
    with pytest.raises(TypeError):
        replace(box, depth=1)
    with pytest.raises(FrozenInstanceError):
        other.width = 1
