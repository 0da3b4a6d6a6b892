"""What the operands of matrix products are on a machine: their type in the tensor unit, and which load as weights."""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.dtypes import ALL, BF16, F16, F32, TF32, DType
from mlutriton.ir.core import Function, Operation, Value
from mlutriton.ir.ops import Assemble, Dot, TileLoad, Transpose
from mlutriton.ir.types import element_type, shape_of
from mlutriton.isa.machine import Machine

# Other types that hold every number of a type, the quickest first.
_WIDER: dict[DType, tuple[DType, ...]] = {
    F16: (F32,),
    BF16: (F32,),
    **{dtype: (F16, F32) for dtype in ALL if dtype.is_float8},
}


@dataclass(frozen=True)
class WeightUse:
    """How dots read a tile of which nothing else is done.

    Attributes:
        dtype: as what the tensor unit takes its elements.
        transposed: through a transpose.
    """

    dtype: DType
    transposed: bool


def tensor_type(dot: Dot, machine: Machine) -> DType | None:
    """The type in which the tensor unit takes the operands of a dot; None if it takes none that holds their numbers.

    Operands of 8-bit formats are converted, for no machine multiplies them. Where there is no tf32, f32 stands in.
    """
    left, right = (_element(operand) for operand in dot.operands[:2])
    if left is F32 and dot.text("precision") == "tf32" and machine.mac_per_cycle(TF32):
        return TF32
    right_types = (right, *_WIDER.get(right, ()))
    common = (each for each in (left, *_WIDER.get(left, ())) if each in right_types)
    return next((each for each in common if machine.mac_per_cycle(each)), None)


def tensor_types(function: Function, machine: Machine) -> list[DType]:
    """The types in which the tensor unit takes the operands of the dots of a function."""
    found = dict.fromkeys(tensor_type(each, machine) for each in function.walk() if isinstance(each, Dot))
    return [each for each in found if each is not None]


def weight_uses(function: Function, machine: Machine) -> dict[Value, WeightUse]:
    """Tile loads of rank 2 that only dots read, as right operand and as they are, in one type of the tensor unit.

    Tiles that cores load together are among them.
    """
    users: dict[Value, list[tuple[Operation, int]]] = {}
    for operation in function.walk():
        for place, operand in enumerate(operation.operands):
            users.setdefault(operand, []).append((operation, place))

    def types(value: Value) -> set[DType | None]:
        """As what dots read a value; with None if something else does."""
        return {
            tensor_type(operation, machine) if isinstance(operation, Dot) and place == 1 else None
            for operation, place in users.get(value, ())
        }

    found: dict[Value, WeightUse] = {}
    for operation in function.walk():
        if not isinstance(operation, TileLoad | Assemble) or len(shape_of(operation.result.type)) != 2:
            continue
        value = operation.result
        readers = [user for user, _ in users.get(value, ())]
        transposed = bool(readers) and all(isinstance(user, Transpose) and user.order == (1, 0) for user in readers)
        read_as = set[DType | None]().union(*(types(user.result) for user in readers)) if transposed else types(value)
        taken = _element(value)
        match [*read_as]:
            case [DType() as dtype] if dtype in (taken, TF32):
                found[value] = WeightUse(dtype, transposed)
            case _:
                pass
    return found


def _element(value: Value) -> DType:
    element = element_type(value.type)
    assert isinstance(element, DType)
    return element
