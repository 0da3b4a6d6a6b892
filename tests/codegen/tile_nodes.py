"""Nodes of tile code that are written as assembly, as they are and as a pass leaves them."""

from mlutriton.codegen.tile_code import TileBuffer, TileCode
from mlutriton.isa.assembly import assemble

_NAMES = "abcdegh"
HEADER = ".program p\n.isa 592\n.registers 4\n" + "".join(
    f".buffer {name} nram {4096 * place} 4096\n" for place, name in enumerate(_NAMES)
)


def instructions(body):
    """The instructions of a body, on buffers of 4096 bytes each."""
    return list(assemble(f"{HEADER}{body}\n exit").instructions[:-1])


def rewritten(body, run):
    """What a pass over tile code makes of a body."""
    buffers = {name: TileBuffer(name, "nram", 4096) for name in _NAMES}
    code = TileCode("p", instructions(body), buffers, 4, [], set())
    run(code)
    return code.nodes
