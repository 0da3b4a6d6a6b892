"""Types of SSA values: scalars (:class:`~mlutriton.dtypes.DType`), pointers and tensors of either."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlutriton.dtypes import I64, DType


@dataclass(frozen=True, slots=True)
class PointerType:
    """A byte address in global memory of elements of type ``pointee``."""

    pointee: DType

    def __str__(self) -> str:
        return f"ptr<{self.pointee}>"


ScalarType = DType | PointerType


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense tensor; ``shape`` has at least one extent, each at least 1."""

    shape: tuple[int, ...]
    element: ScalarType

    def __hash__(self) -> int:
        return hash(self.shape)  # there are few elements of one shape

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"tensor<{'x'.join(map(str, self.shape))}x{self.element}>"


Type = ScalarType | TensorType


def element_type(type: Type) -> ScalarType:
    """The scalar type of a scalar or of a tensor's elements."""
    return type.element if isinstance(type, TensorType) else type


def shape_of(type: Type) -> tuple[int, ...]:
    """The shape; ``()`` for scalars."""
    return type.shape if isinstance(type, TensorType) else ()


# Of narrower integers arithmetic is for its own sake, not for an index.
_INDEX_BITS = 32


def is_index(type: Type) -> bool:
    """True for integers of a type whose arithmetic is taken not to overflow, as Triton's own address analysis does."""
    element = element_type(type)
    return isinstance(element, DType) and element.is_int and element.bits >= _INDEX_BITS


def with_element(type: Type, element: ScalarType) -> Type:
    """The same shape with another element type."""
    return TensorType(type.shape, element) if isinstance(type, TensorType) else element


def with_shape(shape: tuple[int, ...], element: ScalarType) -> Type:
    """A tensor type, or the scalar type itself for the shape ``()``."""
    return TensorType(shape, element) if shape else element


def storage_dtype(element: ScalarType) -> DType:
    """The dtype in which an element is held: pointers are ``i64`` addresses."""
    return I64 if isinstance(element, PointerType) else element


def storage_bytes(type: Type) -> int:
    """Bytes of all elements of a value."""
    return math.prod(shape_of(type)) * storage_dtype(element_type(type)).bytes


def numpy_dtype(type: Type) -> np.dtype[Any]:
    """The NumPy dtype of a value's elements."""
    return storage_dtype(element_type(type)).numpy
