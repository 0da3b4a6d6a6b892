"""What ``kernel.asm`` holds: what Triton kept of the compilation, and every later stage as text once it is asked for.

=============  ===========================================================
``ttir``       Triton's text of the kernel, after its own passes
``ir``         the tile IR, after all passes
``s``          the program, as assembly
``llir``       the LLVM IR that computes the program's values
``mluprog``    the program file
=============  ===========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlutriton.configuration import current_machine

if TYPE_CHECKING:
    from mlutriton.ir.core import Function
    from mlutriton.isa.program import Program


class StageTexts(dict[str, Any]):
    """The stages of one compiled kernel by name; a key that is none raises ``KeyError``, as for any kernel of Triton's.

    Args:
        kept: what Triton kept.
        metadata: the options that the kernel was compiled with.
    """

    def __init__(self, kept: Mapping[str, Any], metadata: Any) -> None:
        super().__init__(kept)
        self._machine = current_machine()
        self._metadata = metadata

    def __missing__(self, stage: str) -> str:
        # These load the compiler, and a kernel from the cache needs none.
        from mlutriton.codegen.llvm.translate import translate
        from mlutriton.isa.assembly import disassemble
        from mlutriton.isa.encoding import decode

        match stage:
            case "ir":
                text = self._tile_ir()
            case "s":
                text = disassemble(decode(self["mluprog"]))
            case "llir":
                text = str(translate(decode(self["mluprog"]), self._machine))
            case _:
                known = ", ".join(sorted({*self, "ir", "s", "llir"}))
                raise KeyError(f"a kernel of the MLU has no stage {stage!r}; it has {known}")
        self[stage] = text
        return text

    def _tile_ir(self) -> str:
        from mlutriton.ir.core import Function
        from mlutriton.ir.printer import print_function
        from mlutriton.pipeline import CompileOptions, compile_ttir

        text = ""

        def observe(stage: str, result: Function | Program) -> None:
            nonlocal text
            if isinstance(result, Function):
                text = print_function(result)

        options = CompileOptions(self._machine, self._metadata.num_stages, self._metadata.enable_fp_fusion)
        compile_ttir(self["ttir"], options, observe)
        return text
