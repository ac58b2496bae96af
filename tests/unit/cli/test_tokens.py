"""`headwater tokens` as an operator types it, over a real catalogue."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from headwater.cli import tokens as token_commands
from headwater.rules.apitokens import parse_token
from headwater.settings.load import load_deployment
from tests.support.deployments import lab_config


class Operator:
    """Types commands at one deployment."""

    def __init__(self, folder: Path) -> None:
        self.config = lab_config(folder)
        self._app = typer.Typer()
        token_commands.register(self._app)

    def types(self, *words: str, status: int = 0) -> tuple[str, str]:
        """(stdout, stderr)."""
        result = CliRunner().invoke(self._app, ["tokens", *words, "--config", str(self.config)])
        assert result.exit_code == status, result.output
        return result.stdout.strip(), result.stderr.strip()


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_a_token_is_shown_once_listed_without_its_secret_and_revoked(operator: Operator) -> None:
    text, said = operator.types("create", "ann", "--scope", "upload", "--lasts", "90 d")
    token = parse_token(text)
    assert f"headwater tokens revoke {token.id}" in said

    (listed,) = json.loads(operator.types("list", "--json")[0])
    assert (listed["id"], listed["name"], listed["scopes"]) == (token.id, "ann", ["upload"])
    assert listed["expires_at"] - listed["created_at"] == 90 * 86400
    assert "holds until" in operator.types("list")[0]

    operator.types("revoke", token.id)
    assert "revoked" in operator.types("list")[0]
    database = load_deployment(operator.config).data / "catalogue.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        assert token.secret not in "".join(connection.iterdump())


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["create", "ann", "--scope", "everything"], 2, "scopes are one or more of"),
        (["create", "an n", "--scope", "upload"], 2, "is no name"),
        (["create", "ann", "--scope", "upload", "--lasts", "soon"], 2, "a number with a unit"),
        (["revoke", "000000000000"], 1, "headwater tokens list"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(operator: Operator, words: list[str], status: int, said: str) -> None:
    _, err = operator.types(*words, status=status)
    assert (said in err, len(err.splitlines())) == (True, 1)
