"""Operators' tokens at a running control: made and revoked by the command, asked for by every route, told in the audit log."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control.operators.tokenbook import book_of
from control.service import control_node
from headwater.rules.apitokens import Scope, StoredToken, draw_token
from tests.support.controlled import Lab, controlled_lab
from tests.support.deployments import ROOT

VIEWING = ("status", "versions", "rollout", "audit")
OPERATING = ("apply", "rollback", "drain", "warm", "purge")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with controlled_lab(tmp_path) as lab, control_node(lab.context("control")):
        yield lab


def given(lab: Lab, scope: Scope, name: str = "ada", expires_at: float | None = None) -> str:
    token = draw_token(os.urandom(38))
    book_of(lab.deployment).keep(
        StoredToken(token.id, name, token.secret_sha256, frozenset({scope}), time.time(), expires_at=expires_at)
    )
    return token.text


async def ask(lab: Lab, path: str, token: str | None, members: Any = None) -> tuple[int, dict[str, Any], str]:
    """(status, members, WWW-Authenticate)."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    method = "GET" if members is None else "POST"
    async with lab.http.request(method, f"{lab.url}/api/v1/{path}", json=members, headers=headers) as answer:
        found: dict[str, Any] = await answer.json(content_type=None)
        return answer.status, found, answer.headers.get("WWW-Authenticate", "")


async def headwater(lab: Lab, *arguments: str, **variables: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headwater", *arguments, "--config", str(lab.file),
        cwd=ROOT, env={**os.environ, "XDG_STATE_HOME": str(lab.file.parent / "state"), **variables},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


async def test_view_reads_and_operate_changes_besides(lab: Lab) -> None:
    viewer, operator = given(lab, Scope.VIEW), given(lab, Scope.OPERATE)
    for path in VIEWING:
        assert (await ask(lab, path, viewer))[0] == (await ask(lab, path, operator))[0] == 200
    for path in OPERATING:
        status, problem, challenge = await ask(lab, path, viewer, {})
        assert (status, problem["type"]) == (403, "urn:headwater:problem:token-scope")
        assert "needs operate" in problem["detail"]
        assert 'error="insufficient_scope"' in challenge
    assert (await ask(lab, "drain", operator, {"names": ["fra"], "force": True}))[0] == 200


async def test_each_way_of_having_no_right_token_has_its_name_and_counts(lab: Lab) -> None:
    known = given(lab, Scope.OPERATE)
    revoked, expired = given(lab, Scope.OPERATE), given(lab, Scope.OPERATE, expires_at=1.0)
    book_of(lab.deployment).revoke(revoked.split("_")[1], 1.0)
    guessed = known[:-3] + ("AAA" if known[-3:] != "AAA" else "BBB")
    wrong = {None: "missing", "x": "malformed", guessed: "unknown", revoked: "revoked", expired: "expired"}
    for token, reason in wrong.items():
        for path, members in (*((path, {}) for path in OPERATING), ("versions", None)):
            status, problem, challenge = await ask(lab, path, token, members)
            assert (status, problem["type"]) == (401, f"urn:headwater:problem:token-{reason}")
            assert challenge.startswith("Bearer")
    async with lab.http.get(f"{lab.url}/metrics") as answer:
        metrics = await answer.text()
    for reason in wrong.values():
        assert f'headwater_control_tokens_refused_total{{reason="token-{reason}"}}' in metrics


async def test_the_command_makes_a_token_that_counts_at_once_and_ends_it_at_once(lab: Lab) -> None:
    code, out, errors = await headwater(lab, "tokens", "create", "grace", "--scope", "operate", "--lasts", "1 h")
    assert code == 0, errors
    token = out.strip()
    code, out, errors = await headwater(lab, "drain", "iad", "--force", HEADWATER_TOKEN=token)
    assert code == 0, errors
    line = (await ask(lab, "audit", token))[1]["lines"][0]
    assert (line["who"], line["what"], line["detail"]) == ("grace", "drain", "iad")
    listed = json.loads((await headwater(lab, "tokens", "list", "--json"))[1])
    assert {"grace": ["operate"], "operator": ["operate"]}.items() <= {one["name"]: one["scopes"] for one in listed}.items()
    assert (await headwater(lab, "tokens", "revoke", token.split("_")[1]))[0] == 0
    code, _, errors = await headwater(lab, "undrain", "iad", "--force", "--token", token)
    assert code == 1
    assert "was revoked" in errors
    assert (await headwater(lab, "undrain", "iad", "--force"))[0] == 0  # by the lab's own, found in its data folder


async def test_tokens_of_two_keepers_are_not_one(lab: Lab) -> None:
    code, _, errors = await headwater(lab, "tokens", "create", "x", "--scope", "operate", "--scope", "upload")
    assert code == 2
    assert "make two tokens" in errors
