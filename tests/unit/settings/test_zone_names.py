"""Names that the DNS server is to answer are names of DNS: a mistake is told at the start, not by a server that takes no news."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from dnssteer.zone import zone_of
from headwater.settings.deployment import Deployment
from headwater.settings.load import ConfigError, parse_deployment
from headwater.settings.snapshot import Snapshot
from tests.support.deployments import LAB

LONG = "x" * 64


def changed(change: Callable[[dict[str, Any]], object]) -> Deployment:
    content = yaml.safe_load(LAB.read_text())
    change(content)
    return parse_deployment(yaml.safe_dump(content), LAB)


def edge_called(name: str, **settings: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["pops"]["fra"].update(edges={name: content["pops"]["fra"]["edges"]["fra-1"] | settings})


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (edge_called("fra..1"), "pops.fra.edges.fra..1"),
        (edge_called(LONG), f"pops.fra.edges.{LONG}"),
        (edge_called("fra-1."), "pops.fra.edges.fra-1."),
        (edge_called("fra-1", host=f"{LONG}.cdn.test"), "pops.fra.edges.fra-1.host"),
        (lambda content: content["dns"].update(nameservers=["ns1", "ns2..b"]), "dns.nameservers"),
        (lambda content: content["dns"].update(hostmaster=LONG), "dns.hostmaster"),
        (lambda content: content.update(zone=f"{LONG}.test"), "zone"),
    ],
)
def test_what_can_be_no_name_of_dns_is_refused(change: Callable[[dict[str, Any]], object], path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        changed(change)
    assert f"{path}: " in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        edge_called("Fra_1"),
        edge_called("1.fra", host="fra.example.net"),
        lambda content: content["dns"].update(nameservers=["ns1", "ns.example.net."]),
        lambda content: content["dns"].update(hostmaster="dns.admin"),
    ],
)
def test_the_server_makes_a_zone_of_what_is_taken(change: Callable[[dict[str, Any]], object]) -> None:
    assert zone_of(Snapshot(version=1, deployment=changed(change))).soa
