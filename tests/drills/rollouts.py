"""Control killed (SIGKILL) at every step of a rollout under viewers, then all nodes killed and started in orders drawn at random.

python -m tests.drills rollouts [orders]
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.integration.control.test_rollout_processes import (
    NODES,
    STAGING,
    headwater,
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
                applying = asyncio.create_task(headwater(lab, "apply", str(wanted(lab, "new.yaml", after))))
                killed, seen = 0, -1
                while not applying.done():

                    async def next_step(seen: int = seen) -> bool:
                        return applying.done() or _step(kept) > seen

                    await ask_until_true(next_step)
                    if applying.done():
                        break
                    seen = _step(kept)
                    await lab.kill("control")
                    killed += 1
                    await lab.start("control")
                done = await applying
                print(done.stdout[-600:])
                print(f"control killed {killed} times, at every step; the command ended with {done.returncode}")
                print(f"viewers: {viewers.answered} answers, {len(viewers.failed)} failed")
                assert done.returncode == 0
                assert not viewers.failed
            await in_any_order(lab, orders)
            print(f"{orders} orders of starting all nodes after SIGKILL: the version in force was in force again")


def _step(kept: Path) -> int:
    """The step of the rollout under way; -1 while there is none."""
    found = re.search(r'"step": (\d+)', kept.read_text()) if kept.exists() else None
    return int(found[1]) if found and '"status": "running"' in kept.read_text() else -1


def main(arguments: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), int(arguments[0]) if arguments else 6))
    return 0
