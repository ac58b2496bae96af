"""`headwater up` as its users meet it: one command that starts, watches and stops every process, on terminals or without."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from headwater.settings.deployment import Deployment, nodes_of
from headwater.settings.load import load_deployment
from tests.support.deployments import ROOT, lab_config

pytestmark = pytest.mark.xdist_group("lab")

PATIENCE_S = 120.0


class Up:
    """A running `headwater up` and what it has said so far."""

    def __init__(self, config: Path, *options: str) -> None:
        self.said_file = config.parent / f"said-{time.monotonic_ns()}"
        with self.said_file.open("wb") as said:
            command = [sys.executable, "-m", "headwater", "up", str(config), *options]
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    @property
    def said(self) -> str:
        return self.said_file.read_text()

    def until_said(self, pattern: str, timeout_s: float = PATIENCE_S) -> re.Match[str]:
        """Waits for a line that matches; fails when the command ends first."""
        return self._until(lambda: re.search(pattern, self.said, re.MULTILINE), pattern, timeout_s)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def _until(self, found: Callable[[], re.Match[str] | None], pattern: str, timeout_s: float) -> re.Match[str]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if match := found():
                return match
            assert not ended, f"`headwater up` ended before it said {pattern!r}:\n{self.said}"
            time.sleep(0.05)
        raise AssertionError(f"`headwater up` did not say {pattern!r}:\n{self.said}")


@contextmanager
def running_up(config: Path, *options: str) -> Iterator[Up]:
    up = Up(config, *options)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)


def node_pids(config: Path) -> dict[str, int]:
    """Process ids by node name of everything that runs with this config."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "run" in words and str(config) in words:
            found[words[words.index("run") + 1]] = int(folder.name)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return lab_config(tmp_path, enrolled=True)


@pytest.mark.slow
def test_a_demo_from_an_empty_folder_to_a_second_start_that_keeps_it(config: Path) -> None:
    deployment = load_deployment(config)
    with running_up(config, "--demo") as up:
        watch = up.until_said(r"^Watch: +(\S+)$")[1]
        up.until_said(r"^Ctrl-C stops everything")
        assert re.search(r"^  dig @127\.0\.0\.1 -p \d+ v[0-9a-f]{3}\.cdn\.test", up.said, re.MULTILINE)
        assert "transcoding" in up.said
        assert httpx.get(watch, trust_env=False).status_code == 200
        operators = re.search(r"^Operate: +(\S+)$", up.said, re.MULTILINE)
        assert operators
        assert httpx.get(operators[1], trust_env=False).status_code == 200
        assert set(node_pids(config)) == set(nodes_of(deployment))

        a_second_one_on_the_same_data_is_refused(config, up)
        a_killed_node_is_started_again(config, up)
        # Killed without a chance to stop its nodes, it takes them along; the next one waits for the last to end.
        up.end(signal.SIGKILL)

    with running_up(config, "--demo") as up:
        assert up.until_said(r"^Watch: +(\S+)$")[1] == watch
        assert "transcoding" not in up.said
        assert up.end(signal.SIGINT) == 0
        assert node_pids(config) == {}
    with running_up(config) as up:
        up.until_said(r"^Starting")
        until_one_is_there(config)
        assert up.end(signal.SIGTERM) == 0
    assert node_pids(config) == {}


def until_one_is_there(config: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not node_pids(config):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def a_second_one_on_the_same_data_is_refused(config: Path, up: Up) -> None:
    second = Up(config)
    assert second.process.wait(timeout=30) == 78
    assert f"in use by another `headwater up` (process {up.process.pid}): stop that one" in second.said


def a_killed_node_is_started_again(config: Path, up: Up) -> None:
    killed = node_pids(config)["sin-1"]
    os.kill(killed, signal.SIGKILL)
    up.until_said(r"^sin-1 ended with signal SIGKILL; it starts again in 0\.5 s")
    up.until_said(r"^sin-1 is up again")
    assert node_pids(config)["sin-1"] != killed


def test_everything_that_hinders_a_start_is_said_at_once(config: Path) -> None:
    deployment: Deployment = load_deployment(config)
    content = yaml.safe_load(config.read_text())
    content["origin"].setdefault("transcode", {})["ffmpeg"] = "/nowhere/ffmpeg"
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    api, dns = deployment.origin.api.listen, deployment.dns.listen
    with socket.create_server((api.host, api.port)), socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind((dns.host, dns.port))
        up = Up(config)
        assert up.process.wait(timeout=60) == 78
    lines = up.said.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"TCP {api} (origin.api.listen) is in use")
    assert lines[1].startswith(f"UDP {dns} (dns.listen) is in use")
    assert lines[2].startswith("origin.transcode.ffmpeg: there is no program at /nowhere/ffmpeg")
    assert node_pids(config) == {}


def test_a_bad_config_is_one_message_and_status_78(config: Path) -> None:
    config.write_text(config.read_text().replace("shields:", "shieldz:"))
    up = Up(config)
    assert up.process.wait(timeout=60) == 78
    assert "shieldz: unknown key; did you mean 'shields'?" in up.said
