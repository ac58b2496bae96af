"""What steering sees of a snapshot."""

from __future__ import annotations

from ipaddress import ip_address

from headwater.rules.names import Bucket
from headwater.rules.steering import region_of, steer
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot
from headwater.settings.world import world_of


def test_the_labs_viewers_are_served_by_their_own_pop(deployment: Deployment) -> None:
    world = world_of(Snapshot(version=1, deployment=deployment))
    for client, region, edge in [("127.0.1.9", "eu", "fra-1"), ("198.51.100.7", "us", "iad-1"), ("203.0.113.1", "ap", "sin-1")]:
        assert region_of(ip_address(client), world).region == region
        best = steer(Bucket(0x3FA), region, world)[0]
        assert (best.name, best.address) == (edge, deployment.edge(edge).listen)


def test_an_edge_that_control_calls_down_is_skipped_and_an_unknown_one_is_not(deployment: Deployment) -> None:
    world = world_of(Snapshot(version=1, deployment=deployment, health={"fra-1": "down", "iad-1": "unknown"}))
    assert [steered.name for steered in steer(Bucket(1), "eu", world)] == ["iad-1", "sin-1"]


def test_a_snapshot_has_one_world_and_each_snapshot_its_own(deployment: Deployment) -> None:
    first = Snapshot(version=1, deployment=deployment)
    second = Snapshot(version=2, deployment=deployment, health={"fra-1": "down"})
    assert world_of(first) is world_of(first)
    assert world_of(second) != world_of(first)
