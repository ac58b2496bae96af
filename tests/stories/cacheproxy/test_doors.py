"""The other ways into an edge, over real sockets: TLS, a balancer's PROXY protocol, both, and congestion control."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from headwater.cacheproxy.fills.parents import Parent, ParentClient, ParentTrouble
from headwater.cacheproxy.front.doors import Door
from headwater.rules.proxyheader import SIGNATURE
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.listener import listening_socket
from headwater.runtime.metrics import value
from headwater.runtime.tls import Certificates, ParentCertificate
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from headwater.settings.limits import Limits
from headwater.settings.listening import CertificateFiles, ProxyProtocol, TierTls, Tls
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Property
from headwater.settings.units import Address
from tests.support.certificates import authority
from tests.support.proxies import RunningEdge, running_edge
from tests.support.rawhttp import Answer, answers, exchange
from tests.support.scriptedparent import scripted_parent, serving
from tests.support.waiting import until

GET = b"GET /a HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n"
LOG = structlog.get_logger()


@asynccontextmanager
async def edge_with(deployment: Deployment, folder: Path, door: Door, limits: Limits | None = None) -> AsyncIterator[RunningEdge]:
    async with scripted_parent(serving(b"body")) as parent:
        settings = Property(hosts=["www.test"], signed=False, parent=parent.address.url, shielded=False, cors=False)
        snapshot = Snapshot(version=1, deployment=deployment.model_copy(update={"properties": {"site": settings}}))
        async with running_edge(snapshot, folder, limits=limits, doors=[door]) as edge:
            yield edge


def listen(deployment: Deployment) -> Address:
    return deployment.edge("fra-1").listen


def tls_of(deployment: Deployment, *files: CertificateFiles, **settings: object) -> Certificates:
    return Certificates(Tls.model_validate({"listen": listen(deployment), "certificates": list(files), **settings}), LOG)


async def ask(edge: RunningEdge, *sent: bytes, tls: ssl.SSLContext | None = None, name: str | None = None) -> Answer:
    (answer,) = answers(await exchange(edge.address, *sent, tls=tls, name=name))
    return answer


async def shown(edge: RunningEdge, context: ssl.SSLContext, name: str) -> int:
    """The serial number of the certificate that the edge shows for a name."""
    _, writer = await asyncio.open_connection(edge.address.host, edge.address.port, ssl=context, server_hostname=name)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    return int(certificate["serialNumber"], 16)


def serial(files: CertificateFiles) -> int:
    from cryptography import x509

    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(deployment: Deployment, tmp_path: Path, version: ssl.TLSVersion) -> None:
    ca = authority(tmp_path / "tls")
    certificates = tls_of(deployment, ca.issue("a", "www.test"))
    async with edge_with(deployment, tmp_path, Door(listen(deployment), certificates)) as edge:
        for _ in range(2):
            assert (await ask(edge, GET, tls=ca.client(version=version), name="www.test")).body == b"body"
            await edge.settled()


async def test_what_is_older_than_the_minimum_is_refused_and_counted(deployment: Deployment, tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    certificates = tls_of(deployment, ca.issue("a", "www.test"), minimum="1.3")
    async with edge_with(deployment, tmp_path, Door(listen(deployment), certificates)) as edge:
        before = value("headwater_cache_refusals_total", reason="tls_handshake")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(edge, GET, tls=ca.client(version=ssl.TLSVersion.TLSv1_2), name="www.test")
        assert (await ask(edge, GET, tls=ca.client(), name="www.test")).status == 200
        assert value("headwater_cache_refusals_total", reason="tls_handshake") == before + 1


async def test_each_name_gets_its_certificate_exact_before_wildcard(deployment: Deployment, tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    first, wild, exact = ca.issue("a", "www.test"), ca.issue("b", "*.cdn.test"), ca.issue("c", "v001.cdn.test")
    certificates = tls_of(deployment, first, wild, exact)
    async with edge_with(deployment, tmp_path, Door(listen(deployment), certificates)) as edge:
        context = ca.client()
        assert await shown(edge, context, "www.test") == serial(first)
        assert await shown(edge, context, "v3fa.cdn.test") == serial(wild)
        assert await shown(edge, context, "v001.cdn.test") == serial(exact)
        context.check_hostname = False
        assert await shown(edge, context, "other.test") == serial(first)


async def test_a_hello_that_comes_byte_by_byte_gets_its_names_certificate(deployment: Deployment, tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    first, second = ca.issue("a", "www.test"), ca.issue("b", "v3fa.cdn.test")
    async with edge_with(deployment, tmp_path, Door(listen(deployment), tls_of(deployment, first, second))) as edge:
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ca.client().wrap_bio(received, sent, server_hostname="v3fa.cdn.test")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        for byte in sent.read():
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        while True:
            received.write(await reader.read(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
        certificate = client.getpeercert()
        assert certificate is not None
        assert int(str(certificate["serialNumber"]), 16) == serial(second)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", "hello"])
async def test_a_client_that_leaves_before_or_in_its_handshake_disturbs_nobody(
    deployment: Deployment, tmp_path: Path, sent: bytes | str
) -> None:
    ca = authority(tmp_path / "tls")
    certificates = tls_of(deployment, ca.issue("a", "www.test"), ca.issue("b", "v3fa.cdn.test"))
    if isinstance(sent, str):
        out = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            ca.client().wrap_bio(ssl.MemoryBIO(), out, server_hostname="www.test").do_handshake()
        sent = out.read()
    async with edge_with(deployment, tmp_path, Door(listen(deployment), certificates)) as edge:
        for _ in range(3):
            _, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
            writer.write(sent)
            writer.close()
            await writer.wait_closed()
        assert (await ask(edge, GET, tls=ca.client(), name="www.test")).status == 200


async def test_new_certificate_files_are_taken_up_and_bad_ones_are_not(deployment: Deployment, tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    files = ca.issue("a", "www.test")
    certificates = tls_of(deployment, files)
    async with edge_with(deployment, tmp_path, Door(listen(deployment), certificates)) as edge:
        old = serial(files)
        assert await shown(edge, ca.client(), "www.test") == old
        new = serial(ca.issue("a", "www.test"))
        certificates.look()
        assert await shown(edge, ca.client(), "www.test") == new != old
        refused = value("headwater_tls_reloads_total", outcome="refused")
        files.certificate.write_text("no certificate")
        with capture_logs() as logs:
            certificates.look()
            certificates.look()
        assert [line["event"] for line in logs] == ["new certificate files refused; serving with the old ones"]
        assert value("headwater_tls_reloads_total", outcome="refused") == refused + 1
        assert await shown(edge, ca.client(), "www.test") == new


def test_a_certificate_that_is_not_there_is_one_sentence(deployment: Deployment, tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    one, other = ca.issue("a", "www.test"), ca.issue("b", "www.test")
    with pytest.raises(CannotStart, match=r"nothing\.pem cannot be read"):
        tls_of(deployment, CertificateFiles(certificate=tmp_path / "nothing.pem", key=one.key))
    with pytest.raises(CannotStart, match="do not fit"):
        tls_of(deployment, CertificateFiles(certificate=one.certificate, key=other.key))


async def test_mutual_tls_lets_in_only_those_whom_the_authority_knows(deployment: Deployment, tmp_path: Path) -> None:
    ca, stranger = authority(tmp_path / "tls"), authority(tmp_path / "other")
    certificates = tls_of(deployment, ca.issue("a", "www.test"), client_authority=ca.file)
    async with edge_with(deployment, tmp_path, Door(listen(deployment), certificates)) as edge:
        own, foreign = ca.issue("edge", "fra-1"), stranger.issue("edge", "fra-1")
        assert (await ask(edge, GET, tls=ca.client(own), name="www.test")).status == 200
        for context in (ca.client(), ca.client(foreign)):
            received = b""
            with contextlib.suppress(ssl.SSLError, ConnectionError):  # in TLS 1.3 the client learns of it with its first read
                received = await exchange(edge.address, GET, tls=context, name="www.test")
            assert received == b""
        tier = TierTls(authority=ca.file, certificate=own.certificate, key=own.key)
        assert (await ask(edge, GET, tls=ParentCertificate(tier, LOG).context, name="www.test")).status == 200


async def test_a_handshake_that_does_not_come_ends(deployment: Deployment, tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    certificates = tls_of(deployment, ca.issue("a", "www.test"))
    limits = Limits.model_validate({"header_timeout": "200 ms"})
    async with edge_with(deployment, tmp_path, Door(listen(deployment), certificates), limits) as edge:
        assert await exchange(edge.address, b"") == b""
        received = await exchange(edge.address, GET)  # plain HTTP on the TLS port
        assert b"HTTP/1" not in received


def v2(client: str) -> bytes:
    return SIGNATURE + b"\x21\x11\x00\x0c" + ip_address(client).packed + bytes(4) + struct.pack("!HH", 5000, 443)


def balanced(*networks: str) -> ProxyProtocol:
    return ProxyProtocol.model_validate({"from": list(networks)})


@pytest.mark.parametrize("head", [b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n", v2("192.0.2.7")])
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_the_client_that_a_balancer_tells_is_the_client(
    deployment: Deployment, tmp_path: Path, head: bytes, in_pieces: bool
) -> None:
    door = Door(listen(deployment), balancers=balanced("127.0.0.0/8"))
    limits = Limits.model_validate({"client_rate": 0.5, "client_burst": 1})
    async with edge_with(deployment, tmp_path, door, limits) as edge:
        sent = [bytes((byte,)) for byte in head] + [GET] if in_pieces else [head + GET]
        assert (await ask(edge, *sent)).body == b"body"
        assert json.loads(edge.log.getvalue().splitlines()[-1])["client"] == "192.0.2.7"
        assert (await ask(edge, head + GET)).reason == "client_rate"  # 127.0.0.1 is exempt, 192.0.2.7 is not


async def test_a_balancers_own_checks_are_its_own(deployment: Deployment, tmp_path: Path) -> None:
    door = Door(listen(deployment), balancers=balanced("127.0.0.0/8"))
    async with edge_with(deployment, tmp_path, door) as edge:
        for head in (b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\x00\x00\x00"):
            assert (await ask(edge, head + GET)).status == 200
            assert json.loads(edge.log.getvalue().splitlines()[-1])["client"].startswith("127.")


@pytest.mark.parametrize("sent", [GET, b"PROXY TCP4 x y 1 2\r\n" + GET, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00"])
async def test_a_balancer_without_a_good_header_is_refused(deployment: Deployment, tmp_path: Path, sent: bytes) -> None:
    door = Door(listen(deployment), balancers=balanced("127.0.0.0/8"))
    async with edge_with(deployment, tmp_path, door) as edge:
        before = value("headwater_cache_refusals_total", reason="proxy_header_bad")
        assert await exchange(edge.address, sent) == b""
        assert value("headwater_cache_refusals_total", reason="proxy_header_bad") == before + 1


@pytest.mark.parametrize("networks", [("192.0.2.0/24",), ()])
async def test_a_header_from_elsewhere_is_refused(deployment: Deployment, tmp_path: Path, networks: tuple[str, ...]) -> None:
    door = Door(listen(deployment), balancers=balanced(*networks) if networks else None)
    async with edge_with(deployment, tmp_path, door) as edge:
        for head in (b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n", v2("192.0.2.7")):
            refused = await ask(edge, head + GET)
            assert (refused.status, refused.reason) == (400, "proxy_header_unexpected")
        assert (await ask(edge, GET)).status == 200


async def test_the_header_comes_before_tls(deployment: Deployment, tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    certificates = tls_of(deployment, ca.issue("a", "www.test"))
    door = Door(listen(deployment), certificates, balanced("127.0.0.0/8"))
    async with edge_with(deployment, tmp_path, door) as edge:
        loop = asyncio.get_running_loop()
        client = socket.create_connection((edge.address.host, edge.address.port))
        client.setblocking(False)
        await loop.sock_sendall(client, v2("192.0.2.7"))
        reader, writer = await asyncio.open_connection(sock=client, ssl=ca.client(), server_hostname="www.test")
        writer.write(GET)
        assert answers(await reader.read())[0].body == b"body"
        assert json.loads(edge.log.getvalue().splitlines()[-1])["client"] == "192.0.2.7"
        writer.close()
        await writer.wait_closed()


def test_congestion_control_is_the_kernels_where_it_is_not_known() -> None:
    with capture_logs() as logs:
        listener = listening_socket(Address("127.0.0.1", 0), congestion="nonesuch", log=structlog.get_logger())
    listener.close()
    assert [line["event"] for line in logs] == ["congestion control not available; keeping the kernel's default"]


def test_connections_have_the_congestion_control_of_their_listener() -> None:
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    wanted = "bbr" if "bbr" in available else "reno"
    listener = listening_socket(Address("127.0.0.1", 0), congestion=wanted)
    with listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode() == wanted


async def test_a_parent_with_tls_is_asked_over_it_and_shown_this_nodes_certificate(tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    server, own = ca.issue("shield", "shield-1"), ca.issue("edge", "fra-1")
    settings = Tls.model_validate({"listen": "127.0.0.1:1", "certificates": [server], "client_authority": ca.file})
    seen: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peercert")["subject"])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=Certificates(settings, LOG).context)
    address = Address("127.0.0.1", listening.sockets[0].getsockname()[1])
    tier = TierTls(authority=ca.file, certificate=own.certificate, key=own.key)
    async with ParentClient(CacheSettings(), ParentCertificate(tier, LOG)) as client:
        answer = await client.ask(Parent("shield-1", "http://127.0.0.1:1", secure_url=f"https://{address}"), "/a", ())
        assert answer.status == 200
        answer.close()
        with pytest.raises(ParentTrouble):  # the certificate is for another node
            await client.ask(Parent("shield-2", "http://127.0.0.1:1", secure_url=f"https://{address}"), "/a", ())
    assert seen[0] == ((("commonName", "fra-1"),),)
    listening.close()


async def test_of_a_crowd_that_comes_at_once_nobody_waits_for_those_who_ask_again_and_again(
    deployment: Deployment, tmp_path: Path
) -> None:
    """In each turn of the loop whoever is in may have asked anew, so it is turns that the others wait for."""
    crowd = 1000
    async with edge_with(deployment, tmp_path, Door(listen(deployment))) as edge:
        clients = [socket.create_connection((edge.address.host, edge.address.port)) for _ in range(crowd)]
        turns = 0
        while edge.gate.connections < crowd:
            await asyncio.sleep(0)
            turns += 1
            assert turns < 40, f"only {edge.gate.connections} are in"
        for client in clients:
            client.close()
        await until(lambda: edge.gate.connections == 0)
