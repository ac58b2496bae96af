"""What a node tells of its peers: what it saw, not what it could not look at."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from headwater.runtime.httpsite import admin_app, serve_app
from headwater.runtime.vantage import Vantage
from headwater.settings.deployment import Deployment, admin_address
from headwater.settings.snapshot import Snapshot
from headwater.settings.vantages import peers_of
from tests.support.files import out_of_files


async def test_a_node_that_is_out_of_files_calls_no_peer_bad(deployment: Deployment, tmp_path: Path) -> None:
    vantage = Vantage("fra-1", lambda: Snapshot(version=1, deployment=deployment))
    (peer, *_) = peers_of(deployment, "fra-1")
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        serve_app(admin_app(), admin_address(deployment, peer)),
    ):
        await vantage._look(session, 1)
        before = vantage._seen[peer]
        assert before.error is None
        with out_of_files():
            await vantage._look(session, 1)
        assert vantage._seen[peer] == before
