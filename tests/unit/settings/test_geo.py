"""Regions by a database in MaxMind's format: lists first, then countries, then continents; and how far that holds."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.regions import Located, RegionMap, RegionMatch
from headwater.settings import geo as geo_module
from headwater.settings.geo import Geo, GeoRegions, UnreadableDatabase, current_regions, open_regions
from tests.support.mmdb import country, write_mmdb

RECORDS = {
    ip_network("10.0.0.0/8"): country("DE", "EU"),
    ip_network("11.1.0.0/16"): country("FR", "EU"),
    ip_network("12.0.0.0/9"): country("JP", "AS"),
    ip_network("13.0.0.0/24"): {"country": {"iso_code": "DE"}},
    ip_network("2001:db8::/32"): country("BR", "SA"),
}
REAL = Path(__file__).resolve().parents[4] / "shared" / "geo" / "GeoIP2-Country-Test.mmdb"


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> GeoRegions:
    file = tmp_path_factory.mktemp("geo") / "countries.mmdb"
    write_mmdb(file, RECORDS)
    return open_regions(Geo(database=file, countries={"DE": "eu", "BR": "sa"}, continents={"EU": "west", "AS": "ap"}))


TABLE = [
    # client, region, bits of its record, why
    ("10.1.2.3", "eu", 8, "a country"),
    ("11.1.2.3", "west", 16, "a continent, for its country is not mapped"),
    ("12.1.2.3", "ap", 9, "a continent"),
    ("13.0.0.9", "eu", 24, "a record without a continent"),
    ("13.0.1.9", None, 24, "next to a record there is none"),
    ("2001:db8::1", "sa", 32, "IPv6"),
    ("8.8.8.8", None, 7, "in no record; 8.0.0.0/7 has none"),
]


@pytest.mark.parametrize(("client", "region", "bits", "why"), TABLE)
def test_what_the_database_says(regions: GeoRegions, client: str, region: str | None, bits: int, why: str) -> None:
    assert regions.locate(ip_address(client)) == Located(region, bits), why


def listed(regions: GeoRegions) -> RegionMap:
    return RegionMap(((ip_network("10.9.0.0/16"), "us"), (ip_network("2001:db8:1::/48"), "us")), "rest", regions)


MATCHES = [
    ("10.9.1.1", None, "us", 16, "a list goes before the database"),
    ("10.8.1.1", None, "eu", 16, "beside a list: only as far as no list speaks"),
    ("10.200.1.1", None, "eu", 9, "the half of the record that has no list in it"),
    ("11.1.1.1", None, "west", 16, "the record's network"),
    ("8.8.8.8", None, "rest", 7, "no record: the default region"),
    ("::ffff:11.1.1.1", None, "west", 112, "IPv4-mapped"),
    ("13.0.0.0", 16, "eu", 24, "too little was said: a scope beyond it asks for more (RFC 7871 section 7.2.1)"),
    ("10.0.0.0", 8, "eu", 13, "most of it is on no list"),
]


@pytest.mark.parametrize(("client", "known_bits", "region", "bits", "why"), MATCHES)
def test_lists_and_database_together(
    regions: GeoRegions, client: str, known_bits: int | None, region: str, bits: int, why: str
) -> None:
    assert listed(regions).match(ip_address(client), known_bits) == RegionMatch(region, bits), why


near = st.sampled_from(["10.9.0.0", "10.8.255.255", "11.1.0.0", "12.128.0.0", "12.127.255.255", "13.0.0.255", "8.0.0.0"])
addresses = st.one_of(near.map(IPv4Address), st.integers(0, 2**32 - 1).map(IPv4Address))


@given(client=addresses, other_bits=st.integers(0, 2**32 - 1))
def test_whoever_shares_the_scope_shares_the_region(regions: GeoRegions, client: IPv4Address, other_bits: int) -> None:
    """The law that makes tailored answers safe to keep."""
    match = listed(regions).match(client)
    scope = IPv4Network((client, match.prefix_len), strict=False)
    other = IPv4Address(int(scope.network_address) | (other_bits & int(scope.hostmask)))
    assert listed(regions).match(other) == match


@given(client=addresses)
def test_the_scope_is_never_wider_than_the_record_that_decided(regions: GeoRegions, client: IPv4Address) -> None:
    match, lists = listed(regions).match(client), RegionMap(listed(regions).listed, "unlisted")
    if lists.match(client).region == "unlisted":
        assert match.prefix_len == max(regions.locate(client).prefix_len, lists.match(client).prefix_len)
    else:
        assert match == lists.match(client)


def test_a_replaced_file_is_read_again_and_a_lost_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geo_module, "LOOK_AGAIN_S", 0.0)
    file = tmp_path / "countries.mmdb"
    settings = Geo(database=file, countries={"DE": "eu", "JP": "ap"})
    assert current_regions(settings) is None
    with pytest.raises(UnreadableDatabase, match="put a database in MaxMind's format there"):
        open_regions(settings)
    write_mmdb(file, {ip_network("10.0.0.0/8"): country("DE", "EU")})
    first = current_regions(settings)
    assert first is not None
    assert current_regions(settings) is first
    write_mmdb(file, {ip_network("10.0.0.0/8"): country("JP", "AS")})
    second = current_regions(settings)
    assert second is not None
    assert second.locate(ip_address("10.0.0.1")).region == "ap"
    file.unlink()
    assert current_regions(settings) is second
    file.write_bytes(b"not a database")
    assert current_regions(settings) is second


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/geo, MaxMind's own test database beside the clone")
def test_a_database_of_maxmind_is_read() -> None:
    regions = open_regions(Geo(database=REAL, countries={"JP": "ap"}, continents={"EU": "eu"}))
    assert regions.locate(ip_address("2.125.160.216")) == Located("eu", 29)
    assert regions.locate(ip_address("2001:218::1")) == Located("ap", 32)
    assert regions.built_at > 0
