"""Asking the origin's API from the command line: foreign errors become two kinds, each one sentence that names the cure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import httpx
import typer

DEFAULT_API: Final = "http://127.0.0.1:7080"
CONNECT_S: Final = 5.0
ANSWER_S: Final = 60.0  # assembling a large master takes a while
CONNECTIONS: Final = 16
REFUSED_BY_STORE: Final = "refused-by-store"  # an S3 store said no to a part: its own words are in the message
_S3_CODE: Final = re.compile(r"<Error>.*<Code>([A-Za-z]{1,64})</Code>", re.DOTALL)

ApiOption = Annotated[str, typer.Option("--api", envvar="HEADWATER_API", help="Base URL of the origin's API.")]


class OriginUnreachable(Exception):
    """No answer: not there, cut off, or too slow. Trying again may help."""


class OriginRefused(Exception):
    """The origin answered with a problem document; `kind` is its stable word."""

    def __init__(self, status: int, kind: str, detail: str, facts: dict[str, Any]) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.facts = facts

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (408, 429) or self.status >= 500


class OriginClient:
    """One origin. Every call raises OriginUnreachable or OriginRefused.

    The token goes to the API alone: a part's URL is signed, and an S3 store refuses a request that shows both.
    """

    def __init__(self, client: httpx.AsyncClient, api: str, token: str | None = None) -> None:
        self._client = client
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self.api = api

    async def json(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any) -> dict[str, Any]:
        """The JSON object that the API answers with."""
        answer = await self._send(method, self.api + path, headers={**self._authorization, **(headers or {})}, **options)
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise OriginRefused(
                answer.status_code, "not-headwater", f"{self.api} is not a Headwater origin: name it with --api", {}
            )
        return content

    async def delete(self, path: str) -> None:
        await self._send("DELETE", self.api + path, headers=self._authorization)

    async def put_part(self, url: str, body: AsyncIterator[bytes], size: int, headers: Mapping[str, str]) -> None:
        """`headers` are those that the origin said for this part; no token goes with them."""
        said = {"Content-Length": str(size), "Content-Type": "application/octet-stream", **headers}
        await self._send("PUT", url, content=body, headers=said)

    async def _send(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            answer = await self._client.request(method, url, **options)
        except httpx.HTTPError as error:
            raise OriginUnreachable(self._why_unreachable(url, error)) from error
        if answer.is_success:
            return answer
        raise self._refusal(answer)

    def _why_unreachable(self, url: str, error: httpx.HTTPError) -> str:
        where = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
        cause = str(error) or type(error).__name__
        cure = "start it (`headwater up configs/lab.yaml`), or name another origin with --api or HEADWATER_API"
        return f"{where} does not answer ({cause}): {cure}."

    def _refusal(self, answer: httpx.Response) -> OriginRefused:
        try:
            problem = answer.json()
            kind = str(problem["type"]).removeprefix("urn:headwater:problem:")
            return OriginRefused(answer.status_code, kind, str(problem["detail"]), problem)
        except (ValueError, KeyError, TypeError):
            where = f"{answer.url.scheme}://{answer.url.netloc.decode()}"
            if code := _S3_CODE.search(answer.text):
                return OriginRefused(answer.status_code, REFUSED_BY_STORE, f"the store {where} refused it: {code[1]}", {})
            detail = f"{where} answered {answer.status_code} {answer.reason_phrase}"
            return OriginRefused(
                answer.status_code, "not-headwater", f"{detail}; is it a Headwater origin? Name it with --api.", {}
            )


@asynccontextmanager
async def origin_client(api: str, token: str | None = None) -> AsyncIterator[OriginClient]:
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=not _is_this_machine(api)) as client:
        yield OriginClient(client, api.rstrip("/"), token)


def checked_api(api: str) -> str:
    """`api` without a trailing slash. Raises typer.BadParameter."""
    parts = urlsplit(api)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise typer.BadParameter(f"{api!r} is no base URL; one such as {DEFAULT_API} was expected", param_hint="--api")
    return api.rstrip("/")


def _is_this_machine(api: str) -> bool:
    """A proxy named in the environment is for other machines."""
    host = urlsplit(api).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
