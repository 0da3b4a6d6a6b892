"""A real browser for the tests of pages: Debian's Chromium, without a window and without a network."""

import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

# Where it is set to "required", as in CI, a missing browser fails the tests.
BROWSER_VARIABLE = "MLUTRITON_BROWSER"


@pytest.fixture(scope="session")
def browser():
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        reason = "the tests of pages need Chromium: make browser, or apt-get install chromium chromium-driver"
        if os.environ.get(BROWSER_VARIABLE) == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    options = Options()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()
