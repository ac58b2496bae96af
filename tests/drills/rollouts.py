"""Control killed (SIGKILL) at every step of a rollout under viewers, then all nodes killed and started in orders drawn at random.

python -m tests.drills rollouts [orders]
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.integration.control.test_rollout_processes import (
    NODES,
    STAGING,
    in_any_order,
    site,
    until_all_up,
    viewers_of,
    wanted,
)
from tests.support.asking import ask_until_true
from tests.support.lab import JsonObject, running_lab
from tests.support.scriptedparent import scripted_parent


async def run(folder: Path, orders: int) -> None:
    async with scripted_parent(site) as origin:

        def change(content: JsonObject) -> None:
            content["control"] |= {"staging": STAGING, "probe_interval": "200 ms"}
            content["dns"]["ttl"] = "100 ms"
            content["properties"]["video"] |= {"signed": False, "parent": origin.address.url}
            del content["pops"]["sin"], content["shields"]["shield-2"]

        def after(content: JsonObject) -> None:
            content["pops"]["iad"]["weight"] = 40
            content["signing"] = {"leeway": "9 s"}

        async with running_lab(folder, NODES, change) as lab:
            await until_all_up(lab)
            kept = lab.deployment.data / "nodes" / "control" / "rollout.json"
            async with viewers_of(lab) as viewers:
                file = wanted(lab, "new.yaml", after)
                begun = await lab.http.post(
                    f"{lab.deployment.control.listen.url}/api/v1/apply",
                    json={"text": file.read_text(), "name": file.name},
                    headers=lab.operator,
                )
                assert begun.status_code == 202, begun.text
                killed, seen = 0, -1
                while _active(kept):

                    async def next_step(seen: int = seen) -> bool:
                        return not _active(kept) or _step(kept) > seen

                    await ask_until_true(next_step)
                    if not _active(kept):
                        break
                    seen = _step(kept)
                    await lab.kill("control")
                    killed += 1
                    await lab.start("control")
                steps = len(json.loads(kept.read_text())["steps"])
                print(f"control killed {killed} times in a rollout of {steps} steps; it ended as {_status(kept)!r}")
                print(f"viewers: {viewers.answered} answers, {len(viewers.failed)} failed")
                assert _status(kept) == "done"
                assert lab.config.read_text() == file.read_text()
                assert not viewers.failed
            await in_any_order(lab, orders)
            print(f"{orders} orders of starting all nodes after SIGKILL: the version in force was in force again")


def _status(kept: Path) -> str:
    return str(json.loads(kept.read_text())["status"])


def _active(kept: Path) -> bool:
    return _status(kept) not in ("done", "rolled back")


def _step(kept: Path) -> int:
    """The step that the rollout has come to."""
    return int(json.loads(kept.read_text())["step"])


def main(arguments: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), int(arguments[0]) if arguments else 6))
    return 0
