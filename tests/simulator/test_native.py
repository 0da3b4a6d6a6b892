"""Native code: the translator of restricted Python, construct by construct, and the loader with its disk cache."""

from __future__ import annotations

import ctypes
import runpy
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutriton.isa.native_interface import NativeText
from mlutriton.simulator import native
from mlutriton.simulator.native import NativeModule, cache_directory, compile_llvm
from mlutriton.simulator.replay.machine_code import IntArray, TranslationError, prefetch, translate

SCALE = 7


class Color(IntEnum):
    RED = 3


@dataclass(frozen=True)
class Pair:
    left: IntArray
    right: IntArray


# Functions of two integers that also run as machine code. Each uses one part of the subset.


def arithmetic(a: int, b: int) -> int:
    return (a + b * SCALE - Color.RED) ^ (a & b) | ~a - -b


def shifts(a: int, b: int) -> int:
    return (a << (b & 7)) + (a >> (b & 31))


def divisions(a: int, b: int) -> int:
    d = b if b else 1
    return a // d * 1000 + a % d + a // 8 - a % 16 + a // 1


def comparisons(a: int, b: int) -> int:
    return (a == b) + 2 * (a != b) + 4 * (a < b) + 8 * (a <= b) + 16 * (a > b) + 32 * (a >= b) + 64 * (-5 < a < b)


def logic(a: int, b: int) -> int:
    result = 0
    if (a > 0 and b > 0 and a > b) or not (a == -b or b > 10):
        result += 1
    if not a:
        result += 2
    elif a and b:
        result += 4
    else:
        result += 8
    return result + (not b)


def extremes(a: int, b: int) -> int:
    return min(a, b, 5) * 100 + max(a, -b)


def counting(a: int, b: int) -> int:
    total = 0
    i = 0
    for i in range(a):
        i += 3
        if i % 5 == 0:
            continue
        if total > 200:
            break
        total += i
    for j in range(b, a, 2):
        total += j
    for j in range(a, b, -3):
        total -= j
    return total + i


def looping(a: int, b: int) -> int:
    steps = 0
    while a > b:
        a -= 2
        steps += 1
    while True:
        steps += 1
        b -= 1
        if b < 0:
            return steps
        if steps > 30:
            break
    return -steps


def fibonacci(n: int) -> int:
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)


def calling(a: int, b: int) -> int:
    return fibonacci(min(max(a, 0), 10)) + logic(b, a)


def choosing(a: int, b: int) -> int:
    return (a if a > 0 else -a) + (1 if a > b and b > 0 else 2 if b else 3)


def bits(a: int, b: int) -> int:
    return a.bit_count() + 100 * b.bit_length() + 10000 * (a << 20 & -(a << 20)).bit_length()


PURE = (arithmetic, shifts, divisions, comparisons, logic, extremes, counting, looping, calling, choosing, bits)


def total_of(array: IntArray, count: int) -> int:
    total = 0
    for i in range(count):
        total += array[i]
    return total


def exchange(pair: Pair, count: int) -> None:
    for i in range(count):
        prefetch(pair.right, i + 1000)
        kept = pair.left[i]
        pair.left[i] = pair.right[count - 1 - i] + total_of(pair.right, i)
        pair.right[count - 1 - i] = kept
        pair.left[pair.right[count - 1 - i] & 1] += 1


@pytest.fixture(scope="module")
def compiled() -> NativeModule:
    return compile_llvm(translate(*PURE, exchange), cache_key=None)


@pytest.mark.parametrize("function", PURE, ids=lambda function: function.__name__)
def test_integers(function: Callable[[int, int], int], compiled: NativeModule) -> None:
    fast = compiled.function(function.__name__, [ctypes.c_int64] * 2, ctypes.c_int64)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(-40, 40) | st.integers(-(2**40), 2**40), st.integers(-40, 40))
    def agree(a: int, b: int) -> None:
        a = max(min(a, 500), -500) if function in (counting, looping) else a
        assert fast(a, b) == function(a, b)

    agree()


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=9))
def test_arrays_and_records(compiled: NativeModule, rows: list[tuple[int, int]]) -> None:
    left, right = [row[0] for row in rows], [row[1] for row in rows]
    arrays = [np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)]
    pointers = np.array([array.ctypes.data for array in arrays], dtype=np.uint64)
    compiled.function("exchange", [ctypes.c_void_p, ctypes.c_int64])(pointers.ctypes.data, len(rows))
    exchange(Pair(left, right), len(rows))
    assert [array.tolist() for array in arrays] == [left, right]


# What the subset leaves out: parameters, body, the body's line at fault (0: the function as a whole), message.
REJECTED = [
    ("a: int", "return a / 2", 1, "the operator of 'a / 2' is outside"),
    ("a: int", "b = 1\nreturn b + missing", 2, "missing is neither"),
    ("a: int", "return len(str(a))", 1, "the call 'len"),
    ("a: int", "if a:\n    return 1", 0, "a path reaches the end"),
    ("a: int", "return", 1, "declared to return int"),
    ("a: int, b: int", "return a and b", 1, "'a and b' is outside"),
    ("a: int", "b = [a]\nreturn b[0]", 1, r"'\[a\]' is outside"),
    ("a: int", "b = c = a\nreturn b", 1, "'b = c = a' is outside"),
    ("a: int", "b, c = a, a\nreturn b", 1, "outside"),
    ("a: int", "return a\na += 1", 2, "never reached"),
    ("a: int", "while a:\n    break\nelse:\n    a = 1\nreturn a", 1, "outside"),
    ("a: int", "for i in range(0, 9, a):\n    pass\nreturn a", 1, "the step of a range"),
    ("a: float", "return 1", 0, "parameter a is not int"),
    ("a: IntArray", "a = 1\nreturn 1", 1, "the array a cannot be assigned"),
    ("a: int", "a[0] = 1\nreturn 1", 1, "'a' is not an array parameter"),
    ("a: int", "return known(a, a)", 1, "known takes 1 arguments, 2 are given"),
    ("a: int", "return known(b=a)", 1, "outside"),
    ("a: int", "return silent(a)", 1, "silent returns nothing"),
]
PREAMBLE = """\
from mlutriton.simulator.replay.machine_code import IntArray


def known(b: int) -> int:
    return b


def silent(b: int) -> None:
    pass


"""


@pytest.mark.parametrize(("parameters", "body", "line", "message"), REJECTED, ids=[row[1] for row in REJECTED])
def test_outside_the_subset(tmp_path: Path, parameters: str, body: str, line: int, message: str) -> None:
    file = tmp_path / "rejected.py"
    file.write_text(f"{PREAMBLE}def rejected({parameters}) -> int:\n{textwrap.indent(body, '    ')}\n")
    namespace = runpy.run_path(str(file))
    with pytest.raises(TranslationError, match=message) as caught:
        translate(namespace["rejected"])
    head = PREAMBLE.count("\n") + 1
    assert str(caught.value).startswith(f"{file}:{head + line}: ")


# The loader.

FORTY_TWO = "define i64 @answer() {\n  ret i64 42\n}\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(native.CACHE_DIRECTORY_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def answer(module: NativeModule) -> int:
    result: int = module.function("answer", [], ctypes.c_int64)()
    return result


def never() -> str:
    raise AssertionError("the text was asked for although the cache has its machine code")


def test_second_compilation_reads_the_cache(cache: Path) -> None:
    assert answer(compile_llvm(FORTY_TWO, cache_key="key")) == 42
    assert len(list(cache.iterdir())) == 1
    assert answer(compile_llvm(never, cache_key="key")) == 42


def test_parts_of_a_program_are_kept_together(cache: Path) -> None:
    control = "declare i64 @inside()\ndefine i64 @answer() {\n  %x = call i64 @inside()\n  ret i64 %x\n}\n"
    text = NativeText(control, (FORTY_TWO.replace("@answer", "@inside"),))
    assert answer(compile_llvm(text, cache_key="key")) == 42
    assert len(list(cache.iterdir())) == 1
    assert answer(compile_llvm(never, cache_key="key")) == 42


def test_who_waits_for_a_part_compiles_it_if_its_turn_has_not_come(cache: Path) -> None:
    control = "declare i64 @inside()\ndefine i64 @answer() {\n  %x = call i64 @inside()\n  ret i64 %x\n}\n"
    text = NativeText(control, (FORTY_TWO.replace("@answer", "@inside"),))
    with native._turn:
        assert answer(compile_llvm(text, cache_key=None)) == 42


def test_what_programs_share_is_kept_once(cache: Path) -> None:
    shared = FORTY_TWO.replace("@answer", "@common")
    texts = [
        NativeText(
            f"declare i64 @common()\ndefine i64 @answer() {{\n  %x = call i64 @common()\n  %y = add i64 %x, {more}\n"
            "  ret i64 %y\n}\n",
            (),
            (shared,),
        )
        for more in range(2)
    ]
    assert [answer(compile_llvm(text, cache_key=str(key))) for key, text in enumerate(texts)] == [42, 43]
    assert len(list(cache.iterdir())) == 3
    assert [answer(compile_llvm(never, cache_key=str(key))) for key in range(2)] == [42, 43]


def test_the_key_names_the_file(cache: Path) -> None:
    compile_llvm(FORTY_TWO, cache_key="key")
    compile_llvm(FORTY_TWO, cache_key="other")
    compile_llvm(FORTY_TWO, cache_key="key")
    assert len(list(cache.iterdir())) == 2


def test_no_key_no_file(cache: Path) -> None:
    assert answer(compile_llvm(FORTY_TWO, cache_key=None)) == 42
    assert not cache.exists()


@pytest.mark.parametrize("keep_bytes", [0, 10, 40, 200])
def test_truncated_file_is_replaced(cache: Path, keep_bytes: int) -> None:
    compile_llvm(FORTY_TWO, cache_key="key")
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:keep_bytes])
    assert answer(compile_llvm(FORTY_TWO, cache_key="key")) == 42
    assert file.read_bytes() == whole


def test_flipped_bit_is_noticed(cache: Path) -> None:
    compile_llvm(FORTY_TWO, cache_key="key")
    (file,) = cache.iterdir()
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    assert answer(compile_llvm(FORTY_TWO, cache_key="key")) == 42


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv(native.CACHE_DIRECTORY_VARIABLE, str(blocker / "cache"))
    with pytest.warns(RuntimeWarning, match="is not kept in"):
        assert answer(compile_llvm(FORTY_TWO, cache_key="key")) == 42


def test_full_disk_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert answer(compile_llvm(FORTY_TWO, cache_key="key")) == 42
    assert list(cache.iterdir()) == []


def test_threads_compile_at_once(cache: Path) -> None:
    answers: list[int] = []

    def work() -> None:
        answers.extend(answer(compile_llvm(FORTY_TWO, cache_key="key")) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [42] * 20
    assert len(list(cache.iterdir())) == 1


def test_unknown_function_and_bad_text(cache: Path) -> None:
    with pytest.raises(KeyError, match="no function missing is exported"):
        compile_llvm(FORTY_TWO, cache_key=None).address("missing")
    with pytest.raises(RuntimeError):
        compile_llvm("define nonsense", cache_key="key")
    assert not cache.exists()


def test_one_look_up_finds_all_functions_of_a_table() -> None:
    more = FORTY_TWO.replace("@answer", "@other").replace("42", "43")
    table = "@both = constant [2 x ptr] [ptr @other, ptr @answer]\n"
    module = compile_llvm(FORTY_TWO + more + table, cache_key=None)
    module.find_all("both", ("other", "answer"))
    assert [module.function(name, [], ctypes.c_int64)() for name in ("answer", "other")] == [42, 43]
    assert module.address("answer") == compile_address(module, "answer")
    with pytest.raises(KeyError, match="no function none is exported"):
        module.find_all("none", ("answer",))


def compile_address(module: NativeModule, name: str) -> int:
    """The address of a function by its own look-up."""
    return int(module._toolchain.look_up(module._library, name)[name])


def test_function_outlives_its_module() -> None:
    assert compile_llvm(FORTY_TWO, cache_key=None).function("answer", [], ctypes.c_int64)() == 42


def test_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(native.CACHE_DIRECTORY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "mlutriton"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "mlutriton"


def test_importing_the_loader_does_not_import_llvm() -> None:
    code = "import sys, mlutriton.simulator.native; sys.exit('llvmlite' in sys.modules)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=300)
