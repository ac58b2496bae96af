"""Records beside the steered ones: HTTPS, edges by name, static records, the servers' public addresses."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.message
import dns.rdatatype
import pytest
import yaml
from pydantic import ValidationError

from dnssteer.answer import Asker, answer
from dnssteer.zone import zone_of
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot
from headwater.settings.world import world_of
from tests.support.deployments import LAB

TLS = {"certificates": [{"certificate": "c.pem", "key": "k.pem"}]}


def deployment(tmp_path: Path, dns_settings: dict[str, Any] | None = None, **edges: dict[str, Any]) -> Deployment:
    content = yaml.safe_load(LAB.read_text()) | {"data": str(tmp_path)}
    content["dns"] |= dns_settings or {}
    for pop in content["pops"].values():
        for name in pop["edges"]:
            pop["edges"][name] |= edges.get(name.replace("-", "_"), {})
    return Deployment.model_validate(content)


def said(deployment: Deployment, name: str, kind: str) -> list[str]:
    """Lines of the answer section; else the outcome."""
    snapshot = Snapshot(version=1, deployment=deployment)
    query = dns.message.make_query(name, kind)
    reply = answer(query.to_wire(), Asker(ip_address("127.0.0.1")), zone_of(snapshot), world_of(snapshot))
    assert reply.wire is not None
    message = dns.message.from_wire(reply.wire)
    return [line for rrset in message.answer for line in rrset.to_text().splitlines()] or [reply.outcome.name]


def tls(listen: str) -> dict[str, Any]:
    return {"tls": {"listen": listen, **TLS}}


def test_edges_that_share_a_port_are_one_service_under_the_logical_host(tmp_path: Path) -> None:
    shared = deployment(tmp_path, fra_1=tls("127.0.1.1:8443"), iad_1=tls("127.0.2.1:8443"))
    service = 'HTTPS 1 . alpn="http/1.1" port="8443" ipv4hint="127.0.1.1,127.0.2.1"'
    assert said(shared, "v3fa.cdn.test", "HTTPS") == [f"v3fa.cdn.test. 20 IN {service}"]


def test_edges_of_two_ports_each_have_a_target_and_their_rank(tmp_path: Path) -> None:
    apart = deployment(tmp_path, fra_1=tls("127.0.1.1:8443"), iad_1=tls("127.0.2.1:9443") | {"host": "near.cdn.test"})
    assert said(apart, "v3fa.cdn.test", "HTTPS") == [
        'v3fa.cdn.test. 20 IN HTTPS 1 fra-1.cdn.test. alpn="http/1.1" port="8443" ipv4hint="127.0.1.1"',
        'v3fa.cdn.test. 20 IN HTTPS 2 near.cdn.test. alpn="http/1.1" port="9443" ipv4hint="127.0.2.1"',
    ]
    assert said(apart, "fra-1.cdn.test", "A") == ["fra-1.cdn.test. 20 IN A 127.0.1.1"], "targets have addresses"
    assert said(apart, "near.cdn.test", "A") == ["near.cdn.test. 20 IN A 127.0.2.1"]


def test_a_port_in_the_url_is_asked_for_by_a_name_of_its_own(tmp_path: Path) -> None:
    """RFC 9460 section 9.1."""
    shared = deployment(tmp_path, fra_1=tls("127.0.1.1:8443"), iad_1=tls("127.0.2.1:8443"))
    (line,) = said(shared, "_8443._https.v3fa.cdn.test", "HTTPS")
    assert "HTTPS 1 v3fa.cdn.test. " in line
    assert said(shared, "_8443._https.v3fa.cdn.test", "A") == ["NODATA"]
    assert said(shared, "_https.v3fa.cdn.test", "HTTPS") == ["NODATA"], "a name between two others exists"
    assert said(shared, "_x._https.v3fa.cdn.test", "HTTPS") == ["NXDOMAIN"]


def test_edges_without_tls_have_no_https_record(tmp_path: Path) -> None:
    """Such a record would send browsers to https (RFC 9460 section 9.5)."""
    assert said(deployment(tmp_path), "v3fa.cdn.test", "HTTPS") == ["NODATA"]


def test_static_records_at_the_apex_and_below(tmp_path: Path) -> None:
    records = {
        "@": {"CAA": '0 issue "ca.example.net"', "TXT": ['"v=spf1 -all"', '"a" "b"'], "MX": "0 ."},
        "a.b": {"TXT": '"deep"'},
        "www": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": "2001:db8::1"},
    }
    lab = deployment(tmp_path, {"records": records, "record_ttl": "60 s"})
    assert said(lab, "cdn.test", "CAA") == ['cdn.test. 60 IN CAA 0 issue "ca.example.net"']
    assert said(lab, "cdn.test", "TXT") == ['cdn.test. 60 IN TXT "v=spf1 -all"', 'cdn.test. 60 IN TXT "a" "b"']
    assert said(lab, "cdn.test", "MX") == ["cdn.test. 60 IN MX 0 ."]
    assert len(said(lab, "www.cdn.test", "A")) == 2
    assert said(lab, "www.cdn.test", "AAAA") == ["www.cdn.test. 60 IN AAAA 2001:db8::1"]
    assert said(lab, "www.cdn.test", "TXT") == ["NODATA"]
    assert said(lab, "b.cdn.test", "TXT") == ["NODATA"], "a.b makes b exist (RFC 4592 section 2.2.2)"
    assert said(lab, "b.cdn.test", "ANY") == ["NODATA"]
    assert said(lab, "c.cdn.test", "TXT") == ["NXDOMAIN"]
    assert said(lab, "v000.cdn.test", "CAA") == ["NODATA"], "certificate authorities climb to the apex (RFC 8659)"


WRONG = [
    ({"www": {"CNAME": "x."}}, r"records\.www\.CNAME: one of A, AAAA, .* was expected"),
    ({"www": {"A": "192.0.2.300"}}, r"records\.www\.A: '192\.0\.2\.300'"),
    ({"v3fa": {"TXT": '"x"'}}, r"records\.v3fa: the server answers for this name itself"),
    ({"x.fra-1": {"TXT": '"x"'}}, r"records\.x\.fra-1: the server answers for this name itself"),
    ({"*": {"TXT": '"x"'}}, r"records\.\*: a name relative to the zone was expected"),
]


@pytest.mark.parametrize(("records", "message"), WRONG)
def test_a_record_that_cannot_be_is_refused_with_its_place(tmp_path: Path, records: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        deployment(tmp_path, {"records": records})


def test_servers_on_all_addresses_are_named_by_their_public_ones(tmp_path: Path) -> None:
    public = {"ns1": ["192.0.2.53", "2001:db8::53"], "ns2": ["198.51.100.53"]}
    settings = {"listen": "0.0.0.0:53", "nameservers": ["ns1", "ns2"], "addresses": public, "negative_ttl": "5 s"}
    lab = deployment(tmp_path, settings)
    assert said(lab, "ns1.cdn.test", "AAAA") == ["ns1.cdn.test. 3600 IN AAAA 2001:db8::53"]
    assert said(lab, "ns2.cdn.test", "A") == ["ns2.cdn.test. 3600 IN A 198.51.100.53"]
    snapshot = Snapshot(version=1, deployment=lab)
    reply = answer(
        dns.message.make_query("cdn.test", "NS").to_wire(), Asker(ip_address("127.0.0.1")), zone_of(snapshot), world_of(snapshot)
    )
    assert reply.wire is not None
    glue = dns.message.from_wire(reply.wire).additional
    assert sorted(record.to_text() for rrset in glue for record in rrset) == ["192.0.2.53", "198.51.100.53", "2001:db8::53"]
    assert zone_of(snapshot).soa.to_text().endswith(" 5")
    with pytest.raises(ValidationError, match=r"dns\.addresses\.ns9: no name server of that name"):
        deployment(tmp_path, {"addresses": {"ns9": ["192.0.2.1"]}})
