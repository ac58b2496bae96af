"""One S3 client, its bounded threads, and the one place where S3's errors become the object store's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from headwater.runtime.metrics import counter
from headwater.settings.origin import S3Store
from origin.objects.interface import ObjectNotFound, ObjectStoreFailed
from origin.objects.threads import to_its_end

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_S: Final = 3.0
READ_S: Final = 8.0  # without a byte; the request is then tried again
ATTEMPTS: Final = 4
NOT_FOUND: Final = frozenset({"404", "NoSuchKey", "NotFound"})
PRECONDITION: Final = frozenset({"412", "PreconditionFailed", "ConditionalRequestConflict", "409"})

S3_ERRORS: Final = counter("headwater_objects_s3_errors_total", "Requests to an S3 store that failed, by cause.", ["cause"])


class PreconditionFailed(Exception):
    """A condition sent with the request does not hold: somebody was faster."""


@lru_cache(maxsize=16)
def _session(profile: str | None, region: str) -> boto3.Session:
    """Shared between stores: a session reads megabytes of service descriptions before its first client."""
    return boto3.Session(profile_name=profile, region_name=region)


class S3Connection:
    """A client and `settings.threads` threads to use it from; botocore's clients may be shared between threads."""

    def __init__(self, settings: S3Store) -> None:
        self.bucket = settings.bucket
        self._endpoint = settings.endpoint
        prefix = settings.prefix.strip("/")
        self._prefix = prefix + "/" if prefix else ""
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="s3")
        self.client: S3Client = _session(settings.profile, settings.region).client(
            "s3",
            endpoint_url=settings.endpoint,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},  # stores behind one address have no name per bucket
                # Checksums in trailers are refused or garbled by many stores that are not AWS; Content-MD5 is understood by all.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=settings.threads,
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"max_attempts": ATTEMPTS, "mode": "standard"},
            ),
        )

    def path(self, key: str) -> str:
        """The key inside the bucket."""
        return self._prefix + key

    def key(self, path: str) -> str:
        return path.removeprefix(self._prefix)

    # Blocking: small things by their whole key, for what runs in one of the threads already.

    def get_small(self, path: str) -> bytes | None:
        """None when it is not there."""
        try:
            with closing(self.client.get_object(Bucket=self.bucket, Key=path)["Body"]) as body:
                return body.read()
        except ClientError as error:
            if _code(error) in NOT_FOUND:
                return None
            raise

    def size_of(self, path: str) -> int | None:
        """None when it is not there."""
        try:
            return self.client.head_object(Bucket=self.bucket, Key=path)["ContentLength"]
        except ClientError as error:
            if _code(error) in NOT_FOUND:
                return None
            raise

    def listed(self, prefix: str) -> Iterator[tuple[str, int, str, float]]:
        """(path, size in bytes, ETag, Unix seconds) of the objects below `prefix`."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"].timestamp()

    def put_small(self, path: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=path, Body=body, ContentMD5=content_md5(body))

    def put_if_absent(self, path: str, body: bytes) -> bool:
        """False when there was one. A store that does not know conditions replaces it: read again what counts."""
        try:
            self.client.put_object(Bucket=self.bucket, Key=path, Body=body, ContentMD5=content_md5(body), IfNoneMatch="*")
        except ClientError as error:
            if _code(error) in PRECONDITION:
                return False
            raise
        return True

    def remove(self, path: str) -> None:
        """Also when there is nothing."""
        try:
            self.client.delete_object(Bucket=self.bucket, Key=path)
        except ClientError as error:
            if _code(error) not in NOT_FOUND:
                raise

    async def call(self, key: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` in one of the threads, to its end, its errors mapped. `key` is for messages."""
        with self._mapped(key):
            running = asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))
            return await to_its_end(running)

    @contextmanager
    def _mapped(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = _code(error)
            if code in NOT_FOUND:
                raise ObjectNotFound(key) from None
            if code in PRECONDITION:
                raise PreconditionFailed(key) from error
            S3_ERRORS.labels("refused").inc()
            raise ObjectStoreFailed(self._refusal(code, key, error)) from error
        except NoCredentialsError as error:
            S3_ERRORS.labels("no_credentials").inc()
            detail = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in the config"
            raise ObjectStoreFailed(f"there are no credentials for {self._endpoint}: {detail}") from error
        except BotoCoreError as error:
            S3_ERRORS.labels("unreachable").inc()
            raise ObjectStoreFailed(f"{self._endpoint} does not answer as a store should: {error}") from error

    def _refusal(self, code: str, key: str, error: ClientError) -> str:
        match code:
            case "NoSuchBucket":
                return f"{self._endpoint} has no bucket {self.bucket!r}: create it, or change `bucket` in the config"
            case "AccessDenied" | "403" | "InvalidAccessKeyId" | "SignatureDoesNotMatch":
                return f"{self._endpoint} refuses our credentials for {key!r} in {self.bucket!r} ({code}): check key and policy"
            case _:
                return f"{self._endpoint} refused {key!r} in {self.bucket!r}: {error}"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def content_md5(body: bytes) -> str:
    """RFC 1864; a check of transport, not of origin."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode("ascii")
