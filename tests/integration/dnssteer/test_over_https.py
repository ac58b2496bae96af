"""DNS over HTTPS on real sockets, asked by httpx."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dns.message
import dns.rcode
import httpx
import pytest
import structlog

from dnssteer.door import serve_door
from dnssteer.overhttps import MEDIA_TYPE, DnsOverHttps
from dnssteer.responder import Responder
from headwater.rules.addresses import Address
from headwater.settings.deployment import Deployment
from headwater.settings.listening import Tls
from headwater.settings.snapshot import Snapshot
from tests.support.certificates import authority
from tests.support.deployments import free_port

LOG = structlog.get_logger()
QUERY = dns.message.make_query("v3fa.cdn.test", "A", id=0)


@dataclass
class Door:
    http: httpx.AsyncClient
    plain: str
    secure: Address
    ca: Path


@pytest.fixture
async def door(deployment: Deployment, tmp_path: Path) -> AsyncIterator[Door]:
    assert deployment.dns.http is not None
    ca = authority(tmp_path)
    secure = Address("127.0.0.1", free_port())
    tls = Tls(listen=secure, certificates=[ca.issue("door", "dns.cdn.test")])
    settings = deployment.dns.http.model_copy(update={"tls": tls})
    snapshot = Snapshot(version=1, deployment=deployment)
    over_https = DnsOverHttps(partial(Responder(snapshot, LOG).reply, over_tcp=True), lambda: snapshot)
    async with serve_door(settings, [over_https], LOG), httpx.AsyncClient() as http:
        yield Door(http, settings.listen.url + "/dns-query", secure, ca.file)


async def got(door: Door, message: dns.message.Message) -> httpx.Response:
    text = base64.urlsafe_b64encode(message.to_wire()).rstrip(b"=").decode()
    return await door.http.get(door.plain, params={"dns": text})


async def test_get_and_post_give_the_same_answer_and_say_how_long_it_holds(door: Door) -> None:
    for response in (
        await got(door, QUERY),
        await door.http.post(door.plain, content=QUERY.to_wire(), headers={"Content-Type": MEDIA_TYPE}),
    ):
        assert (response.status_code, response.headers["content-type"]) == (200, MEDIA_TYPE)
        assert response.headers["cache-control"] == "private, max-age=20"
        message = dns.message.from_wire(response.content)
        assert [record.to_text() for record in message.answer[0]] == ["127.0.1.1", "127.0.2.1"]


async def test_the_lifetime_is_the_smallest_ttl_and_errors_have_none(door: Door) -> None:
    """RFC 8484 section 5.1."""
    lifetimes = {"nothing.cdn.test": "20", "ns1.cdn.test": "3600", "example.org": "0"}
    for name, seconds in lifetimes.items():
        response = await got(door, dns.message.make_query(name, "A", id=0))
        assert (response.status_code, response.headers["cache-control"]) == (200, f"private, max-age={seconds}"), name


async def test_what_is_no_query_is_refused_by_status(door: Door) -> None:
    answers = [
        await door.http.get(door.plain),
        await door.http.get(door.plain, params={"dns": "!!!"}),
        await door.http.get(door.plain, params={"dns": "AAAA"}),
        await door.http.post(door.plain, content=QUERY.to_wire(), headers={"Content-Type": "text/plain"}),
        await door.http.post(door.plain, content=bytes(65_536), headers={"Content-Type": MEDIA_TYPE}),
        await door.http.put(door.plain, content=QUERY.to_wire()),
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 415, 413, 405]
    malformed = await door.http.post(door.plain, content=QUERY.to_wire()[:-1], headers={"Content-Type": MEDIA_TYPE})
    assert dns.message.from_wire(malformed.content).rcode() == dns.rcode.FORMERR, "DNS errors are answers (section 4.2.1)"


async def test_over_tls_with_a_certificate_that_is_checked(door: Door) -> None:
    trusted = ssl.create_default_context(cafile=str(door.ca))
    async with httpx.AsyncClient(verify=trusted) as http:
        reply = await http.post(
            f"https://{door.secure}/dns-query",
            content=QUERY.to_wire(),
            headers={"Content-Type": MEDIA_TYPE, "Host": "dns.cdn.test"},
            extensions={"sni_hostname": "dns.cdn.test"},
        )
    assert [record.to_text() for record in dns.message.from_wire(reply.content).answer[0]] == ["127.0.1.1", "127.0.2.1"]
