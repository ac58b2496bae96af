"""The operator page in a real browser, against a running control."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from control.service import control_node
from tests.support.browser import DESKTOP, PHONE, visiting
from tests.support.controlled import Lab, answering, controlled_lab

HEALTH_OF_FRA = """[...document.querySelectorAll('.node')].find(row => row.innerText.includes('fra-1'))?.dataset.health"""


pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]


@pytest_asyncio.fixture(loop_scope="session")
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with controlled_lab(tmp_path) as lab:
        yield lab


async def test_the_page_follows_health_and_edits(browser: Browser, lab: Lab) -> None:
    async with control_node(lab.context("control")), visiting(browser) as visit:
        async with answering(lab, "fra-1"):
            await visit.page.goto(lab.url)
            await visit.until(f"{HEALTH_OF_FRA} === 'up'")
        await visit.until(f"{HEALTH_OF_FRA} === 'down'")
        lab.edit("pops.iad.wieght", 0)
        await visit.until("document.querySelector('#alerts')?.innerText.includes(\"did you mean 'weight'?\")")
        assert (await visit.text("#config")).split() == ["refused,", "1", "problem"]
        assert "set its weight: 0 in" in await visit.text("footer")


async def test_details_open_by_keyboard_and_stay_open_over_an_update(browser: Browser, lab: Lab) -> None:
    async with control_node(lab.context("control")), visiting(browser) as visit:
        await visit.page.goto(lab.url)
        await visit.until("document.querySelectorAll('.node').length === 10")
        await visit.page.keyboard.press("Tab")
        await visit.page.keyboard.press("Enter")
        opened = "document.activeElement.closest('tr').nextElementSibling"
        assert await visit.look(f"document.activeElement.getAttribute('aria-expanded') === 'true' && !{opened}.hidden")
        # `since` counts on, so a row that is down tells when an update was drawn.
        before = await visit.text("#fresh")
        await visit.until(f"document.querySelector('#fresh').innerText !== {before!r}")
        assert await visit.look(f"document.activeElement.tagName === 'BUTTON' && !{opened}.hidden")


async def test_the_page_says_when_control_is_gone(browser: Browser, lab: Lab) -> None:
    async with visiting(browser) as visit:
        visit.expect("ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE")
        async with control_node(lab.context("control")):
            await visit.page.goto(lab.url)
            await visit.until("document.querySelectorAll('.node').length === 10")
        await visit.until("document.body.classList.contains('lost')")
        assert "Control does not answer" in await visit.text("#fresh")


@pytest.mark.parametrize("screen", [DESKTOP, PHONE, {**PHONE, "color_scheme": "dark"}], ids=["desktop", "phone", "dark phone"])
async def test_the_page_fits_its_screen(browser: Browser, lab: Lab, screen: dict[str, Any]) -> None:
    async with control_node(lab.context("control")), visiting(browser, **screen) as visit:
        await visit.page.goto(lab.url)
        await visit.until("document.querySelectorAll('.node').length === 10")
        assert not await visit.has_sideways_scroll()
        await visit.picture(f"operator-{screen['viewport']['width']}-{screen.get('color_scheme', 'light')}")
