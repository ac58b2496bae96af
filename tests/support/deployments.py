"""The lab's config on free ports, so that tests run side by side with each other and with a running lab."""

from __future__ import annotations

import itertools
import random
import socket
from pathlib import Path
from typing import Any

import yaml

from headwater.settings.deployment import Deployment
from headwater.settings.load import load_deployment

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "configs" / "lab.yaml"


# Below the range from which the kernel takes ports for outgoing connections, so that none is taken between choice and use.
_PORTS = itertools.cycle(random.SystemRandom().sample(range(20_000, 32_000), 12_000))


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free for TCP and UDP just now; never the same twice in a row of thousands."""
    for port in _PORTS:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            try:
                stream.bind((host, port))
                datagram.bind((host, port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable: the ports are a cycle")


def lab_config(folder: Path, *, enrolled: bool = False) -> Path:
    """Writes the lab's YAML with free ports and its data below `folder`; returns the file. Hosts stay as in the lab.

    Nodes know each other by tokens, unless they are `enrolled` as the lab's are: a test of one node has no control to enrol at.
    """
    content = yaml.safe_load(LAB.read_text())
    if not enrolled:
        del content["control"]["enrolment"]
    content["data"] = str(folder / "data")
    edge_port = free_port()
    moved = {f"{host}:8080": f"{host}:{edge_port}" for host in ("127.0.1.1", "127.0.2.1", "127.0.3.1")}
    content = _moved(content, moved)
    content["origin"]["public_url"] = f"http://{content['origin']['api']['listen']}"
    # Measuring costs seconds; one test has its own. The preset: B-frames and all, at three quarters of the default's time.
    content["origin"].setdefault("transcode", {}).update(vmaf_samples=0, preset="superfast")
    content["dns"]["http"]["public_url"] = f"http://{content['dns']['http']['listen']}"
    file = folder / "lab.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def lab_deployment(folder: Path) -> Deployment:
    return load_deployment(lab_config(folder))


def with_uploads(deployment: Deployment, **limits: object) -> Deployment:
    """The deployment with other values in `origin.uploads`."""
    uploads = deployment.origin.uploads.model_copy(update=limits)
    return deployment.model_copy(update={"origin": deployment.origin.model_copy(update={"uploads": uploads})})


def _moved(value: Any, moved: dict[str, str]) -> Any:
    """The config with each `listen` and `admin` address on a free port; edges share one, as in the lab."""
    if isinstance(value, list):
        return [_moved(item, moved) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _elsewhere(item, moved) if _is_listener(key, item) else _moved(item, moved) for key, item in value.items()}


def _is_listener(key: str, value: Any) -> bool:
    return isinstance(value, str) and (key in ("listen", "admin") or key.endswith("_admin"))


def _elsewhere(address: str, moved: dict[str, str]) -> str:
    host = address.rpartition(":")[0]
    return moved.get(address) or f"{host}:{free_port(host)}"
