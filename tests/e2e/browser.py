"""Chromium for tests: pages of an Airflow opened as a user, with what went wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.ui.sources import missing

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
TIMEOUT_MS = 60_000
ZONE = "Europe/Berlin"
expect.set_options(timeout=TIMEOUT_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; without it the test is skipped, in CI it fails."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        missing("chromium was not found")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def signed_in(browser: Browser, address: str, token: str, **options: Any) -> BrowserContext:
    """A context with a user's cookie, in a zone that is not UTC."""
    settings: dict[str, Any] = {
        "viewport": {"width": 1280, "height": 900},
        "locale": "en-GB",
        "timezone_id": ZONE,
    }
    context = browser.new_context(**settings | options)
    context.set_default_timeout(TIMEOUT_MS)
    host = address.split("/")[2].split(":")[0]
    context.add_cookies([{"name": "_token", "value": token, "domain": host, "path": "/"}])
    return context


def visit(page: Page, url: str) -> None:
    """Go to an address and wait until our part of it is there; Airflow's own scripts are loaded only once."""
    if page.url == "about:blank":
        page.goto(url)
    else:
        page.evaluate(
            "url => { history.pushState({}, '', url); dispatchEvent(new PopStateEvent('popstate')) }",
            url,
        )
        page.wait_for_timeout(100)
    settle(page)


def open_page(context: BrowserContext, url: str) -> tuple[Page, list[str]]:
    """Open an address in the context's one page; return it, and the errors that it makes from now on."""
    page = context.pages[0] if context.pages else context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
    visit(page, url)
    return page, errors


def settle(page: Page) -> None:
    """Wait until our part of the page is there and loads nothing."""
    page.wait_for_selector("[data-detection]")
    page.wait_for_load_state("networkidle")
    expect(page.locator("[data-detection] .chakra-spinner")).to_have_count(0)
