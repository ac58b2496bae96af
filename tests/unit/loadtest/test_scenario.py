"""Scenarios: what they say, what is wrong with them, and the viewers drawn from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from headwater.settings.load import ConfigError, parse_settings
from loadtest.failures import Cause
from loadtest.measures import Measures
from loadtest.population import plan_viewers
from loadtest.scenario import Objectives, Scenario, load_scenario
from loadtest.verdict import judge

SMOKE = Path(__file__).resolve().parents[3] / "loadtest" / "scenarios" / "smoke.yaml"
MINIMAL = "name: s\nviewers: 100\naudiences: [{network: 192.0.2.0/24}]\n"


def scenario(text: str = MINIMAL) -> Scenario:
    return parse_settings(Scenario, text, Path("s.yaml"), example="smoke.yaml")


def test_the_smoke_scenario_is_good() -> None:
    smoke = load_scenario(SMOKE)
    assert (smoke.viewers, smoke.arrival.over, smoke.objectives.startup_p95) == (20, 4.0, 2.0)


def test_everything_wrong_is_said_at_once_with_line_and_cure() -> None:
    text = (
        "name: s\nviewers: 0\nviewer: 2\naudiences:\n  - {network: 192.0.2.1/24}\nwatch: {least: 10}\nvideos: {ids: [nonsense]}\n"
    )
    with pytest.raises(ConfigError) as error:
        scenario(text)
    said = str(error.value)
    parts = (
        "s.yaml:2: viewers:",
        "s.yaml:3: viewer: unknown key; did you mean 'viewers'?",
        "s.yaml:5: audiences.0.network: the address has bits beyond the network's length; did you mean '192.0.2.0/24'?",
    )
    for part in parts:
        assert part in said
    assert "s.yaml:6: watch.least: a number with a unit was expected" in said
    assert "is not a video id" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("watch: {least: 11 s, most: 10 s}", "swap them"),
        ("player: {buffer: 2 s, start_buffer: 3 s}", "would never start"),
        ("time_limit: 10 s", "raise `time_limit`"),
        ("objectives: {startup_p95: 2}", "a number with a unit was expected"),
    ],
)
def test_values_that_cannot_work_together_are_refused(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        scenario(f"{MINIMAL}{line}\n")


def test_a_missing_file_is_said() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_scenario(Path("nowhere.yaml"))


def test_the_same_seed_gives_the_same_viewers_and_another_seed_others() -> None:
    videos = ["a", "b", "c"]
    assert plan_viewers(scenario(), videos) == plan_viewers(scenario(), videos)
    assert plan_viewers(scenario(), videos) != plan_viewers(scenario(f"{MINIMAL}seed: 2\n"), videos)


def test_viewers_arrive_evenly_and_watch_within_bounds() -> None:
    plans = plan_viewers(scenario(f"{MINIMAL}arrival: {{over: 10 s}}\nwatch: {{least: 5 s, most: 7 s}}\n"), ["a"])
    assert [plan.starts_at_s for plan in plans] == [pytest.approx(number / 10) for number in range(100)]
    assert all(5 <= plan.watch_s <= 7 for plan in plans)


def test_popularity_follows_zipf() -> None:
    text = MINIMAL.replace("100", "6000") + "videos: {zipf: 1}\n"
    counts = Counter(plan.video_id for plan in plan_viewers(scenario(text), ["a", "b", "c"]))
    for video_id, share in (("a", 6 / 11), ("b", 3 / 11), ("c", 2 / 11)):
        assert counts[video_id] / 6000 == pytest.approx(share, abs=0.03)


def test_audiences_share_the_viewers_by_weight() -> None:
    text = "name: s\nviewers: 4000\naudiences: [{network: 192.0.2.0/24, weight: 3}, {network: '2001:db8::/48'}]\n"
    counts = Counter(str(plan.network) for plan in plan_viewers(scenario(text), ["a"]))
    assert counts["192.0.2.0/24"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_objectives_are_judged_and_what_was_not_measured_does_not_hold() -> None:
    objectives = Objectives.model_validate(
        {"startup_p95": "2 s", "rebuffer_ratio": 0.1, "failures": 0, "hit_ratio_edge": 0.5, "origin_requests_per_object": 2}
    )
    empty = {one.name: (one.measured, one.met) for one in judge(objectives, Measures(), None)}
    assert empty == {
        "startup_p95": (None, False),
        "rebuffer_ratio": (None, False),
        "failures": (0, True),
        "hit_ratio_edge": (None, False),
        "origin_requests_per_object": (None, False),
    }
    measures = Measures(played_s=9, stalled_s=1, objects={"/a", "/b"})
    measures.startup.record(1.9)
    measures.tiers["edge"].hits, measures.tiers["edge"].misses = 1, 1
    assert all(one.met for one in judge(objectives, measures, 4))
    measures.gave_up(Cause.TIMEOUT, "")
    measures.tiers["edge"].misses = 2
    assert {one.name for one in judge(objectives, measures, 5) if not one.met} == {
        "failures",
        "hit_ratio_edge",
        "origin_requests_per_object",
    }
