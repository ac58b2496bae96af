"""The metrics of several processes as those of one node."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headwater.runtime.expositions import Exposition, of_node

TEXT = """\
# HELP headwater_connections Open connections of clients.
# TYPE headwater_connections gauge
headwater_connections {number}
# HELP headwater_snapshot_version Version.
# TYPE headwater_snapshot_version gauge
headwater_snapshot_version {number}
# HELP headwater_certificate_expires_timestamp_seconds When the certificate expires.
# TYPE headwater_certificate_expires_timestamp_seconds gauge
headwater_certificate_expires_timestamp_seconds {number}
"""


@pytest.mark.parametrize(
    ("name", "wanted", "why"),
    [
        ("headwater_connections", 5, "the workers' add up"),
        ("headwater_snapshot_version", 2, "the oldest is still in use"),
        ("headwater_certificate_expires_timestamp_seconds", 2, "a moment is no amount: the first that comes is the node's"),
    ],
)
def test_a_gauge_of_two_workers_is_one_of_their_node(name: str, wanted: float, why: str) -> None:
    workers = [Exposition.read(TEXT.format(number=number)) for number in (2, 3)]
    families = {family.name: family for family in text_string_to_metric_families(of_node("", workers, Exposition()))}
    assert [sample.value for sample in families[name].samples] == [wanted], why
