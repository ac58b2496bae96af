"""NSEC records made for the question deny the name asked and nothing that exists."""

from __future__ import annotations

import dns.name
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dnssteer import denial
from dnssteer.signing import closest_encloser, types_at
from tests.unit.dnssteer.test_answer import ZONE

ORIGIN = ZONE.origin
labels = st.one_of(
    st.sampled_from(
        [b"\x00", b"a\x00", b"[", b"@", b"{", b"`", b"*", b"\xff", b"\xff" * 63, b"a" * 63, b"v3fa", b"v3f", b"_https"]
    ),
    st.binary(min_size=1, max_size=63),
)
names = st.lists(labels, min_size=1, max_size=3).map(lambda made: dns.name.Name((*made, *ORIGIN.labels)).canonicalize())

# What a denial must never cover: the fixed names, some logical hosts, and what is below those.
EXISTING = [
    *ZONE.names,
    *(dns.name.from_text(f"v{bucket:03x}.cdn.test") for bucket in (0, 1, 0x3F9, 0x3FA, 0x3FB, 0xFFF)),
    *(dns.name.from_text(text) for text in ("_https.v3fa.cdn.test", "_8443._https.v3fa.cdn.test", "_443._https.v3fa.cdn.test")),
]


def covers(owner: dns.name.Name, following: dns.name.Name, name: dns.name.Name) -> bool:
    return owner < name and (name < following or following <= ORIGIN)


@given(names)
@example(dns.name.Name((b"\x00", *ORIGIN.labels)))
@example(dns.name.Name((b"v3fa\x00", *ORIGIN.labels)))
@example(dns.name.Name((b"x", b"y", b"\xff" * 63, *ORIGIN.labels)))
@example(dns.name.Name((b"\xff" * 63, b"v3fa", *ORIGIN.labels)))
def test_a_denial_covers_the_name_and_its_wildcard_and_nothing_that_exists(name: dns.name.Name) -> None:
    assume(name not in ZONE.names and ZONE.logical(name) is None)
    encloser = closest_encloser(name, ZONE)
    assert name.is_subdomain(encloser)
    spans = [(rrset.name, rrset[0].next) for rrset in denial.nxdomain(name, encloser, ORIGIN, 20)]
    assert any(covers(owner, following, name) for owner, following in spans)
    assert any(covers(owner, following, dns.name.Name((b"*", *encloser.labels))) for owner, following in spans)
    for owner, following in spans:
        assert owner.is_subdomain(ORIGIN)
        assert not any(covers(owner, following, existing) for existing in EXISTING), (owner, following)


@given(names)
def test_a_name_without_the_type_reaches_to_the_first_name_below_it(name: dns.name.Name) -> None:
    made = denial.nodata(name, types_at(name, ZONE), ORIGIN, 20)
    assert made.name == name
    assert name < made[0].next or made[0].next <= ORIGIN
    assert not any(covers(name, made[0].next, existing) for existing in EXISTING if existing != name)
