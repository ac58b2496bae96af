"""An edge counts what it sends by bucket, whichever lane an answer takes."""

from __future__ import annotations

from pathlib import Path

from headwater.cacheproxy.bucketcount import LOAD
from headwater.rules.names import bucket_of, parse_video_id
from headwater.runtime.metrics import value
from tests.support.deployments import lab_deployment
from tests.support.proxies import running_edge, with_parents
from tests.support.scriptedparent import scripted_parent, serving

VIDEO = parse_video_id("dQw4w9WgXcQ")
BODY = bytes(1000)


async def test_bytes_of_both_lanes_count_for_the_videos_bucket(tmp_path: Path) -> None:
    bucket = bucket_of(VIDEO)
    async with scripted_parent(serving(BODY)) as parent:
        snapshot = with_parents(lab_deployment(tmp_path), [parent.address])
        async with running_edge(snapshot, tmp_path) as edge:
            sent, filled = LOAD.sent_bytes[bucket], LOAD.filled_bytes[bucket]
            path = f"/videos/{VIDEO}/h264/720p/segment_00000.m4s"
            await edge.get(path)
            await edge.settled()
            assert (LOAD.sent_bytes[bucket] - sent, LOAD.filled_bytes[bucket] - filled) == (1000, 1000), "the miss was filled"
            lane = value("headwater_cache_fast_lane_total")
            await edge.get(path, User_Agent="player/1", Accept="*/*", Accept_Encoding="gzip")
            await edge.get(path, Range="bytes=0-99")
            assert LOAD.sent_bytes[bucket] - sent == 2100
            assert LOAD.filled_bytes[bucket] - filled == 1000
            assert value("headwater_cache_fast_lane_total") == lane + 1
