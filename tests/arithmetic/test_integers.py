"""Integer operations against Python's own integers: exhaustive on i8, drawn on the wider types."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.arithmetic import OPERATIONS, evaluate
from mlutriton.dtypes import I1, I8, I16, I32, I64, DType


def unsigned(x: int, bits: int) -> int:
    return x & ((1 << bits) - 1)


def signed(x: int, bits: int) -> int:
    return (x + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def divide(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


# Operands are signed; those that read them as unsigned say so. The result is wrapped afterwards.
BINARY: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, n: a + b,
    "sub": lambda a, b, n: a - b,
    "mul": lambda a, b, n: a * b,
    "mulhs": lambda a, b, n: a * b >> n,
    "mulhu": lambda a, b, n: unsigned(a, n) * unsigned(b, n) >> n,
    "sdiv": lambda a, b, n: divide(a, b) if b else -1,
    "udiv": lambda a, b, n: unsigned(a, n) // unsigned(b, n) if b else -1,
    "srem": lambda a, b, n: a - b * divide(a, b) if b else a,
    "urem": lambda a, b, n: unsigned(a, n) % unsigned(b, n) if b else a,
    "and": lambda a, b, n: a & b,
    "or": lambda a, b, n: a | b,
    "xor": lambda a, b, n: a ^ b,
    "shl": lambda a, b, n: a << unsigned(b, n) if unsigned(b, n) < n else 0,
    "lshr": lambda a, b, n: unsigned(a, n) >> min(unsigned(b, n), n),
    "ashr": lambda a, b, n: a >> min(unsigned(b, n), n),
    "smin": lambda a, b, n: min(a, b),
    "smax": lambda a, b, n: max(a, b),
    "umin": lambda a, b, n: min(unsigned(a, n), unsigned(b, n)),
    "umax": lambda a, b, n: max(unsigned(a, n), unsigned(b, n)),
}
COMPARISONS: dict[str, Callable[[int, int, int], bool]] = {
    "eq": lambda a, b, n: a == b,
    "ne": lambda a, b, n: a != b,
    "slt": lambda a, b, n: a < b,
    "sle": lambda a, b, n: a <= b,
    "sgt": lambda a, b, n: a > b,
    "sge": lambda a, b, n: a >= b,
    "ult": lambda a, b, n: unsigned(a, n) < unsigned(b, n),
    "ule": lambda a, b, n: unsigned(a, n) <= unsigned(b, n),
    "ugt": lambda a, b, n: unsigned(a, n) > unsigned(b, n),
    "uge": lambda a, b, n: unsigned(a, n) >= unsigned(b, n),
}
I8_VALUES = np.arange(-128, 128, dtype=np.int8)


def test_every_binary_integer_operation_has_a_reference() -> None:
    binary = {n for n, o in OPERATIONS.items() if o.domain in ("int", "bits") and o.arity == 2}
    assert binary == BINARY.keys() | COMPARISONS.keys()


@pytest.mark.parametrize("name", BINARY)
def test_binary_operations_on_all_pairs_of_i8(name: str) -> None:
    result = evaluate(name, I8_VALUES[:, None], I8_VALUES[None, :], dtype=I8)
    expected = [[signed(BINARY[name](a, b, 8), 8) for b in range(-128, 128)] for a in range(-128, 128)]
    np.testing.assert_array_equal(result, np.array(expected))


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_of_all_pairs_of_i8(name: str) -> None:
    result = evaluate(name, I8_VALUES[:, None], I8_VALUES[None, :], dtype=I8)
    expected = [[COMPARISONS[name](a, b, 8) for b in range(-128, 128)] for a in range(-128, 128)]
    np.testing.assert_array_equal(result, np.array(expected))


def numbers(bits: int) -> st.SearchStrategy[int]:
    least = -(1 << (bits - 1))
    edges = [least, least + 1, -1, 0, 1, bits - 1, bits, -least - 1]
    return st.one_of(st.sampled_from(edges), st.integers(least, -least - 1), st.integers(-300, 300))


@pytest.mark.parametrize("dtype", [I16, I32, I64])
@given(data=st.data())
def test_binary_operations_and_comparisons_on_wider_integers(dtype: DType, data: st.DataObject) -> None:
    bits = dtype.bits
    a, b = data.draw(numbers(bits)), data.draw(numbers(bits))
    for name, reference in BINARY.items():
        assert evaluate(name, a, b, dtype=dtype) == signed(reference(a, b, bits), bits), name
    for name, compare in COMPARISONS.items():
        assert evaluate(name, a, b, dtype=dtype) == compare(a, b, bits), name
    assert evaluate("iabs", a, dtype=dtype) == signed(abs(a), bits)


@pytest.mark.parametrize(
    ("name", "table"), [("and", 0b1000), ("or", 0b1110), ("xor", 0b0110), ("eq", 0b1001), ("ne", 6)]
)
def test_logic_on_i1(name: str, table: int) -> None:
    for a in (False, True):
        for b in (False, True):
            assert evaluate(name, a, b, dtype=I1) == bool(table >> (2 * a + b) & 1)


def test_iabs_on_all_i8() -> None:
    expected = [signed(abs(x), 8) for x in range(-128, 128)]
    np.testing.assert_array_equal(evaluate("iabs", I8_VALUES, dtype=I8), expected)


@pytest.mark.parametrize("to", [I16, I32, I64])
def test_widening_and_narrowing(to: DType) -> None:
    sign_extended, zero_extended = (evaluate(name, I8_VALUES, dtype=I8, to=to) for name in ("sext", "zext"))
    np.testing.assert_array_equal(sign_extended, np.arange(-128, 128))
    np.testing.assert_array_equal(zero_extended, np.arange(-128, 128) & 255)
    for wide in (sign_extended, zero_extended):
        np.testing.assert_array_equal(evaluate("trunc_int", wide, dtype=to, to=I8), I8_VALUES)
        np.testing.assert_array_equal(evaluate("trunc_int", wide, dtype=to, to=I1), I8_VALUES & 1 == 1)


def test_casts_of_i1_read_as_signed_or_unsigned() -> None:
    mask = np.array([False, True])
    np.testing.assert_array_equal(evaluate("sext", mask, dtype=I1, to=I32), [0, -1])
    np.testing.assert_array_equal(evaluate("zext", mask, dtype=I1, to=I32), [0, 1])
