"""A running lab for tests: the real processes of a deployment on free ports, to be asked, killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.edns
import dns.message
import dns.rdatatype
import httpx
import yaml

from control.enrolment.startup import ensure_enrolled
from control.operators.ownertoken import ensure_operator_token
from headwater.runtime.nodeprocess import NodeProcess, log_files
from headwater.runtime.nodetoken import read_token
from headwater.runtime.supervisor import START_S, STOP_ORDER, wait_until_healthy
from headwater.settings.deployment import Deployment, admin_address, nodes_of
from headwater.settings.load import load_deployment
from headwater.settings.units import Address
from origin.catalogue.ownertoken import ensure_creator_token
from signer.keyring import KeyRing
from tests.support.deployments import ROOT, lab_config

STOP_S = 15.0
TAIL_LINES = 15
CREATORS_COMMANDS = ("upload", "video")
JsonObject = dict[str, Any]


class Lab:
    """The processes of one deployment. Nodes are named as in the config."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.deployment: Deployment = load_deployment(config)
        self.configs: dict[str, Path] = {}  # of nodes that read another file
        self.processes: dict[str, NodeProcess] = {}
        self.http = httpx.AsyncClient(trust_env=False, timeout=30.0)
        self.token = ""  # the creator's
        self.operator: dict[str, str] = {}  # what an operator's requests to control carry

    @property
    def api(self) -> str:
        return self.deployment.origin.api.listen.url

    @property
    def edges(self) -> dict[str, Address]:
        return {name: edge.listen for name, _, edge in self.deployment.edges()}

    async def start(self, *nodes: str) -> None:
        """Starts the nodes that do not run and waits until they are healthy."""
        for node in nodes:
            if not self.runs(node):
                self.processes[node] = NodeProcess.start(node, self.configs.get(node, self.config), self.deployment.data)
        deadline = time.monotonic() + START_S
        for node in nodes:
            await wait_until_healthy(self.http, self.deployment, self.processes[node], deadline)

    def runs(self, node: str) -> bool:
        return node in self.processes and self.processes[node].alive

    async def kill(self, *nodes: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends the signal to the nodes and waits until they are gone."""
        for node in nodes:
            self.processes[node].signal(number)
        await asyncio.gather(*(asyncio.shield(self.processes[node].exited) for node in nodes))

    async def restart(self, *nodes: str, number: signal.Signals = signal.SIGKILL) -> None:
        await self.kill(*nodes, number=number)
        await self.start(*nodes)

    async def stop(self) -> None:
        """Stops what runs, whoever asks before whoever is asked."""
        roles = nodes_of(self.deployment)
        for group in STOP_ORDER:
            stopping = [process for node, process in self.processes.items() if roles[node] in group and process.alive]
            await asyncio.gather(*(process.stop(STOP_S) for process in stopping))
        await self.http.aclose()

    # Asking it

    async def ask(self, path: str, **options: Any) -> JsonObject:
        """The API's JSON answer to a GET; raises httpx.HTTPStatusError."""
        answer = await self.http.get(f"{self.api}{path}", **options)
        answer.raise_for_status()
        content: JsonObject = answer.json()
        return content

    async def video_when(self, video_id: str, is_there: Callable[[JsonObject], object], timeout_s: float = 120) -> JsonObject:
        """The video as soon as `is_there(video)`; a failed one raises at once."""
        async with asyncio.timeout(timeout_s):
            while True:
                video = await self.ask(f"/api/v1/videos/{video_id}")
                assert video["status"] != "failed", video["failure"]
                if is_there(video):
                    return video
                await asyncio.sleep(0.1)

    async def whole_video(self, video_id: str) -> JsonObject:
        """The video when all its rungs are ready."""
        return await self.video_when(
            video_id, lambda video: video["status"] == "ready" and all(one["state"] == "ready" for one in video["renditions"])
        )

    async def resolve(self, name: str, subnet: str | None = None) -> list[str]:
        """The addresses that our DNS answers over UDP; `subnet` is the viewer's network, as a resolver would tell it."""
        options = [dns.edns.ECSOption.from_text(subnet)] if subnet else []
        query = dns.message.make_query(name, dns.rdatatype.A, use_edns=0, options=options)
        listen = self.deployment.dns.listen
        answer = await dns.asyncquery.udp(query, listen.host, port=listen.port, timeout=5)
        return [str(record) for rrset in answer.answer for record in rrset if record.rdtype == dns.rdatatype.A]

    async def metric(self, node: str, name: str, **labels: str) -> float:
        """The sum of a node's series of that name whose labels include `labels`."""
        text = (await self.http.get(f"{admin_address(self.deployment, node).url}/metrics")).text
        found = re.findall(rf"^{re.escape(name)}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        return sum(float(value) for series, value in found if wanted <= set(series.split(",")))

    def access_log(self, node: str) -> list[JsonObject]:
        """The requests that a node has logged so far, oldest first."""
        file = log_files(self.deployment.data, node).access
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    async def logged(self, node: str, is_it: Callable[[JsonObject], object]) -> JsonObject:
        """The first line of a node's access log for which `is_it(line)`, as soon as it is written."""
        async with asyncio.timeout(20):
            while True:
                for line in self.access_log(node):
                    if is_it(line):
                        return line
                await asyncio.sleep(0.02)

    def headwater(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs the real command in the repository, without a terminal. Blocks: call it in a thread."""
        token = self.token if arguments[0] in CREATORS_COMMANDS else ""  # control's are found in the data folder
        return subprocess.run(
            [sys.executable, "-m", "headwater", *arguments],
            cwd=ROOT,
            env={**os.environ, "XDG_STATE_HOME": str(self.config.parent / "state"), "HEADWATER_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    async def upload(self, file: Path) -> str:
        """Uploads with the real command; returns the video's id."""
        done = await asyncio.to_thread(self.headwater, "upload", "--api", self.api, "--no-wait", str(file))
        assert done.returncode == 0, done.stderr
        return str((await self.ask("/api/v1/videos", params={"limit": "1"}))["videos"][0]["video_id"])

    def tails(self) -> Iterable[str]:
        """The last lines of every node's service log, for a test that failed."""
        for node in nodes_of(self.deployment):
            file = log_files(self.deployment.data, node).service
            if file.exists():
                yield f"--- {node}: the end of {file}"
                yield from file.read_text(errors="replace").splitlines()[-TAIL_LINES:]


@asynccontextmanager
async def running_lab(
    folder: Path,
    nodes: Iterable[str] | None = None,
    changes: Callable[[JsonObject], None] = lambda content: None,
    *,
    enrolled: bool = False,
) -> AsyncIterator[Lab]:
    """A lab of all nodes, or the chosen ones, healthy. `changes` may edit the config's content first."""
    config = lab_config(folder, enrolled=enrolled)
    content = yaml.safe_load(config.read_text())
    changes(content)
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    lab = Lab(config)
    data = lab.deployment.data
    for node in nodes_of(lab.deployment):
        read_token(data, node)
    KeyRing(data / lab.deployment.signing.keys).ensure(lab.deployment.signing.algorithm)
    lab.token = (await ensure_creator_token(lab.deployment)).text
    ensure_enrolled(lab.deployment)
    lab.operator = {"Authorization": f"Bearer {ensure_operator_token(lab.deployment).text}"}
    try:
        await lab.start(*(nodes if nodes is not None else nodes_of(lab.deployment)))
        yield lab
    except BaseException:
        print("\n".join(lab.tails()), file=sys.stderr)
        raise
    finally:
        await lab.stop()


def header_members(headers: Mapping[str, str], name: str) -> list[str]:
    """The members of a list header such as Cache-Status."""
    return [member.strip() for member in headers.get(name, "").split(",") if member.strip()]
