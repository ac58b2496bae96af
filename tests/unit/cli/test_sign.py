"""`headwater sign`, `verify` and `keys` as an operator types them, over a real key ring."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer
from typer.testing import CliRunner

from headwater.cli import sign as sign_commands
from headwater.rules.requesttarget import parse_target
from headwater.settings.deployment import Deployment
from headwater.settings.load import load_deployment
from origin.api.playability import grant_expiry
from signer.grant import Grant, decode, mint
from signer.keyring import KeyRing
from signer.urls import split_grant
from tests.support.deployments import lab_config

VIDEO = "dQw4w9WgXcQ"


class Operator:
    """Types commands at one deployment."""

    def __init__(self, folder: Path) -> None:
        self.config = lab_config(folder)
        self.deployment = load_deployment(self.config)
        self.ring = KeyRing(self.deployment.data / "keys")
        self._app = typer.Typer()
        sign_commands.register(self._app)

    def types(self, *words: str, status: int = 0) -> str:
        """What stdout and stderr say."""
        result = CliRunner().invoke(self._app, [*words, "--config", str(self.config)])
        assert result.exit_code == status, result.output
        return result.output.strip()


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


@pytest.fixture
def signer(operator: Operator) -> Operator:
    operator.ring.ensure("ed25519")
    return operator


@pytest.mark.parametrize("form", ["path", "query"])
def test_a_signed_url_is_verified(signer: Operator, form: str) -> None:
    url = signer.types("sign", f"/videos/{VIDEO}/master.m3u8", "--form", form)
    port = signer.deployment.edge("fra-1").listen.port
    assert url.startswith(f"http://v5f6.cdn.test:{port}/")
    assert ("?grant=" in url) is (form == "query")
    said = signer.types("verify", url)
    assert f"prefix      /videos/{VIDEO}/" in said
    assert re.search(r"good: .* for (2160[01]|2159\d) s more\Z", said)


@pytest.mark.parametrize("written", ["/files/caf%c3%a9.mp4", "/files/%7Euser/clip.mp4"])
@pytest.mark.parametrize("prefix", [(), ("--prefix",)])
def test_a_grant_covers_the_path_as_an_edge_reads_it(signer: Operator, written: str, prefix: tuple[str, ...]) -> None:
    """An edge knows one spelling of a path, whichever of them the URL has."""
    url = signer.types("sign", f"http://www.test{written}", *prefix, *([written] if prefix else []))
    token, plain = split_grant(url)
    assert decode(token or "")[0].covers(parse_target(urlsplit(plain).path).path)
    assert "good" in signer.types("verify", url)


def test_a_prefix_that_no_path_at_an_edge_has_is_refused(signer: Operator) -> None:
    key = signer.ring.signing_key()
    token = mint(Grant(key.key_id, 4_000_000_000, "/files/caf%c3%a9.mp4"), key)
    assert "refused: path_not_covered" in signer.types("verify", f"http://www.test/{token}/files/caf%c3%a9.mp4", status=1)


def test_an_expired_url_is_signed_again(signer: Operator) -> None:
    url = signer.types("sign", VIDEO, "--expires", "1s", "--edge", "sin-1")
    again = signer.types("sign", url)
    assert again.startswith("http://127.0.3.1:")
    assert again.count(VIDEO) == 1
    assert "refused: grant_expired" in signer.types("verify", url, "--at", "7s", status=1)
    assert "good" in signer.types("verify", again, "--at", "7s")


def test_each_refusal_is_said_in_its_word(signer: Operator) -> None:
    url = signer.types("sign", VIDEO, "--network", "192.0.2.9/24", "--session", "s1", "--not-before", "1 h", "--edge", "fra-1")
    in_time = ("--at", "1 h")
    assert "network     192.0.2.0/24" in signer.types("verify", url, *in_time)
    assert "not checked" in signer.types("verify", url, *in_time)
    assert "good" in signer.types("verify", url, *in_time, "--client", "192.0.2.1")
    assert "refused: network_not_covered" in signer.types("verify", url, *in_time, "--client", "198.51.100.1", status=1)
    assert "refused: grant_not_yet_valid" in signer.types("verify", url, status=1)
    assert "refused: grant_expired" in signer.types("verify", url, "--at", "2100-01-01", status=1)
    other = url.replace(VIDEO, "AAAAAAAAAAA")
    assert "refused: path_not_covered" in signer.types("verify", other, *in_time, status=1)
    assert "refused: grant_missing" in signer.types("verify", f"/videos/{VIDEO}/master.m3u8", status=1)
    signature = re.search(r"\.([A-Za-z0-9_-]{86})/", url)
    assert signature is not None
    assert "refused: signature_wrong" in signer.types("verify", url.replace(signature[1], "A" * 86), *in_time, status=1)
    assert "refused: grant_malformed" in signer.types("verify", f"/videos/{VIDEO}/x?grant=nonsense", status=1)


def test_keys_are_rotated_and_the_old_ones_grants_named_as_retired(signer: Operator) -> None:
    old = signer.ring.signing_key().key_id
    url = signer.types("sign", VIDEO)
    assert "k2 is next" in signer.types("keys", "new", "--id", "k2", "--algorithm", "hmac-sha256")
    assert "may not know it yet" in signer.types("keys", "activate", "k2", status=2)
    assert f"{old} still verifies; its grants may be in use until" in signer.types("keys", "activate", "k2", "--force")
    listed = signer.types("keys", "list").splitlines()
    assert [line.split()[:4] for line in listed[1:]] == [
        [old, "ed25519", "active", listed[1].split()[3]],
        ["*", "k2", "hmac-sha256", "active"],
    ]
    assert "in use until" in signer.types("keys", "retire", old, status=2)
    assert "is retired" in signer.types("keys", "retire", old, "--yes")
    assert "refused: key_retired" in signer.types("verify", url, status=1)
    assert "the only one that signs" in signer.types("keys", "retire", "k2", "--yes", status=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sign", VIDEO, "--expires", "6"), "a number with a unit"),
        (("sign", VIDEO, "--not-before", "soon"), "Unix seconds, an ISO 8601 time"),
        (("sign", VIDEO, "--not-before", "7 h"), "expire before it is valid"),
        (("sign", VIDEO, "--network", "here"), "does not appear to be"),
        (("sign", VIDEO, "--session", "a b"), "session 'a b'"),
        (("sign", VIDEO, "--prefix", "/other/"), "does not cover"),
        (("sign", VIDEO, "--edge", "nowhere"), "there are: fra-1"),
        (("sign", "nonsense"), "is not a video id"),
        (("verify", f"/videos/{VIDEO}/x", "--client", "me"), "does not appear to be"),
        (("keys", "activate", "nothing"), "there is no key 'nothing'"),
    ],
)
def test_wrong_words_get_one_sentence(signer: Operator, words: tuple[str, ...], said: str) -> None:
    output = signer.types(*words, status=2)
    assert said in output
    assert len(output.splitlines()) == 1


def test_without_keys_the_cure_is_named(operator: Operator) -> None:
    assert "headwater keys new" in operator.types("sign", VIDEO, status=2)
    assert "refused: grant_missing" in operator.types("verify", "/x/y", status=1)
    assert operator.types("keys", "list").startswith("KEY")


def test_a_key_counts_as_used_until_the_longest_video_begun_with_it_is_over(deployment: Deployment) -> None:
    longest = sign_commands.longest_grant_s(deployment)
    assert grant_expiry(0.0, deployment.signing.lifetime, deployment.origin.transcode.max_duration) <= longest
