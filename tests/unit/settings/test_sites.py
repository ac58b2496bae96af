"""What operators call an object is what the proxy keeps it under: else a purge is acknowledged and changes nothing."""

from __future__ import annotations

import pytest

from headwater.settings.deployment import Deployment
from headwater.settings.sites import object_of
from headwater.settings.topology import Property


@pytest.fixture
def with_a_site(deployment: Deployment) -> Deployment:
    site = Property(hosts=["www.test"], signed=False, parent="http://192.0.2.1")
    return deployment.model_copy(update={"properties": {**deployment.properties, "site": site}})


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://www.test/a?x=1", "site/a?x=1"),
        ("http://www.test/a?x=1&CMCD=bl%3D100%2Csid%3D%22b%22&y=2", "site/a?x=1&y=2"),  # as it stands in a player's log
        ("http://www.test/a?CMCD=bl%3D100", "site/a"),
    ],
)
def test_what_a_player_says_of_itself_is_no_part_of_the_object(with_a_site: Deployment, url: str, key: str) -> None:
    assert object_of(url, with_a_site).key == key


def test_an_edge_is_known_by_its_name_and_by_its_address(deployment: Deployment) -> None:
    name, pop, edge = next(iter(deployment.edges()))
    named = edge.model_copy(update={"host": "edge-1.example.test"})
    pops = {**deployment.pops, pop: deployment.pops[pop].model_copy(update={"edges": {name: named}})}
    deployment = deployment.model_copy(update={"pops": pops})
    for host in ("edge-1.example.test", edge.listen.host):
        assert object_of(f"http://{host}/videos/abcdefghijA/poster.jpg", deployment).key == "video/videos/abcdefghijA/poster.jpg"
