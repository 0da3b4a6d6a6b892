"""What may be typed for spaces, shapes and expressions, and what each mistake is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.diagnostics import ArgumentError
from mlutriton.tune.assignments import assignments, json_objects, value_of, values_of
from mlutriton.tune.expressions import parse
from mlutriton.tune.space import Space


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("64,128,256", [64, 128, 256]),
        ("1..5", [1, 2, 3, 4, 5]),
        ("-2..1", [-2, -1, 0, 1]),
        ("0..24:8", [0, 8, 16, 24]),
        ("0..23:8", [0, 8, 16]),
        ("16..256:x2", [16, 32, 64, 128, 256]),
        ("1..3,8", [1, 2, 3, 8]),
        ("0.5,1e3", [0.5, 1000.0]),
        ("true,false,none", [True, False, None]),
        ("fast,precision", ["fast", "precision"]),
        ("1,true", [1, True]),
    ],
)
def test_values(text, values):
    assert values_of(text) == values
    assert [type(each) for each in values_of(text)] == [type(each) for each in values]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: values_of("5..1"), "the range 5..1 is empty"),
        (lambda: values_of("1..5:0"), "never ends"),
        (lambda: values_of("1..5:x1"), "never ends"),
        (lambda: values_of("0..8:x2"), "never ends"),
        (lambda: values_of("1..99999999999"), "has more than"),
        (lambda: values_of("64,,128"), "a value is missing"),
        (lambda: values_of("64,64"), "a value comes twice"),
        (lambda: assignments(["BLOCK"]), "'BLOCK' is not NAME=VALUE"),
        (lambda: assignments(["BLOCK= 3"]), "'BLOCK=' is not NAME=VALUE"),
        (lambda: assignments(["2B=3"]), "'2B=3' is not NAME=VALUE"),
        (lambda: assignments(["B=3", "B=4"]), "B is given twice: 3 and 4"),
        (lambda: json_objects("{", "--shape"), "--shape is no JSON"),
        (lambda: json_objects("[1]", "--shape"), "--shape is no list of objects"),
        (lambda: json_objects("[]", "--shape"), "--shape is no list of objects"),
        (lambda: Space.of_axes({"B": range(1 << 11), "C": range(1 << 11)}), "has 4,194,304 configurations"),
        (lambda: Space.of_axes({"B": [1, 2]}, "B > 2"), "the condition excludes all 2"),
        (lambda: Space.of_list([]), "the space has no configuration"),
        (lambda: Space.of_object(3), "3 describes no space"),
        (lambda: Space.of_object({"B": "64"}), "describes no space"),
        (lambda: Space.of_object([1]), "describes no space"),
        (lambda: parse("M +"), "'M +' is no arithmetic expression"),
        (lambda: parse("open('x')"), "is no arithmetic"),
        (lambda: parse("M.real"), "is no arithmetic"),
        (lambda: parse("[M for M in N]"), "is no arithmetic"),
        (lambda: parse("M ** 99999"), "is no arithmetic"),
        (lambda: parse("cdiv(n, BLOCKS)").value({"n": 3, "BLOCK": 4}), "BLOCKS in 'cdiv(n, BLOCKS)' has no value"),
        (lambda: parse("n // m").value({"n": 3, "m": 0}), "has no value"),
        (lambda: parse("n + m").value({"n": 3, "m": "a"}), "has no value"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(ArgumentError, match="E0502") as told:
        make()
    assert message in told.value.summary


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("cdiv(M, 64) * cdiv(N, 128)", 3 * 1),
        ("cdiv(M, 64), N", (3, 100)),
        ("max(M, N) - min(M, N)", 29),
        ("next_power_of_2(N)", 128),
        ("M % 4 == 1 and not N > 200", True),
        ("1 < M < 5 or N", 100 and True),
        ("M if N else 0", 129),
        ("-M // 2 << 1", -130),
        ("dtype == 'fp16'", True),
    ],
)
def test_expressions(text, value):
    assert parse(text).value({"M": 129, "N": 100, "dtype": "fp16"}) == value


@given(st.integers(-(2**40), 2**40), st.integers(1, 2**20))
def test_cdiv_rounds_up(dividend, divisor):
    found = parse("cdiv(a, b)").value({"a": dividend, "b": divisor})
    assert (found - 1) * divisor < dividend <= found * divisor


def test_axes_are_multiplied_and_conditions_exclude():
    space = Space.of_texts(["A=1,2", "B=1..3"], "A * B <= 3")
    assert list(space.configurations) == [
        {"A": 1, "B": 1},
        {"A": 1, "B": 2},
        {"A": 1, "B": 3},
        {"A": 2, "B": 1},
    ]
    assert space.excluded == 2
    assert space.names == ("A", "B")
    assert Space.of_object({"A": [1, 2], "B": range(1, 4), "where": lambda A, B: A * B <= 3}).configurations == (
        space.configurations
    )


def test_lists_lose_what_repeats():
    assert Space.of_object([{"A": 1}, {"A": 2}, {"A": 1}]).configurations == ({"A": 1}, {"A": 2})


def test_words_have_their_values():
    assert [value_of(text) for text in ("4096", "fp16", "None", "1.5")] == [4096, "fp16", None, 1.5]
