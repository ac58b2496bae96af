"""The pages as they are served: what browsers may load, keep and must not run."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from headwater.runtime.httpsite import problems, serve_app
from headwater.settings.units import Address
from origin.api.pages import PLAYER_LIBRARY, STATIC, load_pages, page_routes
from tests.support.deployments import free_port


@pytest.fixture
async def site() -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application(middlewares=[problems])
    app.add_routes(page_routes())
    address = Address("127.0.0.1", free_port())
    async with serve_app(app, address, drain_s=0.2), aiohttp.ClientSession(address.url, auto_decompress=False) as session:
        yield session


async def test_pages_are_revalidated_and_what_they_load_is_kept_for_ever(site: aiohttp.ClientSession) -> None:
    async with site.get("/", headers={"Accept-Encoding": "identity"}) as page:
        text = await page.text()
        assert page.headers["Cache-Control"] == "no-cache"
        etag = page.headers["ETag"]
    async with site.get("/", headers={"If-None-Match": etag, "Accept-Encoding": "identity"}) as again:
        assert again.status == 304
    loaded = set(re.findall(r'(?:src|href)="(/assets/[^"]+)"', text))
    assert len(loaded) >= 4
    for url in loaded:
        async with site.get(url) as asset:
            assert asset.status == 200, url
            assert asset.headers["Cache-Control"] == "public, max-age=31536000, immutable"


async def test_compressed_and_plain_answers_have_the_same_bytes_and_tags_of_their_own(site: aiohttp.ClientSession) -> None:
    path = f"/assets/{load_pages().version}/watch.js"
    async with site.get(path, headers={"Accept-Encoding": "identity"}) as plain, site.get(path) as packed:
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await packed.read()) == await plain.read()
        assert packed.headers["ETag"] != plain.headers["ETag"]
        etag = packed.headers["ETag"]
    async with site.get(path, headers={"If-None-Match": etag}) as again:
        assert again.status == 304
        assert await again.read() == b""


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/watch/AAAAAAAAAAA", 200), ("/watch/no-such-id", 404)])
async def test_no_page_runs_or_loads_what_another_site_sent(site: aiohttp.ClientSession, path: str, status: int) -> None:
    async with site.get(path) as page:
        assert page.status == status
        policy = dict(rule.split(" ", 1) for rule in page.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "no-referrer"


async def test_an_asset_of_another_release_is_a_problem_that_names_the_cure(site: aiohttp.ClientSession) -> None:
    async with site.get("/assets/0000000000000000/watch.js") as answer:
        assert answer.status == 404
        problem = await answer.json(content_type="application/problem+json")
        assert problem["type"] == "urn:headwater:problem:asset-unknown"
        assert "reload" in problem["detail"]
        assert answer.headers["Cache-Control"] == "no-store"


def test_without_the_player_library_the_pages_still_load(tmp_path: Path) -> None:
    (tmp_path / "watch.html").write_text("{{assets}}")
    (tmp_path / "watch.js").write_text("1")
    pages = load_pages(tmp_path)
    assert pages.documents["watch"].body.decode() == f"/assets/{pages.version}"
    assert PLAYER_LIBRARY not in pages.assets


def test_no_page_writes_markup_or_names_another_site() -> None:
    for file in [*STATIC.glob("*.js"), *STATIC.glob("*.html"), *STATIC.glob("*.css")]:
        text = file.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), file.name
        sites = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not sites, f"{file.name}: {sites}"


def test_the_lock_file_pins_the_player_by_hash_and_names_no_registry() -> None:
    lock = (STATIC / "package-lock.json").read_text()
    assert '"integrity": "sha512-' in lock
    assert '"resolved"' not in lock
