"""What a property may be called and filled from: a mistake is told at the start, not by 421 and 502 to viewers."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from headwater.rules.hostfield import covers
from headwater.settings.deployment import Deployment
from headwater.settings.topology import Property


def test_hosts_are_compared_without_case() -> None:
    hosts = Property(hosts=["WWW.Example.test", "*.CDN.test", "2001:DB8::1"]).hosts
    assert all(covers(hosts, host) for host in ("www.example.test", "v3fa.cdn.test", "2001:db8::1"))


@pytest.mark.parametrize(
    "host", ["http://www.test", "www.test:8080", "www.test/", "*", "a.*.test", "*.", "", "b\u00fccher.test", "www test", "[::1]"]
)
def test_what_can_be_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="is no host name"):
        Property(hosts=[host])


@pytest.mark.parametrize("parent", ["origin", "http://192.0.2.1:8080", "https://www.test", "http://[2001:db8::1]:80"])
def test_a_parent_is_a_site(parent: str) -> None:
    assert Property(hosts=["www.test"], parent=parent).parent == parent


@pytest.mark.parametrize("parent", ["http://[x", "http://www.test:99999", "http://a@www.test", "http://www.test?x", "http://a b"])
def test_a_parent_that_nobody_could_ask_is_refused(parent: str) -> None:
    with pytest.raises(ValidationError, match="is no host with an optional port"):
        Property(hosts=["www.test"], parent=parent)


def with_properties(deployment: Deployment, *properties: Property) -> Deployment:
    members = deployment.model_dump(mode="json") | {
        "properties": {f"p{number}": one.model_dump(mode="json") for number, one in enumerate(properties)}
    }
    return Deployment.model_validate(members)


UNREACHABLE = [
    ([(["www.test"], "/"), (["www.test"], "/a/")], "properties.p1: properties.p0 before it"),
    ([(["*.cdn.test"], "/"), (["a.cdn.test", "*.cdn.test"], "/")], "properties.p1: properties.p0 before it"),
    (
        [(["a.test"], "/"), (["b.test"], "/x"), (["a.test", "b.test"], "/x/y")],
        "properties.p2: properties.p0, properties.p1 before",
    ),
]


@pytest.mark.parametrize(("properties", "said"), UNREACHABLE)
def test_a_property_that_no_request_can_reach_is_told_of(
    deployment: Deployment, properties: list[tuple[list[str], str]], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        with_properties(deployment, *(Property(hosts=hosts, paths=paths) for hosts, paths in properties))


REACHABLE = [
    [(["www.test"], "/a/"), (["www.test"], "/")],
    [(["www.test"], "/"), (["www.test", "other.test"], "/a/")],
    [(["*.cdn.test"], "/"), (["cdn.test"], "/"), (["a.b.cdn.test"], "/")],
    [(["a.cdn.test"], "/"), (["*.cdn.test"], "/")],
]


@pytest.mark.parametrize("properties", REACHABLE)
def test_properties_may_share_hosts_and_paths_where_each_can_be_reached(
    deployment: Deployment, properties: list[tuple[list[str], str]]
) -> None:
    assert with_properties(deployment, *(Property(hosts=hosts, paths=paths) for hosts, paths in properties))
