"""What control tells steering: who is coming back, and who passes buckets on, from what edges report."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.watching.balancing import Balance, EdgeLoad
from headwater.rules.addresses import Address
from headwater.rules.bucketload import BucketLoad
from headwater.rules.names import Bucket
from headwater.rules.steering import steer
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot
from headwater.settings.steeringstate import SteeringState
from headwater.settings.world import world_of
from tests.support.deployments import lab_deployment

GBIT = 1e9


@pytest.fixture
def lab(tmp_path: Path) -> Deployment:
    """The lab, with fra of two edges; a return takes 80 s."""
    made = lab_deployment(tmp_path)
    fra = made.pops["fra"]
    place = {"listen": Address("127.0.1.2", 8080), "admin": Address("127.0.1.2", 8180)}
    twin = fra.edges["fra-1"].model_copy(update=place)
    pops = {**made.pops, "fra": fra.model_copy(update={"edges": {**fra.edges, "fra-2": twin}})}
    return made.model_copy(update={"pops": pops, "steering": made.steering.model_copy(update={"slow_start": 80.0})})


def test_an_edge_that_was_down_comes_back_slowly_and_its_pop_does_not_when_another_edge_held_it(lab: Deployment) -> None:
    balance = Balance()
    balance.learn_nodes(lab, {"fra-1": "down"}, 1000.0)
    assert balance.state(lab, 1000.0) == SteeringState(), "what is seen for the first time did not come back"
    balance.learn_nodes(lab, {"fra-1": "up"}, 1010.0)
    assert balance.state(lab, 1010.0) == SteeringState(edge_ramps={"fra-1": 0.125})
    assert balance.state(lab, 1055.0) == SteeringState(edge_ramps={"fra-1": 0.625})
    assert balance.state(lab, 1090.0) == SteeringState()


def test_a_pop_that_was_all_down_comes_back_slowly_too(lab: Deployment) -> None:
    balance = Balance()
    balance.learn_nodes(lab, {"fra-1": "down", "fra-2": "down"}, 1000.0)
    balance.learn_nodes(lab, {"fra-1": "up", "fra-2": "down"}, 1010.0)
    assert balance.state(lab, 1010.0) == SteeringState(edge_ramps={"fra-1": 0.125}, pop_ramps={"fra": 0.125})


def test_a_drained_node_that_gets_its_weight_back_starts_slowly(lab: Deployment) -> None:
    balance = Balance()
    drained = lab.pops["fra"].model_copy(update={"weight": 0.0})
    balance.learn_nodes(lab.model_copy(update={"pops": {**lab.pops, "fra": drained}}), {}, 1000.0)
    balance.learn_nodes(lab, {}, 1010.0)
    assert balance.state(lab, 1010.0).pop_ramps == {"fra": 0.125}


def report(at: float, **bps_of: float) -> BucketLoad:
    """What an edge says that has sent so much a second since Unix time 0."""
    load = BucketLoad(since=0.0)
    for name, bps in bps_of.items():
        load.count(int(name[1:]), int(bps / 8 * at), filled=False)
    return load


def test_a_load_is_smoothed_and_a_restart_is_no_load() -> None:
    load = EdgeLoad()
    load.learn(report(10, b7=8e6), 10)
    assert load.by_bucket_bps[7] == 0, "one report says nothing of a rate"
    load.learn(report(40, b7=8e6), 40)
    assert load.by_bucket_bps[7] == pytest.approx(8e6 * 0.632, rel=0.01)
    load.learn(BucketLoad(since=41.0), 42)
    assert load.by_bucket_bps[7] == pytest.approx(8e6 * 0.632, rel=0.01)


def settle(balance: Balance, lab: Deployment, start: float, loads: dict[str, dict[str, float]]) -> Snapshot:
    """Two and a half minutes of these loads, a report every ten seconds; the snapshot that comes of it."""
    for turn in range(15):
        at = start + 10 * turn
        for edge, bps_of in loads.items():
            balance.learn_load(edge, report(at, **bps_of), at)
        snapshot = Snapshot(version=turn + 1, deployment=lab, steering_state=balance.state(lab, at))
        balance.decide(lab, world_of(snapshot))
    return Snapshot(version=99, deployment=lab, steering_state=balance.state(lab, start + 150))


def test_the_hottest_bucket_of_a_full_edge_goes_to_its_neighbour_and_no_other_moves(lab: Deployment) -> None:
    before = world_of(Snapshot(version=1, deployment=lab))
    mine = [bucket for bucket in range(4096) if steer(Bucket(bucket), "eu", before)[0].name == "fra-1"][:3]
    hot = {f"b{bucket}": size * GBIT for bucket, size in zip(mine, (0.5, 0.3, 0.2), strict=True)}
    snapshot = settle(Balance(), lab, 100, {"fra-1": hot, "fra-2": {}, "iad-1": {}, "sin-1": {}})
    assert snapshot.steering_state == SteeringState(edge_passes={"fra-1": [mine[0]]})
    after = world_of(snapshot)
    moved = [b for b in range(4096) if steer(Bucket(b), "eu", after)[0] != steer(Bucket(b), "eu", before)[0]]
    assert moved == [mine[0]]
    assert steer(Bucket(mine[0]), "eu", after)[0].name == "fra-2"


def test_a_full_pop_spills_its_hottest_bucket_to_the_next_region(lab: Deployment) -> None:
    loads = {"iad-1": {"b1": 0.6 * GBIT, "b2": 0.5 * GBIT}, "fra-1": {}, "fra-2": {}, "sin-1": {}}
    snapshot = settle(Balance(), lab, 100, loads)
    assert snapshot.steering_state == SteeringState(pop_passes={"iad": [1]})
    assert steer(Bucket(1), "us", world_of(snapshot))[0].pop == "fra"
    assert steer(Bucket(2), "us", world_of(snapshot))[0].pop == "iad"


def test_a_control_that_starts_again_leaves_passed_buckets_where_they_are(lab: Deployment) -> None:
    kept = SteeringState(edge_passes={"fra-1": [5]})
    assert Balance(kept).state(lab, 0.0) == kept
