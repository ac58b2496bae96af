"""What an S3 store can do, asked of the store itself: makers promise much, and differ. Small objects are written and removed.

Nothing here decides what is done: every path works without a capability, some only slower or with a window that is named below.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from botocore.exceptions import ClientError

from headwater.runtime.metrics import gauge
from headwater.settings.origin import S3Store
from origin.objects.s3client import S3Connection, content_md5
from origin.objects.s3multipart import Multipart, Span

BODY: Final = b"headwater probes what this store can do"


class Capability(StrEnum):
    """Also the metric's label."""

    CONTENT_MD5 = "content-md5"
    RANGED_READS = "ranged-reads"
    CONDITIONAL_CREATE = "conditional-create"
    CONDITIONAL_DELETE = "conditional-delete"
    MULTIPART = "multipart"
    PART_COPY = "part-copy"


WITHOUT: Final[Mapping[Capability, str]] = {
    Capability.CONTENT_MD5: "bytes that flip on the way are found when they are first read, not when they arrive",
    Capability.RANGED_READS: "a range is cut out of the whole object, which is read from its beginning",
    Capability.CONDITIONAL_CREATE: "two who write one key in the same instant: the last one counts",
    Capability.CONDITIONAL_DELETE: "a version replaced in the instant before it is removed is removed instead",
    Capability.MULTIPART: "uploads to this store do not work: choose another one for masters",
    Capability.PART_COPY: "after a damaged part the others are carried through the origin, not copied by the store",
}

CAPABLE = gauge("headwater_objects_store_capable", "1 where a store can do it, 0 where it cannot.", ["endpoint", "capability"])


async def probe(settings: S3Store) -> dict[Capability, bool]:
    """Raises ObjectStoreFailed when the store cannot be used at all: away, no such bucket, or our key is refused."""
    connection = S3Connection(settings)
    found = await connection.call("probe", _probed, connection)
    for capability, able in found.items():
        CAPABLE.labels(settings.endpoint, capability).set(able)
    return found


def _probed(connection: S3Connection) -> dict[Capability, bool]:
    path = connection.path(f"probe/{secrets.token_hex(8)}")
    connection.put_small(path, BODY)  # what fails here is no missing capability
    try:
        checks: dict[Capability, Callable[[S3Connection, str], bool]] = {
            Capability.CONTENT_MD5: _refuses_another_md5,
            Capability.RANGED_READS: _answers_ranges,
            Capability.CONDITIONAL_CREATE: _keeps_what_is_there,
            Capability.CONDITIONAL_DELETE: _keeps_another_version,
            Capability.MULTIPART: _joins_parts,
            Capability.PART_COPY: _copies_parts,
        }
        return {capability: check(connection, path) for capability, check in checks.items()}
    finally:
        connection.remove(path)


def _refused(request: Callable[[], object]) -> bool:
    try:
        request()
    except ClientError:
        return True
    return False


def _refuses_another_md5(connection: S3Connection, path: str) -> bool:
    client, bucket = connection.client, connection.bucket
    return _refused(lambda: client.put_object(Bucket=bucket, Key=path, Body=BODY, ContentMD5=content_md5(b"another")))


def _answers_ranges(connection: S3Connection, path: str) -> bool:
    answer = connection.client.get_object(Bucket=connection.bucket, Key=path, Range="bytes=2-5")
    body = answer["Body"].read()
    return "ContentRange" in answer and body == BODY[2:6]


def _keeps_what_is_there(connection: S3Connection, path: str) -> bool:
    client, bucket = connection.client, connection.bucket
    return _refused(lambda: client.put_object(Bucket=bucket, Key=path, Body=BODY, ContentMD5=content_md5(BODY), IfNoneMatch="*"))


def _keeps_another_version(connection: S3Connection, path: str) -> bool:
    client, bucket = connection.client, connection.bucket
    refused = _refused(lambda: client.delete_object(Bucket=bucket, Key=path, IfMatch='"00000000000000000000000000000000"'))
    if connection.size_of(path) is None:
        connection.put_small(path, BODY)  # for the checks that follow
        return False
    return refused


def _joins_parts(connection: S3Connection, path: str) -> bool:
    client, bucket = connection.client, connection.bucket
    joined, multipart = f"{path}-joined", Multipart(connection)
    upload_id = ""
    try:
        upload_id = multipart.create(joined, "text/plain", {})
        client.upload_part(Bucket=bucket, Key=joined, UploadId=upload_id, PartNumber=1, Body=BODY, ContentMD5=content_md5(BODY))
        multipart.complete(joined, upload_id, multipart.parts(joined, upload_id) or [])
        return connection.size_of(joined) == len(BODY)
    except ClientError:
        return False
    finally:
        if upload_id:
            multipart.abort(joined, upload_id)
        connection.remove(joined)


def _copies_parts(connection: S3Connection, path: str) -> bool:
    copied, multipart = f"{path}-copied", Multipart(connection)
    upload_id = ""
    try:
        upload_id = multipart.create(copied, "text/plain", {})
        return bool(multipart.copy_part(Span(1, path, 0, len(BODY)), copied, upload_id))
    except ClientError:
        return False
    finally:
        if upload_id:
            multipart.abort(copied, upload_id)
