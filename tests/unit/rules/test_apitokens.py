"""API tokens: their text, their scopes, and every way in which one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.apitokens import (
    DRAWN_BYTES,
    ApiToken,
    InvalidToken,
    Scope,
    StoredToken,
    TokenRefusal,
    TokenRefused,
    bearer_token,
    check_token,
    draw_token,
    parse_name,
    parse_scopes,
    parse_token,
)

TOKEN = draw_token(bytes(range(DRAWN_BYTES)))
NOW = 1_000.0


def stored(*scopes: Scope, expires_at: float | None = None, revoked_at: float | None = None) -> StoredToken:
    return StoredToken(TOKEN.id, "ann", TOKEN.secret_sha256, frozenset(scopes), 0.0, expires_at, revoked_at)


@given(st.binary(min_size=DRAWN_BYTES, max_size=DRAWN_BYTES))
def test_a_token_reads_back_from_its_text_and_from_a_header(random: bytes) -> None:
    token = draw_token(random)
    assert parse_token(token.text) == token
    assert bearer_token(f"Bearer {token.text}", Scope.UPLOAD) == token
    assert token.secret not in repr(token)


@pytest.mark.parametrize("text", ["", "hw_", "hw_000102030405_short", TOKEN.text[:-1], TOKEN.text + "x", TOKEN.text.upper(), "ß"])
def test_what_is_no_token_is_refused_with_its_form(text: str) -> None:
    with pytest.raises(InvalidToken, match="43 characters"):
        parse_token(text)


@pytest.mark.parametrize(
    ("field", "refusal"),
    [
        (None, TokenRefusal.MISSING),
        ("", TokenRefusal.MISSING),
        ("Basic aGk6aG8=", TokenRefusal.MALFORMED),
        ("Bearer", TokenRefusal.MALFORMED),
        ("Bearer hw_1", TokenRefusal.MALFORMED),
    ],
)
def test_a_header_without_a_token_names_what_to_send(field: str | None, refusal: TokenRefusal) -> None:
    with pytest.raises(TokenRefused) as refused:
        bearer_token(field, Scope.UPLOAD)
    assert (refused.value.refusal, refusal.status) == (refusal, 401)
    assert "Authorization: Bearer" in refused.value.detail


@pytest.mark.parametrize(
    ("kept", "refusal"),
    [
        (None, TokenRefusal.UNKNOWN),
        (StoredToken(TOKEN.id, "ann", "0" * 64, frozenset(Scope), 0.0), TokenRefusal.UNKNOWN),
        (stored(Scope.UPLOAD, revoked_at=NOW - 1), TokenRefusal.REVOKED),
        (stored(Scope.UPLOAD, expires_at=NOW), TokenRefusal.EXPIRED),
        (stored(Scope.VIEW), TokenRefusal.SCOPE),
    ],
)
def test_a_token_is_refused_for_its_reason_with_the_cure(kept: StoredToken | None, refusal: TokenRefusal) -> None:
    with pytest.raises(TokenRefused) as refused:
        check_token(TOKEN, kept, Scope.UPLOAD, NOW)
    assert refused.value.refusal is refusal
    assert "headwater tokens create" in refused.value.detail
    assert refused.value.challenge.startswith('Bearer realm="headwater", scope="upload"')
    assert ("insufficient_scope" in refused.value.challenge) is (refusal is TokenRefusal.SCOPE)


def test_a_revoked_token_with_a_wrong_secret_tells_only_that_it_is_unknown() -> None:
    other = ApiToken(TOKEN.id, "A" * 43)
    with pytest.raises(TokenRefused) as refused:
        check_token(other, stored(Scope.UPLOAD, revoked_at=1.0), Scope.UPLOAD, NOW)
    assert refused.value.refusal is TokenRefusal.UNKNOWN


@pytest.mark.parametrize(
    ("has", "needs", "permitted"),
    [
        (Scope.UPLOAD, Scope.UPLOAD, True),
        (Scope.UPLOAD, Scope.MANAGE, False),
        (Scope.MANAGE, Scope.UPLOAD, True),
        (Scope.OPERATE, Scope.VIEW, True),
        (Scope.VIEW, Scope.OPERATE, False),
        (Scope.OPERATE, Scope.UPLOAD, False),
    ],
)
def test_the_larger_scope_permits_the_smaller_one_of_its_keeper(has: Scope, needs: Scope, permitted: bool) -> None:
    assert stored(has, expires_at=NOW + 1).permits(needs) is permitted


def test_scopes_of_two_keepers_do_not_mix() -> None:
    assert parse_scopes(["upload", "manage"]) == {Scope.UPLOAD, Scope.MANAGE}
    with pytest.raises(InvalidToken, match="make two tokens"):
        parse_scopes(["upload", "view"])
    with pytest.raises(InvalidToken, match="one or more of"):
        parse_scopes(["everything"])
    with pytest.raises(InvalidToken, match="one or more of"):
        parse_scopes([])


@pytest.mark.parametrize("name", ["", "-ann", "a b", "a" * 65, "ann\n"])
def test_a_name_that_could_not_stand_in_a_log_is_refused(name: str) -> None:
    with pytest.raises(InvalidToken, match="is no name"):
        parse_name(name)
