"""A run is shown in notebooks as HTML that says what its text says."""

from html.parser import HTMLParser

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.simulator.report_html import report_html


@mlu.jit
def double(x, BLOCK: tl.constexpr):
    place = x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(place, 2 * tl.load(place))


class Reader(HTMLParser):
    """Text of a piece of HTML, the tags that are open, and the names of all tags."""

    def __init__(self):
        super().__init__()
        self.text, self.open, self.tags = "", [], set()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(text):
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    return reader


def test_the_report_is_there_and_whole():
    run = double[(96,)](np.ones(96 * 1024, np.float32), BLOCK=1024)
    shown = read(run._repr_html_())
    for line in str(run).splitlines()[1:]:
        assert " ".join(line[17:].split()) in shown.text
    assert str(run).splitlines()[0] in shown.text
    assert not shown.tags & {"script", "style", "link", "img", "iframe"}


def test_what_it_is_given_is_text_not_tags():
    shown = read(report_html("<a> & b", [("x<y", "1 < 2")], [("<i>", 1.0)]))
    assert "<a> & b" in shown.text
    assert "1 < 2" in shown.text
    assert "<i> 100%" in shown.text
    assert "i" not in shown.tags
