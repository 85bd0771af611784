"""Opens a page in Debian's Chromium, driven by Playwright: one process, no network, and an account of what it did."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
INSTALL = "apt-get update && apt-get install -y --no-install-recommends chromium"
QUIET = ("gpu", "background-networking", "component-update", "sync")  # what Chromium shall not use or do
WIDE, NARROW = 1280, 390  # px: a desktop, a telephone
OWN = ("file:", "data:", "about:")  # where a page of one file may read


class Opened(NamedTuple):
    """A page and what it did.

    said       warnings and errors of its console, and exceptions of its scripts
    requested  addresses that it asked for beyond its own file; none of them was answered
    """

    page: Page
    said: list[str]
    requested: list[str]

    def open_details(self) -> None:
        """Open all that a reader can open."""
        self.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")


@contextmanager
def chromium() -> Iterator[Browser]:
    """One process of Chromium, for as long as the block runs."""
    arguments = ["--no-first-run", *(f"--disable-{what}" for what in QUIET)]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses root without it
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, *, width: int = WIDE, **more: Any) -> Iterator[Opened]:
    """Open a file in a window of this width.

    more  options of Playwright's `new_context`, such as color_scheme
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce", **more)
    found = Opened(context.new_page(), [], [])
    context.route(lambda url: not url.startswith(OWN), lambda route: route.abort())
    context.on("request", lambda asked: None if asked.url.startswith(OWN) else found.requested.append(asked.url))
    found.page.on("console", lambda line: found.said.append(line.text) if line.type in ("error", "warning") else None)
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.goto(file.resolve().as_uri())
    try:
        yield found
    finally:
        context.close()
