"""Parts of uploads: what every part store promises, and the local one's endpoint under hostile input. Real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from headwater.runtime.httpsite import problems, serve_app
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.origin import FileStore
from origin.objects.endpoint import part_routes
from origin.objects.fileparts import FilePartStore
from origin.objects.interface import ObjectNotFound, TierStore
from origin.objects.open import open_part_store, open_store, part_url_secret
from origin.objects.parts import ArrivedPart, PartDigests, PartsDamaged, PartsMissing, PartStore
from origin.objects.s3 import S3Objects
from origin.objects.s3parts import S3PartStore

UPLOAD = "upload-1"
LEAST = 5 * 1024 * 1024  # S3's floor for all parts but the last
PARTS = [random.Random(number).randbytes(size) for number, size in enumerate((LEAST, LEAST + 7, 300_000))]


def digest_field(body: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"}


def soon() -> float:
    return time.time() + 60


@dataclass
class Place:
    """A part store, the objects that its uploads become, and a client."""

    parts: PartStore
    objects: TierStore
    session: aiohttp.ClientSession

    async def send(self, number: int, body: bytes, size: int | None = None) -> int:
        """The status of a PUT of the part, with whatever its store wants to be told before."""
        digests = PartDigests(hashlib.sha256(body).hexdigest(), hashlib.md5(body).hexdigest())
        request = await self.parts.signed(UPLOAD, number, len(body) if size is None else size, soon(), digests)
        return (await self.put(request.url, body, dict(request.headers)))[0]

    async def put(self, url: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """(status, problem type's last word)."""
        fields = digest_field(body) if headers is None else headers
        async with self.session.put(url, data=io.BytesIO(body), headers=fields) as response:
            kind = (await response.json(content_type=None))["type"] if response.content_type.endswith("problem+json") else ""
            return response.status, kind.rpartition(":")[2]


@asynccontextmanager
async def local_place(deployment: Deployment) -> AsyncIterator[Place]:
    settings = deployment.origin.masters
    parts = open_part_store(settings, deployment)
    app = web.Application(middlewares=[problems])
    app.add_routes(part_routes(parts))
    async with serve_app(app, deployment.origin.api.listen), aiohttp.ClientSession() as session:
        yield Place(parts, open_store(settings, deployment.data), session)


@pytest.fixture
async def local(deployment: Deployment) -> AsyncIterator[Place]:
    async with local_place(deployment) as place:
        await place.parts.begin(UPLOAD)
        yield place


@pytest.fixture(params=["files", "rclone", "ceph"])
async def place(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncIterator[Place]:
    if request.param == "files":
        async with local_place(deployment) as found:
            yield found
    else:
        objects = S3Objects(request.getfixturevalue("bucket" if request.param == "rclone" else "ceph_bucket"))
        async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
            yield Place(S3PartStore(objects), objects, session)


async def test_parts_in_any_order_become_one_object_with_its_digest(place: Place) -> None:
    await place.parts.begin(UPLOAD)
    for number in (3, 1, 2, 1):
        body = PARTS[number - 1]
        assert await place.send(number, body) in (200, 204)
    arrived = await place.parts.arrived(UPLOAD)
    assert [(part.number, part.size_bytes) for part in arrived] == [(n, len(body)) for n, body in enumerate(PARTS, start=1)]
    made = await place.parts.complete(UPLOAD, "masters/v", arrived, "video/mp4")
    assert made.sha256 == hashlib.sha256(b"".join(PARTS)).hexdigest()
    assert await place.objects.stat("masters/v") == made
    assert b"".join([chunk async for chunk in place.objects.read("masters/v")]) == b"".join(PARTS)
    # Done twice, also by someone who does not know that it was done.
    assert await place.parts.complete(UPLOAD, "masters/v", arrived, "video/mp4") == made
    assert await place.parts.arrived(UPLOAD) == []


async def test_an_upload_with_parts_missing_is_not_completed(place: Place) -> None:
    await place.parts.begin(UPLOAD)
    await place.send(1, PARTS[0])
    arrived = await place.parts.arrived(UPLOAD)
    absent = ArrivedPart(2, len(PARTS[1]), hashlib.sha256(PARTS[1]).hexdigest(), 0.0)
    with pytest.raises(PartsMissing) as missing:
        await place.parts.complete(UPLOAD, "masters/v", [*arrived, absent], "video/mp4")
    assert missing.value.numbers == (2,)
    with pytest.raises(ObjectNotFound):
        await place.objects.stat("masters/v")
    assert await place.parts.arrived(UPLOAD) == arrived


async def test_the_last_version_of_a_part_counts_also_when_the_clock_was_set_back_meanwhile(local: Place) -> None:
    assert isinstance(local.parts, FilePartStore)
    await local.send(1, PARTS[0])
    [earlier] = (local.parts._uploads / UPLOAD).glob("1.*")
    in_an_hour_ns = time.time_ns() + 3600 * 10**9  # as the clock said before it was set back
    os.utime(earlier, ns=(in_an_hour_ns, in_an_hour_ns))
    kept = earlier.with_name("copy")
    os.link(earlier, kept)
    await local.send(1, PARTS[0][::-1])
    newer = hashlib.sha256(PARTS[0][::-1]).hexdigest()
    assert [part.sha256 for part in await local.parts.arrived(UPLOAD)] == [newer]
    kept.rename(earlier)  # as if killed before the earlier one was dropped
    assert [part.sha256 for part in await local.parts.arrived(UPLOAD)] == [newer]


async def test_a_discarded_upload_leaves_nothing(place: Place) -> None:
    await place.parts.begin(UPLOAD)
    await place.send(1, PARTS[0])
    await place.parts.discard(UPLOAD)
    assert await place.parts.arrived(UPLOAD) == []
    await place.parts.discard(UPLOAD)


async def test_a_part_with_another_digest_than_listed_stops_the_completion(place: Place) -> None:
    await place.parts.begin(UPLOAD)
    await place.send(1, PARTS[0])
    [part] = await place.parts.arrived(UPLOAD)
    with pytest.raises((PartsMissing, PartsDamaged)):
        await place.parts.complete(UPLOAD, "masters/v", [replace(part, sha256="0" * 64)], "video/mp4")
    with pytest.raises(ObjectNotFound):
        await place.objects.stat("masters/v")


async def test_a_part_that_rotted_on_disk_stops_the_completion(local: Place, deployment: Deployment) -> None:
    await local.put(local.parts.part_url(UPLOAD, 1, len(PARTS[0]), soon()), PARTS[0])
    [part] = await local.parts.arrived(UPLOAD)
    assert isinstance(deployment.origin.masters, FileStore)
    [file] = (deployment.data / deployment.origin.masters.path / "uploads" / UPLOAD).glob("1.*")
    file.write_bytes(b"x" * len(PARTS[0]))
    with pytest.raises(PartsDamaged):
        await local.parts.complete(UPLOAD, "masters/v", [part], "video/mp4")
    with pytest.raises(ObjectNotFound):
        await local.objects.stat("masters/v")


async def test_a_damaged_part_alone_is_asked_for_again(place: Place) -> None:
    await place.parts.begin(UPLOAD)
    await place.send(1, PARTS[0])
    await place.send(2, PARTS[1][::-1])
    if isinstance(place.parts, FilePartStore):
        [file] = (place.parts._uploads / UPLOAD).glob("2.*")
        file.chmod(0o644)
        file.write_bytes(PARTS[1])
    await place.send(3, PARTS[2])  # local files look at part 2 only when the next one is there
    said = [hashlib.sha256(body).hexdigest() for body in PARTS]
    listed = [replace(part, sha256=part.sha256 or said[part.number - 1]) for part in await place.parts.arrived(UPLOAD)]
    with pytest.raises(PartsDamaged) as damaged:
        await place.parts.complete(UPLOAD, "masters/v", listed, "video/mp4")
    assert damaged.value.numbers == (2,)
    assert [part.number for part in await place.parts.arrived(UPLOAD)] == [1, 3]

    assert await place.send(2, PARTS[1]) in (200, 204)
    listed = [replace(part, sha256=said[part.number - 1]) for part in await place.parts.arrived(UPLOAD)]
    made = await place.parts.complete(UPLOAD, "masters/v", listed, "video/mp4")
    assert made.sha256 == hashlib.sha256(b"".join(PARTS)).hexdigest()


async def test_a_body_with_another_hash_is_refused_and_counted(local: Place) -> None:
    before = value("headwater_origin_part_puts_total", outcome="part-hash-mismatch")
    url = local.parts.part_url(UPLOAD, 1, len(PARTS[0]), soon())
    assert await local.put(url, PARTS[0], digest_field(b"other")) == (422, "part-hash-mismatch")
    assert await local.parts.arrived(UPLOAD) == []
    assert value("headwater_origin_part_puts_total", outcome="part-hash-mismatch") == before + 1


async def test_a_body_of_another_size_than_declared_is_refused(local: Place) -> None:
    url = local.parts.part_url(UPLOAD, 1, 1000, soon())
    assert await local.put(url, b"x" * 1001) == (413, "part-too-large")
    assert await local.put(url, b"x" * 999) == (422, "part-too-short")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65536

    async with local.session.put(url, data=endless(), headers=digest_field(b"")) as response:
        assert response.status == 413
    assert await local.parts.arrived(UPLOAD) == []


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        (None, "content-digest-missing"),
        ("md5=:AAAA:", "content-digest-missing"),
        ("sha-256=AAAA", "content-digest-malformed"),
        ("sha-256=:AAAA:", "content-digest-malformed"),
        ("sha-256=:" + "!" * 44 + ":", "content-digest-malformed"),
    ],
)
async def test_a_digest_that_is_missing_or_malformed_is_refused(local: Place, field: str | None, kind: str) -> None:
    url = local.parts.part_url(UPLOAD, 1, 4, soon())
    assert await local.put(url, b"body", {"Content-Digest": field} if field else {}) == (400, kind)


async def test_several_digests_are_fine_as_long_as_ours_is_among_them(local: Place) -> None:
    field = "sha-512=:AAAA:, " + digest_field(b"body")["Content-Digest"]
    assert (await local.put(local.parts.part_url(UPLOAD, 1, 4, soon()), b"body", {"Content-Digest": field}))[0] == 204


async def test_urls_that_were_changed_or_expired_are_refused_by_name(local: Place) -> None:
    url = local.parts.part_url(UPLOAD, 1, 4, soon())
    for wrong in (
        url.replace("/1?", "/2?"),
        url.replace("size=4", "size=5"),
        url.replace(UPLOAD, "upload-2"),
        url[:-1] + ("A" if url[-1] != "A" else "E"),
    ):
        assert await local.put(wrong, b"body") == (403, "signature-wrong")
    assert await local.put(local.parts.part_url(UPLOAD, 1, 4, time.time() - 5), b"body") == (403, "url-expired")
    for malformed in (url.replace("size=4", "size=-4"), url.partition("&")[0], url + "&size=4", url.replace("size=4", "size=04")):
        assert await local.put(malformed, b"body") == (403, "url-malformed")
    assert await local.parts.arrived(UPLOAD) == []


async def test_parts_of_an_upload_that_is_over_are_refused(local: Place) -> None:
    url = local.parts.part_url(UPLOAD, 1, 4, soon())
    await local.parts.discard(UPLOAD)
    assert await local.put(url, b"body") == (404, "upload-unknown")


async def test_a_browser_of_another_site_may_send_parts(local: Place) -> None:
    url = local.parts.part_url(UPLOAD, 1, 4, soon())
    async with local.session.options(url, headers={"Origin": "http://x", "Access-Control-Request-Method": "PUT"}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Methods"] == "PUT"
        assert "Content-Digest" in response.headers["Access-Control-Allow-Headers"]
    async with local.session.put(url, data=b"no digest") as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_many_puts_of_one_part_at_once_leave_one_whole_version(local: Place) -> None:
    bodies = [bytes([65 + number]) * 200_000 for number in range(6)]
    url = local.parts.part_url(UPLOAD, 1, 200_000, soon())
    answers = await asyncio.gather(*(local.put(url, body) for body in bodies))
    assert [status for status, _ in answers] == [204] * len(bodies)
    [part] = await local.parts.arrived(UPLOAD)
    made = await local.parts.complete(UPLOAD, "masters/v", [part], "video/mp4")
    assert made.sha256 == part.sha256
    assert part.sha256 in {hashlib.sha256(body).hexdigest() for body in bodies}


async def test_a_client_that_goes_away_midway_leaves_nothing(local: Place, deployment: Deployment) -> None:
    before = value("headwater_origin_part_puts_total", outcome="part-cut-off")
    url = local.parts.part_url(UPLOAD, 1, 1_000_000, soon())
    path = url.removeprefix(deployment.origin.public_url)
    address = deployment.origin.api.listen
    _, writer = await asyncio.open_connection(address.host, address.port)
    digest = digest_field(b"")["Content-Digest"]
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nContent-Digest: {digest}\r\n\r\n"
    writer.write(head.encode() + b"x" * 700_000)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(20):
        while value("headwater_origin_part_puts_total", outcome="part-cut-off") == before:
            # Any answer of the server's shows that its loop went round.
            await local.put(f"{deployment.origin.public_url}/objects/uploads/other/1", b"")
    assert isinstance(local.parts, FilePartStore)
    assert await local.parts.arrived(UPLOAD) == []
    folder = local.parts._uploads / UPLOAD
    assert list(folder.iterdir()) == []


async def test_the_secret_of_part_urls_is_private_and_stays(tmp_path: Path) -> None:
    secret = part_url_secret(tmp_path)
    assert len(secret) == 32
    assert part_url_secret(tmp_path) == secret
    assert (tmp_path / "secrets" / "part-urls.key").stat().st_mode & 0o777 == 0o600
