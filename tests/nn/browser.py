"""A headless Chromium that opens pages from disk, and what to ask of a report in it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)

#: Formats of the page: factor, digits, whether a plus is written, unit.
FORMATS = {
    "percent": (100, 1, False, " %"),
    "percent3": (100, 3, False, " %"),
    "integer": (1, 0, False, ""),
    "fixed2": (1, 2, False, ""),
    "fixed3": (1, 3, False, ""),
    "fixed6": (1, 6, False, ""),
    "signed2": (1, 2, True, ""),
    "signed3": (1, 3, True, ""),
    "seconds": (1, 1, False, " s"),
}


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The browser; the test is skipped where it, or its driver, is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the package playwright is missing"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the report is not opened in a browser")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # which refuses root
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


class ReportPage:
    """A report in a window of the browser, with all complaints of the page."""

    def __init__(self, browser: Any, path: Any, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda said: (
                self.complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def go(self, address: str) -> None:
        """Open a page of the report by its address."""
        self.page.evaluate("address => { location.hash = address; }", f"#/{address}")
        self.page.wait_for_timeout(50)

    def heading(self) -> str:
        """The heading of the page."""
        return self.page.locator("h1").inner_text()

    def arrives_at(self, heading: str | re.Pattern[str]) -> None:
        """Wait for a page with this heading (all of it, or what a pattern finds) or fail.

        A click has ended before the page that it leads to is there.
        """
        from playwright.sync_api import expect

        expect(self.page.locator("h1")).to_have_text(heading)

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def numbers(self) -> list[tuple[str, str, str]]:
        """Place, format and text of every number in sight."""
        return self.page.evaluate(
            "[...document.querySelectorAll('[data-at]')]"
            ".map((one) => [one.dataset.at, one.dataset.format, one.textContent])"
        )

    def loaded(self) -> list[str]:
        """What was asked for beside the file itself."""
        return [url for url in self.requests if not url.startswith(("file:", "data:"))]


def written(value: float | None, style: str) -> str:
    """A number as the page should write it: rounded half away from zero, no zero below zero."""
    if value is None:
        return "-"
    factor, digits, plus, unit = FORMATS[style]
    exact = Decimal(factor * value if factor != 1 else value)
    rounded = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(rounded) if not rounded else rounded:{'+' if plus else ''}f}{unit}"


def check_numbers(report: Any, numbers: list[tuple[str, str, str]]) -> int:
    """Compare numbers of a page with those of ``report.json``; return how many there are."""
    for place, style, text in numbers:
        value = report
        for key in place.split("."):
            value = value[int(key)] if isinstance(value, list) else value.get(key)
        assert text == written(value, style), (place, value)
    return len(numbers)
