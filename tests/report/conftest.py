from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0


class Browser:
    """A real Chromium without a window."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, *, width: int = 1280, dark: bool = False, is_phone: bool = False) -> Browser:
        """Load a page and wait until its scripts are done (a page without scripts: until it is loaded)."""
        run = self.driver.execute_cdp_cmd
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": is_phone}
        run("Emulation.setDeviceMetricsOverride", size)
        scheme = "dark" if dark else "light"
        run("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self.driver.get_log("browser")  # what an earlier page said
        self.driver.get(path.absolute().as_uri())
        if self.js("return document.getElementById('data') !== null"):
            self.until(lambda: self.js("return document.documentElement.dataset.ready !== undefined"))
        return self

    def js(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"it did not happen in time; the console says {self.complaints()}"
            time.sleep(0.02)

    def complaints(self) -> list[str]:
        """What the console holds: errors, warnings, violations of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector))

    def show(self, selector: str) -> None:
        """Scroll there, so that what is drawn when it is seen gets drawn."""
        self.js("document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})", selector)

    def chart(self, name: str) -> None:
        """Scroll to a chart and wait for it."""
        self.show(f"#{name}")
        self.until(lambda: self.js("return document.querySelector(`#${arguments[0]} svg`) !== null", name))

    def column(self, title: str) -> list[str]:
        """What a column of the table shows, of the rows that are drawn."""
        at = self.js(
            "return [...document.querySelectorAll('.tabulator-col')].find((c) => c.textContent.trim() === arguments[0])"
            ".getAttribute('tabulator-field')",
            title,
        )
        return self.texts(f".tabulator-row .tabulator-cell[tabulator-field='{at}']")

    def choose(self, select: str, *, key: str | None = None, number: int = 0) -> None:
        """Take an option of a drop-down by its key, or by its number."""
        self.js(
            "const [id, key, number] = arguments, select = document.getElementById(id);"
            "if (key === null) select.selectedIndex = number; else select.value = key;"
            "select.dispatchEvent(new Event('change'))",
            select,
            key,
            number,
        )

    def dots(self, chart: str, count: int) -> list[tuple[float, float]]:
        """Where the first dots of a chart lie, in its own units: from the left, from the top."""
        found = self.js(
            "return [...document.querySelectorAll(`#${arguments[0]} [aria-label=dot] circle`)]"
            ".map((c) => [+c.getAttribute('cx'), +c.getAttribute('cy')])",
            chart,
        )
        assert len(found) >= count
        return [(x, y) for x, y in found[:count]]

    def rows(self, selector: str) -> list[list[str]]:
        """The texts of the cells of a plain table's rows."""
        found = self.js(
            "return [...document.querySelectorAll(arguments[0])].map((r) => [...r.children].map((c) => c.textContent))",
            selector,
        )
        return [[str(cell) for cell in row] for row in found]

    def hover(self, selector: str) -> None:
        from selenium.webdriver import ActionChains

        self.show(selector)
        ActionChains(self.driver).move_to_element(self.find(selector)).perform()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(word)
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_page_load_timeout(PATIENCE_S)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Browser:
    return Browser(chromium)
