"""The file in which control keeps its operators' tokens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from control.operators.ownertoken import OPERATOR_FILE, ensure_operator_token
from control.operators.tokenbook import TokenBook, TokenBookError, book_of
from headwater.rules.apitokens import Scope, StoredToken
from headwater.settings.load import load_deployment
from tests.support.deployments import lab_config

ADA = StoredToken("0" * 12, "ada", "ab" * 32, frozenset({Scope.OPERATE}), 5.0, expires_at=9.0)


def test_what_one_process_keeps_or_revokes_another_finds_at_its_next_question(tmp_path: Path) -> None:
    reader, writer = TokenBook(tmp_path), TokenBook(tmp_path)
    assert reader.find(ADA.id) is None
    writer.keep(ADA)
    assert reader.find(ADA.id) == ADA
    assert writer.revoke(ADA.id, 7.0)
    assert writer.revoke(ADA.id, 8.0)
    assert reader.find(ADA.id) == replace(ADA, revoked_at=7.0)
    assert not writer.revoke("f" * 12, 8.0)
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600


def test_writers_at_once_lose_no_token(tmp_path: Path) -> None:
    tokens = [replace(ADA, id=f"{number:012x}") for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda token: TokenBook(tmp_path).keep(token), tokens))
    assert {token.id for token in TokenBook(tmp_path).all()} == {token.id for token in tokens}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"tokens": [{"id": "x"}]}', '{"tokens": 3}'])
def test_a_damaged_file_is_named_with_its_cure_and_not_written_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokens.json").write_text(content)
    for ask in (lambda: TokenBook(tmp_path).find(ADA.id), lambda: TokenBook(tmp_path).keep(ADA)):
        with pytest.raises(TokenBookError, match=r"tokens.json cannot be read .* restore or remove"):
            ask()
    assert (tmp_path / "tokens.json").read_text() == content


def test_a_lab_has_one_operators_token_until_it_is_revoked(tmp_path: Path) -> None:
    deployment = load_deployment(lab_config(tmp_path))
    first = ensure_operator_token(deployment)
    assert ensure_operator_token(deployment) == first
    file = deployment.data / OPERATOR_FILE
    assert (file.read_text().strip(), file.stat().st_mode & 0o777) == (first.text, 0o600)
    book_of(deployment).revoke(first.id, 1.0)
    assert ensure_operator_token(deployment) != first
