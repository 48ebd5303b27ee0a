# SPDX-License-Identifier: Apache-2.0
"""A real browser, and what no page may do in it: ask for anything, complain of anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bgrep_demo.browser import FLAGS, chromium
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""
_SECONDS = 30


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, this machine's own. Not a session's: while it runs, no test can have an event loop."""
    expect.set_options(timeout=_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """Opens galleries, and remembers what they did."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self._pages: list[Page] = []
        self.complaints: list[str] = []
        self.asked: list[str] = []

    def open(self, page: Path | str, fragment: str = "", **context: Any) -> Page:
        """Open a gallery in a context of its own.

        :param context: Playwright's, such as ``color_scheme`` or ``viewport``.
        """
        given = {"viewport": {"width": 1400, "height": 1000}, **context}
        self._contexts.append(self._browser.new_context(**given))
        opened = self._contexts[-1].new_page()
        opened.set_default_timeout(_SECONDS * 1000)
        opened.add_init_script(_WATCH)
        opened.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        opened.on("pageerror", lambda error: self.complaints.append(str(error)))
        opened.on("request", self._note)
        opened.goto((page.as_uri() if isinstance(page, Path) else page) + fragment, wait_until="commit")
        self._pages.append(opened)
        if context.get("java_script_enabled", True):
            expect(opened.locator("#count")).not_to_be_empty()
        return opened

    def _note(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.asked.append(request.url)

    def close(self) -> None:
        """Close them all; nothing may have been held back by a page's policy."""
        for page in self._pages:
            self.complaints += page.evaluate("window.violations") if page.url != "about:blank" else []
        for context in self._contexts:
            context.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """A visitor who expects the galleries to ask for nothing, and to complain of nothing."""
    visitor = Visitor(browser)
    yield visitor
    visitor.close()
    assert visitor.complaints == []
    away = [url for url in visitor.asked if not url.startswith(("file://", "http://127.0.0.1:"))]
    assert away == []


@pytest.fixture
def visit(visitor: Visitor) -> Callable[..., Page]:
    """Opens a gallery: ``visit(page, "#status=flagged", color_scheme="dark")``."""
    return visitor.open
