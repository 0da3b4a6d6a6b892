"""Records of the trace: words and back, with and without geometry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.isa.trace_format import (
    MAX_CYCLES,
    MAX_STRIDE_BYTES,
    MAX_STRIDED,
    NO_COMPUTE,
    RECORD_WORDS,
    Extent,
    Kind,
    Record,
    unpack,
)

FEW = st.sampled_from([0, 1, 300, MAX_STRIDED, MAX_STRIDED + 1, MAX_CYCLES])


@st.composite
def records(draw):
    computes = draw(st.booleans())
    count, plane = draw(st.sampled_from([1, 2, 7, MAX_STRIDED, MAX_STRIDED + 1])), draw(st.sampled_from([1, 1, 3]))
    size = draw(st.sampled_from([1, 64]))
    stride = draw(st.sampled_from([-MAX_STRIDE_BYTES - 2, -MAX_STRIDE_BYTES - 1, -64, 0, 4096, MAX_STRIDE_BYTES + 1]))
    return Record(
        draw(st.sampled_from([Kind.LOAD, Kind.STORE])),
        size * count * plane,
        draw(st.sampled_from([0, 1 << 47, (1 << 48) - 1])),
        scalar_cycles=draw(FEW),
        compute_cycles=draw(FEW) if computes else 0,
        compute_head=draw(FEW) if computes else NO_COMPUTE,
        extent=draw(st.sampled_from([None, Extent(size, count, stride, plane, 1 << 40 if plane > 1 else 0)])),
        instruction=draw(st.sampled_from([0, 9, (1 << 16) - 1])),
    )


@given(st.lists(records(), max_size=5))
def test_words_say_what_records_are(given_records):
    words = [word for record in given_records for word in record.words()]
    assert all(-(1 << 63) <= word < 1 << 63 for word in words)
    assert list(unpack(words)) == given_records


@pytest.mark.parametrize(
    ("changed", "size"),
    [
        ({}, 1),
        ({"compute_cycles": 1028, "compute_head": 1317}, 1),
        ({"compute_cycles": MAX_STRIDED, "compute_head": MAX_STRIDED, "scalar_cycles": MAX_STRIDED}, 1),
        ({"scalar_cycles": MAX_STRIDED + 1}, 2),
        ({"compute_cycles": MAX_STRIDED + 1, "compute_head": 5}, 2),
        ({"compute_cycles": 5, "compute_head": MAX_STRIDED + 1}, 2),
        ({"compute_head": 0}, 2),
        ({"extent": Extent(64, 8, -(1 << 31))}, 1),
        ({"extent": Extent(64, 8, 1 << 31)}, 2),
        ({"extent": Extent(64, 4, 128, 2, 4096)}, 2),
        ({"extent": Extent(64, MAX_STRIDED + 1, 128), "amount": 64 * (MAX_STRIDED + 1)}, 2),
    ],
)
def test_a_record_holds_a_geometry_of_one_plane_that_fits(changed, size):
    record = Record(**{"kind": Kind.LOAD, "amount": 512, "extent": Extent(64, 8, 4096)} | changed)
    assert len(record.words()) == size * RECORD_WORDS
    assert list(unpack(record.words())) == [record]
