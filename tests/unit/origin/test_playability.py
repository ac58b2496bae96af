"""Playback's pure parts: references, grants, edges."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.addresses import Address
from headwater.rules.steering import SteeredEdge
from headwater.settings.edgeurl import EdgeUrl
from origin.api.playability import Via, base_url, grant_expiry, viewers_network, without_avoided
from origin.api.references import absolute_references

URL = "http://127.0.1.1:8080/GRANT/videos/ID/master.m3u8"
BASE = "http://127.0.1.1:8080/GRANT/videos/ID/"
EDGES = tuple(SteeredEdge(name, "pop", "eu", Address("127.0.1.1", 8080)) for name in ("a", "b", "c"))


@pytest.mark.parametrize(
    ("line", "absolute"),
    [
        ("h264/720p/playlist.m3u8", f"{BASE}h264/720p/playlist.m3u8"),
        ("#EXTM3U", "#EXTM3U"),
        ("", ""),
        ('# a comment with URI="x"', '# a comment with URI="x"'),
        ('#EXT-X-MEDIA:TYPE=AUDIO,URI="aac/p.m3u8",NAME="x"', f'#EXT-X-MEDIA:TYPE=AUDIO,URI="{BASE}aac/p.m3u8",NAME="x"'),
        ('#EXT-X-MAP:URI="init.mp4",BYTERANGE="10@0"', f'#EXT-X-MAP:URI="{BASE}init.mp4",BYTERANGE="10@0"'),
        ('#EXT-X-MEDIA:NAME="a,URI=",LANGUAGE="de"', '#EXT-X-MEDIA:NAME="a,URI=",LANGUAGE="de"'),
        ('#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="i.m3u8"', f'#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="{BASE}i.m3u8"'),
        ("https://elsewhere.test/x.m3u8", "https://elsewhere.test/x.m3u8"),
        ('#EXT-X-SESSION-DATA:DATA-ID="t",VALUE="URI"', '#EXT-X-SESSION-DATA:DATA-ID="t",VALUE="URI"'),
    ],
)
def test_references_become_absolute_and_nothing_else_changes(line: str, absolute: str) -> None:
    assert absolute_references(f"{line}\n", URL) == f"{absolute}\n"
    assert absolute_references(f"#EXTM3U\r\n{line}\r\n", URL) == f"#EXTM3U\r\n{absolute}\r\n"


@given(st.text(alphabet='#EXT-MURI=",:ab/ \n\r', max_size=80))
def test_making_absolute_twice_is_making_absolute_once(text: str) -> None:
    once = absolute_references(text, URL)
    assert absolute_references(once, URL) == once


@given(st.floats(0, 2e9), st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_who_begins_within_the_lifetime_sees_the_end(now: float, lifetime_s: float, duration_s: float | None) -> None:
    assert grant_expiry(now, lifetime_s, duration_s) >= now + lifetime_s + (duration_s or 0) - 1e-3


@given(st.sets(st.sampled_from("abcd")))
def test_avoided_edges_are_left_out_in_order_and_an_answer_is_never_empty(avoid: set[str]) -> None:
    left = without_avoided(EDGES, avoid)
    assert left
    assert [edge for edge in EDGES if edge in left] == list(left)
    assert left == EDGES or not {edge.name for edge in left} & avoid


@pytest.mark.parametrize(
    ("client", "network"),
    [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2::7", "2001:db8:1::/48"), ("::ffff:192.0.2.77", "192.0.2.0/24")],
)
def test_a_viewers_network_survives_a_new_address_in_it(client: str, network: str) -> None:
    assert str(viewers_network(ip_address(client))) == network


@pytest.mark.parametrize(
    ("door", "by_address", "by_name"),
    [
        (EdgeUrl("http", "[2001:db8::1]", 8080), "http://[2001:db8::1]:8080", "http://v3fa.cdn.test:8080"),
        (EdgeUrl("https", "fra-1.cdn.test", 443), "https://fra-1.cdn.test", "https://v3fa.cdn.test"),
    ],
)
def test_urls_name_the_edge_or_the_logical_host_by_the_edges_own_door(door: EdgeUrl, by_address: str, by_name: str) -> None:
    assert base_url(door, Via.ADDRESS, "v3fa.cdn.test") == by_address
    assert base_url(door, Via.DNS, "v3fa.cdn.test") == by_name
