"""Grants: the published vectors in both directions, and laws over any grant and any text."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signer.grant import (
    MAX_TOKEN_CHARS,
    SIGNED_CONTEXT,
    Algorithm,
    Grant,
    GrantRefused,
    KeyId,
    KeyState,
    Refusal,
    SigningKey,
    VerifyKey,
    _encode,
    check_use,
    decode,
    looks_like_token,
    mint,
    verify,
)

DOCUMENT = json.loads((Path(__file__).resolve().parents[3] / "docs" / "signed-urls-vectors.json").read_text())
VECTORS: list[dict[str, Any]] = DOCUMENT["vectors"]
SIGNING = {
    key["key_id"]: SigningKey(KeyId(key["key_id"]), Algorithm(key["algorithm"]), bytes.fromhex(key["secret_hex"]))
    for key in [*DOCUMENT["keys"], DOCUMENT["unlisted_key"]]
}
VERIFYING = {
    KeyId(key["key_id"]): VerifyKey(
        KeyId(key["key_id"]), Algorithm(key["algorithm"]), KeyState(key["state"]), bytes.fromhex(key["verify_hex"])
    )
    for key in DOCUMENT["keys"]
}


def grant_of(claims: dict[str, Any]) -> Grant:
    return Grant(**{**claims, "network": ip_network(claims["network"]) if claims["network"] else None})


def verdict(token: str | None, use: dict[str, Any]) -> str:
    try:
        if token is None:
            raise GrantRefused(Refusal.MISSING, "")
        check_use(verify(token, VERIFYING), use["path"], ip_address(use["client"]), use["now"], DOCUMENT["leeway_s"])
    except GrantRefused as refused:
        return refused.refusal
    return "good"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_every_vector_has_its_verdict(vector: dict[str, Any]) -> None:
    assert verdict(vector["token"], vector["use"]) == vector["verdict"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if "grant" in v], ids=lambda vector: vector["name"])
def test_every_vectors_grant_is_minted_to_its_claims_and_token(vector: dict[str, Any]) -> None:
    grant = grant_of(vector["grant"])
    assert grant.claims().decode() == vector["claims"]
    assert mint(grant, SIGNING[grant.key_id]) == vector["token"]
    assert looks_like_token(vector["token"])


def test_the_vectors_hold_every_refusal() -> None:
    assert {vector["verdict"] for vector in VECTORS} == {*Refusal, "good"}


SAFE = "abcXYZ019/_.~!$'()*+,;:@%-"
networks = st.one_of(
    st.builds(lambda bits, length: IPv4Network((bits, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(
        lambda bits, length: IPv6Network((bits, length), strict=False), st.integers(2**64, 2**128 - 1), st.integers(0, 128)
    ).filter(lambda network: network.network_address.ipv4_mapped is None),
)
grants = st.builds(
    Grant,
    key_id=st.sampled_from(["ed-active", "mac-active", "ed-next"]).map(KeyId),
    expires_at=st.integers(0, 99_999_999_999),
    prefix=st.text(SAFE, max_size=120).map(lambda rest: "/" + rest),
    not_before=st.none() | st.integers(0, 99_999_999_999),
    network=st.none() | networks,
    session=st.none() | st.text("abcXYZ019_-", min_size=1, max_size=64),
)


@given(grants)
def test_what_is_minted_is_verified_as_the_same_grant(grant: Grant) -> None:
    assert verify(mint(grant, SIGNING[grant.key_id]), VERIFYING) == grant


@given(grants, st.data())
def test_a_token_with_any_character_changed_dropped_or_doubled_is_refused(grant: Grant, data: st.DataObject) -> None:
    token = mint(grant, SIGNING[grant.key_id])
    position = data.draw(st.integers(0, len(token) - 1))
    instead = data.draw(st.sampled_from("ABab01-_.=+/ é٣\n\x00") | st.just("") | st.just(token[position] * 2))
    changed = token[:position] + instead + token[position + 1 :]
    if changed == token:
        return
    with pytest.raises(GrantRefused):
        verify(changed, VERIFYING)


def test_every_single_changed_character_of_a_token_is_refused() -> None:
    token = VECTORS[1]["token"]
    for position, character in enumerate(token):
        for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.":
            if other != character:
                with pytest.raises(GrantRefused):
                    verify(token[:position] + other + token[position + 1 :], VERIFYING)


def outcome(token: str) -> str:
    try:
        decode(token)
    except GrantRefused as refused:
        return refused.refusal
    return "readable"


@given(st.text() | st.text("AZaz09-_.=", max_size=1100) | st.binary(max_size=800).map(lambda data: f"{_encode(data)}.AAAA"))
def test_decoding_any_text_gives_a_grant_or_a_named_refusal(text: str) -> None:
    assert outcome(text) in (Refusal.MALFORMED, "readable")


field_values = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["1", "1800000000", "9" * 5000, "-1", "1e9", "٣", "/", "/videos/", "ed-active", "10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/08"]
    ),
    st.sampled_from(["::/0", "fe80::%eth0/64", "fe80::%a&s=x/64", "::ffff:0:0/96", "1.2.3.4/33", "0/0", "/8", "::1%/128"]),
)


@given(st.lists(st.tuples(st.sampled_from("vkepbnsx") | st.just(""), field_values), max_size=9))
def test_any_signed_claims_decode_to_their_only_spelling_or_are_malformed(fields: list[tuple[str, str]]) -> None:
    claims = "&".join(f"{name}={value}" for name, value in fields).encode()
    token = f"{_encode(claims)}.{_encode(SIGNING['ed-active'].sign(SIGNED_CONTEXT + claims))}"
    assert outcome(token) in (Refusal.MALFORMED, "readable")
    if outcome(token) == "readable":
        assert decode(token)[0].claims() == claims


@given(grants, st.text(SAFE, max_size=60))
def test_a_grant_covers_what_is_below_its_prefix_and_nothing_beside_it(grant: Grant, rest: str) -> None:
    folder = grant.prefix if grant.prefix.endswith("/") else f"{grant.prefix}/"
    path = folder + rest
    plain = path.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/")
    assert grant.covers(path) is not any(part in (".", "..") for part in plain.split("/"))
    if not grant.prefix.endswith("/"):
        assert not grant.covers(f"{grant.prefix}x")


@pytest.mark.parametrize(
    "claims",
    [
        {"expires_at": -1},
        {"expires_at": 10**11},
        {"expires_at": 1.5},
        {"not_before": True},
        {"prefix": "videos/"},
        {"prefix": "/a&n=0.0.0.0/0"},
        {"prefix": "/a=b"},
        {"prefix": "/é"},
        {"prefix": "/a\n"},
        {"prefix": "/" + "a" * 800},
        {"network": IPv6Network("fe80::%a&s=x/64")},
        {"network": IPv6Network("::ffff:0:0/96")},
        {"session": ""},
        {"session": "a" * 65},
        {"session": "a&b"},
        {"key_id": "mac-active"},
    ],
)
def test_a_claim_that_would_not_read_back_is_never_signed(claims: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|zone id|IPv4 network|signing key|shorten"):
        mint(Grant(**{"key_id": KeyId("ed-active"), "expires_at": 1, "prefix": "/", **claims}), SIGNING["ed-active"])


def test_a_token_at_the_limit_of_length_is_read() -> None:
    grant = Grant(KeyId("ed-active"), 1, "/" + "a" * 679)
    token = mint(grant, SIGNING["ed-active"])
    assert MAX_TOKEN_CHARS - 4 < len(token) <= MAX_TOKEN_CHARS
    assert verify(token, VERIFYING) == grant


def test_secrets_are_in_no_representation() -> None:
    for key in [*SIGNING.values(), *VERIFYING.values()]:
        assert "\\x" not in repr(key)
        assert "secret" not in repr(key)
