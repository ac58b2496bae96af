"""Both keys of a zone are replaced while a validating resolver asks for it, and a parent zone follows its CDS records."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest
import structlog

from dnssteer.keykeeper import KeyKeeper
from dnssteer.keyroll import Keys, Role, State, Timing
from dnssteer.responder import Responder
from dnssteer.signing import OnlineSigning
from dnssteer.sockets import serve_dns
from dnssteer.zonekeys import ZoneKeys
from headwater.rules.addresses import Address
from headwater.runtime.metrics import value
from headwater.runtime.tasks import Supervised
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot
from tests.support.deployments import free_port
from tests.support.validating import validating

LOG = structlog.get_logger()
CHILD, PARENT = dns.name.from_text("cdn.test"), dns.name.from_text("test")
TTL_S = 1
# Resolvers count in whole seconds.
TIMING = Timing(key_ttl_s=TTL_S, max_ttl_s=TTL_S, propagation_s=1)


def snapshot(deployment: Deployment, zone: str, version: int, records: dict[str, Any]) -> Snapshot:
    """Of a signed zone whose sets live for a second."""
    settings = deployment.dns.model_copy(
        update={"dnssec": True, "records": records, "ttl": TTL_S, "record_ttl": TTL_S, "negative_ttl": TTL_S}
    )
    # Copied, because a DS is none of the records that an operator may set.
    changed = deployment.model_copy(update={"zone": zone, "dns": settings})
    return Snapshot(version=version, deployment=deployment).model_copy(update={"deployment": changed})


@asynccontextmanager
async def served(first: Snapshot, keys: ZoneKeys) -> AsyncIterator[tuple[Responder, Address]]:
    responder = Responder(first, LOG, signing=OnlineSigning(keys.current, TTL_S))
    address = Address("127.0.0.1", free_port())
    async with serve_dns(responder, address):
        yield responder, address
    responder.close()


async def asked(port: int, name: str, kind: str) -> dns.message.Message:
    return await dns.asyncquery.tcp(dns.message.make_query(name, kind, want_dnssec=True), "127.0.0.1", 10, port)


async def authentic(port: int, names: itertools.count[int]) -> None:
    """One name that exists, one that does not, and the keys."""
    for name, kind, rcode in (
        (f"v{next(names) % 4096:03x}.cdn.test", "A", dns.rcode.NOERROR),
        (f"no{next(names)}.cdn.test", "A", dns.rcode.NXDOMAIN),
        ("cdn.test", "DNSKEY", dns.rcode.NOERROR),
    ):
        reply = await asked(port, name, kind)
        assert (reply.rcode(), bool(reply.flags & dns.flags.AD)) == (rcode, True), f"{name} {kind}: {reply}"


async def delv_validates(folder: Path, port: int, anchor: Path, name: str) -> None:
    """delv follows the chain from the parent's key by itself; the resolver only carries."""
    process = await asyncio.create_subprocess_exec(
        "delv", "@127.0.0.1", "-p", str(port), "-a", str(anchor), "+root=test", name, "A",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert "; fully validated" in out.decode(), out.decode()


@pytest.mark.skipif(shutil.which("unbound") is None, reason="unbound is not installed")
@pytest.mark.skipif(shutil.which("delv") is None, reason="delv (bind9-dnsutils) is not installed")
async def test_every_answer_validates_while_both_keys_are_replaced_and_the_parent_follows(
    deployment: Deployment, tmp_path: Path
) -> None:
    above, below = ZoneKeys(tmp_path / "above", "test"), ZoneKeys(tmp_path / "below", "cdn.test")
    old = {place.tag for place in below.current.places}
    ds = below.current.delegation(CHILD, TTL_S).partition(" DS ")[2]
    at_parent = snapshot(deployment, "test", 1, {"cdn": {"DS": [ds]}})
    async with (
        served(at_parent, above) as (parent, parent_address),
        served(snapshot(deployment, "cdn.test", 1, {}), below) as (child, child_address),
        validating(
            tmp_path, above.current.delegation(PARENT, TTL_S), {"cdn.test": child_address, "test": parent_address}
        ) as resolver,
        Supervised(LOG) as tasks,
    ):
        keeper = KeyKeeper(below, "cdn.test", lambda: TIMING, [parent_address], child.use_keys, LOG)
        tasks.start("keep", lambda: keeper.keep(look_every_s=0.02, ask_every_s=0.1))
        record = above.current.of_keys[0].record.to_text().split(maxsplit=3)
        anchor = tmp_path / "anchor.conf"
        anchor.write_text(f'trust-anchors {{ "test." static-key 257 3 13 "{"".join(record[3].split())}"; }};')
        names = itertools.count()
        await authentic(resolver.port, names)
        with_ds = value("headwater_dns_key_steps_total", role="ksk", step="ds_seen")
        for role in Role:
            # As `headwater dns keys roll` does it, in a process of its own.
            ZoneKeys(tmp_path / "below", "cdn.test").roll(role)
        seen: set[tuple[Role, State]] = set()
        checked: Keys = ()
        async with asyncio.timeout(60):
            while not rolled(below.current.places, old):
                await authentic(resolver.port, names)
                if checked != below.current.places:
                    checked = below.current.places
                    seen |= {(place.role, place.state) for place in checked}
                    await delv_validates(tmp_path, resolver.port, anchor, f"v{next(names) % 4096:03x}.cdn.test")
                wanted = await asked(resolver.port, "cdn.test", "CDS")
                assert wanted.flags & dns.flags.AD
                found = [one.to_text() for one in wanted.answer[0]]
                if found != [ds]:
                    ds = found[0]
                    parent.use(snapshot(deployment, "test", parent.snapshot.version + 1, {"cdn": {"DS": [ds]}}))
        # Until nothing of before is in the resolver's cache.
        until = asyncio.get_running_loop().time() + TTL_S + 1
        while asyncio.get_running_loop().time() < until:
            await authentic(resolver.port, names)
    assert seen >= {(Role.ZSK, State.PUBLISHED), (Role.ZSK, State.RETIRED), (Role.KSK, State.PUBLISHED)}
    assert seen >= {(Role.KSK, State.SUBMITTED)}
    assert value("headwater_dns_key_steps_total", role="ksk", step="ds_seen") == with_ds + 1
    assert value("headwater_dns_zone_keys", role="ksk", state="active") == 1


def rolled(places: Keys, old: set[int]) -> bool:
    return len(places) == 2 and not old & {place.tag for place in places}
