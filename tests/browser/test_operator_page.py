"""The operator page in a real browser, against a running control."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from control.operators.tokenbook import book_of
from control.service import control_node
from headwater.rules.apitokens import DRAWN_BYTES, Scope, StoredToken, draw_token
from headwater.settings.deployment import nodes_of
from tests.support.browser import DESKTOP, PHONE, Visit, visiting
from tests.support.controlled import Lab, answering, controlled_lab

HEALTH_OF_FRA = """[...document.querySelectorAll('.node')].find(row => row.innerText.includes('fra-1'))?.dataset.health"""


pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]


@pytest_asyncio.fixture(loop_scope="session")
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with controlled_lab(tmp_path) as lab:
        yield lab


async def logged_in(visit: Visit, lab: Lab) -> None:
    """Opens the page with the lab's own token and waits until it shows all nodes."""
    token = json.dumps(lab.operator["Authorization"].removeprefix("Bearer "))
    await visit.page.add_init_script(f"sessionStorage.setItem('headwater-token', {token})")
    await visit.page.goto(lab.url)
    await visit.until("document.querySelectorAll('.node').length === 10")


def new_token(lab: Lab, scope: Scope) -> str:
    token = draw_token(os.urandom(DRAWN_BYTES))
    book_of(lab.deployment).keep(StoredToken(token.id, "ada", token.secret_sha256, frozenset({scope}), 1.0))
    return token.text


async def test_the_page_follows_health_and_edits(browser: Browser, lab: Lab) -> None:
    async with control_node(lab.context("control")), visiting(browser) as visit:
        async with answering(lab, "fra-1"):
            await logged_in(visit, lab)
            await visit.until(f"{HEALTH_OF_FRA} === 'up'")
        await visit.until(f"{HEALTH_OF_FRA} === 'down'")
        lab.edit("pops.iad.wieght", 0)
        await visit.until("document.querySelector('#alerts')?.innerText.includes(\"did you mean 'weight'?\")")
        assert (await visit.text("#config")).split() == ["refused,", "1", "problem"]


async def test_details_open_by_keyboard_and_stay_open_over_an_update(browser: Browser, lab: Lab) -> None:
    async with control_node(lab.context("control")), visiting(browser) as visit:
        await logged_in(visit, lab)
        await visit.page.focus(".node button")
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
            await logged_in(visit, lab)
        await visit.until("document.body.classList.contains('lost')")
        assert "Control does not answer" in await visit.text("#fresh")


@pytest.mark.parametrize("screen", [DESKTOP, PHONE, {**PHONE, "color_scheme": "dark"}], ids=["desktop", "phone", "dark phone"])
async def test_the_page_fits_its_screen(browser: Browser, lab: Lab, screen: dict[str, Any]) -> None:
    async with control_node(lab.context("control")), visiting(browser, **screen) as visit:
        await logged_in(visit, lab)
        assert not await visit.has_sideways_scroll()
        await visit.picture(f"operator-{screen['viewport']['width']}-{screen.get('color_scheme', 'light')}")


async def test_who_has_no_token_sees_a_login_that_says_what_is_wrong(browser: Browser, lab: Lab) -> None:
    async with control_node(lab.context("control")), visiting(browser) as visit:
        visit.expect("401")
        page = visit.page
        await page.goto(lab.url)
        await visit.until("document.activeElement.id === 'login-token'")
        assert not await page.is_visible("#main")
        await page.keyboard.type(draw_token(os.urandom(DRAWN_BYTES)).text)
        await page.keyboard.press("Enter")
        await visit.until("document.querySelector('#login-error').innerText.includes('not known here')")
        viewer = new_token(lab, Scope.VIEW)
        await page.fill("#login-token", viewer)
        await page.keyboard.press("Enter")
        await visit.until("document.querySelectorAll('.node').length === 10")
        assert await visit.text("#you") == "ada"
        await page.click("#logout")
        await page.goto(f"{lab.url}/#token={viewer}")  # as `headwater up` prints it
        await page.reload()
        await visit.until("document.querySelector('#you').innerText === 'ada'")
        assert page.url == f"{lab.url}/"
        assert not await page.is_visible("#purge-form")
        assert not await page.is_visible(".group .drain")
        book_of(lab.deployment).revoke(viewer.split("_")[1], 2.0)
        await visit.until("document.querySelector('#login-error').innerText.includes('was revoked')")
        assert not await page.is_visible("#main")


async def test_a_drain_is_planned_confirmed_by_keyboard_and_told_in_the_changes(browser: Browser, lab: Lab) -> None:
    nodes = [node for node in nodes_of(lab.deployment) if node != "control"]
    async with control_node(lab.context("control")), answering(lab, *nodes), visiting(browser) as visit:
        await logged_in(visit, lab)
        await visit.until("[...document.querySelectorAll('.node')].every(row => row.dataset.health === 'up')")
        await visit.page.focus(".drain[data-name=fra]")
        await visit.page.keyboard.press("Enter")
        await visit.until("document.querySelector('#confirm svg')")
        assert "buckets move" in await visit.text("#confirm")
        assert await visit.look("document.activeElement.innerText") == "Cancel"
        await visit.page.keyboard.press("Escape")
        assert (await lab.status())["drained"] == []
        await visit.page.keyboard.press("Enter")  # the focus is back where it was
        await visit.until("document.querySelector('#confirm svg')")
        assert not await visit.has_sideways_scroll()
        await visit.picture("operator-drain")
        await visit.page.click("#confirm-buttons .main")
        await visit.until("document.querySelector('.drain[data-name=fra]').innerText === 'Undrain…'")
        await visit.until("document.querySelector('#changes').innerText.includes('fra: done')")
        assert (await lab.status())["drained"] == ["fra"]


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_a_file_is_previewed_applied_and_stopped(browser: Browser, lab: Lab, screen: dict[str, Any]) -> None:
    nodes = [node for node in nodes_of(lab.deployment) if node != "control"]
    async with control_node(lab.context("control")), answering(lab, *nodes), visiting(browser, **screen) as visit:
        page = visit.page
        await logged_in(visit, lab)
        await visit.until("[...document.querySelectorAll('.node')].every(row => row.dataset.health === 'up')")
        await page.click("#plan-now")
        await visit.until("document.querySelector('#plan-text').value.includes('regions:')")
        visit.expect("422")
        await page.fill("#plan-text", (await page.input_value("#plan-text")).replace("region: eu", "rigion: eu"))
        await page.click("#plan-go")
        await visit.until("document.querySelector('#plan-shown [role=alert]')?.innerText.includes(\"did you mean 'region'?\")")
        moved = lab.file.read_text().replace("region: us", "region: eu", 1)
        await page.fill("#plan-text", moved)
        await page.click("#plan-go")
        await visit.until("document.querySelector('#plan-shown svg')")
        assert "fra" in await visit.text(".moves figcaption")
        assert not await visit.has_sideways_scroll()
        await visit.picture(f"operator-plan-{screen['viewport']['width']}")
        await page.click("#plan-shown button")
        if await page.is_visible("#confirm [data-is=force]"):
            await page.check("#confirm [data-is=force]")
        await page.click("#confirm-buttons .main")
        await visit.until("!document.querySelector('#rollout').hidden")
        await visit.until("document.querySelector('#rollout-status').innerText.startsWith('step 1 of')")
        assert not await visit.has_sideways_scroll()
        await page.click("#rollout-stop")
        await page.click("#confirm-buttons .main")
        await visit.until("document.querySelector('#rollout-status').innerText.includes('rolling back')")


async def test_a_purge_is_confirmed_and_says_who_is_missing(browser: Browser, lab: Lab) -> None:
    async with control_node(lab.context("control")), visiting(browser) as visit:
        await logged_in(visit, lab)
        await visit.page.select_option("#purge-way", "tag")
        await visit.page.fill("#purge-what", "shop")
        await visit.page.keyboard.press("Enter")
        await visit.page.click("#confirm-buttons .main")
        await visit.until("document.querySelector('#purge-shown')?.innerText.includes('0 of 5\u00a0caches acknowledged')")
        assert "fra-1:" in await visit.text("#purge-shown")
