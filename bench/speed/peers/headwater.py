"""Our edge, as `headwater run` starts it: signed, metrics and access log on; with its fast lane, without it, with two workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.speed.servers import SERVER_CORE, Server, Site, free_port, running, wait_until_serving
from headwater.runtime.nodetoken import read_token, token_digest
from headwater.settings.load import load_deployment
from headwater.settings.snapshot import PublishedKey, Snapshot
from signer.grant import Algorithm, Grant, KeyId, SigningKey, mint

ROOT = Path(__file__).resolve().parents[3]
LANED, ORDINARY, SHIELD = "fra-1", "iad-1", "shield-1"
SINGLE, TWIN = "fra-2", "fra-3"  # one worker and two, for `scaling`
KEY = SigningKey(KeyId("bench-1"), Algorithm.ED25519, b"b" * 32)


@dataclass(frozen=True, slots=True)
class Lab:
    """A config of edges, one of them without the lane, and one shield, before the site, which plays control with
    no news too: the kept snapshot is enough."""

    config: Path
    plain: Mapping[str, tuple[str, int]]
    tls: Mapping[str, tuple[str, int]]


def lab(site: Site, caches: Mapping[str, dict[str, Any]] | None = None) -> Lab:
    """`caches` are further settings of the edges' caches, by edge."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "lab.yaml").read_text())
    upstream = f"http://127.0.0.1:{site.upstream}"
    hosts = {LANED: "127.0.1.1", SINGLE: "127.0.1.2", TWIN: "127.0.1.3", ORDINARY: "127.0.2.1"}
    plain = {name: (host, free_port(host)) for name, host in hosts.items()}
    plain[SHIELD] = ("127.0.0.1", free_port())
    tls = {name: (host, free_port(host)) for name, host in hosts.items()}
    pem = {"certificate": str(site.pem), "key": str(site.pem)}

    def edge(name: str) -> dict[str, Any]:
        host = plain[name][0]
        return {
            "listen": f"{host}:{plain[name][1]}",
            "admin": f"{host}:{free_port(host)}",
            "tls": {"listen": f"{host}:{tls[name][1]}", "certificates": [pem], "minimum": "1.3"},
            "workers": 2 if name == TWIN else 1,
            "cache": {"fast_lane": name != ORDINARY, **(caches or {}).get(name, {})},
        }

    content |= {
        "data": str(site.folder / "data"),
        "control": {"listen": f"127.0.0.1:{site.upstream}"},
        "shields": {SHIELD: {"listen": f"127.0.0.1:{plain[SHIELD][1]}", "admin": f"127.0.0.1:{free_port()}"}},
        "pops": {
            "fra": {"region": "eu", "edges": {name: edge(name) for name in (LANED, SINGLE, TWIN)}},
            "iad": {"region": "us", "edges": {ORDINARY: edge(ORDINARY)}},
        },
        "properties": {
            "video": {"hosts": ["*.cdn.test"], "paths": "/videos/", "parent": upstream, "shielded": False},
            "one": {"hosts": ["one.cold.test"], "signed": False, "parent": upstream, "shielded": False},
            "two": {"hosts": ["two.cold.test"], "signed": False, "parent": upstream},
        },
    }
    config = site.folder / "bench.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    _keep_snapshot(config)
    return Lab(config, plain, tls)


def _keep_snapshot(config: Path) -> None:
    """What control would have told each node."""
    deployment = load_deployment(config)
    nodes = (LANED, SINGLE, TWIN, ORDINARY, SHIELD)
    public = Ed25519PrivateKey.from_private_bytes(KEY.secret).public_key().public_bytes_raw()
    keys = [PublishedKey(key_id=KEY.key_id, algorithm="ed25519", state="active", material=public)]
    tokens = {name: token_digest(read_token(deployment.data, name)) for name in nodes}
    snapshot = Snapshot(version=1, deployment=deployment, keys=keys, node_tokens=tokens)
    for name in nodes:
        folder = deployment.data / "nodes" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "snapshot.json").write_text(snapshot.model_dump_json())


@contextmanager
def node(lab: Lab, name: str, folder: Path, core: str = SERVER_CORE) -> Iterator[int]:
    """One node of the lab; its access log is a file."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "headwater", "run", name, "-c", str(lab.config)]
    with running(command, folder, core=core, PYTHONPATH=str(ROOT)) as pid:
        wait_until_serving(lab.plain[name])
        yield pid


@contextmanager
def edge(lab: Lab, name: str, folder: Path, names: dict[str, str], core: str = SERVER_CORE) -> Iterator[Server]:
    grant = mint(Grant(key_id=KEY.key_id, expires_at=4_000_000_000, prefix="/videos/abcdefghijA/"), KEY)
    with node(lab, name, folder, core) as pid:
        title = "Headwater, aiohttp path alone" if name == ORDINARY else "Headwater"
        targets = {one: f"/{grant}{path}" for one, path in names.items()}
        yield Server(title, "signed, metrics, log", pid, lab.plain[name], lab.tls[name], targets)
