"""What to write instead of what Triton does not compile."""

from __future__ import annotations

import builtins
import re
from difflib import get_close_matches

import triton.language as tl
from triton.language.extra.cuda import libdevice

# By what Triton's own message says.
_REMEDIES = {
    r"arange's arguments must be of type tl.constexpr": (
        "the bounds are integers that are known to the compiler: annotate the parameter in the def, BLOCK: tl.constexpr"
    ),
    r"range must be a power of 2|[Ss]hape .* must be a power of 2|not a power of two": (
        "round up with triton.next_power_of_2(n), and mask what is beyond: tl.load(pointer, mask=offsets < n)"
    ),
    r"'NoneType' object has no attribute|NoneType.* cannot be|unsupported ptr type None": (
        "an argument is None here: pass an array, or let the kernel ask first: if x is not None"
    ),
    # Of an array that is a constant, Triton asks the dtype what only its own types know.
    r"'(torch\.dtype|numpy\.dtypes\.\w+)' object has no attribute 'is_ptr'": (
        "a tl.constexpr parameter takes a number or a text: n.item()"
    ),
    r"'torch\.dtype' object has no attribute|'getset_descriptor' object has no attribute"
    r"|type object 'numpy\.\w+' has no attribute|'str' object has no attribute 'scalar'": (
        "the types of a kernel are those of tl: x.to(tl.float32)"
    ),
    r"'(str|function|type)' object has no attribute '(dtype|is_ptr)'": (
        "a tl.constexpr parameter with which the kernel calculates takes a number"
    ),
    r"'tuple' object has no attribute '?dtype": "an argument is a tuple here: x[0] is its first item",
    r"incompatible dimensions|[Cc]annot broadcast": (
        "tensors meet in shapes that broadcast: x[:, None] is a column, x[None, :] a row"
    ),
    r"breakpoint is not defined": "set TRITON_INTERPRET=1, under which Python itself runs the kernel",
    r"unsupported tensor index": (
        "neither tensors nor arrays are indexed: tl.load(x + index) reads an array; tl.gather, tl.reshape and tl.split"
        " take a part of a tensor"
    ),
    r"cannot cast pointer": "a pointer is stored in the place of what it points to: tl.load it first",
    r"is not string": 'the first thing to print is a text: tl.device_print("x", x)',
    r"'(List|Tuple|Name|Attribute)' object has no attribute 'func'": (
        "a loop goes over range, tl.range or tl.static_range: of a tuple, for i in tl.static_range(len(values))"
    ),
    r"Mismatched type for .* between then block|redefines it as|Loop-carried variable .* has initial type": (
        "give the variable one shape and dtype from the begin on: acc = tl.zeros((BLOCK,), tl.float32)"
    ),
    r"unsupported AST node type: (Break|Continue)": "let the condition of a while loop end it",
    r"Cannot have `return` statements inside": "let the condition of a while loop end it, or put the rest under an if",
    r"unsupported AST node type: Import": "import it at the top of the file",
    r"unsupported AST node type: Lambda": "write it as a function of its own, under @triton.jit",
    r"Mask must have boolean": "mask=x != 0",
    r"__setitem__ is not supported": (
        "make a new tensor: x = tl.where(tl.arange(0, BLOCK) == index, value, x); an array is written by"
        " tl.store(out + index, value)"
    ),
    r"Boolean value of Tensor with more than one value": (
        "each element decides for itself in tl.where(condition, a, b) or mask=condition; an if takes one number"
    ),
    r"Ternary expression with dynamic condition": "each element decides for itself in tl.where(condition, a, b)",
    r"'MatMult' is not": "tl.dot(a, b)",
    r"operand type\(s\) for \*\*": "x * x, or pow(x, y) of triton.language.extra.libdevice",
    r"comparison operator '(Not)?In' is not": "compare with each: (n == 1) | (n == 2)",
    r"real number, not '?tensor": "functions of tensors are in tl: tl.sqrt(x); a float is x.to(tl.float32)",
    r"must have type `constexpr\[int\]`": "a shape is known to the compiler: annotate the parameter, N: tl.constexpr",
    r"equal ranks >= 2|equal reduction dimensions": "a product is of (M, K) and (K, N): b.T turns b around",
    r"Unsupported (l|r)hs dtype": "the operands of a product are of int8 or of floats: a.to(tl.float32)",
    r"Both operands must be same dtype": "cast one to the other's: b.to(a.dtype)",
    r"Expected dtype \['fp32', 'fp64'\]": "cast it first: x.to(tl.float32)",
    r"exceeds triton maximum tensor numel": "go through it in parts: for start in range(0, n, BLOCK)",
    r"invalid operands of type pointer": (
        "an argument is an array here: tl.load it, or pass a number: n.item(); the offsets to it are integers"
    ),
    r"f-string containing non-constexpr": 'print text and value apart: tl.device_print("n", n)',
    r"Unsupported ptr type|unsupported pointer type|must be (a )?pointer": (
        "the argument is no pointer: pass an array, or the offsets are added to something else than one"
    ),
}

_MISSING_NAME = re.compile(r"NameError\('(\w+) is not defined'\)")
_MISSING_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")


def remedy_for(message: str) -> str | None:
    """What to write instead, as far as the message tells; None where there is nothing to add to it."""
    for pattern, remedy in _REMEDIES.items():
        if re.search(pattern, message):
            return remedy
    if found := _MISSING_NAME.search(message):
        return _remedy_for_name(found[1])
    if found := _MISSING_ATTRIBUTE.search(message):
        if found[1] in (tl.__name__, tl.math.__name__) and hasattr(libdevice, found[2]):
            return f"libdevice.{found[2]}: from triton.language.extra import libdevice"
        close = get_close_matches(found[2], dir(tl), n=1) if found[1] == tl.__name__ else []
        return f"did you mean tl.{close[0]}?" if close else None
    return None


def _remedy_for_name(name: str) -> str:
    """What to write instead of a name that a kernel does not know."""
    if hasattr(tl, name):
        return f"tl.{name}"
    if hasattr(libdevice, name):
        return f"libdevice.{name}: from triton.language.extra import libdevice"
    if hasattr(builtins, name):
        return "a kernel calls few of Python's functions: tl.static_range(len(values)) goes through a tuple"
    return "give it a value before any if or loop that does"
