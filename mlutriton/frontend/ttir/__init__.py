"""TTIR, Triton's intermediate text, as a tree of operations."""

from __future__ import annotations

from mlutriton.frontend.ttir.generic import GenericParser
from mlutriton.frontend.ttir.pretty import PrettyParser
from mlutriton.frontend.ttir.tree import TtirModule


def parse_ttir(text: str) -> TtirModule:
    """Parses the text of a module, ``str(module)`` or ``module.str_nodebug()``, in either form of MLIR.

    Raises:
        CompileError: E0204, a line does not follow the syntax known here.
    """
    is_generic = f"\n{GenericParser.MODULE}" in f"\n{text}"
    return (GenericParser if is_generic else PrettyParser)(text).module()
