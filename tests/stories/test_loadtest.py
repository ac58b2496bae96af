"""Simulated viewers against a CDN in miniature, on real sockets: what they do, and what they report when it fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dns.rcode
import pytest
from typer.testing import CliRunner

from headwater.cli.loadtest import loadtest_app
from headwater.settings.load import parse_settings
from headwater.settings.units import Address
from loadtest.failures import Cause
from loadtest.run import CannotRun, Outcome, Target, run_scenario
from loadtest.scenario import Scenario
from tests.support.tinycdn import HOST, SEGMENT_S, SEGMENTS, TinyCdn, tiny_cdn

SCENARIO = """
name: story
viewers: 6
arrival: {over: 200 ms}
audiences: [{network: 192.0.2.0/24}, {network: '2001:db8:1::/48'}]
watch: {least: 1 s, most: 1 s}
player: {start_buffer: 250 ms, buffer: 1 s, request_timeout: 2 s, attempts: 3}
time_limit: 20 s
objectives: {startup_p95: 3 s, rebuffer_ratio: 0.2, failures: 0, hit_ratio_edge: 0.5}
"""


@pytest.fixture
async def cdn() -> AsyncIterator[TinyCdn]:
    async with tiny_cdn() as running:
        yield running


def scenario(**changes: Any) -> Scenario:
    return parse_settings(Scenario, SCENARIO, Path("story.yaml"), example="").model_copy(update=changes)


async def run(cdn: TinyCdn, chosen: Scenario | None = None, *, allow_remote: bool = False) -> Outcome:
    return await run_scenario(chosen or scenario(), Target(cdn.api.url, cdn.dns, None, allow_remote))


async def test_viewers_watch_and_every_objective_is_met(cdn: TinyCdn) -> None:
    outcome = await run(cdn)
    measures = outcome.measures
    assert outcome.met, [one for one in outcome.judged if not one.met]
    assert (measures.finished, measures.failures, measures.retries) == (6, {}, {})
    assert measures.startup.count == 6
    assert measures.played_s == pytest.approx(6.0)
    # The runs' viewers fetched playlists, headers and segments under the logical host, each from the first address.
    assert cdn.hosts == {f"{HOST}:{cdn.edge_port}"}
    assert {edge for edge, _ in cdn.asked} == {"127.0.1.1"}
    assert measures.requests == cdn.asked.total()
    assert measures.objects == {path for _, path in cdn.asked}
    # Each audience's subnet was asked for once: the answer lived longer than the run.
    assert set(cdn.subnets) <= {"ECS 192.0.2.0/24 scope/0", "ECS 2001:db8:1::/48 scope/0"}
    assert set(cdn.subnets.values()) == {1}
    # What was asked of the edge again was a hit, what was not was asked of the shield.
    edge, shield = measures.tiers["edge"], measures.tiers["shield"]
    assert (edge.misses, edge.hits) == (len(cdn.asked), cdn.asked.total() - len(cdn.asked))
    assert shield.misses == edge.misses


async def test_pace_is_real_and_the_buffer_is_bounded(cdn: TinyCdn) -> None:
    one_viewer = scenario(viewers=1)
    outcome = await run(cdn, one_viewer)
    assert outcome.took_s >= 1.0
    video = {path for _, path in cdn.asked if "h264" in path and path.endswith(".m4s")}
    assert len(video) <= round((1.0 + 1.0) / SEGMENT_S)


async def test_a_short_video_is_watched_to_its_end(cdn: TinyCdn) -> None:
    long_watch = scenario(viewers=1, watch=scenario().watch.model_copy(update={"least": 9.0, "most": 9.0}))
    outcome = await run(cdn, long_watch)
    assert outcome.measures.played_s == pytest.approx(SEGMENTS * SEGMENT_S)
    assert outcome.measures.finished == 1


async def test_viewers_go_on_at_the_next_address_when_an_edge_is_dead(cdn: TinyCdn) -> None:
    cdn.answers = ["127.0.9.9", "127.0.2.1"]
    outcome = await run(cdn)
    assert outcome.measures.finished == 6
    assert set(outcome.measures.retries) == {Cause.CONNECT}
    assert {edge for edge, _ in cdn.asked} == {"127.0.2.1"}


async def test_a_name_is_asked_anew_when_all_its_addresses_failed(cdn: TinyCdn) -> None:
    cdn.answers = ["127.0.9.9"]
    outcome = await run(cdn, scenario(viewers=1))
    assert cdn.subnets.total() == 3
    assert outcome.measures.failures == {Cause.CONNECT: 1}


async def test_a_slow_edge_is_seen_as_rebuffering(cdn: TinyCdn) -> None:
    cdn.faults.delay_s = {"/128k/segment_00002.m4s": 1.2}
    outcome = await run(cdn, scenario(viewers=1))
    assert outcome.measures.finished == 1
    assert outcome.measures.stalls >= 1
    assert outcome.measures.stalled_s > 0.3
    assert [one.name for one in outcome.judged if not one.met] == ["rebuffer_ratio", "hit_ratio_edge"]


SEGMENT = "segment_00001.m4s"


@pytest.mark.parametrize(
    ("faults", "cause"),
    [
        ({"status": {SEGMENT: 403}}, Cause.FORBIDDEN),
        ({"status": {SEGMENT: 404}}, Cause.NOT_FOUND),
        ({"status": {"init.mp4": 410}}, Cause.CLIENT_ERROR),
        ({"status": {"master.m3u8": 503}}, Cause.SERVER_ERROR),
        ({"status": {SEGMENT: 206}}, Cause.UNEXPECTED_STATUS),
        ({"cut": {SEGMENT}}, Cause.CUT_OFF),
        ({"damaged": {SEGMENT}}, Cause.DAMAGED),
        ({"bodies": {"240p/playlist.m3u8": b"<html>", "360p/playlist.m3u8": b"<html>"}}, Cause.NOT_A_PLAYLIST),
        ({"bodies": {"master.m3u8": b"\xff\xfe"}}, Cause.NOT_A_PLAYLIST),
        ({"hangs": {SEGMENT}}, Cause.TIMEOUT),
        ({"rcode": dns.rcode.REFUSED}, Cause.NAME_REFUSED),
        ({"playback": {"status": "processing", "reason": "is being transcoded", "hls": None}}, Cause.NOT_PLAYABLE),
        ({"playback": {"status": "playable", "hls": "http://192.0.2.1/x/master.m3u8"}}, Cause.REMOTE),
    ],
)
async def test_every_failure_has_its_cause(cdn: TinyCdn, faults: dict[str, Any], cause: Cause) -> None:
    for name, value in faults.items():
        setattr(cdn.faults, name, value)
    player = scenario().player.model_copy(update={"attempts": 2, "request_timeout": 0.3})
    outcome = await run(cdn, scenario(viewers=1, player=player))
    assert outcome.measures.failures == {cause: 1}
    assert outcome.measures.failure_details[cause]
    assert not outcome.met


async def test_a_name_without_address_is_a_failure(cdn: TinyCdn) -> None:
    cdn.answers = []
    outcome = await run(cdn, scenario(viewers=1))
    assert outcome.measures.failures == {Cause.NAME_EMPTY: 1}


async def test_the_run_ends_in_time_whatever_hangs(cdn: TinyCdn) -> None:
    cdn.faults.hangs = {SEGMENT}
    player = scenario().player.model_copy(update={"request_timeout": 60.0})
    outcome = await run(cdn, scenario(time_limit=1.0, player=player))
    assert outcome.took_s < 5
    assert outcome.measures.failures == {Cause.OUT_OF_TIME: 6}
    assert outcome.measures.stalled_s > 0


async def test_seeks_are_drawn_and_do_not_count_as_rebuffering(cdn: TinyCdn) -> None:
    restless = scenario().watch.model_copy(update={"least": 2.0, "most": 2.0, "seek_probability": 1.0})
    outcome = await run(cdn, scenario(viewers=2, watch=restless))
    assert outcome.measures.finished == 2
    assert outcome.measures.seeking_s > outcome.measures.stalled_s


async def test_nobody_elses_machine_is_tested_without_leave(cdn: TinyCdn) -> None:
    for target in (Target("http://192.0.2.1", cdn.dns, None, False), Target(cdn.api.url, Address("192.0.2.1", 53), None, False)):
        with pytest.raises(CannotRun, match="--allow-remote"):
            await run_scenario(scenario(), target)


async def test_the_command_reports_and_its_exit_status_is_the_verdict(cdn: TinyCdn, tmp_path: Path) -> None:
    file, report = tmp_path / "story.yaml", tmp_path / "report.json"
    words = ["run", str(file), "--api", cdn.api.url, "--dns", str(cdn.dns), "--json", str(report)]
    file.write_text(SCENARIO)
    good = await asyncio.to_thread(CliRunner().invoke, loadtest_app, words)
    assert good.exit_code == 0, good.output
    assert "every objective is met" in good.output
    written = json.loads(report.read_text())
    assert (written["met"], written["viewers"]["finished"], written["nodes"]) == (True, 6, None)
    file.write_text(SCENARIO.replace("failures: 0", "failures: 0, origin_requests_per_object: 1"))
    bad = await asyncio.to_thread(CliRunner().invoke, loadtest_app, words)
    assert bad.exit_code == 1, bad.output
    assert "not measured" in bad.output
    file.write_text("name: x\n")
    wrong = await asyncio.to_thread(CliRunner().invoke, loadtest_app, words)
    assert wrong.exit_code == 2
    assert "audiences: is missing" in wrong.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--api", "http://127.0.0.1:9"], "both --api URL and --dns"),
        (["--api", "http://127.0.0.1:9", "--dns", "127.0.0.1:9"], "start it with `headwater up`"),
        (["--api", "http://192.0.2.1", "--dns", "127.0.0.1:9"], "--allow-remote"),
        (["--api", "127.0.0.1:9", "--dns", "127.0.0.1:9"], "a URL such as"),
        (["--api", "http://127.0.0.1:9", "--dns", "localhost"], "an IP address and a port"),
        (["--api", "http://127.0.0.1:9", "--dns", "127.0.0.1:9", "--json", "/nowhere/report.json"], "folder does not exist"),
    ],
)
def test_a_run_that_cannot_begin_says_why_in_one_sentence(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "story.yaml").write_text(SCENARIO)
    result = CliRunner().invoke(loadtest_app, ["run", str(tmp_path / "story.yaml"), *words])
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


async def test_without_a_ready_video_the_cure_is_named(cdn: TinyCdn) -> None:
    cdn.videos = []
    with pytest.raises(CannotRun, match="headwater upload"):
        await run(cdn)
