"""Places of buffers on chip: what is alive at once lies apart, and what does not fit is refused with its bill."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.codegen.allocate import allocate
from mlutriton.codegen.tile_code import Loop, TileBuffer, TileCode
from mlutriton.diagnostics import OnChipMemoryError
from mlutriton.dtypes import I64
from mlutriton.isa.operands import Address, Immediate, Register
from tests.codegen.tile_nodes import instructions

NAMES = "abcdegh"
LIMIT_BYTES = 1024
ADD, COPY = "v.fadd.f32 [{}], [{}], [{}], 1, 16", "v.fpcast.bf16.f32 [{}], [{}], 1, 16"


def code_of(nodes, sizes):
    buffers = {name: TileBuffer(name, "nram", size) for name, size in zip(NAMES, sizes, strict=True)}
    return TileCode("p", nodes, buffers, 4, [], set())


@st.composite
def bodies(draw):
    """Instructions that read what was written before them, some of them in a loop."""
    written, body = {"a"}, ["v.mov.f32 [a], 0.0, 1, 16"]
    for _ in range(draw(st.integers(1, 14))):
        one, other = (draw(st.sampled_from(sorted(written))) for _ in range(2))
        result = draw(st.sampled_from(NAMES))
        body.append(draw(st.sampled_from([ADD.format(result, one, other), COPY.format(result, one)])))
        written.add(result)
    nodes = instructions("\n".join(body))
    begin, end = sorted(draw(st.tuples(*[st.integers(0, len(nodes))] * 2)))
    loop = Loop(I64, Register(0), Immediate(0), Immediate(2), Immediate(1), [], nodes[begin:end])
    return [*nodes[:begin], loop, *nodes[end:]]


@given(bodies(), st.lists(st.sampled_from([64, 128, 192, 256]), min_size=7, max_size=7))
def test_what_is_read_is_what_was_written(nodes, sizes):
    code = code_of(nodes, sizes)
    try:
        places = allocate(code, {"nram": LIMIT_BYTES})
    except OnChipMemoryError:
        return
    owners = [""] * (LIMIT_BYTES // 64)
    unrolled = [each for node in nodes for each in (node.body * 2 if isinstance(node, Loop) else [node])]
    for instruction in unrolled:
        target, *sources = (
            (each.buffer, range(place.offset_bytes // 64, (place.offset_bytes + place.bytes) // 64))
            for each in instruction.operands
            if isinstance(each, Address)
            for place in [places[each.buffer]]
        )
        assert all(owners[granule] == name for name, granules in sources for granule in granules)
        for granule in target[1]:
            owners[granule] = target[0]


def test_what_is_refused_is_told_by_what_is_alive_at_once():
    body = [COPY.format("b", "a"), COPY.format("c", "b"), ADD.format("e", "c", "d"), "red.fadd.f32 [g], [e], 1, 16, 1"]
    code = code_of(instructions("\n".join(body)), [64, 128, 512, 640, 64, 64, 64])
    with pytest.raises(OnChipMemoryError, match=r"need 1,152 bytes of NRAM, .* a program 1,024") as caught:
        allocate(code, {"nram": LIMIT_BYTES})
    assert [line.split()[:3] for line in caught.value.note.splitlines()] == [
        ["640", "B", "d"],
        ["512", "B", "c"],
        ["1,152", "B", "alive"],
    ]
