"""Who may upload: tokens at the API, as creators and operators live them."""

from __future__ import annotations

import asyncio
import secrets
import stat
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from headwater.rules.apitokens import DRAWN_BYTES, ApiToken, Scope, StoredToken, draw_token
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import reading, writing
from origin.catalogue.ownertoken import CREATOR_FILE, ensure_creator_token
from origin.catalogue.schema import api_tokens, uploads
from origin.catalogue.tokens import keep_token, revoke_token
from tests.support.deployments import with_uploads
from tests.support.origin import Answer, RunningApi, bearer, running_api

SAID = {"title": "A clip", "size": 5, "content_type": "video/mp4", "filename": "clip.mp4"}


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


async def token_of(api: RunningApi, name: str, *scopes: Scope, **stored: Any) -> ApiToken:
    token = draw_token(secrets.token_bytes(DRAWN_BYTES))
    async with writing(api.catalogue) as connection:
        await keep_token(connection, StoredToken(token.id, name, token.secret_sha256, frozenset(scopes), 1.0, **stored))
    return token


async def begin_as(api: RunningApi, token: ApiToken | None) -> Answer:
    headers = bearer(token) if token else {"Authorization": ""}
    return await api.creator.ask("POST", "/api/v1/videos", json=SAID, headers=headers)


async def test_an_upload_without_a_token_is_refused_with_the_cure_and_counted(api: RunningApi) -> None:
    before = value("headwater_api_problems_total", problem="token-missing")
    answer = await begin_as(api, None)
    assert (answer.status, answer.problem) == (401, "token-missing")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="headwater", scope="upload"'
    assert "headwater tokens create" in answer.body["detail"]
    assert value("headwater_api_problems_total", problem="token-missing") == before + 1
    async with reading(api.catalogue) as connection:
        assert (await connection.execute(select(uploads.c.id))).first() is None


@pytest.mark.parametrize(
    ("kept", "status", "problem"),
    [
        ({"scopes": (Scope.UPLOAD,)}, 201, ""),
        ({"scopes": (Scope.MANAGE,)}, 201, ""),
        ({"scopes": (Scope.VIEW,)}, 403, "token-scope"),
        ({"scopes": (Scope.UPLOAD,), "expires_at": 2.0}, 401, "token-expired"),
        ({"scopes": (Scope.UPLOAD,), "revoked_at": 2.0}, 401, "token-revoked"),
    ],
)
async def test_a_token_permits_what_its_scopes_say_while_it_holds(
    api: RunningApi, kept: dict[str, Any], status: int, problem: str
) -> None:
    scopes = kept.pop("scopes")
    answer = await begin_as(api, await token_of(api, "ann", *scopes, **kept))
    assert (answer.status, answer.problem) == (status, problem)


async def test_a_token_that_is_revoked_is_refused_at_its_next_request(api: RunningApi) -> None:
    token = await token_of(api, "ann", Scope.UPLOAD)
    begun = await begin_as(api, token)
    async with writing(api.catalogue) as connection:
        assert await revoke_token(connection, token.id, time.time())
    path = f"/api/v1/videos/{begun.body['video_id']}/upload"
    assert (await api.creator.ask("GET", path, headers=bearer(token))).problem == "token-revoked"
    assert (await api.creator.ask("POST", f"{path}/complete", headers=bearer(token))).problem == "token-revoked"


async def test_an_upload_is_its_creators_on_every_device_and_nobody_elses_but_a_managers(api: RunningApi) -> None:
    phone, desk = [await token_of(api, "ann", Scope.UPLOAD) for _ in range(2)]
    bob, manager = await token_of(api, "bob", Scope.UPLOAD), await token_of(api, "root", Scope.MANAGE)
    begun = await begin_as(api, phone)
    path = f"/api/v1/videos/{begun.body['video_id']}/upload"
    statuses = {who: (await api.creator.ask("GET", path, headers=bearer(token))).status for who, token in
                (("phone", phone), ("desk", desk), ("bob", bob), ("manager", manager))}  # fmt: skip
    assert statuses == {"phone": 200, "desk": 200, "bob": 403, "manager": 200}
    answer = await api.creator.ask("POST", f"{path}/complete", headers=bearer(bob))
    assert (answer.problem, "ann" in answer.body["detail"]) == ("upload-not-yours", True)


async def test_reading_stays_open_to_everybody(api: RunningApi) -> None:
    video_id = await api.creator.upload(b"bytes")
    for path in ("", f"/{video_id}", f"/{video_id}/playback"):
        answer = await api.creator.ask("GET", f"/api/v1/videos{path}", headers={"Authorization": ""})
        assert answer.status == 200, answer


async def test_no_answer_tells_which_library_serves(api: RunningApi) -> None:
    for path in ("/api/v1/videos", "/api/v1/videos/AAAAAAAAAAA", "/upload/tus"):
        assert (await api.creator.ask("GET", path)).headers["Server"] == "headwater"


async def test_a_deployment_may_do_without_tokens(deployment: Deployment) -> None:
    async with running_api(with_uploads(deployment, require_tokens=False)) as api:
        del api.creator.session.headers["Authorization"]  # type: ignore[attr-defined]
        assert (await api.creator.begin(5)).status == 201


@pytest.mark.parametrize(
    ("page", "status"),
    [
        (None, 201),  # no browser
        ("http://127.0.0.1:{port}", 201),
        ("https://studio.example", 201),
        ("https://elsewhere.example", 403),
        ("http://studio.example", 403),  # another origin than with https
        ("null", 403),
    ],
)
async def test_without_tokens_only_our_own_pages_and_listed_ones_may_upload(
    deployment: Deployment, page: str | None, status: int
) -> None:
    """A user's browser sends to us whatever a page of any site tells it to."""
    async with running_api(with_uploads(deployment, require_tokens=False, pages=["https://studio.example"])) as api:
        del api.creator.session.headers["Authorization"]  # type: ignore[attr-defined]
        said = {"Origin": page.format(port=deployment.origin.api.listen.port)} if page else {}
        by_parts = await api.creator.ask("POST", "/api/v1/videos", json=SAID, headers=said)
        by_session = await api.creator.ask("POST", "/upload/youtube/v3/videos?uploadType=resumable", data=b"", headers=said)
        assert (by_parts.status, by_session.status) == (status, 200 if status == 201 else 403)
        assert status == 201 or by_parts.problem == by_session.problem == "page-foreign"


async def test_part_urls_and_sessions_end_with_the_token_that_they_were_given_to(api: RunningApi) -> None:
    """They are permissions by themselves: without this they would outlive the token by hours."""
    phone, desk = [await token_of(api, "ann", Scope.UPLOAD) for _ in range(2)]
    begun = await begin_as(api, phone)
    [part] = begun.body["upload"]["parts"]
    session_path = "/upload/youtube/v3/videos?uploadType=resumable"
    session = await api.creator.ask("POST", session_path, data=b"", headers=bearer(phone))
    async with writing(api.catalogue) as connection:
        assert await revoke_token(connection, phone.id, time.time())
    before = value("headwater_origin_part_puts_total", outcome="token-revoked")
    refused = await api.creator.put(part, b"bytes")
    assert (refused.status, refused.problem) == (403, "token-revoked")
    assert refused.headers["Access-Control-Allow-Origin"] == "*"
    assert value("headwater_origin_part_puts_total", outcome="token-revoked") == before + 1
    no_more = await api.creator.ask("PUT", session.headers["Location"], data=b"bytes", headers={"Authorization": ""})
    assert (no_more.status, no_more.problem) == (403, "token-revoked")

    # Another token's id in the URL is another URL; one of the same creator gets a URL of its own, and goes on.
    assert (await api.creator.put(part | {"url": part["url"].replace(phone.id, desk.id)}, b"bytes")).problem == "signature-wrong"
    state = await api.creator.ask("GET", f"/api/v1/videos/{begun.body['video_id']}/upload", headers=bearer(desk))
    assert (await api.creator.put(state.body["parts"][0], b"bytes")).status == 204


async def test_a_token_that_held_a_moment_ago_is_not_looked_up_for_every_part(api: RunningApi) -> None:
    begun = await begin_as(api, token := await token_of(api, "ann", Scope.UPLOAD))
    [part] = begun.body["upload"]["parts"]
    assert (await api.creator.put(part, b"bytes")).status == 204
    async with writing(api.catalogue) as connection:
        assert await revoke_token(connection, token.id, time.time())
    answers = [await api.creator.put(part, b"bytes")]
    async with asyncio.timeout(20):
        while answers[-1].status == 204:  # believed for BELIEVED_S
            answers.append(await api.creator.put(part, b"bytes"))
    assert answers[-1].problem == "token-revoked"


async def test_the_catalogue_holds_no_secret(api: RunningApi) -> None:
    async with reading(api.catalogue) as connection:
        rows = (await connection.execute(select(api_tokens))).mappings().all()
    assert [row["id"] for row in rows] == [api.token.id]
    assert not any(api.token.secret in str(dict(row)) for row in rows)


async def test_a_lab_makes_its_owners_token_once_and_anew_when_it_was_revoked(deployment: Deployment) -> None:
    first = await ensure_creator_token(deployment)
    assert await ensure_creator_token(deployment) == first
    file = deployment.data / CREATOR_FILE
    assert (file.read_text().strip(), stat.S_IMODE(file.stat().st_mode)) == (first.text, 0o600)
    async with running_api(deployment) as api:
        assert api.token == first
        async with writing(api.catalogue) as connection:
            await revoke_token(connection, first.id, 1.0)
    assert await ensure_creator_token(deployment) != first


async def test_a_strangers_requests_do_not_end_an_append_that_is_under_way(api: RunningApi) -> None:
    bob = bearer(await token_of(api, "bob", Scope.UPLOAD)) | {"Tus-Resumable": "1.0.0"}
    fields = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    begun = await api.creator.ask("POST", "/upload/tus", headers=fields)
    video_id = begun.headers["Headwater-Video"]
    path, appending = f"/upload/tus/{video_id}", {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    address = api.deployment.origin.api.listen
    reader, writer = await asyncio.open_connection(address.host, address.port)
    said = {"Host": str(address), "Content-Length": "10", "Expect": "100-continue", **bearer(api.token), **fields, **appending}
    writer.write(
        "".join([f"PATCH {path} HTTP/1.1\r\n", *(f"{name}: {text}\r\n" for name, text in said.items()), "\r\n"]).encode()
    )
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n"), "the append has its turn"
    for method, asked, headers in (
        ("HEAD", path, {}),
        ("PATCH", path, appending),
        ("DELETE", path, {}),
        ("DELETE", f"/api/v1/videos/{video_id}/upload", {}),
        ("POST", f"/api/v1/videos/{video_id}/upload/complete", {}),
    ):
        assert (await api.creator.ask(method, asked, headers={**bob, **headers})).status == 403, (method, asked)
    writer.write(bytes(10))
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert (b" 204 " in head, b"Upload-Offset: 10" in head) == (True, True), head


async def test_an_idempotency_key_is_its_creators_own(api: RunningApi) -> None:
    tokens = [await token_of(api, name, Scope.UPLOAD) for name in ("ann", "bob")]
    ids = []
    for token in [*tokens, *tokens]:
        headers = {**bearer(token), "Idempotency-Key": "clip-1"}
        answer = await api.creator.ask("POST", "/api/v1/videos", json=SAID, headers=headers)
        assert answer.status == 201, answer
        ids.append(answer.body["video_id"])
    assert (ids[:2] == ids[2:], len(set(ids))) == (True, 2)
