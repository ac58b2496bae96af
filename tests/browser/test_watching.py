"""Watching a real video through the lab's real processes, as a person with a browser does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from headwater.settings.deployment import nodes_of
from tests.support.asking import ask_until_true
from tests.support.browser import DESKTOP, PHONE, Visit, visiting
from tests.support.lab import Lab
from tests.support.media import make_clip

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lab")]

POP = "document.querySelector('[data-field=pop]').textContent"
EDGE = "document.querySelector('[data-field=edge]').textContent"
RUNG = "document.querySelector('[data-field=rung]').textContent"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def clip_id(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fourteen seconds of moving picture, every rung ready: 240p, 360p and 480p."""
    file = make_clip(tmp_path_factory.mktemp("watching") / "Test card.mp4", seconds=14, width=854, height=480)
    video_id = await lab.upload(file)
    await lab.whole_video(video_id)
    return video_id


@asynccontextmanager
async def playing(browser: Browser, lab: Lab, video_id: str, **options: Any) -> AsyncIterator[Visit]:
    """A visit that has played more than two seconds."""
    async with visiting(browser, **(options or DESKTOP)) as visit:
        await visit.page.goto(f"{lab.api}/watch/{video_id}")
        await visit.until("picture.currentTime > 2")
        yield visit


def segment_hosts(visit: Visit) -> set[str]:
    return {urlsplit(url).netloc for url in visit.requests if url.endswith(".m4s")}


async def choose(visit: Visit, rung: str) -> None:
    await visit.page.hover("#stage")
    await visit.page.click(".quality")
    await visit.page.click(f"[data-rung='{rung}']")


async def cells(visit: Visit) -> dict[str, str]:
    """What the edge did for each segment so far, by the segment's name in the panel."""
    told: list[tuple[str, str]] = await visit.look(
        "[...document.querySelectorAll('[data-strip=edge] i')].map((cell) => [cell.title.split(':')[0], cell.dataset.outcome])"
    )
    return dict(told)


async def test_a_video_plays_with_its_segments_from_an_edge(browser: Browser, lab: Lab, clip_id: str) -> None:
    async with playing(browser, lab, clip_id) as visit:
        assert segment_hosts(visit) == {str(lab.edges["fra-1"])}
        assert await visit.look(f"[{EDGE}, {POP}]") == ["fra-1", "fra"]
        assert await visit.look("picture.videoWidth > 0 && !picture.error")
        assert len(await cells(visit)) >= 2
        assert re.fullmatch(r"ends in \d+ h \d+ min", await visit.text("[data-field=grant]"))
        assert re.fullmatch(r"(240|360|480)p · .*bit/s", await visit.text("[data-field=rung]"))
        await visit.picture("watching")


async def test_a_second_viewer_gets_hits_for_what_the_first_one_brought(browser: Browser, lab: Lab, clip_id: str) -> None:
    async with playing(browser, lab, clip_id) as visit:
        first = await cells(visit)
    async with playing(browser, lab, clip_id, **DESKTOP, color_scheme="dark") as visit:
        second = await cells(visit)
        await visit.picture("watching-dark")
    both = first.keys() & second.keys()
    assert both
    assert {second[name] for name in both} == {"hit"}


async def test_the_quality_menu_switches_the_rung(browser: Browser, lab: Lab, clip_id: str) -> None:
    async with playing(browser, lab, clip_id) as visit:
        for rung in ("h264/240p", "h264/480p"):
            await choose(visit, rung)
            await visit.until(f"{RUNG}.startsWith('{rung.removeprefix('h264/')}')")
            assert any(f"/{rung}/segment_" in url for url in visit.requests)
        await choose(visit, "auto")
        assert (await visit.text(".quality-now")).startswith("Auto")


async def test_the_player_is_driven_by_the_keyboard(browser: Browser, lab: Lab, clip_id: str) -> None:
    async with playing(browser, lab, clip_id) as visit:
        await visit.look("document.activeElement.blur()")
        press = visit.page.keyboard.press
        await press("Space")
        await visit.until("picture.paused")
        await press("ArrowRight")
        await visit.until("picture.currentTime > 6")
        await press("ArrowLeft")
        await visit.until("picture.currentTime < 6 && picture.currentTime > 1")
        await press("m")
        assert await visit.look("picture.muted")
        await press("f")
        await visit.until("document.fullscreenElement === stage")
        await press("f")
        await visit.until("!document.fullscreenElement")
        await press("Space")
        await visit.until("!picture.paused")


async def test_the_seek_bar_shows_pictures_of_the_storyboard(browser: Browser, lab: Lab, clip_id: str) -> None:
    async with playing(browser, lab, clip_id) as visit:
        await visit.page.hover("#stage")
        await visit.page.hover(".seek")
        picture = await visit.until("document.querySelector('.thumb-picture:not([hidden])')?.style.backgroundImage")
        assert f"/videos/{clip_id}/storyboard_000.jpg" in picture


async def test_playback_goes_on_through_another_edge_when_the_serving_one_is_killed(
    browser: Browser, lab: Lab, clip_id: str
) -> None:
    async with playing(browser, lab, clip_id) as visit:
        visit.expect("Failed to load resource: net::ERR_(CONNECTION|EMPTY|SOCKET)")
        assert await visit.look(EDGE) == "fra-1"
        position = await visit.look("picture.currentTime")
        await lab.kill("fra-1")
        try:
            await choose(visit, "h264/240p")  # what lies in the buffer is of another rung: the next seconds must be fetched
            await visit.until(f"{RUNG}.startsWith('240p')")
            await visit.until(f"picture.currentTime > {position} + 4 && !picture.paused")
            took_over = await visit.look(EDGE)
            assert took_over in ("iad-1", "sin-1")
            assert f"fra-1 stopped answering; {took_over} took over" in await visit.text("[data-log]")
            assert str(lab.edges[took_over]) in segment_hosts(visit)
            await visit.picture("recovered")
        finally:
            await lab.start("fra-1")
    await ask_until_true(lambda: steered_to(lab, clip_id, "fra-1"))


async def steered_to(lab: Lab, video_id: str, edge: str) -> bool:
    """Whether new viewers are sent to the edge: control has seen it healthy again and told everyone."""
    answer = await lab.ask(f"/api/v1/videos/{video_id}/playback")
    return bool(answer["edge"]["name"] == edge)


async def test_playback_moves_on_also_when_the_api_is_down(browser: Browser, lab: Lab, clip_id: str) -> None:
    async with playing(browser, lab, clip_id) as visit:
        visit.expect("Failed to load resource: net::ERR_(CONNECTION|EMPTY|SOCKET)")
        await lab.kill("origin-api", "fra-1")
        try:
            await choose(visit, "h264/240p")
            await visit.until(f"{RUNG}.startsWith('240p') && {EDGE} !== 'fra-1'")
        finally:
            await lab.start("origin-api", "fra-1")
    await ask_until_true(lambda: steered_to(lab, clip_id, "fra-1"))


async def test_a_file_that_is_no_video_says_so_on_its_page(browser: Browser, lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "notes.mp4"
    file.write_text("These are notes, not a video.\n" * 200)
    video_id = await lab.upload(file)
    async with visiting(browser) as visit:
        await visit.page.goto(f"{lab.api}/watch/{video_id}")
        await visit.until("document.querySelector('#message').dataset.tone === 'bad'", 60)
        failure = (await lab.ask(f"/api/v1/videos/{video_id}"))["failure"]
        assert await visit.text("#message-text") == failure["detail"]
        assert failure["detail"]


async def test_a_page_opened_during_processing_plays_by_itself_once_it_can(browser: Browser, lab: Lab, tmp_path: Path) -> None:
    file = make_clip(tmp_path / "fresh.mp4", seconds=6, width=640, height=360)
    async with visiting(browser) as visit:
        await visit.page.goto(f"{lab.api}/#token={lab.token}")
        await visit.page.set_input_files("#file", file)
        await visit.page.click("#upload-start")
        await visit.until("location.pathname.startsWith('/watch/')")
        await visit.until("document.querySelector('#stage')?.dataset.state === 'playable'", 90)
        await visit.until("picture.currentTime > 2")


async def test_the_watch_page_fits_a_phone(browser: Browser, lab: Lab, clip_id: str) -> None:
    async with playing(browser, lab, clip_id, **PHONE) as visit:
        assert not await visit.has_sideways_scroll()
        await visit.picture("phone")


async def test_the_list_shows_posters_from_an_edge(browser: Browser, lab: Lab, clip_id: str) -> None:
    async with visiting(browser) as visit:
        await visit.page.goto(f"{lab.api}/")
        card = f"[data-video='{clip_id}']"
        await visit.until(f"""document.querySelector("{card} img[data-loaded]")?.naturalWidth > 0""")
        posters = {urlsplit(url).netloc for url in visit.requests if url.endswith("poster.jpg")}
        assert posters <= {str(address) for address in lab.edges.values()}
        await visit.picture("videos")


async def test_the_operator_page_shows_every_node(browser: Browser, lab: Lab) -> None:
    async with visiting(browser) as visit:
        token = lab.operator["Authorization"].removeprefix("Bearer ")
        await visit.page.goto(f"{lab.deployment.control.listen.url}/#token={token}")
        for node in nodes_of(lab.deployment):
            await visit.until(f"document.body.innerText.includes('{node}')")
        await visit.picture("operator")
