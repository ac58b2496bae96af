"""The pure modules of the pages, as the browser runs them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser

from headwater.runtime.httpsite import problems, serve_app
from headwater.settings.units import Address
from origin.api.pages import load_pages, page_routes
from tests.support.browser import Visit, visiting
from tests.support.deployments import free_port

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    """On a page that needs no API."""
    app = web.Application(middlewares=[problems])
    app.add_routes(page_routes())
    address = Address("127.0.0.1", free_port())
    async with serve_app(app, address, drain_s=0.2), visiting(browser) as visit:
        visit.expect("404")  # the page is the one for videos that are not there
        await visit.page.goto(f"{address.url}/watch/none")
        yield visit


async def call(visit: Visit, module: str, expression: str) -> Any:
    """`expression` over the module's exports, which it names as `m`."""
    folder = f"/assets/{load_pages().version}"
    return await visit.page.evaluate(f"import({json.dumps(f'{folder}/{module}')}).then((m) => {expression})")


@pytest.mark.parametrize(
    ("header", "edge", "shield", "origin"),
    [
        # RFC 9211 section 2: the first member is the cache closest to the origin
        ("shield-1; fwd=uri-miss; stored, fra-1; fwd=uri-miss; stored", "miss", "miss", "asked"),
        ("shield-1; hit; ttl=30, fra-1; fwd=uri-miss; stored", "miss", "hit", "idle"),
        ("shield-1; fwd=uri-miss, fra-1; fwd=uri-miss; collapsed", "joined", "miss", "asked"),
        # what the shield said when the edge stored the response is not said of this request
        ("shield-1; fwd=uri-miss; stored, fra-1; hit; ttl=5", "hit", "idle", "idle"),
        ("fra-1; hit", "hit", "idle", "idle"),
        ('"a, b; c"; fwd=stale; fwd-status=304, "fra \\"1\\""; fwd=miss', "miss", "miss", "asked"),
        ("", "idle", "idle", "idle"),
    ],
)
async def test_each_tiers_part_is_read_from_cache_status(visit: Visit, header: str, edge: str, shield: str, origin: str) -> None:
    tiers = await call(visit, "cachestatus.js", f"m.tiersOf({json.dumps(header)})")
    assert [tiers[tier]["outcome"] for tier in ("edge", "shield", "origin")] == [edge, shield, origin]


async def test_names_in_cache_status_may_be_quoted_strings(visit: Visit) -> None:
    members = await call(visit, "cachestatus.js", r"""m.parseCacheStatus('"a, \\"b\\""; key="x;y"; hit, fra-1; ttl=-3')""")
    assert members == [
        {"name": 'a, "b"', "params": {"key": "x;y", "hit": True}},
        {"name": "fra-1", "params": {"ttl": "-3"}},
    ]


async def test_another_base_leaves_the_path_of_an_object_as_it_is(visit: Visit) -> None:
    old = "http://127.0.1.1:8080/aa.bb/videos/AAAAAAAAAAA/h264/720p/segment_00003.m4s"
    moved = await call(visit, "route.js", f"m.rebased({json.dumps(old)}, 'AAAAAAAAAAA', 'http://127.0.2.1:8080/cc.dd')")
    assert moved == "http://127.0.2.1:8080/cc.dd/videos/AAAAAAAAAAA/h264/720p/segment_00003.m4s"
    assert await call(visit, "route.js", f"m.baseOf({json.dumps(old)}, 'AAAAAAAAAAA')") == "http://127.0.1.1:8080/aa.bb"
    assert await call(visit, "route.js", "m.rebased('blob:x', 'AAAAAAAAAAA', 'http://h/g')") == "blob:x"


@pytest.mark.parametrize(
    ("left_s", "delay_ms"),
    [(21_600, 21_480_000), (600, 540_000), (10, 9_000), (0.5, 1000), (-5, 1000), (10**9, 2**31 - 1)],
)
async def test_a_grant_is_renewed_before_it_ends_and_never_in_a_tight_loop(visit: Visit, left_s: float, delay_ms: int) -> None:
    assert await call(visit, "route.js", f"m.renewDelayMs(1000000 + {left_s}, 1000000)") == pytest.approx(delay_ms)


async def test_a_storyboard_is_read_with_its_pictures_beside_it(visit: Visit) -> None:
    text = (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:00:02.000\nstoryboard_000.jpg#xywh=0,0,160,90\n\n"
        "01:00:02.000 --> 01:00:04.500 align:start\nstoryboard_001.jpg#xywh=160,90,160,90\n\n"
        "00:09.000 --> 00:10.000\nno-region.jpg\n"
    )
    cues = await call(visit, "storyboard.js", f"m.parseStoryboard({json.dumps(text)}, 'http://e/g/videos/A/storyboard.vtt')")
    beside = "http://e/g/videos/A"
    assert cues == [
        {"start": 0, "end": 2, "url": f"{beside}/storyboard_000.jpg", "x": 0, "y": 0, "width": 160, "height": 90},
        {"start": 3602, "end": 3604.5, "url": f"{beside}/storyboard_001.jpg", "x": 160, "y": 90, "width": 160, "height": 90},
    ]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("m.clock(75.2)", "1:15"),
        ("m.clock(3671)", "1:01:11"),
        ("m.clock(NaN)", "0:00"),
        ("m.rate(2140000)", "2.1 Mbit/s"),
        ("m.rate(950000)", "950 kbit/s"),
        ("m.bytes(4139823)", "3.9 MiB"),
        ("m.span(21500)", "5 h 58 min"),
        ("m.span(-1)", "now"),
        ("m.ago(1000, 1000)", "just now"),
        ("m.ago(0, 86400 * 3)", "3 days ago"),
        ("m.frameRate('30000/1001')", "29.97 fps"),
        ("m.percent(0.999)", "99 %"),
        ("m.stateInWords({status: 'failed', failure: {kind: 'k', detail: 'no video stream'}}).text", "Failed: no video stream"),
        (
            "m.stateInWords({status: 'ready', progress: 0.7, renditions: "
            "[{kind: 'video', state: 'ready'}, {kind: 'video', state: 'encoding'}, {kind: 'audio', state: 'ready'}]}).text",
            "Playable, 1 of 2 rungs ready",
        ),
    ],
)
async def test_numbers_and_states_are_told_in_words(visit: Visit, expression: str, words: str) -> None:
    assert await call(visit, "format.js", expression) == words
