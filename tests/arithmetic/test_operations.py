"""The table: who accepts what, results have the promised type, and swapping commutative operands changes nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.arithmetic import FUNCTIONS, OPERATIONS, Operation, evaluate
from mlutriton.dtypes import ALL, F8E4M3, F16, F32, F64, I1, I8, I32, I64, DType

SIGNATURES = [
    (operation, dtype, to)
    for operation in OPERATIONS.values()
    for dtype in ALL
    for to in (ALL if operation.is_cast else (None,))
    if operation.accepts(dtype, to)
]


def patterns(dtype: DType, size: int) -> np.ndarray:
    generator = np.random.default_rng(size)
    if dtype is I1:
        return generator.integers(0, 2, size).astype(np.bool_)
    return np.frombuffer(generator.bytes(size * dtype.bytes), dtype.numpy)


@pytest.mark.parametrize(("operation", "dtype", "to"), SIGNATURES, ids=lambda x: getattr(x, "name", "-"))
def test_every_operation_gives_its_type_and_shape_on_every_type_it_accepts(
    operation: Operation, dtype: DType, to: DType | None
) -> None:
    types = (I1, dtype, dtype) if operation.name == "select" else (dtype,) * operation.arity
    arrays = [patterns(t, 60 + i)[:60].reshape(3, 20) for i, t in enumerate(types)]
    result = evaluate(operation.name, *arrays, dtype=dtype, to=to)
    assert result.dtype == operation.result_type(dtype, to).numpy
    assert result.shape == (3, 20)
    for lane in ((0, 0), (2, 19)):
        alone = evaluate(operation.name, *(array[lane] for array in arrays), dtype=dtype, to=to)
        assert alone.shape == ()
        np.testing.assert_array_equal(alone.astype(np.float64), result[lane].astype(np.float64))


@pytest.mark.parametrize(
    ("name", "dtype", "to", "accepted"),
    [
        ("add", I1, None, False),
        ("and", I1, None, True),
        ("add", F32, None, False),
        ("fadd", F8E4M3, None, True),
        ("fadd", F32, F32, False),
        ("sext", I1, I32, True),
        ("sext", I32, I32, False),
        ("trunc_int", I32, I1, True),
        ("trunc_int", I8, I32, False),
        ("bitcast", F64, I64, True),
        ("bitcast", F64, I32, False),
        ("fpcast", F16, F32, True),
        ("fpcast", F16, I32, False),
        ("fpcast", F16, None, False),
        ("select", I1, None, True),
    ],
)
def test_accepts(name: str, dtype: DType, to: DType | None, accepted: bool) -> None:
    assert OPERATIONS[name].accepts(dtype, to) is accepted


def test_what_is_not_defined_is_refused() -> None:
    with pytest.raises(TypeError, match="add is not defined on 2 operands of f32"):
        evaluate("add", 1.0, 2.0, dtype=F32)
    with pytest.raises(TypeError, match="not defined on 1 operands"):
        evaluate("add", 1, dtype=I32)
    with pytest.raises(TypeError, match="array of int64"):
        evaluate("add", np.arange(3), 1, dtype=I32)
    with pytest.raises(KeyError):
        evaluate("frobnicate", 1, dtype=I32)


def test_functions_are_the_special_operations_but_the_square_root() -> None:
    special = {name for name, operation in OPERATIONS.items() if operation.cost_class == "special"}
    assert set(FUNCTIONS) == special - {"sqrt"}


def test_python_numbers_wrap_to_the_type() -> None:
    assert evaluate("add", 0xFFFFFFFF, 2, dtype=I32) == 1
    assert evaluate("ult", 1, 0xFFFFFFFF, dtype=I32)
    assert not evaluate("slt", 1, 0xFFFFFFFF, dtype=I32)


COMMUTATIVE = [
    (operation, dtype)
    for operation, dtype, _ in SIGNATURES
    if operation.commutative and dtype in (I1, I8, I64, F16, F64)
]


@given(st.sampled_from(COMMUTATIVE), st.binary(min_size=24, max_size=24))
def test_commutative_operations_are_bit_for_bit(signature: tuple[Operation, DType], raw: bytes) -> None:
    operation, dtype = signature
    if dtype is I1:
        operands = [np.asarray(byte & 1 == 1) for byte in raw[: operation.arity]]
    else:
        operands = list(np.frombuffer(raw, dtype.numpy)[: operation.arity])
    swapped = [operands[1], operands[0], *operands[2:]]
    one, other = (evaluate(operation.name, *order, dtype=dtype) for order in (operands, swapped))
    assert one.tobytes() == other.tobytes() or (np.isnan(one) and np.isnan(other))


@pytest.mark.parametrize("name", [n for n, o in OPERATIONS.items() if o.commutative and o.domain == "float"])
def test_commutative_operations_on_zeros_of_either_sign(name: str) -> None:
    third = (1.0,) * (OPERATIONS[name].arity - 2)
    one, other = evaluate(name, 0.0, -0.0, *third, dtype=F32), evaluate(name, -0.0, 0.0, *third, dtype=F32)
    assert one.tobytes() == other.tobytes()
