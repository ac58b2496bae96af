"""docs/signed-urls.md: its samples in other languages mint the published tokens, and its tables say what the code does."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from signer.grant import Refusal
from tests.unit.signer.test_grant import DOCUMENT, VECTORS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "signed-urls.md").read_text()
MINTED: list[dict[str, Any]] = [vector for vector in VECTORS if "grant" in vector]
KEYS: dict[str, dict[str, Any]] = {key["key_id"]: key for key in [*DOCUMENT["keys"], DOCUMENT["unlisted_key"]]}


def sample(name: str) -> str:
    match = re.search(rf"<!-- sample: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js on this machine")
def test_the_javascript_sample_mints_every_token_of_the_vectors() -> None:
    program = (
        sample("javascript")
        + """
const document = JSON.parse(require("node:fs").readFileSync(0));
const keys = Object.fromEntries([...document.keys, document.unlisted_key].map(key => [key.key_id, key]));
console.log(JSON.stringify(document.vectors.filter(vector => vector.grant).map(({grant}) => mint(
  {id: grant.key_id, algorithm: keys[grant.key_id].algorithm, secret: Buffer.from(keys[grant.key_id].secret_hex, "hex")},
  {expiresAt: grant.expires_at, prefix: grant.prefix, notBefore: grant.not_before,
   network: grant.network, session: grant.session},
))));
"""
    )
    done = subprocess.run(["node", "-e", program], input=json.dumps(DOCUMENT), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [vector["token"] for vector in MINTED]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
def test_the_shell_sample_mints_tokens_of_the_vectors() -> None:
    chosen = [next(vector for vector in MINTED if KEYS[vector["grant"]["key_id"]]["algorithm"] == name) for name in ALGORITHMS]
    for algorithm, vector in zip(ALGORITHMS, chosen, strict=True):
        secret = base64.b64encode(bytes.fromhex(KEYS[vector["grant"]["key_id"]]["secret_hex"])).decode()
        script = f'{sample("shell")}\nmint "$@"\n'
        command = ["sh", "-c", script, "mint", algorithm, secret, vector["claims"]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == vector["token"]


ALGORITHMS = ("ed25519", "hmac-sha256")


def test_the_page_names_every_refusal_once_in_the_order_of_the_code() -> None:
    assert re.findall(r"^\| `(\w+)` \| .+ \|$", PAGE.split("## The rules of use")[1].split("## Keys")[0], re.MULTILINE) == list(
        Refusal
    )
