"""A real browser that visits pages and remembers what a user would never see: console errors, requests to other sites."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, async_playwright

# Without these Chromium talks to its maker at every start; a test machine has no way there.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",  # as for a site that the user plays videos on often
]


def chromium_path() -> str:
    """Chromium at `CHROMIUM`, at Debian's place or on the PATH. Skips the test without one, or fails where all must run."""
    named = os.environ.get("CHROMIUM")
    for candidate in (named, "/usr/bin/chromium", shutil.which("chromium"), shutil.which("chromium-browser")):
        if candidate and Path(candidate).is_file():
            return candidate
    reason = "no Chromium: install the package `chromium` (Debian, Ubuntu, Fedora), or name the program in CHROMIUM"
    if os.environ.get("HEADWATER_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


def is_local(url: str) -> bool:
    """Whether a request stays on this machine's loopback, as all of a lab does."""
    parts = urlsplit(url)
    if parts.scheme in ("blob", "data", "about"):
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


@dataclass
class Visit:
    """One page and all that it did. `expected` are patterns of console errors that the test brings about itself."""

    page: Page
    wrong: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    expected: list[re.Pattern[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))
        self.page.on("request", self._request)

    def expect(self, pattern: str) -> None:
        """Console errors that match are no fault: a dead node's refused connection, say, which the browser itself reports."""
        self.expected.append(re.compile(pattern))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning") or any(pattern.search(message.text) for pattern in self.expected):
            return
        self.wrong.append(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        if not is_local(request.url):
            self.wrong.append(f"request to another site: {request.url}")

    async def look(self, expression: str) -> Any:
        """A JavaScript expression's value, or None while the page is on its way to another one."""
        try:
            return await self.page.evaluate(expression)
        except Error as error:
            if "context was destroyed" in str(error):
                return None
            raise

    async def until(self, expression: str, timeout_s: float = 30.0) -> Any:
        """The expression's value once it is true. Asked from outside: the pages' policy forbids eval inside."""
        end = time.monotonic() + timeout_s
        while not (value := await self.look(expression)):
            if time.monotonic() > end:
                text = await self.look("document.body.innerText")
                raise AssertionError(f"never true: {expression}; the page says:\n{text}\nwrong: {self.wrong}")
            await asyncio.sleep(0.05)
        return value

    async def text(self, selector: str) -> str:
        return (await self.page.inner_text(selector)).strip()

    async def picture(self, name: str) -> None:
        """A screenshot into the folder `HEADWATER_SCREENSHOTS`, when it is set."""
        if folder := os.environ.get("HEADWATER_SCREENSHOTS"):
            await self.page.screenshot(path=Path(folder) / f"{name}.png")

    async def has_sideways_scroll(self) -> bool:
        return bool(await self.look("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


DESKTOP: dict[str, Any] = {"viewport": {"width": 1360, "height": 860}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


@asynccontextmanager
async def visiting(browser: Browser, **options: Any) -> AsyncIterator[Visit]:
    """A page in a context of its own. Whatever went wrong on it fails the test at the end."""
    context: BrowserContext = await browser.new_context(**(options or DESKTOP))
    try:
        visit = Visit(await context.new_page())
        yield visit
        assert not visit.wrong, "\n".join(visit.wrong)
    finally:
        await context.close()
