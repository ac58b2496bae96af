"""The list, the upload form and a watch page that waits, over the real API. Nothing transcodes here: states are written as the
transcoder writes them."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route
from sqlalchemy import insert, select, update

from origin.catalogue.engine import reading, writing
from origin.catalogue.schema import jobs, renditions, videos
from origin.objects.fileparts import FilePartStore
from tests.support.browser import DESKTOP, PHONE, visiting
from tests.support.deployments import lab_deployment
from tests.support.origin import MIB, RunningApi, running_api

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]

HOSTILE_TITLE = '<img src=x onerror="document.title=1"> & "notes".txt'


@pytest_asyncio.fixture(loop_scope="session")
async def api(tmp_path: Path) -> AsyncIterator[RunningApi]:
    async with running_api(lab_deployment(tmp_path)) as running:
        yield running


def url(api: RunningApi, path: str) -> str:
    return f"{api.deployment.origin.api.listen.url}{path}"


async def write_state(api: RunningApi, video_id: str, **columns: Any) -> None:
    async with writing(api.catalogue) as connection:
        await connection.execute(update(videos).where(videos.c.id == video_id).values(**columns))


async def failed_video(api: RunningApi, title: str) -> str:
    video_id = await api.creator.upload(b"no video at all", title=title)
    await write_state(api, video_id, state="failed", failure_kind="not-a-video", failure_detail="the file is plain text")
    return video_id


async def test_an_empty_list_says_what_to_do(browser: Browser, api: RunningApi) -> None:
    async with visiting(browser) as visit:
        await visit.page.goto(url(api, "/"))
        assert "Upload a video" in await visit.until("notice.hidden ? '' : notice.textContent")


async def test_the_list_is_newest_first_and_goes_on_by_pages(browser: Browser, api: RunningApi) -> None:
    for number in range(26):
        await api.creator.begin(100, title=f"Video {number}")
    async with visiting(browser) as visit:
        await visit.page.goto(url(api, "/"))
        await visit.until("document.querySelectorAll('.card').length === 24")
        assert await visit.text(".card:first-child a") == "Video 25"
        await visit.page.click("#more")
        await visit.until("document.querySelectorAll('.card').length === 26 && more.hidden")
        assert await visit.text(".card:last-child a") == "Video 0"
        await api.creator.begin(100, title="The newest")
        await visit.until("document.querySelector('.card a').textContent === 'The newest'")


async def test_what_users_wrote_is_text_and_a_failure_tells_its_reason(browser: Browser, api: RunningApi) -> None:
    video_id = await failed_video(api, HOSTILE_TITLE)
    async with visiting(browser) as visit:
        await visit.page.goto(url(api, "/"))
        await visit.until("document.querySelector('.card')")
        assert await visit.text(".card a") == HOSTILE_TITLE
        assert "Failed: the file is plain text" in await visit.text(".card")
        await visit.page.click(".card a")
        await visit.until("document.querySelector('#message-text')?.textContent === 'the file is plain text'")
        assert await visit.text("h1") == HOSTILE_TITLE
        assert visit.page.url == url(api, f"/watch/{video_id}")
        assert await visit.look("document.title") == f"{HOSTILE_TITLE} · Headwater"
        await visit.picture("failed")


async def test_a_watch_page_follows_processing_by_itself(browser: Browser, api: RunningApi) -> None:
    begun = await api.creator.begin(100, title="Slow")
    video_id = begun.body["video_id"]
    async with visiting(browser) as visit:
        await visit.page.goto(url(api, f"/watch/{video_id}"))
        await visit.until("document.querySelector('#message-title').textContent === 'Waiting for the upload'")
        rung = {"video_id": video_id, "codec": "h264", "rung": "360p", "kind": "video", "updated_at": 1.0}
        async with writing(api.catalogue) as connection:
            await connection.execute(insert(renditions).values(**rung, state="encoding", progress=0.4))
        await write_state(api, video_id, state="processing")
        await visit.until("document.querySelector('#message-title').textContent === 'Processing, 40 %'")
        await visit.picture("processing")
        await write_state(api, video_id, state="failed", failure_kind="encode", failure_detail="frame 77 is damaged")
        await visit.until("document.querySelector('#message-text').textContent === 'frame 77 is damaged'")


async def test_an_unknown_video_is_said_to_be_unknown(browser: Browser, api: RunningApi) -> None:
    async with visiting(browser) as visit:
        visit.expect("404")
        await visit.page.goto(url(api, "/watch/AAAAAAAAAAA"))
        await visit.until("document.querySelector('#message-title').textContent === 'There is no such video'")


async def test_who_keeps_a_token_deletes_a_video_after_being_asked_and_others_see_no_button(
    browser: Browser, api: RunningApi
) -> None:
    video_id = await failed_video(api, "Not needed")
    async with visiting(browser) as visit:
        visit.expect("410")
        await visit.page.goto(url(api, f"/watch/{video_id}"))
        await visit.until("document.querySelector('h1').textContent === 'Not needed'")
        assert await visit.look("document.querySelector('#deletion').hidden")
        await visit.page.evaluate(f"localStorage.setItem('headwater-token', '{api.token.text}')")
        await visit.page.reload()
        await visit.page.click("#delete")
        await visit.page.click("#delete-stop")
        await visit.until("document.querySelector('#delete').textContent === 'Delete video'")
        assert (await api.creator.ask("GET", f"/api/v1/videos/{video_id}")).status == 200
        await visit.page.click("#delete")
        await visit.picture("deleting")
        await visit.page.click("#delete")
        await visit.until("location.pathname === '/' && document.querySelector('#notice')?.textContent.includes('Nothing here')")
        await visit.page.goto(url(api, f"/watch/{video_id}"))
        await visit.until("document.querySelector('#message-title').textContent === 'This video was deleted'")


async def test_the_browser_uploads_in_parts_with_their_digests(browser: Browser, api: RunningApi, tmp_path: Path) -> None:
    file = tmp_path / "holiday clip.mp4"
    content = random.Random(1).randbytes(9 * MIB)
    file.write_bytes(content)
    async with visiting(browser) as visit:
        await visit.page.goto(url(api, f"/#token={api.token.text}"))
        await visit.page.set_input_files("#file", file)
        await visit.page.fill("#upload-description", "By the sea")
        await visit.page.click("#upload-start")
        await visit.until("location.pathname.startsWith('/watch/')")
        await visit.until("document.querySelector('#title')?.textContent === 'holiday clip'")
        video_id = visit.page.url.rsplit("/", 1)[1]
    async with reading(api.catalogue) as connection:
        key = (await connection.execute(select(jobs.c.master_key).where(jobs.c.video_id == video_id))).scalar_one()
    assert b"".join([chunk async for chunk in api.stores.masters.read(key)]) == content


async def test_an_upload_that_was_stopped_goes_on_with_what_is_missing(browser: Browser, api: RunningApi, tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(random.Random(2).randbytes(9 * MIB))
    second_part_waits = asyncio.Event()
    sent: list[str] = []

    async def hold_second_part(route: Route) -> None:
        sent.append(route.request.url)
        if re.search(r"/2(\?|$)", route.request.url) and not second_part_waits.is_set():
            second_part_waits.set()  # and nothing is sent: the connection hangs
        else:
            await route.continue_()

    async with visiting(browser) as visit:
        await visit.page.goto(url(api, f"/#token={api.token.text}"))
        await visit.page.route("**/objects/**", hold_second_part)
        await visit.page.set_input_files("#file", file)
        async with visit.page.expect_response(lambda answer: "/objects/" in answer.url and answer.status == 204):
            await visit.page.click("#upload-start")
        await asyncio.wait_for(second_part_waits.wait(), 10)
        await visit.page.click("#upload-stop")
        await visit.until("document.querySelector('#upload-state').textContent.startsWith('Stopped')")
        del sent[:]
        await visit.page.reload()
        await visit.page.click("#upload-open")
        await visit.page.set_input_files("#file", file)
        await visit.page.click("#upload-start")
        await visit.until("location.pathname.startsWith('/watch/')")
        assert len(sent) == 1


async def test_a_part_damaged_where_it_lies_is_sent_again_alone(browser: Browser, api: RunningApi, tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    content = random.Random(4).randbytes(9 * MIB)
    file.write_bytes(content)
    sent: list[str] = []
    completed: list[str] = []

    def flip_second_part() -> None:
        assert isinstance(api.stores.parts, FilePartStore)
        [part] = api.stores.masters.root.glob("uploads/*/2.*")  # type: ignore[attr-defined]
        body = bytearray(part.read_bytes())
        body[77] ^= 1
        part.chmod(0o644)
        part.write_bytes(bytes(body))

    async def note(route: Route) -> None:
        sent.append(route.request.url)
        await route.continue_()

    async def damage_before(route: Route) -> None:
        if not completed:
            await asyncio.to_thread(flip_second_part)
        completed.append(route.request.url)
        await route.continue_()

    async with visiting(browser) as visit:
        visit.expect("409")
        await visit.page.goto(url(api, f"/#token={api.token.text}"))
        await visit.page.route("**/objects/**", note)
        await visit.page.route("**/upload/complete", damage_before)
        await visit.page.set_input_files("#file", file)
        await visit.page.click("#upload-start")
        await visit.until("location.pathname.startsWith('/watch/')")
    assert len(completed) == 2
    assert [re.search(r"/(\d)\?", one)[1] for one in sent].count("2") == 2  # type: ignore[index]
    assert len(sent) == 3
    async with reading(api.catalogue) as connection:
        key = (await connection.execute(select(jobs.c.master_key))).scalar_one()
    assert b"".join([chunk async for chunk in api.stores.masters.read(key)]) == content


async def test_the_form_asks_for_a_token_until_it_has_one_that_holds(browser: Browser, api: RunningApi, tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"no video at all")
    async with visiting(browser) as visit:
        visit.expect("401")
        await visit.page.goto(url(api, "/"))
        await visit.page.click("#upload-open")
        await visit.page.set_input_files("#file", file)
        await visit.page.click("#upload-start")
        await visit.until("document.querySelector('#upload-state').textContent.includes('headwater tokens create')")
        await visit.page.fill("#token", api.token.text)
        await visit.page.click("#upload-start")
        await visit.until("location.pathname.startsWith('/watch/')")
        await visit.page.goto(url(api, "/"))
        await visit.page.click("#upload-open")
        assert await visit.look("document.querySelector('#token-row').hidden")
        await visit.page.click("#token-forget")
        assert await visit.look("!document.querySelector('#token-row').hidden && localStorage.length === 0")


async def test_a_link_brings_the_token_and_leaves_nothing_in_the_address(browser: Browser, api: RunningApi) -> None:
    async with visiting(browser) as visit:
        await visit.page.goto(url(api, f"/#token={api.token.text}"))
        await visit.until("!document.querySelector('#upload').hidden")
        assert visit.page.url == url(api, "/")
        assert not any(api.token.secret in request for request in visit.requests)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, api: RunningApi, scheme: str) -> None:
    video_id = await failed_video(api, "AnUnbrokenTitle" * 12)
    async with visiting(browser, **PHONE, color_scheme=scheme) as visit:
        for path in ("/", f"/watch/{video_id}"):
            await visit.page.goto(url(api, path))
            await visit.until("document.body.innerText.includes('plain text')")
            assert not await visit.has_sideways_scroll(), path
        await visit.page.goto(url(api, "/"))
        await visit.page.click("#upload-open")
        assert not await visit.has_sideways_scroll()


async def test_everything_on_the_list_is_reached_by_keyboard(browser: Browser, api: RunningApi) -> None:
    await failed_video(api, "First")
    async with visiting(browser, **DESKTOP) as visit:
        await visit.page.goto(url(api, "/"))
        await visit.until("document.querySelector('.card')")
        reached = []
        for _ in range(3):
            await visit.page.keyboard.press("Tab")
            reached.append(await visit.look("document.activeElement.textContent.trim()"))
        assert reached == ["Headwater", "Upload a video", "First"]
        await visit.page.keyboard.press("Enter")
        await visit.until("location.pathname.startsWith('/watch/')")
