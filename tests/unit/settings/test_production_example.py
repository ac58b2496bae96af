from __future__ import annotations

from headwater.settings.load import load_deployment
from headwater.settings.snapshot import Snapshot
from tests.support.deployments import ROOT


def test_the_production_example_loads_and_travels_in_a_snapshot() -> None:
    deployment = load_deployment(ROOT / "configs/production.yaml")
    edge = deployment.edge("fra-1")
    assert edge.tls is not None
    assert edge.tls.certificates[0].key == ROOT / "configs/tls/viewers.key"  # beside the config, wherever the node is started
    listeners = dict(deployment.listeners())
    assert {"pops.fra.edges.fra-1.tls.listen", "shields.shield-1.tls.listen", "origin.bytes.tls.listen"} <= listeners.keys()
    sent = Snapshot(version=1, deployment=deployment).model_dump_json()
    assert Snapshot.model_validate_json(sent).deployment == deployment
