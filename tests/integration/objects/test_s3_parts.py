"""What is S3's own about parts of uploads: signed Content-MD5, one multipart upload for everybody, leftovers, rotten bytes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from headwater.settings.origin import S3Store
from origin.objects.interface import ObjectNotFound
from origin.objects.parts import DigestsUnknown, PartDigests, PartsDamaged, PartsMissing
from origin.objects.s3 import S3Objects
from origin.objects.s3parts import LEAST_PART_BYTES, S3PartStore
from tests.support.ceph import Ceph

pytestmark = pytest.mark.xdist_group("ceph")

UPLOAD = "upload-1"
PARTS = [random.Random(number).randbytes(size) for number, size in enumerate((LEAST_PART_BYTES, LEAST_PART_BYTES, 99))]


def digests(body: bytes) -> PartDigests:
    return PartDigests(hashlib.sha256(body).hexdigest(), hashlib.md5(body).hexdigest())


@pytest.fixture
def objects(ceph_bucket: S3Store) -> S3Objects:
    return S3Objects(ceph_bucket)


@pytest.fixture
def store(objects: S3Objects) -> S3PartStore:
    return S3PartStore(objects)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
        yield session


async def put(http: aiohttp.ClientSession, url: str, body: bytes, **headers: str) -> int:
    async with http.put(
        url, data=io.BytesIO(body), headers={name.replace("_", "-"): text for name, text in headers.items()}
    ) as answer:
        return answer.status


async def send_all(http: aiohttp.ClientSession, store: S3PartStore, upload_id: str = UPLOAD) -> None:
    for number, body in enumerate(PARTS, start=1):
        request = await store.signed(upload_id, number, len(body), time.time() + 60, digests(body))
        async with http.put(request.url, data=io.BytesIO(body), headers=request.headers) as answer:
            assert answer.status == 200


def unfinished(objects: S3Objects) -> list[Any]:
    connection = objects.connection
    return connection.client.list_multipart_uploads(Bucket=connection.bucket).get("Uploads", [])


async def test_a_signed_url_takes_the_signed_body_and_no_other(store: S3PartStore, http: aiohttp.ClientSession) -> None:
    await store.begin(UPLOAD)
    said = await store.signed(UPLOAD, 1, len(PARTS[2]), time.time() + 60, digests(PARTS[2]))
    md5 = said.headers["Content-MD5"]
    other = b"x" * len(PARTS[2])
    assert await put(http, said.url, other, Content_MD5=md5) == 400  # BadDigest
    assert await put(http, said.url, other) == 403  # what was signed has to be sent
    assert await put(http, said.url, other, Content_MD5="AAAAAAAAAAAAAAAAAAAAAA==") == 403
    assert await put(http, said.url, PARTS[2] + b"!", Content_MD5=md5) == 403
    assert await put(http, said.url.replace("partNumber=1", "partNumber=2"), PARTS[2], Content_MD5=md5) == 403
    assert await store.arrived(UPLOAD) == []
    assert await put(http, said.url, PARTS[2], Content_MD5=md5) == 200
    [part] = await store.arrived(UPLOAD)
    assert (part.number, part.size_bytes, part.md5) == (1, 99, hashlib.md5(PARTS[2]).hexdigest())


async def test_a_url_that_expired_is_refused_by_the_store(ceph_bucket: S3Store, http: aiohttp.ClientSession) -> None:
    store = S3PartStore(S3Objects(ceph_bucket))
    await store.begin(UPLOAD)
    said = await store.signed(UPLOAD, 1, 99, time.time() - 5, digests(PARTS[2]))  # one second, S3's shortest
    await asyncio.sleep(1.5)  # the store's clock is the one that counts
    assert await put(http, said.url, PARTS[2], Content_MD5=said.headers["Content-MD5"]) == 403


async def test_without_an_md5_nothing_is_signed(store: S3PartStore) -> None:
    with pytest.raises(DigestsUnknown):
        await store.signed(UPLOAD, 1, 99, time.time() + 60, PartDigests("0" * 64))


async def test_several_who_begin_at_once_agree_on_one_multipart_upload(ceph_bucket: S3Store) -> None:
    stores = [S3PartStore(S3Objects(ceph_bucket)) for _ in range(5)]  # as many processes
    signing = (store.signed(UPLOAD, 1, 99, time.time() + 60, digests(PARTS[2])) for store in stores)
    await asyncio.gather(*signing)
    assert len(unfinished(S3Objects(ceph_bucket))) == 1


async def test_discarding_and_sweeping_leave_no_multipart_upload(
    store: S3PartStore, objects: S3Objects, http: aiohttp.ClientSession
) -> None:
    await store.begin(UPLOAD)
    await send_all(http, store)
    await store.discard(UPLOAD)
    assert unfinished(objects) == []
    assert [info async for info in objects.list("")] == []

    # One whose process was killed between beginning it and noting it, and one in use.
    connection = objects.connection
    connection.client.create_multipart_upload(Bucket=connection.bucket, Key=connection.path("uploads/killed/whole"))
    await store.signed("in-use", 1, 99, time.time() + 60, digests(PARTS[2]))
    assert await store.sweep(3600) == 0
    assert await store.sweep(-3600) == 1
    assert [upload["Key"] for upload in unfinished(objects)] == [connection.path("uploads/in-use/whole")]


async def test_an_upload_aborted_behind_our_back_is_begun_anew(
    store: S3PartStore, objects: S3Objects, http: aiohttp.ClientSession
) -> None:
    await store.begin(UPLOAD)
    await send_all(http, store)
    [upload] = unfinished(objects)
    objects.connection.client.abort_multipart_upload(
        Bucket=objects.connection.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
    )
    assert await store.arrived(UPLOAD) == []
    await send_all(http, store)
    arrived = await store.arrived(UPLOAD)
    made = await store.complete(UPLOAD, "masters/v", arrived, "video/mp4")
    assert made.sha256 == hashlib.sha256(b"".join(PARTS)).hexdigest()


@pytest.mark.parametrize("step", ["_verified", "_put_in_place", "_drop"])
async def test_a_completion_killed_before_any_step_is_gone_on_with(
    ceph_bucket: S3Store, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = S3PartStore(S3Objects(ceph_bucket))
    await store.begin(UPLOAD)
    await send_all(http, store)
    listed = await store.arrived(UPLOAD)

    def killed(*arguments: object) -> None:
        raise SystemError("killed")

    with monkeypatch.context() as during:
        during.setattr(store, step, killed)
        with pytest.raises(SystemError):
            await store.complete(UPLOAD, "masters/v", listed, "video/mp4")
    again = S3PartStore(S3Objects(ceph_bucket))
    made = await again.complete(UPLOAD, "masters/v", listed, "video/mp4")
    assert made.sha256 == hashlib.sha256(b"".join(PARTS)).hexdigest()
    assert [info.key async for info in S3Objects(ceph_bucket).list("")] == ["masters/v"]


async def test_parts_that_the_origin_wrote_as_objects_join_those_that_were_sent(
    store: S3PartStore, objects: S3Objects, http: aiohttp.ClientSession
) -> None:
    """A stream's parts are objects, since its last one grows; a creator may go on with it by parts."""
    connection = objects.connection
    for sent in ((), (2,)):
        upload_id = f"stream-{len(sent)}"
        for number, body in enumerate(PARTS, start=1):
            if number in sent:
                request = await store.signed(upload_id, number, len(body), time.time() + 60, digests(body))
                assert await put(http, request.url, body, Content_MD5=request.headers["Content-MD5"]) == 200
            else:
                connection.put_small(store.written_path(upload_id, number), body)
        arrived = await store.arrived(upload_id)
        assert [(part.number, part.md5) for part in arrived] == [(n, digests(body).md5) for n, body in enumerate(PARTS, 1)]
        made = await store.complete(upload_id, f"masters/{upload_id}", arrived, "video/mp4")
        assert made.sha256 == hashlib.sha256(b"".join(PARTS)).hexdigest()
    assert [info.key async for info in objects.list("")] == ["masters/stream-0", "masters/stream-1"]


async def test_bytes_that_flip_below_the_store_name_their_part_which_alone_is_sent_again(
    ceph: Ceph, store: S3PartStore, objects: S3Objects, http: aiohttp.ClientSession
) -> None:
    upload_id = "flipped"  # no other test's: what was deleted lies on below the door for a while
    await store.begin(upload_id)
    await send_all(http, store, upload_id)
    said = [digests(body) for body in PARTS]
    listed = [replace(part, sha256=said[part.number - 1].sha256) for part in await store.arrived(upload_id)]
    _flip_a_byte_of_part(ceph, objects.connection.path("uploads/" + upload_id), 2)

    with pytest.raises(PartsDamaged) as damaged:
        await store.complete(upload_id, "masters/v", listed, "video/mp4")
    assert damaged.value.numbers == (2,)
    with pytest.raises(ObjectNotFound):
        await objects.stat("masters/v")
    assert [(part.number, part.md5) for part in await store.arrived(upload_id)] == [(1, said[0].md5), (3, said[2].md5)]
    with pytest.raises(PartsMissing) as missing:
        await store.complete(upload_id, "masters/v", listed, "video/mp4")
    assert missing.value.numbers == (2,)

    request = await store.signed(upload_id, 2, len(PARTS[1]), time.time() + 60, said[1])
    async with http.put(request.url, data=io.BytesIO(PARTS[1]), headers=request.headers) as answer:
        assert answer.status == 200
    made = await store.complete(upload_id, "masters/v", listed, "video/mp4")
    assert made.sha256 == hashlib.sha256(b"".join(PARTS)).hexdigest()
    assert unfinished(objects) == []


def _flip_a_byte_of_part(ceph: Ceph, folder: str, number: int) -> None:
    pool = next(name for name in ceph.rados("lspools").decode().split() if name.endswith("buckets.data"))
    [name] = [
        line
        for line in ceph.rados("-p", pool, "ls").decode().splitlines()
        if f"__multipart_{folder}" in line and line.endswith(f".{number}")
    ]
    body = bytearray(ceph.rados("-p", pool, "get", name, "-"))
    assert bytes(body) == PARTS[number - 1][: len(body)]  # the first four mebibytes
    body[1000] ^= 1
    ceph.rados("-p", pool, "put", name, "-", body=bytes(body))
