"""One headless Chromium for all these tests. Where there is none they are skipped; in CI they fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.browser.looking import Browser

MISSING = (
    "no browser to look at pages with: `chromium` and `chromedriver` are needed on the path, on Debian "
    "`apt-get install --no-install-recommends chromium chromium-driver`"
)


@pytest.fixture(scope="session")
def chrome() -> Iterator[webdriver.Chrome]:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",  # as root there is none
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture
def look(chrome: webdriver.Chrome, tmp_path: Path) -> Callable[..., Browser]:
    """Opens a page, which is a file of its own, at a width in pixels."""

    def open_(html: str, width: int, *, dark: bool = False) -> Browser:
        file = tmp_path / "index.html"
        file.write_text(html, "utf-8")
        return Browser.at(chrome, file.as_uri(), width, dark=dark)

    return open_
