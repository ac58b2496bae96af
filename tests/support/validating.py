"""A real validating resolver (unbound) for tests of signed zones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.message
import dns.resolver

from headwater.rules.addresses import Address
from tests.support.deployments import free_port


@asynccontextmanager
async def validating(folder: Path, anchor: str, servers: Mapping[str, Address]) -> AsyncIterator[dns.resolver.Resolver]:
    """Trusts `anchor`, asks each zone at its server, and sends client subnets."""
    port, config = free_port(), folder / "unbound.conf"
    stubs = "".join(f"stub-zone:\n  name: {zone}\n  stub-addr: {at.host}@{at.port}\n" for zone, at in servers.items())
    config.write_text(
        f"""
server:
  module-config: "subnetcache validator iterator"
  interface: 127.0.0.1@{port}
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  do-daemonize: no
  use-syslog: no
  chroot: ""
  username: ""
  pidfile: "{folder}/unbound.pid"
  val-log-level: 2
  local-zone: "test." nodefault
  rrset-roundrobin: no
  qname-minimisation: yes
  aggressive-nsec: yes
  send-client-subnet: 127.0.0.0/8
  client-subnet-always-forward: yes
  trust-anchor: "{anchor}"
{stubs}
remote-control:
  control-enable: no
"""
    )
    with (folder / "unbound.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec("unbound", "-d", "-c", str(config), stderr=log)
    try:
        probe = dns.message.make_query(next(iter(servers)), "SOA")
        async with asyncio.timeout(20):
            while True:
                try:
                    await dns.asyncquery.tcp(probe, "127.0.0.1", 2, port)
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], port
        yield resolver
    finally:
        process.terminate()
        await process.wait()
