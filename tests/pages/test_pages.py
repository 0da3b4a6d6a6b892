"""Pages open in a browser: nothing is missing, nothing is fetched, and links lead to the lines that they name."""

import base64
import gzip
import json
import re

import pytest
from selenium.webdriver.common.by import By
from typer.testing import CliRunner

from mlutriton import configuration
from mlutriton.cli.main import app

SCRIPT = '''
import numpy as np

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def softmax(out, x, columns, BLOCK: tl.constexpr):
    """Rows of <x> & no more."""
    row = tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row + column, mask=mask, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row + column, powers / tl.sum(powers, axis=0), mask=mask)


@mlu.jit
def turned(out, x, rows, columns, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tile = tl.load(x + i[:, None] * columns + j[None, :])
    tl.store(out + j[:, None] * rows + i[None, :], tl.trans(tile))


@mlu.jit
def product(c, a, b, size, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, size, BLOCK):
        inner = start + tl.arange(0, BLOCK)
        left = tl.load(a + i[:, None] * size + inner[None, :])
        total += tl.dot(left, tl.load(b + inner[:, None] * size + j[None, :]))
    tl.store(c + i[:, None] * size + j[None, :], total.to(tl.float16))


x = np.random.default_rng(0).random((2000, 1000), dtype=np.float32)
softmax[(2000,)](np.empty_like(x), x, 1000, BLOCK=1024)
x = np.zeros((512, 512), np.float32)
turned[(32, 32)](np.empty_like(x), x, 512, 512, BLOCK=16)
a = np.zeros((512, 512), np.float16)
product[(4, 4)](np.empty_like(a), a, a, 512, BLOCK=128)
'''


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setattr(configuration, "_current", None)
        (made / "script.py").write_text(SCRIPT)
        run("profile --html profile.html --recordings runs script.py")
        softmax, turned = (next(made.glob(f"runs/*-{kernel}.mlurun")) for kernel in ("softmax", "turned"))
        run(f"what-if {softmax} --html gains.html")
        run(f"what-if {turned} --sweep dram_bulk_latency_ns=0..800:5 --html sweep.html")
        run(f"what-if {turned} --machine mlu580 --machine mlu590-h8 --html machines-of-launch.html")
        run("machines compare mlu370-x4 mlu590-m9 mlu290 --html machines.html")
    return made


def run(command):
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0, result.output


PAGES = ("profile.html", "gains.html", "sweep.html", "machines-of-launch.html", "machines.html")


@pytest.fixture
def opened(browser, directory):
    def open_page(name):
        browser.get((directory / name).as_uri())
        return browser

    return open_page


def section(browser, kernel):
    """Selector of the part of the page that is about a kernel."""
    return browser.find_element(By.CSS_SELECTOR, "#launches").find_element(By.LINK_TEXT, kernel).get_attribute("hash")


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_wrong_and_nothing_is_fetched(opened, page):
    browser = opened(page)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.compatMode") == "CSS1Compat"
    assert browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)") == []
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("page", PAGES)
def test_plots_are_drawn(opened, page):
    plots = opened(page).find_elements(By.CSS_SELECTOR, "figure svg")
    assert plots
    for plot in plots:
        assert plot.size["width"] > 200
        assert plot.size["height"] > 50
        assert len(plot.find_elements(By.CSS_SELECTOR, "path, rect")) > 4
        assert plot.find_elements(By.CSS_SELECTOR, "text")


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_wider_than_the_page(opened, page):
    browser = opened(page)
    before = browser.get_window_size()
    try:
        for width in (1280, 600):
            browser.set_window_size(width, 1000)
            shown = browser.execute_script("return document.documentElement.clientWidth")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= shown <= width
    finally:
        browser.set_window_size(before["width"], before["height"])


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_dark_where_all_else_is(opened, page):
    browser = opened(page)
    for scheme, is_dark in (("dark", True), ("light", False)):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        style = browser.execute_script("return {...getComputedStyle(document.body)}")
        paper, ink = (sum(map(int, re.findall(r"\d+", style[name])[:3])) for name in ("backgroundColor", "color"))
        assert (paper < ink) is is_dark
        for plot in browser.find_elements(By.CSS_SELECTOR, ".plot svg"):
            assert ("invert" in plot.value_of_css_property("filter")) is is_dark


def test_what_stems_from_no_line_and_costs_nothing_is_left_out(opened):
    assert "<unknown>" not in opened("profile.html").find_element(By.TAG_NAME, "body").text


def test_every_link_leads_to_something(opened):
    browser = opened("profile.html")
    targets = browser.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].map(each => each.getAttribute('href').slice(1))"
    )
    assert len(targets) > 10
    missing = browser.execute_script("return arguments[0].filter(each => !document.getElementById(each))", targets)
    assert missing == []


def test_advice_links_to_the_line_that_it_is_about(opened):
    browser = opened("profile.html")
    link = browser.find_element(By.CSS_SELECTOR, f"{section(browser, 'turned')} .advice a")
    number = int(link.text.rpartition(":")[2])
    assert "tl." in SCRIPT.splitlines()[number - 1]
    link.click()
    row = browser.find_element(By.CSS_SELECTOR, "tr:target")
    assert row.find_elements(By.TAG_NAME, "td")[0].text == str(number)
    box = browser.execute_script("return arguments[0].getBoundingClientRect().toJSON()", row)
    assert 0 <= box["top"] < browser.execute_script("return innerHeight")
    cell = row.find_element(By.TAG_NAME, "td")
    assert cell.value_of_css_property("outline-style") == "solid"


def test_the_kernel_is_shown_as_it_is_written(opened):
    browser = opened("profile.html")
    shown = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0] + ' .source .mono')].map(each => each.textContent)",
        section(browser, "softmax"),
    )
    lines = SCRIPT.splitlines()
    first = lines.index("def softmax(out, x, columns, BLOCK: tl.constexpr):") - 1
    assert shown[:9] == lines[first : first + 9]


def test_the_waits_of_a_line_link_to_the_lines_awaited(opened):
    browser = opened("profile.html")
    links = browser.find_elements(By.CSS_SELECTOR, f"{section(browser, 'softmax')} .waits a")
    texts = {SCRIPT.splitlines()[int(link.text) - 1].strip() for link in links}
    assert any("tl.load" in text for text in texts)


def test_the_schedule_names_what_it_draws(opened):
    browser = opened("profile.html")
    titles = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0] + ' .schedule rect title')].map(each => each.textContent)",
        section(browser, "softmax"),
    )
    assert {title.split()[0] for title in titles} >= {"load", "store", "compute", "wait"}
    assert any("script.py:" in title for title in titles)


def test_the_timeline_within_the_page_is_one(opened):
    browser = opened("profile.html")
    link = browser.find_element(By.CSS_SELECTOR, f"{section(browser, 'softmax')} a[download]")
    assert link.get_attribute("download") == "softmax.json.gz"
    content = link.get_attribute("href").partition("base64,")[2]
    timeline = json.loads(gzip.decompress(base64.b64decode(content)))
    assert any(event["name"].startswith("load") for event in timeline["traceEvents"])


def test_values_that_differ_stand_out(opened):
    browser = opened("machines.html")
    rows = {
        row.find_element(By.TAG_NAME, "td").text: row for row in browser.find_elements(By.CSS_SELECTOR, "tr.differs")
    }
    assert "clock_mhz" in rows
    assert "l2_line_bytes" not in rows
    cell = rows["clock_mhz"].find_elements(By.CSS_SELECTOR, "td.number")[1]
    assert cell.text == "1,600"
    assert cell.get_attribute("title").startswith("sourced: DRV")
